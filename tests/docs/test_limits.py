"""docs/limits.md: each limit names a test that exists, a setting that exists, and a refusal that the docs know."""

import re
from pathlib import Path

import pytest

from batchproof.service.bundle import signature
from batchproof.service.bundle.files import safe_folder, strict_json
from batchproof.service.bundle.graph import nodes, protobuf, tensors
from batchproof.service.bundle.reader import Limits
from batchproof.service.cli import verify
from batchproof.service.configuration.settings import Settings
from batchproof.service.inference import trial
from batchproof.service.invariance.onnx_files import onnx_inputs
from batchproof.service.protocols import compression
from batchproof.service.runtime.processes import process_pool
from batchproof.service.server.serving import shared
from batchproof.service.server.serving.codecs import codec_process, large_requests, remote_codec
from batchproof.service.tables.limits import parquet_pages
from batchproof.service.tables.sandbox import remote, text_process
from batchproof.service.tables.streaming import table_request

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| what")
]


def test_page_has_limits() -> None:
    """The tables of the page are read: each limit has five cells."""
    assert len(ROWS) > 15
    assert [row for row in ROWS if len(row) != 5] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_limit_is_held_by_a_test(row: list[str]) -> None:
    """The test that a limit names is there."""
    held_by = re.findall(r"`([^`]+)::(\w+)`", row[-1])
    assert held_by
    for path, name in held_by:
        assert re.search(rf"^(async )?def {name}\(", (ROOT / "tests" / path).read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_limit_has_its_setting(row: list[str]) -> None:
    """A setting that a limit names is one of the service's, or an option of a command."""
    named = re.findall(r"`([^`]+)`", row[2])
    assert row[2] == "fixed" or named
    assert [name for name in named if not name.startswith("--") and name not in Settings.model_fields] == []


SETTINGS = {name: field.default for name, field in Settings.model_fields.items()}
VALUES = {  # the first cell of a row -> what its second cell says
    "`model.onnx`": f"{Limits.model_bytes >> 20} MiB",
    "`bundle.json`, `golden.json`": f"{Limits.json_bytes >> 20} MiB each",
    "other files of a bundle": f"{Limits.other_bytes >> 30} GiB each",
    "files in a bundle's folder": safe_folder.MAX_ENTRIES,
    "features": signature.MAX_FEATURES,
    "values of a JSON file": strict_json.MAX_VALUES,
    "depth of JSON, digits of a whole number in it": f"{strict_json.MAX_DEPTH} levels, {strict_json.MAX_DIGITS} digits",
    "fields of `model.onnx`, over all of its messages": protobuf.MAX_FIELDS,
    "nodes of the graph": nodes.MAX_NODES,
    "a name in the graph": f"{protobuf.MAX_TEXT_BYTES:_} bytes",
    "axes of a weight": tensors.MAX_AXES,
    "numbers of a weight": f"{tensors.MAX_ELEMENTS:_}, all of them in the file",
    "a run of `run_rows` rows that is loaded without a trial": f"{trial.TRUSTED_BYTES >> 20} MiB of tensors, "
    f"{trial.TRUSTED_OPERATIONS:_} operations, {trial.TRUSTED_NODES:_} nodes, modelled operators only",
    "one tensor of a run, where the file shows its size": f"{SETTINGS['load_memory_bytes'] >> 30} GiB",
    "memory of a trial": f"{SETTINGS['load_memory_bytes'] >> 30} GiB",
    "time of a trial": f"{SETTINGS['load_timeout_s']:g} s",
    "time of the whole check": f"{verify.TIMEOUT_S} s, and {verify.GRACE_S:g} s for the last run to end",
    "processor time of reading it, from one block to the next": f"{remote.BLOCK_CPU_S} s",
    "a table of text that the worker's own process reads": f"{table_request.SHORT_BYTES >> 10} KiB, of a stated length and "
    "not compressed",
    "blocks that such a process reads before the rows of an earlier one were answered": text_process.AHEAD,
    "a body that the worker's own process reads": f"{large_requests.GOOD_BYTES >> 10} KiB; "
    f"{large_requests.THREAD_BYTES >> 20} MiB of good rows in the usual form; numbers as bytes however many",
    "numbers of outputs that the worker's own process writes": f"{remote_codec.THREAD_NUMBERS:_} for one request",
    "memory for reading one such body, or writing one such answer": f"{shared.LEAST_CODEC_BYTES >> 30} GiB, and "
    f"{shared.OBJECT_BYTES} bytes for each byte of `max_body_bytes`",
    "processor time for it": f"{codec_process.JOB_CPU_S} s",
    "such processes that wait for the next body": f"{process_pool.MOST_IDLE} for each worker, each for "
    f"{process_pool.MOST_JOBS} bodies",
    "pages of a Parquet file": parquet_pages.MOST_PAGES,
    "members of a gzip body": compression.MOST_MEMBERS,
    "memory": f"{verify.MEMORY_GIB} GiB",
    "inputs of the graph": onnx_inputs.MAX_INPUTS,
    "axes of an input": onnx_inputs.MAX_AXES,
    "an input for the largest batch": f"{onnx_inputs.MAX_BYTES >> 20} MiB",
}


@pytest.mark.parametrize("what", VALUES)
def test_limit_is_the_sources(what: str) -> None:
    """The page says the value that stands in the source."""
    value = VALUES[what]
    text = f"{value:_}" if isinstance(value, int) else value
    assert [row[1] for row in ROWS if row[0] == what][:1] == [re.sub(r"(?<=\d)_(?=\d)", " ", text)]
