"""Schedules in words ("every_3_weeks", "days 1,8 of 21", "weekdays") to days since the start."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_ADMINISTRATIONS = 5000
"""More administrations than this in one protocol is taken for a mistake (13 years of daily doses)."""

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
BID_INTERVAL_DAYS = 0.25
"""Two fractions a day stand at least 6 h apart (ICRU practice for hyperfractionation)."""

_EVERY = re.compile(r"(?:every|q)_?(\d{1,4})_?(d|day|days|w|wk|week|weeks)")
_RANGES = r"\d{1,3}(?:-\d{1,3})?"
_CYCLE_DAYS = re.compile(rf"days?_({_RANGES}(?:[,_]{_RANGES})*)_(?:of|q|every)_(\d{{1,3}})(?:_days?)?")
_FIXED_PERIODS = {
    "daily": 1.0,
    "every_day": 1.0,
    "once_daily": 1.0,
    "weekly": 7.0,
    "every_week": 7.0,
    "every_other_day": 2.0,
    "fortnightly": 14.0,
    "biweekly": 14.0,
    "twice_daily": 0.5,
    "bid": 0.5,
}


def _weekday_offsets(count: int, start_weekday: int) -> list[float]:
    """First ``count`` Mondays to Fridays at or after a start on ``start_weekday`` (0 = Monday)."""
    days: list[float] = []
    day = 0
    while len(days) < count:
        if (start_weekday + day) % 7 < 5:
            days.append(float(day))
        day += 1
    return days


def _twice_a_weekday(count: int, start_weekday: int) -> list[float]:
    single = _weekday_offsets((count + 1) // 2, start_weekday)
    return [day + shift for day in single for shift in (0.0, BID_INTERVAL_DAYS)][:count]


def _cycle_days(text: str) -> list[int]:
    """Days of a cycle, "1,8" or "1-5", counted from 1 as protocols do."""
    days: list[int] = []
    for part in filter(None, re.split(r"[,_]+", text)):
        first, _, last = part.partition("-")
        days.extend(range(int(first), int(last or first) + 1))
    return sorted(set(days))


def _unknown(schedule: object) -> InputError:
    return InputError(
        f"The schedule '{schedule}' is not known.",
        "Its days cannot be worked out from the text.",
        "Write 'every_3_weeks', 'every_21_days', 'weekly', 'daily', 'weekdays', 'twice_daily', 'once' "
        "or 'days 1,8 of 21', or give 'days': [...].",
    )


def _generator(key: str, start_weekday: int, *, radiation: bool) -> Callable[[int], list[float]]:
    """Return a function from a number of cycles to days since the start."""
    if key in ("weekdays", "monday_to_friday", "5_per_week", "five_per_week"):
        return lambda count: _weekday_offsets(count, start_weekday)
    if key in ("twice_daily", "bid") and radiation:
        return lambda count: _twice_a_weekday(count, start_weekday)
    if key in _FIXED_PERIODS:
        period = _FIXED_PERIODS[key]
        return lambda count: [period * i for i in range(count)]
    if match := _EVERY.fullmatch(key):
        step = float(match[1]) * (7.0 if match[2].startswith("w") else 1.0)
        if step > 0:
            return lambda count: [step * i for i in range(count)]
    if match := _CYCLE_DAYS.fullmatch(key):
        days, length = _cycle_days(match[1]), int(match[2])
        if days and days[0] >= 1 and days[-1] <= length:
            return lambda count: [float(c * length + d - 1) for c in range(count) for d in days]
    raise _unknown(key)


def schedule_days(
    schedule: object, count: int, *, start_weekday: int = 0, radiation: bool = False
) -> list[float]:
    """Lay a schedule out in days since its start.

    Parameters
    ----------
    schedule
        The words; case, blanks and hyphens between words do not matter.
    count
        Number of cycles; of single administrations for schedules without a cycle (``"weekdays"``).
    start_weekday
        0 = Monday; only weekday schedules use it.
    radiation
        True reads ``"twice_daily"`` as two fractions, 6 h apart, each Monday to Friday.

    Raises
    ------
    InputError
        When the words are not understood or the protocol is absurdly long.
    """
    if not isinstance(schedule, str):
        raise _unknown(schedule)
    key = re.sub(r"(?<=[a-z])-|-(?=[a-z])", "_", schedule.strip().lower())
    key = re.sub(r"[\s_]+", "_", key).replace(",_", ",")
    make = _generator(key, start_weekday, radiation=radiation)
    per_cycle = len(make(1))
    if count * per_cycle > MAX_ADMINISTRATIONS:
        raise InputError(
            f"The schedule asks for {count * per_cycle} administrations.",
            f"More than {MAX_ADMINISTRATIONS} in one protocol is taken for a mistake.",
            "Give a smaller number of cycles.",
        )
    return make(count)
