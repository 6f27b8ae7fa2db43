"""One search parameter with its values becomes conditions on the index tables.

Every value is bound, never written into the SQL text.
"""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from digital_twins._errors import InputError
from digital_twins.fhir._conditions import LAST_CHARACTER, NOTHING, Predicate, Test, rows_of
from digital_twins.fhir._dates import date_range
from digital_twins.fhir._hierarchies import hierarchy_test
from digital_twins.fhir._index import (
    ANY_SYSTEM,
    NO_SYSTEM,
    TEXT_LIMIT,
    normalise,
    relative_reference,
    system_number,
    type_number,
)
from digital_twins.fhir._near import near_test
from digital_twins.fhir._outcome import FhirError, bad_request
from digital_twins.fhir._validate import ID

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from digital_twins.fhir._conditions import Value
    from digital_twins.fhir._definitions import SearchParameter

_PREFIX = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)?(.*)", re.DOTALL)
_BARS = re.compile(r"(?<!\\)\|")
_SPLIT = re.compile(r"(?<!\\),")
MAX_ALTERNATIVES = 1000
_TYPE_ALIASES = {"MRN": "MR"}


def split_values(text: str) -> list[str]:
    r"""Return the alternatives of a value: split at commas, with ``\,`` kept (R4 search 3.1.1.4.2)."""
    if "," not in text:
        return [text] if text else []
    found = [part for part in _SPLIT.split(text) if part]
    if len(found) > MAX_ALTERNATIVES:
        raise bad_request(f"A search value has at most {MAX_ALTERNATIVES} alternatives.", code="too-costly")
    return found


def unescape(text: str) -> str:
    r"""Return a value without its escapes ``\,``, ``\|``, ``\$`` and ``\\``."""
    return re.sub(r"\\([,|$\\])", r"\1", text) if "\\" in text else text


def _bad(parameter: SearchParameter, why: str) -> FhirError:
    return bad_request(f"The value of the search parameter '{parameter.code}' {why}.", code="value")


def _token(parameter: SearchParameter, text: str, modifier: str) -> Test:
    base = parameter
    if modifier == "identifier":
        base = replace(parameter, number=parameter.identifier_number, also=())
    if modifier == "of-type":
        parts = _BARS.split(text)
        if len(parts) != 3 or not parts[1] or not parts[2]:
            raise _bad(parameter, "is not of the form system|type|value")
        arguments = (unescape(parts[2]), type_number(unescape(parts[1])))
        return rows_of(base, "fhir_token", "code=? AND system=?", arguments, fixed=True)
    parts = _BARS.split(text, maxsplit=1)
    if len(parts) == 1:
        return rows_of(base, "fhir_token", "code=?", (unescape(text),), fixed=True)
    system, code = parts
    number = system_number(unescape(system))
    if not code:
        return rows_of(base, "fhir_token", "system=?", (number,))
    if not system:
        numbers: tuple[int, ...] = (NO_SYSTEM, ANY_SYSTEM)
    elif ":" in system:
        numbers = (number, ANY_SYSTEM)
    else:
        numbers = (number, ANY_SYSTEM, type_number(_TYPE_ALIASES.get(system.upper(), system)))
    # A code of one resource seldom has two systems: the plus keeps the index from one descent for each.
    condition = f"code=? AND +system IN ({','.join('?' * len(numbers))})"
    return rows_of(base, "fhir_token", condition, (unescape(code), *numbers), fixed=True)


def _reference(parameter: SearchParameter, text: str, modifier: str) -> Test:
    if modifier in {"above", "below"}:
        return hierarchy_test(parameter, unescape(text), modifier)
    value = relative_reference(unescape(text))
    if "/" in value or ":" in value:
        wanted = [modifier] if modifier else list(parameter.targets)
        kind, slash, name = value.partition("/")
        if wanted and slash and "/" not in name and ":" not in kind and kind not in wanted:
            return NOTHING
        targets: Sequence[str] = [value]
    elif not ID.fullmatch(value):
        raise _bad(parameter, "is not an id or a reference such as Patient/123")
    elif modifier:
        targets = [f"{modifier}/{value}"]
    else:
        targets = [f"{kind}/{value}" for kind in parameter.targets]
    if not targets:
        raise _bad(parameter, "needs the type in front, such as Patient/123")
    if len(targets) == 1:
        return rows_of(parameter, "fhir_reference", "target=?", targets, fixed=True)
    marks = ",".join("?" * len(targets))
    return rows_of(parameter, "fhir_reference", f"target IN ({marks})", targets)


