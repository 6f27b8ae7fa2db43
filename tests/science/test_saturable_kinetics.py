"""Saturable kinetics, resistance and spread between patients: closed forms and independent solutions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.special import lambertw

from digital_twins import InputError
from digital_twins.patient_modeling._forcing import forcing_for
from digital_twins.pharmacology import (
    SaturableModel,
    compartment_model,
    concentration_mg_l,
    drug,
    individual_kinetics,
    kill_terms,
    log_kill_integral,
    reference_area_mg_h_l,
)
from digital_twins.records import DrugDose, parse_treatment

HOURS = 24.0
SATURABLE = ["fluorouracil", "paclitaxel"]


def test_bolus_of_a_single_compartment_is_lamberts_function() -> None:
    """C / Km = W(C0/Km exp(C0/Km - Vmax t / (Km V))) (Schnell and Mendoza 1997)."""
    model = drug("5-FU").saturable
    assert model is not None
    volume, vmax, km = model.central_volume_l, model.vmax_mg_h, model.km_mg_l
    length = 1e-6
    dose = DrugDose(day=0.0, dose_mg=765.0, duration_hours=length)
    hours = np.linspace(0.01, 1.5, 60)
    start = 765.0 / volume / km
    exact = km * lambertw(start * np.exp(start - vmax * (hours - length / 2) / (km * volume))).real
    np.testing.assert_allclose(concentration_mg_l("5-FU", [dose], hours / HOURS), exact, rtol=1e-5)
    late = np.linspace(0.0, 3.0, 60_001)
    area = np.trapezoid(concentration_mg_l("5-FU", [dose], late / HOURS), late)
    closed = volume / vmax * start * km * (start * km / 2 + km)
    assert area == pytest.approx(closed, rel=1e-4)
    reference = reference_area_mg_h_l("fluorouracil") / 5
    assert 0.95 * closed < reference < closed, "the reference is a 3-minute injection"


def test_infusion_settles_where_input_equals_elimination() -> None:
    dose = DrugDose(day=0.0, dose_mg=4320.0, duration_hours=46.0)
    rate = 4320.0 / 46.0
    assert concentration_mg_l("5-FU", [dose], 45.0 / HOURS) == pytest.approx(
        5.57 * rate / (1390.0 - rate), rel=1e-6
    )


def _paclitaxel(t: float, y: np.ndarray, rate: float) -> list[float]:
    """The published model in umol and umol/L (Crombag 2019)."""
    c = y[0] / 12.0
    out, bound = 33.8 * c / (0.44 + c), 177.0 * c / (1.61 + c) - 1.21 * y[1]
    spread = 16.8 * (c - y[2] / 268.0)
    return [rate - out - bound - spread, bound, spread]


def test_paclitaxel_solves_its_published_equations() -> None:
    """175 mg/m2 over 3 h, twice a week apart, by DOP853 in molar units."""
    moles = 315.0 / 0.8539
    state, expected, hours = np.zeros(3), [], []
    for begin, end, rate in (
        (0.0, 3.0, moles / 3),
        (3.0, 168.0, 0.0),
        (168.0, 171.0, moles / 3),
        (171, 240, 0),
    ):
        when = np.linspace(begin + 0.1, end, 12)
        run = solve_ivp(
            _paclitaxel, (begin, end), state, "DOP853", when, args=(rate,), rtol=1e-10, atol=1e-12
        )
        expected.extend(run.y[0] / 12.0 * 0.8539)
        hours.extend(when)
        state = run.y[:, -1]
    doses = [DrugDose(day=d, dose_mg=315.0, duration_hours=3.0) for d in (0.0, 7.0)]
    found = concentration_mg_l("paclitaxel", doses, np.array(hours) / HOURS)
    np.testing.assert_allclose(found, expected, rtol=2e-3)


@pytest.mark.parametrize("name", SATURABLE)
def test_small_doses_are_the_linear_limit(name: str) -> None:
    dose = DrugDose(day=0.0, dose_mg=1e-3, duration_hours=1e-3)
    hours = np.linspace(0.05, 1.0, 20)
    limit = drug(name).response(hours) * 1e-3
    np.testing.assert_allclose(concentration_mg_l(name, [dose], hours / HOURS), limit, rtol=0.01)


def test_a_model_without_saturation_is_the_compartment_model() -> None:
    """Half-saturations far above the concentrations leave the linear model: ours solved by eigenvalues."""
    model = SaturableModel(10.0, 5e6, 1e6, flow_l_h=3.0, peripheral_volume_l=20.0)
    linear = compartment_model(clearance_l_h=5.0, central_volume_l=10.0, peripherals=[(3.0, 20.0)])
    hours = np.linspace(0.0, 30.0, 40)
    np.testing.assert_allclose(model.small_dose_response()(hours), linear(hours), rtol=1e-9)


@pytest.mark.parametrize("name", SATURABLE)
@pytest.mark.parametrize("hours", [0.1, 3.0, 24.0])
def test_kill_follows_the_area_and_its_course(name: str, hours: float) -> None:
    """Total kill is exact; the stepped course stays within 1 % of the delayed concentration's integral."""
    given = {"drug": name, "dose_mg": 400, "schedule": "weekly", "cycles": 3, "infusion_hours": hours}
    treatment = parse_treatment(given)
    terms = kill_terms(treatment, 0.7)
    fine = np.linspace(0.0, 60.0, 240_001)
    curve = concentration_mg_l(name, treatment.doses, fine)
    area = np.concatenate([[0.0], np.cumsum((curve[1:] + curve[:-1]) / 2)]) * (fine[1] * HOURS)
    total = 0.7 * area[-1] / reference_area_mg_h_l(name)
    assert terms.integral([2000.0])[0] == pytest.approx(total, rel=2e-3)
    rate = np.log(2.0) / drug(name).effect_half_life_days.value
    keep = np.exp(-rate * fine[1])
    delayed = np.zeros_like(area)
    for i in range(1, fine.size):
        delayed[i] = keep * delayed[i - 1] + (1 - keep) * (area[i] + area[i - 1]) / 2
    expected = 0.7 * delayed / reference_area_mg_h_l(name)
    assert np.max(np.abs(terms.integral(fine[::400]) - expected[::400])) < 0.01 * total


