"""Signed PDF files: PAdES B-B (ETSI EN 319 142-1) with the node's document certificate, by pyHanko."""

from __future__ import annotations

import contextlib
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digital_twins._errors import ConflictError, InputError, MissingExtraError, StorageError
from digital_twins.governance.signatures import _places

if TYPE_CHECKING:
    from collections.abc import Sequence

    from digital_twins.governance.signatures._manifest import ElectronicSignature


@dataclass(frozen=True, slots=True)
class DocumentCertificate:
    """Files of the certificate with which a node signs documents.

    Attributes
    ----------
    certificate
        PEM file with its chain; ``twin certs issue NAME --purpose document`` makes one.
    key
        PEM file of its private key: RSA, as ECDSA signatures need PDF 2.0, which PDF/A-2 forbids.
    """

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class PdfSignature:
    """One signature of a PDF file, checked.

    Attributes
    ----------
    place
        Name of its field.
    printed_name, meaning
        As the signature states them, None where it does not.
    intact
        Whether the bytes that it covers are those that were signed.
    trusted
        Whether its certificate comes from one of the authorities.
    unchanged
        Whether nothing was added to the file since, but further signatures.
    """

    place: str
    printed_name: str | None
    meaning: str | None
    intact: bool
    trusted: bool
    unchanged: bool

    @property
    def ok(self) -> bool:
        """Whether the signature holds."""
        return self.intact and self.trusted and self.unchanged


def check_certificate(certificate: DocumentCertificate) -> None:
    """Load a certificate and its key once, so that a node that cannot sign says so at its start.

    Raises
    ------
    MissingExtraError
        pyHanko is not installed.
    StorageError
        The certificate or its key cannot be used.
    """
    _pyhanko()
    _signer(certificate)


def sign_pdf(pdf: bytes, signature: ElectronicSignature, certificate: DocumentCertificate) -> bytes:
    """Return a PDF file with an electronic signature in it, readable and sealed by the node's certificate.

    The first signature adds a page with six places, tagged for PDF/UA; each signature fills one and changes
    nothing else, so those before it stay valid. PDF 1.7 stays PDF 1.7.

    Parameters
    ----------
    pdf
        The file; the signature is about its bytes, or about those of it before the first signature.
    signature
        What is stated: name, time and meaning are printed and part of what is sealed.
    certificate
        The node's.

    Raises
    ------
    MissingExtraError
        pyHanko is not installed.
    InputError
        The file is no PDF that can be signed.
    ConflictError
        All places are taken.
    StorageError
        The certificate or its key cannot be used.
    """
    signers = _pyhanko()
    from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
    from pyhanko.sign import fields

    signer = _signer(certificate)
    with _readable():
        writer = IncrementalPdfFileWriter(io.BytesIO(pdf), strict=False)
        field = _places.free(writer)
        if field is None and not _places.any_in(writer):
            _places.add_page(writer)
            staged = io.BytesIO()
            writer.write(staged)
            writer = IncrementalPdfFileWriter(staged, strict=False)
            field = _places.free(writer)
    if field is None:
        raise ConflictError(
            "The document was not signed.", "All places are taken.", "Sign the record without its PDF."
        )
    manifest = signature.manifest
    metadata = signers.PdfSignatureMetadata(
        field_name=field,
        name=manifest.printed_name,
        reason=manifest.meaning,
        location=f"record {manifest.record}, signature {manifest.signature_id}",
        subfilter=fields.SigSeedSubFilter.PADES,
        md_algorithm="sha256",
    )
    signed = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        style = _places.stamp_style(signature, Path(folder) / "stamp.pdf")
        maker = signers.PdfSigner(metadata, signer, stamp_style=style)
        maker.sign_pdf(writer, output=signed, existing_fields_only=True)
    return signed.getvalue()


def verify_pdf(pdf: bytes, authorities: Sequence[Path]) -> tuple[PdfSignature, ...]:
    """Return the signatures of a PDF file, checked with pyHanko against the authorities; empty: none.

    Parameters
    ----------
    pdf
        The file.
    authorities
        PEM files of the certificates that are trusted, e.g. ``ca.pem`` of ``twin certs``.

    Raises
    ------
    MissingExtraError
        pyHanko is not installed.
    InputError
        The file is no PDF.
    StorageError
        An authority cannot be read.
    """
    _pyhanko()
    from pyhanko.keys import load_certs_from_pemder
    from pyhanko.pdf_utils.reader import PdfFileReader
    from pyhanko.sign.validation import validate_pdf_signature
    from pyhanko_certvalidator import ValidationContext

    try:
        roots = list(load_certs_from_pemder([str(path) for path in authorities]))
    except (OSError, ValueError) as error:
        raise StorageError(
            "The document was not verified.", "An authority cannot be read.", "Give its PEM file."
        ) from error
    found = []
    with _readable():
        for each in PdfFileReader(io.BytesIO(pdf), strict=False).embedded_regular_signatures:
            status = validate_pdf_signature(each, ValidationContext(trust_roots=roots, allow_fetching=False))
            found.append(
                PdfSignature(
                    place=each.field_name,
                    printed_name=_text(each.sig_object.get("/Name")),
                    meaning=_text(each.sig_object.get("/Reason")),
                    intact=bool(status.intact and status.valid),
                    trusted=bool(status.trusted),
                    unchanged=bool(status.docmdp_ok and status.coverage and _complete(status)),
                )
            )
    return tuple(found)


def _signer(certificate: DocumentCertificate) -> Any:
    from pyhanko.keys import load_certs_from_pemder, load_private_key_from_pemder
    from pyhanko.sign.signers import SimpleSigner
    from pyhanko_certvalidator.registry import SimpleCertificateStore

    try:
        own, *chain = load_certs_from_pemder([str(certificate.certificate)])
        key = load_private_key_from_pemder(str(certificate.key), passphrase=None)
        if own.public_key.algorithm != "rsa":
            raise ValueError("algorithm")
    except (OSError, ValueError) as error:
        raise StorageError(
            "The document was not signed.",
            "The certificate or its key cannot be read, or it is not RSA.",
            "Run: twin certs issue documents --purpose document",
        ) from error
    registry = SimpleCertificateStore()
    registry.register_multiple(chain)
    return SimpleSigner(signing_cert=own, signing_key=key, cert_registry=registry)


def _complete(status: Any) -> bool:
    """Whether the signature covers all of the file up to it, and later changes are signatures only."""
    from pyhanko.sign.diff_analysis import ModificationLevel
    from pyhanko.sign.validation import SignatureCoverageLevel

    if status.coverage == SignatureCoverageLevel.ENTIRE_FILE:
        return True
    grown = status.coverage == SignatureCoverageLevel.ENTIRE_REVISION
    return bool(grown and status.modification_level in {ModificationLevel.NONE, ModificationLevel.LTA_UPDATES,
                                                        ModificationLevel.FORM_FILLING})  # fmt: skip


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _pyhanko() -> Any:
    try:
        from pyhanko.sign import signers
    except ModuleNotFoundError as error:
        raise MissingExtraError("pyhanko", "signing") from error
    return signers


@contextlib.contextmanager
def _readable() -> Any:
    """Turn what pyHanko finds wrong with a file into words."""
    from pyhanko.pdf_utils.misc import PdfError

    try:
        yield
    except (PdfError, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise InputError(
            "The PDF cannot be used.",
            f"It is damaged, encrypted or no PDF ({type(error).__name__}).",
            "Take the file as it was written.",
        ) from error
