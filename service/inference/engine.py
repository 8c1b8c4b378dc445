"""The one importer of onnxruntime: a session with fixed options, and what made its bits."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from batchproof.installation import hint
from batchproof.service.errors import EngineError, first_line
from batchproof.service.features.arrays import Outputs
from batchproof.service.inference.runner import Feeds
from batchproof.service.runtime.system import cores

# Read by cuBLAS when it starts: float64 and float32 products are the real ones, and one shape has one algorithm.
CUDA_ENVIRONMENT = {
    "CUBLAS_EMULATE_DOUBLE_PRECISION": "0",
    "CUBLAS_EMULATE_SINGLE_PRECISION": "0",
    "NVIDIA_TF32_OVERRIDE": "0",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}

Device = Literal["auto", "cpu", "cuda"]

# Of the flags in /proc/cpuinfo, those by which the engine picks its kernels.
CPU_FEATURES = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "asimd", "sve")
DTYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(int64)": "int64", "tensor(bool)": "bool"}


@dataclass(frozen=True)
class EngineOptions:
    """What may change an engine's bits or its speed; one value serves and verifies."""

    device: Device = "auto"
    threads: int = 1  # of one run; 0: one for each core
    spin: bool = False  # whether idle threads of a run keep a core busy
    optimisation: Literal["none", "basic", "extended", "all"] = "all"
    entries: tuple[tuple[str, str], ...] = ()  # additional session configuration entries
    gpu_bytes: int = 2 << 30  # the most that the session's arena on the device may take
    arena: bool = True  # whether the session keeps the memory of a run on the CPU for the next one


class Engine:
    """A loaded graph. `run` may be called from several threads at once."""

    def __init__(
        self,
        model: bytes | str,
        options: EngineOptions | None = None,
        names: Sequence[str] | None = ("numeric", "categorical"),
    ) -> None:
        """Load the serialised `model`, or the file at that path; raises EngineError.

        Feeds come in the order of `names`, which are inputs of the graph; None: in the graph's own order.
        """
        ort = library()
        self.options = options or EngineOptions()
        self.provider, provider_options = provider_of(self.options)
        if self.provider == "CUDAExecutionProvider":
            os.environ.update(CUDA_ENVIRONMENT)
        self._failures = failures(ort)
        try:
            self._session = ort.InferenceSession(
                model,
                session_options(self.options),
                providers=[(self.provider, provider_options)],
                enable_fallback=0,  # after a failed run it would continue with other providers, and other bits
            )
        except self._failures as error:
            raise EngineError(f"the engine cannot load the graph: {first_line(error)}") from error
        if self._session.get_providers()[0] != self.provider:
            raise EngineError(f"the engine could not start {self.provider}: are the CUDA libraries it needs installed?")
        self._names = tuple(name for name, _, _ in self.inputs) if names is None else tuple(names)
        self._wanted = [output.name for output in self._session.get_outputs()]  # else each run asks for their names
        self.output_names = tuple(self._wanted)
        # What `InferenceSession.run` calls once it has checked what `run` checks here, at a tenth of a row's time.
        self._inner = getattr(self._session, "_sess", self._session)
        self._run_options = ort.RunOptions()  # those by default: without them each run makes its own, for 2 µs
        self._required = sum(not node.type.startswith("optional") for node in self._session.get_inputs())

    def run(self, feeds: Feeds) -> Outputs:
        """Run one batch; returns {output: array [rows, ...]}. Raises EngineError."""
        named = {}  # by a loop, since a comprehension is a call of its own before Python 3.12
        for name, array in zip(self._names, feeds, strict=True):
            if array is not None:
                named[name] = array  # noqa: PERF403
        if len(named) < self._required:
            missing = ", ".join(name for name, _, _ in self.inputs if name not in named)
            raise EngineError(f"the engine failed: no array for the input {missing}")
        try:
            outputs = self._inner.run(self._wanted, named, self._run_options)
        except self._failures as error:
            raise EngineError(f"the engine failed: {first_line(error)}") from error
        return dict(zip(self.output_names, outputs, strict=True))

    @property
    def inputs(self) -> list[tuple[str, str, list[Any]]]:
        """(name, dtype, shape) of each input of the graph; an axis of any length has a name or None in its shape."""
        return [(node.name, DTYPES.get(node.type, node.type), node.shape) for node in self._session.get_inputs()]

    @property
    def outputs(self) -> list[tuple[str, str, list[Any]]]:
        """(name, dtype, shape) of each output of the graph."""
        return [(node.name, DTYPES.get(node.type, node.type), node.shape) for node in self._session.get_outputs()]

    @property
    def description(self) -> dict[str, Any]:
        """What the bits were made by: engine, provider, threads, options and the CPU's features."""
        return {
            "engine": f"onnxruntime {library().__version__}",
            "provider": self.provider,
            "device": "cuda" if self.provider == "CUDAExecutionProvider" else "cpu",
            "threads": threads_of(self.options),
            "optimisation": self.options.optimisation,
            "entries": dict(self.options.entries),
            "cpu_features": cpu_features(),
        }


