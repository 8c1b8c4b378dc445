"""Where a bundle goes, and what is refused before anything slow is loaded."""

import subprocess
import sys
from pathlib import Path

import pytest

from batchproof.training.export.destination import bundle_path
from batchproof.training.settings import make

REFUSED = """\
import sys
from batchproof.training.__main__ import main
code = main(sys.argv[1:])
print(sorted({"scipy", "sklearn", "torch"} & set(sys.modules)))
sys.exit(code)
"""


def test_the_next_version_of_the_files_name(tmp_path: Path) -> None:
    """The name is the table's, less what no folder should have, and the version the one after the newest."""
    (tmp_path / "my-sales" / "3").mkdir(parents=True)
    place = bundle_path(Path("my sales.csv.gz"), make({"target": "y", "models": str(tmp_path)}))
    assert (place.name, place.version, place.journal) == ("my-sales", 4, tmp_path / "my-sales" / ".tuning.journal")


@pytest.mark.parametrize("command", [[], ["compare"]])
@pytest.mark.parametrize("target, sentence", [("z", "there is no such column"), ("one", "is 1 in every row")])
def test_a_fault_of_the_table_is_told_before_torch_loads(
    tmp_path: Path, command: list[str], target: str, sentence: str
) -> None:
    """An unknown target, or one with nothing to predict, waits for no library that only the fit needs."""
    table = tmp_path / "t.csv"
    table.write_text("x,one\n" + "".join(f"{row},1\n" for row in range(40)))
    given = [*command, str(table), "--target", target]
    ended = subprocess.run(
        [sys.executable, "-c", REFUSED, *given], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert ended.stdout == "[]\n"
