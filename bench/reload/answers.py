"""Swaps under the load of every protocol: each answer must be whole, and of the version that it names."""

import http.client
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import grpc

from bench.reload.callers import OverloadedError, callers
from bench.reload.service import Service


@dataclass
class Findings:
    """What the callers saw."""

    answers: Counter[str] = field(default_factory=Counter)  # by kind
    wrong: list[str] = field(default_factory=list)
    overloaded: int = 0  # answered with 429, and asked again
    versions: Counter[int | None] = field(default_factory=Counter)
    swaps: int = 0


def mixed(service: Service, rpc_port: int, swaps: int, least_requests: int = 0, each: int = 1) -> Findings:
    """Swap under the load of `each` callers of every kind, until there were so many swaps and requests."""
    expected: dict[str, dict[int, bytes]] = {}
    for _ in range(2):
        service.swap()
        for kind, caller in callers(service.server, rpc_port).items():
            expected.setdefault(kind, {})[service.version] = caller.ask().body
            caller.close()
    findings, is_over = Findings(), threading.Event()
    asking = [(kind, one) for _ in range(each) for kind, one in callers(service.server, rpc_port).items()]
    threads = [threading.Thread(target=_call, args=(*one, expected, findings, is_over)) for one in asking]
    for thread in threads:
        thread.start()
    while (findings.swaps < swaps or sum(findings.answers.values()) < least_requests) and not findings.wrong:
        service.swap()
        findings.swaps += 1
    is_over.set()
    for thread in threads:
        thread.join()
    return findings


def _call(
    kind: str, caller: Any, expected: dict[str, dict[int, bytes]], findings: Findings, is_over: threading.Event
) -> None:
    while not is_over.is_set():
        try:
            answer = caller.ask()
        except OverloadedError:
            findings.overloaded += 1
            time.sleep(0.1)
            continue
        except (OSError, http.client.HTTPException, grpc.RpcError) as error:
            findings.wrong.append(f"{kind}: {error!r}")
            return
        possible = expected[kind].values() if answer.version is None else [expected[kind][answer.version]]
        if answer.body not in possible:
            findings.wrong.append(f"{kind}: not what version {answer.version} answers: {answer.body[:200]!r}")
        findings.answers[kind] += 1
        findings.versions[answer.version] += 1
    caller.close()
