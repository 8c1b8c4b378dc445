"""The processes that serve: composition, transports, pages, life cycle.

Requests: `serving` (with `gate`, the rules for every request, and `authorization`, the keys), `http` and `grpc`.
Models: `loading` (with `reloader`, which decides what changes) and `reload` (loads it in every worker, then swaps).
Processes: `start`, `workers` (with `connection_balancer`, which chooses the worker of a connection) and `sockets`.
"""
