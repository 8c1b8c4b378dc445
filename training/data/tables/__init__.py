"""A file of rows, read: one Arrow table with distinct column names."""
