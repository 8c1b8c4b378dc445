"""The refusals that the OpenAPI document lists."""

from pathlib import Path

from batchproof.service.bundle import reader
from batchproof.service.inference import model
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.server.openapi.cloud import cloud_paths
from batchproof.service.server.openapi.document import DESCRIBED
from batchproof.service.server.openapi.oip import oip_paths
from batchproof.service.server.serving import app
from tests.bundles import make_bundle


def test_every_protocol_lists_the_same_statuses(tmp_path: Path) -> None:
    """Infer and scoring routes are refused with the same statuses, and the shared ones in the same words."""
    served = model.load(reader.read(make_bundle(tmp_path)), EngineOptions(device="cpu"), 64)
    infer = oip_paths(served, ["/infer"])["/infer"]["post"]["responses"]
    score = cloud_paths("azure", served, ["/score"])["/score"]["post"]["responses"]
    assert list(infer) == list(score) == ["200", "400", "413", "415", "429", "500", "503", "504"]
    shared = set(infer) - {"200", "400", "415"}
    assert {infer[status]["description"] == score[status]["description"] for status in shared} == {True}
    assert infer["429"]["content"]["application/json"]["schema"]["required"] == ["error"]


def test_every_protocol_is_described() -> None:
    """The OpenAPI document knows the predict routes of every protocol that is served, and of no other."""
    assert set(DESCRIBED) == {protocol.name for protocol in app.PROTOCOLS}
