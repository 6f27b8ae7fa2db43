"""The JSON message of a device: ``{"t": seconds, "v": {"HR": 72, ...}, "n": 17, "e": ["asystole"]}``."""

from __future__ import annotations

import math

import msgspec

from digital_twins._errors import InputError
from digital_twins.monitoring.signals import Reading

MAX_BYTES = 16_384
"""Longest message; a longer one is refused."""


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
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        raise _malformed("it is not of the documented form") from None
    if not math.isfinite(wire.t):
        raise _malformed("its time is no number")
    return Reading(device, wire.t, wire.v, wire.e, wire.n)


def _malformed(why: str) -> InputError:
    return InputError(
        "The message of the device was not taken.",
        f"It cannot be read: {why}.",
        'Send JSON such as {"t": 1764108000.0, "v": {"HR": 72}}.',
    )
