"""The demonstration: three virtual patients at a three-second rhythm, one deteriorating, then a record."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins.monitoring.alerts import SIGNALS
from digital_twins.monitoring.detection import AnomalyDetector
from digital_twins.monitoring.engine._monitor import PatientMonitor
from digital_twins.monitoring.ingest import Intake
from digital_twins.monitoring.signals import COLUMN, VITALS, AssociationLog, Reading, Waveforms
from digital_twins.monitoring.simulation import (
    PatientProfile,
    SimulatedWaveforms,
    SyntheticPatients,
    load_profiles,
    replay_numerics,
)
from digital_twins.monitoring.twin import Body

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from digital_twins.monitoring.alerts import Thresholds
    from digital_twins.monitoring.signals import Association
    from digital_twins.monitoring.storage import History

INTERVAL_S = 3.0
"""Seconds between the readings of a virtual patient."""
_AHEAD_S = 900.0
_REPLAY_TICKS_S = (0.0, 10.0, 20.0)


class VirtualWard:
    """Virtual patients and the monitor that watches them, on a clock of its own. All data are simulated.

    Parameters
    ----------
    profiles
        Who lies there; the three bundled profiles if not given.
    thresholds
        Alert rules; the bundled ones if not given.
    seed
        Of the generator.

    Attributes
    ----------
    now_s
        Time of the ward, seconds since its start.
    """

    synthetic = True
    history: History | None = None
    """Nothing of it is kept."""

    def __init__(
        self,
        profiles: Sequence[PatientProfile] | None = None,
        *,
        thresholds: Thresholds | None = None,
        seed: int = 0,
    ) -> None:
        self.profiles = list(load_profiles() if profiles is None else profiles)
        names = Body.__dataclass_fields__
        bodies = Body(**{n: np.array([getattr(each.body, n) for each in self.profiles]) for n in names})
        self.patients = SyntheticPatients(
            bodies,
            [each.scenario for each in self.profiles],
            onset_s=np.array([each.onset_s for each in self.profiles]),
            oxygen_fraction=np.array([each.oxygen_fraction for each in self.profiles]),
            seed=seed,
        )
        beds = AssociationLog()
        detectors = (AnomalyDetector("isolation_forest"), AnomalyDetector("one_class_svm"))
        self.intake, self.waveforms = Intake(beds), Waveforms(beds)
        self._drawn = [SimulatedWaveforms(seed + number) for number in range(len(self.profiles))]
        self.monitor = PatientMonitor(
            self.intake, capacity=len(self.profiles), thresholds=thresholds, detectors=detectors
        )
        for number, each in enumerate(self.profiles):
            beds.place_device(f"SIM-{number}", each.bed, since_s=0.0)
            beds.admit(each.patient, each.bed, since_s=0.0)
            self.monitor.describe(each)
        self.now_s = 0.0

    def clock(self) -> float:
        """Return the ward's time."""
        return self.now_s

    def associate(self, entry: Association) -> None:
        """Place a device or a patient otherwise."""
        self.intake.associations.apply(entry)
        self.intake.release()

    async def durable(self) -> None:
        """Keep nothing: the ward lives as long as its process."""

    def step(self) -> None:
        """Let three seconds pass: one reading of each patient through the monitor."""
        self.now_s += INTERVAL_S
        values = self.patients.step(INTERVAL_S)
        events = self.patients.events(INTERVAL_S)
        for number in range(len(self.profiles)):
            known = {
                each.code: float(values[number, n])
                for n, each in enumerate(VITALS)
                if np.isfinite(values[number, n])
            }
            sent = (events[number],) if number in events else ()
            reading = Reading(f"SIM-{number}", self.now_s, {**known, "ACVPU": 0.0}, sent)
            self.monitor.intake.offer(reading, received_s=self.now_s)
            for piece in self._drawn[number].piece(self.now_s - INTERVAL_S, INTERVAL_S, known):
                self.waveforms.offer(reading.device, piece, received_s=self.now_s)
        self.monitor.step()
        self.monitor.tick(self.now_s)

    def view(self) -> list[dict[str, Any]]:
        """Return a tile a patient, with condition, anomaly scores and the forecast of 15 minutes."""
        mean, low, high = self.monitor.trend.forecast(_AHEAD_S, baseline=self.monitor.baseline.mean)
        tiles = []
        for each in self.profiles:
            row = self.monitor.row_of(each.patient)
            forecast = {
                code: {
                    "mean": round(float(mean[row, COLUMN[code]]), 1),
                    "low": round(float(low[row, COLUMN[code]]), 1),
                    "high": round(float(high[row, COLUMN[code]]), 1),
                }
                for code in ("HR", "ART_MEAN", "SPO2", "RR")
            }
            anomaly = self.monitor.anomaly[row]
            tiles.append(
                {
                    **self.monitor.view(each.patient, now_s=self.now_s),
                    "condition": each.condition,
                    "forecast_15_min": forecast,
                    "isolation_forest": round(float(anomaly[SIGNALS["ANOMALY_FOREST"]]), 2),
                    "one_class_svm": round(float(anomaly[SIGNALS["ANOMALY_SVM"]]), 2),
                }
            )
        return tiles


def replay_record(header: Path | None = None) -> Iterator[tuple[float, PatientMonitor]]:
    """Play a numerics record through a monitor of its own; yield minutes since its start and the monitor.

    Parameters
    ----------
    header
        A WFDB header as for `replay_numerics`; without it the bundled record, which is simulated.
    """
    with as_file(files("digital_twins.monitoring").joinpath("data")) as folder:
        beds = AssociationLog()
        beds.place_device("REPLAY", "BED", since_s=0.0)
        beds.admit("RECORD", "BED", since_s=0.0)
        monitor = PatientMonitor(Intake(beds), capacity=1)
        path = folder / "simulated_icu.hea" if header is None else header
        for reading in replay_numerics(path, device="REPLAY", start_s=0.0):
            monitor.intake.offer(reading, received_s=reading.device_time_s)
            monitor.step()
            for after_s in _REPLAY_TICKS_S:
                monitor.tick(reading.device_time_s + after_s)
            yield reading.device_time_s / 60.0, monitor
