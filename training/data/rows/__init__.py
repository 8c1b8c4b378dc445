"""Which rows are used, which part of the split each is in (`split`), how much each counts (`weights`), and what they choose (`choices`)."""
