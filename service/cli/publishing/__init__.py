"""The commands that describe a bundle and hand it on: `bom`, `card`, ..."""
