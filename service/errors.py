"""Refusals: one exception for everything a client or an operator did wrong, and the one JSON shape they are told in.

A `ServiceError` is raised where the fault is seen and turned into bytes at the edge. Native routes answer with

    {"error": {"code": "invalid_rows", "message": "...", "details": [...], "truncated": false}, "request_id": "..."}

Other dialects keep the status and the sentence and put them into their own shape (see service/protocols/interface.py).
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import orjson

STARTUP_FAILED = 3  # exit code: the service could not start; a supervisor does not try again
USAGE = 2  # exit code: a wrong setting or argument
UNFORESEEN = "internal_error"  # the code of a refusal whose cause the event unforeseen_error describes
NO_NUMBER = re.compile(r"(NaN|Infinity|nan|inf)\b")


def unpickled(kind: type[BaseException], arguments: tuple[Any, ...], parts: Mapping[str, Any]) -> BaseException:
    """Return an exception with what it held, whatever its constructor takes."""
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(parts)
    return error


class ServiceError(Exception):
    """A refusal with its HTTP status, a stable code, one sentence, and where in the request the fault is."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: Sequence[Mapping[str, Any]] = (),
        truncated: bool = False,
        retry_after_s: int | None = None,
        allow: str | None = None,
        authenticate: str | None = None,
    ) -> None:
        """Hold the parts; `truncated` says that there are more details than are listed.

        Half a surrogate pair, which a caller's JSON may hold and UTF-8 cannot, is escaped in the message.
        """
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message if message.isascii() else message.encode("utf-8", "backslashreplace").decode()
        self.details = details
        self.truncated = truncated
        self.retry_after_s = retry_after_s
        self.allow = allow
        self.authenticate = authenticate

    def __reduce__(self) -> tuple[Any, ...]:
        """Let it travel to another process, as from a worker of a cluster."""
        return unpickled, (type(self), self.args, self.__dict__)

    @classmethod
    def relayed(cls, status: int, code: str, message: str, **parts: Any) -> "ServiceError":
        """Return what another process of the service raised; `parts` are the rest of it, by name."""
        return cls(status, code, message, **parts)

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers that go with this refusal in every dialect."""
        headers = []
        if self.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % self.retry_after_s))
        if self.allow is not None:
            headers.append((b"allow", self.allow.encode()))
        if self.authenticate is not None:
            headers.append((b"www-authenticate", self.authenticate.encode()))
        return headers

    def as_json(self, request_id: str) -> bytes:
        """Return the body that every native route answers with."""
        error = {
            "code": self.code,
            "message": self.message,
            "details": list(self.details),
            "truncated": self.truncated,
        }
        return orjson.dumps({"error": error, "request_id": request_id})


class CallerGoneError(Exception):
    """The caller closed the connection: nobody waits for the answer any more."""


class SettingError(Exception):
    """A setting, argument or host that the service cannot start with; the text is one sentence."""


class BundleError(Exception):
    """A bundle that is refused: the sentence names the file and the field."""


class EngineError(Exception):
    """An engine that is not installed, has no such device, cannot load a graph, or failed while running."""


class JournalError(Exception):
    """A journal that is missing, damaged or changed: the sentence names the segment."""


class FeatureError(Exception):
    """Columns that do not fit the signature: the sentence names the row and the feature."""


NAME_CHARACTERS = 200  # of a caller's name that are compared with known ones and repeated in a sentence


def short(name: str) -> str:
    """Return a name of the caller's as sentences repeat it: comparing and writing it takes time for each character."""
    return name[:NAME_CHARACTERS]


def closest(wanted: str, known: Sequence[str]) -> str | None:
    """Return the known name that is most similar to `wanted`; None where none is similar."""
    return next(iter(get_close_matches(short(wanted), known, n=1)), None)


def nearest(wanted: str, known: Sequence[str], spelled: Callable[[str], str] = str) -> str:
    """Return " Did you mean 'x'?" for the most similar known name, as it is `spelled` there, or nothing."""
    name = closest(wanted, known)
    return f" Did you mean {spelled(name)!r}?" if name is not None else ""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, without its full stop and 300 characters at most; its class if empty."""
    return printable((str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip("."))


def printable(text: str) -> str:
    """Return text in which every character that is not printed is escaped: names in a file move no cursor."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def reason(error: BaseException) -> str:
    """Return what went wrong, in words; of a fault of the system with which file."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def broken_json(body: bytes, error: ValueError, hint: str = "") -> ServiceError:
    """Return 400 with the position of the fault; `hint` says what else the body may be.

    `error` is orjson's or the standard library's.
    """
    line = getattr(error, "lineno", 1)
    column = getattr(error, "colno", 1)
    position = getattr(error, "pos", 0)
    detail = {"line": line, "column": column, "position": position}
    sentence = f"The body is not JSON: {json_fault(body, error)} (line {line}, column {column}){hint}."
    return ServiceError(400, "broken_json", sentence, details=[detail])


def json_fault(body: bytes, error: ValueError) -> str:
    """Return what keeps `body` from being JSON, in words that say what to do where the parser's do not."""
    if not body.strip():
        return "the body is empty"
    if body.startswith(b"\x1f\x8b"):
        return "it looks like gzip, which needs Content-Encoding: gzip"
    try:
        text = body.decode()
    except UnicodeDecodeError as found:
        return f"it is not UTF-8 at byte {found.start}"
    token = NO_NUMBER.match(text, getattr(error, "pos", 0))
    return f"{token[0]} is not valid JSON; use null for a missing value" if token else str(getattr(error, "msg", error))


