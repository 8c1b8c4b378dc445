"""The features a row must have, in order, with their kinds and codes (of missing and unseen values too), and the target."""

from typing import Annotated, Any, Literal, NamedTuple

from msgspec import Meta

from batchproof.service.bundle.files.records import Finite, Record

MOST_TARGETS = 100
MAX_FEATURES = 50_000  # a service takes 60 microseconds of its start for each, and more memory than the file

Task = Literal["binary", "multiclass", "regression"]


Kind = Literal["numeric", "categorical", "date"]


ValueType = Literal["float", "integer", "boolean", "string", "date"]


ClassLabel = bool | int | str  # JSON values: the target's own


VALUE_TYPES: dict[str, frozenset[str]] = {  # kind -> what its training column may have held
    "numeric": frozenset({"float", "integer", "boolean"}),
    "categorical": frozenset({"string", "integer", "boolean"}),
    "date": frozenset({"date"}),
}


class Tensor(NamedTuple):
    """One graph input or output [rows, width]."""

    name: str
    dtype: Literal["float32", "float64", "int64", "bool"]
    width: int


class TextRule(Record, frozen=True, kw_only=True):
    """How a text is read as the value of a feature, where the usual reading is not enough.

    Cells of text tables are read by it, and so are texts of JSON, Arrow and Parquet. A number of any format that equals
    one of `missing` is a missing value too.
    """

    missing: tuple[Annotated[str, Meta(max_length=1000)], ...] = ()  # added to the usual spellings of a missing value
    usual_missing: bool = True  # whether the usual spellings are missing values; if not, only the empty cell is
    strip: bool = False  # categories: whether blanks around a text are left out, as they are for numbers and dates
    decimal: Literal[".", ","] = "."
    thousands: Literal["", ",", ".", " ", "'", "_"] = ""  # separates groups of three digits
    affixes: tuple[Annotated[str, Meta(min_length=1, max_length=100)], ...] = ()  # left out before or after a number
    date_format: Annotated[str, Meta(min_length=1, max_length=100)] | None = None  # of strptime, besides ISO 8601

    def __post_init__(self) -> None:
        """Raise ValueError for fields that contradict one another."""
        if self.thousands == self.decimal:
            raise ValueError("decimal and thousands are the same sign")


class Feature(Record, frozen=True, kw_only=True):
    """One input column, as the client names it.

    `numeric` and `date` features are columns of the graph input `numeric` [rows, numeric features] float64, in
    signature order; a missing value is NaN, a date is seconds since 1970-01-01T00:00:00Z.
    `categorical` features are columns of `categorical` [rows, categorical features] int64, in signature order; a cell
    is one of the `code_count` codes below.
    """

    name: Annotated[str, Meta(min_length=1, max_length=1000)]
    kind: Kind
    value_type: ValueType  # what the training column held: decides which JSON types are accepted
    missing: bool  # whether null is accepted
    range: tuple[Finite, Finite] | None = None  # numeric, date: least and greatest training value
    categories: tuple[str, ...] | None = None  # categorical only
    # A JSON value: what explanations start from.
    typical: bool | int | Finite | str | None = None
    text_rule: TextRule | None = None

    def model_dump(self, **options: Any) -> dict[str, Any]:
        """Leave out a rule that is not there, so that readers who do not know of rules read the others."""
        content = super().model_dump(**options)
        if self.text_rule is None:
            content.pop("text_rule", None)
        return content

    @property
    def codes(self) -> dict[str, int]:
        """The code of each listed category: its place in `categories`. Empty for a feature of another kind."""
        return {category: code for code, category in enumerate(self.categories or ())}

    @property
    def missing_code(self) -> int:
        """The code of a missing value."""
        return len(self.categories or ())

    @property
    def unseen_code(self) -> int:
        """The code of every value that is not listed in `categories`."""
        return self.missing_code + 1

    @property
    def code_count(self) -> int:
        """How many codes there are: one for each category, one for missing and one for unseen values."""
        return self.unseen_code + 1

    def __post_init__(self) -> None:
        """Raise ValueError for fields that contradict one another."""
        if self.value_type not in VALUE_TYPES[self.kind]:
            raise ValueError(f"a {self.kind} feature cannot have value_type {self.value_type!r}")
        if (self.categories is not None) != (self.kind == "categorical"):
            raise ValueError("categories are given for categorical features and for no others")
        if self.categories is not None and len(set(self.categories)) != len(self.categories):
            raise ValueError("categories repeat")
        if self.range is not None and (self.kind == "categorical" or self.range[0] > self.range[1]):
            raise ValueError("range is [least, greatest] of a numeric or date feature")


