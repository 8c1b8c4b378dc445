"""Warnings on a table: what its owner learns before a bundle is used, and with which flag it is settled."""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from batchproof.training.data.dataset import Dataset, prepare
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.settings import SettingError, Settings, make

ROWS = 120


def data(tmp_path: Path, cells: list[str], name: str = "c", **given: Any) -> Dataset:
    """Prepare a table with these cells, repeated, beside a plain column."""
    rows = [f"{cells[row % len(cells)]},{row * 0.5},{row % 7 + row / 100}" for row in range(ROWS)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join([f"{name},x,y", *rows]) + "\n")
    return prepare(path, make({"target": "y", "rare_rows": 1, **given}))


SETTLED = [
    ([str(row) for row in range(40)] + ["12 EUR"], "--missing '12 EUR'"),
    ([str(row) for row in range(40)] + ["abc"], "--missing abc"),
    (['"1,234"', '"5,678"'], "--thousands , or --decimal ,"),
    (["950 sqft", '"11,275.5 sqft"'], "--text c"),
    (["01/02/2020", "03/04/2020"], "--date-format 'c=%m/%d/%Y'|--date-format c=%m/%d/%Y"),
    (["Mar-18", "Jul-19"], "--date-format c=%b-%y"),
    ([f"2020-01-{day + 1:02}" for day in range(28)] + ["soon"], "--missing soon"),
    (["007", "011", "12"], "--categorical c"),
    (["$1", "$2.5"], "--text c"),
    (["1", "2", "unknown"], "--text c"),
    ([*map(str, range(1, 40)), "-999"], "--missing c=-999"),
    (["inf", "1.5", "2"], "leave such cells empty"),
    (["a", " a", "b"], "--strip"),
    ([f"id{row}" for row in range(ROWS)], "--keep c"),
    ([str(row) for row in range(ROWS)], "--keep c"),
    ([str(row) for row in range(40)] + ["12a", "12b"], "'12a' and 1 more are not"),
    ([str(row) for row in range(40)] + ["6.2\x1a"], "is not, .*; correct it, or leave such cells empty"),
    ([str(row) for row in range(40)] + ["1 " + "x" * 50], "is not, .*; correct it, or leave such cells empty"),
    ([f"{1960 + row // 4}Q{row % 4 + 1}" for row in range(ROWS)], "--keep c keeps it, write quarters as dates"),
    ([f"{2000 + row // 50}-W{row % 50 + 1:02}" for row in range(ROWS)], "--keep c keeps it, write weeks as dates"),
    ([f"{row % 12 + 1}/{row // 12 + 60}" for row in range(ROWS)], "--keep c keeps it, write months as dates"),
    ([f"0 days 0:{row // 60:02}:{row % 60:02}" for row in range(ROWS)], "--keep c keeps it, write times and durations"),
]


@pytest.mark.parametrize("cells, flag", SETTLED, ids=lambda value: str(value)[:30])
def test_what_is_not_certain_is_named_with_its_flag(tmp_path: Path, cells: list[str], flag: str) -> None:
    """A column that is read by a rule, nearly is numbers or dates, or is left out, has one warning with what to do."""
    warnings = data(tmp_path, cells).warnings
    assert any(re.search(flag.replace("%", "%"), line) for line in warnings), warnings
    assert all(line.startswith("column 'c'") and line.endswith(".") for line in warnings)


@pytest.mark.parametrize(
    "cells", [["1", "2.5"], ["a", "b"], ["2020-01-01", "2020-02-03"], ["true", "false"], ["NA", "3"]]
)
def test_plain_columns_have_no_warning(tmp_path: Path, cells: list[str]) -> None:
    """What is read as it is written is not worth a word."""
    assert data(tmp_path, cells).warnings == ()


def test_spans_of_numbers_are_not_telephone_numbers(tmp_path: Path) -> None:
    """Two numbers with a dash, the second greater, are years or incomes; numbers with more parts are not."""
    assert data(tmp_path, ["2003-2004", "2009-2010", "10000 - 19999"]).warnings == ()
    (line,) = data(tmp_path, ["555-123-4567", "555-987-6543", "+49 170 1234567"]).warnings
    assert "look like telephone numbers" in line


