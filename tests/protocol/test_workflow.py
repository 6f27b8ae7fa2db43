"""Worklist, performed steps, storage commitment, availability: against our client and pynetdicom."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from dicom_support import audited, ct_slice, file_bytes, listening
from digital_twins import InputError, NotFoundError, audit, dicom, storage
from digital_twins.dicom._contexts import COMMITMENT, COMMITMENT_INSTANCE, MPPS, WORKLIST_FIND

STEP_UID = "1.2.3.4.99"


@contextmanager
def _store(folder: Path) -> Iterator[dicom.DicomStore]:
    migrations = (*storage.MIGRATIONS, *audit.OUTBOX_MIGRATIONS, *dicom.MIGRATIONS)
    with storage.Database(folder / "index.db", migrations=migrations) as database:
        yield dicom.DicomStore(database, storage.BlobStore(folder / "blobs"))


def item(number: int, **changes: Any) -> dicom.WorklistItem:
    given = {
        "study_uid": f"1.2.3.{number}",
        "step_id": f"SPS{number}",
        "patient_id": f"P{number}",
        "patient_name": "Doe^Jane",
        "modality": "CT",
        "station_ae_title": "CT1",
        "start_date": "20260301",
        "start_time": f"{8 + number:02}0000",
        "accession_number": f"A{number}",
        "procedure_code": ("CTCHEST", "99LOCAL", "CT of the chest"),
        **changes,
    }
    return dicom.WorklistItem(**given)


def performed(status: str = "IN PROGRESS") -> Dataset:
    step, scheduled = Dataset(), Dataset()
    scheduled.StudyInstanceUID, scheduled.ScheduledProcedureStepID = "1.2.3.1", "SPS1"
    step.ScheduledStepAttributesSequence = [scheduled]
    step.PatientID, step.PatientName = "P1", "Doe^Jane"
    step.PerformedProcedureStepID, step.PerformedStationAETitle = "PPS1", "CT1"
    step.PerformedProcedureStepStartDate, step.PerformedProcedureStepStartTime = "20260301", "090500"
    step.Modality, step.PerformedProcedureStepStatus = "CT", status
    step.PerformedSeriesSequence = []
    return step


def ended(status: str) -> Dataset:
    end, series = Dataset(), Dataset()
    end.PerformedProcedureStepStatus = status
    end.PerformedProcedureStepEndDate, end.PerformedProcedureStepEndTime = "20260301", "092000"
    series.SeriesInstanceUID = "1.2.3.1.1"
    end.PerformedSeriesSequence = [series]
    return end


def asking(**keys: str) -> Dataset:
    wanted, step = Dataset(), Dataset()
    for keyword in ("Modality", "ScheduledStationAETitle", "ScheduledProcedureStepStartDate"):
        setattr(step, keyword, keys.pop(keyword, None))
    step.ScheduledProcedureStepStartTime = keys.pop("ScheduledProcedureStepStartTime", None)
    step.ScheduledProcedureStepID = None
    wanted.PatientName, wanted.StudyInstanceUID, wanted.AccessionNumber = None, None, None
    for keyword, value in keys.items():
        setattr(wanted, keyword, value)
    wanted.ScheduledProcedureStepSequence = [step]
    return wanted


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, [1, 2, 3]),
        ({"Modality": "MR"}, [3]),
        ({"ScheduledStationAETitle": "CT?"}, [1, 2]),
        ({"ScheduledProcedureStepStartDate": "20260301-20260301"}, [1, 3]),
        ({"ScheduledProcedureStepStartDate": "20260302-"}, [2]),
        ({"ScheduledProcedureStepStartTime": "0830-0930"}, [1]),
        ({"PatientName": "doe*"}, [1, 3]),
        ({"PatientName": "山田*"}, [2]),
        ({"AccessionNumber": "A3"}, [3]),
        ({"StudyInstanceUID": "1.2.3.1\\1.2.3.2"}, [1, 2]),
        ({"PatientName": "nobody"}, []),
    ],
)
def test_worklist_queries(tmp_path: Path, keys: dict[str, str], expected: list[int]) -> None:
    with _store(tmp_path) as store, listening(store) as node:
        worklist = dicom.Worklist(store)
        worklist.put(item(1))
        worklist.put(item(2, start_date="20260302", patient_name="Yamada^Tarou=山田^太郎=やまだ^たろう"))
        worklist.put(item(3, modality="MR", station_ae_title="MR1"))
        remote = dicom.Remote("127.0.0.1", node.port)
        found = dicom.worklist(remote, asking(**keys))
        assert sorted(int(str(a.AccessionNumber)[1:]) for a in found) == expected
        assert all(a.ScheduledProcedureStepSequence[0].ScheduledProcedureStepID for a in found)
        assert len(dicom.worklist(remote)) == 3
        assert [e["kind"] for e in audited(store)].count("dicom.worklist") == 2


def test_worklist_items_are_checked_replaced_and_removed(tmp_path: Path) -> None:
    with _store(tmp_path) as store:
        worklist = dicom.Worklist(store)
        for bad in ({"start_date": "tomorrow"}, {"modality": ""}, {"status": "DREAMT OF"}):
            with pytest.raises(InputError, match="worklist item"):
                worklist.put(item(1, **bad))
        worklist.put(item(1))
        worklist.put(item(1, modality="MR"))
        assert [each.modality for each in worklist.items()] == ["MR"]
        worklist.remove("1.2.3.1", "SPS1")
        assert worklist.items() == []
        with pytest.raises(NotFoundError):
            worklist.remove("1.2.3.1", "SPS1")


def test_a_performed_step_lives_and_ends(tmp_path: Path) -> None:
    with _store(tmp_path) as store, listening(store) as node:
        worklist = dicom.Worklist(store)
        worklist.put(item(1))
        remote = dicom.Remote("127.0.0.1", node.port)
        dicom.create_performed_step(remote, STEP_UID, performed())
        assert worklist.items()[0].status == "STARTED"
        halfway = Dataset()
        halfway.PerformedProcedureStepDescription = "scout"
        dicom.set_performed_step(remote, STEP_UID, halfway)
        dicom.set_performed_step(remote, STEP_UID, ended("COMPLETED"))
        kept = dicom.performed_step(store, STEP_UID)
        assert (kept.PerformedProcedureStepStatus, kept.PatientID) == ("COMPLETED", "P1")
        assert kept.PerformedProcedureStepDescription == "scout"
        assert worklist.items() == []
        assert dicom.worklist(remote) == []
        kinds = [(e["kind"], e["outcome"]) for e in audited(store) if "mpps" in e["kind"]]
    assert kinds == [("dicom.mpps.create", "success")] + [("dicom.mpps.set", "success")] * 2


def test_invalid_transitions_are_refused_with_their_status(tmp_path: Path) -> None:
    with _store(tmp_path) as store, listening(store) as node:
        ae = AE()
        ae.add_requested_context(MPPS)
        association = ae.associate("127.0.0.1", node.port)

        def create(step: Dataset, uid: str = STEP_UID) -> int:
            return int(association.send_n_create(step, MPPS, uid)[0].Status)

        def change(step: Dataset, uid: str = STEP_UID) -> Any:
            return association.send_n_set(step, MPPS, uid)[0]

        assert create(performed("COMPLETED")) == 0x0106
        nameless = performed()
        del nameless.Modality
        assert create(nameless) == 0x0120
        unscheduled = performed()
        del unscheduled.ScheduledStepAttributesSequence[0].StudyInstanceUID
        assert create(unscheduled) == 0x0120
        assert change(ended("COMPLETED")).Status == 0x0112
        assert create(performed()) == 0
        assert create(performed()) == 0x0111
        early = Dataset()
        early.PerformedProcedureStepStatus = "COMPLETED"
        assert change(early).Status == 0x0120
        early.PerformedProcedureStepStatus = "FORGOTTEN"
        assert change(early).Status == 0x0106
        renamed = Dataset()
        renamed.PatientID, renamed.PerformedProcedureStepDescription = "P2", "x"
        assert change(renamed).Status == 0x0107
        assert dicom.performed_step(store, STEP_UID).PatientID == "P1"
        assert change(ended("DISCONTINUED")).Status == 0
        late = change(ended("COMPLETED"))
        assert (late.Status, late.ErrorID) == (0x0110, 0xA710)
        association.release()
        assert dicom.performed_step(store, STEP_UID).PerformedProcedureStepStatus == "DISCONTINUED"
        refused = [e for e in audited(store) if e["outcome"] == "refused"]
    assert len(refused) == 8


def _asked(*uids: str) -> Dataset:
    asked = Dataset()
    asked.TransactionUID, asked.ReferencedSOPSequence = "1.2.3.555", []
    for uid in uids:
        reference = Dataset()
        reference.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        reference.ReferencedSOPInstanceUID = uid
        asked.ReferencedSOPSequence.append(reference)
    return asked


def test_commitment_is_reported_on_a_new_association_even_when_the_peer_was_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from digital_twins.dicom import _commitment

    monkeypatch.setattr(_commitment, "_RETRY_S", 0.2)
    monkeypatch.setattr(_commitment, "_POLL_S", 0.05)
    reports: list[tuple[int, Dataset]] = []

    def on_report(event: Any) -> tuple[int, None]:
        reports.append((event.event_type, event.event_information))
        return (0x0110 if len(reports) == 1 else 0), None  # the first delivery is refused

    ae = AE(ae_title="MODALITY")
    ae.add_supported_context(COMMITMENT, scu_role=False, scp_role=True)
    ae.add_requested_context(COMMITMENT)
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, on_report)]
    )
    port = server.socket.getsockname()[1]
    access = dicom.Access(peers=dicom.PeerTable.of([dicom.DicomPeer("MODALITY", "127.0.0.1", port)]))
    with _store(tmp_path) as store:
        store.ingest_many(file_bytes(ct_slice(n, size=8)) for n in (1, 2))
        events = dicom.Events(jobs=storage.JobQueue(store.database))
        with listening(store, access=access, events=events) as node:
            association = ae.associate("127.0.0.1", node.port)
            asked = _asked("1.2.3.1.1.1", "1.2.3.1.1.2", "1.2.3.404")
            status, _ = association.send_n_action(asked, 1, COMMITMENT, COMMITMENT_INSTANCE)
            assert status.Status == 0
            unknown, _ = association.send_n_action(asked, 2, COMMITMENT, COMMITMENT_INSTANCE)
            assert unknown.Status == 0x0123
            association.release()
            deadline = time.monotonic() + 120
            while len(reports) < 2 and time.monotonic() < deadline:
                time.sleep(0.02)
    server.shutdown()
    assert [kind for kind, _ in reports] == [2, 2]
    report = reports[1][1]
    assert [i.ReferencedSOPInstanceUID for i in report.ReferencedSOPSequence] == [
        "1.2.3.1.1.1",
        "1.2.3.1.1.2",
    ]
    (failed,) = report.FailedSOPSequence
    assert (failed.ReferencedSOPInstanceUID, failed.FailureReason) == ("1.2.3.404", 0x0112)


def test_two_nodes_commit_to_each_other(tmp_path: Path) -> None:
    """We are SCU here and SCP there; the answer comes to our own port."""
    results: list[dicom.CommitmentResult] = []
    with _store(tmp_path / "us") as us, _store(tmp_path / "them") as them:
        them.ingest(file_bytes(ct_slice(1, size=8)))
        with listening(us, events=dicom.Events(on_commitment=results.append)) as ours:
            peer = dicom.DicomPeer("TWIN", "127.0.0.1", ours.port)
            events = dicom.Events(jobs=storage.JobQueue(them.database))
            access = dicom.Access(peers=dicom.PeerTable.of([peer]))
            with listening(them, ae_title="ARCHIVE", access=access, events=events) as theirs:
                remote = dicom.Remote("127.0.0.1", theirs.port, called_ae="ARCHIVE")
                references = [("1.2.840.10008.5.1.4.1.1.2", "1.2.3.1.1.1")]
                good = dicom.request_commitment(us, remote, references)
                assert dicom.commitment_result(us, good, wait_s=20).state == "committed"
                bad = dicom.request_commitment(
                    us, remote, [*references, ("1.2.840.10008.5.1.4.1.1.4", "1.2.3.1.1.1")]
                )
                answer = dicom.commitment_result(us, bad, wait_s=20)
    assert (answer.state, answer.failed, answer.peer) == ("failed", {"1.2.3.1.1.1": 0x0119}, "ARCHIVE")
    assert [r.state for r in results] == ["committed", "failed"]


def test_an_unlisted_peer_hears_on_the_association_of_its_request(tmp_path: Path) -> None:
    reports: list[int] = []

    def on_report(event: Any) -> tuple[int, None]:
        reports.append(event.event_type)
        return 0, None

    with _store(tmp_path) as store, listening(store) as node:
        store.ingest(file_bytes(ct_slice(1, size=8)))
        ae = AE(ae_title="UNLISTED")
        ae.add_requested_context(COMMITMENT)
        association = ae.associate("127.0.0.1", node.port, evt_handlers=[(evt.EVT_N_EVENT_REPORT, on_report)])
        status, _ = association.send_n_action(_asked("1.2.3.1.1.1"), 1, COMMITMENT, COMMITMENT_INSTANCE)
        deadline = time.monotonic() + 120
        while not reports and time.monotonic() < deadline:
            time.sleep(0.02)
        association.release()
    assert (status.Status, reports) == (0, [1])


def test_availability_is_noticed(tmp_path: Path) -> None:
    notices: list[Dataset] = []
    with (
        _store(tmp_path) as store,
        listening(store, events=dicom.Events(on_available=notices.append)) as node,
    ):
        store.ingest_many(file_bytes(ct_slice(n, size=8)) for n in (1, 2))
        remote = dicom.Remote("127.0.0.1", node.port)
        notice = dicom.availability_notice(store, "1.2.3.1", retrieve_ae_title="TWIN")
        dicom.notify_availability(remote, notice)
        notice.ReferencedSeriesSequence[0].SeriesInstanceUID = ""
        with pytest.raises(dicom.DimseFailedError, match="0120"):
            dicom.notify_availability(remote, notice)
        (event,) = [
            e for e in audited(store) if e["kind"] == "dicom.availability" and e["outcome"] == "success"
        ]
    assert event["detail"] == {"instances": 2}
    assert notices[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0].RetrieveAETitle == "TWIN"


def test_worklist_is_served_to_pynetdicom(tmp_path: Path) -> None:
    with _store(tmp_path) as store, listening(store) as node:
        dicom.Worklist(store).put(item(1))
        ae = AE()
        ae.add_requested_context(WORKLIST_FIND)
        association = ae.associate("127.0.0.1", node.port)
        answers = list(association.send_c_find(asking(Modality="CT"), WORKLIST_FIND))
        association.release()
    assert [status.Status for status, _ in answers] == [0xFF00, 0]
    assert answers[0][1].PatientName == "Doe^Jane"
