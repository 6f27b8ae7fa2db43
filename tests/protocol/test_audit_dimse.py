"""Every DIMSE request that touches a patient writes exactly one event, whichever way it ends."""

# ruff: noqa: E501  (a table of requests: one a line)
from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation

from dicom_support import audited, ct_slice, file_bytes, listening
from digital_twins import StorageError, audit, dicom, storage
from digital_twins.dicom import _contexts as classes, _dimse, _pdu
from digital_twins.dicom._dimse import CommandField
from digital_twins.dicom._identifier import write_dataset
from digital_twins.dicom._limits import Limits
from digital_twins.dicom._listener import Access, Events, _services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path

    from pynetdicom.association import Association

pytestmark = pytest.mark.timeout(1800)  # pynetdicom takes its time to release an association
ECHO, STORE, FIND = CommandField.C_ECHO_RQ, CommandField.C_STORE_RQ, CommandField.C_FIND_RQ
MOVE, GET = CommandField.C_MOVE_RQ, CommandField.C_GET_RQ
CREATE, SET, ACTION = CommandField.N_CREATE_RQ, CommandField.N_SET_RQ, CommandField.N_ACTION_RQ
REPORT = CommandField.N_EVENT_REPORT_RQ
NO_PATIENT = {(ECHO, classes.VERIFICATION): "Verification names nobody"}
_QUERY = {classes.Service.FIND: FIND, classes.Service.MOVE: MOVE, classes.Service.GET: GET}


def served(store: dicom.DicomStore, executor: ThreadPoolExecutor) -> set[tuple[int, str]]:
    """Command field and SOP class of every service, from the tables that the listener dispatches by."""
    services = _services(store, "TWIN", executor, access=Access(), events=Events(), on_stored=None)
    services.keepers.close()
    found = {(int(number), sop_class) for number, sop_class in services.others}
    one_class = {ECHO: classes.VERIFICATION, STORE: CTImageStorage}  # all storage classes are one service
    by_field = {number for number, _ in found}
    for number in services.handlers():
        if number in one_class:
            found.add((int(number), one_class[number]))
        elif number not in by_field or number == FIND:
            found |= {
                (int(number), uid) for uid, kind in classes.SERVICES.items() if _QUERY.get(kind) == number
            }
    return found


def named(level: str = "STUDY", **keys: str) -> Dataset:
    asked = Dataset()
    asked.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(asked, keyword, value)
    return asked


def performed(status: str = "IN PROGRESS") -> Dataset:
    step, scheduled = Dataset(), Dataset()
    scheduled.StudyInstanceUID, scheduled.ScheduledProcedureStepID = "1.2.3.1", "SPS1"
    step.ScheduledStepAttributesSequence = [scheduled]
    step.PatientID, step.PerformedProcedureStepID, step.PerformedStationAETitle = "P1", "PPS1", "CT1"
    step.PerformedProcedureStepStartDate, step.PerformedProcedureStepStartTime = "20260301", "090500"
    step.Modality, step.PerformedProcedureStepStatus, step.PerformedSeriesSequence = "CT", status, []
    return step


def committed(transaction: str) -> Dataset:
    asked, item = Dataset(), Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, "1.2.3.1.1.1"
    asked.TransactionUID, asked.ReferencedSOPSequence = transaction, [item]
    return asked


def notice() -> Dataset:
    told, series, item = Dataset(), Dataset(), Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, "1.2.3.1.1.1"
    item.InstanceAvailability, item.RetrieveAETitle = "ONLINE", "PACS"
    series.SeriesInstanceUID, series.ReferencedSOPSequence = "1.2.3.1.1", [item]
    told.StudyInstanceUID, told.ReferencedSeriesSequence = "1.2.3.1", [series]
    return told


