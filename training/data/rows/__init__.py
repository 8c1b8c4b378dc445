"""Which rows are used, which part of the split each is in (`split`), and how much each counts (`weights`)."""
