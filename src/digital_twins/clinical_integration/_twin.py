"""A patient twin together with the record it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from digital_twins._errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    """

    record: PatientRecord
    tumor: PatientTwin | None = None
    course: Course | None = None
    notes: tuple[str, ...] = ()

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
            raise NotFoundError(
                what="This clinical twin has no tumour model.",
                why="It was created without imaging.",
                fix="Create it with include_imaging=True.",
            )
        return self.tumor

    @property
    def current_volume_cm3(self) -> float:
        """Tumour volume of the model at the latest observation, in cubic centimetres."""
        return self.twin.current_volume_cm3

    @property
    def proliferation_rate(self) -> float:
        """Net proliferation rate of the tumour, per day."""
        return self.twin.proliferation_rate
