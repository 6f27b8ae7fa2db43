"""FHIR dates as half-open ranges of microseconds, with the precision that was written.

A date of FHIR names a span: ``2024-03`` is the whole of March (FHIR R4 search, section 3.1.1.4.8). Times
without a zone are read as UTC.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

EARLIEST = -(2**62)
LATEST = 2**62
_DAY_US = 86_400_000_000
_EPOCH = date(1970, 1, 1).toordinal()
_DATE = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d:\d\d)?)?)?)?"
)


@lru_cache(maxsize=8192)
def date_range(text: str) -> tuple[int, int]:
    """Return ``[low, high)`` in microseconds since 1970-01-01 UTC of a FHIR date, dateTime or instant.

    The last ones are kept: what was found in one encounter carries one date.

    Raises
    ------
    InputError
        The text is no FHIR date, e.g. month 13.
    """
    match = _DATE.fullmatch(text)
    if match is None:
        raise _not_a_date()
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        first = date(int(year), int(month or 1), int(day or 1)).toordinal() - _EPOCH
        if day is None:
            return first * _DAY_US, _next_month_or_year(int(year), month) * _DAY_US
    except (ValueError, OverflowError):
        raise _not_a_date() from None
    if hour is None:
        return first * _DAY_US, (first + 1) * _DAY_US
    if int(hour) > 23 or int(minute) > 59 or int(second or 0) > 60:
        raise _not_a_date()
    low = first * _DAY_US + (int(hour) * 3600 + int(minute) * 60 + int(second or 0)) * 1_000_000
    low -= _zone_us(zone)
    if second is None:
        return low, low + 60_000_000
    if fraction is None:
        return low, low + 1_000_000
    digits = fraction[:6]
    low += int(digits.ljust(6, "0"))
    return low, low + 10 ** (6 - len(digits))


def _next_month_or_year(year: int, month: str | None) -> int:
    """Days since 1970 of the day after a month or a year."""
    if month is None or month == "12":
        if year == 9999:
            return date(9999, 12, 31).toordinal() + 1 - _EPOCH
        return date(year + 1, 1, 1).toordinal() - _EPOCH
    return date(year, int(month) + 1, 1).toordinal() - _EPOCH


def _zone_us(zone: str | None) -> int:
    if zone is None or zone == "Z":
        return 0
    seconds = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
    return (seconds if zone[0] == "+" else -seconds) * 1_000_000


def _not_a_date() -> InputError:
    return InputError(
        "A date could not be read.",
        "It is not of the form YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss with a time zone.",
        "Write it like 2024-03-01 or 2024-03-01T08:30:00Z.",
    )


def period_range(period: Mapping[str, Any]) -> tuple[int, int]:
    """Return the range of a FHIR Period; an open end reaches to the end of time."""
    start, end = period.get("start"), period.get("end")
    low = date_range(start)[0] if isinstance(start, str) else EARLIEST
    high = date_range(end)[1] if isinstance(end, str) else LATEST
    return low, high


def date_ranges(value: Any, kind: str) -> Iterator[tuple[int, int]]:
    """Yield the ranges of a date, dateTime, instant, Period or Timing; what is no date is passed over."""
    try:
        if isinstance(value, str):
            yield date_range(value)
        elif kind == "Period" and isinstance(value, dict):
            yield period_range(value)
        elif kind == "Timing" and isinstance(value, dict):
            for event in value.get("event", ()):
                yield date_range(event)
            bounds = value.get("repeat", {}).get("boundsPeriod")
            if bounds:
                yield period_range(bounds)
    except InputError:
        return


@lru_cache(maxsize=256)
def to_instant(microseconds: int) -> str:
    """Return a FHIR instant with milliseconds, UTC."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return f"{_second(seconds)}.{rest // 1000:03d}Z"


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    moment = datetime(1970, 1, 1) + timedelta(seconds=seconds)  # noqa: DTZ001  (UTC; quicker without)
    return moment.isoformat(timespec="seconds")


def to_datetime(text: str) -> datetime:
    """Return the first moment of a FHIR date as an aware UTC datetime."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=date_range(text)[0])
