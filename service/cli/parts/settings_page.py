"""docs/settings.md, from the settings themselves: `batchproof settings --markdown > docs/settings.md`."""

from batchproof.service.configuration import settings
from batchproof.service.configuration.setting_sources import FILE_NAME, PREFIX
from batchproof.service.configuration.setting_texts import text
from batchproof.service.configuration.settings import Settings

INTRODUCTION = f"""# Settings

Every setting of `batchproof serve`. The first of these that sets a value wins: the flag, the environment variable, the
settings file (TOML, `--settings FILE` or `{FILE_NAME}`), the default. `batchproof settings` prints each current value
and where it came from. A wrong value, an unknown name in the file or an unknown environment variable `{PREFIX}…` stops
the start with one sentence and exit code 2. If the service cannot start for another reason (an address in use, no
engine), the exit code is 3.

| setting | default | takes | unit | meaning |
|---|---|---|---|---|
"""
CLOSING = """
The flag of a setting is its name with hyphens: `--max-rows 1000`. The environment variable is in capitals:
`BATCHPROOF_MAX_ROWS=1000`. The name in the file is the setting's own: `max_rows = 1000`.

This page is written by `batchproof settings --markdown`; a test compares it with the code.
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
        field.unit,
        field.description.replace("|", "\\|"),
    )
    return "| " + " | ".join(cells) + " |\n"
