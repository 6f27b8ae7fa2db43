"""Patient twins: build them from images, calibrate them on follow-up, predict, keep every version."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.calibration import Estimate as Estimate
    from digital_twins.patient_modeling._calibrate import CalibrationSettings as CalibrationSettings
    from digital_twins.patient_modeling._citations import Citation as Citation, citations as citations
    from digital_twins.patient_modeling._forcing import (
        SIMULATED_KINDS as SIMULATED_KINDS,
        forcing_for as forcing_for,
    )
    from digital_twins.patient_modeling._life import (
        ParameterChange as ParameterChange,
        VersionChanges as VersionChanges,
    )
    from digital_twins.patient_modeling._patient_model import (
        ReactionDiffusionModel as ReactionDiffusionModel,
    )
    from digital_twins.patient_modeling._pipeline import TumorTwinPipeline as TumorTwinPipeline
    from digital_twins.patient_modeling._predict import Prediction as Prediction
    from digital_twins.patient_modeling._priors import tumour_family as tumour_family
    from digital_twins.patient_modeling._radiation_forcing import with_dose_map as with_dose_map
    from digital_twins.patient_modeling._registry import (
        MIGRATIONS as MIGRATIONS,
        TwinRegistry as TwinRegistry,
        TwinVersion as TwinVersion,
    )
    from digital_twins.patient_modeling._scans import Visit as Visit
    from digital_twins.patient_modeling._snapshot import (
        CalibrationResult as CalibrationResult,
        Provenance as Provenance,
        SamplingReport as SamplingReport,
        Snapshot as Snapshot,
    )
    from digital_twins.patient_modeling._tissue import TensorField as TensorField, Tissue as Tissue
    from digital_twins.patient_modeling._twin import PatientTwin as PatientTwin
    from digital_twins.patient_modeling._visit_images import (
        VisitImage as VisitImage,
        cellularity_from_adc as cellularity_from_adc,
    )
    from digital_twins.patient_modeling._without_identity import (
        NewIdentity as NewIdentity,
        twin_without_identity as twin_without_identity,
    )

_ROOM = "digital_twins.patient_modeling"
_WHERE = {
    **dict.fromkeys(("Citation", "citations"), f"{_ROOM}._citations"),
    **dict.fromkeys(("SIMULATED_KINDS", "forcing_for"), f"{_ROOM}._forcing"),
    **dict.fromkeys(("ParameterChange", "VersionChanges"), f"{_ROOM}._life"),
    **dict.fromkeys(("CalibrationResult", "Provenance", "SamplingReport", "Snapshot"), f"{_ROOM}._snapshot"),
    **dict.fromkeys(("VisitImage", "cellularity_from_adc"), f"{_ROOM}._visit_images"),
    "CalibrationSettings": f"{_ROOM}._calibrate",
    **dict.fromkeys(("MIGRATIONS", "TwinRegistry", "TwinVersion"), f"{_ROOM}._registry"),
    "Estimate": "digital_twins.calibration",
    **dict.fromkeys(("NewIdentity", "twin_without_identity"), f"{_ROOM}._without_identity"),
    "PatientTwin": f"{_ROOM}._twin",
    "Prediction": f"{_ROOM}._predict",
    **dict.fromkeys(("TensorField", "Tissue"), f"{_ROOM}._tissue"),
    "ReactionDiffusionModel": f"{_ROOM}._patient_model",
    "TumorTwinPipeline": f"{_ROOM}._pipeline",
    "tumour_family": f"{_ROOM}._priors",
    "Visit": f"{_ROOM}._scans",
    "with_dose_map": f"{_ROOM}._radiation_forcing",
}

__getattr__, __dir__ = exports(__name__, _WHERE)
