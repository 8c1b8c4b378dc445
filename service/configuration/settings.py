"""Every setting in one place: its unit, default, bounds and meaning.

The first source that has a setting counts: its flag, its environment variable, the settings file, what the hosting
platform implies (service/configuration/platforms.py), the default. An invalid one stops the start with one sentence.
docs/settings.md is generated from this file.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from batchproof.service.configuration import platforms, setting_sources
from batchproof.service.configuration.address import Root, root_of
from batchproof.service.configuration.setting_fields import WrongSettingError, matching, not_empty, setting
from batchproof.service.configuration.setting_sources import FILE_NAME, read_environment, read_file
from batchproof.service.configuration.setting_texts import bounds_of, sentence
from batchproof.service.configuration.settings_bounds import BoundsSettings
from batchproof.service.configuration.settings_drift import DriftSettings
from batchproof.service.configuration.settings_journal import JournalSettings
from batchproof.service.configuration.settings_pages import PagesSettings
from batchproof.service.errors import SettingError

PIN = re.compile(r"newest(:[1-9][0-9]{0,3})?|all|[1-9][0-9]{0,17}(\+[1-9][0-9]{0,17})*")
LABEL = re.compile(r"[^./]+(\.[^./]+)*\.[A-Za-z0-9_-]{1,64}")
Texts = tuple[str, ...]
MOST_THREADS = 256  # of one engine run, each with memory of its own
RUN_ROWS = 512  # most rows of one engine run where no setting says otherwise


def _check_policies(pins: dict[str, int | str]) -> None:
    if not all(PIN.fullmatch(str(which)) for which in pins.values()):
        raise ValueError("a version, versions joined by +, newest, newest:N or all")


def _check_labels(labels: dict[str, int]) -> None:
    if not all(LABEL.fullmatch(name) for name in labels):
        raise ValueError("a label is written MODEL.LABEL")


class ServingSettings(BoundsSettings):
    """All of them but those of the journal, of drift and of the pages."""

    models: Root = setting(
        Path("models"),
        read=root_of,
        description="folder of <name>/<version>/ bundles, or an address such as s3://bucket/models",
    )
    versions: str = setting(
        "newest",
        check=matching(r"^(newest(:[1-9][0-9]{0,3})?|all)$"),
        description="versions of each model to serve: the newest, the newest N (newest:2), or all",
    )
    pins: dict[str, int | str] = setting(
        {},
        read=setting_sources.pairs,
        check=_check_policies,
        description="versions of single models instead of `versions`, as NAME=WHICH separated by commas: 3 or 3+4 serves "
        "only these; newest, newest:2 and all mean the same as above",
    )
    labels: dict[str, int] = setting(
        {},
        read=setting_sources.pairs,
        check=_check_labels,
        description="names for versions, as MODEL.LABEL=VERSION separated by commas: penguins.stable=3 answers at "
        "/models/penguins/labels/stable/predict",
    )
    shadow: dict[str, int] = setting(
        {},
        read=setting_sources.pairs,
        description="versions that run in comparison with the served one, as MODEL=VERSION; callers do not see them",
    )
    shadow_share: float = setting(
        0.1, gt=0, le=1, description="share of the batches that the versions of `shadow` also run"
    )
    model_control: Literal["none", "poll", "explicit"] = setting(
        "none",
        description="what changes the served models, in addition to SIGHUP: nothing; a check of the models folder every poll_s; "
        "or load and unload requests of callers",
    )
    poll_s: float = setting(
        15.0,
        ge=0.1,
        le=86400,
        description="time between two checks of the models folder",
        unit="s",
    )
    default_model: str = setting("", description="the model that /predict uses; empty: the only model")
    default_model_alias: str = setting(
        "",
        check=matching(r"^([A-Za-z0-9][A-Za-z0-9._-]{0,99})?$"),
        description="another name by which requests may name the model that /predict uses, such as a KServe service's",
    )
    host: str = setting("127.0.0.1", check=not_empty, description="address to listen on; 0.0.0.0: every address")
    port: int = setting(8000, ge=0, le=65535, description="port to listen on; 0: any free port")
    grpc_port: int = setting(0, ge=0, le=65535, description="port of the Open Inference Protocol over gRPC; 0: none")
    root_path: str = setting(
        "", check=matching(r"^(/[^\s/?#]+)*$"), description="path prefix that a proxy forwards, such as /ml"
    )
    workers: int = setting(1, ge=1, le=256, description="processes; each has its own session")
    threads: int = setting(1, ge=0, le=MOST_THREADS, description="engine threads of one worker; 0: one for each core")
    device: Literal["auto", "cpu", "cuda"] = setting("auto", description="where models run")
    invariance: Literal["require", "tile", "report"] = setting(
        "require",
        description="bits that do not depend on the batch: require them (if needed with runs padded to one size; a model for "
        "which that does not help is refused); tile: always pad; or only report",
    )
    audit_every: int = setting(
        1000,
        ge=0,
        le=1_000_000_000,
        description="audit one batch in this many: one of its rows runs again on its own and is compared bit for bit; 0: none",
        unit="runs",
    )
    audit_folder: str = setting(
        "",
        description="folder for the records of violations, which include rows; empty: a folder of this user in the temporary folder",
    )
    table_requests: int = setting(
        8, ge=1, le=256, description="most tables that one worker answers at the same time; beyond it requests get 429"
    )
    table_memory_bytes: int = setting(
        1 << 30,
        ge=64 << 20,
        le=1 << 44,
        description="most memory for the process that reads one table of a caller, Parquet or long text",
        unit="bytes",
    )
    queue_rows: int = setting(
        200_000,
        ge=1,
        le=100_000_000,
        description="most rows admitted and not yet answered, in one worker; beyond it requests get 429, as they do when "
        "the estimated wait is more than half of their deadline",
        unit="rows",
    )
    run_rows: int = setting(RUN_ROWS, ge=1, le=65536, description="most rows of one engine run", unit="rows")
    load_memory_bytes: int = setting(
        2 << 30,
        ge=64 << 20,
        le=1 << 44,
        description="most memory for loading and verifying a bundle in a child process, which is done first if its graph does "
        "not bound its own cost",
        unit="bytes",
    )
    load_timeout_s: float = setting(20.0, gt=0, le=3600, description="most time for the same child process", unit="s")
    inline_s: float = setting(
        0.0,
        ge=0,
        le=1,
        description="longest run of one request, estimated from earlier runs, on the event loop; longer runs go to the worker "
        "thread. 0: depends on the number of cores",
        unit="s",
    )
    batch_wait_s: float = setting(0.0, ge=0, le=1, description="time to wait for more rows before a run", unit="s")
    timeout_s: float = setting(
        10.0,
        gt=0,
        le=3600,
        description="deadline of a request without X-Request-Timeout-S, and the largest value of that header",
        unit="s",
    )
    drain_s: float = setting(
        20.0,
        ge=0,
        le=3600,
        description="time to answer admitted rows when the service stops",
        unit="s",
    )
    stop_delay_s: float = setting(
        0.0,
        ge=0,
        le=3600,
        description="time from SIGTERM until connections are refused, for load balancers to notice: the service is not ready, "
        "and every answer closes its connection; 5 in the project's image",
        unit="s",
    )
    heartbeat_s: float = setting(
        5.0,
        ge=1,
        le=3600,
        description="time without a heartbeat after which one of several workers is killed and replaced; timeout_s "
        "if that is shorter, but at least 1 s",
        unit="s",
    )
    error_limit: int = setting(20, ge=1, le=10_000, description="most faults that one refusal lists")
    log_format: Literal["auto", "text", "json"] = setting(
        "auto", description="auto: text on a terminal, JSON elsewhere"
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "info", description="least severe event that is logged"
    )
    access_log: bool = setting(False, description="one line for each request")
    allowed_origins: Texts = setting(
        (),
        read=setting_sources.texts,
        description="browser origins that may call, such as https://example.org, separated by commas; *: all",
    )
    keys_file: str = setting(
        "", description="file of callers' keys, read again when it changes; empty: everybody may call"
    )
    public: tuple[Literal["docs", "metrics", "models"], ...] = setting(
        (),
        read=setting_sources.texts,
        description="what needs no key: the API's description (docs), the metrics, the descriptions and reports of models (models)",
    )
    jwt_issuer: str = setting(
        "", description="issuer of tokens (JWT) that are accepted in addition to keys; empty: none"
    )
    jwt_audience: str = setting("", description="audience that a token must name")
    jwt_keys: str = setting("", description="file or https address of the issuer's public keys (JWKS)")
    allowed_hosts: Texts = setting(
        (),
        read=setting_sources.texts,
        description="host names that requests may name in Host, such as models.example.org or *.example.org; empty: the "
        "address it listens on and localhost if that is the loopback address, otherwise every name",
    )
    trusted_proxies: Texts = setting(
        (),
        read=setting_sources.texts,
        check=setting_sources.check_networks,
        description="addresses and networks of reverse proxies, such as 10.0.0.0/8, whose X-Forwarded headers count: for links, "
        "allowed_hosts and the access log",
    )
    tls_cert: str = setting("", description="PEM file of the server's certificate and its chain; empty: plain HTTP")
    tls_key: str = setting("", description="PEM file of the certificate's private key")
    tls_client_ca: str = setting("", description="PEM file of the authorities whose client certificates are accepted")
    tls_client: Literal["ask", "require"] = setting(
        "ask",
        description="with tls_client_ca: ask callers for a certificate, or refuse connections without one",
    )
    grpc_client_certificates: bool = setting(
        False,
        description="with tls_client_ca: refuse gRPC connections without a certificate also where tls_client is ask; gRPC for "
        "Python cannot ask for one without requiring it",
    )
    signatures: Literal["off", "warn", "require"] = setting(
        "off",
        description="whether bundles must be signed: not checked; served with a warning; or refused without a valid "
        "signature of a trusted signer",
    )
    trusted_keys: Texts = setting(
        (), read=setting_sources.texts, description="PEM files of public keys whose signatures are accepted"
    )
    trusted_ca: Texts = setting(
        (), read=setting_sources.texts, description="PEM files of certificate authorities whose signers are accepted"
    )
    trusted_subjects: Texts = setting(
        (),
        read=setting_sources.texts,
        description="names of certificates that are accepted, such as *@example.org; empty: every name that trusted_ca certified",
    )
    metrics_folder: str = setting("", description="folder for the workers' shared counters; empty: a temporary one")

    @property
    def wants_keys(self) -> bool:
        """Whether callers need a key or a token."""
        return bool(self.keys_file or self.jwt_issuer)


class Settings(DriftSettings, JournalSettings, PagesSettings, ServingSettings):
    """What one service process was started with."""


class Loaded(NamedTuple):
    """The settings in force and where each came from: flag, environment, file or default."""

    settings: Settings
    sources: dict[str, str]


def load(flags: Mapping[str, Any], environment: Mapping[str, str] = os.environ, file: Path | None = None) -> Loaded:
    """Join all sources; raises SettingError naming the setting, its source and what would be right."""
    path = file or (Path(environment[FILE_NAME]) if environment.get(FILE_NAME) else None)
    platform, implied = platforms.settings_of(environment)
    layers = [
        (platform, implied),
        ("file", read_file(path, Settings.model_fields) if path else {}),
        ("environment", read_environment(environment, Settings.model_fields)),
        ("flag", dict(flags)),
    ]
    values: dict[str, Any] = {}
    sources = dict.fromkeys(Settings.model_fields, "default")
    for source, layer in layers:
        for name, value in layer.items():
            values[name] = value
            sources[name] = source
    try:
        return Loaded(Settings(**values), sources)
    except WrongSettingError as error:
        raise SettingError(sentence(error, values, sources, path, bounds)) from error


def bounds(name: str) -> str:
    """Return the values that the setting takes, in words."""
    return bounds_of(Settings.model_fields[name])
