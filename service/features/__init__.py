"""Named values to arrays and outputs back to names, by the signature."""
