"""The FHIR resource store: versions, search index and audit on one SQLite database."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

from digital_twins._errors import DigitalTwinError, NotFoundError
from digital_twins.fhir._across import QueryAcross, parse_across, run_across
from digital_twins.fhir._auditing import Auditor, patient_of
from digital_twins.fhir._bundle import EntryAnswer, response_bundle
from digital_twins.fhir._bundles import Bundles
from digital_twins.fhir._changes import Changes, parsed
from digital_twins.fhir._compartment import compartment_predicate, compartments
from digital_twins.fhir._concepts import CONCEPT_MODIFIERS, Concepts
from digital_twins.fhir._history import HistoryPage, HistoryQuery, readable_page
from digital_twins.fhir._json import loads
from digital_twins.fhir._outcome import bad_request
from digital_twins.fhir._query import Query, parse_query
from digital_twins.fhir._search import SearchPage, run_query
from digital_twins.fhir._validate import check
from digital_twins.fhir._words import WORD_PARAMETERS, asks_words, catch_up
from digital_twins.fhir._write import (
    Saved,
    SeenCodings,
    load,
    load_version,
    load_versions,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import apsw

    from digital_twins.fhir._concepts import CodeSystems
    from digital_twins.fhir._package_index import PackageParameters
    from digital_twins.fhir._package_search import Extra
    from digital_twins.storage import Database

_NEEDS_STORE = WORD_PARAMETERS | {"_filter"}


def pairs(parameters: Mapping[str, str | Sequence[str]] | Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return search parameters as a flat list; a sequence of values repeats its name."""
    if not hasattr(parameters, "items"):
        return list(parameters)
    flat: list[tuple[str, str]] = []
    for name, value in parameters.items():
        if isinstance(value, str):
            flat.append((name, value))
        else:
            flat.extend((name, str(v)) for v in (value if isinstance(value, list | tuple) else [value]))
    return flat


