"""Cells that radiation killed stay visible until they are cleared: a second density beside the living."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from digital_twins._errors import InputError
from digital_twins.models._level import SLOPE_FLOOR, volume_above_mm3
from digital_twins.models._schedule import event_arrays

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike

    from digital_twins.models._domain import Domain
    from digital_twins.models._forcing import Forcing
    from digital_twins.models._reaction_diffusion import ReactionDiffusionModel

Array = NDArray[Any]
FloatArray = NDArray[np.float64]

LONGEST_STRETCH_DAYS = 7.0
"""Longest time over which killed cells are counted without the diffusion of the living."""
_LONGEST_NODE_DAYS = 1.0
"""Longest time over which what a drug kills is counted as one event in its middle."""


@dataclass(frozen=True, slots=True, eq=False)
class TumourState:
    """Cells on one day, living and dead. Arrays are padded by a voxel and overwritten by the next step.

    Attributes
    ----------
    day
        Day of the state.
    living, dead
        Density of cells that live, and of those that were killed and are still there.
    most
        Largest density of both together that each voxel has had since cells were left dead; None before.
    """

    day: float
    living: Array
    dead: Array | None = None
    most: Array | None = None

    @property
    def cells(self) -> Array:
        """Living and dead cells together: what an image shows."""
        return self.living if self.dead is None else self.living + self.dead

    def visible_volume_mm3(self, threshold: float, *, voxel_volume_mm3: float) -> float:
        """Volume of the visible tumour.

        Before any cell is left dead it is the volume above the threshold. Afterwards tissue collapses as
        cells are cleared: every part of a voxel that was ever above the threshold counts by the share of its
        cells that is left, so the volume of a sterilised tumour is proportional to its cell number: the
        assumption of Chvetsov 2008, doi:10.1088/0031-9155/53/9/013.

        Parameters
        ----------
        threshold
            Density at the visible edge.
        voxel_volume_mm3
            Volume of a voxel.
        """
        from digital_twins.models._clearance_kernels import shrunken_volume

        if self.dead is None or self.most is None:
            return volume_above_mm3(self.living, threshold, voxel_volume_mm3=voxel_volume_mm3)
        voxels = shrunken_volume(self.living, self.dead, self.most, threshold, SLOPE_FLOOR)
        return voxel_volume_mm3 * float(voxels)

    def visible_mask(self, threshold: float) -> NDArray[np.bool_]:
        """Voxels (without the padding) of the visible tumour: the densest, as many as its volume fills."""
        from digital_twins.models._clearance_kernels import level_of_count

        inner = self.cells[1:-1, 1:-1, 1:-1]
        if self.most is None:
            return np.asarray(inner >= threshold)
        count = round(self.visible_volume_mm3(threshold, voxel_volume_mm3=1.0))
        if count < 1:
            return np.zeros(inner.shape, dtype=bool)
        level = float(level_of_count(np.ascontiguousarray(inner).reshape(-1), count))
        return np.asarray(inner >= max(level, np.finfo(np.float32).tiny))


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Killed in one stretch: ``sum_j weight_j * gain_j N / (1 + saturation_j N)`` of the N at its start."""

    decay: float
    gain: FloatArray
    saturation: FloatArray
    weight: FloatArray


