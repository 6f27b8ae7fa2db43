"""What security and compliance officers ask for: encrypted twins, and data without their patients."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.governance._compliance import ComplianceManager as ComplianceManager
    from digital_twins.governance._compliance_report import compliance_pdf as compliance_pdf
    from digital_twins.governance._hindcast import Hindcast as Hindcast, hindcast as hindcast
    from digital_twins.governance._model_card import ModelCard as ModelCard
    from digital_twins.governance._model_documentation import ModelDocumentation as ModelDocumentation
    from digital_twins.governance._security import (
        EncryptedTwin as EncryptedTwin,
        SecurityManager as SecurityManager,
    )
    from digital_twins.governance._site_documents import (
        security_answers as security_answers,
        write_security_documents as write_security_documents,
    )
    from digital_twins.governance._software_bill import software_bill as software_bill
    from digital_twins.governance.deidentification._fhir import (
        FhirDeidentifier as FhirDeidentifier,
        known_identifiers as known_identifiers,
    )
    from digital_twins.governance.deidentification._fhir_folder import (
        FhirFolderReport as FhirFolderReport,
        deidentify_fhir_folder as deidentify_fhir_folder,
    )
    from digital_twins.governance.deidentification._folder import (
        FolderReport as FolderReport,
        deidentify_folder as deidentify_folder,
    )
    from digital_twins.governance.deidentification._identity import DeidentificationKey as DeidentificationKey
    from digital_twins.governance.deidentification._k_anonymity import (
        KAnonymity as KAnonymity,
        k_anonymity as k_anonymity,
    )
    from digital_twins.governance.deidentification._known_identifiers import (
        KnownIdentifiers as KnownIdentifiers,
    )
    from digital_twins.governance.deidentification._object import (
        DicomDeidentifier as DicomDeidentifier,
        Identity as Identity,
        PixelsMayIdentifyError as PixelsMayIdentifyError,
    )
    from digital_twins.governance.deidentification._pixel_text import BurnedInText as BurnedInText
    from digital_twins.governance.deidentification._policy import Dates as Dates, Policy as Policy
    from digital_twins.governance.deidentification._table_file import (
        read_reidentification_table as read_reidentification_table,
        write_reidentification_table as write_reidentification_table,
    )
    from digital_twins.governance.deidentification._text import (
        CleanText as CleanText,
        deidentify_text as deidentify_text,
    )
    from digital_twins.governance.signatures._manifest import (
        ElectronicSignature as ElectronicSignature,
        Meaning as Meaning,
        SignatureManifest as SignatureManifest,
        signature_problems as signature_problems,
    )
    from digital_twins.governance.signatures._pades import (
        DocumentCertificate as DocumentCertificate,
        PdfSignature as PdfSignature,
        check_certificate as check_certificate,
        sign_pdf as sign_pdf,
        verify_pdf as verify_pdf,
    )
    from digital_twins.governance.signatures._refusal import SignatureRequiredError as SignatureRequiredError
    from digital_twins.governance.signatures._signing import (
        PendingSignature as PendingSignature,
        Signatures as Signatures,
        SigningComponents as SigningComponents,
        signature_key as signature_key,
    )
    from digital_twins.governance.signatures._store import SIGNATURE_MIGRATIONS as SIGNATURE_MIGRATIONS

_DEID = "digital_twins.governance.deidentification"
_SIGN = "digital_twins.governance.signatures"
_WHERE = {
    "ComplianceManager": "digital_twins.governance._compliance",
    "compliance_pdf": "digital_twins.governance._compliance_report",
    **dict.fromkeys(
        ("ElectronicSignature", "Meaning", "SignatureManifest", "signature_problems"), f"{_SIGN}._manifest"
    ),
    **dict.fromkeys(
        ("DocumentCertificate", "PdfSignature", "check_certificate", "sign_pdf", "verify_pdf"),
        f"{_SIGN}._pades",
    ),
    "SignatureRequiredError": f"{_SIGN}._refusal",
    **dict.fromkeys(
        ("PendingSignature", "Signatures", "SigningComponents", "signature_key"), f"{_SIGN}._signing"
    ),
    "SIGNATURE_MIGRATIONS": f"{_SIGN}._store",
    **dict.fromkeys(("Hindcast", "hindcast"), "digital_twins.governance._hindcast"),
    "ModelCard": "digital_twins.governance._model_card",
    "ModelDocumentation": "digital_twins.governance._model_documentation",
    **dict.fromkeys(
        ("security_answers", "write_security_documents"), "digital_twins.governance._site_documents"
    ),
    "software_bill": "digital_twins.governance._software_bill",
    **dict.fromkeys(("EncryptedTwin", "SecurityManager"), "digital_twins.governance._security"),
    **dict.fromkeys(("FhirDeidentifier", "known_identifiers"), f"{_DEID}._fhir"),
    **dict.fromkeys(("FhirFolderReport", "deidentify_fhir_folder"), f"{_DEID}._fhir_folder"),
    "KnownIdentifiers": f"{_DEID}._known_identifiers",
    **dict.fromkeys(("CleanText", "deidentify_text"), f"{_DEID}._text"),
    **dict.fromkeys(("FolderReport", "deidentify_folder"), f"{_DEID}._folder"),
    "DeidentificationKey": f"{_DEID}._identity",
    **dict.fromkeys(("KAnonymity", "k_anonymity"), f"{_DEID}._k_anonymity"),
    **dict.fromkeys(("DicomDeidentifier", "Identity", "PixelsMayIdentifyError"), f"{_DEID}._object"),
    "BurnedInText": f"{_DEID}._pixel_text",
    **dict.fromkeys(("Dates", "Policy"), f"{_DEID}._policy"),
    **dict.fromkeys(("read_reidentification_table", "write_reidentification_table"), f"{_DEID}._table_file"),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
