"""How accurate we are beside peers: every method on the same splits of every table of a folder."""
