"""MLflow: a bundle as a model of its own, without a pickle, for the registry, `mlflow models serve`, `spark_udf` and `evaluate`.

    import batchproof.mlflow

    with mlflow.start_run():
        batchproof.mlflow.log_model("models/penguins", registered_model_name="penguins")

What is logged is the bundle itself, beside an MLmodel file that names this module as its loader. Loaded anywhere, the bundle is
checked, reproduces its golden rows and predicts the bits of the service.
"""

import json
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchproof import __version__
from batchproof.installation import EXTRAS
from batchproof.service.bundle import reader
from batchproof.service.bundle.manifest import Manifest
from batchproof.service.bundle.signature import Feature
from batchproof.service.configuration.address import root_of
from batchproof.service.features import examples
from batchproof.service.inference.catalogue import repository, roots

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import Model
    from mlflow.models.model import ModelInfo

DATA = "bundle"  # the folder of the bundle inside the logged model
LOADER = "batchproof.mlflow"
SEAL_TAG = "batchproof.seal"
NOT_IN_NAMES = re.compile(r"[^\w.\-/ ]")  # of metrics
LONGEST_PARAM = 6000  # characters of a parameter that MLflow stores
TYPES = {"float": "double", "integer": "double", "string": "string"}  # missing values make floats of whole numbers


def log_model(
    path: str | PathLike[str],
    name: str = "model",
    *,
    registered_model_name: str | None = None,
    log_run: bool = True,
    **options: Any,
) -> "ModelInfo":
    """Log the bundle at `path` to the active run of MLflow, or to a new one, and return MLflow's description of it.

    With `log_run` the run gets the bundle's metrics on the test rows, its settings as parameters, its seal as a tag, and its
    report. `options` go to `mlflow.models.Model.log`. Raises BundleError where `path` holds no sound bundle.
    """
    import mlflow
    from mlflow.models import Model

    folder = roots.newest(root_of(path))
    with repository.naming(folder):
        manifest = reader.read(folder).manifest
    is_new = mlflow.active_run() is None
    if is_new:
        mlflow.start_run()
    try:
        logged = Model.log(
            artifact_path=None,
            name=name,
            flavor=sys.modules[__name__],
            registered_model_name=registered_model_name,
            bundle=folder,
            **options,
        )
        if log_run:
            _log_run(manifest, folder)
    finally:
        if is_new:
            mlflow.end_run()
    return logged


def save_model(path: str | PathLike[str], bundle: str | PathLike[str], mlflow_model: "Model | None" = None) -> None:
    """Write an MLflow model of the bundle at `bundle` into the new folder `path`; raises BundleError."""
    from mlflow import pyfunc
    from mlflow.models import Model

    folder = roots.newest(root_of(bundle))
    with repository.naming(folder):
        sound = reader.read(folder)
    manifest = sound.manifest
    target = Path(path)
    target.mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder, target / DATA)
    (target / "requirements.txt").write_text("\n".join(_requirements()) + "\n")
    described = Model() if mlflow_model is None else mlflow_model
    described.signature = _signature(manifest)
    described.metadata = {**(described.metadata or {}), SEAL_TAG: manifest.sha256}
    row = examples.named(manifest.signature, examples.rows(manifest.signature, sound.golden.rows)[0])
    (target / "input_example.json").write_text(json.dumps({"columns": list(row), "data": [list(row.values())]}))
    described.saved_input_example_info = {
        "artifact_path": "input_example.json", "type": "dataframe", "pandas_orient": "split",
    }  # fmt: skip
    pyfunc.add_to_model(described, loader_module=LOADER, data=DATA, python_env={"python": _python()})
    described.save(str(target / "MLmodel"))


def register(path: str | PathLike[str], tracking_uri: str, name: str | None = None, alias: str | None = None) -> str:
    """Log the bundle at `path` to the MLflow at `tracking_uri` and, with a `name`, register it as a new version.

    Returns one sentence that says where it is. Raises BundleError and MlflowException.
    """
    import mlflow

    mlflow.set_tracking_uri(tracking_uri)
    logged = log_model(path, registered_model_name=name)
    if name is None:
        return f"logged to MLflow as {logged.model_uri}"
    version = str(logged.registered_model_version)
    if alias is not None:
        mlflow.MlflowClient().set_registered_model_alias(name, alias, version)
    shown = f"models:/{name}@{alias}" if alias else f"models:/{name}/{version}"
    return f"registered in MLflow as {shown}, version {version}"


