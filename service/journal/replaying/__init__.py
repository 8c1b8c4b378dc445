"""Journalled rows run again: the same bits, another version, one decision, labels that came later."""
