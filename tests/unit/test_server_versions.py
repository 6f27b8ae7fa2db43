"""The place of a build among the stored versions of its twin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from digital_twins.imaging import Volume, as_mask
from digital_twins.patient_modeling import MIGRATIONS, TumorTwinPipeline, TwinRegistry
from digital_twins.server._versions import settle
from digital_twins.storage import BlobStore, Database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from digital_twins.imaging import Mask
    from digital_twins.patient_modeling import PatientTwin

GRID = Volume(np.zeros((12, 16, 16), dtype=np.int16), np.diag([3.0, 3.0, 3.0, 1.0]))


def ball(radius_mm: float) -> Mask:
    index = np.stack(np.meshgrid(*[np.arange(n) for n in GRID.shape], indexing="ij"), -1)
    distance = np.linalg.norm((index - np.array([6, 8, 8])) * 3.0, axis=-1)
    return as_mask(GRID, distance < radius_mm)


def built(*follow_ups: tuple[float, float]) -> PatientTwin:
    twin = TumorTwinPipeline().create_twin("P", None, ball(8.0), domain=as_mask(GRID, GRID.array == 0))
    if follow_ups:
        twin.calibrate([(day, ball(radius)) for day, radius in follow_ups])
    return twin


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[TwinRegistry]:
    database = Database(tmp_path / "twin.sqlite", migrations=MIGRATIONS)
    yield TwinRegistry(database, BlobStore(tmp_path / "blobs"))
    database.close()


def test_first_build_stores_every_version_of_its_history(registry: TwinRegistry) -> None:
    twin = settle(registry, built((30.0, 9.5)))
    assert [row.version for row in registry.versions(twin.twin_id)] == [1, 2]
    assert registry.load(twin.twin_id, 1).visits == ()


def test_same_build_again_changes_nothing(registry: TwinRegistry) -> None:
    first = settle(registry, built((30.0, 9.5)))
    again = settle(registry, built((30.0, 9.5)))
    assert (again.version, again.created_utc) == (first.version, first.created_utc)
    assert len(registry.versions(first.twin_id)) == 2


def test_another_follow_up_makes_the_next_version_and_keeps_the_history(registry: TwinRegistry) -> None:
    settle(registry, built())
    second = settle(registry, built((30.0, 9.5)))
    third = settle(registry, built((30.0, 9.5), (60.0, 11.0)))
    assert (second.version, third.version) == (2, 3)
    assert third.provenance.parent_version == 2
    stored = registry.load(third.twin_id)
    assert [snapshot.version for snapshot in stored.history] == [1, 2, 3]
    assert stored.content_digest == third.content_digest
    assert len(stored.visits) == 2
