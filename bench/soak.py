"""Soak: hours of every protocol with reloads and callers that leave; what the service holds must stay flat.

    python -m bench.soak --minutes 60

As `python -m bench.chaos`, without kills and stops. Memory (PSS), descriptors and threads of all processes together and the
percentiles of single requests of one row are looked at every five seconds. The first fifth of the time is left out. A
slope is that of least squares through the means of twelve blocks, with its standard error. A figure grows if its slope is
more than three of its standard errors and more than 1 % of its mean an hour. It is flat if it does not grow and a growth of
10 % an hour would have shown: its slope and three standard errors together are less. Otherwise it is unclear, and only more
time or a quieter machine can tell. Exit status 1 where a figure is not flat or an answer was wrong.
"""

import argparse
import sys

from bench.chaos.__main__ import add_load, print_findings
from bench.chaos.run import Plan, run
from bench.chaos.watch import table


def main(arguments: list[str]) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60)
    add_load(parser)
    chosen = parser.parse_args(arguments)
    plan = Plan(
        *(60 * chosen.minutes, chosen.workers, chosen.callers, chosen.rate, 0, chosen.reload_s), seed=chosen.seed
    )
    result = run(plan, lambda line: print(line, flush=True))
    trends = result.watch.trends()
    print_findings(result)
    print(table(trends))
    return 1 if result.findings.wrong or any(one.verdict != "flat" for one in trends.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
