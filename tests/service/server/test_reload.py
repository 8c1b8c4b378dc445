"""What is served changes while the service runs: by SIGHUP or by a look at the folder, in one process and in several."""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.bundles import make_bundle, reseal
from tests.http_client import ask
from tests.live import Live, live

ROW = {"length_mm": 40.5, "island": "Oslo", "count": 3, "seen": None, "adult": True, "grade": 1, "owned": None}
BODY = {"rows": [ROW]}
CSV = "length_mm,island,count,seen,adult,grade,owned\n40.5,Oslo,3,,true,1,\n"
WORKERS = ("1", "2")


def put(models: Path, version: int, *, name: str = "flowers", seed: int = 0) -> Path:
    """Put a version into the models folder as the documentation says: whole, by one rename."""
    aside = models.parent / "aside"
    folder = make_bundle(aside, name, version, seed=seed or version)
    (models / name).mkdir(parents=True, exist_ok=True)
    return folder.rename(models / name / str(version))


@contextmanager
def serving(tmp_path: Path, workers: str, *flags: str) -> Iterator[Live]:
    """Serve version 1, with events as JSON."""
    models = tmp_path / "models"
    put(models, 1)
    with live(models, "--workers", workers, *flags) as server:
        yield server


def hang_up(server: Live) -> None:
    """Ask for a look at settings and folder."""
    os.kill(server.process.pid, signal.SIGHUP)


def events_until(server: Live, name: str) -> list[dict[str, Any]]:
    """Return the events up to the next one of that name."""
    assert server.process.stderr is not None
    seen = []
    for line in server.process.stderr:
        if line.startswith("{"):
            seen.append(json.loads(line))
            if seen[-1]["event"] == name:
                return seen
    raise AssertionError(f"the service ended without {name}")


def until_event(server: Live, name: str) -> dict[str, Any]:
    """Return the next event of that name."""
    return events_until(server, name)[-1]


def until_ready(server: Live, workers: str) -> None:
    """Wait until every worker has said that it is ready; the first has."""
    for _ in range(int(workers) - 1):
        until_event(server, "ready")


def versions(server: Live, path: str = "/predict", times: int = 8) -> set[int]:
    """Return the versions that answer on connections of their own."""
    return {ask(server, "POST", path, BODY).content["model"]["version"] for _ in range(times)}


