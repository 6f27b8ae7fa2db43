"""Coded concepts: the value-scheme-meaning triple that DICOM and FHIR share."""

from __future__ import annotations

from dataclasses import dataclass

SCT = "SCT"
DCM = "DCM"
UCUM = "UCUM"
LOINC = "LN"

FHIR_SYSTEM = {
    SCT: "http://snomed.info/sct",
    DCM: "http://dicom.nema.org/resources/ontology/DCM",
    UCUM: "http://unitsofmeasure.org",
    LOINC: "http://loinc.org",
}
"""FHIR system URI of each DICOM coding scheme designator (PS3.16 section 8)."""


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept, e.g. ``Code("108369006", "SCT", "Neoplasm")`` (DICOM PS3.3 section 8.8)."""

    value: str
    scheme: str
    meaning: str

    @property
    def system(self) -> str:
        """FHIR system URI of the scheme; an unknown scheme is returned as it stands."""
        return FHIR_SYSTEM.get(self.scheme, self.scheme)


NEOPLASM = Code("108369006", SCT, "Neoplasm")
MORPHOLOGICALLY_ABNORMAL_STRUCTURE = Code("49755003", SCT, "Morphologically Abnormal Structure")
VOLUME_CM3 = Code("cm3", UCUM, "cubic centimeter")
