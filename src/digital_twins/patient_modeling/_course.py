"""A course whose treatments need the tumour as it is by then: surgery, and effectors beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins.models import SplittingOptions, coupled_trajectory
from digital_twins.patient_modeling._context import tumour_context
from digital_twins.patient_modeling._forcing import forcing_for
from digital_twins.patient_modeling._immune_forcing import immune_courses
from digital_twins.patient_modeling._surgery_forcing import surgery_forcing
from digital_twins.units import MM3_PER_CM3

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from digital_twins.imaging import Mask
    from digital_twins.models import Domain, Forcing, ImmuneCourse, ReactionDiffusionModel
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


def course_states(
    solver: Solver,
    density: Array,
    parameters: Mapping[str, float],
    *,
    treatments: Sequence[Treatment],
    days: NDArray[np.float64],
) -> Iterator[tuple[float, Array]]:
    """Yield (day, padded density) as the solver's ``trajectory`` does, with surgery and immunotherapy.

    The course is solved from one surgery to the next; each takes out what is visible in this course on its
    day. An output on the day of a surgery is the tumour before it. Once effectors act they are carried along
    by :func:`digital_twins.models.coupled_trajectory`.
    """
    horizon = float(days[-1]) if days.size else 0.0
    operations = sorted(
        (t for t in treatments if t.kind == "surgery" and 0.0 <= (t.day or 0.0) < horizon),
        key=lambda t: t.day or 0.0,
    )
    plain = [t for t in treatments if t.kind not in ("surgery", "immunotherapy")]
    forcing = forcing_for(plain, parameters, horizon_days=horizon)
    begin, courses = immune_courses(treatments, parameters)
    state, now = np.pad(np.where(solver.domain.array, density, 0.0), 1), 0.0
    if courses and begin < 0.0:
        burden = float(state.sum(dtype=np.float64)) * solver.solver_domain.voxel_volume_mm3 / MM3_PER_CM3
        courses = _rolled_to_baseline(courses, begin, burden)
    stops: list[tuple[float, Treatment | None]] = [(t.day or 0.0, t) for t in operations]
    if courses and 0.0 < begin < horizon:
        stops.append((begin, None))
    pending = list(days)
    for end, operation in [*sorted(stops, key=lambda stop: stop[0]), (horizon, None)]:
        acting = courses if now >= begin else ()
        wanted = [day for day in pending if day <= end]
        pending = pending[len(wanted) :]
        stretch = _stretch(solver, state, (now, [*wanted, end]), forcing=forcing, courses=acting)
        for index, (day, reached, carried) in enumerate(stretch):
            state, courses = reached, carried or courses
            if index < len(wanted):
                yield day, reached
        now = end
        if operation is not None:
            context = tumour_context(solver.domain, state, solver.threshold)
            (cut,) = surgery_forcing(operation, parameters, context).survival_maps
            state = state * np.pad(cut.survival, 1).astype(state.dtype)


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


def _stretch(
    solver: Solver,
    state: Array,
    times: tuple[float, list[float]],
    *,
    forcing: Forcing,
    courses: tuple[ImmuneCourse, ...],
) -> Iterator[tuple[float, Array, tuple[ImmuneCourse, ...]]]:
    """Solve from a day over the days given; the last state is a copy that outlives the stretch."""
    begin, days = times
    inner = state[1:-1, 1:-1, 1:-1]
    if not courses:
        for day, reached in solver.model.trajectory(
            inner, solver.solver_domain, days, forcing=forcing, start_day=begin, tolerance=solver.tolerance
        ):
            yield day, reached, ()
        return
    options = SplittingOptions(split_days=_SPLIT_DAYS, start_day=begin, tolerance=solver.tolerance)
    for coupled in coupled_trajectory(
        solver.model,
        inner,
        solver.solver_domain,
        days=days,
        courses=courses,
        forcing=forcing,
        options=options,
    ):
        yield coupled.day, coupled.density, coupled.courses