def trajectory_with_dead_cells(
    model: ReactionDiffusionModel,
    density: ArrayLike,
    domain: Domain,
    *,
    output_days: Sequence[float] | FloatArray,
    forcing: Forcing,
    clearance_half_life_days: float,
    tolerance: float = 1.0e-4,
    drugs_leave_dead_cells: bool = False,
) -> Iterator[TumourState]:
    """Yield living and dead cells at each output day.

    Cells killed by jumps (radiation fractions, and survival maps that leave dead cells) move into the dead
    density D, which neither grows nor moves and is cleared exponentially::

        dD/dt = -(ln 2 / half_life) D,    D <- D + (1 - S) N  at a jump of survival S

    With ``drugs_leave_dead_cells`` what the kill rate c(t) takes moves there, too: dD/dt gains c(t) N.

    The living density is exactly that of :meth:`ReactionDiffusionModel.trajectory`. Chvetsov, Palta & Nagata,
    Phys Med Biol 2008;53:2405, doi:10.1088/0031-9155/53/9/013: volumes of lung tumours after stereotactic
    radiotherapy follow it. The killed of up to seven days are found from the living at their start by the
    solver's own exact reaction maps (growth, drugs and earlier fractions included); only the diffusion
    meanwhile is left out of D, about 1 %.

    Parameters
    ----------
    model, density, domain
        As for :meth:`ReactionDiffusionModel.trajectory`, from day 0 on, with a carrying capacity of 1.
    output_days
        Days from 0 on, in rising order.
    clearance_half_life_days
        Half-life of dead cells, positive.
    tolerance
        Of the living density.
    drugs_leave_dead_cells
        Whether drugs leave dead cells with the same half-life, or theirs vanish at once.

    Yields
    ------
    TumourState
        Its arrays are overwritten by the next step.

    Raises
    ------
    InputError
        As the model's trajectory; or a half-life that is not positive, or another carrying capacity.
    """
    refuse_clearance(model, clearance_half_life_days)
    days = np.asarray(output_days, dtype=np.float64)
    first = first_kill(forcing, drugs=drugs_leave_dead_cells)
    if first is None:
        return (
            TumourState(day, living)
            for day, living in model.trajectory(density, domain, days, forcing=forcing, tolerance=tolerance)
        )
    stops = clearance_stops(days, forcing, first)
    rate = math.log(2.0) / clearance_half_life_days
    states = model.trajectory(density, domain, stops, forcing=forcing, tolerance=tolerance)
    stretches = _stretches(stops, forcing, (model.proliferation_rate, rate), drugs=drugs_leave_dead_cells)
    return _follow(states, (stops, days, first), forcing, stretches)


def refuse_clearance(model: ReactionDiffusionModel, half_life_days: float | None) -> None:
    """Raise when the clearance of dead cells cannot be computed; None stands for no dead cells."""
    half_life = 1.0 if half_life_days is None else half_life_days
    if not (math.isfinite(half_life) and half_life > 0.0):
        raise InputError(
            "The clearance of dead cells cannot be computed.",
            f"Their half-life is {half_life:g} days.",
            "Use a positive number of days.",
        )
    if model.carrying_capacity != 1.0:
        raise InputError(
            "The clearance of dead cells needs densities relative to the carrying capacity.",
            f"The model's carrying capacity is {model.carrying_capacity:g}.",
            "Use a carrying capacity of 1.",
        )


def first_kill(forcing: Forcing, *, drugs: bool) -> float | None:
    """Day from which dead cells are left, not before 0; None where none are."""
    days = [
        *forcing.jump_days.tolist(),
        *(jump.day for jump in forcing.survival_maps if jump.leaves_dead_cells),
    ]
    days = [day for day in days if day >= 0.0]
    if drugs and forcing.amplitude_per_day.any():
        days.append(max(0.0, float(forcing.dose_days.min())))
    return min(days) if days else None


def clearance_stops(days: FloatArray, forcing: Forcing, first: float) -> FloatArray:
    """Output days, days of survival maps, and a day a week from the first kill on."""
    last = float(days[-1]) if days.size else 0.0
    maps = [jump.day for jump in forcing.survival_maps if 0.0 <= jump.day < last]
    weeks = np.arange(first, last, LONGEST_STRETCH_DAYS)
    return np.unique(np.concatenate([days, maps, weeks]))


