"""Dates, dates with time, and times of partial precision (FHIRPath N1, sections 4.1.5-4.1.7, 6.1, 6.6)."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from typing import TYPE_CHECKING, Literal

from digital_twins.fhir.fhirpath._errors import FhirPathError

if TYPE_CHECKING:
    from digital_twins.fhir.fhirpath._quantity import Quantity

Kind = Literal["date", "dateTime", "time"]
Parts = tuple[int | Decimal, ...]

_DATE = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?(?:(T)(?:(\d\d)(?::(\d\d)(?::(\d\d(?:\.\d+)?))?)?(Z|[+-]\d\d:\d\d)?)?)?",
    re.ASCII,
)
_TIME = re.compile(r"T?(\d\d)(?::(\d\d)(?::(\d\d(?:\.\d+)?))?)?", re.ASCII)
_UNIT_PLACE = {
    "year": 0,
    "month": 1,
    "week": 2,
    "day": 2,
    "hour": 3,
    "minute": 4,
    "second": 5,
    "millisecond": 5,
}
_UCUM = {"wk": "week", "d": "day", "h": "hour", "min": "minute", "s": "second", "ms": "millisecond"}
_SECONDS: dict[str, Decimal] = {
    "week": Decimal(604800),
    "day": Decimal(86400),
    "hour": Decimal(3600),
    "minute": Decimal(60),
    "second": Decimal(1),
    "millisecond": Decimal("0.001"),
}


@dataclass(frozen=True, slots=True)
class Temporal:
    """A point in time as precise as its parts.

    ``parts`` hold year, month, day, hour, minute and second (a time: hour, minute, second); the second is a
    decimal with its fraction. ``zone_minutes`` is the offset from UTC where one was written.
    """

    kind: Kind
    parts: Parts
    zone_minutes: int | None = None
    utc_mark: bool = False

    @classmethod
    def parse(cls, kind: Kind, text: str) -> Temporal:
        """Read a date, dateTime or time as FHIR and FHIRPath write them.

        Raises
        ------
        FhirPathError
            When the text is none.
        """
        found = cls.maybe(kind, text)
        if found is None:
            raise FhirPathError(f"A literal is not a valid {kind}.")
        return found

    @classmethod
    def maybe(cls, kind: Kind, text: str) -> Temporal | None:
        """Read one, or return None when the text is none."""
        if kind == "time":
            match = _TIME.fullmatch(text)
            parts = tuple(_part(p) for p in match.groups() if p) if match else ()
            return cls("time", parts) if parts and _clock_ok(parts) else None
        match = _DATE.fullmatch(text)
        if match is None or (kind == "date" and match[4]):
            return None
        year, month, day, _, hour, minute, second, zone = match.groups()
        if hour and not day:
            return None
        parts = tuple(_part(p) for p in (year, month, day, hour, minute, second) if p)
        if not _date_ok(parts):
            return None
        return cls(kind, parts, _zone(zone), zone == "Z")

    @property
    def digits(self) -> int:
        """Number of digits of the precision: 4 for a year, 8 for a day, 17 for a millisecond."""
        base = 0 if self.kind == "time" else 2
        count = base + 2 * len(self.parts)
        return count + (3 if self._fraction else 0)

    @property
    def _fraction(self) -> str:
        second = self.parts[-1]
        return str(second).partition(".")[2] if isinstance(second, Decimal) else ""

    def __str__(self) -> str:
        if self.kind == "time":
            return _clock_text(self.parts)
        head = "-".join(f"{p:0{4 if i == 0 else 2}d}" for i, p in enumerate(self.parts[:3]))
        if len(self.parts) <= 3:
            return head
        return f"{head}T{_clock_text(self.parts[3:])}{self._zone_text}"

    @property
    def _zone_text(self) -> str:
        if self.zone_minutes is None:
            return ""
        if self.utc_mark:
            return "Z"
        sign = "-" if self.zone_minutes < 0 else "+"
        hours, minutes = divmod(abs(self.zone_minutes), 60)
        return f"{sign}{hours:02d}:{minutes:02d}"

    def compare(self, other: Temporal) -> int | None:
        """Return -1, 0 or 1, or None where the precisions (or a missing zone) leave it open.

        Raises
        ------
        FhirPathError
            When a time of day is compared with a date.
        """
        if (self.kind == "time") != (other.kind == "time"):
            raise FhirPathError("A time of day cannot be compared with a date.")
        mine, theirs = self, other
        timed = self.kind != "time" and len(self.parts) > 3 and len(other.parts) > 3
        if timed:
            if (self.zone_minutes is None) != (other.zone_minutes is None):
                return None
            mine, theirs = self._utc(), other._utc()
        for a, b in zip(mine.parts, theirs.parts, strict=False):
            if a != b:
                return -1 if a < b else 1
        return 0 if len(mine.parts) == len(theirs.parts) else None

    def _utc(self) -> Temporal:
        if not self.zone_minutes:
            return self
        moved = self._moved(Decimal(-60 * self.zone_minutes))
        return replace(moved, zone_minutes=0)

    def _moved(self, seconds: Decimal) -> Temporal:
        """Shift by seconds and keep the precision."""
        start: Parts = (1, 1, 1, 0, 0, 0)
        year, month, day, *clock = self.parts + start[len(self.parts) :]
        second = Decimal(clock[2])
        whole = int(second)
        total = seconds + (second - whole)
        carried = total.to_integral_value(rounding="ROUND_FLOOR")
        fraction = total - carried
        try:
            base = datetime(int(year), int(month), int(day), int(clock[0]), int(clock[1]), whole)  # noqa: DTZ001 - zone kept apart
            base += timedelta(seconds=int(carried))
        except (OverflowError, ValueError) as error:
            raise FhirPathError("A date leaves the years 1 to 9999.") from error
        exact: Decimal | int = base.second
        if isinstance(self.parts[-1], Decimal) and len(self.parts) == 6:
            exact = (base.second + fraction).quantize(self.parts[-1], rounding=ROUND_DOWN)
        full = (base.year, base.month, base.day, base.hour, base.minute, exact)
        return replace(self, parts=full[: len(self.parts)])

    def plus(self, quantity: Quantity, sign: int) -> Temporal:
        """Add (or subtract) a duration (section 6.6.7): years and months by the calendar, the rest exactly.

        Raises
        ------
        FhirPathError
            When the unit is no duration of the calendar or of definite length.
        """
        unit = quantity.unit.removesuffix("s") if quantity.unit not in _UCUM else _UCUM[quantity.unit]
        if unit not in _UNIT_PLACE:
            raise FhirPathError("Only a duration can be added to a date or time.")
        amount = sign * quantity.value
        if self.kind == "time":
            return self._time_plus(amount * _SECONDS.get(unit, 0))
        if unit in {"year", "month"}:
            return self._months(int(amount) * (12 if unit == "year" else 1))
        if len(self.parts) <= 2:  # a shorter precision: whole months or years of the duration
            days = int(amount * _SECONDS[unit] / 86400)
            return self._months(int(days / 365) * 12 if len(self.parts) == 1 else int(days / 30))
        whole = amount.to_integral_value(rounding=ROUND_DOWN) if _UNIT_PLACE[unit] < 5 else amount
        seconds = whole * _SECONDS[unit]
        if len(self.parts) == 3:
            seconds = Decimal(int(seconds / 86400) * 86400)
        return self._moved(seconds)

    def _time_plus(self, seconds: Decimal) -> Temporal:
        day = Temporal("dateTime", (2000, 1, 1, *self.parts))
        return replace(self, parts=day._moved(seconds).parts[3:])

    def _months(self, months: int) -> Temporal:
        if len(self.parts) == 1:
            months = int(months / 12) * 12
        index = int(self.parts[0]) * 12 + (int(self.parts[1]) - 1 if len(self.parts) > 1 else 0) + months
        year, month = divmod(index, 12)
        if not 1 <= year <= 9999:
            raise FhirPathError("A date leaves the years 1 to 9999.")
        moved: Parts = (year, month + 1)[: len(self.parts)]
        if len(self.parts) > 2:
            last = calendar.monthrange(year, month + 1)[1]
            moved += (min(int(self.parts[2]), last), *self.parts[3:])
        return replace(self, parts=moved)


def _part(text: str) -> int | Decimal:
    return Decimal(text) if "." in text else int(text)


def _zone(text: str | None) -> int | None:
    if text is None:
        return None
    if text == "Z":
        return 0
    minutes = int(text[1:3]) * 60 + int(text[4:])
    return -minutes if text[0] == "-" else minutes


def _clock_ok(parts: Parts) -> bool:
    return all(p < limit for p, limit in zip(parts, (24, 60, 60), strict=False))


def _date_ok(parts: Parts) -> bool:
    first: Parts = (1, 1, 1)
    year, month, day = parts[:3] + first[len(parts[:3]) :]
    if not (year >= 1 and 1 <= month <= 12):
        return False
    return 1 <= day <= calendar.monthrange(int(year), int(month))[1] and _clock_ok(parts[3:])


def _clock_text(parts: Parts) -> str:
    texts = []
    for part in parts:
        whole, _, fraction = str(part).partition(".")
        texts.append(f"{int(whole):02d}" + (f".{fraction}" if fraction else ""))
    return ":".join(texts)
