"""What would happen: the twin's own model run ahead, with and without an action, over its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from digital_twins._errors import InputError
from digital_twins.calibration import covariance_root
from digital_twins.monitoring.twin._live_twin import STEP_SD
from digital_twins.monitoring.twin._physiology import OBSERVED, SIZE, Inputs, advance, observe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from digital_twins.monitoring.twin._live_twin import LiveTwin

    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Action:
    """What might be done.

    Attributes
    ----------
    fluid_ml, fluid_minutes
        A fluid bolus, and how long it runs.
    vasopressor
        Factor on the vascular resistance; 1: none. A model input, no dose of a drug.
    oxygen_fraction
        Of the inspired gas; None: as it is.
    """

    fluid_ml: float = 0.0
    fluid_minutes: float = 15.0
    vasopressor: float = 1.0
    oxygen_fraction: float | None = None


@dataclass(frozen=True, eq=False)
class Outlook:
    """Predicted vital signs of one patient; each array [time, 7] as `OBSERVED`.

    Attributes
    ----------
    minutes
        After now, [time].
    median, low, high
        Over the twin's uncertainty; low and high are the 5 % and 95 % points of what would be read without
        the noise of the reading.
    """

    minutes: Floats
    median: Floats
    low: Floats
    high: Floats

    def to_dict(self) -> dict[str, object]:
        """Return lists for JSON; keys as in `OBSERVED`."""
        return {
            "minutes": self.minutes.tolist(),
            **{
                name: {
                    "median": self.median[:, n].tolist(),
                    "low": self.low[:, n].tolist(),
                    "high": self.high[:, n].tolist(),
                }
                for n, name in enumerate(OBSERVED)
            },
            "note": "Simulated by a model. Research use only: no advice to treat.",
        }


def outlook(
    twin: LiveTwin,
    row: int,
    *,
    action: Action | None = None,
    minutes: int = 30,
    samples: int = 200,
    seed: int = 0,
) -> Outlook:
    """Predict the next minutes of a patient, with an action or without.

    Parameters
    ----------
    twin, row
        The belief to start from.
    action
        What is done from now on; None: nothing new.
    minutes
        How far, one point a minute.
    samples
        Draws from the belief; each takes the same random course with and without an action of one seed.
    seed
        Of the draws.

    Raises
    ------
    InputError
        The action lies outside of what the model can say: fluid 0 to 3000 ml over 1 to 240 minutes,
        vasopressor 0.5 to 3, oxygen 0.21 to 1.
    """
    act = action or Action()
    oxygen = float(twin.oxygen_fraction[row]) if act.oxygen_fraction is None else act.oxygen_fraction
    _check(act, oxygen)
    rng = np.random.default_rng(seed)
    body = twin.bodies.rows(np.array([row]))
    root = covariance_root((twin.covariance[row] + twin.covariance[row].T) / 2)
    state = twin.mean[row][:, None] + root @ rng.standard_normal((SIZE, samples))
    seen = [observe(state, body)]
    for minute in range(minutes):
        running = minute < act.fluid_minutes
        flow = act.fluid_ml / act.fluid_minutes if running else 0.0
        inputs = Inputs(oxygen, flow, act.vasopressor)
        state = advance(state, body, inputs, dt_s=60.0)
        state = state + (STEP_SD * np.sqrt(60.0))[:, None] * rng.standard_normal(state.shape)
        seen.append(observe(state, body))
    low, median, high = np.quantile(np.array(seen), [0.05, 0.5, 0.95], axis=2)
    return Outlook(np.arange(minutes + 1.0), median, low, high)


def _check(act: Action, oxygen: float) -> None:
    ranges = (
        ("fluid_ml", act.fluid_ml, 0.0, 3000.0),
        ("fluid_minutes", act.fluid_minutes, 1.0, 240.0),
        ("vasopressor", act.vasopressor, 0.5, 3.0),
        ("oxygen_fraction", oxygen, 0.21, 1.0),
    )
    for name, value, low, high in ranges:
        if not low <= value <= high:
            raise InputError(
                "The action cannot be simulated.",
                f"{name} is outside of {low:g} to {high:g}.",
                "Choose a value within the range.",
            )
