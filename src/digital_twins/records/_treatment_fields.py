"""Single values of a treatment dictionary: numbers, counts, days and the weekday of the start."""

from __future__ import annotations

import math
from datetime import datetime
from numbers import Real
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError
from digital_twins.records._treatment_schedule import MAX_ADMINISTRATIONS, WEEKDAYS

if TYPE_CHECKING:
    from collections.abc import Mapping


def number(
    given: Mapping[str, Any], key: str, *, positive: bool = True, largest: float = 1e6
) -> float | None:
    """Return the finite number under ``key``, or None where it is absent."""
    value = given.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise InputError(
            f"'{key}' of a treatment is not a number.",
            f"It is {value!r}; a dose, day or count must be a finite number.",
            f"Give '{key}' as a plain number.",
        )
    if (positive and value <= 0) or abs(float(value)) > largest:
        limit = f"greater than zero and at most {largest:g}" if positive else f"within +-{largest:g}"
        raise InputError(f"'{key}' of a treatment is {value:g}.", f"It must be {limit}.", f"Correct '{key}'.")
    return float(value)


def whole(given: Mapping[str, Any], key: str) -> int | None:
    value = number(given, key, largest=MAX_ADMINISTRATIONS)
    if value is not None and value != int(value):
        raise InputError(
            f"'{key}' of a treatment is {value:g}.",
            "It counts, so it is a whole number.",
            f"Correct '{key}'.",
        )
    return None if value is None else int(value)


def required(value: float | None, key: str, kind: str) -> float:
    if value is None:
        raise InputError(
            f"A {kind} treatment lacks '{key}'.",
            "Without it the protocol is not determined, and nothing is assumed in its place.",
            f"Add '{key}'.",
        )
    return value


def start_day(given: Mapping[str, Any]) -> float:
    if "day" in given and "start_day" in given:
        raise InputError(
            "A treatment has both 'day' and 'start_day'.", "They mean the same.", "Keep one of them."
        )
    key = "start_day" if "start_day" in given else "day"
    return number(given, key, positive=False, largest=1e5) or 0.0


def weekday(given: Mapping[str, Any]) -> int | None:
    """Return 0 for Monday ... 6, from 'start_weekday' or the wall-clock start, or None when unknown."""
    named = given.get("start_weekday")
    if named is None:
        start = given.get("start")
        return start.weekday() if isinstance(start, datetime) else None
    near = [i for i, day in enumerate(WEEKDAYS) if day.startswith(str(named).strip().lower()[:3])]
    if len(str(named).strip()) < 3 or not near:
        raise InputError(
            f"'start_weekday' is '{named}'.", "It is no day of the week.", "Write 'monday' to 'sunday'."
        )
    return near[0]


def explicit_days(given: Mapping[str, Any]) -> list[float] | None:
    days = given.get("days")
    if days is None:
        return None
    for rival in ("schedule", "cycles", "duration_days", "day", "start_day"):
        if rival in given:
            raise InputError(
                f"A treatment has both 'days' and '{rival}'.",
                "'days' lays every administration out, so the other could contradict it.",
                f"Remove '{rival}' or 'days'.",
            )
    if isinstance(days, str) or not hasattr(days, "__iter__"):
        days = [days]
    laid = [number({"days": d}, "days", positive=False, largest=1e5) for d in days]
    values = sorted(d for d in laid if d is not None)
    if not values or len(values) > MAX_ADMINISTRATIONS:
        raise InputError(
            f"'days' of a treatment holds {len(values)} days.",
            f"There must be between 1 and {MAX_ADMINISTRATIONS}.",
            "List the days of the administrations.",
        )
    return values
