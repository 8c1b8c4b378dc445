"""A run while it goes on, as one HTML file beside it: epochs, encodings that were tried, time left, and the report at the end.

A file needs no port, works where only a folder is shared, and is still there after the run. Its one script, which the page's
policy names by its hash, loads the page again, and says so where no news came for long. Writing takes at most a fiftieth of
the run's time, and a disk that takes no more ends only the page.
"""

import base64
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from urllib.parse import quote

from batchproof.service.errors import first_line, reason
from batchproof.training.fit.loop import Epoch
from batchproof.training.fit.progress import Progress, duration
from batchproof.training.report import markup
from batchproof.training.report.charts import svg as charts
from batchproof.training.report.charts.scale import number
from batchproof.training.report.charts.svg import Axes, Line
from batchproof.training.report.page import STYLE

INTERVAL_S = 1.0  # between two writes, or more
PATIENCE = 50  # times what the last write took
POINTS = 400  # of a line
LINES = 200  # that the run said, the newest
QUIET_S = 60.0  # without news, after which the run may have ended
AGAIN = """\
const news = document.getElementById("news");
const look = () => {
  const quiet = Date.now() / 1000 - Number(news.dataset.at);
  if (quiet > Number(news.dataset.patience)) {
    news.hidden = false;
    news.querySelector("b").textContent = `${Math.round(quiet)} s`;
  }
};
const again = () => (document.hidden ? setTimeout(again, 2000) : location.reload());
look();
setTimeout(again, 2000);
"""


@dataclass
class _Fit:
    """One fit and its epochs so far."""

    encoding: str
    epochs: list[Epoch] = field(default_factory=list)
    planned: int = 0
    begun_s: float = 0.0  # of time.monotonic

    @property
    def best(self) -> Epoch:
        """Return the epoch with the least validation loss; there is at least one."""
        return min(self.epochs, key=lambda epoch: epoch.validation_loss)


class LivePage(Progress):
    """Forwards to another progress, and shows the same in a file."""

    def __init__(self, inner: Progress, file: Path, title: str, about: str, start_s: float) -> None:
        """Write `file` at once; raises OSError. `title` and `about` head it, and time counts from `start_s` of time.monotonic."""
        super().__init__(inner.stream)
        self._inner, self._file = inner, file
        self._title, self._about, self._start_time_s = title, about, start_s
        self._fits: list[_Fit] = []
        self._tried: list[tuple[str, float]] = []
        self._total = 0
        self._said: list[str] = []
        self._due_s = 0.0
        self._is_broken = False
        self._write("running")

    def say(self, line: str) -> None:
        """Forward a line, and show it."""
        self._inner.say(line)
        self._said += line.splitlines()
        del self._said[:-LINES]
        self._write_when_due()

    def tried(self, encoding: str, loss: float, number: int, total: int) -> None:
        """Forward a candidate, and show it."""
        self._inner.tried(encoding, loss, number, total)
        self._tried.append((encoding, loss))
        self._total = total
        self._write_when_due()

    def begin(self, encoding: str) -> None:
        """Begin another chart."""
        self._inner.begin(encoding)
        self._fits.append(_Fit(encoding))

    def epoch(self, epoch: Epoch, epochs: int) -> None:
        """Forward an epoch, and show it."""
        self._inner.epoch(epoch, epochs)
        fit = self._fits[-1]
        if not fit.epochs:
            fit.begun_s = time.monotonic() - epoch.seconds
        fit.epochs.append(epoch)
        fit.planned = epochs
        self._write_when_due()

    def finished(self, folder: Path) -> None:
        """Show that the bundle is in `folder`, with a link to its report."""
        report = folder.resolve() / "report.html"
        try:
            link = quote(Path(os.path.relpath(report, self._file.resolve().parent)).as_posix())
        except ValueError:  # on another drive of Windows
            link = report.as_uri()
        self._last("finished", f'<a href="{link}">Read the report</a> of the bundle {escape(str(folder))}.')

    def failed(self, error: BaseException) -> None:
        """Show why there is no bundle."""
        why = "it was stopped" if isinstance(error, KeyboardInterrupt) else first_line(error)
        self._last("ended without a bundle", f"{escape(why)}.")

    def _last(self, state: str, end: str) -> None:
        self._due_s = 0.0
        self._write_when_due(state, end)

    def _write_when_due(self, state: str = "running", end: str = "") -> None:
        if self._is_broken or time.monotonic() < self._due_s:
            return
        try:
            self._write(state, end)
        except OSError as error:
            self._is_broken = True
            self._inner.say(f"warning: {self._file} shows the run no more: {reason(error)}")

    def _write(self, state: str, end: str = "") -> None:
        start_s = time.monotonic()
        part = self._file.with_name(f".{self._file.name}.part")
        try:
            part.write_text(self._page(state, end), encoding="utf-8")
            part.replace(self._file)  # a browser sees the page before or after, never half of it
        finally:
            part.unlink(missing_ok=True)  # what a full disk has cut off
        self._due_s = time.monotonic() + max(INTERVAL_S, PATIENCE * (time.monotonic() - start_s))

    def _page(self, state: str, end: str) -> str:
        is_running = state == "running"
        script = f"<script>{AGAIN}</script>" if is_running else ""
        policy = f"default-src 'none'; style-src {_hash(STYLE)}; {f'script-src {_hash(AGAIN)}; ' if is_running else ''}"
        policy += "img-src data:; base-uri 'none'; form-action 'none'"
        head = (
            f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<title>{escape(self._title)} · {state}</title><link rel="icon" href="data:,"><style>{STYLE}</style>'
        )
        parts = [
            self._header(state),
            markup.section("end", "Result", f"<p>{end}</p>") if end else _news(self._fits),
            *self._fit_parts(),
        ]
        if self._said:
            parts.append(markup.section("said", "What the run said", markup.code("\n".join(self._said))))
        body = f"<main>{''.join(parts)}{self._foot(is_running=is_running)}</main>{script}"
        return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'

    def _header(self, state: str) -> str:
        cards = [_card("run", state, f"{duration(time.monotonic() - self._start_time_s)} so far")]
        if state != "running":
            cards = [_card("run", state, f"after {duration(time.monotonic() - self._start_time_s)}")]
        if self._fits and self._fits[-1].epochs:
            fit = self._fits[-1]
            last, best = fit.epochs[-1], fit.best
            left_s = (time.monotonic() - fit.begun_s) / last.number * (fit.planned - last.number)
            note = f"at most {duration(left_s)} left of this fit" if state == "running" else "of the last fit"
            cards += [
                _card("epoch", f"{last.number} of {fit.planned}", note),
                _card("training loss", number(last.train_loss), f"epoch {last.number}"),
                _card("validation loss", number(last.validation_loss), f"best {number(best.validation_loss)}, epoch {best.number}"),
            ]  # fmt: skip
        return (
            f"<header><h1>{escape(self._title)} <small>training</small></h1>"
            f'<p class="lead">{escape(self._about)}</p><ul class="cards">{"".join(cards)}</ul></header>'
        )

    def _fit_parts(self) -> Iterator[str]:
        """Give the curves of the newest fit, and what was tried."""
        begun = [fit for fit in self._fits if fit.epochs]
        figures = [_curves(begun[-1])] if begun else []
        if self._tried:
            best = min(range(len(self._tried)), key=lambda place: self._tried[place][1])
            rows = [(place + 1, name, number(loss)) for place, (name, loss) in enumerate(self._tried)]
            more = f" {self._total - len(self._tried)} more to try." if len(self._tried) < self._total else ""
            caption = f"{len(self._tried)} of {self._total} tried, by the validation rows.{more}"
            head = ("", "encoding", "validation loss")
            table = markup.table(head, rows, numbers=(0, 2), highlighted=best)
            figures.append(markup.figure("Encodings tried", table, caption))
        if figures:
            yield markup.section("fit", f"Fit {len(begun)}" if begun else "Encodings", markup.pair(*figures))
        if len(begun) > 1:
            fits = [
                (place, fit.encoding, len(fit.epochs), number(fit.best.validation_loss), fit.best.number)
                for place, fit in enumerate(begun, 1)
            ]
            names = ("fit", "encoding", "epochs", "least validation loss", "in epoch")
            yield markup.section("fits", "All fits", markup.table(names, fits, numbers=(0, 2, 3, 4)))

    def _foot(self, *, is_running: bool) -> str:
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        again = " It loads itself again every two seconds while you look." if is_running else ""
        return markup.paragraph(f"Written at {now}.{again} It loads nothing else.", "soft")


