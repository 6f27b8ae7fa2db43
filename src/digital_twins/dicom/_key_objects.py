"""Key Object Selection (PS3.3 section A.35.4, PS3.16 TID 2010): a flagged choice of images, in and out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError
from digital_twins.dicom._documents import DocumentIdentity, Software, as_utf8, same_study, stamp
from digital_twins.records import Code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom.dataset import Dataset

_CLASS = "1.2.840.10008.5.1.4.1.1.88.59"
OF_INTEREST = Code("113000", "DCM", "Of Interest")
"""Default title; CID 7010 lists the others, e.g. 113001 "Rejected for Quality Reasons" (IHE IOCM)."""


@dataclass(frozen=True, slots=True)
class KeyObjects:
    """What a key object selection says.

    Attributes
    ----------
    sop_uids
        SOP Instance UIDs of the chosen objects in their order.
    """

    title: Code
    description: str
    sop_uids: tuple[str, ...]


def key_object_selection(
    objects: Sequence[Dataset],
    *,
    identity: DocumentIdentity,
    software: Software,
    title: Code = OF_INTEREST,
    description: str = "",
) -> Dataset:
    """Return a document that points at objects of one study.

    Raises
    ------
    InputError
        No objects were given.
    ConflictError
        They are of different patients or studies.
    """
    import highdicom as hd
    from pydicom.sr.coding import Code as SrCode

    same_study(objects)
    evidence = as_utf8(objects)
    content = hd.ko.KeyObjectSelection(
        document_title=SrCode(title.value, title.scheme, title.meaning),
        referenced_objects=evidence,
        description=description or None,
    )
    document: Any = hd.ko.KeyObjectSelectionDocument(
        evidence=evidence,
        content=content,
        series_instance_uid=identity.series_uid,
        series_number=identity.series_number,
        sop_instance_uid=identity.sop_uid,
        instance_number=identity.instance_number,
        manufacturer=software.manufacturer,
    )
    stamp(document, identity, software)
    dataset: Dataset = document
    return dataset


def read_key_objects(dataset: Dataset) -> KeyObjects:
    """Return title, description and chosen objects; raises InputError for another kind of object."""
    items = dataset.get("ContentSequence") or []
    if str(dataset.get("SOPClassUID")) != _CLASS or not dataset.get("ConceptNameCodeSequence"):
        raise InputError(
            "The object is no Key Object Selection.",
            "Its SOP Class is another one, or it has no document title.",
            "Pass a Key Object Selection Document.",
        )
    title = dataset.ConceptNameCodeSequence[0]
    texts = [str(item.TextValue) for item in items if item.get("ValueType") == "TEXT"]
    uids = [
        str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for item in items
        if item.get("ValueType") in {"IMAGE", "COMPOSITE", "WAVEFORM"} and item.get("ReferencedSOPSequence")
    ]
    code = Code(str(title.CodeValue), str(title.CodingSchemeDesignator), str(title.CodeMeaning))
    return KeyObjects(code, " ".join(texts), tuple(uids))
