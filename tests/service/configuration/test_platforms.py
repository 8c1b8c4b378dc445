"""What hosting platforms say through their environments, as settings."""

from pathlib import Path
from typing import Any

import pytest

from batchproof.service.configuration import settings
from batchproof.service.configuration.platforms import settings_of
from batchproof.service.errors import SettingError


@pytest.mark.parametrize(
    "environment, platform, implied",
    [
        ({}, "", {}),
        ({"PORT": "9"}, "", {}),
        ({"AIP_HTTP_PORT": "8081", "AIP_MODE": "PREDICTION"}, "Vertex AI", {"host": "0.0.0.0", "port": "8081"}),
        ({"AIP_MODE": "PREDICTION"}, "Vertex AI", {"host": "0.0.0.0", "port": "8080"}),
        ({"AIP_MODE": "TRAINING"}, "", {}),
        ({"SAGEMAKER_BIND_TO_PORT": "8082"}, "SageMaker", {"host": "0.0.0.0", "port": "8082"}),
        (
            {"SAGEMAKER_BIND_TO_PORT": "1", "SAGEMAKER_MODEL_SERVER_WORKERS": "2", "SAGEMAKER_MAX_PAYLOAD_IN_MB": "6"},
            "SageMaker",
            {"host": "0.0.0.0", "port": "1", "workers": "2", "max_body_bytes": 6 << 20},
        ),
        ({"AZUREML_MODEL_DIR": "/var/x"}, "Azure ML", {"host": "0.0.0.0", "port": "5001", "models": "/var/x"}),
        ({"CONTAINER": "batchproof"}, "the image", {"host": "0.0.0.0", "port": "8080", "stop_delay_s": 5}),
        ({"CONTAINER": "batchproof", "PORT": "9"}, "the image", {"host": "0.0.0.0", "port": "9", "stop_delay_s": 5}),
        (
            {"CONTAINER": "batchproof", "AIP_HTTP_PORT": "7"},
            "Vertex AI",
            {"host": "0.0.0.0", "port": "7", "stop_delay_s": 5},
        ),
    ],
)
def test_environments(tmp_path: Path, environment: dict[str, str], platform: str, implied: dict[str, Any]) -> None:
    """Each platform is known by its own variables; the image gives way to the platform that it runs on."""
    assert settings_of(environment, tmp_path) == (platform, implied)


@pytest.mark.parametrize("folder, platform", [("opt/ml/model", "SageMaker"), ("mnt/models", "KServe")])
def test_folders(tmp_path: Path, folder: str, platform: str) -> None:
    """The folder that a platform mounts is where models are looked for."""
    place = tmp_path / folder / "flowers"
    place.mkdir(parents=True)
    assert settings_of({}, tmp_path) == (platform, {"host": "0.0.0.0", "port": "8080", "models": place.parent})


def test_an_empty_folder_leaves_the_models_of_the_image(tmp_path: Path) -> None:
    """SageMaker makes /opt/ml/model even where no artifact was given; the image's own models are served then."""
    (tmp_path / "opt/ml/model").mkdir(parents=True)
    assert settings_of({}, tmp_path) == ("SageMaker", {"host": "0.0.0.0", "port": "8080"})


@pytest.mark.parametrize(
    "environment, sentence",
    [
        ({"AIP_HTTP_PORT": "8080", "AIP_PREDICT_ROUTE": "predict"}, "AIP_PREDICT_ROUTE is 'predict'"),
        ({"AIP_HTTP_PORT": "8080", "AIP_HEALTH_ROUTE": "health"}, "AIP_HEALTH_ROUTE is 'health'"),
        ({"SAGEMAKER_BIND_TO_PORT": "1", "SAGEMAKER_MAX_PAYLOAD_IN_MB": "six"}, "a number of megabytes"),
        ({"SAGEMAKER_BIND_TO_PORT": "1", "SAGEMAKER_MAX_PAYLOAD_IN_MB": "0"}, "a number of megabytes"),
    ],
)
def test_words_that_cannot_be_used(tmp_path: Path, environment: dict[str, str], sentence: str) -> None:
    """A variable that cannot be what it is for stops the start with one sentence that names it."""
    with pytest.raises(SettingError, match=sentence):
        settings_of(environment, tmp_path)


