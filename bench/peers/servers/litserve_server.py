"""LitServe: PEER_WORKERS HTTP processes before as many inference processes, over its ZMQ queue; JSON only."""

import os
from typing import Any

import litserve
import numpy as np
import onnxruntime as ort

WORKERS = int(os.environ["PEER_WORKERS"])


class Network(litserve.LitAPI):
    """{"inputs": rows} in, {"outputs": probabilities} out."""

    def setup(self, device: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["PEER_MODEL"], options, providers=["CPUExecutionProvider"])

    def decode_request(self, request: dict[str, Any]) -> np.ndarray:
        return np.array(request["inputs"], dtype=np.float32)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.session.run(None, {"x": x})[0]

    def encode_response(self, output: np.ndarray) -> dict[str, Any]:
        return {"outputs": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Network(), accelerator="cpu", workers_per_device=WORKERS, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PEER_PORT"]),
        num_api_servers=WORKERS,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