def _queries() -> dict[tuple[int, str], list[tuple[Callable[[Any], object], str, str]]]:
    study, nobody = named(StudyInstanceUID="1.2.3.1"), named(StudyInstanceUID="1.2.3.99")
    cases: dict[tuple[int, str], list[tuple[Callable[[Any], object], str, str]]] = {}
    for root, find, move, get in (
        ("p", classes.PATIENT_ROOT_FIND, classes.PATIENT_ROOT_MOVE, classes.PATIENT_ROOT_GET),
        ("s", classes.STUDY_ROOT_FIND, classes.STUDY_ROOT_MOVE, classes.STUDY_ROOT_GET),
    ):
        del root
        cases[FIND, find] = [
            (lambda a, m=find: [*a.send_c_find(study, m)], "dicom.find", "success"),
            (lambda a, m=find: [*a.send_c_find(nobody, m)], "dicom.find", "success"),
            (lambda a, m=find: [*a.send_c_find(named("NONE"), m)], "dicom.find", "refused"),
        ]
        cases[MOVE, move] = [
            (lambda a, m=move: [*a.send_c_move(study, "SINK", m)], "dicom.move", "success"),
            (lambda a, m=move: [*a.send_c_move(study, "GONE", m)], "dicom.move", "failure"),
            (lambda a, m=move: [*a.send_c_move(study, "NOWHERE", m)], "dicom.move", "refused"),
            (lambda a, m=move: [*a.send_c_move(named("NONE"), "SINK", m)], "dicom.move", "refused"),
            (lambda a, m=move: [*a.send_c_move(named(), "SINK", m)], "dicom.move", "refused"),
        ]
        cases[GET, get] = [
            (lambda a, m=get: [*a.send_c_get(study, m)], "dicom.get", "success"),
            (lambda a, m=get: [*a.send_c_get(named(), m)], "dicom.get", "refused"),
        ]
    return cases


def cases() -> dict[tuple[int, str], list[tuple[Callable[[Any], object], str, str]]]:
    """For each service: requests that end in different ways, with kind and outcome of their one event."""
    other_patient = ct_slice(2, patient="P2", size=8)
    step_uid, empty = "1.2.3.4.99", named()
    commitment, instance = classes.COMMITMENT, classes.COMMITMENT_INSTANCE
    wanted = Dataset()
    wanted.PatientID = "P1"
    return {
        (STORE, CTImageStorage): [
            (lambda a: a.send_c_store(ct_slice(1, size=8)), "dicom.store", "success"),
            (lambda a: a.send_c_store(ct_slice(1, size=8)), "dicom.store", "success"),
            (lambda a: a.send_c_store(other_patient), "dicom.store", "refused"),
            (lambda a: a.send_c_store(ct_slice(3, size=2048)), "dicom.store", "failure"),
        ],
        **_queries(),
        (FIND, classes.WORKLIST_FIND): [
            (lambda a: [*a.send_c_find(wanted, classes.WORKLIST_FIND)], "dicom.worklist", "success")
        ],
        (CREATE, classes.MPPS): [
            (lambda a: a.send_n_create(performed(), classes.MPPS, step_uid), "dicom.mpps.create", "success"),
            (lambda a: a.send_n_create(performed(), classes.MPPS, step_uid), "dicom.mpps.create", "refused"),
        ],
        (SET, classes.MPPS): [
            (lambda a: a.send_n_set(named(), classes.MPPS, step_uid), "dicom.mpps.set", "success"),
            (lambda a: a.send_n_set(named(), classes.MPPS, "1.2.9"), "dicom.mpps.set", "refused"),
        ],
        (ACTION, commitment): [
            (lambda a: a.send_n_action(committed("1.2.5"), 1, commitment, instance), "dicom.commitment", "success"),
            (lambda a: a.send_n_action(committed("1.2.5"), 9, commitment, instance), "dicom.commitment", "refused"),
        ],
        (REPORT, commitment): [
            (lambda a: a.send_n_event_report(committed("1.2.77"), 1, commitment, instance), "dicom.commitment.result", "success"),
            (lambda a: a.send_n_event_report(committed("1.2.78"), 1, commitment, instance), "dicom.commitment", "refused"),
        ],
        (CREATE, classes.AVAILABILITY): [
            (lambda a: a.send_n_create(notice(), classes.AVAILABILITY, "1.2.3.7"), "dicom.availability", "success"),
            (lambda a: a.send_n_create(empty, classes.AVAILABILITY, "1.2.3.8"), "dicom.availability", "refused"),
            (lambda a: a.send_n_set(named(), classes.AVAILABILITY, "1.2.3.7"), "dicom.request", "refused"),
        ],
    }  # fmt: skip


