"""Reaction-diffusion growth of a tumour under treatment."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from digital_twins._errors import InputError
from digital_twins.models._forcing import Forcing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike

    from digital_twins.models._domain import Domain

Array = NDArray[Any]
Precision = Literal["float32", "float64"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Diffusion steps of one stretch between two outputs, with the reaction maps around them.

    ``first`` maps the density before the first diffusion step; step ``i`` diffuses for ``step_days`` and then
    applies ``gain[i]``, ``saturation[i]``.
    """

    step_days: float
    first: tuple[float, float]
    gain: NDArray[np.float64]
    saturation: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Solution:
    """Densities at the output days.

    Attributes
    ----------
    days
        Output days.
    density
        Array [day, slice, row, column] in the caller's unit of density (that of the carrying capacity).
    relative_error
        Estimated relative L2 error of the time discretisation at each output day, where it was asked for.
    """

    days: NDArray[np.float64]
    density: Array
    relative_error: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class _Numerics:
    """How to step; ``refine`` cuts each step of the tolerance's choice into so many."""

    start_day: float
    tolerance: float
    precision: Precision
    refine: int = 1


@dataclass(frozen=True, slots=True)
class ReactionDiffusionModel:
    """Fisher-Kolmogorov growth with treatment: ``dN/dt = div(D grad N) + k N (1 - N/theta) - c(t) N``.

    N is the tumour cell density, with no flux through the walls of the domain; at treatment jumps N is
    multiplied by a surviving fraction. Swanson, Alvord & Murray, Cell Prolif 2000;33:317,
    doi:10.1046/j.1365-2184.2000.00177.x; with radiation Rockne et al., J Math Biol 2009;58:561,
    doi:10.1007/s00285-008-0219-6.

    The solver is Strang splitting of an exact reaction (logistic growth, kill and jumps together are one
    Moebius map of N, so that no treatment is ever missed by a time step) and two-stage SSP Runge-Kutta
    diffusion on finite volumes: second order in time and space, positive, conservative.

    Parameters
    ----------
    diffusion_coefficient
        D in mm2/day, not negative. A map goes into :class:`Domain` as ``relative_diffusivity``.
    proliferation_rate
        k in 1/day.
    carrying_capacity
        theta in the caller's unit of density, positive.

    Raises
    ------
    InputError
        When a parameter is out of range.
    """

    diffusion_coefficient: float
    proliferation_rate: float
    carrying_capacity: float = 1.0

    def __post_init__(self) -> None:
        numbers = (self.diffusion_coefficient, self.proliferation_rate, self.carrying_capacity)
        usable = all(map(math.isfinite, numbers)) and self.diffusion_coefficient >= 0.0
        if not usable or self.carrying_capacity <= 0.0:
            raise InputError(
                "A model parameter is out of range.",
                "Diffusion must be 0 mm2/day or more, the carrying capacity positive, all of them finite.",
                "Check the parameters; calibrated ones always satisfy this.",
            )

    def trajectory(
        self,
        density: ArrayLike,
        domain: Domain,
        output_days: Sequence[float] | NDArray[np.float64],
        *,
        forcing: Forcing | None = None,
        start_day: float = 0.0,
        tolerance: float = 1.0e-4,
        precision: Precision = "float32",
    ) -> Iterator[tuple[float, Array]]:
        """Yield ``(day, density)`` at each output day, one after the other.

        The yielded array is a padded view [slice + 2, row + 2, column + 2] that the next step overwrites:
        copy what is to be kept. At an output day that is also a jump's the density is the one before the
        jump.

        Parameters
        ----------
        density
            Initial density of the domain's shape; what lies outside the mask is ignored.
        output_days
            Days not before ``start_day``, in rising order.
        forcing
            Treatments; none by default.
        tolerance
            Aim for the relative L2 error of the time discretisation.
        precision
            Type of number of the whole calculation.

        Raises
        ------
        InputError
            When the density has another shape, is negative or not finite, or days are not in order.
        """
        days = np.asarray(output_days, dtype=np.float64)
        return self._states(
            density, domain, days, forcing or Forcing(), _Numerics(start_day, tolerance, precision)
        )

    def solve(
        self,
        density: ArrayLike,
        domain: Domain,
        output_days: Sequence[float] | NDArray[np.float64],
        *,
        forcing: Forcing | None = None,
        start_day: float = 0.0,
        tolerance: float = 1.0e-4,
        precision: Precision = "float32",
        estimate_error: bool = False,
    ) -> Solution:
        """Solve and keep the density at every output day.

        Parameters
        ----------
        density, domain, output_days, forcing, start_day, tolerance, precision
            As for :meth:`trajectory`.
        estimate_error
            Solve again with halved steps (about three times the work in all) and report the error of
            the time discretisation by Richardson's rule in ``relative_error``. While it exceeds
            ``tolerance``, the steps are halved again, up to four times.
        """
        days = np.asarray(output_days, dtype=np.float64)
        forcing, numerics = forcing or Forcing(), _Numerics(start_day, tolerance, precision)
        solved = self._kept(density, domain, days, forcing, numerics)
        if not estimate_error or not days.size:
            return Solution(days, solved)
        for refine in _REFINEMENTS:
            finer = self._kept(density, domain, days, forcing, replace(numerics, refine=refine))
            apart = _relative_l2(solved, finer)
            if 4.0 / 3.0 * apart.max() <= tolerance:
                return Solution(days, solved, 4.0 / 3.0 * apart)
            solved = finer
            if apart.max() / 3.0 <= tolerance:
                break
        return Solution(days, solved, apart / 3.0)

    def _kept(
        self,
        density: ArrayLike,
        domain: Domain,
        days: NDArray[np.float64],
        forcing: Forcing,
        numerics: _Numerics,
    ) -> Array:
        kept = np.empty((days.size, *domain.shape), dtype=numerics.precision)
        for index, (_, state) in enumerate(self._states(density, domain, days, forcing, numerics)):
            kept[index] = state[1:-1, 1:-1, 1:-1]
        return kept

    def _states(
        self,
        density: ArrayLike,
        domain: Domain,
        days: NDArray[np.float64],
        forcing: Forcing,
        numerics: _Numerics,
    ) -> Iterator[tuple[float, Array]]:
        dtype = np.dtype(numerics.precision)
        start_day = numerics.start_day
        if days.size and (
            days[0] < start_day or np.any(np.diff(days) < 0.0) or not np.all(np.isfinite(days))
        ):
            raise InputError(
                "The output days cannot be used.",
                "They must rise and must not lie before the start.",
                "Sort the days; the state before the start is not known.",
            )
        field = padded_density(density, domain, dtype, self.carrying_capacity)
        flat = field.reshape(field.shape[0], -1)
        scratch = np.zeros((4, flat.shape[1]), dtype=dtype)
        longest = self.longest_step_days(numerics.tolerance)
        stops = stops_between(start_day, days, forcing, domain)
        until = np.array([stop.day for stop in stops])
        schedules = schedules_for(
            self.proliferation_rate, forcing, (start_day, until), longest, refine=numerics.refine
        )
        for stop, schedule in zip(stops, schedules, strict=True):
            _advance(flat, scratch, domain, schedule, self.diffusion_coefficient, refine=numerics.refine)
            if stop.survival is not None:
                flat *= stop.survival.astype(dtype).reshape(flat.shape)
                continue
            yield stop.day, field if self.carrying_capacity == 1.0 else field * self.carrying_capacity

    def longest_step_days(self, tolerance: float) -> float:
        """Longest splitting step that keeps the relative L2 error near ``tolerance``.

        The splitting error grows with the square of (k h); the factor was fitted to fine-step references
        over the published range of parameters (see tests/science/test_reaction_diffusion.py).
        """
        rate = max(abs(self.proliferation_rate), 1.0e-3)
        return float(min(7.0, _STEP_FACTOR * math.sqrt(tolerance) / rate))


