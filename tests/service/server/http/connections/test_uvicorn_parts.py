"""The private parts of uvicorn that connections build on are checked at the start."""

import subprocess
import sys

import pytest

from batchproof.service.errors import SettingError
from batchproof.service.server.http.connections import uvicorn_parts
from batchproof.service.server.http.connections.uvicorn_parts import FlowControl


def test_installed_version_has_every_part() -> None:
    """The version that is installed passes."""
    uvicorn_parts.check()


@pytest.mark.parametrize("table", ["METHODS", "ATTRIBUTES"])
def test_version_without_a_part_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, table: str) -> None:
    """A version that lacks a part ends the start with one sentence that names the part and the version."""
    parts = getattr(uvicorn_parts, table)
    monkeypatch.setitem(parts, FlowControl, (*parts[FlowControl], "gone"))
    with pytest.raises(SettingError, match=r"^uvicorn [0-9.]+ has no FlowControl\.gone: install a version"):
        uvicorn_parts.check()


def test_uvicorn_is_whole_where_it_is_asked_for() -> None:
    """Its parts are imported without its command line, and all of it is there for whoever uses uvicorn in this process."""
    code = (
        "import sys; from batchproof.service.server.http.connections import uvicorn_parts as parts\n"
        "assert 'uvicorn.main' not in sys.modules\n"
        "import uvicorn; assert callable(uvicorn.run); assert uvicorn.Config is parts.Config; assert uvicorn.__version__"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
