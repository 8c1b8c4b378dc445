"""A bundle's model card: its metadata are the bundle's, and no name of a bundle is markup."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from batchproof.service.__main__ import main
from batchproof.service.bundle import reader
from batchproof.service.bundle.documents import escaping
from batchproof.service.bundle.documents.card import model_card
from batchproof.service.bundle.documents.statement import Statement
from tests.bundles import INPUTS, make_bundle, reseal

EVIL = (
    "<script>alert(1)</script>",
    "![x](https://evil.example/p.png)",
    "a | b\\|c \\\\| d",
    "``` ` ``",
    "\n---\nlicense: mit\n# owned",
    "*x* _y_ [z](javascript:1) www.evil.example a@evil.example @everyone #1",
    "\u202ereversed\u2028\u0085\x7f\ufeff",
    "yes",
    "1. - + = 😀",
    "'\": {[",
)


def card(folder: Path, **stated: str) -> tuple[dict[str, Any], str]:
    """Return the metadata and the Markdown of a bundle's card."""
    _, front, markdown = model_card(reader.read(folder).manifest, Statement(**stated)).split("---\n", 2)
    metadata: dict[str, Any] = yaml.safe_load(front)
    return metadata, markdown


class Page(HTMLParser):
    """Collects tags, attributes, headings and the cells of each row."""

    def __init__(self, markdown: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.rows: list[list[str]] = []
        self.headings: list[str] = []
        self._inside = ""
        self.feed(MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.add(tag)
        self.attributes += attrs
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag in ("h1", "h2"):
            self.headings.append("")
        self._inside = self._inside if tag == "code" else tag

    def handle_data(self, data: str) -> None:
        """Add text to the cell or the heading that it stands in."""
        if self._inside in ("td", "th"):
            self.rows[-1][-1] += data.strip("\n")
        elif self._inside in ("h1", "h2"):
            self.headings[-1] += data.strip("\n")


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_metadata_are_the_bundles(tmp_path: Path, task: str) -> None:
    """Task, metrics and the data that they were measured on stand where the Hub reads them."""
    folder = make_bundle(tmp_path, task=task)
    data = {"file": "colours.csv", "sha256": "ab" * 32, "rows": 500, "columns": 8}
    intervals = {"accuracy": [0.7, 0.9]}
    metrics = {"rows": 100, "accuracy": 0.8, "log_loss": 1e-5, "constant_accuracy": 0.4, "intervals": intervals}
    reseal(folder, lambda content: content.update(metrics=metrics, provenance={"data": data, "split": {"train": 300}}))
    metadata, markdown = card(folder)

    assert metadata["pipeline_tag"] == f"tabular-{'regression' if task == 'regression' else 'classification'}"
    (model,) = metadata["model-index"]
    (result,) = model["results"]
    assert model["name"] == "flowers"
    assert result["task"] == {"type": metadata["pipeline_tag"]}
    assert result["dataset"] == {
        "type": "tabular", "name": "colours.csv", "split": "test", "args": {"sha256": "ab" * 32},
    }  # fmt: skip
    assert result["metrics"] == [
        {"type": "accuracy", "value": 0.8, "name": "Accuracy", "args": {"interval": [0.7, 0.9], "confidence": 0.95}},
        {"type": "log_loss", "value": 1e-5, "name": "Log loss (nats)"},
    ]
    assert "| Accuracy | 0.8 | 0.7 to 0.9 | 0.4 |" in markdown
    assert "There were only 100 test rows" in markdown


def hostile(tmp_path: Path) -> Path:
    """Return a bundle whose features, categories, target, file and warnings are hostile."""
    inputs = [{**feature, "name": name} for feature, name in zip(INPUTS, EVIL, strict=False)]
    inputs[1] = {**inputs[1], "categories": list(EVIL)}
    folder = make_bundle(tmp_path, inputs=inputs)
    provenance = {
        "data": {"file": EVIL[0], "sha256": EVIL[2], "rows": [EVIL[0]]},
        "split": {EVIL[2]: 3},
        "warnings": [*EVIL],
        "versions": {EVIL[0]: EVIL[1]},
        "created": EVIL[4],
        "settings": {"intended_use": EVIL[4], "license": EVIL[4], "contact": 7},
    }
    metrics = {"rows": 10**17, "accuracy": 10**17, "auc": True, "rmse": "x", "part": EVIL[4], "intervals": [EVIL[0]]}

    def edit(content: dict[str, Any]) -> None:
        content.update(provenance=provenance, metrics=metrics)
        content["signature"]["target"] = EVIL[2]
        content["signature"]["classes"] = list(EVIL[:3])

    reseal(folder, edit)
    return folder


def test_no_name_is_markup(tmp_path: Path) -> None:
    """Whatever a bundle's texts are: no HTML, link, picture, heading or cell is theirs, and the metadata stay as they are."""
    names = [feature["name"] for feature in INPUTS]
    plain, markdown = card(make_bundle(tmp_path / "plain"), license="mit")
    metadata, found = card(hostile(tmp_path / "hostile"), license="mit")
    expected, page = Page(markdown), Page(found)

    assert page.tags <= {"h1", "h2", "p", "em", "code", "pre", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"}
    assert {name for name, _ in page.attributes} <= {"class"}
    assert page.headings == [*expected.headings[:-2], "Training data", *expected.headings[-2:]]
    features = [row for row in page.rows if len(row) == 4 and row[1] in ("kind", "numeric", "categorical", "date")]
    assert len(features) == 1 + len(names)
    assert metadata.keys() - {"model-index"} == plain.keys() - {"model-index"}
    assert metadata["license"] == "mit"
    assert all(character.isprintable() or character == "\n" for character in found)


@pytest.mark.parametrize("name", EVIL)
def test_a_name_is_shown_as_it_is(name: str) -> None:
    """A reader of YAML gets each text back, and a page shows its characters, those that are not printed escaped."""
    assert yaml.safe_load(escaping.scalar(name)) == name
    shown = " ".join("".join(c if c.isprintable() else repr(c)[1:-1] for c in name).split())
    for written in (escaping.code(name), escaping.text(name)):
        page = Page("\n".join(escaping.table(["a", "b"], [[written, "end"]])))
        assert page.rows[1] == [shown, "end"]


@pytest.mark.parametrize("value", [1e-05, -1.5e300, 0.1, 3, True, None, 2.0])
def test_a_number_is_a_number(value: object) -> None:
    """Numbers, also small ones, are read by YAML 1.1 as the numbers that they are."""
    found = yaml.safe_load(escaping.scalar(value))
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "stated, written",
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("Our own, v2", {"license": "other", "license_name": "our-own-v2"}),
        ("", {}),
    ],
)
def test_a_licence_is_one_of_the_hubs(tmp_path: Path, stated: str, written: dict[str, str]) -> None:
    """A known identifier is written as the Hub spells it, another name as `other` with the name, and none not at all."""
    metadata, _ = card(make_bundle(tmp_path), license=stated)
    assert {key: value for key, value in metadata.items() if key.startswith("license")} == written


def test_what_the_author_states(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The bundle holds what was stated at training; a flag has precedence, and what nobody states is said to be open."""
    folder = make_bundle(tmp_path)
    settings = {"intended_use": "Teaching.", "license": "mit"}
    reseal(folder, lambda content: content.update(provenance={"settings": settings}))
    target = tmp_path / "README.md"

    assert main(["card", str(folder), "--licence", "bsd-3-clause", "--output", str(target)]) == 0
    text = target.read_text()
    assert "## Intended use\n\nTeaching.\n" in text
    assert 'license: "bsd-3-clause"' in text
    assert "## Contact\n\n_Not stated by the author._" in text
    assert main(["card", str(folder), "--licence", "bsd-3-clause"]) == 0
    assert capsys.readouterr().out == text


def test_the_committed_card(penguins_bundle: Path) -> None:
    """The card of the committed bundle says its seal, its training data's digest and the sizes of the parts."""
    _, markdown = card(penguins_bundle)
    content = json.loads((penguins_bundle / "bundle.json").read_bytes())

    assert content["sha256"] in markdown
    assert f"| SHA-256 | `{content['provenance']['data']['sha256']}` |" in markdown
    for part, rows in content["provenance"]["split"].items():
        assert re.search(rf"\| {part} rows \| {rows} \|", markdown)


def test_what_cannot_be_written_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without a bundle, and a file that cannot be written, are one sentence and exit status 2."""
    assert main(["card", str(tmp_path)]) == 2
    assert main(["card", str(make_bundle(tmp_path)), "--output", str(tmp_path / "no" / "x.md")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert [line.startswith("batchproof card: ") for line in errors] == [True, True]
    assert "No such file or directory" in errors[1]
