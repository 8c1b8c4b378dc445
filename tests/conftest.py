"""What every test may ask for by name."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.programs import Browser, command_of

ROOT = Path(__file__).resolve().parents[1]
# Files of seconds, and folders: they train, serve, build, send thousands of random bodies or drive a browser. `make quick` leaves
# them out, and `make test` runs them. A new file that takes more than three seconds belongs here.
SLOW = (
    "bench/",
    "docs/test_operate.py",
    "docs/test_readme.py",
    "docs/test_serve.py",
    "line/",
    "peers/",
    "platforms/",
    "service/cli/test_verify_server.py",
    "service/client/test_client.py",
    "service/inference/catalogue/test_remote.py",
    "service/invariance/test_violations.py",
    "service/protocols/oip/test_conformance.py",
    "service/protocols/oip/test_metadata.py",
    "service/protocols/test_fuzz.py",
    "service/server/grpc/",
    "service/server/http/monitoring/test_access_log.py",
    "service/server/serving/test_every_route.py",
    "service/server/http/connections/test_connection.py",
    "service/server/start/test_hangup.py",
    "service/server/start/test_imports.py",
    "service/server/start/test_process.py",
    "service/server/test_tracing.py",
    "service/server/workers/test_supervisor.py",
    "service/server/web/",
    "service/stores/test_web.py",
    "service/tables/limits/test_bombs.py",
    "service/tables/offline/",
    "service/tables/readers/test_json_lines_columns.py",
    "service/tables/streaming/",
    "service/tables/test_fuzz.py",
    "service/test_every_bit.py",
    "systems/",
    "test_local_model.py",
    "test_text_readers.py",
    "test_wheel.py",
    "training/cli/test_processes.py",
    "training/distributed/test_same_bits.py",
    "training/estimators/",
    "training/evaluation/test_cross_validation.py",
    "training/export/test_destination.py",
    "training/fit/selection/",
    "training/report/test_report.py",
    "training/test_main.py",
)


if find_spec("hypothesis"):  # which the environment of the clusters' tests lacks
    from hypothesis import settings

    settings.register_profile("untimed", deadline=None)  # a busy machine is no fault
    settings.load_profile("untimed")

# Spark, Ray and Dask have an environment of their own, since they ask for other versions: `make test-clusters`.
collect_ignore = [] if find_spec("pyspark") else ["clusters"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of SLOW as slow, and run them first: a long file at the end would leave the other processes idle."""
    for item in items:
        if str(item.path.relative_to(ROOT / "tests")).startswith(SLOW):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the checkout's folder."""
    return ROOT


@pytest.fixture(scope="session")
def penguins_bundle(root: Path) -> Path:
    """Return the newest committed penguins bundle, models/penguins/<version>/."""
    return max((root / "models" / "penguins").iterdir(), key=lambda folder: int(folder.name))


@pytest.fixture
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """Return Chromium; see tests/programs.py for a machine that has none."""
    return Browser(command_of(), tmp_path_factory.mktemp("profile"))
