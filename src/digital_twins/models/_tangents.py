"""Derivatives of the solved densities along chosen directions: forward mode, field and tangents at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from digital_twins._errors import InputError
from digital_twins.models._active import PIECE_STEPS, ActiveRegion, left_by_maps
from digital_twins.models._diffusion import apply_polynomial, plan_diffusion, stage
from digital_twins.models._forcing import Forcing
from digital_twins.models._gradient import GradientOptions
from digital_twins.models._march import Aim
from digital_twins.models._reaction_diffusion import padded_density
from digital_twins.models._schedule import event_arrays, reaction_times, refuse_unusable, stops_between

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike

    from digital_twins.models._diffusion import Diffusion
    from digital_twins.models._domain import Domain
    from digital_twins.models._reaction_diffusion import ReactionDiffusionModel
    from digital_twins.models._schedule import Stop

Array = NDArray[Any]
FloatArray = NDArray[np.float64]

# Derivatives are larger in the tail than the density is, relative to their norms; so less is left out.
_TAIL_SHARE = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Direction:
    """How everything that enters the model moves with one parameter; what is not named stays.

    Attributes
    ----------
    diffusion_coefficient, proliferation_rate, carrying_capacity
        Derivatives of the model's parameters by the parameter: 1 for the parameter itself, its value for its
        logarithm.
    jump_log_survival, amplitude_per_day
        Derivatives of the forcing's arrays of the same names, in their order. For a radiosensitivity alpha
        at a fixed alpha/beta the first is the log survival over alpha, for a drug's sensitivity the second
        is the amplitude over the sensitivity.
    survival
        Derivatives of the survival maps, in the order of ``Forcing.survival_maps``; None for those that stay.
    initial_density
        Derivative of the initial density, of the domain's shape.
    clearance_half_life_days
        Derivative of the half-life of dead cells, for :func:`tangents_with_dead_cells` only.
    """

    diffusion_coefficient: float = 0.0
    proliferation_rate: float = 0.0
    carrying_capacity: float = 0.0
    jump_log_survival: ArrayLike | None = None
    amplitude_per_day: ArrayLike | None = None
    survival: Sequence[Array | None] = ()
    initial_density: ArrayLike | None = None
    clearance_half_life_days: float = 0.0


def density_tangents(
    model: ReactionDiffusionModel,
    density: ArrayLike,
    domain: Domain,
    *,
    output_days: Sequence[float] | FloatArray,
    directions: Sequence[Direction],
    forcing: Forcing | None = None,
    options: GradientOptions | None = None,
) -> Iterator[tuple[float, Array, Array]]:
    """Yield ``(day, density, tangents)`` at each output day, one after the other.

    The tangents are the derivatives of the density along the directions, exactly as the scheme computes it:
    each step's derivative is written by hand and taken in the same sweep as the step (Griewank & Walther,
    Evaluating Derivatives, 2008, chapter 3, doi:10.1137/1.9780898717761). P directions cost about as much as
    P further solves without their geometry and exponentials. Where a parameter changes the number of steps,
    the derivative is that at a fixed number.

    Parameters
    ----------
    model, density, domain, output_days, forcing
        As for :meth:`ReactionDiffusionModel.trajectory`.
    directions
        What to differentiate by.
    options
        Start day, tolerance and precision, double by default (its memory limit plays no part).

    Yields
    ------
    tuple
        Day; density padded by one voxel, [slice + 2, row + 2, column + 2]; tangents [direction, slice + 2,
        row + 2, column + 2]. Both are overwritten by the next step: copy what is to be kept. On the day of a
        jump they are those before it.

    Raises
    ------
    InputError
        When density, days or a direction's arrays do not fit, or a direction moves a diffusion of 0.
    """
    options = options or GradientOptions()
    days = np.asarray(output_days, dtype=np.float64)
    refuse_unusable(days, options.start_day, tolerance=options.tolerance, precision=options.precision)
    return _Sweep(model, domain, (forcing or Forcing(), options), tuple(directions)).run(density, days)


class _Sweep:
    def __init__(
        self,
        model: ReactionDiffusionModel,
        domain: Domain,
        given: tuple[Forcing, GradientOptions],
        directions: tuple[Direction, ...],
    ) -> None:
        self._model, self._domain = model, domain
        self._forcing, self._options = given
        self._directions = directions
        self._dtype = np.dtype(self._options.precision)
        self._rows = np.zeros((0, 0, 0), dtype=self._dtype)
        self._region = ActiveRegion(domain, self._dtype, _TAIL_SHARE * self._options.tolerance)
        if model.diffusion_coefficient == 0.0 and any(d.diffusion_coefficient for d in directions):
            raise InputError(
                "Without diffusion there is no derivative by it.",
                "The tangent by the diffusion coefficient needs one above 0 mm2/day.",
                "Give a small one, such as 1e-6 mm2/day.",
            )

    def run(self, density: ArrayLike, days: FloatArray) -> Iterator[tuple[float, Array, Array]]:
        """Solve field and tangents from stop to stop."""
        options, model = self._options, self._model
        start = options.start_day
        fields = self._initial(density)
        stops = stops_between(start, days, self._forcing, self._domain)
        until = np.array([stop.day for stop in stops])
        times, steps = reaction_times(start, until, model.longest_step_days(options.tolerance))
        span = (start, float(until[-1]) if stops else start)
        left = left_by_maps(fields[0, 1:-1, 1:-1, 1:-1], self._forcing, span)
        self._aim, self._end = Aim(options.tolerance, left=left, steps=times.size), span[1]
        maps, at, day = self._maps(times), 0, start
        self._region.choose(fields[0], self._amplification(day))
        for stop, (count, step) in zip(stops, steps, strict=True):
            if step > 0.0:
                self._advance(fields, [column[at : at + count + 1] for column in maps], step, day)
            at, day = at + count + 1, stop.day
            if stop.survival is not None:
                self._jump(fields, stop)
                self._region.choose(fields[0], self._amplification(day))
                continue
            found = self._scaled(fields)
            yield day, found[0], found[1:]

    def _scaled(self, fields: Array) -> Array:
        """In the caller's unit: N = theta n, so dN = theta dn + n dtheta."""
        capacity = self._model.carrying_capacity
        moves = [d.carrying_capacity for d in self._directions]
        if capacity == 1.0 and not any(moves):
            return fields
        found: Array = fields * self._dtype.type(capacity)
        for index, move in enumerate(moves):
            found[index + 1] += self._dtype.type(move) * fields[0]
        return found

    def _amplification(self, day: float) -> float:
        return self._aim.amplification(self._model.proliferation_rate, self._end - day)

    def _initial(self, density: ArrayLike) -> Array:
        capacity = self._model.carrying_capacity
        first = padded_density(density, self._domain, self._dtype, capacity)
        fields = np.zeros((len(self._directions) + 1, *first.shape), dtype=self._dtype)
        fields[0] = first
        for index, direction in enumerate(self._directions, start=1):
            if direction.initial_density is not None:
                moved = np.asarray(direction.initial_density, dtype=np.float64)
                _refuse_unfit(moved.shape == self._domain.shape and bool(np.all(np.isfinite(moved))))
                fields[index] = np.pad(np.where(self._domain.mask, moved / capacity, 0.0), 1)
            if direction.carrying_capacity:
                fields[index] -= self._dtype.type(direction.carrying_capacity / capacity) * first
        return fields

    def _maps(self, times: FloatArray) -> tuple[Array, ...]:
        """Reactions of each interval and their derivatives along the directions."""
        from digital_twins.models._tangent_kernels import moebius_tangents

        forcing = self._forcing
        jump_day, jump_log, dose_day, term, amplitude, decay = event_arrays(forcing)
        found = moebius_tangents(
            times,
            (jump_day, jump_log),
            (dose_day, term, amplitude, decay),
            float(self._model.proliferation_rate),
            event_seeds(self._directions, forcing),
        )
        return tuple(found)

    def _advance(self, fields: Array, maps: list[Array], step: float, day: float) -> None:
        """Advance through a stretch: reaction 0 of ``maps``, then diffusions with the others."""
        plan = plan_diffusion(
            self._model.diffusion_coefficient * step,
            self._domain.largest_conductance_per_mm2,
            accuracy=self._aim.polynomial_accuracy(
                self._model.proliferation_rate, self._end - day, self._dtype
            ),
        )
        first = [column[0] for column in maps]
        for at in range(1, maps[0].size, PIECE_STEPS):
            piece = [column[at : at + PIECE_STEPS] for column in maps]
            self._piece(fields, (first, piece), plan, day + (at - 1) * step)
            first = [np.ones(()), np.zeros(()), np.zeros_like(first[2]), np.zeros_like(first[3])]

    def _piece(
        self, fields: Array, maps: tuple[list[Array], list[Array]], plan: Diffusion, day: float
    ) -> None:
        from digital_twins.models._tangent_kernels import react_tangents

        region = self._region
        first, others = maps
        while True:
            inner = region.cut(fields)
            react_tangents(inner, *self._reaction(first))
            for map_ in zip(*others, strict=True):
                self._diffuse(inner, plan, self._reaction(map_))
            if not region.overflows(inner[0]):
                break
            region.enlarge(fields[0], self._amplification(day))
        if not region.whole:
            react_tangents(fields.reshape(*fields.shape[:2], -1), *self._reaction(_composed(first, others)))
            region.paste(fields, inner)

    def _reaction(self, numbers: Sequence[Any]) -> tuple[tuple[Any, Any], Array]:
        """Gain and saturation, and the seeds: derivatives by log diffusion, gain and saturation."""
        diffusion, kind = self._model.diffusion_coefficient, self._dtype.type
        by_diffusion = [d.diffusion_coefficient / diffusion if diffusion else 0.0 for d in self._directions]
        seeds = np.array([by_diffusion, numbers[2], numbers[3]]).reshape(3, -1)
        return (kind(numbers[0]), kind(numbers[1])), seeds.astype(self._dtype)

    def _diffuse(self, flat: Array, plan: Diffusion, reaction: tuple[tuple[Any, Any], Array]) -> None:
        from digital_twins.models._tangent_kernels import diffuse_and_react_tangents, react_tangents

        geometry, kind = self._region.geometry, self._dtype.type
        by_diffusion = reaction[1][0][:, None, None]
        if plan.stabilised:
            work = np.zeros((3, *flat.shape[1:]), dtype=self._dtype)
            for field in flat:
                apply_polynomial(field, work, geometry, plan)
            np.maximum(flat[0], 0, out=flat[0])
            moved = flat[0].copy()
            stage(moved, flat[0], geometry, plan.reach)
            flat[1:] += by_diffusion * kind(plan.length / plan.reach) * (moved - flat[0])
            react_tangents(flat, *reaction)
        elif geometry.graph is None:
            steps = kind(plan.scale), plan.repeats
            diffuse_and_react_tangents(flat, self._scratch(flat), geometry.arrays, *steps, *reaction)
        else:
            first, second = flat.copy(), flat.copy()
            for _ in range(plan.repeats):
                for row, one, two in zip(flat, first, second, strict=True):
                    stage(one, row, geometry, plan.scale)
                    stage(two, one, geometry, plan.scale)
                flat += second
                flat *= kind(0.5)
                flat[1:] += by_diffusion * (second[0] - first[0])
            react_tangents(flat, *reaction)

    def _scratch(self, flat: Array) -> Array:
        shape = (4, max(4, flat.shape[0]), flat.shape[2])
        if self._rows.shape != shape:
            self._rows = np.zeros(shape, dtype=self._dtype)
        return self._rows

    def _jump(self, fields: Array, stop: Stop) -> None:
        assert stop.survival is not None
        before = fields[0].copy()
        fields *= stop.survival.astype(self._dtype)
        for index, direction in enumerate(self._directions, start=1):
            if stop.map_index < len(direction.survival):
                moved = direction.survival[stop.map_index]
                if moved is not None:
                    _refuse_unfit(np.shape(moved) == self._domain.shape)
                    fields[index] += np.pad(np.asarray(moved, dtype=self._dtype), 1) * before


