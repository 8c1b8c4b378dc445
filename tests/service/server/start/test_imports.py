"""What a start loads: what every prediction needs, and what the settings ask for. The rest comes with its first use."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bundles import make_bundle
from tests.http_client import ask
from tests.live import ROOT, Live

IMPORT = re.compile(r"import time: .*\| *(\S+)$")
OWN = "batchproof.service."
ROW = {"length_mm": 40.5, "island": "Oslo", "count": 3, "seen": None, "adult": True, "grade": 1, "owned": None}
RARE = {  # what asks for it -> what it loads, or the first part of it
    "keys": ("access.credentials", "access.grant", "access.keys_file", "access.tokens", "server.serving.authorization"),
    "drift": ("bundle.rows.reference", "drift.counts", "drift.model_drift", "drift.windows"),
    "signatures": ("bundle.signing.trust", "bundle.signing.keys"),
    "explanations": ("features.attribution",),
    "journal": ("journal",),
    "model control": ("inference.catalogue.planner", "inference.catalogue.shelf", "server.loading.reloader"),
    "a reload": ("server.reload.local_crew", "server.reload.following", "server.reload.staging"),
    "several workers": ("server.workers", "invariance.worker_agreement"),
    "a challenger": ("server.serving.observing.shadow",),
    "the access log": ("server.serving.observing.observer", "inference.timed_batcher", "runtime.tracing.spans"),
    "traces": ("runtime.tracing.exporting",),
    "gRPC": ("server.grpc",),
    "CSV": ("features.texts.csv_records", "protocols.cloud.csv_rows"),
    "pages": (
        "server.web",
        "server.openapi",
        "server.http.monitoring.prometheus",
        "server.http.monitoring.figures",
    ),
    "tables": ("tables.block", "tables.codecs", "tables.readers", "tables.sandbox", "tables.streaming.answering"),
    "large requests": ("runtime.processes", "server.serving.codecs.remote_codec", "server.serving.codecs.messages"),
    "a trial": ("runtime.child_process",),
    "the client": ("client",),
}
RARE_LIBRARIES = {
    "annotated_types",
    "click",
    "cryptography",
    "fastapi",
    "grpc",
    "httpx",
    "jwt",
    "prometheus_client",
    "pyarrow",
    "pydantic",
    "starlette",
}


@dataclass
class Loaded:
    """The modules that a service had loaded when it was ready, and those that came later."""

    at_start: set[str]
    later: set[str]

    def rare(self) -> set[str]:
        """Return for what a start has loaded something of the service's own."""
        own = {name.removeprefix(OWN) for name in self.at_start if name.startswith(OWN)}
        return {
            what
            for what, rooms in RARE.items()
            if any(name == room or name.startswith(f"{room}.") for name in own for room in rooms)
        }


def loaded(models: Path, *flags: str) -> Loaded:
    """Start the service, ask for one prediction, and stop it."""
    command = [sys.executable, "-X", "importtime", "-m", "batchproof.service", "serve", "--models", str(models)]
    options = ["--port", "0", "--log-format", "json", *flags]
    modules: tuple[set[str], set[str]] = (set(), set())
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stderr is not None
        is_ready = False
        for line in process.stderr:
            if found := IMPORT.match(line.rstrip()):
                modules[is_ready].add(found[1])
            elif not is_ready and line.startswith("{") and json.loads(line)["event"] == "ready":
                is_ready = True
                threading.Thread(target=_ask_and_stop, args=(process, json.loads(line)["port"])).start()
        assert process.wait(30) == 0
    return Loaded(*modules)


def _ask_and_stop(process: "subprocess.Popen[str]", port: int) -> None:
    try:
        assert ask(Live("127.0.0.1", port, process), "POST", "/predict", {"rows": [ROW]}).status == 200
    finally:
        process.send_signal(signal.SIGTERM)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """Return what a service loads that has one model and no flags."""
    models = tmp_path_factory.mktemp("models")
    make_bundle(models)
    return loaded(models)


def test_a_plain_start_loads_nothing_rare(plain: Loaded) -> None:
    """Without a setting that asks for it, a start loads no room, and no library, that predictions do not need."""
    assert plain.rare() == set()
    assert RARE_LIBRARIES & {name.partition(".")[0] for name in plain.at_start} == set()


def test_a_prediction_loads_nothing(plain: Loaded) -> None:
    """All that a prediction needs is there when the service is ready: the first caller waits for no module."""
    assert {name for name in plain.later if name.startswith(OWN)} == set()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--journal", "{folder}/journal"), {"journal"}),
        (("--access-log", "true"), {"the access log"}),
        (("--model-control", "poll"), {"model control", "a reload"}),
        (("--workers", "2"), {"several workers", "model control", "a reload"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_the_settings_ask_for_is_loaded_at_the_start(
    tmp_path: Path, flags: tuple[str, ...], expected: set[str]
) -> None:
    """What a setting asks for is there before the first caller, and nothing else comes with it."""
    make_bundle(tmp_path / "models")
    assert loaded(tmp_path / "models", *(flag.format(folder=tmp_path) for flag in flags)).rare() == expected


def test_a_bundle_with_statistics_brings_drift(tmp_path: Path) -> None:
    """Drift is loaded with the first bundle that has statistics of its training rows."""
    make_bundle(tmp_path, reference_rows=500)
    assert loaded(tmp_path).rare() == {"drift"}


@pytest.mark.parametrize("library", ["msgspec", "numpy", "httptools", "uvicorn", "uvloop"])
@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("ModuleNotFoundError('none', name='{}')", "{0} is not installed: pip install {0}"),
        (
            "ImportError('libc.so.6:\\nno GLIBC', name='{}.core')",
            "{} is installed but cannot be imported: libc.so.6: no GLIBC",
        ),
        ("ImportError('unfit')", "a package is installed but cannot be imported: unfit"),
    ],
)
def test_a_library_that_cannot_be_imported_is_one_sentence(error: str, said: str, library: str, tmp_path: Path) -> None:
    """Where a library is missing, or there and unfit for this machine, the start ends with its name and what is wrong."""
    (tmp_path / f"{library}.py").write_text(f"raise {error.format(library)}")
    command = [sys.executable, "-m", "batchproof.service", "serve", "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    ended = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=60)

    assert ended.returncode == 3
    assert ended.stderr == f"batchproof: {said.format(library)}\n"
