"""A treatment's predicted response: change of volume, category and their uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins._errors import InputError
from digital_twins.treatment_simulation._criteria import (
    BASIS,
    CRITERIA_WORDS,
    ORDER,
    Criteria,
    ResponseCategory,
    best_category,
    categories,
    category_probabilities,
    most_probable,
)
from digital_twins.treatment_simulation._events import EventTimes, first_crossing
from digital_twins.treatment_simulation._sizes import axial, bidimensional_product_mm2
from digital_twins.units import MM3_PER_CM3

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from digital_twins.imaging import Mask
    from digital_twins.patient_modeling import Prediction
    from digital_twins.records import Treatment

ASSESSMENT_INTERVAL_DAYS = 42.0
"""Days between the imagined assessments: RECIST 1.1 recommends every 6 to 8 weeks. The nadir is the smallest
size at an assessment, as in a clinic, and not the smallest of a finely computed course."""


@dataclass(frozen=True, eq=False)
class Response:
    """What a treatment is predicted to do by the horizon.

    Attributes
    ----------
    treatments
        What was simulated together, in days since the twin's baseline.
    prediction
        The whole course with its intervals.
    horizon_days
        Days from the twin's "now" (its last observation) to the end.
    volume_change_percent, volume_change_low, volume_change_high
        Median and central ``interval`` over the ensemble of the change of the volume at the horizon against
        now, in percent; negative is shrinkage.
    response_category, category_probabilities
        Most probable category at the horizon (the worse of equals) and the share of each in the ensemble;
        assessed every six weeks from now on and at the horizon.
    best_response
        Most probable of the members' best categories before a progression.
    criteria
        ``"recist_1_1"``, ``"rano"`` or ``"rano_2_0"``, see :func:`categories`.
    size_now, size_at_horizon
        Median size by the criteria: longest axial diameter in mm, product of axial diameters in mm2, or
        volume in cm3.
    time_to_progression
        Days from now to the assessment that shows progression, over the ensemble.
    nadir_day, nadir_volume_cm3
        Day since the twin's baseline, and value, of the smallest median volume from now on.
    assumptions
        In words: everything assumed, not verified, or not calibrated in this patient.
    """

    treatments: tuple[Treatment, ...]
    prediction: Prediction
    horizon_days: float
    interval: float
    volume_change_percent: float
    volume_change_low: float
    volume_change_high: float
    response_category: ResponseCategory
    category_probabilities: Mapping[ResponseCategory, float]
    best_response: ResponseCategory
    criteria: Criteria
    size_now: float
    size_at_horizon: float
    nadir_day: float
    nadir_volume_cm3: float
    assumptions: tuple[str, ...]
    time_to_progression: EventTimes

    @property
    def criteria_label(self) -> str:
        """The criteria in words and what the category rests on."""
        return f"{CRITERIA_WORDS[self.criteria]}, {BASIS}"

    @property
    def response_probability(self) -> float:
        """Share of the ensemble in complete or partial response at the horizon."""
        return sum(self.category_probabilities[category] for category in ORDER[:2])

    @property
    def label(self) -> str:
        """The treatments in words, e.g. ``"radiation 60 Gy in 30 fractions + cisplatin 75 mg, day 0"``."""
        return " + ".join(treatment.label for treatment in self.treatments) or "observation"

    @property
    def treatment(self) -> Treatment:
        """The treatment; of several given together, the first."""
        return self.treatments[0]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain data for JSON."""
        return {
            "treatment": self.label,
            "horizon_days": self.horizon_days,
            "volume_change_percent": self.volume_change_percent,
            "volume_change_low": self.volume_change_low,
            "volume_change_high": self.volume_change_high,
            "interval": self.interval,
            "response_category": self.response_category.value,
            "category_probabilities": {c.value: p for c, p in self.category_probabilities.items()},
            "best_response": self.best_response.value,
            "criteria": self.criteria,
            "criteria_label": self.criteria_label,
            "time_to_progression": self.time_to_progression.to_dict(),
            "nadir_day": self.nadir_day,
            "nadir_volume_cm3": self.nadir_volume_cm3,
            "assumptions": list(self.assumptions),
        }


