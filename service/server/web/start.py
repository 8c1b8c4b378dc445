"""The start page: what is served here, and where to go."""

from html import escape
from pathlib import Path
from string import Template

from batchproof.service.inference.model import Model
from batchproof.service.server.serving import banner
from batchproof.service.server.serving.app import App

TEMPLATE = Template(Path(__file__).with_name("start.html").read_text(encoding="utf-8"))


def page(service: App, base: str) -> str:
    """Return the page as the reader at address `base` sees it."""
    return TEMPLATE.substitute(models=_models(service) + _refusals(service), example=_example(service, base))


def _models(service: App) -> str:
    registry = service.registry
    if not registry.models:
        return '<h2>Models</h2><p class="bad">No model is loaded.</p>'
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("Model", "Predicts", "Batch invariance", "Report"))
    rows = "".join(_row(registry.newest(name)) for name in registry.models)
    return (
        f'<h2>Models</h2><div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _row(model: Model) -> str:
    manifest = model.manifest
    status = str(model.fingerprint["invariance"])
    grade = "good" if status in ("proved", "verified", "tiled") else "bad"
    name = escape(manifest.name)
    cells = (
        f'<a href="models/{name}">{name}</a> <span class="soft">version {manifest.version}</span>',
        f"{escape(manifest.signature.target)}, {manifest.task}",
        f'<span class="{grade}">{escape(status)}</span>',
        f'<a href="models/{name}/report">read</a>' if "report.html" in manifest.files else "none",
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _refusals(service: App) -> str:
    lines = "".join(
        f'<p><span class="bad">{escape(refusal.name)} {refusal.version or ""}</span> {escape(refusal.message)}</p>'
        for refusal in service.registry.refusals
    )
    return f"<h2>Refused</h2>{lines}" if lines else ""


def _example(service: App, base: str) -> str:
    command = banner.example(service, base)
    return f"<h2>Try it</h2><pre>{escape(command)}</pre>" if command else ""
