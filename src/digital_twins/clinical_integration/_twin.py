"""A patient twin together with the record it belongs to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from digital_twins._errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydicom import Dataset

    from digital_twins.clinical_integration._connector import ClinicalConnector
    from digital_twins.clinical_integration._decisions import Recommendations
    from digital_twins.clinical_integration._visits import Course
    from digital_twins.patient_modeling import PatientTwin
    from digital_twins.records import Conflict, PatientRecord


@dataclass(frozen=True, slots=True)
class ClinicalTwin:
    """What the hospital knows of a patient and, when imaging was asked for, the calibrated tumour twin.

    Attributes
    ----------
    record
        The clinical record, every fact with its source resource.
    tumor
        The tumour twin, or None when the twin was made without imaging.
    course
        The baseline image and the lesion outlines that the tumour twin was made from.
    notes
        What the build left aside and why.
    connector
        What the twin was made by; None where it was made from resources and images at hand.
    """

    record: PatientRecord
    tumor: PatientTwin | None = None
    course: Course | None = None
    notes: tuple[str, ...] = ()
    connector: ClinicalConnector | None = field(default=None, repr=False, compare=False)

    @property
    def diagnosis(self) -> str | None:
        """Text of the primary cancer condition, e.g. ``"Adenocarcinoma of lung"``."""
        return self.record.diagnosis

    @property
    def stage(self) -> str | None:
        """Stage of the primary cancer, e.g. ``"IIIA"``."""
        return self.record.stage

    @property
    def biomarkers(self) -> Mapping[str, str]:
        """Marker name to result, e.g. ``{"EGFR": "positive"}``."""
        return self.record.biomarkers

    @property
    def tnm(self) -> Mapping[str, str]:
        """TNM categories, e.g. ``{"cT": "cT2a"}``."""
        return self.record.tnm

    @property
    def conflicts(self) -> tuple[Conflict, ...]:
        """Where the record contradicts itself; none of those values is used."""
        return self.record.conflicts

    @property
    def twin(self) -> PatientTwin:
        """The tumour twin.

        Raises
        ------
        NotFoundError
            The clinical twin was made without imaging.
        """
        if self.tumor is None:
            raise _without_imaging()
        return self.tumor

    @property
    def current_volume_cm3(self) -> float:
        """Tumour volume of the model at the latest observation, in cubic centimetres."""
        return self.twin.current_volume_cm3

    @property
    def proliferation_rate(self) -> float:
        """Net proliferation rate of the tumour, per day."""
        return self.twin.proliferation_rate

    @property
    def patient_id(self) -> str:
        """Medical record number."""
        return self.record.patient_id

    @property
    def twin_id(self) -> str:
        """Identifier of the tumour twin."""
        return self.twin.twin_id

    @property
    def version(self) -> int:
        """Version of the tumour twin."""
        return self.twin.version

    @property
    def proliferation_rate_interval(self) -> tuple[float, float]:
        """95 % interval of the net proliferation rate, per day."""
        return self.twin.proliferation_rate_interval

    @property
    def images(self) -> tuple[Dataset, ...]:
        """The DICOM instances of the baseline image.

        Raises
        ------
        NotFoundError
            The clinical twin was made without imaging.
        """
        if self.course is None:
            raise _without_imaging()
        return self.course.image_datasets

    def generate_recommendations(
        self,
        treatment_options: Sequence[str | Mapping[str, Any] | Sequence[Mapping[str, Any]]],
        optimization_target: str = "overall_survival",
        patient_preferences: Mapping[str, str] | None = None,
        *,
        horizon_days: float = 180.0,
        seed: int = 0,
    ) -> Recommendations:
        """Simulate treatment options and put them in order.

        See `ClinicalDecisionSupport.generate_recommendations`.
        """
        from digital_twins.clinical_integration._decisions import ClinicalDecisionSupport

        return ClinicalDecisionSupport(self).generate_recommendations(
            treatment_options,
            optimization_target,
            patient_preferences,
            horizon_days=horizon_days,
            seed=seed,
        )


def _without_imaging() -> NotFoundError:
    return NotFoundError(
        what="This clinical twin has no tumour model.",
        why="It was created without imaging.",
        fix="Create it with include_imaging=True.",
    )
