"""One search over several resource types: ``GET [base]?_type=A,B&...`` (FHIR R4 search, section 3.1.1.1).

Every type is searched by its own plan, and the pages are merged. The position of a page is made of the sort
values and the number of a resource, which are unique over all types: one cursor serves them all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from digital_twins.fhir._access import allowed_hits, searchable
from digital_twins.fhir._definitions import definitions
from digital_twins.fhir._hits import bodies
from digital_twins.fhir._includes import add_included
from digital_twins.fhir._outcome import FhirError, Issue, bad_request
from digital_twins.fhir._predicates import split_values
from digital_twins.fhir._search import SearchPage, count_of, rows_of_page

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from digital_twins.fhir._hits import Executes
    from digital_twins.fhir._query import Query

_INCLUDES = ("_include", "_revinclude")


@dataclass(slots=True)
class QueryAcross:
    """A parsed search over several types: a plan for each, and the shape of the answer in ``shape``.

    ``asked`` are the types that the search names, empty for all of them.
    """

    queries: list[Query]
    shape: Query
    asked: tuple[str, ...] = ()


def parse_across(
    parameters: Sequence[tuple[str, str]],
    parse: Callable[[str, list[tuple[str, str]]], Query],
    *,
    strict: bool = False,
    kinds: Sequence[str] = (),
) -> QueryAcross:
    """Return the plan of a search over the types in ``_type``, or over all of them.

    Parameters
    ----------
    parameters
        Name and value pairs. What one of the types does not know narrows none of them: only parameters that
        all types have in common can be used. An include counts when any of the types knows it.
    parse
        Parses the search of one type; what it does not know becomes a warning.
    strict
        Refuse parameters that cannot be used; otherwise they become warnings.
    kinds
        The types to search where ``_type`` names none; all of them by default.

    Raises
    ------
    FhirError
        400 for an unknown type, a value that cannot be read, or with ``strict`` a parameter that cannot be
        used.
    """
    asked = tuple(dict.fromkeys(t for n, text in parameters if n == "_type" for t in split_values(text)))
    if not set(asked) <= definitions().types:
        raise bad_request("_type names what is not a resource type of FHIR R4.", code="not-supported")
    kinds = asked or kinds or tuple(sorted(definitions().types))
    pairs = [pair for pair in parameters if pair[0] != "_type"]
    queries = [parse(kind, pairs) for kind in kinds]
    unknown = [pair for pair in pairs if not _usable(pair, queries)]
    if unknown:
        pairs = [pair for pair in pairs if pair not in unknown]
        queries = [parse(kind, pairs) for kind in kinds]
    kinds_of_keys = {tuple(key.parameter and key.parameter.kind for key in query.sort) for query in queries}
    if len(kinds_of_keys) > 1:
        raise bad_request("The types hold different kinds of values under a name in _sort.", code="value")
    warnings = _warnings(unknown, strict=strict)
    used = [pair for pair in parameters if pair[0] == "_type" or pair in pairs]
    shape = replace(queries[0], type="", predicates=[], warnings=warnings, used=used, asked=None)
    shape.includes = list(dict.fromkeys(i for query in queries for i in query.includes))
    shape.patient = next((query.patient for query in queries if query.patient), None)
    shape.chained = any(query.chained for query in queries)
    return QueryAcross(queries, shape, asked)


def _usable(pair: tuple[str, str], queries: Sequence[Query]) -> bool:
    name, text = pair
    if name.partition(":")[0] in _INCLUDES:
        return any(pair in query.used for query in queries)
    return not text or name == "_cursor" or all(pair in query.used for query in queries)


def _warnings(unknown: Sequence[tuple[str, str]], *, strict: bool) -> list[Issue]:
    found = []
    for name, _ in unknown:
        shown = name if name.isascii() and name.isprintable() else "?"
        text = f"The search parameter '{shown[:60]}' is not one that all of the types have."
        if strict:
            raise bad_request(text, code="not-supported")
        found.append(Issue("not-supported", text + " It was ignored.", severity="warning"))
    return found


def _denied(kind: str) -> Issue:
    return Issue("forbidden", f"{kind} was not searched: no right to.", severity="warning")


def run_across(cursor: Executes, asked: QueryAcross) -> SearchPage:
    """Return one page of a search over several types.

    Types that the person who acts may not search are left out, with a warning for those that it names.

    Raises
    ------
    FhirError
        403 when none of the types may be searched.
    """
    shape = asked.shape
    queries = [found for query in asked.queries if (found := searchable(query)) is not None]
    left = {query.type for query in queries}
    shape.warnings = [*shape.warnings, *(_denied(kind) for kind in asked.asked if kind not in left)]
    if not queries:
        issue = Issue("forbidden", "The token or role does not allow a search of any of these types.")
        raise FhirError(403, [issue], fix="Ask for a scope or role that has it.")
    page = SearchPage()
    if shape.total or shape.summary == "count":
        page.total = sum(count_of(cursor, query) for query in queries)
    if shape.summary == "count":
        return page
    rows: list[tuple[Any, ...]] = []
    for query in queries:
        rows.extend(rows_of_page(cursor, query))
    rows.sort(key=lambda row: row[0])
    for place in range(len(shape.sort), 0, -1):
        rows.sort(key=lambda row, at=place: row[at], reverse=shape.sort[place - 1].descending)  # type: ignore[misc]
    if len(rows) > shape.count:
        rows = rows[: shape.count]
        page.place_cursor(rows[-1], len(shape.sort))
    page.hits = bodies(cursor, [row[0] for row in rows], "match")
    if shape.includes and page.hits:
        add_included(cursor, shape.includes, page.hits)
    page.hits = allowed_hits(page.hits)
    return page
