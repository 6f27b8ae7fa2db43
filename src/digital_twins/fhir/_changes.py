"""Units of work that change one resource: create, update, patch, delete, and the conditional ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from digital_twins._errors import DigitalTwinError
from digital_twins.fhir._auditing import Auditor, patient_of
from digital_twins.fhir._bundle import match_all, match_one
from digital_twins.fhir._json import check_depth, loads
from digital_twins.fhir._outcome import FhirError, Issue, bad_request
from digital_twins.fhir._validate import ID
from digital_twins.fhir._write import Saved, SeenCodings, insert, load, new_id, put, remove, version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import apsw

    from digital_twins.storage import Database

    Patch = Callable[[dict[str, Any]], Any]

MAX_DELETED = 1000
"""Resources that one conditional delete may take."""
_KINDS = {"C": "fhir.create", "U": "fhir.update", "D": "fhir.delete"}


def parsed(resource: Mapping[str, Any] | bytes) -> dict[str, Any]:
    """Return a resource as a dictionary of its own.

    Raises
    ------
    FhirError
        400 when it is no JSON object.
    """
    if isinstance(resource, bytes):
        found = loads(resource)
        if not isinstance(found, dict):
            raise bad_request("The body must be a JSON object.", code="structure")
        return found
    check_depth(resource)
    return dict(resource)


def _same_type(body: Mapping[str, Any], kind: str) -> None:
    if body.get("resourceType") != kind:
        raise bad_request(f"The body must be a resource of type {kind}.")


def _checked_id(name: Any) -> str:
    if not isinstance(name, str) or not ID.fullmatch(name):
        raise bad_request("An update needs the id in the resource, 1 to 64 of A-Z, a-z, 0-9, '-' and '.'.")
    return name


class Changes:
    """Makes the units of work; each checks all that it can before the transaction.

    Parameters
    ----------
    database
        Where the resources are.
    auditor
        Takes one event for each change; None for none.
    validate
        Raises FhirError for a resource that may not be stored.
    codings
        What the database holds of codes.
    """

    def __init__(
        self,
        database: Database,
        auditor: Auditor | None,
        validate: Callable[[Mapping[str, Any]], None],
        codings: SeenCodings,
    ) -> None:
        self._database = database
        self._auditor = auditor
        self._validate = validate
        self._codings = codings

    def _audit(
        self,
        cursor: apsw.Cursor,
        saved: Saved,
        action: Literal["C", "U", "D"],
        *,
        agent: str,
        patient: str | None,
    ) -> None:
        if self._auditor is not None:
            self._auditor.changed(
                cursor,
                action,
                _KINDS[action],
                agent=agent,
                entity=saved.reference,
                patient=saved.id if saved.type == "Patient" else patient,
                detail={"version": saved.version},
            )

    def create(
        self,
        resource: Mapping[str, Any] | bytes,
        *,
        if_none_exist: str | None = None,
        agent: str = "system",
        kind: str | None = None,
    ) -> Callable[[apsw.Cursor], Saved]:
        """Return the unit of a create; with ``if_none_exist`` a single match is returned instead."""
        body = parsed(resource)
        if kind is not None:
            _same_type(body, kind)
        self._validate(body)
        kind, name, patient = body["resourceType"], new_id(), patient_of(body)
        self._codings.confirm(self._database)

        def work(cursor: apsw.Cursor) -> Saved:
            if if_none_exist:
                found = match_one(cursor, kind, if_none_exist, extra=self._codings.served)
                if found is not None:
                    return load(cursor, kind, found)
            saved = insert(cursor, body, name, codings=self._codings)
            self._audit(cursor, saved, "C", agent=agent, patient=patient)
            return saved

        return work

    def update(
        self,
        resource: Mapping[str, Any] | bytes,
        *,
        if_match: str | None = None,
        agent: str = "system",
        address: str | None = None,
    ) -> Callable[[apsw.Cursor], Saved]:
        """Return the unit of an update under the id in the resource; ``address`` is the URL's ``Type/id``."""
        body = parsed(resource)
        name = _checked_id(body.get("id"))
        if address is not None and address != f"{body.get('resourceType')}/{name}":
            raise bad_request("The type or id in the resource differs from the address.")
        self._validate(body)
        version = version_of(if_match) if if_match else None
        patient = patient_of(body)

        def work(cursor: apsw.Cursor) -> Saved:
            saved = put(cursor, body, name, if_match=version, codings=self._codings)
            self._audit(cursor, saved, "U", agent=agent, patient=patient)
            return saved

        return work

    def conditional_update(
        self,
        resource: Mapping[str, Any] | bytes,
        kind: str,
        condition: str,
        *,
        if_match: str | None = None,
        agent: str = "system",
    ) -> Callable[[apsw.Cursor], Saved]:
        """Return the unit of ``PUT Type?condition`` (FHIR R4, http section 3.1.0.4.3).

        No match creates (under the id in the resource, when it is free), one match is updated, several are
        412.
        """
        body = parsed(resource)
        _same_type(body, kind)
        given = _checked_id(body["id"]) if "id" in body else None
        self._validate(body)
        fresh, patient = given or new_id(), patient_of(body)
        version = version_of(if_match) if if_match else None

        def work(cursor: apsw.Cursor) -> Saved:
            found = match_one(cursor, kind, condition, extra=self._codings.served)
            if found is not None and given not in {None, found}:
                raise bad_request("The id in the resource differs from that of the resource that matches.")
            if found is None and given is not None and _is_there(cursor, kind, given):
                issue = Issue(
                    "conflict", "Nothing matches the condition, yet the id in the resource is in use."
                )
                raise FhirError(409, [issue], fix="Leave the id out, or update the resource by its id.")
            body["id"] = found or fresh
            saved = put(cursor, body, found or fresh, if_match=version, codings=self._codings)
            self._audit(cursor, saved, "U", agent=agent, patient=patient)
            return saved

        return work

    def patch(
        self,
        kind: str,
        target: str,
        patch: Patch,
        *,
        conditional: bool = False,
        if_match: str | None = None,
        agent: str = "system",
    ) -> Callable[[apsw.Cursor], Saved]:
        """Return the unit of a patch.

        Parameters
        ----------
        kind
            Resource type.
        target
            Id of the resource, or the condition that names it.
        patch
            Returns the changed copy of a resource.
        conditional
            ``target`` is a condition; it must match one resource.
        if_match
            ETag of the version that the patch was made for.
        agent
            Who asks.
        """
        version = version_of(if_match) if if_match else None

        def work(cursor: apsw.Cursor) -> Saved:
            name = match_one(cursor, kind, target, extra=self._codings.served) if conditional else target
            if name is None:
                issue = Issue("not-found", f"No {kind} matches the condition.")
                raise FhirError(404, [issue], fix="Search for it first.")
            before = loads(load(cursor, kind, name).body)
            after = patch(before)
            if not isinstance(after, dict) or (after.get("resourceType"), after.get("id")) != (kind, name):
                raise bad_request("A patch may not change the type or the id of a resource.", status=422)
            self._validate(after)
            saved = put(cursor, after, name, if_match=version, codings=self._codings)
            self._audit(cursor, saved, "U", agent=agent, patient=patient_of(after))
            return saved

        return work

    def delete(
        self, kind: str, name: str, *, if_match: str | None = None, agent: str = "system"
    ) -> Callable[[apsw.Cursor], Saved | None]:
        """Return the unit of a delete; its result is None when there was nothing to delete."""
        version = version_of(if_match) if if_match else None
        return lambda cursor: self._remove(cursor, kind, name, version, agent)

    def _remove(
        self, cursor: apsw.Cursor, kind: str, name: str, version: int | None, agent: str
    ) -> Saved | None:
        patient = None
        if kind != "Patient":
            try:
                patient = patient_of(load(cursor, kind, name).resource)
            except DigitalTwinError:
                patient = None
        saved = remove(cursor, kind, name, if_match=version, codings=self._codings)
        if saved is not None:
            self._audit(cursor, saved, "D", agent=agent, patient=patient)
        return saved

    def conditional_delete(
        self, kind: str, condition: str, *, several: bool = False, agent: str = "system"
    ) -> Callable[[apsw.Cursor], list[Saved]]:
        """Return the unit of ``DELETE Type?condition``; its result are the deletions.

        Parameters
        ----------
        kind
            Resource type.
        condition
            Search text that names at least one parameter.
        several
            Delete every match, at most 1,000; otherwise several matches are 412.
        agent
            Who asks.
        """

        def work(cursor: apsw.Cursor) -> list[Saved]:
            limit = MAX_DELETED + 1 if several else 2
            names = match_all(cursor, kind, condition, limit=limit, extra=self._codings.served)
            if len(names) > (MAX_DELETED if several else 1):
                issue = Issue("multiple-matches", "The condition matches more resources than may be deleted.")
                raise FhirError(412, [issue], fix="Make the condition narrower.")
            removed = (self._remove(cursor, kind, name, None, agent) for name in names)
            return [saved for saved in removed if saved is not None]

        return work


def _is_there(cursor: apsw.Cursor, kind: str, name: str) -> bool:
    try:
        load(cursor, kind, name)
    except FhirError:
        return False
    return True
