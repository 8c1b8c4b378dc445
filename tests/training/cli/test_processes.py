"""Real processes, started by the command itself and by torchrun."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from batchproof.training.__main__ import main
from tests.training.distributed.test_same_bits import CLASSES, written

TRAIN = ("-m", "batchproof.training")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *TRAIN)
NETWORKS = ("model.onnx", "golden.json", "weights.safetensors")  # bundle.json has the time


def started(words: tuple[str, ...]) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_command_and_torchrun_write_the_same_model(tmp_path: Path) -> None:
    """`--processes 2`, `torchrun --nproc-per-node 2` and `--processes 1` give the same bytes, and only one process talks."""
    words = (str(written(tmp_path)), *CLASSES, "--encoding", "bins")
    ways = {
        "two": (*TRAIN, *words, "--processes", "2"),
        "torchrun": (*TORCHRUN, *words),
        "one": (*TRAIN, *words, "--processes", "1"),
    }
    for name, way in ways.items():
        said, errors = (process := started((*way, "--models", str(tmp_path / name)))).communicate(timeout=300)
        assert process.returncode == 0, errors
        assert said.count("wrote ") == 1
    first, *others = [[(tmp_path / name / "t" / "1" / file).read_bytes() for file in NETWORKS] for name in ways]
    assert all(files == first for files in others)


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 0), (signal.SIGTERM, 1)])
def test_signals_reach_every_process(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """Ctrl-C finishes the epoch and exports in all processes together; SIGTERM ends all, and nothing is written."""
    words = (str(written(tmp_path)), *CLASSES, "--encoding", "bins", "--epochs", "100000", "--patience", "100000")
    process = started((*TRAIN, *words, "--processes", "2", "--models", str(tmp_path / "m")))
    checkpoint = tmp_path / "m" / "t" / ".checkpoint.safetensors"
    while not checkpoint.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(number)
    said, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    assert (tmp_path / "m" / "t" / "1").exists() == (code == 0)
    assert ("Stopping after this epoch" in said) == (code == 0)
    assert errors.splitlines() == (
        [] if code == 0 else ["batchproof-train: process 0 was ended by SIGTERM; no bundle was written."]
    )


@pytest.mark.parametrize(
    "words, sentence",
    [
        (("t.csv", "--target", "y", "--processes", "3"), "--processes is 3: use 1, 2, 4 or 8"),
        (("-", "--target", "y", "--processes", "2"), "several processes cannot read one standard input"),
    ],
)
def test_refused_before_a_process_starts(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], sentence: str
) -> None:
    """What cannot be is refused by the command itself."""
    assert main(words) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    "place, sentence",
    [
        ({"RANK": "x", "WORLD_SIZE": "2"}, "the environment variable RANK is 'x': it must be a whole number."),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is 2 in a run of 2 processes: it must be below WORLD_SIZE."),
        (
            {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "port"},
            "the environment variable MASTER_PORT is 'port': it must be a whole number.",
        ),
    ],
)
def test_a_wrong_place_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: dict[str, str],
    sentence: str,
) -> None:
    """What a launcher sets is checked, and the process says what is wrong whatever its number is."""
    table = written(tmp_path)
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    assert main([str(table), *CLASSES, "--models", str(tmp_path / "m")]) == 2
    assert capsys.readouterr().err == f"batchproof-train: {sentence}\n"
