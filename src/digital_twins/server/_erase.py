"""Erase one patient: destroy the key, so that nobody can read the data, and remove what names them."""

from __future__ import annotations

import json
import shutil
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from digital_twins._errors import ConflictError, InputError, NotFoundError
from digital_twins.audit import AuditEvent
from digital_twins.storage import ErasedError, Migration

if TYPE_CHECKING:
    from collections.abc import Iterable

    import apsw

    from digital_twins.dicom import DicomFootprint
    from digital_twins.fhir import FhirFootprint
    from digital_twins.server._services import Services
    from digital_twins.storage import KeyRegister

MIGRATIONS = (
    Migration(
        "server.0004.erasure",
        """
        CREATE TABLE server_erasure(
            id TEXT PRIMARY KEY, tags TEXT NOT NULL, blobs TEXT NOT NULL, reason TEXT NOT NULL,
            agent TEXT NOT NULL, began_utc TEXT NOT NULL, done_utc TEXT NOT NULL DEFAULT ''
        );
        """,
    ),
)
"""Erasures; the patient is a keyed hash of the register of keys, `blobs` are files that have still to go."""

_DAYS_A_YEAR = 365.25


@dataclass(frozen=True, slots=True)
class Erasure:
    """What an erasure did.

    Attributes
    ----------
    erasure
        Its id, which the audit event names.
    keys_destroyed
        Data keys of the patient, whose blobs nobody can read any more.
    studies, objects, resources, twins, files
        How many were removed; files are blobs.
    shared_files
        Blobs that are still readable since another patient owns the same bytes.
    shared_resources
        FHIR resources that name other patients too (a Group, a List) and stay: edit them.
    provider_keys_kept
        Wrapping keys that the provider did not destroy. While one lives, an older copy of keys.sqlite still
        opens the data in a backup.
    """

    erasure: str
    keys_destroyed: int
    studies: int
    objects: int
    resources: int
    twins: int
    files: int
    shared_files: int
    shared_resources: tuple[str, ...]
    provider_keys_kept: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    dicom: DicomFootprint
    fhir: FhirFootprint
    twins: tuple[tuple[str, str], ...]
    """Twin id and version as text."""
    blobs: frozenset[str]
    keys: tuple[str, ...]
    """Keys of the patient in the catalogue."""


def erase_patient(
    services: Services, patient_id: str, *, reason: str, agent: str, retention_years: float
) -> Erasure:
    """Erase a patient from an encrypted data folder whose node does not run; repeat it if it is interrupted.

    In one transaction go all rows of the patient and comes the audit event; then the patient's keys are
    destroyed, all other keys are wrapped under a new root key, and the provider's old key is destroyed, so
    that an older copy of the register opens nothing. The audit trail holds keyed pseudonyms and stays whole.

    Parameters
    ----------
    services
        Opened with keys, by whoever holds the data folder.
    patient_id
        Medical record number, equal to PatientID in DICOM and an identifier of the FHIR Patient.
    reason
        Why, for the audit trail: no patient data.
    agent
        Who.
    retention_years
        The setting ``record_retention_years``.

    Raises
    ------
    InputError
        The folder is not encrypted, or no reason is given.
    ConflictError
        A legal hold or the retention period forbids it (audited), or the number stands for several patients.
    NotFoundError
        Nothing is stored under that number.
    """
    keys = _checked(services, reason)
    finish_erasures(services)
    with services.database.read() as connection:
        found = _find(services, connection.cursor(), patient_id)
    if not (found.dicom.study_uids or found.dicom.sop_uids or found.fhir.rids or found.twins or found.keys):
        raise NotFoundError(
            "There is nothing to erase.",
            "No record and no image is stored under that number.",
            "Give the medical record number (PatientID) as it is stored.",
        )
    _refuse(services, found, patient_id, agent=agent, years=retention_years)
    erasure = str(uuid.uuid4())
    owners = (*found.dicom.patient_ids, *found.fhir.owners)
    tags = [keys.tag(owner) for owner in owners]
    event = AuditEvent(
        "D",
        "patient.erase",
        "success",
        agent,
        entity=f"erasure/{erasure}",
        patient=services.auditor.patient(patient_id),
        detail={"reason": reason, "studies": len(found.dicom.study_uids), "resources": len(found.fhir.rids)},
    )

    def work(cursor: apsw.Cursor) -> None:
        _remove_rows(services, cursor, found)
        cursor.execute(
            "INSERT INTO server_erasure(id, tags, blobs, reason, agent, began_utc) VALUES (?, ?, ?, ?, ?, ?)",
            (erasure, json.dumps(tags), json.dumps(sorted(found.blobs)), reason, agent, _now()),
        )
        services.auditor.stage(cursor, event)

    services.database.write(work)
    destroyed, files, shared, kept = _finish(services, keys, erasure, tags, sorted(found.blobs))
    return Erasure(
        erasure,
        destroyed,
        len(found.dicom.study_uids),
        len(found.dicom.sop_uids),
        len(found.fhir.rids),
        len(found.twins),
        files,
        shared,
        found.fhir.shared,
        kept,
    )


