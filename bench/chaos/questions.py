"""What callers ask, in every protocol, and what the answer must be: the bits of each row run alone, for each version.

Every question has rows of its own, so an answer that reaches the wrong caller is seen.
"""

import gzip
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batchproof import load_model
from bench.chaos.wire import Reply, Wire
from tests.bundles import INPUTS, NUMBERS, make_bundle, random_rows, signature_of

VERSIONS = (1, 2)
NAMES = [feature["name"] for feature in NUMBERS]
NUMBER = rb"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?"
NAMED = re.compile(rb'"red":(' + NUMBER + rb'),"green":(' + NUMBER + rb'),"blue":(' + NUMBER + rb")")
TENSOR = re.compile(rb'"name":"probabilities".*?"data":\[([^]]*)\]')


class Question(NamedTuple):
    """One request over HTTP: what it sends and who can tell what its answer says."""

    kind: str
    model: str
    rows: Sequence[Any]
    request: bytes
    version_of: Callable[[Reply], int | None]
    probabilities_of: Callable[[bytes], list[float]]  # as they stand in the body, row after row
    answers: dict[int, bytes]  # by version; filled by `learn`

    def is_right(self, reply: Reply) -> bool:
        """Return whether the answer is, byte for byte, that of the version that it names."""
        version = self.version_of(reply)
        possible = self.answers.values() if version is None else [self.answers.get(version)]
        return reply.body in possible


def write_models(models: Path) -> None:
    """Write two versions of a model of numbers and of one with every kind of feature."""
    for version in VERSIONS:
        make_bundle(models, "numbers", version, seed=version, inputs=NUMBERS)
        make_bundle(models, "flowers", version, seed=version)


def questions(each: int, seed: int = 0) -> list[Question]:
    """Return `each` questions of the most frequent kind, and fewer of the others."""
    return [ask(number, random_of(seed, number)) for ask, share in KINDS for number in range(round(share * each))]


def random_of(seed: int, number: int) -> np.random.Generator:
    """Return the source of one question's rows."""
    return np.random.default_rng([seed, number])


def matrix(random: np.random.Generator, rows: int) -> list[list[float | None]]:
    """Draw rows of the model of numbers, some with missing values."""
    drawn: list[list[float | None]] = random.uniform(-1, 1, (rows, len(NAMES))).tolist()
    for row in drawn:
        if random.random() < 0.3:
            row[3] = None
    return drawn


def learn(address: tuple[str, int], version: int, asked: Sequence[Question], models: Path) -> int:
    """Note what a calm service answers; returns how many rows were compared, bit for bit, with a run of each alone.

    Raises AssertionError where the answer is not 200, names another version or has other bits.
    """
    local = {name: load_model(models / name / str(version)) for name in ("numbers", "flowers")}
    compared = 0
    for question in asked:
        with Wire(address, 30) as wire:
            wire.send(question.request)
            reply = wire.reply()
        assert reply.status == 200, f"{question.kind}: {reply.body[:300]!r}"
        assert question.version_of(reply) in (None, version), f"{question.kind}: another version"
        alone = [local[question.model].predict([row])[0]["probabilities"].values() for row in question.rows]
        told = question.probabilities_of(reply.body)
        assert np.float32([list(row) for row in alone]).ravel().tobytes() == np.float32(told).tobytes(), question.kind
        question.answers[version] = reply.body
        compared += len(question.rows)
    return compared


