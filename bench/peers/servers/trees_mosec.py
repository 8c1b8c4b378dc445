"""mosec before PEER_WORKERS processes with LightGBM's trees: {"rows": [{name: value}…]} or positional lists, in JSON."""

import os
from operator import itemgetter
from typing import Any

import orjson
from mosec import Runtime, Server, Worker
from trees import Forest


class Trees(Worker):
    """Rows in, {"predictions": numbers} out."""

    def __init__(self) -> None:
        self._forest = Forest()
        self._values = itemgetter(*self._forest.names)

    def deserialize(self, data: bytes) -> Any:
        return orjson.loads(data)["rows"]

    def forward(self, data: Any) -> Any:
        named = isinstance(data[0], dict)
        return self._forest.predict([self._values(row) for row in data] if named else data)

    def serialize(self, data: Any) -> bytes:
        return orjson.dumps({"predictions": data})


if __name__ == "__main__":
    server = Server()
    server.register_runtime({"/predict": [Runtime(Trees, num=int(os.environ["PEER_WORKERS"]))]})
    server.run()