class FhirStore:
    """FHIR R4 resources on a `storage.Database` opened with ``fhir.MIGRATIONS`` and the audit outbox.

    Every write is validated against the R4 structures, gets the next version, and is durable when the call
    returns; its search index and its audit event are part of the same transaction. The ``prepare_...``
    methods do the work before the transaction and return a unit for ``Database.submit``, for callers that
    await; the plain methods write and block.

    Parameters
    ----------
    database
        The open database.
    pseudonym
        Turns a Patient id into the pseudonym that the audit trail holds; without it no patient is recorded.
    validate
        Raises FhirError for a resource that may not be stored; the structural check by default.
    audited
        Stage one audit event for each interaction.
    systems
        Gives the code systems and value sets that searches with ``:in``, ``:above`` and ``:below`` ask;
        without it those are refused.
    parameters
        The search parameters of packages, which are indexed and served beside those of R4.
    """

    def __init__(
        self,
        database: Database,
        *,
        pseudonym: Callable[[str], str] | None = None,
        validate: Callable[[Mapping[str, Any]], None] = check,
        audited: bool = True,
        systems: Callable[[], CodeSystems] | None = None,
        parameters: PackageParameters | None = None,
    ) -> None:
        self.database = database
        self._validate = validate
        self._auditor = Auditor(database, pseudonym) if audited else None
        self._codings = SeenCodings(parameters)
        self._systems = systems
        self._changes = Changes(database, self._auditor, validate, self._codings)
        self._bundles = Bundles(self, self._auditor, validate, self._codings)

    @property
    def package_parameters(self) -> Extra:
        """Resource type -> code -> search parameter, of those that packages add and that are served."""
        return self._codings.served

    def close(self) -> None:
        """Write what waits for the audit trail; call it before the database is closed.

        Raises
        ------
        StorageError
            It cannot be written.
        """
        if self._auditor is not None:
            self._auditor.flush()

    @property
    def changes(self) -> Changes:
        """The units of work of create, update, patch and delete, also the conditional ones."""
        return self._changes

    def prepare_create(
        self,
        resource: Mapping[str, Any] | bytes,
        *,
        if_none_exist: str | None = None,
        agent: str = "system",
        kind: str | None = None,
    ) -> Callable[[apsw.Cursor], Saved]:
        """Return the unit of work of `create`; ``kind`` is the type that the address names."""
        return self._changes.create(resource, if_none_exist=if_none_exist, agent=agent, kind=kind)

    def create(
        self, resource: Mapping[str, Any] | bytes, *, if_none_exist: str | None = None, agent: str = "system"
    ) -> Saved:
        """Store a new resource under a new id.

        Parameters
        ----------
        resource
            A resource, parsed or as JSON bytes (bytes keep the digits of decimals).
        if_none_exist
            Search text such as ``"identifier=MR|123"``: a single match is returned and nothing is stored.
        agent
            Who asks, for the audit trail.

        Raises
        ------
        FhirError
            400 no resource, 412 several matches, 422 against the R4 structure.
        StorageError
            The disk does not take it.
        """
        return self.database.write(self.prepare_create(resource, if_none_exist=if_none_exist, agent=agent))

    def prepare_update(
        self,
        resource: Mapping[str, Any] | bytes,
        *,
        if_match: str | None = None,
        agent: str = "system",
        address: str | None = None,
    ) -> Callable[[apsw.Cursor], Saved]:
        """Return the unit of work of `update`; ``address`` is the ``Type/id`` of the URL."""
        return self._changes.update(resource, if_match=if_match, agent=agent, address=address)

    def update(
        self, resource: Mapping[str, Any] | bytes, *, if_match: str | None = None, agent: str = "system"
    ) -> Saved:
        """Store the next version of a resource, or create it under the id that it carries.

        Raises
        ------
        FhirError
            400 without a usable id, 412 when ``if_match`` names another version, 422 against the structure.
        """
        return self.database.write(self.prepare_update(resource, if_match=if_match, agent=agent))

    def prepare_delete(
        self, kind: str, name: str, *, if_match: str | None = None, agent: str = "system"
    ) -> Callable[[apsw.Cursor], Saved | None]:
        """Return the unit of work of `delete`."""
        return self._changes.delete(kind, name, if_match=if_match, agent=agent)

    def delete(
        self, kind: str, name: str, *, if_match: str | None = None, agent: str = "system"
    ) -> Saved | None:
        """Delete a resource; its versions stay readable. None when there was nothing to delete."""
        return self.database.write(self.prepare_delete(kind, name, if_match=if_match, agent=agent))

    def read(self, kind: str, name: str, *, agent: str = "system") -> Saved:
        """Return the current version.

        Raises
        ------
        FhirError
            404 for an id never used, 410 for a deleted resource.
        """
        with self.database.read(one_statement=True) as connection:
            saved = load(connection, kind, name)
        if self._auditor is not None:
            patient = name if kind == "Patient" else patient_of(saved.resource)
            self._read_event("R", "fhir.read", agent, saved.reference, patient)
        return saved

    def vread(self, kind: str, name: str, version: int, *, agent: str = "system") -> Saved:
        """Return one version; 404 when it never was, 410 when it is a deletion."""
        with self.database.read() as connection:
            saved = load_version(connection, kind, name, version)
        patient = name if kind == "Patient" else patient_of(saved.resource) if saved.body else None
        self._read_event("R", "fhir.vread", agent, saved.reference, patient)
        if saved.deleted:
            raise bad_request("This version is a deletion.", code="deleted", status=410)
        return saved

    def history(self, kind: str, name: str, *, agent: str = "system") -> list[Saved]:
        """Return every version of a resource, newest first, deletions among them."""
        with self.database.read() as connection:
            found = load_versions(connection, kind, name)
        patient = name if kind == "Patient" else None
        self._read_event("R", "fhir.history", agent, f"{kind}/{name}", patient)
        return found

    def versions(
        self, asked: HistoryQuery, *, kind: str | None = None, name: str | None = None, agent: str = "system"
    ) -> HistoryPage:
        """Return a page of the history of the store, of a type, or of one resource, newest first.

        Raises
        ------
        FhirError
            404 when one resource is asked for whose id was never used.
        """
        with self.database.read() as connection:
            page = readable_page(connection, asked, kind=kind, name=name)
        entity = "/".join(part for part in (kind, name) if part) or None
        patient = name if kind == "Patient" else None
        self._read_event("R", "fhir.history", agent, entity, patient)
        return page

    def _read_event(
        self, action: Literal["R", "E"], kind: str, agent: str, entity: str | None, patient: str | None
    ) -> None:
        """Take the event of a read: it is written within 50 ms, and the reader does not wait for it."""
        if self._auditor is not None:
            self._auditor.read(action, kind, agent=agent, entity=entity, patient=patient)

    def note_read(self, kind: str, *, agent: str, entity: str, patient: str | None) -> None:
        """Take the audit event of an operation that reads, e.g. ``fhir.everything``."""
        self._read_event("E", kind, agent, entity, patient)

    def search(
        self,
        kind: str,
        parameters: Mapping[str, str | Sequence[str]] | Iterable[tuple[str, str]] = (),
        *,
        strict: bool = False,
        agent: str = "system",
    ) -> SearchPage:
        """Return one page of a search.

        Parameters
        ----------
        kind
            Resource type.
        parameters
            FHIR search parameters, e.g. ``{"patient": "1", "code": "http://loinc.org|21908-9"}``; a list of
            values means AND. A token such as ``MRN|123``, whose system is no URI, asks for an identifier of
            that type (v2-0203; MRN is read as MR).
        strict
            Refuse unknown parameters instead of ignoring them.
        """
        return self.run(self.parse(kind, pairs(parameters), strict=strict), agent=agent)

    def look(self, kind: str, parameters: Mapping[str, str]) -> SearchPage:
        """Do what `search` does without an event, inside an operation that writes its own by `note_read`."""
        query = self.parse(kind, pairs(parameters))
        with self.database.read() as connection:
            return run_query(connection, query)

    def parse(
        self,
        kind: str,
        parameters: Iterable[tuple[str, str]],
        *,
        strict: bool = False,
        owner: tuple[str, str] | None = None,
    ) -> Query:
        """Return the plan of a search, for `run`; see `search`. ``owner`` limits it to a compartment."""
        query = self._parsed(kind, list(parameters), strict=strict)
        if owner is not None:
            query.predicates.append(compartment_predicate(*owner, kind))
            query.place = "/".join((*owner, kind))
            query.patient = owner[1] if owner[0] == "Patient" else query.patient
        return query

    def _parsed(self, kind: str, given: list[tuple[str, str]], *, strict: bool) -> Query:
        if not any(_asks_concepts(name) for name, _ in given):
            return parse_query(kind, given, strict=strict, extra=self._codings.served)
        if words := asks_words(given):
            catch_up(self.database)
        with self.database.read() as connection:
            systems = self._systems() if self._systems else None
            concepts = Concepts(connection, systems, words=words)
            served = self._codings.served
            return parse_query(kind, given, strict=strict, concepts=concepts, extra=served)

    def run(self, query: Query, *, agent: str = "system") -> SearchPage:
        """Run a parsed search; see `search`."""
        with self.database.read(one_statement=query.plain) as connection:
            page = run_query(connection, query)
        self._read_event("E", "fhir.search", agent, query.type, query.patient)
        return page

    def parse_across(
        self,
        parameters: Iterable[tuple[str, str]],
        *,
        strict: bool = False,
        owner: tuple[str, str] | None = None,
    ) -> QueryAcross:
        """Return the plan of a search over several types, for `run_across`; see `parse` for ``owner``."""
        kinds = tuple(sorted(compartments()[owner[0]])) if owner else ()
        parse = partial(self.parse, owner=owner)
        found = parse_across(list(parameters), parse, strict=strict, kinds=kinds)
        found.shape.place = f"{owner[0]}/{owner[1]}/*" if owner else ""
        return found

    def run_across(self, query: QueryAcross, *, agent: str = "system") -> SearchPage:
        """Run a parsed search over several types; one audit event, which names the types that it names."""
        with self.database.read() as connection:
            page = run_across(connection, query)
        self._read_event("E", "fhir.search", agent, ",".join(query.asked) or None, query.shape.patient)
        return page

    def prepare_transaction(
        self, bundle: Mapping[str, Any] | bytes, *, agent: str = "system"
    ) -> Callable[[apsw.Cursor], list[EntryAnswer]]:
        """Return the unit of work of a transaction bundle."""
        return self._bundles.transaction(parsed(bundle), agent)

    def transaction(
        self,
        bundle: Mapping[str, Any] | bytes,
        *,
        agent: str = "system",
        representation: bool = False,
        base_url: str = "",
    ) -> bytes:
        """Run a transaction or batch bundle and return the response bundle as JSON.

        A transaction is one unit: all of it is stored or nothing. References by ``urn:uuid`` to other
        entries, and conditional references such as ``Patient?identifier=MR|1``, are resolved. A batch runs
        each entry by itself, those that read after those that write.

        Parameters
        ----------
        bundle
            Of type transaction or batch.
        agent
            Who asks, for the audit trail.
        representation
            Answer with the stored resources too.
        base_url
            Address of the FHIR base, for the links and ``fullUrl`` of what GET entries find.

        Raises
        ------
        FhirError
            With the location of the entry that failed; of a batch only when the bundle itself is unusable.
        """
        body = parsed(bundle)
        if body.get("type") == "batch":
            answers = self._bundles.batch(body, agent, base_url)
            return response_bundle("batch", answers, representation=representation)
        done = self.database.write(self._bundles.transaction(body, agent, base_url))
        return response_bundle("transaction", done, representation=representation)

    def count(self, kind: str) -> int:
        """Return how many live resources of a type are stored."""
        with self.database.read() as connection:
            row = connection.execute(
                "SELECT count(*) FROM fhir_resource WHERE type=? AND deleted=0", (kind,)
            ).fetchone()
        return int(row[0]) if row else 0

    def patient_resources(self, name: str, *, agent: str = "system") -> list[dict[str, Any]]:
        """Return the Patient and every resource that references it, for `patient_record`.

        Raises
        ------
        NotFoundError
            No Patient has this id.
        """
        reference = f"Patient/{name}"
        with self.database.read() as connection:
            rows = connection.execute(
                "SELECT body FROM fhir_resource WHERE deleted=0 AND rid IN (SELECT rid FROM fhir_reference "
                "WHERE target=? AND param IN (SELECT value FROM json_each(?))) ORDER BY rid",
                (reference, _subject_parameters()),
            ).fetchall()
            bodies = [cast("bytes", body) for (body,) in rows]
            try:
                first = load(connection, "Patient", name)
            except DigitalTwinError:
                raise NotFoundError(
                    "The patient's record cannot be read.",
                    "No Patient has this id.",
                    "Search for the patient first.",
                ) from None
        self._read_event("R", "fhir.patient-record", agent, reference, name)
        return [first.resource, *(loads(body) for body in bodies)]


def _asks_concepts(name: str) -> bool:
    last = name.rpartition(":")[2]
    return last in CONCEPT_MODIFIERS or last.rpartition(".")[2] in _NEEDS_STORE


def _subject_parameters() -> str:
    """Numbers of every ``patient`` and ``subject`` parameter, as a JSON array."""
    from digital_twins.fhir._definitions import definitions

    numbers = [
        rows[code].number
        for rows in definitions().parameters.values()
        for code in ("patient", "subject")
        if code in rows
    ]
    return "[" + ",".join(map(str, numbers)) + "]"
