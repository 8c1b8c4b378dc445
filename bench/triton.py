"""Exports of bundles in a real Triton server: the golden bits over HTTP and gRPC, and `batchproof verify --url`.

    python -m bench.triton models/penguins [BUNDLE …]

The server is the one that the package nvidia-pytriton brings (55 MB, fetched once into build/triton). It has Triton's own HTTP, gRPC, warm-up and dynamic
batcher, but no onnxruntime backend. So a backend in Python takes its name: it joins the requests of an execution, runs model.onnx once by this
environment's onnxruntime, and splits. config.pbtxt is read as `batchproof export --to triton` wrote it. It needs Python 3.11 or another version
that the package has a stub for, and the extra `dev` (tritonclient).
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import tritonclient.grpc
import tritonclient.http

from batchproof.service.bundle import reader
from batchproof.service.bundle.reader import Bundle
from batchproof.service.features.row_encoder import Encoder
from tests.live import free_port

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "triton"
PACKAGES = ("nvidia-pytriton==0.7.0", "numpy==1.26.4")  # the stub reads arrays of NumPy 1 only
READY_WITHIN_S = 90.0
BACKEND = """
import sys
sys.path[:0] = {packages!r}  # NumPy 1 before the one that stands beside onnxruntime
import json
from pathlib import Path
import numpy as np
import onnxruntime
import triton_python_backend_utils as utils

class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        return config

    def initialize(self, args):
        config = json.loads(args["model_config"])
        path = Path(args["model_repository"], args["model_version"], config["default_model_filename"])
        self.session = onnxruntime.InferenceSession(path.read_bytes())
        self.inputs = [one.name for one in self.session.get_inputs()]
        self.outputs = [one.name for one in self.session.get_outputs()]

    def execute(self, requests):
        given = [[utils.get_input_tensor_by_name(one, name).as_numpy() for name in self.inputs] for one in requests]
        joined = [np.concatenate(parts) for parts in zip(*given)]
        found = self.session.run(self.outputs, dict(zip(self.inputs, joined)))
        ends = np.cumsum([len(one[0]) for one in given])[:-1]
        split = zip(*(np.split(output, ends) for output in found))
        return [utils.InferenceResponse([utils.Tensor(*pair) for pair in zip(self.outputs, parts)]) for parts in split]
"""


def main() -> int:
    """Export, serve and compare; return 1 where a bit differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "bundles", nargs="+", type=Path, metavar="BUNDLE", help="a bundle, or the folder of a model's versions"
    )
    bundles = [reader.read(_newest(path)) for path in parser.parse_args().bundles]
    server = prepare()
    with tempfile.TemporaryDirectory() as repository:
        for bundle in bundles:
            _batchproof("export", str(bundle.folder), "--to", "triton", repository)
        with running(server, Path(repository)) as ports:
            return max(check(bundle, *ports) for bundle in bundles)


def check(bundle: Bundle, http: int, grpc: int) -> int:
    """Compare the golden rows on both transports, then verify rows alone, in batches and from many callers; return 1 for a difference."""
    name = bundle.manifest.name
    same = [
        golden(bundle, module, f"127.0.0.1:{port}")
        for module, port in ((tritonclient.http, http), (tritonclient.grpc, grpc))
    ]
    print(f"{name}: golden rows over HTTP and gRPC: {'bit for bit' if all(same) else 'other bits'}", flush=True)
    verified = _batchproof("verify", "--url", f"http://127.0.0.1:{http}/v2/models/{name}", check=False)
    return int(verified != 0 or not all(same))


def golden(bundle: Bundle, client: Any, address: str) -> bool:
    """Return whether every output of the golden rows has the stored bits, asked by Triton's own client."""
    arrays = Encoder(bundle.manifest.signature).encode_rows(bundle.golden.rows).arrays._asdict()
    inputs = []
    for name, array in arrays.items():
        if array is not None:
            inputs.append(client.InferInput(name, list(array.shape), "FP64" if name == "numeric" else "INT64"))
            inputs[-1].set_data_from_numpy(array)
    found = client.InferenceServerClient(address).infer(bundle.manifest.name, inputs)
    return all(found.as_numpy(name).tobytes() == wanted.tobytes() for name, wanted in bundle.golden.outputs.items())


def prepare() -> Path:
    """Fetch and unpack the server once, and give it the backend; return its folder."""
    server = FOLDER / "pytriton" / "tritonserver"
    if not (FOLDER / "ready").is_file():
        shutil.rmtree(FOLDER, ignore_errors=True)
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*install, "--target", str(FOLDER), *PACKAGES], check=True)
        stub = server / "python_backend_stubs" / f"3.{sys.version_info.minor}" / "triton_python_backend_stub"
        shutil.copy2(stub, server / "backends" / "python")
        for program in (server / "bin" / "tritonserver", server / "backends" / "python" / stub.name):
            program.chmod(0o755)
        (server / "backends" / "onnxruntime").mkdir()
        (FOLDER / "ready").touch()
    (server / "backends" / "onnxruntime" / "model.py").write_text(
        BACKEND.format(packages=[str(FOLDER), str(Path(np.__file__).parents[1])])
    )
    return server


@contextmanager
def running(server: Path, repository: Path) -> Iterator[tuple[int, int]]:
    """Run the server on a model repository until the block ends; give the ports of HTTP and gRPC."""
    http, grpc, metrics = free_port(), free_port(), free_port()
    flags = {
        "model-repository": repository,
        "backend-directory": server / "backends",
        "http-address": "127.0.0.1",
        "grpc-address": "127.0.0.1",
        "http-port": http,
        "grpc-port": grpc,
        "metrics-port": metrics,
        "exit-timeout-secs": 5,
    }
    environment = {**os.environ, "LD_LIBRARY_PATH": str(FOLDER / "nvidia_pytriton.libs")}
    command = [str(server / "bin" / "tritonserver"), *(f"--{name}={value}" for name, value in flags.items())]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            if not _is_ready(f"http://127.0.0.1:{http}/v2/health/ready", process):
                log.seek(0)
                raise SystemExit(f"the server is not ready; the end of its log:\n{log.read()[-3000:]}")
            yield http, grpc
        finally:
            process.terminate()
            process.wait()


def _is_ready(url: str, process: "subprocess.Popen[bytes]") -> bool:
    """Wait until the server has loaded every model; return whether it did in time."""
    end = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with urlopen(url, timeout=5) as answer:
                return bool(answer.status == 200)
        except (URLError, ConnectionError):  # not listening yet, or 400 while models load
            time.sleep(0.2)
    return False


def _newest(path: Path) -> Path:
    """Return a bundle's folder: the path, or its newest version."""
    if (path / "bundle.json").is_file():
        return path
    return max((one for one in path.iterdir() if one.name.isdecimal()), key=lambda one: int(one.name))


def _batchproof(*words: str, check: bool = True) -> int:
    """Run a command of Batchproof; return its exit status."""
    return subprocess.run([sys.executable, "-m", "batchproof.service", *words], check=check).returncode


if __name__ == "__main__":
    sys.exit(main())