@contextmanager
def live_page(inner: Progress, file: str | None, title: str, about: str, start_s: float) -> "Iterator[Progress]":
    """Give a progress that shows the run in `file` too, or the same one without a file; raises OSError.

    What ends the block by an exception is the reason that the page shows. A bundle is told to `finish`.
    """
    if file is None:
        yield inner
        return
    page = LivePage(inner, Path(file), title, about, start_s)
    try:
        yield page
    except BaseException as error:
        page.failed(error)
        raise


def finish(progress: Progress, folder: Path) -> None:
    """Tell a live page, if `progress` is one, that the bundle is written."""
    if isinstance(progress, LivePage):
        progress.finished(folder)


def _curves(fit: _Fit) -> str:
    """Return the losses by epoch."""
    step = -(-len(fit.epochs) // POINTS)
    shown = [*fit.epochs[::step], *([fit.epochs[-1]] if (len(fit.epochs) - 1) % step else [])]
    x = [epoch.number for epoch in shown]
    drawn = [
        Line("training", x, [epoch.train_loss for epoch in shown], "b"),
        Line("validation", x, [epoch.validation_loss for epoch in shown], "a"),
    ]
    said = f"validation {number(fit.epochs[-1].validation_loss)}, least {number(fit.best.validation_loss)} in epoch {fit.best.number}"
    axes = Axes("Loss by epoch", said, "epoch", "loss", is_whole=True)
    title = f"Loss by epoch, encoding {fit.encoding!r}"
    return markup.figure(
        title, charts.lines(axes, drawn, mark=fit.best.number), f"Dotted: epoch {fit.best.number}, the best so far."
    )


def _news(fits: list[_Fit]) -> str:
    """Return the sentence that the script shows where no news came for long; epochs may be long themselves."""
    longest_s = max((epoch.seconds for fit in fits for epoch in fit.epochs[-5:]), default=0.0)
    patience = max(QUIET_S, 5 * longest_s)
    return (
        f'<p class="warn" id="news" role="status" data-at="{time.time():.0f}" data-patience="{patience:.0f}" hidden>'
        "No news for <b></b>: the run computes something long, or it was ended from outside.</p>"
    )


def _card(name: str, value: str, note: str) -> str:
    return f"<li><span>{escape(name)}</span><b>{escape(value)}</b><span>{escape(note)}</span></li>"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
