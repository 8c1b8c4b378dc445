"""mosec: its Rust front end before worker processes that run onnxruntime; JSON at /predict, float32 bytes at /raw.

PEER_WORKERS processes; PEER_BATCH > 1 joins that many requests, waiting 1 ms (its smallest) for the batch to fill.
"""

import os
from typing import Any

import numpy as np
import onnxruntime as ort
import orjson
from mosec import Runtime, Server, Worker

WORKERS, BATCH = int(os.environ["PEER_WORKERS"]), int(os.environ["PEER_BATCH"])


class Network(Worker):
    """Runs the model on one array, or on the rows of a whole batch of arrays."""

    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["PEER_MODEL"], options, providers=["CPUExecutionProvider"])

    def forward(self, data: Any) -> Any:
        if BATCH == 1:
            return self.session.run(None, {"x": data})[0]
        joined = self.session.run(None, {"x": np.concatenate(data)})[0]
        return np.split(joined, np.cumsum([len(rows) for rows in data])[:-1])


class FromJson(Network):
    """{"inputs": rows} in, {"outputs": probabilities} out."""

    def deserialize(self, data: bytes) -> np.ndarray:
        return np.array(orjson.loads(data)["inputs"], dtype=np.float32)

    def serialize(self, data: np.ndarray) -> bytes:
        return orjson.dumps({"outputs": np.ascontiguousarray(data)}, option=orjson.OPT_SERIALIZE_NUMPY)


class FromBytes(Network):
    """Rows as float32 bytes in, probabilities as float32 bytes out."""

    resp_mime_type = "application/octet-stream"

    def deserialize(self, data: bytes) -> np.ndarray:
        return np.frombuffer(data, dtype=np.float32).reshape(-1, 32)

    def serialize(self, data: np.ndarray) -> bytes:
        return data.tobytes()


if __name__ == "__main__":
    batching = {"max_batch_size": BATCH, "max_wait_time": 1} if BATCH > 1 else {}
    runtimes = {
        path: [Runtime(worker, num=WORKERS, **batching)]
        for path, worker in (("/predict", FromJson), ("/raw", FromBytes))
    }
    server = Server()
    server.register_runtime(runtimes)
    server.run()
