"""Primitive values, quickly: a pattern that valid values of a type have; what fails it is looked at again."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from digital_twins.fhir._validate import INTEGER_LOW
from digital_twins.fhir.validation._values import primitive_problem

if TYPE_CHECKING:
    from digital_twins.fhir.validation._validator import Validator

Test = Callable[[Any], bool]
LONG = 1000
"""Strings from this length on are looked at by all rules."""
_DAY = (
    r"(?!0000)\d{4}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])"
    r"|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
)
_CLOCK = r"T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:Z|[+-](?:0\d|1[0-3]):[0-5]\d)"
_PATTERNS = {
    "date": re.compile(_DAY),
    "dateTime": re.compile(f"{_DAY}(?:{_CLOCK})?"),
    "instant": re.compile(_DAY + _CLOCK),
    "code": re.compile(r"[!-~]+"),
    "id": re.compile(r"[A-Za-z0-9\-.]{1,64}"),
    "uri": re.compile(r"[!-~]+"),
    "url": re.compile(r"[!-~]+"),
    "canonical": re.compile(r"[!-~]+"),
}
_MOST_KEPT = 4096


def leaf_check(validator: Validator, kind: str, value_set: str | None) -> Test:
    """Return whether a value is a valid primitive of a type, and a code of the value set."""
    if value_set is not None and kind in {"code", "string", "uri"}:
        return _bound(validator, kind, value_set)
    if kind == "boolean":
        return lambda value: value is True or value is False
    if kind == "decimal":
        return lambda value: isinstance(value, float | int) and type(value) is not bool
    if kind in INTEGER_LOW:
        low = INTEGER_LOW[kind]
        return lambda value: type(value) is int and low <= value < 2**31
    if kind in {"string", "markdown"}:
        return lambda value: (
            (type(value) is str and 0 < len(value) < LONG and not value.isspace())
            or primitive_problem(kind, value) is None
        )
    pattern = _PATTERNS.get(kind)
    if pattern is None:
        return lambda value: primitive_problem(kind, value) is None
    fits = pattern.fullmatch
    return lambda value: (
        (type(value) is str and fits(value) is not None) or primitive_problem(kind, value) is None
    )


def _bound(validator: Validator, kind: str, value_set: str) -> Test:
    known: set[str] = set()

    def test(value: Any) -> bool:
        if value in known:
            return True
        if primitive_problem(kind, value) is not None or validator.coded_in(value, value_set) is False:
            return False
        if len(known) < _MOST_KEPT:
            known.add(value)
        return True

    return test
