"""The engine that serves, as training runs it: on the CPU, in large runs."""

from batchproof.service.inference.engine import Engine, EngineOptions
from batchproof.service.inference.runner import Runner

RUN_ROWS = 8_192  # rows of one run of the engine, at most


def runner_of(model: bytes) -> Runner:
    """Start the engine on a serialised model. Raises EngineError.

    It keeps no memory between runs: one of RUN_ROWS rows may take as much as a table.
    """
    return Runner(Engine(model, EngineOptions(device="cpu", arena=False)), RUN_ROWS)
