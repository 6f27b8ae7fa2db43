"""What is known of each device, as columns, and the compiled law of admission: rate, duplicates, clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins.monitoring.signals import jit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Numbers = NDArray[np.int64]

FUTURE_S = 60.0
"""A device whose clock is further ahead than that is not believed: the time of arrival counts."""
_AHEAD_S = 2.0
_REMEMBERED = 64
_RATE_PER_S, _BURST = 20.0, 3600.0  # an hour of readings each second may come late and at once
NEW, FLOODED, DUPLICATE = 0, 1, 2
SKEWED, OUT_OF_ORDER = 4, 8
"""What `admit` found; the last two are bits beside `NEW`."""
LATEST, NEWEST, OFFSET, ROOM, FILLED = range(5)


class DeviceTable:
    """State of every device that has spoken; a device is a row.

    Attributes
    ----------
    numbers, names
        Row of a name, and back.
    clock
        [row, 5]: latest device time, newest believed time, offset, room in the bucket, when it was filled.
    mark_time_s, mark_number, marked
        The last readings, [row, 64] as a ring, and how many were put in.
    patient, away, changes, from_s, until_s
        Whose device it is: number of the patient or -1, part of the ward or -1, and for which state of the
        associations and which time that holds.
    """

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.names: list[str] = []
        self._grow(16)
        nothing = np.zeros(0, dtype=np.int64)
        self.admit(nothing, np.zeros(0), nothing, received_s=0.0)  # compiled before anything comes

    def _grow(self, size: int) -> None:
        shapes: tuple[tuple[str, tuple[int, ...], float, type], ...] = (
            ("clock", (size, 5), -np.inf, np.float64),
            ("mark_time_s", (size, _REMEMBERED), 0.0, np.float64),
            ("mark_number", (size, _REMEMBERED), 0, np.int64),
            ("marked", (size,), 0, np.int64),
            ("patient", (size,), -1, np.int64),
            ("away", (size,), -1, np.int64),
            ("changes", (size,), -1, np.int64),
            ("from_s", (size,), np.inf, np.float64),
            ("until_s", (size,), np.inf, np.float64),
        )
        for name, shape, empty, kind in shapes:
            array: NDArray[Any] = np.full(shape, empty, dtype=kind)
            if self.names:
                array[: len(self.names)] = getattr(self, name)[: len(self.names)]
            setattr(self, name, array)
        fresh = self.clock[len(self.names) :]
        fresh[:, OFFSET], fresh[:, ROOM] = 0.0, _BURST

    clock: Floats
    mark_time_s: Floats
    mark_number: Numbers
    marked: Numbers
    patient: Numbers
    away: Numbers
    changes: Numbers
    from_s: Floats
    until_s: Floats

    def add(self, name: str) -> int:
        """Return the row of a new device."""
        if len(self.names) == len(self.marked):
            self._grow(2 * len(self.names))
        row = self.numbers[name] = len(self.names)
        self.names.append(name)
        return row

    def admit(
        self, device: Numbers, time_s: Floats, sequence: Numbers, *, received_s: float
    ) -> tuple[NDArray[np.int8], Floats]:
        """Return what each reading is, and when it was measured as far as the clock is believed."""
        code, believed = np.empty(len(device), dtype=np.int8), np.empty(len(device))
        marks = (self.mark_time_s, self.mark_number, self.marked)
        _admit(device, time_s, sequence, received_s, self.clock, marks, code, believed)
        return code, believed

    def state(self) -> dict[str, NDArray[np.float64] | Numbers]:
        """Return marks of duplicates and times of all devices, for a snapshot; marks without gaps."""
        count = len(self.names)
        marked = self.marked[:count].copy()
        held = np.arange(_REMEMBERED) < marked[:, None]
        return {
            "marked": marked,
            "clock": self.clock[:count, [LATEST, NEWEST]],
            "mark_time_s": self.mark_time_s[:count][held],
            "mark_number": self.mark_number[:count][held],
        }

    def resume(self, names: list[str], state: Mapping[str, NDArray[np.float64] | Numbers]) -> None:
        """Take over what `state` returned."""
        rows = np.array(
            [self.numbers[each] if each in self.numbers else self.add(each) for each in names], dtype=np.intp
        )
        marked = np.asarray(state["marked"], dtype=np.int64)
        held = np.arange(_REMEMBERED) < marked[:, None]
        self.marked[rows] = marked
        self.clock[rows[:, None], [LATEST, NEWEST]] = state["clock"]
        for name in ("mark_time_s", "mark_number"):
            whole = np.zeros(held.shape, dtype=getattr(self, name).dtype)
            whole[held] = state[name]
            getattr(self, name)[rows] = whole


@jit
def _admit(device, time_s, sequence, received_s, clock, marks, code, believed):  # type: ignore[no-untyped-def]  # noqa: C901  (one pass over bytes or rows)
    """Take readings in their order, each after its device's bucket, marks and clock."""
    mark_time_s, mark_number, marked = marks
    for row in range(len(device)):
        number, at_s = device[row], time_s[row]
        own = clock[number]
        believed[row] = at_s
        passed = received_s - own[4]
        if passed > 0:
            own[3] = min(_BURST, own[3] + passed * _RATE_PER_S)
            own[4] = received_s
        if own[3] < 1.0:
            code[row] = FLOODED
            continue
        own[3] -= 1.0
        if at_s > own[0]:
            own[0] = at_s
        else:
            known = False
            for place in range(min(marked[number], _REMEMBERED)):
                if mark_time_s[number, place] == at_s and mark_number[number, place] == sequence[row]:
                    known = True
                    break
            if known:
                code[row] = DUPLICATE
                continue
        place = marked[number] % _REMEMBERED
        mark_time_s[number, place], mark_number[number, place] = at_s, sequence[row]
        marked[number] += 1
        own[2] = received_s - at_s
        code[row] = NEW
        if at_s > received_s + _AHEAD_S:
            code[row] |= SKEWED
            if at_s > received_s + FUTURE_S:
                believed[row] = received_s
                continue
        if at_s < own[1]:
            code[row] |= OUT_OF_ORDER
        else:
            own[1] = at_s
