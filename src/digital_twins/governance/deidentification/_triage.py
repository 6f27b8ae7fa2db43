"""Which images may show text or a face: decided before anything of them leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from digital_twins.governance.deidentification._word_list import word_list

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Screens and cameras burn names in: ultrasound, secondary capture, endoscopy, photographs, scanned paper.
_MODALITIES_WITH_TEXT = frozenset(
    ["US", "IVUS", "XC", "ES", "OT", "SC", "GM", "SM", "OP", "ECG", "HC", "DOC", "BDUS", "EPS", "PX", "DG"]
)
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_VIDEO_OR_PHOTOGRAPH = "1.2.840.10008.5.1.4.1.1.77.1."
_CROSS_SECTIONS = frozenset(["CT", "MR", "PT"])
_NOT_A_HEAD = word_list("not_a_head")


def may_show_text(dataset: Dataset) -> str | None:
    """Tell why pixels may hold burned-in text, or None where modality and origin speak against it.

    PS3.3 C.7.6.1.1: BurnedInAnnotation is not always filled, so its absence clears nothing.
    """
    if "PixelData" not in dataset:
        return None
    if str(dataset.get("BurnedInAnnotation", "")) == "YES":
        return "BurnedInAnnotation is YES"
    sop_class = str(dataset.get("SOPClassUID", ""))
    if sop_class.startswith(_SECONDARY_CAPTURE):
        return "secondary capture"
    if sop_class.startswith(_VIDEO_OR_PHOTOGRAPH):
        return "visible light photograph or video"
    modality = str(dataset.get("Modality", ""))
    if modality in _MODALITIES_WITH_TEXT or not modality:
        return f"modality {modality or 'unknown'}"
    if "SCREEN SAVE" in _image_type(dataset) or str(dataset.get("ConversionType", "")):
        return "screen save or converted image"
    return None


def may_show_a_face(dataset: Dataset) -> bool:
    """Tell whether a face can be rendered: a cross-section of the head, or of a part that is not named."""
    if str(dataset.get("Modality", "")) not in _CROSS_SECTIONS or "PixelData" not in dataset:
        return False
    part = str(dataset.get("BodyPartExamined", "")).replace(" ", "").upper()
    return part not in _NOT_A_HEAD


def _image_type(dataset: Dataset) -> str:
    value = dataset.get("ImageType", "")
    return " ".join(value) if not isinstance(value, str) else value
