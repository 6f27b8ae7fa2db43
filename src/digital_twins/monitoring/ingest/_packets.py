"""Compiled loops over the bytes that a broker sends: MQTT packets, and the JSON of the devices (numba).

What the loops do not take for certain they leave to the general decoder, message by message: they change
what a message costs and never what it means.
"""

from __future__ import annotations

import numpy as np

from digital_twins.monitoring.signals import VITALS, jit

_PUBLISH = 3
WHOLE, CUT, NO_MQTT = 0, 1, 2
"""Of `packets`: all of it was used, the last packet is not whole, it is no MQTT."""
_LONGEST = 1 << 20
_EXACT = 2**53
_POWERS = 10.0 ** np.arange(23)
_LARGE = 2**30
_CODES = np.zeros((len(VITALS), max(len(each.code) for each in VITALS)), dtype=np.uint8)
_LENGTHS = np.array([len(each.code) for each in VITALS])
for _place, _each in enumerate(VITALS):
    _CODES[_place, : len(_each.code)] = np.frombuffer(_each.code.encode(), np.uint8)


@jit
def _varint(data, at, end):  # type: ignore[no-untyped-def]
    """Return value and the place behind it; -1 as the value: not whole, -2: too long."""
    value, shift = np.int64(0), 0
    while at < end:
        byte = data[at]
        value |= (np.int64(byte) & 0x7F) << shift
        at += 1
        if not byte & 0x80:
            return value, at
        shift += 7
        if shift > 21:
            return -2, at
    return -1, at


@jit
def packets(data, version, found):  # type: ignore[no-untyped-def]  # noqa: C901  (one pass over bytes or rows)
    """Find packets; found[row] is set to head, start and end of topic, start and end of the rest, identifier.

    Packets other than PUBLISH have an empty topic; an identifier of 0 is that of QoS 0. Returns how many
    were found, where the next begins, and `WHOLE`, `CUT` or `NO_MQTT`; `WHOLE` before the end of the data:
    there was no row left in `found`.
    """
    place, count, end = 0, 0, len(data)
    while place < end and count < len(found):
        length, at = _varint(data, place + 1, end)
        if length == -2 or length > _LONGEST:
            return count, place, NO_MQTT
        if length == -1 or at + length > end:
            return count, place, CUT
        last, topic, topic_end, identifier = at + length, at, at, 0
        if data[place] >> 4 == _PUBLISH:
            if length < 2:
                return count, place, NO_MQTT
            topic = at + 2
            topic_end = topic + ((np.int64(data[at]) << 8) | data[at + 1])
            at = topic_end
            if data[place] & 0x06:
                if at + 2 > last:
                    return count, place, NO_MQTT
                identifier = (np.int64(data[at]) << 8) | data[at + 1]
                at += 2
            if version == 5:
                size, at = _varint(data, at, last)
                if size < 0:
                    return count, place, NO_MQTT
                at += size
            if at > last:
                return count, place, NO_MQTT
        row = found[count]
        row[0], row[1], row[2], row[3], row[4], row[5] = data[place], topic, topic_end, at, last, identifier
        count += 1
        place = last
    return count, place, WHOLE


@jit
def _blank(data, at, end):  # type: ignore[no-untyped-def]
    while at < end and (data[at] == 32 or data[at] == 10 or data[at] == 13 or data[at] == 9):
        at += 1
    return at


@jit
def _number(data, at, end):  # type: ignore[no-untyped-def]
    """Return a JSON number rounded as IEEE 754 asks, if it is an integer, and the place behind; -1: left.

    A mantissa under 2^53 over a power of ten up to 10^22 needs one division, which rounds once. Longer ones
    are taken when the whole part is at least 2^30 and there are at most nine decimals, as in times: such a
    fraction lies further from every midpoint of two doubles than the rounding of the fraction moves it.
    """
    negative = at < end and data[at] == 45
    if negative:
        at += 1
    first, whole, mantissa, decimals = at, np.int64(0), np.int64(0), 0
    while at < end and 48 <= data[at] <= 57 and at - first < 18:
        mantissa = mantissa * 10 + (data[at] - 48)
        at += 1
    if at == first or (data[first] == 48 and at - first > 1):
        return 0.0, False, -1
    whole, integer = mantissa, True
    if at < end and data[at] == 46:
        integer = False
        point = at
        at += 1
        while at < end and 48 <= data[at] <= 57 and at - first < 19:
            mantissa = mantissa * 10 + (data[at] - 48)
            at += 1
        decimals = at - point - 1
        if decimals == 0:
            return 0.0, False, -1
    if at < end and (48 <= data[at] <= 57 or data[at] == 46 or data[at] == 69 or data[at] == 101):
        return 0.0, False, -1
    if mantissa < _EXACT:
        value = np.float64(mantissa) / _POWERS[decimals]
    elif whole >= _LARGE and whole < _EXACT and decimals <= 9:
        scale = np.int64(_POWERS[decimals])
        value = np.float64(whole) + np.float64(mantissa - whole * scale) / _POWERS[decimals]
    else:
        return 0.0, False, -1
    return (-value if negative else value), integer, at


