"""The routes of other protocols against the OpenAPI document, attacked by schemathesis."""

import subprocess
import sys
from pathlib import Path

from tests.bundles import NUMBERS, make_bundle
from tests.live import live

# A schema of these routes says what is always so: that data fits a shape, or a row the signature, it cannot say. So a
# body that the schema takes may be refused, with a status and a shape that the document names.
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    """Whatever is generated is answered or refused as the document says, and nothing is a server error."""
    make_bundle(tmp_path / "models", inputs=NUMBERS)
    with live(tmp_path / "models") as server:
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"]
        options = ["--checks", CHECKS, "--header", "X-Request-Timeout-S: 10", "--seed", "1", "--max-examples", "25"]
        scope = ["--phases", "examples,coverage,fuzzing", "--include-path-regex", "^/(v1|v2|invocations|score)"]
        ended = subprocess.run(
            [*command, *options, *scope, "--no-color"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert ended.returncode == 0, ended.stdout + ended.stderr
