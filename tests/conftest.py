"""Fixtures that every test may use."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from small_volume import SmallVolume

if TYPE_CHECKING:
    from collections.abc import Iterator


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
