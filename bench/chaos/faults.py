"""What is done to the service while callers ask."""

import threading

import numpy as np

from bench.chaos.findings import Findings
from bench.chaos.service import Service

HANG_S = 30.0  # a worker that is stopped for so long is replaced before
SWAP_S = 20.0  # after which the next reload is asked for, though the last one has not ended


class Faults:
    """Kills, stops and reloads in random order."""

    def __init__(self, service: Service, findings: Findings, seed: int) -> None:
        """Do them to `service`."""
        self._service, self._findings = service, findings
        self._random = np.random.default_rng(seed)

    def harm(self, is_over: threading.Event, mean_s: float) -> None:
        """Kill and stop workers, a pause of about `mean_s` between two faults."""
        faults = (self._kill, self._kill, self._pause, self._pause, self._hang, self._kill_all)
        while not is_over.wait(float(self._random.exponential(mean_s))):
            faults[int(self._random.integers(len(faults)))]()

    def reload(self, is_over: threading.Event, mean_s: float) -> None:
        """Swap versions, and now and then only read everything again, a pause of about `mean_s` between two."""
        while not is_over.wait(float(self._random.exponential(mean_s))):
            if self._random.random() < 0.2:
                self._service.hang_up()
                self._count("SIGHUP")
            else:
                self._service.swap()
                self._service.wait_for_reload(SWAP_S)
                self._count("reload")

    def _count(self, what: str) -> None:
        self._findings.count(self._findings.faults, what)

    def _one(self) -> int | None:
        workers = self._service.workers()
        return int(self._random.choice(workers)) if workers else None

    def _kill(self) -> None:
        if (pid := self._one()) is not None:
            self._service.kill(pid)
            self._count("kill")

    def _kill_all(self) -> None:
        for pid in self._service.workers():
            self._service.kill(pid)
        self._count("kill of all workers")

    def _pause(self) -> None:
        if (pid := self._one()) is not None:
            self._service.stop(pid, float(self._random.uniform(0.05, 2)))
            self._count("short stop")

    def _hang(self) -> None:
        if (pid := self._one()) is not None:
            self._service.stop(pid, HANG_S)
            self._count("stop")
