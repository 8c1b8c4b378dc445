"""How each hosting platform runs the image, where it asks and for how long it waits for an answer.

The folders, variables and time limits are the platforms' published ones. Where a platform brings a model, an empty
folder lies over the image's own: what answers can only be the model that was brought.
"""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

MODELS = Path(__file__).resolve().parents[2] / "models"
AZURE_FOLDER = "/var/azureml-app/azureml-models/penguins/1"
JSON = "application/json"


class Platform(NamedTuple):
    """One platform; `{port}` in an option stands for a free port, `{empty}` for an empty folder of this machine."""

    name: str
    options: tuple[str, ...]  # of run_image.sh
    probes: tuple[str, ...]  # the first says when it is ready
    predict: str
    forms: tuple[str, ...]  # of FORMS: what its callers send
    refusal: str  # the field that holds the sentence of a refusal
    probe_within_s: float
    answer_within_s: float
    port: int | None = None  # at which the image listens there without being told


PLATFORMS = (
    Platform(
        "Vertex AI",
        ("-e", "AIP_HTTP_PORT={port}", "-e", "AIP_HEALTH_ROUTE=/isalive", "-e", "AIP_PREDICT_ROUTE=/score-it"),
        ("/isalive",),
        "/score-it",
        ("instances",),
        "message",
        probe_within_s=10,
        answer_within_s=60,
    ),
    Platform(
        "SageMaker",
        (
            *("-e", "SAGEMAKER_BIND_TO_PORT={port}", "-v", "{empty}:/models", "-v", f"{MODELS}:/opt/ml/model"),
            *("-u", "0", "--", "serve"),
        ),
        ("/ping",),
        "/invocations",
        ("instances", "CSV", "JSON Lines"),
        "message",
        probe_within_s=2,
        answer_within_s=60,
    ),
    Platform(
        "Azure ML",
        (
            *("-e", f"AZUREML_MODEL_DIR={AZURE_FOLDER}", "-v", "{empty}:/models"),
            *("-v", f"{MODELS / 'penguins' / '1'}:{AZURE_FOLDER}"),
        ),
        ("/health/ready", "/health/live", "/", "/swagger.json?version=3"),
        "/score",
        ("input_data", "input_data of rows", "instances"),
        "message",
        probe_within_s=2,
        answer_within_s=5,
        port=5001,
    ),
    Platform(
        "MLflow",
        ("-e", "PORT={port}"),
        ("/ping", "/health", "/version"),
        "/invocations",
        ("dataframe_split", "dataframe_records", "instances", "inputs", "CSV with a header"),
        "message",
        probe_within_s=2,
        answer_within_s=60,
    ),
    Platform(
        "KServe",
        ("-e", "PORT={port}", "-v", "{empty}:/models", "-v", f"{MODELS}:/mnt/models"),
        ("/v2/health/ready", "/v2/health/live", "/v1/models/penguins"),
        "/v1/models/penguins:predict",
        ("instances",),
        "error",
        probe_within_s=1,
        answer_within_s=60,
    ),
)


def bodies(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, tuple[str, bytes]]:
    """Return the rows in every form that a platform's callers send: its content type and its bytes."""
    records = [dict(zip(names, row, strict=True)) for row in rows]
    split = {"columns": names, "index": list(range(len(rows))), "data": rows}
    contents: dict[str, Any] = {
        "instances": {"instances": records},
        "input_data": {"input_data": split},
        "input_data of rows": {"input_data": rows},
        "dataframe_split": {"dataframe_split": split},
        "dataframe_records": {"dataframe_records": records},
        "inputs": {"inputs": {name: [record[name] for record in records] for name in names}},
    }
    lines = "".join(json.dumps(record) + "\n" for record in records)
    return {
        **{form: (JSON, json.dumps(content).encode()) for form, content in contents.items()},
        "JSON Lines": ("application/jsonlines", lines.encode()),
        "CSV": ("text/csv", table(rows)),
        "CSV with a header": ("text/csv; charset=utf-8", table([names, *rows])),
    }


def table(lines: Sequence[Sequence[Any]]) -> bytes:
    """Return CSV; what is missing is an empty cell."""
    text = io.StringIO()
    csv.writer(text).writerows(lines)
    return text.getvalue().encode()
