"""Derivatives of the solved densities along chosen directions: forward mode, field and tangents at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from digital_twins._errors import InputError
from digital_twins.models._forcing import Forcing
from digital_twins.models._gradient import GradientOptions
from digital_twins.models._reaction_diffusion import (
    event_arrays,
    padded_density,
    reaction_times,
    steps_within_limit,
    stops_between,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike

    from digital_twins.models._domain import Domain
    from digital_twins.models._reaction_diffusion import ReactionDiffusionModel, Stop

Array = NDArray[Any]
FloatArray = NDArray[np.float64]


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
    """

    diffusion_coefficient: float = 0.0
    proliferation_rate: float = 0.0
    carrying_capacity: float = 0.0
    jump_log_survival: ArrayLike | None = None
    amplitude_per_day: ArrayLike | None = None
    survival: Sequence[Array | None] = ()
    initial_density: ArrayLike | None = None


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
        if model.diffusion_coefficient == 0.0 and any(d.diffusion_coefficient for d in directions):
            raise InputError(
                "Without diffusion there is no derivative by it.",
                "The tangent by the diffusion coefficient needs one above 0 mm2/day.",
                "Give a small one, such as 1e-6 mm2/day.",
            )

    def run(self, density: ArrayLike, days: FloatArray) -> Iterator[tuple[float, Array, Array]]:
        """Solve field and tangents from stop to stop."""
        options, model = self._options, self._model
        start, capacity = options.start_day, self._dtype.type(model.carrying_capacity)
        fields = self._initial(density)
        stops = stops_between(start, days, self._forcing, self._domain)
        longest = model.longest_step_days(options.tolerance)
        times, steps = reaction_times(start, np.array([stop.day for stop in stops]), longest)
        maps = self._maps(times)
        scratch = np.zeros((4, fields.shape[1] + 2, fields.shape[2]), dtype=self._dtype)
        at = 0
        for stop, (count, step) in zip(stops, steps, strict=True):
            if step > 0.0:
                self._advance(fields, scratch, maps, (at, count, step))
            at += count + 1
            if stop.survival is not None:
                self._jump(fields, stop)
                continue
            whole = fields.reshape(fields.shape[0], fields.shape[1], *self._rows)
            found = np.moveaxis(whole, 1, 0) * capacity
            for index, direction in enumerate(self._directions):
                if direction.carrying_capacity:
                    share = self._dtype.type(direction.carrying_capacity / model.carrying_capacity)
                    found[index + 1] += share * found[0]
            yield stop.day, found[0], found[1:]

    @property
    def _rows(self) -> tuple[int, int]:
        return self._domain.shape[1] + 2, self._domain.shape[2] + 2

    def _initial(self, density: ArrayLike) -> Array:
        capacity = self._model.carrying_capacity
        first = padded_density(density, self._domain, self._dtype, capacity)
        fields = np.zeros((first.shape[0], len(self._directions) + 1, first[0].size), dtype=self._dtype)
        fields[:, 0] = first.reshape(first.shape[0], -1)
        for index, direction in enumerate(self._directions):
            tangent = fields[:, index + 1]
            if direction.initial_density is not None:
                moved = np.asarray(direction.initial_density, dtype=np.float64)
                _refuse_unfit(moved.shape == self._domain.shape and bool(np.all(np.isfinite(moved))))
                inside = np.pad(np.where(self._domain.mask, moved / capacity, 0.0), 1)
                tangent += inside.reshape(tangent.shape).astype(self._dtype)
            if direction.carrying_capacity:
                tangent -= self._dtype.type(direction.carrying_capacity / capacity) * fields[:, 0]
        return fields

    def _maps(self, times: FloatArray) -> tuple[Array, ...]:
        """Reactions of each interval and their derivatives along the directions."""
        from digital_twins.models._tangent_kernels import moebius_tangents

        forcing = self._forcing
        jump_day, jump_log, dose_day, term, amplitude, decay = event_arrays(forcing)
        growth = np.array([float(d.proliferation_rate) for d in self._directions])
        jumps = _rows([d.jump_log_survival for d in self._directions], forcing.jump_days)
        doses = _rows([d.amplitude_per_day for d in self._directions], forcing.dose_days)
        found = moebius_tangents(
            times,
            (jump_day, jump_log),
            (dose_day, term, amplitude, decay),
            float(self._model.proliferation_rate),
            (growth, jumps, doses),
        )
        return tuple(found)

    def _advance(
        self, fields: Array, scratch: Array, maps: tuple[Array, ...], stretch: tuple[int, int, float]
    ) -> None:
        from digital_twins.models._tangent_kernels import react_tangents

        at, count, step = stretch
        diffusion, kind = self._model.diffusion_coefficient, self._dtype.type
        length = diffusion * step
        repeats = steps_within_limit(length * self._domain.largest_conductance_per_mm2)
        by_diffusion = [d.diffusion_coefficient / diffusion if diffusion else 0.0 for d in self._directions]

        def reaction(index: int) -> tuple[tuple[Any, Any], Array]:
            seeds = np.array([by_diffusion, maps[2][index], maps[3][index]])
            pair = kind(maps[0][index]), kind(maps[1][index])
            return pair, seeds.reshape(3, -1).astype(self._dtype)

        react_tangents(fields, *reaction(at))
        for index in range(at + 1, at + 1 + count):
            self._diffuse(fields, scratch, (kind(length / repeats), repeats), reaction(index))

    def _diffuse(
        self,
        fields: Array,
        scratch: Array,
        steps: tuple[Any, int],
        reaction: tuple[tuple[Any, Any], Array],
    ) -> None:
        from digital_twins.models._tangent_kernels import diffuse_and_react_tangents, react_tangents

        scale, repeats = steps
        graph = self._domain.graph
        if graph is None:
            geometry = (self._domain.faces(self._dtype), self._domain.spans, self._domain.stride)
            diffuse_and_react_tangents(fields, scratch, geometry, scale, repeats, *reaction)
            return
        from digital_twins.models._graph_kernels import graph_stage

        arrays = graph.arrays(self._dtype)
        flat = np.ascontiguousarray(np.moveaxis(fields, 1, 0)).reshape(fields.shape[1], -1)
        for _ in range(repeats):
            first, second = np.zeros_like(flat), np.zeros_like(flat)
            for row, one, two in zip(flat, first, second, strict=True):
                graph_stage(one, row, arrays, scale)
                graph_stage(two, one, arrays, scale)
            moved = second[0] - first[0]
            flat = (flat + second) * self._dtype.type(0.5)
            flat[1:] += reaction[1][0][:, None] * moved
        fields[...] = np.moveaxis(flat.reshape(fields.shape[1], fields.shape[0], -1), 0, 1)
        react_tangents(fields, *reaction)

    def _jump(self, fields: Array, stop: Stop) -> None:
        assert stop.survival is not None
        factor = stop.survival.astype(self._dtype).reshape(fields.shape[0], -1)
        before = fields[:, 0].copy()
        fields *= factor[:, None]
        for index, direction in enumerate(self._directions):
            if stop.map_index < len(direction.survival):
                moved = direction.survival[stop.map_index]
                if moved is not None:
                    _refuse_unfit(np.shape(moved) == self._domain.shape)
                    padded = np.pad(np.asarray(moved, dtype=self._dtype), 1)
                    fields[:, index + 1] += padded.reshape(before.shape) * before


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
