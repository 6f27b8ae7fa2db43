"""Search of schedules: brute force, a known optimum, limits, the front, progress and cancel."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import pytest

from digital_twins import InputError
from digital_twins.records import parse_treatment
from digital_twins.treatment_simulation import (
    Limit,
    SearchOptions,
    TreatmentSimulator,
    biologically_effective_dose,
    dose_intensity_mg_per_week,
    optimise_schedule,
    overall_days,
    pareto_front,
    total_dose_mg,
)
from tumour_phantom import new_twin

LATE = Limit("late_bed_gy", biologically_effective_dose(3.0), 60.0)
OPTIONS = SearchOptions(horizon_days=49.0, samples=8)


@pytest.fixture(scope="module")
def simulator() -> TreatmentSimulator:
    return TreatmentSimulator(new_twin(10.0))


def _radiation(values: Mapping[str, float]) -> dict[str, Any]:
    return {
        "type": "radiation",
        "fractions": int(values["fractions"]),
        "dose_per_fraction_gy": float(values["dose_gy"]),
        "schedule": "weekdays",
        "start_weekday": "monday",
        "day": float(values.get("delay", 0.0)),
    }


def test_burdens_are_the_formulas() -> None:
    radiation = [parse_treatment(_radiation({"fractions": 30, "dose_gy": 2.0}))]
    assert biologically_effective_dose(3.0)(radiation) == pytest.approx(60 * (1 + 2 / 3))
    assert biologically_effective_dose(10.0)(radiation) == pytest.approx(72.0)
    assert overall_days(radiation) == 39.0
    drug = parse_treatment({"drug": "cisplatin", "dose_mg": 120, "schedule": "every_3_weeks", "cycles": 4})
    assert total_dose_mg("cisplatin")([drug]) == 480.0
    assert dose_intensity_mg_per_week("cisplatin")([drug]) == pytest.approx(40.0)
    assert dose_intensity_mg_per_week("cisplatin")(radiation) == 0.0
    assert overall_days([parse_treatment({"type": "observation"})]) == 0.0


def test_front_of_points_against_its_definition() -> None:
    points = np.random.default_rng(2).integers(0, 6, (60, 3)).astype(float)
    kept = set(pareto_front(points))
    for i, p in enumerate(points):
        beaten = any(np.all(q <= p) and np.any(q < p) for q in points)
        first = not any(np.array_equal(points[j], p) for j in range(i))
        assert (i in kept) == (not beaten and first)


def test_small_grid_equals_brute_force(simulator: TreatmentSimulator) -> None:
    space = {"fractions": [5, 10], "dose_gy": [2.0, 8.0], "delay": [0.0, 14.0]}
    seen: list[float] = []
    days = Limit("days", overall_days)
    found = optimise_schedule(
        simulator,
        _radiation,
        space,
        limits=[LATE, days],
        options=OPTIONS,
        progress=lambda share, _: seen.append(share),
    )
    assert len(found.candidates) == 8
    assert seen[-1] == 1.0
    feasible = []
    for n in space["fractions"]:
        for d in space["dose_gy"]:
            for delay in space["delay"]:
                plan = _radiation({"fractions": n, "dose_gy": d, "delay": delay})
                if n * d * (1 + d / 3.0) > 60.0:
                    continue
                response = simulator.predict_response(plan, 49.0, samples=8)
                prediction = response.prediction
                least = 1e-6 * prediction.domain.voxel_volume_mm3
                ratio = np.maximum(prediction.samples_cm3[:, -1], least) / prediction.samples_cm3[:, 0]
                feasible.append((float(np.mean(np.log(ratio))), n, d, delay))
    assert sum(c.feasible for c in found.candidates) == len(feasible)
    assert all(np.isnan(c.objective) and not c.figures for c in found.candidates if not c.feasible)
    best = min(feasible)
    assert found.best is not None
    assert found.best.objective == pytest.approx(best[0], rel=1e-12)
    assert tuple(found.best.values.values()) == best[1:]
    again = simulator.predict_response(_radiation(found.best.values), 49.0, samples=8)
    assert found.best.figures == again.to_dict()
    assert found.front[0] is found.best
    objectives = [c.objective for c in found.front]
    assert objectives == sorted(objectives)
    for one in found.front:
        for other in (c for c in found.candidates if c.feasible):
            better = other.objective < one.objective and all(
                other.burdens[k] < one.burdens[k] for k in one.burdens
            )
            assert not better


def test_continuous_search_finds_the_bound_of_a_limit(simulator: TreatmentSimulator) -> None:
    """Ten fractions: the more dose the better, so the best lies where late BED meets its limit.

    10 d (1 + d/3) = 60 gives d = (sqrt(81) - 3) / 2 = 3 Gy.
    """
    found = optimise_schedule(
        simulator,
        lambda v: _radiation({"fractions": 10, "dose_gy": v["dose_gy"]}),
        {"dose_gy": (1.0, 6.0)},
        limits=[LATE],
        continuous=True,
        options=SearchOptions(horizon_days=28.0, samples=8, evaluations=40, seed=1),
    )
    assert found.best is not None
    assert found.best.values["dose_gy"] == pytest.approx(3.0, abs=0.1)
    assert found.best.burdens["late_bed_gy"] <= 60.0


def test_a_search_can_be_stopped_and_refuses_nonsense(simulator: TreatmentSimulator) -> None:
    with pytest.raises(CancelledError):
        optimise_schedule(
            simulator,
            _radiation,
            {"fractions": [5], "dose_gy": [2.0]},
            options=OPTIONS,
            cancelled=lambda: True,
        )
    with pytest.raises(InputError, match="schedules"):
        optimise_schedule(simulator, _radiation, {}, options=OPTIONS)
    nothing = optimise_schedule(
        simulator, _radiation, {"fractions": [30], "dose_gy": [8.0]}, limits=[LATE], options=OPTIONS
    )
    assert nothing.best is None
    assert nothing.front == ()


def test_other_objectives(simulator: TreatmentSimulator) -> None:
    for objective in ("response", "progression"):
        options = SearchOptions(horizon_days=49.0, samples=8, objective=objective)  # type: ignore[arg-type]
        found = optimise_schedule(
            simulator, _radiation, {"fractions": [1, 20], "dose_gy": [2.0]}, options=options
        )
        assert all(0.0 <= c.objective <= 1.0 for c in found.candidates)
        assert found.best is not None
        assert found.best.objective == min(c.objective for c in found.candidates)