def _follow(
    states: Iterator[tuple[float, Array]],
    when: tuple[FloatArray, FloatArray, float],
    forcing: Forcing,
    stretches: Sequence[_Stretch],
) -> Iterator[TumourState]:
    from digital_twins.models._clearance_kernels import add_killed, add_most

    stops, days, first = when
    wanted = {float(day) for day in days}
    dead: Array | None = None
    most: Array | None = None
    for index, (day, living) in enumerate(states):
        if most is not None and dead is not None:
            add_most(most.reshape(-1), living.reshape(-1), dead.reshape(-1))
        if float(day) in wanted:
            yield TumourState(float(day), living, dead, most)
        if index + 1 == stops.size:
            return
        if stops[index + 1] <= first:
            continue
        if dead is None or most is None:
            dead, most = np.zeros_like(living), living.copy()
        remaining = _through_maps(living, (dead, most), forcing, float(day))
        stretch = stretches[index]
        number = living.dtype.type
        add_killed(
            dead.reshape(-1),
            remaining.reshape(-1),
            number(stretch.decay),
            *(values.astype(number) for values in (stretch.gain, stretch.saturation, stretch.weight)),
        )


def _through_maps(living: Array, kept: tuple[Array, Array], forcing: Forcing, day: float) -> Array:
    """Apply the day's survival maps to dead and most in place; return the living that remain."""
    dead, most = kept
    remaining = living
    inner = (slice(1, -1),) * 3
    for jump in forcing.survival_maps:
        if jump.day != day:
            continue
        survival = jump.survival.astype(living.dtype)
        if remaining is living:
            remaining = living.copy()
        if jump.leaves_dead_cells:
            dead[inner] += (1 - survival) * remaining[inner]
        else:
            dead[inner] *= survival
            most[inner] *= survival
        remaining[inner] *= survival
    return remaining


def _stretches(
    stops: FloatArray, forcing: Forcing, rates: tuple[float, float], *, drugs: bool
) -> list[_Stretch]:
    """Kill events of each stretch: jumps on their day, what drugs kill in pieces of up to a day."""
    from digital_twins.models._kernels import moebius_maps

    events = event_arrays(forcing)
    growth, rate = rates
    drugs = drugs and bool(forcing.amplitude_per_day.any())
    made = []
    for start, end in pairwise(stops.tolist()):
        inside = (forcing.jump_days >= start) & (forcing.jump_days < end)
        jumps, which = np.unique(forcing.jump_days[inside], return_inverse=True)
        log_survival = np.zeros(jumps.size)
        np.add.at(log_survival, which, forcing.jump_log_survival[inside])
        pieces = math.ceil((end - start) / _LONGEST_NODE_DAYS) if drugs else 1
        grid = np.unique(np.concatenate([start + (end - start) / pieces * np.arange(pieces), jumps]))
        ends = np.append(grid[1:], end)
        gain, saturation = moebius_maps(np.append(grid, end), *events, float(growth))
        before = _composed(gain, saturation)
        at = np.searchsorted(grid, jumps)
        survived = np.zeros(grid.size)
        survived[at] = log_survival
        weight = -np.expm1(survived) * np.exp(-rate * (end - grid))
        if drugs:
            total = forcing.cumulative_log_kill(np.append(grid, end))
            killed = np.maximum(np.diff(total), 0.0)
            middle = 0.5 * (grid + ends)
            weight += np.exp(survived) * -np.expm1(-killed) * np.exp(-rate * (end - middle))
        kept = weight > 0.0
        made.append(_Stretch(math.exp(-rate * (end - start)), before[0][kept], before[1][kept], weight[kept]))
    return made


def _composed(gain: FloatArray, saturation: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Maps from the start of a stretch to just before each of its times."""
    total_gain, total_saturation = np.ones(gain.size), np.zeros(gain.size)
    for k in range(1, gain.size):
        total_saturation[k] = total_saturation[k - 1] + saturation[k - 1] * total_gain[k - 1]
        total_gain[k] = total_gain[k - 1] * gain[k - 1]
    return total_gain, total_saturation
