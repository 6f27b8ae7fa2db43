"""The simulator on real twins of a synthetic tumour."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from digital_twins import InputError
from digital_twins.imaging import Mask
from digital_twins.patient_modeling import TumorTwinPipeline
from digital_twins.treatment_simulation import ResponseCategory, TreatmentSimulator

if TYPE_CHECKING:
    from digital_twins.patient_modeling import PatientTwin

CHEMOTHERAPY = {
    "type": "chemotherapy",
    "drug": "paclitaxel",
    "dose_mg_m2": 175,
    "schedule": "every_3_weeks",
    "cycles": 6,
}
RADIATION = {"type": "radiation", "total_dose_gy": 60, "fractions": 30, "technique": "IMRT"}
CISPLATIN = {"drug": "cisplatin", "dose_mg": 135, "schedule": "every_3_weeks", "cycles": 4}
OBSERVATION = {"type": "observation"}


def _ball(radius_mm: float) -> Mask:
    z, y, x = (np.mgrid[:40, :40, :40] - 19.5) * 2.0
    affine = np.array([[0, 0, 2.0, 0], [0, 2.0, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 1]])
    return Mask(z**2 + y**2 + x**2 <= radius_mm**2, affine)


@pytest.fixture(scope="module")
def fresh() -> PatientTwin:
    pipeline = TumorTwinPipeline(model_type="reaction_diffusion", solver="cpu")
    return pipeline.create_twin("T-1", None, _ball(14.0), clinical_data={"body_surface_area_m2": 1.9})


@pytest.fixture(scope="module")
def calibrated() -> PatientTwin:
    twin = TumorTwinPipeline().create_twin("T-2", None, _ball(14.0))
    scans = [(21.0, _ball(13.2)), (42.0, _ball(12.4)), (63.0, _ball(11.6)), (84.0, _ball(11.0))]
    twin.calibrate(scans, treatment_history=[CISPLATIN])
    return twin


def test_seed_calls(fresh: PatientTwin) -> None:
    simulator = TreatmentSimulator(patient_twin=fresh)
    chemo = simulator.predict_response(treatment=CHEMOTHERAPY, horizon_days=180, samples=16)
    radiation = simulator.predict_response(treatment=RADIATION, horizon_days=90, samples=16)
    for response in (chemo, radiation):
        assert response.volume_change_low < response.volume_change_percent < response.volume_change_high
        assert response.volume_change_low >= -100.0
        assert response.response_category.value in {c.value for c in ResponseCategory}
        assert sum(response.category_probabilities.values()) == pytest.approx(1.0)
        assert response.prediction.model_version == fresh.version
    assert radiation.horizon_days == 90.0
    assert chemo.treatment.doses[0].dose_mg == pytest.approx(175 * 1.9)
    assert not any("body surface" in words for words in chemo.assumptions)
    assert any("paclitaxel not calibrated" in words for words in chemo.assumptions)
    assert any("paclitaxel: not verified in a source" in words for words in chemo.assumptions)
    assert any("radiosensitivity not calibrated" in words for words in radiation.assumptions)


def test_treatments_are_compared_on_the_same_ensemble(fresh: PatientTwin) -> None:
    plans = [OBSERVATION, RADIATION, CHEMOTHERAPY, [RADIATION, CHEMOTHERAPY]]
    observed, radiation, chemo, both = TreatmentSimulator(fresh).compare(plans, 120, samples=16, seed=3)
    final = [r.prediction.samples_cm3[:, -1] for r in (observed, radiation, chemo, both)]
    # what radiation kills stays visible for weeks, what a drug kills does not: so not final[3] <= final[2]
    assert np.all(final[3] <= final[1])
    assert np.all(np.maximum(final[1], final[2]) <= final[0])
    assert final[3].mean() < final[1].mean()
    living = [r.prediction.density_at(120.0).array.sum() for r in (observed, radiation, chemo, both)]
    assert living[3] < min(living[1:3]) < max(living[1:3]) < living[0]
    assert observed.volume_change_percent > 0.0 > both.volume_change_percent
    assert both.label.count("+") == 1
    np.testing.assert_array_equal(
        observed.prediction.samples_cm3[:, 0], radiation.prediction.samples_cm3[:, 0]
    )


def test_planned_treatments_begin_now(calibrated: PatientTwin) -> None:
    response = TreatmentSimulator(calibrated).predict_response(RADIATION, 60, samples=16)
    assert response.treatment.fractions[0].day == calibrated.origin_day == 84.0
    assert response.nadir_day >= 84.0
    assert response.horizon_days == 60.0


def test_interval_of_an_uncalibrated_drug_is_wider(calibrated: PatientTwin) -> None:
    """Two reference cycles of each: cisplatin was seen in this patient, docetaxel was not."""
    plans = [
        {"drug": "cisplatin", "dose_mg": 135, "schedule": "every_3_weeks", "cycles": 2},
        {"drug": "docetaxel", "dose_mg": 135, "schedule": "every_3_weeks", "cycles": 2},
    ]
    seen, unseen = TreatmentSimulator(calibrated).compare(plans, 63, samples=48)
    widths = [r.volume_change_high - r.volume_change_low for r in (seen, unseen)]
    assert widths[1] > 1.3 * widths[0]
    assert not any("cisplatin not calibrated" in words for words in seen.assumptions)
    assert any("docetaxel not calibrated" in words for words in unseen.assumptions)


def test_rano_uses_products_of_diameters(fresh: PatientTwin) -> None:
    simulator = TreatmentSimulator(fresh)
    recist = simulator.predict_response(OBSERVATION, 30, samples=8)
    rano = simulator.predict_response(OBSERVATION, 30, samples=8, criteria="rano")
    assert rano.size_now == pytest.approx(recist.size_now**2, rel=0.1)
    assert recist.size_now == pytest.approx(28.0, rel=0.15)


@pytest.mark.parametrize(
    ("treatment", "match"),
    [
        ({**RADIATION, "total_dose_gy": -60}, "greater than zero"),
        ({**CHEMOTHERAPY, "drug": "unobtainium"}, "not known"),
        ({**RADIATION, "day": -3}, "baseline"),
        ([], "no treatment"),
    ],
)
def test_what_cannot_be_simulated_is_refused(fresh: PatientTwin, treatment: object, match: str) -> None:
    with pytest.raises(InputError, match=match):
        TreatmentSimulator(fresh).predict_response(treatment, 30, samples=8)  # type: ignore[arg-type]
