"""Joining, cutting, padding and splitting: whatever the sizes, each request gets its own rows back."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproof.service.features.arrays import Outputs
from batchproof.service.features.row_encoder import Encoder
from batchproof.service.inference.engine import Engine
from batchproof.service.inference.runner import Feeds, Runner, rows_of
from tests.bundles import network, random_rows, signature_of


class Echo:
    """A stand-in for the engine: returns what it gets, and remembers the size of each run."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def run(self, feeds: Feeds) -> Outputs:
        """Return the numbers doubled."""
        numeric, categorical = feeds
        assert numeric is not None
        self.sizes.append(len(numeric))
        return {"double": numeric * 2} | ({} if categorical is None else {"code": categorical})


def requests_of(sizes: Sequence[int], *, codes: bool = True) -> list[Feeds]:
    starts = np.cumsum([0, *sizes])
    return [
        (np.arange(2 * start, 2 * (start + size), dtype=np.float64).reshape(size, 2),
         np.arange(start, start + size).reshape(size, 1) if codes else None)
        for start, size in zip(starts, sizes, strict=False)
    ]  # fmt: skip


@pytest.mark.parametrize("codes", [True, False])
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=8),
    run_rows=st.integers(1, 12),
    tile_rows=st.none() | st.integers(1, 12),
)
def test_each_request_gets_its_rows(sizes: list[int], run_rows: int, tile_rows: int | None, *, codes: bool) -> None:
    """Rows come back to the request they came with, in order, for any sizes, run size and tile."""
    echo, requests = Echo(), requests_of(sizes, codes=codes)
    replies = Runner(echo, run_rows, tile_rows).run(requests)
    for (numeric, categorical), reply in zip(requests, replies, strict=True):
        assert numeric is not None
        np.testing.assert_array_equal(reply["double"], numeric * 2)
        if categorical is not None:
            np.testing.assert_array_equal(reply["code"], categorical)
    if tile_rows:
        assert set(echo.sizes) == {tile_rows}
    else:
        assert max(echo.sizes) <= run_rows
    assert len(echo.sizes) == max(1, -(-sum(sizes) // (tile_rows or run_rows)))


def test_padding_repeats_a_valid_row() -> None:
    """Rows added to fill a tile are copies of the first row: they cannot fail where it does not."""
    seen: list[Feeds] = []

    class Keep(Echo):
        def run(self, feeds: Feeds) -> Outputs:
            """Remember what came."""
            seen.append(feeds)
            return super().run(feeds)

    Runner(Keep(), 8, tile_rows=4).run([(np.array([[7.0, 8.0]]), np.array([[3]]))])
    numeric, categorical = seen[0]
    assert numeric is not None
    assert categorical is not None
    assert numeric.tolist() == [[7.0, 8.0]] * 4
    assert categorical.tolist() == [[3]] * 4


@pytest.mark.parametrize("run_rows, tile_rows", [(0, None), (5, 0)])
def test_sizes_are_at_least_one(run_rows: int, tile_rows: int | None) -> None:
    """A run of no row is a mistake of the caller."""
    with pytest.raises(ValueError, match="at least one row"):
        Runner(Echo(), run_rows, tile_rows)


@pytest.mark.parametrize("tile_rows", [None, 16])
def test_rows_of_a_model_do_not_depend_on_their_run(tile_rows: int | None) -> None:
    """The bits of a row are the same alone, joined with others, and cut into runs of another size."""
    rows = Encoder(signature_of()).encode_rows(random_rows(signature_of(), 33)).arrays
    engine = Engine(network().model("m").SerializeToString())
    assert rows.numeric is not None
    assert rows.categorical is not None
    alone = [(rows.numeric[k : k + 1], rows.categorical[k : k + 1]) for k in range(33)]
    (whole,) = Runner(engine, 64, tile_rows).run([rows])
    joined = Runner(engine, 7, tile_rows).run(alone)
    assert b"".join(reply["probabilities"].tobytes() for reply in joined) == whole["probabilities"].tobytes()


def test_a_request_without_arrays_is_no_request() -> None:
    """A request has rows because one of its inputs has an array; without any, the error says so."""
    with pytest.raises(ValueError, match="an array for at least one input"):
        rows_of([None, None])


@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=8), run_rows=st.integers(1, 12), tile=st.booleans())
def test_joined_arrays_are_those_of_all_requests(sizes: list[int], run_rows: int, *, tile: bool) -> None:
    """What a run gives beside the outputs of each request are the inputs and outputs of all of them, without padding."""
    requests = requests_of(sizes)
    ran = Runner(Echo(), run_rows, run_rows if tile else None).run(requests)
    for kind, joined in enumerate(ran.feeds):
        assert joined is not None
        assert np.array_equal(joined, np.concatenate([feeds[kind] for feeds in requests]))
    for name, joined in ran.outputs.items():
        assert np.array_equal(joined, np.concatenate([own[name] for own in ran]))
