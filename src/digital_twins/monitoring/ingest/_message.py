"""The JSON message of a device: ``{"t": seconds, "v": {"HR": 72, ...}, "n": 17, "e": ["asystole"]}``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from digital_twins._errors import InputError
from digital_twins.monitoring.ingest._packets import messages
from digital_twins.monitoring.signals import VITALS, Batch, Reading, table_of, whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_BYTES = 16_384
"""Longest message; a longer one is refused."""


_MOST_NAMES = 100_000


class _Wire(msgspec.Struct, gc=False):
    t: float
    v: dict[str, float] = {}
    n: int = -1
    e: tuple[str, ...] = ()


_DECODER = msgspec.json.Decoder(_Wire)


def decode_reading(device: str, payload: bytes) -> Reading:
    """Return what a message says.

    ``t`` is the device's time in seconds since 1970 UTC, ``v`` codes of `VITALS` with values in the table's
    units, ``n`` a counter that makes duplicates visible, ``e`` alarms of the device itself.

    Parameters
    ----------
    device
        Who sent it, as the transport knows.
    payload
        The JSON text.

    Raises
    ------
    InputError
        It is too long, no JSON, or not of this form.
    """
    if len(payload) > MAX_BYTES:
        raise _malformed(f"it has more than {MAX_BYTES} bytes")
    try:
        wire = _DECODER.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _malformed("it is not of the documented form") from None
    if not math.isfinite(wire.t):
        raise _malformed("its time is no number")
    return Reading(device, wire.t, wire.v, wire.e, wire.n)


@dataclass(frozen=True, eq=False, slots=True)
class Payloads:
    """Messages as they lie in what was read from the broker.

    Attributes
    ----------
    data
        What was read.
    topics
        One a message.
    start, end
        Where the payload of each lies in `data`, [message].
    """

    data: bytes
    topics: list[bytes]
    start: NDArray[np.int64]
    end: NDArray[np.int64]

    def rows(self, chosen: list[int]) -> Payloads:
        """Return some messages."""
        return Payloads(self.data, [self.topics[row] for row in chosen], self.start[chosen], self.end[chosen])


class BatchDecoder:
    """Decodes messages of MQTT, many at a time; the device is the last part of the topic."""

    def __init__(self) -> None:
        self._names: dict[bytes, str] = {}
        nothing = np.zeros(0, dtype=np.int64)
        self.decode(Payloads(b"", [], nothing, nothing))  # compiled before anything comes

    def decode(self, payloads: Payloads) -> tuple[Batch, int]:
        """Return what messages say, as `decode_reading` reads them, and how many cannot be read."""
        count = len(payloads.topics)
        time_s, sequence = np.empty(count), np.empty(count, dtype=np.int64)
        values, taken = np.full((count, len(VITALS)), np.nan), np.empty(count, dtype=np.bool_)
        data = np.frombuffer(payloads.data, np.uint8)
        messages(data, payloads.start, payloads.end, time_s, sequence, values, taken)
        taken &= payloads.end - payloads.start <= MAX_BYTES
        batch = Batch(self._devices(payloads.topics), time_s, sequence, values)
        if taken.all():
            return batch, 0
        return self._general(payloads, batch, taken)

    def _general(self, payloads: Payloads, batch: Batch, taken: NDArray[np.bool_]) -> tuple[Batch, int]:
        """Let `decode_reading` read what the compiled loop has left."""
        events: dict[int, tuple[str, ...]] = {}
        fine = taken.copy()
        for row in np.flatnonzero(~taken).tolist():
            payload = payloads.data[int(payloads.start[row]) : int(payloads.end[row])]
            try:
                reading = decode_reading(batch.devices[row], payload)
            except InputError:
                continue
            fine[row] = True
            batch.device_time_s[row], batch.sequence[row] = reading.device_time_s, whole(reading.sequence)
            batch.values[row] = table_of([reading.values])[0]
            if reading.events:
                events[row] = reading.events
        batch.events = events
        if fine.all():
            return batch, 0
        return batch.rows(np.flatnonzero(fine)), int(np.count_nonzero(~fine))

    def _devices(self, topics: list[bytes]) -> list[str]:
        known = self._names
        if len(known) > _MOST_NAMES:  # senders choose their topics where a broker lets them
            known.clear()
        try:
            return list(map(known.__getitem__, topics))
        except KeyError:
            for each in topics:
                if each not in known:
                    known[each] = each.decode("utf-8", "replace").rpartition("/")[2]
        return list(map(known.__getitem__, topics))


def _malformed(why: str) -> InputError:
    return InputError(
        "The message of the device was not taken.",
        f"It cannot be read: {why}.",
        'Send JSON such as {"t": 1764108000.0, "v": {"HR": 72}}.',
    )
