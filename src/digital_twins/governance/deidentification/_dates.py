"""Dates and date-times of DICOM (VR DA, DT) moved by whole days, or taken away."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import TYPE_CHECKING

from digital_twins.governance.deidentification._policy import Dates

if TYPE_CHECKING:
    from collections.abc import Callable

_DATE = re.compile(r"(\d{4})[.-]?(\d{2})[.-]?(\d{2})")
_TIME = re.compile(r"\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?")
_DATE_TIME = re.compile(r"(\d{4})(\d{2})(\d{2})(\d{0,6}(?:\.\d{1,6})?)([+-]\d{4})?")
_DUMMY_DATE, _DUMMY_TIME = "19000101", "000000"


def new_date(text: str, dates: Dates, shift_days: int) -> str:
    """Return a DA value for an old one; what is no date becomes empty (PS3.5, 6.2: VR DA)."""
    if dates is Dates.REMOVE:
        return _DUMMY_DATE if text.strip() else ""
    return _each(text, lambda part: _moved(_DATE.fullmatch(part), dates, shift_days))


def new_time(text: str, dates: Dates) -> str:
    """Return a TM value for an old one; days move, the time of the day stays."""
    if dates is Dates.REMOVE:
        return _DUMMY_TIME if text.strip() else ""
    return _each(text, lambda part: part if _TIME.fullmatch(part) else "")


def new_date_time(text: str, dates: Dates, shift_days: int) -> str:
    """Return a DT value for an old one; one without a day of the month becomes empty."""
    if dates is Dates.REMOVE:
        return _DUMMY_DATE + _DUMMY_TIME if text.strip() else ""

    def one(part: str) -> str:
        match = _DATE_TIME.fullmatch(part)
        moved = _moved(match, dates, shift_days)
        return moved + match[4] + (match[5] or "") if match and moved else ""

    return _each(text, one)


def _each(text: str, change: Callable[[str], str]) -> str:
    return "\\".join(change(part.strip("\0 ")) for part in text.split("\\"))


def _moved(match: re.Match[str] | None, dates: Dates, shift_days: int) -> str:
    if match is None:
        return ""
    try:
        day = date(int(match[1]), int(match[2]), int(match[3]))
        if dates is Dates.SHIFT:
            day += timedelta(days=shift_days)
    except (ValueError, OverflowError):
        return ""
    return f"{day:%Y%m%d}" if day.year >= 1000 else ""
