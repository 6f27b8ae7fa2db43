"""Foreign programs that tests run against: skip with the install line, fail under CI=true."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

PEERS = Path(__file__).parents[1] / ".peers"


def missing_peer(what: str) -> NoReturn:
    """Skip the test, or fail it where every peer has to be there."""
    message = f"{what} is missing: run `make peers`"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def program(name: str) -> str:
    """Path of an installed program."""
    return shutil.which(name) or missing_peer(name)


def python_package(name: str) -> None:
    """Require an importable package that the lock files leave out."""
    if importlib.util.find_spec(name) is None:
        missing_peer(name)


def node_package(name: str) -> Path:
    """Folder of an npm package."""
    folder = PEERS / "node_modules" / name
    return folder if folder.is_dir() else missing_peer(f"npm package {name}")
