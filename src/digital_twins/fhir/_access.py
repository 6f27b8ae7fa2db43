"""Rights of who acts, held against every resource that leaves or enters the tables.

The primitives of the store (`load`, `run_query`, `insert`, ...) are decorated here, so that no route can
forget the check. Without anybody acting (the node itself, or a node where nobody signs in) all is allowed.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import orjson

from digital_twins.auth import acting_principal
from digital_twins.fhir._compartment import compartment_numbers, patient_compartment
from digital_twins.fhir._conditions import Predicate, Test
from digital_twins.fhir._definitions import definitions
from digital_twins.fhir._index import index_rows, reference_targets
from digital_twins.fhir._outcome import FhirError, Issue
from digital_twins.fhir._predicates import predicate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from digital_twins.auth import FhirScope, Principal
    from digital_twins.fhir._hits import Hit

P = ParamSpec("P")
T = TypeVar("T")

_EXPORTS = frozenset({"$export", "$export-status", "$export-file"})
_SHARED = frozenset(
    {
        *("Practitioner", "PractitionerRole", "Organization", "Location", "HealthcareService", "Endpoint"),
        *("Medication", "Substance", "Questionnaire", "ValueSet", "CodeSystem", "StructureDefinition"),
        *("Library", "PlanDefinition", "ActivityDefinition", "ObservationDefinition", "SpecimenDefinition"),
    }
)
"""Types outside of every patient's compartment that an app of one patient may read: they name no patient."""


def denied(kind: str) -> FhirError:
    """Return the refusal; it says nothing of whether the resource exists."""
    issue = Issue("forbidden", f"The token or role does not allow this on {kind}.")
    return FhirError(403, [issue], fix="Ask for a scope or role that has it.")


def may(principal: Principal, action: str, resource: Mapping[str, Any]) -> bool:
    """Whether somebody may do an action on a resource with that content."""
    kind = str(resource.get("resourceType"))
    return any(_meets(principal, s, action, resource) for s in principal.scopes_for(kind, action))


def _meets(principal: Principal, scope: FhirScope, action: str, resource: Mapping[str, Any]) -> bool:
    if scope.level == "patient" and not _of_patient(principal.patient, action, resource):
        return False
    return scope.condition is None or _has(resource, *scope.condition)


def _of_patient(patient: str | None, action: str, resource: Mapping[str, Any]) -> bool:
    kind = str(resource["resourceType"])
    if patient is None:
        return False
    if kind == "Patient":
        return resource.get("id") == patient
    codes = patient_compartment().get(kind)
    if codes is None:
        return kind in _SHARED and action in "rs"
    rows = definitions().parameters[kind]
    wanted = f"Patient/{patient}"
    return any(wanted in reference_targets(resource, rows[code]) for code in codes if code in rows)


def _has(resource: Mapping[str, Any], name: str, value: str) -> bool:
    """Whether a resource meets a token condition, by the same index rows that a search would look at."""
    kind = str(resource["resourceType"])
    test = _condition(kind, name, value)
    if test is None:
        return False
    param, code, *systems = test.arguments
    rows = index_rows(resource).token
    return any(
        row[0] == param and row[1] == code and (not systems or row[2] in systems) for row in _token_rows(rows)
    )


def _token_rows(rows: set[tuple[Any, ...]]) -> list[tuple[Any, Any, Any]]:
    return [(row[0], row[1], row[2]) for row in rows]


def _condition(kind: str, name: str, value: str) -> Test | None:
    parameter = definitions().parameters[kind].get(name)
    if parameter is None or parameter.kind != "token":
        return None
    tests = predicate(parameter, "", value, types=definitions().types).tests
    return tests[0] if len(tests) == 1 and tests[0].ordered and tests[0].table == "fhir_token" else None


def _bounds(principal: Principal, kind: str) -> list[Predicate]:
    """Return what a search is narrowed to; refused when nothing is allowed."""
    scopes = principal.scopes_for(kind, "s")
    if not scopes:
        raise denied(kind)
    found: list[Predicate] = []
    if all(scope.level == "patient" for scope in scopes):
        found.append(_compartment(principal.patient, kind))
    if all(scope.condition is not None for scope in scopes):
        tests = [_condition(kind, *scope.condition) for scope in scopes if scope.condition is not None]
        usable = tuple(test for test in tests if test is not None)
        if not usable:
            raise denied(kind)
        found.append(Predicate(usable))
    return found


