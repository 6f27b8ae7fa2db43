"""What every object derived from an image series has in common: patient, study, equipment, identity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins import __version__

if TYPE_CHECKING:
    from datetime import datetime

    from pydicom.dataset import Dataset

_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "IssuerOfPatientID")
_STUDY = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
_OPTIONAL = ("IssuerOfPatientID",)


def item(**values: Any) -> Dataset:
    """Return a data set of the given attributes, for a sequence."""
    from pydicom.dataset import Dataset

    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def referenced(image: Dataset) -> Dataset:
    """Return a reference to an instance."""
    return item(
        ReferencedSOPClassUID=str(image.SOPClassUID), ReferencedSOPInstanceUID=str(image.SOPInstanceUID)
    )


def derived_object(
    image: Dataset,
    *,
    sop_class: str,
    modality: str,
    uids: tuple[str | None, str | None],
    created: datetime,
) -> Dataset:
    """Return a new object in the patient and study of an image, with file meta information.

    ``uids`` are those of series and instance; new ones where None.
    """
    from pydicom.dataset import FileMetaDataset
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_file_meta_info
    from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

    made = item()
    made.SpecificCharacterSet = image.get("SpecificCharacterSet") or "ISO_IR 100"
    for keyword in (*_PATIENT, *_STUDY):
        if keyword in image or keyword not in _OPTIONAL:
            setattr(made, keyword, image.get(keyword, ""))
    made.SOPClassUID = sop_class
    made.SOPInstanceUID = uids[1] or generate_uid(prefix=None)
    made.SeriesInstanceUID = uids[0] or generate_uid(prefix=None)
    made.Modality = modality
    made.InstanceNumber = 1
    made.Manufacturer = "digital-twins"
    made.ManufacturerModelName = "digital-twins"
    made.DeviceSerialNumber = "0"
    made.SoftwareVersions = __version__
    for kind in ("InstanceCreation", "Series"):
        setattr(made, f"{kind}Date", created.strftime("%Y%m%d"))
        setattr(made, f"{kind}Time", created.strftime("%H%M%S"))
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    write_file_meta_info(DicomBytesIO(), meta)  # fills in what a file needs: length, version, implementation
    made.file_meta = meta
    made.preamble = b"\0" * 128
    return made
