"""Quantities and their units (FHIRPath N1, section 4.1.8; UCUM)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from digital_twins.fhir.fhirpath._ucum import Unit, unit_of

if TYPE_CHECKING:
    from decimal import Decimal

_CALENDAR = ("year", "month", "week", "day", "hour", "minute", "second", "millisecond")
CALENDAR_UNITS = {**{name: name for name in _CALENDAR}, **{f"{name}s": name for name in _CALENDAR}}
"""Words for durations that FHIRPath knows without quotes, singular and plural, to the singular."""
_DEFINITE = {"week": "wk", "day": "d", "hour": "h", "minute": "min", "second": "s", "millisecond": "ms"}
_CALENDAR_IN_MONTHS = {"year": 12, "month": 1}


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value with a UCUM unit, or with a calendar duration where ``calendar`` says so."""

    value: Decimal
    unit: str = "1"
    calendar: bool = False

    def __str__(self) -> str:
        return f"{self.value} {self.unit}" if self.calendar else f"{self.value} '{self.unit}'"

    @property
    def _measure(self) -> Unit | None:
        unit = _DEFINITE.get(self.unit) if self.calendar else self.unit
        return None if unit is None else unit_of(unit)

    def in_unit_of(self, other: Quantity) -> tuple[Decimal, Decimal] | None:
        """Both values on one scale, or None where the units cannot be compared."""
        if self.unit == other.unit and self.calendar == other.calendar:
            return self.value, other.value
        if self.calendar and other.calendar and {self.unit, other.unit} <= set(_CALENDAR_IN_MONTHS):
            months = _CALENDAR_IN_MONTHS
            return self.value * months[self.unit], other.value * months[other.unit]
        mine, theirs = self._measure, other._measure
        if mine is None or theirs is None or mine.dimension != theirs.dimension:
            return None
        return self.value * mine.factor, other.value * theirs.factor

    def comparable(self, other: Quantity) -> bool:
        """Whether both have units of one dimension."""
        return self.in_unit_of(other) is not None

    def times(self, other: Quantity, *, power: int) -> Quantity | None:
        """Product (``power`` 1) or quotient (``power`` -1), in base units where the units differ."""
        mine, theirs = self._measure, other._measure
        if mine is None or theirs is None or (power < 0 and other.value == 0):
            return None
        product = mine.times(theirs, power)
        a, b = self.value * mine.factor, other.value * theirs.factor
        return Quantity(a * b if power > 0 else a / b, product.base_symbol)
