"""Which rows are used, which part of the split each is in (`parts`, by `keys` or by class), how much each counts (`weights`), and what they choose (`choices`)."""
