"""Transaction and batch bundles: what each entry asks for, and references between entries."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

import orjson

from digital_twins._errors import DigitalTwinError
from digital_twins.fhir._bundle_reads import read_path
from digital_twins.fhir._dates import to_instant
from digital_twins.fhir._definitions import definitions
from digital_twins.fhir._fhirpath_patch import fhirpath_patch
from digital_twins.fhir._json import dumps, loads
from digital_twins.fhir._json_patch import json_patch
from digital_twins.fhir._outcome import FhirError, Issue, bad_request, outcome_of
from digital_twins.fhir._query import parse_query
from digital_twins.fhir._search import run_query
from digital_twins.fhir._validate import ID
from digital_twins.fhir._write import (
    PendingRows,
    Saved,
    SeenCodings,
    insert,
    load,
    new_id,
    put,
    remove,
    version_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from digital_twins.fhir._bundle_reads import Found
    from digital_twins.fhir._hits import Executes
    from digital_twins.fhir._package_search import Extra

    Reads = Mapping[int, Callable[[Executes], Found]]
    """What answers the GET entries, by number of the entry."""

MAX_ENTRIES = 20_000
JSON_PATCH = "application/json-patch+json"
READS = frozenset({"GET", "HEAD"})
_ORDER = {"DELETE": 0, "POST": 1, "PUT": 2, "PATCH": 2, "GET": 3, "HEAD": 3}
_SHAPE = frozenset(
    {"_count", "_sort", "_include", "_revinclude", "_total", "_summary", "_elements", "_format"}
)
_STATUS = {200: "200 OK", 201: "201 Created", 204: "204 No Content", 304: "304 Not Modified"}


@dataclass(slots=True)
class Entry:
    """One request of a bundle; ``name`` is the id in the address, or the id that a POST will get.

    Of an entry that reads, ``path`` is the whole address below the base and ``asked`` the query as it came.
    """

    number: int
    method: str
    type: str
    name: str
    query: list[tuple[str, str]]
    full_url: str
    resource: dict[str, Any] | None
    if_match: int | None
    if_none_exist: str | None
    path: tuple[str, ...] = ()
    asked: str = ""
    if_none_match: str = ""

    @property
    def where(self) -> str:
        """FHIRPath of the entry."""
        return f"Bundle.entry[{self.number}]"


@dataclass(frozen=True, slots=True)
class EntryAnswer:
    """What became of an entry: the saved version, or what a GET found; ``patient`` is whom that speaks of."""

    saved: Saved | None = None
    found: bytes | None = None
    status: int = 200
    patient: str | None = None


def _split_url(url: str) -> tuple[str, str, str]:
    """Return type, id and query of ``Patient/1?x=y``; an absolute address is cut to its end."""
    path, _, query = url.partition("?")
    parts = [p for p in path.split("/") if p]
    if parts and parts[-1] in definitions().types:
        return parts[-1], "", query
    if len(parts) >= 2 and parts[-2] in definitions().types:
        return parts[-2], parts[-1], query
    return "", "", query


def parse_entries(bundle: Mapping[str, Any], first: int = 0) -> list[Entry]:
    """Return the requests of a transaction or batch; ``first`` is the number of the first entry.

    Raises
    ------
    FhirError
        400 for an entry that cannot be understood, with its location.
    """
    entries = bundle.get("entry", [])
    if len(entries) > MAX_ENTRIES:
        raise FhirError(
            413, [Issue("too-costly", f"A bundle has at most {MAX_ENTRIES} entries.", "Bundle.entry")]
        )
    return [_parse_entry(number, entry) for number, entry in enumerate(entries, first)]


def _parse_entry(number: int, entry: Mapping[str, Any]) -> Entry:
    where = f"Bundle.entry[{number}]"
    request = entry.get("request")
    if not isinstance(request, dict):
        raise bad_request("Every entry of a transaction or batch needs a request.", location=where)
    method = request.get("method", "")
    if method not in _ORDER:
        raise bad_request(
            "The method must be GET, HEAD, POST, PUT, PATCH or DELETE.", location=where, code="not-supported"
        )
    if method in READS:
        return _parse_read(number, method, request, entry.get("fullUrl", ""))
    return _parse_write(number, method, entry, request)


def _parse_write(number: int, method: str, entry: Mapping[str, Any], request: Mapping[str, Any]) -> Entry:
    where = f"Bundle.entry[{number}]"
    kind, name, query = _split_url(request.get("url", ""))
    resource = entry.get("resource")
    if not kind:
        raise bad_request("request.url must name a resource type.", location=f"{where}.request.url")
    if name and not ID.fullmatch(name):
        raise bad_request("The id has characters that FHIR does not allow.", location=f"{where}.request.url")
    if method in {"POST", "PUT"} and (not isinstance(resource, dict) or resource.get("resourceType") != kind):
        raise bad_request(f"A resource of type {kind} is needed.", location=f"{where}.resource")
    if method == "POST" or (method == "PUT" and query and not name):
        name = new_id()  # that of a conditional update is used when nothing matches
    elif bool(query) == bool(name):
        raise bad_request(f"{method} needs an id or a condition.", location=f"{where}.request.url")
    if method == "PUT" and resource is not None and not query and resource.get("id", name) != name:
        raise bad_request("The id in the resource differs from the id in the url.", location=where)
    if_match = request.get("ifMatch")
    return Entry(
        number=number,
        method=method,
        type=kind,
        name=name,
        query=parse_qsl(query, keep_blank_values=True) if query else [],
        full_url=entry.get("fullUrl", ""),
        resource=resource,
        if_match=version_of(if_match) if if_match else None,
        if_none_exist=request.get("ifNoneExist"),
    )


def _parse_read(number: int, method: str, request: Mapping[str, Any], full_url: str) -> Entry:
    path, query = read_path(request.get("url", ""))
    return Entry(
        number=number,
        method=method,
        type=path[0] if path and path[0] in definitions().types else "",
        name="",
        query=parse_qsl(query, keep_blank_values=True),
        full_url=full_url,
        resource=None,
        if_match=None,
        if_none_exist=None,
        path=path,
        asked=query,
        if_none_match=str(request.get("ifNoneMatch", "")),
    )


def match_one(
    cursor: Executes, kind: str, query: str, where: str | None = None, extra: Extra | None = None
) -> str | None:
    """Return the id of the single match of a conditional request, None for no match.

    ``extra`` are the search parameters of packages.

    Raises
    ------
    FhirError
        412 when several resources match.
    """
    found = match_all(cursor, kind, query, limit=2, where=where, extra=extra)
    if len(found) > 1:
        issue = Issue("multiple-matches", "Several resources match the condition.", where)
        raise FhirError(412, [issue], fix="Make the condition narrower.")
    return found[0] if found else None


def match_all(
    cursor: Executes,
    kind: str,
    query: str,
    *,
    limit: int,
    where: str | None = None,
    extra: Extra | None = None,
) -> list[str]:
    """Return the ids of the resources that match a conditional request, at most ``limit``; see `match_one`.

    Raises
    ------
    FhirError
        400 when the condition names no parameter, or one that is not known.
    """
    pairs = parse_qsl(query.lstrip("?"), keep_blank_values=True)
    plan = parse_query(kind, [pair for pair in pairs if pair[0] not in _SHAPE], strict=True, extra=extra)
    if not plan.predicates:
        raise bad_request("The condition names no search parameter.", location=where)
    plan.count = limit
    return [hit.id for hit in run_query(cursor, plan).hits]


def _rewrite(node: Any, resolve: Callable[[str], str], key: str = "") -> Any:
    """Return a copy with every reference (and url that names an entry) resolved."""
    if isinstance(node, dict):
        return {k: _rewrite(v, resolve, k) for k, v in node.items()}
    if isinstance(node, list):
        return [_rewrite(v, resolve, key) for v in node]
    if isinstance(node, str) and (key == "reference" or (key == "url" and node[:4] == "urn:")):
        return resolve(node)
    return node


class _Transaction:
    """All entries of one transaction, run with one cursor."""

    def __init__(
        self,
        cursor: Executes,
        entries: Sequence[Entry],
        codings: SeenCodings | None,
        validate: Callable[[Mapping[str, Any]], None] | None,
        reads: Reads,
    ) -> None:
        self.cursor = cursor
        self.reads = reads
        self.validate = validate
        self.codings = codings
        self.entries = entries
        self.pending = PendingRows(codings or SeenCodings())
        self.targets: dict[str, str] = {}
        self.only_urns = True  # of the addresses of entries: then only texts with urn: can mean one
        self.matched: dict[int, str] = {}

    def assign(self) -> None:
        """Decide every id before anything is written, so that references may point forward."""
        touched: set[tuple[str, str]] = set()
        for entry in self.entries:
            name = self.named(entry)
            if name and entry.number not in self.matched:
                if (entry.type, name) in touched:
                    raise bad_request("Two entries change the same resource.", location=entry.where)
                touched.add((entry.type, name))
            if entry.full_url and entry.method in {"POST", "PUT"}:
                reference = f"{entry.type}/{name}"
                if self.targets.setdefault(entry.full_url, reference) != reference:
                    raise bad_request("Two entries have the same fullUrl.", location=entry.where)
        self.only_urns = all(url.startswith("urn:") for url in self.targets)

    def named(self, entry: Entry) -> str:
        """Return the id of the resource that an entry speaks of, conditions resolved; empty for none."""
        if entry.if_none_exist and entry.method == "POST":
            found = self.match(entry.type, entry.if_none_exist, entry.where)
            if found:
                self.matched[entry.number] = found
                return found
        if entry.query and entry.method not in READS:
            found = self.match(entry.type, urlencode(entry.query), entry.where)
            if found is None and entry.method == "PATCH":
                text = "Nothing matches the condition of a PATCH."
                raise FhirError(404, [Issue("not-found", text, entry.where)])
            if entry.method == "PUT":
                found = found or entry.name
                if entry.resource is not None and entry.resource.get("id", found) != found:
                    raise bad_request("The id in the resource differs from its match.", location=entry.where)
            entry.name = found or ""
        return entry.name

    def removed(self, entry: Entry) -> Saved | None:
        return remove(self.cursor, entry.type, entry.name, if_match=entry.if_match, codings=self.codings)

    def match(self, kind: str, query: str, where: str) -> str | None:
        self.pending.flush(self.cursor)  # what the transaction has made so far may match
        served = self.codings.served if self.codings is not None else {}
        return match_one(self.cursor, kind, query, where, served)

    def resolve(self, entry: Entry) -> Callable[[str], str]:
        def one(reference: str) -> str:
            base, hash_, fragment = reference.partition("#")
            if base in self.targets:
                return self.targets[base] + hash_ + fragment
            if base.startswith("urn:uuid:"):
                text = "A urn:uuid reference names no entry of this bundle."
                raise bad_request(text, location=entry.where, code="not-found")
            kind, mark, query = reference.partition("?")
            if mark and kind in definitions().types:
                found = self.match(kind, query, entry.where)
                if found is None:
                    text = "A conditional reference matches no resource."
                    raise FhirError(412, [Issue("not-found", text, entry.where)])
                return f"{kind}/{found}"
            return reference

        return one

    def run(self, entry: Entry) -> EntryAnswer:
        cursor = self.cursor
        if entry.method in READS:
            self.pending.flush(cursor)
            return answer_read(entry, self.reads[entry.number](cursor))
        if entry.method == "DELETE" and not entry.name:
            return EntryAnswer(status=204)
        if entry.method == "DELETE":
            return EntryAnswer(self.removed(entry), status=204)
        if entry.number in self.matched:
            return EntryAnswer(load(cursor, entry.type, self.matched[entry.number]))
        if entry.method == "PATCH":
            saved = self.patched(entry)
            return EntryAnswer(saved)
        resource = self.resolved(entry)
        if entry.method == "POST":
            saved = insert(cursor, resource, entry.name, codings=self.codings, pending=self.pending)
            return EntryAnswer(saved, status=201)
        saved = put(
            cursor,
            resource,
            entry.name,
            if_match=entry.if_match,
            codings=self.codings,
            pending=self.pending,
        )
        return EntryAnswer(saved, status=201 if saved.created else 200)

    def resolved(self, entry: Entry) -> dict[str, Any]:
        """Return the resource with its references resolved; most have nothing that could need it."""
        resource = entry.resource or {}
        raw = dumps(resource)
        if b'"urn:' not in raw and b"?" not in raw and self.only_urns:
            return resource
        found: dict[str, Any] = _rewrite(resource, self.resolve(entry))
        return found

    def patched(self, entry: Entry) -> Saved:
        before = loads(load(self.cursor, entry.type, entry.name).body)
        after = _patch_of(entry)(before)
        if not isinstance(after, dict) or (after.get("resourceType"), after.get("id")) != (
            entry.type,
            entry.name,
        ):
            raise bad_request("A patch may not change the type or the id of a resource.", status=422)
        if self.validate is not None:
            self.validate(after)
        return put(self.cursor, after, entry.name, if_match=entry.if_match, codings=self.codings)


def _patch_of(entry: Entry) -> Callable[[dict[str, Any]], Any]:
    """Return the change of a PATCH entry: Parameters, or a Binary that holds a JSON Patch (R4, 3.1.0.9)."""
    resource = entry.resource or {}
    if resource.get("resourceType") == "Parameters":
        return partial(fhirpath_patch, patch=resource)
    if resource.get("resourceType") == "Binary" and resource.get("contentType") == JSON_PATCH:
        try:
            raw = base64.b64decode(str(resource.get("data", "")), validate=True)
        except ValueError:
            raise bad_request("The Binary of a PATCH is not base64.", location=entry.where) from None
        return partial(json_patch, operations=loads(raw))
    text = f"A PATCH entry needs Parameters, or a Binary of type {JSON_PATCH}."
    raise bad_request(text, location=entry.where)


def answer_read(entry: Entry, found: Found) -> EntryAnswer:
    """Return the answer to a GET entry: without a body for HEAD, and where the client has this version."""
    saved = found.saved
    tags = {tag.strip().removeprefix("W/") for tag in entry.if_none_match.split(",")}
    if saved is not None and tags & {saved.etag.removeprefix("W/"), "*"}:
        return EntryAnswer(saved, status=304, patient=found.patient)
    if entry.method == "HEAD":
        return EntryAnswer(saved and replace(saved, body=b""), patient=found.patient)
    return EntryAnswer(saved, found=found.body, patient=found.patient)


def located(error: FhirError, where: str) -> FhirError:
    """Return the error with the entry's place in front of every location."""
    issues = [
        i if i.location and i.location.startswith("Bundle.") else Issue(i.code, i.text, where, i.severity)
        for i in error.issues
    ]
    return FhirError(error.http_status, issues, fix=error.fix)


