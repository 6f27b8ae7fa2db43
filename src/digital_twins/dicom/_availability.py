"""Instance availability notification (PS3.4 annex R): taken from peers, and sent to them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from digital_twins.audit import AuditEvent, stage
from digital_twins.dicom._contexts import AVAILABILITY
from digital_twins.dicom._dimse import CommandField, Status
from digital_twins.dicom._json_model import json_model
from digital_twins.dicom._nservice import Refusal, call_once, n_command, n_handler, uid_of
from digital_twins.dicom._scu import check

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    import apsw
    from pydicom.dataset import Dataset

    from digital_twins.dicom._framing import Message
    from digital_twins.dicom._requestor import Remote
    from digital_twins.dicom._setup import Handler, Peer
    from digital_twins.dicom._store import DicomStore


def availability_handlers(
    store: DicomStore, executor: Executor, *, on_available: Callable[[Dataset], None] | None
) -> dict[tuple[int, str], Handler]:
    """Return the handler of N-CREATE; ``on_available`` is called in a thread once a notice is on disk."""

    def create(message: Message, notice: Dataset, peer: Peer) -> int:
        _check(notice)
        study = str(notice.StudyInstanceUID)
        event = AuditEvent(
            action="C",
            kind="dicom.availability",
            outcome="success",
            agent=peer.agent,
            entity=study,
            detail={"instances": sum(len(s.ReferencedSOPSequence) for s in notice.ReferencedSeriesSequence)},
        )

        def work(cursor: apsw.Cursor) -> None:
            cursor.execute(
                "INSERT INTO dicom_availability (sop_uid, study_uid, peer, notice, received_utc)"
                " VALUES (?, ?, ?, ?, ?)",
                (
                    uid_of(message.command),
                    study,
                    peer.calling_ae,
                    json.dumps(json_model(notice)),
                    datetime.now(tz=UTC).isoformat(),
                ),
            )
            stage(cursor, event)

        store.database.write(work)
        if on_available is not None:
            on_available(notice)
        return Status.SUCCESS

    return {
        (CommandField.N_CREATE_RQ, AVAILABILITY): n_handler(store, executor, "dicom.availability", create)
    }


def availability_notice(store: DicomStore, study_uid: str, *, retrieve_ae_title: str) -> Dataset:
    """Return the notice that a stored study can be retrieved from an AE title; raises NotFoundError."""
    from pydicom.dataset import Dataset

    notice = Dataset()
    notice.StudyInstanceUID = study_uid
    notice.ReferencedPerformedProcedureStepSequence = []
    series: dict[str, Dataset] = {}
    for instance in store.instances(study_uid):
        item = series.setdefault(instance.series_uid, Dataset())
        item.SeriesInstanceUID = instance.series_uid
        reference = Dataset()
        reference.ReferencedSOPClassUID = instance.sop_class_uid
        reference.ReferencedSOPInstanceUID = instance.sop_uid
        reference.InstanceAvailability = "ONLINE"
        reference.RetrieveAETitle = retrieve_ae_title
        item.ReferencedSOPSequence = [*item.get("ReferencedSOPSequence", []), reference]
    notice.ReferencedSeriesSequence = list(series.values())
    return notice


def notify_availability(remote: Remote, notice: Dataset) -> None:
    """Tell a peer that objects can be retrieved.

    Raises
    ------
    DimseFailedError
        No association, or the peer's refusal.
    """
    from pydicom.uid import generate_uid

    uid = str(generate_uid(prefix=None))
    command = n_command(CommandField.N_CREATE_RQ, AVAILABILITY, uid, requested=False)
    check(call_once(remote, command, notice), remote, "Instance availability N-CREATE")


def _check(notice: Dataset) -> None:
    if not notice.get("StudyInstanceUID") or not notice.get("ReferencedSeriesSequence"):
        raise Refusal(Status.MISSING_ATTRIBUTE, "StudyInstanceUID or ReferencedSeriesSequence is missing")
    for series in notice.ReferencedSeriesSequence:
        if not series.get("SeriesInstanceUID") or not series.get("ReferencedSOPSequence"):
            raise Refusal(Status.MISSING_ATTRIBUTE, "a series of the notice is incomplete")
        for item in series.ReferencedSOPSequence:
            if not item.get("ReferencedSOPInstanceUID") or not item.get("InstanceAvailability"):
                raise Refusal(Status.MISSING_ATTRIBUTE, "an instance of the notice is incomplete")
