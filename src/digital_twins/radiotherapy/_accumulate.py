"""Equivalent doses by voxel, and the sum of several courses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from digital_twins._errors import InputError
from digital_twins.imaging import Dose, Volume, dose_on_grid, dose_per_fraction
from digital_twins.models import eqd2_gy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from digital_twins.imaging import Plan, RigidRegistration


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """A course of radiation to add up.

    Attributes
    ----------
    dose
        Planned dose of the whole course.
    plan, fractions
        The plan or the number of fractions: one of them says how the dose is divided.
    registration
        From the dose's frame of reference to that of the sum, where they differ.
    """

    dose: Dose
    plan: Plan | None = None
    fractions: int | None = None
    registration: RigidRegistration | None = None


def equivalent_dose(course: Course, alpha_beta_gy: float) -> Volume:
    """Return the dose in fractions of 2 Gy with the same effect, voxel by voxel, in gray.

    ``EQD2 = D (d + alpha/beta) / (2 + alpha/beta)`` with the fraction dose d of each voxel (Fowler 1989).

    Raises
    ------
    InputError
        The number of fractions is unknown, or alpha/beta is not positive.
    """
    count, each = dose_per_fraction(course.dose, course.plan, fractions=course.fractions)
    total = each.array.astype(np.float64) * count
    return each.with_array(eqd2_gy(total, count, alpha_beta_gy).astype(np.float32))


def accumulate_eqd2(courses: Sequence[Course], like: Volume, *, alpha_beta_gy: float) -> Volume:
    """Return the summed EQD2 of several courses on the grid of ``like``, in gray.

    Physical doses of courses with different fractions must not be added; their equivalents may, without
    recovery between courses.

    Raises
    ------
    InputError
        No course; a dose in another frame of reference without a registration; as :func:`equivalent_dose`.
    """
    if not courses:
        raise InputError("There is no course to add up.", "The list is empty.", "Pass at least one course.")
    total = np.zeros(like.shape)
    for course in courses:
        equivalent = equivalent_dose(course, alpha_beta_gy)
        total += dose_on_grid(equivalent, like, registration=course.registration).array
    return Volume(
        total.astype(np.float32),
        like.affine,
        frame_of_reference_uid=like.frame_of_reference_uid,
        modality="RTDOSE",
        patient_id=like.patient_id,
    )
