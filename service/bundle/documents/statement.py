"""What only the author of a model knows of it, and what every model of its kind must be said not to do."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

FEW_ROWS = 500  # below, a metric says little
UNSAID = "not stated by the author"
# Identifiers that the Hub knows, of licences that are used for models; others go under `other`.
HUB_LICENCES = frozenset(
    """afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0
    cc cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0
    cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 cdla-sharing-1.0 ecl-2.0 epl-1.0 epl-2.0 eupl-1.1 eupl-1.2 gfdl gpl gpl-2.0 gpl-3.0 isc lgpl
    lgpl-2.1 lgpl-3.0 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openrail osl-3.0 other pddl postgresql unknown
    unlicense wtfpl zlib""".split()  # noqa: SIM905 - sixty quoted words are harder to read
)


@dataclass(frozen=True)
class Statement:
    """The author's words; empty: not stated."""

    intended_use: str = ""
    out_of_scope_use: str = ""
    license: str = ""
    contact: str = ""

    def or_else(self, other: "Statement") -> "Statement":
        """Return this statement, with what it leaves open from another."""
        return Statement(*(getattr(self, entry.name) or getattr(other, entry.name) for entry in fields(Statement)))

    def lines(self) -> Iterator[tuple[str, str]]:
        """Give what is stated, and what is not, under its heading."""
        yield "Intended use", self.intended_use or UNSAID
        yield "Out-of-scope use", self.out_of_scope_use or UNSAID
        yield "License", self.license or UNSAID
        yield "Contact", self.contact or UNSAID


def stated_at_training(content: Mapping[str, Any]) -> Statement:
    """Return what the settings in bundle.json, as JSON `content`, say for the card."""
    settings = mapping(mapping(content, "provenance"), "settings")
    words = {entry.name: settings.get(entry.name) for entry in fields(Statement)}
    return Statement(**{name: value for name, value in words.items() if isinstance(value, str)})


def limits(content: Mapping[str, Any]) -> Iterator[str]:
    """Give what a user must know before relying on the model in bundle.json, one sentence or two each."""
    rows, part = content["metrics"].get("rows"), content["metrics"].get("part", "test")
    yield (
        "The metrics hold for rows like the training rows: the same source, period and population. They are averages, and say "
        "nothing about single groups of rows; no metric was computed for groups."
    )
    if isinstance(rows, int) and rows < FEW_ROWS:
        yield f"There were only {rows} {part} rows, so the metrics are uncertain."
    if part != "test":
        yield "No test rows were set aside: the rows that were measured also decided when to stop, so the metrics are optimistic."
    yield (
        "Values outside the training range and categories that training did not see are accepted. A request with "
        '"detail": true names them.'
    )
    if content.get("uncertainty") or content.get("uncertainties"):
        yield (
            "Prediction sets and intervals hold their coverage on average over tables that are drawn like the training rows, not "
            "for each row or group."
        )
    else:
        yield "There were too few rows for prediction sets or intervals."
    if content["arithmetic"]["kind"] == "float32":
        yield "The arithmetic is float32: another kind of processor may round the last bits of an output differently."


def warnings(content: Mapping[str, Any]) -> list[str]:
    """Return what training warned of."""
    found = mapping(content, "provenance").get("warnings")
    return [str(line).removeprefix("warning: ") for line in found] if isinstance(found, list) else []


def mapping(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an object inside another, or an empty one: `metrics` and `provenance` of a stranger may hold anything."""
    value = content.get(name)
    return value if isinstance(value, Mapping) else {}
