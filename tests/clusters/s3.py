"""A real S3 server in this process, which can be away for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs

from tests.live import free_port


class S3Server:
    """The server, and its files through pyarrow."""

    def __init__(self, port: int) -> None:
        """Listen on `port` of the loopback."""
        self._port = port
        self.start()
        self.files = fs.S3FileSystem(
            scheme="http", endpoint_override=f"127.0.0.1:{port}", region="us-east-1", allow_bucket_creation=True
        )

    def start(self) -> None:
        """Listen."""
        self._server = ThreadedMotoServer("127.0.0.1", self._port)
        self._server.start()

    def stop(self) -> None:
        """Be away."""
        self._server.stop()


@contextmanager
def s3_server(bucket: str) -> Iterator[S3Server]:
    """Run a server with an empty bucket; the environment points at it."""
    port = free_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        for name, value in (("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test"), ("REGION", "us-east-1")):
            environment.setenv(f"AWS_{name}", value)
        server = S3Server(port)
        server.files.create_dir(bucket)
        yield server
        server.files.delete_dir_contents(bucket)
        server.stop()
