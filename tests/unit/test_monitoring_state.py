"""A monitor that is killed goes on as if nothing had been; on both databases."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from digital_twins import ConflictError, StorageError
from digital_twins.audit import Auditor
from digital_twins.monitoring import (
    COLUMN,
    VITALS,
    Association,
    MonitorService,
    WardPart,
    open_monitor_database,
)

START_S = 1_764_064_500.0
DEVICES = 5


class Ward:
    """Five patients whose devices send once a second; the fourth bleeds, the fifth lies in no bed yet."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now_s = folder, START_S
        self.random = np.random.default_rng(7)
        self.service = self.open()
        for n in range(DEVICES):
            self.service.associate(Association("device", f"D{n}", f"B{n}", 0.0))
            if n < DEVICES - 1:
                self.service.associate(Association("bed", f"B{n}", f"P{n}", 0.0))

    def open(self) -> MonitorService:
        return MonitorService(self.folder, capacity=8, clock=lambda: self.now_s)

    def live(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now_s += 1.0
            passed = self.now_s - START_S
            for n in range(DEVICES):
                noise = self.random.normal(size=3)
                values = {"HR": 75 + noise[0], "ART_MEAN": 85 + noise[1], "SPO2": 97 + 0.3 * noise[2]}
                if n == 3:
                    values["ART_MEAN"] -= 0.6 * passed
                sent = json.dumps({"t": self.now_s - 0.2, "v": values, "n": int(passed)})
                assert self.service.take_message(f"vitals/D{n}", sent.encode())
            self.service.work()

    def kill(self) -> None:
        """Go on with a new service; the old one is left as a kill leaves it: nothing more is written."""
        self.service.database.close()
        self.service = self.open()


def state(service: MonitorService) -> dict[str, np.ndarray]:
    monitor = service.monitor
    rows = [monitor.patients[each] for each in sorted(monitor.patients)]
    twin, trend = monitor.twin, monitor.trend
    return {
        "level": trend.level[rows],
        "slope": trend.slope[rows],
        "twin": twin.mean[rows],
        "covariance": twin.covariance[rows],
        "baseline": monitor.baseline.mean[rows],
        "changes": monitor.changes.up[rows],
        "active": monitor.conditions.active[rows],
        "news2": monitor.news2_score[rows],
        "ring": np.concatenate([monitor.ring.read(row)[1] for row in rows]),
    }


def told(service: MonitorService) -> list[tuple[object, ...]]:
    with service.database.read() as connection:
        return connection.execute(
            "SELECT alert_id, patient, key, step, at_s, by FROM monitor_step ORDER BY number"
        ).fetchall()


def test_a_killed_monitor_goes_on_as_one_that_was_not_killed(tmp_path: Path) -> None:
    steady, killed = Ward(tmp_path / "steady"), Ward(tmp_path / "killed")
    for seconds in (33, 9, 25):
        steady.live(seconds)
        killed.live(seconds)
        killed.kill()
        expected, found = state(steady.service), state(killed.service)
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value, err_msg=name)
        assert told(killed.service) == told(steady.service)
    low = next(each for each in killed.service.monitor.alerts.open_alerts() if each.patient == "P3")
    for ward in (steady, killed):
        ward.service.monitor.alerts.acknowledge(low.id, by="N", role="nurse", at_s=ward.now_s)
        asyncio.run(ward.service.durable())
    killed.kill()
    for ward in (steady, killed):
        ward.live(15)
    assert told(killed.service) == told(steady.service)
    again = {each.id: each for each in killed.service.monitor.alerts.open_alerts()}
    assert again[low.id].acknowledged_by == "N"
    for ward in (steady, killed):
        ward.service.close()


