"""Request Attributes Sequence (0040,0275) in the index: read from new series when somebody matches on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins.dicom._dataset_file import load
from digital_twins.dicom._query import REQUEST_COLUMNS
from digital_twins.dicom._store import select_instances
from digital_twins.dicom._text import quiet_pydicom

if TYPE_CHECKING:
    import apsw

from digital_twins.dicom._store import DicomStore

_TAGS = {"00400275": "RequestAttributesSequence", "00400009": "ScheduledProcedureStepID"}
_TAGS["00401001"] = "RequestedProcedureID"
_BATCH = 500


def request_key(name: str) -> str | None:
    """Return the matching key that a parameter means, by keywords or tags; None for another one."""
    path = ".".join(_TAGS.get(part.upper(), part) for part in name.split("."))
    return path if path in REQUEST_COLUMNS else None


def read_requests(store: DicomStore) -> None:
    """Read the sequence of every series that was not read yet, from its first object."""
    while found := select_instances(
        store,
        " WHERE i.id IN (SELECT min(y.id) FROM dicom_series x JOIN dicom_instance y ON y.series = x.id"
        " WHERE NOT EXISTS (SELECT 1 FROM dicom_series_request r"
        "  WHERE r.series_uid = x.series_uid AND r.number = 0) GROUP BY x.id LIMIT ?)",
        (_BATCH,),
    ):
        rows = [
            (each.series_uid, number, *ids)
            for each in found
            for number, ids in enumerate([("", ""), *_items(store, each.digest)])
        ]

        def work(cursor: apsw.Cursor, rows: list[tuple[Any, ...]] = rows) -> None:
            for row in rows:
                cursor.execute(
                    "INSERT INTO dicom_series_request (series_uid, number, step_id, procedure_id)"
                    " VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    row,
                )

        store.database.write(work)


def _items(store: DicomStore, digest: str) -> list[tuple[str, str]]:
    with quiet_pydicom():
        header = load(store.blobs.file(digest), specific_tags=["RequestAttributesSequence"])
        return [
            (
                str(item.get("ScheduledProcedureStepID") or ""),
                str(item.get("RequestedProcedureID") or ""),
            )
            for item in header.get("RequestAttributesSequence") or []
        ]
