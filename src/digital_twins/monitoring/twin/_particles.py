"""A bootstrap particle filter over the same physiology, for patients whose belief is not normal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from digital_twins.monitoring.twin._live_twin import LONGEST_GAP_S, READING_SD, START_SD, STEP_SD
from digital_twins.monitoring.twin._physiology import (
    SIZE,
    Body,
    Inputs,
    advance,
    observe,
    resting_state,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def systematic_rows(weights: Floats, first: Floats) -> NDArray[np.intp]:
    """Return which particle each new one copies, by systematic resampling, [patient, particle].

    Parameters
    ----------
    weights
        [patient, particle]; each row sums to one.
    first
        Place of the first pointer in 0 to 1, [patient].
    """
    count = weights.shape[1]
    edges = np.cumsum(weights, axis=1)
    edges[:, -1] = 1.0
    pointers = (first[:, None] + np.arange(count)) / count
    shifted = edges + np.arange(len(edges))[:, None]  # one sorted line for all patients
    flat = np.searchsorted(shifted.ravel(), (pointers + np.arange(len(edges))[:, None]).ravel(), side="right")
    rows: NDArray[np.intp] = (flat.reshape(pointers.shape) % count).astype(np.intp)
    return rows


class ParticleTwin:
    """Particles of `count` patients: states [SIZE, count, particles] and weights [count, particles].

    Gordon, Salmond and Smith 1993 (doi:10.1049/ip-f-2.1993.0015). Resampled where the effective number of
    particles is under half.

    Parameters
    ----------
    bodies
        As for `LiveTwin`; arrays [count] or numbers.
    count, particles
        Sizes.
    seed
        The same seed and readings give the same particles.
    """

    def __init__(self, bodies: Body, count: int, *, particles: int = 500, seed: int = 0) -> None:
        names = bodies.__dataclass_fields__
        self.bodies = Body(
            **{name: np.broadcast_to(getattr(bodies, name), count)[:, None].copy() for name in names}
        )
        self._rng = np.random.default_rng(seed)
        rest = np.empty((SIZE, count, 1))
        for row in range(count):
            own = Body(**{name: float(getattr(self.bodies, name)[row, 0]) for name in names})
            rest[:, row] = resting_state(own, 1)
        noise = self._rng.standard_normal((SIZE, count, particles))
        self.states = rest + START_SD[:, None, None] * noise
        self.weights = np.full((count, particles), 1.0 / particles)
        self.oxygen_fraction = np.full((count, 1), 0.21)
        self.time_s = np.full(count, np.nan)

    def step(self, time_s: Floats, readings: Floats) -> Floats:
        """Carry all patients to their times, weigh by the readings, and return the log likelihoods [count].

        Parameters
        ----------
        time_s
            [count].
        readings
            [count, 7] as `measured` returns; NaN where there is none.
        """
        dt = np.where(np.isnan(self.time_s), 0.0, np.clip(time_s - self.time_s, 0.0, LONGEST_GAP_S))[:, None]
        moved = advance(self.states, self.bodies, Inputs(self.oxygen_fraction), dt_s=dt)
        noise = self._rng.standard_normal(moved.shape)
        self.states = moved + STEP_SD[:, None, None] * np.sqrt(dt) * noise
        off = (readings.T[:, :, None] - observe(self.states, self.bodies)) / READING_SD[:, None, None]
        fit = -0.5 * np.nansum(off * off, axis=0) + np.log(np.maximum(self.weights, 1e-300))
        best = fit.max(axis=1, keepdims=True)
        raw = np.exp(fit - best)
        total = raw.sum(axis=1, keepdims=True)
        self.weights = raw / total
        constant = np.isfinite(readings) @ -np.log(READING_SD * np.sqrt(2 * np.pi))
        self._resample()
        self.time_s = np.array(time_s, dtype=np.float64)
        evidence: Floats = best[:, 0] + np.log(total[:, 0]) + constant
        return evidence

    def mean(self) -> Floats:
        """Return the weighted means, [count, SIZE]."""
        means: Floats = np.einsum("sck,ck->cs", self.states, self.weights)
        return means

    def _resample(self) -> None:
        poor = np.flatnonzero(1.0 / (self.weights**2).sum(axis=1) < self.weights.shape[1] / 2)
        if not len(poor):
            return
        chosen = systematic_rows(self.weights[poor], self._rng.random(len(poor)))
        self.states[:, poor] = np.take_along_axis(self.states[:, poor], chosen[None], axis=2)
        self.weights[poor] = 1.0 / self.weights.shape[1]
