"""Wire protocols, one folder each, from bytes to arrays and back. To add one, read interface.py, which all implement."""
