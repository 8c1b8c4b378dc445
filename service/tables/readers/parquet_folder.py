"""A folder of Parquet files that are one table, as Spark and others write it. Loaded only where pyarrow is installed."""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any, TypeAlias

import pyarrow as pa
from pyarrow import dataset as datasets
from pyarrow import fs, parquet

from batchproof.service.errors import ServiceError, first_line
from batchproof.service.stores.object_path import ObjectPath
from batchproof.service.tables.block import Blocks, Reading, differing_columns, invalid_table, places_of
from batchproof.service.tables.readers.arrow import batch_blocks
from batchproof.service.tables.readers.arrow_types import index_names
from batchproof.service.tables.readers.record_batches import BUFFER_BYTES, INT96_UNIT, ArrowFaults, as_many

TablePath: TypeAlias = Path | ObjectPath
# As `PARQUET_OPTIONS`, whose comments say why.
SCAN_OPTIONS = datasets.ParquetFragmentScanOptions(
    use_buffered_stream=True, buffer_size=BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True
)


def folder_blocks(folder: TablePath, files: Sequence[TablePath], reading: Reading) -> Blocks:
    """Read the files of a folder one after another; raises 400 where one is broken and 422 where its columns differ."""
    with ArrowFaults("a folder of Parquet"):
        dataset = folder_dataset(folder, files)
        schema = dataset.schema
        places_of(schema.names, reading, index_names(schema.metadata))
        batches = folder_batches(folder, dataset, batch_size=reading.block_rows, use_threads=False)
        yield from batch_blocks(schema, batches, reading, "a folder of Parquet")


def folder_batches(folder: TablePath, dataset: Any, **options: Any) -> Iterator[pa.RecordBatch]:
    """Read a dataset of `folder_dataset` file by file; raises 400 that names the file which is damaged."""
    for part in dataset.get_fragments():
        try:
            yield from as_many(part.to_batches(schema=dataset.schema, **options), part.metadata.num_rows)
        except (pa.ArrowNotImplementedError, MemoryError):  # no damage; `ArrowFaults` says what it is
            raise
        except (pa.ArrowException, OSError) as error:
            place = PurePath(part.path).relative_to(_name_of(folder))
            raise ServiceError(400, "broken_table", f"{place} cannot be read: {first_line(error)}.") from error


def folder_dataset(folder: TablePath, files: Sequence[TablePath]) -> Any:
    """Return the files as one dataset; folders named `column=value` are columns. Raises 422 where columns differ."""
    _check_columns(folder, files)
    system = folder.files if isinstance(folder, ObjectPath) else fs.LocalFileSystem()
    options = datasets.FileSystemFactoryOptions(
        partition_base_dir=_name_of(folder), partitioning=datasets.HivePartitioning.discover()
    )
    file_format = datasets.ParquetFileFormat(
        coerce_int96_timestamp_unit=INT96_UNIT, default_fragment_scan_options=SCAN_OPTIONS
    )
    return datasets.FileSystemDatasetFactory(system, [_name_of(path) for path in files], file_format, options).finish()


def _name_of(path: TablePath) -> str:
    """Return the name of a file or folder in its file system."""
    return path.path if isinstance(path, ObjectPath) else str(path.absolute())


def _check_columns(folder: TablePath, files: Sequence[TablePath]) -> None:
    """Raise 422 for a file whose columns are not those of the first one: its values would be lost without a word."""
    first: Sequence[str] | None = None
    places = [PurePath(_name_of(path)).relative_to(_name_of(folder)) for path in files]
    for path, place in zip(files, places, strict=True):
        try:
            names = parquet.read_schema(path.open_random() if isinstance(path, ObjectPath) else path).names
        except (pa.ArrowException, OSError) as error:
            raise ServiceError(400, "broken_table", f"{place} is not Parquet: {first_line(error)}.") from error
        first = names if first is None else first
        differing = differing_columns(names, first)
        if differing:
            raise invalid_table(
                f"{place} and {places[0]} have different columns: {differing}. All parts of a table have the same columns."
            )
