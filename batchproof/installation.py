"""How a missing package is installed: one command that works beside a clone, a wheel, and in the image."""

import os
import shlex
from importlib import import_module
from types import ModuleType

# What each extra of pyproject.toml brings; a test holds the two together.
EXTRAS = {
    "client": ("httpx>=0.28",),
    "cpu": ("onnxruntime>=1.32",),
    "gpu": ("onnxruntime-gpu>=1.23",),
    "grpc": ("grpcio>=1.70", "protobuf>=5.29.1"),
    "hub": ("huggingface_hub>=1.0",),
    "jwt": ("pyjwt[crypto]>=2.12",),
    "mlflow": ("mlflow-skinny>=3.4",),
    "signing": ("cryptography>=45.0.1",),
    "tables": ("pyarrow>=21",),
    "tensorboard": ("tensorboard>=2.18",),
    "tracing": ("opentelemetry-exporter-otlp-proto-http>=1.45", "opentelemetry-sdk>=1.45"),
    "training": ("onnx>=1.17", "pyarrow>=21", "safetensors>=0.5", "scikit-learn>=1.9", "scipy>=1.14", "torch>=2.6"),
    "tune": ("optuna>=4.2",),
}
# What is imported under another name than it is installed by, and the extra of what is optional.
OPTIONAL = {
    "cryptography": "signing",
    "google": "grpc",
    "grpc": "grpc",
    "httpx": "client",
    "huggingface_hub": "hub",
    "jwt": "jwt",
    "mlflow": "mlflow",
    "onnx": "training",
    "onnxruntime": "cpu",
    "opentelemetry": "tracing",
    "optuna": "tune",
    "pyarrow": "tables",
    "safetensors": "training",
    "scipy": "training",
    "sklearn": "training",
    "tensorboard": "tensorboard",
    "threadpoolctl": "training",  # scikit-learn brings it
    "torch": "training",
}
# What the adapters bring rows to; a test holds them to the extra `clusters`.
CLUSTERS = {"dask": "dask[dataframe]>=2026.1", "pyspark": "pyspark>=4.0", "ray": "ray[data,serve]>=2.60"}
INSTALLED_AS = {"prometheus_client": "prometheus-client", "simdjson": "pysimdjson", "starlette": "fastapi"}


def hint(*extras: str) -> str:
    """Return the command that brings what `extras` need, such as `pip install 'pyarrow>=21'`.

    It names packages, not `batchproof[tables]`: that works wherever Batchproof came from, a clone, a wheel or a package
    index. The image has one folder of packages, and gets the line that a Dockerfile built on it needs.
    """
    return _command(*dict.fromkeys(package for extra in extras for package in EXTRAS[extra]))


def hint_for(module: str) -> str:
    """Return the command that brings a module which could not be imported, such as `sklearn`, with all of its extra."""
    top = module.partition(".")[0]
    return hint(OPTIONAL[top]) if top in OPTIONAL else _command(CLUSTERS.get(top) or INSTALLED_AS.get(top, top))


def imported(module: str, caller: str) -> ModuleType:
    """Return the module of a package that only `caller` needs; raises ImportError with the command that installs it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        raise ImportError(f"{caller} needs {missing}, which is not installed: {hint_for(missing)}") from error


def _command(*names: str) -> str:
    packages = shlex.join(names)
    if os.environ.get("CONTAINER") == "batchproof":
        return f"RUN python3 -m pip install --target /opt/batchproof {packages} (in a Dockerfile FROM this image)"
    return f"pip install {packages}"
