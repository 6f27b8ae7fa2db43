"""Treatments as arrays for the solvers: exact linear-quadratic and log-kill limits."""

from __future__ import annotations

import numpy as np
import pytest

from digital_twins import InputError
from digital_twins.patient_modeling._forcing import forcing_for
from digital_twins.pharmacology import drug, log_kill_integral
from digital_twins.records import parse_treatment

PARAMETERS = {"alpha_per_gy": 0.3, "alpha_beta_gy": 10.0, "drug_sensitivity": 0.8}
RADIATION = parse_treatment({"type": "radiation", "total_dose_gy": 60, "fractions": 30})
CISPLATIN = parse_treatment({"drug": "cisplatin", "dose_mg": 135, "schedule": "every_3_weeks", "cycles": 4})


def test_radiation_is_the_linear_quadratic_law() -> None:
    forcing = forcing_for([RADIATION], PARAMETERS, horizon_days=90)
    expected = -(0.3 * 60 + 0.03 * 30 * 2.0**2)
    assert forcing.log_jumps(-0.5, 90.0) == pytest.approx(expected, rel=1e-12)
    assert forcing.log_jumps(-0.5, 4.5) == pytest.approx(expected / 6, rel=1e-12)
    assert forcing.dose_days.size == 0


def test_chemotherapy_integral_is_that_of_the_pharmacology() -> None:
    forcing = forcing_for([CISPLATIN], PARAMETERS)
    days = np.linspace(0.0, 120.0, 241)
    np.testing.assert_allclose(
        forcing.cumulative_log_kill(days), log_kill_integral(CISPLATIN, 0.8, days), rtol=1e-9, atol=1e-12
    )
    assert drug("cisplatin").reference_dose_mg == 135
    assert forcing.cumulative_log_kill([1000.0])[0] == pytest.approx(4 * 0.8, rel=1e-9)
    assert np.all(forcing.kill_rate_per_day(days) >= -1e-12)


def test_combination_adds_logs_and_own_sensitivity_wins() -> None:
    both = forcing_for([RADIATION, CISPLATIN], {**PARAMETERS, "drug_sensitivity:cisplatin": 0.1})
    assert both.cumulative_log_kill([1000.0])[0] == pytest.approx(0.4, rel=1e-9)
    assert both.jump_days.size == 30


def test_dose_before_baseline_acts_with_what_is_left() -> None:
    early = parse_treatment({"drug": "cisplatin", "dose_mg": 135, "day": -1}, allow_before_baseline=True)
    forcing = forcing_for([early], PARAMETERS)
    before, after = forcing.cumulative_log_kill([0.0, 1000.0])
    assert 0.2 < before < after == pytest.approx(0.8, rel=1e-9)


def test_horizon_drops_later_administrations() -> None:
    forcing = forcing_for([RADIATION, CISPLATIN], PARAMETERS, horizon_days=10)
    assert forcing.jump_days.max() <= 10
    assert forcing.dose_days.max() <= 10
    assert forcing_for([parse_treatment({"type": "observation"})], {}).jump_days.size == 0


def test_what_acts_by_place_or_size_needs_a_tumour() -> None:
    with pytest.raises(InputError, match="no tumour in space"):
        forcing_for([parse_treatment({"type": "surgery", "day": 3})], PARAMETERS)
    with pytest.raises(InputError, match="before the tumour is known"):
        forcing_for([parse_treatment({"drug": "nivolumab", "dose_mg": 240})], PARAMETERS)


def test_missing_or_negative_parameters_are_refused() -> None:
    with pytest.raises(InputError, match="alpha_per_gy"):
        forcing_for([RADIATION], {})
    with pytest.raises(InputError, match="drug_sensitivity"):
        forcing_for([CISPLATIN], {"drug_sensitivity": -1.0})
