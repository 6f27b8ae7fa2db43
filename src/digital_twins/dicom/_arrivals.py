"""Objects whose index rows may reach the disk before their files: noted, and put right later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins._logging import get_logger
from digital_twins.audit import AuditEvent, stage
from digital_twins.dicom._removal import entry_of, take_out

if TYPE_CHECKING:
    import apsw

    from digital_twins.dicom._store import DicomStore

_BATCH = 64
_LOST = "the node stopped before the object was on disk; its sender was never told that it is stored"
_log = get_logger(__name__)


class Arrivals:
    """Notes of objects in flight, written and removed in the transactions of other objects.

    The note of an object is in the transaction of its index rows. Once file and rows are on disk the note is
    of no more use and goes with a later transaction: at most some are left over, which a start removes.
    """

    def __init__(self) -> None:
        self._landed: dict[str, None] = {}

    def note(self, cursor: apsw.Cursor, digest: str) -> None:
        """Note an object whose file is not yet on disk, and remove old notes."""
        self._landed.pop(digest, None)
        if len(self._landed) >= _BATCH:
            done = [self._landed.popitem()[:1] for _ in range(_BATCH)]
            cursor.executemany("DELETE FROM dicom_arrival WHERE blob = ?", done)
        cursor.execute("INSERT INTO dicom_arrival (blob) VALUES (?) ON CONFLICT DO NOTHING", (digest,))

    def landed(self, digest: str) -> None:
        """Take the note of an object as of no more use."""
        self._landed[digest] = None


def withdraw(cursor: apsw.Cursor, store: DicomStore, digest: str, *, why: str) -> int:
    """Take an object whose file did not reach the disk out of index and queues, and audit that.

    Returns
    -------
    int
        How many objects went: none when the same bytes have come again and are on disk.
    """
    cursor.execute("DELETE FROM dicom_arrival WHERE blob = ?", (digest,))
    if store.blobs.is_proven(digest):
        return 0
    cursor.execute("DELETE FROM dicom_queue_entry WHERE blob = ?", (digest,))
    rows: Any = cursor.execute(
        "SELECT sop_uid, source FROM dicom_instance WHERE blob = ?", (digest,)
    ).fetchall()
    for sop_uid, source in rows:
        entry = entry_of(cursor, sop_uid)
        assert entry is not None
        take_out(cursor, entry)
        event = AuditEvent(
            action="C",
            kind="dicom.store",
            outcome="failure",
            agent=source,
            entity=sop_uid,
            patient=store.pseudonym(entry["dicom_patient"]["patient_id"]),
            detail={"why": why},
        )
        stage(cursor, event)
    return len(rows)


def settle_arrivals(store: DicomStore) -> int:
    """Put right what a power failure may have left: index rows of objects whose files were not yet on disk.

    `start_listener` calls it before the port opens. Whole files are brought to the disk; rows of files that
    are not whole go, with an audit event. None of the latter was ever acknowledged. Other processes may be
    receiving at the same time.

    Returns
    -------
    int
        How many objects were taken out.

    Raises
    ------
    StorageError
        The disk or the database failed.
    """
    with store.database.read() as connection:
        noted: list[str] = [str(row[0]) for row in connection.execute("SELECT blob FROM dicom_arrival")]
    whole = [digest for digest in noted if store.blobs.settle(digest)]
    torn = set(noted).difference(whole)

    def work(cursor: apsw.Cursor) -> int:
        cursor.executemany("DELETE FROM dicom_arrival WHERE blob = ?", [(digest,) for digest in whole])
        return sum(withdraw(cursor, store, digest, why=_LOST) for digest in sorted(torn))

    gone = store.database.write(work) if noted else 0
    if gone:
        _log.warning("dicom.arrivals.withdrawn", count=gone)
    return gone
