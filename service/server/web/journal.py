"""One request looked up in the journal, and its rows run again: for a person, in a child process that is not in a hurry.

Who may ask is decided at the gate. The service itself reads no row of the journal and needs no pyarrow for it: a search, the
model that it loads and what it runs live and end with the child. One search at a time is made in each worker.
"""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from batchproof.service import errors
from batchproof.service.errors import CallerGoneError, ServiceError
from batchproof.service.inference.catalogue.repository import BundleFolder
from batchproof.service.inference.engine import provider_of
from batchproof.service.journal.replaying.search import Search, search
from batchproof.service.protocols.accept import preferred
from batchproof.service.protocols.head import HEAD_KEY, REQUEST_ID, RequestHead
from batchproof.service.runtime import child_process
from batchproof.service.runtime.child_process import Bounds, ChildError
from batchproof.service.runtime.logs import event
from batchproof.service.runtime.threads import in_thread
from batchproof.service.server.loading.loading import engine_options
from batchproof.service.server.openapi.native import refusal
from batchproof.service.server.serving.app import App
from batchproof.service.server.web.report import policy

SEARCH_S = 20.0  # of looking for segments; what was found by then is run again
BOUNDS = Bounds(memory_bytes=2 << 30, seconds=120.0)
LOOK_S = 0.25  # between two questions whether the caller is still there
GIVEN_UP = "given up"  # an outcome beside those of a search
HTML, JSON = "text/html", "application/json"
NARROW = "name a shorter time with since and until, or use batchproof replay, which has no limit"
REFUSALS = {
    400: "The id cannot be one, or another parameter is wrong.",
    403: "The setting journal_search does not open the journal.",
    404: "There is no journal, or no such request in it.",
    429: "This worker makes another search.",
    503: "The journal cannot be read, or the service is shutting down.",
    504: "The search took too long.",
}


