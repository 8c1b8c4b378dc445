"""The certificate: what was proved of which file, as JSON and as a page a person can read."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from batchproof.training.prove.limits import shown
from batchproof.training.prove.operators.reductions import Obligation

CERTIFICATE_VERSION = 1
CLAIM = (
    "Each row's output bits are a function of that row's input alone: they do not depend on the batch, the order of any "
    "sum, threads, vector width, fused multiply-add or the engine, wherever float64 is IEEE-754 with rounding to nearest "
    "even and subnormals, and products are sums of products."
)


def certificate(
    sha256: str,
    counts: Counter[tuple[str, str]],
    obligations: Sequence[Obligation],
    lookups: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """Return what a walk over the graph established, as a dict for JSON."""
    return {
        "version": CERTIFICATE_VERSION,
        "claim": CLAIM,
        "sha256": sha256,
        "operators": {
            kind: {op: count for (operator_kind, op), count in sorted(counts.items()) if operator_kind == kind}
            for kind in ("elementwise", "movement", "order_free")
        },
        "sums": [obligation.as_dict() for obligation in obligations],
        "lookups": list(lookups),
        "least_margin_bits": min((53 - round(each.bits, 3) for each in obligations), default=53),
    }


def page(contents: dict[str, Any]) -> str:
    """Return a certificate as a page of text; names out of the file are shown without control characters."""
    lines = [f"Proved exact: sha256 {contents['sha256']}", "", contents["claim"], ""]
    for kind, what in (
        ("elementwise", "one correctly rounded operation an element"),
        ("movement", "data movement"),
        ("order_free", "order-free, each with its obligation met"),
    ):
        listed = ", ".join(f"{count} {op}" for op, count in contents["operators"][kind].items()) or "none"
        lines.append(f"{kind:<12} {listed}  ({what})")
    lines += ["", *table(SUM_COLUMNS, [sum_row(each) for each in contents["sums"]])]
    for lookup in contents["lookups"]:
        lines.append(
            f"{shown(lookup['node'])}: codes {lookup['codes'][0]} to {lookup['codes'][1]} in {lookup['rows']} rows"
        )
    return "\n".join([*lines, f"least margin: {contents['least_margin_bits']:.3f} bits of 53"])


SUM_COLUMNS = ("sum", "terms", "outputs", "inputs from", "to", "on grid", "unit", "bound, bits", "margin")


def sum_row(each: dict[str, Any]) -> tuple[str, ...]:
    """Return the cells of one sum."""
    low, high = each["input_range"]
    unit = each["unit"][0] if len(set(each["unit"])) == 1 else " … ".join(each["unit"])
    return (
        f"{shown(each['node'])} ({each['operator']})",
        str(each["terms"]),
        str(each["outputs"]),
        f"{low:g}",
        f"{high:g}",
        each["input_grid"],
        unit,
        f"{each['bound_bits']:.3f}",
        f"{each['margin_bits']:.3f}",
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return lines with the columns aligned."""
    cells = [list(columns), *map(list, rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
