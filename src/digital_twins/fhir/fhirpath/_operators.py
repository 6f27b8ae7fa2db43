"""Arithmetic and logic (FHIRPath N1, sections 6.5 and 6.6)."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any

from digital_twins.fhir.fhirpath import _compare as compare
from digital_twins.fhir.fhirpath._errors import FhirPathError
from digital_twins.fhir.fhirpath._quantity import Quantity
from digital_twins.fhir.fhirpath._temporal import Temporal
from digital_twins.fhir.fhirpath._values import is_number, single, string_of, truth

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST = 2**31 - 1


def boxed(value: Any) -> list[Any]:
    """Return a collection of the value, empty for None."""
    return [] if value is None else [value]


def _bounded(value: int | Decimal) -> list[Any]:
    if isinstance(value, int) and not -_MOST - 1 <= value <= _MOST:
        return []  # overflow gives an empty collection (section 6.6)
    return [value]


def _plus(a: Any, b: Any) -> list[Any]:
    if isinstance(a, str) and isinstance(b, str):
        return [a + b]
    return _sum(a, b, 1)


def _minus(a: Any, b: Any) -> list[Any]:
    return _sum(a, b, -1)


def _sum(a: Any, b: Any, sign: int) -> list[Any]:
    if is_number(a) and is_number(b):
        return _bounded(a + sign * b)
    if isinstance(a, Temporal) and isinstance(b, Quantity):
        return [a.plus(b, sign)]
    if isinstance(a, Quantity) and isinstance(b, Quantity):
        if a.unit == b.unit and a.calendar == b.calendar:
            return [Quantity(a.value + sign * b.value, a.unit, calendar=a.calendar)]
        pair = a.in_unit_of(b)
        if pair is None or not a.value:
            return []
        scale = pair[0] / a.value
        return [Quantity((pair[0] + sign * pair[1]) / scale, a.unit, calendar=a.calendar)]
    raise FhirPathError("These two kinds of values cannot be added or subtracted.")


def _times(a: Any, b: Any) -> list[Any]:
    if is_number(a) and is_number(b):
        return _bounded(a * b)
    if isinstance(a, Quantity) and is_number(b):
        return [Quantity(a.value * b, a.unit, calendar=a.calendar)]
    if isinstance(b, Quantity) and is_number(a):
        return [Quantity(b.value * a, b.unit, calendar=b.calendar)]
    if isinstance(a, Quantity) and isinstance(b, Quantity):
        return boxed(a.times(b, power=1))
    raise FhirPathError("These two kinds of values cannot be multiplied.")


def _divided(a: Any, b: Any) -> list[Any]:
    if is_number(b) and b == 0:
        return []
    if is_number(a) and is_number(b):
        with localcontext() as context:
            context.prec = 28
            return [Decimal(a) / Decimal(b)]
    if isinstance(a, Quantity) and is_number(b):
        return [Quantity(a.value / Decimal(b), a.unit, calendar=a.calendar)]
    if isinstance(a, Quantity) and isinstance(b, Quantity):
        return boxed(a.times(b, power=-1))
    raise FhirPathError("These two kinds of values cannot be divided.")


def _whole(a: Any, b: Any) -> list[Any]:
    if not (is_number(a) and is_number(b)):
        raise FhirPathError("'div' takes two numbers.")
    return [] if b == 0 else [int(Decimal(a) / Decimal(b))]


def _rest(a: Any, b: Any) -> list[Any]:
    if not (is_number(a) and is_number(b)):
        raise FhirPathError("'mod' takes two numbers.")
    if b == 0:
        return []
    left = Decimal(a) % Decimal(b)
    return [int(left) if isinstance(a, int) and isinstance(b, int) else left]


_ARITHMETIC: dict[str, Callable[[Any, Any], list[Any]]] = {
    "+": _plus,
    "-": _minus,
    "*": _times,
    "/": _divided,
    "div": _whole,
    "mod": _rest,
}
_ORDER: dict[str, Callable[[int], bool]] = {
    "<": lambda x: x < 0,
    "<=": lambda x: x <= 0,
    ">": lambda x: x > 0,
    ">=": lambda x: x >= 0,
}


def arithmetic(operator: str) -> Callable[[list[Any], list[Any]], list[Any]]:
    """Return the operator over two collections; empty in, empty out."""
    function = _ARITHMETIC[operator]

    def apply(a: list[Any], b: list[Any]) -> list[Any]:
        left, right = single(a, f"'{operator}'"), single(b, f"'{operator}'")
        return [] if left is None or right is None else function(left, right)

    return apply


def ordering(operator: str) -> Callable[[list[Any], list[Any]], list[Any]]:
    """Return the comparison over two collections."""
    test = _ORDER[operator]

    def apply(a: list[Any], b: list[Any]) -> list[Any]:
        left, right = single(a, f"'{operator}'"), single(b, f"'{operator}'")
        if left is None or right is None:
            return []
        found = compare.order(left, right)
        return [] if found is None else [test(found)]

    return apply


def joined(a: list[Any], b: list[Any]) -> list[Any]:
    """``&``: concatenation in which an empty collection is an empty string."""
    return [(string_of(a, "'&'") or "") + (string_of(b, "'&'") or "")]


def equals(a: list[Any], b: list[Any]) -> list[Any]:
    """``=``."""
    return boxed(compare.equal(a, b))


def differs(a: list[Any], b: list[Any]) -> list[Any]:
    """``!=``."""
    found = compare.equal(a, b)
    return [] if found is None else [not found]


def is_member(a: list[Any], b: list[Any]) -> list[Any]:
    """``in``."""
    if not a:
        return []
    if len(a) > 1:
        raise FhirPathError("The left side of 'in' has several items.")
    return [compare.contains(b, a[0])]


def both(left: list[Any], right: Callable[[], list[Any]]) -> list[Any]:
    """``and`` with three values; the right side is evaluated only where it matters."""
    a = truth(left)
    if a is False:
        return [False]
    b = truth(right())
    return [False] if b is False else ([] if a is None or b is None else [True])


def either(left: list[Any], right: Callable[[], list[Any]]) -> list[Any]:
    """``or``."""
    a = truth(left)
    if a is True:
        return [True]
    b = truth(right())
    return [True] if b is True else ([] if a is None or b is None else [False])


def one_of(left: list[Any], right: Callable[[], list[Any]]) -> list[Any]:
    """``xor``."""
    a, b = truth(left), truth(right())
    return [] if a is None or b is None else [a is not b]


def implies(left: list[Any], right: Callable[[], list[Any]]) -> list[Any]:
    """``implies``."""
    a = truth(left)
    if a is False:
        return [True]
    b = truth(right())
    return [True] if b is True else ([] if a is None or b is None else [False])


def negated(values: list[Any]) -> list[Any]:
    """Unary minus."""
    value = single(values, "A minus sign")
    if value is None:
        return []
    if isinstance(value, Quantity):
        return [Quantity(-value.value, value.unit, calendar=value.calendar)]
    if not is_number(value):
        raise FhirPathError("A minus sign takes a number.")
    return [-value]
