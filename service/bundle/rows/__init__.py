"""What a bundle knows of rows: golden ones with their bits, and how training's were distributed."""
