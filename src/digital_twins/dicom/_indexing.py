"""The index rows of a stored object: which exist, which contradict it, which are added."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from digital_twins.dicom._attributes import Level
from digital_twins.dicom._dimse import Status
from digital_twins.dicom._header import ObjectRefusedError
from digital_twins.dicom._stored import DIFFERENT, IDENTICAL, NEW, REPLACED
from digital_twins.dicom._survivor import survivor

if TYPE_CHECKING:
    import apsw

    from digital_twins.dicom._header import Header, Row
    from digital_twins.dicom._stored import Policy, Prepared


def index_object(cursor: apsw.Cursor, prepared: Prepared, policy: Policy) -> tuple[str, str]:
    """Add the rows of an object and return the outcome and the PatientID that the index has it under.

    Raises
    ------
    ObjectRefusedError
        It contradicts what is stored and the policy does not allow that.
    """
    header = prepared.header
    patient = _added_to_series(cursor, prepared, policy)
    if patient is not None:
        return NEW, patient
    known: Any = cursor.execute(
        "SELECT i.blob, i.id, e.series_uid, p.patient_id FROM dicom_instance i"
        " JOIN dicom_series e ON e.id = i.series JOIN dicom_study s ON s.id = e.study"
        " JOIN dicom_patient p ON p.id = s.patient WHERE i.sop_uid = ?",
        (header.sop_uid,),
    ).fetchone()
    if known is None:
        return NEW, _insert_object(cursor, prepared, policy)
    blob, row, series_uid, patient_id = known
    if blob == prepared.digest:
        return IDENTICAL, str(patient_id)
    if _different(header, str(series_uid), policy) == DIFFERENT:
        return DIFFERENT, header.patient_id
    return REPLACED, _replace_object(cursor, prepared, policy, row=row)


def _added_to_series(cursor: apsw.Cursor, prepared: Prepared, policy: Policy) -> str | None:
    """Add an object to a series that is there, the usual case, and return the PatientID of the index.

    None: it is no such case, and nothing was changed.
    """
    try:
        family = check_family(cursor, prepared.header, policy)
    except ObjectRefusedError:
        return None
    unless_known = " ON CONFLICT (sop_uid) DO NOTHING"
    if family.series is None or not _insert_instance(cursor, prepared, family.series, unless_known):
        return None
    return family.patient_id


def _different(header: Header, series_uid: str, policy: Policy) -> str:
    """Return the outcome for other bytes under a known SOP Instance UID."""
    if policy.duplicates == "ignore":
        return DIFFERENT
    if policy.duplicates == "refuse":
        raise ObjectRefusedError(
            "another object with this SOP Instance UID is stored",
            status=Status.DUPLICATE_INSTANCE,
            fix="Give the changed object a new SOP Instance UID.",
        )
    if series_uid != header.series_uid:
        raise ObjectRefusedError(
            "the object is stored in another series", status=Status.DOES_NOT_MATCH, fix="Correct the UIDs."
        )
    return REPLACED


def _replace_object(cursor: apsw.Cursor, prepared: Prepared, policy: Policy, *, row: int) -> str:
    """Put an object into the place of another one and return the PatientID.

    The old row goes last, so that the new one cannot get its number: JSON that a reader builds of the old
    object at this moment must not pass for that of the new one.
    """
    cursor.execute("UPDATE dicom_instance SET sop_uid = 'replaced ' || id WHERE id = ?", (row,))
    patient_id = _insert_object(cursor, prepared, policy)
    cursor.execute("DELETE FROM dicom_json WHERE instance = ?", (row,))
    cursor.execute(
        "UPDATE dicom_series SET instances = instances - 1"
        " WHERE id = (SELECT series FROM dicom_instance WHERE id = ?)",
        (row,),
    )
    cursor.execute("DELETE FROM dicom_instance WHERE id = ?", (row,))
    return patient_id


def _insert_object(cursor: apsw.Cursor, prepared: Prepared, policy: Policy) -> str:
    header = prepared.header
    now = datetime.now(tz=UTC).isoformat()
    family = check_family(cursor, header, policy)
    study, series = family.study, family.series
    if study is None:
        patient = family.patient or _insert(cursor, "dicom_patient", _patient_row(header))
        row: Row = {**header.rows[Level.STUDY], "patient": patient, "received_utc": now}
        study = _insert(cursor, "dicom_study", row)
    if series is None:
        series = _insert(
            cursor, "dicom_series", {**header.rows[Level.SERIES], "study": study, "instances": 0}
        )
    _insert_instance(cursor, prepared, series)
    return family.patient_id


def _insert_instance(cursor: apsw.Cursor, prepared: Prepared, series: int, conflict: str = "") -> bool:
    """Add the row of an object to its series; False when the conflict clause says to pass over it."""
    header, offset = prepared.header, prepared.dataset_offset
    row: Row = {
        **header.rows[Level.INSTANCE],
        "series": series,
        "transfer_syntax": header.transfer_syntax,
        "blob": prepared.digest,
        "dataset_offset": offset,
        "size_bytes": prepared.size_bytes,
        "pixel_offset": None if header.pixel_offset is None else header.pixel_offset + offset,
        "pixel_length": header.pixel_length,
        "source": prepared.source,
        "received_utc": datetime.now(tz=UTC).isoformat(),
    }
    sql = _insertion("dicom_instance", (*row,), conflict)
    added: Any = cursor.execute(sql, (*row.values(),)).fetchone()
    if added is None:
        return False
    cursor.execute("UPDATE dicom_series SET instances = instances + 1 WHERE id = ?", (series,))
    return True


def _patient_row(header: Header) -> Row:
    return {**header.rows[Level.PATIENT], "namespace": _namespace(header)}


def _namespace(header: Header) -> str:
    issuer = str(header.rows[Level.PATIENT]["issuer"])
    return issuer if header.patient_id else f"study {header.study_uid}"


class Family(NamedTuple):
    """The rows of patient, study and series that exist, and the PatientID of that patient."""

    patient: int | None
    study: int | None
    series: int | None
    patient_id: str


def check_family(cursor: apsw.Cursor, header: Header, policy: Policy) -> Family:
    """Return what exists of the patient, study and series of an object; refuse one that contradicts them."""
    found: Any = cursor.execute(
        "SELECT s.id, s.patient, p.patient_id, p.namespace, e.id, e.study FROM dicom_study s"
        " JOIN dicom_patient p ON p.id = s.patient LEFT JOIN dicom_series e ON e.series_uid = ?"
        " WHERE s.study_uid = ?",
        (header.series_uid, header.study_uid),
    ).fetchone()
    if found is None:
        return _new_study(cursor, header)
    study, patient, patient_id, namespace, series, study_of_series = found
    conflict = not _same_patient(header, patient_id, namespace)
    if conflict:
        conflict = survivor(cursor, header.patient_id, _namespace(header)) != (patient_id, namespace)
    if conflict and policy.patient_conflicts == "refuse":
        raise ObjectRefusedError(
            "patient ID conflict: study or series belongs to another patient",
            status=Status.DOES_NOT_MATCH,
            fix="Correct the PatientID (or its issuer) at the source, or send the study under a new UID.",
        )
    if series is not None and study_of_series != study:
        raise _other_study()
    return Family(patient, study, series, patient_id)


def _new_study(cursor: apsw.Cursor, header: Header) -> Family:
    uid = (header.series_uid,)
    if cursor.execute("SELECT 1 FROM dicom_series WHERE series_uid = ?", uid).fetchone():
        raise _other_study()
    now = survivor(cursor, header.patient_id, _namespace(header))
    row: Any = cursor.execute(
        "SELECT id FROM dicom_patient WHERE patient_id = ? AND namespace = ?", now
    ).fetchone()
    return Family(row[0] if row else None, None, None, now[0] if row else header.patient_id)


def _other_study() -> ObjectRefusedError:
    return ObjectRefusedError(
        "the series is stored under another study", status=Status.DOES_NOT_MATCH, fix="Correct the UIDs."
    )


def _same_patient(header: Header, patient_id: str, namespace: str) -> bool:
    issuers = {namespace, _namespace(header)} - {""}
    return patient_id == header.patient_id and len(issuers) <= 1


def _insert(cursor: apsw.Cursor, table: str, row: Row) -> int:
    """Add a row and return its number."""
    added: Any = cursor.execute(_insertion(table, (*row,)), (*row.values(),)).fetchone()
    return int(added[0])


@cache
def _insertion(table: str, columns: tuple[str, ...], conflict: str = "") -> str:
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks}){conflict} RETURNING id"  # noqa: S608  (names of our own tables)  # nosec B608
