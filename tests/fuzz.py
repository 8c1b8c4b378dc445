"""Broken requests for every decoder, from good ones: `python -m tests.fuzz --inputs 1000000`.

A decoder answers a request or refuses it with a 4xx that its dialect can write; anything else is a finding, and so is
an input that takes more than a second of processor time: a busy machine makes no findings. Mutants are a function of
the seed alone, so a finding is found again. Half of them change a place in the JSON, the others bytes, headers or the
compressed form.
"""

import argparse
import gzip
import itertools
import json
import random
import signal
import sys
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from batchproof.service.bundle import reader as bundle
from batchproof.service.errors import ServiceError
from batchproof.service.inference import model
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.inference.model import Model
from batchproof.service.protocols.cloud.npy import file_of
from batchproof.service.protocols.cloud.protocol import Invocations
from batchproof.service.protocols.compression import unpacked
from batchproof.service.protocols.interface import Answer, Call, Codec, Headers, Limits, WireProtocol
from batchproof.service.protocols.native.protocol import Native
from batchproof.service.protocols.oip.protocol import OpenInference
from tests.bundles import INPUTS, NUMBERS, make_bundle, random_rows, signature_of

LIMIT_S = 1.0
LIMITS = Limits(max_rows=500, max_body_bytes=1 << 20)
VALUES: Sequence[Any] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63), 2**64, 10**30, 0.5, -0.0, 1e308, 1e-320, float("nan")),
    *(
        float("inf"),
        "",
        "a",
        "FP32",
        "FP16",
        "BF16",
        "BYTES",
        "BOOL",
        "INT64",
        "features",
        "instances",
        "\x00",
        "é" * 50,
    ),
    *(
        [],
        [[]],
        {},
        [0],
        [None],
        [1, 5],
        [[1, 2], [3]],
        {"binary_data_size": 8},
        {"binary_data": True},
        {"triton_x": 1},
    ),
)
TOKENS = (
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\ud800", b"NaN", b"Infinity", b"-", b"1e999", b"null", b"\n"),
    *(b"\r\n", b"\x00", b"\xff", b"\xef\xbb\xbf", b"[" * 2000, b"9" * 400, b'"features"', b'"inputs":', b'"data":'),
    *(
        b'"binary_data_size":',
        b'"shape":[1,5],',
        b"\xff\xff\xff\xff",
        b"\x08\x00\x00\x00",
        b"\x93NUMPY\x01\x00",
        b"'<f8'",
        b"(9, 9)",
    ),
)
HEADER_VALUES = {
    b"content-type": (
        b"application/json",
        b"text/csv",
        b"application/jsonlines",
        b"application/x-npy",
        b"text/csv; charset=latin-1",
        b";",
        b"*/*",
    ),
    b"accept": (b"text/csv", b"application/jsonlines", b"application/x-npy", b"application/json;q=0", b"\xff", b","),
    b"accept-encoding": (b"gzip", b"deflate;q=0, gzip", b"br", b"gzip;q=x", b",;,"),
    b"content-encoding": (b"gzip", b"deflate", b"br", b"identity", b"gzip, deflate", b"", b"\xff"),
    b"inference-header-content-length": (
        b"0",
        b"-1",
        b"1",
        b"99999999999999999999",
        b"x",
        b"--5",
        b" 7 ",
        b"\xb2",
        b"",
    ),
}


class Target(NamedTuple):
    """One model in one dialect."""

    name: str
    dialect: WireProtocol
    codec: Codec
    outputs: dict[str, int]  # width of each


class Request(NamedTuple):
    """A body and its headers."""

    body: bytes
    headers: Headers


class Seed(NamedTuple):
    """A good request and whom it is for."""

    target: Target
    request: Request


class TooSlowError(Exception):
    """A decoder took more than a second of processor time."""


def seeds(models: Path) -> list[Seed]:
    """Return good requests in every form, for a model of every kind of feature and for one of numbers."""
    made = []
    for name, inputs in (("flowers", INPUTS), ("numbers", NUMBERS)):
        loaded = model.load(bundle.read(make_bundle(models, name, inputs=list(inputs))), EngineOptions("cpu"), 64, None)
        rows = random_rows(signature_of(inputs=inputs), 3, seed=2)
        for kind in (Native, OpenInference, OpenInference, Invocations):  # the other platforms read as the last does
            dialect = kind()
            target = Target(f"{name} {dialect.name}", dialect, dialect.codec(loaded, LIMITS), widths(loaded))
            bodies = infer_bodies(inputs, rows) if dialect.name == "oip" else row_bodies(inputs, rows)
            made += [Seed(target, request) for request in bodies]
    return made


def widths(loaded: Model) -> dict[str, int]:
    """Return the width of each output."""
    return {one.name: one.width for one in loaded.manifest.outputs}


