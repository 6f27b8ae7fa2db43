"""Derivatives of living and dead cells, and of the visible volume, along chosen directions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from digital_twins._errors import InputError
from digital_twins.models._clearance import TumourState, clearance_stops, first_kill, refuse_clearance
from digital_twins.models._level import SLOPE_FLOOR
from digital_twins.models._schedule import event_arrays
from digital_twins.models._tangents import density_tangents, event_seeds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike

    from digital_twins.models._domain import Domain
    from digital_twins.models._forcing import Forcing
    from digital_twins.models._gradient import GradientOptions
    from digital_twins.models._reaction_diffusion import ReactionDiffusionModel
    from digital_twins.models._tangents import Direction

Array = NDArray[Any]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class TumourTangents:
    """Cells on one day and their derivatives. Arrays are overwritten by the next step.

    Attributes
    ----------
    state
        The cells themselves.
    by_living, by_dead, by_most
        Derivatives of the state's arrays, [row, slice + 2, row + 2, column + 2]. Those of the living have a
        row for each direction that moves them (see ``row``); the others, None before a cell is left dead, one
        for each direction.
    row
        For each direction its row in ``by_living``, -1 where the living do not move along it.
    """

    state: TumourState
    by_living: Array
    by_dead: Array | None
    by_most: Array | None
    row: NDArray[np.int64]

    def along(self, direction: int, *, dead: bool) -> Array:
        """Derivative of the living cells along a direction, of living and dead ones together if ``dead``."""
        row = int(self.row[direction])
        living = self.by_living[row] if row >= 0 else np.zeros_like(self.state.living)
        return living + self.by_dead[direction] if dead and self.by_dead is not None else living

    def visible_volume_mm3(self, threshold: float, *, voxel_volume_mm3: float) -> tuple[float, FloatArray]:
        """Visible volume as :meth:`TumourState.visible_volume_mm3` has it, and its derivatives.

        Parameters
        ----------
        threshold
            Density at the visible edge.
        voxel_volume_mm3
            Volume of a voxel.
        """
        from digital_twins.models._clearance_tangent_kernels import visible_volume_tangents

        living = (self.state.living, self.by_living)
        collapses = self.by_most is not None
        most = (self.state.most, self.by_most) if collapses else living
        dead = (self.state.dead, self.by_dead) if collapses else living
        level = (threshold, SLOPE_FLOOR, collapses)
        voxels, moved = visible_volume_tangents(most, living, dead, self.row, level)
        return voxel_volume_mm3 * float(voxels), voxel_volume_mm3 * np.asarray(moved)


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Killed in one stretch: ``share_j N / (1 + saturation_j N)`` of the N at its start, and derivatives."""

    decay: float
    share: FloatArray
    saturation: FloatArray
    by_decay: FloatArray
    by_share: FloatArray
    by_saturation: FloatArray


def tangents_with_dead_cells(
    model: ReactionDiffusionModel,
    density: ArrayLike,
    domain: Domain,
    *,
    output_days: Sequence[float] | FloatArray,
    directions: Sequence[Direction],
    forcing: Forcing,
    clearance_half_life_days: float | None,
    options: GradientOptions,
) -> Iterator[TumourTangents]:
    """Yield living and dead cells at each output day with their derivatives along the directions.

    The state is that of :func:`trajectory_with_dead_cells` (drugs leave no dead cells), differentiated by
    hand step by step, so that the derivatives are those of the scheme itself (Griewank & Walther, Evaluating
    Derivatives, 2008, chapter 3, doi:10.1137/1.9780898717761). A direction that moves nothing but the
    clearance costs no solve.

    Parameters
    ----------
    model, density, domain, output_days, forcing
        As for :func:`trajectory_with_dead_cells`; the forcing without survival maps.
    directions
        What to differentiate by; none moves the carrying capacity.
    clearance_half_life_days
        Half-life of dead cells, or None where none are left.
    options
        Tolerance and precision, as for :func:`density_tangents`, from day 0 on.

    Raises
    ------
    InputError
        As :func:`density_tangents`; or when the half-life cannot be used, or the forcing has survival maps.
    """
    refuse_clearance(model, clearance_half_life_days)
    if forcing.survival_maps or any(d.carrying_capacity for d in directions):
        raise InputError(
            "The tangents of living and dead cells cannot be computed.",
            "They know no survival maps and no change of the carrying capacity.",
            "Use finite differences.",
        )
    days = np.asarray(output_days, dtype=np.float64)
    first = None if clearance_half_life_days is None else first_kill(forcing, drugs=False)
    stops = days if first is None else clearance_stops(days, forcing, first)
    moving = [d for d in directions if _moves_living(d)]
    numbers = iter(range(len(moving)))
    row = np.array([next(numbers) if _moves_living(d) else -1 for d in directions], dtype=np.int64)
    states = density_tangents(
        model, density, domain, output_days=stops, directions=moving, forcing=forcing, options=options
    )
    if first is None or clearance_half_life_days is None:
        return (TumourTangents(TumourState(day, n), by, None, None, row) for day, n, by in states)
    stretches = _stretches(stops, forcing, (model.proliferation_rate, clearance_half_life_days), directions)
    return _follow(states, (stops, days, first), stretches, row)


