"""One DICOM object without its patient: cleaned elements, a new file header, and how it was done."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID

from digital_twins._errors import InputError
from digital_twins.governance.deidentification._dataset import Cleaner, table_actions
from digital_twins.governance.deidentification._known import known_words
from digital_twins.governance.deidentification._policy import CLEAN_PIXELS, Dates, Policy
from digital_twins.governance.deidentification._table import profile_table
from digital_twins.governance.deidentification._triage import may_show_a_face, may_show_text

if TYPE_CHECKING:
    from digital_twins.governance.deidentification._identity import DeidentificationKey
    from digital_twins.governance.deidentification._pixel_text import BurnedInText
    from digital_twins.governance.deidentification._policy import Action

# Our own implementation class, under the root for UUIDs (PS3.5 B.2).
_IMPLEMENTATION = UID("2.25.302486132174208134129014321890243587261")
_TEMPORAL = {Dates.SHIFT: "MODIFIED", Dates.REMOVE: "REMOVED", Dates.KEEP: "UNMODIFIED"}
_DICOMDIR = "1.2.840.10008.1.3.10"


class PixelsMayIdentifyError(InputError):
    """The pixels of an object may hold burned-in text and nobody looked: it does not pass."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            "The object was not de-identified.",
            f"Its pixels may hold burned-in text ({reason}), which was not searched.",
            "Look at it and release it by hand, or exclude it.",
        )


@dataclass(frozen=True, slots=True)
class Identity:
    """Who an object belonged to and who it belongs to now; this is what a re-identification table is made of.

    Parameters
    ----------
    patient_id, pseudonym
        Old and new PatientID.
    sop_instance_uid, new_sop_instance_uid
        Old and new UID of the object.
    face
        Whether a face can be rendered from the new object.
    """

    patient_id: str
    pseudonym: str
    sop_instance_uid: str
    new_sop_instance_uid: str
    face: bool


class DicomDeidentifier:
    """Takes the patient out of DICOM objects: the Basic Profile of PS3.15 Annex E and its options.

    What the standard's table does not name is decided by its VR: text keeps DICOM's own words alone, unknown
    and private attributes go, UIDs are replaced, numbers stay.

    Parameters
    ----------
    key
        Same key, same new identities.
    policy
        Options.
    pixels_checked
        Somebody looked at the pixels: objects that may show text pass.
    pixel_text
        Covers the text of objects that may show some, which then pass (extra ``ocr``).
    """

    def __init__(
        self,
        key: DeidentificationKey,
        policy: Policy | None = None,
        *,
        pixels_checked: bool = False,
        pixel_text: BurnedInText | None = None,
    ) -> None:
        self._key = key
        self._policy = policy or Policy()
        self._pixels_checked = pixels_checked
        self._pixel_text = pixel_text
        self._actions: dict[int, Action] = table_actions(self._policy)

    @property
    def method(self) -> str:
        """What is written to DeidentificationMethod (0012,0063), with the edition of the table."""
        return f"Digital Twins; DICOM PS3.15 {profile_table().edition} Basic Profile"

    def new_uid(self, uid: str) -> str:
        """Return the UID that takes the place of another one, always the same."""
        return self._key.uid(uid)

    def deidentify(self, dataset: FileDataset) -> Identity:
        """Change an object in place.

        Parameters
        ----------
        dataset
            An object as ``pydicom.dcmread`` returns it.

        Returns
        -------
        Identity
            Old and new identity.

        Raises
        ------
        PixelsMayIdentifyError
            Its pixels may hold text; the object is as it was.
        InputError
            It is a DICOMDIR or has no SOP class or instance UID; the object is as it was. Or its pixels could
            not be searched for text; the object must not be used.
        """
        old_uid, sop_class = _required(dataset)
        reason = may_show_text(dataset)
        searched = reason is not None and self._pixel_text is not None
        if reason is not None and self._pixel_text is None and not self._pixels_checked:
            raise PixelsMayIdentifyError(reason)
        face = may_show_a_face(dataset)
        patient_id = str(dataset.get("PatientID", "") or dataset.get("StudyInstanceUID", ""))
        cleaner = Cleaner(
            self._policy,
            self._key,
            pseudonym=self._key.pseudonym(patient_id),
            shift_days=self._key.shift_days(patient_id),
            known=known_words(dataset),
            actions=self._actions,
        )
        if searched and self._pixel_text is not None:
            self._pixel_text.clean(dataset)
        syntax = dataset.file_meta.TransferSyntaxUID
        with warnings.catch_warnings():
            # What is malformed in a foreign object is about to be replaced.
            warnings.simplefilter("ignore")
            cleaner.clean(dataset)
        self._mark(dataset, cleaner.pseudonym, face=face, searched=searched)
        dataset.preamble = b"\0" * 128
        dataset.file_meta = _file_meta(sop_class, dataset.SOPInstanceUID, syntax)
        return Identity(patient_id, cleaner.pseudonym, old_uid, str(dataset.SOPInstanceUID), face)

    def _mark(self, dataset: Dataset, pseudonym: str, *, face: bool, searched: bool) -> None:
        dataset.PatientID = dataset.PatientName = pseudonym
        dataset.PatientIdentityRemoved = "YES"
        dataset.DeidentificationMethod = self.method
        dataset.DeidentificationMethodCodeSequence = [
            _code(value, meaning)
            for value, meaning in sorted([*self._policy.method_codes, *([CLEAN_PIXELS] if searched else [])])
        ]
        dataset.LongitudinalTemporalInformationModified = _TEMPORAL[self._policy.dates]
        if searched:
            dataset.BurnedInAnnotation = "NO"
        if face:
            dataset.RecognizableVisualFeatures = "YES"


