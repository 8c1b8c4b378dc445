"""Settings: from files and flags, typed, bounded, and refused in one sentence."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from batchproof.training.cli.arguments import read_file
from batchproof.training.fit.selection import candidates as plan
from batchproof.training.option_groups import GROUPS, LIMITS, spoken
from batchproof.training.settings import (
    ENCODINGS,
    SettingError,
    Settings,
    make,
    type_name,
)


def test_every_setting_has_its_help() -> None:
    """Each setting says what it does, in a group of the help; each limit is of a setting."""
    for entry in fields(Settings):
        assert entry.metadata["help"], entry.name
        assert entry.metadata["group"] in GROUPS
    assert set(LIMITS) <= {entry.name for entry in fields(Settings)}


def test_every_encoding_is_planned() -> None:
    """The encodings that may be asked for are those that batchproof.training.fit.selection.candidates knows."""
    assert tuple(plan.ENCODINGS) == ENCODINGS


def test_every_type_has_words() -> None:
    """A value of a wrong type is refused in words, whichever setting it is of."""
    assert all(spoken(type_name(entry.name)) for entry in fields(Settings))


def test_file(tmp_path: Path) -> None:
    """A TOML file names settings as the flags do, or with underscores."""
    path = tmp_path / "s.toml"
    path.write_text('target = "y"\nrare-rows = 9\nwidths = [32, 16]\nlearning_rate = 1\ndrop = ["a"]\naffine = false\n')
    found = make(read_file(path))
    assert (found.rare_rows, found.widths, found.learning_rate, found.drop) == (9, (32, 16), 1.0, ("a",))
    assert not found.affine


@pytest.mark.parametrize(
    "content, sentence",
    [
        (b"target = ", r"is not TOML: "),
        (b"target = '\xff'", r"is not TOML: "),
        (b"tagret = 'y'", r"has an unknown setting 'tagret'. Did you mean 'target'\?"),
    ],
)
def test_file_refusals(tmp_path: Path, content: bytes, sentence: str) -> None:
    """A settings file that cannot be used is refused by name."""
    path = tmp_path / "s.toml"
    path.write_bytes(content)
    with pytest.raises(SettingError, match=sentence):
        read_file(path)


def test_no_file(tmp_path: Path) -> None:
    """A settings file that is not there is refused."""
    with pytest.raises(SettingError, match="cannot be read: No such file"):
        read_file(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    "given, sentence",
    [
        ({}, "no target: name the column to predict with --target COLUMN."),
        ({"target": 3}, "--target is 3: it must be text."),
        ({"seed": "1"}, "--seed is '1': it must be a whole number such as 10."),
        ({"seed": True}, "--seed is True: it must be a whole number such as 10."),
        ({"dropout": 2.0}, "--dropout is 2.0: it must be between 0.0 and 0.95."),
        ({"dropout": float("nan")}, "--dropout is nan: it must be between"),
        ({"widths": [0]}, "--widths is 0: each number must be between 1 and 65536."),
        ({"widths": ["a"]}, r"--widths is \['a'\]: it must be a list of whole numbers such as \[256, 256\]."),
        ({"drop": "a"}, r"--drop is 'a': it must be a list of column names such as"),
        ({"encoding": "foo"}, "--encoding is 'foo': use one of plain, bins, quantile, tree, waves."),
        ({"task": "multi"}, "--task is 'multi': use one of binary, multiclass, regression."),
        ({"validation_share": 0.6, "test_share": 0.5}, "leave no training rows"),
        ({"numeric": ("a",), "date": ("a",)}, "column 'a' is named in both --numeric and --date: choose one."),
        ({"drop": ("y",)}, "column 'y' is the target and cannot be dropped."),
        (
            {"threshold": "best"},
            "--threshold is 'best': use f1, balanced_accuracy, cost=FP:FN, such as cost=1:20, or a",
        ),
        ({"threshold": "1.0"}, "--threshold is '1.0': use f1, "),
        ({"threshold": "nan"}, "--threshold is 'nan': use f1, "),
        ({"threshold": "cost=1"}, "--threshold is 'cost=1': use f1, "),
        ({"threshold": "cost=0:1"}, "--threshold is 'cost=0:1': both costs must be numbers above 0"),
        ({"threshold": "cost=1:x"}, "--threshold is 'cost=1:x': both costs must be numbers above 0"),
        ({"golden_rows": 31}, "--golden-rows is 31: it must be between 32 and 10000."),
    ],
)
def test_refusals(given: dict[str, Any], sentence: str) -> None:
    """A setting of a wrong type, out of bounds, or at odds with another is refused in one sentence."""
    with pytest.raises(SettingError, match=sentence):
        make({"target": "y", **given} if given else given)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"register": "a"}, "--register needs --mlflow"),
        ({"mlflow": "sqlite:///x", "alias": "a"}, "--alias needs --register"),
    ],
)
def test_the_registry_needs_an_address_and_a_name(values: dict[str, str], sentence: str) -> None:
    """A name without a registry, or an alias without a name, is refused before anything is read."""
    with pytest.raises(SettingError, match=sentence):
        make({"target": "y", **values})
