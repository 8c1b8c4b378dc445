"""What a stranger's table may unpack to."""
