"""What the commands are made of: arguments read, models found, tables and pages printed."""