def message(path: str, body: bytes, name: str, **headers: str) -> bytes:
    """Return a request whose id is `name`."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"X-Request-Id: {name}", f"Content-Length: {len(body)}"]
    lines += [f"{key.replace('_', '-')}: {value}" for key, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _native(number: int, random: np.random.Generator) -> Question:
    rows = matrix(random, 1 if number % 4 else 20)
    request = message("/models/numbers/predict", json.dumps({"rows": rows}).encode(), f"native-{number}")
    return Question("native", "numbers", rows, request, _version_of_native, _named, {})


def _named_rows(number: int, random: np.random.Generator) -> Question:
    values = random_rows(signature_of(), 3, int(random.integers(1 << 31)))
    rows = [dict(zip([feature["name"] for feature in INPUTS], row, strict=True)) for row in values]
    request = message("/models/flowers/predict", json.dumps({"rows": rows}).encode(), f"named-{number}")
    return Question("named", "flowers", rows, request, _version_of_native, _named, {})


def _packed(number: int, random: np.random.Generator) -> Question:
    rows = matrix(random, 8)
    body = gzip.compress(json.dumps({"rows": rows}).encode(), mtime=0)
    request = message("/models/numbers/predict", body, f"packed-{number}", Content_Encoding="gzip")
    return Question("packed", "numbers", rows, request, _version_of_native, _named, {})


def _oip(number: int, random: np.random.Generator) -> Question:
    values = random.uniform(-1, 1, (2, len(NAMES)))
    tensor = {"name": "features", "datatype": "FP64", "shape": [2, len(NAMES)], "data": values.ravel().tolist()}
    body = json.dumps({"id": f"oip-{number}", "inputs": [tensor]}).encode()
    request = message("/v2/models/numbers/infer", body, f"oip-{number}")
    return Question("oip", "numbers", values.tolist(), request, _version_of_oip, _tensor, {})


def _v1(number: int, random: np.random.Generator) -> Question:
    rows = matrix(random, 2)
    request = message("/v1/models/numbers:predict", json.dumps({"instances": rows}).encode(), f"v1-{number}")
    return Question("v1", "numbers", rows, request, lambda _: None, _named, {})


def _csv(number: int, random: np.random.Generator) -> Question:
    rows = matrix(random, int(random.integers(1, 300)))
    request = message("/models/numbers/predict", csv_of(rows), f"csv-{number}", Content_Type="text/csv")
    return Question("csv", "numbers", rows, request, _version_of_header, _cells, {})


def _parquet(number: int, random: np.random.Generator) -> Question:
    rows, stored = matrix(random, 40), io.BytesIO()
    pq.write_table(pa.table({name: [row[place] for row in rows] for place, name in enumerate(NAMES)}), stored)
    request = message(
        *("/models/numbers/predict", stored.getvalue(), f"parquet-{number}"),
        Content_Type="application/vnd.apache.parquet",
        Accept="text/csv",
    )
    return Question("parquet", "numbers", rows, request, _version_of_header, _cells, {})


# How often each kind is asked, beside the most frequent one: tables and packed bodies cost the most.
KINDS = ((_native, 1), (_named_rows, 0.5), (_packed, 0.2), (_oip, 0.5), (_v1, 0.5), (_csv, 0.1), (_parquet, 0.05))


def csv_of(rows: Sequence[Sequence[float | None]]) -> bytes:
    """Return rows as CSV with a header."""
    lines = [",".join("" if value is None else repr(value) for value in row) for row in rows]
    return "\n".join([",".join(NAMES), *lines, ""]).encode()


def pieces(question: Question, count: int) -> Iterator[bytes]:
    """Yield the same request as chunks, so that it can be sent slowly: its head, `count` parts, its end."""
    head, _, body = question.request.partition(b"\r\n\r\n")
    yield re.sub(rb"Content-Length: \d+", b"Transfer-Encoding: chunked", head) + b"\r\n\r\n"
    size = -(-len(body) // count)
    for start in range(0, len(body), size):
        part = body[start : start + size]
        yield b"%x\r\n%b\r\n" % (len(part), part)
    yield b"0\r\n\r\n"


def _version_of_native(reply: Reply) -> int:
    found = re.search(rb'"version":(\d+)', reply.body)
    return int(found[1]) if found else 0


def _version_of_oip(reply: Reply) -> int:
    found = re.search(rb'"model_version":"(\d+)"', reply.body)
    return int(found[1]) if found else 0


def _version_of_header(reply: Reply) -> int:
    return int(json.loads(reply.headers.get("x-model", '{"version":0}'))["version"])


def _named(body: bytes) -> list[float]:
    return [float(value) for row in NAMED.findall(body) for value in row]


def _tensor(body: bytes) -> list[float]:
    found = TENSOR.search(body)
    return [float(value) for value in found[1].split(b",")] if found else []


def _cells(body: bytes) -> list[float]:
    return [float(value) for line in body.splitlines()[1:] for value in line.split(b",")[-3:]]
