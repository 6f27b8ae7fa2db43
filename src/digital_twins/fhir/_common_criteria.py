"""Criteria of every resource type without index rows of their own: ``_id``, ``_lastUpdated``, ``_list``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from digital_twins._errors import InputError
from digital_twins.fhir._conditions import NOTHING, Predicate, Test
from digital_twins.fhir._definitions import definitions
from digital_twins.fhir._outcome import FhirError, bad_request
from digital_twins.fhir._predicates import date_condition, split_values
from digital_twins.fhir._validate import ID

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY = Test("", "1=1", ())


def no_modifier(code: str) -> FhirError:
    """Return the refusal of a modifier that a parameter has not."""
    return bad_request(f"The search parameter '{code}' has no modifier of this name.", code="not-supported")


def _ids(text: str, modifier: str) -> Predicate:
    values = [v for v in split_values(text) if ID.fullmatch(v)]
    if modifier and modifier != "not":
        raise no_modifier("_id")
    marks = ",".join("?" * len(values))
    test = Test("", f"r.id IN ({marks})" if values else "1=0", tuple(values))
    return Predicate((test,), rank=-1, negated=modifier == "not")


def moment_test(value: str) -> Test:
    """Return the test of ``_lastUpdated`` against a date with its prefix.

    Raises
    ------
    InputError
        The text behind the prefix is no date.
    """
    sql, arguments = date_condition(value)
    # A resource's moment has no width: it lies in [low, low].
    sql = sql.replace("high<=", "r.updated<").replace("high>", "r.updated>=").replace("low", "r.updated")
    return Test("", sql, arguments)


def _updated(text: str, modifier: str) -> Predicate:
    if modifier:
        raise no_modifier("_lastUpdated")
    try:
        return Predicate(tuple(moment_test(value) for value in split_values(text)), rank=9)
    except InputError:
        raise bad_request("The value of '_lastUpdated' is not a date.", code="value") from None


def _list(text: str, modifier: str) -> Predicate:
    """Return the resources that a List names (R4 search 3.1.1.4.16), by the rows of ``List.item``."""
    if modifier:
        raise no_modifier("_list")
    names = [value.removeprefix("List/") for value in split_values(text)]
    if not all(map(ID.fullmatch, names)):
        raise bad_request("_list takes ids of List resources; lists by function are not kept.", code="value")
    item = definitions().parameters["List"]["item"]
    marks, keys = ",".join("?" * len(names)), ",".join("?" * len(item.numbers))
    condition = (
        f"r.type||'/'||r.id IN (SELECT target FROM fhir_reference WHERE param IN ({keys}) AND rid IN "  # noqa: S608  (built from our own texts)  # nosec B608
        f"(SELECT l.rid FROM fhir_resource l WHERE l.type='List' AND l.deleted=0 AND l.id IN ({marks})))"
    )
    return Predicate((Test("", condition, (*item.numbers, *names)),), rank=7)


_READERS: dict[str, Callable[[str, str], Predicate]] = {
    "_id": _ids,
    "_lastUpdated": _updated,
    "_list": _list,
}


def common_predicate(code: str, modifier: str, text: str) -> Predicate | None:
    """Return the predicate of ``_id``, ``_lastUpdated`` or ``_list``; None for another name.

    Raises
    ------
    FhirError
        400 for a modifier or a value that cannot be used.
    """
    read = _READERS.get(code)
    if read is None:
        return None
    if modifier == "missing" and code != "_list":
        if text not in {"true", "false"}:
            raise bad_request(f"The value of '{code}:missing' must be true or false.", code="value")
        return Predicate((NOTHING if text == "true" else EVERY,), rank=9)
    return read(text, modifier)