_POWERS = {"recist_1_1": 1.0 / 3.0, "rano": 2.0 / 3.0, "rano_2_0": 1.0}


def _size(mask: Mask, criteria: Criteria) -> float:
    if criteria == "rano_2_0":
        return mask.volume_cm3
    upright = axial(mask)
    return upright.longest_diameter_mm() if criteria == "recist_1_1" else bidimensional_product_mm2(upright)


def _assessments(prediction: Prediction) -> NDArray[np.intp]:
    """Indices of the output days nearest to now, every six weeks after it, and the horizon."""
    start, end = prediction.origin_day, float(prediction.days[-1])
    planned = np.append(np.arange(start, end - 1e-6, ASSESSMENT_INTERVAL_DAYS), end)
    nearest = np.abs(prediction.days[None, :] - planned[:, None]).argmin(axis=1)
    return np.unique(nearest)


def _member_sizes(prediction: Prediction, criteria: Criteria) -> NDArray[np.float64]:
    """Sizes [member, assessment].

    The predicted tumour of each day gives the ratio of size to volume^(1/3) (or ^(2/3) for products); a
    member has that shape at its own volume. A day without a predicted tumour takes the last shape, and a
    member below one model voxel is gone.
    """
    visits = _assessments(prediction)
    days, volumes = prediction.days[visits], prediction.samples_cm3[:, visits]
    power = _POWERS[criteria]
    shape = np.zeros(days.size)
    last = 0.0
    voxel_cm3 = 0.0
    for i, day in enumerate(days):
        mask = prediction.mask_at(float(day))
        voxel_cm3 = mask.voxel_volume_mm3 / MM3_PER_CM3
        if mask.volume_cm3 > 0.0:
            last = _size(mask, criteria) / mask.volume_cm3**power
        shape[i] = last
    sizes = np.asarray(np.where(volumes >= voxel_cm3, shape * volumes**power, 0.0))
    if not np.any(sizes[:, 0] > 0.0):
        raise InputError(
            "There is no tumour to assess at the start of the prediction.",
            "Response criteria compare with a lesion that is there at baseline.",
            "Calibrate the twin with a visit that shows the lesion.",
        )
    return sizes


def response_of(
    prediction: Prediction,
    treatments: tuple[Treatment, ...],
    *,
    criteria: Criteria,
    assumptions: tuple[str, ...],
) -> Response:
    """Derive the response from a prediction.

    Raises
    ------
    InputError
        When there is no tumour at the start, or the criteria are not known.
    """
    if criteria not in _POWERS:
        categories([1.0, 1.0], criteria=criteria)
    sizes = _member_sizes(prediction, criteria)
    present = sizes[:, 0] > 0.0
    courses = categories(sizes[present], criteria=criteria)
    probabilities = category_probabilities(courses[:, -1])
    best = category_probabilities(best_category(courses))
    since = prediction.days >= prediction.origin_day
    volumes = prediction.samples_cm3[present][:, since]
    tail = (1.0 - prediction.interval) / 2.0
    change = 100.0 * (volumes[:, -1] / volumes[:, 0] - 1.0)
    median, low, high = np.quantile(change, [0.5, tail, 1.0 - tail], method="weibull")
    course = prediction.volume_cm3[since]
    nadir = int(np.argmin(course))
    visits = prediction.days[_assessments(prediction)][1:] - prediction.origin_day
    return Response(
        treatments=treatments,
        prediction=prediction,
        horizon_days=float(prediction.days[-1] - prediction.origin_day),
        interval=prediction.interval,
        volume_change_percent=float(median),
        volume_change_low=float(low),
        volume_change_high=float(high),
        response_category=most_probable(probabilities),
        category_probabilities={category: probabilities[category] for category in ORDER},
        best_response=most_probable(best),
        criteria=criteria,
        size_now=float(np.median(sizes[:, 0])),
        size_at_horizon=float(np.median(sizes[:, -1])),
        nadir_day=float(prediction.days[since][nadir]),
        nadir_volume_cm3=float(course[nadir]),
        assumptions=assumptions,
        time_to_progression=EventTimes(first_crossing(visits, courses == 3), float(visits[-1])),
    )
