"""lm, map and bayesian, and the assimilation of one scan: against each other and against the truth."""

from __future__ import annotations

import math
from concurrent.futures import CancelledError
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from digital_twins import InputError
from digital_twins.patient_modeling import (
    CalibrationResult,
    CalibrationSettings,
    PatientTwin,
    TumorTwinPipeline,
)
from tumour_phantom import FollowUp, ball, follow_up

DAYS = (28.0, 56.0, 84.0, 112.0)
D, K, SCALE = "diffusion_mm2_per_day", "proliferation_per_day", "baseline_volume_scale"
TRUTH = {D: 0.06, K: 0.035}
OLD_FILE = Path(__file__).parents[1] / "unit" / "data" / "format_1.twin"
VOLUMES = CalibrationSettings(observations=("volume",), particles=128)


def new_twin(radius_mm: float = 16.0) -> PatientTwin:
    """A twin on 32 x 32 x 32 voxels of 2 mm."""
    _, mask = ball(radius_mm, shape=(16, 32, 32))
    return TumorTwinPipeline().create_twin("SMALL", None, mask)


@cache
def seen() -> FollowUp:
    return follow_up(new_twin(), TRUTH, DAYS, noise=0.1, seed=3)


def _logs(twin: PatientTwin, names=(D, K, SCALE)) -> tuple[np.ndarray, np.ndarray]:
    belief = twin.snapshot.belief
    at = [belief.names.index(name) for name in names]
    return belief.log_mean[at], np.sqrt(np.diag(belief.log_covariance)[at])


@cache
def calibrated(method: str) -> PatientTwin:
    twin = new_twin()
    twin.calibrate(seen().scans, method=method, settings=VOLUMES, seed=5)
    return twin


def test_samples_agree_with_laplace_where_the_posterior_is_nearly_normal() -> None:
    mode, spread = _logs(calibrated("map"))
    mean, sampled = _logs(calibrated("bayesian"))
    assert np.abs((mean - mode) / spread).max() < 0.4
    assert sampled == pytest.approx(spread, rel=0.3)
    result = calibrated("bayesian").calibration
    assert result.method == "bayesian"
    report = result.sampling
    assert report.particles == 128
    assert report.effective > 40.0
    assert report.distinct > 80
    assert 0.15 < report.acceptance < 0.8
    assert result.evaluations < 12 * 128
    for name, value in TRUTH.items():
        assert result.estimates[name].low < value < result.estimates[name].high


def test_predictions_draw_from_the_samples_and_reopen_to_the_same_bits(tmp_path) -> None:
    twin = calibrated("bayesian")
    cloud = twin.snapshot.belief.particles
    kept = {tuple(row) for row in np.exp(cloud.logs).round(12)}
    for member in twin.snapshot.belief.sample(24, seed=1):
        assert tuple(round(member[name], 12) for name in cloud.names) in kept
    twin.save(tmp_path / "a.twin")
    again = PatientTwin.open(tmp_path / "a.twin")
    first, second = twin.predict(30.0, samples=16), again.predict(30.0, samples=16)
    np.testing.assert_array_equal(first.samples_cm3, second.samples_cm3)
    assert again.calibration == twin.calibration
    assert again.parameters == twin.parameters
    assert again.content_digest == twin.content_digest
    laplace = calibrated("map").predict(30.0, samples=16)
    assert np.log(first.volume_cm3[-1] / laplace.volume_cm3[-1]) == pytest.approx(0.0, abs=0.15)
    assert first.input_hash != laplace.input_hash


def test_least_squares_follows_the_volumes_alone() -> None:
    """On exact volumes it finds the front's speed, and leaves D and k far more open than the priors do."""

    def width(result: CalibrationResult, name: str) -> float:
        return math.log(result.estimates[name].high / result.estimates[name].low)

    exact = follow_up(new_twin(), TRUTH, DAYS).scans
    lm, posterior = (new_twin().calibrate(exact, method=method, settings=VOLUMES) for method in ("lm", "map"))
    assert lm.method == "lm"
    assert width(lm, D) > 1.3 * width(posterior, D)
    speed = math.sqrt(lm.estimates[D].value * lm.estimates[K].value)
    assert speed == pytest.approx(math.sqrt(TRUTH[D] * TRUTH[K]), rel=0.1)
    assert any("do not separate" in text for text in lm.identifiability)
    noisy, believed = calibrated("lm").calibration, calibrated("map").calibration
    assert sum(r * r for r in noisy.residuals) < sum(r * r for r in believed.residuals)


