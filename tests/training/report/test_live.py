"""The page of a run that goes on: what it shows at each stage, what it may do, and that it can end no run."""

import io
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

from batchproof.training.__main__ import main
from batchproof.training.fit.loop import Epoch
from batchproof.training.fit.progress import Progress
from batchproof.training.report import live
from batchproof.training.report.live import LivePage, live_page
from tests.programs import command_of
from tests.training.quick import quick

WAIT_MS = 60_000

TABLE = "x,w,y\n" + "".join(f"{row * 7 % 23},{'ab'[row % 2]},{row % 2}\n" for row in range(60))


def page(file: Path, monkeypatch: pytest.MonkeyPatch) -> LivePage:
    """Return a page that is written at each change."""
    monkeypatch.setattr(live, "INTERVAL_S", 0.0)
    monkeypatch.setattr(live, "PATIENCE", 0)
    return LivePage(Progress(io.StringIO(), quiet=True), file, "loans 3", "Predicts <default>.", time.monotonic())


def epochs(shown: LivePage, count: int, planned: int = 10) -> None:
    for number in range(1, count + 1):
        shown.epoch(Epoch(number, 1.0 / number, 1.2 / number, 1e-3, 0.1), planned)


def test_it_shows_epochs_losses_and_candidates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a run goes on, the newest epoch, both losses, the encodings tried and what the run said can be read, escaped."""
    file = tmp_path / "run.html"
    shown = page(file, monkeypatch)
    assert "<b>running</b>" in file.read_text()
    shown.say("read <b>60</b> rows")
    shown.begin("plain")
    epochs(shown, 4)
    shown.tried("plain", 0.3, 1, 2)
    text = file.read_text()
    assert "<b>4 of 10</b>" in text
    assert "at most" in text
    assert "1 of 2 tried, by the validation rows. 1 more to try." in text
    assert "read &lt;b&gt;60&lt;/b&gt; rows" in text
    assert "Predicts &lt;default&gt;." in text
    shown.begin("quantile")
    epochs(shown, 2)
    shown.tried("quantile", 0.2, 2, 2)
    text = file.read_text()
    assert "Fit 2" in text
    assert "Loss by epoch, encoding &#x27;quantile&#x27;" in text
    assert re.search(r'<tr class="us"><td class="n">2</td><td>quantile</td>', text)


def test_its_one_script_is_named_by_its_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A running page has one script, which loads it again; a page that is finished has none, and neither loads anything."""
    file = tmp_path / "run.html"
    shown = page(file, monkeypatch)
    text = file.read_text()
    assert re.findall(r"script-src ('[^;]*');", text) == [live._hash(live.AGAIN)]
    assert text.count("<script>") == 1
    shown.finished(tmp_path / "models" / "loans" / "3")
    text = file.read_text()
    assert "<script" not in text
    assert "script-src" not in text
    assert "<b>finished</b>" in text
    assert '<a href="models/loans/3/report.html">Read the report</a>' in text
    assert "http" not in re.sub(r'http-equiv="[\w-]+"', "", text)


def test_a_run_that_ends_badly_says_why(tmp_path: Path) -> None:
    """What ended the run without a bundle stands on the page, and goes on to the caller."""
    file = tmp_path / "run.html"
    for error, why in (
        (ValueError("the <loss> is no number."), "the &lt;loss&gt; is no number."),
        (KeyboardInterrupt(), "it was stopped."),
    ):
        with pytest.raises(type(error)), live_page(Progress(io.StringIO()), str(file), "a 1", "b", time.monotonic()):
            raise error
        assert why in file.read_text()
        assert "ended without a bundle" in file.read_text()


def test_a_disk_that_takes_no_more_ends_the_page_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that cannot be written any more is said once; epochs go on."""
    folder = tmp_path / "gone"
    folder.mkdir()
    shown = page(folder / "run.html", monkeypatch)
    (folder / "run.html").unlink()
    folder.rmdir()
    shown.begin("plain")
    epochs(shown, 3)
    shown.finished(tmp_path)
    assert shown.stream.getvalue().count("shows the run no more") == 1  # type: ignore[attr-defined]


def test_writing_takes_a_small_part_of_the_time(tmp_path: Path) -> None:
    """Ten thousand epochs in no time are written a few times only, and the last state always."""
    file = tmp_path / "run.html"
    shown = LivePage(Progress(io.StringIO(), quiet=True), file, "a 1", "b", time.monotonic())
    first = file.stat().st_ino
    shown.begin("plain")
    shown.epoch(Epoch(1, 1.0, 1.0, 1e-3, 0.1), 10_000)
    assert file.stat().st_ino == first
    epochs(shown, 10_000, 10_000)
    shown.finished(tmp_path)
    text = file.read_text()
    assert "10000 of 10000" in text
    assert len(text) < 60_000


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_a_browser_follows_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, scheme: Any) -> None:
    """The open page shows the next epoch and the end by itself, fits its screen, and has no barrier that axe finds."""
    file = tmp_path / "run.html"
    shown = page(file, monkeypatch)
    shown.begin("plain")
    epochs(shown, 4)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=command_of(), args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        opened.goto(file.as_uri())
        expect(opened.get_by_text("4 of 10")).to_be_visible(timeout=WAIT_MS)
        shown.epoch(Epoch(5, 0.1, 0.2, 1e-3, 0.1), 10)
        shown.tried("plain", 0.2, 1, 2)
        expect(opened.get_by_text("5 of 10")).to_be_visible(timeout=WAIT_MS)
        shown.finished(tmp_path / "models" / "loans" / "3")
        expect(opened.get_by_role("link", name="Read the report")).to_be_visible(timeout=WAIT_MS)
        expect(opened.get_by_role("img", name="Loss by epoch")).to_be_visible()
        assert opened.evaluate("document.documentElement.scrollWidth") <= width
        assert Axe().run(opened).response["violations"] == []
        browser.close()


@pytest.mark.parametrize(
    ("file", "why"),
    [
        ("run.txt", "it is the name of an HTML file, such as run.html."),
        ("", "it is the name of an HTML file, such as run.html."),
        ("absent/run.html", "absent/run.html cannot be written: "),
    ],
)
def test_a_page_that_cannot_be_written_is_refused_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: str, why: str
) -> None:
    """One sentence, exit code 2, and nothing was read or written."""
    monkeypatch.chdir(tmp_path)
    assert main(["absent.csv", "--target", "y", "--live", file]) == 2
    assert why in capsys.readouterr().err
    assert os.listdir() == []  # noqa: PTH208 - only whether there is anything


def test_a_run_leaves_a_finished_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command's page ends with the link to the report it wrote, and changes no byte of the model."""
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text(TABLE)
    Path("shown").mkdir()
    common = ["t.csv", "--quiet", *quick("y", widths=8, epochs=2)]
    assert main([*common, "--live", "shown/run.html"]) == 0
    assert main(common) == 0
    capsys.readouterr()
    text = Path("shown/run.html").read_text()
    (link,) = re.findall(r'href="([^"]*report\.html)"', text)
    assert (Path("shown") / link).resolve() == Path("models/t/1/report.html").resolve()
    assert Path("models/t/1/model.onnx").read_bytes() == Path("models/t/2/model.onnx").read_bytes()
    assert "run.html" not in Path("models/t/1/bundle.json").read_text()
    assert os.listdir("shown") == ["run.html"]  # noqa: PTH208 - no part is left
