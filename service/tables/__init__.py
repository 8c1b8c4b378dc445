"""Tables in, tables out: `readers` and `writers` are the same for a request (`streaming`) and for a file (`offline`)."""
