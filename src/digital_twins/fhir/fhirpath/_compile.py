"""From the tree to a function: what is decided once per expression, not once per evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins.fhir.fhirpath import (
    _collections as collections,
    _compare as compare,
    _operators as operators,
)
from digital_twins.fhir.fhirpath._errors import FhirPathError
from digital_twins.fhir.fhirpath._fhir_functions import check_type, reference_key
from digital_twins.fhir.fhirpath._functions import LAZY, PLAIN, TYPED, check_count
from digital_twins.fhir.fhirpath._types import ancestors
from digital_twins.fhir.fhirpath._values import Node, integer_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from digital_twins.fhir.fhirpath._parse import Ast
    from digital_twins.fhir.fhirpath._scope import Collection, Run, Scope

_CONSTANTS = {
    "sct": "http://snomed.info/sct",
    "loinc": "http://loinc.org",
    "ucum": "http://unitsofmeasure.org",
}
_LOGIC: dict[str, Callable[[list[Any], Callable[[], list[Any]]], list[Any]]] = {
    "and": operators.both,
    "or": operators.either,
    "xor": operators.one_of,
    "implies": operators.implies,
}
_SIMPLE: dict[str, Callable[[list[Any], list[Any]], list[Any]]] = {
    "=": operators.equals,
    "!=": operators.differs,
    "~": lambda a, b: [compare.equivalent(a, b)],
    "!~": lambda a, b: [not compare.equivalent(a, b)],
    "|": lambda a, b: compare.unique([*a, *b]),
    "in": operators.is_member,
    "contains": lambda a, b: operators.is_member(b, a),
    "&": operators.joined,
    **{name: operators.arithmetic(name) for name in ("+", "-", "*", "/", "div", "mod")},
    **{name: operators.ordering(name) for name in ("<", "<=", ">", ">=")},
}


def compiled(tree: Ast, *, first: bool = True) -> Run:
    """Return ``run(focus, scope) -> collection`` of a tree.

    Parameters
    ----------
    tree
        From :func:`digital_twins.fhir.fhirpath._parse.parse`.
    first
        Whether it stands at the beginning of a path, where a name may also be the type of the focus.

    Raises
    ------
    FhirPathError
        For an unknown function or type, or a wrong number of arguments.
    """
    return _KINDS[tree.kind](tree, first)


def _literal(tree: Ast, _first: bool) -> Run:
    value = tree.value
    return lambda _focus, _scope: [value]


def _empty(_tree: Ast, _first: bool) -> Run:
    return lambda _focus, _scope: []


def _name(tree: Ast, first: bool) -> Run:
    name = tree.value

    def child(focus: Collection, scope: Scope) -> Collection:
        found: Collection = []
        for item in focus:
            if not isinstance(item, Node):
                continue
            if item.type == "TypeInfo":
                found.append(item.value.get(name))
                continue
            names = item.names()
            if name in names:
                found += item.child(name)
            elif first and name in ancestors(item.type):
                found.append(item)
            elif scope.environment.strict:
                raise FhirPathError(f"{item.type} has no element of that name.")
        return found

    return child


def _dot(tree: Ast, first: bool) -> Run:
    left, right = compiled(tree.parts[0], first=first), compiled(tree.parts[1], first=False)
    return lambda focus, scope: right(left(focus, scope), scope)


def _index(tree: Ast, first: bool) -> Run:
    left, inner = compiled(tree.parts[0], first=first), compiled(tree.parts[1])

    def at(focus: Collection, scope: Scope) -> Collection:
        values, place = left(focus, scope), integer_of(inner(scope.this, scope), "An index")
        return values[place : place + 1] if place is not None and place >= 0 else []

    return at


def _negate(tree: Ast, _first: bool) -> Run:
    inner = compiled(tree.parts[0])
    return lambda focus, scope: operators.negated(inner(focus, scope))


def _binary(tree: Ast, _first: bool) -> Run:
    left, right = compiled(tree.parts[0]), compiled(tree.parts[1])
    if tree.value in _LOGIC:
        logic = _LOGIC[tree.value]
        return lambda focus, scope: logic(left(focus, scope), lambda: right(focus, scope))
    simple = _SIMPLE[tree.value]
    return lambda focus, scope: simple(left(focus, scope), right(focus, scope))


def _type(tree: Ast, _first: bool) -> Run:
    operator, name = tree.value
    inner, function, checked = compiled(tree.parts[0]), TYPED[operator], check_type(name)
    return lambda focus, scope: function(inner(focus, scope), checked)


def _constant(tree: Ast, _first: bool) -> Run:
    name = tree.value

    def look_up(_focus: Collection, scope: Scope) -> Collection:
        if name in scope.environment.variables:
            return scope.environment.variables[name]
        if name in _CONSTANTS:
            return [_CONSTANTS[name]]
        for prefix, url in (("vs-", "ValueSet"), ("ext-", "StructureDefinition")):
            if name.startswith(prefix):
                return [f"http://hl7.org/fhir/{url}/{name.removeprefix(prefix)}"]
        raise FhirPathError("A variable (%name) is not defined.", "Pass it in 'variables'.")

    return look_up


def _special(tree: Ast, _first: bool) -> Run:
    if tree.value == "$this":
        return lambda _focus, scope: scope.this
    if tree.value == "$index":
        return lambda _focus, scope: operators.boxed(scope.index)
    return lambda _focus, scope: scope.total or []


def _call(tree: Ast, _first: bool) -> Run:
    name, parts = tree.value, tree.parts
    if name in TYPED:
        return _typed_call(name, parts)
    if name in PLAIN:
        low, high, plain = PLAIN[name]
        check_count(name, len(parts), low, high)
        arguments = [compiled(part) for part in parts]
        return lambda focus, scope: plain(
            focus, [argument(scope.this, scope) for argument in arguments], scope
        )
    if name in LAZY:
        low, high, lazy = LAZY[name]
        check_count(name, len(parts), low, high)
        arguments = [compiled(part) for part in parts]
        return lambda focus, scope: lazy(focus, arguments, scope)
    if name in _SPECIAL_CALLS:
        return _SPECIAL_CALLS[name](parts)
    raise FhirPathError(f"There is no function {name[:40]}().")


def _typed_call(name: str, parts: tuple[Ast, ...]) -> Run:
    check_count(name, len(parts), 1, 1)
    checked, function = check_type(_type_argument(parts[0])), TYPED[name]
    return lambda focus, _scope: function(focus, checked)


def _type_argument(tree: Ast) -> str:
    if tree.kind == "name":
        return str(tree.value)
    if tree.kind == "dot":
        return f"{_type_argument(tree.parts[0])}.{_type_argument(tree.parts[1])}"
    raise FhirPathError("A type name was expected.")


def _sort(parts: tuple[Ast, ...]) -> Run:
    """Keys are expressions; a leading minus sorts downwards, for strings as well."""
    keys = [
        (compiled(part.parts[0]), True) if part.kind == "negate" else (compiled(part), False)
        for part in parts
    ]
    return lambda focus, scope: collections.sort(focus, keys, scope)


def _reference_key(parts: tuple[Ast, ...]) -> Run:
    check_count("getReferenceKey", len(parts), 0, 1)
    wanted: list[list[Any]] = [[_type_argument(parts[0])]] if parts else []
    return lambda focus, scope: reference_key(focus, wanted, scope)


_SPECIAL_CALLS: dict[str, Callable[[tuple[Ast, ...]], Run]] = {
    "sort": _sort,
    "getReferenceKey": _reference_key,
}
_KINDS: dict[str, Callable[[Ast, bool], Run]] = {
    "literal": _literal,
    "empty": _empty,
    "name": _name,
    "dot": _dot,
    "index": _index,
    "negate": _negate,
    "binary": _binary,
    "type": _type,
    "constant": _constant,
    "special": _special,
    "call": _call,
}
