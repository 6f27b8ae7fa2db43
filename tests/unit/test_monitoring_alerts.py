"""Alert rules and the life of an alert, on a clock that the test turns."""

from __future__ import annotations

import json

import numpy as np
import pytest

from digital_twins import ConflictError, InputError, NotFoundError
from digital_twins.monitoring import (
    SIGNALS,
    Alert,
    AlertBook,
    AlertStep,
    Conditions,
    Notice,
    Priority,
    Rule,
    load_thresholds,
)

RULE = Rule("hr_high", "HR", 120.0, False, Priority.MEDIUM, 10.0, 5.0, "Heart rate high")
CUFF = Rule("cuff_low", "NIBP_SYS", 90.0, True, Priority.MEDIUM, 0.0, 5.0, "Cuff low")


class Limits:
    """One patient's signals against two rules."""

    def __init__(self) -> None:
        self.conditions = Conditions([RULE, CUFF], 1)

    def send(self, time_s: float, *, blank: str = "", **values: float) -> tuple[list[str], list[str]]:
        signals, blanked = np.full((1, len(SIGNALS)), np.nan), np.zeros((1, len(SIGNALS)), dtype=bool)
        for code, value in values.items():
            signals[0, SIGNALS[code]] = value
        if blank:
            blanked[0, SIGNALS[blank]] = True
        began, ended = self.conditions.step(np.array([0]), np.array([time_s]), signals, blanked=blanked)
        rules = self.conditions.rules
        return [rules[rule].id for _, rule in began], [rules[rule].id for _, rule in ended]


def test_limit_must_hold_for_its_delay_and_ends_inside_its_hysteresis() -> None:
    bed = Limits()
    assert bed.send(0, HR=125) == ([], [])
    assert bed.send(9.9, HR=125) == ([], [])
    assert bed.send(10, HR=125) == (["hr_high"], [])
    assert bed.send(11, HR=130) == ([], [])
    assert bed.send(12, HR=116) == ([], [])
    assert bed.send(13, HR=115) == ([], ["hr_high"])


def test_short_excess_and_exact_limit_raise_nothing() -> None:
    bed = Limits()
    for time_s, heart in enumerate([130, 130, 119, 130, 130, 120, 130, 130]):
        assert bed.send(5.0 * time_s, HR=heart) == ([], [])


def test_delay_runs_out_without_another_value() -> None:
    bed = Limits()
    bed.send(0, HR=125)
    assert bed.conditions.tick(9) == []
    assert bed.conditions.tick(10) == [(0, 0)]
    assert bed.conditions.tick(11) == []


def test_blanked_value_restarts_the_delay_but_ends_nothing() -> None:
    bed = Limits()
    bed.send(0, HR=125)
    bed.send(5, blank="HR")
    assert bed.conditions.tick(20) == []
    bed.send(21, HR=125)
    assert bed.send(31, HR=125) == (["hr_high"], [])
    assert bed.send(32, blank="HR") == ([], [])
    assert bed.conditions.active[0, 0]


def test_own_limits_of_a_patient() -> None:
    bed = Limits()
    bed.conditions.set_limits(0, {"cuff_low": 80.0, "unknown": 1.0})
    assert bed.send(0, NIBP_SYS=85) == ([], [])
    assert bed.send(1, NIBP_SYS=79) == (["cuff_low"], [])
    bed.conditions.forget(0)
    assert bed.conditions.limit[0, 1] == 90.0


class Ward:
    """An alert book whose steps and notices are kept."""

    def __init__(self, *, failing: bool = False) -> None:
        self.steps: list[AlertStep] = []
        self.notices: list[Notice] = []
        self.failing = failing
        self.book = AlertBook(
            load_thresholds(), record=lambda step, _: self.steps.append(step), notify=self._tell
        )

    def _tell(self, notice: Notice) -> None:
        if self.failing:
            raise ConnectionError("no route")
        self.notices.append(notice)

    def alert(self, at_s: float, key: str = "hr_high", priority: Priority = Priority.MEDIUM) -> Alert | None:
        kind = "event" if key.startswith("event:") else "clinical"
        return self.book.raise_alert(Alert(0, "P", "B", key, priority, "text", kind, at_s))

    def said(self) -> list[str]:
        return [each.step for each in self.steps]


def test_escalation_follows_its_timers_until_acknowledged() -> None:
    ward = Ward()
    alert = ward.alert(0.0, "art_mean_very_low", Priority.HIGH)
    assert alert is not None
    for second in range(1, 100):
        ward.book.tick(float(second))
    assert [(each.to, each.at_s) for each in ward.notices] == [("nurse", 0.0), ("charge-nurse", 60.0)]
    ward.book.acknowledge(alert.id, by="N. N.", role="charge-nurse", at_s=100.0)
    ward.book.tick(500.0)
    assert len(ward.notices) == 2
    assert ward.said() == ["raised", "told", "escalated", "acknowledged"]
    assert ward.steps[-1].by == "N. N."


def test_same_cause_is_one_alert() -> None:
    ward = Ward()
    first, second = ward.alert(0.0), ward.alert(5.0)
    assert first is second
    assert ward.said().count("raised") == 1
    ward.book.end("P", "hr_high", at_s=10.0)
    assert ward.book.open_alerts() == []
    assert ward.alert(60.0) is first
    assert first.repeats == 1
    ward.book.end("P", "hr_high", at_s=70.0)
    ward.book.tick(131.0)
    third = ward.alert(200.0)
    assert third is not None
    assert third.id != first.id


