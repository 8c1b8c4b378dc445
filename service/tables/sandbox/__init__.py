"""Reading a stranger's table in a process of its own, whose end is the refusal of that table and nothing more.

    service: `RemoteReader` -> helper, one thread, warm (`fork_server`) -> one forked process for each table (`reader`)

The file and a socket go to the helper as descriptors; batches come back over the socket as Arrow streams of one batch
each (`frames`), which the service checks again. Nobody reads ahead of the service: a socket that is full makes the reader wait.
"""
