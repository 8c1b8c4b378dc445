"""Ray Serve: PEER_WORKERS replicas that run onnxruntime; JSON, or float32 bytes as application/octet-stream."""

import os
import signal
import threading

import numpy as np
import onnxruntime as ort
import orjson
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

BYTES = "application/octet-stream"


@serve.deployment(
    num_replicas=int(os.environ["PEER_WORKERS"]), max_ongoing_requests=512, ray_actor_options={"num_cpus": 0.5}
)
class Network:
    """One replica with its own session of one thread."""

    def __init__(self, model: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    async def __call__(self, request: Request) -> Response:
        body, is_bytes = await request.body(), request.headers.get("content-type") == BYTES
        if is_bytes:
            rows = np.frombuffer(body, dtype=np.float32).reshape(-1, 32)
        else:
            rows = np.array(orjson.loads(body)["inputs"], dtype=np.float32)
        answers = self.session.run(None, {"x": rows})[0]
        if is_bytes:
            return Response(answers.tobytes(), media_type=BYTES)
        content = orjson.dumps({"outputs": answers}, option=orjson.OPT_SERIALIZE_NUMPY)
        return Response(content, media_type="application/json")


if __name__ == "__main__":
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=200 << 20,
        _node_ip_address="127.0.0.1",
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PEER_PORT"])})
    quiet = {"enable_access_log": False, "log_level": "WARNING"}
    serve.run(Network.bind(os.environ["PEER_MODEL"]), name="network", route_prefix="/", logging_config=quiet)
    ended.wait()
    serve.shutdown()
    ray.shutdown()
