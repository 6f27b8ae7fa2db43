"""Takes objects out of the index and puts them back, inside the caller's transaction; files stay."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from digital_twins.dicom._survivor import survivor

if TYPE_CHECKING:
    from collections.abc import Sequence

    import apsw

Entry = dict[str, dict[str, Any]]
"""The index rows of one object by table: patient, study, series and instance."""

COLUMNS = {
    "dicom_patient": [
        "id",
        "patient_id",
        "issuer",
        "namespace",
        "name",
        "name_alphabetic",
        "name_ideographic",
        "name_phonetic",
        "birth_date",
        "sex",
    ],
    "dicom_study": [
        "id",
        "patient",
        "study_uid",
        "study_date",
        "study_time",
        "accession_number",
        "study_id",
        "description",
        "referring",
        "referring_alphabetic",
        "referring_ideographic",
        "referring_phonetic",
        "received_utc",
    ],
    "dicom_series": [
        "id",
        "study",
        "series_uid",
        "modality",
        "series_number",
        "description",
        "series_date",
        "series_time",
        "body_part",
        "laterality",
        "protocol",
        "manufacturer",
        "institution",
        "station",
        "frame_of_reference_uid",
        "performed_date",
        "performed_time",
        "instances",
    ],
    "dicom_instance": [
        "id",
        "series",
        "sop_uid",
        "sop_class_uid",
        "instance_number",
        "content_date",
        "content_time",
        "acquisition_date",
        "acquisition_time",
        "acquisition_number",
        "rows",
        "columns",
        "bits_allocated",
        "frames",
        "transfer_syntax",
        "blob",
        "dataset_offset",
        "size_bytes",
        "pixel_offset",
        "pixel_length",
        "source",
        "received_utc",
    ],
}
"""Every column of the index, so that what is put back is what was taken out; a test compares them."""
_UNIQUE = {
    "dicom_patient": ("patient_id", "namespace"),
    "dicom_study": ("study_uid",),
    "dicom_series": ("series_uid",),
    "dicom_instance": ("sop_uid",),
}


def entry_of(cursor: apsw.Cursor, sop_uid: str) -> Entry | None:
    """Return the rows of an object, None when it is not in the index."""
    instance = _row(cursor, "dicom_instance", "sop_uid", sop_uid)
    if instance is None:
        return None
    series = _row(cursor, "dicom_series", "id", instance["series"])
    assert series is not None
    study = _row(cursor, "dicom_study", "id", series["study"])
    assert study is not None
    patient = _row(cursor, "dicom_patient", "id", study["patient"])
    assert patient is not None
    return {
        "dicom_patient": patient,
        "dicom_study": study,
        "dicom_series": series,
        "dicom_instance": instance,
    }


def take_out(cursor: apsw.Cursor, entry: Entry) -> None:
    """Remove the rows of an object, and those of series, study and patient that have nothing left."""
    instance, series = entry["dicom_instance"], entry["dicom_series"]
    cursor.execute("DELETE FROM dicom_json WHERE instance = ?", (instance["id"],))
    cursor.execute("DELETE FROM dicom_instance WHERE id = ?", (instance["id"],))
    cursor.execute("UPDATE dicom_series SET instances = instances - 1 WHERE id = ?", (series["id"],))
    if cursor.execute("SELECT 1 FROM dicom_instance WHERE series = ? LIMIT 1", (series["id"],)).fetchone():
        return
    cursor.execute("DELETE FROM dicom_series_request WHERE series_uid = ?", (series["series_uid"],))
    cursor.execute("DELETE FROM dicom_series WHERE id = ?", (series["id"],))
    study = entry["dicom_study"]
    if cursor.execute("SELECT 1 FROM dicom_series WHERE study = ? LIMIT 1", (study["id"],)).fetchone():
        return
    cursor.execute("DELETE FROM dicom_study WHERE id = ?", (study["id"],))
    patient = entry["dicom_patient"]
    if not cursor.execute("SELECT 1 FROM dicom_study WHERE patient = ? LIMIT 1", (patient["id"],)).fetchone():
        cursor.execute("DELETE FROM dicom_patient WHERE id = ?", (patient["id"],))


def put_back(cursor: apsw.Cursor, entry: Entry) -> bool:
    """Add the rows of an object again under those that exist; False when its UID is taken."""
    if _found(cursor, "dicom_instance", entry["dicom_instance"]) is not None:
        return False
    parent: int | None = None
    for table, column in (("dicom_patient", ""), ("dicom_study", "patient"), ("dicom_series", "study")):
        row = dict(entry[table])
        if column:
            row[column] = parent
        else:  # the patient may have been merged meanwhile
            row["patient_id"], row["namespace"] = survivor(cursor, row["patient_id"], row["namespace"])
        if table == "dicom_series":
            row["instances"] = 0
        parent = _found(cursor, table, row)
        if parent is None:
            parent = _insert(cursor, table, row)
    _insert(cursor, "dicom_instance", {**entry["dicom_instance"], "series": parent})
    cursor.execute("UPDATE dicom_series SET instances = instances + 1 WHERE id = ?", (parent,))
    return True


def packed(entry: Entry) -> str:
    """Return an entry as JSON."""
    return json.dumps(entry, ensure_ascii=False)


def unpacked(text: str) -> Entry:
    """Read an entry that `packed` wrote."""
    found: Entry = json.loads(text)
    return found


def patient_row(cursor: apsw.Cursor, patient_id: str, namespace: str) -> dict[str, Any] | None:
    """Return the row of a patient by PatientID and namespace."""
    found = _found(cursor, "dicom_patient", {"patient_id": patient_id, "namespace": namespace})
    return None if found is None else _row(cursor, "dicom_patient", "id", found)


def add_patient(cursor: apsw.Cursor, row: dict[str, Any]) -> int:
    """Add a patient row, or find it, and return its number."""
    found = _found(cursor, "dicom_patient", row)
    return _insert(cursor, "dicom_patient", row) if found is None else found


def _row(cursor: apsw.Cursor, table: str, column: str, value: str | int) -> dict[str, Any] | None:
    names = COLUMNS[table]
    sql = f"SELECT {', '.join(names)} FROM {table} WHERE {column} = ?"  # noqa: S608  (own names)  # nosec B608
    values: Any = cursor.execute(sql, (value,)).fetchone()
    cursor.fetchall()
    return None if values is None else dict(zip(names, values, strict=True))


def _found(cursor: apsw.Cursor, table: str, row: dict[str, Any]) -> int | None:
    columns = _UNIQUE[table]
    where = " AND ".join(f"{column} = ?" for column in columns)
    values: Sequence[Any] = [row[column] for column in columns]
    found: Any = cursor.execute(f"SELECT id FROM {table} WHERE {where}", tuple(values)).fetchone()  # noqa: S608  (own names; values are bound)  # nosec B608
    return None if found is None else int(found[0])


def _insert(cursor: apsw.Cursor, table: str, row: dict[str, Any]) -> int:
    kept = {name: value for name, value in row.items() if name != "id"}
    marks = ", ".join("?" * len(kept))
    sql = f"INSERT INTO {table} ({', '.join(kept)}) VALUES ({marks}) RETURNING id"  # noqa: S608  (own names)  # nosec B608
    found: Any = cursor.execute(sql, tuple(kept.values())).fetchone()
    cursor.fetchall()
    return int(found[0])
