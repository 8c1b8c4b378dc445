"""docs/settings.md, from the settings themselves: `batchproof settings --markdown > docs/settings.md`."""

from batchproof.service import settings
from batchproof.service.setting_sources import FILE_NAME, PREFIX
from batchproof.service.setting_texts import text, unit_of
from batchproof.service.settings import Settings

INTRODUCTION = f"""# Settings

Every setting of `batchproof serve`. A value is taken from its flag, else from its environment name, else from the
settings file (TOML, `--settings FILE` or `{FILE_NAME}`), else the default stands. `batchproof settings` prints what is
in force and where each value came from. A wrong value, an unknown name in the file or an unknown `{PREFIX}…` name in
the environment stops the start with one sentence and exit code 2; whatever else keeps the service from starting (an
address in use, no engine) ends it with exit code 3.

| setting | default | takes | unit | meaning |
|---|---|---|---|---|
"""
CLOSING = """
The flag of a setting is its name with hyphens: `--max-rows 1000`. The environment name is in capitals:
`BATCHPROOF_MAX_ROWS=1000`. In the file it is itself: `max_rows = 1000`.

This page is written by `batchproof settings --markdown`; a test holds it to the code.
"""


def markdown() -> str:
    """Return the page."""
    return INTRODUCTION + "".join(_line(name) for name in Settings.model_fields) + CLOSING


def _line(name: str) -> str:
    field = Settings.model_fields[name]
    cells = (
        f"`{name}`",
        f"`{text(field.default)}`",
        settings.bounds(name).replace("|", "\\|"),
        unit_of(field),
        str(field.description).replace("|", "\\|"),
    )
    return "| " + " | ".join(cells) + " |\n"
