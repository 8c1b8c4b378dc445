"""Settings that hosting platforms imply through environment variables and folders; every other source overrides them.

Sources: Vertex AI's custom container requirements (AIP_*), SageMaker's inference container contract, Azure ML's custom
container guide (AZUREML_MODEL_DIR), KServe's serving runtimes (/mnt/models), Google Cloud Run and others (PORT). The
project's own image names itself (CONTAINER=batchproof) and comes last, so that the platform it runs on goes first.

Kubernetes gives every container variables for each Service of its namespace, and Docker did so for links: those of a
Service whose name begins with `batchproof` look like this project's settings. `is_service_link` tells them apart.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batchproof.service.errors import SettingError

SAGEMAKER_MODEL = Path("/opt/ml/model")
KSERVE_MODEL = Path("/mnt/models")
STOP_DELAY_S = 5.0  # in the image: load balancers need a moment to see that it is not ready any more
# NAME_SERVICE_HOST, NAME_SERVICE_PORT, NAME_SERVICE_PORT_<port's name>, NAME_PORT_<number>_<protocol>[_PROTO|_PORT|_ADDR]
LINK_NAME = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$")
LINK_VALUE = re.compile(r"(tcp|udp|sctp)://\S+:\d+$")  # of NAME_PORT
EVERYWHERE = "0.0.0.0"  # noqa: S104 - a platform's probe comes from outside the container


def settings_of(environment: Mapping[str, str], root: Path = Path("/")) -> tuple[str, dict[str, Any]]:
    """Return the platform's name and the settings that it implies, none where no platform is recognised.

    `root` stands in for the file system's root in tests. Raises SettingError for a platform's value that is invalid.
    """
    for name, implied in (
        ("Vertex AI", _vertex(environment)),
        ("SageMaker", _sagemaker(environment, root)),
        ("Azure ML", _azure(environment)),
        ("KServe", _kserve(environment, root)),
        ("the image", _image(environment)),
    ):
        if implied:
            of_image = {"stop_delay_s": STOP_DELAY_S} if _is_image(environment) else {}
            return name, of_image | implied
    return "", {}


def is_service_link(name: str, value: str) -> bool:
    """Return whether a platform made this variable for a Service or link, as `BATCHPROOF_PORT=tcp://10.0.0.1:80`."""
    return bool(LINK_NAME.search(name) or (name.endswith("_PORT") and LINK_VALUE.match(value)))


def _vertex(environment: Mapping[str, str]) -> dict[str, Any]:
    if "AIP_HTTP_PORT" not in environment and environment.get("AIP_MODE") != "PREDICTION":
        return {}
    for name in ("AIP_PREDICT_ROUTE", "AIP_HEALTH_ROUTE"):
        route = environment.get(name)
        if route is not None and not route.startswith("/"):
            raise SettingError(f"{name} is {route!r:.100}, but a route starts with a slash.")
    return {"host": EVERYWHERE, "port": environment.get("AIP_HTTP_PORT", "8080")}


def _sagemaker(environment: Mapping[str, str], root: Path) -> dict[str, Any]:
    folder = _under(root, SAGEMAKER_MODEL)
    if "SAGEMAKER_BIND_TO_PORT" not in environment and not folder.is_dir():
        return {}
    implied: dict[str, Any] = {"host": EVERYWHERE, "port": environment.get("SAGEMAKER_BIND_TO_PORT", "8080")}
    if folder.is_dir() and any(folder.iterdir()):
        implied["models"] = folder
    if "SAGEMAKER_MODEL_SERVER_WORKERS" in environment:
        implied["workers"] = environment["SAGEMAKER_MODEL_SERVER_WORKERS"]
    if "SAGEMAKER_MAX_PAYLOAD_IN_MB" in environment:
        implied["max_body_bytes"] = _megabytes("SAGEMAKER_MAX_PAYLOAD_IN_MB", environment)
    return implied


def _azure(environment: Mapping[str, str]) -> dict[str, Any]:
    folder = environment.get("AZUREML_MODEL_DIR")
    return {"host": EVERYWHERE, "port": "5001", "models": folder} if folder else {}


def _kserve(environment: Mapping[str, str], root: Path) -> dict[str, Any]:
    folder = _under(root, KSERVE_MODEL)
    if not folder.is_dir():
        return {}
    return {"host": EVERYWHERE, "port": environment.get("PORT", "8080"), "models": folder}


def _image(environment: Mapping[str, str]) -> dict[str, Any]:
    if not _is_image(environment):
        return {}
    return {"host": EVERYWHERE, "port": environment.get("PORT", "8080")}


def _is_image(environment: Mapping[str, str]) -> bool:
    return environment.get("CONTAINER") == "batchproof"


def _under(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _megabytes(name: str, environment: Mapping[str, str]) -> int:
    text = environment[name]
    if not text.isdecimal() or not int(text):
        raise SettingError(f"{name} is {text!r:.40}, but it is a number of megabytes above 0.")
    return int(text) << 20
