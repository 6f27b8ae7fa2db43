"""A density on its way through time: splitting steps in a region that follows it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from digital_twins.models._active import PIECE_STEPS, ActiveRegion
from digital_twins.models._diffusion import diffuse, plan_diffusion

if TYPE_CHECKING:
    from digital_twins.models._diffusion import Diffusion
    from digital_twins.models._domain import Domain
    from digital_twins.models._schedule import Schedule

Array = NDArray[Any]

_POLYNOMIAL_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Aim:
    """What a solution aims for.

    Attributes
    ----------
    tolerance
        Relative L2 error.
    left
        Share of the norm that survival maps leave.
    steps
        Splitting steps in all.
    refine
        Factor on the explicit steps in each.
    """

    tolerance: float
    left: float = 1.0
    steps: int = 1
    refine: int = 1

    def amplification(self, growth: float, days: float) -> float:
        """Largest factor by which a small relative difference grows: linear growth bounds the logistic."""
        return math.exp(min(max(growth, 0.0) * days, 600.0)) / self.left

    def polynomial_accuracy(self, growth: float, days: float, dtype: np.dtype[Any]) -> float:
        """Accuracy of each stabilised diffusion; 0 where rounding alone would exceed it."""
        whole = _POLYNOMIAL_SHARE * self.tolerance / self.amplification(growth, days)
        return whole / max(self.steps, 1) if whole >= float(np.finfo(dtype).eps) else 0.0


class March:
    """Advances a padded field from stop to stop.

    Parameters
    ----------
    domain, dtype
        Where cells live, and the type of number.
    rates
        Diffusion coefficient in mm2/day and proliferation rate in 1/day.
    end_day
        Last day of the solution.
    aim
        Tolerance and what follows from it.
    """

    def __init__(
        self,
        domain: Domain,
        dtype: np.dtype[Any],
        *,
        rates: tuple[float, float],
        end_day: float,
        aim: Aim,
    ) -> None:
        self._domain, self._dtype = domain, dtype
        self._diffusion, self._growth = rates
        self._end, self._aim = end_day, aim
        self._region = ActiveRegion(domain, dtype, aim.tolerance)

    def start(self, field: Array, day: float) -> None:
        """Fit the active region to the field."""
        self._region.choose(field, self._aim.amplification(self._growth, self._end - day))

    def over(self, field: Array, schedule: Schedule, day: float) -> None:
        """Advance the field through a stretch that starts on ``day``."""
        if schedule.step_days <= 0.0:
            return
        plan = self._plan(schedule.step_days, self._end - day)
        first = schedule.first
        for at in range(0, schedule.gain.size, PIECE_STEPS):
            piece = slice(at, at + PIECE_STEPS)
            maps = first, schedule.gain[piece], schedule.saturation[piece]
            self._piece(field, maps, plan, day + at * schedule.step_days)
            first = (1.0, 0.0)

    def _plan(self, step_days: float, days_left: float) -> Diffusion:
        accuracy = self._aim.polynomial_accuracy(self._growth, days_left, self._dtype)
        return plan_diffusion(
            self._diffusion * step_days,
            self._domain.largest_conductance_per_mm2,
            accuracy=accuracy,
            refine=self._aim.refine,
        )

    def _piece(
        self,
        field: Array,
        maps: tuple[tuple[float, float], NDArray[np.float64], NDArray[np.float64]],
        plan: Diffusion,
        day: float,
    ) -> None:
        from digital_twins.models._active_kernels import react_in_place

        region, kind = self._region, self._dtype.type
        first, gain, saturation = maps
        while True:
            flat = region.take(field)
            if first != (1.0, 0.0):
                react_in_place(flat, kind(first[0]), kind(first[1]))
            diffuse(flat, region.scratch, region.geometry, diffusion=plan, gain=gain, saturation=saturation)
            if not region.overflows(flat):
                break
            region.enlarge(field, self._aim.amplification(self._growth, self._end - day))
        region.put(field, flat, _composed(maps))


def _composed(
    maps: tuple[tuple[float, float], NDArray[np.float64], NDArray[np.float64]],
) -> tuple[float, float]:
    """All reactions of a piece as one Moebius map."""
    (gain, saturation), gains, saturations = maps
    for a, b in zip(gains, saturations, strict=True):
        gain, saturation = gain * float(a), saturation + gain * float(b)
    return gain, saturation
