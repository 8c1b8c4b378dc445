"""Which candidate a table gets."""
