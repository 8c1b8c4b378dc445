"""A virtual environment of its own for every peer: their dependencies do not agree with one another."""

import subprocess
import sys
from pathlib import Path

# MLServer 1.7 and uvloop 0.22 do not go together: it asks for an event loop that nobody has made.
REQUIREMENTS = {
    "mosec": ("mosec", "numpy", "onnxruntime", "orjson"),
    "mlserver": ("mlserver", "onnxruntime", "uvloop<0.22"),
    "ray": ("ray[serve]", "numpy", "onnxruntime", "orjson"),
    "bentoml": ("bentoml", "onnxruntime", "uvloop", "httptools"),
    "litserve": ("litserve", "onnxruntime"),
    "mosec-trees": ("mosec", "numpy", "orjson", "lightgbm"),
    "fastapi-trees": ("fastapi", "uvicorn[standard]", "numpy", "lightgbm"),
}


def installed(work: Path, peer: str) -> Path:
    """Return the folder with the peer's programs, installing it on the first call; raises CalledProcessError."""
    folder = work / "venvs" / peer
    done = folder / "installed"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        with (folder / "pip.log").open("w") as log:
            pip = [str(folder / "bin" / "pip"), "install", *REQUIREMENTS[peer]]
            subprocess.run(pip, check=True, stdout=log, stderr=subprocess.STDOUT)
        done.touch()
    return (folder / "bin").absolute()
