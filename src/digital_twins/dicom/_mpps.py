"""Modality performed procedure step (PS3.4 annex F): the service, its states, and the client."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from digital_twins._errors import NotFoundError
from digital_twins.audit import AuditEvent, stage
from digital_twins.dicom import _worklist
from digital_twins.dicom._contexts import MPPS
from digital_twins.dicom._dimse import CommandField, Status
from digital_twins.dicom._json_model import json_model
from digital_twins.dicom._nservice import Refusal, call_once, n_command, n_handler, uid_of
from digital_twins.dicom._scu import check
from digital_twins.dicom._text import quiet_pydicom

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import apsw
    from pydicom.dataset import Dataset

    from digital_twins.dicom._framing import Message
    from digital_twins.dicom._requestor import Remote
    from digital_twins.dicom._setup import Handler, Peer
    from digital_twins.dicom._store import DicomStore

IN_PROGRESS = "IN PROGRESS"
_FINAL = {"COMPLETED": _worklist.COMPLETED, "DISCONTINUED": _worklist.DISCONTINUED}
# Error ID of PS3.4, section F.7.2.2.2 [verify]
_MAY_NO_LONGER_BE_UPDATED = 0xA710
_INVALID_INSTANCE = 0x0117
_LIST_WARNING = 0x0107
_NEEDED_AT_CREATE = (
    "ScheduledStepAttributesSequence",
    "PerformedProcedureStepID",
    "PerformedStationAETitle",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "Modality",
)
_NEEDED_AT_END = ("PerformedProcedureStepEndDate", "PerformedProcedureStepEndTime", "PerformedSeriesSequence")
_NOT_SETTABLE = frozenset(
    {
        "ScheduledStepAttributesSequence",
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "PerformedProcedureStepID",
        "PerformedStationAETitle",
        "PerformedProcedureStepStartDate",
        "PerformedProcedureStepStartTime",
        "Modality",
        "StudyID",
    }
)
"""What PS3.4 table F.7.2-1 does not allow in an N-SET."""


def mpps_handlers(store: DicomStore, executor: Executor) -> dict[tuple[int, str], Handler]:
    """Return the handlers of N-CREATE and N-SET."""

    def create(message: Message, attributes: Dataset, peer: Peer) -> int:
        uid = uid_of(message.command)
        if not uid:
            raise Refusal(_INVALID_INSTANCE, "the performed step has no SOP Instance UID")
        _check_created(attributes)
        event = _event(store, "dicom.mpps.create", uid, attributes, peer=peer)
        return store.database.write(lambda cursor: _create(cursor, uid, attributes, event))

    def change(message: Message, attributes: Dataset, peer: Peer) -> int:
        uid = uid_of(message.command)

        def work(cursor: apsw.Cursor) -> int:
            stored = _read(cursor, uid)
            status = _change(cursor, uid, stored, changes=attributes)
            stage(cursor, _event(store, "dicom.mpps.set", uid, stored, peer=peer))
            return status

        return store.database.write(work)

    return {
        (CommandField.N_CREATE_RQ, MPPS): n_handler(store, executor, "dicom.mpps.create", create),
        (CommandField.N_SET_RQ, MPPS): n_handler(store, executor, "dicom.mpps.set", change),
    }


def performed_step(store: DicomStore, sop_uid: str) -> Dataset:
    """Return a performed procedure step as the modality left it; raises NotFoundError."""
    from pydicom.dataset import Dataset

    with store.database.read() as connection:
        row = connection.execute(
            "SELECT attributes FROM dicom_performed_step WHERE sop_uid = ?", (sop_uid,)
        ).fetchone()
    if row is None:
        raise NotFoundError(
            "The performed procedure step is not stored here.",
            "No modality has created it.",
            "Check the UID of the step.",
        )
    return Dataset.from_json(str(row[0]))


def create_performed_step(remote: Remote, sop_uid: str, attributes: Dataset) -> None:
    """MPPS N-CREATE as a modality.

    Raises
    ------
    DimseFailedError
        No association, or the peer's refusal with its status and comment.
    """
    command = n_command(CommandField.N_CREATE_RQ, MPPS, sop_uid, requested=False)
    check(call_once(remote, command, attributes), remote, "MPPS N-CREATE")


def set_performed_step(remote: Remote, sop_uid: str, attributes: Dataset) -> None:
    """MPPS N-SET as a modality; raises as `create_performed_step` does."""
    command = n_command(CommandField.N_SET_RQ, MPPS, sop_uid, requested=True)
    check(call_once(remote, command, attributes), remote, "MPPS N-SET")


def _check_created(attributes: Dataset) -> None:
    if str(attributes.get("PerformedProcedureStepStatus", "")) != IN_PROGRESS:
        raise Refusal(Status.INVALID_ATTRIBUTE_VALUE, "a performed step begins as IN PROGRESS")
    missing = [name for name in _NEEDED_AT_CREATE if not attributes.get(name)]
    if missing:
        raise Refusal(Status.MISSING_ATTRIBUTE, f"{missing[0]} is missing")
    if any(not step.get("StudyInstanceUID") for step in attributes.ScheduledStepAttributesSequence):
        raise Refusal(Status.MISSING_ATTRIBUTE, "StudyInstanceUID of the scheduled step is missing")


def _create(cursor: apsw.Cursor, uid: str, attributes: Dataset, event: AuditEvent) -> int:
    if cursor.execute("SELECT 1 FROM dicom_performed_step WHERE sop_uid = ?", (uid,)).fetchone():
        raise Refusal(Status.DUPLICATE_INSTANCE, "the performed step exists already")
    cursor.execute(
        "INSERT INTO dicom_performed_step (sop_uid, status, attributes, updated_utc) VALUES (?, ?, ?, ?)",
        (uid, IN_PROGRESS, _json(attributes), datetime.now(tz=UTC).isoformat()),
    )
    _tell_worklist(cursor, attributes, _worklist.STARTED)
    stage(cursor, event)
    return Status.SUCCESS


def _read(cursor: apsw.Cursor, uid: str) -> Dataset:
    from pydicom.dataset import Dataset

    row = cursor.execute(
        "SELECT status, attributes FROM dicom_performed_step WHERE sop_uid = ?", (uid,)
    ).fetchone()
    if row is None:
        raise Refusal(Status.NO_SUCH_INSTANCE, "no such performed step")
    if row[0] != IN_PROGRESS:
        raise Refusal(
            Status.PROCESSING_FAILURE,
            "Performed Procedure Step Object may no longer be updated",
            error_id=_MAY_NO_LONGER_BE_UPDATED,
        )
    return Dataset.from_json(row[1])


def _change(cursor: apsw.Cursor, uid: str, stored: Dataset, *, changes: Dataset) -> int:
    ignored = [element.keyword for element in changes if element.keyword in _NOT_SETTABLE]
    for element in changes:
        if element.keyword not in _NOT_SETTABLE:
            stored[element.tag] = element
    status = str(stored.get("PerformedProcedureStepStatus", ""))
    if status not in {IN_PROGRESS, *_FINAL}:
        raise Refusal(Status.INVALID_ATTRIBUTE_VALUE, "no such status of a performed step")
    if status in _FINAL:
        missing = [name for name in _NEEDED_AT_END if not stored.get(name)]
        # A step that was broken off may have no series at all.
        if missing and not (status == "DISCONTINUED" and missing == ["PerformedSeriesSequence"]):
            raise Refusal(Status.MISSING_ATTRIBUTE, f"{missing[0]} is missing")
        _tell_worklist(cursor, stored, _FINAL[status])
    cursor.execute(
        "UPDATE dicom_performed_step SET status = ?, attributes = ?, updated_utc = ? WHERE sop_uid = ?",
        (status, _json(stored), datetime.now(tz=UTC).isoformat(), uid),
    )
    return _LIST_WARNING if ignored else Status.SUCCESS


def _tell_worklist(cursor: apsw.Cursor, attributes: Dataset, status: str) -> None:
    for step in attributes.ScheduledStepAttributesSequence:
        step_id = str(step.get("ScheduledProcedureStepID", "") or "")
        _worklist.set_status(cursor, str(step.StudyInstanceUID), step_id, status=status)


def _json(attributes: Dataset) -> str:
    with quiet_pydicom():
        return json.dumps(json_model(attributes))


def _event(store: DicomStore, kind: str, uid: str, attributes: Dataset, *, peer: Peer) -> AuditEvent:
    return AuditEvent(
        action="C" if kind.endswith("create") else "U",
        kind=kind,
        outcome="success",
        agent=peer.agent,
        entity=uid,
        patient=store.pseudonym(str(attributes.get("PatientID", "") or "")),
        detail={"status": str(attributes.get("PerformedProcedureStepStatus", ""))},
    )
