"""The tracer is made, or not, whatever the variables say that only the packages of OpenTelemetry read."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from batchproof.service.runtime.tracing.context import TraceContext
from batchproof.service.runtime.tracing.exporting import SpanExport
from batchproof.service.runtime.tracing.messages import Messages
from batchproof.service.runtime.tracing.spans import Span
from batchproof.service.runtime.tracing.variables import LIMITS, Tracing

SECRET = "key-that-nobody-may-see"
OPEN = (
    "from batchproof.service.runtime.logs import configure; configure('json', 'info')\n"
    "from batchproof.service.runtime.tracing import tracer; tracer.report(); found = tracer.open_tracer()\n"
    "print(found is not None); found and found.close(1)"
)
EXPORTER = [f"OTEL_EXPORTER_OTLP_{traces}" for traces in ("", "TRACES_")]
FILES = ("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE")
TRACED = [  # a wrong value of which the SDK makes nothing, or its default
    *((name, text) for name in LIMITS for text in ("abc", "-1", "9" * 30)),
    *((name + "COMPRESSION", "zip") for name in EXPORTER),
    *((name + "TIMEOUT", "soon") for name in EXPORTER),
    *((name + "HEADERS", SECRET) for name in EXPORTER),
    ("OTEL_RESOURCE_ATTRIBUTES", "flowers"),
    ("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "nowhere"),
    ("OTEL_PYTHON_CONTEXT", "nowhere"),
    ("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "perhaps"),
]
QUIET = [  # a wrong value that shows at the first export, or is not read here
    *((name + file, "/nowhere.pem") for name in EXPORTER for file in FILES),
    *((name + "ENDPOINT", "http://[") for name in EXPORTER),
    ("OTEL_BSP_EXPORT_TIMEOUT", "soon"),
    ("OTEL_PYTHON_ID_GENERATOR", "nowhere"),
    ("OTEL_PYTHON_TRACER_CONFIGURATOR", "nowhere"),
    ("OTEL_PYTHON_TRACER_PROVIDER", "nowhere"),
]
UNTRACED = [  # a wrong value of which the SDK raises
    ("OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER", "nowhere"),
    ("OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER", "nowhere"),
    ("OTEL_PYTHON_METER_PROVIDER", "nowhere"),
]


def lines_of(name: str, text: str) -> tuple[bool, list[dict[str, Any]]]:
    """Open a tracer in a process of its own; returns whether there is one, and the lines of the log, all JSON."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", OPEN],
        capture_output=True,
        text=True,
        check=True,
        env={**clean, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", name: text},
    )
    assert SECRET not in done.stderr
    return done.stdout == "True\n", [json.loads(line) for line in done.stderr.splitlines()]


@pytest.mark.parametrize("name, text", TRACED)
def test_a_value_that_is_not_valid_is_passed_over_with_a_line(name: str, text: str) -> None:
    """Requests are traced, and the log has lines of one event, without plain text or a traceback."""
    is_traced, lines = lines_of(name, text)

    assert is_traced
    assert lines
    assert {line["event"] for line in lines} == {"tracing_ignored"}


@pytest.mark.parametrize("name, text", QUIET)
def test_what_only_an_export_shows_prevents_no_start(name: str, text: str) -> None:
    """Requests are traced, and nothing is said before an export fails."""
    assert lines_of(name, text) == (True, [])


@pytest.mark.parametrize("name, text", UNTRACED)
def test_where_the_sdk_raises_nothing_is_traced(name: str, text: str) -> None:
    """The service goes on without traces, and the last line says that and why."""
    is_traced, lines = lines_of(name, text)

    assert not is_traced
    assert {line["event"] for line in lines} == {"tracing_ignored"}
    assert lines[-1]["reason"].startswith("Nothing is traced: ")


class Exported(SpanExporter):
    """Keeps the names of the spans."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Take them."""
        self.names += [span.name for span in spans]
        return SpanExportResult.SUCCESS


class Recorded:
    """One span, or what the SDK cannot make one of."""

    span_count = 1

    def __init__(self, *, is_broken: bool) -> None:
        self.is_broken = is_broken

    def spans(self) -> Iterator[Span]:
        """Yield the span."""
        if self.is_broken:
            raise OverflowError("too large")
        yield Span("good", TraceContext(1, 2), 0.0, 1.0, {})


def test_a_span_that_cannot_be_made_is_counted_and_ends_nothing() -> None:
    """Spans that the SDK refuses count as failed, and the thread goes on with the next ones."""
    exported = Exported()
    export = SpanExport(Tracing(delay_s=0.01), Messages(), exported)
    for is_broken in (True, False, True, True, False):
        export.add(Recorded(is_broken=is_broken))
    export.close(10)
    assert export.counts() == {"exported": 2, "dropped": 0, "failed": 3}
    assert exported.names == ["good", "good"]
