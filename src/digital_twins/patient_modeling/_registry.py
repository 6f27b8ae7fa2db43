"""The twin registry: every version of every twin, append-only, readable again after a crash."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from digital_twins._errors import ConflictError, NotFoundError
from digital_twins.storage import Migration

if TYPE_CHECKING:
    from collections.abc import Sequence

    import apsw

    from digital_twins.patient_modeling._twin import PatientTwin
    from digital_twins.storage import BlobStore, Database

MIGRATIONS = (
    Migration(
        "patient_modeling.0001.twin_version",
        """
        CREATE TABLE twin_version (
            twin_id TEXT NOT NULL,
            version INTEGER NOT NULL,
            patient_id TEXT NOT NULL,
            created_utc TEXT NOT NULL,
            content_digest TEXT NOT NULL,
            blob TEXT NOT NULL,
            PRIMARY KEY (twin_id, version)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX twin_version_patient ON twin_version (patient_id, twin_id, version);
        CREATE TRIGGER twin_version_no_update BEFORE UPDATE ON twin_version
            BEGIN SELECT RAISE(ABORT, 'twin versions are append-only'); END;
        CREATE TRIGGER twin_version_no_delete BEFORE DELETE ON twin_version
            BEGIN SELECT RAISE(ABORT, 'twin versions are append-only'); END;
        """,
        protected=("twin_version.patient_id",),
    ),
)
"""Tables of the registry, for ``Database(path, migrations=...)``."""

_NO_DELETE = """CREATE TRIGGER twin_version_no_delete BEFORE DELETE ON twin_version
            BEGIN SELECT RAISE(ABORT, 'twin versions are append-only'); END"""
"""As the migration makes it."""

_INSERT = "INSERT OR IGNORE INTO twin_version VALUES (?, ?, ?, ?, ?, ?)"
_DIGEST = "SELECT content_digest FROM twin_version WHERE twin_id = ? AND version = ?"
_VERSIONS = "SELECT * FROM twin_version WHERE twin_id = ? ORDER BY version"
_LATEST = """
    SELECT * FROM twin_version AS this
    WHERE (patient_id = ?1 OR ?1 IS NULL)
    AND version = (SELECT max(version) FROM twin_version WHERE twin_id = this.twin_id)
    ORDER BY twin_id
"""


@dataclass(frozen=True, slots=True)
class TwinVersion:
    """Row of one version: who, when, and the SHA-256 of content and file."""

    twin_id: str
    version: int
    patient_id: str
    created_utc: datetime
    content_digest: str
    blob: str


class TwinRegistry:
    """Versions of twins in a database (index) and a blob store (files).

    Parameters
    ----------
    database
        Opened with :data:`MIGRATIONS` among its migrations.
    blobs
        Holds one file a version, as :meth:`PatientTwin.save` writes it.
    """

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    def save(self, twin: PatientTwin) -> None:
        """Store the twin's current version durably; saving the same version again changes nothing.

        Raises
        ------
        ConflictError
            When another content is stored under this twin and version.
        """
        # the file format needs the numerics, which a node that only keeps twins never loads
        from digital_twins.patient_modeling._file import to_bytes

        blob = self._blobs.put(to_bytes(twin), owner=twin.patient_id)
        digest = twin.content_digest
        row = (twin.twin_id, twin.version, twin.patient_id, twin.created_utc.isoformat(), digest, blob)

        def work(cursor: apsw.Cursor) -> str:
            cursor.execute(_INSERT, row)
            return str(next(cursor.execute(_DIGEST, row[:2]))[0])

        if self._database.write(work) != digest:
            raise ConflictError(
                f"Version {twin.version} of this twin is already stored with other content.",
                "Versions are append-only, and two calibrations started from the same version.",
                "Load the latest version and calibrate that one.",
            )

    def load(self, twin_id: str, version: int | None = None) -> PatientTwin:
        """Return a version of a twin, the latest by default.

        Raises
        ------
        NotFoundError
            When the twin or version is not stored.
        """
        from digital_twins.patient_modeling._file import from_bytes
        from digital_twins.patient_modeling._twin import PatientTwin

        found = [row for row in self.versions(twin_id) if version in (None, row.version)]
        if not found:
            raise NotFoundError(
                "The twin is not in the registry.",
                "No twin with this id, or not this version of it, was saved.",
                "List what is stored with TwinRegistry.list().",
            )
        return from_bytes(self._blobs.get(found[-1].blob), PatientTwin)

    def erase_in(self, cursor: apsw.Cursor, patient_id: str) -> tuple[str, ...]:
        """Remove every version of a patient's twins inside a transaction and return their files' digests.

        The one exception from "append-only", for the erasure of a patient alone.
        """
        rows: Any = cursor.execute(
            "SELECT blob FROM twin_version WHERE patient_id = ?", (patient_id,)
        ).fetchall()
        if self._database.location is None:
            cursor.execute("DROP TRIGGER twin_version_no_delete")
        else:
            cursor.execute("ALTER TABLE twin_version DISABLE TRIGGER twin_version_no_delete")
        cursor.execute("DELETE FROM twin_version WHERE patient_id = ?", (patient_id,))
        cursor.execute(
            _NO_DELETE
            if self._database.location is None
            else "ALTER TABLE twin_version ENABLE TRIGGER twin_version_no_delete"
        )
        return tuple(str(row[0]) for row in rows)

    def versions(self, twin_id: str) -> Sequence[TwinVersion]:
        """Return the versions of a twin, oldest first."""
        return self._rows(_VERSIONS, twin_id)

    def list(self, patient_id: str | None = None) -> Sequence[TwinVersion]:
        """Return the latest version of every twin, or of a patient's twins."""
        return self._rows(_LATEST, patient_id)

    def _rows(self, query: str, value: str | None) -> Sequence[TwinVersion]:
        with self._database.read() as connection:
            rows = tuple(connection.execute(query, (value,)))
        return [
            TwinVersion(str(t), int(str(v)), str(p), datetime.fromisoformat(str(c)), str(d), str(b))
            for t, v, p, c, d, b in rows
        ]
