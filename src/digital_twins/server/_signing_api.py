"""Signed reports in the ``/api`` door: a twin's PDF, who signed it, and the sealed file."""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import FastAPI, Query, Response

from digital_twins._errors import ConflictError, InputError, NotFoundError
from digital_twins.auth import NotSignedInError, acting_principal
from digital_twins.server._models import (
    SignatureAnswer,
    SignatureBegin,
    SignatureChallenge,
    SignatureRequest,
    SignatureView,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from digital_twins.governance import ElectronicSignature
    from digital_twins.server._catalogue import Catalogue
    from digital_twins.server._signed_reports import ReportSigning

Version = Annotated[int | None, Query(description="Version of the twin; the latest by default.")]


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
        pdf = catalogue.blob(twin_id, number, "pdf")
        shown = SigningComponents(session_of(), asked.name, asked.password, asked.code)
        made = room.signatures.sign(pdf, shown, record=record, meaning=asked.meaning, patient_id=patient_id)
        return _sealed(room, made, pdf, patient_id)

    _with_authenticator(app, catalogue, node, found)

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


def _with_authenticator(
    app: FastAPI,
    catalogue: Catalogue,
    node: Callable[[], ReportSigning],
    found: Callable[[str, int | None], tuple[str, int, str]],
) -> None:
    """Add the two steps of a signature whose second component is an authenticator."""

    @app.post(
        "/twins/{twin_id}/report/signatures/challenge",
        response_model=SignatureChallenge,
        summary="Begin a signature with an authenticator (WebAuthn)",
        tags=["twins"],
    )
    def begin(twin_id: str, asked: SignatureBegin, version: Version = None) -> SignatureChallenge:
        from digital_twins.governance import SigningComponents

        room, (record, number, _) = node(), found(twin_id, version)
        pdf = catalogue.blob(twin_id, number, "pdf")
        shown = SigningComponents(session_of(), asked.name, asked.password)
        waits = room.signatures.prepare(pdf, shown, record=record, meaning=asked.meaning)
        return SignatureChallenge(
            signature_id=waits.signature_id, manifest=waits.manifest.to_json(), options=waits.options
        )

    @app.post(
        "/twins/{twin_id}/report/signatures/answer",
        response_model=SignatureView,
        summary="Sign with the answer of the authenticator",
        tags=["twins"],
    )
    def answer(twin_id: str, given: SignatureAnswer, version: Version = None) -> SignatureView:
        room, (_, number, patient_id) = node(), found(twin_id, version)
        pdf = catalogue.blob(twin_id, number, "pdf")
        made = room.signatures.complete(
            pdf,
            session_of(),
            pending=given.signature_id,
            credential=given.credential,
            patient_id=patient_id,
        )
        return _sealed(room, made, pdf, patient_id)


def may_sign(signing: ReportSigning | None) -> bool:
    """Whether a person acts, in a session, who may sign reports."""
    principal = acting_principal()
    return bool(signing and principal and principal.session and "report.sign" in principal.actions)


def session_of() -> str:
    """Return the digest of the session that acts.

    Raises
    ------
    NotSignedInError
        A token acts, and no person in a session.
    """
    principal = acting_principal()
    if principal is None or not principal.session:
        raise NotSignedInError(
            "Nothing was signed.", "A token cannot sign.", "Sign in at the web pages and sign there."
        )
    return principal.session


def _sealed(room: ReportSigning, made: ElectronicSignature, pdf: bytes, patient_id: str) -> SignatureView:
    with contextlib.suppress(ConflictError):  # the page is full: the signature stands without the file
        room.add(pdf, made, patient_id=patient_id)
    return _view(room, made, pdf)


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
        authenticator=room.signatures.evidence(signature),
    )