_STEP_FACTOR = 12.0
_REFINEMENTS = (2, 4, 8, 16)


def padded_density(density: ArrayLike, domain: Domain, dtype: np.dtype[Any], capacity: float) -> Array:
    given = np.asarray(density, dtype=np.float64)
    inside = given[domain.mask] if given.shape == domain.shape else np.array([np.nan])
    if not np.all(np.isfinite(inside)) or np.any(inside < 0.0):
        raise InputError(
            "The initial density cannot be used.",
            f"It must have the domain's shape {domain.shape} and finite values of 0 or more.",
            "Resample the density to the model grid.",
        )
    return np.pad(np.where(domain.mask, given / capacity, 0.0), 1).astype(dtype)


@dataclass(frozen=True, slots=True, eq=False)
class Stop:
    """A day at which the steps pause: for output ``index``, or for a padded map of ``survival``."""

    day: float
    index: int | None = None
    survival: NDArray[np.float64] | None = None
    map_index: int = -1


def stops_between(
    start_day: float, days: NDArray[np.float64], forcing: Forcing, domain: Domain
) -> list[Stop]:
    """Order output days and survival maps; on one day the output comes first."""
    last = float(days[-1]) if days.size else start_day
    stops = [Stop(float(day), index=index) for index, day in enumerate(days)]
    for place, jump in enumerate(forcing.survival_maps):
        if jump.survival.shape != domain.shape:
            raise InputError(
                "A survival map does not fit the domain.",
                f"Its shape is {jump.survival.shape}, that of the domain {domain.shape}.",
                "Resample the resection mask or the dose to the model grid.",
            )
        if start_day <= jump.day < last:
            stops.append(Stop(float(jump.day), survival=np.pad(jump.survival, 1), map_index=place))
    return sorted(stops, key=lambda stop: stop.day)  # stable: outputs stay before maps


