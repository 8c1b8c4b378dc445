"""Tables to blocks of rows."""
