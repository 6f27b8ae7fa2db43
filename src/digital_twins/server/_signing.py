"""Signed reports in the ``/api`` door: a twin's PDF, who signed it, and the sealed file."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import FastAPI, Query, Response

from digital_twins._errors import ConflictError, InputError, NotFoundError
from digital_twins.auth import NotSignedInError, acting_principal
from digital_twins.server._models import SignatureRequest, SignatureView
from digital_twins.storage import Migration

if TYPE_CHECKING:
    from collections.abc import Callable

    from digital_twins.auth import Authority
    from digital_twins.config import Settings
    from digital_twins.governance import DocumentCertificate, ElectronicSignature, Signatures
    from digital_twins.server._catalogue import Catalogue
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

Version = Annotated[int | None, Query(description="Version of the twin; the latest by default.")]


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
    from digital_twins.governance import DocumentCertificate, Signatures, check_certificate, signature_key

    if authority is None:
        return None
    files = settings.document_certificate, settings.document_key
    certificate = None if files[0] is None or files[1] is None else DocumentCertificate(files[0], files[1])
    if certificate is not None:
        check_certificate(certificate)
    signatures = Signatures(authority, signature_key(services.data_dir))
    return ReportSigning(signatures, services.database, services.blobs, certificate)


def add_signatures(
    app: FastAPI,
    catalogue: Catalogue,
    signing: ReportSigning | None,
    *,
    audit: Callable[[Literal["R", "U"], str, str, str | None], None],
) -> None:
    """Add the routes; on a node where nobody signs in nothing can be signed."""

    def node() -> ReportSigning:
        if signing is None:
            raise InputError(
                "Reports cannot be signed here.",
                "Nobody signs in at this node.",
                "Set authentication = true.",
            )
        return signing

    def found(twin_id: str, version: int | None) -> tuple[str, int, str]:
        view, _ = catalogue.twin(twin_id, version)
        number = int(view["version"])
        return (
            f"twin/{twin_id}/{number}/report.pdf",
            number,
            catalogue.patient(view["patient_key"]).patient_id,
        )

    @app.post(
        "/twins/{twin_id}/report/signatures",
        response_model=SignatureView,
        summary="Sign the report (21 CFR Part 11)",
        tags=["twins"],
    )
    def sign(twin_id: str, asked: SignatureRequest, version: Version = None) -> SignatureView:
        from digital_twins.governance import SigningComponents

        room, (record, number, patient_id) = node(), found(twin_id, version)
        principal = acting_principal()
        if principal is None or not principal.session:
            raise NotSignedInError(
                "The report was not signed.",
                "A token cannot sign.",
                "Sign in at the web pages and sign there.",
            )
        pdf = catalogue.blob(twin_id, number, "pdf")
        shown = SigningComponents(principal.session, asked.name, asked.password, asked.code)
        made = room.signatures.sign(pdf, shown, record=record, meaning=asked.meaning, patient_id=patient_id)
        with contextlib.suppress(ConflictError):  # the page is full: the signature stands without the file
            room.add(pdf, made, patient_id=patient_id)
        return _view(room, made, pdf)

    @app.get(
        "/twins/{twin_id}/report/signatures",
        response_model=list[SignatureView],
        summary="Signatures of the report, each checked",
        tags=["twins"],
    )
    def listed(twin_id: str, version: Version = None) -> list[SignatureView]:
        room, (record, number, patient_id) = node(), found(twin_id, version)
        pdf = catalogue.blob(twin_id, number, "pdf")
        audit("R", "api.twin.signatures", record, patient_id)
        return [_view(room, each, pdf) for each in room.signatures.of(record)]

    @app.get(
        "/twins/{twin_id}/report/signed.pdf",
        response_class=Response,
        summary="The report with its signatures (PAdES)",
        tags=["twins"],
    )
    def signed(twin_id: str, version: Version = None) -> Response:
        room, (record, _, patient_id) = node(), found(twin_id, version)
        files = room.files(record)
        if not files:
            raise NotFoundError(
                "There is no signed file.",
                "Nobody has signed this version, or the node has no document certificate.",
                "Sign it, with document_certificate set.",
            )
        content = room.blobs.get(files[-1][1])
        audit("R", "api.twin.file", record, patient_id)
        headers = {"content-disposition": 'inline; filename="twin-report-signed.pdf"'}
        return Response(content, media_type="application/pdf", headers=headers)


def _view(room: ReportSigning, signature: ElectronicSignature, pdf: bytes) -> SignatureView:
    manifest = signature.manifest
    return SignatureView(
        signature_id=manifest.signature_id,
        meaning=manifest.meaning,
        signer=manifest.signer,
        printed_name=manifest.printed_name,
        signed_utc=datetime.fromisoformat(manifest.signed_utc),
        record=manifest.record,
        record_sha256=manifest.record_sha256,
        in_pdf=manifest.signature_id in {each for each, _ in room.files(manifest.record)},
        problems=list(room.signatures.problems(signature, pdf)),
        document=signature.to_json(),
    )