@jit
def _name(data, at, end):  # type: ignore[no-untyped-def]
    """Return start and end of a plain text in quotes; -1: left."""
    if at >= end or data[at] != 34:
        return -1, -1
    first = at + 1
    at = first
    while at < end and data[at] != 34:
        if data[at] == 92 or data[at] < 32 or data[at] > 126:
            return -1, -1
        at += 1
    return (first, at) if at < end else (-1, -1)


@jit
def _column(data, first, last):  # type: ignore[no-untyped-def]
    for column in range(len(_LENGTHS)):
        if _LENGTHS[column] == last - first:
            same = True
            for n in range(last - first):
                if data[first + n] != _CODES[column, n]:
                    same = False
                    break
            if same:
                return column
    return -1


@jit
def _values(data, at, end, row):  # type: ignore[no-untyped-def]  # noqa: C901  (one pass over bytes or rows)
    """Read ``{"HR": 72, ...}`` into a row; return the place behind, -1: left."""
    if at >= end or data[at] != 123:
        return -1
    at = _blank(data, at + 1, end)
    if at < end and data[at] == 125:
        return at + 1
    while True:
        first, last = _name(data, at, end)
        if first < 0:
            return -1
        at = _blank(data, last + 1, end)
        if at >= end or data[at] != 58:
            return -1
        value, _, at = _number(data, _blank(data, at + 1, end), end)
        if at < 0:
            return -1
        column = _column(data, first, last)
        if column >= 0:
            row[column] = value
        at = _blank(data, at, end)
        if at >= end:
            return -1
        if data[at] == 125:
            return at + 1
        if data[at] != 44:
            return -1
        at = _blank(data, at + 1, end)


@jit
def _message(data, at, end, row):  # type: ignore[no-untyped-def]  # noqa: C901, PLR0912  (one pass over bytes or rows)
    """Read one message; return its time, its number and whether it was taken."""
    time_s, number, seen = 0.0, np.int64(-1), 0
    at = _blank(data, at, end)
    if at >= end or data[at] != 123:
        return time_s, number, False
    while True:
        first, last = _name(data, _blank(data, at + 1, end), end)
        if last - first != 1:
            return time_s, number, False
        key = data[first]
        at = _blank(data, last + 1, end)
        if at >= end or data[at] != 58:
            return time_s, number, False
        at = _blank(data, at + 1, end)
        bit = 1 if key == 116 else 2 if key == 110 else 4 if key == 118 else 0
        if bit == 0 or seen & bit:  # another key, or one twice
            return time_s, number, False
        seen |= bit
        if bit == 1:
            time_s, _, at = _number(data, at, end)
        elif bit == 2:
            value, integer, at = _number(data, at, end)
            if not integer or np.abs(value) >= _EXACT:
                return time_s, number, False
            number = np.int64(value)
        else:
            at = _values(data, at, end, row)
        if at < 0:
            return time_s, number, False
        at = _blank(data, at, end)
        if at >= end:
            return time_s, number, False
        if data[at] == 125:
            return time_s, number, bool(seen & 1) and _blank(data, at + 1, end) == end
        if data[at] != 44:
            return time_s, number, False


@jit
def messages(data, starts, ends, time_s, sequence, values, taken):  # type: ignore[no-untyped-def]
    """Read messages of the documented form between starts and ends; all others are left: taken is False.

    values is [row, vital] and full of NaN.
    """
    for row in range(len(starts)):
        time_s[row], sequence[row], taken[row] = _message(data, starts[row], ends[row], values[row])
        if not taken[row]:
            for column in range(values.shape[1]):  # an assignment to the whole row takes seconds to compile
                values[row, column] = np.nan
