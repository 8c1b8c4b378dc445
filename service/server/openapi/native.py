"""The OpenAPI document: schemas from each model's signature, examples from its golden rows.

What the schema accepts the predict routes accept, and what it refuses they refuse with 422; a test holds the two
together on generated bodies. So a schema says no more than JSON types, names and presence: categories that were not
listed and numbers beyond the training range are taken, and are told in descriptions. One thing it cannot say: which
kind of value stands where in a list whose order `columns` gives.
"""

from collections.abc import Sequence
from typing import Any

from batchproof.service.bundle.manifest import Manifest
from batchproof.service.bundle.signature import Feature, Signature, class_text
from batchproof.service.features import examples as samples
from batchproof.service.inference.model import Model
from batchproof.service.server.openapi import tables as document

Json = dict[str, Any]
EXAMPLE_ROWS = 2
ERROR = {"$ref": "#/components/schemas/Error"}
REQUEST_ID = {
    "name": "X-Request-Id",
    "in": "header",
    "description": "Given back in the answer and in the log; made where it is absent.",
    "schema": {"type": "string", "maxLength": 128},
}
TIMEOUT = {
    "name": "X-Request-Timeout-S",
    "in": "header",
    "description": "Seconds in which the rows must start to run; later they are answered with 504.",
    "schema": {"type": "number", "minimum": 0.001},
}
REFUSALS = {
    "400": "The body is not JSON; the position of the fault is given.",
    "403": "A page of a foreign origin called.",
    "408": "The body did not arrive in time.",
    "413": "The body is larger than the limit.",
    "415": "The body says that it is neither JSON nor a table that is read here.",
    "422": "Rows or fields are wrong; each fault is listed with its row and feature.",
    "429": "Too much work waits; Retry-After says when to try again.",
    "500": "The engine failed.",
    "503": "The service is shutting down, or the model was refused or withdrawn; the message says which.",
    "504": "The deadline passed before the rows could run.",
}
SCHEMAS: Json = {
    "ModelStamp": {
        "type": "object",
        "required": ["name", "version", "fingerprint"],
        "properties": {
            "name": {"type": "string"},
            "version": {"type": "integer"},
            "fingerprint": {
                "type": "object",
                "description": "What the answer was made by: equal fingerprints of exact bundles mean equal bits.",
                "properties": {
                    name: {"type": "string"} for name in ("sha256", "arithmetic", "engine", "device", "invariance")
                },
            },
        },
    },
    "Error": {
        "type": "object",
        "required": ["error", "request_id"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message", "details", "truncated"],
                "properties": {
                    "code": {"type": "string", "description": "stable; for programs"},
                    "message": {"type": "string", "description": "one sentence; for people"},
                    "details": {"type": "array", "items": {"type": "object"}, "description": "one for each fault"},
                    "truncated": {"type": "boolean", "description": "whether there may be more faults than listed"},
                },
            },
            "request_id": {"type": "string"},
        },
    },
}


def native_paths(model: Model, paths: Sequence[str]) -> Json:
    """Return {path: item} of the native predict routes of one model."""
    tables = document.bodies(model, example_rows(model))  # made once: their answers are the model's
    return {path: {"post": operation(model, path, *tables)} for path in paths}


def operation(model: Model, path: str, requests: Json, answers: Json) -> Json:
    """Return the description of one predict route, with the tables that it takes and answers."""
    manifest = model.manifest
    name, version = manifest.name, manifest.version
    return {
        "tags": ["predict"],
        "operationId": "predict" + path.replace("/", "_").replace(".", "_").replace("-", "_"),
        "summary": f"Predict {manifest.signature.predicted} with {name} version {version}",
        "description": "One prediction for each row, in order. A row gets the same bits alone and in any batch.",
        "parameters": [REQUEST_ID, TIMEOUT, *document.parameters()],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": request_schema(manifest), "examples": examples(model)},
                **requests,
            },
        },
        "responses": {
            "200": {
                "description": "The predictions, in the format that Accept names first, or else in that of the body.",
                "content": {
                    "application/json": {"schema": response_schema(manifest)},
                    **answers,
                },
            },
            **{status: refusal(text) for status, text in sorted({**REFUSALS, **document.REFUSALS}.items())},
        },
    }


def refusal(description: str) -> Json:
    """Return one error response."""
    return {"description": description, "content": {"application/json": {"schema": ERROR}}}


def request_schema(manifest: Manifest) -> Json:
    """Return the schema of a predict request."""
    signature = manifest.signature
    return {
        "type": "object",
        "required": ["rows"],
        "additionalProperties": False,
        "properties": {
            "rows": {
                "type": "array",
                "items": {"anyOf": [named_row(signature), reordered_row(signature)]},
                "description": "What to predict for: objects {feature: value}, or lists of values in signature order, "
                "or in that of `columns`. null is a missing value.",
            },
            "columns": {
                "type": "array",
                "items": {"enum": [feature.name for feature in signature.inputs]},
                "uniqueItems": True,
                "minItems": len(signature.inputs),
                "maxItems": len(signature.inputs),
                "description": "The order of the values where rows are lists; every feature once.",
            },
            "on_error": {
                "enum": ["stop", "row", "request"],
                "description": 'With "stop" a bad row refuses the request. '
                'With "row", good rows are answered and each bad row gets its error in its place.',
            },
            **further_fields(manifest),
        },
        "if": {"required": ["columns"]},
        "then": {"properties": {"rows": {"items": {"type": "array"}}}},
        "else": {"properties": {"rows": {"items": {"anyOf": [{"type": "object"}, listed_row(signature)]}}}},
    }


