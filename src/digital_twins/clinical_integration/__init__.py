"""The hospital door: connector, twin factory and every public name that clinical users import from here."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.clinical_integration._build import build_clinical_twin as build_clinical_twin
    from digital_twins.clinical_integration._connector import (
        ClinicalConnector as ClinicalConnector,
        EndpointStatus as EndpointStatus,
        ImagingStudy as ImagingStudy,
    )
    from digital_twins.clinical_integration._decisions import (
        ClinicalDecisionSupport as ClinicalDecisionSupport,
        Recommendation as Recommendation,
        Recommendations as Recommendations,
    )
    from digital_twins.clinical_integration._factory import (
        ClinicalDigitalTwinFactory as ClinicalDigitalTwinFactory,
    )
    from digital_twins.clinical_integration._twin import ClinicalTwin as ClinicalTwin
    from digital_twins.clinical_integration._visits import (
        IMAGE_MODALITIES as IMAGE_MODALITIES,
        PREDICTED_PREFIX as PREDICTED_PREFIX,
        Course as Course,
        Visit as Visit,
    )
    from digital_twins.dicom import DICOMHandler as DICOMHandler
    from digital_twins.fhir import FHIRClient as FHIRClient
    from digital_twins.governance import (
        ComplianceManager as ComplianceManager,
        ModelDocumentation as ModelDocumentation,
        SecurityManager as SecurityManager,
    )

_ROOM = "digital_twins.clinical_integration"
_WHERE = {
    "ClinicalConnector": f"{_ROOM}._connector",
    **dict.fromkeys(("ClinicalDecisionSupport", "Recommendation", "Recommendations"), f"{_ROOM}._decisions"),
    "ClinicalDigitalTwinFactory": f"{_ROOM}._factory",
    "ClinicalTwin": f"{_ROOM}._twin",
    "Course": f"{_ROOM}._visits",
    "DICOMHandler": "digital_twins.dicom",
    "EndpointStatus": f"{_ROOM}._connector",
    "FHIRClient": "digital_twins.fhir",
    "IMAGE_MODALITIES": f"{_ROOM}._visits",
    "ImagingStudy": f"{_ROOM}._connector",
    "PREDICTED_PREFIX": f"{_ROOM}._visits",
    **dict.fromkeys(
        ("ComplianceManager", "ModelDocumentation", "SecurityManager"), "digital_twins.governance"
    ),
    "Visit": f"{_ROOM}._visits",
    "build_clinical_twin": f"{_ROOM}._build",
}

__getattr__, __dir__ = exports(__name__, _WHERE)