_DATE_SQL: dict[str, tuple[str, Callable[[int, int], tuple[int, ...]]]] = {
    "eq": ("low>=? AND low<? AND high<=?", lambda low, high: (low, high, high)),
    "ne": ("(low<? OR high>?)", lambda low, high: (low, high)),
    "gt": ("high>?", lambda low, high: (high,)),
    "lt": ("low<?", lambda low, high: (low,)),
    "ge": ("high>?", lambda low, high: (low,)),
    "le": ("low<?", lambda low, high: (high,)),
    "sa": ("low>=?", lambda low, high: (high,)),
    "eb": ("high<=?", lambda low, high: (low,)),
    "ap": ("low<? AND high>?", lambda low, high: (high, low)),
    "po": ("low<? AND high>?", lambda low, high: (high, low)),
    "co": ("low<=? AND high>=?", lambda low, high: (low, high)),
}
_DAY_US = 86_400_000_000


def date_condition(text: str) -> tuple[str, tuple[int, ...]]:
    """Return SQL over ``low`` and ``high`` (half-open, microseconds) for a date value with its prefix.

    ``ap`` widens the span by a day on both sides. R4 search 3.1.1.4.5.

    Raises
    ------
    InputError
        The text behind the prefix is no date.
    """
    match = _PREFIX.fullmatch(text)
    return span_condition(*((match[1] or "eq", match[2]) if match else ("eq", text)))


def span_condition(prefix: str, body: str) -> tuple[str, tuple[int, ...]]:
    """Return what `date_condition` does; ``po`` and ``co`` of ``_filter`` are prefixes here too.

    ``po`` asks for a span that overlaps with the value's, ``co`` for one that contains it.
    """
    low, high = date_range(body)
    if prefix == "ap":
        low, high = low - _DAY_US, high + _DAY_US
    sql, arguments = _DATE_SQL[prefix]
    return sql, arguments(low, high)


def _date(parameter: SearchParameter, text: str, modifier: str) -> Test:
    match = _PREFIX.fullmatch(text)
    return date_test(parameter, *((match[1] or "eq", match[2]) if match else ("eq", text)))


def date_test(parameter: SearchParameter, prefix: str, body: str) -> Test:
    """Return the test of a date with a prefix, or an operator of ``_filter``."""
    try:
        sql, arguments = span_condition(prefix, body)
    except InputError:
        raise _bad(parameter, "is not a date such as ge2024-03-01") from None
    return rows_of(parameter, "fhir_date", sql, arguments)


def _string(parameter: SearchParameter, text: str, modifier: str) -> Test:
    value = unescape(text)
    folded = normalise(value)
    if modifier == "exact":
        return rows_of(parameter, "fhir_string", "norm=? AND exact=?", (folded, value[:TEXT_LIMIT]))
    if modifier == "contains":
        return rows_of(parameter, "fhir_string", "norm LIKE ? ESCAPE '!'", (f"%{liked(folded)}%",))
    return rows_of(parameter, "fhir_string", "norm>=? AND norm<?", (folded, folded + LAST_CHARACTER))


def liked(text: str) -> str:
    """Return text for LIKE with the escape ``!``."""
    return re.sub(r"([!%_])", r"!\1", text)


_NUMBER_SQL: dict[str, tuple[str, Callable[[float, float, float], tuple[float, ...]]]] = {
    "eq": ("low>=? AND low<=? AND high<=?", lambda v, low, high: (low, high, high)),
    "ne": ("(low<? OR high>?)", lambda v, low, high: (low, high)),
    "gt": ("high>?", lambda v, low, high: (v,)),
    "lt": ("low<?", lambda v, low, high: (v,)),
    "ge": ("high>=?", lambda v, low, high: (v,)),
    "le": ("low<=?", lambda v, low, high: (v,)),
    "sa": ("low>?", lambda v, low, high: (high,)),
    "eb": ("high<?", lambda v, low, high: (low,)),
    "co": ("low<=? AND high>=?", lambda v, low, high: (v, v)),
}


def number_range(text: str) -> tuple[float, float, float]:
    """Return ``(value, low, high)``: 5.40 stands for 5.395 to 5.405 (R4 search 3.1.1.4.4).

    Raises
    ------
    ValueError
        The text is no decimal number.
    """
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError from None
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or abs(exponent) > 300:
        raise ValueError
    half = (
        Decimal(5).scaleb(min(exponent, 0) - 1)
        if "e" not in text.lower()
        else Decimal(5).scaleb(exponent - 1)
    )
    return float(value), float(value - half), float(value + half)


def _quantity(parameter: SearchParameter, text: str, modifier: str) -> Test:
    match = _PREFIX.fullmatch(text)
    return quantity_test(parameter, *((match[1] or "eq", match[2]) if match else ("eq", text)))


