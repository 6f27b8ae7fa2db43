"""Search of a schedule under limits, and the front of what can be had at what price."""

from __future__ import annotations

import itertools
import math
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.optimize import differential_evolution

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from digital_twins.records import Treatment
    from digital_twins.treatment_simulation._burdens import Burden
    from digital_twins.treatment_simulation._response import Response
    from digital_twins.treatment_simulation._simulator import Plan, TreatmentSimulator

Objective = Literal["volume", "response", "progression"]
_MOST_CANDIDATES = 2000
_REFUSED = 1e6


@dataclass(frozen=True, eq=False)
class SearchOptions:
    """How schedules are judged.

    Attributes
    ----------
    horizon_days
        Days from now to the assessment.
    objective
        What is made small: ``"volume"``, the mean log of the volume at the horizon over the one now (a gone
        tumour counts as a thousandth of a voxel), ``"response"``, one minus the probability of response, or
        ``"progression"``, the probability of progression.
    samples, seed
        Ensemble; the same for every schedule (common random numbers), so that schedules differ by their
        effect only.
    evaluations
        Of the continuous search, at most.
    """

    horizon_days: float = 180.0
    objective: Objective = "volume"
    samples: int = 16
    seed: int = 0
    evaluations: int = 200


@dataclass(frozen=True, eq=False)
class Limit:
    """A burden that must not be exceeded, e.g. the biologically effective dose of late tissue."""

    name: str
    burden: Burden
    most: float = math.inf


@dataclass(frozen=True, eq=False)
class Candidate:
    """One schedule.

    Attributes
    ----------
    values
        Its place in the search.
    burdens
        By the limits' names.
    feasible
        Whether all limits are kept.
    objective
        What was made small; NaN for a schedule outside the limits, which is not simulated.
    figures
        The simulated response in numbers (:meth:`Response.to_dict`), empty where it was not simulated; the
        whole response comes again from ``predict_response`` with the same seed and samples.
    """

    values: Mapping[str, float]
    burdens: Mapping[str, float]
    feasible: bool
    objective: float
    figures: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, eq=False)
class ScheduleSearch:
    """Outcome of a search.

    Attributes
    ----------
    best
        Feasible schedule of the smallest objective; of equals the first tried. None when none is feasible.
    front
        Feasible schedules that no other one beats in the objective and every burden at once, by objective.
    candidates
        All that were tried, in order.
    """

    best: Candidate | None
    front: tuple[Candidate, ...]
    candidates: tuple[Candidate, ...]


def pareto_front(points: Sequence[Sequence[float]]) -> list[int]:
    """Indices of the points that no other point beats or equals in every coordinate and beats in one.

    Smaller is better; of equal points the first is kept.
    """
    values = np.asarray(points, dtype=np.float64)
    kept = []
    for i, point in enumerate(values):
        no_worse = np.all(values <= point, axis=1)
        better = np.any(values < point, axis=1)
        equal_before = np.all(values[:i] == point, axis=1).any() if i else False
        if not np.any(no_worse & better) and not equal_before:
            kept.append(i)
    return kept


