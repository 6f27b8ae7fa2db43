"""Searching by the meaning of codes: ``:text``, ``:in``, ``:not-in``, ``:above`` and ``:below`` on tokens.

The store keeps every coding that a parameter has ever had once, with its words (``fhir_coding``). Value sets
and hierarchies are asked about those few rows, not about every resource.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from digital_twins.fhir._conditions import LAST_CHARACTER, NOTHING, Predicate, Test, key, rows_of
from digital_twins.fhir._index import normalise, system_number
from digital_twins.fhir._outcome import bad_request
from digital_twins.fhir._predicates import split_values, unescape

if TYPE_CHECKING:
    from collections.abc import Iterable

    from digital_twins.fhir._definitions import SearchParameter
    from digital_twins.fhir._hits import Executes

CONCEPT_MODIFIERS = frozenset({"text", "in", "not-in", "above", "below"})
MAX_CODES = 5000


class CodeSystems(Protocol):
    """What is known of value sets and code systems (`validation.Terminology`)."""

    def contains(self, value_set: str, system: str | None, code: str) -> bool | None:
        """Whether a value set holds a code; None where that cannot be told."""

    def subsumes(self, system: str, ancestor: str, code: str) -> bool | None:
        """Whether ``code`` is ``ancestor`` or below it; None where the system is not at hand."""

    def has_value_set(self, url: str) -> bool:
        """Whether a value set is at hand."""


class Concepts:
    """The codings of a store, and the code systems that explain them.

    Parameters
    ----------
    cursor
        Reads the store.
    systems
        Explains value sets and hierarchies; None knows none.
    words
        The index of words is up to date (``_text``, ``_content``).
    """

    def __init__(self, cursor: Executes, systems: CodeSystems | None = None, *, words: bool = False) -> None:
        self._cursor = cursor
        self.systems = systems
        self.words = words

    def codings(self, parameter: SearchParameter) -> list[tuple[str, str]]:
        """Return every (system, code) that a parameter has had."""
        where, numbers = key(parameter)
        text = f"SELECT DISTINCT uri, code FROM fhir_coding WHERE {where} ORDER BY uri, code"  # noqa: S608  (our own text)  # nosec B608
        return [(str(uri), str(code)) for uri, code in self._cursor.execute(text, numbers)]


def _texts(parameter: SearchParameter, text: str) -> Test:
    words = normalise(unescape(text))
    where, numbers = key(parameter)
    condition = (
        "(code, system) IN (SELECT code, system FROM fhir_coding WHERE "  # noqa: S608  (our own text)  # nosec B608
        f"{where} AND (words>=? AND words<? OR words LIKE ? ESCAPE '!'))"
    )
    escaped = words.replace("!", "!!").replace("%", "!%").replace("_", "!_")
    return rows_of(
        parameter, "fhir_token", condition, (*numbers, words, words + LAST_CHARACTER, f"% {escaped}%")
    )


def _codes(parameter: SearchParameter, found: Iterable[tuple[str, str]]) -> list[Test]:
    """Return tests for the codings, by system."""
    by_system: dict[str, list[str]] = {}
    for system, code in found:
        by_system.setdefault(system, []).append(code)
    if sum(map(len, by_system.values())) > MAX_CODES:
        raise bad_request("The value set holds too many of the codes here.", code="too-costly")
    tests = []
    for system, codes in by_system.items():
        marks = ",".join("?" * len(codes))
        condition = f"code IN ({marks}) AND system=?"
        tests.append(rows_of(parameter, "fhir_token", condition, (*codes, system_number(system))))
    return tests


def _members(concepts: Concepts, parameter: SearchParameter, url: str) -> list[Test]:
    systems = concepts.systems
    if systems is None or not systems.has_value_set(url):
        raise bad_request("The value set that the search names is not known here.", code="not-found")
    inside = []
    for system, code in concepts.codings(parameter):
        answer = systems.contains(url, system, code)
        if answer is None:
            raise bad_request("The value set cannot be decided by what is known here.", code="not-supported")
        if answer:
            inside.append((system, code))
    return _codes(parameter, inside)


def _related(concepts: Concepts, parameter: SearchParameter, text: str, modifier: str) -> list[Test]:
    system, bar, code = text.rpartition("|")
    if not bar or not system or not code:
        raise bad_request(f"The value behind :{modifier} is written system|code.", code="value")
    system, code = unescape(system), unescape(code)
    inside = []
    for other_system, other in concepts.codings(parameter):
        if other_system != system or concepts.systems is None:
            continue
        above, below = (other, code) if modifier == "above" else (code, other)
        if other == code or concepts.systems.subsumes(system, above, below):
            inside.append((system, other))
    if concepts.systems is None or concepts.systems.subsumes(system, code, code) is None:
        raise bad_request("The hierarchy of this code system is not known here.", code="not-supported")
    return _codes(parameter, inside)


def concept_predicate(
    concepts: Concepts | None, parameter: SearchParameter, modifier: str, text: str
) -> Predicate:
    """Return the predicate of a token parameter with one of the modifiers of this module.

    Raises
    ------
    FhirError
        400 when the value set or the hierarchy is not known, or the value cannot be read.
    """
    values = split_values(text)
    if not values:
        raise bad_request(f"The value of the search parameter '{parameter.code}' is empty.", code="value")
    if modifier == "text":
        return Predicate(tuple(_texts(parameter, value) for value in values))
    if concepts is None:
        raise bad_request(f":{modifier} cannot be used here.", code="not-supported")
    tests: list[Test] = []
    for value in values:
        if modifier in {"in", "not-in"}:
            tests.extend(_members(concepts, parameter, unescape(value)))
        else:
            tests.extend(_related(concepts, parameter, value, modifier))
    return Predicate(tuple(tests) or (NOTHING,), negated=modifier == "not-in")
