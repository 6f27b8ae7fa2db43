"""Conversions between System types (FHIRPath N1, section 5.5)."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from digital_twins.fhir.fhirpath._quantity import CALENDAR_UNITS, Quantity
from digital_twins.fhir.fhirpath._temporal import Kind, Temporal

if TYPE_CHECKING:
    from collections.abc import Callable

_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_DECIMAL = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)
_QUANTITY = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*(?:'([^']+)'|([a-zA-Z]+))?", re.ASCII)
_TRUE = {"true", "t", "yes", "y", "1", "1.0"}
_FALSE = {"false", "f", "no", "n", "0", "0.0"}


def to_boolean(value: Any) -> bool | None:
    """``toBoolean()`` of one value."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | Decimal):
        return {1: True, 0: False}.get(int(value)) if value == int(value) else None
    if isinstance(value, str):
        text = value.lower()
        return True if text in _TRUE else False if text in _FALSE else None
    return None


def to_integer(value: Any) -> int | None:
    """``toInteger()`` of one value."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        number = int(value)
        return number if -(2**31) <= number < 2**31 else None
    return None


def to_decimal(value: Any) -> Decimal | None:
    """``toDecimal()`` of one value."""
    if isinstance(value, bool | int):
        return Decimal(int(value))
    if isinstance(value, Decimal):
        return value
    return Decimal(value) if isinstance(value, str) and _DECIMAL.fullmatch(value) else None


def to_text(value: Any) -> str | None:
    """``toString()`` of one value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, Decimal):
        return format(value, "f")
    return str(value) if isinstance(value, int | Temporal | Quantity) else None


def _to_temporal(value: Any, kind: Kind) -> Temporal | None:
    if isinstance(value, Temporal):
        if value.kind == kind:
            return value
        if kind == "dateTime" and value.kind == "date":
            return Temporal("dateTime", value.parts)
        return Temporal("date", value.parts[:3]) if kind == "date" and value.kind == "dateTime" else None
    return Temporal.maybe(kind, value) if isinstance(value, str) else None


def to_quantity(value: Any) -> Quantity | None:
    """``toQuantity()`` of one value."""
    if isinstance(value, Quantity):
        return value
    number = to_decimal(value) if not isinstance(value, str) else None
    if number is not None:
        return Quantity(number)
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    number, unit, word = Decimal(match[1]), match[2], match[3]
    if word is not None:
        return Quantity(number, CALENDAR_UNITS[word], calendar=True) if word in CALENDAR_UNITS else None
    return Quantity(number, unit or "1")


CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "Boolean": to_boolean,
    "Integer": to_integer,
    "Decimal": to_decimal,
    "String": to_text,
    "Date": lambda value: _to_temporal(value, "date"),
    "DateTime": lambda value: _to_temporal(value, "dateTime"),
    "Time": lambda value: _to_temporal(value, "time"),
    "Quantity": to_quantity,
}
"""System type -> conversion of one value to it, None where there is none."""
