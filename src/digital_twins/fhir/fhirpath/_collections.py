"""Functions over collections (FHIRPath N1, sections 5.1 to 5.4 and 7.1)."""

from __future__ import annotations

from dataclasses import replace
from functools import cmp_to_key
from typing import TYPE_CHECKING, Any

from digital_twins.fhir.fhirpath import _compare as compare
from digital_twins.fhir.fhirpath._errors import FhirPathError
from digital_twins.fhir.fhirpath._values import Node, integer_of, single, truth

if TYPE_CHECKING:
    from digital_twins.fhir.fhirpath._scope import Collection, Run, Scope

_MOST_ITEMS = 200_000


def where(focus: Collection, arguments: list[Run], scope: Scope) -> Collection:
    """``where(criteria)``."""
    test = arguments[0]
    return [item for i, item in enumerate(focus) if truth(test([item], scope.on(item, i))) is True]


def exists(focus: Collection, arguments: list[Run], scope: Scope) -> Collection:
    """``exists([criteria])``."""
    if not arguments:
        return [bool(focus)]
    test = arguments[0]
    return [any(truth(test([item], scope.on(item, i))) is True for i, item in enumerate(focus))]


def every(focus: Collection, arguments: list[Run], scope: Scope) -> Collection:
    """``all(criteria)``."""
    test = arguments[0]
    return [all(truth(test([item], scope.on(item, i))) is True for i, item in enumerate(focus))]


def select(focus: Collection, arguments: list[Run], scope: Scope) -> Collection:
    """``select(projection)``."""
    project = arguments[0]
    return [found for i, item in enumerate(focus) for found in project([item], scope.on(item, i))]


def repeat(focus: Collection, arguments: list[Run], scope: Scope) -> Collection:
    """``repeat(projection)``: until nothing new is found."""
    return _repeat(focus, arguments[0], scope, distinct=True)


def repeat_all(focus: Collection, arguments: list[Run], scope: Scope) -> Collection:
    """``repeatAll(projection)``: the same with duplicates kept."""
    return _repeat(focus, arguments[0], scope, distinct=False)


def _repeat(focus: Collection, project: Run, scope: Scope, *, distinct: bool) -> Collection:
    found: Collection = []
    queue = list(focus)
    while queue:
        following: Collection = []
        for i, item in enumerate(queue):
            for new in project([item], scope.on(item, i)):
                if distinct and compare.contains(found, new):
                    continue
                found.append(new)
                following.append(new)
            if len(found) > _MOST_ITEMS:
                raise FhirPathError(f"repeat() found more than {_MOST_ITEMS} items.")
        queue = following
    return found


def aggregate(focus: Collection, arguments: list[Run], scope: Scope) -> Collection:
    """``aggregate(aggregator [, init])``."""
    total = arguments[1](scope.this, scope) if len(arguments) > 1 else []
    for i, item in enumerate(focus):
        total = arguments[0]([item], replace(scope.on(item, i), total=total))
    return total


def sort(focus: Collection, keys: list[tuple[Run, bool]], scope: Scope) -> Collection:
    """``sort([key [asc | desc]] ...)``; an empty key comes first either way."""
    rows = [
        ([key([item], scope.on(item, i)) for key, _ in keys] or [[item]], item)
        for i, item in enumerate(focus)
    ]
    falling = [down for _, down in keys] or [False]

    def order(a: tuple[list[Collection], Any], b: tuple[list[Collection], Any]) -> int:
        for left, right, down in zip(a[0], b[0], falling, strict=True):
            x, y = single(left, "A sort key"), single(right, "A sort key")
            if x is None or y is None:
                found = (x is not None) - (y is not None)
            else:
                found = (compare.order(x, y) or 0) * (-1 if down else 1)
            if found:
                return found
        return 0

    return [item for _, item in sorted(rows, key=cmp_to_key(order))]


