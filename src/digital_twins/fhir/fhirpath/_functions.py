"""The functions by name, with how many arguments each takes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from digital_twins.fhir.fhirpath import (
    _boundary as boundary,
    _collections as collections,
    _compare as compare,
    _fhir_functions as fhir,
    _math as math,
    _strings as strings,
)
from digital_twins.fhir.fhirpath._convert import CONVERSIONS
from digital_twins.fhir.fhirpath._errors import FhirPathError
from digital_twins.fhir.fhirpath._temporal import Temporal
from digital_twins.fhir.fhirpath._values import single, truth

if TYPE_CHECKING:
    from digital_twins.fhir.fhirpath._scope import Collection, Run, Scope

Plain = Callable[["Collection", "list[Collection]", "Scope"], "Collection"]
Lazy = Callable[["Collection", "list[Run]", "Scope"], "Collection"]


def _not(focus: Collection, _arguments: list[Collection], _scope: Scope) -> Collection:
    found = truth(focus)
    return [] if found is None else [not found]


def _today(_focus: Collection, _arguments: list[Collection], scope: Scope) -> Collection:
    now = scope.environment.now
    return [Temporal("date", (now.year, now.month, now.day))]


def _now(_focus: Collection, _arguments: list[Collection], scope: Scope) -> Collection:
    return [Temporal.parse("dateTime", scope.environment.now.isoformat(timespec="milliseconds"))]


def _time_of_day(_focus: Collection, _arguments: list[Collection], scope: Scope) -> Collection:
    return [Temporal.parse("time", scope.environment.now.strftime("%H:%M:%S"))]


def _converted(name: str, focus: Collection, _arguments: list[Collection], _scope: Scope) -> Collection:
    value = single(focus, f"to{name}()")
    found = None if value is None else CONVERSIONS[name](value)
    return [] if found is None else [found]


def _convertible(name: str, focus: Collection, _arguments: list[Collection], _scope: Scope) -> Collection:
    value = single(focus, f"convertsTo{name}()")
    return [] if value is None else [CONVERSIONS[name](value) is not None]


def _trace(focus: Collection, arguments: list[Run], scope: Scope) -> Collection:
    name = single(arguments[0](scope.this, scope), "trace()")
    shown = collections.select(focus, arguments[1:2], scope) if len(arguments) > 1 else focus
    if scope.environment.trace is not None:
        scope.environment.trace(str(name), shown)
    return focus


PLAIN: dict[str, tuple[int, int, Plain]] = {
    "empty": (0, 0, lambda focus, _a, _s: [not focus]),
    "not": (0, 0, _not),
    "allTrue": (0, 0, collections.all_true),
    "anyTrue": (0, 0, collections.any_true),
    "allFalse": (0, 0, collections.all_false),
    "anyFalse": (0, 0, collections.any_false),
    "subsetOf": (1, 1, collections.subset_of),
    "supersetOf": (1, 1, collections.superset_of),
    "count": (0, 0, lambda focus, _a, _s: [len(focus)]),
    "distinct": (0, 0, lambda focus, _a, _s: compare.unique(focus)),
    "isDistinct": (0, 0, lambda focus, _a, _s: [len(compare.unique(focus)) == len(focus)]),
    "single": (0, 0, collections.one),
    "first": (0, 0, lambda focus, _a, _s: focus[:1]),
    "last": (0, 0, lambda focus, _a, _s: focus[-1:]),
    "tail": (0, 0, lambda focus, _a, _s: focus[1:]),
    "skip": (1, 1, collections.skip),
    "take": (1, 1, collections.take),
    "intersect": (1, 1, collections.intersect),
    "exclude": (1, 1, collections.exclude),
    "union": (1, 1, collections.union),
    "combine": (1, 1, lambda focus, a, _s: [*focus, *a[0]]),
    "children": (0, 0, collections.children),
    "descendants": (0, 0, collections.descendants),
    "today": (0, 0, _today),
    "now": (0, 0, _now),
    "timeOfDay": (0, 0, _time_of_day),
    "substring": (1, 2, strings.substring),
    "join": (0, 1, strings.join),
    "abs": (0, 0, math.absolute),
    "power": (1, 1, math.power),
    "log": (1, 1, math.logarithm),
    "round": (0, 1, math.rounded),
    "lowBoundary": (0, 1, boundary.low_boundary),
    "highBoundary": (0, 1, boundary.high_boundary),
    "precision": (0, 0, boundary.precision),
    "comparable": (1, 1, boundary.comparable),
    "type": (0, 0, fhir.type_of),
    "extension": (1, 1, fhir.extension),
    "hasValue": (0, 0, fhir.has_value),
    "getValue": (0, 0, fhir.get_value),
    "resolve": (0, 0, fhir.resolve),
    "memberOf": (1, 1, fhir.member_of),
    "conformsTo": (1, 1, fhir.conforms_to),
    "htmlChecks": (0, 0, fhir.html_checks),
    "getResourceKey": (0, 0, fhir.resource_key),
    **{n: (count, count, strings.on_text(n, f)) for n, (count, f) in strings.TEXT_FUNCTIONS.items()},
    **{n: (0, 0, math.on_number(n, f)) for n, f in math.NUMBER_FUNCTIONS.items()},
    **{f"to{name}": (0, 0, partial(_converted, name)) for name in CONVERSIONS},
    **{f"convertsTo{name}": (0, 0, partial(_convertible, name)) for name in CONVERSIONS},
}
"""Functions whose arguments are evaluated first, on the focus of the expression around them."""

LAZY: dict[str, tuple[int, int, Lazy]] = {
    "where": (1, 1, collections.where),
    "exists": (0, 1, collections.exists),
    "all": (1, 1, collections.every),
    "select": (1, 1, collections.select),
    "repeat": (1, 1, collections.repeat),
    "repeatAll": (1, 1, collections.repeat_all),
    "aggregate": (1, 2, collections.aggregate),
    "iif": (2, 3, collections.iif),
    "coalesce": (1, 50, collections.coalesce),
    "trace": (1, 2, _trace),
}
"""Functions that evaluate their arguments themselves, item by item or not at all."""

TYPED: dict[str, Callable[[Collection, str], Collection]] = {
    "is": fhir.is_type,
    "as": fhir.as_type,
    "ofType": fhir.of_type,
}
"""Functions whose argument names a type."""


def check_count(name: str, count: int, low: int, high: int) -> None:
    """Refuse a wrong number of arguments.

    Raises
    ------
    FhirPathError
        When it is wrong.
    """
    if not low <= count <= high:
        raise FhirPathError(
            f"{name}() takes {low if low == high else f'{low} to {high}'} arguments, not {count}."
        )
