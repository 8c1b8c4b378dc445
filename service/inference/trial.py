"""Load and verify a bundle in a child process first, unless its graph bounds its own cost.

A graph that is cheap according to the file needs no trial. Any other graph, a large network or one with operators without a rule,
could take any amount of memory and time, or crash the engine. In the child process this only refuses that bundle.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from batchproof.service.bundle.graph.cost import UnmodelledError, cost
from batchproof.service.bundle.reader import Bundle
from batchproof.service.errors import BundleError, EngineError
from batchproof.service.runtime.logs import event

TRUSTED_BYTES = 256 << 20  # of all tensors of one run
TRUSTED_OPERATIONS = 2_000_000_000  # of one run: about a second, and some seconds for the whole check
TRUSTED_NODES = 2_000
OUT_OF_MEMORY = ("bad_alloc", "bad allocation", "bfc_arena", "Failed to allocate")  # in the engine's messages


@dataclass(frozen=True)
class TrialLimits:
    """Limits of the child process of a trial."""

    memory_bytes: int = 2 << 30
    seconds: float = 20.0


def reason(bundle: Bundle, run_rows: int, limits: TrialLimits) -> str:
    """Return why the bundle needs a trial, empty where it needs none; raises BundleError where none could help."""
    if len(bundle.graph.nodes) > TRUSTED_NODES:
        return f"its graph has {len(bundle.graph.nodes)} nodes"
    try:
        tensor_bytes, largest_bytes, operations = cost(bundle.graph, run_rows)
    except UnmodelledError as error:
        return str(error)
    if largest_bytes > limits.memory_bytes:
        raise BundleError(
            f"model.onnx: a run of {run_rows} rows has a tensor of {largest_bytes >> 20} MiB, more than the "
            f"{limits.memory_bytes >> 20} MiB of memory that loading may take (the setting load_memory_bytes)"
        )
    if tensor_bytes > TRUSTED_BYTES:
        return f"a run of {run_rows} rows has {tensor_bytes >> 20} MiB of tensors"
    if operations > TRUSTED_OPERATIONS:
        return f"a run of {run_rows} rows takes {operations:.2g} operations"
    return ""


def check(
    bundle: Bundle, limits: TrialLimits, why: str, load: Callable[..., Any], *arguments: Any, is_on_cpu: bool = True
) -> None:
    """Call `load(bundle, *arguments)` in a child process; raises BundleError or EngineError where it may not serve."""
    from batchproof.service.runtime import child_process  # few starts need it

    bounds = child_process.Bounds(limits.memory_bytes, limits.seconds, is_strict=is_on_cpu)
    started_s = time.perf_counter()
    try:
        kind, message = json.loads(child_process.run(_outcome, load, bundle, *arguments, bounds=bounds))
    except child_process.ChildError as error:
        settings = {"memory": " (the setting load_memory_bytes)", "time": " (the setting load_timeout_s)"}
        raise BundleError(
            f"model.onnx: loading and verifying it {error}{settings.get(error.kind, '')}; "
            f"it was tried in a child process because {why}"
        ) from error
    if kind == "bundle":
        raise BundleError(message)
    if kind == "engine":
        raise EngineError(message)
    names = {"model": bundle.manifest.name, "version": bundle.manifest.version}
    event("model_tried", 20, **names, why=why, seconds=round(time.perf_counter() - started_s, 3))


def _outcome(load: Callable[..., Any], *arguments: Any) -> str:
    """Return how loading ends, as JSON [kind, sentence]; raises MemoryError where the engine got no more memory."""
    try:
        load(*arguments)
    except BundleError as error:
        return json.dumps(["bundle", str(error)])
    except EngineError as error:
        if any(sign in str(error) for sign in OUT_OF_MEMORY):
            raise MemoryError from error
        return json.dumps(["engine", str(error)])
    return json.dumps(["", ""])
