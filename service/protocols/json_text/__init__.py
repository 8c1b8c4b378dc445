"""JSON bodies: parsed strictly, rows read fast, predictions written fast."""
