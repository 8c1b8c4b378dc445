"""Every flipped bit of a graph. It is read 100 000 times, so this stands outside the folders whose coverage is measured."""

from pathlib import Path

from tests.fuzz_bundles import flipped, read, sound


def test_every_bit_of_a_graph_is_read_or_refused(tmp_path: Path) -> None:
    """With any one bit of model.onnx flipped, or its end cut off, it is read or refused by name, at once."""
    good = sound(tmp_path)
    raw = good.bundle.model
    refused = sum(read(good, "model.onnx", flipped(raw, bit)) is None for bit in range(8 * len(raw)))
    refused += sum(read(good, "model.onnx", raw[:size]) is None for size in range(0, len(raw), 7))
    assert refused > 4 * len(raw)