def _composed(first: list[Array], others: list[Array]) -> tuple[Any, ...]:
    """All reactions of a piece and their derivatives as one Moebius map."""
    gain, saturation, by_gain, by_saturation = first
    for a, b, by_a, by_b in zip(*others, strict=True):
        by_saturation = by_saturation + by_gain * b + gain * by_b
        by_gain = by_gain * a + gain * by_a
        gain, saturation = gain * a, saturation + gain * b
    return gain, saturation, by_gain, by_saturation


def event_seeds(
    directions: Sequence[Direction], forcing: Forcing
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Derivatives of the growth rate, the jumps' logs and the doses' amplitudes along the directions.

    [direction], [direction, jump] and [direction, dose], both sorted as ``event_arrays`` sorts them.
    """
    growth = np.array([float(d.proliferation_rate) for d in directions])
    jumps = _rows([d.jump_log_survival for d in directions], forcing.jump_days)
    return growth, jumps, _rows([d.amplitude_per_day for d in directions], forcing.dose_days)


def _rows(given: list[Any], days: FloatArray) -> FloatArray:
    """Each direction's derivatives of the events, sorted as ``event_arrays`` sorts them."""
    order = np.argsort(days, kind="stable")
    rows = np.zeros((len(given), days.size))
    for row, values in zip(rows, given, strict=True):
        if values is not None:
            moved = np.asarray(values, dtype=np.float64)
            _refuse_unfit(moved.shape == days.shape and bool(np.all(np.isfinite(moved))))
            row[:] = moved[order]
    return rows


def _refuse_unfit(fits: bool) -> None:
    if not fits:
        raise InputError(
            "A direction does not fit the model.",
            "Its arrays must be finite and have the lengths of the forcing's and the shape of the domain.",
            "Give one derivative a jump, a dose or a voxel.",
        )
