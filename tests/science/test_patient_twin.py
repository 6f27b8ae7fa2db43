"""Patient twins on phantoms: parameters recovered, reopening to the last bit, versions that stay."""

from __future__ import annotations

import numpy as np
import pytest

from digital_twins.patient_modeling import PatientTwin
from tumour_phantom import RADIATION, ball, follow_up, new_twin

DAYS = (28.0, 56.0, 84.0, 112.0)


def test_a_new_twin_has_the_segmented_volume() -> None:
    for radius_mm in (6.0, 10.0, 20.0):
        _, mask = ball(radius_mm)
        twin = new_twin(radius_mm)
        assert twin.current_volume_cm3 == pytest.approx(mask.volume_cm3, rel=1e-12)
        assert twin.lesion.volume_cm3 == pytest.approx(mask.volume_cm3, rel=0.01)
        modelled = twin._simulator.volumes_cm3(twin.snapshot.belief.values, [], np.array([0.0]))[0]
        assert modelled == pytest.approx(mask.volume_cm3, rel=0.005)


def test_growth_is_recovered_from_exact_volumes() -> None:
    """Front speed 2 sqrt(D k) is what volumes tell; without noise it is found although D and k are traded."""
    twin = new_twin()
    truth = {"diffusion_mm2_per_day": 0.06, "proliferation_per_day": 0.035}
    result = twin.calibrate(follow_up(twin, truth, DAYS).scans)
    assert result.converged
    assert result.message == "A mode was found."
    found = {name: result.estimates[name].value for name in truth}
    speed = np.sqrt(found["diffusion_mm2_per_day"] * found["proliferation_per_day"])
    assert speed == pytest.approx(np.sqrt(0.06 * 0.035), rel=0.1)
    for name, value in truth.items():
        assert result.estimates[name].low < value < result.estimates[name].high
    assert np.abs(result.residuals).max() < 0.5
    assert min(result.dice) > 0.95


def test_radiosensitivity_is_recovered_only_when_radiation_was_given() -> None:
    truth = {"diffusion_mm2_per_day": 0.05, "proliferation_per_day": 0.02, "alpha_per_gy": 0.08}
    twin = new_twin()
    prior = twin.parameters["alpha_per_gy"]
    seen = follow_up(twin, truth, DAYS, treatments=[RADIATION])
    result = twin.calibrate(seen.scans, [RADIATION])
    alpha = result.estimates["alpha_per_gy"]
    assert alpha.source == "calibrated"
    assert alpha.value == pytest.approx(0.08, rel=0.3)
    assert alpha.low < 0.08 < alpha.high
    cleared = result.estimates["clearance_half_life_days"]
    assert cleared.low < 45.0 < cleared.high
    assert alpha.high - alpha.low < 0.5 * (prior.high - prior.low)
    untreated = new_twin()
    untreated.calibrate(follow_up(untreated, truth, DAYS).scans)
    assert untreated.parameters["alpha_per_gy"] == prior


def test_a_reopened_twin_predicts_the_same_bits(tmp_path) -> None:
    twin = new_twin(clinical_data={"diagnosis": "Lung adenocarcinoma", "height_cm": 170, "weight_kg": 70})
    truth = {"diffusion_mm2_per_day": 0.05, "proliferation_per_day": 0.03, "alpha_per_gy": 0.02}
    twin.calibrate(follow_up(twin, truth, DAYS, treatments=[RADIATION], noise=0.1).scans, [RADIATION])
    twin.save(tmp_path / "a.twin")
    again = PatientTwin.open(tmp_path / "a.twin")
    plan = [{"drug": "paclitaxel", "dose_mg_m2": 175, "schedule": "every_3_weeks", "cycles": 3}]
    first, second = twin.predict(60.0, treatments=plan), again.predict(60.0, treatments=plan)
    np.testing.assert_array_equal(first.samples_cm3, second.samples_cm3)
    np.testing.assert_array_equal(first.mean_density, second.mean_density)
    assert first.input_hash == second.input_hash
    assert again.parameters == twin.parameters
    assert again.calibration == twin.calibration
    assert again.provenance == twin.provenance
    assert again.treatment_history == twin.treatment_history
    assert again.current_volume == twin.current_volume
    assert [snapshot.version for snapshot in again.history] == [1, 2]
    assert again.density.digest() == twin.density.digest()


def test_prediction_is_calm_and_consistent() -> None:
    twin = new_twin()
    prediction = twin.predict(90.0, output_interval_days=10.0)
    assert prediction.origin_day == 0.0
    assert prediction.days[0] == 0.0
    assert prediction.days[-1] == 90.0
    assert np.all(prediction.low_cm3 <= prediction.volume_cm3)
    assert np.all(prediction.volume_cm3 <= prediction.high_cm3)
    for day in (0.0, 35.0, 90.0):
        median = np.interp(day, prediction.days, prediction.volume_cm3)
        assert prediction.mask_at(day).volume_cm3 == pytest.approx(median, rel=0.06)
        assert prediction.density_at(day).array.min() >= 0.0
        assert prediction.probability_at(day).array.max() <= 1.0
    treated = twin.predict(90.0, treatments=[RADIATION])
    assert treated.volume_cm3[-1] < prediction.volume_cm3[-1]
    assert treated.input_hash != prediction.input_hash


def test_a_later_calibration_keeps_the_past_and_starts_planned_treatments_now() -> None:
    twin = new_twin()
    truth = {"diffusion_mm2_per_day": 0.05, "proliferation_per_day": 0.03}
    scans = follow_up(twin, truth, DAYS).scans
    twin.calibrate(scans[:2])
    first = twin.snapshot
    twin.calibrate(scans)
    assert twin.version == 3
    assert twin.provenance.parent_version == 2
    assert len(twin.visits) == 4
    assert twin.history[1] is first
    assert sum("already known" in note for note in twin.provenance.notes) == 2
    fresh = new_twin()
    fresh.calibrate(scans)
    assert fresh.parameters == twin.parameters, "no scan is counted twice"
    prediction = twin.predict(42.0, treatments=[{"type": "radiation", "total_dose_gy": 20, "fractions": 10}])
    assert prediction.origin_day == 112.0
    assert prediction.treatments[0].first_day == 112.0
    assert prediction.days[0] == 0.0
    assert prediction.days[-1] == 154.0
