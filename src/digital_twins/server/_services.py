"""The rooms that node and worker share, opened on one data folder."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from digital_twins._errors import StorageError
from digital_twins.server._encryption import DATABASE_FILE, database_key
from digital_twins.server._metrics import Metrics
from digital_twins.server._peers import PeerBook

if TYPE_CHECKING:
    from pathlib import Path

    from digital_twins.audit import AuditEvent, Auditor
    from digital_twins.dicom import DicomStore, PrefetchQueue, Rejections, SendQueues
    from digital_twins.fhir import FhirStore, PackageParameters
    from digital_twins.fhir.bulk import BulkExports
    from digital_twins.fhir.validation import ResourceValidation
    from digital_twins.patient_modeling import TwinRegistry
    from digital_twins.records import BedBook
    from digital_twins.server._catalogue import Catalogue
    from digital_twins.server._stale import StaleMarks
    from digital_twins.storage import BlobStore, Database, JobQueue, KeyRegister, Migration

BUILD = "twin.build"
"""Kind of the jobs that build a twin or calibrate it anew."""

METADATA = "dicom.metadata"
"""Kind of the jobs that write the DICOM JSON of a stable study, so that its first viewer need not wait."""


@dataclass(slots=True)
class Services:
    """Everything on the data folder; made by `open_services`, ended by `close`."""

    data_dir: Path
    database: Database
    blobs: BlobStore
    jobs: JobQueue
    catalogue: Catalogue
    dicom: DicomStore
    queues: SendQueues
    fhir: FhirStore
    validation: ResourceValidation
    parameters: PackageParameters
    exports: BulkExports
    beds: BedBook
    registry: TwinRegistry
    auditor: Auditor
    stale: StaleMarks
    rejections: Rejections
    prefetch: PrefetchQueue
    peers: PeerBook = field(default_factory=PeerBook)
    metrics: Metrics = field(default_factory=Metrics)
    keys: KeyRegister | None = None
    """Of an encrypted data folder."""
    results_to: str = ""
    """``HOST:PORT`` that gets each report as HL7 v2; empty: nobody."""

    def audit(self, event: AuditEvent) -> None:
        """Make one audit event durable by way of the outbox."""
        self.database.write(lambda cursor: self.auditor.stage(cursor, event))

    def job_counts(self) -> dict[str, float]:
        """Return the number of jobs by state, with labels for the metrics."""
        with self.database.read() as connection:
            rows = connection.execute("SELECT state, count(*) FROM job GROUP BY state").fetchall()
        return {f'state="{state}"': float(str(count)) for state, count in rows}

    def close(self) -> None:
        """Close the database after the writes that wait, the events of the last reads among them."""
        with suppress(StorageError):  # a disk that is full to the end: the log says what is lost
            self.fhir.close()
        self.database.close()
        if self.keys is not None:
            self.keys.close()


def open_services(
    data_dir: Path,
    *,
    boot_id: str,
    node: str = "node",
    server: str = "",
    keys: KeyRegister | None = None,
) -> Services:
    """Open the database, the blobs and the rooms over them.

    Parameters
    ----------
    data_dir
        Folder of the node; `DataFolder` holds it.
    boot_id
        Names this start of the node, for the job queue.
    node
        Names the node in the audit trail, e.g. its AE title.
    server
        URL of the PostgreSQL server that keeps the database; empty: SQLite.
    keys
        Of an encrypted data folder, from `open_keys`; closed with the services.

    Raises
    ------
    StorageError
        The folder cannot be written.
    """
    from digital_twins import audit, dicom, fhir, patient_modeling, records, storage
    from digital_twins.fhir.bulk import BulkExports
    from digital_twins.fhir.validation import PACKAGES_FOLDER, ResourceValidation
    from digital_twins.server import _catalogue, _stale

    database = open_database(data_dir, server=server, keys=keys)
    blobs = storage.BlobStore(data_dir / "blobs", keys=keys)
    auditor = audit.Auditor(node, audit.load_pseudonym_key(data_dir / "pseudonym.key"))
    store = dicom.DicomStore(database, blobs, pseudonym=auditor.patient)
    validation = ResourceValidation(data_dir / PACKAGES_FOLDER)
    parameters = fhir.PackageParameters(data_dir / PACKAGES_FOLDER, database)
    jobs = storage.JobQueue(database, boot_id=boot_id)
    return Services(
        data_dir=data_dir,
        database=database,
        blobs=blobs,
        jobs=jobs,
        catalogue=_catalogue.Catalogue(database, blobs),
        dicom=store,
        queues=dicom.SendQueues(database),
        fhir=fhir.FhirStore(
            database,
            pseudonym=auditor.patient,
            validate=validation.check,
            systems=lambda: validation.validator.terminology,
            parameters=parameters,
        ),
        validation=validation,
        parameters=parameters,
        beds=records.BedBook(database),
        exports=BulkExports(database, jobs, data_dir / "exports", parameters=parameters, keys=keys),
        registry=patient_modeling.TwinRegistry(database, blobs),
        auditor=auditor,
        stale=_stale.StaleMarks(database),
        rejections=dicom.Rejections(store),
        prefetch=dicom.PrefetchQueue(store, ()),
        keys=keys,
    )


LOG_BYTES = 8 * 1024 * 1024
"""Kept size of the database's log: the commit of an object then overwrites what is there (see `Database`)."""


def open_database(data_dir: Path, *, server: str, keys: KeyRegister | None) -> Database:
    """Open the database with the tables of every room; parameters as for `open_services`."""
    from digital_twins import storage

    return storage.Database(
        data_dir / DATABASE_FILE,
        migrations=every_migration(),
        server=server,
        key=database_key(keys, server),
        log_bytes=LOG_BYTES,
        keys=keys,
    )


def every_migration() -> tuple[Migration, ...]:
    """Return the schema steps of every room."""
    from digital_twins import audit, auth, dicom, fhir, patient_modeling, records, storage
    from digital_twins.fhir import subscriptions
    from digital_twins.governance import SIGNATURE_MIGRATIONS
    from digital_twins.server import _catalogue, _erase, _signed_reports, _stale

    return (
        *storage.MIGRATIONS,
        *audit.OUTBOX_MIGRATIONS,
        *auth.MIGRATIONS,
        *dicom.MIGRATIONS,
        *fhir.MIGRATIONS,
        *subscriptions.MIGRATIONS,
        *patient_modeling.MIGRATIONS,
        *records.BED_MIGRATIONS,
        *_catalogue.MIGRATIONS,
        *_stale.MIGRATIONS,
        *SIGNATURE_MIGRATIONS,
        *_signed_reports.MIGRATIONS,
        *_erase.MIGRATIONS,
    )
