"""What the web shows: patients under opaque keys, twin versions as finished views, and what we wrote."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from digital_twins._errors import NotFoundError
from digital_twins.storage import Migration

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import apsw

    from digital_twins.server._models import TwinDetail
    from digital_twins.storage import BlobStore, Database

MIGRATIONS = (
    Migration(
        "server.0001.catalogue",
        """
        CREATE TABLE server_patient(
            key TEXT PRIMARY KEY, patient_id TEXT NOT NULL UNIQUE, summary TEXT NOT NULL DEFAULT '{}',
            waiting_for TEXT, job_id TEXT, updated REAL NOT NULL
        );
        CREATE TABLE server_twin(
            twin_id TEXT NOT NULL, version INTEGER NOT NULL, patient_key TEXT NOT NULL, view TEXT NOT NULL,
            blobs TEXT NOT NULL, created REAL NOT NULL, PRIMARY KEY(twin_id, version)
        );
        CREATE INDEX server_twin_patient ON server_twin(patient_key, created);
        CREATE TABLE server_output(reference TEXT PRIMARY KEY, kind TEXT NOT NULL, created REAL NOT NULL);
        """,
        protected=("server_patient.patient_id", "server_patient.summary", "server_twin.view"),
    ),
)
"""Tables of the web's catalogue. Times are seconds since 1970-01-01 UTC."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A patient of the node; `summary` holds the members of `PatientSummary` that the record gives."""

    key: str
    patient_id: str
    summary: dict[str, Any]
    waiting_for: str | None
    job_id: str | None
    updated_utc: datetime


