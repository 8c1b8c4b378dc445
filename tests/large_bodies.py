"""Large bodies of every kind that a caller can send to every door, good and bad: for tests and `bench.loop_pause`."""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

Rows: TypeAlias = Sequence[Sequence[Any]]

JSON = {"content-type": "application/json"}
CSV = {"content-type": "text/csv"}
LINES = {"content-type": "application/jsonlines"}
NPY = {"content-type": "application/x-npy"}
RPC = "ModelInfer"  # the path of a body that goes over gRPC


@dataclass(frozen=True)
class LargeBody:
    """A request that is made when it is asked for."""

    name: str
    path: str
    make: Callable[[], bytes] = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)
    is_good: bool = False  # whether it is answered with predictions


class Kinds:
    """Bodies for one model: its name, its features' names and its rows, in the order of the signature."""

    def __init__(
        self,
        model: str,
        names: Sequence[str],
        rows_of: Callable[[int], Rows],
        rows: int = 100_000,
        size: int = 30_000_000,
    ) -> None:
        """Make bodies of `rows` rows, of `rows_of`, or of about `size` bytes."""
        self.model = model
        self._names = names
        self._rows_of = rows_of
        self._rows = rows
        self._size = size
        self._made: Rows = ()

    def good(self) -> Iterator[LargeBody]:
        """Yield what is answered with a prediction for each row."""
        own, scoring = f"/models/{self.model}/predict", f"/v1/models/{self.model}:predict"
        tensors = f"/v2/models/{self.model}/infer"
        named, listed = lambda: {"rows": self._named()}, lambda: {"rows": self.rows()}
        yield _good("native, lists", own, listed)
        yield _good("native, objects", own, named)
        yield _good("native, columns", own, lambda: {"columns": list(self._names), "rows": self.rows()})
        yield _good("native, one bad row", own, lambda: {**listed(), "on_error": "row", "rows": [*self.rows()[1:], []]})
        yield _good("native, detail", own, lambda: {**listed(), "detail": True})
        yield _good("v1, lists", scoring, lambda: {"instances": self.rows()})
        yield _good("v1, columns", scoring, lambda: {"inputs": self._columns()})
        yield _good("v1, split", scoring, lambda: {"dataframe_split": {"columns": self._names, "data": self.rows()}})
        yield LargeBody("v1, CSV", scoring, self._csv, CSV, is_good=True)
        yield LargeBody("v1, JSON Lines", scoring, self._lines, LINES, is_good=True)
        yield LargeBody("table, CSV", own, lambda: self._header() + self._csv(), CSV, is_good=True)
        yield LargeBody("table, JSON Lines", own, self._named_lines, LINES, is_good=True)
        yield _good("oip, a tensor for each feature", tensors, lambda: {"inputs": self._tensors()})

    def numeric(self) -> Iterator[LargeBody]:
        """Yield what only a model of numbers answers: matrices."""
        path, scoring = f"/v2/models/{self.model}/infer", f"/v1/models/{self.model}:predict"
        shape = [self._rows, len(self._names)]
        matrix = {"name": "features", "datatype": "FP64", "shape": shape}
        flat = lambda: [value for row in self.rows() for value in row]  # noqa: E731
        yield _good("oip, flat matrix", path, lambda: {"inputs": [{**matrix, "data": flat()}]})
        yield _good("oip, nested matrix", path, lambda: {"inputs": [{**matrix, "data": self.rows()}]})
        yield _good(
            "oip, matrix of INT64",
            path,
            lambda: {"inputs": [{**matrix, "datatype": "INT64", "data": [1] * (shape[0] * shape[1])}]},
        )
        yield LargeBody("v1, npy", scoring, self._npy, NPY, is_good=True)
        yield LargeBody("gRPC, raw", RPC, lambda: self._message(is_raw=True), is_good=True)
        yield LargeBody("gRPC, contents", RPC, lambda: self._message(is_raw=False), is_good=True)

    def bad(self) -> Iterator[LargeBody]:
        """Yield what is refused, or answered with a fault for each row."""
        yield from self._bad_native()
        yield from self._bad_scoring()
        yield from self._bad_tensors()

    def _bad_native(self) -> Iterator[LargeBody]:
        own, size = f"/models/{self.model}/predict", self._size
        wrong = lambda: [["x" * 20] * len(self._names)] * self._rows  # noqa: E731
        yield _bad("every value wrong, on_error row", own, lambda: {"on_error": "row", "rows": wrong()})
        yield _bad("every row too short, on_error row", own, lambda: {"on_error": "row", "rows": [[1]] * self._rows})
        yield _bad("every value wrong", own, lambda: {"rows": wrong()})
        yield _bad("unknown features", own, lambda: {"on_error": "row", "rows": [{"a": 1, "b": 2}] * self._rows})
        yield _bad("many keys", own, lambda: {"rows": [{f"k{number}": 1 for number in range(size // 15)}]})
        yield _bad("a long name", own, lambda: {"n" * size: 1, "rows": self.rows()[:1]})
        yield _bad("a feature with a long name", own, lambda: {"rows": [{"n" * size: 1}]})
        yield _bad("a long text", own, lambda: {"rows": [["x" * size]]})
        yield _bad("escapes", own, lambda: {"rows": ["\u00e9" * (size // 6)]})
        yield _bad("too many rows", own, lambda: {"rows": [[1]] * (size // 15)})
        yield _bad("many columns", own, lambda: {"columns": ["a"] * (size // 15), "rows": []})
        yield _bad("many distinct columns", own, lambda: {"columns": [f"c{n}" for n in range(size // 30)], "rows": []})
        yield LargeBody("broken at the end", own, lambda: json.dumps({"rows": self.rows()}).encode()[:-1])
        yield LargeBody("nested", own, lambda: b'{"rows":' + b"[" * (size // 2))
        yield LargeBody("a key twice", own, lambda: b'{"rows":[' + b'{"a":1,"a":2},' * self._rows + b"{}]}")
        yield LargeBody("no UTF-8", own, lambda: b'{"rows":["' + b"a" * size + b'\xff"]}')
        yield LargeBody("a long number", own, lambda: b'{"rows":[[' + b"1" * size + b"]]}")
        yield LargeBody("blanks", own, lambda: b" " * size)

    def _bad_scoring(self) -> Iterator[LargeBody]:
        path, size = f"/v1/models/{self.model}:predict", self._size
        yield LargeBody("NaN at the end", path, lambda: json.dumps({"instances": [*self.rows(), [np.nan]]}).encode())
        yield LargeBody("CSV of one column", path, lambda: b"1\n" * (size // 2), CSV)
        yield LargeBody("CSV of one line", path, lambda: b"1," * (size // 2), CSV)
        yield LargeBody("CSV of one cell", path, lambda: b"x" * size, CSV)
        yield LargeBody("CSV of wrong cells", path, lambda: self._header() + b"x,y,z\n" * self._rows, CSV)
        yield LargeBody("JSON Lines of nothing", path, lambda: b"\n" * size, LINES)
        yield LargeBody("JSON Lines, wrong", path, lambda: b"[1]\n" * self._rows, LINES)
        yield LargeBody("npy without numbers", path, lambda: b"\x93NUMPY" + b"a" * size, NPY)

    def _bad_tensors(self) -> Iterator[LargeBody]:
        path, count = f"/v2/models/{self.model}/infer", self._size // 8
        texts = {"name": self._names[0], "shape": [count], "datatype": "BYTES"}
        yield _bad("oip, many numbers", path, lambda: {"inputs": [_tensor("features", [count, 1], [1.5] * count)]})
        yield _bad("oip, many texts", path, lambda: {"inputs": [{**texts, "data": ["a"] * count}]})
        yield _bad("oip, many inputs", path, lambda: {"inputs": [{"name": "a"}] * (count // 10)})
        yield LargeBody("gRPC, many texts", RPC, lambda: self._texts(count))
        yield LargeBody("gRPC, many inputs", RPC, lambda: self._inputs(count // 4))
        yield LargeBody("gRPC, what is no message", RPC, lambda: b"\xff" * self._size)

    def rows(self) -> Rows:
        """Return the rows, made once."""
        self._made = self._made or self._rows_of(self._rows)
        return self._made

    def _named(self) -> list[dict[str, Any]]:
        return [dict(zip(self._names, row, strict=True)) for row in self.rows()]

    def _columns(self) -> dict[str, list[Any]]:
        return dict(zip(self._names, map(list, zip(*self.rows(), strict=True)), strict=True))

    def _header(self) -> bytes:
        return ",".join(self._names).encode() + b"\n"

    def _csv(self) -> bytes:
        return "".join(
            ",".join("" if cell is None else str(cell) for cell in row) + "\n" for row in self.rows()
        ).encode()

    def _lines(self) -> bytes:
        return b"".join(json.dumps(row).encode() + b"\n" for row in self.rows())

    def _named_lines(self) -> bytes:
        return b"".join(json.dumps(row).encode() + b"\n" for row in self._named())

    def _tensors(self) -> list[dict[str, Any]]:
        return [
            {**_tensor(name, [self._rows, 1], column), "datatype": "BYTES" if isinstance(column[0], str) else "FP64"}
            for name, column in self._columns().items()
        ]

    def _npy(self) -> bytes:
        sink = io.BytesIO()
        np.save(sink, np.array(self.rows(), np.float64))
        return sink.getvalue()

    def _message(self, *, is_raw: bool) -> bytes:
        values = np.array(self.rows(), np.float64)
        tensor: dict[str, Any] = {"name": "features", "datatype": "FP64", "shape": values.shape}
        if is_raw:
            return self._request([tensor], raw_input_contents=[values.tobytes()])
        return self._request([{**tensor, "contents": {"fp64_contents": values.ravel()}}])

    def _texts(self, count: int) -> bytes:
        tensor = {"name": self._names[0], "datatype": "BYTES", "shape": [count, 1]}
        return self._request([{**tensor, "contents": {"bytes_contents": [b"a"] * count}}])

    def _inputs(self, count: int) -> bytes:
        return self._request([{"name": "a"}] * count)

    def _request(self, inputs: Sequence[Mapping[str, Any]], **fields: Any) -> bytes:
        from batchproof.service.server.grpc.messages import classes

        message = classes()["ModelInferRequest"](model_name=self.model, inputs=inputs, **fields)
        text: bytes = message.SerializeToString()
        return text


def _tensor(name: str, shape: Sequence[int], data: Sequence[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": "FP64", "shape": shape, "data": data}


def _good(name: str, path: str, content: Callable[[], Any]) -> LargeBody:
    return LargeBody(name, path, lambda: _dump(content()), is_good=True)


def _bad(name: str, path: str, content: Callable[[], Any]) -> LargeBody:
    return LargeBody(name, path, lambda: _dump(content()))


def _dump(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
