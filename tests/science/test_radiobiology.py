"""Radiation survival against closed forms, integrals and published figures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad

from digital_twins import InputError
from digital_twins.models import (
    COMPLICATIONS,
    Radiosensitivity,
    bed_gy,
    complication_probability,
    dose_lost_gy_per_day,
    dose_response_tcp,
    eqd2_gy,
    fraction_log_survival,
    generalised_eud_gy,
    lq_log_survival,
    repopulation_log_growth,
    tumour_control_probability,
)

ALPHA, RATIO = 0.3, 10.0
BETA = ALPHA / RATIO


def test_full_repair_is_the_plain_law():
    days = np.arange(30.0)
    logs = fraction_log_survival(np.full(30, 2.0), days, Radiosensitivity(ALPHA, RATIO))
    np.testing.assert_allclose(logs, lq_log_survival(np.full(30, 2.0), ALPHA, RATIO), rtol=1e-14)


@pytest.mark.parametrize(("per_day", "hours"), [(2, 6.0), (3, 6.0), (3, 4.0)])
def test_several_fractions_a_day_follow_thames(per_day, hours):
    """Thames 1985: E = n m (alpha d + beta d^2 (1 + h_m)), repair complete overnight."""
    half_life, d, nights = 1.5, 1.2, 5
    theta = 0.5 ** (hours / half_life)
    m = per_day
    h = 2.0 / m * theta / (1 - theta) * (m - (1 - theta**m) / (1 - theta))
    day = np.array([n * 1000.0 + i * hours / 24.0 for n in range(nights) for i in range(m)])
    sensitivity = Radiosensitivity(ALPHA, RATIO, repair_half_life_hours=half_life)
    effect = -fraction_log_survival(np.full(day.size, d), day, sensitivity).sum()
    assert effect == pytest.approx(nights * m * (ALPHA * d + BETA * d**2 * (1 + h)), rel=1e-12)


def test_any_times_give_the_lea_catcheside_factor():
    """G = (2 / D^2) int dose rate(t) int_s<t dose rate(s) exp(-mu (t - s)); pulses of 20 minutes."""
    mu, length = math.log(2) * 24 / 1.5, 20.0 / 1440.0
    middles = np.array([0.0, 0.2, 0.9, 1.1, 3.0])
    doses = np.array([2.0, 1.5, 2.5, 1.0, 3.0])
    rate = doses / length

    def carried(t):
        """Unrepaired dose at t from every pulse."""
        total = 0.0
        for middle, r in zip(middles, rate, strict=True):
            start, end = middle - length / 2, min(middle + length / 2, t)
            if end > start:
                total += r / mu * (math.exp(-mu * (t - end)) - math.exp(-mu * (t - start)))
        return total

    quadratic = sum(
        2.0 * r * quad(carried, m - length / 2, m + length / 2, epsabs=1e-13)[0]
        for m, r in zip(middles, rate, strict=True)
    )
    sensitivity = Radiosensitivity(ALPHA, RATIO, repair_half_life_hours=1.5, delivery_minutes=20.0)
    effect = -fraction_log_survival(doses, middles, sensitivity).sum()
    assert effect == pytest.approx(ALPHA * doses.sum() + BETA * quadratic, rel=1e-9)


def test_long_exposure_is_dales_factor():
    """Dale 1985: one exposure of T has G = 2 (mu T - 1 + exp(-mu T)) / (mu T)^2."""
    x = math.log(2) / 1.5 * 6.0
    g = 2.0 * (x - 1.0 + math.exp(-x)) / x**2
    sensitivity = Radiosensitivity(ALPHA, RATIO, repair_half_life_hours=1.5, delivery_minutes=360.0)
    (log,) = fraction_log_survival([10.0], [0.0], sensitivity)
    assert -log == pytest.approx(ALPHA * 10 + BETA * g * 100, rel=1e-12)


def test_twice_daily_with_incomplete_repair_lies_between_the_limits():
    bid = np.array([d + s for d in range(10) for s in (0.0, 0.25)])
    doses = np.full(20, 1.5)
    full = fraction_log_survival(doses, bid, Radiosensitivity(ALPHA, RATIO)).sum()
    some = fraction_log_survival(doses, bid, Radiosensitivity(ALPHA, RATIO, repair_half_life_hours=4.0)).sum()
    together = lq_log_survival(np.full(10, 3.0), ALPHA, RATIO).sum()
    assert together < some < full


def test_hypoxia_without_and_with_reoxygenation():
    doses, days = np.full(20, 3.0), np.arange(20.0)
    kept = Radiosensitivity(ALPHA, RATIO, hypoxic_fraction=0.2, oxygen_enhancement=2.8)
    total = fraction_log_survival(doses, days, kept).sum()
    oxic = lq_log_survival(doses, ALPHA, RATIO).sum()
    hypoxic = lq_log_survival(doses / 2.8, ALPHA, RATIO).sum()
    assert total == pytest.approx(math.log(0.8 * math.exp(oxic) + 0.2 * math.exp(hypoxic)), rel=1e-12)
    fast = Radiosensitivity(
        ALPHA, RATIO, hypoxic_fraction=0.2, oxygen_enhancement=2.8, reoxygenation_half_life_days=0.02
    )
    reoxygenated = fraction_log_survival(doses, days, fast)
    first = math.log(0.8 * math.exp(-ALPHA * 3 * 1.3) + 0.2 * math.exp(-ALPHA * 3 / 2.8 * (1 + 3 / 28)))
    assert reoxygenated[0] == pytest.approx(first, rel=1e-12)
    np.testing.assert_allclose(reoxygenated[1:], lq_log_survival(doses[1:], ALPHA, RATIO), rtol=1e-9)
    assert oxic <= reoxygenated.sum() < total


def test_reoxygenation_is_that_of_two_counted_populations():
    """The shares against oxic and hypoxic cells counted one by one, over a long course."""
    doses, days = np.linspace(1.0, 4.0, 12), np.array([0, 1, 2, 3, 4, 7, 8, 8.25, 9, 10, 11, 14.0])
    sensitivity = Radiosensitivity(
        ALPHA, RATIO, hypoxic_fraction=0.3, oxygen_enhancement=2.5, reoxygenation_half_life_days=2.0
    )
    oxic, hypoxic, survivors = 0.7, 0.3, []
    for j, d in enumerate(doses):
        if j:
            moved = hypoxic * (1 - 0.5 ** ((days[j] - days[j - 1]) / 2.0))
            oxic, hypoxic = oxic + moved, hypoxic - moved
        oxic *= math.exp(-ALPHA * d - BETA * d**2)
        hypoxic *= math.exp(-ALPHA * d / 2.5 - BETA * (d / 2.5) ** 2)
        survivors.append(math.log(oxic + hypoxic))
    logs = fraction_log_survival(doses, days, sensitivity)
    np.testing.assert_allclose(np.cumsum(logs), survivors, rtol=1e-10)


def test_a_dose_map_is_each_voxel_on_its_own():
    rng = np.random.default_rng(0)
    doses, days = rng.uniform(0, 3, (6, 2, 3)), np.array([0, 0.25, 1, 1.25, 2, 5.0])
    sensitivity = Radiosensitivity(
        ALPHA,
        RATIO,
        repair_half_life_hours=2.0,
        hypoxic_fraction=0.1,
        oxygen_enhancement=2.0,
        reoxygenation_half_life_days=3.0,
    )
    whole = fraction_log_survival(doses, days, sensitivity)
    for i in range(2):
        for j in range(3):
            np.testing.assert_allclose(
                whole[:, i, j], fraction_log_survival(doses[:, i, j], days, sensitivity), rtol=1e-12
            )


def test_high_doses_go_on_along_the_tangent():
    sensitivity = Radiosensitivity(ALPHA, RATIO, linear_above_gy=6.0)
    logs = fraction_log_survival([5.0, 6.0, 18.0], [0, 100, 200], sensitivity)
    assert logs[0] == pytest.approx(lq_log_survival(5.0, ALPHA, RATIO))
    slope = ALPHA + 2 * BETA * 6.0
    assert logs[2] == pytest.approx(logs[1] - slope * 12.0)


def test_bed_and_eqd2_of_published_schedules():
    """60 Gy in 30: BED10 72 Gy; CHART 54 Gy in 36: 62.1 (Fowler 1989 arithmetic); 54 Gy in 3: 151.2."""
    assert bed_gy(60.0, 30, 10.0) == pytest.approx(72.0)
    assert bed_gy(54.0, 36, 10.0) == pytest.approx(62.1)
    assert bed_gy(54.0, 3, 10.0) == pytest.approx(151.2)
    assert eqd2_gy(60.0, 30, 3.0) == pytest.approx(60.0)
    assert eqd2_gy(54.0, 3, 10.0) == pytest.approx(126.0)


def test_dose_lost_to_repopulation_as_published_for_glioblastoma():
    """Pedicini 2014: alpha 0.12, alpha/beta 8, Td 15.4 d: 0.30 Gy a day (95 % 0.22-0.39)."""
    assert dose_lost_gy_per_day(2.0, Radiosensitivity(0.12, 8.0), 15.4) == pytest.approx(0.30, abs=0.005)


def test_control_probability_falls_with_time_only_after_the_kick_off():
    """The published model of glioblastoma: N = 1e4, kick-off on day 37, Td 15.4 d."""
    logs = float(lq_log_survival(np.full(30, 2.0), 0.12, 8.0).sum())

    def control(days):
        regrown = float(repopulation_log_growth(days, kick_off_day=37.0, doubling_days=15.4))
        return tumour_control_probability(1e4, logs + regrown)

    assert control(30.0) == control(37.0) == pytest.approx(math.exp(-1e4 * math.exp(-9.0)), rel=1e-9)
    # 0.30 Gy a day make up for it: ten days later, 3 Gy more give the same control
    more = logs - 0.12 * 3.0 * (1 + 2.0 / 8.0)
    late = float(repopulation_log_growth(47.0, kick_off_day=37.0, doubling_days=15.4))
    assert tumour_control_probability(1e4, more + late) == pytest.approx(control(37.0), rel=0.01)


def test_poisson_curve_has_its_stated_dose_and_slope():
    """d50 and gamma50 by definition: TCP(D50) = 1/2, and 1 % of D50 more raises it by gamma50 points."""
    assert dose_response_tcp(62.0, d50_gy=62.0, gamma50=1.5) == pytest.approx(0.5)
    step = dose_response_tcp([62.0 * 1.0001, 62.0 * 0.9999], d50_gy=62.0, gamma50=1.5)
    assert (step[0] - step[1]) / 2e-4 == pytest.approx(1.5, rel=1e-4)
    doses = np.linspace(40.0, 90.0, 11)
    number = math.log(2) * math.exp(2 * 1.5 / math.log(2))  # N and alpha that give this D50 and gamma50
    alpha = 2 * 1.5 / (math.log(2) * 62.0)
    same = [tumour_control_probability(number, -alpha * d) for d in doses]
    np.testing.assert_allclose(dose_response_tcp(doses, d50_gy=62.0, gamma50=1.5), same, rtol=1e-9)


def test_spread_between_patients_flattens_the_curve():
    """The mean over alpha against a direct integral (Webb & Nahum 1993)."""
    log, sd = -20.0, 0.15

    def weight(x):
        return math.exp(-0.5 * x * x) * math.exp(-1e7 * math.exp(min(log * (1 + sd * x), 600.0)))

    direct = quad(weight, -6.0, 6.0)[0] / math.sqrt(2 * math.pi)
    assert tumour_control_probability(1e7, log, alpha_relative_sd=sd) == pytest.approx(direct, abs=2e-3)
    assert tumour_control_probability([5e6, 5e6], [log, log]) == pytest.approx(
        tumour_control_probability(1e7, log)
    )


def test_pneumonitis_as_quantec_tabulates_it():
    """QUANTEC 2010, symptomatic pneumonitis against mean lung dose: 5, 10, 20, 30, 40 % [verify]."""
    model = COMPLICATIONS["lung_symptomatic"]
    for mean, published in ((7.0, 0.05), (13.0, 0.10), (20.0, 0.20), (24.0, 0.30), (27.0, 0.40)):
        assert complication_probability([mean], [1.0], model) == pytest.approx(published, abs=0.025)
    early = COMPLICATIONS["lung"]
    assert complication_probability([30.8], [1.0], early) == pytest.approx(0.5)


def test_equivalent_uniform_dose_limits():
    dose, volume = np.array([10.0, 20.0, 60.0]), np.array([5.0, 3.0, 2.0])
    assert generalised_eud_gy(dose, volume, 1.0) == pytest.approx((50 + 60 + 120) / 10)
    assert generalised_eud_gy(dose, volume, 200.0) == pytest.approx(60.0, rel=0.01)
    assert generalised_eud_gy([0.0], [1.0], 2.0) == 0.0


@pytest.mark.parametrize(
    "call",
    [
        lambda: Radiosensitivity(-0.1, 10.0),
        lambda: Radiosensitivity(0.1, 10.0, hypoxic_fraction=1.5, oxygen_enhancement=2.0),
        lambda: Radiosensitivity(0.1, 10.0, oxygen_enhancement=0.5),
        lambda: Radiosensitivity(0.1, 10.0, repair_half_life_hours=-1.0),
        lambda: fraction_log_survival([2.0, 2.0], [1.0, 0.0], Radiosensitivity(0.1, 10.0)),
        lambda: fraction_log_survival([2.0, 2.0], [1.0], Radiosensitivity(0.1, 10.0)),
        lambda: fraction_log_survival([math.nan], [1.0], Radiosensitivity(0.1, 10.0)),
        lambda: bed_gy(60.0, 0, 10.0),
        lambda: tumour_control_probability([-1.0], [0.0]),
        lambda: tumour_control_probability([1.0, 2.0], [0.0, 1.0, 2.0]),
        lambda: dose_response_tcp(60.0, d50_gy=0.0, gamma50=1.0),
        lambda: generalised_eud_gy([1.0], [0.0], 1.0),
        lambda: repopulation_log_growth(1.0, kick_off_day=28.0, doubling_days=0.0),
        lambda: dose_lost_gy_per_day(2.0, Radiosensitivity(0.0, 10.0), 3.0),
    ],
)
def test_values_out_of_range_are_refused(call):
    with pytest.raises(InputError):
        call()