class Predictor:
    """What MLflow loads: `predict` returns the columns that the model adds."""

    def __init__(self, folder: Path) -> None:
        """Load and check the bundle; raises BundleError or EngineError."""
        from batchproof.local_model import load_model

        self.model = load_model(folder)

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> "pd.DataFrame":  # noqa: ARG002 - MLflow's signature
        """Return `prediction` and `probability_<class>` or `quantile_<level>`, or `prediction_<target>`, for each row; raises RefusedError for rows that the model refuses."""
        import pandas as pd

        frame = model_input if isinstance(model_input, pd.DataFrame) else pd.DataFrame(model_input)
        answer = self.model.predict(frame)
        added: pd.DataFrame = answer[[name for name in answer.columns if name not in frame.columns]]
        return added


def _load_pyfunc(path: str) -> Predictor:
    """Return what predicts; MLflow calls it with the folder of the bundle."""
    return Predictor(Path(path))


def _log_run(manifest: Manifest, folder: Path) -> None:
    import mlflow

    mlflow.set_tag(SEAL_TAG, manifest.sha256)
    mlflow.log_metrics({f"test_{name}": value for name, value in _metrics(manifest)})
    mlflow.log_params(dict(_params(manifest.provenance)))
    if (folder / "report.html").exists():
        mlflow.log_artifact(str(folder / "report.html"))


def _metrics(manifest: Manifest) -> Iterator[tuple[str, float]]:
    """Give each metric, and those of each of several targets, with the characters that MLflow takes in names."""
    for name, value in manifest.metrics.items():
        if _is_number(value):
            yield name, float(value)
    of_targets = manifest.metrics.get("targets") if manifest.signature.targets else None
    for target, own in of_targets.items() if isinstance(of_targets, Mapping) else ():
        for name, value in own.items() if isinstance(own, Mapping) else ():
            if _is_number(value):
                yield f"{NOT_IN_NAMES.sub('_', target)}_{name}", float(value)


def _params(provenance: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Give what was decided for the run, and what data it saw, as MLflow's parameters."""
    for group in ("chosen", "data", "split"):
        values = provenance.get(group)
        for name, value in values.items() if isinstance(values, Mapping) else ():
            text = value if isinstance(value, str) else json.dumps(value)
            yield f"{group}.{name}", text[:LONGEST_PARAM]


def _signature(manifest: Manifest) -> Any:
    """Return the signature that MLflow checks inputs against: by name, missing values allowed where training saw some."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    from batchproof.service.tables.parameters import Parameters
    from batchproof.service.tables.writers.result_columns import ResultColumns

    inputs = [
        ColSpec(_type(feature), feature.name, required=not feature.missing) for feature in manifest.signature.inputs
    ]
    classes = manifest.signature.classes
    if classes is None:
        names = ResultColumns(manifest, Parameters()).names
        return ModelSignature(Schema(inputs), Schema([ColSpec(DataType.float, name) for name in names]))
    kinds = {bool: DataType.boolean, int: DataType.long}
    label = (
        kinds.get(type(classes[0]), DataType.string)
        if len({type(value) for value in classes}) == 1
        else DataType.string
    )
    outputs = [ColSpec(DataType.float, f"probability_{name}") for name in map(_text, classes)]
    return ModelSignature(Schema(inputs), Schema([ColSpec(label, "prediction"), *outputs]))


def _type(feature: Feature) -> Any:
    """Return MLflow's type: any where it has none that holds a missing value, or a date in each of its spellings."""
    from mlflow.types.schema import AnyType

    return TYPES.get(feature.value_type) or AnyType()


def _text(label: object) -> str:
    from batchproof.service.bundle.signature import class_text

    return class_text(label)  # type: ignore[arg-type]  # a class label


def _requirements() -> list[str]:
    return [f"batchproof=={__version__}", *EXTRAS["cpu"], *EXTRAS["tables"], "pandas"]


def _python() -> str:
    return ".".join(map(str, sys.version_info[:3]))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