def workers_of(server: Live) -> list[int]:
    """Return the process ids of the workers."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    return [int(pid) for pid in children.split()]


def metric(server: Live, name: str) -> float:
    """Return one number of /metrics."""
    text = ask(server, "GET", "/metrics").body.decode()
    (value,) = [float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name)]
    return value


@pytest.mark.parametrize("workers", WORKERS)
def test_sighup_serves_what_the_folder_holds_by_then(tmp_path: Path, workers: str) -> None:
    """After SIGHUP every process serves the new version; the generation and the metrics say so, and the old one is freed."""
    with serving(tmp_path, workers) as server:
        until_ready(server, workers)
        before_s = metric(server, "batchproof_reload_last_success_timestamp_seconds")
        assert versions(server) == {1}
        put(tmp_path / "models", 2)
        hang_up(server)
        changed = until_event(server, "reloaded")
        assert (changed["generation"], changed["loaded"], changed["unloaded"]) == (2, ["flowers/2"], ["flowers/1"])
        assert versions(server) == {2}
        ready = ask(server, "GET", "/health/ready").content
        assert (ready["generation"], ready["models"][0]["version"]) == (2, 2)
        time.sleep(0.3)
        assert metric(server, 'batchproof_reload_total{outcome="ok"}') == 1
        assert metric(server, "batchproof_reload_last_success_timestamp_seconds") > before_s


@pytest.mark.parametrize("workers", WORKERS)
def test_polling_passes_over_half_a_copy_and_says_so_once(tmp_path: Path, workers: str) -> None:
    """A folder whose copy is not complete is not served and logged once; when it is complete, it is served."""
    with serving(tmp_path, workers, "--model-control", "poll", "--poll-s", "0.1") as server:
        until_ready(server, workers)
        whole = put(tmp_path / "elsewhere", 2)
        half = tmp_path / "models" / "flowers" / "2"
        half.mkdir()
        shutil.copy(whole / "bundle.json", half)
        refused = until_event(server, "reload_refused")
        assert (refused["model"], refused["version"]) == ("flowers", 2)
        assert refused["reason"].endswith(" is missing: bundle.json lists it")
        time.sleep(0.5)
        assert versions(server) == {1}
        assert ask(server, "GET", "/health/ready").content["refused"][0]["version"] == 2
        for file in whole.iterdir():
            if file.name != "bundle.json":
                shutil.copy(file, half / f".{file.name}")
                (half / f".{file.name}").rename(half / file.name)
        seen = [one for one in events_until(server, "reloaded") if one["event"] == "reload_refused"]
        assert len({one["reason"] for one in seen}) == len(seen), "each state of the folder is logged once"
        assert versions(server) == {2}


@pytest.mark.parametrize("workers", WORKERS)
def test_a_bundle_that_cannot_serve_leaves_the_old_one(tmp_path: Path, workers: str) -> None:
    """A bundle whose golden rows do not come out is refused by name everywhere; another model changes all the same."""
    with serving(tmp_path, workers) as server:
        until_ready(server, workers)
        bad = make_bundle(tmp_path / "aside", version=2, seed=2)
        golden = json.loads((bad / "golden.json").read_text())
        first = golden["outputs"]["probabilities"]
        first["hex"] = "0000003f" + first["hex"][8:]
        (bad / "golden.json").write_text(json.dumps(golden))
        reseal(bad)
        bad.rename(tmp_path / "models" / "flowers" / "2")
        put(tmp_path / "models", 1, name="others")
        hang_up(server)
        seen = events_until(server, "reload_refused")
        assert (seen[-1]["model"], seen[-1]["version"]) == ("flowers", 2)
        assert "golden" in seen[-1]["reason"]
        if not any(one["event"] == "reloaded" for one in seen):
            until_event(server, "reloaded")
        assert versions(server, "/models/flowers/predict") == {1}
        assert versions(server, "/models/others/predict") == {1}


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("change", ["rename", "empty", "damage"])
def test_a_folder_that_vanishes_takes_nothing_down(tmp_path: Path, workers: str, change: str) -> None:
    """Where the folder is gone, empty or damaged in place, the reload is refused and what is served stays, restarts included."""
    models = tmp_path / "models"
    with serving(tmp_path, workers) as server:
        until_ready(server, workers)
        if change == "rename":
            models.rename(tmp_path / "gone")
        elif change == "empty":
            shutil.rmtree(models / "flowers")
        else:
            (models / "flowers" / "1" / "model.onnx").write_bytes(b"")
        hang_up(server)
        until_event(server, "reload_refused")
        assert versions(server) == {1}
        if workers == "2":
            for pid in workers_of(server):
                os.kill(pid, signal.SIGKILL)
                until_event(server, "ready")
            assert versions(server) == {1}


def test_a_version_that_is_removed_leaves(tmp_path: Path) -> None:
    """Removing the newest version's folder is a rollback: the next older one answers."""
    with serving(tmp_path, "2") as server:
        until_ready(server, "2")
        put(tmp_path / "models", 2)
        hang_up(server)
        until_event(server, "reloaded")
        shutil.rmtree(tmp_path / "models" / "flowers" / "2")
        hang_up(server)
        assert until_event(server, "reloaded")["loaded"] == ["flowers/1"]
        assert versions(server) == {1}


