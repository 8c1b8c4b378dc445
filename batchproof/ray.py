"""Ray Data: a dataset with predictions, from a pool of actors that each hold one scorer. Ray Serve: the service itself.

    import batchproof.ray

    scored = batchproof.ray.predict(ray.data.read_parquet("sales/"), "models/penguins", concurrency=4)
    ray.serve.run(batchproof.ray.application("s3://bucket/models", replicas=(1, 8)))

Blocks, retries, batch sizes and replicas change no bit. Ray's usage statistics are switched off unless
RAY_USAGE_STATS_ENABLED is set: import this module before ray starts.
"""

import asyncio
import contextlib
import math
import os
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports usage by default; this counts before it starts

from batchproof.installation import imported
from batchproof.scorer import BLOCK_ROWS, Scorer, Worker, wrong_kind
from batchproof.service.configuration.address import root_of
from batchproof.service.configuration.settings import Settings, load
from batchproof.service.errors import SettingError, nearest

if TYPE_CHECKING:
    import ray.data
    from ray.serve import Application
    from ray.serve.config import AutoscalingContext

    from batchproof.service.server.http.asgi import AsgiApp
    from batchproof.service.server.http.monitoring.access_log import Receive, Scope, Send

QUEUED_ROWS = "queued_rows"  # what a replica tells Ray's controller
REFRESH_S = 1.0  # between two looks whether keys have changed
# What Ray decides in the place of the service, and what only a process of the service's own does.
NOT_HERE = (
    *("host", "port", "grpc_port", "root_path", "workers", "heartbeat_s", "metrics_folder", "model_control", "poll_s"),
    *("tls_cert", "tls_key", "tls_client_ca", "tls_client", "journal", "journal_upload"),
)


