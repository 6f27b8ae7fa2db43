"""SQL conditions on the index tables, as values that are joined into a search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from digital_twins.fhir._definitions import SearchParameter

Value = int | float | str
LAST_CHARACTER = "\U0010ffff"
"""Sorts behind every text that begins with what stands before it."""


@dataclass(frozen=True, slots=True)
class Test:
    """Rows of one index table that satisfy one value.

    ``ordered`` says that the condition fixes the key up to the resource number: the rows come in order of
    resources, and a single resource is probed by one descent. ``table`` ``""`` is the resource row itself,
    and the condition then speaks of ``r``.
    """

    table: str
    condition: str
    arguments: tuple[Value, ...]
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class Predicate:
    """Tests and the predicates ``either`` joined by OR, or the predicates ``also`` joined by AND.

    ``rank`` orders predicates by how few resources they usually leave (0 fewest).
    """

    tests: tuple[Test, ...]
    rank: int = 5
    negated: bool = False
    either: tuple[Predicate, ...] = ()
    also: tuple[Predicate, ...] = ()


NOTHING = Test("", "1=0", ())


def key(parameter: SearchParameter) -> tuple[str, tuple[int, ...]]:
    """Return the condition that names a parameter's rows."""
    numbers = parameter.numbers
    if len(numbers) == 1:
        return "param=?", numbers
    return f"param IN ({','.join('?' * len(numbers))})", numbers


def rows_of(
    parameter: SearchParameter, table: str, condition: str, arguments: Sequence[Value], *, fixed: bool = False
) -> Test:
    """Return the test for a parameter's rows; ``fixed`` when the condition fixes the rest of the key."""
    text, numbers = key(parameter)
    whole = f"{text} AND {condition}" if condition else text
    return Test(table, whole, (*numbers, *arguments), ordered=fixed and len(numbers) == 1)


def filter_sql(found: Predicate, *, materialise: bool = False, rid: str = "r.rid") -> tuple[str, list[Value]]:
    """Return a condition on the resource number ``rid`` for a predicate.

    Ordered tests and dates are probed resource by resource unless ``materialise``; the others are collected
    once.
    """
    parts: list[str] = []
    arguments: list[Value] = []
    for test in found.tests:
        if not test.table:
            parts.append(test.condition)
        elif test.table == "fhir_date" and not materialise:
            probe = f"SELECT 1 FROM fhir_date WHERE {test.condition} AND rid={rid}"  # noqa: S608  (texts of ours)  # nosec B608
            parts.append(f"EXISTS ({probe})")
        elif test.ordered and not materialise:
            parts.append(f"EXISTS (SELECT 1 FROM {test.table} WHERE {test.condition} AND rid={rid})")  # noqa: S608  (table names are ours)  # nosec B608
        else:
            parts.append(f"{rid} IN (SELECT rid FROM {test.table} WHERE {test.condition})")  # noqa: S608  (table names are ours)  # nosec B608
        arguments.extend(test.arguments)
    for more in (*found.either, *found.also):
        inner, values = filter_sql(more, materialise=materialise, rid=rid)
        parts.append(inner)
        arguments.extend(values)
    text = _joined(parts or ["1=0"], " AND " if found.also else " OR ")
    return (f"NOT {text}" if found.negated else text), arguments


def _joined(parts: Sequence[str], word: str) -> str:
    """Return the parts joined as a balanced tree: databases limit the depth of an expression."""
    if len(parts) <= 8:
        return "(" + word.join(parts) + ")"
    middle = len(parts) // 2
    return f"({_joined(parts[:middle], word)}{word}{_joined(parts[middle:], word)})"


def matching(kind: str, found: Predicate) -> tuple[str, list[Value]]:
    """Return the WHERE text over ``fhir_resource r`` for live resources of a type that meet one predicate."""
    text, arguments = filter_sql(found, materialise=True)
    return f"r.type=? AND r.deleted=0 AND {text}", [kind, *arguments]
