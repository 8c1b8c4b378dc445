"""Chaos: every protocol at once while workers are killed, stopped and reloaded; each answer is compared bit for bit.

    python -m bench.chaos --minutes 30

Two workers serve two models of two versions. Callers ask over HTTP (native, named rows, packed bodies, Open Inference,
KServe version 1, CSV and Parquet tables) and gRPC: on kept connections, pipelined, half-closed, in slow chunks, with garbage
behind the request; some leave in the middle. Meanwhile workers get SIGKILL and SIGSTOP, one or all of them, and the
versions are swapped. The right bits of each row are those of a run of its own, in this process.

    crossed     an answer that is not the one of this request in the version that it names
    lost        a connection that ended without an answer, though no worker died that held it
    hung        no answer in 120 s
    unhandled   a line of the log that is no event, has a traceback or is an error of the service

Exit status 1 where one of these is not 0.
"""

import argparse
import sys

from bench.chaos.run import Plan, Result, run


def main(arguments: list[str]) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30)
    add_load(parser)
    parser.add_argument("--harm-s", type=float, default=15, help="mean seconds between two faults")
    chosen = parser.parse_args(arguments)
    plan = Plan(
        *(60 * chosen.minutes, chosen.workers, chosen.callers, chosen.rate, chosen.harm_s, chosen.reload_s),
        seed=chosen.seed,
    )
    result = run(plan, lambda line: print(line, flush=True))
    print_findings(result)
    return 1 if result.findings.wrong else 0


def add_load(parser: argparse.ArgumentParser) -> None:
    """Add the options that chaos and soak share."""
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--rate", type=float, default=600, help="requests a second, of all callers")
    parser.add_argument("--reload-s", type=float, default=10, help="mean seconds between two reloads")
    parser.add_argument("--seed", type=int, default=0)


def print_findings(result: Result) -> None:
    """Print what was counted."""
    findings = result.findings
    print(findings.summary())
    for name in ("answers", "refused", "left", "faults"):
        print(f"  {name}: {dict(sorted(getattr(findings, name).items()))}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
