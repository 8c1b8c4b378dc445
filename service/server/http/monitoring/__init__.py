"""What operators ask for: health, metrics, a line in the log for each request."""
