"""Two clones under one drug: sensitive cells that it kills, resistant cells that it does not."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from digital_twins._errors import InputError

FloatArray = NDArray[np.float64]


def clone_log_survival(
    log_kill: ArrayLike,
    resistant_fraction: float,
    *,
    elapsed_days: ArrayLike = 0.0,
    growth_gap_per_day: float = 0.0,
) -> FloatArray:
    """Log survival of a mixture of two clones against the same cells untreated.

    ``ln((1 - f) exp(-C) + f exp(-g t))`` with the sensitive cells' log kill C, the fraction f of resistant
    cells at the start and the growth rate g that resistance costs. Where both clones grow and move alike
    (g = 0) it is exact for every growth law, diffusion and further treatment that do not tell the clones
    apart: the ratio of the clones is then the same everywhere and changes by the drug alone. With a cost it
    is exact while growth is exponential, and overstates the cost where the tissue is full.

    Parameters
    ----------
    log_kill
        C, the natural-log kill of sensitive cells so far, not negative.
    resistant_fraction
        f in 0..1.
    elapsed_days
        t, days since the start, of ``log_kill``'s shape or a scalar.
    growth_gap_per_day
        g in 1/day, not negative.

    Raises
    ------
    InputError
        When a number is out of range.
    """
    kill, days = np.asarray(log_kill, dtype=np.float64), np.asarray(elapsed_days, dtype=np.float64)
    usable = 0.0 <= resistant_fraction <= 1.0 and 0.0 <= growth_gap_per_day < math.inf
    if not usable or np.any(kill < -1e-12) or not np.all(np.isfinite(days)):
        raise InputError(
            "The clones cannot be simulated.",
            "A resistant fraction lies in 0..1; a log kill and a cost of resistance are not negative.",
            "Correct the parameters.",
        )
    with np.errstate(divide="ignore"):
        sensitive, resistant = np.log1p(-resistant_fraction), np.log(resistant_fraction)
    return np.asarray(np.logaddexp(sensitive - kill, resistant - growth_gap_per_day * days))


@dataclass(frozen=True, slots=True)
class TwoCloneModel:
    """Exponential birth and death of sensitive and resistant cells under constant dosing.

    ``S' = -lambda S``, ``R' = rho R``: the deterministic core of Foo and Michor, PLoS Comput Biol
    2009;5:e1000557, doi:10.1371/journal.pcbi.1000557, and Bozic et al., eLife 2013;2:e00747,
    doi:10.7554/eLife.00747.

    Attributes
    ----------
    decline_per_day
        lambda, net loss of sensitive cells under the drug in 1/day, positive.
    regrowth_per_day
        rho, net growth of resistant cells in 1/day, positive.
    resistant_fraction
        Of the cells at the start, in 0..1 without the ends.

    Raises
    ------
    InputError
        When a number is out of range.
    """

    decline_per_day: float
    regrowth_per_day: float
    resistant_fraction: float

    def __post_init__(self) -> None:
        rates = (self.decline_per_day, self.regrowth_per_day)
        if not all(0.0 < r < math.inf for r in rates) or not 0.0 < self.resistant_fraction < 1.0:
            raise InputError(
                "The two clones cannot be simulated.",
                "Both rates must be positive and the resistant fraction between 0 and 1.",
                "Correct the parameters.",
            )

    def relative_size(self, days: ArrayLike) -> FloatArray:
        """Cells on each day over those at the start."""
        t, f = np.asarray(days, dtype=np.float64), self.resistant_fraction
        return np.asarray(
            (1.0 - f) * np.exp(-self.decline_per_day * t) + f * np.exp(self.regrowth_per_day * t)
        )

    @property
    def nadir_day(self) -> float:
        """Day of the fewest cells, 0 when they only grow."""
        f = self.resistant_fraction
        odds = self.decline_per_day * (1.0 - f) / (self.regrowth_per_day * f)
        return max(0.0, math.log(odds) / (self.decline_per_day + self.regrowth_per_day))

    @property
    def relapse_day(self) -> float:
        """Day on which the resistant cells alone are as many as all cells were at the start."""
        return -math.log(self.resistant_fraction) / self.regrowth_per_day


def resistance_probability(cells: float, *, mutation_rate: float, death_over_birth: float) -> float:
    """Probability that a tumour grown from one cell holds a resistant cell once it has ``cells`` cells.

    ``1 - exp(-M u (b/d) ln(1 / (1 - d/b)))`` for resistance that is neutral before treatment, in the limit
    of many cells and rare mutation: Iwasa, Nowak & Michor, Genetics 2006;172:2557,
    doi:10.1534/genetics.105.049791, in the reading that u counts mutations a division and a resistant line
    must not have died out [verify]; proved here against simulated branching processes.

    Parameters
    ----------
    cells
        M, cells at detection.
    mutation_rate
        u, probability that a division makes one resistant cell.
    death_over_birth
        d/b in 0..1 without 1.

    Raises
    ------
    InputError
        When a number is out of range.
    """
    if not (cells >= 1.0 and 0.0 <= mutation_rate <= 1.0 and 0.0 <= death_over_birth < 1.0):
        raise InputError(
            "The probability of resistance cannot be computed.",
            "It needs at least one cell, a mutation rate in 0..1 and fewer deaths than births.",
            "Correct the parameters.",
        )
    turnover = 1.0 if death_over_birth == 0.0 else -math.log1p(-death_over_birth) / death_over_birth
    return float(-math.expm1(-cells * mutation_rate * turnover))
