"""From messages of devices to readings of patients: who may speak, whose it is, and is it new."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Set as AbstractSet

    from digital_twins.monitoring.signals import AssociationLog, Reading

FUTURE_S = 60.0
"""A device whose clock is further ahead than that is not believed: the time of arrival counts."""
SETTLE_S = 1.0
"""Readings of a patient whose devices speak in several parts wait so long for those that take the detour."""
_REMEMBERED = 64
_RATE_PER_S, _BURST = 20.0, 3600.0  # an hour of readings each second may come late and at once


class Arrival(msgspec.Struct, gc=False):
    """A reading that is somebody's.

    Attributes
    ----------
    patient
        Whose.
    reading
        What the device said.
    time_s
        When it was measured, as far as the device's clock is believed.
    received_s
        When it arrived.
    """

    patient: str
    reading: Reading
    time_s: float
    received_s: float


@dataclass(slots=True)
class _Device:
    seen: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    latest_s: float = float("-inf")
    newest_s: float = float("-inf")
    offset_s: float = 0.0
    patient: str | None = None
    from_s: float = float("inf")
    until_s: float = float("inf")
    changes: int = -1
    away: int | None = None
    room: float = _BURST
    filled_s: float = float("-inf")


class Intake:
    """The door of the monitor.

    Parameters
    ----------
    associations
        Which patient a device speaks of.
    devices
        Who may speak; None: every device that the transport let through.
    limit
        Readings that may wait; more are refused, so the sender or the broker keeps them.
    quarantine
        Readings of nobody that are kept until an association names a patient; the oldest fall out.
    journal
        Called with every reading that is accepted or put aside, and when it arrived.

    A device that floods is cut to twenty readings a second once it has sent an hour's worth at once.

    Attributes
    ----------
    counts
        accepted, duplicate, out-of-order, skewed, quarantined, released, lost-from-quarantine, unauthorised,
        refused, flooded, forwarded.
    elsewhere
        In a divided ward: the part that watches a patient, None for this one.
    forward
        In a divided ward: called with part, reading and arrival for patients of another part.
    spread, settled_s
        Patients with devices in several parts: `take` leaves what arrived after `settled_s` (s), so that
        readings that come a detour fall into their order.
    """

    def __init__(
        self,
        associations: AssociationLog,
        *,
        devices: AbstractSet[str] | None = None,
        limit: int = 200_000,
        quarantine: int = 10_000,
        journal: Callable[[Reading, float], None] | None = None,
    ) -> None:
        self.associations = associations
        self.devices = devices
        self.counts: Counter[str] = Counter()
        self._limit = limit
        self._keep = quarantine
        self.journal = journal
        self.elsewhere: Callable[[str], int | None] | None = None
        self.forward: Callable[[int, Reading, float], None] | None = None
        self.spread: AbstractSet[str] = frozenset()
        self.settled_s = math.inf
        self._known: dict[str, _Device] = {}
        self._waiting: list[Arrival] = []
        self._quarantine: deque[tuple[Reading, float, float]] = deque()

    def offer(self, reading: Reading, *, received_s: float) -> bool:
        """Take a reading; False only when too many wait, so that the sender has to try again."""
        if len(self._waiting) >= self._limit:
            self.counts["refused"] += 1
            return False
        if self.devices is not None and reading.device not in self.devices:
            self.counts["unauthorised"] += 1
            return True
        device = self._known.get(reading.device)
        if device is None:
            device = self._known[reading.device] = _Device()
        if not _has_room(device, received_s):
            self.counts["flooded"] += 1
            return True
        if not _is_new(device, reading):
            self.counts["duplicate"] += 1
            return True
        time_s = self._believed(device, reading.device_time_s, received_s)
        if device.changes != self.associations.changes or not device.from_s <= time_s < device.until_s:
            self._look_up(device, reading.device, time_s)
        patient = device.patient
        if self._sent_on(device.away, reading, received_s):
            return True
        if self.journal is not None:
            self.journal(reading, received_s)
        if patient is None:
            self._put_aside(reading, time_s, received_s)
            return True
        self.counts["accepted"] += 1
        self._waiting.append(Arrival(patient, reading, time_s, received_s))
        return True

    def take(self) -> list[Arrival]:
        """Return what waits, by the time of measurement, and forget it.

        Readings of `spread` patients that arrived after `settled_s` go on waiting.
        """
        waiting, self._waiting = self._waiting, []
        if self.spread:
            held = [
                each for each in waiting if each.patient in self.spread and each.received_s > self.settled_s
            ]
            if held:
                self._waiting = held
                kept = set(map(id, held))
                waiting = [each for each in waiting if id(each) not in kept]
        waiting.sort(key=lambda each: each.time_s)
        return waiting

    def clock_offset_s(self, device: str) -> float:
        """Return how far a device's clock was behind the arrival of its last reading (s)."""
        known = self._known.get(device)
        return known.offset_s if known is not None else 0.0

    def release(self) -> int:
        """Let readings out of quarantine whose patient is known by now; return how many."""
        kept: deque[tuple[Reading, float, float]] = deque()
        released = 0
        for reading, time_s, received_s in self._quarantine:
            patient = self.associations.patient_of(reading.device, time_s)
            away = self._away(patient)
            if patient is None:
                kept.append((reading, time_s, received_s))
                continue
            released += 1
            if not self._sent_on(away, reading, received_s):
                self._waiting.append(Arrival(patient, reading, time_s, received_s))
        self._quarantine = kept
        self.counts["released"] += released
        return released

    @property
    def waiting(self) -> int:
        """Readings that wait for `take`."""
        return len(self._waiting)

    @property
    def quarantined(self) -> int:
        """Readings of nobody that wait for an association."""
        return len(self._quarantine)

    def state(
        self,
    ) -> tuple[dict[str, tuple[list[tuple[int, float]], float, float]], list[tuple[Reading, float, float]]]:
        """Return what a snapshot needs: marks of duplicates by device, and what waits or is in quarantine."""
        marks = {name: (list(each.seen), each.newest_s, each.latest_s) for name, each in self._known.items()}
        waiting = [(each.reading, each.time_s, each.received_s) for each in self._waiting]
        return marks, [*self._quarantine, *waiting]

    def resume(self, devices: Mapping[str, Any], quarantine: Iterable[tuple[Reading, float, float]]) -> None:
        """Take over what `state` returned."""
        for name, (marks, newest_s, latest_s) in devices.items():
            device = self._known[name] = _Device(newest_s=newest_s, latest_s=latest_s)
            device.seen.extend((int(number), float(time_s)) for number, time_s in marks)
        self._quarantine.extend(quarantine)

    def _look_up(self, device: _Device, name: str, time_s: float) -> None:
        device.patient, device.from_s, device.until_s = self.associations.patient_between(name, time_s)
        device.changes = self.associations.changes
        device.away = self._away(device.patient)

    def _sent_on(self, part: int | None, reading: Reading, received_s: float) -> bool:
        """Forward what belongs to another part; return whether it does."""
        if part is None or self.forward is None:
            return False
        self.counts["forwarded"] += 1
        self.forward(part, reading, received_s)
        return True

    def _away(self, patient: str | None) -> int | None:
        return None if patient is None or self.elsewhere is None else self.elsewhere(patient)

    def _believed(self, device: _Device, time_s: float, received_s: float) -> float:
        device.offset_s = received_s - time_s
        if time_s > received_s + 2.0:
            self.counts["skewed"] += 1
            if time_s > received_s + FUTURE_S:
                return received_s
        if time_s < device.newest_s:
            self.counts["out-of-order"] += 1
        else:
            device.newest_s = time_s
        return time_s

    def _put_aside(self, reading: Reading, time_s: float, received_s: float) -> None:
        self.counts["quarantined"] += 1
        self._quarantine.append((reading, time_s, received_s))
        if len(self._quarantine) > self._keep:
            self._quarantine.popleft()
            self.counts["lost-from-quarantine"] += 1


def _is_new(device: _Device, reading: Reading) -> bool:
    """Remember a reading; False for one that came before."""
    mark = (reading.sequence, reading.device_time_s)
    if reading.device_time_s > device.latest_s:
        device.latest_s = reading.device_time_s
    elif mark in device.seen:
        return False
    device.seen.append(mark)
    return True


def _has_room(device: _Device, received_s: float) -> bool:
    """Take one reading out of the device's bucket, which fills again at a steady rate."""
    passed = received_s - device.filled_s
    if passed > 0:
        device.room = min(_BURST, device.room + passed * _RATE_PER_S)
        device.filled_s = received_s
    if device.room < 1.0:
        return False
    device.room -= 1.0
    return True
