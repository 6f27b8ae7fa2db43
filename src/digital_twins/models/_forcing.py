"""What treatments do to a tumour, as plain arrays: jumps, survival maps, sums of exponential kill rates."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

FloatArray = NDArray[np.float64]


def _empty() -> FloatArray:
    return np.zeros(0)


@dataclass(frozen=True, eq=False)
class SurvivalMap:
    """A jump that differs from voxel to voxel: a resection (0 in the cavity) or a fraction's dose map.

    Attributes
    ----------
    day
        Day on which the density is multiplied by ``survival``; an output on that day is the density before.
    survival
        Surviving fraction in 0..1, [slice, row, column] of the domain; for a dose map ``exp(-alpha d - beta
        d^2)`` of each voxel's dose d. A read-only float64 array is kept as it is, any other copied.
    leaves_dead_cells
        Whether the cells that do not survive stay in place, dead (radiation), or are gone (resection).

    Raises
    ------
    InputError
        When the day is not finite or a fraction is outside 0..1.
    """

    day: float
    survival: NDArray[np.float64]
    leaves_dead_cells: bool = False

    def __post_init__(self) -> None:
        values = np.asarray(self.survival, dtype=np.float64)
        if values.flags.writeable:
            values = values.copy()
            values.setflags(write=False)
        object.__setattr__(self, "survival", values)
        usable = (
            np.isfinite(self.day) and values.ndim == 3 and bool(np.all((values >= 0.0) & (values <= 1.0)))
        )
        if not usable:
            raise InputError(
                "The survival map cannot be used.",
                "It needs a finite day and a three-dimensional array of fractions between 0 and 1.",
                "Give exp(log survival) of each voxel, and 0 where tissue was taken out.",
            )


@dataclass(frozen=True, eq=False)
class Forcing:
    """Jumps and kill rate that act on every tumour cell alike, and jumps by voxel; no drug, no plan.

    At each ``jump_days[i]`` the density is multiplied by ``exp(jump_log_survival[i])`` (a radiation
    fraction). Between jumps the density N is killed at the rate ``c(t) N`` with::

        c(t) = sum_i amplitude_per_day[i] * exp(-decay_per_day[i] * (t - dose_days[i]))

    over the terms with ``dose_days[i] <= t``,

    so a bolus is one term a compartment, an oral dose has a negative term for its absorption, an infusion a
    term that starts and one that stops, and constant dosing a term with decay 0. The integral of ``c`` is a
    closed form, which lets a solver pass any number of doses in one step without error.

    Attributes
    ----------
    jump_days, jump_log_survival
        Day and log survival (<= 0) of each jump.
    dose_days, amplitude_per_day, decay_per_day
        Start in days, amplitude in 1/day (signed) and decay in 1/day (>= 0) of each kill-rate term.
    survival_maps
        Jumps that differ from voxel to voxel.

    Days count from the twin's baseline and may be negative for what was given before it: a kill term still
    acts after day 0 as far as it has not decayed, a jump before day 0 does not.

    Raises
    ------
    InputError
        When lengths differ, a number is not finite, a jump would add cells, or a decay is negative.
    """

    jump_days: FloatArray = field(default_factory=_empty)
    jump_log_survival: FloatArray = field(default_factory=_empty)
    dose_days: FloatArray = field(default_factory=_empty)
    amplitude_per_day: FloatArray = field(default_factory=_empty)
    decay_per_day: FloatArray = field(default_factory=_empty)
    survival_maps: tuple[SurvivalMap, ...] = ()

    def __post_init__(self) -> None:
        for name in _FIELDS:
            values = np.array(getattr(self, name), dtype=np.float64, copy=True, ndmin=1)
            values.setflags(write=False)
            object.__setattr__(self, name, values)
            if values.ndim != 1 or not np.all(np.isfinite(values)):
                raise InputError(
                    f"The forcing's {name} cannot be used.",
                    "It must be a list of finite numbers.",
                    "Check the treatment for missing days or doses.",
                )
        jumps = {self.jump_days.size, self.jump_log_survival.size}
        doses = {self.dose_days.size, self.amplitude_per_day.size, self.decay_per_day.size}
        if len(jumps) > 1 or len(doses) > 1:
            raise InputError(
                "The forcing's arrays differ in length.",
                "Each jump needs a day and a survival, each kill term a day, an amplitude and a decay.",
                "Give arrays of equal length.",
            )
        if np.any(self.jump_log_survival > 0.0) or np.any(self.decay_per_day < 0.0):
            raise InputError(
                "The forcing would create cells.",
                "A jump has a survival above 1, or a kill term grows instead of decaying.",
                "Use log survival <= 0 and decay >= 0.",
            )

    def cumulative_log_kill(self, days: ArrayLike) -> FloatArray:
        """Return the integral of the kill rate from -infinity to each day (jumps not included)."""
        day = np.asarray(days, dtype=np.float64)
        elapsed = np.maximum(day[..., None] - self.dose_days, 0.0)
        decay = self.decay_per_day
        decaying = decay > 0.0
        safe = np.where(decaying, decay, 1.0)
        exposure = np.where(decaying, -np.expm1(-safe * elapsed) / safe, elapsed)
        return np.asarray(exposure @ self.amplitude_per_day)

    def kill_rate_per_day(self, days: ArrayLike) -> FloatArray:
        """Return the kill rate ``c(t)`` in 1/day at each day."""
        elapsed = np.asarray(days, dtype=np.float64)[..., None] - self.dose_days
        active = elapsed >= 0.0
        terms = np.where(active, np.exp(-self.decay_per_day * np.where(active, elapsed, 0.0)), 0.0)
        return np.asarray(terms @ self.amplitude_per_day)

    def log_jumps(self, from_day: float, before_day: float) -> float:
        """Return the summed log survival of the jumps in ``from_day <= day < before_day``."""
        inside = (self.jump_days >= from_day) & (self.jump_days < before_day)
        return float(self.jump_log_survival[inside].sum())

    def shifted(self, days: float) -> Forcing:
        """Return the same forcing, ``days`` later."""
        return Forcing(
            self.jump_days + days,
            self.jump_log_survival,
            self.dose_days + days,
            self.amplitude_per_day,
            self.decay_per_day,
            tuple(replace(jump, day=jump.day + days) for jump in self.survival_maps),
        )

    def __add__(self, other: Forcing) -> Forcing:
        """Both together: the logs of survival add."""
        arrays = {n: np.concatenate([getattr(self, n), getattr(other, n)]) for n in _FIELDS}
        return Forcing(**arrays, survival_maps=self.survival_maps + other.survival_maps)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return what acts on all cells alike as named arrays (no survival maps)."""
        return {name: getattr(self, name) for name in _FIELDS}


_FIELDS = ("jump_days", "jump_log_survival", "dose_days", "amplitude_per_day", "decay_per_day")
