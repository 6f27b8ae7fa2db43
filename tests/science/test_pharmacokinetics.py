"""Compartment models against the differential equations, closed forms and published figures."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from digital_twins import InputError
from digital_twins.pharmacology import (
    compartment_model,
    concentration_mg_l,
    drug,
    drug_library,
    kill_terms,
    log_kill_integral,
)
from digital_twins.records import DRUG_KINDS, DrugDose, parse_treatment

HOURS = 24.0
LINEAR = sorted(name for name, entry in drug_library().items() if entry.saturable is None)


def _reference(name: str, dose: DrugDose, hours: np.ndarray) -> np.ndarray:
    """Concentrations by numerical integration of the compartment equations of the library's constants."""
    kinetics = drug(name)
    p = {k: v.value for k, v in kinetics.parameters.items()}
    v1, ka = p["central_volume_l"], p.get("absorption_per_h", 0.0)
    length = dose.duration_hours or kinetics.infusion_hours

    def slope(t: float, x: np.ndarray) -> np.ndarray:
        dx = np.zeros_like(x)
        dx[0] = -ka * x[0]
        rate_in = dose.dose_mg / length if length and t < length else 0.0
        dx[1] = rate_in + ka * x[0] - p["clearance_l_h"] / v1 * x[1]
        for i in (1, 2):
            if f"flow_{i}_l_h" in p:
                flow = p[f"flow_{i}_l_h"] * (x[1] / v1 - x[1 + i] / p[f"peripheral_{i}_volume_l"])
                dx[1] -= flow
                dx[1 + i] += flow
        return dx

    x0 = np.zeros(4)
    x0[0 if ka else 1] = 0.0 if length else dose.dose_mg
    breaks = [0.0, *([length] if length else []), hours[-1]]
    out = np.zeros_like(hours)
    for start, stop in itertools.pairwise(breaks):
        inside = (hours >= start) & (hours <= stop)
        times = np.unique(np.concatenate([hours[inside], [stop]]))
        sol = solve_ivp(
            lambda t, x, s=stop: slope(min(t, s - 1e-12), x),
            (start, stop), x0, t_eval=times, method="LSODA", rtol=1e-10, atol=1e-13,
        )  # fmt: skip
        out[inside] = np.interp(hours[inside], sol.t, sol.y[1] / v1)
        x0 = sol.y[:, -1]
    return out


@pytest.mark.parametrize("name", LINEAR)
def test_concentrations_solve_the_compartment_equations(name: str) -> None:
    dose = DrugDose(day=0.0, dose_mg=100.0)
    hours = np.concatenate([np.linspace(0.02, 4.0, 40), np.linspace(5.0, 72.0, 30)])
    expected = _reference(name, dose, hours)
    got = concentration_mg_l(name, [dose], hours / HOURS)
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-7 * expected.max())


def test_one_compartment_closed_forms() -> None:
    cl, v, ka, dose = 11.2, 34.0, 5.8, 400.0
    k = cl / v
    t = np.linspace(0.0, 24.0, 200)
    oral = compartment_model(clearance_l_h=cl, central_volume_l=v, absorption_per_h=ka)
    bateman = dose * ka / (v * (ka - k)) * (np.exp(-k * t) - np.exp(-ka * t))
    np.testing.assert_allclose(oral(t) * dose, bateman, rtol=1e-10, atol=1e-12)
    assert oral.total * dose == pytest.approx(dose / cl, rel=1e-12)


def test_equal_rates_do_not_break() -> None:
    cl, v = 10.0, 20.0
    oral = compartment_model(clearance_l_h=cl, central_volume_l=v, absorption_per_h=cl / v)
    t = np.linspace(0.0, 20.0, 50)
    np.testing.assert_allclose(oral(t), cl / v * t / v * np.exp(-cl / v * t), rtol=2e-4, atol=1e-9)
    assert oral.total == pytest.approx(1.0 / cl, rel=1e-9)


def test_temozolomide_matches_published_figures() -> None:
    """Jen 2000: CL 11.2 L/h at 2.0 m2; Swiss product text: 200 mg/m2 gives AUC 35 ug h/mL, Cmax 13 ug/mL."""
    dose = DrugDose(day=0.0, dose_mg=400.0)
    days = np.linspace(0.0, 2.0, 4801)
    c = concentration_mg_l("temozolomide", [dose], days)
    assert np.trapezoid(c, days * HOURS) == pytest.approx(35.0, rel=0.05)
    assert 0.3 <= days[np.argmax(c)] * HOURS <= 1.5
    late = c[(days > 0.5) & (days < 1.0)]
    half_life = np.log(2) / -np.polyfit(days[(days > 0.5) & (days < 1.0)] * HOURS, np.log(late), 1)[0]
    assert 1.6 <= half_life <= 2.2  # 1.8 h (Ostermann 2004), 1.9 h (Baker 1999)
    assert c.max() == pytest.approx(13.0, rel=0.3)


def test_pemetrexed_terminal_half_life() -> None:
    """Latz 2006 states approximately 3.5 h from the same constants."""
    assert np.log(2) / drug("pemetrexed").response.rate.min() == pytest.approx(3.5, rel=0.03)


@pytest.mark.parametrize("name", LINEAR)
def test_total_kill_is_sensitivity_times_doses_over_reference(name: str) -> None:
    given = {"drug": name, "dose_mg": 120.0, "schedule": "weekly", "cycles": 3, "day": 2}
    treatment = parse_treatment(given)
    expected = 0.7 * 360.0 / drug(name).reference_dose_mg
    total = log_kill_integral(treatment, 0.7, [2000.0])[0]
    assert total == pytest.approx(expected, rel=1e-8)
    days = np.linspace(0.0, 60.0, 601)
    kill = log_kill_integral(treatment, 0.7, days)
    assert np.all(np.diff(kill) >= -1e-12)
    assert kill[0] == 0.0


def test_no_drug_no_kill_before_the_dose() -> None:
    treatment = parse_treatment({"drug": "cisplatin", "dose_mg": 135, "day": 10})
    assert np.all(log_kill_integral(treatment, 1.0, [0.0, 9.99]) == 0.0)
    assert log_kill_integral(treatment, 1.0, [11.0])[0] > 0.3


def test_every_parameter_names_its_source() -> None:
    for entry in drug_library().values():
        assert entry.name in DRUG_KINDS
        for parameter in entry.parameters.values():
            assert len(parameter.source) > 5
            assert parameter.unit
        assert entry.reference_dose_mg > 0
    assert "effect_half_life_days" in drug("cisplatin").unverified
    assert "absorption_per_h" in drug("temozolomide").unverified
    assert "clearance_l_h" not in drug("temozolomide").unverified
    assert "resistance_per_day" not in drug("temozolomide").parameters
    assert drug("temozolomide").resistance_per_day.verified
    assert drug("paclitaxel").saturable
    assert drug("5-FU").saturable
    assert drug("cisplatin").saturable is None


def test_refusals() -> None:
    with pytest.raises(InputError, match="no kinetics"):
        drug("pembrolizumab")
    with pytest.raises(InputError, match="no drug"):
        kill_terms(parse_treatment({"type": "radiation", "total_dose_gy": 60, "fractions": 30}), 1.0)
    with pytest.raises(InputError, match="sensitivity"):
        kill_terms(parse_treatment({"drug": "cisplatin", "dose_mg": 75}), -1.0)
    with pytest.raises(InputError, match="not positive"):
        compartment_model(clearance_l_h=0.0, central_volume_l=1.0)
