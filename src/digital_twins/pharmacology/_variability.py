"""Kinetics of single patients, drawn from the published spread between patients."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from digital_twins._errors import InputError
from digital_twins.pharmacology._library import drug

if TYPE_CHECKING:
    from digital_twins.pharmacology._library import Drug


def individual_kinetics(name: str, count: int, *, seed: int) -> tuple[Drug, ...]:
    """Draw the kinetics of ``count`` patients: each constant log-normal around the typical value.

    The spread is the coefficient of variation of the constant's source (``Parameter.cv``): omega^2 = log(1 +
    cv^2). Constants without one stay typical, and constants vary independently, as the sources give no
    correlations that were read. Hand one to :func:`concentration_mg_l` or :func:`kill_terms`.

    Raises
    ------
    InputError
        When the drug has no kinetics, or the count is below 1.
    """
    if count < 1:
        raise InputError(
            f"{count} patients cannot be drawn.", "The count is below 1.", "Draw one patient or more."
        )
    typical = drug(name)
    rng = np.random.default_rng(seed)
    varying = {key: p for key, p in typical.parameters.items() if p.cv > 0.0}
    spread = np.sqrt(np.log1p(np.square([p.cv for p in varying.values()])))
    factors = np.exp(rng.standard_normal((count, len(varying))) * spread)
    return tuple(
        replace(
            typical,
            parameters=MappingProxyType(
                {
                    **typical.parameters,
                    **{
                        key: replace(p, value=p.value * float(factor))
                        for (key, p), factor in zip(varying.items(), row, strict=True)
                    },
                }
            ),
        )
        for row in factors
    )