def library() -> ModuleType:
    """Return onnxruntime, imported on first use; raises EngineError where neither wheel is installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(f"no engine is installed: {hint('cpu')}, or on a host with CUDA: {hint('gpu')}") from error
    module: ModuleType = onnxruntime
    return module


def failures(ort: ModuleType) -> tuple[type[Exception], ...]:
    """Return every exception that a session raises: the binding's classes have no common base but Exception."""
    state = vars(ort.capi.onnxruntime_pybind11_state).values()
    engine_errors = (kind for kind in state if isinstance(kind, type) and issubclass(kind, Exception))
    return (RuntimeError, ValueError, TypeError, MemoryError, *engine_errors)


def provider_of(options: EngineOptions) -> tuple[str, dict[str, str]]:
    """Return the execution provider and its options for the requested device; raises EngineError where it is absent."""
    available = "CUDAExecutionProvider" in library().get_available_providers()
    if options.device == "cuda" and not available:
        raise EngineError(
            "device cuda was asked for, but this onnxruntime has no CUDA: pip uninstall onnxruntime, then "
            + hint("gpu")
        )
    if options.device == "cpu" or not available:
        return "CPUExecutionProvider", {}
    return "CUDAExecutionProvider", cuda_options(options)


def cuda_options(options: EngineOptions) -> dict[str, str]:
    """Return CUDA options under which kernels depend on nothing that was timed, and no precision is given away."""
    return {
        "device_id": "0",
        "use_tf32": "0",  # on by default: it keeps 10 bits of the mantissa
        "cudnn_conv_algo_search": "DEFAULT",
        "tunable_op_enable": "0",
        "tunable_op_tuning_enable": "0",
        "enable_cuda_graph": "0",
        "arena_extend_strategy": "kSameAsRequested",
        "gpu_mem_limit": str(options.gpu_bytes),
    }


def session_options(options: EngineOptions) -> Any:
    """Return the session's options: nodes run one after another, and errors only raise, without a printed message."""
    ort = library()
    levels = ort.GraphOptimizationLevel
    session = ort.SessionOptions()
    session.intra_op_num_threads = threads_of(options)
    session.inter_op_num_threads = 1
    session.use_deterministic_compute = True
    session.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    session.graph_optimization_level = {
        "none": levels.ORT_DISABLE_ALL,
        "basic": levels.ORT_ENABLE_BASIC,
        "extended": levels.ORT_ENABLE_EXTENDED,
        "all": levels.ORT_ENABLE_ALL,
    }[options.optimisation]
    session.enable_cpu_mem_arena = options.arena
    session.log_severity_level = 4
    session.add_session_config_entry("session.intra_op.allow_spinning", "1" if options.spin else "0")
    for key, value in options.entries:
        session.add_session_config_entry(key, value)
    return session


def threads_of(options: EngineOptions) -> int:
    """Return how many threads a run has: the requested number, or one for each core that this process may use."""
    return options.threads or cores()


def cpu_features() -> list[str]:
    """Return which instruction sets of CPU_FEATURES this host has; none where /proc/cpuinfo does not say."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            line = next((line for line in file if line.startswith(("flags", "Features"))), "")
    except OSError:
        return []
    flags = set(line.split())
    return [feature for feature in CPU_FEATURES if feature in flags]
