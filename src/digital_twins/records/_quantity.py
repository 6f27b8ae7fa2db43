"""A number with its unit and, where it was not simply read off, its interval."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value with a UCUM unit and an interval.

    Attributes
    ----------
    value
        The value itself: the measured value, the estimate, or the median of a prediction.
    unit
        UCUM unit, e.g. ``"cm3"``, ``"/d"``, ``"%"``.
    low, high
        Limits of the interval, or None for a value that was measured once and has none.
    level
        Probability that the interval covers, 0.95 unless stated.
    """

    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    level: float = 0.95

    @property
    def has_interval(self) -> bool:
        """Whether both limits are known."""
        return self.low is not None and self.high is not None
