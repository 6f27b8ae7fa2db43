"""Risk of in-hospital death: inputs, figures against scikit-learn, file, reasons, bars on real stays."""

from __future__ import annotations

import json
import logging
import zipfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from digital_twins._errors import InputError
from digital_twins.cli import main
from digital_twins.monitoring import (
    COLUMN,
    VITALS,
    AssociationLog,
    DeathRisk,
    Intake,
    PatientMonitor,
    Reading,
    RiskWatch,
    Stays,
    cross_validate_death_risk,
    load_death_risk,
    predictor_inputs,
    read_stays,
    save_death_risk,
    train_death_risk,
)
from digital_twins.monitoring.engine import monitor_state, resume_monitor
from digital_twins.monitoring.prediction import _learned, bedside_risk
from digital_twins.monitoring.prediction._evaluate import (
    WATCHED_H,
    Judged,
    alarm_threshold,
    alarms_per_patient_day,
    caught,
    figures,
    judge,
)
from digital_twins.monitoring.prediction._hypotension import _scores, hypotension_questions
from digital_twins.monitoring.prediction._learned import folds
from digital_twins.monitoring.prediction._metrics import (
    best_threshold,
    calibration_slope,
    log_odds,
    min_se_ppv,
)
from digital_twins.monitoring.prediction._partial_news2 import hourly_news2
from icu_stays import simulated, write_stays

KEYS = {
    "auroc",
    "auprc",
    "brier",
    "calibration_slope",
    "min_se_ppv",
    "alarms_per_patient_day",
    "sensitivity",
}


