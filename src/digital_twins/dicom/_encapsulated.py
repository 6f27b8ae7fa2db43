"""Encapsulated PDF (PS3.3 A.45.1): the report as the archive keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from digital_twins._errors import InputError
from digital_twins.dicom._documents import (
    DocumentIdentity,
    Software,
    as_utf8,
    copy_patient_and_study,
    identify_coding_scheme,
    instance_references,
    same_study,
    stamp,
)
from digital_twins.dicom._twin_codes import SCHEME, TWIN_ANALYSIS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from digital_twins.records import Code


def encapsulate_pdf(
    pdf: bytes,
    sources: Sequence[Dataset],
    *,
    title: str,
    identity: DocumentIdentity,
    software: Software,
    concept: Code = TWIN_ANALYSIS,
) -> Dataset:
    """Wrap a PDF as a DICOM object of the study that its source images belong to.

    Parameters
    ----------
    pdf
        The whole file, beginning with ``%PDF-``.
    sources
        Images and other instances that the document was made from, of one study; patient and study are
        copied from the first.
    title
        Document Title (0042,0010), also shown by archives.
    identity, software
        UIDs, times and the program that made the document.
    concept
        Concept Name Code (0040,A043).

    Returns
    -------
    Dataset
        The object with file meta information; its Encapsulated Document is padded to even length and
        Encapsulated Document Length tells the length without padding.

    Raises
    ------
    InputError
        The bytes are not a PDF, or no source was given.
    ConflictError
        The sources are of different patients or studies.
    """
    if not pdf.startswith(b"%PDF-"):
        raise InputError(
            "The document cannot be encapsulated.",
            "Its bytes do not begin with %PDF-.",
            "Pass the bytes of a PDF file.",
        )
    source = as_utf8([same_study(sources)])[0]
    dataset = Dataset()
    dataset.SOPClassUID = EncapsulatedPDFStorage
    copy_patient_and_study(source, dataset)
    dataset.Modality = "DOC"
    dataset.ConversionType = "WSD"
    stamp(dataset, identity, software)
    dataset.AcquisitionDateTime = ""
    dataset.BurnedInAnnotation = "YES"
    dataset.RecognizableVisualFeatures = "NO"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.DocumentTitle = title
    dataset.ConceptNameCodeSequence = [_code_item(concept)]
    if concept.scheme == SCHEME:
        identify_coding_scheme(dataset)
    dataset.SourceInstanceSequence = instance_references(sources)
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    dataset.EncapsulatedDocumentLength = len(pdf)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def _code_item(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme
    item.CodeMeaning = code.meaning
    return item
