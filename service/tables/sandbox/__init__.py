"""A stranger's table in a process of its own, whose end is the refusal of that table and nothing more.

Tables of text are read and written there, so that no thread of the service keeps its callers from the interpreter:
`text_remote` is the service's side, `text_process` the other one. Parquet is read there because its reader may crash:
`RemoteReader` hands tables to processes (`batchproof.service.runtime.processes`) that run `reader`. A process reads one
table at a time, and the next one if it read that to its end: a table that is refused is its last. The file goes to it as a
descriptor over a socket; batches come back as Arrow streams of one batch each, which the service checks again. A process
is never far ahead of the service: a socket that is full makes it wait.
"""
