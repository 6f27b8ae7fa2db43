"""Equality, equivalence and order (FHIRPath N1, sections 6.1 and 6.2)."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from digital_twins.fhir.fhirpath._errors import FhirPathError
from digital_twins.fhir.fhirpath._quantity import Quantity
from digital_twins.fhir.fhirpath._temporal import Temporal
from digital_twins.fhir.fhirpath._values import Node, is_number, system

_SPACE = re.compile(r"\s+")


def equal(a: list[Any], b: list[Any]) -> bool | None:
    """``=`` of two collections: None where it cannot be told."""
    if not a or not b:
        return None
    if len(a) != len(b):
        return False
    open_ = False
    for left, right in zip(a, b, strict=True):
        same = same_item(left, right)
        if same is False:
            return False
        open_ = open_ or same is None
    return None if open_ else True


def same_item(a: Any, b: Any) -> bool | None:
    """``=`` of two items."""
    a, b = system(a), system(b)
    if isinstance(a, Node) or isinstance(b, Node):
        if not (isinstance(a, Node) and isinstance(b, Node)):
            return False
        return _same_json(a.value, b.value) and _same_json(a.extra, b.extra)
    if isinstance(a, Temporal) and isinstance(b, Temporal):
        if (a.kind == "time") != (b.kind == "time"):
            return False
        order = a.compare(b)
        return None if order is None else order == 0
    if isinstance(a, Quantity) or isinstance(b, Quantity):
        return _same_quantity(a, b)
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if is_number(a) and is_number(b):
        return bool(a == b)
    return type(a) is type(b) and bool(a == b)


def _same_quantity(a: Any, b: Any) -> bool | None:
    a, b = _as_quantity(a), _as_quantity(b)
    if a is None or b is None:
        return False
    if a.calendar != b.calendar and {"year", "month"} & {a.unit, b.unit}:
        return None  # a calendar year and 'a' are not the same length (section 4.1.8)
    pair = a.in_unit_of(b)
    return None if pair is None and _unknown(a, b) else pair is not None and pair[0] == pair[1]


def _unknown(a: Quantity, b: Quantity) -> bool:
    return a.calendar != b.calendar


def _as_quantity(value: Any) -> Quantity | None:
    if isinstance(value, Quantity):
        return value
    return Quantity(Decimal(value)) if is_number(value) else None


def _same_json(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        left, right = ({k: v for k, v in x.items() if k != "id"} for x in (a, b))
        return left.keys() == right.keys() and all(_same_json(left[k], right[k]) for k in left)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same_json, a, b))
    return type(a) is type(b) and bool(a == b)


def equivalent(a: list[Any], b: list[Any]) -> bool:
    """``~`` of two collections: order does not count, and the answer is never open."""
    if len(a) != len(b):
        return False
    left_over = list(b)
    for item in a:
        match = next((i for i, other in enumerate(left_over) if equivalent_items(item, other)), None)
        if match is None:
            return False
        del left_over[match]
    return True


def equivalent_items(a: Any, b: Any) -> bool:
    """``~`` of two items: case and white space, trailing precision of decimals and units do not count."""
    a, b = system(a), system(b)
    if isinstance(a, str) and isinstance(b, str):
        return _SPACE.sub(" ", a).strip().casefold() == _SPACE.sub(" ", b).strip().casefold()
    if is_number(a) and is_number(b):
        return _rounded_alike(Decimal(a), Decimal(b))
    if isinstance(a, Temporal) and isinstance(b, Temporal):
        return (a.kind == "time") == (b.kind == "time") and a.compare(b) == 0
    if isinstance(a, Quantity) and isinstance(b, Quantity):
        pair = a.in_unit_of(b)
        return pair is not None and _rounded_alike(*_significant(a, b, pair))
    if isinstance(a, Node) and isinstance(b, Node):
        return _equivalent_json(a.value, b.value)
    return same_item(a, b) is True


def _significant(a: Quantity, b: Quantity, pair: tuple[Decimal, Decimal]) -> tuple[Decimal, Decimal]:
    """Bring both to the unit of the less precise one, so that its digits decide."""
    coarse = a if _ulp(a, pair[0]) >= _ulp(b, pair[1]) else b
    scale = pair[0] / a.value if coarse is a and a.value else (pair[1] / b.value if b.value else Decimal(1))
    left, right = pair[0] / scale, pair[1] / scale
    return left.quantize(coarse.value, ROUND_HALF_UP), right.quantize(coarse.value, ROUND_HALF_UP)


def _ulp(quantity: Quantity, converted: Decimal) -> Decimal:
    step = Decimal(1).scaleb(int(quantity.value.as_tuple().exponent))
    return step * (converted / quantity.value if quantity.value else 1)


def _rounded_alike(a: Decimal, b: Decimal) -> bool:
    places = min(_places(a), _places(b))
    step = Decimal(1).scaleb(-places)
    return a.quantize(step, ROUND_HALF_UP) == b.quantize(step, ROUND_HALF_UP)


def _places(value: Decimal) -> int:
    return max(0, -int(value.normalize().as_tuple().exponent))


def _equivalent_json(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        left, right = ({k: v for k, v in x.items() if k != "id"} for x in (a, b))
        return left.keys() == right.keys() and all(_equivalent_json(left[k], right[k]) for k in left)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(any(_equivalent_json(x, y) for y in b) for x in a)
    return equivalent_items(a, b)


def order(a: Any, b: Any) -> int | None:
    """Return -1, 0 or 1 for two System values, None where precision or units leave it open.

    Raises
    ------
    FhirPathError
        When they are not of one kind.
    """
    a, b = system(a), system(b)
    if is_number(a) and is_number(b):
        return int(a > b) - int(a < b)
    if isinstance(a, str) and isinstance(b, str):
        return (a > b) - (a < b)
    if isinstance(a, Temporal) and isinstance(b, Temporal):
        return a.compare(b)
    left, right = _as_quantity(a), _as_quantity(b)
    if left is not None and right is not None:
        pair = left.in_unit_of(right)
        return None if pair is None else (pair[0] > pair[1]) - (pair[0] < pair[1])
    raise FhirPathError("Two values of different kinds have no order.", "Compare values of one kind.")


def unique(values: list[Any]) -> list[Any]:
    """Return the distinct items, in order of their first appearance."""
    found: list[Any] = []
    seen: set[tuple[type, Any]] = set()
    for item in values:
        value = system(item)
        if isinstance(value, str | int):
            key = (bool if isinstance(value, bool) else int if isinstance(value, int) else str, value)
            if key in seen:
                continue
            seen.add(key)
        elif contains(found, item):
            continue
        found.append(item)
    return found


def contains(values: list[Any], item: Any) -> bool:
    """Whether an item equals one of a collection."""
    return any(same_item(other, item) is True for other in values)
