"""Tables from resources: ViewDefinitions of SQL on FHIR v2 (https://sql-on-fhir.org/ig/2.0.0)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import product
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError
from digital_twins.fhir._definitions import definitions
from digital_twins.fhir.fhirpath import Environment, Node, Temporal, compile_expression
from digital_twins.fhir.fhirpath._values import node_of, system

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from digital_twins.fhir.fhirpath import Expression

Row = dict[str, Any]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_MOST_DEPTH = 50


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, its FHIR type where the view names one, and whether it holds lists."""

    name: str
    type: str | None
    collection: bool


@dataclass(frozen=True, slots=True)
class _Select:
    """One ``select``: rows for each item of an expression, columns beside nested selects, or a union."""

    columns: tuple[tuple[Column, Expression], ...]
    inner: tuple[_Select, ...]
    union: tuple[_Select, ...]
    each: Expression | None
    or_null: bool
    repeat: tuple[Expression, ...]

    @property
    def names(self) -> tuple[Column, ...]:
        """Columns in order: own, nested, those of the first branch of the union."""
        own = tuple(column for column, _ in self.columns)
        nested = tuple(column for part in self.inner for column in part.names)
        return own + nested + (self.union[0].names if self.union else ())


class View:
    """A ViewDefinition, checked and compiled.

    Parameters
    ----------
    definition
        The ViewDefinition as JSON.

    Raises
    ------
    InputError
        When it names no resource, has no select, a path that is not FHIRPath, columns that repeat or that
        differ between the branches of a union.
    """

    def __init__(self, definition: Mapping[str, Any]) -> None:
        self.resource = definition.get("resource")
        if self.resource not in definitions().types:
            raise _refused("It does not name an R4 resource type.")
        selects = _list(definition, "select")
        if not selects:
            raise _refused("It selects nothing.")
        self._constants = {str(c.get("name")): [_constant(c)] for c in _list(definition, "constant")}
        self._where = tuple(_path(w.get("path")) for w in _list(definition, "where"))
        self._selects = tuple(_select(s, 0) for s in selects)
        self.columns = tuple(column for part in self._selects for column in part.names)
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise _refused("Two columns have the same name.")

    def rows(self, resources: Iterable[Mapping[str, Any]]) -> Iterator[Row]:
        """Yield one row after the other, as ``{column: value}``.

        Values are JSON values; a missing one is None. Resources of other types are passed over.

        Raises
        ------
        InputError
            When a column that is no collection meets several values, or a filter is not Boolean.
        """
        environment = Environment(variables={**self._constants, "rowIndex": [0]})
        for resource in resources:
            if resource.get("resourceType") != self.resource:
                continue
            root = node_of(resource, str(self.resource))
            if all(_keeps(test.nodes(root, environment=environment)) for test in self._where):
                yield from _product(self._selects, root, environment)


def _refused(why: str) -> InputError:
    return InputError("The ViewDefinition cannot be used.", why, "Correct the view (SQL on FHIR v2).")


