"""Trained models and the service's answers to many bodies, which other engines are held to."""

import asyncio
import csv
import datetime as dt
import gzip
import json
import random
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from batchproof.service.bundle import reader
from batchproof.service.configuration.settings import Settings
from batchproof.service.server.http.asgi import AsgiApp
from batchproof.service.server.serving import app
from batchproof.training.pipeline import train
from batchproof.training.settings import make

HERE = Path(__file__).parent
STATIC = HERE.parents[4] / "service" / "server" / "web" / "static"
PACKAGE = STATIC / "browser"
ENGINE = STATIC / "vendor" / "onnxruntime-web"
TARGETS = {"price": "regression", "level": "binary", "class": "multiclass"}
QUICK = {"epochs": 2, "widths": (12,), "ensemble": 1, "encoding": "bins", "threads": 1, "categorical": ("grade",)}
ROWS = 400
BODIES = 250
Body = dict[str, Any]


@dataclass(frozen=True)
class Made:
    """A models folder, and for each model its bundle's folder and whether its arithmetic is exact."""

    models: Path
    bundles: dict[str, Path]

    @property
    def exact(self) -> dict[str, Path]:
        """The bundles whose bits are the same in every engine."""
        return {name: folder for name, folder in self.bundles.items() if name != "rounded"}


def make_models(folder: Path, penguins: Path) -> Made:
    """Train an exact model for each task, one with two targets and a float32 one, beside a copy of the committed model.

    Their features are of every kind: money as text, gaps, rare categories, whole numbers as categories, dates by a format.
    """
    models = folder / "models"
    shutil.copytree(penguins, models / "penguins" / penguins.name)
    table = write_table(folder / "table.csv")
    bundles = {"penguins": models / "penguins" / penguins.name}
    for target in TARGETS:
        bundles[target] = _train(table, models, target, target, "exact")
    bundles["several"] = _train(table, models, "price,size", "several", "exact")
    bundles["rounded"] = _train(table, models, "price", "rounded", "float32")
    return Made(models, bundles)


def _train(table: Path, models: Path, target: str, name: str, arithmetic: str) -> Path:
    drop = tuple(other for other in TARGETS if other not in target.split(","))
    missing = ("amount=unknown",)
    quantiles = "0.05,0.5,0.9" if name == "price" else None
    settings = {**QUICK, "target": target, "drop": drop, "name": name, "arithmetic": arithmetic, "missing": missing}
    settings |= {"quantiles": quantiles, "skip_missing_target": True}
    return train(table, make({**settings, "models": str(models)})).folder


def write_table(path: Path) -> Path:
    """Write a table with a column of each kind and a target of each task."""
    draw = random.Random(5)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["amount", "size", "city", "grade", "active", "joined", *TARGETS])
        for row in range(ROWS):
            amount, size = draw.lognormvariate(6, 1.2), draw.gauss(50, 9)
            city = f"rare {row}" if row % 80 == 0 else draw.choice(["Oslo", "Ærø", "São Paulo", "x y"])
            grade, active = draw.choice([1, 2, 3, 17]), draw.random() < 0.4
            joined = dt.date(2019, 1, 1) + dt.timedelta(days=draw.randrange(1800))
            price = 0.01 * amount + size * (1 + (city == "Oslo")) + 5 * grade + 10 * active + draw.gauss(0, 3)
            writer.writerow(
                [
                    "unknown" if row % 19 == 0 else f"${amount:,.2f}",
                    "" if row % 11 == 0 else f"{size:.3f}",
                    "" if row % 17 == 0 else city,
                    grade,
                    str(active).lower(),
                    joined.strftime("%d/%m/%Y"),
                    round(price, 2),
                    "high" if price > 110 else "low",
                    "abc"[(price > 90) + (price > 130)],
                ]
            )
    return path


def unpack_engine(folder: Path) -> Path:
    """Write the vendored engine into `folder` as the service sends it; return its module."""
    for file in ENGINE.glob("ort*"):
        content = file.read_bytes()
        (folder / file.name.removesuffix(".gz")).write_bytes(
            gzip.decompress(content) if file.suffix == ".gz" else content
        )
    return folder / "ort.wasm.min.mjs"


