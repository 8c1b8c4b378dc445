"""The commands about signatures: make one, and say what one covers."""
