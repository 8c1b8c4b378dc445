"""KServe: both of its protocols, the runtime's file, and the folder that it mounts."""

import json
import re
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton_grpc
import yaml

from tests.bundles import NUMBERS, make_bundle
from tests.http_client import ask
from tests.live import ROOT, free_port
from tests.platforms.hosted import hosted

VALUES = [[0.1, 0.2, 0.3, 0.4, 0.5]]
CSV = "f0,f1,f2,f3,f4\n0.1,0.2,0.3,0.4,0.5\n"


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


def test_the_runtime_serves_what_kserve_mounts_under_the_services_name(tmp_path: Path) -> None:
    """The arguments of deploy/kserve.yaml, with versions in a folder of any name: the service's name means its model."""
    runtime, service = yaml.safe_load_all((ROOT / "deploy" / "kserve.yaml").read_text())
    name, port, rpc_port = "my-service", free_port(), free_port()
    make_bundle(tmp_path, inputs=NUMBERS).parent.rename(tmp_path / "mnt")
    (tmp_path / "mnt" / "2").mkdir()
    known = {"/mnt/models": str(tmp_path / "mnt"), "8080": str(port), "{{.Name}}": name}
    command, *arguments = [known.get(argument, argument) for argument in runtime["spec"]["containers"][0]["args"]]
    assert command == "serve"
    assert service["spec"]["predictor"]["model"]["runtime"] == runtime["metadata"]["name"]
    formats = [one["name"] for one in runtime["spec"]["supportedModelFormats"]]
    assert service["spec"]["predictor"]["model"]["modelFormat"]["name"] in formats
    tensor = {"name": "features", "shape": [1, 5], "datatype": "FP64", "data": VALUES}
    with hosted(
        port, {}, f"/v2/models/{name}/ready", folder=tmp_path, flags=[*arguments, "--grpc-port", str(rpc_port)]
    ) as server:
        for asked in (name, "flowers"):
            one = ask(server, "POST", f"/v1/models/{asked}:predict", {"instances": VALUES})
            assert one.status == 200
            assert (
                ask(server, "POST", f"/v2/models/{asked}/infer", {"inputs": [tensor]}).content["model_name"]
                == "flowers"
            )
            assert ask(server, "POST", f"/models/{asked}/versions/1/predict", {"rows": VALUES}).status == 200
            table = ask(server, "POST", f"/models/{asked}/predict", CSV, Content_Type="text/csv")
            assert (table.status, table.headers["content-type"].partition(";")[0]) == (200, "text/csv")
            for page in (
                f"/models/{asked}",
                f"/v1/models/{asked}",
                f"/v2/models/{asked}",
                f"/v2/models/{asked}/versions/1/ready",
            ):
                assert ask(server, "GET", page).status == 200
            with triton_grpc.InferenceServerClient(f"127.0.0.1:{rpc_port}") as client:
                assert client.is_model_ready(asked)
                row = triton_grpc.InferInput("features", [1, 5], "FP64")
                row.set_data_from_numpy(np.array(VALUES))
                assert client.infer(asked, [row]).get_response().model_name == "flowers"
        assert ask(server, "POST", "/v1/models/other:predict", {"instances": VALUES}).status == 404


def test_the_runtimes_file_names_routes_that_exist(tmp_path: Path) -> None:
    """Every path in deploy/kserve.yaml answers."""
    paths = re.findall(r"path: (/[^\s,}]+)", (ROOT / "deploy" / "kserve.yaml").read_text())
    make_bundle(tmp_path / "models", inputs=NUMBERS)
    port = free_port()
    with hosted(port, {"BATCHPROOF_PORT": str(port)}, "/v2/health/live", folder=tmp_path) as server:
        for path in [path.strip('"') for path in paths] or ["/v2"]:
            assert ask(server, "GET", path).status == 200
        assert json.loads(ask(server, "GET", "/v2").body)["extensions"]
