"""Transactions and batches on the store: planned, run in their units of work, audited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins._errors import DigitalTwinError
from digital_twins.fhir._auditing import patient_of
from digital_twins.fhir._bundle import (
    READS,
    EntryAnswer,
    answer_read,
    located,
    moved,
    parse_entries,
    run_single,
    run_transaction,
)
from digital_twins.fhir._bundle_reads import plan_read
from digital_twins.fhir._outcome import FhirError, bad_request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future
    from typing import TypeGuard

    import apsw

    from digital_twins.fhir._auditing import Auditor
    from digital_twins.fhir._bundle import Entry
    from digital_twins.fhir._bundle_reads import Found
    from digital_twins.fhir._hits import Executes
    from digital_twins.fhir._store import FhirStore
    from digital_twins.fhir._write import SeenCodings


class Bundles:
    """The bundles of a store; see `FhirStore` for the parameters."""

    def __init__(
        self,
        store: FhirStore,
        auditor: Auditor | None,
        validate: Callable[[Mapping[str, Any]], None],
        codings: SeenCodings,
    ) -> None:
        self._store = store
        self._auditor = auditor
        self._validate = validate
        self._codings = codings

    def transaction(
        self, body: Mapping[str, Any], agent: str, base_url: str = ""
    ) -> Callable[[apsw.Cursor], list[EntryAnswer]]:
        """Return the unit of work of a transaction; raises FhirError with the location of a bad entry."""
        entries = self._entries(body, "transaction")
        reads = {entry.number: self._plan(entry, base_url) for entry in entries if entry.method in READS}
        self._codings.confirm(self._store.database)

        def work(cursor: apsw.Cursor) -> list[EntryAnswer]:
            answers = run_transaction(cursor, entries, self._codings, self._validate, reads)
            self._audit_answers(cursor, "fhir.transaction", entries, answers, agent)
            return answers

        return work

    def _plan(self, entry: Entry, base_url: str) -> Callable[[Executes], Found]:
        try:
            return plan_read(
                entry.path, entry.query, asked=entry.asked, base_url=base_url, searches=self._store
            )
        except FhirError as error:
            raise located(error, entry.where) from error

    def _audit_answers(
        self,
        cursor: apsw.Cursor,
        kind: str,
        entries: Sequence[Entry],
        answers: Sequence[EntryAnswer],
        agent: str,
    ) -> None:
        """One event for the bundle, with how many resources it touched."""
        if self._auditor is None:
            return
        patient = None
        for entry, answer in zip(entries, answers, strict=True):
            if entry.type == "Patient" and answer.saved is not None:
                patient = answer.saved.id
                break
            patient = patient or answer.patient or patient_of(entry.resource or {})
        detail = {"entries": len(entries)}
        self._auditor.changed(cursor, "E", kind, agent=agent, entity="Bundle", patient=patient, detail=detail)

    def _entries(self, bundle: Mapping[str, Any], kind: str, first: int = 0) -> list[Entry]:
        if bundle.get("resourceType") != "Bundle" or bundle.get("type") != kind:
            raise bad_request(f"The body must be a Bundle of type {kind}.", location="Bundle.type")
        if not isinstance(bundle.get("entry", []), list):
            raise bad_request("Bundle.entry must be an array.", location="Bundle.entry")
        self._validate(bundle)
        return parse_entries(bundle, first)

    def batch(
        self, bundle: Mapping[str, Any], agent: str, base_url: str
    ) -> list[EntryAnswer | DigitalTwinError]:
        """Run the entries that write, each with its own commit, then those that read."""
        raw = bundle.get("entry", [])
        if bundle.get("resourceType") != "Bundle" or not isinstance(raw, list):
            raise bad_request("The body must be a Bundle of type batch.", location="Bundle.type")
        entries = [self._batch_entry({**bundle, "entry": [each]}, number) for number, each in enumerate(raw)]
        writes = {n: self._submit(e, agent) for n, e in enumerate(entries) if _writes(e)}
        answers = {number: _settled(future) for number, future in writes.items()}
        for number, entry in enumerate(entries):
            if isinstance(entry, DigitalTwinError):
                answers[number] = entry
            elif number not in answers:
                answers[number] = self._batch_read(entry, agent, base_url)
        return [answers[number] for number in range(len(entries))]

    def _batch_entry(self, bundle: Mapping[str, Any], number: int) -> Entry | DigitalTwinError:
        try:
            return self._entries(bundle, "batch", number)[0]
        except FhirError as error:
            return moved(error, number)
        except DigitalTwinError as error:
            return error

    def _submit(self, entry: Entry, agent: str) -> Future[EntryAnswer]:
        def work(cursor: apsw.Cursor) -> EntryAnswer:
            answer = run_single(cursor, entry, self._codings, self._validate)
            self._audit_answers(cursor, "fhir.batch", [entry], [answer], agent)
            return answer

        return self._store.database.submit(work)

    def _batch_read(self, entry: Entry, agent: str, base_url: str) -> EntryAnswer | DigitalTwinError:
        try:
            plan = self._plan(entry, base_url)
            with self._store.database.read() as connection:
                answer = answer_read(entry, plan(connection))
        except FhirError as error:
            return located(error, entry.where)
        except DigitalTwinError as error:
            return error
        if self._auditor is not None:
            self._auditor.read("E", "fhir.batch", agent=agent, entity="Bundle", patient=answer.patient)
        return answer


def _writes(entry: Entry | DigitalTwinError) -> TypeGuard[Entry]:
    return not isinstance(entry, DigitalTwinError) and entry.method not in READS


def _settled(future: Future[EntryAnswer]) -> EntryAnswer | DigitalTwinError:
    try:
        return future.result()
    except DigitalTwinError as error:
        return error
