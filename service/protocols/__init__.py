"""How requests and answers look on the wire, one folder for each protocol; interface.py is what all of them implement."""