def finish_erasures(services: Services) -> int:
    """Do what erasures that were interrupted still have to do, and return how many there were."""
    if services.keys is None:
        return 0
    with services.database.read() as connection:
        rows: Any = connection.execute(
            "SELECT id, tags, blobs FROM server_erasure WHERE done_utc = ''"
        ).fetchall()
    for erasure, tags, blobs in rows:
        _finish(services, services.keys, str(erasure), json.loads(tags), json.loads(blobs))
    return len(rows)


def _checked(services: Services, reason: str) -> KeyRegister:
    if services.keys is None:
        raise InputError(
            "The patient is not erased.",
            "This data folder is not encrypted: nothing that is deleted from it is gone from its backups.",
            "Set encryption_at_rest, run 'twin keys encrypt', and make new backups.",
        )
    if not reason.strip():
        raise InputError("The patient is not erased.", "There is no reason.", "Give --reason.")
    return services.keys


def _find(services: Services, cursor: apsw.Cursor, patient_id: str) -> _Found:
    from digital_twins.dicom import dicom_footprint
    from digital_twins.fhir import fhir_footprint

    images = dicom_footprint(cursor, patient_id)
    resources = fhir_footprint(cursor, images.patient_ids)
    rows = _rows(cursor, "SELECT twin_id, version, blob FROM twin_version WHERE patient_id = ?", images)
    twins = tuple((str(twin), str(version)) for twin, version, _ in rows)
    blobs = set(images.blobs) | {str(blob) for _, _, blob in rows}
    keys = [
        str(key) for (key,) in _rows(cursor, "SELECT key FROM server_patient WHERE patient_id = ?", images)
    ]
    for key in keys:
        views: Any = cursor.execute("SELECT blobs FROM server_twin WHERE patient_key = ?", (key,)).fetchall()
        blobs |= {digest for (text,) in views for digest in json.loads(text).values()}
    for twin, version in twins:
        signed: Any = cursor.execute(
            "SELECT digest FROM server_signed_report WHERE record = ?", (f"twin/{twin}/{version}/report.pdf",)
        ).fetchall()
        blobs |= {str(row[0]) for row in signed}
    return _Found(images, resources, twins, frozenset(blobs), tuple(keys))


def _rows(cursor: apsw.Cursor, sql: str, images: DicomFootprint) -> list[Any]:
    return [row for each in images.patient_ids for row in cursor.execute(sql, (each,)).fetchall()]


def _refuse(services: Services, found: _Found, patient_id: str, *, agent: str, years: float) -> None:
    why = ""
    newest = _newest(found)
    until = newest + timedelta(days=years * _DAYS_A_YEAR) if newest is not None else None
    if found.dicom.held:
        why, fix = (
            f"{len(found.dicom.held)} of the patient's studies are under legal hold.",
            "Ask who set it (twin dicom holds); end it with 'twin dicom release' once it no longer applies.",
        )
    elif years and until is not None and until > datetime.now(tz=UTC):
        why, fix = (
            f"The records must be kept until {until:%Y-%m-%d} (record_retention_years = {years:g}).",
            "Wait until then, or correct record_retention_years if that duty does not apply.",
        )
    if not why:
        return
    event = AuditEvent(
        "D",
        "patient.erase",
        "refused",
        agent,
        entity="erasure/refused",
        patient=services.auditor.patient(patient_id),
        detail={"why": "legal hold" if found.dicom.held else "retention"},
    )
    services.audit(event)
    raise ConflictError("The patient is not erased.", why, fix)