def test_a_history_under_which_the_typical_tumour_dies_out_is_still_fitted() -> None:
    """At the priors' medians nothing is left and no derivative points anywhere: the search starts anew."""
    history = [
        {"type": "radiation", "total_dose_gy": 60, "fractions": 30, "day": 3},
        {"drug": "temozolomide", "dose_mg": 1400, "days": [3, 10, 17, 24, 31, 38]},
    ]
    truth = {**TRUTH, "alpha_per_gy": 0.015, "drug_sensitivity:temozolomide": 0.05}
    twin = new_twin()
    exact = follow_up(twin, truth, DAYS, treatments=history)
    result = twin.calibrate(exact.scans, history, max_iterations=60)
    assert result.evaluations > 24, "the first search found nothing"
    assert np.abs(result.residuals).max() < 1.0


def test_visits_in_any_order_of_time_give_the_same_fit() -> None:
    """Times that do not rise are put in order, not fitted as they come."""
    mixed = new_twin()
    scans = seen().scans
    result = mixed.calibrate([scans[2], scans[0], scans[3], scans[1]], settings=VOLUMES, seed=5)
    assert result.days == DAYS
    expected = calibrated("map").calibration
    assert result.residuals == expected.residuals
    assert {n: e.value for n, e in result.estimates.items()} == {
        n: e.value for n, e in expected.estimates.items()
    }
    with pytest.raises(InputError, match="before the twin's last observation"):
        mixed.assimilate(ball(15.0, shape=(16, 32, 32))[1], day=5.0)


def test_bounds_hold_and_contradictory_ones_are_refused() -> None:
    twin = new_twin()
    bounded = CalibrationSettings(observations=("volume",), bounds={K: (0.04, 0.05)})
    result = twin.calibrate(seen().scans, method="lm", settings=bounded)
    assert 0.04 <= result.estimates[K].low <= result.estimates[K].high <= 0.05
    for bounds in ({K: (0.05, 0.04)}, {K: (0.0, 0.1)}, {K: (0.6, 0.9)}, {"charm": (0.1, 0.2)}):
        with pytest.raises(InputError, match=r"contradict|no parameter"):
            twin.calibrate([], settings=CalibrationSettings(bounds=bounds))
    with pytest.raises(InputError, match="method 'guess' is not known"):
        twin.calibrate([], method="guess")
    assert twin.version == 2


def test_concurrent_radiation_and_drug_are_reported_as_not_separable() -> None:
    """What killed cannot be told: how fast dead cells clear is not known either."""
    history = [
        {"type": "radiation", "total_dose_gy": 30, "fractions": 15, "day": 7},
        {"drug": "temozolomide", "dose_mg": 1400, "days": [7, 14, 21]},
    ]
    truth = {**TRUTH, "alpha_per_gy": 0.08, "drug_sensitivity:temozolomide": 0.4}
    twin = new_twin()
    exact = follow_up(twin, truth, DAYS, treatments=history)
    result = twin.calibrate(exact.scans, history)
    sensitivities = ("alpha_per_gy", "drug_sensitivity:temozolomide")
    open_ = [[abs(each.weights[name]) for name in sensitivities] for each in result.information.undetermined]
    assert max(map(min, open_)) > 0.3
    assert any(
        "do not separate" in text and "alpha_per_gy" in text and "temozolomide" in text
        for text in result.identifiability
    )
    for name in sensitivities:
        estimate = result.estimates[name]
        assert estimate.low < truth[name] < estimate.high
        assert estimate.high > 2.0 * estimate.low


@pytest.mark.parametrize("method", ["map", "lm", "bayesian"])
def test_every_method_reports_progress_and_can_be_stopped(method: str) -> None:
    twin = new_twin()
    scans = follow_up(twin, TRUTH, DAYS[:1]).scans
    shares: list[float] = []
    small = CalibrationSettings(particles=32)
    twin.calibrate(scans, method=method, settings=small, progress=lambda share, _text: shares.append(share))
    assert shares == sorted(shares)
    assert shares[0] > 0.0
    assert shares[-1] <= 1.0
    answers = iter([False] + [True] * 1000)
    fresh = new_twin()
    with pytest.raises(CancelledError):
        fresh.calibrate(scans, method=method, settings=small, cancelled=lambda: next(answers))
    assert fresh.version == 1


