"""The place of a built twin among its stored versions, also when a build runs twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from digital_twins import patient_modeling, storage
from digital_twins.patient_modeling import PatientTwin, TwinRegistry
from digital_twins.server._versions import settle
from tumour_phantom import follow_up, new_twin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[TwinRegistry]:
    migrations = (*storage.MIGRATIONS, *patient_modeling.MIGRATIONS)
    with storage.Database(tmp_path / "twin.sqlite", migrations=migrations) as database:
        yield TwinRegistry(database, storage.BlobStore(tmp_path / "blobs"))


def built() -> PatientTwin:
    twin = new_twin()
    seen = follow_up(twin, {"proliferation_per_day": 0.02}, [28.0, 56.0])
    twin.calibrate(seen.scans)
    return twin


def test_a_build_that_runs_again_gives_the_same_twin_to_the_last_byte(
    registry: TwinRegistry, tmp_path: Path
) -> None:
    files = []
    for run in range(2):
        settle(registry, built()).save(tmp_path / f"{run}.twin")
        files.append((tmp_path / f"{run}.twin").read_bytes())
    assert files[0] == files[1]
    (first,) = {row.twin_id for row in registry.list()}
    assert [row.version for row in registry.versions(first)] == [1, 2]


def test_inputs_are_told_in_the_same_order_by_both_runs(registry: TwinRegistry) -> None:
    orders = [list(settle(registry, built()).provenance.inputs) for _ in range(2)]
    assert orders[0] == orders[1]


def test_a_crash_between_two_versions_is_made_good(registry: TwinRegistry) -> None:
    settle(registry, new_twin())
    twin = settle(registry, built())
    assert twin.version == 2
    assert [row.version for row in registry.versions(twin.twin_id)] == [1, 2]
