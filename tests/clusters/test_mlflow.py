"""A bundle as a model of MLflow: logged, registered, loaded, served and scored on Spark, with the bits of the service."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

import batchproof.mlflow
from batchproof import load_model
from tests.clusters.rows import MODEL, ROOT, table

FEATURES = ["island", "bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g", "sex"]


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return table(2000).to_pandas()[FEATURES]


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Point MLflow at a database and a folder of this test."""
    folder = tmp_path_factory.mktemp("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.create_experiment("tests", artifact_location=(folder / "artifacts").as_uri())
    mlflow.set_experiment("tests")
    return folder


@pytest.fixture(scope="module")
def uri(tracking: Path) -> str:
    logged = batchproof.mlflow.log_model(MODEL, registered_model_name="penguins")
    return str(logged.model_uri)


def bits(frame: pd.DataFrame) -> dict[str, Any]:
    return {
        name: frame[name].to_numpy(np.float32).tobytes() if name.startswith("probability_") else list(frame[name])
        for name in frame.columns
        if name == "prediction" or name.startswith("probability_")
    }


def test_a_logged_model_predicts_the_bits_of_the_bundle(uri: str, frame: pd.DataFrame) -> None:
    """Loaded from the registry or from the run, the model gives each row the bits that the bundle gives it, without a pickle."""
    wanted = bits(load_model(MODEL).predict(frame))
    for address in (uri, "models:/penguins/1"):
        assert bits(mlflow.pyfunc.load_model(address).predict(frame)) == wanted
    folder = Path(mlflow.artifacts.download_artifacts(uri))
    assert not list(folder.rglob("*.pkl"))
    assert (folder / "bundle" / "model.onnx").read_bytes() == (MODEL / "model.onnx").read_bytes()


def test_the_run_says_what_was_logged(uri: str) -> None:
    """The run has the bundle's metrics, parameters, report and seal; the model its signature, example and seal."""
    manifest = json.loads((MODEL / "bundle.json").read_bytes())
    info = mlflow.models.get_model_info(uri)
    run = mlflow.get_run(info.run_id)

    assert run.data.metrics["test_accuracy"] == manifest["metrics"]["accuracy"]
    assert run.data.params["data.sha256"] == manifest["provenance"]["data"]["sha256"]
    assert run.data.tags["batchproof.seal"] == info.metadata["batchproof.seal"] == manifest["sha256"]
    assert [artifact.path for artifact in mlflow.MlflowClient().list_artifacts(info.run_id)] == ["report.html"]
    assert [column.name for column in info.signature.inputs] == FEATURES
    assert info.signature.outputs.input_names()[0] == "prediction"
    example = mlflow.pyfunc.load_model(uri).input_example
    assert list(example.columns) == FEATURES


def test_rows_that_do_not_fit_are_refused(uri: str, frame: pd.DataFrame) -> None:
    """A column that is missing or of another type is refused with its name."""
    loaded = mlflow.pyfunc.load_model(uri)
    with pytest.raises(MlflowException, match="island"):
        loaded.predict(frame.drop(columns=["island"]))
    with pytest.raises(MlflowException, match="bill_length_mm"):
        loaded.predict(frame.assign(bill_length_mm="long"))


def test_evaluate_reads_its_predictions(uri: str, frame: pd.DataFrame) -> None:
    """`mlflow.evaluate` finds the predictions by name."""
    labels = list(load_model(MODEL).predict(frame)["prediction"])
    data = frame.assign(species=labels)
    loaded = mlflow.pyfunc.load_model(uri)
    predictions = loaded.predict(data[FEATURES])["prediction"]
    result = mlflow.models.evaluate(
        data=data.assign(predicted=predictions), targets="species", predictions="predicted", model_type="classifier",
        evaluator_config={"log_model_explainability": False},
    )  # fmt: skip
    assert result.metrics["accuracy_score"] == 1.0


def test_mlflow_serves_it(uri: str, frame: pd.DataFrame, tracking: Path) -> None:
    """`mlflow models serve` answers with the bundle's bits; rows with missing values too."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "-m",
        uri,
        "--env-manager",
        "local",
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
        "-w",
        "1",
    ]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # MLflow starts uvicorn by its name
    environment = {
        **os.environ,
        "PATH": path,
        "MLFLOW_TRACKING_URI": f"sqlite:///{tracking}/mlflow.db",
        "PYTHONPATH": str(ROOT),
    }
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT) as process:
        try:
            deadline_s = time.monotonic() + 120
            while True:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5):
                        break
                except OSError:
                    assert time.monotonic() < deadline_s, "the server did not start"
                    time.sleep(0.5)
            some = frame.head(50)
            body = json.dumps({"dataframe_split": json.loads(some.to_json(orient="split"))}).encode()
            asked = urllib.request.Request(
                f"http://127.0.0.1:{port}/invocations", body, {"content-type": "application/json"}
            )
            with urllib.request.urlopen(asked, timeout=60) as response:
                predictions = pd.DataFrame(json.loads(response.read())["predictions"])
        finally:
            process.terminate()
    assert bits(predictions) == bits(load_model(MODEL).predict(some))


def test_spark_udf_has_the_same_bits(uri: str, frame: pd.DataFrame) -> None:
    """MLflow's own way to Spark gives each row the same bits."""
    from pyspark.sql import SparkSession
    from pyspark.sql.functions import struct

    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    spark = (
        SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1").getOrCreate()
    )  # fmt: skip
    types = "prediction string, probability_Adelie float, probability_Chinstrap float, probability_Gentoo float"
    udf = mlflow.pyfunc.spark_udf(spark, uri, result_type=types, env_manager="local")
    some = frame.head(200).assign(
        flipper_length_mm=lambda f: f["flipper_length_mm"].astype(float),
        body_mass_g=lambda f: f["body_mass_g"].astype(float),
    )
    rows = spark.createDataFrame(some.astype(object).where(some.notna(), None), schema=", ".join(
        f"{name} {'string' if name in ('island', 'sex') else 'double'}" for name in FEATURES
    )).repartition(3)  # fmt: skip
    answered = rows.select("*", udf(struct(*FEATURES)).alias("answer")).select(*FEATURES, "answer.*").toPandas()
    spark.stop()
    wanted = load_model(MODEL).predict(answered[FEATURES])
    assert bits(answered) == bits(wanted)


def test_register_moves_an_alias(tracking: Path) -> None:
    """A registered bundle is a new version, and its alias names the newest one that was given it."""
    address = f"sqlite:///{tracking}/mlflow.db"
    for version in ("1", "2"):
        said = batchproof.mlflow.register(MODEL, address, "aliased", "challenger")
        assert said == f"registered in MLflow as models:/aliased@challenger, version {version}"
    assert mlflow.MlflowClient().get_model_version_by_alias("aliased", "challenger").version == 2
    assert batchproof.mlflow.register(MODEL, address).startswith("logged to MLflow as models:/")
