"""When a tumour comes back after surgery, and which margin keeps it away long enough."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins._errors import InputError
from digital_twins.imaging import coverage, load_mask
from digital_twins.treatment_simulation._events import EventTimes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from digital_twins.imaging import Mask
    from digital_twins.patient_modeling import PatientTwin, Prediction

RECURRENCE_CM3 = 0.1
"""Visible volume that counts as a recurrence: a ball of about 6 mm, an assumption."""


def recurrence_times(
    prediction: Prediction, *, after_day: float, threshold_cm3: float = RECURRENCE_CM3
) -> EventTimes:
    """Days from a surgery until the visible volume is back at a threshold.

    A member whose volume never falls below the threshold recurs at once (residual tumour): 0 days. Between
    output days the volume is interpolated.

    Parameters
    ----------
    prediction
        A course with the surgery in it.
    after_day
        Day of the surgery, since the twin's baseline; outputs on that day are before it.
    threshold_cm3
        Visible volume that counts as a recurrence.

    Raises
    ------
    InputError
        When the course ends before the surgery or the threshold is not positive.
    """
    later = prediction.days > after_day
    if not later.any() or threshold_cm3 <= 0.0:
        raise InputError(
            "There is no time after the surgery to look at.",
            "The prediction ends by its day, or the threshold is not positive.",
            "Predict beyond the surgery; use a positive threshold in cm3.",
        )
    days, volumes = prediction.days[later], prediction.samples_cm3[:, later]
    times = np.full(volumes.shape[0], np.nan)
    for member, course in enumerate(volumes):
        above = course >= threshold_cm3
        if not above.any():
            continue
        at = int(above.argmax())
        if at == 0:
            times[member] = 0.0
            continue
        before, after = course[at - 1], course[at]
        share = (threshold_cm3 - before) / (after - before)
        times[member] = days[at - 1] + share * (days[at] - days[at - 1]) - after_day
    return EventTimes(times, float(days[-1]) - after_day)


@dataclass(frozen=True, eq=False)
class MarginOption:
    """One margin: what it takes out, what it spares, and how often the tumour comes back.

    Attributes
    ----------
    resected_cm3, overlap_cm3
        Tissue taken out, and the part of it that is critical, for the lesion as most probably visible.
    recurrence_probability
        By the horizon.
    """

    margin_mm: float
    resected_cm3: float
    overlap_cm3: float
    recurrence: EventTimes
    recurrence_probability: float
    within_limits: bool


@dataclass(frozen=True, eq=False)
class MarginPlan:
    """Every margin tried, narrowest first, and the recommended one (None when none keeps the limits)."""

    options: tuple[MarginOption, ...]
    recommended: MarginOption | None


def optimise_margin(
    patient_twin: PatientTwin,
    margins_mm: Sequence[float],
    *,
    horizon_days: float,
    highest_recurrence: float,
    critical: Mask | Any | None = None,
    largest_overlap_cm3: float = 0.0,
    prediction_options: Mapping[str, Any] | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> MarginPlan:
    """Find the smallest margin that keeps recurrence and critical tissue within limits.

    Surgery is simulated now (the twin's last observation) with each margin on the same ensemble.

    Parameters
    ----------
    margins_mm
        Margins around the visible lesion to try.
    horizon_days
        Days after surgery for which the tumour is followed.
    highest_recurrence
        Largest accepted probability of recurrence by then, 0..1.
    critical
        Mask of tissue that must be spared (eloquent cortex, a vessel), as for
        :func:`digital_twins.imaging.load_mask`.
    largest_overlap_cm3
        Critical tissue that may be taken out.
    prediction_options
        Further options of :meth:`PatientTwin.predict` (``samples``, ``seed``, ``output_interval_days``), and
        ``treatments`` given after the surgery.

    Raises
    ------
    InputError
        When there is no margin, or the critical mask or an option cannot be used.
    """
    if not len(margins_mm):
        raise InputError("There is no margin to try.", "The list is empty.", "Pass margins in millimetres.")
    options = dict(prediction_options or {})
    others = tuple(options.pop("treatments", ()))
    spared = _critical_share(critical, patient_twin)
    tried = []
    for number, margin in enumerate(sorted(margins_mm), start=1):
        surgery = {"type": "surgery", "day": 0, "margin_mm": float(margin)}
        prediction = patient_twin.predict(horizon_days, treatments=(surgery, *others), **options)
        times = recurrence_times(prediction, after_day=prediction.origin_day)
        share = patient_twin.resection_share(surgery)
        voxel_cm3 = patient_twin.domain.voxel_volume_mm3 / 1000.0
        overlap = float((share * spared).sum()) * voxel_cm3
        option = MarginOption(
            margin_mm=float(margin),
            resected_cm3=float(share[patient_twin.domain.array].sum()) * voxel_cm3,
            overlap_cm3=overlap,
            recurrence=times,
            recurrence_probability=times.probability_by(times.followed_days),
            within_limits=False,
        )
        kept = option.recurrence_probability <= highest_recurrence and overlap <= largest_overlap_cm3 + 1e-9
        tried.append(replace(option, within_limits=kept))
        if progress is not None:
            progress(number / len(margins_mm), f"margin {margin:g} mm")
    return MarginPlan(tuple(tried), next((option for option in tried if option.within_limits), None))


def _critical_share(critical: Any, patient_twin: PatientTwin) -> NDArray[np.float64]:
    if critical is None:
        return np.zeros(patient_twin.domain.shape)
    return np.asarray(coverage(load_mask(critical), patient_twin.domain).array, dtype=np.float64)
