"""The course of a solution in time: where it pauses, its splitting steps, and the exact reactions of each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from digital_twins.models._domain import Domain
    from digital_twins.models._forcing import Forcing


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


@dataclass(frozen=True, slots=True, eq=False)
class Stop:
    """A day at which the steps pause: for output ``index``, or for a padded map of ``survival``."""

    day: float
    index: int | None = None
    survival: NDArray[np.float64] | None = None
    map_index: int = -1


_LONGEST_DAYS = 73050.0


def refuse_unusable(days: NDArray[np.float64], start_day: float, *, tolerance: float, precision: str) -> None:
    """Refuse output days, tolerances and types of number that no solution can have."""
    if precision not in {"float32", "float64"} or not 0.0 < tolerance < 1.0:
        raise InputError(
            "The accuracy that was asked for cannot be used.",
            f"The tolerance is {tolerance:g}, the type of number {precision}.",
            "Use a tolerance between 0 and 1, and float32 or float64.",
        )
    usable = math.isfinite(start_day) and days.ndim == 1 and bool(np.all(np.isfinite(days)))
    if not usable or (days.size and (days[0] < start_day or bool(np.any(np.diff(days) < 0.0)))):
        raise InputError(
            "The output days cannot be used.",
            "They must rise and must not lie before the start.",
            "Sort the days; the state before the start is not known.",
        )
    if days.size and days[-1] - start_day > _LONGEST_DAYS:
        raise InputError(
            "The solution would run for more than 200 years.",
            f"It ends {days[-1] - start_day:g} days after its start.",
            "Check that the days are days, not seconds or dates.",
        )


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
