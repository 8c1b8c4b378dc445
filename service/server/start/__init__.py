"""The start of the service, and the life of one serving process."""