def further_fields(manifest: Manifest) -> Json:
    """Return the fields that ask for more than the prediction, as far as the model can give it."""
    fields: Json = {
        "explain": {
            "type": "boolean",
            "description": "With true, how much each feature adds to the score, beside the prediction.",
        }
    }
    if manifest.coverages:
        fields["coverage"] = {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": manifest.coverages[-1],
            "description": f"Adds {'an interval for each target' if manifest.signature.targets else 'a set of classes, or an interval'}, "
            "made to hold the truth for this share of rows.",
        }
    exact = " Also `saturated`: whether the row went beyond the range of exact arithmetic."
    fields["detail"] = {
        "type": "boolean",
        "description": "With true, adds the features whose category training did not have (`unseen`), and those whose value is "
        "outside the training range (`out_of_range`)." + (exact if manifest.arithmetic.kind == "exact" else ""),
    }
    return fields


def named_row(signature: Signature) -> Json:
    """Return the schema of a row {feature: value}."""
    return {
        "type": "object",
        "required": [feature.name for feature in signature.inputs],
        "additionalProperties": False,
        "properties": {feature.name: value_schema(feature) for feature in signature.inputs},
    }


def listed_row(signature: Signature) -> Json:
    """Return the schema of a row [value, ...] in signature order."""
    width = len(signature.inputs)
    return {
        "type": "array",
        "prefixItems": [value_schema(feature) for feature in signature.inputs],
        "items": False,
        "minItems": width,
        "maxItems": width,
    }


def reordered_row(signature: Signature) -> Json:
    """Return the schema of a row [value, ...] in the order of `columns`, which no schema can hold its values to."""
    return {"type": "array", "minItems": len(signature.inputs), "maxItems": len(signature.inputs)}


def value_schema(feature: Feature) -> Json:
    """Return the schema of one value."""
    number = "integer" if feature.kind == "categorical" else "number"
    kinds = {"string": ["string"], "date": ["string"], "boolean": ["boolean", "integer"]}.get(
        feature.value_type, [number]
    )
    schema: Json = {"type": [*kinds, "null"] if feature.missing else kinds[0] if len(kinds) == 1 else kinds}
    if feature.value_type == "boolean":
        schema |= {"minimum": 0, "maximum": 1}  # of the integer
    if feature.kind == "date":
        schema["description"] = (
            "an ISO 8601 date or time such as 2024-02-29 or 2024-02-29T12:30:00Z; UTC without offset"
        )
        schema["format"] = "date"
    elif feature.categories is not None:
        listed = ", ".join(feature.categories[:20]) + (", …" if len(feature.categories) > 20 else "")
        schema["description"] = f"in training: {listed}; any other value is treated as unseen"
    elif feature.range is not None:
        schema["description"] = f"in training from {feature.range[0]:.10g} to {feature.range[1]:.10g}"
    return schema


def response_schema(manifest: Manifest) -> Json:
    """Return the schema of the answer."""
    return {
        "type": "object",
        "required": ["predictions", "model", "request_id"],
        "properties": {
            "predictions": {"type": "array", "items": prediction_schema(manifest)},
            "model": {"$ref": "#/components/schemas/ModelStamp"},
            "request_id": {"type": "string"},
        },
    }


def _numbers_by(keys: Sequence[str], number: Json) -> Json:
    """Return the schema of an object with a number under each key."""
    return {"type": "object", "required": list(keys), "properties": dict.fromkeys(keys, number)}


def prediction_schema(manifest: Manifest) -> Json:
    """Return the schema of one prediction, or of the error in its place under on_error "row"."""
    signature = manifest.signature
    prediction: Json
    if signature.targets is not None:
        values = _numbers_by(signature.targets, {"type": "number"})
        prediction = {"required": ["values"], "properties": {"values": values}}
    elif signature.classes is None:
        prediction = {"required": ["value"], "properties": {"value": {"type": "number"}}}
        if manifest.quantiles:
            prediction["required"].append("quantiles")
            prediction["properties"]["quantiles"] = _numbers_by(manifest.quantile_keys, {"type": "number"})
    else:
        keys = [class_text(label) for label in signature.classes]
        probability = {"type": "number", "minimum": 0, "maximum": 1}
        shares = _numbers_by(keys, probability)
        prediction = {
            "required": ["label", "probabilities"],
            "properties": {"label": {"enum": list(signature.classes)}, "probabilities": shares},
        }
    fault = {"type": "object", "required": ["error"], "properties": {"error": {"type": "object"}}}
    return {"anyOf": [{"type": "object", **prediction}, fault]}


def example_rows(model: Model) -> list[list[Any]]:
    """Return the rows of all examples, in signature order."""
    return samples.rows(model.manifest.signature, model.bundle.golden.rows, EXAMPLE_ROWS)


def examples(model: Model) -> Json:
    """Return request examples from the golden rows."""
    signature, rows = model.manifest.signature, example_rows(model)
    by_name = [samples.named(signature, row) for row in rows]
    names = [feature.name for feature in signature.inputs]
    backwards = {"columns": names[::-1], "rows": [row[::-1] for row in rows]}
    return {
        "named": {"summary": "Rows by name", "value": {"rows": by_name}},
        "listed": {"summary": "Rows in signature order", "value": {"rows": rows}},
        "ordered": {"summary": "Rows in an order of your own", "value": backwards},
        "partial": {
            "summary": "Errors in the place of bad rows",
            "value": {"rows": by_name[:1], "on_error": "row"},
        },
    }