def event_arrays(forcing: Forcing) -> tuple[NDArray[Any], ...]:
    """Return the forcing's events as :func:`moebius_maps` takes them: sorted, doses grouped by decay."""
    jumps = np.argsort(forcing.jump_days, kind="stable")
    doses = np.argsort(forcing.dose_days, kind="stable")
    decay, term = np.unique(forcing.decay_per_day[doses], return_inverse=True)
    return (
        forcing.jump_days[jumps],
        forcing.jump_log_survival[jumps],
        forcing.dose_days[doses],
        term.astype(np.int64),
        forcing.amplitude_per_day[doses],
        decay,
    )


def reaction_times(
    start: float, stops: NDArray[np.float64], longest: float, *, refine: int = 1
) -> tuple[NDArray[np.float64], list[tuple[int, float]]]:
    """Cut each stretch between stops into equal steps; reactions act over the shifted half-step grid.

    Returns the ends of the reactions and the (count, days) of each stretch's steps.
    """
    steps = []
    times = [np.array([start])]
    previous = start
    for day in stops:
        count = refine * max(1, math.ceil((day - previous) / longest - 1e-9))
        step = (day - previous) / count
        steps.append((count, step))
        times.append(previous + step * (np.arange(count) + 0.5))
        times.append(np.array([day]))
        previous = float(day)
    return np.concatenate(times), steps


def schedules_for(
    growth: float,
    forcing: Forcing,
    days: tuple[float, NDArray[np.float64]],
    longest: float,
    *,
    refine: int = 1,
) -> list[Schedule]:
    """Steps and exact reactions of each stretch from ``days[0]``, the start, to the stops ``days[1]``."""
    from digital_twins.models._kernels import moebius_maps

    times, steps = reaction_times(*days, longest, refine=refine)
    gain, saturation = moebius_maps(times, *event_arrays(forcing), float(growth))
    schedules = []
    at = 0
    for count, step in steps:
        inner = slice(at + 1, at + 1 + count)
        schedules.append(Schedule(step, (gain[at], saturation[at]), gain[inner], saturation[inner]))
        at += count + 1
    return schedules


def steps_within_limit(length: float) -> int:
    """Return how many explicit steps a diffusion of ``length`` (D x days x largest conductance) takes.

    0.95 keeps the explicit stages convex combinations in floating point too.
    """
    return max(1, math.ceil(length / 0.95))


def _advance(
    flat: Array, scratch: Array, domain: Domain, schedule: Schedule, diffusion: float, *, refine: int
) -> None:
    if schedule.step_days <= 0.0:
        return
    dtype = flat.dtype
    first_gain, first_saturation = (dtype.type(value) for value in schedule.first)
    flat *= first_gain / (1 + first_saturation * flat)
    count = schedule.gain.size
    length = diffusion * schedule.step_days
    # A refined run takes as many explicit steps in each shorter step: so these are refined, too.
    repeats = steps_within_limit(refine * length * domain.largest_conductance_per_mm2)
    steps = (
        np.full(count, length / repeats, dtype=dtype),
        np.full(count, repeats, dtype=np.int64),
        schedule.gain.astype(dtype),
        schedule.saturation.astype(dtype),
    )
    diffuse(flat, scratch, domain, steps)


def _relative_l2(solved: Array, reference: Array) -> NDArray[np.float64]:
    axes = (1, 2, 3)
    apart = np.sqrt(np.sum((solved.astype(np.float64) - reference) ** 2, axis=axes))
    return np.asarray(
        apart / np.maximum(np.sqrt(np.sum(reference.astype(np.float64) ** 2, axis=axes)), 1e-300)
    )


def diffuse(flat: Array, scratch: Array, domain: Domain, steps: tuple[Array, ...]) -> None:
    """Advance a padded field in place through (scales, repeats, gains, saturations)."""
    if domain.graph is None:
        from digital_twins.models._kernels import diffuse_and_react

        geometry = (domain.faces(flat.dtype), domain.spans, domain.stride)
        diffuse_and_react(flat, scratch, geometry, *steps)
    else:
        from digital_twins.models._graph_kernels import diffuse_graph

        stages = np.zeros((2, flat.size), dtype=flat.dtype)
        diffuse_graph(flat.reshape(-1), stages, domain.graph.arrays(flat.dtype), *steps)