def test_a_column_of_rare_categories_is_named(tmp_path: Path) -> None:
    """A column whose categories are all rarer than the setting says is left out with a warning that names the flag."""
    (line,) = data(tmp_path, [f"w{row % 60}" for row in range(ROWS)], rare_rows=5).warnings
    assert line == (
        "column 'c' is left out: no category occurs in 5 training rows, the most frequent one in 2; "
        "--rare-rows sets how many rows a category needs."
    )


def test_a_table_of_columns_without_names_says_so(tmp_path: Path) -> None:
    """If nothing is left but columns without a name, the refusal says that they have none."""
    path = tmp_path / "t.csv"
    path.write_text(",y\n" + "".join(f"{row % 9},{row * 0.5}\n" for row in range(ROWS)))
    with pytest.raises(TableError, match=r"every column was dropped: .* Column '': it has no name"):
        prepare(path, Settings(target="y"))


@pytest.mark.parametrize(
    ("name", "head", "wanted"),
    [
        ("t.csv", "a b y", "commas, semicolons, tabs or bars"),
        ("t.csv", "a:b:y", "commas, semicolons, tabs or bars"),
        ("t.tsv", "a,b,y", "tabs"),
    ],
)
def test_an_unknown_separator_is_named(tmp_path: Path, name: str, head: str, wanted: str) -> None:
    """A header that seems to have one name is refused with the separators that there may be."""
    path = tmp_path / name
    path.write_text(head + "\n1 2 3\n")
    with pytest.raises(TableError, match=rf"has one column, '{head}': column names must be separated by {wanted}"):
        prepare(path, Settings(target="y"))


PERSONAL = [
    (
        "passenger",
        [f'"{last}, Mr. {first}"' for last in ("Braun", "Allen", "Moran") for first in ("John", "James", "Ove")],
    ),
    ("who", ["Anna Schmidt", "Peter Meier", "Maria Rossi", "Juan Perez"]),
    ("contact", ["anna@example.org", "peter@example.org", "m.rossi@example.org"]),
    ("customerId", ["K1", "K2", "K3"]),
    ("user_name", ["x1", "x2", "x3"]),
]


@pytest.mark.parametrize("name, cells", PERSONAL, ids=[name for name, _ in PERSONAL])
def test_persons_are_not_published_without_a_word(tmp_path: Path, name: str, cells: list[str]) -> None:
    """Categories that look like names, addresses or numbers of persons are named before they are published."""
    found = data(tmp_path, cells, name)
    (line,) = [line for line in found.warnings if "are published in the bundle" in line]
    assert line.endswith(f"--drop {name} keeps them out.")
    assert f"warning: {line}" in found.lines()


@pytest.mark.parametrize(
    "cells", [["New York", "San Francisco", "Los Angeles"], ["Adelie", "Gentoo", "Chinstrap"], ["GBR", "FRA", "DEU"]]
)
def test_other_names_are_not_persons(tmp_path: Path, cells: list[str]) -> None:
    """Cities, species and codes are no persons."""
    assert data(tmp_path, cells).warnings == ()


def test_several_columns_in_one_flag(tmp_path: Path) -> None:
    """`--drop a,b` and a repeated flag both mean two columns; a name that holds a comma stays whole."""
    path = tmp_path / "t.csv"
    path.write_text(
        'a,b,"c,d",x,y\n' + "".join(f"{row},{row % 3},{row % 5},{row * 0.5},{row % 7}.5\n" for row in range(ROWS))
    )
    for drop in (("a,b",), ("a", "b"), ("a, b",)):
        found = prepare(path, make({"target": "y", "drop": drop}))
        assert [feature.name for feature in found.signature.inputs] == ["c,d", "x"]
        assert set(found.signature.ignored) == {"a", "b"}
    found = prepare(path, make({"target": "y", "drop": ("c,d",)}))
    assert found.signature.ignored == ("a", "c,d")  # a counts the rows
    with pytest.raises(SettingError, match="column 'b' is named in both --numeric and --drop"):
        prepare(path, make({"target": "y", "drop": ("a,b",), "numeric": ("b,x",)}))
    with pytest.raises(TableError, match="--drop names 'bb', but there is no such column: did you mean 'b'"):
        prepare(path, make({"target": "y", "drop": ("a,bb",)}))


