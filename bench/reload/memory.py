"""Private memory of all processes of the service, over reloads."""

from collections.abc import Mapping, Sequence

from bench import chart
from bench.chart import Plot, Series
from bench.reload.service import Service


def over_reloads(service: Service, reloads: int) -> list[int]:
    """Return the bytes before the first reload and after each."""
    memory = [service.memory_bytes()]
    for _ in range(reloads):
        service.swap()
        memory.append(service.memory_bytes())
    return memory


def draw(memory: Mapping[int, Sequence[int]]) -> str:
    """Return the picture, with one plot for each number of workers: bytes after each reload."""
    plots = [
        Plot(
            f"{_workers(workers)}: private memory in MiB", [Series("", range(len(each)), [one / 2**20 for one in each])]
        )
        for workers, each in memory.items()
    ]
    return chart.plots(f"Memory over {max(map(len, memory.values())) - 1} reloads", plots, "reloads")


def describe(memory: Sequence[int]) -> str:
    """Return the figures as a clause."""
    quarter = len(memory) // 4
    first, last = (sum(part) / len(part) / 2**20 for part in (memory[1 : quarter + 1], memory[-quarter:]))
    return (
        f"{memory[0] / 2**20:.0f} MiB before the first reload, {first:.0f} on average over the first quarter of "
        f"{len(memory) - 1} reloads, {last:.0f} over the last, at most {max(memory) / 2**20:.0f}"
    )


def _workers(count: int) -> str:
    return f"{count} worker{'' if count == 1 else 's'}"
