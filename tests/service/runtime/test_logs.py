"""One line an event."""

import json
import logging

import pytest

from batchproof.service.runtime.logs import JsonLines, ReadableLines, event, log


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> list[logging.LogRecord]:
    """Catch what is logged."""
    caught: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = caught.append  # type: ignore[method-assign]
    monkeypatch.setattr(log, "handlers", [handler])
    monkeypatch.setattr(log, "level", logging.INFO)
    log.manager._clear_cache()
    return caught


def test_json_lines_are_objects(records: list[logging.LogRecord]) -> None:
    """Each line is one object with time, level, event and its fields."""
    event("model_refused", logging.WARNING, model="a", reason='two\nlines "quoted"')
    line = JsonLines().format(records[0])
    assert "\n" not in line
    found = json.loads(line)
    assert found.pop("time").endswith("Z")
    assert found == {"level": "warning", "event": "model_refused", "model": "a", "reason": 'two\nlines "quoted"'}


def test_readable_lines_are_one_line(records: list[logging.LogRecord]) -> None:
    """Values with spaces or newlines are quoted, so that an event stays one line."""
    event("x", model="a b", rows=3, reason="two\nlines")
    line = ReadableLines().format(records[0])
    assert line.endswith("info    x model='a b' rows=3 reason='two\\nlines'")
    assert "\n" not in line


def test_readable_lines_move_no_cursor(records: list[logging.LogRecord]) -> None:
    """A value with control characters, such as a name from a file, is escaped."""
    event("x", model="a\x1b[2Jb\u202e")
    assert ReadableLines().format(records[0]).endswith("x model='a\\x1b[2Jb\\u202e'")


def test_levels_below_the_least_cost_nothing(records: list[logging.LogRecord]) -> None:
    """An event below the level makes no record."""
    event("x", logging.DEBUG)
    assert records == []