def test_what_a_person_says_goes_first() -> None:
    """A flag or an environment name of the service's own is stronger than what the platform implies."""
    environment = {"AIP_HTTP_PORT": "8081", "BATCHPROOF_HOST": "::1"}
    found = settings.load({"port": "9"}, environment)
    assert (found.settings.host, found.settings.port) == ("::1", 9)
    assert (found.sources["host"], found.sources["port"]) == ("environment", "flag")
    plain = settings.load({}, {"AIP_HTTP_PORT": "8081"})
    assert (plain.settings.port, plain.sources["port"]) == (8081, "Vertex AI")


def test_a_wrong_word_of_the_platform_is_named() -> None:
    """A port that is none stops the start; the sentence names the setting."""
    with pytest.raises(SettingError, match="port"):
        settings.load({}, {"AIP_HTTP_PORT": "eighty"})


def links(service: str, port: int, name: str = "") -> dict[str, str]:
    """Return the variables that Kubernetes gives every container for a Service, as its documentation lists them."""
    prefix, address = service.upper().replace("-", "_"), "10.96.12.34"
    own = f"{prefix}_PORT_{port}_TCP"
    named = {f"{prefix}_SERVICE_PORT_{name.upper().replace('-', '_')}": str(port)} if name else {}
    return named | {
        f"{prefix}_SERVICE_HOST": address,
        f"{prefix}_SERVICE_PORT": str(port),
        f"{prefix}_PORT": f"tcp://{address}:{port}",
        own: f"tcp://{address}:{port}",
        f"{own}_PROTO": "tcp",
        f"{own}_PORT": str(port),
        f"{own}_ADDR": address,
    }


@pytest.mark.parametrize(
    "environment",
    [
        links("batchproof", 80),
        links("batchproof", 80, "http"),
        links("batchproof", 8080, "grpc-web"),
        links("batchproof-grpc", 9000, "grpc"),
        links("batchproof-canary", 80) | {"BATCHPROOF_CANARY_PORT": "udp://[fd00::1]:80"},
    ],
    ids=lambda environment: next(iter(environment)),
)
def test_variables_of_a_service_are_no_settings(environment: dict[str, str]) -> None:
    """A Service named as this project is, or so that its name begins so, changes no setting and stops no start."""
    loaded = settings.load({}, environment)
    assert loaded == settings.load({}, {})


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"BATCHPROOF_PROT": "8000"}, "Did you mean 'BATCHPROOF_PORT'"),
        ({"BATCHPROOF_SERVICE_HOTS": "10.0.0.1"}, "Unknown setting 'BATCHPROOF_SERVICE_HOTS'"),
        ({"BATCHPROOF_PORT": "tcp://here"}, "BATCHPROOF_PORT is 'tcp://here', but port takes 0 to 65535"),
        ({"BATCHPROOF_WORKERS": "tcp://10.0.0.1:80"}, "BATCHPROOF_WORKERS is"),
        ({"BATCHPROOF_PORTS": "tcp://10.0.0.1:80"}, "Did you mean 'BATCHPROOF_PORT'"),
    ],
)
def test_a_misspelt_variable_is_an_error_still(environment: dict[str, str], sentence: str) -> None:
    """What merely resembles a platform's variable is refused, with the nearest setting where there is one."""
    with pytest.raises(SettingError, match=sentence):
        settings.load({}, environment)


def test_a_setting_beside_a_services_variables_counts(tmp_path: Path) -> None:
    """BATCHPROOF_GRPC_PORT is a setting where it is a number and passed over where it is a Service's address."""
    assert settings.load({}, {"BATCHPROOF_GRPC_PORT": "9000"}).settings.grpc_port == 9000
    assert settings.load({"port": 1}, links("batchproof", 80)).settings.port == 1
