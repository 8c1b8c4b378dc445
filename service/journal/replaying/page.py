"""Decisions as one HTML page: no script, no request to anywhere, every text escaped, readable on a phone and on paper."""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import batchproof
from batchproof.service.journal.values import text

STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def page(
    decisions: Sequence[Mapping[str, Any]],
    checked: Sequence[str],
    missing: Sequence[str] = (),
    made_by: str = "batchproof replay",
) -> str:
    """Return the page of one request's rows.

    `checked` says what the check of the journal came to: a sentence, then problems; `missing` what of the request is not here.
    """
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    title = escape(f"Decision {decisions[0]['request']['request_id']}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
        f'content="{policy}"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{title}</title><link rel="icon" href="data:,"><style>{STYLE}</style></head><body><main>'
        f"<h1>{title}</h1>{''.join(map(_article, decisions))}{_foot(checked, missing, made_by)}</main></body></html>\n"
    )


def more_rows(count: int) -> list[str]:
    """Return a sentence on the rows of a request that are not on its page; none where all are."""
    if count == 0:
        return []
    return [f"{count} more {'row of this request is' if count == 1 else 'rows of this request are'} not on this page."]


def _foot(checked: Sequence[str], missing: Sequence[str], made_by: str) -> str:
    """Return what was checked and what is missing, with which program and when."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    made = f"Made by {made_by}, version {batchproof.__version__}, at {now}."
    first, *problems = checked
    said = [_paragraph(f"The journal: {first}.", "good" if not problems else "bad")]
    return _section(
        "This page", *said, *(_paragraph(one, "bad") for one in (*problems, *missing)), _paragraph(made, "soft")
    )


def _article(decision: Mapping[str, Any]) -> str:
    request, model = decision["request"], decision["model"]
    asked = {
        "Time": _moment(request["time"]),
        "Caller": request["caller"] or "no key was needed",
        "Protocol": request["protocol"],
        "Model": f"{model['name']}, version {model['version']}",
        "Checksum of the bundle": _Code(model["sha256"]),
    }
    parts = [
        _section("Answer", _answer(decision), _again(decision["again"])),
        _section("Request", _table(asked)),
        _section("Values", _table({one["name"]: _value(one) for one in decision["inputs"]})),
        *map(_explanation, decision.get("explanations", [decision["explanation"]])),
        _section("Proof", _table(_proof(decision["proof"], request))),
        _section("Model", _table(_card(model))),
        _section("Outputs and their bits", _table(_bits(decision))),
    ]
    row = _paragraph(f"Row {request['row']} of the request (the first is 0)", "soft")
    return f"<article>{row}{''.join(parts)}</article>"


def _moment(time: str) -> str:
    """Return an ISO time in UTC for people."""
    return time.replace("T", " ").replace("+00:00", " UTC")


class _Code(str):
    """A text to be shown as code."""

    __slots__ = ()


def _answer(decision: Mapping[str, Any]) -> str:
    prediction = decision["prediction"]
    if prediction is None:
        return _paragraph("The model is not at hand: its raw outputs are below.", "soft")
    if "values" in prediction:
        return _table(prediction["values"])
    if "label" not in prediction:
        name = escape(str(decision["model"].get("target", "value")))
        quantiles = {f"quantile {level}": value for level, value in prediction.get("quantiles", {}).items()}
        return f"<p>{name}: <strong>{prediction['value']}</strong></p>{_table(quantiles) if quantiles else ''}"
    target = escape(str(decision["model"].get("target", "label")))
    shares = {str(name): f"{100 * share:.4g} %" for name, share in prediction["probabilities"].items()}
    return f"<p>{target}: <strong>{escape(str(prediction['label']))}</strong></p>{_table(shares)}"


def _again(again: Mapping[str, Any]) -> str:
    if not again["was_run"]:
        return _paragraph(f"It was not run again: {again['why']}.", "bad")
    if again["equal_alone"] and again["equal_in_batch"]:
        return _paragraph(
            f"Run again, every bit is equal: alone, and in a batch of {again['batch_rows']} rows.", "good"
        )
    where = " and ".join(
        name for name, key in (("alone", "equal_alone"), ("in a batch", "equal_in_batch")) if not again[key]
    )
    return _paragraph(f"Run again {where}, the bits differ from those that were answered.", "bad")


def _explanation(explanation: Mapping[str, Any] | None) -> str:
    if explanation is None:
        return ""
    contributions = explanation["contributions"]
    most = max(map(abs, contributions.values()), default=0.0) or 1.0
    rows = sorted(contributions.items(), key=lambda pair: -abs(pair[1]))
    bars = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{value:+.4g}{_bar(value / most)}</td></tr>' for name, value in rows
    )
    how = "exact Shapley values" if explanation["is_exact"] else "Shapley values, estimated"
    sentence = (
        f"What each value adds to the {explanation['of']}, from {explanation['baseline']:.4g} for a typical row to "
        f"{explanation['score']:.4g} for this one ({how})."
    )
    return _section("Contributions", _paragraph(sentence, "soft"), f"<table>{bars}</table>")


def _bar(share: float) -> str:
    """Return a bar of -1 to 1 around the middle."""
    width = 50 * abs(share)
    start, kind = (50.0, "plus") if share >= 0 else (50 - width, "minus")
    return (
        '<svg viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="{kind}" x="{start:.2f}" y="0.5" width="{width:.2f}" height="3"/>'
        '<line class="axis" x1="50" y1="0" x2="50" y2="4"/></svg>'
    )


def _proof(proof: Mapping[str, Any], request: Mapping[str, Any]) -> dict[str, Any]:
    checked = "made by a trusted key" if request["segment_signature_checked"] else "there is none"
    if request["segment_has_signature"] and not request["segment_signature_checked"]:
        checked = "there is one; it was not checked, as batchproof replay --trusted-key does"
    rows = {
        "Arithmetic": proof["arithmetic"],
        "Invariance when it answered": proof["when_answered"],
        "Invariance here": proof.get("now", ""),
        "What was tried here": proof.get("sentence", ""),
        "Claim of the certificate": proof.get("claim", ""),
        "Engine when it answered": proof["engine_when_answered"],
        "Engine here": proof.get("engine_now", ""),
        "Signer of the bundle": proof["signer_when_answered"] or "no signature was checked when it answered",
        "Segment of the journal": _Code(request["segment"]),
        "Its SHA-256": _Code(request["segment_sha256"]),
        "Its signature": checked if request["segment_finished"] else "none: the segment was not finished",
    }
    return {name: value for name, value in rows.items() if value}


def _card(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model card as one table: nested names are joined by dots."""
    return {name: value for name, value in _flat(model) if value not in ("", None)}


def _flat(values: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + str(name), ", ".join(map(str, value)) if isinstance(value, list | tuple) else _rounded(value)


def _rounded(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def _bits(decision: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _Code(f"{', '.join(map(str, values))} = {decision['bits'][name]}")
        for name, values in decision["outputs"].items()
    }


def _value(given: Mapping[str, Any]) -> str:
    if given["value"] is None:
        return str(given["note"])
    return text(given["value"]) + (f" ({given['note']})" if given["note"] else "")


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def _paragraph(text: str, look: str) -> str:
    return f'<p class="{look}">{escape(text)}</p>'


def _table(rows: Mapping[str, Any]) -> str:
    cells = ((escape(str(name)), escape(str(value)), isinstance(value, _Code)) for name, value in rows.items())
    lines = (
        f'<tr><th scope="row">{name}</th><td>{f"<code>{value}</code>" if is_code else value}</td></tr>'
        for name, value, is_code in cells
    )
    return f"<table>{''.join(lines)}</table>"
