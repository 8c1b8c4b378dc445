"""What the packages of OpenTelemetry log: caught, because it would stand as plain text among the lines of the log."""

import logging

HEADERS_LOGGER = "opentelemetry.util.re"  # reads the headers, which may hold a key, and logs what it cannot read
HEADERS = "A part of the OTLP headers is ignored: each must be NAME=VALUE, with a comma between them."


class Messages(logging.Handler):
    """Warnings of the packages, each once, from its making to `close`."""

    def __init__(self) -> None:
        """Begin to catch."""
        super().__init__(logging.WARNING)
        self._logger = logging.getLogger("opentelemetry")
        self._logger.addHandler(self)
        self._propagated, self._logger.propagate = self._logger.propagate, False
        self._caught: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the sentence, without a traceback."""
        self._caught[HEADERS if record.name == HEADERS_LOGGER else record.getMessage()] = None

    def take(self) -> list[str]:
        """Return the sentences since the last call."""
        caught, self._caught = list(self._caught), {}
        return caught

    def close(self) -> None:
        """Catch no more."""
        self._logger.removeHandler(self)
        self._logger.propagate = self._propagated
        super().close()
