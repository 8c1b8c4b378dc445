"""Tables of a run: every figure with its ratio to the floor that was measured in the same rounds."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.chart import Bar, Panel
from bench.contenders import LIMIT, READING_LIMIT
from bench.loads import LOADS
from bench.rounds import Measured


@dataclass(frozen=True)
class Column:
    """One figure of one load."""

    title: str
    load: str
    figure: str  # a field of Result
    decimals: int
    ratio: bool  # beside the floor's

    def cell(self, mine: Measured, floor: Measured | None) -> str:
        """Return the figure and, where asked, its ratio."""
        value = mine.median(self.load, self.figure)
        if value is None:
            return "-"
        base = floor.median(self.load, self.figure) if floor and self.ratio and floor is not mine else None
        return f"{value:,.{self.decimals}f}" + (f" ({value / base:.2f} x)" if base else "")


COLUMNS = (
    Column("A p50 ms", "A", "p50_ms", 2, ratio=True),
    Column("A p99 ms", "A", "p99_ms", 2, ratio=False),
    Column("B requests/s", "B", "requests_per_s", 0, ratio=True),
    Column("B p99 ms", "B", "p99_ms", 2, ratio=False),
    Column("B server CPU µs", "B", "server_cpu_us", 0, ratio=False),
    Column("B named requests/s", "B-named", "requests_per_s", 0, ratio=True),
    Column("C rows/s", "C", "rows_per_s", 0, ratio=False),
    Column("C server CPU µs", "C", "server_cpu_us", 0, ratio=False),
    Column("D rows/s", "D", "rows_per_s", 0, ratio=False),
    Column("D server CPU µs", "D", "server_cpu_us", 0, ratio=False),
    Column("E rows/s", "E", "rows_per_s", 0, ratio=False),
    Column("E server CPU µs", "E", "server_cpu_us", 0, ratio=False),
    Column("C named rows/s", "C-named", "rows_per_s", 0, ratio=False),
    Column("D named rows/s", "D-named", "rows_per_s", 0, ratio=False),
    Column("B OIP requests/s", "B-oip", "requests_per_s", 0, ratio=True),
    Column("open 500/s p99 ms", "open-500", "p99_ms", 2, ratio=False),
    Column("open 4000/s p99 ms", "open-4000", "p99_ms", 2, ratio=False),
)


def table(measured: Sequence[Measured], floor_name: str) -> str:
    """Return the Markdown table of a run: a row a contender, columns that nobody has left out."""
    floor = next((mine for mine in measured if mine.contender.name == floor_name), None)
    columns = [column for column in COLUMNS if any(column.load in mine.loads for mine in measured)]
    titles = ["server", *(column.title for column in columns), "start s", "PSS MB", "not 2xx", "foreign cores"]
    lines = ["| " + " | ".join(titles) + " |", "|---" + "|--:" * (len(titles) - 1) + "|"]
    for mine in measured:
        figures = [column.cell(mine, floor) for column in columns]
        lines.append("| " + " | ".join([mine.contender.name, *figures, *_whole(mine)]) + " |")
    return "\n".join(lines)


def _whole(mine: Measured) -> list[str]:
    results = [result for rounds in mine.loads.values() for result in rounds]
    start, pss = mine.start_s(), mine.pss_mb()
    foreign = [result.foreign_cores for result in results if not math.isnan(result.foreign_cores)]
    return [
        "-" if start is None else f"{start:.2f}",
        "-" if pss is None else f"{pss:.0f}",
        str(sum(result.refused + result.broken for result in results)),
        f"{max(foreign):.2f}" if foreign else "-",
    ]


def trouble(measured: Sequence[Measured]) -> list[str]:
    """Return a line for every load that gave no figure, with the reason."""
    return [f"{m.contender.name}: {load}: {why}" for m in measured for load, why in m.trouble.items()]


def engine_shares(measured: Sequence[Measured], engine_rows_per_s: Mapping[str, float]) -> list[str]:
    """Return how much of the bare engine's rate our service keeps, with as many engine loops as it has workers."""
    lines = []
    for mine in filter(is_ours, measured):
        for load, rows in (("C", 100), ("D", 1000), ("E", 1000)):
            rate = mine.median(load, "rows_per_s")
            ceiling = engine_rows_per_s.get(f"{rows} rows, {mine.contender.workers} processes")
            if rate and ceiling:
                lines.append(
                    f"{mine.contender.name}: {load} {rate / ceiling:.2f} of the bare engine's {ceiling:,.0f} rows/s"
                )
    return lines


def limit_shares(measured: Sequence[Measured]) -> list[str]:
    """Return for each load how much of the limit our service keeps, where as many onnxruntime loops as workers were measured.

    Loads of one connection are compared by p50, others by their rates.
    """
    lines = []
    for name, words in ((LIMIT, "the limit's"), (READING_LIMIT, "the reading limit's")):
        limits = {mine.contender.workers: mine for mine in measured if mine.contender.name.startswith(name)}
        for mine in filter(is_ours, measured):
            lines += _shares(mine, limits.get(mine.contender.workers), words)
    return lines


def _shares(mine: Measured, limit: Measured | None, words: str) -> list[str]:
    """Return how much of one limit one service keeps; `words` name the limit."""
    lines = []
    if limit is not None:
        for load in mine.loads:
            is_alone = load in LOADS and LOADS[load].connections == 1
            figure, unit = ("p50_ms", "ms p50") if is_alone else ("rows_per_s", "rows/s")
            value, most = mine.median(load, figure), limit.median(load, figure)
            if value and most:
                shown = (
                    f"{value / most:.2f} x {words} {most:.2f}"
                    if is_alone
                    else f"{value / most:.2f} of {words} {most:,.0f}"
                )
                lines.append(f"{mine.contender.name}: {load} {shown} {unit}")
    return lines


def panels(measured: Sequence[Measured]) -> list[Panel]:
    """Return the bars of a run, one panel a load."""
    chosen: list[tuple[str, Callable[[Measured], float | None]]] = [
        ("A: 1 row, 1 connection, p50 in ms (less is better)", lambda mine: mine.median("A", "p50_ms")),
        ("B: 1 row, 32 connections, requests/s", lambda mine: mine.median("B", "requests_per_s")),
        ("C: 100 rows, 8 connections, rows/s", lambda mine: mine.median("C", "rows_per_s")),
        ("D: 1000 rows, 4 connections, rows/s", lambda mine: mine.median("D", "rows_per_s")),
        ("E: 1000 rows binary, 4 connections, rows/s", lambda mine: mine.median("E", "rows_per_s")),
        ("start to the first right answer in s (less is better)", Measured.start_s),
        ("memory after the loads in MB (less is better)", Measured.pss_mb),
    ]
    return [
        Panel(title, [Bar(mine.contender.name, value(mine), is_ours(mine)) for mine in measured])
        for title, value in chosen
    ]


def is_ours(mine: Measured) -> bool:
    """Tell our own service from the floor and the peers."""
    return mine.contender.name.startswith("Batchproof")