@contextmanager
def the_store(folder: Path) -> Iterator[dicom.DicomStore]:
    migrations = (*storage.MIGRATIONS, *audit.OUTBOX_MIGRATIONS, *dicom.MIGRATIONS)
    with storage.Database(folder / "index.db", migrations=migrations) as database:
        yield dicom.DicomStore(database, storage.BlobStore(folder / "blobs"))


@pytest.fixture
def sink() -> Iterator[int]:
    """A pynetdicom archive that takes what a C-MOVE sends; yields its port."""
    ae = AE(ae_title="SINK")
    ae.add_supported_context(CTImageStorage)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda _: 0)])
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()


def scu(port: int) -> Association:
    ae = AE(ae_title="MODALITY")
    for uid in (*classes.SERVICES, MRImageStorage):
        ae.add_requested_context(uid, ExplicitVRLittleEndian)
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    roles = []
    for uid in (CTImageStorage, classes.COMMITMENT):
        role = SCP_SCU_RoleSelectionNegotiation()
        role.sop_class_uid, role.scu_role, role.scp_role = uid, True, True
        roles.append(role)
    handlers = [(evt.EVT_C_STORE, lambda _: 0), (evt.EVT_N_EVENT_REPORT, lambda _: (0, None))]
    association = ae.associate("127.0.0.1", port, ext_neg=roles, evt_handlers=handlers)
    assert association.is_established
    return association


def test_every_service_is_listed(tmp_path, thread_pool):
    with the_store(tmp_path) as store:
        assert served(store, thread_pool) == set(cases()) | set(NO_PATIENT)


@pytest.fixture
def thread_pool() -> Iterator[ThreadPoolExecutor]:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        yield pool


def test_every_request_is_one_event(tmp_path, sink):
    peers = [dicom.DicomPeer("SINK", "127.0.0.1", sink), dicom.DicomPeer("GONE", "127.0.0.1", 9)]
    limits = Limits(max_object_bytes=2**20)
    wrong: list[Any] = []
    with the_store(tmp_path) as store:
        _ask_for_commitment(store)
        with listening(store, access=Access(peers=dicom.PeerTable.of(peers)), limits=limits) as node:
            for service, requests in cases().items():
                for number, (ask, kind, outcome) in enumerate(requests):
                    before = len(audited(store))
                    association = scu(node.port)
                    ask(association)
                    association.release()
                    if not association.is_released and service[0] != STORE:
                        wrong.append((service, number, "the release was not answered"))
                    found = [(each["kind"], each["outcome"]) for each in audited(store)[before:]]
                    if found != [(kind, outcome)]:
                        wrong.append((service, number, found))
    assert wrong == []


def _ask_for_commitment(store: dicom.DicomStore) -> None:
    """Write down the request that the N-EVENT-REPORT of the table answers."""
    store.database.write(
        lambda cursor: (
            cursor.execute(
                "INSERT INTO dicom_commitment (transaction_uid, peer, state, failed, requested_utc)"
                " VALUES ('1.2.77', 'MODALITY', 'requested', '{}', '2026-01-01T00:00:00+00:00')"
            )
            and None
        )
    )


def _of_kind(store: dicom.DicomStore, kind: str) -> list[dict[str, Any]]:
    """Events of a kind once there is one; the association may end after its requestor has gone."""
    end = time.monotonic() + 120
    while not (found := [each for each in audited(store) if each["kind"] == kind]) and time.monotonic() < end:
        time.sleep(0.02)
    return found


