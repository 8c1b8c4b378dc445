"""The results as tables: losses (mean and spread over seeds), ours over each peer, and quick fits over default ones, paired by seed."""

import json
from collections import defaultdict
from pathlib import Path
from statistics import geometric_mean, mean, median, stdev

Losses = dict[tuple[str, str], dict[int, float]]  # (table, method) -> seed -> loss, or seconds
OWN = ("ours", "quick")


def read(path: Path) -> list[dict[str, object]]:
    """Lines of the results file; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def text(rows: list[dict[str, object]], tables: list[str]) -> str:
    """Return all tables as Markdown."""
    losses = _values(rows, "loss")
    methods = list(dict.fromkeys(method for _, method in losses))
    peers = [method for method in methods if method not in OWN]
    lines = ["Log loss or RMSE, mean ± standard deviation over seeds (·number of seeds)", "", *head("table", methods)]
    lines += [
        f"| {name} | " + " | ".join(cell(losses.get((name, method), {})) for method in methods) + " |"
        for name in tables
    ]
    lines += _over_peers(losses, tables, peers) if peers else []
    lines += _quick(rows, tables) if set(OWN) <= set(methods) else []
    return "\n".join(lines)


def _over_peers(losses: Losses, tables: list[str], peers: list[str]) -> list[str]:
    lines = [
        "",
        "Ours over the peer, mean over the seeds both have (below 1: ours is better)",
        "",
        *head("table", [*peers, "best peer"]),
    ]
    for name in tables:
        found = [ratio(losses, name, peer) for peer in peers]
        present = [value for value in found if value is not None]
        lines.append(f"| {name} | " + " | ".join(map(shown, [*found, max(present, default=None)])) + " |")
    medians = [[value for name in tables if (value := ratio(losses, name, peer)) is not None] for peer in peers]
    lines.append(
        "| **median** | " + " | ".join(shown(median(values) if values else None) for values in medians) + " | |"
    )
    return lines


def _quick(rows: list[dict[str, object]], tables: list[str]) -> list[str]:
    """Return the lines of quick fits beside default ones, over the seeds that both have."""
    kinds = [_values(rows, kind) for kind in ("loss", "cpu_seconds", "seconds")]
    columns = [f"{method}, {what}" for what in ("loss", "CPU s", "s") for method in OWN]
    lines = [
        "",
        "Quick fits beside default ones, mean over the seeds both have",
        "",
        *head("table", [*columns, "quick / ours"]),
    ]
    ratios = []
    for name in tables:
        found = ratio(kinds[0], name, "quick")
        if found is None:
            continue
        ratios.append(1 / found)
        seeds = kinds[0][name, "ours"].keys() & kinds[0][name, "quick"].keys()
        cells = [mean(kind[name, method][seed] for seed in seeds) for kind in kinds for method in OWN]
        lines.append(f"| {name} | " + " | ".join(f"{value:.4g}" for value in cells) + f" | {ratios[-1]:.3f} |")
    return (
        [*lines, "| **geometric mean** |" + " |" * len(columns) + f" {geometric_mean(ratios):.3f} |"] if ratios else []
    )


def _values(rows: list[dict[str, object]], kind: str) -> Losses:
    values: Losses = defaultdict(dict)
    for row in rows:
        if kind in row:
            values[str(row["table"]), str(row["method"])][int(str(row["seed"]))] = float(str(row[kind]))
    return values


def head(first: str, names: list[str]) -> list[str]:
    """Two lines that open a Markdown table."""
    return [f"| {first} | " + " | ".join(names) + " |", "|" + "---|" * (len(names) + 1)]


def cell(by_seed: dict[int, float]) -> str:
    """Mean, spread and count."""
    if not by_seed:
        return ""
    values = list(by_seed.values())
    spread = f" ± {stdev(values):.2g}" if len(values) > 1 else ""
    return f"{mean(values):.4g}{spread} ·{len(values)}"


def ratio(losses: Losses, table: str, peer: str) -> float | None:
    """Mean loss of ours over mean loss of the peer, on the seeds that both have."""
    ours, theirs = losses.get((table, "ours"), {}), losses.get((table, peer), {})
    seeds = ours.keys() & theirs.keys()
    return sum(ours[seed] for seed in seeds) / sum(theirs[seed] for seed in seeds) if seeds else None


def shown(value: float | None) -> str:
    """Three decimals, or nothing."""
    return "" if value is None else f"{value:.3f}"
