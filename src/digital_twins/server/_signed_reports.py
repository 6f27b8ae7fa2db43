"""Signed reports: who signed which state of a twin's PDF, and the sealed files."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from digital_twins.storage import Migration

if TYPE_CHECKING:
    from digital_twins.auth import Authority
    from digital_twins.config import Settings
    from digital_twins.governance import DocumentCertificate, ElectronicSignature, Signatures
    from digital_twins.server._services import Services
    from digital_twins.storage import BlobStore, Database

MIGRATIONS = (
    Migration(
        "server.0005.signed_report",
        """
        CREATE TABLE server_signed_report(
            record TEXT NOT NULL, signature TEXT NOT NULL, place INTEGER NOT NULL, digest TEXT NOT NULL,
            PRIMARY KEY(record, place)
        );
        """,
    ),
)


@dataclass(frozen=True, slots=True)
class ReportSigning:
    """Signatures of a node's reports.

    Attributes
    ----------
    signatures
        Of the node's accounts.
    database, blobs
        Where sealed files are.
    certificate
        What seals PDF files; without it there are none.
    """

    signatures: Signatures
    database: Database
    blobs: BlobStore
    certificate: DocumentCertificate | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, pdf: bytes, signature: ElectronicSignature, *, patient_id: str) -> None:
        """Seal a patient's report with one more signature, on top of those that it has."""
        from digital_twins.governance import sign_pdf

        if self.certificate is None:
            return
        record = signature.manifest.record
        with self.lock:  # two signatures on one state of a file would be two files
            files = self.files(record)
            before = self.blobs.get(files[-1][1]) if files else pdf
            digest = self.blobs.put(sign_pdf(before, signature, self.certificate), owner=patient_id)
            row = (record, signature.manifest.signature_id, len(files) + 1, digest)
            self.database.write(
                lambda cursor: (
                    cursor.execute("INSERT INTO server_signed_report VALUES (?, ?, ?, ?)", row) and None
                )
            )

    def files(self, record: str) -> list[tuple[str, str]]:
        """Return signature id and digest of each sealed state of a report, oldest first."""
        with self.database.read() as connection:
            rows = connection.execute(
                "SELECT signature, digest FROM server_signed_report WHERE record = ? ORDER BY place",
                (record,),
            ).fetchall()
        return [(str(row[0]), str(row[1])) for row in rows]


def report_signing(
    services: Services, settings: Settings, authority: Authority | None
) -> ReportSigning | None:
    """Return the signing of a node; None where nobody signs in."""
    if authority is None:
        return None
    from digital_twins.governance import DocumentCertificate, Signatures, check_certificate, signature_key

    files = settings.document_certificate, settings.document_key
    certificate = None if files[0] is None or files[1] is None else DocumentCertificate(files[0], files[1])
    if certificate is not None:
        check_certificate(certificate)
    signatures = Signatures(authority, signature_key(services.data_dir))
    return ReportSigning(signatures, services.database, services.blobs, certificate)