def _list(holder: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = holder.get(name, [])
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise _refused(f"'{name}' is not a list of objects.")
    return found


def _path(text: Any) -> Expression:
    if not isinstance(text, str):
        raise _refused("A path is not a string.")
    return compile_expression(text)


def _constant(constant: Mapping[str, Any]) -> Any:
    found = [(key, value) for key, value in constant.items() if key.startswith("value")]
    if len(found) != 1 or not _NAME.fullmatch(str(constant.get("name", ""))):
        raise _refused("A constant needs a name and one value.")
    key, value = found[0]
    kind = key.removeprefix("value")
    return system(Node(value, kind[0].lower() + kind[1:] if kind else kind))


def _column(column: Mapping[str, Any]) -> tuple[Column, Expression]:
    name = column.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _refused("A column's name is not letters, digits and underscores.")
    kind = column.get("type")
    return Column(name, kind, bool(column.get("collection", False))), _path(column.get("path"))


def _select(part: Mapping[str, Any], depth: int) -> _Select:
    if depth > _MOST_DEPTH:
        raise _refused(f"It is nested more than {_MOST_DEPTH} levels deep.")
    loops = [name for name in ("forEach", "forEachOrNull", "repeat") if name in part]
    if len(loops) > 1:
        raise _refused("A select has more than one of forEach, forEachOrNull and repeat.")
    repeated = part.get("repeat", [])
    if not isinstance(repeated, list):
        raise _refused("'repeat' is not a list of paths.")
    each = _path(part[loops[0]]) if loops and loops[0] != "repeat" else None
    union = tuple(_select(s, depth + 1) for s in _list(part, "unionAll"))
    if any([c.name for c in u.names] != [c.name for c in union[0].names] for u in union[1:]):
        raise _refused("The branches of a union have different columns.")
    return _Select(
        columns=tuple(_column(c) for c in _list(part, "column")),
        inner=tuple(_select(s, depth + 1) for s in _list(part, "select")),
        union=union,
        each=each,
        or_null=loops == ["forEachOrNull"],
        repeat=tuple(_path(text) for text in repeated),
    )


def _keeps(found: list[Any]) -> bool:
    value = system(found[0]) if len(found) == 1 else None
    if found and not isinstance(value, bool):
        raise _refused("A filter of 'where' does not give a Boolean.")
    return value is True


def _product(parts: tuple[_Select, ...], node: Any, environment: Environment) -> Iterator[Row]:
    """Yield every combination of the rows of sibling selects."""
    for rows in product(*(list(_rows(part, node, environment)) for part in parts)):
        yield {name: value for row in rows for name, value in row.items()}


def _rows(part: _Select, node: Any, environment: Environment) -> Iterator[Row]:
    if part.each is None and not part.repeat:
        yield from _rows_of_item(part, node, environment)
        return
    items = _repeated(part.repeat, node, environment) if part.repeat else _each(part, node, environment)
    if not items and part.or_null:
        inside = replace(environment, variables={**environment.variables, "rowIndex": [0]})
        yield from _rows_of_item(part, [], inside)
    for index, item in enumerate(items):
        inside = replace(environment, variables={**environment.variables, "rowIndex": [index]})
        yield from _rows_of_item(part, item, inside)


def _each(part: _Select, node: Any, environment: Environment) -> list[Any]:
    return part.each.nodes(node, environment=environment) if part.each is not None else []


def _repeated(
    paths: tuple[Expression, ...], node: Any, environment: Environment, depth: int = 0
) -> list[Any]:
    """Follow the paths again and again, each item before what lies below it."""
    if depth > _MOST_DEPTH:
        raise _refused(f"'repeat' goes more than {_MOST_DEPTH} levels deep.")
    found = []
    for path in paths:
        for item in path.nodes(node, environment=environment):
            found.append(item)
            found += _repeated(paths, item, environment, depth + 1)
    return found


def _rows_of_item(part: _Select, node: Any, environment: Environment) -> Iterator[Row]:
    own = {
        column.name: _cell(column, path.nodes(node, environment=environment)) for column, path in part.columns
    }
    branches = (
        [[row for branch in part.union for row in _rows(branch, node, environment)]] if part.union else []
    )
    nested = [list(_rows(inner, node, environment)) for inner in part.inner]
    for rows in product(*nested, *branches):
        yield {**own, **{name: value for row in rows for name, value in row.items()}}


def _cell(column: Column, found: list[Any]) -> Any:
    values = [_plain(item) for item in found]
    if column.collection:
        return values
    if len(values) > 1:
        raise _refused(f"Column '{column.name}' is no collection and meets several values.")
    return values[0] if values else None


def _plain(item: Any) -> Any:
    value = item.value if isinstance(item, Node) else item
    if isinstance(value, Temporal):
        return str(value)
    return float(value) if isinstance(value, Decimal) else value