def _newest(found: _Found) -> datetime | None:
    times = []
    if found.dicom.last_received_utc:
        times.append(datetime.fromisoformat(found.dicom.last_received_utc))
    if found.fhir.last_updated_us:
        times.append(datetime.fromtimestamp(found.fhir.last_updated_us / 1e6, tz=UTC))
    return max(times, default=None)


def _remove_rows(services: Services, cursor: apsw.Cursor, found: _Found) -> None:
    from digital_twins.dicom import erase_dicom_in
    from digital_twins.fhir import erase_fhir_in

    erase_dicom_in(cursor, found.dicom)
    erase_fhir_in(cursor, found.fhir)
    for each in found.dicom.patient_ids:
        services.registry.erase_in(cursor, each)
        services.beds.erase_in(cursor, each)
        cursor.execute("DELETE FROM server_patient WHERE patient_id = ?", (each,))
    for key in found.keys:
        cursor.execute("DELETE FROM server_twin WHERE patient_key = ?", (key,))
    for twin, version in found.twins:
        for table in ("server_twin_input", "server_stale"):
            cursor.execute(
                f"DELETE FROM {table} WHERE twin_id = ? AND version = ?",  # noqa: S608  (own names)  # nosec B608
                (twin, int(version)),
            )
        cursor.execute(
            "DELETE FROM server_signed_report WHERE record = ?", (f"twin/{twin}/{version}/report.pdf",)
        )
    for reference in (*found.dicom.sop_uids, *found.fhir.references):
        cursor.execute("DELETE FROM server_output WHERE reference = ?", (reference,))
    _remove_jobs(cursor, found)


def _remove_jobs(cursor: apsw.Cursor, found: _Found) -> None:
    """Remove jobs that name the patient, and every export, whose files are removed too."""
    from digital_twins.fhir.bulk import EXPORT

    needles = {*found.dicom.patient_ids, *found.keys, *found.fhir.references}
    needles |= {*found.dicom.study_uids, *found.dicom.sop_uids}
    rows: Any = cursor.execute("SELECT job_id, kind, payload, result FROM job").fetchall()
    for job_id, kind, payload, result in rows:
        texts = set(_texts(json.loads(payload))) | set(_texts(json.loads(result) if result else None))
        if kind == EXPORT or texts & needles:
            cursor.execute("DELETE FROM job WHERE job_id = ?", (job_id,))


def _texts(value: object) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, each in value.items():
            yield name
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def _finish(
    services: Services, keys: KeyRegister, erasure: str, tags: list[str], blobs: list[str]
) -> tuple[int, int, int, tuple[str, ...]]:
    """Destroy the keys, then the files; each step may be done again."""
    destroyed = keys.destroy(tags)
    rotation = keys.rotate(destroy_old=True)
    removed = shared = 0
    for digest in blobs:
        try:
            services.blobs.file(digest).reader().close()
        except ErasedError:
            with suppress(FileNotFoundError):
                services.blobs.path(digest).unlink()
            removed += 1
        except NotFoundError:
            continue  # it went before
        else:
            shared += 1
    shutil.rmtree(services.exports.folder, ignore_errors=True)
    services.database.write(
        lambda cursor: (
            cursor.execute(
                "UPDATE server_erasure SET done_utc = ?, blobs = '[]' WHERE id = ?", (_now(), erasure)
            )
            and None
        )
    )
    return destroyed, removed, shared, rotation.kept


def _now() -> str:
    return datetime.now(tz=UTC).isoformat(timespec="seconds")
