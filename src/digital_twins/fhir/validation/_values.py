"""Comparing JSON values with what a profile fixes, and checking primitive values."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from digital_twins.fhir._validate import primitive_ok
from digital_twins.fhir.fhirpath import FhirPathError
from digital_twins.fhir.fhirpath._operators import ordering
from digital_twins.fhir.fhirpath._values import Node
from digital_twins.fhir.validation._xhtml import xhtml_problem

_LARGEST_STRING = 1024 * 1024


def equal_json(a: Any, b: Any) -> bool:
    """Whether two JSON values are the same; 1 and 1.0 are."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal_json(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal_json, a, b))
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


def matches_pattern(value: Any, pattern: Any) -> bool:
    """Whether a value has at least what the pattern has (ElementDefinition.pattern[x])."""
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(
            k in value and matches_pattern(value[k], v) for k, v in pattern.items()
        )
    if isinstance(pattern, list):
        return isinstance(value, list) and all(any(matches_pattern(x, p) for x in value) for p in pattern)
    return equal_json(value, pattern)


def out_of_bounds(node: Node, bounds: tuple[Any, Any]) -> bool:
    """Whether a number, time or quantity is known to be below the first bound or above the second."""
    for bound, sign in zip(bounds, "<>", strict=True):
        if bound is None or isinstance(bound, dict) is not isinstance(node.value, dict):
            continue  # a bound that counts from today is not judged
        try:
            if ordering(sign)([node], [Node(bound, node.type)]) == [True]:
                return True
        except FhirPathError:
            continue
    return False


def primitive_problem(kind: str, value: Any) -> str | None:
    """Say what is wrong with a primitive value, or None."""
    if isinstance(value, dict | list):
        return f"A {kind} is a single value."
    if not primitive_ok(kind, value):
        return f"The value is not a valid {kind}."
    if kind == "xhtml":
        return xhtml_problem(value)
    if kind == "base64Binary":
        try:
            base64.b64decode(re.sub(r"\s", "", value), validate=True)
        except (ValueError, binascii.Error):
            return "The value is not valid base64."
    if isinstance(value, str):
        if len(value) > _LARGEST_STRING and kind in {"string", "markdown"}:
            return "The string is longer than 1 MB."
        if kind not in {"string", "markdown", "xhtml"} and value != value.strip():
            return "The value begins or ends with white space."
    return None
