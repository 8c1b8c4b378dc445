"""One file a dialect: how requests and answers look on the wire. dialect.py is the seam they all fit."""
