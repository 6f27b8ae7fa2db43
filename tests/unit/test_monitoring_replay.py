"""A real bedside record through the whole monitor: the dead line, and injected crises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from digital_twins import InputError, NotFoundError
from digital_twins.monitoring import (
    AlertStep,
    AssociationLog,
    Intake,
    PatientMonitor,
    Reading,
    replay_numerics,
)

RECORD = "monitor/wfdb/multi-segment/s00001/s00001-2896-10-10-00-31n.hea"
START_S = 1_000_000.0
Change = Callable[[int, dict[str, float]], dict[str, float]]


def replay(header: Path, change: Change | None = None, *, minutes: int = 200) -> list[AlertStep]:
    """Run the record at a step and a tick a second of its own time around each frame."""
    beds = AssociationLog()
    beds.place_device("D", "B", since_s=0.0)
    beds.admit("P", "B", since_s=0.0)
    steps: list[AlertStep] = []
    monitor = PatientMonitor(Intake(beds), capacity=1, record=lambda step, _: steps.append(step))
    for number, reading in enumerate(replay_numerics(header, device="D", start_s=START_S)):
        if number == minutes:
            break
        values = reading.values if change is None else change(number, dict(reading.values))
        assert monitor.intake.offer(
            Reading("D", reading.device_time_s, values, sequence=number), received_s=reading.device_time_s
        )
        monitor.step()
        for second in (0, 5, 10, 20, 40):
            monitor.tick(reading.device_time_s + second)
    return steps


def raised(steps: list[AlertStep]) -> dict[str, float]:
    """First time at which each key was raised, minutes after the start."""
    found: dict[str, float] = {}
    for step in steps:
        if step.step == "raised":
            found.setdefault(step.key, (step.at_s - START_S) / 60)
    return found


@pytest.mark.shared
def test_dead_line_is_lead_off_and_no_hypotension(shared_data: Path) -> None:
    found = raised(replay(shared_data / RECORD))
    assert {"technical:ART_SYS", "technical:ART_DIA", "technical:ART_MEAN"} <= set(found)
    assert not [key for key in found if key.startswith(("art_", "cuff_"))]


@pytest.mark.shared
def test_true_fall_of_the_cuff_pressure_is_raised_within_ten_seconds(shared_data: Path) -> None:
    def fall(number: int, values: dict[str, float]) -> dict[str, float]:
        return values | {"NIBP_SYS": 70.0, "NIBP_DIA": 40.0, "NIBP_MEAN": 50.0} if number == 300 else values

    found = raised(replay(shared_data / RECORD, fall, minutes=302))
    assert -0.001 <= (found["cuff_very_low"] - 300.0) * 60 <= 10.0
    assert -0.001 <= (found["cuff_low"] - 300.0) * 60 <= 10.0


@pytest.mark.shared
def test_asystole_is_raised_within_ten_seconds(shared_data: Path) -> None:
    def stop(number: int, values: dict[str, float]) -> dict[str, float]:
        return values | {"HR": 0.0, "PULSE": 0.0} if number == 250 else values

    found = raised(replay(shared_data / RECORD, stop, minutes=252))
    assert -0.001 <= (found["event:asystole"] - 250.0) * 60 <= 10.0


@pytest.mark.shared
def test_record_is_what_its_bytes_say(shared_data: Path) -> None:
    """Against a second reading of the same bytes by the format's description, frame by frame."""
    folder = (shared_data / RECORD).parent
    raw = np.fromfile(folder / "3975656n.dat", "<i2").reshape(-1, 10)
    frames = list(replay_numerics(shared_data / RECORD, device="D", start_s=0.0))
    assert len(frames) == 1936
    assert frames[100].device_time_s == pytest.approx(6000.0, rel=1e-6)
    assert frames[100].values["HR"] == raw[100, 0] / 10
    assert sum("NIBP_SYS" in frame.values for frame in frames) == 152


def test_records_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        next(replay_numerics(tmp_path / "none.hea", device="D", start_s=0.0))
    bad = tmp_path / "bad.hea"
    for text in ("", "r 1 1\nx.dat 212 10 16 0 0 0 0 HR\n", "r x 1\n"):
        bad.write_text(text, encoding="ascii")
        with pytest.raises(InputError):
            next(replay_numerics(bad, device="D", start_s=0.0))