def is_media_directory(dataset: Dataset) -> bool:
    """Tell whether a file is a DICOMDIR."""
    return str(getattr(dataset, "file_meta", {}).get("MediaStorageSOPClassUID", "")) == _DICOMDIR


def _required(dataset: FileDataset) -> tuple[str, str]:
    if is_media_directory(dataset):
        raise InputError(
            "A DICOMDIR is not de-identified.",
            "It repeats names, numbers and file names of all objects of a medium.",
            "De-identify the whole folder: a new DICOMDIR is written over the new objects.",
        )
    uid, sop_class = str(dataset.get("SOPInstanceUID", "")), str(dataset.get("SOPClassUID", ""))
    if not uid or not sop_class or not getattr(dataset.file_meta, "TransferSyntaxUID", ""):
        raise InputError(
            "The object was not de-identified.",
            "It has no SOP class UID, SOP instance UID or transfer syntax.",
            "Give a whole DICOM Part 10 file.",
        )
    if not _is_whole(dataset):
        raise InputError(
            "The object was not de-identified.",
            "Its pixels are missing or cut short.",
            "Send it again from where it came from.",
        )
    return uid, sop_class


def _is_whole(dataset: FileDataset) -> bool:
    """Tell whether an image has its pixels; a file that was cut reads as one without, or with too few."""
    if "Rows" not in dataset or "Columns" not in dataset:
        return not dataset.SOPClassUID.name.endswith("Image Storage")
    if not any(each in dataset for each in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        return False
    if "PixelData" not in dataset or dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return True
    samples = 2 if str(dataset.get("PhotometricInterpretation")) == "YBR_FULL_422" else None
    bits = int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("NumberOfFrames") or 1)
    bits *= int(dataset.get("BitsAllocated") or 1) * (samples or int(dataset.get("SamplesPerPixel") or 1))
    return len(dataset.get_item("PixelData").value) * 8 >= bits


def _file_meta(sop_class: str, uid: str, syntax: UID) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = UID(uid)
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID = _IMPLEMENTATION
    return meta


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item