def row_bodies(inputs: Sequence[dict[str, Any]], rows: Sequence[Sequence[Any]]) -> list[Request]:
    """Return the rows in the forms that the native route and the platforms take."""
    names = [feature["name"] for feature in inputs]
    named = [dict(zip(names, row, strict=True)) for row in rows]
    contents: list[Any] = [
        {"rows": rows},
        {"rows": named, "on_error": "row"},
        {"rows": rows, "columns": names},
        {"instances": named, "parameters": {}},
        {"dataframe_split": {"columns": names, "data": rows, "index": [0, 1, 2]}},
        {"dataframe_records": named},
        {"inputs": {name: [row[name] for row in named] for name in names}},
    ]
    found = [Request(dump(content), [(b"content-type", b"application/json")]) for content in contents]
    lines = "\n".join(json.dumps(row) for row in named)
    found.append(Request(lines.encode(), [(b"content-type", b"application/jsonlines")]))
    table = "\n".join(",".join("" if cell is None else str(cell) for cell in row) for row in [names, *rows])
    found.append(Request(table.encode(), [(b"content-type", b"text/csv"), (b"accept", b"text/csv")]))
    numbers = np.array([[cell if type(cell) in (int, float) else 0 for cell in row] for row in rows], np.float32)
    npy = b"application/x-npy"
    return [*found, Request(file_of(numbers), [(b"content-type", npy), (b"accept", npy)])]


def infer_bodies(inputs: Sequence[dict[str, Any]], rows: Sequence[Sequence[Any]]) -> list[Request]:
    """Return the rows as tensors: JSON, binary, and, where all are numbers, as the matrix and as raw binary."""
    tensors = [column_tensor(feature, [row[place] for row in rows]) for place, feature in enumerate(inputs)]
    binary = [binary_tensor(tensor) for tensor in tensors]
    found = [Request(dump({"id": "7", "inputs": tensors}), []), joined(binary)]
    if inputs is NUMBERS:
        numbers = np.nan_to_num(np.array(rows, np.float64))
        matrix = {"name": "features", "shape": list(numbers.shape), "datatype": "FP32", "data": numbers.tolist()}
        found.append(Request(dump({"inputs": [matrix], "outputs": [{"name": "label"}]}), []))
        found.append(joined([binary_tensor({**matrix, "data": numbers.ravel().tolist()})]))
        found.append(Request(numbers[:1].tobytes(), [(b"inference-header-content-length", b"0")]))
    return found


def column_tensor(feature: dict[str, Any], values: Sequence[Any]) -> dict[str, Any]:
    """Return one feature's tensor."""
    datatype = {"string": "BYTES", "date": "BYTES", "boolean": "BOOL"}.get(feature["value_type"], "FP64")
    datatype = "INT64" if feature["kind"] == "categorical" and datatype == "FP64" else datatype
    return {"name": feature["name"], "shape": [len(values), 1], "datatype": datatype, "data": list(values)}