def iif(focus: Collection, arguments: list[Run], scope: Scope) -> Collection:
    """``iif(criterion, true-result [, otherwise-result])``: only the chosen branch is evaluated."""
    if len(focus) > 1:
        raise FhirPathError("iif() takes one item.")
    if focus:
        scope = replace(scope, this=focus)
    found = single(arguments[0](focus, scope), "iif()")
    if found is not None and not isinstance(found, bool):
        raise FhirPathError("The criterion of iif() is no Boolean.")
    if found is True:
        return arguments[1](focus, scope)
    return arguments[2](focus, scope) if len(arguments) > 2 else []


def coalesce(_focus: Collection, arguments: list[Run], scope: Scope) -> Collection:
    """``coalesce(...)``: the first argument that is not empty."""
    return next((found for argument in arguments if (found := argument(scope.this, scope))), [])


def all_true(focus: Collection, _arguments: list[Collection], _scope: Scope) -> Collection:
    """``allTrue()``."""
    return [all(_booleans(focus))]


def any_true(focus: Collection, _arguments: list[Collection], _scope: Scope) -> Collection:
    """``anyTrue()``."""
    return [any(_booleans(focus))]


def all_false(focus: Collection, _arguments: list[Collection], _scope: Scope) -> Collection:
    """``allFalse()``."""
    return [not any(_booleans(focus))]


def any_false(focus: Collection, _arguments: list[Collection], _scope: Scope) -> Collection:
    """``anyFalse()``."""
    return [not all(_booleans(focus))]


def _booleans(focus: Collection) -> list[bool]:
    values = [single([item], "A Boolean") for item in focus]
    if not all(isinstance(value, bool) for value in values):
        raise FhirPathError("An item is no Boolean.")
    return values


def subset_of(focus: Collection, arguments: list[Collection], _scope: Scope) -> Collection:
    """``subsetOf(other)``."""
    return [all(compare.contains(arguments[0], item) for item in focus)]


def superset_of(focus: Collection, arguments: list[Collection], _scope: Scope) -> Collection:
    """``supersetOf(other)``."""
    return [all(compare.contains(focus, item) for item in arguments[0])]


def union(focus: Collection, arguments: list[Collection], _scope: Scope) -> Collection:
    """``union(other)``, without duplicates."""
    return compare.unique([*focus, *arguments[0]])


def intersect(focus: Collection, arguments: list[Collection], _scope: Scope) -> Collection:
    """``intersect(other)``, without duplicates."""
    return compare.unique([item for item in focus if compare.contains(arguments[0], item)])


def exclude(focus: Collection, arguments: list[Collection], _scope: Scope) -> Collection:
    """``exclude(other)``, duplicates kept."""
    return [item for item in focus if not compare.contains(arguments[0], item)]


def one(focus: Collection, _arguments: list[Collection], _scope: Scope) -> Collection:
    """``single()``."""
    if len(focus) > 1:
        raise FhirPathError(f"single() met {len(focus)} items.")
    return focus


def skip(focus: Collection, arguments: list[Collection], _scope: Scope) -> Collection:
    """``skip(n)``."""
    return focus[max(integer_of(arguments[0], "skip()") or 0, 0) :]


def take(focus: Collection, arguments: list[Collection], _scope: Scope) -> Collection:
    """``take(n)``."""
    return focus[: max(integer_of(arguments[0], "take()") or 0, 0)]


def children(focus: Collection, _arguments: list[Collection], _scope: Scope) -> Collection:
    """``children()``."""
    return [child for item in focus if isinstance(item, Node) for child in item.children()]


def descendants(focus: Collection, _arguments: list[Collection], _scope: Scope) -> Collection:
    """``descendants()``: children of children, duplicates kept."""
    found: Collection = []
    queue = [item for item in focus if isinstance(item, Node)]
    while queue:
        queue = [child for item in queue for child in item.children()]
        found.extend(queue)
        if len(found) > _MOST_ITEMS:
            raise FhirPathError(f"descendants() found more than {_MOST_ITEMS} items.")
    return found
