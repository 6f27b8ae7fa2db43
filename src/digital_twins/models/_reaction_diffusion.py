"""Reaction-diffusion growth of a tumour under treatment."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from digital_twins._errors import InputError
from digital_twins.models._active import left_by_maps
from digital_twins.models._forcing import Forcing
from digital_twins.models._march import Aim, March
from digital_twins.models._schedule import refuse_unusable, schedules_for, stops_between

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike

    from digital_twins.models._domain import Domain
    from digital_twins.models._schedule import Schedule, Stop

Array = NDArray[Any]
SOLVERS = ("cpu", "gpu_parallel")
Precision = Literal["float32", "float64"]

_MOST_DIFFUSION = 1.0e3
_MOST_GROWTH = 50.0
_MOST_DENSITY = 1.0e3


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
    """How to step: steps ``coarsen`` times those of the tolerance's choice, each cut into ``refine``."""

    start_day: float
    tolerance: float
    precision: Precision
    coarsen: int = 1
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
    solver
        ``"cpu"``, or ``"gpu_parallel"``: the same scheme in JAX where jax (extra ``gpu``) and an accelerator
        are there, else on the CPU all the same; :func:`solver_fallback` says why.

    Raises
    ------
    InputError
        When a parameter is out of range, or the solver is not known.
    """

    diffusion_coefficient: float
    proliferation_rate: float
    carrying_capacity: float = 1.0
    solver: str = "cpu"

    def __post_init__(self) -> None:
        numbers = (self.diffusion_coefficient, self.proliferation_rate, self.carrying_capacity)
        usable = all(map(math.isfinite, numbers)) and self.diffusion_coefficient >= 0.0
        if not usable or self.carrying_capacity <= 0.0:
            raise InputError(
                "A model parameter is out of range.",
                "Diffusion must be 0 mm2/day or more, the carrying capacity positive, all of them finite.",
                "Check the parameters; calibrated ones always satisfy this.",
            )
        if self.diffusion_coefficient > _MOST_DIFFUSION or abs(self.proliferation_rate) > _MOST_GROWTH:
            raise InputError(
                "A model parameter is beyond what cells can do.",
                f"Diffusion is at most {_MOST_DIFFUSION:g} mm2/day (water itself: about 260) and growth at "
                f"most {_MOST_GROWTH:g} per day.",
                "Check the units: mm2/day and 1/day.",
            )
        if self.solver not in SOLVERS:
            raise InputError(
                f"The solver '{self.solver}' is not known.",
                f"This version has: {', '.join(SOLVERS)}.",
                "Pass solver='cpu'.",
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
            Solve also with steps of twice the length (about one and a half times the work in all) and
            report the error of the time discretisation by Richardson's rule in ``relative_error``. While
            it exceeds ``tolerance``, solve again with steps that should meet it, up to four times.
        """
        days = np.asarray(output_days, dtype=np.float64)
        forcing, numerics = forcing or Forcing(), _Numerics(start_day, tolerance, precision)
        if not estimate_error or not days.size:
            return Solution(days, self._kept(density, domain, days, forcing, numerics))
        refine, finer = 1, 2
        solved = self._kept(density, domain, days, forcing, replace(numerics, coarsen=2))
        for _ in range(_MOST_REFINEMENTS):
            better = self._kept(density, domain, days, forcing, replace(numerics, coarsen=2, refine=finer))
            error = _relative_l2(solved, better) / ((finer / refine) ** 2 - 1.0)
            refine, solved = finer, better
            if error.max() <= tolerance:
                break
            # The error falls with the square of the step; 1.2 for what the higher orders leave.
            finer = math.ceil(refine * max(2.0, 1.2 * math.sqrt(float(error.max()) / tolerance)))
        return Solution(days, solved, error)

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
        refuse_unusable(days, numerics.start_day, tolerance=numerics.tolerance, precision=numerics.precision)
        dtype = np.dtype(numerics.precision)
        start_day = numerics.start_day
        field = padded_density(density, domain, dtype, self.carrying_capacity)
        stops = stops_between(start_day, days, forcing, domain)
        until = np.array([stop.day for stop in stops])
        longest = numerics.coarsen * self.longest_step_days(numerics.tolerance)
        schedules = schedules_for(
            self.proliferation_rate, forcing, (start_day, until), longest, refine=numerics.refine
        )
        span = (start_day, float(until[-1]) if stops else start_day)
        aim = Aim(
            numerics.tolerance,
            left=left_by_maps(field[1:-1, 1:-1, 1:-1], forcing, span),
            steps=sum(schedule.gain.size for schedule in schedules),
            refine=numerics.refine,
        )
        march = self._march if solver_fallback(self.solver) else self._jax
        for day, state in march(field, domain, (stops, schedules), span, aim):
            yield day, state if self.carrying_capacity == 1.0 else state * self.carrying_capacity

    def _jax(
        self,
        field: Array,
        domain: Domain,
        course: tuple[list[Stop], list[Schedule]],
        span: tuple[float, float],
        aim: Aim,
    ) -> Iterator[tuple[float, Array]]:
        from digital_twins.models._jax_solver import jax_states

        rates = self.diffusion_coefficient, self.proliferation_rate
        return jax_states(field, domain, course, rates=rates, days=span, aim=aim)

    def _march(
        self,
        field: Array,
        domain: Domain,
        course: tuple[list[Stop], list[Schedule]],
        span: tuple[float, float],
        aim: Aim,
    ) -> Iterator[tuple[float, Array]]:
        march = March(
            domain,
            field.dtype,
            rates=(self.diffusion_coefficient, self.proliferation_rate),
            end_day=span[1],
            aim=aim,
        )
        day = span[0]
        march.start(field, day)
        for stop, schedule in zip(*course, strict=True):
            march.over(field, schedule, day)
            day = stop.day
            if stop.survival is not None:
                field *= stop.survival.astype(field.dtype)
                march.start(field, day)
                continue
            yield day, field

    def longest_step_days(self, tolerance: float) -> float:
        """Longest splitting step that keeps the relative L2 error near ``tolerance``.

        The splitting error grows with the square of (k h); the factor was fitted to fine-step references
        over the published range of parameters (see tests/science/test_reaction_diffusion.py).
        """
        rate = max(abs(self.proliferation_rate), 1.0e-3)
        return float(min(7.0, _STEP_FACTOR * math.sqrt(tolerance) / rate))


