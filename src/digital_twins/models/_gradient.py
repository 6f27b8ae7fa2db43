"""Gradient of a functional of the solved densities, by the discrete adjoint of the scheme."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from digital_twins._errors import InputError
from digital_twins.models._active import left_by_maps
from digital_twins.models._diffusion import apply_polynomial, diffuse, plan_diffusion, stage, work_for
from digital_twins.models._forcing import Forcing
from digital_twins.models._march import Aim
from digital_twins.models._reaction_diffusion import padded_density
from digital_twins.models._schedule import (
    event_arrays,
    reaction_times,
    refuse_unusable,
    schedules_for,
    stops_between,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike

    from digital_twins.models._diffusion import Diffusion
    from digital_twins.models._domain import Domain
    from digital_twins.models._reaction_diffusion import ReactionDiffusionModel
    from digital_twins.models._schedule import Schedule, Stop

    Functional = Callable[[int, NDArray[Any]], tuple[float, ArrayLike]]

Array = NDArray[Any]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Gradient:
    """A functional of the densities and its derivatives by everything that enters the model.

    Attributes
    ----------
    value
        The functional: the sum over the output days.
    diffusion_coefficient, proliferation_rate, carrying_capacity
        Derivatives by the model's parameters. By the logarithm of one: multiply by it.
    initial_density
        Derivative by each voxel of the initial density; its sum times the density is that by a scale.
    jump_log_survival, amplitude_per_day
        Derivatives by the forcing's arrays of the same names, in their order: a radiosensitivity's is the sum
        over jumps times what it does to each, a drug sensitivity's the sum over doses.
    survival
        Derivative by each voxel of each survival map, in the order of ``Forcing.survival_maps``.
    steps, tape_bytes
        Diffusion steps taken, and the bytes of density that were kept for the reverse sweep.
    """

    value: float
    diffusion_coefficient: float
    proliferation_rate: float
    carrying_capacity: float
    initial_density: Array
    jump_log_survival: FloatArray
    amplitude_per_day: FloatArray
    survival: tuple[Array, ...]
    steps: int
    tape_bytes: int


def density_gradient(
    model: ReactionDiffusionModel,
    density: ArrayLike,
    domain: Domain,
    *,
    output_days: Sequence[float] | FloatArray,
    functional: Functional,
    forcing: Forcing | None = None,
    options: GradientOptions | None = None,
) -> Gradient:
    """Differentiate ``F = sum_j f_j(N(t_j))`` of the solved densities exactly as the scheme computes them.

    One forward and one reverse sweep, whatever the number of parameters: the operator of the diffusion is
    symmetric, the reactions are pointwise, so that each step is undone in closed form (Griewank & Walther,
    Evaluating Derivatives, 2008, doi:10.1137/1.9780898717761). The steps are those of
    :meth:`ReactionDiffusionModel.solve`; where a parameter changes their number, the derivative is that at a
    fixed number.

    Parameters
    ----------
    model
        Its diffusion coefficient is positive.
    density
        Initial density, as for :meth:`ReactionDiffusionModel.solve`.
    output_days
        Days j = 0, 1, ... on which the functional looks at the density, in rising order.
    functional
        ``(j, density) -> (f_j, derivative of f_j by each voxel)``, density and derivative of the domain's
        shape. It is called in order of falling day and must copy what it keeps.
    forcing
        Treatments; none by default.
    options
        Start day, tolerance, precision and the memory for the tape.

    Raises
    ------
    InputError
        When the density or the days cannot be used, or nothing diffuses.
    """
    options = options or GradientOptions()
    if model.diffusion_coefficient <= 0.0:
        raise InputError(
            "Without diffusion there is no gradient by it.",
            "The reverse sweep needs a diffusion coefficient above 0 mm2/day.",
            "Give a small one, such as 1e-6 mm2/day.",
        )
    days = np.asarray(output_days, dtype=np.float64)
    refuse_unusable(days, options.start_day, tolerance=options.tolerance, precision=options.precision)
    forcing = forcing or Forcing()
    if not options.everywhere:
        from digital_twins.models._gradient_region import region_gradient

        return region_gradient(model, density, domain, (forcing, options), (days, functional))
    found = GradientSweep(model, domain, days, (forcing, options)).run(density, functional)
    assert found is not None
    return found


@dataclass(frozen=True, slots=True)
class GradientOptions:
    """How :func:`density_gradient` steps and how much it keeps.

    Attributes
    ----------
    start_day, tolerance, precision
        As for :meth:`ReactionDiffusionModel.solve`; double precision by default.
    memory_bytes
        While the tape of all steps is smaller, it is kept whole; beyond, about ``2 sqrt(steps)`` fields are
        kept and each step is solved once more.
    everywhere
        Whether the derivatives by each voxel of the initial density and of the survival maps are wanted
        everywhere. If not, both sweeps stay in the region around the tumour that ``solve`` works in: faster
        by as much, with the same derivatives by parameters, jumps and doses up to a part of the tolerance,
        and those by voxels exact only where the tumour is (0 outside the region).
    """

    start_day: float = 0.0
    tolerance: float = 1.0e-4
    precision: str = "float64"
    memory_bytes: int = 1 << 30
    everywhere: bool = True


class _Tape:
    """The scheme as a chain of fields, one after each diffusion and one after each stop.

    Field i becomes field i + 1 by the reaction ``gain[i]``, ``saturation[i]`` (entry ``reaction[i]`` of the
    exact maps, -1 for none) and then by ``diffusion[i + 1]`` or, where that is None, by ``stop[i + 1]``. A
    stabilised diffusion is one entry, of explicit ones each step.
    """

    def __init__(
        self,
        schedules: Sequence[Schedule],
        stops: Sequence[Stop],
        plan: Callable[[float, float], Diffusion],
        start_day: float,
    ) -> None:
        self.diffusion: list[Diffusion | None] = [None]
        self.gain: list[float] = []
        self.saturation: list[float] = []
        self.reaction: list[int] = []
        self.stop: list[Stop | None] = [None]
        at, day = 0, start_day
        for schedule, stop in zip(schedules, stops, strict=True):
            self._react(*schedule.first, at)
            if schedule.step_days > 0.0:
                self._steps(schedule, plan(schedule.step_days, day), at + 1)
            self.diffusion.append(None)
            self.stop.append(stop)
            at += schedule.gain.size + 1
            day = stop.day

    def _steps(self, schedule: Schedule, diffusion: Diffusion, at: int) -> None:
        for index in range(schedule.gain.size):
            for repeat in range(diffusion.repeats):
                self.diffusion.append(diffusion)
                self.stop.append(None)
                if repeat == diffusion.repeats - 1:
                    self._react(schedule.gain[index], schedule.saturation[index], at + index)
                else:
                    self._react(1.0, 0.0, -1)

    def _react(self, gain: float, saturation: float, reaction: int) -> None:
        self.gain.append(float(gain))
        self.saturation.append(float(saturation))
        self.reaction.append(reaction)


class _Sums:
    """What the reverse sweep adds up."""

    def __init__(self, reactions: int) -> None:
        self.value = self.log_diffusion = self.capacity = 0.0
        self.gain, self.saturation = np.zeros(reactions), np.zeros(reactions)
        self.survival: list[Array] = []


class GradientSweep:
    """Forward and reverse sweep over one domain."""

    def __init__(
        self,
        model: ReactionDiffusionModel,
        domain: Domain,
        days: FloatArray,
        given: tuple[Forcing, GradientOptions],
    ) -> None:
        forcing, options = given
        self._model, self._domain, self._forcing = model, domain, forcing
        self._dtype = np.dtype(options.precision)
        self._memory = options.memory_bytes
        self._options = options
        self._stops = stops_between(options.start_day, days, forcing, domain)
        until = np.array([stop.day for stop in self._stops])
        longest = model.longest_step_days(options.tolerance)
        self._times, _ = reaction_times(options.start_day, until, longest)
        self._schedules = schedules_for(
            model.proliferation_rate, forcing, (options.start_day, until), longest
        )
        self._end = float(until[-1]) if until.size else options.start_day
        self._geometry = domain.geometry(self._dtype)
        slices, rows, columns = self._geometry.shape
        self._shape = (slices, rows * columns)
        self._scratch = work_for(self._geometry, self._dtype)

    def _lay_out(self, start: Array) -> _Tape:
        """Choose each diffusion as :meth:`ReactionDiffusionModel.solve` does."""
        model, options = self._model, self._options
        span = (options.start_day, self._end)
        steps = sum(schedule.gain.size for schedule in self._schedules)
        left = left_by_maps(start[1:-1, 1:-1, 1:-1], self._forcing, span)
        aim = Aim(options.tolerance, left=left, steps=steps)

        def plan(step_days: float, day: float) -> Diffusion:
            return plan_diffusion(
                model.diffusion_coefficient * step_days,
                self._domain.largest_conductance_per_mm2,
                accuracy=aim.polynomial_accuracy(model.proliferation_rate, self._end - day, self._dtype),
            )

        return _Tape(self._schedules, self._stops, plan, options.start_day)

    def run(
        self,
        density: ArrayLike,
        functional: Functional,
        *,
        outruns: Callable[[Array], bool] | None = None,
    ) -> Gradient | None:
        """Sweep forward, keeping fields, and back; None as soon as a field ``outruns`` the domain."""
        start = padded_density(density, self._domain, self._dtype, self._model.carrying_capacity)
        flat = start.reshape(self._shape)
        self._chain = self._lay_out(start)
        last = len(self._chain.stop) - 1
        whole = (last + 1) * flat.nbytes <= self._memory
        length = max(1, last if whole else math.ceil(math.sqrt(last)))
        tape = np.empty((min(length, last) + 1, *self._shape), dtype=self._dtype)
        checkpoints = [flat]
        firsts = range(0, last, length)
        for first in firsts:
            count = min(first + length, last) - first
            self._fill(tape, checkpoints[-1], (first, first + count))
            if outruns is not None and any(outruns(tape[at]) for at in {*range(8, count, 8), count}):
                return None
            checkpoints.append(tape[-1].copy() if first + length < last else tape[-1])
        adjoint = np.zeros_like(flat)
        sums = _Sums(self._times.size - 1)
        for position in reversed(range(len(firsts))):
            ends = (firsts[position], min(firsts[position] + length, last))
            if position < len(firsts) - 1:
                self._fill(tape, checkpoints[position], ends)
            for index in range(ends[1], ends[0], -1):
                at = index - ends[0]
                self._back(index, (tape[at], tape[at - 1]), adjoint, (sums, functional))
        kept = tape.nbytes + flat.nbytes * max(0, len(checkpoints) - 2)
        return self._gradient(flat, adjoint, sums, kept)

    def _reaction(self, index: int) -> tuple[Any, Any]:
        kind = self._dtype.type
        return kind(self._chain.gain[index]), kind(self._chain.saturation[index])

    def _fill(self, tape: Array, start: Array, ends: tuple[int, int]) -> None:
        """Solve the fields of a stretch of the chain from its first one."""
        from digital_twins.models._adjoint_kernels import forward_step, react

        none = {"gain": np.ones(1), "saturation": np.zeros(1)}
        tape[0] = start
        for index in range(ends[0] + 1, ends[1] + 1):
            source, target = tape[index - ends[0] - 1], tape[index - ends[0]]
            reaction = self._reaction(index - 1)
            diffusion, stop = self._chain.diffusion[index], self._chain.stop[index]
            if diffusion is not None and not diffusion.stabilised and self._geometry.graph is None:
                scale = self._dtype.type(diffusion.scale)
                forward_step(target, source, self._scratch, self._geometry.arrays, scale, reaction)
                continue
            react(target, source, *reaction)
            if diffusion is not None:
                diffuse(target, self._scratch, self._geometry, diffusion=diffusion.single(), **none)
            elif stop is not None and stop.survival is not None:
                target *= stop.survival.astype(self._dtype).reshape(self._shape)

    def _back(
        self, index: int, fields: tuple[Array, Array], adjoint: Array, into: tuple[_Sums, Functional]
    ) -> None:
        """Pull the adjoint of field ``index`` back to that of the field before it."""
        from digital_twins.models._adjoint_kernels import reverse_reaction

        sums = into[0]
        after, before = fields
        stop = self._chain.stop[index]
        reaction = self._reaction(index - 1)
        if self._chain.diffusion[index] is not None:
            sums.log_diffusion, *bars = self._back_diffusion(index, fields, adjoint, sums.log_diffusion)
        else:
            assert stop is not None
            if stop.index is not None:
                self._look(stop.index, after, adjoint, into)
            if stop.survival is not None:
                arrived = reaction[0] * before / (1 + reaction[1] * before)
                sums.survival.append(self._inside(adjoint * arrived))
                adjoint *= stop.survival.astype(self._dtype).reshape(self._shape)
            bars = reverse_reaction(adjoint, before, *reaction)
        entry = self._chain.reaction[index - 1]
        if entry >= 0:
            sums.gain[entry] += bars[0]
            sums.saturation[entry] += bars[1]

    def _back_diffusion(
        self, index: int, fields: tuple[Array, Array], adjoint: Array, log_diffusion: float
    ) -> tuple[float, float, float]:
        """Pull back through a diffusion and the reaction before it; return what they add to the sums."""
        from digital_twins.models._adjoint_kernels import react, reverse_reaction, reverse_step

        diffusion, reaction = self._chain.diffusion[index], self._reaction(index - 1)
        assert diffusion is not None
        after, before = fields
        if diffusion.stabilised:
            log_diffusion += self._back_polynomial(after, adjoint, diffusion)
            return log_diffusion, *reverse_reaction(adjoint, before, *reaction)
        scale = self._dtype.type(diffusion.scale)
        if self._geometry.graph is None:
            arrays = self._geometry.arrays
            bars = reverse_step(adjoint, self._scratch, arrays, scale, fields, reaction)
            return log_diffusion + bars[0], bars[1], bars[2]
        entered = np.empty_like(before)
        react(entered, before, *reaction)
        first, second = adjoint.copy(), adjoint.copy()
        stage(first, adjoint, self._geometry, diffusion.scale)
        stage(second, first, self._geometry, diffusion.scale)
        moved, flow = np.vdot(adjoint, after - entered), np.vdot(first - adjoint, entered)
        adjoint[...] = 0.5 * (adjoint + second)
        return log_diffusion + float(2.0 * moved - flow), *reverse_reaction(adjoint, before, *reaction)

    def _back_polynomial(self, after: Array, adjoint: Array, diffusion: Diffusion) -> float:
        """Pull back through ``exp(A)``, which is its own adjoint; its derivative by log D is ``A exp(A)``."""
        moved = after.copy()
        stage(moved, after, self._geometry, diffusion.reach)
        moved -= after
        flow = float(np.vdot(adjoint, moved)) * diffusion.length / diffusion.reach
        apply_polynomial(adjoint, np.zeros((3, *adjoint.shape), self._dtype), self._geometry, diffusion)
        return flow

    def _look(self, index: int, state: Array, adjoint: Array, into: tuple[_Sums, Functional]) -> None:
        """Add the functional's value and derivative at an output."""
        sums, functional = into
        capacity = self._model.carrying_capacity
        density = self._inside(state)
        value, derivative = functional(index, density * density.dtype.type(capacity))
        slope = np.asarray(derivative, dtype=self._dtype)
        sums.value += float(value)
        sums.capacity += float(np.vdot(slope, density))
        self._inside(adjoint)[...] += slope * self._dtype.type(capacity)

    def _inside(self, flat: Array) -> Array:
        slices, rows, columns = (size + 2 for size in self._domain.shape)
        return flat.reshape(slices, rows, columns)[1:-1, 1:-1, 1:-1]

    def _gradient(self, start: Array, adjoint: Array, sums: _Sums, tape_bytes: int) -> Gradient:
        capacity, forcing = self._model.carrying_capacity, self._forcing
        by_growth, by_jump, by_dose = _reaction_gradient(
            self._model.proliferation_rate, forcing, self._times, (sums.gain, sums.saturation)
        )
        by_density = np.where(self._domain.mask, self._inside(adjoint), 0) / self._dtype.type(capacity)
        by_capacity = sums.capacity - float(np.vdot(by_density, self._inside(start)))
        return Gradient(
            value=sums.value,
            diffusion_coefficient=sums.log_diffusion / self._model.diffusion_coefficient,
            proliferation_rate=by_growth,
            carrying_capacity=by_capacity,
            initial_density=by_density,
            jump_log_survival=by_jump,
            amplitude_per_day=by_dose,
            survival=self._by_map(sums.survival),
            steps=sum(diffusion is not None for diffusion in self._chain.diffusion),
            tape_bytes=tape_bytes,
        )

    def _by_map(self, found: list[Array]) -> tuple[Array, ...]:
        """Put the derivatives by the maps that acted (in falling order) into the forcing's order."""
        order = sorted(
            range(len(self._forcing.survival_maps)), key=lambda i: self._forcing.survival_maps[i].day
        )
        first, last = self._times[0], self._times[-1]
        acting = [i for i in order if first <= self._forcing.survival_maps[i].day < last]
        result = [np.zeros(self._domain.shape, dtype=self._dtype) for _ in order]
        for i, derivative in zip(acting, reversed(found), strict=True):
            result[i] = np.where(self._domain.mask, derivative, 0)
        return tuple(result)


def _reaction_gradient(
    growth: float, forcing: Forcing, times: FloatArray, bars: tuple[FloatArray, FloatArray]
) -> tuple[float, FloatArray, FloatArray]:
    """Derivatives by growth, jumps and doses (in the forcing's order) from those by the exact maps."""
    from digital_twins.models._adjoint_kernels import moebius_gradient

    jump_day, jump_log, dose_day, term, amplitude, decay = event_arrays(forcing)
    doses = (dose_day, decay[term])
    found = moebius_gradient(
        times, (jump_day, jump_log), doses, (term, amplitude, decay), float(growth), bars
    )
    by_jump, by_dose = np.empty(jump_day.size), np.empty(dose_day.size)
    by_jump[np.argsort(forcing.jump_days, kind="stable")] = found[1]
    by_dose[np.argsort(forcing.dose_days, kind="stable")] = found[2]
    return float(found[0]), by_jump, by_dose
