"""The table that a bundle was trained on, prepared again as it was then."""

from batchproof.service.bundle.reader import Bundle
from batchproof.service.configuration.address import Root
from batchproof.training.data.dataset import Dataset, prepare
from batchproof.training.data.tables.local_table import local_table
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.settings import make


def training_data(bundle: Bundle, table: Root) -> Dataset:
    """Return the table's columns, encoded and split as in training; raises TableError for another table."""
    provenance = bundle.manifest.provenance
    settings = {name: value for name, value in provenance["settings"].items() if value is not None}
    with local_table(table) as path:
        data = prepare(path, make(settings))
    if data.table.sha256 != provenance["data"]["sha256"]:
        raise TableError(f"{table} is not the table that the bundle was trained on: their SHA-256 differ.")
    return data
