"""What every document of ours has in common: its identity, its maker, and the patient it copies."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset

from digital_twins._errors import ConflictError, InputError
from digital_twins.dicom._twin_codes import SCHEME, SCHEME_NAME, SCHEME_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

UTF8 = "ISO_IR 192"

_PATIENT_AND_STUDY = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
)
_TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)


@dataclass(frozen=True, slots=True)
class DocumentIdentity:
    """The identifiers and times of a document, given by the caller so that a second run makes the same.

    ``created`` must be timezone-aware; DICOM dates and times are written in its zone together with
    Timezone Offset From UTC (PS3.3 C.12.1.1.8).
    """

    series_uid: str
    sop_uid: str
    created: datetime
    series_number: int
    series_description: str
    instance_number: int = 1

    def __post_init__(self) -> None:
        if self.created.tzinfo is None:
            raise InputError(
                "A document needs a timezone-aware time of creation.",
                "DocumentIdentity.created carries no timezone.",
                "Pass datetime.now(tz=UTC) or another aware datetime.",
            )


@dataclass(frozen=True, slots=True)
class Software:
    """The program that made a document: name, version, manufacturer (General Equipment, PS3.3 C.7.5.1)."""

    name: str
    version: str
    manufacturer: str = "Digital Twins project (research software)"


def same_study(evidence: Sequence[Dataset]) -> Dataset:
    """Return the first dataset after checking that all are of one patient and one study.

    Raises
    ------
    InputError
        No datasets were given.
    ConflictError
        The datasets are of different patients or studies.
    """
    if not evidence:
        raise InputError(
            "A DICOM document needs the images that it speaks of.",
            "No source datasets were given.",
            "Pass the datasets of the image series, e.g. from DICOMHandler.load_series.",
        )
    keys = {(str(d.get("PatientID", "")), str(d.StudyInstanceUID)) for d in evidence}
    if len(keys) > 1:
        raise ConflictError(
            "The source images do not belong together.",
            f"They are of {len(keys)} different patients or studies.",
            "Pass the images of one study of one patient.",
        )
    return evidence[0]


def as_utf8(datasets: Iterable[Dataset]) -> list[Dataset]:
    """Return shallow copies whose text is decoded and that declare ISO_IR 192.

    highdicom copies the character set of its evidence and refuses an empty one; a document of ours may
    hold text that the images' character set cannot write.
    """
    copies = []
    for dataset in datasets:
        header = copy.copy(dataset)
        for keyword in ("PatientName", "ReferringPhysicianName", "StudyDescription", "PatientID"):
            if keyword in header:
                header[keyword] = copy.copy(header[keyword])
        header.SpecificCharacterSet = UTF8
        copies.append(header)
    return copies


def copy_patient_and_study(source: Dataset, target: Dataset) -> None:
    """Copy the Patient and General Study modules (PS3.3 C.7.1.1, C.7.2.1) from an image to a document."""
    for keyword in _PATIENT_AND_STUDY:
        if keyword in source:
            target[keyword] = copy.deepcopy(source[keyword])
        elif keyword in _TYPE_2:
            setattr(target, keyword, "")


def stamp(dataset: Dataset, identity: DocumentIdentity, software: Software) -> None:
    """Write identity, times, equipment and character set into a finished document."""
    dataset.SpecificCharacterSet = UTF8
    dataset.SOPInstanceUID = identity.sop_uid
    dataset.SeriesInstanceUID = identity.series_uid
    dataset.SeriesNumber = identity.series_number
    dataset.InstanceNumber = identity.instance_number
    dataset.SeriesDescription = identity.series_description[:64]
    day, time = identity.created.strftime("%Y%m%d"), identity.created.strftime("%H%M%S")
    for kind in ("Series", "Content", "InstanceCreation"):
        setattr(dataset, f"{kind}Date", day)
        setattr(dataset, f"{kind}Time", time)
    dataset.TimezoneOffsetFromUTC = identity.created.strftime("%z")[:5]
    dataset.Manufacturer = software.manufacturer[:64]
    dataset.ManufacturerModelName = software.name[:64]
    dataset.SoftwareVersions = software.version[:64]
    dataset.DeviceSerialNumber = software.version[:64]
    for item in dataset.get("ContributingEquipmentSequence", ()):
        if "ContributionDateTime" in item:
            item.ContributionDateTime = identity.created.strftime("%Y%m%d%H%M%S")


def identify_coding_scheme(dataset: Dataset) -> None:
    """Add the Coding Scheme Identification of the private scheme (PS3.3 C.12.1.1.1)."""
    item = Dataset()
    item.CodingSchemeDesignator = SCHEME
    item.CodingSchemeName = SCHEME_NAME
    item.CodingSchemeVersion = SCHEME_VERSION
    item.CodingSchemeResponsibleOrganization = "Digital Twins project"
    dataset.CodingSchemeIdentificationSequence = [item]


def instance_references(datasets: Iterable[Dataset]) -> list[Dataset]:
    """Return one SOP class and instance reference per dataset (PS3.3 table 10-11)."""
    items = []
    for dataset in datasets:
        item = Dataset()
        item.ReferencedSOPClassUID = dataset.SOPClassUID
        item.ReferencedSOPInstanceUID = dataset.SOPInstanceUID
        items.append(item)
    return items
