"""The body of a request for a table: from the connection to the thread or the process that reads it."""
