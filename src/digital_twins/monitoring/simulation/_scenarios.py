"""Scenarios: how a crisis moves the parameters and inputs of the physiology, and what monitors show of it.

Everything that comes from here is simulated and labelled so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from digital_twins._errors import NotFoundError
from digital_twins.monitoring.signals import COLUMN, VITALS
from digital_twins.monitoring.twin import READING_SD, Body, Inputs, advance, observe, resting_state

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A course of illness; all numbers are choices of this project, not fitted to patients.

    Attributes
    ----------
    name
        What a person reads.
    shifts
        Place in `SLOW` to the shift at full strength.
    fluid_ml_per_min
        Bleeding or leak at full strength.
    ramp_s
        Time from onset to full strength.
    event, event_after_s
        An alarm that the device itself sends, and how long after the onset.
    heart_noise
        Relative irregularity of the heart rate at full strength.
    """

    name: str
    shifts: Mapping[int, float] = field(default_factory=dict)
    fluid_ml_per_min: float = 0.0
    ramp_s: float = 600.0
    event: str = ""
    event_after_s: float = 0.0
    heart_noise: float = 0.0


SCENARIOS: dict[str, Scenario] = {
    "stable": Scenario("stable"),
    "copd": Scenario("chronic lung disease", {1: 1.4, 2: -0.15}, ramp_s=1.0),
    "sepsis": Scenario("septic shock", {0: -1.5, 1: 2.0, 2: 2.2, 3: 2.3}, fluid_ml_per_min=-30, ramp_s=900),
    "haemorrhage": Scenario("haemorrhage", fluid_ml_per_min=-80.0, ramp_s=30.0),
    "hypoxia": Scenario("acute hypoxia", {1: 2.4}, ramp_s=300.0),
    "opioid": Scenario("opioid overdose", {0: -0.15, 2: -1.9, 4: -0.2}, ramp_s=300.0),
    "arrhythmia": Scenario(
        "ventricular tachycardia",
        {0: -0.3, 4: 0.85},
        ramp_s=10.0,
        event="vt",
        event_after_s=10.0,
        heart_noise=0.06,
    ),
}
"""Every scenario by its key."""

_DEEPEST_ML = 2200.0  # a bleeding ends there: less blood than that no model here describes


class SyntheticPatients:
    """A generator of vital signs of virtual patients: simulated, seeded, one step at a time.

    Parameters
    ----------
    bodies
        Arrays [patient] or numbers.
    scenarios
        A key of `SCENARIOS` a patient.
    onset_s
        When each begins, seconds after the start.
    oxygen_fraction
        Of each patient's inspired gas.
    seed
        The same seed gives the same vital signs.

    Raises
    ------
    NotFoundError
        A scenario is not known.
    """

    synthetic = True

    def __init__(
        self,
        bodies: Body,
        scenarios: list[str],
        *,
        onset_s: Floats | None = None,
        oxygen_fraction: Floats | float = 0.21,
        seed: int = 0,
    ) -> None:
        unknown = sorted(set(scenarios) - set(SCENARIOS))
        if unknown:
            raise NotFoundError(
                "The scenario is not known.", "It has no key.", f"Use {', '.join(SCENARIOS)}."
            )
        self.scenarios = [SCENARIOS[name] for name in scenarios]
        count = len(scenarios)
        names = bodies.__dataclass_fields__
        self.bodies = Body(**{n: np.broadcast_to(getattr(bodies, n), count).copy() for n in names})
        self.onset_s = np.zeros(count) if onset_s is None else np.asarray(onset_s, dtype=np.float64)
        self.oxygen_fraction = np.broadcast_to(oxygen_fraction, count).copy()
        self.vasopressor, self.fluid_ml_per_min = np.ones(count), np.zeros(count)
        self.state = np.concatenate(
            [resting_state(self.bodies.rows(np.array([row])), 1) for row in range(count)], axis=1
        )
        self._rest = self.state.copy()
        self._rng = np.random.default_rng(seed)
        self._shift = np.zeros((5, count))
        for number, scenario in enumerate(self.scenarios):
            for place, value in scenario.shifts.items():
                self._shift[place, number] = value
        self._ramp = np.array([each.ramp_s for each in self.scenarios])
        self._flow = np.array([each.fluid_ml_per_min for each in self.scenarios])
        self.time_s = 0.0

    def step(self, dt_s: float) -> Floats:
        """Advance and return what monitors would show, [patient, vital]; NaN: not measured."""
        self.time_s += dt_s
        strength = np.clip((self.time_s - self.onset_s) / self._ramp, 0.0, 1.0)
        self.state[8:] = self._rest[8:] + strength * self._shift
        left = self.state[3] > _DEEPEST_ML
        flow = np.where(left, strength * self._flow, 0.0) + self.fluid_ml_per_min
        inputs = Inputs(self.oxygen_fraction, flow, self.vasopressor)
        self.state = advance(self.state, self.bodies, inputs, dt_s=dt_s)
        return self._shown(strength)

    def events(self, dt_s: float) -> dict[int, str]:
        """Return the alarms that devices sent in the last `dt_s` seconds, by patient."""
        return {
            row: scenario.event
            for row, scenario in enumerate(self.scenarios)
            if scenario.event and 0 <= self.time_s - self.onset_s[row] - scenario.event_after_s < dt_s - 1e-9
        }

    def _shown(self, strength: Floats) -> Floats:
        seen = observe(self.state, self.bodies)
        sd = np.array(READING_SD)[:, None] * 0.5
        seen = seen + sd * self._rng.standard_normal(seen.shape)
        wild = strength * np.array([each.heart_noise for each in self.scenarios])
        seen[0] *= 1.0 + wild * self._rng.standard_normal(seen.shape[1])
        out = np.full((seen.shape[1], len(VITALS)), np.nan)
        for place, codes in enumerate(
            (("HR", "PULSE"), ("ART_MEAN",), ("ART_SYS",), ("ART_DIA",), ("SPO2",), ("RR",), ("TEMP",))
        ):
            for code in codes:
                out[:, COLUMN[code]] = seen[place]
        out[:, COLUMN["SPO2"]] = np.minimum(out[:, COLUMN["SPO2"]], 100.0)
        out[:, COLUMN["RR"]] = np.maximum(out[:, COLUMN["RR"]], 0.0)
        out[:, COLUMN["FIO2"]] = self.oxygen_fraction * 100.0
        return np.round(out, 1)
