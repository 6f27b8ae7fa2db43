"""Math functions (FHIRPath N1, section 5.7)."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_UP, Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from digital_twins.fhir.fhirpath._errors import FhirPathError
from digital_twins.fhir.fhirpath._quantity import Quantity
from digital_twins.fhir.fhirpath._values import integer_of, is_number, single

if TYPE_CHECKING:
    from collections.abc import Callable

    from digital_twins.fhir.fhirpath._scope import Collection, Scope

    Implementation = Callable[[Collection, list[Collection], Scope], Collection]


def _number(values: Collection, what: str) -> Any:
    value = single(values, what)
    if value is None or is_number(value):
        return value
    raise FhirPathError(f"{what} takes a number.")


def on_number(name: str, function: Callable[[Decimal], Any]) -> Implementation:
    """Return a function over one number."""

    def run(focus: Collection, _arguments: list[Collection], _scope: Scope) -> Collection:
        value = _number(focus, f"{name}()")
        try:
            return [] if value is None else [function(Decimal(value))]
        except (InvalidOperation, OverflowError):
            return []

    return run


def absolute(focus: Collection, _arguments: list[Collection], _scope: Scope) -> Collection:
    """``abs()``."""
    value = single(focus, "abs()")
    if isinstance(value, Quantity):
        return [Quantity(abs(value.value), value.unit, calendar=value.calendar)]
    return [] if _number(focus, "abs()") is None else [abs(value)]


def power(focus: Collection, arguments: list[Collection], _scope: Scope) -> Collection:
    """``power(exponent)``."""
    base, exponent = _number(focus, "power()"), _number(arguments[0], "power()")
    if base is None or exponent is None:
        return []
    if isinstance(base, int) and isinstance(exponent, int) and 0 <= exponent <= 64:
        return [base**exponent]
    try:
        return [Decimal(base) ** Decimal(exponent)]
    except (InvalidOperation, OverflowError):
        return []


def logarithm(focus: Collection, arguments: list[Collection], _scope: Scope) -> Collection:
    """``log(base)``."""
    value, base = _number(focus, "log()"), _number(arguments[0], "log()")
    if value is None or base is None or value <= 0 or base <= 0 or base == 1:
        return []
    return [(Decimal(value).ln() / Decimal(base).ln()).quantize(Decimal("1e-15"))]


def rounded(focus: Collection, arguments: list[Collection], _scope: Scope) -> Collection:
    """``round([precision])``."""
    value = single(focus, "round()")
    places = (integer_of(arguments[0], "round()") if arguments else 0) or 0
    if value is None:
        return []
    if isinstance(value, Quantity):
        return [Quantity(_to_places(value.value, places), value.unit, calendar=value.calendar)]
    return [_to_places(Decimal(_number(focus, "round()")), places)]


def _to_places(value: Decimal, places: int) -> Decimal:
    if not 0 <= places <= 28:
        raise FhirPathError("round() takes 0 to 28 places.")
    return value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)


def _whole(value: Decimal, rounding: str) -> int:
    return int(value.to_integral_value(rounding=rounding))


NUMBER_FUNCTIONS: dict[str, Callable[[Decimal], Any]] = {
    "ceiling": lambda value: _whole(value, ROUND_CEILING),
    "floor": lambda value: _whole(value, ROUND_FLOOR),
    "truncate": lambda value: _whole(value, ROUND_DOWN),
    "exp": Decimal.exp,
    "ln": Decimal.ln,
    "sqrt": Decimal.sqrt,
}
