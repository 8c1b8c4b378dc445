"""What is printed at the start: what is served, what was refused and why, and a request that works."""

from pathlib import Path

from batchproof.service.configuration.settings import Settings
from batchproof.service.server.serving import app, banner
from tests.bundles import make_bundle


def lines(models: Path) -> list[str]:
    service = app.load(Settings(models=models, device="cpu"))
    try:
        return banner.text(service, "0.0.0.0", 8000).splitlines()
    finally:
        service.close()


def test_served_model_has_a_request(tmp_path: Path) -> None:
    """The model, its address and a request with a row of it."""
    make_bundle(tmp_path)
    told = lines(tmp_path)

    assert told[0] == "Batchproof serves flowers 1 at http://127.0.0.1:8000"
    assert told[-1].startswith('curl http://127.0.0.1:8000/predict -d \'{"rows": [{')


def test_empty_folder_is_said(tmp_path: Path) -> None:
    """Where nothing is found, the banner says where was looked and for what."""
    assert lines(tmp_path)[0] == (
        f"Batchproof serves no model (there is no NAME/VERSION/bundle.json in {tmp_path}) at http://127.0.0.1:8000"
    )


def test_refusals_are_shown(tmp_path: Path) -> None:
    """A refused bundle is named with its reason, beside the ones that are served; of many the first ones."""
    make_bundle(tmp_path, name="trees")
    for number in range(7):
        (make_bundle(tmp_path, name=f"flowers{number}") / "model.onnx").write_bytes(b"other")
    told = lines(tmp_path)

    assert told[0].startswith("Batchproof serves trees 1 at ")
    assert told[1].startswith("  refused   flowers0 1: model.onnx has 5 bytes")
    assert told[6] == "  refused   2 more: see the log"
    assert "API page" in told[7]


def test_all_refused_is_said(tmp_path: Path) -> None:
    """Where every bundle was refused, nothing is served and the reason is on the next line."""
    (make_bundle(tmp_path) / "model.onnx").write_bytes(b"other")
    told = lines(tmp_path)

    assert told[0].startswith("Batchproof serves no model at ")
    assert told[1].startswith("  refused   flowers 1: ")