def test_acknowledged_alert_whose_cause_stays_is_told_again() -> None:
    ward = Ward()
    alert = ward.alert(0.0)
    ward.book.acknowledge(alert.id, by="A", role="nurse", at_s=10.0)
    ward.book.tick(609.0)
    assert len(ward.notices) == 1
    ward.book.tick(610.0)
    assert [each.to for each in ward.notices] == ["nurse", "nurse"]
    ward.book.tick(611.0)
    assert len(ward.notices) == 2


def test_event_stays_until_somebody_has_seen_it() -> None:
    ward = Ward()
    alert = ward.alert(0.0, "event:asystole", Priority.HIGH)
    ward.book.end("P", "event:asystole", at_s=3.0)
    assert ward.book.open_alerts() == [alert]
    assert ward.book.status("P") == "critical"
    ward.book.acknowledge(alert.id, by="A", role="nurse", at_s=9.0)
    assert ward.book.open_alerts() == []
    assert ward.book.status("P") == "normal"


def test_shelf_keeps_quiet_and_tells_at_its_end() -> None:
    ward = Ward()
    ward.alert(0.0)
    ward.book.shelve("P", "hr_high", by="A", role="nurse", at_s=1.0, for_s=300.0)
    assert ward.book.open_alerts() == []
    assert ward.alert(50.0) is None
    ward.book.tick(300.0)
    assert ward.book.open_alerts() == []
    ward.book.tick(301.0)
    assert [each.key for each in ward.book.open_alerts()] == ["hr_high"]


def test_shelf_whose_cause_ended_tells_nothing() -> None:
    ward = Ward()
    ward.alert(0.0)
    ward.book.shelve("P", "hr_high", by="A", role="nurse", at_s=1.0, for_s=300.0)
    ward.book.end("P", "hr_high", at_s=20.0)
    ward.book.tick(400.0)
    assert ward.book.open_alerts() == []


@pytest.mark.parametrize(
    "key", ["event:asystole", "event:vf", "event:apnoea", "event:device", "hr_very_high"]
)
def test_what_is_never_suppressed_cannot_be_shelved(key: str) -> None:
    with pytest.raises(ConflictError):
        Ward().book.shelve("P", key, by="A", role="nurse", at_s=0.0, for_s=60.0)


def test_roles_and_times_are_checked() -> None:
    ward = Ward()
    alert = ward.alert(0.0)
    with pytest.raises(InputError):
        ward.book.acknowledge(alert.id, by="A", role="visitor", at_s=1.0)
    with pytest.raises(InputError):
        ward.book.shelve("P", "hr_high", by="A", role="nurse", at_s=1.0, for_s=1e6)
    with pytest.raises(NotFoundError):
        ward.book.acknowledge(99, by="A", role="nurse", at_s=1.0)


def test_messenger_that_fails_is_recorded_and_stops_nothing() -> None:
    ward = Ward(failing=True)
    ward.alert(0.0)
    assert ward.said() == ["raised", "told", "undelivered"]
    assert len(ward.book.open_alerts()) == 1


def test_status_levels_and_order() -> None:
    ward = Ward()
    assert ward.book.status("P") == "normal"
    ward.alert(0.0)
    assert ward.book.status("P") == "warning"
    ward.alert(1.0, "hr_very_high", Priority.HIGH)
    assert ward.book.status("P") == "critical"
    assert [each.key for each in ward.book.open_alerts()] == ["hr_very_high", "hr_high"]
    ward.book.leave("P", at_s=5.0)
    assert ward.book.open_alerts() == []


def test_alert_survives_json_and_a_restart() -> None:
    ward = Ward()
    alert = ward.alert(0.0)
    again = Alert.from_dict(json.loads(json.dumps(alert.to_dict())))
    assert again == alert
    book = AlertBook(load_thresholds())
    book.restore([again], next_id=7)
    assert book.open_alerts() == [alert]
    assert book.raise_alert(Alert(0, "Q", "B", "x", Priority.LOW, "t", "clinical", 1.0)).id == 7


def test_priorities_have_colour_marks_and_flash() -> None:
    assert [(each.colour, each.marks) for each in reversed(Priority)] == [
        ("red", "***"),
        ("yellow", "**"),
        ("cyan", "*"),
    ]
    assert 1.4 <= Priority.HIGH.flash_hz <= 2.8
    assert 0.4 <= Priority.MEDIUM.flash_hz <= 0.8
    assert Priority.LOW.flash_hz == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("above: 150", "above: 150, below: 3"),
        ("signal: HR, above: 150", "signal: PAIN, above: 150"),
        ("id: hr_high", "id: hr_low"),
        ("delay_s: 5, hysteresis: 5", "delay_s: -5, hysteresis: 5"),
        ("  vf: {", "  vfx: {"),
        ("renotify_s:", "renotify:"),
        ("priority: medium", "priority: urgent"),
        ("rules:", "rules: ["),
    ],
)
def test_thresholds_that_cannot_be_used_are_refused(tmp_path, old: str, new: str) -> None:
    from importlib.resources import files

    text = files("digital_twins.monitoring").joinpath("data/alert_thresholds.yaml").read_text("utf-8")
    path = tmp_path / "alert_thresholds.yaml"
    path.write_text(text, encoding="utf-8")
    assert len(load_thresholds(path).rules) == len(load_thresholds().rules)
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError):
        load_thresholds(path)
    with pytest.raises(NotFoundError):
        load_thresholds(tmp_path / "none.yaml")
