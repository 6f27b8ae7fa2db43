"""Request Attributes Sequence (0040,0275) in the index: read from a series when a search first needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins._errors import StorageError
from digital_twins._logging import get_logger
from digital_twins.dicom._dataset_file import load
from digital_twins.dicom._query import REQUEST_COLUMNS
from digital_twins.dicom._store import select_instances
from digital_twins.dicom._text import quiet_pydicom

if TYPE_CHECKING:
    from collections.abc import Sequence

    import apsw

    from digital_twins.dicom._store import DicomStore

_TAGS = {"00400275": "RequestAttributesSequence", "00400009": "ScheduledProcedureStepID"}
_TAGS["00401001"] = "RequestedProcedureID"
_BATCH = 500
_UNREAD = (
    " WHERE i.id IN (SELECT min(y.id) FROM dicom_series x JOIN dicom_instance y ON y.series = x.id"
    " WHERE NOT EXISTS (SELECT 1 FROM dicom_series_request r"
    " WHERE r.series_uid = x.series_uid AND r.number = 0)"
)
"""Chooses the first object of each series whose sequence was not read; more conditions may follow."""
_log = get_logger(__name__)


def request_key(name: str) -> str | None:
    """Return the matching key that a parameter means, by keywords or tags; None for another one."""
    path = ".".join(_TAGS.get(part.upper(), part) for part in name.split("."))
    return path if path in REQUEST_COLUMNS else None


def read_requests(store: DicomStore) -> None:
    """Read the sequence of every series that was not read yet, from its first object."""
    while _read(store, f"{_UNREAD} GROUP BY x.id LIMIT ?)", (_BATCH,)):
        pass


def requests_of(store: DicomStore, series_uids: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """Return the step and procedure IDs of the requests that the named series answer, where they say any."""
    found: dict[str, list[tuple[str, str]]] = {}
    for start in range(0, len(series_uids), _BATCH):
        some = tuple(series_uids[start : start + _BATCH])
        named = f"series_uid IN ({', '.join('?' * len(some))})"
        _read(store, f"{_UNREAD} AND x.{named} GROUP BY x.id)", some)
        with store.database.read() as connection:
            rows: list[Any] = connection.execute(
                "SELECT series_uid, step_id, procedure_id FROM dicom_series_request"  # noqa: S608  (marks only)  # nosec B608
                f" WHERE number > 0 AND {named} ORDER BY series_uid, number",
                some,
            ).fetchall()
        for series_uid, step_id, procedure_id in rows:
            found.setdefault(series_uid, []).append((step_id, procedure_id))
    return found


def _read(store: DicomStore, where: str, values: Sequence[str | int]) -> int:
    """Read the sequence from the objects that a condition chooses, and return how many series were read."""
    found = [(each, _items(store, each.digest)) for each in select_instances(store, where, values)]
    known = [(each.series_uid, items) for each, items in found if items is not None]
    rows = [
        (series_uid, number, *ids)
        for series_uid, items in known
        for number, ids in enumerate([("", ""), *items])
    ]

    def work(cursor: apsw.Cursor) -> None:
        for row in rows:
            cursor.execute(
                "INSERT INTO dicom_series_request (series_uid, number, step_id, procedure_id)"
                " VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                row,
            )

    if rows:
        store.database.write(work)
    return len(known)


def _items(store: DicomStore, digest: str) -> list[tuple[str, str]] | None:
    """Return the IDs that an object says; None where the disk failed, so that the next search tries again."""
    try:
        with quiet_pydicom():
            header = load(store.blobs.file(digest), specific_tags=["RequestAttributesSequence"])
            return [
                (
                    str(item.get("ScheduledProcedureStepID") or ""),
                    str(item.get("RequestedProcedureID") or ""),
                )
                for item in header.get("RequestAttributesSequence") or []
            ]
    except (StorageError, OSError) as error:
        _log.warning("dicom.requests.failed", error=type(error).__name__)
        return None
    except Exception as error:  # noqa: BLE001  (edge: one odd foreign object must not break every search)
        _log.warning("dicom.requests.failed", error=type(error).__name__)
        return []
