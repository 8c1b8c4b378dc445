"""The standard variables of OpenTelemetry: what they ask for, and what is said of those that are not valid."""

import re
import threading
from importlib.util import find_spec

import pytest

from batchproof.service.runtime.tracing import variables
from batchproof.service.runtime.tracing.variables import Sampler, Tracing, read

WRONG_LIMITS = [(text, False) for text in ("abc", "-1", "1.5", "1e3", "9" * 30, "9" * 5000, "\u0663")]
HERE = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_SERVICE_NAME": "mine", "OTEL_TRACES_SAMPLER": "always_on"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        {**HERE, "OTEL_SDK_DISABLED": "True"},
        {**HERE, "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_nothing_is_traced_without_being_asked_for(environment: dict[str, str]) -> None:
    """Without an address, or where tracing is switched off, nothing is traced and nothing is said."""
    assert read(environment) == (None, [])


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_an_address_is_enough(name: str) -> None:
    """With an address alone, what callers trace is traced, with the defaults of the specification."""
    expected = Tracing(
        Sampler(0.0, follows_parent=True, reads_parent=True), variables.EXPORTERS["http/protobuf"], 2048, 512, 5.0
    )

    assert read({name: "http://localhost:4318"}) == (expected, [])


@pytest.mark.parametrize(
    "more, sampler",
    [
        ({}, Sampler()),
        ({"OTEL_TRACES_SAMPLER": "always_on"}, Sampler(1.0, follows_parent=False)),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, Sampler(0.0, follows_parent=False)),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"},
            Sampler(0.25, follows_parent=False),
        ),
        ({"OTEL_TRACES_SAMPLER": "traceidratio"}, Sampler(1.0, follows_parent=False)),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_on"}, Sampler(1.0)),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off", "OTEL_TRACES_SAMPLER_ARG": "1"}, Sampler(0.0)),
        ({"OTEL_TRACES_SAMPLER": "PARENTBASED_TRACEIDRATIO", "OTEL_TRACES_SAMPLER_ARG": "1e-3"}, Sampler(0.001)),
        ({"OTEL_PROPAGATORS": "none"}, Sampler(reads_parent=False)),
        ({"OTEL_PROPAGATORS": "baggage, tracecontext"}, Sampler()),
    ],
)
def test_samplers_and_propagators(more: dict[str, str], sampler: Sampler) -> None:
    """Each sampler that the specification names for everybody means here what it means there."""
    tracing, problems = read({**HERE, **more})

    assert tracing is not None
    assert (tracing.sampler, problems) == (sampler, [])


@pytest.mark.parametrize(
    "more, is_traced, sentence",
    [
        (
            {"OTEL_TRACES_SAMPLER": "jaeger_remote"},
            True,
            r"'jaeger_remote' is ignored: supported are always_on, .*ratio\.",
        ),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"},
            True,
            r"'2' is ignored: .* from 0 to 1\.",
        ),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "nan"}, True, r"'nan' is ignored"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "-1"}, True, r"OTEL_BSP_MAX_QUEUE_SIZE '-1' is ignored: .* 2048 is used\."),
        ({"OTEL_BSP_SCHEDULE_DELAY": "5s"}, True, r"OTEL_BSP_SCHEDULE_DELAY '5s' is ignored: .* 5000 is used\."),
        ({"OTEL_PROPAGATORS": "b3"}, True, r"only tracecontext is supported\."),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, False, r"Nothing is traced: .*'zipkin', and otlp is the only exporter\."),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            False,
            r"Nothing is traced: .*'http/json', and http/protobuf and grpc",
        ),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"},
            False,
            r"over grpc are not installed: pip install .*-proto-grpc$",
        ),
    ],
)
def test_what_is_not_valid_is_passed_over_with_a_sentence(
    more: dict[str, str], sentence: str, *, is_traced: bool
) -> None:
    """No variable prevents a start: there is one sentence with its name or value and what is done instead."""
    tracing, problems = read({**HERE, **more})

    assert (tracing is not None) == is_traced
    assert len(problems) == 1
    assert re.search(sentence, problems[0])


@pytest.mark.parametrize("name", variables.LIMITS)
@pytest.mark.parametrize("text, is_valid", [("", True), ("0", True), (" 7 ", True), *WRONG_LIMITS])
def test_a_limit_that_is_not_valid_is_hidden_from_the_sdk(name: str, text: str, *, is_valid: bool) -> None:
    """The SDK must not see a limit that it would raise of, now or at a span; there is one sentence with its name."""
    tracing, problems = read({**HERE, name: text})

    assert tracing is not None
    assert tracing.hidden == (() if is_valid else (name,))
    wanted = f"{name} {text!r} is ignored: it must be a whole number from 0, of 18 digits at most."
    assert problems == ([] if is_valid else [wanted])


def test_without_the_packages_there_is_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an address and without the extra, nothing is traced, and the sentence has the command that brings it."""
    assert find_spec("opentelemetry.sdk"), "the tests have it"
    monkeypatch.setattr(variables, "find_spec", lambda _: None)
    tracing, problems = read(HERE)

    assert tracing is None
    assert len(problems) == 1
    assert re.fullmatch(
        r"Nothing is traced: .* not installed: pip install '.*-proto-http>=\S+' 'opentelemetry-sdk>=\S+'", problems[0]
    )


@pytest.mark.parametrize(
    "name", ["OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "OTEL_BSP_SCHEDULE_DELAY"]
)
@pytest.mark.parametrize("digits", [18, 19, 30, 5000])
def test_numbers_of_any_length_are_read(name: str, digits: int) -> None:
    """A number is used as far as a thread can wait so long, or passed over with a sentence; no length raises."""
    tracing, problems = read({**HERE, name: "9" * digits})

    assert tracing is not None
    assert len(problems) == (digits > 18)
    assert tracing.delay_s <= threading.TIMEOUT_MAX


def test_a_batch_fits_the_queue() -> None:
    """One export takes no more spans than may wait."""
    tracing, _ = read({**HERE, "OTEL_BSP_MAX_QUEUE_SIZE": "100", "OTEL_BSP_SCHEDULE_DELAY": "250"})

    assert tracing is not None
    assert (tracing.queue_spans, tracing.batch_spans, tracing.delay_s) == (100, 100, 0.25)
