"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


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
