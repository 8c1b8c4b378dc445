"""What Arrow's threads are given: nothing of Python's, which may have ended when they let go of it."""

from pathlib import Path
from typing import Any

import pytest

from batchproof.training.data import table


@pytest.mark.parametrize("ending", ["", ",7"])
def test_arrows_threads_hold_nothing_of_pythons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    """A handler of rows would need the interpreter when a thread frees it: a command that ends then is aborted."""
    handlers: list[object] = []
    read_csv = table.csv.read_csv

    def watched(path: Path, **named: Any) -> Any:
        assert isinstance(path, Path)
        handlers.append(named["parse_options"].invalid_row_handler)
        return read_csv(path, **named)

    monkeypatch.setattr(table.csv, "read_csv", watched)
    path = tmp_path / "t.csv"
    path.write_text(f"a,b\n1,2{ending}\n")
    if ending:
        with pytest.raises(table.TableError, match=r"line 2 of .*t.csv has 3 cells, but there are 2 columns\.$"):
            table.read(path)
    else:
        table.read(path)
    assert handlers == [None]
