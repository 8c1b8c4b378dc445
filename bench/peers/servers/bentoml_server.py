"""BentoML: PEER_WORKERS processes, JSON through its API, float32 bytes through a mounted ASGI app."""

import os
from typing import Annotated

import bentoml
import numpy as np
import onnxruntime as ort
from bentoml.validators import DType, Shape
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

SETTINGS = {
    "workers": int(os.environ["PEER_WORKERS"]),
    "metrics": {"enabled": False},
    "logging": {"access": {"enabled": False}},
}
sessions: list[
    ort.InferenceSession
] = []  # made by the first caller of a process: the module is also imported where nothing is served


def session() -> ort.InferenceSession:
    """Return this process's session of one thread."""
    if not sessions:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        sessions.append(ort.InferenceSession(os.environ["PEER_MODEL"], options, providers=["CPUExecutionProvider"]))
    return sessions[0]


async def raw(request: Request) -> Response:
    """Rows as float32 bytes in, probabilities as float32 bytes out."""
    rows = np.frombuffer(await request.body(), dtype=np.float32).reshape(-1, 32)
    return Response(session().run(None, {"x": rows})[0].tobytes(), media_type="application/octet-stream")


@bentoml.asgi_app(Starlette(routes=[Route("/raw", raw, methods=["POST"])]), path="/bytes")
@bentoml.service(**SETTINGS)
class Network:
    """{"inputs": rows} in, a list of rows out."""

    @bentoml.api(route="/predict")
    async def predict(
        self, inputs: Annotated[np.ndarray, Shape((-1, 32)), DType("float32")]
    ) -> Annotated[np.ndarray, Shape((-1, 3)), DType("float32")]:
        return session().run(None, {"x": inputs})[0]
