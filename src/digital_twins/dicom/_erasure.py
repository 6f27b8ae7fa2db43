"""Takes everything of one patient out of the tables of the DICOM store, inside the caller's transaction."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from digital_twins._errors import ConflictError
from digital_twins.dicom._removal import entry_of, take_out

if TYPE_CHECKING:
    from collections.abc import Iterator

    import apsw

_PATIENT_ID = "00100020"


@dataclass(frozen=True, slots=True)
class DicomFootprint:
    """What the tables hold of a patient.

    Attributes
    ----------
    patient_ids
        The PatientID, and those that were merged into it.
    study_uids, sop_uids
        Of the index and of what rejection notes keep hidden.
    blobs
        SHA-256 of the files of these objects, and of what is made of them for peers.
    held
        Studies under legal hold.
    last_received_utc
        When the newest of the studies began to arrive, ISO 8601; empty when there is none.
    """

    patient_ids: tuple[str, ...]
    study_uids: tuple[str, ...]
    sop_uids: tuple[str, ...]
    blobs: frozenset[str]
    held: tuple[str, ...]
    last_received_utc: str


def dicom_footprint(cursor: apsw.Cursor, patient_id: str) -> DicomFootprint:
    """Return what the tables hold of a patient.

    Raises
    ------
    ConflictError
        The PatientID stands for patients of several issuers, or was merged into another one.
    """
    issuers = _rows(cursor, "SELECT DISTINCT namespace FROM dicom_patient WHERE patient_id = ?", patient_id)
    if len(issuers) > 1:
        raise ConflictError(
            "The patient is not erased.",
            "The number stands for several patients, each of another issuer, and they share one key.",
            "Merge or correct them first (twin dicom merge).",
        )
    survivors = _rows(cursor, "SELECT id FROM dicom_merge WHERE prior_id = ? AND undone_utc = ''", patient_id)
    if survivors:
        raise ConflictError(
            "The patient is not erased.",
            f"The number was merged into another one (merge {survivors[0][0]}).",
            "Erase the surviving patient, or undo the merge first (twin dicom unmerge).",
        )
    ids = _merged(cursor, patient_id)
    studies: list[Any] = [
        row
        for each in ids
        for row in _rows(
            cursor,
            "SELECT s.study_uid, s.received_utc FROM dicom_study s JOIN dicom_patient p ON p.id = s.patient"
            " WHERE p.patient_id = ?",
            each,
        )
    ]
    withdrawn = list(_withdrawn(cursor, ids))
    study_uids = tuple(dict.fromkeys([uid for uid, _ in studies] + [uid for uid, _, _ in withdrawn]))
    objects = [row for uid in study_uids for row in _rows(cursor, _OBJECTS, uid)]
    queued = [
        blob
        for uid in study_uids
        for (blob,) in _rows(cursor, "SELECT blob FROM dicom_queue_entry WHERE study_uid = ?", uid)
    ]
    held = tuple(
        uid for uid in study_uids if _rows(cursor, "SELECT 1 FROM dicom_hold WHERE study_uid = ?", uid)
    )
    blobs = {blob for _, blob, _ in objects} | {blob for _, _, blob in withdrawn if blob} | set(queued)
    times = [received for _, received in studies] + [received for _, _, received in objects]
    return DicomFootprint(
        ids,
        study_uids,
        tuple([uid for uid, _, _ in objects] + [uid for _, uid, _ in withdrawn]),
        frozenset(blobs),
        held,
        max(times, default=""),
    )


def erase_dicom_in(cursor: apsw.Cursor, found: DicomFootprint) -> None:
    """Remove the rows of a footprint: index, queues, worklist, steps, workitems, merges, hidden objects."""
    for uid in found.sop_uids:
        entry = entry_of(cursor, uid)
        if entry is not None:
            take_out(cursor, entry)
        cursor.execute("DELETE FROM dicom_commitment_object WHERE sop_uid = ?", (uid,))
    for table in ("dicom_withdrawn", "dicom_queue_entry", "dicom_queue_study", "dicom_availability"):
        for uid in found.study_uids:
            cursor.execute(f"DELETE FROM {table} WHERE study_uid = ?", (uid,))  # noqa: S608  (own names)  # nosec B608
    for each in found.patient_ids:
        for table in ("dicom_worklist", "dicom_prefetch"):
            cursor.execute(f"DELETE FROM {table} WHERE patient_id = ?", (each,))  # noqa: S608  (own names)  # nosec B608
        cursor.execute("DELETE FROM dicom_merge WHERE prior_id = ? OR surviving_id = ?", (each, each))
        cursor.execute(
            "DELETE FROM dicom_patient WHERE patient_id = ?"
            " AND NOT EXISTS (SELECT 1 FROM dicom_study s WHERE s.patient = dicom_patient.id)",
            (each,),
        )
    for table, key, column in (
        ("dicom_performed_step", "sop_uid", "attributes"),
        ("dicom_workitem", "uid", "model"),
    ):
        for (uid,) in _of_patient(cursor, table, key, column, ids=found.patient_ids):
            cursor.execute(f"DELETE FROM {table} WHERE {key} = ?", (uid,))  # noqa: S608  (own names)  # nosec B608
            if table == "dicom_workitem":
                cursor.execute("DELETE FROM dicom_workitem_subscriber WHERE workitem = ?", (uid,))


_OBJECTS = (
    "SELECT i.sop_uid, i.blob, i.received_utc FROM dicom_instance i JOIN dicom_series e ON e.id = i.series"
    " JOIN dicom_study s ON s.id = e.study WHERE s.study_uid = ?"
)


def _merged(cursor: apsw.Cursor, patient_id: str) -> tuple[str, ...]:
    """Return a PatientID and all that were merged into it, over several steps too."""
    known = [patient_id]
    for each in known:
        rows = _rows(
            cursor, "SELECT prior_id FROM dicom_merge WHERE surviving_id = ? AND undone_utc = ''", each
        )
        known += [prior for (prior,) in rows if prior not in known]
    return tuple(known)


def _withdrawn(cursor: apsw.Cursor, ids: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    """Yield study, object and file of what notes keep hidden; an object that never came names no patient."""
    rows: list[Any] = cursor.execute(
        "SELECT study_uid, sop_uid, blob, entry FROM dicom_withdrawn WHERE entry <> ''"
    ).fetchall()
    for study, uid, blob, entry in rows:
        if json.loads(entry)["dicom_patient"]["patient_id"] in ids:
            yield study, uid, blob


def _of_patient(
    cursor: apsw.Cursor, table: str, key: str, column: str, *, ids: tuple[str, ...]
) -> Iterator[tuple[str]]:
    """Yield the keys of rows whose DICOM JSON names the patient."""
    rows: list[Any] = cursor.execute(f"SELECT {key}, {column} FROM {table}").fetchall()  # noqa: S608  (own names)  # nosec B608
    for uid, model in rows:
        if json.loads(model).get(_PATIENT_ID, {}).get("Value", [None])[0] in ids:
            yield (uid,)


def _rows(cursor: apsw.Cursor, sql: str, value: str) -> list[Any]:
    found: list[Any] = cursor.execute(sql, (value,)).fetchall()
    return found
