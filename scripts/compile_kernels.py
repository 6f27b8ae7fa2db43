"""Compile what a first twin needs, so that tests that start together find it on disk.

numba keeps machine code beside the source. Processes that need the same kernel at the same time each compile
it, for half a minute: `make test` runs this once, while the type checker has a core to spare.
"""

from __future__ import annotations

from digital_twins.patient_modeling import TumorTwinPipeline
from digital_twins.samples import sample_patient
from digital_twins.treatment_simulation import TreatmentSimulator

COURSES = (
    {"type": "radiation", "total_dose_gy": 60, "fractions": 30},
    {"drug": "paclitaxel", "dose_mg": 315, "days": [5, 26]},
)


def main() -> None:
    """Build, calibrate and treat the lung sample."""
    patient = sample_patient("lung")
    twin = TumorTwinPipeline().create_twin(
        patient.patient_id, patient.image, patient.lesion, domain=patient.domain
    )
    twin.calibrate([(visit.day, visit.mask) for visit in patient.visits[1:]])
    for course in COURSES:
        TreatmentSimulator(twin).predict_response(course, horizon_days=30)


if __name__ == "__main__":
    main()
