"""Arrow tables in, Arrow tables with predictions out: what the adapters for Spark, Ray and Dask are made of.

    from batchproof import Scorer

    scorer = Scorer("models/penguins")
    scorer(table)            # the table with `prediction` and `probability_<class>` after its own columns
    scorer.schema(schema)    # the columns of such an answer, without running anything

The parameters, refusals and bits are those of `batchproof predict`. A scorer can be pickled: it takes the whole bundle
along, so workers on other machines need no shared folder, and there it is read, checked and verified anew.
"""

import logging
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import pyarrow as pa

from batchproof.service.bundle import reader
from batchproof.service.bundle.files.safe_folder import opened
from batchproof.service.bundle.reader import Bundle
from batchproof.service.configuration.address import root_of
from batchproof.service.configuration.settings import MOST_THREADS, Settings
from batchproof.service.errors import nearest
from batchproof.service.features.row_encoder import Encoder
from batchproof.service.inference import model as loading
from batchproof.service.inference.catalogue import repository, roots
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.inference.model import Model
from batchproof.service.invariance.check import for_bundles
from batchproof.service.tables.block import Reading, places_of
from batchproof.service.tables.parameters import Parameters
from batchproof.service.tables.readers.arrow import batch_blocks
from batchproof.service.tables.readers.arrow_types import index_names
from batchproof.service.tables.writers.arrow import ResultArrays
from batchproof.service.tables.writers.result_columns import Answered, refusal

RUN_ROWS = int(Settings.model_fields["run_rows"].default)
BLOCK_ROWS = 8192  # rows that are read and run together
ERROR_LIMIT = 20  # problems that a refusal lists
OTHER_BITS = "the workers do not compute the same bits"


Frame = TypeVar("Frame", pa.Table, pa.RecordBatch)


class OtherBitsError(RuntimeError):
    """Two machines of one job give a float32 model's probe rows different bits."""


@dataclass(frozen=True)
class Options:
    """How rows are scored."""

    extra: Literal["refuse", "ignore"] = "refuse"
    answer: Literal["append", "alone"] = "append"
    on_error: Literal["stop", "row"] = "stop"
    prefix: str = ""
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    threads: int = 1
    invariance: Literal["require", "tile", "report"] = "require"

    def __post_init__(self) -> None:
        """Raise ValueError for a value that an option does not have."""
        for name, kind in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if get_origin(kind) is Literal and value not in get_args(kind):
                raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(map(repr, get_args(kind)))}")
            if isinstance(kind, type) and (not isinstance(value, kind) or isinstance(value, bool)):
                raise TypeError(f"{name} is {value!r}; it must be of the type {kind.__name__}")
        if not 0 <= self.threads <= MOST_THREADS:
            raise ValueError(f"threads is {self.threads}; it must be between 0 and {MOST_THREADS}")

    @property
    def parameters(self) -> Parameters:
        """Return what readers and writers need to know."""
        return Parameters(self.extra, self.answer, self.on_error, self.prefix, asked_in="python")


def options_of(given: Mapping[str, Any]) -> Options:
    """Return options by their names; raises TypeError for an unknown one, or ValueError for a value that it does not have."""
    known = [field.name for field in fields(Options)]
    unknown = next((name for name in given if name not in known), None)
    if unknown is not None:
        raise TypeError(f"there is no option {unknown!r}.{nearest(unknown, known)} The options are {', '.join(known)}")
    return Options(**given)


