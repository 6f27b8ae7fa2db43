"""The registry keeps every version, twice the same as once, and never another content under one version."""

from __future__ import annotations

import pytest

from digital_twins import ConflictError, NotFoundError
from digital_twins.patient_modeling import MIGRATIONS, TwinRegistry
from digital_twins.storage import BlobStore, Database
from tumour_phantom import follow_up, new_twin


def test_versions_survive_reopening(tmp_path) -> None:
    twin = new_twin()
    scans = follow_up(twin, {"proliferation_per_day": 0.03}, [28.0, 56.0]).scans
    with Database(tmp_path / "node.sqlite", migrations=MIGRATIONS) as database:
        registry = TwinRegistry(database, BlobStore(tmp_path / "blobs"))
        registry.save(twin)
        registry.save(twin)
        twin.calibrate(scans[:1])
        registry.save(twin)
        assert [row.version for row in registry.versions(twin.twin_id)] == [1, 2]
    with Database(tmp_path / "node.sqlite", migrations=MIGRATIONS) as database:
        registry = TwinRegistry(database, BlobStore(tmp_path / "blobs"))
        latest, first = registry.load(twin.twin_id), registry.load(twin.twin_id, version=1)
        assert (latest.version, first.version) == (2, 1)
        assert latest.parameters == twin.parameters
        assert first.calibration is None
        assert [row.version for row in registry.list()] == [2]
        assert [row.twin_id for row in registry.list("PHANTOM")] == [twin.twin_id]
        assert not registry.list("SOMEBODY ELSE")
        first.calibrate(scans)
        with pytest.raises(ConflictError):
            registry.save(first)
        with pytest.raises(NotFoundError):
            registry.load("no-such-twin")
        with pytest.raises(NotFoundError):
            registry.load(twin.twin_id, version=9)
        with pytest.raises(ConflictError, match="append-only"):
            database.write(lambda cursor: cursor.execute("DELETE FROM twin_version"))
