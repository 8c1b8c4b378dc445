"""A bundle's bill of materials: CycloneDX 1.6 with a model card, so that inventories of software hold the model too."""

import json
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from batchproof import __version__
from batchproof.service.bundle.manifest import Manifest

SPECIFICATION = "1.6"
PREFIX = "batchproof:"  # of the names of properties that CycloneDX has no field for


def bill_of_materials(manifest: Manifest, manifest_sha256: str) -> dict[str, Any]:
    """Return the bill of materials for JSON; equal bundles have equal ones. `manifest_sha256` is bundle.json's digest."""
    reference = f"{manifest.name}@{manifest.version}"
    model = {
        "type": "machine-learning-model",
        "bom-ref": reference,
        "name": manifest.name,
        "version": str(manifest.version),
        "description": f"Batch-norm MLP that predicts {manifest.signature.predicted}, as a Batchproof bundle",
        "hashes": [{"alg": "SHA-256", "content": manifest.files["model.onnx"].sha256}],
        "modelCard": _model_card(manifest, f"{reference}:data"),
        "properties": [*_properties(manifest)],
        "components": [
            {
                "type": "file",
                "bom-ref": f"{reference}/{name}",
                "name": name,
                "hashes": [{"alg": "SHA-256", "content": sha256}],
            }
            for name, sha256 in sorted(_files(manifest, manifest_sha256).items())
        ],
    }
    return {
        "bomFormat": "CycloneDX",
        "specVersion": SPECIFICATION,
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, f'batchproof:{manifest.sha256}')}",
        "version": 1,
        "metadata": {
            **({"timestamp": manifest.provenance["created"]} if "created" in manifest.provenance else {}),
            "tools": {"components": [{"type": "application", "name": "batchproof", "version": __version__}]},
            "component": model,
        },
        "components": [_training_data(manifest, f"{reference}:data"), *_libraries(manifest)],
    }


def _files(manifest: Manifest, manifest_sha256: str) -> dict[str, str]:
    return {"bundle.json": manifest_sha256} | {name: entry.sha256 for name, entry in manifest.files.items()}


def _model_card(manifest: Manifest, data_reference: str) -> dict[str, Any]:
    metrics = [
        {"type": name, "value": json.dumps(value), "slice": "test"}
        for name, value in manifest.metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": "regression" if manifest.signature.classes is None else "classification",
            "architectureFamily": "multilayer perceptron",
            "modelArchitecture": "MLP with batch normalization, folded",
            "datasets": [{"ref": data_reference}],
            "inputs": [{"format": f"{feature.name}: {feature.value_type}"} for feature in manifest.signature.inputs],
            "outputs": [{"format": f"{tensor.name}: {tensor.dtype}"} for tensor in manifest.outputs],
        },
        "quantitativeAnalysis": {"performanceMetrics": metrics},
    }


def _properties(manifest: Manifest) -> Iterator[dict[str, str]]:
    """Give what CycloneDX has no field for: the seal, the arithmetic, and every setting of the training run."""
    yield {"name": f"{PREFIX}seal", "value": manifest.sha256}
    yield {"name": f"{PREFIX}arithmetic", "value": manifest.arithmetic.kind}
    for group in ("split", "settings", "chosen", "warnings"):
        if (value := manifest.provenance.get(group)) is not None:
            yield {"name": f"{PREFIX}{group}", "value": json.dumps(value, sort_keys=True)}


def _training_data(manifest: Manifest, reference: str) -> dict[str, Any]:
    data = manifest.provenance.get("data")
    described: Mapping[str, Any] = data if isinstance(data, Mapping) else {}
    hashes = [{"alg": "SHA-256", "content": described["sha256"]}] if "sha256" in described else []
    return {
        "type": "data",
        "bom-ref": reference,
        "name": str(described.get("file", "training data")),
        **({"hashes": hashes} if hashes else {}),
        "data": [{"type": "dataset", "name": str(described.get("file", "training data"))}],
        "properties": [
            {"name": f"{PREFIX}{name}", "value": str(described[name])}
            for name in ("rows", "columns")
            if name in described
        ],
    }


def _libraries(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """Give the libraries that trained the model, with their versions."""
    versions = manifest.provenance.get("versions")
    for name, version in sorted(versions.items() if isinstance(versions, Mapping) else ()):
        yield {"type": "library", "bom-ref": f"library:{name}", "name": name, "version": str(version)}