def overloaded(queued_rows: int, limit_rows: int, retry_after_s: int = 1) -> ServiceError:
    """Return 429: the queue has no place for this request."""
    return ServiceError(
        429,
        "overloaded",
        f"The queue holds {queued_rows} of at most {limit_rows} rows and has no place for this request; try again.",
        retry_after_s=retry_after_s,
    )


def too_busy(wait_s: float, timeout_s: float) -> ServiceError:
    """Return 429: the rows ahead of this request would leave it too little of its deadline."""
    return ServiceError(
        429,
        "overloaded",
        f"About {wait_s:.2g} s of work is waiting, too much for a request that must run within {timeout_s:g} s; try again.",
        retry_after_s=math.ceil(wait_s),
    )


def late(timeout_s: float) -> ServiceError:
    """Return 504: the deadline passed before the rows could run."""
    return ServiceError(504, "deadline_exceeded", f"The rows could not run within {timeout_s:g} s.")


def draining() -> ServiceError:
    """Return 503: this process takes no new work."""
    return ServiceError(503, "draining", "The service is shutting down.", retry_after_s=1)


def withdrawn(name: str) -> ServiceError:
    """Return 503: the audit saw the model break the promise that its policy requires."""
    return ServiceError(
        503,
        "withdrawn",
        f"The model {name!r} was withdrawn: an audit on this host found that a row's bits depend on its batch.",
    )


def engine_failed() -> ServiceError:
    """Return 500 for rows whose run failed; the cause is in the log, never in the answer."""
    return ServiceError(500, "engine_failed", "The engine failed on the run that held these rows.")


def too_slow(timeout_s: float) -> ServiceError:
    """Return 408: the request did not arrive in time."""
    return ServiceError(
        408, "request_timeout", f"The request's headers and body did not arrive within {timeout_s:g} s."
    )


def broken_http(why: str) -> ServiceError:
    """Return 400: what came on a connection is not a request that can be answered."""
    return ServiceError(400, "broken_http", f"The request cannot be read: {why}.")


def url_too_long(limit_bytes: int) -> ServiceError:
    """Return 414: the request line does not end within the limit."""
    return ServiceError(
        414, "url_too_long", f"The URL is longer than the limit of {limit_bytes} bytes for a request's head."
    )


def head_too_large(limit_bytes: int, limit_headers: int) -> ServiceError:
    """Return 431: the headers or trailers are too long or too many."""
    return ServiceError(
        431,
        "head_too_large",
        f"The headers or trailers go beyond the limit of {limit_bytes} bytes and {limit_headers} headers.",
    )


def internal() -> ServiceError:
    """Return 500 for what nothing in this program foresees; the cause is in the log, never in the answer."""
    return ServiceError(500, "internal_error", "The service failed on this request; its log has the cause.")


def no_disk_space(error: OSError) -> ServiceError:
    """Return 507: a table, or its answer, could not be kept in the temporary folder."""
    return ServiceError(
        507,
        "no_disk_space",
        f"The service has no room on its disk for this table ({error.strerror or error}): send fewer rows at a time, or read "
        "the answer while the body is sent.",
    )


def body_too_large(limit_bytes: int) -> ServiceError:
    """Return 413 for a body that is, or would become, longer than the limit."""
    return ServiceError(413, "body_too_large", f"The body is larger than the limit of {limit_bytes} bytes.")


ORDINARY = re.compile(r"[A-Z](?=[a-z]*[ ,])")  # JSON, UTF-8 and Content-Type keep their capitals


def behind(prefix: object, sentence: str) -> str:
    """Return `prefix: sentence`, the sentence of a refusal beginning small; it must not begin with a name of the caller's."""
    first = ORDINARY.match(sentence)
    return f"{prefix}: {first[0].lower() + sentence[1:] if first else sentence}"


def ended(sentence: str) -> str:
    """Return the sentence with one full stop at its end, unless it is a question."""
    return sentence if sentence.endswith("?") else sentence.rstrip(".") + "."
