"""Under whom a patient's objects are filed after merges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import apsw

_LONGEST_CHAIN = 32


def survivor(cursor: apsw.Cursor, patient_id: str, namespace: str) -> tuple[str, str]:
    """Return PatientID and namespace that stand for a patient now: its own while it was never merged."""
    for _ in range(_LONGEST_CHAIN):
        row: Any = cursor.execute(
            "SELECT surviving_id, surviving_namespace FROM dicom_merge"
            " WHERE prior_id = ? AND prior_namespace = ? AND undone_utc = '' LIMIT 1",
            (patient_id, namespace),
        ).fetchone()
        cursor.fetchall()
        if row is None:
            break
        patient_id, namespace = row
    return patient_id, namespace
