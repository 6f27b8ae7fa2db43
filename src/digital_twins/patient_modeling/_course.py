"""A course whose treatments need the tumour as it is by then: surgery, and effectors beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins.models import (
    Forcing,
    SplittingOptions,
    coupled_trajectory,
    trajectory_with_dead_cells,
)
from digital_twins.patient_modeling._context import tumour_context
from digital_twins.patient_modeling._forcing import forcing_for
from digital_twins.patient_modeling._geometry import signed_distance_mm
from digital_twins.patient_modeling._immune_forcing import immune_courses
from digital_twins.patient_modeling._surgery_forcing import surgery_forcing
from digital_twins.units import MM3_PER_CM3

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from digital_twins.imaging import Mask
    from digital_twins.models import Domain, ImmuneCourse, ReactionDiffusionModel
    from digital_twins.patient_modeling._context import TumourContext
    from digital_twins.records import Treatment

    Array = NDArray[Any]

_SPLIT_DAYS = 3.5
"""Splits of effectors and tumour: an error below 1e-3 for a patient's block, the tolerance of the course."""


@dataclass(frozen=True, eq=False)
class Solver:
    """What a course is solved with: model, the grid for solver and patient, visible edge, time tolerance."""

    model: ReactionDiffusionModel
    solver_domain: Domain
    domain: Mask
    threshold: float
    tolerance: float
    clearance_half_life_days: float | None = None


@dataclass(frozen=True, eq=False)
class _Reached:
    """The tumour and its effectors on a day, and what they did to it on the way."""

    day: float
    density: Array
    courses: tuple[ImmuneCourse, ...]
    kill: tuple[tuple[float, float], ...] = ()


def course_forcing(
    solver: Solver,
    density: Array,
    parameters: Mapping[str, float],
    *,
    treatments: Sequence[Treatment],
    horizon_days: float,
) -> Forcing:
    """Lay out a course with surgery or immunotherapy as a forcing, solving it once to see the tumour.

    The course is solved from one surgery to the next; each takes out what is visible in this course on its
    day. Once effectors act they are carried along by :func:`digital_twins.models.coupled_trajectory`, and
    their kill rate becomes a piecewise constant term. Solved with the forcing that comes back, the tumour is
    the same within the tolerance, so that everything that takes a forcing takes these treatments, too.

    Raises
    ------
    InputError
        As :func:`forcing_for`, or when a resection mask or an antibody cannot be used.
    """
    operations = sorted(
        (t for t in treatments if t.kind == "surgery" and 0.0 <= (t.day or 0.0) < horizon_days),
        key=lambda t: t.day or 0.0,
    )
    others = [t for t in treatments if t.kind not in ("surgery", "immunotherapy")]
    total = forcing_for(others, parameters, horizon_days=horizon_days)
    begin, courses = immune_courses(treatments, parameters)
    state = np.where(solver.domain.array, density, 0.0)
    if courses and begin < 0.0:
        burden = float(state.sum(dtype=np.float64)) * solver.solver_domain.voxel_volume_mm3 / MM3_PER_CM3
        courses = _rolled_to_baseline(courses, begin, burden)
    stops: list[tuple[float, Treatment | None]] = [(t.day or 0.0, t) for t in operations]
    if begin < horizon_days:
        stops += [(max(begin, 0.0), None), (horizon_days, None)]
    reached = _Reached(0.0, state, courses)
    plain = total
    kills: list[tuple[float, float]] = []
    for day, operation in sorted(stops, key=lambda stop: stop[0]):
        reached = _solved(solver, reached, day, forcing=plain, acting=reached.day >= begin)
        kills += reached.kill
        if operation is not None:
            context = _shown(solver, density, reached, forcing=total + _constant_between(kills))
            cut = surgery_forcing(operation, parameters, context)
            total = total + cut
            survival = cut.survival_maps[0].survival.astype(reached.density.dtype)
            reached = replace(reached, density=reached.density * survival)
    return total + _constant_between(kills)


def _shown(solver: Solver, density: Array, reached: _Reached, *, forcing: Forcing) -> TumourContext:
    """What an image shows on a day: living cells, and dead ones where they are followed."""
    living = tumour_context(solver.domain, np.pad(reached.density, 1), solver.threshold)
    if solver.clearance_half_life_days is None or reached.day <= 0.0:
        return living
    (state,) = trajectory_with_dead_cells(
        solver.model,
        density,
        solver.solver_domain,
        output_days=[reached.day],
        forcing=forcing,
        clearance_half_life_days=solver.clearance_half_life_days,
        tolerance=solver.tolerance,
    )
    inside = state.visible_mask(solver.threshold)
    if state.dead is None or not inside.any():
        return living
    distance = signed_distance_mm(inside.astype(np.float64), min(solver.domain.spacing_mm))
    return replace(living, distance_mm=np.maximum(distance, living.distance_mm))


def _solved(solver: Solver, start: _Reached, day: float, *, forcing: Forcing, acting: bool) -> _Reached:
    """Solve to a day, with the effectors where they act."""
    if day <= start.day:
        return replace(start, kill=())
    if not acting or not start.courses:
        (_, state), *_ = solver.model.trajectory(
            start.density,
            solver.solver_domain,
            [day],
            forcing=forcing,
            start_day=start.day,
            tolerance=solver.tolerance,
        )
        return _Reached(day, state[1:-1, 1:-1, 1:-1], start.courses)
    options = SplittingOptions(split_days=_SPLIT_DAYS, start_day=start.day, tolerance=solver.tolerance)
    (coupled,) = coupled_trajectory(
        solver.model,
        start.density,
        solver.solver_domain,
        days=[day],
        courses=start.courses,
        forcing=forcing,
        options=options,
    )
    return _Reached(day, coupled.density[1:-1, 1:-1, 1:-1], coupled.courses, coupled.kill)


def _constant_between(kills: Sequence[tuple[float, float]]) -> Forcing:
    """Kill rate that holds from each day to the next, and from the last one on."""
    rates = np.array([rate for _, rate in kills], dtype=np.float64)
    return Forcing(
        dose_days=np.array([day for day, _ in kills]),
        amplitude_per_day=np.diff(rates, prepend=0.0),
        decay_per_day=np.zeros(rates.size),
    )


def _rolled_to_baseline(
    courses: tuple[ImmuneCourse, ...], begin: float, burden_cm3: float
) -> tuple[ImmuneCourse, ...]:
    """Effectors on day 0 when antibodies were given before it, the burden taken as that of day 0."""
    day = begin
    while day < 0.0:
        step = min(1.0, -day)
        courses = tuple(
            replace(
                course,
                level=course.dynamics.after(
                    course.level, step, burden=burden_cm3, release=course.release(day + 0.5 * step)
                ),
            )
            for course in courses
        )
        day += step
    return courses
