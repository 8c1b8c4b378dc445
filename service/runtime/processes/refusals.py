"""A refusal, from the process that found it to the service that answers with it."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from batchproof.service.errors import ServiceError
from batchproof.service.runtime.processes.frames import PeerEndedError

Count = Annotated[int, Meta(ge=0)]
Word = Annotated[str, Meta(pattern=r"\A[a-z0-9_]{1,64}\Z")]  # a label in metrics
HeaderText = Annotated[str, Meta(pattern=r"\A[ -~]*\Z")]


class Refused(msgspec.Struct, array_like=True, frozen=True):
    """A ServiceError, with all of its parts. It comes from a process that has read a stranger's bytes."""

    status: Annotated[int, Meta(ge=400, le=599)]
    code: Word
    message: str
    details: list[dict[str, Any]]
    truncated: bool
    retry_after_s: Count | None
    allow: HeaderText | None
    authenticate: HeaderText | None


def packed(error: ServiceError) -> bytes:
    """Return an error as bytes."""
    details = [dict(detail) for detail in error.details]
    refused = Refused(
        error.status,
        error.code,
        error.message,
        details,
        error.truncated,
        error.retry_after_s,
        error.allow,
        error.authenticate,
    )
    return msgspec.msgpack.encode(refused)


def unpacked(payload: bytes) -> ServiceError:
    """Return the error that a process packed; raises PeerEndedError for what is none, or out of bounds."""
    try:
        parts: dict[str, Any] = msgspec.structs.asdict(msgspec.msgpack.decode(payload, type=Refused))
    except msgspec.DecodeError as error:
        raise PeerEndedError from error
    return ServiceError.relayed(parts.pop("status"), parts.pop("code"), parts.pop("message"), **parts)
