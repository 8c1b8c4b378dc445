"""What a caller is told whose body ended the process that read it, or cost more than it may."""

import signal

from batchproof.service.errors import ServiceError
from batchproof.service.runtime.logs import event
from batchproof.service.runtime.processes import process_pool
from batchproof.service.runtime.processes.process_pool import ProcessEndedError, described


def out_of_memory() -> ServiceError:
    """Return 413: the rows took more memory than they may."""
    return _too_costly("memory")


def broken_body() -> ServiceError:
    """Return 400: the body crashed the process that read it."""
    return ServiceError(
        400, "broken_body", "The body crashed the process that parsed it; check that the body is valid."
    )


def of_ended(error: ProcessEndedError, route: str, request_id: str) -> ServiceError | None:
    """Return the refusal of the request that a process was at when it ended, and log it; None where it crashed."""
    if error.code is None:
        return process_pool.lost()
    event("codec_process_ended", 30, route=route, request_id=request_id, reason=f"ended {described(error.code)}")
    if error.code == -signal.SIGKILL:  # by the system: there was no memory left
        return out_of_memory()
    if error.code == -signal.SIGXCPU:
        return _too_costly("processor time")
    return None


def _too_costly(what: str) -> ServiceError:
    return ServiceError(
        413, "body_too_costly", f"The request takes more {what} than one request may; send fewer rows at once."
    )
