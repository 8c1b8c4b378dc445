"""What `bundle.json` says: the contract between training, which writes it, and the service, which reads it.

Every model is strict and closed: an unknown, missing or mistyped field is an error that names the field.
The format is specified for readers in docs/bundle.md; a change here is a change there and of `FORMAT_VERSION`.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

FORMAT = "batchproof-bundle"
FORMAT_VERSION = 1

Task = Literal["binary", "multiclass", "regression"]
Kind = Literal["numeric", "categorical", "date"]
ValueType = Literal["float", "integer", "boolean", "string", "date"]
ClassLabel = StrictBool | StrictInt | StrictStr  # JSON values: the target's own
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Closed(BaseModel):
    """A frozen model that refuses unknown fields and silent conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Feature(Closed):
    """One input column, as the client names it.

    `numeric` and `date` features are columns of the graph input `numeric` [rows, numeric features] float64, in
    signature order; a missing value is NaN, a date is seconds since 1970-01-01T00:00:00Z.
    `categorical` features are columns of `categorical` [rows, categorical features] int64, in signature order:
    code i for `categories[i]`, code len(categories) for missing, code len(categories) + 1 for a value not listed.
    """

    name: str
    kind: Kind
    value_type: ValueType  # what the training column held: decides which JSON types are taken
    missing: bool  # whether null is taken
    range: tuple[float, float] | None = None  # numeric, date: least and greatest training value
    categories: tuple[str, ...] | None = None  # categorical only


class Signature(Closed):
    """The features a row must have, in order, and the target that is predicted."""

    inputs: Annotated[tuple[Feature, ...], Field(min_length=1)]
    target: str
    classes: tuple[ClassLabel, ...] | None = None  # binary, multiclass: in the order of the probabilities


class FileEntry(Closed):
    """One file of the bundle beside bundle.json."""

    sha256: Sha256
    bytes: Annotated[int, Field(ge=0)]


class Arithmetic(Closed):
    """float32 (verified on each host) or exact (proved from the file; `certificate` says how)."""

    kind: Literal["float32", "exact"]
    certificate: dict[str, Any] | None = None
    accuracy: dict[str, Any] | None = None  # exact: errors against the folded float64 network, saturated share


class Manifest(Closed):
    """The whole of bundle.json."""

    format: Literal["batchproof-bundle"]
    format_version: Literal[1]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    version: Annotated[int, Field(ge=1)]
    task: Task
    signature: Signature
    arithmetic: Arithmetic
    files: dict[str, FileEntry]  # every file of the folder but bundle.json itself
    metrics: dict[str, Any]  # on the held-out test rows
    provenance: dict[str, Any]
    uncertainty: dict[str, Any] | None = None  # split-conformal quantiles, where they were fitted