def solver_fallback(solver: str) -> str | None:
    """Why a model with this ``solver`` runs on the CPU by numba, in a sentence; None when it runs in JAX.

    Parameters
    ----------
    solver
        ``"cpu"`` or ``"gpu_parallel"``.
    """
    if solver == "cpu":
        return "the CPU solver was asked for"
    from digital_twins.models._jax_solver import accelerator_missing

    return accelerator_missing()


_STEP_FACTOR = 12.0
_MOST_REFINEMENTS = 5


def padded_density(
    density: ArrayLike, domain: Domain, dtype: np.dtype[Any], capacity: float, *, most: float = _MOST_DENSITY
) -> Array:
    given = np.asarray(density, dtype=np.float64)
    inside = given[domain.mask] if given.shape == domain.shape else np.array([np.nan])
    if not np.all(np.isfinite(inside)) or np.any(inside < 0.0):
        raise InputError(
            "The initial density cannot be used.",
            f"It must have the domain's shape {domain.shape} and finite values of 0 or more.",
            "Resample the density to the model grid.",
        )
    if float(inside.max()) > most * capacity:
        raise InputError(
            "The initial density is far above the carrying capacity.",
            f"Its largest value is {float(inside.max()):g}, the capacity {capacity:g}.",
            "Give both in one unit, such as parts of the capacity.",
        )
    return np.pad(np.where(domain.mask, given / capacity, 0.0), 1).astype(dtype)


def _relative_l2(solved: Array, reference: Array) -> NDArray[np.float64]:
    axes = (1, 2, 3)
    apart = np.sqrt(np.sum((solved.astype(np.float64) - reference) ** 2, axis=axes))
    return np.asarray(
        apart / np.maximum(np.sqrt(np.sum(reference.astype(np.float64) ** 2, axis=axes)), 1e-300)
    )
