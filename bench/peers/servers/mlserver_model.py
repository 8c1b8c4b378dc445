"""MLServer: a custom runtime that runs onnxruntime behind the Open Inference Protocol."""

import os

import numpy as np
import onnxruntime as ort
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class Network(MLModel):
    """The input `x` [rows, 32] to the output `probabilities` [rows, 3]."""

    async def load(self) -> bool:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["PEER_MODEL"], options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        tensor = payload.inputs[0]
        rows = np.array(tensor.data, dtype=np.float32).reshape(tensor.shape)
        answers = self.session.run(None, {"x": rows})[0]
        output = ResponseOutput(
            name="probabilities", shape=list(answers.shape), datatype="FP32", data=answers.ravel().tolist()
        )
        return InferenceResponse(id=payload.id, model_name=self.name, outputs=[output])