def test_empty_columns_are_refused_at_once(tmp_path: Path) -> None:
    """Columns without a value are named together, in one flag that leaves them out."""
    path = tmp_path / "t.csv"
    path.write_text("a,e 1,f,y\n" + "".join(f"{row * 0.5},,NA,{row % 7}.5\n" for row in range(ROWS)))
    with pytest.raises(
        TableError, match=r"columns 'e 1', 'f' have no value in any row: leave them out with --drop 'e 1,f'\."
    ):
        prepare(path, Settings(target="y"))
    assert len(prepare(path, make({"target": "y", "drop": ("e 1,f",)})).signature.inputs) == 1


def test_many_columns_are_a_summary(tmp_path: Path) -> None:
    """A table of 800 columns prints a line a kind and not one a column."""
    path = tmp_path / "t.csv"
    names = [f"c{column}" for column in range(800)]
    rows = [
        ",".join(["1" if column % 8 == 0 else str((row * row + column) % 809) for column in range(800)])
        for row in range(40)
    ]
    path.write_text(
        ",".join([*names, "y"]) + "\n" + "".join(f"{cells},{row % 7}.5\n" for row, cells in enumerate(rows))
    )
    lines = prepare(path, Settings(target="y")).lines()[3:]

    assert lines[0].startswith("  700 numeric: c1, c2, c3, c4, c5, c6, c7, c9, c10, c11, and 690 more")
    assert lines[1].startswith("  100 dropped, constant: c0, c8, ")
    assert len(lines) == 2


@pytest.mark.parametrize("cells, word", [(["None", "one", "two"], "None"), (["NA", "EU", "US"], "NA")])
def test_a_class_that_reads_as_missing_is_named(tmp_path: Path, cells: list[str], word: str) -> None:
    """A class that is spelled like a missing value is named with its line and the flag that keeps it."""
    path = tmp_path / "t.csv"
    path.write_text("x,y\n" + "".join(f"{row * 0.5},{cells[row % 3]}\n" for row in range(ROWS)))
    with pytest.raises(TableError) as refused:
        prepare(path, Settings(target="y"))
    assert f"has no value in 40 rows, the first is line 2, where {word!r} reads as a missing value: --text y" in str(
        refused.value
    )
    assert prepare(path, make({"target": "y", "text": ("y",)})).target.classes == tuple(sorted(cells))


def test_a_date_is_no_target(tmp_path: Path) -> None:
    """A date cannot be predicted: the sentence says what can."""
    path = tmp_path / "t.csv"
    path.write_text("x,y\n" + "".join(f"{row * 0.5},2020-01-{row % 28 + 1:02}\n" for row in range(ROWS)))
    with pytest.raises(TableError, match="the target 'y' is a date, which cannot be predicted: make it a number"):
        prepare(path, Settings(target="y"))


@pytest.mark.parametrize(
    "given, sentence",
    [
        ({"decimal": ";"}, "--decimal is ';': use . or ,"),
        ({"thousands": "x"}, "--thousands is 'x': use one of"),
        ({"thousands": "."}, "--thousands and --decimal are both '.': they must differ."),
        ({"date_format": ("%d/%m",)}, "--date-format: the date format '%d/%m' has no year: use %Y or %y."),
        ({"date_format": ("%Y" + "-" * 99,)}, "--date-format: it must be a string of length <= 100."),
        ({"missing": ("c=" + "x" * 1001,)}, "--missing: it must be a string of length <= 1000."),
        ({"text": ("c",), "date": ("c",)}, "column 'c' is named in both --date and --text: choose one."),
        ({"numeric": ("c",)}, "column 'c' holds 'a', which is not a finite number, but --numeric asks for one"),
        ({"date": ("c",)}, "column 'c' holds 'a', which is not an ISO 8601 date"),
    ],
)
def test_flags_that_cannot_be_used(tmp_path: Path, given: dict[str, Any], sentence: str) -> None:
    """A sign, a format or a flag that makes no sense is refused in one sentence."""
    with pytest.raises((SettingError, TableError)) as refused:
        data(tmp_path, ["a", "b"], **given)
    assert sentence in str(refused.value)