TargetName = Annotated[str, Meta(min_length=1, max_length=1000)]


class Signature(Record, frozen=True, kw_only=True):
    """The features a row must have, in order, and the target that is predicted."""

    inputs: Annotated[tuple[Feature, ...], Meta(min_length=1, max_length=MAX_FEATURES)]
    target: str | None = None  # the predicted column; None where there are several
    # Several predicted numbers, in the order of the columns of the graph's output `value`; None where there is one target.
    targets: Annotated[tuple[TargetName, ...], Meta(min_length=2, max_length=MOST_TARGETS)] | None = None
    classes: tuple[ClassLabel, ...] | None = None  # binary, multiclass: in the order of the probabilities
    # Columns of the training table that are neither features nor the target: other tables may have them too.
    ignored: tuple[str, ...] = ()

    def model_dump(self, **options: Any) -> dict[str, Any]:
        """Leave out an empty list, and `target` or `targets`, so that readers who do not know of them read the others."""
        content = super().model_dump(**options)
        left_out = {"target": self.target is None, "targets": self.targets is None, "ignored": not self.ignored}
        return {name: value for name, value in content.items() if not left_out.get(name)}

    @property
    def target_names(self) -> tuple[str, ...]:
        """The predicted columns: one, or several."""
        return self.targets or (self.target or "",)

    @property
    def predicted(self) -> str:
        """The predicted columns as a sentence names them: `height, weight and age`."""
        *others, last = self.target_names
        return f"{', '.join(others)} and {last}" if others else last

    @property
    def numeric(self) -> tuple[Feature, ...]:
        """The features that are columns of the graph input `numeric`, dates included."""
        return tuple(feature for feature in self.inputs if feature.kind != "categorical")

    @property
    def categorical(self) -> tuple[Feature, ...]:
        """The features that are columns of the graph input `categorical`."""
        return tuple(feature for feature in self.inputs if feature.kind == "categorical")

    @property
    def passing(self) -> frozenset[str]:
        """The columns of the training table that are not features: rows and tables may have them, and they are ignored."""
        return frozenset((*self.target_names, *self.ignored)).difference(feature.name for feature in self.inputs)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The graph inputs: one matrix for each kind of feature there is."""
        inputs = (
            Tensor("numeric", "float64", len(self.numeric)),
            Tensor("categorical", "int64", len(self.categorical)),
        )
        return tuple(tensor for tensor in inputs if tensor.width)

    def __post_init__(self) -> None:
        """Raise ValueError for fields that contradict one another."""
        names = [feature.name for feature in self.inputs]
        if len(set(names)) != len(names):
            raise ValueError("feature names repeat")
        if (self.target is None) == (self.targets is None):
            raise ValueError("there is either a target or a list of targets")
        if self.targets is not None and len(set(self.targets)) != len(self.targets):
            raise ValueError("targets repeat")
        if self.classes is not None and len({class_text(label) for label in self.classes}) != len(self.classes):
            raise ValueError("classes repeat, or differ only in their JSON type")


def class_text(label: ClassLabel) -> str:
    """Return a class or a category as text, as bundle.json and the keys of probabilities write it: `a`, `3`, `true`."""
    return str(label).lower() if isinstance(label, bool) else str(label)
