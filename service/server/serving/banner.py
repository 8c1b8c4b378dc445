"""What is printed when the service is up: its address, its API page, and a request that works as it is."""

import json
import sys

from batchproof.service.features import examples as samples
from batchproof.service.inference.model import Model
from batchproof.service.runtime.logs import event, is_json
from batchproof.service.server.serving.app import App

REFUSALS = 5  # at most so many lines for refused models


def greet(service: App, host: str, port: int) -> None:
    """Print the lines or, where they would stand among JSON lines of the log, log them as one event."""
    is_log_apart = sys.stdout.isatty() and not sys.stderr.isatty()
    if is_json(service.settings.log_format) and not is_log_apart:
        base = address(service, host, port)
        example_request = example(service, base)
        event("serving", url=base, api_page=f"{base}/docs", **({"example": example_request} if example_request else {}))
        return
    sys.stdout.write(text(service, host, port) + "\n")
    sys.stdout.flush()


def address(service: App, host: str, port: int) -> str:
    """Return the address to show for one that the service listens on."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    scheme = "http" if service.tls is None else "https"
    return f"{scheme}://{shown}:{port}{service.settings.root_path}"


def text(service: App, host: str, port: int) -> str:
    """Return the lines."""
    base = address(service, host, port)
    lines = [f"Batchproof serves {_names(service)} at {base}", *_refused(service), f"  API page  {base}/docs"]
    if command := example(service, base):
        lines += ["  try it", command]
    return "\n".join(lines)


def example(service: App, base: str) -> str | None:
    """Return a curl command with an example row for the default model, or of the first one."""
    names = list(service.registry.models)
    if not names:
        return None
    name = service.default or names[0]
    path = "/predict" if name == service.default else f"/models/{name}/predict"
    body = json.dumps({"rows": [row(service.registry.newest(name))]}, ensure_ascii=False).replace("'", "'\\''")
    return f"curl {base}{path} -d '{body}'"


def row(model: Model) -> dict[str, object]:
    """Return an example row by name."""
    signature = model.manifest.signature
    return samples.named(signature, samples.rows(signature, model.bundle.golden.rows)[0])


def _names(service: App) -> str:
    models = [f"{name} {max(versions)}" for name, versions in service.registry.models.items()]
    if models or service.registry.refusals:
        return ", ".join(models) or "no model"
    return f"no model (there is no NAME/VERSION/bundle.json in {service.settings.models})"


def _refused(service: App) -> list[str]:
    refusals = service.registry.refusals
    shown = [f"  refused   {one.name} {one.version or ''}".rstrip() + f": {one.message}" for one in refusals[:REFUSALS]]
    more = len(refusals) - len(shown)
    return [*shown, f"  refused   {more} more: see the log"] if more else shown
