"""What the engine makes of a graph at each optimisation level, held against the graph that was proved."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from service.engine import EngineOptions, library, session_options
from training.prove.expression import check_same

Level = Literal["none", "basic", "extended", "all"]
LEVELS: tuple[Level, ...] = ("none", "basic", "extended", "all")


def optimised(model: bytes, level: Level) -> bytes:
    """Return the graph that the engine runs at an optimisation level, as an ONNX file."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        options = session_options(EngineOptions(device="cpu", optimisation=level))
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 3  # it warns that a graph optimised for this host belongs to this host
        library().InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return path.read_bytes()


def check_optimised(model: bytes) -> None:
    """Raise ProofError where the engine, at any level, would run other arithmetic than `model` says."""
    for level in LEVELS:
        check_same(model, optimised(model, level), level)
