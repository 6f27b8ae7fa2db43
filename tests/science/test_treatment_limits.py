"""Treatments through the solver where the answer is a formula."""

from __future__ import annotations

import numpy as np
import pytest

from digital_twins.models import Domain, ReactionDiffusionModel
from digital_twins.patient_modeling._forcing import forcing_for
from digital_twins.pharmacology import log_kill_integral
from digital_twins.records import parse_treatment

PARAMETERS = {"alpha_per_gy": 0.05, "alpha_beta_gy": 10.0, "drug_sensitivity": 0.8}
DOMAIN = Domain(np.ones((6, 7, 8), dtype=bool), (2.0, 1.0, 1.0))


def _final(treatments: list[dict[str, object]], *, growth: float, day: float) -> np.ndarray:
    forcing = forcing_for([parse_treatment(t) for t in treatments], PARAMETERS)
    model = ReactionDiffusionModel(0.1, growth)
    field = np.full(DOMAIN.shape, 0.3)
    return model.solve(field, DOMAIN, [day], forcing=forcing, precision="float64").density[-1]


def test_radiation_on_a_well_mixed_field_is_the_linear_quadratic_formula() -> None:
    given = {"type": "radiation", "total_dose_gy": 60, "fractions": 30}
    expected = 0.3 * np.exp(-30 * (0.05 * 2 + 0.005 * 2**2))
    np.testing.assert_allclose(_final([given], growth=0.0, day=60.0), expected, rtol=1e-10)


def test_chemotherapy_without_growth_is_the_log_kill_integral() -> None:
    given = {"drug": "paclitaxel", "dose_mg_m2": 175, "schedule": "every_3_weeks", "cycles": 3}
    for day in (0.1, 21.0, 42.3, 90.0):
        killed = log_kill_integral(parse_treatment(given), 0.8, [day])[0]
        np.testing.assert_allclose(_final([given], growth=0.0, day=day), 0.3 * np.exp(-killed), rtol=1e-8)


def test_combination_multiplies_the_surviving_fractions() -> None:
    radiation = {"type": "radiation", "total_dose_gy": 60, "fractions": 30}
    chemo = {"drug": "temozolomide", "dose_mg_m2": 75, "schedule": "daily", "duration_days": 42}
    both = _final([radiation, chemo], growth=0.0, day=60.0)[0, 0, 0]
    alone = [_final([t], growth=0.0, day=60.0)[0, 0, 0] / 0.3 for t in (radiation, chemo)]
    assert both / 0.3 == pytest.approx(alone[0] * alone[1], rel=1e-9)


def test_observation_is_logistic_growth() -> None:
    rate, day = 0.05, 40.0
    expected = 1.0 / (1.0 + (1.0 / 0.3 - 1.0) * np.exp(-rate * day))
    got = _final([{"type": "observation"}], growth=rate, day=day)
    np.testing.assert_allclose(got, expected, rtol=1e-9)
