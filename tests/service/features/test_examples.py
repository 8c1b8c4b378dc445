"""Example rows: what people are shown can be sent, and holds no value that was made up to test the service."""

import json

from batchproof.service.features import examples as samples
from batchproof.service.features.row_encoder import Encoder
from tests.bundles import INPUTS, signature_of

TYPICAL = {"island": "Ærø", "grade": 2}
SIGNATURE = signature_of(inputs=[{**one, "typical": TYPICAL.get(str(one["name"]))} for one in INPUTS])
STRANGE = [41.5, "nowhere", 3, "2020-01-01", True, 77, False]
GAPS = [None, "Oslo", 3, None, True, 1, None]


def test_an_unseen_category_is_not_shown() -> None:
    """The category that no training row had gives way to the commonest; whatever training saw stays."""
    assert samples.rows(SIGNATURE, [GAPS, STRANGE]) == [[41.5, "Ærø", 3, "2020-01-01", True, 2, False]]


def test_the_fullest_rows_come_first() -> None:
    """Rows with gaps are shown only where there are no others; null stays null."""
    assert samples.rows(SIGNATURE, [GAPS, STRANGE], most=2)[1] == GAPS
    assert samples.rows(SIGNATURE, [GAPS, STRANGE], most=5)[2:] == []


def test_names_are_the_signatures() -> None:
    """A row by name has every feature, in the order of the signature."""
    assert list(samples.named(SIGNATURE, GAPS).items())[1] == ("island", "Oslo")
    assert list(samples.named(SIGNATURE, GAPS)) == [feature.name for feature in SIGNATURE.inputs]


def test_a_brief_example_is_taken_by_the_model() -> None:
    """A brief example shows the first features, says that there are more, and is a body that works where there are not."""
    assert samples.brief(SIGNATURE) == '{"rows": [{"length_mm": 1, "island": "Ærø", ...}]}'
    for one in INPUTS:
        signature = signature_of(inputs=[one])
        assert not Encoder(signature).encode_rows(json.loads(samples.brief(signature))["rows"]).errors
