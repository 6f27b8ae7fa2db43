"""GET entries of a transaction or batch, answered as requests of their own are (FHIR R4, http 3.1.0.11)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from digital_twins.auth import acting_principal
from digital_twins.fhir._access import denied, request_allowed
from digital_twins.fhir._across import run_across
from digital_twins.fhir._auditing import patient_of
from digital_twins.fhir._compartment import compartments
from digital_twins.fhir._definitions import definitions
from digital_twins.fhir._everything import compartment_page, everything_query
from digital_twins.fhir._history import history_query, readable_page
from digital_twins.fhir._outcome import bad_request
from digital_twins.fhir._search import run_query
from digital_twins.fhir._searchset import history_bundle, linked_bundle, local_values, searchset, shaped
from digital_twins.fhir._validate import ID
from digital_twins.fhir._write import load, load_version

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from digital_twins.fhir._across import QueryAcross
    from digital_twins.fhir._hits import Executes
    from digital_twins.fhir._outcome import FhirError
    from digital_twins.fhir._query import Query
    from digital_twins.fhir._write import Saved

    class Searches(Protocol):
        """What plans searches: `FhirStore`."""

        def parse(
            self, kind: str, parameters: list[tuple[str, str]], *, owner: tuple[str, str] | None = None
        ) -> Query:
            """Return the plan of a search."""
            ...

        def parse_across(
            self, parameters: list[tuple[str, str]], *, owner: tuple[str, str] | None = None
        ) -> QueryAcross:
            """Return the plan of a search over several types."""
            ...


@dataclass(frozen=True, slots=True)
class Found:
    """What a GET entry found.

    Attributes
    ----------
    body
        The resource, or the Bundle of a search or history.
    saved
        The version, where one was asked for.
    patient
        Id of the Patient that it speaks of, for the audit trail.
    """

    body: bytes
    saved: Saved | None = None
    patient: str | None = None


def read_path(url: str) -> tuple[tuple[str, ...], str]:
    """Return the parts of the address below the FHIR base, and the query; of an absolute one its end."""
    path, _, query = url.partition("?")
    parts = [unquote(part) for part in path.split("/") if part]
    if "://" in path:
        known = (n for n, part in enumerate(parts) if part in definitions().types or part == "_history")
        parts = parts[next(known, len(parts)) :]
    return tuple(parts), query


def plan_read(
    path: Sequence[str],
    query: list[tuple[str, str]],
    *,
    asked: str = "",
    base_url: str,
    searches: Searches,
) -> Callable[[Executes], Found]:
    """Return what answers a GET entry: a read, a version, a history, a search or ``Patient/id/$everything``.

    Searches are planned here, before any transaction: some of them look up concepts.

    Parameters
    ----------
    path
        The address below the base, e.g. ``("Patient", "1", "_history")``.
    query, asked
        Its parameters, and their text as it came.
    base_url
        Address of the FHIR base, for links and ``fullUrl``.
    searches
        Plans searches.

    Raises
    ------
    FhirError
        400 for an address that a bundle does not answer and for parameters that cannot be read, 403 when who
        acts may not ask this.
    """
    searching = _Searching(searches, local_values(query, base_url), asked, base_url)
    principal = acting_principal()
    if principal is not None and path and not request_allowed(principal, "GET", "/" + "/".join(path)):
        raise denied(path[0])
    match path:
        case [] | ["_history"] if not path and query:
            return searching.across(None)
        case ["_history"]:
            return _history((), query, base_url)
        case [kind, *rest] if kind in definitions().types:
            return _of_type(kind, rest, query, searching)
    raise _not_answered()


def _of_type(
    kind: str, rest: Sequence[str], query: list[tuple[str, str]], searching: _Searching
) -> Callable[[Executes], Found]:
    base_url = searching.base_url
    match rest:
        case []:
            return searching.of_type(kind, None)
        case ["_history"]:
            return _history((kind,), query, base_url)
        case [name, *_] if not ID.fullmatch(name):
            raise bad_request("The id has characters that FHIR does not allow.")
        case [name]:
            return lambda cursor: _shown(load(cursor, kind, name), query)
        case [name, "_history"]:
            return _history((kind, name), query, base_url)
        case [name, "_history", version] if version.isdecimal() and len(version) < 10:
            return lambda cursor: _version(cursor, kind, name, int(version), query)
        case [name, "$everything"] if kind == "Patient":
            return _everything(name, query, base_url)
        case [name, "*"] if kind in compartments():
            return searching.across((kind, name))
        case [name, member] if kind in compartments() and member in definitions().types:
            return searching.of_type(member, (kind, name))
    raise _not_answered()


def _shown(saved: Saved, query: list[tuple[str, str]]) -> Found:
    patient = saved.id if saved.type == "Patient" else patient_of(saved.resource)
    return Found(shaped(saved.body, query), saved, patient)


def _version(cursor: Executes, kind: str, name: str, version: int, query: list[tuple[str, str]]) -> Found:
    saved = load_version(cursor, kind, name, version)
    if saved.deleted:
        raise bad_request("This version is a deletion.", code="deleted", status=410)
    return _shown(saved, query)


def _history(
    path: tuple[str, ...], query: list[tuple[str, str]], base_url: str
) -> Callable[[Executes], Found]:
    asked = history_query(query)
    kind, name = (*path, None, None)[:2]

    def answer(cursor: Executes) -> Found:
        page = readable_page(cursor, asked, kind=kind, name=name)
        here = "/".join((base_url, *path, "_history"))
        return Found(
            history_bundle(page, base_url, here, asked.used), patient=name if kind == "Patient" else None
        )

    return answer


@dataclass(frozen=True, slots=True)
class _Searching:
    """A search that a GET entry may ask for; ``owner`` limits it to a compartment."""

    searches: Searches
    parameters: list[tuple[str, str]]
    asked: str
    base_url: str

    def of_type(self, kind: str, owner: tuple[str, str] | None) -> Callable[[Executes], Found]:
        plan = self.searches.parse(kind, self.parameters, owner=owner)
        if plan.used == self.parameters:
            plan.asked = self.asked
        return lambda cursor: Found(
            searchset(plan, run_query(cursor, plan), self.base_url), patient=plan.patient
        )

    def across(self, owner: tuple[str, str] | None) -> Callable[[Executes], Found]:
        plan = self.searches.parse_across(self.parameters, owner=owner)
        return lambda cursor: Found(
            searchset(plan.shape, run_across(cursor, plan), self.base_url), patient=plan.shape.patient
        )


def _everything(name: str, query: list[tuple[str, str]], base_url: str) -> Callable[[Executes], Found]:
    asked = everything_query(query)
    here = f"{base_url}/Patient/{name}/$everything"

    def answer(cursor: Executes) -> Found:
        load(cursor, "Patient", name)
        page = compartment_page(cursor, name, asked)
        return Found(linked_bundle(base_url, here, asked.used, page), patient=name)

    return answer


def _not_answered() -> FhirError:
    return bad_request(
        "A bundle answers reads, versions, histories, searches and Patient/id/$everything by GET; "
        "send another request by itself.",
        code="not-supported",
    )
