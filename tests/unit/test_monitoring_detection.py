"""NEWS2 by exhaustive table, change points by their run lengths, anomalies by both methods."""

from __future__ import annotations

import numpy as np
import pytest

from digital_twins.monitoring import (
    COLUMN,
    VITALS,
    AnomalyDetector,
    Body,
    ChangeDetector,
    SyntheticPatients,
    features,
    healthy_values,
    news2,
)

# the chart of the Royal College of Physicians 2017, row by row: points of inclusive ranges
CHART = {
    "RR": [(0, 8, 3), (9, 11, 1), (12, 20, 0), (21, 24, 2), (25, 99, 3)],
    "SPO2": [(0, 91, 3), (92, 93, 2), (94, 95, 1), (96, 100, 0)],
    "NIBP_SYS": [(0, 90, 3), (91, 100, 2), (101, 110, 1), (111, 219, 0), (220, 300, 3)],
    "HR": [(0, 40, 3), (41, 50, 1), (51, 90, 0), (91, 110, 1), (111, 130, 2), (131, 300, 3)],
}
SCALE_2 = [(0, 83, 3), (84, 85, 2), (86, 87, 1), (88, 92, 0)]
SCALE_2_OXYGEN = [*SCALE_2, (93, 94, 1), (95, 96, 2), (97, 100, 3)]
SCALE_2_AIR = [*SCALE_2, (93, 100, 0)]
TEMP = [(250, 350, 3), (351, 360, 1), (361, 380, 0), (381, 390, 1), (391, 440, 2)]
NORMAL = {"RR": 15, "SPO2": 97, "NIBP_SYS": 120, "HR": 70, "ACVPU": 0, "TEMP": 37.0, "FIO2": 21}


def score(scale: int = 1, **values: float) -> float:
    row = np.full((1, len(VITALS)), np.nan)
    for code, value in {**NORMAL, **values}.items():
        row[0, COLUMN[code]] = value
    return float(news2(row, scale=scale).score[0])


@pytest.mark.parametrize("code", CHART)
def test_news2_every_value_of(code: str) -> None:
    for low, high, points in CHART[code]:
        for value in range(low, high + 1):
            assert score(**{code: value}) == points, value


def test_news2_every_temperature() -> None:
    for low, high, points in TEMP:
        for tenth in range(low, high + 1):
            assert score(TEMP=tenth / 10) == points, tenth


@pytest.mark.parametrize(("fio2", "chart"), [(21, SCALE_2_AIR), (28, SCALE_2_OXYGEN)])
def test_news2_every_saturation_of_scale_2(fio2: float, chart: list[tuple[int, int, int]]) -> None:
    oxygen = 2 if fio2 > 21 else 0
    for low, high, points in chart:
        for value in range(low, high + 1):
            assert score(2, SPO2=value, FIO2=fio2) == points + oxygen, value


def test_news2_oxygen_and_consciousness() -> None:
    assert score(FIO2=40) == 2
    assert score(ACVPU=1) == 3


def test_news2_of_many_rows_risk_and_missing_parts() -> None:
    rows = np.full((4, len(VITALS)), np.nan)
    for code, value in NORMAL.items():
        rows[:, COLUMN[code]] = value
    rows[1, COLUMN["RR"]] = 26
    rows[2, COLUMN["HR"]], rows[2, COLUMN["SPO2"]], rows[2, COLUMN["TEMP"]] = 135, 92, 39.5
    rows[3, COLUMN["ACVPU"]], rows[3, COLUMN["RR"]], rows[3, COLUMN["SPO2"]] = np.nan, 22, 90
    found = news2(rows, scale=np.array([1, 1, 1, 1]))
    assert found.score.tolist() == [0, 3, 7, 5]
    assert found.complete.tolist() == [True, True, True, False]
    assert found.risk() == ["low", "low-medium", "high", "medium"]