def optimise_schedule(
    simulator: TreatmentSimulator,
    build: Callable[[Mapping[str, float]], Plan],
    space: Mapping[str, Sequence[float]],
    *,
    limits: Sequence[Limit] = (),
    continuous: bool = False,
    options: SearchOptions | None = None,
    progress: Callable[[float, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> ScheduleSearch:
    """Search the schedule that does best within limits.

    Parameters
    ----------
    simulator
        Of the patient's twin.
    build
        Turns values into a plan, e.g. ``lambda v: {"type": "radiation", "fractions": int(v["n"]), ...}``.
    space
        Name to the values to try, or for a continuous search to (low, high).
    limits
        Burdens of a protocol with their limits; each is a coordinate of the front, too.
    continuous
        Search between the bounds by differential evolution (seeded; Storn & Price 1997,
        doi:10.1023/A:1008202821328) instead of trying every combination of values.
    options
        Horizon, objective, ensemble.
    progress, cancelled
        Called with a fraction and a text; asked whether to stop.

    Raises
    ------
    InputError
        When the space is empty or too large, or a plan cannot be understood.
    concurrent.futures.CancelledError
        When ``cancelled`` said so.
    """
    how = options or SearchOptions()
    names = list(space)
    search = _Search(simulator, build, limits, how, cancelled)
    if continuous:
        _evolve(search, {name: (min(space[name]), max(space[name])) for name in names}, progress)
    else:
        grid = list(itertools.product(*(space[name] for name in names)))
        if not names or not grid or len(grid) > _MOST_CANDIDATES:
            raise InputError(
                f"The search has {len(grid) if names else 0} schedules.",
                f"It needs between 1 and {_MOST_CANDIDATES}.",
                "Give a few values of each quantity.",
            )
        for number, point in enumerate(grid, start=1):
            search.judge(dict(zip(names, point, strict=True)))
            if progress is not None:
                progress(number / len(grid), f"schedule {number} of {len(grid)}")
    return search.outcome()


class _Search:
    """Judges schedules, each once, and remembers them."""

    def __init__(
        self,
        simulator: TreatmentSimulator,
        build: Callable[[Mapping[str, float]], Plan],
        limits: Sequence[Limit],
        how: SearchOptions,
        cancelled: Callable[[], bool] | None,
    ) -> None:
        self.how = how
        self._simulator, self._build, self._limits = simulator, build, limits
        self._cancelled = cancelled
        self._known: dict[tuple[float, ...], Candidate] = {}

    def judge(self, values: Mapping[str, float]) -> Candidate:
        """Judge one schedule; one outside the limits is not simulated."""
        if self._cancelled is not None and self._cancelled():
            raise CancelledError("the search was cancelled")
        key = tuple(values.values())
        if key not in self._known:
            plan = self._build(values)
            treatments = self._simulator.parse_plan(plan)
            burdens = {limit.name: float(limit.burden(treatments)) for limit in self._limits}
            feasible = all(burdens[limit.name] <= limit.most + 1e-9 for limit in self._limits)
            objective, figures = math.nan, {}
            if feasible:
                response = self._simulate(treatments)
                objective, figures = self._objective(response), response.to_dict()
            self._known[key] = Candidate(dict(values), burdens, feasible, objective, figures)
        return self._known[key]

    def excess(self, candidate: Candidate) -> float:
        """By how much a schedule exceeds its limits, relative to them."""
        return sum(
            max(0.0, candidate.burdens[limit.name] / max(limit.most, 1e-12) - 1.0)
            for limit in self._limits
            if math.isfinite(limit.most)
        )

    def outcome(self) -> ScheduleSearch:
        tried = tuple(self._known.values())
        feasible = [c for c in tried if c.feasible]
        kept = pareto_front([(c.objective, *c.burdens.values()) for c in feasible]) if feasible else []
        front = sorted((feasible[i] for i in kept), key=lambda c: c.objective)
        best = min(feasible, key=lambda c: c.objective, default=None)
        return ScheduleSearch(best, tuple(front), tried)

    def _simulate(self, treatments: tuple[Treatment, ...]) -> Response:
        how = self.how
        return self._simulator.predict_response(
            list(treatments), how.horizon_days, samples=how.samples, seed=how.seed
        )

    def _objective(self, response: Response) -> float:
        if self.how.objective == "response":
            return 1.0 - response.response_probability
        if self.how.objective == "progression":
            return response.time_to_progression.probability_by(response.time_to_progression.followed_days)
        prediction = response.prediction
        least = 1e-6 * prediction.domain.voxel_volume_mm3
        now = prediction.samples_cm3[:, int(np.searchsorted(prediction.days, prediction.origin_day))]
        final = prediction.samples_cm3[:, -1]
        return float(np.mean(np.log(np.maximum(final, least) / np.maximum(now, least))))


def _evolve(
    search: _Search,
    bounds: Mapping[str, tuple[float, float]],
    progress: Callable[[float, str], None] | None,
) -> None:
    names = list(bounds)
    most = search.how.evaluations
    done = 0

    def cost(point: Any) -> float:
        nonlocal done
        done += 1
        if progress is not None:
            progress(min(1.0, done / most), f"schedule {done}")
        candidate = search.judge(dict(zip(names, map(float, point), strict=True)))
        return candidate.objective if candidate.feasible else _REFUSED * (1.0 + search.excess(candidate))

    size = max(5, min(15, most // 10))
    differential_evolution(
        cost,
        list(bounds.values()),
        seed=search.how.seed,
        popsize=max(1, size // max(len(names), 1)),
        maxiter=max(1, most // max(size, 5) - 1),
        tol=1e-4,
        polish=False,
    )