@pytest.mark.parametrize("moment", ["while it loads", "after the copy", "after the swap"])
def test_a_worker_that_is_killed_flickers_nowhere(tmp_path: Path, moment: str) -> None:
    """Whenever a worker is killed around a reload, all workers serve one version before and one after it."""
    with serving(tmp_path, "2") as server:
        until_ready(server, "2")
        put(tmp_path / "models", 2)
        if moment == "after the copy":
            os.kill(workers_of(server)[0], signal.SIGKILL)
            until_event(server, "ready")
            assert versions(server) == {1}
        hang_up(server)
        if moment == "while it loads":
            until_event(server, "model_loaded")
            os.kill(workers_of(server)[0], signal.SIGKILL)
        until_event(server, "reloaded")
        assert versions(server) == {2}
        if moment == "after the swap":
            for pid in workers_of(server):
                shutil.rmtree(tmp_path / "models" / "flowers", ignore_errors=True)
                os.kill(pid, signal.SIGKILL)
                until_event(server, "ready")
        assert versions(server) == {2}
        assert ask(server, "GET", "/health/ready").content["generation"] == 2


def test_settings_are_read_anew(tmp_path: Path) -> None:
    """A pin moved in the settings file counts from SIGHUP on; a setting that needs a restart is named, a wrong file refused."""
    models, file = tmp_path / "models", tmp_path / "settings.toml"
    file.write_text("pins = { flowers = 1 }\n")
    put(models, 2)
    with serving(tmp_path, "2", "--settings", str(file)) as server:
        until_ready(server, "2")
        assert versions(server) == {1}
        file.write_text('pins = { flowers = "1+2" }\nmax_rows = 5\n')
        hang_up(server)
        seen = events_until(server, "reloaded")
        assert next(one for one in seen if one["event"] == "settings_need_restart")["settings"] == ["max_rows"]
        assert versions(server) == {2}
        assert versions(server, "/models/flowers/versions/1/predict") == {1}
        file.write_text("pins = 7\n")
        hang_up(server)
        assert "pins" in until_event(server, "reload_refused")["reason"]
        file.write_text("pins = { flowers = 9 }\n")
        hang_up(server)
        assert "version 9 is pinned" in until_event(server, "reload_refused")["reason"]
        assert versions(server) == {2}


@pytest.mark.parametrize("workers", WORKERS)
def test_a_label_moves_to_what_is_ready(tmp_path: Path, workers: str) -> None:
    """A label answers with its version and name on every route that has labels; it moves only to a version that is served."""
    models, file = tmp_path / "models", tmp_path / "settings.toml"
    file.write_text("pins = { flowers = 1 }\n[labels.flowers]\nstable = 1\ncanary = 2\n")
    put(models, 2)
    with serving(tmp_path, workers, "--settings", str(file)) as server:
        until_ready(server, workers)
        assert versions(server) == {1}
        answer = ask(server, "POST", "/models/flowers/labels/canary/predict", BODY).content["model"]
        assert (answer["version"], answer["label"]) == (2, "canary")
        cloud = ask(server, "POST", "/v1/models/flowers/labels/stable:predict", {"instances": [ROW]})
        assert json.loads(cloud.headers["x-model"]) == {"name": "flowers", "version": 1, "label": "stable"}
        assert ask(server, "POST", "/models/flowers/labels/none/predict", BODY).status == 404
        documented = ask(server, "GET", "/openapi.json").content["paths"]
        assert {"/models/flowers/labels/canary/predict", "/v1/models/flowers/labels/stable:predict"} <= set(documented)
        table = ask(server, "POST", "/models/flowers/labels/canary/predict", CSV, Content_Type="text/csv")
        assert (json.loads(table.headers["x-model"])["version"], json.loads(table.headers["x-model"])["label"]) == (
            2,
            "canary",
        )
        file.write_text("pins = { flowers = 1 }\n[labels.flowers]\nstable = 2\ncanary = 9\n")
        hang_up(server)
        seen = events_until(server, "reload_refused")
        assert "cannot move to version 9" in seen[-1]["reason"]
        assert versions(server, "/models/flowers/labels/stable/predict") == {2}
        assert versions(server, "/models/flowers/labels/canary/predict") == {2}
