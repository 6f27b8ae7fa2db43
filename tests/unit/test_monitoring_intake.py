"""Every reading lands on the right patient, once, or is counted as what it is."""

from __future__ import annotations

import numpy as np
import pytest

from digital_twins import ConflictError, InputError, NotFoundError
from digital_twins.monitoring import (
    COLUMN,
    AssociationLog,
    Intake,
    PatientMonitor,
    Quality,
    Reading,
    in_unit,
    load_profiles,
    vital,
)


def ward(**options: object) -> PatientMonitor:
    beds = AssociationLog()
    for n in (1, 2):
        beds.place_device(f"D{n}", f"B{n}", since_s=0.0)
        beds.admit(f"P{n}", f"B{n}", since_s=0.0)
    return PatientMonitor(Intake(beds, **options), capacity=4)


def send(
    monitor: PatientMonitor, device: str, time_s: float, heart: float, *, at_s: float | None = None
) -> None:
    reading = Reading(device, time_s, {"HR": heart})
    assert monitor.intake.offer(reading, received_s=time_s if at_s is None else at_s)


def hearts(monitor: PatientMonitor, patient: str) -> list[float]:
    return monitor.ring.read(monitor.row_of(patient))[1][:, COLUMN["HR"]].tolist()


def test_samples_carry_unit_times_and_quality() -> None:
    first, second = Reading("D", 5.0, {"HR": 70.0, "TEMP": float("nan")}).samples(
        patient="P", receive_time_s=6.0
    )
    assert (first.code, first.unit, first.device_time_s, first.receive_time_s) == ("HR", "/min", 5.0, 6.0)
    assert (first.quality, second.quality) == (Quality.GOOD, Quality.MISSING)
    with pytest.raises(NotFoundError):
        vital("PAIN")


def test_units_are_converted_or_refused() -> None:
    assert in_unit(98.6, "[degF]", "Cel") == pytest.approx(37.0)
    assert in_unit(16.0, "kPa", "mm[Hg]") == pytest.approx(120.01, abs=0.01)
    assert in_unit(72.0, "264864", "/min") == 72.0
    assert in_unit(0.4, "1", "%") == 40.0
    with pytest.raises(InputError):
        in_unit(1.0, "mm[Hg]", "Cel")


def test_transfer_swap_and_discharge_in_mid_stream() -> None:
    monitor = ward()
    beds = monitor.intake.associations
    beds.swap("B1", "B2", since_s=100.0)
    beds.transfer("P1", "B3", since_s=200.0)
    beds.discharge("B1", since_s=300.0)
    rng = np.random.default_rng(1)
    order = rng.permutation(400)  # whatever order they arrive in
    for second in order:
        send(monitor, "D1", float(second), 61.0, at_s=500.0)
        send(monitor, "D2", float(second), 82.0, at_s=500.0)
    monitor.step()
    assert hearts(monitor, "P1") == [61.0] * 100 + [82.0] * 100
    assert hearts(monitor, "P2") == [82.0] * 100 + [61.0] * 200
    assert monitor.intake.counts["quarantined"] == 100 + 200
    assert monitor.intake.counts["late"] == 0


def test_association_that_is_told_late_frees_the_quarantine() -> None:
    monitor = ward()
    send(monitor, "D9", 10.0, 70.0)
    monitor.step()
    assert monitor.intake.quarantined == 1
    monitor.intake.associations.place_device("D9", "B1", since_s=5.0)
    assert monitor.intake.release() == 1
    monitor.step()
    assert hearts(monitor, "P1") == [70.0]


def test_two_patients_in_two_beds_at_once_are_refused() -> None:
    with pytest.raises(ConflictError):
        ward().intake.associations.admit("P1", "B2", since_s=10.0)


def test_duplicate_late_skewed_unauthorised_and_refused_are_counted() -> None:
    monitor = ward(devices={"D1"}, limit=4)
    for time_s in (1.0, 1.0, 5.0, 3.0):
        send(monitor, "D1", time_s, 70.0)
    send(monitor, "D2", 1.0, 70.0)
    send(monitor, "D1", 5000.0, 71.0, at_s=6.0)
    assert monitor.intake.clock_offset_s("D1") == -4994.0
    assert not monitor.intake.offer(Reading("D1", 7.0, {}), received_s=7.0)
    monitor.step()
    assert hearts(monitor, "P1") == [70.0, 70.0, 70.0, 71.0]
    assert monitor.trend.time_s[monitor.row_of("P1")] == 6.0
    send(monitor, "D1", 4.0, 70.0)
    monitor.step()
    expected = {
        "accepted": 5,
        "duplicate": 1,
        "out-of-order": 2,
        "skewed": 1,
        "unauthorised": 1,
        "refused": 1,
    }
    assert {key: monitor.intake.counts[key] for key in expected} == expected
    assert monitor.intake.counts["late"] == 1


def test_next_patient_in_a_row_starts_from_nothing() -> None:
    monitor = ward()
    send(monitor, "D1", 1.0, 70.0)
    monitor.step()
    row = monitor.row_of("P1")
    monitor.discharge("P1", at_s=2.0)
    send(monitor, "D1", 1.5, 75.0)
    monitor.step()
    assert monitor.intake.counts["after-discharge"] == 1
    send(monitor, "D2", 3.0, 90.0)
    monitor.step()
    assert monitor.row_of("P2") == row
    assert monitor.trend.level[row, COLUMN["HR"]] == 90.0
    assert hearts(monitor, "P2") == [90.0]
    with pytest.raises(NotFoundError):
        monitor.row_of("P1")


def test_full_monitor_says_so() -> None:
    monitor = ward()
    for number in range(4):
        monitor._row(f"X{number}")
    with pytest.raises(ConflictError):
        monitor._row("X9")


def test_device_alarm_is_raised_even_late_and_cannot_be_filtered() -> None:
    monitor = ward()
    send(monitor, "D1", 10.0, 70.0)
    monitor.step()
    for number, event in enumerate(("vf", "battery empty")):
        late = Reading("D1", 2.0 + number, {}, events=(event,))
        assert monitor.intake.offer(late, received_s=11.0)
    monitor.step()
    assert [each.key for each in monitor.alerts.open_alerts()] == ["event:vf", "event:battery empty"]


def test_profile_gives_scale_limits_and_body() -> None:
    monitor = ward()
    for profile in load_profiles():
        monitor.describe(profile)
    row = monitor.row_of("VIRTUAL-2")
    assert monitor.spo2_scale[row] == 2
    assert monitor.twin.oxygen_fraction[row] == 0.28
    assert monitor.conditions.limit[row].min() <= 35


def test_tile_shows_blank_for_a_stale_value() -> None:
    monitor = ward()
    send(monitor, "D1", 0.0, 70.0)
    monitor.step()
    assert monitor.view("P1", now_s=10.0)["vitals"]["HR"] == 70.0
    monitor.tick(40.0)
    tile = monitor.view("P1", now_s=40.0)
    assert tile["vitals"]["HR"] is None
    assert tile["status"] == "normal"
    assert [each["text"] for each in tile["alerts"]] == ["Heart rate: no signal"]