def test_news2_takes_the_pulse_and_the_line() -> None:
    row = np.full((1, len(VITALS)), np.nan)
    row[0, COLUMN["PULSE"]], row[0, COLUMN["ART_SYS"]], row[0, COLUMN["NIBP_SYS"]] = 115, 85, 130
    assert news2(row).score[0] == 2 + 3


def _runs(slack: float, limit: float, shift: float, patients: int) -> float:
    """Mean readings to the first alarm of one-sided sums over standard normal innovations."""
    detector = ChangeDetector(patients, slack=slack, limit=limit)
    rng = np.random.default_rng(6)
    rows = np.arange(patients)
    first = np.full((patients, len(VITALS)), np.nan)
    for step in range(1, 4000):
        z = rng.standard_normal(first.shape) + shift
        detector.down[:] = 0.0
        found = detector.step(rows, z, z * z)
        first = np.where(np.isnan(first) & found, step, first)
        if np.isfinite(first).all():
            break
    return float(np.nanmean(first))


@pytest.mark.parametrize(("shift", "limit"), [(0.0, 3.0), (1.0, 8.0)])
def test_cusum_runs_as_long_as_siegmund_says(shift: float, limit: float) -> None:
    slack, b = 0.5, limit + 1.166
    drift = shift - slack
    expected = (np.exp(-2 * drift * b) + 2 * drift * b - 1) / (2 * drift**2)
    assert _runs(slack, limit, shift, 30) == pytest.approx(expected, rel=0.15)


def test_nis_averages_to_one_without_a_change_and_grows_with_one() -> None:
    detector = ChangeDetector(50)
    rng = np.random.default_rng(2)
    z = rng.standard_normal((400, 50, len(VITALS)))
    for each in z:
        detector.step(np.arange(50), each, each**2)
    assert detector.nis.mean() == pytest.approx(1.0, abs=0.1)
    for each in z[:60] * 3:
        detector.step(np.arange(50), each, each**2)
    assert detector.nis.mean() > 4


def test_missing_innovations_change_nothing() -> None:
    detector = ChangeDetector(1)
    detector.up[:] = 3.0
    nothing = np.full((1, len(VITALS)), np.nan)
    assert not detector.step(np.array([0]), nothing, nothing).any()
    assert (detector.up == 3.0).all()


@pytest.fixture(scope="module", params=["isolation_forest", "one_class_svm"])
def detector(request: pytest.FixtureRequest) -> AnomalyDetector:
    return AnomalyDetector(request.param)


def test_anomaly_detection_spares_new_stable_patients(detector: AnomalyDetector) -> None:
    assert (detector.score(healthy_values(200, seed=99)) > 0).mean() < 0.05


@pytest.mark.parametrize("scenario", ["sepsis", "haemorrhage", "hypoxia", "opioid", "arrhythmia"])
def test_anomaly_detection_finds_each_crisis(detector: AnomalyDetector, scenario: str) -> None:
    patients = SyntheticPatients(Body(), [scenario] * 20, seed=3)
    for _ in range(25):
        values = patients.step(60.0)
    assert (detector.score(values) > 0).mean() >= 0.9


def test_anomaly_scores_do_not_depend_on_the_batch(detector: AnomalyDetector) -> None:
    values = healthy_values(10, seed=5)
    single = np.concatenate([detector.score(values[n : n + 1]) for n in range(len(values))])
    assert detector.score(values) == pytest.approx(single, abs=1e-9)


def test_features_are_what_they_are_called() -> None:
    row = np.full((2, len(VITALS)), np.nan)
    for code, value in {"HR": 120, "ART_SYS": 80, "ART_DIA": 50, "SPO2": 90, "FIO2": 60, "RR": 30}.items():
        row[0, COLUMN[code]] = value
    found = features(row)
    assert found[0, 5:8].tolist() == [30.0, 1.5, 5.0]
    assert np.isfinite(found[1]).all()
