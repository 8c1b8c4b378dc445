"""Triton's own client loads, unloads and lists models over HTTP and gRPC."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from tests.http_client import ask
from tests.live import Live, free_port, live
from tests.service.server.serving.test_authorization import write_keys
from tests.service.server.test_reload import ROW, put, until_ready, versions


class Served:
    """A service whose models callers may load, and a client of it."""

    def __init__(self, server: Live, models: Path, client: Any) -> None:
        self.server, self.models, self.client = server, models, client

    def index(self) -> set[tuple[str, str, str]]:
        """Return name, version and state of all that is known."""
        found = self.client.get_model_repository_index()
        if not isinstance(found, list):
            return {(one.name, one.version, one.state) for one in found.models}
        return {(one["name"], one["version"], one["state"]) for one in found}


@pytest.fixture(params=["http", "grpc"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    """Serve version 1 with two workers, for orders over HTTP or gRPC."""
    models, port = tmp_path / "models", free_port()
    put(models, 1)
    flags = ["--workers", "2", "--model-control", "explicit", "--grpc-port", str(port)]
    with live(models, *flags) as server:
        until_ready(server, "2")
        is_http = request.param == "http"
        address = f"127.0.0.1:{server.port if is_http else port}"
        client = (triton_http if is_http else triton_grpc).InferenceServerClient(address)
        yield Served(server, models, client)
        client.close()


def test_a_load_that_returns_is_served_everywhere(served: Served) -> None:
    """When load_model returns, the new version answers in all workers; before, nobody looked at the folder."""
    put(served.models, 2)
    assert versions(served.server) == {1}
    served.client.load_model("flowers")
    assert versions(served.server) == {2}
    served.client.load_model("flowers")
    assert served.client.is_model_ready("flowers", "2")
    assert served.index() == {("flowers", "2", "READY")}


def test_an_unload_that_returns_is_gone_everywhere(served: Served) -> None:
    """When unload_model returns, the model answers nowhere, and it stays away until it is loaded again."""
    put(served.models, 1, name="others")
    served.client.load_model("others")
    served.client.unload_model("flowers")
    answers = {ask(served.server, "POST", "/models/flowers/predict", {"rows": [ROW]}).status for _ in range(8)}
    assert answers == {404}
    assert versions(served.server, "/models/others/predict") == {1}
    assert served.index() == {("others", "1", "READY"), ("flowers", "1", "UNAVAILABLE")}
    served.client.load_model("flowers")
    assert versions(served.server, "/models/flowers/predict") == {1}


def test_a_load_that_fails_changes_nothing(served: Served) -> None:
    """A broken bundle, an unknown model and a parameter are refused with the reason; what is served stays."""
    put(served.models, 2)
    (served.models / "flowers" / "2" / "model.onnx").write_bytes(b"")
    for name, reason in (("flowers", "model.onnx has 0 bytes"), ("nobody", "has no version of it")):
        with pytest.raises(InferenceServerException, match=reason):
            served.client.load_model(name)
    with pytest.raises(InferenceServerException, match="'config' is not supported"):
        served.client.load_model("flowers", config="{}")
    with pytest.raises(InferenceServerException, match="no such model is loaded"):
        served.client.unload_model("nobody")
    assert versions(served.server) == {1}
    assert ("flowers", "2", "UNAVAILABLE") in served.index()
    shutil.rmtree(served.models / "flowers" / "2")
    served.client.load_model("flowers")
    assert served.index() == {("flowers", "1", "READY")}


def test_the_index_shows_only_what_is_ready_where_that_is_asked(served: Served) -> None:
    """With `ready` the index leaves out what cannot be asked; without it, or with false, it has everything."""
    put(served.models, 1, name="others")
    served.client.load_model("others")
    served.client.unload_model("flowers")
    everything = {("others", "1", "READY"), ("flowers", "1", "UNAVAILABLE")}
    for is_ready, expected in ((True, {("others", "1", "READY")}), (False, everything)):
        if isinstance(served.client, triton_grpc.InferenceServerClient):
            request = service_pb2.RepositoryIndexRequest(ready=is_ready)
            models = served.client._client_stub.RepositoryIndex(request).models  # the client has no argument for it
            index = {(one.name, one.version, one.state) for one in models}
        else:
            models = ask(served.server, "POST", "/v2/repository/index", {"ready": is_ready}).content
            index = {(one["name"], one["version"], one["state"]) for one in models}
        assert index == expected


def test_the_document_has_the_routes_that_load(served: Served) -> None:
    """The OpenAPI document has the index, and load and unload of each known model, also of one that was unloaded."""
    served.client.unload_model("flowers")
    documented = ask(served.server, "GET", "/openapi.json").content["paths"]
    repository = {path: list(item) for path, item in documented.items() if path.startswith("/v2/repository/")}
    orders = {f"/v2/repository/models/flowers/{kind}": ["post"] for kind in ("load", "unload")}
    assert repository == {"/v2/repository/index": ["post"], **orders}


def test_only_a_key_for_administration_loads_models(tmp_path: Path) -> None:
    """Over both transports the clients' calls work with a key of the scope `admin`, and are refused with another one."""
    models, port, keys = tmp_path / "models", free_port(), tmp_path / "keys.toml"
    put(models, 1)
    secrets = write_keys(keys, {"admin": {"scopes": ["admin", "read"]}, "read": {"scopes": ["read"]}})
    flags = ["--model-control", "explicit", "--grpc-port", str(port), "--keys-file", str(keys)]
    with live(models, *flags) as server:
        clients = [triton_http.InferenceServerClient(f"127.0.0.1:{server.port}")]
        clients += [triton_grpc.InferenceServerClient(f"127.0.0.1:{port}")]
        for client in clients:
            admin, reader = ({"authorization": f"Bearer {secrets[scope]}"} for scope in ("admin", "read"))
            client.unload_model("flowers", headers=admin)
            client.load_model("flowers", headers=admin)
            assert client.is_model_ready("flowers", headers=reader)
            assert client.get_model_repository_index(headers=reader)
            for order in (client.load_model, client.unload_model):
                with pytest.raises(InferenceServerException, match="needs the scope 'admin'"):
                    order("flowers", headers=reader)
                with pytest.raises(InferenceServerException, match="key"):
                    order("flowers")
            client.close()


def test_orders_are_refused_where_they_are_off(tmp_path: Path) -> None:
    """Without the setting a load is 501; a body that is no object of parameters is 400; another method is 405."""
    put(tmp_path / "models", 1)
    path = "/v2/repository/models/flowers/load"
    with live(tmp_path / "models") as server:
        refused = ask(server, "POST", path)
        assert (refused.status, "model_control" in refused.content["error"]) == (501, True)
        assert ask(server, "GET", path).status == 405
        assert path not in ask(server, "GET", "/openapi.json").content["paths"]
    with live(tmp_path / "models", "--model-control", "explicit") as server:
        assert ask(server, "POST", path, "[1]").status == 400
        assert ask(server, "POST", path, "{").status == 400
        assert ask(server, "POST", path, {"parameters": {}, "more": 1}).status == 400
        assert ask(server, "POST", path, {"parameters": []}).status == 400
        for filter_ in ([], {"ready": 1}, {"ready": True, "more": 1}):
            assert ask(server, "POST", "/v2/repository/index", filter_).status == 400
        assert len(ask(server, "POST", "/v2/repository/index").content) == 1
        assert ask(server, "GET", path).status == 405
        assert ask(server, "POST", path).status == 200
