"""A folder of Parquet files that are one table, as Spark and others write it. Loaded only where pyarrow is installed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import dataset as datasets
from pyarrow import fs, parquet

from batchproof.service.errors import ServiceError
from batchproof.service.features.row_encoder import listed
from batchproof.service.tables.block import Blocks, Reading, invalid_table, places_of
from batchproof.service.tables.readers.arrow import batch_blocks
from batchproof.service.tables.readers.arrow_types import index_names
from batchproof.service.tables.readers.record_batches import ArrowFaults


def folder_blocks(folder: Path, files: Sequence[Path], reading: Reading) -> Blocks:
    """Read the files of a folder one after another; raises 400 where one is broken and 422 where its columns differ."""
    with ArrowFaults("a folder of Parquet"):
        dataset = folder_dataset(folder, files)
        schema = dataset.schema
        places_of(schema.names, reading, index_names(schema.metadata))
        batches = dataset.to_batches(batch_size=reading.block_rows, use_threads=False)
        yield from batch_blocks(schema, batches, reading, "a folder of Parquet")


def folder_dataset(folder: Path, files: Sequence[Path]) -> Any:
    """Return the files as one dataset; folders named `column=value` are columns. Raises 422 where columns differ."""
    _check_columns(folder, files)
    options = datasets.FileSystemFactoryOptions(
        partition_base_dir=str(folder.absolute()), partitioning=datasets.HivePartitioning.discover()
    )
    file_format = datasets.ParquetFileFormat(coerce_int96_timestamp_unit="us")
    paths = [str(path.absolute()) for path in files]
    return datasets.FileSystemDatasetFactory(fs.LocalFileSystem(), paths, file_format, options).finish()


def _check_columns(folder: Path, files: Sequence[Path]) -> None:
    """Raise 422 for a file whose columns are not those of the first one: its values would be lost without a word."""
    first: Sequence[str] = ()
    for path in files:
        try:
            names = parquet.read_schema(path).names
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise ServiceError(400, "broken_table", f"{path.relative_to(folder)} is not Parquet: {reason}.") from error
        first = first or names
        differing = sorted(set(names) ^ set(first))
        if differing:
            raise invalid_table(
                f"The files of the folder have other columns: {files[0].relative_to(folder)} and "
                f"{path.relative_to(folder)} differ in {listed(differing)}."
            )
