"""Many readings as columns: what the hot path carries instead of an object a message."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import repeat
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from digital_twins.monitoring.signals._sample import Reading
from digital_twins.monitoring.signals._vitals import COLUMN, VITALS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_CODES = tuple(COLUMN)
_LARGEST = 2**63


@dataclass(eq=False, slots=True)
class Batch:
    """Readings in the order in which they came, one a row.

    Attributes
    ----------
    devices
        Who speaks; the transport has made sure of it.
    device_time_s
        Seconds since 1970 UTC by the device's clock, [row].
    sequence
        Counter of the device; -1: it has none, [row].
    values
        In the units of `VITALS`, [row, vital]; NaN where the device said nothing.
    events
        Alarms of the device itself, by row; most rows have none.
    """

    devices: list[str]
    device_time_s: Floats
    sequence: NDArray[np.int64]
    values: Floats
    events: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, readings: Sequence[Reading]) -> Batch:
        """Return readings in this form; unknown codes are left out."""
        return cls(
            [each.device for each in readings],
            np.array([each.device_time_s for each in readings], dtype=np.float64),
            np.array([whole(each.sequence) for each in readings], dtype=np.int64),
            table_of([each.values for each in readings]),
            {row: each.events for row, each in enumerate(readings) if each.events},
        )

    def __len__(self) -> int:
        """Return how many readings it holds."""
        return len(self.devices)

    def reading(self, row: int) -> Reading:
        """Return one row as a `Reading`."""
        return Reading(
            self.devices[row],
            float(self.device_time_s[row]),
            values_of(self.values[row]),
            self.events.get(row, ()),
            int(self.sequence[row]),
        )

    def rows(self, chosen: NDArray[np.intp]) -> Batch:
        """Return some rows, in the order asked for."""
        places = chosen.tolist()
        events = {n: self.events[row] for n, row in enumerate(places) if row in self.events}
        return Batch(
            [self.devices[row] for row in places],
            self.device_time_s[chosen],
            self.sequence[chosen],
            self.values[chosen],
            events if self.events else {},
        )


def whole(number: int) -> int:
    """Return a counter that 64 bits hold; another one's hash, which is as good for finding duplicates."""
    return number if -_LARGEST <= number < _LARGEST else hash(number)


def values_of(row: Floats) -> dict[str, float]:
    """Return what one row of a table holds, by code."""
    return {code: value for code, value in zip(_CODES, row.tolist(), strict=True) if isfinite(value)}


def table_of(readings: Sequence[Mapping[str, float]]) -> Floats:
    """Return the values of readings, [row, vital]; unknown codes are left out."""
    codes: list[str] = []
    values: list[float] = []
    sizes: list[int] = []
    for each in readings:
        codes.extend(each)
        values.extend(each.values())
        sizes.append(len(each))
    table = np.full((len(readings), len(VITALS) + 1), np.nan)
    columns = np.fromiter(map(COLUMN.get, codes, repeat(len(VITALS))), np.intp, len(codes))
    table[np.repeat(np.arange(len(sizes)), sizes), columns] = values
    return table[:, : len(VITALS)]
