"""A folder of Parquet files that are one table, as Spark and others write it. Loaded only where pyarrow is installed."""

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any, TypeAlias

import pyarrow as pa
from pyarrow import dataset as datasets
from pyarrow import fs, parquet

from batchproof.service.errors import ServiceError
from batchproof.service.features.row_encoder import listed
from batchproof.service.stores.object_path import ObjectPath
from batchproof.service.tables.block import Blocks, Reading, invalid_table, places_of
from batchproof.service.tables.readers.arrow import batch_blocks
from batchproof.service.tables.readers.arrow_types import index_names
from batchproof.service.tables.readers.record_batches import ArrowFaults

TablePath: TypeAlias = Path | ObjectPath


def folder_blocks(folder: TablePath, files: Sequence[TablePath], reading: Reading) -> Blocks:
    """Read the files of a folder one after another; raises 400 where one is broken and 422 where its columns differ."""
    with ArrowFaults("a folder of Parquet"):
        dataset = folder_dataset(folder, files)
        schema = dataset.schema
        places_of(schema.names, reading, index_names(schema.metadata))
        batches = dataset.to_batches(batch_size=reading.block_rows, use_threads=False)
        yield from batch_blocks(schema, batches, reading, "a folder of Parquet")


def folder_dataset(folder: TablePath, files: Sequence[TablePath]) -> Any:
    """Return the files as one dataset; folders named `column=value` are columns. Raises 422 where columns differ."""
    _check_columns(folder, files)
    system = folder.files if isinstance(folder, ObjectPath) else fs.LocalFileSystem()
    options = datasets.FileSystemFactoryOptions(
        partition_base_dir=_name_of(folder), partitioning=datasets.HivePartitioning.discover()
    )
    file_format = datasets.ParquetFileFormat(coerce_int96_timestamp_unit="us")
    return datasets.FileSystemDatasetFactory(system, [_name_of(path) for path in files], file_format, options).finish()


def _name_of(path: TablePath) -> str:
    """Return the name of a file or folder in its file system."""
    return path.path if isinstance(path, ObjectPath) else str(path.absolute())


def _check_columns(folder: TablePath, files: Sequence[TablePath]) -> None:
    """Raise 422 for a file whose columns are not those of the first one: its values would be lost without a word."""
    first: Sequence[str] = ()
    places = [PurePath(_name_of(path)).relative_to(_name_of(folder)) for path in files]
    for path, place in zip(files, places, strict=True):
        try:
            names = parquet.read_schema(path.open_random() if isinstance(path, ObjectPath) else path).names
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise ServiceError(400, "broken_table", f"{place} is not Parquet: {reason}.") from error
        first = first or names
        differing = sorted(set(names) ^ set(first))
        if differing:
            raise invalid_table(
                f"The files of the folder have other columns: {places[0]} and {place} differ in {listed(differing)}."
            )
