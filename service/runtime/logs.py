"""Structured logs: one event a line, readable or JSON, never a row's values."""

import json
import logging
import sys
import time
from typing import Any

import orjson

log = logging.getLogger("batchproof")
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class JsonLines(logging.Formatter):
    """{"time", "level", "event", ...fields}, one object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {"time": _utc(record), "level": record.levelname.lower(), "event": record.getMessage(), **fields(record)}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(line, default=str).decode()
        except TypeError:  # a text that UTF-8 cannot hold: the line is more important than its looks
            return json.dumps(line, default=str)


class ReadableLines(logging.Formatter):
    """2026-11-22T12:00:00.000Z info event field=value."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback follows on lines of its own."""
        named = "".join(f" {name}={_quoted(value)}" for name, value in fields(record).items())
        line = f"{_utc(record)} {record.levelname.lower():7} {record.getMessage()}{named}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return what was given as extra={"fields": {...}}."""
    return getattr(record, "fields", {})


def event(message: str, level: int = logging.INFO, /, **named: Any) -> None:
    """Log one event with its fields."""
    if log.isEnabledFor(level):
        log.log(level, message, extra={"fields": named})


def unforeseen(what: str, error: BaseException | None, **named: Any) -> None:
    """Log an error that nothing in this program foresees, with its traceback."""
    log.error("unforeseen_error", exc_info=error, extra={"fields": {"what": what, **named}})


def configure(log_format: str, level: str) -> None:
    """Send every event to stderr in one format; the web server's own warnings too."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if is_json(log_format) else ReadableLines())
    for name, least in (("batchproof", LEVELS[level]), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(least)
        logger.propagate = False


def is_json(log_format: str) -> bool:
    """Return whether lines of this format, which may be `auto`, are JSON."""
    return log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())


def _utc(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


def _quoted(value: Any) -> str:
    text = str(value)
    return repr(text) if not text or not text.isprintable() or any(sign in text for sign in ' "=') else text
