"""From messages of devices to readings of patients: who may speak, whose it is, and is it new."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from digital_twins.monitoring.ingest._admission import (
    DUPLICATE,
    FLOODED,
    NEW,
    OFFSET,
    OUT_OF_ORDER,
    SKEWED,
    DeviceTable,
)
from digital_twins.monitoring.signals import Batch, Reading, table_of, values_of, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Set as AbstractSet

    from numpy.typing import NDArray

    from digital_twins.monitoring.signals import AssociationLog

    Floats = NDArray[np.float64]
    Numbers = NDArray[np.int64]
    State = tuple[list[str], dict[str, NDArray[np.float64] | Numbers], list[tuple[Reading, float, float]]]

SETTLE_S = 1.0
"""Readings of a patient whose devices speak in several parts wait so long for those that take the detour."""
_FOUND = ((FLOODED, "flooded"), (DUPLICATE, "duplicate"))


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


@dataclass(eq=False, slots=True)
class Arrivals:
    """Readings that are somebody's, as columns.

    Attributes
    ----------
    patient
        Number of the patient in `Intake.patients`, [row].
    time_s, received_s
        As in `Arrival`, [row].
    values
        [row, vital]; NaN where the device said nothing.
    events
        Alarms of the device itself, by row.
    device, device_time_s, sequence
        Number of the device at the intake, its own time, its counter, [row].
    """

    patient: Numbers
    time_s: Floats
    received_s: Floats
    values: Floats
    events: dict[int, tuple[str, ...]]
    device: Numbers
    device_time_s: Floats
    sequence: Numbers

    def __len__(self) -> int:
        """Return how many readings it holds."""
        return len(self.patient)

    def rows(self, chosen: NDArray[np.intp]) -> Arrivals:
        """Return some rows, in the order asked for."""
        events: dict[int, tuple[str, ...]] = {}
        if self.events:
            events = {n: self.events[row] for n, row in enumerate(chosen.tolist()) if row in self.events}
        return Arrivals(
            self.patient[chosen],
            self.time_s[chosen],
            self.received_s[chosen],
            self.values[chosen],
            events,
            self.device[chosen],
            self.device_time_s[chosen],
            self.sequence[chosen],
        )


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
        Called with all readings that are accepted or put aside, and when they arrived.

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
    patients
        Names of the patients whose numbers `Arrivals` has.
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
        journal: Callable[[Batch, float], None] | None = None,
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
        self.patients: list[str] = []
        self._patient_numbers: dict[str, int] = {}
        self._table = DeviceTable()
        self._waiting: list[Arrivals] = []
        self._size = 0
        self._quarantine: deque[tuple[Reading, float, float]] = deque()

    def offer(self, reading: Reading, *, received_s: float) -> bool:
        """Take a reading; False only when too many wait, so that the sender has to try again."""
        return self.offer_batch(Batch.of([reading]), received_s=received_s) == 1

    def offer_batch(self, batch: Batch, *, received_s: float) -> int:
        """Take readings in their order; return how many: fewer than all only when too many wait."""
        room = self._limit - self._size
        if room < len(batch):
            self.counts["refused"] += 1
            batch = batch.rows(np.arange(max(room, 0)))
        taken = len(batch)
        if self.devices is not None:
            allowed = np.fromiter(map(self.devices.__contains__, batch.devices), np.bool_, taken)
            if not allowed.all():
                self.counts["unauthorised"] += taken - int(allowed.sum())
                batch = batch.rows(np.flatnonzero(allowed))
        if len(batch):
            self._admit(batch, received_s)
        return taken

    def _admit(self, batch: Batch, received_s: float) -> None:
        """Keep what is new, of devices that may speak."""
        table, known = self._table, self._table.numbers
        device = np.fromiter(map(known.get, batch.devices, repeat(-1)), np.int64, len(batch))
        for row in np.flatnonzero(device < 0).tolist():
            name = batch.devices[row]
            device[row] = known[name] if name in known else table.add(name)
        code, time_s = table.admit(device, batch.device_time_s, batch.sequence, received_s=received_s)
        for found, name in _FOUND:
            if (count := int(np.count_nonzero(code == found))) > 0:
                self.counts[name] += count
        for bit, name in ((SKEWED, "skewed"), (OUT_OF_ORDER, "out-of-order")):
            if (count := int(np.count_nonzero(code & bit))) > 0:
                self.counts[name] += count
        fresh = (code & (FLOODED | DUPLICATE)) == NEW
        if not fresh.all():
            chosen = np.flatnonzero(fresh)
            batch, device, time_s = batch.rows(chosen), device[chosen], time_s[chosen]
        if len(batch):
            self._assign(batch, device, time_s, received_s)

    def _assign(self, batch: Batch, device: Numbers, time_s: Floats, received_s: float) -> None:
        """Find out whose the readings are, and let them wait, put them aside or send them on."""
        patient, away = self._owners(device, time_s)
        here = away < 0
        if self.forward is not None and not here.all():
            for row in np.flatnonzero(~here).tolist():
                self._send_on(int(away[row]), batch.reading(row), received_s)
            chosen = np.flatnonzero(here)
            batch, device, time_s, patient = (
                batch.rows(chosen),
                device[chosen],
                time_s[chosen],
                patient[chosen],
            )
            if not len(batch):
                return
        if self.journal is not None:
            self.journal(batch, received_s)
        owned = patient >= 0
        count = int(np.count_nonzero(owned))
        for row in np.flatnonzero(~owned).tolist() if count < len(batch) else ():
            self._put_aside(batch.reading(row), float(time_s[row]), received_s)
        if not count:
            return
        self.counts["accepted"] += count
        arrivals = Arrivals(
            patient,
            time_s,
            np.full(len(batch), received_s),
            batch.values,
            dict(batch.events),
            device,
            batch.device_time_s,
            batch.sequence,
        )
        self._wait(arrivals if count == len(batch) else arrivals.rows(np.flatnonzero(owned)))

    def _owners(self, device: Numbers, time_s: Floats) -> tuple[Numbers, Numbers]:
        """Return patient and part of each reading; -1: nobody's, or this part's."""
        table, now = self._table, self.associations.changes
        old = (
            (table.changes[device] != now)
            | (time_s < table.from_s[device])
            | (time_s >= table.until_s[device])
        )
        if not old.any():
            return table.patient[device], table.away[device]
        patient, away = table.patient[device], table.away[device]
        for row in np.flatnonzero(old).tolist():
            number, at_s = int(device[row]), float(time_s[row])
            if table.changes[number] != now or not table.from_s[number] <= at_s < table.until_s[number]:
                self._look_up(number, at_s)
            patient[row], away[row] = table.patient[number], table.away[number]
        return patient, away

    def _look_up(self, number: int, time_s: float) -> None:
        table = self._table
        name, since_s, until_s = self.associations.patient_between(table.names[number], time_s)
        table.patient[number] = -1 if name is None else self._patient_number(name)
        away = self._away(name)
        table.away[number] = -1 if away is None else away
        table.from_s[number], table.until_s[number] = since_s, until_s
        table.changes[number] = self.associations.changes

    def _patient_number(self, name: str) -> int:
        number = self._patient_numbers.setdefault(name, len(self.patients))
        if number == len(self.patients):
            self.patients.append(name)
        return number

    def _wait(self, arrivals: Arrivals) -> None:
        self._waiting.append(arrivals)
        self._size += len(arrivals)

    def take_all(self) -> Arrivals | None:
        """Return what waits, by the time of measurement, and forget it; None: nothing.

        Readings of `spread` patients that arrived after `settled_s` go on waiting.
        """
        waiting, self._waiting, self._size = self._waiting, [], 0
        if not waiting:
            return None
        found = _joined(waiting)
        if self.spread:
            spread = np.array([self._patient_number(each) for each in self.spread])
            held = np.isin(found.patient, spread) & (found.received_s > self.settled_s)
            if held.any():
                self._wait(found.rows(np.flatnonzero(held)))
                found = found.rows(np.flatnonzero(~held))
        if np.any(found.time_s[1:] < found.time_s[:-1]):
            found = found.rows(np.argsort(found.time_s, kind="stable"))
        return found

    def take(self) -> list[Arrival]:
        """Return what `take_all` does, an object a reading."""
        found = self.take_all()
        return [] if found is None else [self._arrival(found, row) for row in range(len(found))]

    def _arrival(self, found: Arrivals, row: int) -> Arrival:
        reading = Reading(
            self._table.names[int(found.device[row])],
            float(found.device_time_s[row]),
            values_of(found.values[row]),
            found.events.get(row, ()),
            int(found.sequence[row]),
        )
        patient = self.patients[int(found.patient[row])]
        return Arrival(patient, reading, float(found.time_s[row]), float(found.received_s[row]))

    def clock_offset_s(self, device: str) -> float:
        """Return how far a device's clock was behind the arrival of its last reading (s)."""
        number = self._table.numbers.get(device)
        return float(self._table.clock[number, OFFSET]) if number is not None else 0.0

    def release(self) -> int:
        """Let readings out of quarantine whose patient is known by now; return how many."""
        kept: deque[tuple[Reading, float, float]] = deque()
        released = 0
        for reading, time_s, received_s in self._quarantine:
            patient = self.associations.patient_of(reading.device, time_s)
            if patient is None:
                kept.append((reading, time_s, received_s))
                continue
            released += 1
            away = self._away(patient)
            if away is not None and self.forward is not None:
                self._send_on(away, reading, received_s)
            else:
                self._wait(self._single(patient, reading, time_s, received_s))
        self._quarantine = kept
        self.counts["released"] += released
        return released

    def _single(self, patient: str, reading: Reading, time_s: float, received_s: float) -> Arrivals:
        known = self._table.numbers
        name = reading.device
        return Arrivals(
            np.array([self._patient_number(patient)]),
            np.array([time_s]),
            np.array([received_s]),
            table_of([reading.values]),
            {0: reading.events} if reading.events else {},
            np.array([known[name] if name in known else self._table.add(name)]),
            np.array([reading.device_time_s]),
            np.array([whole(reading.sequence)]),
        )

    @property
    def waiting(self) -> int:
        """Readings that wait for `take`."""
        return self._size

    @property
    def quarantined(self) -> int:
        """Readings of nobody that wait for an association."""
        return len(self._quarantine)

    def state(self) -> State:
        """Return what a snapshot needs: devices and their marks, and what waits or is in quarantine."""
        waiting = [
            (each.reading, each.time_s, each.received_s)
            for block in self._waiting
            for each in (self._arrival(block, row) for row in range(len(block)))
        ]
        return list(self._table.names), self._table.state(), [*self._quarantine, *waiting]

    def resume(
        self,
        names: list[str],
        marks: Mapping[str, NDArray[np.float64] | Numbers],
        quarantine: Iterable[tuple[Reading, float, float]],
    ) -> None:
        """Take over what `state` returned."""
        if names:
            self._table.resume(names, marks)
        self._quarantine.extend(quarantine)

    def _send_on(self, part: int, reading: Reading, received_s: float) -> None:
        """Forward what belongs to another part."""
        assert self.forward is not None  # the caller has looked
        self.counts["forwarded"] += 1
        self.forward(part, reading, received_s)

    def _away(self, patient: str | None) -> int | None:
        return None if patient is None or self.elsewhere is None else self.elsewhere(patient)

    def _put_aside(self, reading: Reading, time_s: float, received_s: float) -> None:
        self.counts["quarantined"] += 1
        self._quarantine.append((reading, time_s, received_s))
        if len(self._quarantine) > self._keep:
            self._quarantine.popleft()
            self.counts["lost-from-quarantine"] += 1


def _joined(blocks: list[Arrivals]) -> Arrivals:
    """Return blocks as one."""
    if len(blocks) == 1:
        return blocks[0]
    events: dict[int, tuple[str, ...]] = {}
    start = 0
    for each in blocks:
        events.update({start + row: what for row, what in each.events.items()})
        start += len(each)
    return Arrivals(
        np.concatenate([each.patient for each in blocks]),
        np.concatenate([each.time_s for each in blocks]),
        np.concatenate([each.received_s for each in blocks]),
        np.concatenate([each.values for each in blocks]),
        events,
        np.concatenate([each.device for each in blocks]),
        np.concatenate([each.device_time_s for each in blocks]),
        np.concatenate([each.sequence for each in blocks]),
    )
