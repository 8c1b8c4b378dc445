"""Which requests are traced: the parent's word, samplers, and headers that are not valid."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from batchproof.service.runtime.tracing.context import Sampling, TraceContext, parent_of
from batchproof.service.runtime.tracing.variables import Sampler
from tests.otlp import PARENT_ID, SAMPLED, TRACE_ID, UNSAMPLED


def context_of(sampler: Sampler, *headers: tuple[str, str]) -> TraceContext | None:
    """Return the context of a request with these headers."""
    encoded = [(name.encode(), value.encode()) for name, value in headers]
    return Sampling(sampler).context_of(dict(encoded), encoded)


PIECES = st.sampled_from(
    ["00", "01", "ff", "cc", "-", "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "0", "Z"]
)


@given(st.one_of(st.lists(PIECES, max_size=9).map("".join), st.text(max_size=60), st.just(SAMPLED), st.just(UNSAMPLED)))
def test_a_header_is_read_as_the_standard_library_of_tracing_reads_it(header: str) -> None:
    """Each traceparent names the same parent, or none, as it does for OpenTelemetry's own propagator."""
    found = parent_of(header.encode("utf-8", "replace"))
    own = get_current_span(TraceContextTextMapPropagator().extract({"traceparent": header})).get_span_context()

    if "\n" in header or header != header.strip():  # no header of HTTP has these
        return
    assert (found is not None) == own.is_valid
    if found is not None:
        assert found == (own.trace_id, own.span_id, own.trace_flags.sampled)


@pytest.mark.parametrize(
    "sampler, header, is_traced, has_parent",
    [
        (Sampler(), None, False, False),
        (Sampler(), UNSAMPLED, False, False),
        (Sampler(), SAMPLED, True, True),
        (Sampler(), SAMPLED[:-1], False, False),
        (Sampler(), SAMPLED.upper(), False, False),
        (Sampler(1.0), None, True, False),
        (Sampler(1.0), UNSAMPLED, False, False),
        (Sampler(1.0), "broken", True, False),
        (Sampler(1.0, follows_parent=False), UNSAMPLED, True, True),
        (Sampler(0.0, follows_parent=False), SAMPLED, False, False),
        (Sampler(1.0, reads_parent=False), SAMPLED, True, False),
        (Sampler(0.0, reads_parent=False), SAMPLED, False, False),
    ],
)
def test_sampler_decides(sampler: Sampler, header: str | None, *, is_traced: bool, has_parent: bool) -> None:
    """The parent decides where it is followed, the share elsewhere; a parent that is read is kept."""
    context = context_of(sampler, *([] if header is None else [("traceparent", header)]))

    assert (context is not None) == is_traced
    if context is not None:
        assert (context.trace_id == int(TRACE_ID, 16)) == has_parent
        assert context.parent_id == (int(PARENT_ID, 16) if has_parent else 0)
        assert context.trace_id
        assert context.span_id


@given(st.integers(1, 2**128 - 1), st.sampled_from([0.0, 1e-6, 0.01, 0.5, 0.99, 1.0]))
def test_a_share_chooses_the_traces_that_every_service_chooses(trace_id: int, share: float) -> None:
    """By ratio, a trace is chosen as OpenTelemetry's own sampler chooses it, so that services agree."""
    header = f"00-{trace_id:032x}-{PARENT_ID}-00"
    chosen = context_of(Sampler(share, follows_parent=False), ("traceparent", header)) is not None

    assert chosen == TraceIdRatioBased(share).should_sample(None, trace_id, "").decision.is_sampled()


def test_two_parents_are_none() -> None:
    """Where the header is there twice, nobody knows which is right: the request has no parent."""
    sent = [("traceparent", SAMPLED), ("traceparent", SAMPLED.replace("b7", "c8"))]

    assert context_of(Sampler(), *sent) is None
    context = context_of(Sampler(1.0), *sent)
    assert context is not None
    assert context.parent_id == 0


@pytest.mark.parametrize(
    "states, kept",
    [((), ""), (("a=1",), "a=1"), (("a=1", "b=2"), "a=1,b=2"), (("a=" + "x" * 600,), ""), (("é=1",), "")],
)
def test_the_state_goes_with_the_parent(states: tuple[str, ...], kept: str) -> None:
    """Headers tracestate are joined; one that is too long, or not of ASCII, is dropped, and the parent stays."""
    context = context_of(Sampler(), ("traceparent", SAMPLED), *(("tracestate", state) for state in states))

    assert context is not None
    assert (context.state, f"{context.parent_id:016x}") == (kept, PARENT_ID)
