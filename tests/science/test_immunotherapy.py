"""Effector cells: published models, antibodies, and the coupling to a tumour in space."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from digital_twins import InputError
from digital_twins.models import (
    KUZNETSOV_1994,
    Domain,
    EffectorDynamics,
    FourCellModel,
    ImmuneCourse,
    ReactionDiffusionModel,
    SplittingOptions,
    TumourImmuneModel,
    coupled_trajectory,
)
from digital_twins.patient_modeling._immune_forcing import immune_courses
from digital_twins.pharmacology import antibody, antibody_library
from digital_twins.records import DrugDose, parse_treatment

if TYPE_CHECKING:
    from pathlib import Path

DOMAIN = Domain(np.ones((5, 6, 7), dtype=bool), (2.0, 2.0, 2.0))
EVERY_3_WEEKS = tuple(DrugDose(day=21.0 * i, dose_mg=200.0) for i in range(12))


def test_kuznetsov_parameters_are_those_of_the_published_model() -> None:
    """The paper's dimensionless values follow from the dimensional ones: T0 = E0 = 1e6 cells, time n T0."""
    k, model, unit = KUZNETSOV_1994, TumourImmuneModel(), 1e6
    rate = k.kill * unit
    scaled = [
        k.source_per_day / (rate * unit),
        k.stimulation_per_day / rate,
        k.half_burden / unit,
        k.inactivation * unit / rate,
        k.loss_per_day / rate,
        model.growth_per_day / rate,
        model.crowding * unit,
    ]
    published = [0.1181, 1.131, 20.19, 0.00311, 0.3743, 1.636, 2.0e-3]
    np.testing.assert_allclose(scaled, published, rtol=2e-3)


@pytest.mark.shared
def test_kuznetsov_parameters_are_those_of_the_sbml_file(shared_data: Path) -> None:
    document = ET.parse(shared_data / "trials" / "kuznetsov1994.sbml.xml")
    found = {
        e.get("id"): float(e.get("value", "nan")) for e in document.iter() if e.tag.endswith("}parameter")
    }
    k, model = KUZNETSOV_1994, TumourImmuneModel()
    assert found == {
        "s": k.source_per_day,
        "p": k.stimulation_per_day,
        "g": k.half_burden,
        "mm": k.inactivation,
        "d": k.loss_per_day,
        "a": model.growth_per_day,
        "b": model.crowding,
        "n": k.kill,
    }


def test_kuznetsov_equilibria_and_dormancy() -> None:
    """Dormant, saddle and escaped states of the paper: 8.19, 267.8 and 447.1 million tumour cells."""
    model = TumourImmuneModel()
    states = model.equilibria()
    np.testing.assert_allclose(states[:, 1] / 1e6, [8.19, 267.8, 447.1], rtol=1e-3)
    assert [model.is_stable(*state) for state in states] == [True, False, True]
    assert not model.is_stable(KUZNETSOV_1994.source_per_day / KUZNETSOV_1994.loss_per_day, 0.0)
    dormant = model.trajectory(3.2e5, 5e5, [2000.0])[:, -1]
    np.testing.assert_allclose(dormant, states[0], rtol=0.02)
    escaped = model.trajectory(3.2e5, 4.4e8, [2000.0])[:, -1]
    np.testing.assert_allclose(escaped, states[2], rtol=0.02)


def test_four_cell_model_with_a_healthy_and_a_depleted_immune_system() -> None:
    """A million cells are cleared by the paper's healthy start and grow out of its depleted one."""
    model = FourCellModel()
    healthy = model.trajectory([1e6, 1e5, 100.0, 6e10], [0.0, 20.0])
    depleted = model.trajectory([1e6, 1e3, 10.0, 6e8], [0.0, 80.0])
    assert healthy[0, -1] < 1.0
    assert depleted[0, -1] == pytest.approx(1.0 / model.b, rel=0.01)
    assert model.lysis_per_day(1.0, 1.0) == pytest.approx(2.34 / (1 + 8.39e-2))
    rest = FourCellModel(a=0.0).trajectory([0.0, 1e5, 10.0, 6e10], [3000.0])[:, -1]
    assert rest[3] == pytest.approx(model.alpha / model.beta, rel=1e-6)
    assert rest[1] == pytest.approx(model.e * rest[3] / model.f, rel=1e-6)
    with pytest.raises(InputError, match="cells at the start"):
        model.trajectory([1.0, -1.0, 0.0, 0.0], [1.0])


