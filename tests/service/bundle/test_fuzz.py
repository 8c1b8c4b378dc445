"""Every flipped bit, cut and extension of a small bundle is refused by name or gives an equal model; nothing else happens."""

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from batchproof.service.bundle import reader
from batchproof.service.bundle.graph.fields import ATTRIBUTE, GRAPH, MODEL, NODE, TENSOR
from batchproof.service.bundle.graph.protobuf import Message
from batchproof.service.errors import BundleError
from tests.bundles import make_bundle, network
from tests.fuzz_bundles import Sound, broken, every_bit, flipped, mutated, run, sound, timed


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    return sound(tmp_path_factory.mktemp("models"))


def complain(name: str, raw: bytes, error: BaseException) -> None:
    raise AssertionError(f"{name} {raw.hex()}") from error


def test_changed_files_load_or_are_refused(good: Sound) -> None:
    """Mutants of all files, sealed anew, load and reproduce the golden rows, or are refused; the process lives on."""
    outcomes = run(good, islice(broken(good, seed=3), 1200), complain)
    assert outcomes["finding"] == 0
    assert outcomes.total() == 1200
    assert {name.split()[0] for name in outcomes} == set(good.files)
    assert any("loaded" in name for name in outcomes)


def test_flipped_bits_load_or_are_refused(good: Sound) -> None:
    """Files with one flipped bit, sealed anew, load and reproduce the golden rows, or are refused."""
    outcomes = run(good, islice(every_bit(good), 0, None, 173), complain)
    assert outcomes["finding"] == 0
    assert outcomes.total() > 400


def changes(folder: Path) -> Iterator[Path]:
    """Yield every file of a bundle after changing it, one change at a time; each is put back."""
    draw = random.Random(5)
    for path in sorted(folder.iterdir()):
        raw = path.read_bytes()
        bits = draw.sample(range(8 * len(raw)), 150)
        for changed in (*(flipped(raw, bit) for bit in bits), raw[:-1], raw[: len(raw) // 2], b"", raw + b"\x00"):
            path.write_bytes(changed)
            yield path
        path.write_bytes(raw)


def test_change_on_disk_is_seen(tmp_path: Path) -> None:
    """Any flipped bit, cut or extension of any file of a bundle that is not sealed anew is refused."""
    folder = make_bundle(tmp_path, graph=network(hidden=2))
    for path in changes(folder):
        with pytest.raises(BundleError):
            reader.read(folder)
        assert path.exists()
    reader.read(folder)


@pytest.mark.parametrize(
    "schema", [MODEL, GRAPH, NODE, ATTRIBUTE, TENSOR], ids=["model", "graph", "node", "attribute", "tensor"]
)
def test_reader_of_messages_ends(good: Sound, schema: dict[int, object]) -> None:
    """Random bytes and broken messages are read or refused with a ValueError, at once: the reader never loops."""
    draw = random.Random(len(schema))
    seeds = [
        good.bundle.model,
        *(bytes(raw) for raw in Message(memoryview(good.bundle.model), "model", MODEL).bytes("graph")),
    ]
    refused = 0
    for _ in range(3000):
        raw = draw.randbytes(draw.randint(0, 60)) if draw.random() < 0.5 else mutated(draw.choice(seeds)[:200], draw)
        with timed():
            try:
                message = Message(memoryview(raw), "message", schema)  # type: ignore[arg-type]
                message.texts("name")
            except ValueError:
                refused += 1
    assert refused > 1000
