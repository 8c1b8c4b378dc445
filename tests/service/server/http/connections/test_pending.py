"""The body of a request that is not whole yet."""

from typing import Any

import pytest

from batchproof.service.server.http.connections.pending import MOST_PART_BYTES, MOST_PARTS, PendingRequest

NOTHING: Any = None  # in place of an endpoint and a head, which the body does without


@pytest.mark.parametrize("part_bytes", [1, 1000, 1 << 18, (1 << 20) + 1])
def test_a_body_is_joined_little_by_little(part_bytes: int) -> None:
    """Few parts and few bytes wait to be joined, since the event loop does it: a long body in one piece would take long."""
    turn = PendingRequest(NOTHING, NOTHING)
    parts = [bytes([number % 251]) * part_bytes for number in range(max(300, 5 * MOST_PART_BYTES // part_bytes) % 2000)]
    for part in parts:
        turn.size += len(part)
        turn.parts.append(part)
        turn.join_parts()
        assert len(turn.parts) <= MOST_PARTS
        assert sum(map(len, turn.parts)) <= MOST_PART_BYTES

    assert turn.whole_body() == b"".join(parts)
