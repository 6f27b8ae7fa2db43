"""JSON in and out: bounded in size and depth, with every decimal kept as it was written.

FHIR gives the digits of a decimal a meaning (``1.10`` is not ``1.1``), so numbers that a double would write
differently are carried as text beside their value.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from digital_twins.fhir._outcome import FhirError, Issue, bad_request

MAX_BODY_BYTES = 32 * 2**20
MAX_DEPTH = 100
# Each begins with one fixed byte, so that the search runs over a body at the speed of memory.
_ZEROS = re.compile(rb"\.\d*0[,}\]\s]")
_LONG = re.compile(rb":\s*-?(?:\d+\.?\d*[eE]|[\d.]{16})")

_NO_MARKS = bytes(set(range(256)) - set(b'{}[]"'))


class ExactDecimal(float):
    """A number that remembers its digits."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> ExactDecimal:
        number = super().__new__(cls, text)
        number.text = text
        return number


def _default(value: object) -> orjson.Fragment:
    if isinstance(value, ExactDecimal):
        return orjson.Fragment(value.text)
    raise TypeError


def dumps(value: Any) -> bytes:
    """Return compact JSON; decimals keep their digits."""
    return orjson.dumps(value, default=_default)


def too_large(limit: int = MAX_BODY_BYTES) -> FhirError:
    """Return the error for a body beyond the limit (413)."""
    text = f"The body is larger than {limit // 2**20} MB."
    return FhirError(413, [Issue("too-long", text)], fix="Send it in parts.")


def loads(raw: bytes) -> Any:
    """Return parsed JSON.

    Raises
    ------
    FhirError
        Not UTF-8 JSON, nested deeper than 100 levels, or larger than 32 MB.
    """
    if len(raw) > MAX_BODY_BYTES:
        raise too_large()
    try:
        parsed = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        text = f"The body is not JSON: line {error.lineno}, column {error.colno}."
        raise bad_request(text, code="structure") from None
    if not isinstance(parsed, dict | list):
        return parsed
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and not _shallow(raw):
        check_depth(parsed)
    if _ZEROS.search(raw) or _LONG.search(raw):
        return json.loads(raw, parse_float=ExactDecimal)
    return parsed


def _shallow(raw: bytes) -> bool:
    """Whether JSON text is plainly no deeper than 100 levels; false may mean only: look closer.

    Of the text its brackets and quotes are left; a string without brackets is then a pair of quotes, and
    goes. Each round takes away innermost objects, then innermost arrays: two levels at most. All of it runs
    at the speed of memory, where `check_depth` visits every value.
    """
    if b"\\" in raw:
        raw = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = raw.translate(None, _NO_MARKS).replace(b'""', b"")
    if b'"' in marks:
        return False  # a string holds a bracket
    for _ in range(MAX_DEPTH // 2):
        if not marks:
            return True
        marks = marks.replace(b"{}", b"").replace(b"[]", b"")
    return not marks


def check_depth(node: Any) -> None:
    """Refuse what is nested deeper than 100 levels, without recursion."""
    level = [node]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            children = item.values() if isinstance(item, dict) else item
            below.extend(c for c in children if isinstance(c, dict | list))
        if not below:
            return
        level = below
    raise bad_request(f"The body is nested deeper than {MAX_DEPTH} levels.", code="too-long")
