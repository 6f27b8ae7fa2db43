"""Duplicates and patient conflicts after each policy, by C-STORE."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from dicom_support import RawPeer, audited, ct_slice, file_bytes, listening, open_store
from digital_twins import dicom
from digital_twins.dicom._dimse import Tag
from digital_twins.dicom._json import metadata
from digital_twins.dicom._part10 import split_file


def sent(port: int, *objects: object) -> list[int]:
    """Statuses of C-STORE for each object, by a peer that adds nothing."""
    peer = RawPeer(port, CTImageStorage, str(ExplicitVRLittleEndian))
    statuses = []
    for each in objects:
        raw = file_bytes(each)  # type: ignore[arg-type]
        part = split_file(raw)
        statuses.append(int(peer.store(raw[part.dataset_offset :], part.sop_instance_uid)[Tag.STATUS]))
    peer.close()
    return statuses


@pytest.mark.parametrize(
    ("policy", "status", "kept", "outcome"),
    [
        ("ignore", 0x0000, "chest", "different"),
        ("refuse", 0x0111, "chest", None),
        ("replace", 0x0000, "abdomen", "replaced"),
    ],
)
def test_duplicates(tmp_path: Path, policy: str, status: int, kept: str, outcome: str | None) -> None:
    first, other = ct_slice(1), ct_slice(1)
    other.SeriesDescription, other.InstanceNumber = "abdomen", 7
    told: list[str] = []
    with open_store(tmp_path, policy=dicom.Policy(duplicates=policy)) as store:
        store.on_new = lambda _cursor, prepared: told.append(prepared.digest)
        with listening(store) as node:
            assert sent(node.port, first, ct_slice(2)) == [0, 0]
            before = store.instance(first.SOPInstanceUID)
            metadata(store, [before])
            assert sent(node.port, other, first if policy != "replace" else other) == [status, 0]
        after = store.instance(first.SOPInstanceUID)
        assert store.dataset(first.SOPInstanceUID).SeriesDescription == kept
        assert store.blobs.path(before.digest).exists()
        assert (after.id != before.id) is (policy == "replace")
        assert f'"{kept}"'.encode() in metadata(store, [after])[0]
        assert len(store.instances("1.2.3.1")) == 2
        with store.database.read() as connection:
            assert connection.execute("SELECT instances FROM dicom_series").fetchall() == [(2,)]
        assert len(told) == (3 if policy == "replace" else 2)
        outcomes = [e["detail"].get("outcome") for e in audited(store) if e["kind"] == "dicom.store"]
        assert outcomes == ["new", "new", outcome, "identical"]


def test_an_object_is_not_replaced_across_series(tmp_path: Path) -> None:
    with open_store(tmp_path, policy=dicom.Policy(duplicates="replace")) as store:
        with listening(store) as node:
            other = ct_slice(1)
            other.SeriesInstanceUID = "1.2.3.1.77"
            assert sent(node.port, ct_slice(1), other) == [0, 0xA900]
        assert store.instance(other.SOPInstanceUID).series_uid == "1.2.3.1.1"


def test_json_of_a_replaced_object_that_comes_late_is_dropped(tmp_path: Path) -> None:
    from digital_twins.dicom._json import _build

    with open_store(tmp_path, policy=dicom.Policy(duplicates="replace")) as store:
        store.ingest(file_bytes(ct_slice(1)))
        old = store.instance(ct_slice(1).SOPInstanceUID)
        other = ct_slice(1)
        other.SeriesDescription = "abdomen"
        store.ingest(file_bytes(other))
        _build(store, [old])[1].result()  # a reader that had found the old object
        assert b'"abdomen"' in metadata(store, [store.instance(old.sop_uid)])[0]


@pytest.mark.parametrize(("policy", "status"), [("refuse", 0xA900), ("accept", 0x0000)])
def test_patient_conflicts(tmp_path: Path, policy: str, status: int) -> None:
    heard: list[dicom.Stored] = []
    with open_store(tmp_path, policy=dicom.Policy(patient_conflicts=policy)) as store:
        with listening(store, on_stored=heard.append) as node:
            stranger = ct_slice(2, patient="P2")
            assert sent(node.port, ct_slice(1), stranger) == [0, status]
        found = store.instances("1.2.3.1")
        assert {each.patient_id for each in found} == {"P1"}
        assert len(found) == (2 if policy == "accept" else 1)
        if policy == "accept":
            raw = file_bytes(stranger)
            kept = store.instance(stranger.SOPInstanceUID)
            assert store.read(kept.sop_uid)[kept.dataset_offset :] == raw[split_file(raw).dataset_offset :]
            assert heard[1].patient_id == "P1"
            events = [e["detail"] for e in audited(store) if e["kind"] == "dicom.store"]
            assert [each.get("patient_conflict") for each in events] == [None, "accepted"]
