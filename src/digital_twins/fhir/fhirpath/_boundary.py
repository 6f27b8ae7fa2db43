"""Boundaries and precision of partial values (FHIRPath N2 draft, lowBoundary, highBoundary, precision)."""

from __future__ import annotations

import calendar
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING

from digital_twins.fhir.fhirpath._errors import FhirPathError
from digital_twins.fhir.fhirpath._quantity import Quantity
from digital_twins.fhir.fhirpath._temporal import Temporal
from digital_twins.fhir.fhirpath._values import integer_of, is_number, single

if TYPE_CHECKING:
    from digital_twins.fhir.fhirpath._scope import Collection, Scope

_MOST_PLACES = 31
_DEFAULT = {"date": 8, "dateTime": 17, "time": 9}
_EARLIEST_ZONE_MINUTES, _LATEST_ZONE_MINUTES = 14 * 60, -12 * 60


def low_boundary(focus: Collection, arguments: list[Collection], _scope: Scope) -> Collection:
    """``lowBoundary([precision])``: the least value that the written one can stand for."""
    return _boundary(focus, arguments, up=False)


def high_boundary(focus: Collection, arguments: list[Collection], _scope: Scope) -> Collection:
    """``highBoundary([precision])``: the greatest value that the written one can stand for."""
    return _boundary(focus, arguments, up=True)


def precision(focus: Collection, _arguments: list[Collection], _scope: Scope) -> Collection:
    """``precision()``: decimals count digits behind the point, dates and times all digits."""
    value = single(focus, "precision()")
    if value is None:
        return []
    if isinstance(value, Temporal):
        return [value.digits]
    if is_number(value):
        return [max(0, -int(Decimal(value).as_tuple().exponent))]
    raise FhirPathError("precision() takes a number, a date or a time.")


def _boundary(focus: Collection, arguments: list[Collection], *, up: bool) -> Collection:
    value = single(focus, "A boundary")
    digits = integer_of(arguments[0], "A boundary") if arguments else None
    if value is None:
        return []
    if isinstance(value, Temporal):
        return _of_temporal(value, _DEFAULT[value.kind] if digits is None else digits, up=up)
    if isinstance(value, Quantity):
        bound = _of_decimal(value.value, digits, up=up)
        return [] if bound is None else [Quantity(bound, value.unit, calendar=value.calendar)]
    if is_number(value):
        bound = _of_decimal(Decimal(value), digits, up=up)
        return [] if bound is None else [bound]
    raise FhirPathError("A boundary takes a number, a quantity, a date or a time.")


def _of_decimal(value: Decimal, places: int | None, *, up: bool) -> Decimal | None:
    places = 8 if places is None else places
    if not 0 <= places <= _MOST_PLACES:
        return None
    half = Decimal(1).scaleb(int(value.as_tuple().exponent)) / 2
    bound = value + half if up else value - half
    step = Decimal(1).scaleb(-places)
    # the boundary widens away from the value, but a value below the step keeps its own zero
    if abs(bound) < step and abs(value) < step and places:
        return Decimal(0).quantize(step).copy_sign(value if not up else Decimal(1))
    return bound.quantize(step, ROUND_CEILING if up else ROUND_FLOOR)


def _of_temporal(value: Temporal, digits: int, *, up: bool) -> Collection:
    lengths = {"date": (4, 6, 8), "dateTime": (4, 6, 8, 10, 12, 14, 17), "time": (2, 4, 6, 9)}[value.kind]
    if digits not in lengths:
        return []
    wanted = lengths.index(digits) + 1
    parts = _filled(value, up=up)[: 6 if value.kind != "time" else 3]
    kept = parts[: min(wanted, len(parts))]
    fine = digits in {17, 9}
    if fine:
        second = parts[-1]
        if not isinstance(value.parts[-1], Decimal):
            second = Decimal(second) + (Decimal("0.999") if up else Decimal("0.000"))
        kept = (*parts[:-1], Decimal(second).quantize(Decimal("0.001")))
    zone = value.zone_minutes
    if zone is None and value.kind == "dateTime" and len(kept) > 3:
        zone = _LATEST_ZONE_MINUTES if up else _EARLIEST_ZONE_MINUTES
    return [Temporal(value.kind, kept, zone if len(kept) > 3 else None, value.utc_mark)]


def _filled(value: Temporal, *, up: bool) -> tuple[int | Decimal, ...]:
    parts = list(value.parts)
    if value.kind == "time":
        return tuple(parts + [59 if up else 0] * (3 - len(parts)))
    if len(parts) < 2:
        parts.append(12 if up else 1)
    if len(parts) < 3:
        parts.append(calendar.monthrange(int(parts[0]), int(parts[1]))[1] if up else 1)
    if len(parts) == 3:
        parts.append(23 if up else 0)
        return tuple(parts + [59 if up else 0] * 2)
    # the suite leaves the minute of an hour-precise dateTime at 00 and only widens the second
    if len(parts) == 4:
        parts.append(0)
    return tuple(parts + [59 if up else 0] * (6 - len(parts)))


def comparable(focus: Collection, arguments: list[Collection], _scope: Scope) -> Collection:
    """``comparable(quantity)``: whether two quantities have units of one dimension."""
    a, b = single(focus, "comparable()"), single(arguments[0], "comparable()")
    if a is None or b is None:
        return []
    return [isinstance(a, Quantity) and isinstance(b, Quantity) and a.comparable(b)]
