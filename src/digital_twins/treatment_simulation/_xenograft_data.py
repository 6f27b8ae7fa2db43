"""What is known of a treated xenograft study: mice, doses and plasma samples as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class XenograftMouse:
    """Tumour volumes of one mouse.

    ``days`` and ``volume_cm3`` are equal in length, the first reading on day 0; ``doses`` holds
    ``(day, mg per kg)`` of each oral dose.
    """

    mouse: str
    arm: str
    days: tuple[float, ...]
    volume_cm3: tuple[float, ...]
    doses: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class PlasmaSample:
    """One plasma concentration in mg/L on a day, with the doses ``(day, mg per kg)`` of that mouse."""

    day: float
    concentration_mg_l: float
    doses: tuple[tuple[float, float], ...]
    arm: str


def check_mice(mice: Sequence[XenograftMouse]) -> None:
    """Refuse readings that the model cannot use.

    Raises
    ------
    InputError
        When there are no mice, a mouse has no positive volume on day 0, or a reading is not finite.
    """
    if not mice:
        raise InputError("There are no mice.", "A forecast needs some.", "Pass at least one mouse.")
    for mouse in mice:
        days, volumes = np.asarray(mouse.days), np.asarray(mouse.volume_cm3)
        ordered = days.size == volumes.size > 1 and days[0] == 0 and bool(np.all(np.diff(days) > 0))
        if not ordered or not np.all(np.isfinite(volumes)) or np.any(volumes < 0) or volumes[0] <= 0:
            raise InputError(
                "The readings of a mouse cannot be used.",
                "Each needs a positive volume on day 0, then later days with finite volumes >= 0.",
                "Leave the mouse out or correct its readings.",
            )


def readings(
    mice: Sequence[XenograftMouse],
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Return mouse index, day and volume of every reading, flat."""
    index = np.concatenate([np.full(len(m.days), i) for i, m in enumerate(mice)]).astype(np.intp)
    days = np.concatenate([np.asarray(m.days, dtype=np.float64) for m in mice])
    return index, days, np.concatenate([np.asarray(m.volume_cm3, dtype=np.float64) for m in mice])
