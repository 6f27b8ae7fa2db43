"""A plan in figures: every structure's doses, control of the target, risk of complications."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from digital_twins.models import (
    ComplicationModel,
    Radiosensitivity,
    complication_probability,
    eqd2_gy,
    fraction_log_survival,
    tumour_control_probability,
)
from digital_twins.radiotherapy._histogram import DoseVolumeHistogram, dose_volume_histogram

if TYPE_CHECKING:
    from collections.abc import Mapping

    from digital_twins.imaging import StructureSet
    from digital_twins.radiotherapy._accumulate import Course


@dataclass(frozen=True, slots=True)
class PlanEvaluation:
    """Figures of a plan.

    Attributes
    ----------
    fractions
        Number of fractions.
    histograms
        By name of the structure; those without closed contours are left out.
    control_probability, complication_probabilities
        Where they were asked for; the latter by name of the structure.
    """

    fractions: int
    histograms: Mapping[str, DoseVolumeHistogram]
    control_probability: float | None
    complication_probabilities: Mapping[str, float]


def evaluate_plan(
    course: Course,
    structures: StructureSet,
    *,
    target: str | None = None,
    sensitivity: Radiosensitivity | None = None,
    clonogens_per_cm3: float = 1.0e7,
    complications: Mapping[str, tuple[ComplicationModel, float]] | None = None,
) -> PlanEvaluation:
    """Evaluate a plan on the structures that it was made for.

    Parameters
    ----------
    course
        Dose with its plan or number of fractions.
    structures
        In the dose's frame of reference.
    target, sensitivity, clonogens_per_cm3
        Structure whose control probability is computed (Poisson over its voxels, one fraction a day), with
        which radiosensitivity and clonogen density (1e7/cm3: Webb & Nahum 1993,
        doi:10.1088/0031-9155/38/6/001 [verify]).
    complications
        Structure name to its complication model and alpha/beta in Gy; doses are turned into EQD2 first.

    Raises
    ------
    InputError
        Unknown fractions or structures, or another frame of reference.
    """
    from digital_twins.imaging import dose_per_fraction

    count, _ = dose_per_fraction(course.dose, course.plan, fractions=course.fractions)
    scale = float(count) if course.dose.is_one_session else 1.0
    histograms = {}
    for structure in structures.structures:
        if structure.contours:
            found = dose_volume_histogram(course.dose, structure)
            histograms[structure.name] = DoseVolumeHistogram(
                found.dose_gy * scale, found.volume_cm3, found.name, found.outside_cm3
            )
    control = None
    if target is not None and sensitivity is not None:
        control = _control(histograms[structures[target].name], count, sensitivity, clonogens_per_cm3)
    risks = {}
    for name, (model, ratio) in (complications or {}).items():
        histogram = histograms[structures[name].name]
        risks[name] = complication_probability(
            eqd2_gy(histogram.dose_gy, count, ratio), histogram.volume_cm3, model
        )
    return PlanEvaluation(count, histograms, control, risks)


def _control(
    histogram: DoseVolumeHistogram, count: int, sensitivity: Radiosensitivity, density: float
) -> float:
    each = histogram.dose_gy / count
    logs = fraction_log_survival(
        np.broadcast_to(each, (count, each.size)), np.arange(count, dtype=float), sensitivity
    )
    return tumour_control_probability(density * histogram.volume_cm3, logs.sum(axis=0))
