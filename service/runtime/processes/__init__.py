"""Work on a stranger's bytes in processes of their own, whose end is the refusal of one request and nothing more.

    service: `ProcessPool` -> helper, one thread, warm (`fork_server`) -> forked processes (`serve` of some module)

A process has one job at a time, and the next one if it did that to its end. Both sides talk in `frames` over a socket.
"""
