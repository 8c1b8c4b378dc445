"""What the report measures."""
