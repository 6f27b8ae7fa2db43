"""``_filter`` (FHIR R4, search_filter.html): each test becomes a predicate over the index."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from digital_twins._errors import InputError
from digital_twins.fhir._common_criteria import EVERY, moment_test
from digital_twins.fhir._composites import composite_predicate, inner_parameters
from digital_twins.fhir._conditions import LAST_CHARACTER, NOTHING, Predicate, Test, rows_of
from digital_twins.fhir._filter_syntax import Comparison, FilterNode, Segment, parse_filter
from digital_twins.fhir._index import normalise
from digital_twins.fhir._outcome import FhirError, bad_request
from digital_twins.fhir._predicates import (
    TABLES,
    build_test,
    date_test,
    liked,
    quantity_test,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from digital_twins.fhir._criteria import Criteria
    from digital_twins.fhir._definitions import SearchParameter

_NUMERIC = frozenset({"eq", "ne", "gt", "lt", "ge", "le", "ap", "sa", "eb", "co"})
_TEXTUAL = frozenset({"eq", "ne", "co", "sw", "ew"})
_CONCEPTUAL = {"in": "in", "ni": "not-in", "ss": "below", "sb": "above"}
_OPERATORS: dict[str, frozenset[str]] = {
    "string": _TEXTUAL | {"gt", "lt", "ge", "le"},
    "uri": _TEXTUAL,
    "number": _NUMERIC,
    "quantity": _NUMERIC,
    "date": _NUMERIC | {"po"},
    "token": frozenset({"eq", "ne", *_CONCEPTUAL}),
    "reference": frozenset({"eq", "re"}),
    "special": frozenset({"eq"}),
    "composite": frozenset({"eq"}),
}
"""The standard's table of operators by kind; ``pr`` goes with every kind but composites."""
_COMPARED = {"eq": "=", "ne": "<>", "gt": ">", "lt": "<", "ge": ">=", "le": "<="}
_SYSTEMS = {
    "loinc": "http://loinc.org",
    "snomed": "http://snomed.info/sct",
    "rxnorm": "http://www.nlm.nih.gov/research/umls/rxnorm",
    "ucum": "http://unitsofmeasure.org",
}
_ELEMENTS = {
    ("DocumentReference", "relatesTo"): ("relationship", "target"),
    ("Group", "characteristic"): ("characteristic-value", "value"),
}
"""Names that only a filter has, as ``relatesTo[code eq replaces].target``: the composite that joins them."""


def filter_predicate(criteria: Criteria, text: str) -> Predicate:
    """Return the predicate of a ``_filter``.

    Parameters
    ----------
    criteria
        Reads the search parameters of the type that is searched, and follows references.
    text
        The filter.

    Raises
    ------
    FhirError
        400 where the syntax breaks, a name is no search parameter of the type, or an operator does not go
        with the kind of a parameter: half a filter would give other results than were asked for.
    """
    return _node(criteria, parse_filter(text))


def _node(criteria: Criteria, node: FilterNode) -> Predicate:
    if isinstance(node, Comparison):
        found = _path(criteria, node.path, node)
        if found is None:
            text = f"_filter names a search parameter that {criteria.kind} does not have."
            raise bad_request(text, code="not-supported")
        return found
    parts = tuple(_node(criteria, part) for part in node.parts)
    if node.operator == "and":
        return Predicate((), also=parts)
    return Predicate((), either=parts, negated=node.operator == "not")


def _path(criteria: Criteria, path: tuple[Segment, ...], test: Comparison) -> Predicate | None:
    """Return the predicate of a path from here; None when a name of it is not known."""
    head, rest = path[0], path[1:]
    if head.name.startswith("_has:"):
        _, kind, code, name = head.name.split(":", 3)
        inside = (Segment(name, head.within), *rest)
        return criteria.reverse_through(kind, code, lambda inner: _path(inner, inside, test))
    if not rest:
        return _leaf(criteria, "_id" if head.name == "id" else head.name, test)
    if (criteria.kind, head.name) in _ELEMENTS:
        return _element(criteria, head, rest, test)
    code, _, wanted = head.name.partition(":")
    parameter = criteria.parameter(code)
    if parameter is None or parameter.kind != "reference" or not {wanted} <= {"", *criteria.types}:
        return None

    def read(inner: Criteria) -> Predicate | None:
        found = _path(inner, rest, test)
        if found is None or head.within is None:
            return found
        return Predicate((), also=(_node(inner, head.within), found))

    return criteria.through(parameter, read, wanted=wanted)


def _leaf(criteria: Criteria, code: str, test: Comparison) -> Predicate | None:
    if code in {"_text", "_content"} and test.operator in {"eq", "co"}:
        return criteria.read(code, test.value)
    if code in {"_id", "_lastUpdated"}:
        return _row_test(code, test)
    parameter = criteria.parameter(code)
    if parameter is None:
        return None
    kind, operator = parameter.kind, test.operator
    if operator == "pr" and kind != "composite":
        return _present(parameter, test, criteria)
    if operator not in _OPERATORS[kind]:
        raise _no_operator(code, operator)
    if operator in _CONCEPTUAL:
        return criteria.read(f"{code}:{_CONCEPTUAL[operator]}", _literal(_named_system(test.value)))
    if kind == "composite":
        return composite_predicate(parameter, _literal(_named_system(test.value)))
    return _BUILDERS[kind](parameter, operator, test.value)


def _no_operator(code: str, operator: str) -> FhirError:
    text = f"The operator '{operator}' is not defined for the search parameter '{code}'."
    return bad_request(text, code="not-supported")


