"""From a planned dose to the dose of one fraction, and from its grid to another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from digital_twins._errors import InputError
from digital_twins.imaging._resample import refuse_other_frame, resample
from digital_twins.imaging._rt_dose import Dose

if TYPE_CHECKING:
    from digital_twins.imaging._registration import RigidRegistration
    from digital_twins.imaging._rt_plan import Plan
    from digital_twins.imaging._volume import Volume


def dose_per_fraction(
    dose: Dose, plan: Plan | None = None, *, fractions: int | None = None
) -> tuple[int, Volume]:
    """Return the number of fractions, and the dose of one in gray.

    The dose of a plan, of a fraction group or of beams is that of all fractions (DoseSummationType, PS3.3
    section C.8.8.3), so it is divided by their number: 14 Gy in 7 fractions are 7 times 2 Gy, not one
    exposure of 14 Gy, which would kill far more. The dose of a session is taken as it is.

    Parameters
    ----------
    dose
        Planned dose.
    plan
        The plan that it belongs to.
    fractions
        Number of fractions; may be left out when the plan says it.

    Raises
    ------
    InputError
        The number of fractions is unknown or contradicts the plan, the dose names another plan, or one dose
        holds several fraction groups, whose fractions differ.
    """
    if plan is not None and dose.plan_uids and plan.uid not in dose.plan_uids:
        raise InputError(
            what="The dose belongs to another plan.",
            why="Its ReferencedRTPlanSequence names another RTPLAN.",
            fix="Pass the plan that the dose was computed for.",
        )
    planned = None if plan is None else _planned(dose, plan)
    if planned is not None and fractions is not None and planned != fractions:
        raise InputError(
            what=f"The plan has {planned} fractions, the treatment {fractions}.",
            why="The dose of one fraction follows from their number.",
            fix="Leave the number out, or correct it.",
        )
    count = fractions if planned is None else planned
    if count is None or count < 1:
        raise InputError(
            what="The number of fractions is not known.",
            why="A dose grid does not say in how many fractions it is given.",
            fix="Pass the RTPLAN (plan=), or the number of fractions.",
        )
    if dose.is_one_session:
        return count, dose.volume
    return count, dose.volume.with_array(np.asarray(dose.volume.array / count, dtype=np.float32))


def _planned(dose: Dose, plan: Plan) -> int:
    groups = plan.fraction_groups
    if dose.fraction_group is not None:
        groups = tuple(group for group in groups if group.number == dose.fraction_group)
    if len(groups) == 1:
        return groups[0].fractions_planned
    raise InputError(
        what=f"The dose fits {len(groups)} fraction groups of the plan.",
        why="The fractions of different groups have different doses, which a sum does not tell.",
        fix="Export the dose of each fraction group (DoseSummationType FRACTION), and give each as a "
        "treatment of its own.",
    )


def dose_on_grid(
    dose: Volume | Dose, like: Volume, *, registration: RigidRegistration | None = None
) -> Volume:
    """Return a dose in gray on the grid of ``like``, by trilinear interpolation; 0 outside its own grid.

    Parameters
    ----------
    dose
        Dose, or volume in gray.
    like
        Grid of the same frame of reference.
    registration
        From the dose's frame of reference to that of ``like``; needed where they differ.

    Raises
    ------
    InputError
        Another frame of reference without a registration, another patient, negative values, or no dose
        anywhere on the grid.
    """
    volume = dose.volume if isinstance(dose, Dose) else dose
    if volume.array.min() < 0 or not np.isfinite(volume.array).all():
        raise InputError(
            what="The dose map is negative or not a number somewhere.",
            why="Absorbed dose is 0 Gy or more.",
            fix="Pass the dose in gray.",
        )
    if registration is not None:
        volume = registration.apply(volume)
    own, other = volume.frame_of_reference_uid, like.frame_of_reference_uid
    if own and other and own != other:
        raise InputError(
            what="The dose map belongs to another frame of reference.",
            why="Where it lies in this image is unknown.",
            fix="Register the planning image to this one and pass the registration.",
        )
    refuse_other_frame(volume, like)
    placed = resample(replace(volume, array=volume.array.astype(np.float32)), like, outside=0.0)
    if placed.array.max() <= 0.0:
        raise InputError(
            what="The dose map does not reach the image.",
            why="The dose is 0 everywhere on the grid.",
            fix="Check that dose and image are of the same patient and region.",
        )
    return placed