def _compartment(patient: str | None, kind: str) -> Predicate:
    if patient is None:
        raise denied(kind)
    if kind == "Patient":
        return Predicate((Test("", "r.id=?", (patient,)),))
    if kind not in patient_compartment():
        if kind not in _SHARED:
            raise denied(kind)
        return Predicate((Test("", "1=1", ()),))
    numbers = compartment_numbers()
    marks = ",".join("?" * len(numbers))
    return Predicate(
        (Test("fhir_reference", f"param IN ({marks}) AND target=?", (*numbers, f"Patient/{patient}")),)
    )


def _reads_all(principal: Principal) -> bool:
    return all(principal.free_for("*", action) for action in "rs")


def _free(principal: Principal, kind: str) -> bool:
    return principal.free_for(kind, "s")


def _narrowed(principal: Principal, query: Any) -> Any:
    """Return the search with what the person who acts may see added to it."""
    if query.chained and not principal.free_for("*", "s"):
        raise denied("the types that the search goes through")
    if _free(principal, query.type):
        return query
    return replace(query, predicates=[*query.predicates, *_bounds(principal, query.type)])


def guarded_query(run: Callable[[Any, Any], T]) -> Callable[[Any, Any], T]:
    """Narrow a search to what the person who acts may see, and drop included resources beyond that."""

    @functools.wraps(run)
    def guarded(cursor: Any, query: Any) -> T:
        principal = acting_principal()
        if principal is None:
            return run(cursor, query)
        page: Any = run(cursor, _narrowed(principal, query))
        page.hits = allowed_hits(page.hits)
        return page  # type: ignore[no-any-return]

    return guarded


def searchable(query: Any) -> Any:
    """Return one part of a search over several types as the person who acts may run it; None: not at all."""
    principal = acting_principal()
    if principal is None:
        return query
    if query.chained and not principal.free_for("*", "s"):
        raise denied("the types that the search goes through")
    try:
        return _narrowed(principal, query)
    except FhirError:
        return None


def allowed_hits(hits: list[Hit]) -> list[Hit]:
    """Return those resources of a result that the person who acts may find."""
    principal = acting_principal()
    if principal is None or principal.free_for("*", "s"):
        return hits
    free = {kind for kind in {hit.type for hit in hits} if _free(principal, kind)}
    return [h for h in hits if h.type in free or may(principal, "s", orjson.loads(h.body))]


def check_history(kind: str | None) -> None:
    """Refuse the history of a type, or of the store (None), to who may not see all of it.

    Versions of several resources are not looked at one by one: an old one may be another patient's.

    Raises
    ------
    FhirError
        403.
    """
    principal = acting_principal()
    if principal is not None and not all(principal.free_for(kind or "*", action) for action in "rs"):
        raise denied(kind or "every type")


def guarded_load(
    action: str,
) -> Callable[[Callable[Concatenate[Any, str, str, P], T]], Callable[Concatenate[Any, str, str, P], T]]:
    """Check what ``load(cursor, kind, name)`` and its like return, versions in lists too."""

    def decorate(
        load: Callable[Concatenate[Any, str, str, P], T],
    ) -> Callable[Concatenate[Any, str, str, P], T]:
        @functools.wraps(load)
        def guarded(cursor: Any, kind: str, name: str, /, *args: P.args, **kwargs: P.kwargs) -> T:
            principal = acting_principal()
            if principal is None or principal.free_for(kind, action):
                return load(cursor, kind, name, *args, **kwargs)
            if not principal.scopes_for(kind, action):
                raise denied(kind)
            found: Any = load(cursor, kind, name, *args, **kwargs)
            saved: Sequence[Any] = found if isinstance(found, list) else [found]
            # Whoever may not see every version sees none: an old one may be another patient's.
            if not all(may(principal, action, orjson.loads(s.body)) for s in saved if s.body):
                raise denied(kind)
            return found  # type: ignore[no-any-return]

        return guarded

    return decorate


def guarded_write(
    action: str,
) -> Callable[
    [Callable[Concatenate[Any, Mapping[str, Any], str, P], T]],
    Callable[Concatenate[Any, Mapping[str, Any], str, P], T],
]:
    """Check a resource that is to be stored: what it says now, and what is there before it."""

    def decorate(
        write: Callable[Concatenate[Any, Mapping[str, Any], str, P], T],
    ) -> Callable[Concatenate[Any, Mapping[str, Any], str, P], T]:
        @functools.wraps(write)
        def guarded(
            cursor: Any, resource: Mapping[str, Any], name: str, /, *args: P.args, **kwargs: P.kwargs
        ) -> T:
            principal = acting_principal()
            kind = str(resource["resourceType"])
            if principal is not None and kind == "Subscription" and not _reads_all(principal):
                raise denied(kind)  # its notifications carry whatever changes
            if principal is not None and not principal.free_for(kind, action):
                contents = [{**resource, "id": name}, *_stored(cursor, kind, name)]
                if not all(may(principal, action, each) for each in contents):
                    raise denied(kind)
            return write(cursor, resource, name, *args, **kwargs)

        return guarded

    return decorate