def _present(parameter: SearchParameter, test: Comparison, criteria: Criteria) -> Predicate | None:
    if test.value.lower() not in {"true", "false"}:
        raise bad_request("The value behind pr is true or false.", code="value")
    missing = "false" if test.value.lower() == "true" else "true"
    return criteria.read(f"{parameter.code}:missing", missing)


def _row_test(code: str, test: Comparison) -> Predicate:
    """Return the predicate of what stands in the resource's own row."""
    operator = test.operator
    if operator == "pr":
        return Predicate((EVERY if test.value.lower() == "true" else NOTHING,), rank=9)
    if code == "_id":
        if operator not in {"eq", "ne"}:
            raise _no_operator(code, operator)
        return Predicate((Test("", f"r.id{_COMPARED[operator]}?", (test.value,)),), rank=7)
    operator = "eq" if operator == "po" else operator
    if operator not in _NUMERIC - {"co"}:
        raise _no_operator(code, operator)
    try:
        return Predicate((moment_test(operator + test.value),), rank=9)
    except InputError:
        raise bad_request("The value of '_lastUpdated' is not a date.", code="value") from None


def _literal(value: str) -> str:
    r"""Return a value with what an ordinary search would split or unescape (``\`` and ``,``) escaped."""
    return value.replace("\\", "\\\\").replace(",", "\\,")


def _named_system(value: str) -> str:
    """Return a value with the address of a code system in place of its short name."""
    name, bar, rest = value.partition("|")
    return f"{_SYSTEMS[name.lower()]}|{rest}" if bar and name.lower() in _SYSTEMS else value


def _textual(parameter: SearchParameter, operator: str, value: str) -> Predicate:
    table, column = ("fhir_uri", "value") if parameter.kind == "uri" else ("fhir_string", "norm")
    text = value if parameter.kind == "uri" else normalise(value)
    if operator == "sw":
        condition, arguments = f"{column}>=? AND {column}<?", (text, text + LAST_CHARACTER)
    elif operator in _COMPARED:
        condition, arguments = f"{column}{_COMPARED[operator]}?", (text,)  # type: ignore[assignment]
    else:
        pattern = f"%{liked(text)}" + ("%" if operator == "co" else "")
        condition, arguments = f"{column} LIKE ? ESCAPE '!'", (pattern,)  # type: ignore[assignment]
    return Predicate((rows_of(parameter, table, condition, arguments),))


def _token(parameter: SearchParameter, operator: str, value: str) -> Predicate:
    """Return the predicate of a token: codes are compared without regard to case here."""
    own = build_test(parameter, _literal(_named_system(value)))
    if "code=?" not in own.condition:  # system| alone
        found = Predicate((own,))
        other = rows_of(parameter, "fhir_token", "system<>?", own.arguments[len(parameter.numbers) :])
        return found if operator == "eq" else Predicate((other,))
    place = len(parameter.numbers)
    code = str(own.arguments[place]).lower()
    arguments = (*own.arguments[:place], code, *own.arguments[place + 1 :])
    folded = own.condition.replace("code=?", "lower(code)=?", 1)
    found = Predicate((replace(own, condition=folded, arguments=arguments, ordered=False),))
    if operator == "eq":
        return found
    same = Predicate((rows_of(parameter, "fhir_token", "lower(code)=?", (code,)),))
    other_code = Predicate((rows_of(parameter, "fhir_token", "lower(code)<>?", (code,)),))
    other_system = Predicate((), also=(same, Predicate((), either=(found,), negated=True)))
    return Predicate((), either=(other_code, other_system))


def _plain(parameter: SearchParameter, operator: str, value: str) -> Predicate:
    return Predicate((build_test(parameter, _literal(value)),))


def _number(parameter: SearchParameter, operator: str, value: str) -> Predicate:
    number, bar, unit = value.partition("|")
    return Predicate((quantity_test(parameter, operator, number + bar + _literal(_named_system(unit))),))


def _date(parameter: SearchParameter, operator: str, value: str) -> Predicate:
    return Predicate((date_test(parameter, operator, value),), rank=4)


_BUILDERS: dict[str, Callable[[SearchParameter, str, str], Predicate]] = {
    "string": _textual,
    "uri": _textual,
    "token": _token,
    "number": _number,
    "quantity": _number,
    "date": _date,
    "reference": _plain,
    "special": _plain,
}


def _element(
    criteria: Criteria, head: Segment, rest: tuple[Segment, ...], test: Comparison
) -> Predicate | None:
    """Return the predicate of ``name[code eq x].other``: both in one element, by the rows of a composite."""
    composite, name = _ELEMENTS[criteria.kind, head.name]
    parameter, within = criteria.parameter(composite), head.within
    if (
        parameter is None
        or not isinstance(within, Comparison)
        or [segment.name for segment in within.path] != ["code"]
        or within.operator != "eq"
        or [segment.name for segment in rest] != [name]
    ):
        text = f"In _filter, '{head.name}' is written {head.name}[code eq ...].{name}."
        raise bad_request(text, code="value")
    code = _literal(_named_system(within.value))
    found: list[Predicate] = []
    for inner in inner_parameters(parameter, code):
        if test.operator == "pr":
            found.append(Predicate((rows_of(inner, TABLES[inner.kind], "", ()),)))
        elif test.operator in _OPERATORS[inner.kind] - set(_CONCEPTUAL):
            found.append(_BUILDERS[inner.kind](inner, test.operator, test.value))
    if not found:
        raise _no_operator(head.name, test.operator)
    empty = test.operator == "pr" and test.value.lower() == "false"
    return Predicate((), either=tuple(found), negated=empty)