def test_a_query_that_is_aborted_between_two_answers_is_one_event(tmp_path):
    with the_store(tmp_path) as store:
        store.ingest_many(
            file_bytes(ct_slice(1, patient=f"P{n}", study=f"1.{n}", series=f"1.{n}.1", size=2))
            for n in range(120)
        )
        with listening(store) as node:
            association = scu(node.port)
            next(association.send_c_find(named(StudyInstanceUID=""), classes.STUDY_ROOT_FIND))
            association.abort()
            (event,) = _of_kind(store, "dicom.find")
    assert event["detail"]["level"] == "study"


def test_a_peer_that_reads_no_answers_is_in_the_trail(tmp_path):
    """The peer stops reading: its query ends when nothing could be sent for too long."""
    with the_store(tmp_path) as store:
        store.ingest_many(file_bytes(_described(ct_slice(n, size=2))) for n in range(400))
        limits = Limits(idle_s=5.0, max_pdu_bytes=16384)
        with listening(store, limits=limits) as node, socket.socket() as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.settimeout(60)
            peer.connect(("127.0.0.1", node.port))
            _ask_for_images(peer)
            (event,) = _of_kind(store, "dicom.find")
    assert (event["outcome"], event["detail"]["level"]) == ("failure", "instance")
    assert 0 < event["detail"]["matches"] < 400


def _ask_for_images(peer: socket.socket) -> None:
    context = _pdu.ProposedContext(1, classes.STUDY_ROOT_FIND, (classes.EXPLICIT_LE,))
    peer.sendall(_pdu.encode_associate(_pdu.AssociateRequest("TWIN", "DEAF", (context,), 16384, "1.2.3")))
    assert peer.recv(1) == b"\x02"
    command = {
        _dimse.Tag.AFFECTED_SOP_CLASS: classes.STUDY_ROOT_FIND,
        _dimse.Tag.COMMAND_FIELD: FIND,
        _dimse.Tag.MESSAGE_ID: 1,
        _dimse.Tag.PRIORITY: 0,
        _dimse.Tag.DATASET_TYPE: 1,
    }
    asked = named("IMAGE", StudyInstanceUID="1.2.3.1", SeriesInstanceUID="1.2.3.1.1", SOPInstanceUID="")
    for keyword in _LONG:
        setattr(asked, keyword, "")
    identifier = write_dataset(asked, implicit=False, character_set=())
    for part, is_command in ((_dimse.encode_command(command), True), (identifier, False)):
        for pdu in _pdu.encode_data(1, part, command=is_command, max_pdu_bytes=16384):
            peer.sendall(pdu)


_LONG = ("ImageComments", "PatientComments", "AdditionalPatientHistory", "VisitComments")
"""Together 16 MB of answers, more than the buffers of two sockets hold."""


def _described(image: Any) -> Any:
    for keyword in _LONG:
        setattr(image, keyword, "x" * 10_000)
    return image


def test_events_of_reads_wait_for_room(tmp_path):
    """A full disk does not stop reading, and what was read is in the trail once there is room."""
    with the_store(tmp_path) as store, listening(store) as node:
        store.ingest(file_bytes(ct_slice(1, size=8)))
        before = len(audited(store))
        remote = dicom.Remote("127.0.0.1", node.port)
        full = _Full(store.database)
        with full:
            assert len(dicom.find(remote, {"StudyInstanceUID": ""})) == 1
            assert full.refused >= 1
            assert len(audited(store)) == before
        (event,) = [each for each in _of_kind(store, "dicom.find") if each["kind"] == "dicom.find"]
    assert event["outcome"] == "success"


class _Full:
    """Makes the database refuse what is submitted, as a full disk does, without touching what is read."""

    def __init__(self, database: storage.Database) -> None:
        self._database = database
        self.refused = 0

    def __enter__(self) -> None:
        from concurrent.futures import Future

        def submit(work: object) -> Future[None]:
            del work
            self.refused += 1
            refused: Future[None] = Future()
            refused.set_exception(StorageError("Nothing was written.", "The volume is full.", "Make room."))
            return refused

        original = self._database.write

        def write(work: Any) -> Any:
            if isinstance(threading.current_thread(), threading.Timer):  # the second try of a waiting event
                return submit(work).result()
            return original(work)

        self._database.submit, self._database.write = submit, write  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        del self._database.submit, self._database.write