def good_bodies(bundle: Path) -> list[Body]:
    """Return bodies of rows that are right: each alone, all together, in another order of columns, with each option."""
    content = reader.read(bundle)
    rows = content.golden.rows
    names = [feature.name for feature in content.manifest.signature.inputs]
    random.Random(1).shuffle(rows)
    columns = names[::-1]
    alone = [{"rows": [row]} for row in rows[:12]]
    named = [{"rows": [dict(zip(names, row, strict=True)) for row in rows[:5]]}]
    turned = [{"columns": columns, "rows": [row[::-1] for row in rows[:5]]}]
    options = [{"rows": rows[:20], "coverage": coverage, "detail": True} for coverage in (0.5, 0.9)]
    options += [
        {"rows": rows[:3], "explain": True},
        {"rows": rows[3:5], "explain": True, "coverage": 0.9, "detail": True},
    ]
    return [*alone, *named, *turned, *options, {"rows": rows}, {"rows": rows * 40}, {"rows": []}]


def odd_bodies(bundle: Path) -> list[Body]:
    """Return bodies whose rows are right, odd or wrong in a few places."""
    content = reader.read(bundle)
    features = content.manifest.signature.inputs
    names = [feature.name for feature in features]
    draw = random.Random(7)
    odd = [
        None,
        True,
        False,
        0,
        1,
        2.5,
        -3,
        1e300,
        1e-320,
        5e20,
        "",
        " ",
        "3",
        "1,5",
        "$5",
        "-$1,234.50",
        "unknown",
        "inf",
    ]
    odd += ["nan", "Oslo", " Oslo ", "elsewhere", "2024-02-29", "2023-02-29", "29/2/2024", "31/02/2024", "29.02.2024"]
    odd += [
        "2024-02-29T12:30:00.1234567+01:30",
        "9999-12-31T23:59:59.999999",
        "0001-01-01",
        "0x1F",
        "1_0",
        [],
        {},
        "\u017f",
        "\u2003",
    ]

    def row() -> Any:
        values = [draw.choice(odd) if draw.random() < 0.15 else value for value in draw.choice(content.golden.rows)]
        named = dict(zip(names, values, strict=True))
        kind = draw.random()
        if kind < 0.1:
            named[draw.choice(["amonut", "sze", "x", "price", "species", names[0] + "s"])] = 1
        if kind > 0.95:
            del named[draw.choice(names)]
        return named if kind < 0.4 or kind > 0.95 else draw.choice([values] * 9 + [values[1:], "row", None])

    bodies: list[Body] = []
    for _ in range(BODIES):
        body: Body = {"rows": [row() for _ in range(draw.choice([1, 1, 2, 40]))]}
        if draw.random() < 0.3:
            body["on_error"] = draw.choice(["row", "row", "stop", "request", "no", None])
        if draw.random() < 0.2:
            body["coverage"] = draw.choice([0.8, 0.95, 1, 0, 1.5, 0.99999, "x", None, True])
        if draw.random() < 0.2:
            body["detail"] = draw.choice([True, False, 1])
        if draw.random() < 0.1:
            body["explain"] = draw.choice([True, False, 1, "yes", None])
        if draw.random() < 0.1:
            body["columns"] = draw.choice([names, names[::-1], names[1:], [*names, names[0]], [*names, "y"], [1], {}])
        bodies.append(body)
    return bodies


def service_results(models: Path, bodies: dict[str, list[Body]]) -> dict[str, list[Body]]:
    """Return what the service answers for each model: {"answer": predictions}, or {"error": ...}."""
    service = app.load(Settings(models=models))

    async def ask() -> dict[str, list[Body]]:
        transport = httpx.ASGITransport(AsgiApp(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return {name: [await _result(client, name, body) for body in asked] for name, asked in bodies.items()}

    try:
        return asyncio.run(ask())
    finally:
        service.close()


async def _result(client: httpx.AsyncClient, name: str, body: Body) -> Body:
    answer = (await client.post(f"/models/{name}/predict", json=body)).json()
    return {"error": answer["error"]} if "error" in answer else {"answer": answer["predictions"]}


def node_results(node: str, engine: Path, jobs: Sequence[Body]) -> list[list[Body]]:
    """Return what the package answers in Node for jobs {bundle, tolerate, calls}, shaped as the service's results."""
    job = {"engine": str(engine), "module": str(PACKAGE / "index.js"), "jobs": jobs}
    ran = subprocess.run(
        [node, str(HERE / "answer.mjs")],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    results: list[list[Body]] = json.loads(ran.stdout)
    return [[_plain(result) for result in answers] for answers in results]


def _plain(result: Body) -> Body:
    return {"answer": result["answer"]["predictions"]} if "answer" in result else result