def test_slow_infusions_kill_less_than_fast_ones() -> None:
    """Label of paclitaxel: 24 h clear almost twice as much as 3 h at 175 mg/m2 (23.8 against 12.2 L/h/m2)."""
    totals = [
        log_kill_integral(
            parse_treatment({"drug": "paclitaxel", "dose_mg": 315, "infusion_hours": h}), 1.0, [1e3]
        )[0]
        for h in (3.0, 24.0)
    ]
    assert totals[0] == pytest.approx(1.0, rel=1e-6)
    assert totals[1] == pytest.approx(12.2 / 23.8, rel=0.2)


def test_resistance_multiplies_the_rate_exactly() -> None:
    treatment = parse_treatment(
        {"drug": "cisplatin", "dose_mg": 135, "schedule": "every_3_weeks", "cycles": 4}
    )
    plain, fading = kill_terms(treatment, 0.7), kill_terms(treatment, 0.7, resistance_per_day=0.02)
    days = np.linspace(0.0, 120.0, 48_001)
    rates = np.gradient(plain.integral(days), days) * np.exp(-0.02 * days)
    expected = np.concatenate([[0.0], np.cumsum((rates[1:] + rates[:-1]) / 2) * days[1]])
    np.testing.assert_allclose(fading.integral(days), expected, atol=2e-5)
    assert fading.integral([500.0])[0] < 0.75 * plain.integral([500.0])[0]


def test_resistance_counts_from_the_drugs_first_dose_in_any_treatment() -> None:
    first = parse_treatment(
        {"drug": "temozolomide", "dose_mg": 135, "schedule": "daily", "duration_days": 42}
    )
    second = parse_treatment(
        {"drug": "temozolomide", "dose_mg": 360, "schedule": "days 1-5 of 28", "cycles": 6, "start_day": 70}
    )
    parameters = {"drug_sensitivity": 0.5, "drug_resistance_per_day:temozolomide": 0.005}
    both = forcing_for([first, second], parameters)
    alone = forcing_for([second], parameters)
    late = (
        both.cumulative_log_kill([400.0])[0]
        - forcing_for([first], parameters).cumulative_log_kill([400.0])[0]
    )
    assert late == pytest.approx(np.exp(-0.005 * 70) * alone.cumulative_log_kill([400.0])[0], rel=1e-9)
    none = forcing_for([second], {"drug_sensitivity": 0.5})
    assert none.cumulative_log_kill([400.0])[0] > 1.2 * alone.cumulative_log_kill([400.0])[0]
    with pytest.raises(InputError, match="drug_resistance_per_day"):
        forcing_for([first], {"drug_sensitivity": 0.5, "drug_resistance_per_day": -1.0})


def test_carboplatin_kill_follows_the_area_that_was_aimed_at() -> None:
    """AUC 5 is AUC 5, whatever the kidneys: the doses differ, the exposure does not."""
    kills = [
        log_kill_integral(
            parse_treatment({"drug": "carboplatin", "dose_auc": 5, "gfr_ml_min": gfr}), 0.8, [1e3]
        )[0]
        for gfr in (40.0, 95.0, 130.0)
    ]
    np.testing.assert_allclose(kills, 0.8, rtol=1e-6)


def test_patients_spread_as_published() -> None:
    patients = individual_kinetics("gemcitabine", 4000, seed=1)
    clearances = np.array([p.parameters["clearance_l_h"].value for p in patients])
    assert np.median(clearances) == pytest.approx(162.0, rel=0.03)
    assert clearances.std() / clearances.mean() == pytest.approx(0.31, rel=0.08)
    dose = [DrugDose(day=0.0, dose_mg=1800.0)]
    curves = [concentration_mg_l(p, dose, [0.02]) for p in patients[:50]]
    assert np.std(curves) > 0.1 * np.mean(curves)
    again = individual_kinetics("gemcitabine", 3, seed=1)
    assert [p.parameters for p in again] != [p.parameters for p in patients[:3]][::-1]
    slow = min(patients, key=lambda p: p.parameters["clearance_l_h"].value)
    treatment = parse_treatment({"drug": "gemcitabine", "dose_mg": 3600})
    own, typical = (kill_terms(treatment, 0.5, kinetics=k).integral([1e3])[0] for k in (slow, None))
    assert own / typical == pytest.approx(162.0 / slow.parameters["clearance_l_h"].value, rel=1e-6)


def test_refusals() -> None:
    with pytest.raises(InputError, match="not positive"):
        SaturableModel(0.0, 1.0, 1.0)
    with pytest.raises(InputError, match="cannot be drawn"):
        individual_kinetics("cisplatin", 0, seed=0)
    with pytest.raises(InputError, match="resistance"):
        kill_terms(parse_treatment({"drug": "cisplatin", "dose_mg": 75}), 1.0, resistance_per_day=-0.1)
