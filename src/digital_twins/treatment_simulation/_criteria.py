"""Response criteria on measured or predicted lesion sizes: RECIST 1.1 and the imaging parts of RANO."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Literal

import numpy as np

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

Criteria = Literal["recist_1_1", "rano", "rano_2_0"]
CRITERIA_WORDS = {
    "recist_1_1": "RECIST 1.1",
    "rano": "RANO 2010 (product of diameters)",
    "rano_2_0": "RANO 2.0 (volume)",
}
BASIS = "predicted, target lesions only"
"""What every category here rests on."""


class ResponseCategory(Enum):
    """Category of tumour response, worst last."""

    COMPLETE_RESPONSE = "complete_response"
    PARTIAL_RESPONSE = "partial_response"
    STABLE_DISEASE = "stable_disease"
    PROGRESSIVE_DISEASE = "progressive_disease"


ORDER = tuple(ResponseCategory)
_RULES = {
    # response below, progression above the nadir, least absolute growth (mm)
    "recist_1_1": (0.7, 1.2, 5.0),
    "rano": (0.5, 1.25, 0.0),
    "rano_2_0": (0.35, 1.4, 0.0),
}


def _sizes(sizes: ArrayLike) -> NDArray[np.float64]:
    values = np.atleast_2d(np.asarray(sizes, dtype=np.float64))
    if (
        values.ndim != 2
        or values.shape[1] < 2
        or not np.all(np.isfinite(values))
        or np.any(values < 0)
        or np.any(values[:, 0] <= 0)
    ):
        raise InputError(
            "The lesion sizes cannot be classified.",
            "Each course needs a positive size at baseline and at least one later size, none negative.",
            "Give [baseline, ..., assessment] for every course.",
        )
    return values


def categories(sizes: ArrayLike, *, criteria: Criteria = "recist_1_1") -> NDArray[np.intp]:
    """Category of every course at every assessment after the baseline.

    Parameters
    ----------
    sizes
        [course, assessment] or [assessment], the first one the baseline. RECIST 1.1: sum of longest
        diameters in mm. RANO: sum of products of perpendicular diameters in mm2. RANO 2.0: volume.
    criteria
        ``"recist_1_1"`` (Eisenhauer et al., Eur J Cancer 2009;45:228, doi:10.1016/j.ejca.2008.10.026,
        section 4.3): complete response = gone; progression = at least 20 % and 5 mm above the nadir, the
        baseline included; partial response = at least 30 % below the baseline; else stable.
        ``"rano"`` (Wen et al., J Clin Oncol 2010;28:1963, doi:10.1200/JCO.2009.26.3541): 25 % above the
        nadir, 50 % below the baseline. ``"rano_2_0"`` (its volumetric rule: Wen et al., J Clin Oncol
        2023;41:5187, doi:10.1200/JCO.23.01059 [verify]): volume 40 % above the nadir, 65 % below
        the baseline. New lesions, FLAIR, steroids, clinical state and the confirmation after four weeks are
        not part of it.

    Returns
    -------
    numpy.ndarray
        [course, assessment - 1] indices into ``tuple(ResponseCategory)``. Progression wins over response.

    Raises
    ------
    InputError
        When sizes are negative, not finite, or zero at baseline, or the criteria are not known.
    """
    if criteria not in _RULES:
        raise InputError(
            f"The response criteria '{criteria}' are not known.",
            "Only these sets of rules are implemented.",
            f"Use one of {', '.join(_RULES)}.",
        )
    response, progression, least_mm = _RULES[criteria]
    values = _sizes(sizes)
    # Ratios such as 21/30 must not miss the published limit by rounding.
    slack = 1e-9
    nadir = np.minimum.accumulate(values, axis=1)[:, :-1]
    later = values[:, 1:]
    out = np.full(later.shape, 2, dtype=np.intp)
    out[later <= values[:, :1] * (response + slack)] = 1
    out[later == 0.0] = 0
    out[(later > nadir) & (later >= nadir * (progression - slack)) & (later - nadir >= least_mm - slack)] = 3
    return out


def category_probabilities(final: NDArray[np.intp]) -> Mapping[ResponseCategory, float]:
    """Share of each category among an ensemble's categories."""
    counts = np.bincount(final, minlength=len(ORDER))
    return {category: float(counts[i] / final.size) for i, category in enumerate(ORDER)}


def most_probable(probabilities: Mapping[ResponseCategory, float]) -> ResponseCategory:
    """Return the most probable category; of equals, the worse."""
    return max(reversed(ORDER), key=lambda category: probabilities[category])


def best_category(courses: NDArray[np.intp]) -> NDArray[np.intp]:
    """Best category of every course before its first progression [course, assessment] -> [course]."""
    progressed = np.logical_or.accumulate(courses == 3, axis=1)
    return np.asarray(np.where(progressed, 3, courses).min(axis=1), dtype=np.intp)