class _Actor:
    """What each actor holds."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def __call__(self, table: pa.Table) -> pa.Table:
        return self._worker(table)


def predict(
    ds: "ray.data.Dataset",
    path: "str | PathLike[str]",
    *,
    concurrency: int | tuple[int, int] = 1,
    batch_rows: int = BLOCK_ROWS,
    other_bits: Literal["fail", "report"] = "fail",
    **options: Any,
) -> "ray.data.Dataset":
    """Return `ds` with the columns that the model adds; nothing runs until Ray needs the rows.

    `concurrency`: how many actors score, or the least and the most, 1 or more. The bundle at `path` is read here and
    travels with the job. Each actor checks it, verifies batch invariance, and compares its bits with this machine's: where a float32
    model's differ the job fails, or with other_bits="report" the actor logs a warning. `options` are those of
    `batchproof.Scorer`: extra, answer, on_error, prefix, threads, ... Raises TypeError for another kind of dataset;
    columns that do not fit are refused when rows run, since Ray may not know them before.
    """
    data = imported("ray.data", "batchproof.ray")
    if not isinstance(ds, data.Dataset):
        raise wrong_kind(
            "batchproof.ray.predict", "ray.data.Dataset", ds, "ray.data.from_arrow(pyarrow.Table.from_pandas(frame))"
        )
    least, most = _range("concurrency", concurrency)
    worker = Worker(Scorer(path, **options), other_bits)
    return ds.map_batches(
        _Actor,
        fn_constructor_args=(worker,),
        batch_format="pyarrow",
        batch_size=batch_rows,
        compute=data.ActorPoolStrategy(min_size=least, max_size=most),
        zero_copy_batch=True,
    )


def application(
    models: "str | PathLike[str]",
    *,
    replicas: int | tuple[int, int] = 1,
    queued_rows: float = 1000.0,
    scaling: dict[str, Any] | None = None,
    actor: dict[str, Any] | None = None,
    **settings: Any,
) -> "Application":
    """Return the service as an application for `ray.serve.run`: all pages and HTTP protocols, in each replica.

    `models`: a folder of bundles that every node has, or an address such as s3://BUCKET/models. `replicas`: how many, or
    the least and the most; between them Ray aims at `queued_rows` rows a replica that are admitted and not answered yet.
    `scaling`: further options of Ray's AutoscalingConfig, such as {"upscale_delay_s": 5}. `actor`: Ray's
    options of a replica's actor, such as {"num_cpus": 2}. `settings` are those of `batchproof serve`, but for what Ray
    decides. Each replica reads the bundles and verifies batch invariance before it gets a request.
    Raises SettingError for an unknown setting, a wrong value, and a setting that has no effect here; TypeError and
    ValueError for a wrong value of the other parameters.
    """
    serve = imported("ray.serve", "batchproof.ray")
    from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

    for name in settings:
        if name in NOT_HERE:
            raise SettingError(f"{name} has no effect in Ray Serve: Ray starts the processes, and listens.")
        if name not in Settings.model_fields:
            raise SettingError(f"{name!r} is no setting.{nearest(name, list(Settings.model_fields))}")
    root = root_of(models)
    # A replica listens nowhere, so the service would take every caller for one of this machine.
    open_to = {"share_bundles": "auto" if {"keys_file", "jwt_issuer"} & set(settings) else "no"}
    given = {**open_to, **settings, "models": str(root.absolute() if isinstance(root, Path) else root)}
    load(given, {})
    RowsPolicy(queued_rows)
    least, most = _range("replicas", replicas, 0 if isinstance(replicas, tuple) else 1)
    if isinstance(replicas, int):
        if scaling:
            raise ValueError(
                f"scaling has no effect on a fixed number of replicas: give replicas a range, such as (1, {most})"
            )
        number: dict[str, Any] = {"num_replicas": replicas}
    else:
        for name in scaling or ():
            if name not in AutoscalingConfig.model_fields:
                near = nearest(name, list(AutoscalingConfig.model_fields))
                raise ValueError(f"scaling: Ray's AutoscalingConfig has no {name!r}.{near}")
        policy = AutoscalingPolicy(policy_function=RowsPolicy, policy_kwargs={QUEUED_ROWS: queued_rows})
        limits = {"min_replicas": least, "max_replicas": most}
        number = {"autoscaling_config": AutoscalingConfig(**limits, **(scaling or {}), policy=policy)}
    deployment = serve.deployment(name="batchproof", ray_actor_options=actor or {}, **number)
    made: Application = deployment(serve.ingress()(_Replica)).bind(given)
    return made


def _range(name: str, given: object, allowed: int = 1) -> tuple[int, int]:
    """Return the least and the most of a number or a pair; raises TypeError and ValueError."""
    pair: Any = given if isinstance(given, tuple | list) else (given, given)
    if len(pair) != 2 or not all(isinstance(each, int) and not isinstance(each, bool) for each in pair):
        raise TypeError(f"{name} is {given!r}; it must be a whole number, or the least and the most, such as (1, 4)")
    least, most = pair
    if not allowed <= least <= most > 0:
        raise ValueError(f"{name} is {given!r}; it must be {allowed} or more, the least before the most")
    return least, most


class RowsPolicy:
    """How many replicas there are to be: as many as hold the waiting rows with `queued_rows` each."""

    def __init__(self, queued_rows: float) -> None:
        """Aim at so many rows a replica; raises TypeError or ValueError unless they are a number above 0."""
        if type(queued_rows) not in (int, float):
            raise TypeError(f"queued_rows is {queued_rows!r}; it must be a number above 0")
        if not queued_rows > 0:
            raise ValueError(f"queued_rows must be above 0, not {queued_rows}")
        self._queued_rows = queued_rows

    def __call__(self, context: "AutoscalingContext") -> tuple[int, dict[str, Any]]:
        """Return the number of replicas, within the limits that Ray has."""
        rows = sum(((context.aggregated_metrics or {}).get(QUEUED_ROWS) or {}).values())
        wanted = math.ceil(rows / self._queued_rows)
        least, most = context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
        return min(max(wanted, least), most), {}


class _Replica:
    """One process of the service, in an actor of Ray's."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._given = given

    def __serve_build_asgi_app__(self) -> "_Ingress":
        from batchproof.service.runtime.logs import configure
        from batchproof.service.server.http.asgi import AsgiApp
        from batchproof.service.server.serving import app

        settings = load(self._given, {}).settings
        configure(settings.log_format, settings.log_level)
        self._ingress = _Ingress(AsgiApp(app.load(settings)))
        return self._ingress

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Return what the policy reads."""
        return {QUEUED_ROWS: float(self._ingress.application.app.shared.admission.queued_rows)}

    def check_health(self) -> None:
        """Raise RuntimeError where Ray should replace this replica."""
        served = self._ingress.application.app
        if served.is_stuck or not (served.is_ready or served.is_stopping):
            raise RuntimeError("a run of the engine does not end, or no model may answer")


class _Ingress:
    """The service's ASGI application, with the life of its process."""

    def __init__(self, application: "AsgiApp") -> None:
        self.application = application

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] != "lifespan":
            await self.application(scope, receive, send)
            return
        served = self.application.app
        await receive()
        refreshing = asyncio.create_task(self._refresh())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        refreshing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await refreshing
        await served.drain()
        served.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _refresh(self) -> None:
        """Read keys again where they have changed."""
        authorization = self.application.app.authorization
        while authorization is not None:
            await asyncio.to_thread(authorization.refresh)
            await asyncio.sleep(REFRESH_S)
