"""Encrypt a data folder that a node filled in clear; the owners of its blobs come from its own tables."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from digital_twins.audit import AuditEvent
from digital_twins.server._datadir import DataFolder
from digital_twins.server._encryption import DATABASE_FILE, open_keys
from digital_twins.server._services import open_services
from digital_twins.storage import COMMON, encrypt_blobs, encrypt_database, rows_sealed

if TYPE_CHECKING:
    from collections.abc import Callable

    from digital_twins.config import Settings
    from digital_twins.storage import Database, KeyRegister

_OWNERS = (
    "SELECT i.blob, p.patient_id FROM dicom_instance i JOIN dicom_series e ON e.id = i.series"
    " JOIN dicom_study s ON s.id = e.study JOIN dicom_patient p ON p.id = s.patient",
    "SELECT q.blob, p.patient_id FROM dicom_queue_entry q JOIN dicom_study s ON s.study_uid = q.study_uid"
    " JOIN dicom_patient p ON p.id = s.patient",
    "SELECT blob, patient_id FROM twin_version",
)


@dataclass(frozen=True, slots=True)
class Encrypted:
    """What was encrypted: blobs, those among them that were damaged before, and whether the database was."""

    blobs: int
    damaged: int
    database: bool


def encrypt_folder(settings: Settings, *, progress: Callable[[int, int], None] | None = None) -> Encrypted:
    """Encrypt the data folder of a node that does not run; broken off, it goes on when it is called again.

    Disks and backups may still hold what the folder was before: wipe or retire them.

    Parameters
    ----------
    settings
        With ``encryption_at_rest`` on.
    progress
        Called with blobs looked at and in all.

    Raises
    ------
    ConflictError
        A node runs on the folder.
    StorageError, KeyServiceError
        As `open_keys`, or the disk is full or failing.
    """
    with closing(DataFolder(settings.data_dir)):
        keys = open_keys(settings, migrating=True)
        assert keys is not None  # the settings say so, or open_keys has raised
        with closing(keys):
            keys.set_migrating(on=True)
            done = _encrypt(settings, keys, progress)
            keys.set_migrating(on=False)
    with closing(
        open_services(
            settings.data_dir,
            boot_id="",
            node=settings.ae_title,
            server=settings.database,
            keys=open_keys(settings),
        )
    ) as services:
        services.audit(AuditEvent("U", "keys.encrypt", "success", "cli", detail={"blobs": done.blobs}))
    return done


def _encrypt(settings: Settings, keys: KeyRegister, progress: Callable[[int, int], None] | None) -> Encrypted:
    folder = settings.data_dir
    if settings.database:  # its columns, when `_seal_rows` opens it
        database = not rows_sealed(settings.database, folder.joinpath(DATABASE_FILE).stem)
    else:
        database = encrypt_database(folder / DATABASE_FILE, keys.database_key(DATABASE_FILE))
    owners = _seal_rows(settings, keys)
    sealed, damaged = encrypt_blobs(
        folder / "blobs", keys, lambda digest: owners.get(digest, COMMON), progress=progress
    )
    shutil.rmtree(folder / "exports", ignore_errors=True)  # short-lived, and in clear
    return Encrypted(sealed, damaged, database)


def _seal_rows(settings: Settings, keys: KeyRegister) -> dict[str, str]:
    """Put rows that are in clear under the keys of their patients, and return the patient of each blob."""
    from digital_twins.dicom import drop_clear_json
    from digital_twins.fhir import seal_resources
    from digital_twins.server._services import open_database

    with closing(open_database(settings.data_dir, server=settings.database, keys=keys)) as database:
        seal_resources(database)
        drop_clear_json(database)
        return _owners_in(database)


def _owners_in(database: Database) -> dict[str, str]:
    with database.read() as connection:
        owners = {str(blob): str(patient) for sql in _OWNERS for blob, patient in connection.execute(sql)}
        views: Any = connection.execute(
            "SELECT t.blobs, p.patient_id FROM server_twin t JOIN server_patient p ON p.key = t.patient_key"
        ).fetchall()
        owners |= {digest: str(patient) for text, patient in views for digest in json.loads(text).values()}
        signed: Any = connection.execute(
            "SELECT r.digest, t.patient_id FROM server_signed_report r JOIN twin_version t"
            " ON r.record = 'twin/' || t.twin_id || '/' || t.version || '/report.pdf'"
        ).fetchall()
        owners |= {str(row[0]): str(row[1]) for row in signed}
        hidden: Any = connection.execute(
            "SELECT blob, entry FROM dicom_withdrawn WHERE entry <> ''"
        ).fetchall()
    owners |= {
        str(blob): str(json.loads(entry)["dicom_patient"]["patient_id"]) for blob, entry in hidden if blob
    }
    return owners