def test_the_targets_texts_are_named_too(tmp_path: Path) -> None:
    """A target that is read by a rule has its warning, and a word for nothing in it is named by its line."""
    path = tmp_path / "t.csv"
    path.write_text("x,y\n" + "".join(f'{row % 7},"${row},000.50"\n' for row in range(1, ROWS)))
    found = prepare(path, Settings(target="y"))
    assert found.target.y[:2].tolist() == [1000.5, 2000.5]
    assert found.warnings[0].startswith(
        "the target 'y': its values are numbers, read without $, with ',' between thousands"
    )
    path.write_text("x,y\n" + "".join(f"{row % 7},{'unknown' if row == 3 else row / 3}\n" for row in range(ROWS)))
    with pytest.raises(
        TableError, match="no finite value in line 5, where 'unknown' reads as a missing value: fill in"
    ):
        prepare(path, Settings(target="y"))


def test_a_table_without_a_feature_says_why(tmp_path: Path) -> None:
    """Where every column is dropped, the sentence has the reasons, and the flags that may save a column."""
    path = tmp_path / "t.csv"
    path.write_text("a,y\n" + "".join(f'"{1 + row % 9},{row:03}",{row * 0.5}\n' for row in range(ROWS)))
    with pytest.raises(TableError) as refused:
        prepare(path, Settings(target="y"))
    assert "every column was dropped: name one in --keep to keep it. Column 'a': like an identifier" in str(
        refused.value
    )
    assert "Column 'a': its values are numbers with a separator" in str(refused.value)
    assert "--thousands , or --decimal , says which." in str(refused.value)


def named(folder: Path, names: list[str], suffix: str) -> Dataset:
    """Prepare a table of numbers whose columns have these names."""
    table = {"y": [row % 7 + row / 100 for row in range(ROWS)]}
    arrays = [[row * 0.5 + place for row in range(ROWS)] for place in range(len(names))]
    arrow = pa.table([*arrays, table["y"]], names=[*names, "y"])
    path = folder / f"t{suffix}"
    if suffix == ".csv":
        csv.write_csv(arrow, path)
    else:
        parquet.write_table(arrow, path)
    return prepare(path, Settings(target="y"))


NO_NAME = "the column without a name is left out: give it a name in the header to use it."


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("name", ["", " ", "\t", "\xa0", "\u3000"])
def test_no_column_is_left_out_in_silence_for_its_name(tmp_path: Path, name: str, suffix: str) -> None:
    """A name of blanks is used, or the column that is left out for it is named in a warning."""
    found = named(tmp_path, ["a", name], suffix)
    used = [feature.name for feature in found.signature.inputs]
    assert len(found.warnings) == 1
    assert found.warnings[0] == (NO_NAME if used == ["a"] else BLANK.format(name))


BLANK = "column {!r}: nothing of its name can be seen, and callers must send it: rename it."


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    "names, warning",
    [
        (["a", "\u200b"], BLANK.format("\u200b")),
        (["b\x00c"], "column 'b\\x00c': its name has signs that are not printed, and callers must send them."),
        (["b\nc"], "column 'b\\nc': its name has signs that are not printed, and callers must send them."),
        (["\xe9", "e\u0301"], "columns '\xe9' and 'e\u0301' look alike: callers must send each name exactly so."),
        (["a", "a\u200b"], "columns 'a' and 'a\\u200b' look alike: callers must send each name exactly so."),
        (["a", "A", "b c", "Ærø"], None),
    ],
)
def test_names_that_mislead_are_told(tmp_path: Path, names: list[str], warning: str | None, suffix: str) -> None:
    """Names that cannot be seen, or look like one another, are used and have a warning."""
    found = named(tmp_path, names, suffix)
    assert [feature.name for feature in found.signature.inputs] == names
    assert found.warnings == (() if warning is None else (warning,))


@pytest.mark.parametrize(
    "names, sentence", [(["a", " a"], "2 columns named 'a'"), (["", " "], "2 columns without a name")]
)
def test_names_that_are_equal_without_blanks_are_refused(tmp_path: Path, names: list[str], sentence: str) -> None:
    """Blanks around a name in a text are no part of it, so two columns may not differ by them alone."""
    with pytest.raises(TableError, match=sentence):
        named(tmp_path, names, ".csv")
