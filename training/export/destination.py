"""Where a bundle will be written, decided before the table is read: the model's name, its folder and the version."""

import re
from dataclasses import dataclass
from pathlib import Path

from batchproof.training.data.tables.parts import model_name
from batchproof.training.export import bundle_writer as bundle
from batchproof.training.fit.checkpoint import nothing_to_resume
from batchproof.training.settings import SettingError, Settings

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class BundlePath:
    """The folder of a bundle: models/<name>/<version>/."""

    models: Path
    name: str
    version: int

    @property
    def checkpoint(self) -> Path:
        """The file that --resume continues from; hidden, so that no service mistakes it for a version."""
        return self.models / self.name / ".checkpoint.safetensors"

    @property
    def journal(self) -> Path:
        """The trials of --tune so far; a search that was ended continues from it."""
        return self.models / self.name / ".tuning.journal"


def bundle_path(path: Path, settings: Settings) -> BundlePath:
    """Return where the bundle will be written; SettingError where its name, folder or version cannot be used.

    So does a run that is to resume where no checkpoint is: reading the table first can take minutes.
    """
    name = settings.name or re.sub(r"[^A-Za-z0-9._-]+", "-", model_name(path)).strip(".-_")
    if not NAME.fullmatch(name):
        raise SettingError(f"{name!r} cannot name a model: use letters, digits, '.', '_' and '-' (--name).")
    models = Path(settings.models)
    try:
        bundle.check_writable(models / name)
    except bundle.WriteError as error:
        raise SettingError(f"no bundle can be written there: {error} Choose another folder with --models.") from error
    version = settings.version or bundle.next_version(models, name)
    if (models / name / str(version)).exists():
        raise SettingError(f"version {version} of {name!r} exists already: bundles are never overwritten.")
    destination = BundlePath(models, name, version)
    if settings.resume and not destination.checkpoint.exists():
        raise SettingError(nothing_to_resume(destination.checkpoint))
    return destination
