"""Growth with a known answer: the well-mixed logistic under treatment, and the speed of a Fisher wave."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from digital_twins._errors import InputError
from digital_twins.models._domain import Domain
from digital_twins.models._forcing import Forcing
from digital_twins.models._kernels import moebius_maps
from digital_twins.models._reaction_diffusion import ReactionDiffusionModel
from digital_twins.models._schedule import event_arrays

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def logistic_growth(
    initial: float,
    days: ArrayLike,
    *,
    proliferation_per_day: float,
    carrying_capacity: float = 1.0,
    forcing: Forcing | None = None,
) -> NDArray[np.float64]:
    """Well-mixed tumour ``N' = k N (1 - N/theta) - c(t) N`` with jumps, exact to rounding (Bernoulli).

    Parameters
    ----------
    initial
        Size at day 0, in the unit of the carrying capacity (cells, cm3, ...).
    days
        Rising days from 0 on; on the day of a jump the size is the one before it.
    proliferation_per_day, carrying_capacity, forcing
        k, theta and the treatments.

    Returns
    -------
    numpy.ndarray
        Size at each day.

    Raises
    ------
    InputError
        When the forcing holds a survival map.
    """
    if forcing is not None and forcing.survival_maps:
        raise InputError(
            "A survival map has no place in a well-mixed tumour.",
            "It says what survives in each voxel; this model has no voxels.",
            "Use ReactionDiffusionModel, or a jump for all cells.",
        )
    times = np.concatenate([[0.0], np.asarray(days, dtype=np.float64)])
    gain, saturation = moebius_maps(times, *event_arrays(forcing or Forcing()), float(proliferation_per_day))
    size = initial / carrying_capacity
    sizes = []
    for a, b in zip(gain, saturation, strict=True):
        size = a * size / (1.0 + b * size)
        sizes.append(size)
    return np.asarray(sizes) * carrying_capacity


@dataclass(frozen=True, slots=True)
class FisherWave:
    """Speed of a solved front beside the analytic ``2 sqrt(D k)``, in mm/day."""

    speed_mm_per_day: float
    analytic_mm_per_day: float

    @property
    def relative_error(self) -> float:
        """(solved - analytic) / analytic."""
        return self.speed_mm_per_day / self.analytic_mm_per_day - 1.0


def fisher_wave_check(
    diffusion_mm2_per_day: float = 0.1, proliferation_per_day: float = 0.05, *, spacing_mm: float = 0.5
) -> FisherWave:
    """Let a front run along a rod and measure its speed: the solver's self-check, in about 10 CPU ms.

    The asymptotic speed is ``2 sqrt(D k)`` (Kolmogorov, Petrovsky & Piskunov 1937; Fisher 1937,
    doi:10.1111/j.1469-1809.1937.tb02153.x); at time t the front is slower by ``3 sqrt(D/k) / (2 t)``
    (Bramson 1983, doi:10.1090/memo/0285), here about 1 %.
    """
    analytic = 2.0 * math.sqrt(diffusion_mm2_per_day * proliferation_per_day)
    days = np.array([60.0, 120.0]) / proliferation_per_day
    length_mm = analytic * days[1] * 1.2
    voxels = math.ceil(length_mm / spacing_mm)
    rod = Domain(np.ones((1, 1, voxels), dtype=bool), (spacing_mm, spacing_mm, spacing_mm))
    start = np.zeros(rod.shape)
    start[..., : max(2, voxels // 100)] = 1.0
    model = ReactionDiffusionModel(diffusion_mm2_per_day, proliferation_per_day)
    positions = [_front_mm(state, spacing_mm) for _, state in model.trajectory(start, rod, days)]
    return FisherWave(float(np.diff(positions)[0] / np.diff(days)[0]), analytic)


def _front_mm(state: NDArray[np.floating], spacing_mm: float) -> float:
    line = state[1, 1, 1:-1].astype(np.float64)
    behind = int(np.flatnonzero(line >= 0.5)[-1])
    ahead = min(behind + 1, line.size - 1)
    share = (line[behind] - 0.5) / max(line[behind] - line[ahead], 1e-12)
    return float((behind + share) * spacing_mm)