def test_quarantine_duplicates_shelves_and_recent_ends_outlive_a_kill(tmp_path: Path) -> None:
    ward = Ward(tmp_path)
    ward.live(12)
    ward.service.monitor.alerts.shelve("P0", "hr_high", by="N", role="nurse", at_s=ward.now_s, for_s=600.0)
    asyncio.run(ward.service.durable())
    ward.service.work()
    ward.live(3)
    ward.kill()
    service = ward.service
    assert service.intake.quarantined == 15
    sent = json.dumps({"t": ward.now_s - 0.2, "v": {"HR": 75}, "n": 15})
    service.take_message("vitals/D0", sent.encode())
    assert service.intake.counts["duplicate"] == 1
    assert service.monitor.alerts.shelves()[0][:2] == ("P0", "hr_high")
    service.associate(Association("bed", "B4", "P4", 0.0))
    service.work()
    assert len(service.monitor.ring.read(service.monitor.row_of("P4"))[0]) == 15
    service.close()


def test_history_has_each_reading_once_over_kills(tmp_path: Path) -> None:
    ward = Ward(tmp_path)
    for seconds in (45, 50, 8):
        ward.live(seconds)
        ward.kill()
    ward.service.close()
    ward.service = ward.open()
    ward.service.close()
    times, _ = ward.service.history.read("P1", "HR", since_s=0.0, until_s=2e9)
    assert times.tolist() == [START_S + n + 0.8 for n in range(103)]


def test_an_hour_of_values_is_kept_and_no_more(tmp_path: Path) -> None:
    ward = Ward(tmp_path)
    ward.live(30)
    ward.now_s += 3590.0
    ward.live(30)
    found = ward.service._keeper._states.values(most=1e9)
    times = np.concatenate([each[1] for each in found])
    assert times.min() >= ward.now_s - 3600.0 - 60.0
    names, _, values = found[-1]
    assert set(names.tolist()) == {"P0", "P1", "P2", "P3"}
    assert values.shape == (len(names), len(VITALS))
    assert np.nanmax(np.abs(values[:, COLUMN["HR"]] - 75)) < 8
    ward.service.close()


def test_every_step_is_audited_exactly_once(tmp_path: Path) -> None:
    part = WardPart(auditor=Auditor("WARD", b"k" * 32))
    service = MonitorService(tmp_path, capacity=4, clock=lambda: START_S, part=part)
    service.associate(Association("device", "D", "B", 0.0))
    service.associate(Association("bed", "B", "Secret Name", 0.0))
    service.take_message("vitals/D", b'{"t": 1764064499, "v": {"NIBP_SYS": 70}, "e": ["vf"]}')
    service.work()
    book = service.monitor.alerts
    first = next(each for each in book.open_alerts() if each.key == "event:vf")
    book.acknowledge(first.id, by="N", role="nurse", at_s=START_S)
    book.shelve("Secret Name", "hr_high", by="N", role="nurse", at_s=START_S, for_s=60.0)
    service.save()
    with service.database.read() as connection:
        steps = connection.execute("SELECT alert_id, key, step FROM monitor_step ORDER BY number").fetchall()
        bodies = connection.execute("SELECT body FROM audit_outbox ORDER BY seq").fetchall()
    events = [json.loads(str(body)) for (body,) in bodies]
    assert [
        (each["entity"], each["detail"]["key"], each["kind"].removeprefix("monitor.alert."))
        for each in events
    ] == [(f"Alert/{number}", key, step) for number, key, step in steps]
    assert {"raised", "told", "acknowledged", "shelved"} <= {str(step) for _, _, step in steps}
    assert "Secret" not in str(bodies)
    assert {each["agent"] for each in events if each["kind"].endswith("acknowledged")} == {"N"}
    service.close()


def test_a_write_that_fails_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward = Ward(tmp_path)
    ward.live(5)

    def full(_: object) -> object:
        raise StorageError("Not written.", "The disk is full.", "Make room.")

    with monkeypatch.context() as patch:
        patch.setattr(ward.service.database, "write", full)
        for _ in range(60):
            with pytest.raises(StorageError):
                ward.live(1)
    ward.live(1)
    before = state(ward.service)
    ward.kill()
    for name, value in state(ward.service).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    steps = told(ward.service)
    assert len(steps) == len(set(steps)) > 0
    ward.service.close()


def test_ward_is_not_opened_in_another_number_of_parts(tmp_path: Path) -> None:
    open_monitor_database(tmp_path).close()
    with pytest.raises(ConflictError):
        open_monitor_database(tmp_path, parts=16)
