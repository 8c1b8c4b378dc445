"""The report: it draws in a browser, runs nothing, fits a phone, tells no row, and says what was measured."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from batchproof.training.estimators.estimator import BatchNormMLPClassifier, BatchNormMLPRegressor
from tests.programs import Browser

EVIL = '<script>document.title="owned"</script>'
QUOTE = "\"'><img src=x onerror=alert(1)>"
QUICK: dict[str, Any] = {"widths": (16, 8), "ensemble": 1, "encoding": "plain", "epochs": 8, "threads": 1}
MOST_BYTES = 300_000
PROBE = """<!doctype html><body style="margin:0"><iframe id="page" src="report.html" style="width:390px;height:4000px"></iframe>
<pre id="found"></pre><script>
onload = () => {
  const page = document.getElementById("page").contentDocument;
  const drawn = [...page.querySelectorAll("figure > svg")].filter(one => one.getBoundingClientRect().height > 60);
  const shapes = page.querySelectorAll("svg rect, svg polyline, svg circle, svg path").length;
  const words = [...page.querySelectorAll("table:not(details *) td")].filter(one => one.textContent.length > 4);
  const narrow = Math.floor(Math.min(...words.map(one => one.getBoundingClientRect().width)));
  document.getElementById("found").textContent =
    `width=${page.documentElement.scrollWidth} charts=${drawn.length} shapes=${shapes} narrow=${narrow} title=${page.title}`;
};
</script>"""


def frame(rows: int = 240) -> pd.DataFrame:
    """Return rows whose every name is hostile; `noise` says nothing."""
    random = np.random.default_rng(3)
    size, word = random.normal(size=rows), random.choice([EVIL, QUOTE, "plain"], rows)
    return pd.DataFrame({EVIL: size, QUOTE: word, "noise": random.normal(size=rows)})


def target(task: str, features: pd.DataFrame) -> pd.Series:
    """Return a target that follows from the first two columns."""
    value = features[EVIL] + 2.0 * (features[QUOTE] == "plain")
    if task == "regression":
        return pd.Series(1e4 * value, name="<b>price</b>")
    cuts = [0.8] if task == "binary" else np.quantile(value, np.arange(1, 14) / 14)
    names = np.array([EVIL, QUOTE, *(f"class {number}" for number in range(12))])
    return pd.Series(names[np.digitize(value, cuts)], name="<i>kind</i>")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write one report for each task."""
    folder, features, made = tmp_path_factory.mktemp("reports"), frame(), {}
    for task in ("binary", "multiclass", "regression"):
        kind = BatchNormMLPRegressor if task == "regression" else BatchNormMLPClassifier
        model = kind(**QUICK, test_share=0.25).fit(features, target(task, features))
        made[task] = model.export(folder, task) / "report.html"
    return made


class Tags(HTMLParser):
    """Collects tags, attributes and whether each is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an opening tag."""
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in {"meta", "link", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Hold a closing tag to the last one opened."""
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag that holds nothing."""
        self.tags.append(tag)
        self.attributes += attrs


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_nothing_runs_and_nothing_is_fetched(pages: dict[str, Path], task: str) -> None:
    """Whatever columns, categories and classes are called: no script, no handler, no style attribute, no outside link."""
    text = pages[task].read_text()
    found = Tags()
    found.feed(text)

    assert {"script", "img", "iframe", "bi"}.isdisjoint(set(found.tags) - {"b"})
    assert found.open == []
    assert [name for name, _ in found.attributes if name.startswith("on") or name in {"src", "style"}] == []
    assert all(
        value is not None and (value == "." or value[0] in "#d") for name, value in found.attributes if name == "href"
    )
    assert "&lt;script&gt;" in text
    assert len(text.encode()) < MOST_BYTES


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_it_draws_at_phone_width(pages: dict[str, Path], task: str, browser: Browser) -> None:
    """Chromium lays every chart out, 390 pixels hold the page without sideways scrolling, and no name became markup."""
    probe = pages[task].with_name("probe.html")
    probe.write_text(PROBE)
    dom = browser.dump_dom(probe.as_uri(), "--allow-file-access-from-files", "--window-size=1200,4100")
    found = re.search(
        r"width=(\d+) charts=(\d+) shapes=(\d+) narrow=(\d+) title=([^<]*)", dom.partition('id="found"')[2]
    )

    assert found is not None, dom[-500:]
    assert int(found[1]) <= 390
    assert int(found[2]) == pages[task].read_text().count("<svg viewBox")
    assert int(found[3]) > 60
    assert int(found[4]) > 30, "a word is not set one letter a line"
    assert found[5] == f"{task} 1 · report"


def test_no_row_is_told(pages: dict[str, Path]) -> None:
    """No value of any row stands in a page to more than the digits of a range."""
    features = frame()
    values = [*features[EVIL], *features["noise"], *target("regression", features)]
    text = "".join(page.read_text() for page in pages.values())

    assert [value for value in values if f"{value:.7g}" in text] == []


def test_it_says_what_was_measured(pages: dict[str, Path]) -> None:
    """Parts that a reader looks for are there: split, drops, intervals, statistics, parity, invariance, a curl."""
    text = pages["regression"].read_text()
    for said in (
        "RMSE",
        "Linear model",
        "Constant",
        "bootstrap",
        "No column was dropped",
        "recomputed",
        "largest difference",
    ):
        assert said in text, said
    assert re.search(r"class=\"good\">verified</span>", text)
    assert "curl http://127.0.0.1:8000/models/regression/predict -d" in text
    assert "60 test" in text
