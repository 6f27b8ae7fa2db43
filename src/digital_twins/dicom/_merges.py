"""Patient merges: the studies of one PatientID are filed under another; stored bytes do not change."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from digital_twins._errors import ConflictError, InputError, NotFoundError
from digital_twins.audit import AuditEvent, stage
from digital_twins.dicom._dataset_file import load
from digital_twins.dicom._removal import add_patient, patient_row
from digital_twins.dicom._store import select_instances
from digital_twins.dicom._survivor import survivor
from digital_twins.dicom._text import quiet_pydicom

if TYPE_CHECKING:
    from collections.abc import Mapping

    import apsw

    from digital_twins.dicom._store import DicomStore

PatientKey = tuple[str, str]
"""PatientID and its issuer ('' when there is none)."""
_COLUMNS = "id, prior_id, prior_namespace, surviving_id, surviving_namespace, studies, merged_utc, undone_utc"


@dataclass(frozen=True, slots=True)
class Merge:
    """A patient merge.

    Attributes
    ----------
    prior, surviving
        PatientID and issuer of the patient that went, and of the one who stands for both.
    studies
        Study UIDs that were moved when it was made.
    undone_utc
        '' while it holds.
    """

    id: int
    prior: PatientKey = field(repr=False)
    surviving: PatientKey = field(repr=False)
    studies: tuple[str, ...]
    merged_utc: str
    undone_utc: str


def merge_patients(
    store: DicomStore, prior: PatientKey, surviving: PatientKey, *, agent: str = "operator"
) -> Merge:
    """File every study of one patient under another, now and for what still comes.

    Queries and metadata answer with the surviving PatientID; the stored bytes, and with them retrieved
    objects, keep the old one.

    Raises
    ------
    NotFoundError
        Nothing is stored of the patient that is to go.
    ConflictError
        Both are one patient already.
    """

    def work(cursor: apsw.Cursor) -> int:
        if patient_row(cursor, *prior) is None:
            raise NotFoundError(
                "The patients were not merged.",
                "Nothing is stored under the PatientID that is to go.",
                "Check both PatientIDs and their issuers.",
            )
        return merge_in(cursor, store, prior=prior, surviving=surviving, agent=agent)

    return merge_of(store, store.database.write(work))


def merge_in(
    cursor: apsw.Cursor, store: DicomStore, *, prior: PatientKey, surviving: PatientKey, agent: str
) -> int:
    """Merge inside the caller's transaction, also before anything of either patient came; return its id.

    Raises
    ------
    InputError
        A PatientID is missing.
    ConflictError
        Both are one patient already.
    """
    if not prior[0] or not surviving[0]:
        raise InputError("The patients were not merged.", "A PatientID is missing.", "Give both PatientIDs.")
    if survivor(cursor, *surviving) == survivor(cursor, *prior):
        raise ConflictError(
            "The patients were not merged.",
            "Both PatientIDs stand for one patient already.",
            "Undo the earlier merge first if it was wrong.",
        )
    to = survivor(cursor, *surviving)
    row = patient_row(cursor, *prior)
    studies: list[str] = []
    if row is not None:
        kept = patient_row(cursor, *to) or {**row, "patient_id": to[0], "issuer": to[1], "namespace": to[1]}
        target = add_patient(cursor, kept)
        studies = _studies(cursor, row["id"])
        _move(cursor, studies, target)
        cursor.execute("DELETE FROM dicom_patient WHERE id = ?", (row["id"],))
    now = datetime.now(tz=UTC).isoformat()
    made: Any = cursor.execute(
        "INSERT INTO dicom_merge (prior_id, prior_namespace, surviving_id, surviving_namespace, studies,"
        " prior, merged_utc, undone_utc) VALUES (?, ?, ?, ?, ?, ?, ?, '') RETURNING id",
        (*prior, *to, json.dumps(studies), json.dumps(row) if row else "", now),
    ).fetchone()
    cursor.fetchall()
    detail: dict[str, str | int] = {"studies": len(studies), "into": store.pseudonym(to[0]) or ""}
    _audit(cursor, store, "dicom.patient.merge", agent=agent, patient_id=prior[0], detail=detail)
    return int(made[0])


def unmerge_patients(store: DicomStore, merge_id: int, *, agent: str = "operator") -> Merge:
    """Undo a merge: the studies that it moved, and what came since under the old PatientID, go back.

    Raises
    ------
    NotFoundError
        There is no such merge.
    ConflictError
        It is undone already, or the surviving patient was itself merged since.
    """
    merge = merge_of(store, merge_id)
    came_since = _came_since(store, merge)

    def work(cursor: apsw.Cursor) -> None:
        raw: Any = cursor.execute(
            "SELECT prior FROM dicom_merge WHERE id = ? AND undone_utc = ''", (merge_id,)
        ).fetchall()
        if not raw or survivor(cursor, *merge.surviving) != merge.surviving:
            raise ConflictError(
                "The merge was not undone.",
                "It is undone already, or its surviving patient was merged into another one since.",
                "Undo the later merge first.",
            )
        now = datetime.now(tz=UTC).isoformat()
        cursor.execute("UPDATE dicom_merge SET undone_utc = ? WHERE id = ?", (now, merge_id))
        target = patient_row(cursor, *merge.surviving)
        back: list[str] = []
        if target is not None:
            there = set(_studies(cursor, target["id"]))
            back = [uid for uid in (*merge.studies, *came_since) if uid in there]
        if back and target is not None:
            names = {"patient_id": merge.prior[0], "issuer": merge.prior[1], "namespace": merge.prior[1]}
            _move(
                cursor, back, add_patient(cursor, json.loads(raw[0][0]) if raw[0][0] else {**target, **names})
            )
            if not _studies(cursor, target["id"]):
                cursor.execute("DELETE FROM dicom_patient WHERE id = ?", (target["id"],))
        detail = {"studies": len(back), "merge": merge_id}
        _audit(cursor, store, "dicom.patient.unmerge", agent=agent, patient_id=merge.prior[0], detail=detail)

    store.database.write(work)
    return merge_of(store, merge_id)


def merges(store: DicomStore) -> list[Merge]:
    """Return every merge, the latest first, undone ones too."""
    with store.database.read() as connection:
        rows: list[Any] = connection.execute(
            f"SELECT {_COLUMNS} FROM dicom_merge ORDER BY id DESC"  # noqa: S608  (constant)  # nosec B608
        ).fetchall()
    return [_merge(row) for row in rows]


def merge_of(store: DicomStore, merge_id: int) -> Merge:
    """Return one merge; raises NotFoundError."""
    for merge in merges(store):
        if merge.id == merge_id:
            return merge
    raise NotFoundError(
        "There is no such merge.", "No merge of patients has this number.", "List them at /api/merges."
    )


def _merge(row: Any) -> Merge:
    return Merge(row[0], (row[1], row[2]), (row[3], row[4]), tuple(json.loads(row[5])), row[6], row[7])


def _studies(cursor: apsw.Cursor, patient: int) -> list[str]:
    rows: Any = cursor.execute("SELECT study_uid FROM dicom_study WHERE patient = ?", (patient,)).fetchall()
    return [str(row[0]) for row in rows]


def _move(cursor: apsw.Cursor, studies: list[str], patient: int) -> None:
    for uid in studies:
        cursor.execute("UPDATE dicom_study SET patient = ? WHERE study_uid = ?", (patient, uid))
        cursor.execute(  # it names the patient, and is built anew when it is asked for
            "DELETE FROM dicom_json WHERE instance IN (SELECT i.id FROM dicom_instance i"
            " JOIN dicom_series e ON e.id = i.series JOIN dicom_study s ON s.id = e.study"
            " WHERE s.study_uid = ?)",
            (uid,),
        )


def _came_since(store: DicomStore, merge: Merge) -> list[str]:
    """Return studies of the surviving patient whose objects carry the PatientID that went."""
    found = select_instances(
        store,
        " WHERE p.patient_id = ? AND p.namespace = ? AND i.id IN (SELECT min(y.id) FROM dicom_instance y"
        " JOIN dicom_series x ON x.id = y.series GROUP BY x.study)",
        merge.surviving,
    )
    studies = []
    for instance in found:
        with quiet_pydicom():
            header = load(store.file(instance), specific_tags=["PatientID"], stop_before_pixels=True)
        if str(header.get("PatientID") or "") == merge.prior[0] and instance.study_uid not in merge.studies:
            studies.append(instance.study_uid)
    return studies


def _audit(
    cursor: apsw.Cursor,
    store: DicomStore,
    kind: str,
    *,
    agent: str,
    patient_id: str,
    detail: Mapping[str, str | int],
) -> None:
    patient = store.pseudonym(patient_id)
    stage(cursor, AuditEvent("U", kind, "success", agent, patient=patient, detail=detail))
