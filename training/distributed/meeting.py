"""The processes of a run meet once each has prepared its table: they go on together, or end with one sentence."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from batchproof.service.inference.engine import cpu_features
from batchproof.training.distributed.group import Group, joined
from batchproof.training.distributed.place import Place
from batchproof.training.distributed.threads import on_threads
from batchproof.training.settings import SettingError

T = TypeVar("T")


@contextmanager
def meeting(
    place: Place,
    device: str,
    work: Callable[[], T],
    facts: Callable[[T], Mapping[str, str]],
    faults: tuple[type[Exception], ...],
) -> Iterator[tuple[Group, T]]:
    """Do `work`, join the other processes, and compare what came of it; the body computes on one thread.

    One of the `faults` in any process ends all: where it came up it is raised again, elsewhere as SettingError.
    So does a fact that differs. Raises GroupError where not all processes come.
    One thread, because how a product is divided among threads may change its bits.
    """
    result, fault = None, None
    try:
        result = work()
    except faults as error:
        if place.size == 1:
            raise
        fault = error
    with joined(place, device) as group, on_threads(1), threadpool_limits(1):
        _agree(group, fault, {} if result is None else {**facts(result), **machine(device)})
        assert result is not None, "a process without a result has a fault"
        yield group, result


def _agree(group: Group, fault: Exception | None, facts: Mapping[str, str]) -> None:
    answers = [json.loads(text) for text in group.texts(json.dumps([fault and str(fault), dict(facts)]))]
    if fault is not None:
        raise fault
    for rank, (sentence, _) in enumerate(answers):
        if sentence is not None:
            raise SettingError(f"process {rank} of {group.size}: {sentence}")
    first = answers[0][1]
    for rank, (_, others) in enumerate(answers):
        for name, value in first.items():
            if others.get(name) != value:
                raise SettingError(
                    f"process {rank} has another {name} than process 0: {others.get(name)}, not {value}. All must have the same."
                )


def machine(device: str) -> dict[str, str]:
    """Return what the bits of a fit depend on beside data and settings."""
    processor = f"{torch.backends.cpu.get_cpu_capability()} {' '.join(cpu_features())}".strip()
    gpu = {"GPU": torch.cuda.get_device_name()} if device == "cuda" else {}
    return {"version of torch": torch.__version__, "version of numpy": np.__version__, "processor": processor, **gpu}