class Catalogue:
    """Patients and finished twin views over the node's database and blobs.

    Parameters
    ----------
    database
        Opened with this module's ``MIGRATIONS`` among its migrations.
    blobs
        Holds the NIfTI files and the PDF of each version.
    """

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    def patient_key(self, patient_id: str) -> str:
        """Return the opaque key of a PatientID, made at first sight: addresses never name a patient."""

        def work(cursor: apsw.Cursor) -> str:
            cursor.execute(
                "INSERT INTO server_patient(key, patient_id, updated) VALUES (?, ?, ?)"
                " ON CONFLICT(patient_id) DO NOTHING",
                (secrets.token_hex(8), patient_id, time.time()),
            )
            rows = cursor.execute(
                "SELECT key FROM server_patient WHERE patient_id = ?", (patient_id,)
            ).fetchall()
            return str(rows[0][0])

        with self._database.read() as connection:
            row = connection.execute(
                "SELECT key FROM server_patient WHERE patient_id = ?", (patient_id,)
            ).fetchone()
        return str(row[0]) if row else self._database.write(work)

    def note_in(
        self,
        cursor: apsw.Cursor,
        key: str,
        *,
        summary: Mapping[str, Any],
        waiting_for: str | None,
        job_id: str | None,
    ) -> None:
        """Record inside a transaction what is known of a patient, what is missing, and the latest job."""
        cursor.execute(
            "UPDATE server_patient SET summary = ?, waiting_for = ?, job_id = COALESCE(?, job_id),"
            " updated = ? WHERE key = ?",
            (json.dumps(summary, sort_keys=True), waiting_for, job_id, time.time(), key),
        )

    def patients(self) -> list[Entry]:
        """Return every patient, the latest change first."""
        return self._entries("ORDER BY updated DESC", ())

    def patient(self, key: str) -> Entry:
        """Return one patient.

        Raises
        ------
        NotFoundError
            No patient has this key.
        """
        found = self._entries("WHERE key = ?", (key,))
        if not found:
            raise NotFoundError(
                "There is no such patient at this node.",
                "The key in the address is not one that this node gave.",
                "Open the patient from the list at '/'.",
            )
        return found[0]

    def keep_in(self, cursor: apsw.Cursor, view: TwinDetail, blobs: Mapping[str, str]) -> None:
        """Record a finished version inside a transaction; the same version again replaces its view."""
        cursor.execute(
            "INSERT INTO server_twin(twin_id, version, patient_key, view, blobs, created)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (twin_id, version) DO UPDATE SET"
            " patient_key = excluded.patient_key, view = excluded.view, blobs = excluded.blobs,"
            " created = excluded.created",
            (
                view.twin_id,
                view.version,
                view.patient_key,
                view.model_dump_json(),
                json.dumps(dict(blobs)),
                time.time(),
            ),
        )

    def twins(self, patient_key: str) -> list[dict[str, Any]]:
        """Return the views of a patient's twins, newest version first."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT view FROM server_twin WHERE patient_key = ? ORDER BY created DESC, version DESC",
                (patient_key,),
            ).fetchall()
        return [json.loads(str(row[0])) for row in rows]

    def twin_counts(self) -> dict[str, tuple[int, str]]:
        """Return patient key to (number of twins, id of the newest)."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT this.patient_key, (SELECT count(DISTINCT twin_id) FROM server_twin other"
                " WHERE other.patient_key = this.patient_key), this.twin_id FROM server_twin this"
                " WHERE this.created = (SELECT max(created) FROM server_twin other"
                " WHERE other.patient_key = this.patient_key)"
            ).fetchall()
        return {str(row[0]): (int(str(row[1])), str(row[2])) for row in rows}

    def twin(self, twin_id: str, version: int | None = None) -> tuple[dict[str, Any], dict[str, str]]:
        """Return ``(view, blob name to digest)`` of a version, the latest by default.

        Raises
        ------
        NotFoundError
            There is no such twin or version.
        """
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT view, blobs FROM server_twin WHERE twin_id = ?1 AND (?2 IS NULL OR version = ?2)"
                " ORDER BY version DESC LIMIT 1",
                (twin_id, version),
            ).fetchone()
        if row is None:
            raise NotFoundError(
                "There is no such twin version.",
                "No finished build has this id and version.",
                "List the patient's twins at /api/patients/{key}.",
            )
        return json.loads(str(row[0])), json.loads(str(row[1]))

    def blob(self, twin_id: str, version: int | None, name: str) -> bytes:
        """Return a file of a version, e.g. ``"image"``, ``"lesion"``, ``"predicted/observation"``, ``"pdf"``.

        Raises
        ------
        NotFoundError
            The twin or the file does not exist.
        """
        _, blobs = self.twin(twin_id, version)
        if name not in blobs:
            raise NotFoundError(
                "This twin version has no such file.",
                "It was built without it, or the treatment is not one of its own.",
                "Ask /api/twins/{id} which treatments and documents there are.",
            )
        return self._blobs.get(blobs[name])

    def mark_outputs(self, references: Iterable[tuple[str, str]]) -> None:
        """Remember ``(SOP Instance UID or FHIR reference, kind)`` as our own work, never a twin's input."""
        rows = [(reference, kind, time.time()) for reference, kind in references]
        self._database.write(
            lambda cursor: (
                cursor.executemany("INSERT OR IGNORE INTO server_output VALUES (?, ?, ?)", rows) and None
            )
        )

    def outputs(self) -> frozenset[str]:
        """Return the references of everything that this node wrote itself."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT reference FROM server_output").fetchall()
        return frozenset(str(row[0]) for row in rows)

    def _entries(self, tail: str, values: tuple[str, ...]) -> list[Entry]:
        with self._database.read() as connection:
            rows: list[Any] = connection.execute(
                "SELECT key, patient_id, summary, waiting_for, job_id, updated FROM server_patient " + tail,  # noqa: S608  (constants of this class)  # nosec B608
                values,
            ).fetchall()
        return [
            Entry(row[0], row[1], json.loads(row[2]), row[3], row[4], datetime.fromtimestamp(row[5], tz=UTC))
            for row in rows
        ]