def moved(error: FhirError, number: int) -> FhirError:
    """Return the error of an entry that was looked at alone, with its number in the bundle it came in."""
    alone, place = "Bundle.entry[0]", f"Bundle.entry[{number}]"
    issues = [
        Issue(i.code, i.text, i.location and i.location.replace(alone, place, 1), i.severity)
        for i in error.issues
    ]
    return FhirError(error.http_status, issues, fix=error.fix)


def run_transaction(
    cursor: Executes,
    entries: Sequence[Entry],
    codings: SeenCodings | None = None,
    validate: Callable[[Mapping[str, Any]], None] | None = None,
    reads: Reads | None = None,
) -> list[EntryAnswer]:
    """Run all entries in the order of the standard (delete, create, update, read); raise to undo them all.

    ``reads`` has what answers each entry that reads.

    Raises
    ------
    FhirError
        With the location of the entry that failed.
    """
    # Conditional entries get their ids here, and another attempt of the same unit must begin without them.
    entries = [replace(entry) if entry.query else entry for entry in entries]
    work = _Transaction(cursor, entries, codings, validate, reads or {})
    work.assign()
    answers: dict[int, EntryAnswer] = {}
    for entry in sorted(entries, key=lambda e: _ORDER[e.method]):
        try:
            answers[entry.number] = work.run(entry)
        except FhirError as error:
            raise located(error, entry.where) from error
    work.pending.flush(cursor)
    return [answers[entry.number] for entry in entries]


