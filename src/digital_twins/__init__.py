"""Patient digital twins inside the hospital: DICOM and FHIR in, twins, simulations and documents out.

The package itself imports nothing but the standard library; each room is imported by its own name, e.g.
``from digital_twins.patient_modeling import TumorTwinPipeline``. Two names are offered here as well and load
when first used: ``ReactionDiffusionModel``, that of ``patient_modeling``, which is calibrated on a patient's
images (the bare equation is ``digital_twins.models.ReactionDiffusionModel``), and ``PatientData``, that of
``imaging``.
"""

from typing import TYPE_CHECKING

from digital_twins._errors import (
    ConflictError,
    DigitalTwinError,
    InputError,
    MissingExtraError,
    NotFoundError,
    StorageError,
)
from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.imaging import PatientData as PatientData
    from digital_twins.patient_modeling import ReactionDiffusionModel as ReactionDiffusionModel

__version__ = "0.1.0"

__all__ = [
    "ConflictError",
    "DigitalTwinError",
    "InputError",
    "MissingExtraError",
    "NotFoundError",
    "PatientData",
    "ReactionDiffusionModel",
    "StorageError",
    "__version__",
]

_WHERE = {
    "PatientData": "digital_twins.imaging",
    "ReactionDiffusionModel": "digital_twins.patient_modeling",
}

__getattr__, _ = exports(__name__, _WHERE)