def guarded_remove(
    remove: Callable[Concatenate[Any, str, str, P], T],
) -> Callable[Concatenate[Any, str, str, P], T]:
    """Check a resource that is to be deleted."""

    @functools.wraps(remove)
    def guarded(cursor: Any, kind: str, name: str, /, *args: P.args, **kwargs: P.kwargs) -> T:
        principal = acting_principal()
        if principal is not None and not principal.free_for(kind, "d"):
            contents = _stored(cursor, kind, name)
            if not principal.scopes_for(kind, "d") or not all(may(principal, "d", each) for each in contents):
                raise denied(kind)
        return remove(cursor, kind, name, *args, **kwargs)

    return guarded


def _stored(cursor: Any, kind: str, name: str) -> list[dict[str, Any]]:
    row = cursor.execute(
        "SELECT body FROM fhir_resource WHERE type=? AND id=? AND deleted=0", (kind, name)
    ).fetchone()
    return [] if row is None else [orjson.loads(row[0])]


def interaction(method: str, path: str) -> tuple[str, str]:
    """Return resource type and action of a request below the FHIR base, for the check before any work.

    The type is empty where the store checks each part by itself (bundles), ``"*"`` where the request
    reaches over all types. Operations that are not known here count as ``("*", "cruds")``.
    """
    return _interaction(method, [part for part in path.split("/") if part])


def _interaction(method: str, parts: Sequence[str]) -> tuple[str, str]:
    if not parts or parts in (["openapi.json"], ["_search"]):
        return "", ""
    if parts[3:] in ([], ["_search"]) and len(parts) > 2 and parts[2] in {"*", *definitions().types}:
        return ("", "") if parts[2] == "*" else (parts[2], "s")  # of a compartment; the store narrows it
    kind, last = parts[0], parts[-1]
    if kind not in definitions().types:
        return ("*", "rs") if kind == "_history" or kind in _EXPORTS else ("*", "cruds")
    if last.startswith("$"):
        known = {"$validate": (kind, "r"), "$everything": ("Patient", "s"), "$export": ("*", "rs")}
        return (
            ("Subscription", "r")
            if parts[::2] == ["Subscription", "$status"]
            else known.get(last, ("*", "cruds"))
        )
    if method in {"GET", "HEAD"}:
        return kind, "r" if len(parts) > 1 and parts[1] != "_history" else "s"
    if last == "_search":
        return kind, "s"
    return kind, {"POST": "c", "PUT": "u", "PATCH": "u", "DELETE": "d"}.get(method, "cruds")


def request_allowed(principal: Principal, method: str, path: str) -> bool:
    """Whether a request below the FHIR base may go on to the store, which then checks each resource.

    Parameters
    ----------
    principal
        Who asks.
    method, path
        Of the request; the path begins behind the base, e.g. ``"/Observation/7"``.
    """
    parts = [part for part in path.split("/") if part]
    kind, action = _interaction(method, parts)
    if not kind:
        return bool(principal.scopes)
    if len(parts) <= 2 and kind == parts[0] and parts[-1][:1] not in {"$", "_"}:
        return bool(principal.scopes_for(kind, action))
    if parts[0] in _EXPORTS or parts[-1] == "$export":
        # Bulk Data is for systems: no person takes a whole hospital home by the rights of a role.
        return all(any(_is_whole(scope) for scope in principal.scopes_for("*", letter)) for letter in action)
    if kind == "*":
        return all(principal.free_for("*", letter) for letter in action)
    if parts[-1] == "$everything":
        own = len(parts) == 3 and parts[1] == principal.patient
        every = principal.scopes_for("*", "s")
        return principal.free_for("*", "s") or (own and any(s.condition is None for s in every))
    if parts[-1] == "_history" and len(parts) == 2:
        return all(principal.free_for(kind, letter) for letter in "rs")
    return bool(principal.scopes_for(kind, action))


def _is_whole(scope: FhirScope) -> bool:
    return scope.level == "system" and scope.condition is None
