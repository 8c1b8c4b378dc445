"""A serving process's part in a reload: load, wait for the others, swap."""
