"""The options of a prediction, and how many rows one request then holds."""

from typing import Any, NamedTuple, TypedDict

from batchproof.service.client.progress import Progress

STOP = ("stop", "request")  # both words mean that one bad row refuses the request, as it is without the field
ROWS_A_REQUEST = 8192  # a longer list or frame goes in several requests, so that no queue is filled by one caller
EXACT_FEATURES = 8  # up to here an explanation runs every set of a row's features
ORDERS = 32  # above it, the features in so many orders


class PredictOptions(TypedDict, total=False):
    """The keyword arguments of `predict`, for the types of its overloads."""

    on_error: str
    coverage: float | None
    explain: bool
    detail: bool
    progress: Progress | bool | None


class Options(NamedTuple):
    """The fields of a native request other than its rows."""

    on_error: str = "stop"
    coverage: float | None = None
    explain: bool = False
    detail: bool = False

    @property
    def keeps_bad_rows(self) -> bool:
        """Whether a bad row gets an error in its place."""
        return self.on_error not in STOP

    @property
    def adds_fields(self) -> bool:
        """Whether predictions have more fields than the plain ones."""
        return self.coverage is not None or self.explain or self.detail

    def fields(self) -> dict[str, Any]:
        """Return the fields that differ from what a request without them means."""
        wanted = {"coverage": self.coverage, "explain": self.explain or None, "detail": self.detail or None}
        on_error = {"on_error": self.on_error} if self.keeps_bad_rows else {}
        return on_error | {name: value for name, value in wanted.items() if value is not None}

    def rows_a_request(self, features: int) -> int:
        """Return how many rows of so many features one request holds: an explanation runs many more for each."""
        if not self.explain:
            return ROWS_A_REQUEST
        runs = 2**features if features <= EXACT_FEATURES else 2 + ORDERS * (features - 1)
        return max(1, ROWS_A_REQUEST // (1 + runs))