@pytest.mark.parametrize(
    ("name", "half_life_days"),
    [
        # pembrolizumab: Swiss product information; the others: PMC6584248, table 2
        ("pembrolizumab", 22.0),
        ("nivolumab", 25.0),
        ("atezolizumab", 27.0),
        ("durvalumab", 21.0),
        ("ipilimumab", 15.0),
    ],
)
def test_antibody_half_lives(name: str, half_life_days: float) -> None:
    entry = antibody(name)
    assert np.log(2.0) / entry.response.rate.min() == pytest.approx(half_life_days, rel=0.2)
    assert entry.response.total == pytest.approx(1.0 / entry.parameters["clearance_l_d"].value, rel=1e-9)
    assert entry.response(0.0) == pytest.approx(1.0 / entry.parameters["central_volume_l"].value, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "dose_mg", "area", "peak", "trough"),
    [
        # steady state over first dose, every three weeks: product informations (Swiss; European)
        ("pembrolizumab", 200.0, 2.1, None, None),
        ("atezolizumab", 1200.0, 1.91, 1.46, 2.75),
    ],
)
def test_antibody_accumulation(
    name: str, dose_mg: float, area: float, peak: float | None, trough: float | None
) -> None:
    doses = [DrugDose(day=21.0 * i, dose_mg=dose_mg) for i in range(30)]
    within = np.linspace(1e-3, 21.0 - 1e-3, 3001)
    first = antibody(name).concentration_mg_l(doses, within)
    steady = antibody(name).concentration_mg_l(doses, 29 * 21.0 + within)
    assert steady.mean() / first.mean() == pytest.approx(area, rel=0.1)
    if peak is not None and trough is not None:
        assert steady[0] / first[0] == pytest.approx(peak, rel=0.1)
        assert steady[-1] / first[-1] == pytest.approx(trough, rel=0.2)


def test_occupancy_falls_when_dosing_ends() -> None:
    held = antibody("keytruda").occupancy(EVERY_3_WEEKS, [-1.0, 30.0, 252.0, 500.0])
    assert held[0] == 0.0
    assert held[1] > 0.95
    assert held[3] < 0.2
    assert set(antibody_library()) == {
        "pembrolizumab",
        "nivolumab",
        "atezolizumab",
        "durvalumab",
        "ipilimumab",
    }


def _uniform(course: ImmuneCourse, split: float, days: list[float]) -> tuple[np.ndarray, np.ndarray]:
    model = ReactionDiffusionModel(0.2, 0.03)
    states = coupled_trajectory(
        model,
        np.full(DOMAIN.shape, 0.3),
        DOMAIN,
        days=days,
        courses=[course],
        options=SplittingOptions(split_days=split, precision="float64"),
    )
    got = [(s.density[2, 2, 2], s.courses[0].level) for s in states]
    return np.array([n for n, _ in got]), np.array([e for _, e in got])


def _reference(course: ImmuneCourse, days: list[float]) -> np.ndarray:
    volume = float(np.prod(DOMAIN.shape)) * DOMAIN.voxel_volume_mm3 * course.burden_per_mm3
    dynamics = course.dynamics

    def rates(t: float, y: np.ndarray) -> list[float]:
        level, density = y
        growth = 0.03 * density * (1.0 - density) - dynamics.kill * level * density
        return [dynamics.rate(level, density * volume, release=course.release(t)), growth]

    solved = solve_ivp(
        rates, (0.0, days[-1]), [course.level, 0.3], t_eval=days, rtol=1e-11, atol=1e-13, max_step=0.5
    )
    return solved.y


@pytest.mark.parametrize("kind", ["kuznetsov", "block"])
def test_coupled_tumour_on_a_uniform_field_is_the_ordinary_model(kind: str) -> None:
    """Second order in the split: below 2e-3 at 2 days (mice), below 1e-3 at 3.5 (a patient's block)."""
    days = [28.0, 56.0, 112.0]
    if kind == "kuznetsov":
        # 1e9 cells a cm3: the burden of the 1.68 cm3 domain in cells spans the paper's range of sizes
        course = ImmuneCourse(KUZNETSOV_1994, lambda _: 1.0, level=3.2e5, burden_per_mm3=2.0e5)
    else:
        dynamics = EffectorDynamics(
            recruitment_per_day=0.0412, loss_per_day=0.0412, half_burden=0.02, kill=0.06
        )
        drug = antibody("pembrolizumab")
        course = ImmuneCourse(dynamics, lambda day: float(drug.occupancy(EVERY_3_WEEKS[:4], day)))
    level, density = _reference(course, days)
    errors = []
    for split in (2.0, 1.0) if kind == "kuznetsov" else (3.5, 1.75):
        got_density, got_level = _uniform(course, split, days)
        errors.append(max(np.abs(got_density / density - 1).max(), np.abs(got_level / level - 1).max()))
    assert errors[0] < (2e-3 if kind == "kuznetsov" else 1e-3)
    assert errors[1] < errors[0] / 3.3


def test_block_of_one_checkpoint_is_shared_and_checkpoints_are_independent() -> None:
    parameters = {
        "effector_turnover_per_day": 0.0412,
        "immune_half_burden_cm3": 0.02,
        "immune_kill_per_day:pd1": 0.02,
        "immune_kill_per_day:ctla4": 0.01,
    }
    given = [
        parse_treatment({"drug": "nivolumab", "dose_mg": 1.0, "day": 3}),
        parse_treatment({"drug": "atezolizumab", "dose_mg": 1.0, "day": 5}),
        parse_treatment({"drug": "ipilimumab", "dose_mg": 1.0, "day": 9}),
    ]
    begin, courses = immune_courses(given, parameters)
    assert begin == 3.0
    assert len(courses) == 2
    single = [antibody(t.drug or "").occupancy(t.doses, 10.0) for t in given]
    assert courses[0].release(10.0) == pytest.approx(1 - (1 - single[0]) * (1 - single[1]))
    assert courses[1].release(10.0) == pytest.approx(single[2])
    with pytest.raises(InputError, match="immune_kill_per_day:pd1"):
        immune_courses(given, {"effector_turnover_per_day": 0.04, "immune_half_burden_cm3": 0.02})