def _moves_living(direction: Direction) -> bool:
    moved = (direction.jump_log_survival, direction.amplitude_per_day, direction.initial_density)
    rates = (direction.diffusion_coefficient, direction.proliferation_rate)
    return any(rates) or any(part is not None for part in moved)


def _follow(
    states: Iterator[tuple[float, Array, Array]],
    when: tuple[FloatArray, FloatArray, float],
    stretches: Sequence[_Stretch],
    row: NDArray[np.int64],
) -> Iterator[TumourTangents]:
    from digital_twins.models._clearance_tangent_kernels import add_killed_tangents, add_most_tangents

    def flat(pair: tuple[Array, Array]) -> tuple[Array, Array]:
        return pair[0].reshape(-1), pair[1].reshape(pair[1].shape[0], -1)

    stops, days, first = when
    wanted = {float(day) for day in days}
    kept: tuple[tuple[Array, Array], tuple[Array, Array]] | None = None
    for index, (day, living, by_living) in enumerate(states):
        if kept is not None:
            dead, most = kept
            add_most_tangents(flat(most), flat((living, by_living)), flat(dead), row)
        if float(day) in wanted:
            pairs = kept or ((None, None), (None, None))
            state = TumourState(float(day), living, pairs[0][0], pairs[1][0])
            yield TumourTangents(state, by_living, pairs[0][1], pairs[1][1], row)
        if index + 1 == stops.size:
            return
        if stops[index + 1] <= first:
            continue
        if kept is None:
            none = np.zeros((row.size, *living.shape), dtype=living.dtype)
            by_most = none.copy()
            by_most[row >= 0] = by_living
            kept = (np.zeros_like(living), none), (living.copy(), by_most)
        s, number = stretches[index], living.dtype
        add_killed_tangents(
            flat(kept[0]),
            flat((living, by_living)),
            row,
            (number.type(s.decay), s.share.astype(number), s.saturation.astype(number)),
            (s.by_decay.astype(number), s.by_share.astype(number), s.by_saturation.astype(number)),
        )


def _stretches(
    stops: FloatArray, forcing: Forcing, rates: tuple[float, float], directions: Sequence[Direction]
) -> list[_Stretch]:
    """Kill events of each stretch between two stops, and their derivatives along the directions."""
    from digital_twins.models._tangent_kernels import moebius_tangents

    growth, half_life = rates
    rate = math.log(2.0) / half_life
    by_rate = -rate / half_life * np.array([d.clearance_half_life_days for d in directions])
    jump_day, jump_log, *doses = event_arrays(forcing)
    seeds = event_seeds(directions, forcing)
    by_jump = seeds[1]
    made = []
    for start, end in pairwise(stops.tolist()):
        inside = (jump_day >= start) & (jump_day < end)
        jumps, which = np.unique(jump_day[inside], return_inverse=True)
        logs, by_logs = np.zeros(jumps.size), np.zeros((len(directions), jumps.size))
        np.add.at(logs, which, jump_log[inside])
        np.add.at(by_logs.T, which, by_jump[:, inside].T)
        times = np.unique(np.concatenate([[start], jumps, [end]]))
        maps = moebius_tangents(times, (jump_day, jump_log), tuple(doses), float(growth), seeds)
        at = np.searchsorted(times, jumps)
        gain, bend, by_gain, by_bend = (part[at] for part in _before_each(*maps))
        left = end - jumps
        staying = np.exp(-rate * left)
        weight = -np.expm1(logs) * staying
        by_weight = -np.exp(logs) * staying * by_logs - left * weight * by_rate[:, None]
        decay = math.exp(-rate * (end - start))
        made.append(
            _Stretch(
                decay,
                weight * gain,
                bend,
                -(end - start) * decay * by_rate,
                by_weight * gain + weight * by_gain.T,
                by_bend.T,
            )
        )
    return made


def _before_each(
    gain: FloatArray, bend: FloatArray, by_gain: FloatArray, by_bend: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Maps from the start of a stretch to just before each of its times, and their derivatives."""
    total, bent = np.ones(gain.size + 1), np.zeros(gain.size + 1)
    by_total = np.zeros((gain.size + 1, by_gain.shape[1]))
    by_bent = np.zeros_like(by_total)
    for k in range(gain.size):
        bent[k + 1] = bent[k] + bend[k] * total[k]
        by_bent[k + 1] = by_bent[k] + by_bend[k] * total[k] + bend[k] * by_total[k]
        total[k + 1] = total[k] * gain[k]
        by_total[k + 1] = by_total[k] * gain[k] + total[k] * by_gain[k]
    return total, bent, by_total, by_bent
