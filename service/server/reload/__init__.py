"""Hot reload in a serving process: load beside what is served, wait for the other processes, swap.

`staging` loads and swaps; `following` (a worker) and `local_crew` (the only process) say when; `repository_control` is how
callers order a load. What changes and when is decided in `server/loading/reloader.py`, and `server/workers/ballot.py`
has all workers change together.
"""
