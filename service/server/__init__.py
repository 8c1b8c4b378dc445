"""The processes that serve: composition, transports, pages, life cycle.

Requests: `gate` (rules for every request), `authorization` (keys), `endpoint` (one prediction), `http` and `grpc`.
Models: `app` (what is served), `deployment` (one served model), `reloading` (decides what changes), `staging` (loads it).
Processes: `launch` and `process` (start and stop), `supervisor` (workers), `rotation` (which worker gets a connection).
"""
