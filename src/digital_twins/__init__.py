"""Patient digital twins inside the hospital: DICOM and FHIR in, twins, simulations and documents out.

The package itself imports nothing but the standard library; each room is imported by its own name, e.g.
``from digital_twins.patient_modeling import TumorTwinPipeline``.
"""

from digital_twins._errors import (
    ConflictError,
    DigitalTwinError,
    InputError,
    MissingExtraError,
    NotFoundError,
    StorageError,
)

__version__ = "0.1.0"

__all__ = [
    "ConflictError",
    "DigitalTwinError",
    "InputError",
    "MissingExtraError",
    "NotFoundError",
    "StorageError",
    "__version__",
]
