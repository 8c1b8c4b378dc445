"""A folder of Parquet files that are one table, as Spark and others write it. Loaded only where pyarrow is installed."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, TypeAlias

import pyarrow as pa
from pyarrow import compute, fs, parquet
from pyarrow import dataset as datasets

from batchproof.service.errors import ServiceError, first_line
from batchproof.service.stores.object_path import ObjectPath
from batchproof.service.tables.block import Blocks, Reading, differing_columns, invalid_table, places_of
from batchproof.service.tables.readers.arrow import batch_blocks
from batchproof.service.tables.readers.arrow_types import index_names
from batchproof.service.tables.readers.record_batches import (
    INT96_UNIT,
    PAGE_OPTIONS,
    PARQUET_OPTIONS,
    ArrowFaults,
    as_many,
)

TablePath: TypeAlias = Path | ObjectPath
Batches: TypeAlias = Iterator[pa.RecordBatch]
SCAN_OPTIONS = datasets.ParquetFragmentScanOptions(use_buffered_stream=True, **PAGE_OPTIONS)


def folder_blocks(folder: TablePath, files: Sequence[TablePath], reading: Reading) -> Blocks:
    """Read the files of a folder one after another; raises 400 where one is broken and 422 where its columns differ.

    Rows are numbered within their file, by whose name a bad one is found.
    """
    with ArrowFaults("a folder of Parquet"):
        dataset = folder_dataset(folder, files)
        schema = dataset.schema
        places_of(schema.names, reading, index_names(schema.metadata))
        for name, batches in folder_parts(folder, dataset, batch_size=reading.block_rows, use_threads=False):
            yield from batch_blocks(schema, batches, reading, "a folder of Parquet", name)


def folder_parts(folder: TablePath, dataset: Any, **options: Any) -> Iterator[tuple[str, Batches]]:
    """Yield the name of each file of a dataset of `folder_dataset`, and its batches.

    Reading them raises 400 that names a file which is damaged, and 422 where cells contradict the folder's name.
    """
    for part in dataset.get_fragments():
        name = PurePath(part.path).relative_to(_name_of(folder)).as_posix()
        yield name, _batches(name, part, dataset.schema, options)


def _batches(name: str, part: Any, schema: pa.Schema, options: Mapping[str, Any]) -> Batches:
    try:
        _check_partition(name, part)
        yield from as_many(part.to_batches(schema=schema, **options), part.metadata.num_rows)
    except (pa.ArrowNotImplementedError, MemoryError):  # no damage; `ArrowFaults` says what it is
        raise
    except (pa.ArrowException, OSError) as error:
        raise ServiceError(400, "broken_table", f"{name} cannot be read: {first_line(error)}.") from error


def _check_partition(name: str, part: Any) -> None:
    """Raise 422 where a folder `column=value` has a file whose own column says otherwise: one of them would be lost."""
    keys = datasets.get_partition_keys(part.partition_expression)
    own = [column for column in keys if column in part.physical_schema.names]
    if not own:
        return
    source = part.filesystem.open_input_file(part.path)  # the dataset would give the folder's value
    with parquet.ParquetFile(source, **PARQUET_OPTIONS) as file:
        for batch in file.iter_batches(columns=own):
            for column in own:
                texts = batch.column(column).cast(pa.string())
                if not compute.all(compute.equal(texts, str(keys[column])), skip_nulls=False).as_py():
                    raise invalid_table(
                        f"{name} has a column {column!r} with other values than the folder {column}={keys[column]}: "
                        "rename the column or the folder."
                    )


def folder_dataset(folder: TablePath, files: Sequence[TablePath]) -> Any:
    """Return the files as one dataset; folders named `column=value` are columns.

    A column has one type: of whole numbers and fractions, fractions. Raises 422 where columns, or their types, differ.
    """
    schemas = _schemas(folder, files)
    _check_columns(schemas)
    kinds = {name: _type_of(name, schemas) for name in next(iter(schemas.values())).names}
    system = folder.files if isinstance(folder, ObjectPath) else fs.LocalFileSystem()
    options = datasets.FileSystemFactoryOptions(
        partition_base_dir=_name_of(folder), partitioning=datasets.HivePartitioning.discover()
    )
    file_format = datasets.ParquetFileFormat(
        coerce_int96_timestamp_unit=INT96_UNIT, default_fragment_scan_options=SCAN_OPTIONS
    )
    names = [_name_of(path) for path in files]
    factory = datasets.FileSystemDatasetFactory(system, names, file_format, options)
    found = factory.inspect(fragments=1)
    fields = [field.with_type(kinds[field.name]) if field.name in kinds else field for field in found]
    return factory.finish(pa.schema(fields, found.metadata))


def _name_of(path: TablePath) -> str:
    """Return the name of a file or folder in its file system."""
    return path.path if isinstance(path, ObjectPath) else str(path.absolute())


def _schemas(folder: TablePath, files: Sequence[TablePath]) -> dict[str, pa.Schema]:
    """Return the columns of each file by its name in the folder; raises 400 where one cannot be read."""
    schemas = {}
    for path in files:
        name = PurePath(_name_of(path)).relative_to(_name_of(folder)).as_posix()
        try:
            source = path.open_random() if isinstance(path, ObjectPath) else path
            with parquet.ParquetFile(source, **PARQUET_OPTIONS) as opened:
                schemas[name] = opened.schema_arrow
        except (pa.ArrowException, OSError) as error:
            is_of_the_disk = isinstance(error, OSError) and error.strerror is not None
            why = f"cannot be read: {error.strerror}" if is_of_the_disk else f"is not Parquet: {first_line(error)}"
            raise ServiceError(400, "broken_table", f"{name} {why}.") from error
    return schemas


def _check_columns(schemas: Mapping[str, pa.Schema]) -> None:
    """Raise 422 for a file whose columns are not those of the first one: its values would be lost without a word."""
    (first, wanted), *others = schemas.items()
    for name, schema in others:
        differing = differing_columns(schema.names, wanted.names)
        if differing:
            raise invalid_table(
                f"{name} and {first} have different columns: {differing}. All parts of a table have the same columns."
            )


def _type_of(column: str, schemas: Mapping[str, pa.Schema]) -> pa.DataType:
    """Return the type that holds a column's values of all files, as they are; raises 422 where there is none.

    Without it, truth values would become 1 and numbers texts, and a file alone would be read otherwise than in its folder.
    """
    (first, schema), *others = schemas.items()
    kind = schema.field(column).type
    for name, other in others:
        own = other.field(column).type
        if own == kind:
            continue
        try:
            pair = [pa.schema([(column, _plain(each))]) for each in (kind, own)]
            kind = pa.unify_schemas(pair, promote_options="permissive").field(0).type
        except pa.ArrowException as error:
            raise invalid_table(
                f"The column {column!r} is {own} in {name} and {schema.field(column).type} in {first}: write it with one "
                "type in all parts."
            ) from error
    return kind


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the type of a column's values, whatever form of texts or of repeated values it has."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.large_string() if pa.types.is_string(kind) or pa.types.is_string_view(kind) else kind
