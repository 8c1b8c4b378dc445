"""Predictions that do not depend on what they were batched with.

The names below load what they need on first use; `import batchproof` itself loads nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchproof.local_model import load_model
    from batchproof.scorer import Scorer
    from batchproof.service.client import AsyncClient, Client, RefusedError
    from batchproof.training.estimators.estimator import BatchNormMLPClassifier, BatchNormMLPRegressor

__version__ = "0.1.0"
__all__ = [
    "AsyncClient",
    "BatchNormMLPClassifier",
    "BatchNormMLPRegressor",
    "Client",
    "RefusedError",
    "Scorer",
    "__version__",
    "load_model",
]

# name -> the module that has it, and the extras whose packages that module may miss
_HOMES = {
    "AsyncClient": ("batchproof.service.client", ("client",)),
    "Client": ("batchproof.service.client", ("client",)),
    "RefusedError": ("batchproof.service.client", ("client",)),
    "Scorer": ("batchproof.scorer", ("cpu", "tables")),
    "load_model": ("batchproof.local_model", ("cpu",)),
    "BatchNormMLPClassifier": ("batchproof.training.estimators.estimator", ("cpu", "training")),
    "BatchNormMLPRegressor": ("batchproof.training.estimators.estimator", ("cpu", "training")),
}


def __getattr__(name: str) -> Any:
    """Load a public name; raises ImportError with the command that installs what is missing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'batchproof' has no attribute {name!r}")
    from importlib import import_module

    home, extras = _HOMES[name]
    try:
        value = getattr(import_module(home), name)
    except ModuleNotFoundError as error:
        if (error.name or "batchproof").partition(".")[0] == "batchproof":
            raise
        from batchproof.installation import hint

        raise ImportError(f"batchproof.{name} needs {error.name}, which is not installed: {hint(*extras)}") from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names beside what was loaded."""
    return sorted({*globals(), *__all__})
