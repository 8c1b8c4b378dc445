"""The routes of other protocols against the OpenAPI document, attacked by schemathesis."""

from pathlib import Path

from tests.attack import attack
from tests.bundles import NUMBERS, make_bundle
from tests.live import live

# A schema of these routes says what is always so: that data fits a shape, or a row the signature, it cannot say. So a
# body that the schema takes may be refused, with a status and a shape that the document names.
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    """Whatever is generated is answered or refused as the document says, and nothing is a server error."""
    make_bundle(tmp_path / "models", inputs=NUMBERS)
    with live(tmp_path / "models") as server:
        attack(server, "^/(v1|v2|invocations|score)", tmp_path, "--checks", CHECKS)


def test_schemathesis_finds_nothing_where_callers_load_models(tmp_path: Path) -> None:
    """The model repository's routes do what the document says while what they load comes and goes."""
    make_bundle(tmp_path / "models", inputs=NUMBERS)
    with live(tmp_path / "models", "--model-control", "explicit") as server:
        attack(server, "^/v2/repository", tmp_path, "--checks", CHECKS)