def quantity_test(parameter: SearchParameter, prefix: str, text: str) -> Test:
    """Return the test of a number, with its unit behind ``|``, and a prefix or an operator of ``_filter``."""
    body, _, unit = text.partition("|")
    try:
        value, low, high = number_range(body)
    except ValueError:
        raise _bad(parameter, "is not a number such as ge5.4") from None
    if prefix == "ap":
        margin = abs(value) * 0.1
        prefix, low, high = "eq", min(low, value - margin), max(high, value + margin)
    sql, bounds = _NUMBER_SQL[prefix]
    found: tuple[Value, ...] = bounds(value, low, high)
    if not unit:
        return rows_of(parameter, "fhir_quantity", sql, found)
    system, _, code = unit.partition("|")
    if system:
        found = (*found, system_number(unescape(system)), unescape(code))
        return rows_of(parameter, "fhir_quantity", f"{sql} AND system=? AND code=?", found)
    found = (*found, unescape(code), unescape(code))
    return rows_of(parameter, "fhir_quantity", f"{sql} AND (code=? OR unit=?)", found)


def _uri(parameter: SearchParameter, text: str, modifier: str) -> Test:
    value = unescape(text)
    if modifier == "below":
        return rows_of(parameter, "fhir_uri", "value>=? AND value<?", (value, value + LAST_CHARACTER))
    if modifier == "above":
        return rows_of(parameter, "fhir_uri", "substr(?,1,length(value))=value", (value,))
    return rows_of(parameter, "fhir_uri", "value=?", (value,), fixed=True)


def _special(parameter: SearchParameter, text: str, modifier: str) -> Test:
    return near_test(parameter, unescape(text))


_BUILDERS: dict[str, Callable[[SearchParameter, str, str], Test]] = {
    "token": _token,
    "reference": _reference,
    "date": _date,
    "string": _string,
    "quantity": _quantity,
    "number": _quantity,
    "uri": _uri,
    "special": _special,
}


def build_test(parameter: SearchParameter, text: str, modifier: str = "") -> Test:
    """Return the test of one value of a parameter."""
    return _BUILDERS[parameter.kind](parameter, text, modifier)


TABLES = {kind: f"fhir_{kind}" for kind in ("token", "reference", "date", "string", "quantity", "uri")}
TABLES["number"] = TABLES["special"] = "fhir_quantity"
"""Kind of parameter -> the index table of its values."""
_MODIFIERS = {
    "token": {"not", "of-type"},
    "reference": {"identifier", "above", "below"},
    "date": set(),
    "number": set(),
    "quantity": set(),
    "string": {"exact", "contains"},
    "uri": {"below", "above"},
    "special": set(),
}
_NARROW = {"identifier": 0, "patient": 1, "subject": 1}
_RANKS = {
    "reference": 2,
    "string": 2,
    "uri": 2,
    "quantity": 3,
    "number": 3,
    "date": 4,
    "token": 5,
    "special": 4,
}


def predicate(parameter: SearchParameter, modifier: str, text: str, *, types: frozenset[str]) -> Predicate:
    """Return the predicate of ``code:modifier=value,value``.

    Raises
    ------
    FhirError
        400 for a modifier that this kind of parameter has not, or a value that cannot be read.
    """
    kind = parameter.kind
    if modifier == "missing":
        if text not in {"true", "false"}:
            raise _bad(parameter, "must be true or false behind :missing")
        narrow, arguments = "", tuple[str, ...]()
        if kind == "reference" and not parameter.stored and len(parameter.targets) == 1:
            # Its rows are those of a wider parameter: only references to its one type are its own.
            narrow, arguments = (
                "target>=? AND target<?",
                (f"{parameter.targets[0]}/", f"{parameter.targets[0]}0"),
            )
        test = rows_of(parameter, TABLES[kind], narrow, arguments)
        return Predicate((test,), rank=8, negated=text == "true")
    known = modifier in _MODIFIERS[kind] or (kind == "reference" and modifier in types)
    if modifier and not known:
        raise bad_request(
            f"The search parameter '{parameter.code}' has no modifier of this name here.",
            code="not-supported",
        )
    values = split_values(text)
    if not values:
        raise _bad(parameter, "is empty")
    build = _token if modifier == "identifier" else _BUILDERS[kind]
    tests = tuple(build(parameter, value, "" if modifier == "not" else modifier) for value in values)
    rank = _NARROW.get(parameter.code, _RANKS[kind])
    return Predicate(tests, rank=rank, negated=modifier == "not")
