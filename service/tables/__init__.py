"""Tables in, tables out: the same reading and writing for a request's body and for a file."""
