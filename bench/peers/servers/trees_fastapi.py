"""FastAPI before LightGBM's trees: {"rows": [{name: value}…]} as a pydantic model; uvicorn starts the processes.

The route is `async`, so that no request is handed to a thread; each process predicts one request at a time.
"""

from operator import attrgetter
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field, create_model
from trees import Forest

TYPES = {"float": float, "integer": int, "boolean": bool, "string": str, "date": str}
forest = Forest()
# Names of columns need not be names of Python.
FIELDS = {f"value_{place}": column for place, column in enumerate(forest.columns)}
Row: Any = create_model(
    "Row",
    **{field: (TYPES[column["value_type"]] | None, Field(alias=column["name"])) for field, column in FIELDS.items()},
)
values = attrgetter(*FIELDS)


class Rows(BaseModel):
    """The request."""

    rows: list[Row]


class Predictions(BaseModel):
    """The answer: a number a row, or one a class."""

    predictions: list[float | list[float]]


app = FastAPI()


@app.post("/predict")
async def predict(request: Rows) -> Predictions:
    """Return a prediction a row."""
    return Predictions(predictions=forest.predict([values(row) for row in request.rows]))
