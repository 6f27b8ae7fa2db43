"""Radiation as jumps: the linear-quadratic survival of every fraction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from digital_twins.models import Forcing, lq_log_survival
from digital_twins.patient_modeling._context import parameter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from digital_twins.patient_modeling._context import TumourContext
    from digital_twins.records import Treatment


def radiation_forcing(
    treatment: Treatment, parameters: Mapping[str, float], context: TumourContext | None
) -> Forcing:
    """Return one jump a fraction, the prescribed dose in every voxel.

    Raises
    ------
    InputError
        When ``alpha_per_gy`` or ``alpha_beta_gy`` is missing or negative.
    """
    alpha = parameter(parameters, "alpha_per_gy", "radiation")
    alpha_beta = parameter(parameters, "alpha_beta_gy", "radiation")
    doses = np.array([f.dose_gy for f in treatment.fractions])
    return Forcing(
        jump_days=np.array([f.day for f in treatment.fractions]),
        jump_log_survival=lq_log_survival(doses, alpha, alpha_beta),
    )