class Asked(BaseModel):
    """What is asked of the journal."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, Field(description="the request's id: X-Request-Id of the request, or of its response")]
    row: Annotated[int | None, Field(ge=0, description="only this row of the request, from 0 on")] = None
    since: Annotated[
        datetime | None, Field(description="look only at segments that may have rows from then on; UTC")
    ] = None
    until: Annotated[datetime | None, Field(description="look only at segments that may have rows before; UTC")] = None


class Fault(BaseModel):
    """A segment that holds the id and is not as it was written."""

    segment: str
    what: str


class Found(BaseModel):
    """A request as the journal has it. `decisions` are the first rows, as `batchproof replay --id ID --json` prints them."""

    request_id: str
    rows: int
    segments: int
    segments_searched: int
    problems: list[Fault]
    decisions: list[dict[str, Any]]


RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": Found, "description": "With Accept: text/html a page for an auditor."},
    **{status: refusal(text) for status, text in REFUSALS.items()},
}


def routes(service: App) -> APIRouter:
    """Return the route of the journal."""
    router = APIRouter(tags=["journal"])
    place = threading.Lock()

    @router.get(
        "/journal/request",
        summary="Look a request up in the journal and run it again",
        response_class=Response,
        responses=RESPONSES,
    )
    async def read(request: Request, asked: Annotated[Asked, Query()]) -> Response:
        """Rows that the journal leaves out or has as hashes in part are shown so, and are not run again."""
        head: RequestHead = request.scope[HEAD_KEY]
        _check(service, asked)
        if not place.acquire(blocking=False):
            message = "Another search of the journal is being made; try again when it has ended."
            raise ServiceError(429, "overloaded", message, retry_after_s=2)
        caller, outcome = "" if head.grant is None else head.grant.name, "failed"
        try:
            is_page = preferred(head.special.get(b"accept"), (JSON, HTML)) == HTML
            outcome, content = await _searched(service, request, asked, is_page=is_page)
        finally:
            place.release()
            event("journal_searched", 20, request_id=head.request_id, caller=caller, wanted=asked.id, outcome=outcome)
        if outcome == GIVEN_UP:
            return Response(status_code=503)  # which nobody reads
        return _answer(asked, outcome, content, is_page=is_page)

    return router


def _check(service: App, asked: Asked) -> None:
    """Raise ServiceError where there is nothing to look for, or nowhere to."""
    settings = service.settings
    if not settings.journal:
        raise ServiceError(404, "no_journal", "This service keeps no journal; the setting journal names its folder.")
    if not (settings.journal_search == "yes" or (settings.journal_search == "auto" and settings.wants_keys)):
        message = "This service does not show its journal; the setting journal_search allows it."
        raise ServiceError(403, "journal_not_shown", message)
    if not REQUEST_ID.fullmatch(asked.id.encode()):
        message = (
            "The parameter id is not the id of a request: 1 to 128 printable characters of ASCII, without space, "
            "quote and backslash."
        )
        raise ServiceError(400, "invalid_parameter", message)


async def _searched(service: App, request: Request, asked: Asked, *, is_page: bool) -> tuple[str, str]:
    """Return outcome and content; raises ServiceError, and CallerGoneError once nobody waits for it."""
    is_gone = threading.Event()
    work = in_thread(None, _search, service, asked, partial(_go_on, service, is_gone), is_page=is_page)
    try:
        while not work.done():
            await asyncio.wait([work], timeout=LOOK_S)
            if not work.done() and await request.is_disconnected():
                is_gone.set()
        return work.result()
    except CallerGoneError:
        return GIVEN_UP, ""
    finally:
        is_gone.set()


def _go_on(service: App, is_gone: threading.Event) -> None:
    """Raise what ends a search."""
    if is_gone.is_set():
        raise CallerGoneError
    if service.is_stopping:
        raise errors.draining()


def _search(service: App, asked: Asked, go_on: Callable[[], None], *, is_page: bool) -> tuple[str, str]:
    """Search in a child process, which alone loads pyarrow. Blocks; raises ServiceError and CallerGoneError."""
    settings = service.settings
    served = [
        BundleFolder(name, version, model.bundle.folder)
        for name, versions in service.registry.models.items()
        for version, model in versions.items()
    ]
    options = engine_options(settings)
    wanted = Search(
        Path(settings.journal), asked.id, asked.row, _utc(asked.since), _utc(asked.until), SEARCH_S,
        settings.models, served, options, settings.run_rows, is_page,
    )  # fmt: skip
    bounds = replace(BOUNDS, is_strict=provider_of(options)[0] == "CPUExecutionProvider")
    try:
        text = child_process.run(search, wanted, bounds=bounds, spawn=True, go_on=go_on)
    except ChildError as error:
        if error.kind == "time":
            raise ServiceError(504, "search_too_long", f"The search {error}; {NARROW}.") from error
        raise ServiceError(503, "journal_not_read", f"The search of the journal {error}.") from error
    outcome, _, content = text.partition("\n")
    return outcome, content


def _utc(moment: datetime | None) -> datetime | None:
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)


def _answer(asked: Asked, outcome: str, content: str, *, is_page: bool) -> Response:
    """Return what was found; raises ServiceError where nothing was."""
    if outcome == "found":
        raw = content.encode()
        return (
            HTMLResponse(raw, headers={"content-security-policy": policy(raw)})
            if is_page
            else Response(raw, media_type=JSON)
        )
    if outcome == "unknown":
        what = "request" if asked.row is None else f"row {asked.row} of a request"
        when = " in this time" if asked.since or asked.until else ""
        message = (
            f"The journal holds no {what} {asked.id!r}{when}. It may not have been recorded (journal_share, or it was "
            "refused), or be gone (journal_keep_s)."
        )
        raise ServiceError(404, "unknown_request", message)
    if outcome == "too long":
        raise ServiceError(
            504, "search_too_long", f"The request was not found in the {content} that {SEARCH_S:g} s allowed; {NARROW}."
        )
    raise ServiceError(503, "journal_not_read", f"The journal cannot be read: {content}.")
