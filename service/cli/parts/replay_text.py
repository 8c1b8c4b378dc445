"""What `batchproof replay` found, as sentences and small tables."""

from collections.abc import Iterator, Mapping
from typing import Any

from batchproof.service.journal.values import text as shown_text

Content = Mapping[str, Any]


def text(content: Content) -> str:
    """Return everything as lines of text."""
    lines = list(map(named, content["problems"]))
    for kind, write in (("results", _result), ("decisions", _decision), ("comparisons", _comparison)):
        for part in content.get(kind, ()):
            lines += write(part)
    if (rest := content.get("decision_rows", 0) - len(content.get("decisions", ()))) > 0:
        lines.append(f"  {rest} more {'row' if rest == 1 else 'rows'} of this request: --row N shows one of them")
    if content.get("windows"):
        lines += _windows(content["windows"])
    lines.append(checked(content))
    return "\n".join(lines)


def named(problem: Content) -> str:
    """Return what is wrong with a segment, which begins with its name."""
    what: str = problem["what"]
    return what if what.startswith(problem["segment"]) else f"{problem['segment']}: {what}"


def checked(content: Content) -> str:
    """Return what the check of the journal itself came to."""
    count, signed = content["segments"], content["signed_segments"]
    segments = "1 segment is as it was" if count == 1 else f"{count} segments are as they were"
    by_key = "" if signed is None else f", {signed} of them signed by a trusted key"
    problems = len(content["problems"])
    return f"{segments} written{by_key}; {'1 problem' if problems == 1 else f'{problems} problems'}"


def _result(result: Content) -> Iterator[str]:
    named = f"{result['model']} version {result['version']}"
    yield f"{named}: {result['equal']} of {result['rows']} rows equal, alone and in batches"
    for why, rows in result["skipped"].items():
        yield f"  {'1 row was' if rows == 1 else f'{rows} rows were'} not run: {why}"
    if result["differing"]:
        yield f"  {result['differing']} {'row differs' if result['differing'] == 1 else 'rows differ'}"
        for name, then in result["then"].items():
            yield f"  {name}: {then} answered, {result['now'][name]} ran them again"
    for _, request_id, row, output, answered, again, batch_rows in result["differences"]:
        how = "alone" if batch_rows == 1 else f"in a batch of {batch_rows}"
        yield f"  {request_id} row {row}, {output}: answered {answered}, {how} {again}"


def _decision(decision: Content) -> Iterator[str]:
    request, model = decision["request"], decision["model"]
    yield f"{request['request_id']} row {request['row']}, {request['time']}, {model['name']} version {model['version']}"
    prediction = decision["prediction"]
    if prediction is not None:
        yield f"  answer: {_answer(prediction)}"
    again = decision["again"]
    if again["was_run"]:
        equal = again["equal_alone"] and again["equal_in_batch"]
        yield f"  run again: {'every bit is equal' if equal else 'the bits differ'}"
    else:
        yield f"  not run again: {again['why']}"
    explanations = decision.get("explanations") or ([decision["explanation"]] if decision["explanation"] else [])
    for given in decision["inputs"]:
        value = given["note"] if given["value"] is None else shown_text(given["value"])
        if given["value"] is not None and given["note"]:
            value += f", {given['note']}"
        name = given["name"]
        shares = [f"{one['contributions'][name]:+.4g}" for one in explanations if name in one["contributions"]]
        share = f"  ({', '.join(shares)})" if shares else ""
        yield f"  {name}: {value}{share}"
    proof = decision["proof"]
    yield f"  proof: {proof['arithmetic']} arithmetic, {proof['when_answered']} when it answered" + (
        f", {proof['now']} here" if "now" in proof else ""
    )


def _answer(prediction: Content) -> Any:
    """Return the label, the value, or the values of several targets, in which order the contributions below are too."""
    if "values" in prediction:
        return ", ".join(f"{target} {value}" for target, value in prediction["values"].items())
    return prediction.get("label", prediction.get("value"))


def _comparison(compared: Content) -> Iterator[str]:
    yield (
        f"{compared['model']} version {compared['version']} against version {compared['against']}: {compared['rows']} "
        f"rows, {compared['changed_labels']} changed labels, largest difference {compared['largest_difference']:.3g}"
    )
    for change in compared["changes"][:10]:
        yield f"  {change['then']} -> {change['now']}: {change['rows']} rows"
    most = max((each["rows"] for each in compared["histogram"]), default=1)
    for each in compared["histogram"]:
        name = "equal" if each["to"] == 0 else f"over {each['above']:g}" if each["to"] is None else f"to {each['to']:g}"
        yield f"  {name:>10} {each['rows']:>10} {'#' * round(40 * each['rows'] / most)}"
    for row in compared["worst"]:
        yield f"  {row['request_id']} row {row['row']}: {row['then']} -> {row['now']}, {row['difference']:.3g} apart"
    for why, rows in compared["skipped"].items():
        yield f"  {'1 row was' if rows == 1 else f'{rows} rows were'} not compared: {why}"
    if compared["rows_with_unknown_categories"]:
        yield (
            f"  {compared['rows_with_unknown_categories']} rows have a category that version {compared['version']} did "
            "not know: the journal has no text of it, and it counts as unknown here too"
        )


def _windows(windows: list[Content]) -> Iterator[str]:
    for window in windows:
        metrics = ", ".join(
            f"{name.replace('_', ' ')} {window[name]:.4g}"
            for name in ("accuracy", "log_loss", "rmse", "mae")
            if window.get(name) is not None
        )
        named = f"{window['model']} version {window['version']}" + (f", {window['start']}" if window["start"] else "")
        named += f", {window['target']}" if "target" in window else ""
        yield f"{named}: {window['labelled']} of {window['answered']} rows have labels{'; ' if metrics else ''}{metrics}"
        for one in window["coverage"]:
            size = next(
                f"{name.replace('_', ' ')} {value:.4g}" for name, value in one.items() if name.startswith("mean")
            )
            yield f"  coverage promised {100 * one['promised']:g} %, measured {100 * one['measured']:.4g} %, {size}"
        if window["unknown_labels"]:
            count = window["unknown_labels"]
            yield f"  {'1 label is' if count == 1 else f'{count} labels are'} no class of the model, or no number"
