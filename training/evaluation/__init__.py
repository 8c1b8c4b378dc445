"""What held-out rows say."""
