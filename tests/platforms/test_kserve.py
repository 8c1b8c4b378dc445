"""KServe: both of its protocols, the runtime's file, and the folder that it mounts."""

import json
import re
from pathlib import Path

from tests.bundles import NUMBERS, make_bundle
from tests.http_client import ask
from tests.live import ROOT, free_port
from tests.platforms.hosted import hosted

VALUES = [[0.1, 0.2, 0.3, 0.4, 0.5]]


def test_both_protocols(tmp_path: Path) -> None:
    """Version 1 and version 2 answer for the model by its name, with the same numbers; readiness is each one's own."""
    make_bundle(tmp_path / "models", inputs=NUMBERS)
    port = free_port()
    environment = {"PORT": str(port), "CONTAINER": "batchproof"}
    with hosted(port, environment, "/v2/health/ready", folder=tmp_path) as server:
        one = ask(server, "POST", "/v1/models/flowers:predict", {"instances": VALUES}).content["predictions"][0]
        tensor = {"name": "features", "shape": [1, 5], "datatype": "FP64", "data": VALUES}
        two = ask(server, "POST", "/v2/models/flowers/infer", {"inputs": [tensor]}).content["outputs"]
        assert [output["data"] for output in two] == [[one["label"]], list(one["probabilities"].values())]
        assert ask(server, "GET", "/v1/models/flowers").content == {"name": "flowers", "ready": True}
        assert ask(server, "GET", "/v2/models/flowers/ready").content == {"name": "flowers", "ready": True}
        assert ask(server, "GET", "/v1/models").content == {"models": ["flowers"]}


def test_the_model_folder_may_be_one_bundle(tmp_path: Path) -> None:
    """KServe mounts what is at the storage address: a folder of models, of versions, or one bundle, is found alike."""
    bundle = make_bundle(tmp_path / "models", inputs=NUMBERS)
    for folder in (bundle, bundle.parent, bundle.parent.parent):
        port = free_port()
        environment = {"BATCHPROOF_MODELS": str(folder), "BATCHPROOF_PORT": str(port)}
        with hosted(port, environment, "/v2/models/flowers/ready", folder=tmp_path):
            pass


def test_the_runtimes_file_names_routes_that_exist(tmp_path: Path) -> None:
    """Every path in deploy/kserve.yaml answers."""
    paths = re.findall(r"path: (/[^\s,}]+)", (ROOT / "deploy" / "kserve.yaml").read_text())
    make_bundle(tmp_path / "models", inputs=NUMBERS)
    port = free_port()
    with hosted(port, {"BATCHPROOF_PORT": str(port)}, "/v2/health/live", folder=tmp_path) as server:
        for path in [path.strip('"') for path in paths] or ["/v2"]:
            assert ask(server, "GET", path).status == 200
        assert json.loads(ask(server, "GET", "/v2").body)["extensions"]