class Scorer:
    """One bundle that scores Arrow tables. Any number of threads may use it at once."""

    def __init__(self, path: str | PathLike[str], **options: Any) -> None:
        """Read and check the bundle at `path`: models/NAME for its newest version, models/NAME/VERSION for one.

        `options`: extra ("refuse" or "ignore" columns that are not features), answer ("append" to the table's columns or
        "alone"), on_error ("stop" or "row": a bad row gets its error in the column `error`), prefix (of the added
        columns), device, threads and invariance as `batchproof predict` has them. Raises BundleError.
        """
        self.options = options_of(options)
        if not isinstance(path, str | PathLike):
            raise TypeError(f"a Scorer takes the path or the address of a bundle, not {type(path).__name__}")
        folder = roots.newest(root_of(path))
        with repository.naming(folder):
            self._bundle = reader.read(folder)
            self._files = _files_of(self._bundle)  # taken along where the scorer is pickled

    def __repr__(self) -> str:
        """Return name and version."""
        return f"<Scorer {self._bundle.manifest.name} version {self._bundle.manifest.version}>"

    def __call__(self, table: Frame) -> Frame:
        """Return the table or record batch with its predictions; raises ServiceError where the model refuses it.

        Raises TypeError for anything else, such as a pandas frame.
        """
        if not isinstance(table, pa.Table | pa.RecordBatch):
            raise wrong_kind("a Scorer", "pyarrow Table or RecordBatch", table, "pyarrow.Table.from_pandas(frame)")
        batches = table.to_batches() if isinstance(table, pa.Table) else [table]
        answers = list(self._answers(table.schema, iter(batches)))
        schema = self.schema(table.schema)
        answer: Any = pa.Table.from_batches(answers, schema)
        return answer if isinstance(table, pa.Table) else _one_batch(answer)

    def schema(self, schema: pa.Schema) -> pa.Schema:
        """Return the columns of an answer to a table of these columns; raises ServiceError where they do not fit."""
        if not isinstance(schema, pa.Schema):
            kind = type(schema)
            raise TypeError(
                f"Scorer.schema takes a pyarrow.Schema, such as table.schema, not {kind.__module__}.{kind.__qualname__}"
            )
        parameters = self.options.parameters
        places_of(schema.names, Reading(self._encoder, parameters, BLOCK_ROWS), index_names(schema.metadata))
        added = ResultArrays(self._bundle.manifest, parameters)
        own = list(schema) if parameters.answer == "append" else []
        added.check([field.name for field in own])
        return pa.schema([*own, *added.fields])

    @property
    def is_exact(self) -> bool:
        """Return whether the model's bits are the same on every machine, by proof."""
        return self._bundle.manifest.arithmetic.kind == "exact"

    @property
    def digest(self) -> str:
        """Return the digest of the probe rows' outputs on this machine: machines that agree on bits have the same one."""
        verdict = self.model.verification
        return "" if verdict is None else verdict.bits

    @property
    def host(self) -> Mapping[str, Any]:
        """Return the engine and the processor's features, as far as they may decide bits."""
        verdict = self.model.verification
        return {} if verdict is None else verdict.host

    def check_same_bits(self, digest: str, host: Mapping[str, Any]) -> None:
        """Raise OtherBitsError where this machine gives other bits than the one with `digest`; exact models never do."""
        if self.is_exact or digest == self.digest:
            return
        mine = {name: value for name, value in self.host.items() if host.get(name) != value}
        theirs = {name: host.get(name) for name in mine}
        raise OtherBitsError(
            f"{OTHER_BITS}: {self!r} gives its probe rows other bits here than where the job began. "
            f"Here: {mine or dict(self.host)}; there: {theirs or dict(host)}. Use machines of one kind, or an exact model."
        )

    @cached_property
    def model(self) -> Model:
        """Return the loaded model; it reproduced its golden rows and passed the check of batch invariance here."""
        options = EngineOptions(self.options.device, self.options.threads)
        return loading.load(self._bundle, options, RUN_ROWS, for_bundles(self.options.invariance))

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder(self._bundle.manifest.signature)

    def _answers(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        parameters = self.options.parameters
        wanted = self.schema(schema)
        added = ResultArrays(self._bundle.manifest, parameters)
        for block in batch_blocks(schema, batches, Reading(self._encoder, parameters, BLOCK_ROWS)):
            read = block.read()
            if read.problems and parameters.on_error == "stop":
                raise refusal(block, read.problems, ERROR_LIMIT, parameters)
            outputs = self.model.runner.run([read.arrays])[0] if len(read.kept) else {}
            own = block.batch().columns if parameters.answer == "append" else []
            arrays = [*own, *added.arrays(Answered(block, read.kept, outputs, read.problems))]
            yield pa.RecordBatch.from_arrays(arrays, schema=wanted)

    def __reduce__(self) -> tuple[Any, ...]:
        """Take the bundle's files along."""
        return _arrived, (self._files, self._bundle.manifest.sha256, self.options)


class Worker:
    """A scorer on its way to the workers of a job, with the bits of the machine where the job began.

    Pickled, it takes the bundle along; the first table that it gets on another machine has it compare bits.
    """

    def __init__(self, scorer: Scorer, other_bits: Literal["fail", "report"] = "fail") -> None:
        """Remember this machine's bits; exact models need none. Raises ValueError for another choice."""
        if other_bits not in ("fail", "report"):
            raise ValueError(f'other_bits is {other_bits!r}; it must be "fail" or "report"')
        self.scorer = scorer
        self._other_bits = other_bits
        self._digest = "" if scorer.is_exact else scorer.digest
        self._host = {} if scorer.is_exact else dict(scorer.host)
        self._is_checked = False

    def __call__(self, table: Frame) -> Frame:
        """Score a table; raises OtherBitsError where the bits here are others, unless they are only reported."""
        if not self._is_checked:
            self._check()
        return self.scorer(table)

    def _check(self) -> None:
        try:
            self.scorer.check_same_bits(self._digest, self._host)
        except OtherBitsError as error:
            if self._other_bits == "fail":
                raise
            logging.getLogger("batchproof").warning("%s", error)
        self._is_checked = True

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: the check is made anew where it arrives."""
        return {**self.__dict__, "_is_checked": False}


def wrong_kind(caller: str, wanted: str, given: object, way: str) -> TypeError:
    """Return the refusal of an object that `caller` does not take; `way` makes a right one of a pandas frame."""
    kind = type(given)
    return TypeError(
        f"{caller} takes a {wanted}, not {kind.__module__}.{kind.__qualname__}. {way} makes one of a pandas frame."
    )


def _files_of(bundle: Bundle) -> dict[str, bytes]:
    """Return the bundle's files by their names: all of them, since a bundle that lacks one is refused."""
    with opened(bundle.folder) as files:
        names = ["bundle.json", *bundle.manifest.files]
        return {name: files.read(name, reader.Limits().other_bytes) for name in names}


_here: dict[tuple[str, Options], Scorer] = {}


def _arrived(files: Mapping[str, bytes], seal: str, options: Options) -> Scorer:
    """Return the scorer of a pickled bundle, one for each bundle and process."""
    key = (seal, options)
    if key not in _here:
        with tempfile.TemporaryDirectory(prefix="batchproof-") as folder:
            for name, raw in files.items():
                (Path(folder) / name).write_bytes(raw)
            _here[key] = Scorer(folder, **options.__dict__)
    return _here[key]


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    combined = table.combine_chunks().to_batches()
    return combined[0] if combined else pa.RecordBatch.from_pylist([], table.schema)
