"""What an object itself says of its patient and staff: the words that must go wherever they stand."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from digital_twins.governance.deidentification._word_list import word_list

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_SOURCES = [
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "OtherPatientIDs",
    "OtherPatientNames",
    "PatientBirthName",
    "PatientMotherBirthName",
    "PatientAddress",
    "PatientTelephoneNumbers",
    "AccessionNumber",
    "StudyID",
    "AdmissionID",
    "MilitaryRank",
    "ReferringPhysicianName",
    "ReferringPhysicianAddress",
    "PerformingPhysicianName",
    "NameOfPhysiciansReadingStudy",
    "OperatorsName",
    "RequestingPhysician",
    "PhysiciansOfRecord",
    "InstitutionName",
    "InstitutionAddress",
    "InstitutionalDepartmentName",
    "StationName",
    "DeviceSerialNumber",
    "ResponsiblePerson",
    "ResponsibleOrganization",
    "PatientInsurancePlanCodeSequence",
    "MedicalRecordLocator",
    "RequestingService",
    "CountryOfResidence",
    "RegionOfResidence",
    "ContentCreatorName",
    "ReviewerName",
    "OperatorIdentificationSequence",
]
_WORD = re.compile(r"[^\W_]+", re.UNICODE)
_SHORTEST = 3
# Parts of institution names that are words of medicine; they name nobody.
_HARMLESS = word_list("harmless")


def known_words(dataset: Dataset) -> frozenset[str]:
    """Return the words, lower case, of the identifiers at the top of an object.

    Parameters
    ----------
    dataset
        The object before it is changed.
    """
    words: set[str] = set()
    for keyword in _SOURCES:
        value = dataset.get(keyword)
        if value is None or keyword.endswith("Sequence"):
            continue
        for word in _WORD.findall(str(value).replace("^", " ").replace("=", " ")):
            if len(word) >= _SHORTEST:
                words.add(word.lower())
    return frozenset(words - _HARMLESS)
