"""Times of an event over an ensemble, some of them not reached by the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class EventTimes:
    """Days from a start to an event, one a member of the ensemble.

    All members are followed to the same end, so that the share without the event is known at any time before
    it, and no estimator for random censoring is needed.

    Attributes
    ----------
    days
        Days from the start; NaN where the event did not come by the end.
    followed_days
        Days from the start to the end.
    """

    days: NDArray[np.float64]
    followed_days: float

    @property
    def censored(self) -> int:
        """Members without the event by the end."""
        return int(np.isnan(self.days).sum())

    def probability_by(self, day: float) -> float:
        """Share of members with the event by a day.

        Raises
        ------
        InputError
            When the day lies after the end.
        """
        if day > self.followed_days + 1e-9:
            raise InputError(
                f"The simulation does not reach day {day:g}.",
                f"It follows the tumour for {self.followed_days:g} days.",
                "Simulate a longer horizon.",
            )
        return float(np.mean(self.days <= day))

    def quantile(self, share: float) -> float | None:
        """Day by which a share of the members have the event; None when it lies after the end."""
        reached = np.sort(np.where(np.isnan(self.days), np.inf, self.days))
        value = reached[min(int(np.ceil(share * reached.size)) - 1, reached.size - 1)] if share > 0 else 0.0
        return None if np.isinf(value) else float(value)

    @property
    def median(self) -> float | None:
        """Day by which half of the members have the event; None when it lies after the end."""
        return self.quantile(0.5)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain data for JSON."""
        return {
            "median_days": self.median,
            "low_days": self.quantile(0.025),
            "high_days": self.quantile(0.975),
            "followed_days": self.followed_days,
            "share_without_event": self.censored / self.days.size,
        }


def first_crossing(days: NDArray[np.float64], above: NDArray[np.bool_]) -> NDArray[np.float64]:
    """First of ``days`` on which each row [member, day] is true; NaN where none is."""
    first = above.argmax(axis=1)
    return np.where(above.any(axis=1), days[first], np.nan)