@pytest.fixture
def fewer_trees(full: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the trees in the reduced run; `make test-all` grows them all."""
    if not full:
        fewer = tuple((change, rounds // 4) for change, rounds in _learned._KINDS)
        monkeypatch.setattr(_learned, "_KINDS", fewer)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("stays")
    return simulated(folder / "train", 300, 1), simulated(folder / "test", 200, 2)


def tiny(tmp_path: Path, rows: list[tuple[int, int, str, float]]) -> Stays:
    return read_stays(write_stays(tmp_path / "tiny", rows, {7: 1, 9: 0}))


def test_dirty_values_are_left_out_and_a_lost_decimal_point_is_put_back(tmp_path: Path) -> None:
    rows = [
        (7, 10, "pH", 735.0),
        (7, 10, "Temp", -17.8),
        (7, 20, "HR", 0.0),
        (7, 30, "Weight", -1.0),
        (7, 40, "DiasABP", 0.0),
        (7, 50, "HR", 90.0),
        (8, 50, "HR", 91.0),
        (9, 50, "Nonsense", 1.0),
        (9, 60, "HR", 70.0),
    ]
    stays = tiny(tmp_path, rows)
    assert stays.left_out == 4
    assert sorted(stays.value.round(4)) == [7.35, 70.0, 90.0]
    assert stays.records[stays.stay[stays.value == 70]] == [9]


def test_inputs_of_a_stay_by_hand(tmp_path: Path) -> None:
    rows = [(7, 0, "HR", 80.0), (7, 600, "HR", 100.0), (7, 2820, "HR", 120.0), (7, 2820, "NISysABP", 100.0)]
    inputs = predictor_inputs(tiny(tmp_path, rows), vitals_only=True)
    first = dict(zip(inputs.names, inputs.values[0], strict=True))
    assert (first["HR.last"], first["HR.first"], first["HR.min"], first["HR.max"]) == (120, 80, 80, 120)
    assert first["HR.count"] == 3
    assert first["HR.mean"] == 100
    assert first["HR.hours_since"] == 1
    assert first["HR.slope_per_h"] == pytest.approx(np.polyfit([0, 10, 47], [80, 100, 120], 1)[0])
    assert first["HR.std"] == pytest.approx(np.std([80, 100, 120]))
    assert first["HR.change"] == 30
    assert first["HR.mean_0_6h"] == 120
    assert first["HR.mean_36_48h"] == 90
    assert np.isnan(first["HR.mean_6_12h"])
    assert first["shock.index"] == pytest.approx(1.2)
    assert first["Temp.count"] == 0
    assert np.isnan(first["Temp.last"])


def test_vitals_hold_no_coma_score_oxygen_age_or_unit(sets: tuple[Path, Path]) -> None:
    names = predictor_inputs(read_stays(sets[0]), vitals_only=True).names
    sources = {name.split(".")[0] for name in names}
    assert sources == {
        *("HR", "MAP", "SysABP", "DiasABP", "NIMAP", "NISysABP", "NIDiasABP", "Temp", "RespRate", "SaO2"),
        *("SBP", "MBP", "DBP", "shock"),
    }


def test_nothing_later_than_now_is_looked_at(sets: tuple[Path, Path]) -> None:
    stays = read_stays(sets[0])
    early = stays.minute <= 24 * 60
    cut = Stays(
        stays.records,
        stays.died,
        stays.stay[early],
        stays.parameter[early],
        stays.minute[early],
        stays.value[early],
        0,
    )
    np.testing.assert_array_equal(
        predictor_inputs(stays, hours=24).values, predictor_inputs(cut, hours=24).values
    )


def test_figures_equal_scikit_learn() -> None:
    rng = np.random.default_rng(5)
    risk = rng.beta(1, 6, 800).round(3)
    died = rng.random(800) < risk**0.8
    judged = Judged(risk, np.tile(risk[:, None], len(WATCHED_H)), np.full(800, 0.3), np.full(800, 0.3))
    found = figures(died, judged, resamples=50, seed=0)
    assert set(found) == KEYS
    assert found["auroc"]["value"] == pytest.approx(roc_auc_score(died, risk), abs=1e-12)
    assert found["auprc"]["value"] == pytest.approx(average_precision_score(died, risk), abs=1e-12)
    assert found["brier"]["value"] == pytest.approx(brier_score_loss(died, risk), abs=1e-12)
    peer = LogisticRegression(C=1e12, tol=1e-10).fit(log_odds(risk)[:, None], died)
    assert calibration_slope(died, risk) == pytest.approx(peer.coef_[0, 0], rel=1e-4)
    assert all(each["low"] <= each["value"] <= each["high"] for each in found.values())
    best = max(min_se_ppv(died, risk >= each) for each in risk)
    assert min_se_ppv(died, risk >= best_threshold(died, risk)) >= best - 0.01


def test_alarms_are_counted_when_they_begin() -> None:
    watched = np.zeros((2, len(WATCHED_H)))
    watched[0, [1, 2, 5]] = 0.9
    died = np.array([True, False])
    assert alarms_per_patient_day(watched >= 0.5) == 2 / 4
    assert caught(died, watched >= 0.5) == 1
    assert alarm_threshold(died, watched, 1.0) == 0.9


def test_partial_news2_by_hand(tmp_path: Path) -> None:
    rows = [(7, 30, "HR", 135.0), (7, 130, "NISysABP", 88.0), (7, 190, "GCS", 14.0), (9, 0, "HR", 70.0)]
    stays = tiny(tmp_path, rows)
    score, complete = hourly_news2(stays, vitals_only=False)
    assert score[0, :5].tolist() == [3, 3, 6, 9, 9]
    assert hourly_news2(stays, vitals_only=True)[0][0, 4] == 6
    assert score[1].max() == 0
    assert complete == 0


def test_hypotension_is_asked_where_a_fresh_pressure_is_normal(tmp_path: Path) -> None:
    rows = [
        (7, 700, "NIMAP", 80.0),
        (7, 900, "MAP", 60.0),
        (7, 1430, "MAP", 60.0),
        (7, 1500, "MAP", 70.0),
        (9, 100, "NIMAP", 80.0),
        (9, 2150, "NIMAP", 66.0),
        (9, 2300, "NIMAP", 65.0),
    ]
    questions = hypotension_questions(tiny(tmp_path, rows))
    assert questions.asked.tolist() == [[True, False, False], [False, False, True]]
    assert questions.event[questions.asked].tolist() == [True, False]


def test_a_trained_model_is_written_read_and_explains(sets: tuple[Path, Path], tmp_path: Path) -> None:
    train, test = (read_stays(each) for each in sets)
    model = train_death_risk(train)
    save_death_risk(tmp_path / "model.zip", {"all_inputs": model})
    again = load_death_risk(tmp_path / "model.zip")["all_inputs"]
    risk = model.risk(test)
    np.testing.assert_array_equal(again.risk(test), risk)
    assert roc_auc_score(test.died, risk) > 0.8
    values = predictor_inputs(test).values
    parts = model.ensemble.contributions(values)
    np.testing.assert_allclose(parts.sum(axis=1), model.ensemble.log_odds(values), atol=1e-6)
    worst = int(np.argmax(risk))
    reasons = model.reasons(test)[worst]
    assert len(reasons) == 5
    assert any(
        name.split(".")[0] in {"Lactate", "HR", "NIMAP", "MBP", "SBP", "NISysABP"} for name, _ in reasons
    )

    changed = tmp_path / "changed.zip"
    with zipfile.ZipFile(tmp_path / "model.zip") as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(
                name, content.replace(b"leaf_value=", b"leaf_value=9") if "trees-0" in name else content
            )
    with pytest.raises(InputError, match="changed"):
        load_death_risk(changed)
    (tmp_path / "none.zip").write_bytes(b"none")
    with pytest.raises(InputError, match="zip"):
        load_death_risk(tmp_path / "none.zip")


def charted(monitor: PatientMonitor, *, hours: int, sick: str) -> dict[str, list[dict[str, float]]]:
    """Let two patients live by the minute; return what they show at each full hour since they came."""
    seen: dict[str, list[dict[str, float]]] = {"P0": [], "P1": []}
    for minute in range(hours * 60 + 1):
        now_s = 1_000_000.0 + 60.0 * minute
        for n, patient in enumerate(seen):
            ill = min(minute / 300.0, 1.0) if patient == sick else 0.0
            values = {
                "PULSE" if patient == "P1" else "HR": round(78.0 + 42.0 * ill + minute % 5, 1),
                "NIBP_SYS": round(122.0 - 42.0 * ill + minute % 3, 1),
                "NIBP_MEAN": round(88.0 - 36.0 * ill + minute % 4, 1),
                "NIBP_DIA": round(68.0 - 28.0 * ill + minute % 3, 1),
                "RR": round(15.0 + 13.0 * ill + minute % 2, 1),
                "TEMP": 36.8,
                "SPO2": 97.0,
            }
            monitor.intake.offer(Reading(f"D{n}", now_s, values, (), minute), received_s=now_s)
            if minute % 60 == 0:
                seen[patient].append(values)
        monitor.step()
        monitor.tick(now_s)
    return seen


def watched(model: DeathRisk) -> PatientMonitor:
    beds = AssociationLog()
    for n in (0, 1):
        beds.place_device(f"D{n}", f"B{n}", since_s=0.0)
        beds.admit(f"P{n}", f"B{n}", since_s=0.0)
    return PatientMonitor(Intake(beds), capacity=3, risk=model)


@pytest.mark.usefixtures("fewer_trees")
def test_beside_the_bed_the_risk_is_that_of_hourly_charts_and_its_alert_says_why(
    sets: tuple[Path, Path], tmp_path: Path
) -> None:
    model = train_death_risk(read_stays(sets[0]), vitals_only=True)
    monitor = watched(model)
    seen = charted(monitor, hours=8, sick="P1")
    names = {"HR": "HR", "PULSE": "HR", "RR": "RespRate", "TEMP": "Temp"}
    names |= {"NIBP_SYS": "NISysABP", "NIBP_MEAN": "NIMAP", "NIBP_DIA": "NIDiasABP"}
    rows = [
        (stay, 60 * hour, names[code], value)
        for stay, patient in ((7, "P1"), (9, "P0"))
        for hour, values in enumerate(seen[patient])
        for code, value in values.items()
        if code in names
    ]
    stays = tiny(tmp_path, rows)
    assert monitor.risk is not None
    sick, well = monitor.row_of("P1"), monitor.row_of("P0")
    expected = model.risk(stays, hours=8.0)
    np.testing.assert_allclose(monitor.risk.risk[[sick, well]], expected, rtol=1e-6)
    assert expected[0] > 0.3 > expected[1]
    (alert,) = (each for each in monitor.alerts.open_alerts() if each.key == "death_risk")
    assert (alert.patient, alert.priority.name) == ("P1", "LOW")
    assert alert.text.startswith("Learned risk of in-hospital death: ")
    reasons = model.reasons(stays, hours=8.0, number=3)[0]
    assert [name for name, _ in monitor.risk.reasons(sick)] == [name for name, _ in reasons]
    assert sum(name.split(".")[0] in alert.text for name, _ in reasons) >= 1
    again = watched(model)
    resume_monitor(again, monitor_state(monitor))
    assert again.risk is not None
    assert again.risk.view(again.row_of("P1")) == monitor.risk.view(sick)
    monitor.discharge("P1", at_s=2_000_000.0)
    assert monitor.risk.view(sick) is None


@pytest.mark.usefixtures("fewer_trees")
def test_the_risk_is_asked_from_hour_6_to_48(sets: tuple[Path, Path]) -> None:
    model = train_death_risk(read_stays(sets[0]), vitals_only=True)
    watch, rows = RiskWatch(model, 300), np.arange(300)
    shown = np.full((300, len(VITALS)), np.nan)
    shown[:, COLUMN["HR"]] = np.linspace(50.0, 150.0, 300)
    asked = [len(watch.tick(rows, 3600.0 * hour, shown)) for hour in range(6)]
    assert asked == [0] * 6
    assert np.isnan(watch.risk).all()
    assert [len(watch.tick(rows, 6 * 3600.0 + n, shown)) for n in range(3)] == [256, 44, 0]
    assert np.isfinite(watch.risk).all()
    assert [len(watch.tick(rows, 3600.0 * 48 + n, shown)) for n in range(3)] == [256, 44, 0]
    assert len(watch.tick(rows, 3600.0 * 49, shown)) == 0


def test_a_model_without_vital_signs_alone_cannot_watch(tmp_path: Path) -> None:
    save_death_risk(tmp_path / "m.zip", {})
    with pytest.raises(InputError, match="vital"):
        bedside_risk(tmp_path / "m.zip")


@pytest.mark.usefixtures("fewer_trees")
def test_the_command_line_judges_and_trains(
    sets: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--train", str(sets[0]), "--test", str(sets[1])]
    assert main(["monitor", "evaluate", *folders, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert list(answer) == ["vitals", "all_inputs"]
    for predictors in answer.values():
        assert list(predictors) == ["partial_news2", "logistic", "ours"]
        for row in predictors.values():
            assert set(row) == KEYS
            assert all(set(each) == {"value", "low", "high"} for each in row.values())
    assert answer["all_inputs"]["ours"]["auroc"]["value"] > 0.8
    assert main(["monitor", "evaluate", *folders, "--task", "hypotension", "--json"]) == 0
    rolling = json.loads(capsys.readouterr().out)
    assert list(rolling["vitals"]) == ["partial_news2", "persistence", "logistic", "ours"]
    assert rolling["vitals"]["persistence"]["auroc"]["value"] > 0.55
    assert main(["monitor", "evaluate", *folders, "--task", "other"]) == 1
    out = tmp_path / "model.zip"
    assert main(["monitor", "train", "--train", str(sets[0]), "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["output"] == "risk of in-hospital death"
    assert set(load_death_risk(out)) == {"vitals", "all_inputs"}


def test_what_cannot_be_read_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["monitor", "train", "--train", str(tmp_path), "--out", str(tmp_path / "m"), "--json"]) == 1
    (tmp_path / "outcomes.csv").write_text("RecordID,In-hospital_death\n1,2\n", encoding="utf-8")
    assert main(["monitor", "train", "--train", str(tmp_path), "--out", str(tmp_path / "m"), "--json"]) == 1
    (tmp_path / "outcomes.csv").write_text("RecordID,In-hospital_death\n1,1\n", encoding="utf-8")
    assert main(["monitor", "train", "--train", str(tmp_path), "--out", str(tmp_path / "m"), "--json"]) == 1
    lines = capsys.readouterr().err
    assert lines.count('"fix"') == 3
    with pytest.raises(InputError, match="few"):
        folds(np.array([True, False, False]))


@pytest.mark.shared
@pytest.mark.usefixtures("fewer_trees")
def test_a_part_of_the_real_stays(shared_data: Path) -> None:
    stays = read_stays(shared_data / "monitor" / "physionet2012" / "set-a")
    assert len(stays) == 4000
    assert stays.died.mean() == pytest.approx(0.1385)
    order = np.random.default_rng(0).permutation(4000)
    train, test = stays.subset(order[:1200]), stays.subset(order[1200:2400])
    found = judge(train, test, vitals_only=True)
    area = {key: roc_auc_score(test.died, each.risk) for key, each in found.items()}
    assert area["ours"] > area["logistic"]
    assert area["ours"] > area["partial_news2"] + 0.05


@pytest.mark.shared
@pytest.mark.usefixtures("fewer_trees")
def test_hypotension_of_real_stays_beside_persistence_and_news2(shared_data: Path, full: bool) -> None:
    stays = read_stays(shared_data / "monitor" / "physionet2012" / "set-a")
    order, half = np.random.default_rng(0).permutation(len(stays)), 2000 if full else 600
    parts = (stays.subset(order[:half]), stays.subset(order[half : 2 * half]))
    questions = tuple(hypotension_questions(each) for each in parts)
    found = _scores(parts, questions, vitals_only=True, seed=0)
    asked, event = questions[1].asked, questions[1].event
    area = {key: roc_auc_score(event[asked], each[1][asked]) for key, each in found.items()}
    assert area["ours"] > area["persistence"] + 0.03
    assert area["persistence"] > area["partial_news2"] + 0.03


@pytest.mark.shared
@pytest.mark.full
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("inputs", ["vitals", "all_inputs"])
def test_the_bars_cross_validated_on_all_real_stays(shared_data: Path, full: bool, inputs: str) -> None:
    if not full:
        pytest.skip("runs in make test-all")
    stays = read_stays(shared_data / "monitor" / "physionet2012" / "set-a")
    found = cross_validate_death_risk(stays, input_sets=(inputs,))
    logging.getLogger(__name__).info(
        "%s", json.dumps(found)
    )  # to keep: --log-file FILE --log-file-level INFO
    value = {(who, key): each["value"] for who, row in found[inputs].items() for key, each in row.items()}
    assert 0.9 <= value["ours", "calibration_slope"] <= 1.1
    assert value["ours", "auroc"] >= value["logistic", "auroc"] + (0.015 if inputs == "all_inputs" else 0)
    if inputs == "all_inputs":
        assert value["ours", "auroc"] >= 0.85
        assert value["ours", "min_se_ppv"] >= 0.48
    early = value["partial_news2", "sensitivity"]
    assert value["ours", "sensitivity"] == pytest.approx(early, abs=0.02)
    assert value["logistic", "sensitivity"] == pytest.approx(early, abs=0.02)
    # on vitals, with a fifth of the deaths caught, the two are level: docs/science/deterioration.md
    most = value["logistic", "alarms_per_patient_day"] * (1.0 if inputs == "all_inputs" else 1.05)
    assert value["ours", "alarms_per_patient_day"] < most
