"""Fixtures that every test may use."""

from __future__ import annotations

import gc
import logging
import os
import re
import subprocess
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from both_databases import BOTH, SEALED, engine_on, running_server
from small_volume import SmallVolume

if TYPE_CHECKING:
    from collections.abc import Iterator

    from postgresql_server import PostgresServer


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The development data folder; tests that need it skip in a checkout that stands alone."""
    root = Path(os.environ.get("TWIN_SHARED", Path(__file__).parents[2] / "shared"))
    if not (root / "data").is_dir():
        pytest.skip("needs the development data folder ../shared/data, which a user's clone does not have")
    return root / "data"


@pytest.fixture(scope="session")
def full() -> bool:
    """Whether the test runs at the full counts (`make test-all`)."""
    return os.environ.get("TWIN_TEST_FULL") == "1"


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[SmallVolume]:
    """A tmpfs that the test mounts with its options; skips without the right to mount."""
    volume = SmallVolume(tmp_path / "volume")
    yield volume
    if volume.mounted:
        subprocess.run(["umount", "-l", str(volume.folder)], check=True, capture_output=True)


@pytest.fixture(autouse=True)
def _log_of_one_test() -> Iterator[None]:
    """Take down the log that a command line of the test set up, so that the next test's output is its own."""
    yield
    root = logging.getLogger()
    for handler in list(root.handlers):
        if type(handler.formatter).__module__ == "digital_twins._logging":
            root.removeHandler(handler)


def pytest_collection_finish() -> None:
    """Take what every test has imported out of the garbage collector's rounds: it stays until the end."""
    gc.collect()
    gc.freeze()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of some modules on both databases."""
    backends: list[Any] = []
    for name, modules in (("postgresql", BOTH), ("encrypted postgresql", SEALED)):
        unfit = modules.get(metafunc.module.__name__.rpartition(".")[2])
        if unfit is not None and not (unfit and re.search(unfit, metafunc.function.__name__)):
            backends.append(pytest.param(name, marks=pytest.mark.peers))
    if not backends:
        return
    backends.insert(0, "sqlite")
    metafunc.parametrize("database_backend", backends, indirect=True, scope="module")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this session's own."""
    yield from running_server()


@pytest.fixture(scope="module", autouse=True)
def database_backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Open every `Database` of the test on SQLite, or on a schema of a PostgreSQL server."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield "sqlite"
        return
    server = request.getfixturevalue("postgres_server")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        keys = None
        if request.param == "encrypted postgresql":
            from digital_twins.crypto import LocalKeyFile
            from digital_twins.storage import KeyRegister, RowKeys

            folder = request.getfixturevalue("tmp_path_factory").mktemp("keys")
            provider = LocalKeyFile(folder / "wrapping.json")
            register = stack.enter_context(closing(KeyRegister(folder / "keys.sqlite", provider)))
            keys = RowKeys(register)
        patch.setattr(
            "digital_twins.storage._database._open_engine",
            lambda path, _, migrations, wait_s, **__: engine_on(server, path, migrations, wait_s, keys),
        )
        yield request.param
