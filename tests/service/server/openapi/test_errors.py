"""The refusals that the OpenAPI document tells of."""

from pathlib import Path

from batchproof.service.bundle import reader as bundle
from batchproof.service.server.openapi import cloud as scoring_document
from batchproof.service.server.openapi import oip as oip_document
from tests.bundles import make_bundle


def test_every_protocol_tells_of_the_same_statuses(tmp_path: Path) -> None:
    """Infer and scoring routes are refused with the same statuses, those that all share in the same words."""
    manifest = bundle.read(make_bundle(tmp_path)).manifest
    infer = oip_document.paths_of(manifest, ["/infer"])["/infer"]["post"]["responses"]
    score = scoring_document.paths_of("azure", ["/score"])["/score"]["post"]["responses"]
    assert list(infer) == list(score) == ["200", "400", "413", "415", "429", "500", "503", "504"]
    shared = set(infer) - {"200", "400", "415"}
    assert {infer[status]["description"] == score[status]["description"] for status in shared} == {True}
    assert infer["429"]["content"]["application/json"]["schema"]["required"] == ["error"]
