"""One value of one vital sign, and one message of a device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import msgspec

from digital_twins.monitoring.signals._vitals import vital

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Quality(IntEnum):
    """What the checks found about a value; any but GOOD blanks it."""

    GOOD = 0
    LEAD_OFF = 1
    OUT_OF_RANGE = 2
    TOO_FAST = 3
    FLAT = 4
    STALE = 5
    CONTRADICTED = 6
    MISSING = 7


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one vital sign.

    Attributes
    ----------
    device
        Who measured it.
    patient
        Whose it is; None while no association names one.
    code
        A code of `VITALS`.
    value
        In `unit`.
    unit
        UCUM unit.
    device_time_s, receive_time_s
        Seconds since 1970 UTC: by the device's clock, and when it arrived.
    quality
        What the checks found.
    """

    device: str
    patient: str | None
    code: str
    value: float
    unit: str
    device_time_s: float
    receive_time_s: float
    quality: Quality = Quality.GOOD


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What a device says at one moment.

    Attributes
    ----------
    device
        Who speaks; the transport has made sure of it.
    device_time_s
        Seconds since 1970 UTC by the device's clock.
    values
        Code of `VITALS` to value in the table's unit.
    events
        Alarms of the device itself, such as ``"asystole"``.
    sequence
        Counter of the device, to find duplicates; -1: it has none.
    """

    device: str
    device_time_s: float
    values: Mapping[str, float]
    events: tuple[str, ...] = ()
    sequence: int = -1

    def samples(self, *, patient: str | None, receive_time_s: float) -> Iterator[Sample]:
        """Yield one `Sample` a value; values that are no numbers have the quality MISSING."""
        for code, value in self.values.items():
            yield Sample(
                self.device,
                patient,
                code,
                value,
                vital(code).unit,
                self.device_time_s,
                receive_time_s,
                Quality.GOOD if math.isfinite(value) else Quality.MISSING,
            )