@pytest.mark.parametrize("method", ["enkf", "particle", "ekf"])
def test_one_new_scan_moves_the_belief_as_a_full_calibration_does(method: str) -> None:
    twin = new_twin()
    twin.calibrate(seen().scans[:3], settings=VOLUMES)
    before = twin.snapshot.belief
    result = twin.assimilate(seen().scans[3][1], day=DAYS[3], method=method, settings=VOLUMES, seed=2)
    assert result.method == method
    assert result.version == twin.version == 3
    assert twin.provenance.parent_version == 2
    assert twin.origin_day == DAYS[3]
    assert len(result.days) == 4
    assert result.evaluations <= 128
    full = calibrated("map")
    mode, spread = _logs(full)
    mean, updated = _logs(twin)
    assert np.abs((mean - mode) / spread).max() < 0.4
    assert updated == pytest.approx(spread, rel=0.35)
    assert twin.current_volume_cm3 == pytest.approx(full.current_volume_cm3, rel=0.05)
    assert twin.history[1].belief is before
    later = twin.predict(42.0, samples=24)
    assert later.origin_day == DAYS[3]


def test_an_assimilated_twin_reopens_and_can_still_be_calibrated_on_all(tmp_path) -> None:
    twin = new_twin()
    small = CalibrationSettings(particles=32)
    twin.assimilate(seen().scans[0], settings=small)
    twin.assimilate(seen().scans[1], method="particle", settings=small)
    twin.save(tmp_path / "a.twin")
    again = PatientTwin.open(tmp_path / "a.twin")
    assert [each.calibration and each.calibration.method for each in again.history] == [
        None, "enkf", "particle",
    ]  # fmt: skip
    assert again.parameters == twin.parameters
    again.calibrate([], settings=VOLUMES)
    fresh = new_twin()
    fresh.calibrate(seen().scans[:2], settings=VOLUMES)
    assert again.parameters == fresh.parameters


def test_treatments_that_come_with_a_scan_bring_their_sensitivity() -> None:
    twin = new_twin()
    twin.calibrate(seen().scans[:2], settings=VOLUMES)
    given = [{"drug": "cisplatin", "dose_mg": 130, "days": [60, 81]}]
    twin.assimilate(seen().scans[2], treatment_history=given, method="ekf", settings=VOLUMES)
    name = "drug_sensitivity:cisplatin"
    assert twin.parameters[name].source == "calibrated"
    assert twin.parameters[name].value < 0.5, "the tumour grew on"
    assert len(twin.treatment_history) == 1


def test_scans_that_cannot_be_assimilated_are_refused() -> None:
    twin = new_twin()
    small = CalibrationSettings(particles=32)
    twin.calibrate(seen().scans[1:2], settings=VOLUMES)
    with pytest.raises(InputError, match="already known"):
        twin.assimilate(seen().scans[1])
    with pytest.raises(InputError, match=r"(?s)cannot be assimilated"):
        twin.assimilate(seen().scans[0])
    with pytest.raises(InputError, match="method 'guess'"):
        twin.assimilate(seen().scans[2], method="guess")
    with pytest.raises(CancelledError):
        twin.assimilate(seen().scans[2], settings=small, cancelled=lambda: True)
    assert twin.version == 2


def test_a_surprising_scan_is_called_one() -> None:
    twin = new_twin()
    twin.calibrate(seen().scans[:1], settings=VOLUMES)
    huge = follow_up(new_twin(), {D: 0.3, K: 0.09}, [56.0]).scans
    result = twin.assimilate(huge[0], settings=VOLUMES, method="particle")
    assert "not expected" in result.message or "particles agree" in result.message


def test_a_file_of_the_first_format_is_read() -> None:
    twin = PatientTwin.open(OLD_FILE)
    assert twin.version == 2
    assert twin.content_digest == "55aa0736525c4ba717981f231046ffb6c24c4ecfd9ce5968df7101899429efc6"
    assert twin.predict(30.0, samples=8).volume_cm3[-1] == pytest.approx(3.787973554611206, rel=1e-3)
    assert twin.calibration.method == "map"
    assert twin.calibration.information is None
    assert twin.calibrate([], settings=VOLUMES).version == 3
