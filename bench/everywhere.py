"""One model in several engines: the share of float32 numbers of its answers whose bits are not the service's.

    python -m bench.everywhere [--rows 500] [--arm64]

A table with a column of every kind is trained briefly for each task, as float32, and rewritten as exact. The rows are golden rows, which are
drawn from the training distribution. Every engine answers each row alone and all rows in one call; the reference is the service, each row
alone. The table is that of docs/everywhere.md. It needs Node, Chromium and a JDK: `make programs`. With --arm64 it also runs onnxruntime for ARM64 in
an emulator, which bench/arm64.py fetches, and ends with 1 if an exact model has other bits anywhere.
"""

import argparse
import asyncio
import contextlib
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime
from playwright.sync_api import Page, sync_playwright

from batchproof.service.bundle import reader
from batchproof.service.bundle.reader import Bundle
from batchproof.service.configuration.settings import Settings
from batchproof.service.features.decoder import Decoder
from batchproof.service.features.row_encoder import Encoder
from batchproof.service.server.http.asgi import AsgiApp
from batchproof.service.server.serving import app
from batchproof.training.cli import exact
from batchproof.training.pipeline import train
from batchproof.training.settings import make
from bench import arm64
from tests.live import live
from tests.programs import command_of
from tests.service.server.web.browser.everywhere import TARGETS, unpack_engine, write_table

ROOT = Path(__file__).resolve().parents[1]
STATIC = ROOT / "service" / "server" / "web" / "static"
ANSWER = ROOT / "tests" / "service" / "server" / "web" / "browser" / "answer.mjs"
FEW = {"epochs": 2, "widths": (64, 64), "ensemble": 1, "encoding": "quantile", "threads": 1, "categorical": ("grade",)}
JDK = "default-jdk-headless"
IN_PAGE = """
async ([folder, calls]) => {
  const assets = document.querySelector("script[type=module]").src.replace(/try\\/page\\.js$/, "");
  const [{ load }, ort] = await Promise.all([import(`${assets}browser/index.js`), import(`${assets}vendor/onnxruntime-web/ort.wasm.min.mjs`)]);
  const model = await load(folder, { ort, tolerate: true });
  const answers = [];
  for (const rows of calls) answers.push((await model.predict(rows)).predictions);
  return answers;
}
"""

Rows = list[list[Any]]
Predictions = list[dict[str, Any]]
Engine = Callable[[Bundle, Sequence[Rows]], list[Predictions]]  # the predictions of each call


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500, help="golden rows of each model, 32 to 4096 (default: 500)")
    parser.add_argument("--arm64", action="store_true", help="emulate ARM64 too; fetches 140 MB once, into build/arm64")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        emulated = _emulated(arm64.prepare()) if given.arm64 else {}
        bundles = [one for target in TARGETS for one in _train(Path(folder), target, given.rows)]
        with _chromium(Path(folder) / "models") as page:
            engines = {**_engines(unpack_engine(Path(folder)), page), **_java(Path(folder) / "classes"), **emulated}
            measured = [measure(bundle, engines) for bundle in bundles]
    sys.stdout.write(text(measured) + "\n")
    sys.exit(any(any(one["shares"].values()) for one in measured if one["arithmetic"] == "exact"))


def measure(bundle: Bundle, engines: dict[str, Engine]) -> dict[str, Any]:
    """Return the model, its arithmetic, and for each engine the shares that differ alone and in one call."""
    rows = bundle.golden.rows
    ways = {"each row alone": [[row] for row in rows], "all rows in one call": [rows]}
    reference = numbers(_service(bundle, ways["each row alone"]))
    shares = {
        (name, way): float(np.mean(reference.view(np.uint32) != numbers(engine(bundle, calls)).view(np.uint32)))
        for name, engine in engines.items()
        for way, calls in ways.items()
    }
    arithmetic = bundle.manifest.arithmetic.kind
    return {"title": f"{bundle.manifest.name}, {arithmetic}", "arithmetic": arithmetic, "shares": shares}


def numbers(answers: Sequence[Predictions]) -> np.ndarray:
    """Return the float32 numbers of the predictions of all calls, [rows, numbers]."""
    rows = [
        [one["value"]] if "value" in one else list(one["probabilities"].values())
        for answer in answers
        for one in answer
    ]
    return np.array(rows, np.float32)


def text(measured: Sequence[dict[str, Any]]) -> str:
    """Return the table."""
    lines = ["| engine | " + " | ".join(one["title"] for one in measured) + " |"]
    lines.append("| --- |" + " ---: |" * len(measured))
    for name, way in measured[0]["shares"]:
        shares = [one["shares"][name, way] for one in measured]
        lines.append(
            f"| {name}, {way} | " + " | ".join(f"{100 * share:.1f} %" if share else "0" for share in shares) + " |"
        )
    return "\n".join(lines)


def _train(folder: Path, target: str, rows: int) -> list[Bundle]:
    """Return the model as float32 and as exact."""
    drop = tuple(other for other in TARGETS if other != target)
    models = str(folder / "models")
    given = {**FEW, "target": target, "drop": drop, "name": TARGETS[target], "models": models, "golden_rows": rows}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        made = train(write_table(folder / "table.csv"), make(given)).folder
        if exact.main([str(made)]):
            raise SystemExit(f"the model of {target} could not be rewritten as exact")
    return [reader.read(made), reader.read(made.parent / "2")]


