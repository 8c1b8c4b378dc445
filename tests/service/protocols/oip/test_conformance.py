"""The live service against its own OpenAPI document, attacked by schemathesis."""

from pathlib import Path

from batchproof.service.tables.formats import IN_REQUESTS
from tests.attack import attack
from tests.bundles import make_bundle
from tests.live import live

# That a text is a table with the right columns no schema can say: tests/service/tables/test_fuzz.py generates tables.
# Nor can it say which type stands where in a list whose order `columns` gives: tests/service/server/web/test_pages.py generates those.
HOOK = """import schemathesis


@schemathesis.hook
def before_load_schema(context, schema):
    for methods in schema["paths"].values():
        for operation in methods.values():
            content = operation.get("requestBody", {{}}).get("content", {{}})
            for name in {tables}:
                content.pop(name, None)
            body = content.get("application/json", {{}}).get("schema", {{}})
            if body.get("properties", {{}}).pop("columns", None):
                del body["if"], body["then"]
                listed = body.pop("else")["properties"]["rows"]["items"]["anyOf"][1]
                body["properties"]["rows"]["items"]["anyOf"][1] = listed
"""


def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    """Whatever is generated from the document is answered as the document says, and nothing is a server error."""
    make_bundle(tmp_path / "models")
    (tmp_path / "no_tables.py").write_text(HOOK.format(tables=[one.media_type for one in IN_REQUESTS]))
    with live(tmp_path / "models") as server:
        # It holds an unknown header to be a fault, which HTTP ignores; tests/service/server/web/test_pages.py has the check for bodies.
        options = ("--exclude-checks", "negative_data_rejection")
        hooks = {"SCHEMATHESIS_HOOKS": "no_tables"}
        attack(server, "^/(predict|models|health)", tmp_path, *options, environment=hooks)