def run_single(
    cursor: Executes,
    entry: Entry,
    codings: SeenCodings | None = None,
    validate: Callable[[Mapping[str, Any]], None] | None = None,
) -> EntryAnswer:
    """Run one entry of a batch by itself."""
    return run_transaction(cursor, [entry], codings, validate)[0]


def response_bundle(
    kind: str, answers: Sequence[EntryAnswer | DigitalTwinError], *, representation: bool = False
) -> bytes:
    """Return the ``transaction-response`` or ``batch-response`` bundle.

    Parameters
    ----------
    kind
        ``"transaction"`` or ``"batch"``.
    answers
        One for each entry, in the order of the request.
    representation
        Send the stored resources back too (``Prefer: return=representation``).
    """
    entries = list(_response_entries(answers, representation=representation))
    bundle: dict[str, Any] = {"resourceType": "Bundle", "type": f"{kind}-response"}
    if entries:
        bundle["entry"] = entries
    return orjson.dumps(bundle)


def _response_entries(
    answers: Sequence[EntryAnswer | DigitalTwinError], *, representation: bool
) -> Iterator[dict[str, Any]]:
    for answer in answers:
        if isinstance(answer, DigitalTwinError):
            yield {"response": {"status": str(answer.http_status), "outcome": outcome_of(answer)}}
            continue
        response: dict[str, Any] = {"status": _STATUS[answer.status]}
        found: dict[str, Any] = {"response": response}
        saved = answer.saved
        if saved is not None:
            response["etag"] = saved.etag
            response["lastModified"] = to_instant(saved.updated)
            if answer.status != 204:
                response["location"] = saved.location
        if answer.found is not None:
            found["resource"] = orjson.Fragment(answer.found)
        elif saved is not None and saved.body and representation and answer.status in {200, 201}:
            found["resource"] = orjson.Fragment(saved.body)
        yield found
