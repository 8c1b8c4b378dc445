"""Bodies with a Content-Encoding over HTTP: every protocol's routes unpack them, or refuse what they are not."""

import gzip
import http.client
import json
import zlib
from collections.abc import Iterator

import pytest

from tests.bundles import NUMBERS, make_bundle, random_rows, signature_of
from tests.live import Live, live

ROWS = random_rows(signature_of(inputs=NUMBERS), 2, seed=5)
TENSOR = {
    "name": "features",
    "datatype": "FP64",
    "shape": [2, len(NUMBERS)],
    "data": [value for row in ROWS for value in row],
}
BODIES = {
    "/predict": json.dumps({"rows": ROWS}).encode(),
    "/invocations": json.dumps({"instances": ROWS}).encode(),
    "/v2/models/numbers/infer": json.dumps({"inputs": [TENSOR]}).encode(),
}
BOMB = gzip.compress(b" " * 1_000_000, mtime=0)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Serve a model of numbers, whose good bodies every protocol reads fast, with a small body limit."""
    models = tmp_path_factory.mktemp("models")
    make_bundle(models, "numbers", inputs=NUMBERS)
    with live(models, "--max-body-bytes", "20000") as found:
        yield found


def ask(server: Live, path: str, body: bytes, encoding: str | None) -> tuple[int, dict[str, object], str | None]:
    """Return the status, the content and Accept-Encoding of an answer."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    headers = {"x-request-id": "one"} | ({} if encoding is None else {"content-encoding": encoding})
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read()), answer.getheader("accept-encoding")
    connection.close()
    return found


@pytest.mark.parametrize("path", BODIES)
def test_a_packed_body_is_answered_as_it_is_unpacked(server: Live, path: str) -> None:
    """The answer is that of the plain body, whatever case the name of the encoding has."""
    body = BODIES[path]
    plain = ask(server, path, body, None)
    packed = {"gzip": gzip.compress(body), "X-GZip": gzip.compress(body), "deflate": zlib.compress(body)}
    assert plain[0] == 200
    assert [ask(server, path, packed[one], one) for one in packed] == [plain] * 3
    assert ask(server, path, body, "identity") == plain


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("encoding", "packed", "status", "code"),
    [
        ("gzip", None, 400, "broken_encoding"),
        ("zz", None, 415, "unsupported_encoding"),
        ("gzip", gzip.compress(b"{}", mtime=0)[:-3], 400, "broken_encoding"),
        ("gzip", BOMB, 413, "body_too_large"),
    ],
    ids=["not packed", "unknown", "cut off", "too large"],
)
def test_a_body_that_is_not_what_it_says_is_refused(
    server: Live, path: str, encoding: str, packed: bytes | None, status: int, code: str
) -> None:
    """A plain body under a header that says it is packed is refused, however good it is, as is what cannot be unpacked."""
    found, content, taken = ask(server, path, BODIES[path] if packed is None else packed, encoding)
    assert found == status
    assert taken == ("gzip, deflate" if status == 415 else None)
    if path == "/predict":
        error = content["error"]
        assert isinstance(error, dict)
        assert error["code"] == code