def _engines(module: Path, page: Page) -> dict[str, Engine]:
    """Return what answers, by its name in the table."""
    python, web = onnxruntime.__version__, module.read_text().partition("ONNX Runtime Web v")[2].partition("\n")[0]
    return {
        "the service": _service,
        f"onnxruntime {python}": _session(onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL),
        f"onnxruntime {python}, graph not optimised": _session(onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL),
        f"Node, onnxruntime-web {web}": lambda bundle, calls: _node(module, bundle, calls),
        f"Chromium, onnxruntime-web {web}": lambda bundle, calls: page.evaluate(
            IN_PAGE, [_address(bundle), list(calls)]
        ),
    }


def _service(bundle: Bundle, calls: Sequence[Rows]) -> list[Predictions]:
    """Answer by POST /predict of the service, in this process."""
    name, version = bundle.manifest.name, bundle.manifest.version
    service = app.load(Settings(models=bundle.folder.parents[1], pins={name: version}))

    async def ask() -> list[Predictions]:
        transport = httpx.ASGITransport(AsgiApp(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            path = f"/models/{name}/versions/{version}/predict"
            return [(await client.post(path, json={"rows": rows})).json()["predictions"] for rows in calls]

    try:
        with ThreadPoolExecutor(1) as thread:  # Playwright has this thread's event loop
            return thread.submit(lambda: asyncio.run(ask())).result()
    finally:
        service.close()


def _session(level: Any) -> Engine:
    """Answer by a session on model.onnx alone, as any reader of the format does."""

    def answer(bundle: Bundle, calls: Sequence[Rows]) -> list[Predictions]:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        session = onnxruntime.InferenceSession(bundle.model, options)
        decoder, names = Decoder(bundle.manifest), [output.name for output in session.get_outputs()]
        return [
            decoder.decode(dict(zip(names, session.run(names, feeds), strict=True))) for feeds in _feeds(bundle, calls)
        ]

    return answer


def _emulated(folder: Path) -> dict[str, Engine]:
    """Return onnxruntime for ARM64 on each emulated processor."""

    def on(processor: str) -> Engine:
        def answer(bundle: Bundle, calls: Sequence[Rows]) -> list[Predictions]:
            decoder = Decoder(bundle.manifest)
            return [
                decoder.decode(found) for found in arm64.outputs(folder, processor, bundle.model, _feeds(bundle, calls))
            ]

        return answer

    return {
        f"ARM64 {what} (QEMU), onnxruntime {onnxruntime.__version__}": on(processor)
        for processor, what in arm64.PROCESSORS.items()
    }


def _feeds(bundle: Bundle, calls: Sequence[Rows]) -> list[dict[str, np.ndarray]]:
    """Return the graph's inputs for the rows of each call."""
    encoder = Encoder(bundle.manifest.signature)
    encoded = [encoder.encode_rows(rows).arrays._asdict() for rows in calls]
    return [{name: array for name, array in arrays.items() if array is not None} for arrays in encoded]


def _node(module: Path, bundle: Bundle, calls: Sequence[Rows]) -> list[Predictions]:
    """Answer by the JavaScript package in Node."""
    job = {"bundle": str(bundle.folder), "tolerate": True, "calls": [{"rows": rows} for rows in calls]}
    content = {"engine": str(module), "module": str(STATIC / "browser" / "index.js"), "jobs": [job]}
    node = command_of(("node", "nodejs"))
    ran = subprocess.run([node, str(ANSWER)], input=json.dumps(content), capture_output=True, text=True, check=True)
    return [one["answer"]["predictions"] for one in json.loads(ran.stdout)[0]]


def _java(classes: Path) -> dict[str, Engine]:
    """Compile the reader of examples/java, and return it."""
    sources = sorted((ROOT / "examples" / "java").glob("*.java"))
    subprocess.run([command_of(("javac",), JDK), "-d", str(classes), *map(str, sources)], check=True)

    def answer(bundle: Bundle, calls: Sequence[Rows]) -> list[Predictions]:
        command = [command_of(("java",), JDK), "-cp", str(classes), "Predict", str(bundle.folder)]
        bodies = "\n".join(json.dumps({"rows": rows}) for rows in calls)
        ran = subprocess.run(command, input=bodies, capture_output=True, encoding="utf-8", check=True)
        return [json.loads(line)["predictions"] for line in ran.stdout.splitlines()]

    return {"Java without an engine": answer}


@contextlib.contextmanager
def _chromium(models: Path) -> Iterator[Page]:
    """Open a page of the service on the models."""
    with live(models, "--versions", "all") as server, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=command_of(), args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{server.url}/models/{TARGETS['price']}/try")
        yield page
        browser.close()


def _address(bundle: Bundle) -> str:
    return f"/models/{bundle.manifest.name}/versions/{bundle.manifest.version}/bundle/"


if __name__ == "__main__":
    main()