def binary_tensor(tensor: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Return the tensor without its data, and the data as bytes."""
    data = tensor["data"]
    if tensor["datatype"] == "BYTES":
        texts = [(value or "").encode() for value in data]
        raw = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    else:
        dtype = {"FP32": "<f4", "FP64": "<f8", "INT64": "<i8", "BOOL": "?"}[tensor["datatype"]]
        raw = np.array([0 if value is None else value for value in data]).astype(dtype).tobytes()
    described = {name: value for name, value in tensor.items() if name != "data"}
    return described | {"parameters": {"binary_data_size": len(raw)}}, raw


def joined(tensors: Sequence[tuple[dict[str, Any], bytes]]) -> Request:
    """Return an infer request of binary tensors that wants binary outputs."""
    head = dump({"inputs": [tensor for tensor, _ in tensors], "parameters": {"binary_data_output": True}})
    length = (b"inference-header-content-length", b"%d" % len(head))
    return Request(head + b"".join(raw for _, raw in tensors), [length])


def dump(content: Any) -> bytes:
    """Write JSON; NaN and Infinity as bare tokens, as some clients do."""
    return json.dumps(content, separators=(",", ":")).encode()


class Mutator:
    """Makes broken requests of good ones."""

    def __init__(self, seed: int, pool: Sequence[Seed]) -> None:
        """Draw from `seed` alone."""
        self._random = random.Random(seed)
        self._pool = pool

    def __iter__(self) -> Iterator[Seed]:
        """Yield mutants for ever."""
        while True:
            target, request = self._random.choice(self._pool)
            for _ in range(self._random.randint(1, 3)):
                request = self._random.choice((self._json, self._json, self._bytes, self._headers, self._packed))(
                    request
                )
            yield Seed(target, request)

    def _json(self, request: Request) -> Request:
        """Put another value into one place of the JSON; a stated length follows, mostly."""
        headers = dict(request.headers)
        stated = headers.get(b"inference-header-content-length", b"x")
        size = int(stated) if stated.isdigit() and len(stated) < 9 else len(request.body)
        try:
            content = json.loads(request.body[:size])
        except (ValueError, RecursionError):
            return self._bytes(request)
        head = dump(self._replaced(content))
        if stated.isdigit() and self._random.random() < 0.9:
            headers[b"inference-header-content-length"] = b"%d" % len(head)
        return Request(head + request.body[size:], list(headers.items()))

    def _replaced(self, content: Any, depth: int = 0) -> Any:
        draw = self._random
        if not isinstance(content, dict | list) or not content or draw.random() < 0.1 * depth:
            return draw.choice(VALUES)
        content = content.copy()
        key = draw.choice(list(content)) if isinstance(content, dict) else draw.randrange(len(content))
        action = draw.random()
        if action < 0.1:
            del content[key]
        elif action < 0.2 and isinstance(content, list):
            content.insert(key, content[key])
        elif action < 0.2:
            content[str(draw.choice(VALUES))] = content[key]
        else:
            content[key] = self._replaced(content[key], depth + 1)
        return content

    def _bytes(self, request: Request) -> Request:
        """Change, cut, repeat or insert bytes."""
        draw, body = self._random, request.body
        start = draw.randint(0, len(body))
        end = min(len(body), start + draw.choice((0, 1, 1, 4, 30)))
        other = draw.choice(self._pool).request.body
        middle = draw.choice(
            (b"", bytes([draw.randrange(256)]), draw.choice(TOKENS), body[start:end] * 2, other[start:])
        )
        tail = b"" if draw.random() < 0.05 else body[end:]
        return Request(body[:start] + middle + tail, request.headers)

    def _headers(self, request: Request) -> Request:
        """Give one header another value."""
        name = self._random.choice(list(HEADER_VALUES))
        return Request(request.body, [*request.headers, (name, self._random.choice(HEADER_VALUES[name]))][::-1])

    def _packed(self, request: Request) -> Request:
        """Compress the body and, at times, say so wrongly."""
        packed = gzip.compress(request.body, 1) if self._random.random() < 0.5 else zlib.compress(request.body, 1)
        name = self._random.choice((b"gzip", b"deflate"))
        return Request(packed, [(b"content-encoding", name), *request.headers])


def outcome(seed: Seed) -> str:
    """Return what became of a request; raises what no decoder, and no writer of an answer, may raise."""
    target, request = seed
    call = Call(request.body, request.headers, "fuzz-1")
    try:
        body = unpacked(request.body, request.headers, LIMITS.max_body_bytes)
        decoded = target.codec.decode(Call(body, call.headers, call.request_id))
    except ServiceError as error:
        if not 400 <= error.status < 500:
            raise
        checked(target.dialect.failure(error, "fuzz-1"))
        return f"{target.name} refused: {error.code}"
    arrays = [array for array in decoded.arrays if array is not None]
    assert all(len(array) == decoded.rows for array in arrays), "the rows that are counted are the rows that run"
    assert decoded.rows <= LIMITS.max_rows, "no more rows than one request may hold"
    outputs = {name: np.full((decoded.rows, width), 0.25, np.float32) for name, width in target.outputs.items()}
    checked(target.codec.encode(call, decoded, outputs))
    return f"{target.name} answered"


def checked(answer: Answer) -> None:
    """Hold an answer to what can be written on a connection."""
    assert isinstance(answer.body, bytes)
    assert all(b"\n" not in value and b"\r" not in value for _, value in answer.headers), "a header is one line"


def run(mutants: Iterator[Seed], inputs: int, report: Callable[[Seed, BaseException], None]) -> Counter[str]:
    """Try so many mutants, report each finding, and count what became of the others."""
    found: Counter[str] = Counter()
    for seed in itertools.islice(mutants, inputs):
        signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
        try:
            found[outcome(seed)] += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            found["finding"] += 1
            report(seed, error)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    return found


def stop_slow(number: int, frame: Any) -> None:
    """End an input that takes too long."""
    raise TooSlowError(f"no answer within {LIMIT_S} s of processor time")


def main() -> None:
    """Run for long and print what happened."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="how many mutants")
    parser.add_argument("--seed", type=int, default=1, help="where the sequence of mutants begins")
    chosen = parser.parse_args()
    signal.signal(signal.SIGPROF, stop_slow)
    began_s = time.monotonic()
    seen: set[str] = set()

    def report(seed: Seed, error: BaseException) -> None:
        where = traceback.format_exception(error)[-3:]
        if "".join(where) not in seen:
            seen.add("".join(where))
            print(f"FINDING {seed.target.name}\n{seed.request}\n{''.join(where)}"[:3000], flush=True)  # noqa: T201

    with TemporaryDirectory() as folder:
        found = run(iter(Mutator(chosen.seed, seeds(Path(folder)))), chosen.inputs, report)
    for name, count in sorted(found.items()):
        print(f"{count:9} {name}")  # noqa: T201
    print(f"{found.total()} inputs in {time.monotonic() - began_s:.0f} s: {found['finding']} findings")  # noqa: T201
    sys.exit(1 if found["finding"] else 0)


if __name__ == "__main__":
    main()
