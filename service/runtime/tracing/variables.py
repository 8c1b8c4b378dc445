"""The standard variables of OpenTelemetry that decide whether and how this service traces.

The exporter reads address, headers, timeout, compression and certificates itself, and the resource its attributes. What
is not valid is passed over with a sentence, as the specification asks: no variable of tracing prevents a start.
"""

import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from threading import TIMEOUT_MAX
from typing import NamedTuple, TypeAlias

from batchproof.installation import hint

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]  # names in lower case
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
HTTP = "http/protobuf"  # the default of the specification
EXPORTERS = {  # protocol -> the module of its exporter
    HTTP: "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "grpc": "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
}
LIMITS = (  # of the SDK: a count or a length; empty is without a limit
    "OTEL_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    "OTEL_SPAN_LINK_COUNT_LIMIT",
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
)
MOST_DIGITS = 18  # of a number: what fits 64 bits
SAMPLERS = ("always_on", "always_off", "traceidratio")


class Sampler(NamedTuple):
    """Which requests are traced."""

    share: float = 0.0  # of the requests that have no parent, or of all where the parent is not asked
    follows_parent: bool = True
    reads_parent: bool = True  # whether `traceparent` is read at all


class Tracing(NamedTuple):
    """How to trace."""

    sampler: Sampler = Sampler()
    exporter: str = EXPORTERS[HTTP]  # its module
    queue_spans: int = 2048  # the most that wait to be exported
    batch_spans: int = 512  # of one export
    delay_s: float = 5.0  # between two exports
    hidden: tuple[str, ...] = ()  # limits that are not valid, which the SDK must not see


def read(environment: Mapping[str, str] = os.environ) -> tuple[Tracing | None, list[str]]:
    """Return how to trace, None where nothing is traced, and a sentence for each variable that is passed over."""
    reading = _Reading(environment)
    return reading.tracing(), reading.problems


class _Reading:
    """One reading of the variables."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.problems: list[str] = []

    def tracing(self) -> Tracing | None:
        if not any(map(self._get, ENDPOINTS)) or self._get("OTEL_SDK_DISABLED").lower() == "true":
            return None
        exporter = self._exporter()
        if exporter is None:
            return None
        queue_spans = self._number("OTEL_BSP_MAX_QUEUE_SIZE", 2048)
        batch_spans = min(self._number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512), queue_spans)
        delay_s = min(self._number("OTEL_BSP_SCHEDULE_DELAY", 5000) / 1000, TIMEOUT_MAX)
        sampler = self._sampler()._replace(reads_parent=self._reads_parent())
        return Tracing(sampler, exporter, queue_spans, batch_spans, delay_s, self._wrong_limits())

    def _get(self, name: str) -> str:
        return self._environment.get(name, "").strip()

    def _list(self, name: str) -> list[str]:
        return [part.strip() for part in self._get(name).split(",") if part.strip()]

    def _exporter(self) -> str | None:
        """Return the module that exports, None where nothing is to be exported or can be."""
        wanted = self._list("OTEL_TRACES_EXPORTER") or ["otlp"]
        if "otlp" not in wanted:
            if wanted != ["none"]:
                self._refuse(f"OTEL_TRACES_EXPORTER is {wanted[0]!r}, and otlp is the only exporter.")
            return None
        protocol = next(filter(None, map(self._get, PROTOCOLS)), HTTP)
        module = EXPORTERS.get(protocol)
        if module is None:
            self._refuse(f"the OTLP protocol is {protocol!r}, and {' and '.join(EXPORTERS)} are supported.")
        elif not (_is_there("opentelemetry.sdk") and _is_there(module)):
            command = hint("tracing") + ("" if protocol == HTTP else " opentelemetry-exporter-otlp-proto-grpc")
            self._refuse(f"the packages that export by OTLP over {protocol} are not installed: {command}")
            return None
        return module

    def _refuse(self, why: str) -> None:
        self.problems.append(f"Nothing is traced: {why}")

    def _reads_parent(self) -> bool:
        propagators = self._list("OTEL_PROPAGATORS") or ["tracecontext"]
        if "tracecontext" in propagators:
            return True
        if propagators != ["none"]:
            self.problems.append("No caller's trace is joined: of OTEL_PROPAGATORS only tracecontext is supported.")
        return False

    def _sampler(self) -> Sampler:
        """Return the sampler that is named; by default only what a caller traces is traced."""
        name = self._get("OTEL_TRACES_SAMPLER").lower()
        kind = name.removeprefix("parentbased_")
        if kind not in SAMPLERS:
            if name:
                known = ", ".join([*SAMPLERS, *(f"parentbased_{one}" for one in SAMPLERS)])
                self.problems.append(f"OTEL_TRACES_SAMPLER {name!r} is ignored: supported are {known}.")
            return Sampler()
        share = {"always_on": 1.0, "always_off": 0.0}.get(kind)
        return Sampler(self._share() if share is None else share, follows_parent=kind != name)

    def _share(self) -> float:
        text = self._get("OTEL_TRACES_SAMPLER_ARG") or "1"
        try:
            share = float(text)
        except ValueError:
            share = -1.0
        if 0 <= share <= 1:
            return share
        self.problems.append(f"OTEL_TRACES_SAMPLER_ARG {text!r} is ignored: it must be a number from 0 to 1.")
        return 1.0

    def _wrong_limits(self) -> tuple[str, ...]:
        wrong = tuple(name for name in LIMITS if not _is_limit(self._get(name)))
        for name in wrong:
            text = self._get(name)
            self.problems.append(
                f"{name} {text!r} is ignored: it must be a whole number from 0, of {MOST_DIGITS} digits at most."
            )
        return wrong

    def _number(self, name: str, usual: int) -> int:
        text = self._get(name)
        if _is_number(text) and int(text) > 0:
            return int(text)
        if text:
            self.problems.append(f"{name} {text!r} is ignored: it must be a whole number above 0; {usual} is used.")
        return usual


def _is_limit(text: str) -> bool:
    return not text or _is_number(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
