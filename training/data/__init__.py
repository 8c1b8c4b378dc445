"""From a file to typed, split, encoded arrays."""
