"""The parameters of a search, parsed once into a plan that the store runs."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import orjson

from digital_twins._errors import InputError
from digital_twins.fhir._definitions import SearchParameter, definitions
from digital_twins.fhir._outcome import Issue, bad_request
from digital_twins.fhir._predicates import Predicate, Test, date_condition, predicate, split_values
from digital_twins.fhir._validate import ID

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT_COUNT = 50
MAX_COUNT = 1000
MAX_CONDITIONS = 100


@dataclass(frozen=True, slots=True)
class SortKey:
    """One ``_sort`` entry: a parameter, or ``_id``/``_lastUpdated`` with ``parameter`` None."""

    name: str
    descending: bool
    parameter: SearchParameter | None = None


@dataclass(frozen=True, slots=True)
class Include:
    """``_include`` or ``_revinclude``: follow ``parameter`` to or from resources of ``target``."""

    parameter: SearchParameter
    target: str | None
    reverse: bool


@dataclass(slots=True)
class Query:
    """A parsed search over one resource type."""

    type: str
    predicates: list[Predicate] = field(default_factory=list)
    sort: list[SortKey] = field(default_factory=list)
    includes: list[Include] = field(default_factory=list)
    count: int = DEFAULT_COUNT
    cursor: list[int | float | str] = field(default_factory=list)
    total: bool = False
    summary: str = "false"
    elements: list[str] = field(default_factory=list)
    warnings: list[Issue] = field(default_factory=list)
    used: list[tuple[str, str]] = field(default_factory=list)
    patient: str | None = None


def encode_cursor(values: Iterable[int | float | str]) -> str:
    """Return the opaque text of a paging position: the sort values and number of the last resource."""
    return base64.urlsafe_b64encode(orjson.dumps(list(values))).decode().rstrip("=")


def _decode_cursor(text: str, length: int) -> list[int | float | str]:
    try:
        values = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError:
        values = None
    if not isinstance(values, list) or len(values) != length or not isinstance(values[-1], int):
        raise bad_request("The paging cursor was not made by this server for this search.", code="value")
    if not all(isinstance(v, int | float | str) for v in values):
        raise bad_request("The paging cursor was not made by this server for this search.", code="value")
    return values


class _Parser:
    def __init__(self, kind: str, *, strict: bool) -> None:
        self.kind = kind
        self.strict = strict
        self.types = definitions().types
        self.query = Query(kind)
        self.cursor = ""

    def parameter(self, kind: str, code: str) -> SearchParameter | None:
        return definitions().parameters[kind].get(code)

    def unknown(self, name: str) -> None:
        shown = (
            name
            if name.replace("-", "").replace("_", "").replace(":", "").replace(".", "").isalnum()
            else "?"
        )
        text = f"The search parameter '{shown[:60]}' is not known for {self.kind}."
        if self.strict:
            raise bad_request(text, code="not-supported")
        self.query.warnings.append(Issue("not-supported", text + " It was ignored.", severity="warning"))

    def condition(self, name: str, text: str) -> Predicate | None:
        """Return the predicate of one ordinary, chained or reverse-chained parameter; None if unknown."""
        if name.startswith("_has:"):
            return self.reverse_chain(name, text)
        head, dot, rest = name.partition(".")
        if dot:
            return self.chain(head, rest, text)
        code, _, modifier = name.partition(":")
        if code == "_id":
            return self.ids(text, modifier)
        if code == "_lastUpdated":
            return self.updated(text)
        parameter = self.parameter(self.kind, code)
        if parameter is None:
            return None
        if parameter.kind == "reference" and code in {"patient", "subject"} and not modifier:
            self.query.patient = text.removeprefix("Patient/")
        return predicate(parameter, modifier, text, types=self.types)

    def ids(self, text: str, modifier: str) -> Predicate:
        values = [v for v in split_values(text) if ID.fullmatch(v)]
        if modifier and modifier != "not":
            raise bad_request(
                "The search parameter '_id' has no modifier of this name.", code="not-supported"
            )
        marks = ",".join("?" * len(values)) or "NULL"
        test = Test("", f"r.id IN ({marks})", tuple(values))
        return Predicate((test,), rank=-1, negated=modifier == "not")

    def updated(self, text: str) -> Predicate:
        tests = []
        for value in split_values(text):
            try:
                sql, arguments = date_condition(value)
            except InputError:
                raise bad_request("The value of '_lastUpdated' is not a date.", code="value") from None
            sql = (
                sql.replace("high<=", "r.updated<")
                .replace("high>", "r.updated>=")
                .replace("low", "r.updated")
            )
            tests.append(Test("", sql, arguments))
        return Predicate(tuple(tests), rank=9)

    def inner(self, kind: str, name: str, text: str) -> Predicate | None:
        parser = _Parser(kind, strict=True)
        return parser.condition(name, text)

    def chain(self, head: str, rest: str, text: str) -> Predicate | None:
        code, _, wanted = head.partition(":")
        parameter = self.parameter(self.kind, code)
        if parameter is None or parameter.kind != "reference":
            return None
        if "." in rest or rest.startswith("_has:"):
            raise bad_request("Chains over more than one reference are not supported.", code="not-supported")
        kinds = [wanted] if wanted else list(parameter.targets)
        tests = []
        for kind in kinds:
            if kind not in self.types:
                continue
            found = self.inner(kind, rest, text)
            if found is not None:
                sql, arguments = matching(kind, found)
                condition = (
                    f"param=? AND target IN (SELECT r.type||'/'||r.id FROM fhir_resource r WHERE {sql})"  # noqa: S608  (built from our own texts)
                )
                tests.append(Test("fhir_reference", condition, (parameter.number, *arguments)))
        return Predicate(tuple(tests), rank=3) if tests else None

    def reverse_chain(self, name: str, text: str) -> Predicate | None:
        parts = name.split(":", 3)
        if len(parts) != 4 or parts[1] not in self.types:
            raise bad_request("_has is written _has:Type:reference:parameter.", code="value")
        parameter = self.parameter(parts[1], parts[2])
        found = self.inner(parts[1], parts[3], text)
        if parameter is None or parameter.kind != "reference" or found is None:
            return None
        sql, arguments = matching(parts[1], found)
        condition = (
            "r.type||'/'||r.id IN (SELECT target FROM fhir_reference WHERE param=? AND rid IN "  # noqa: S608  (built from our own texts)
            f"(SELECT r.rid FROM fhir_resource r WHERE {sql}))"
        )
        return Predicate((Test("", condition, (parameter.number, *arguments)),), rank=7)

    def include(self, name: str, text: str) -> None:
        reverse = name.startswith("_revinclude")
        source, _, rest = text.partition(":")
        code, _, target = rest.partition(":")
        parameter = self.parameter(source, code) if source in self.types else None
        if parameter is None or parameter.kind != "reference" or (not reverse and source != self.kind):
            self.unknown(name)
            return
        self.query.includes.append(Include(parameter, target or None, reverse))

    def sort(self, text: str) -> None:
        for entry in split_values(text):
            name = entry.removeprefix("-")
            parameter = self.parameter(self.kind, name)
            if parameter is None and name not in {"_id", "_lastUpdated"}:
                self.unknown("_sort")
                continue
            self.query.sort.append(SortKey(name, entry.startswith("-"), parameter))

    def count(self, text: str) -> None:
        if not text.isdigit() or len(text) > 9:
            raise bad_request("_count must be a whole number of zero or more.", code="value")
        self.query.count = min(int(text), MAX_COUNT)
        if self.query.count == 0:
            self.query.summary = "count"

    def summary(self, text: str) -> None:
        if text not in {"true", "false", "text", "data", "count"}:
            raise bad_request("_summary must be true, false, text, data or count.", code="value")
        self.query.summary = text

    def control(self, name: str, text: str) -> bool:
        """Take one of the parameters that shape the answer; False when it is none of them."""
        query = self.query
        head = name.partition(":")[0]
        if head in {"_include", "_revinclude"}:
            self.include(name, text)
        elif name == "_count":
            self.count(text)
        elif name == "_sort":
            self.sort(text)
        elif name == "_total":
            query.total = text in {"accurate", "estimate"}
        elif name == "_summary":
            self.summary(text)
        elif name == "_elements":
            query.elements = [v for v in split_values(text) if v.isalnum()]
        elif name == "_cursor":
            self.cursor = text
            return True
        elif name not in {"_format", "_pretty"}:
            return False
        query.used.append((name, text))
        return True


def parse_query(kind: str, parameters: Iterable[tuple[str, str]], *, strict: bool = False) -> Query:
    """Return the plan of a search.

    Parameters
    ----------
    kind
        Resource type.
    parameters
        Name and value pairs as they stand in the URL, decoded.
    strict
        Refuse unknown parameters (``Prefer: handling=strict``); otherwise they become warnings.

    Raises
    ------
    FhirError
        400 for an unknown type, a value or a modifier that cannot be read.
    """
    if kind not in definitions().types:
        raise bad_request("This is not a resource type of FHIR R4.", code="not-supported", status=404)
    parser = _Parser(kind, strict=strict)
    for number, (name, text) in enumerate(parameters):
        if number >= MAX_CONDITIONS:
            raise bad_request(f"A search has at most {MAX_CONDITIONS} parameters.", code="too-costly")
        if parser.control(name, text) or not text:
            continue
        found = parser.condition(name, text)
        if found is None:
            parser.unknown(name)
            continue
        parser.query.predicates.append(found)
        parser.query.used.append((name, text))
    if parser.cursor:
        parser.query.cursor = _decode_cursor(parser.cursor, len(parser.query.sort) + 1)
    return parser.query


def matching(kind: str, found: Predicate) -> tuple[str, list[int | float | str]]:
    """Return the WHERE text over ``fhir_resource r`` for live resources of a type that meet one predicate."""
    text, arguments = filter_sql(found, materialise=True)
    return f"r.type=? AND r.deleted=0 AND {text}", [kind, *arguments]


def filter_sql(found: Predicate, *, materialise: bool = False) -> tuple[str, list[int | float | str]]:
    """Return a condition on ``r.rid`` for a predicate.

    Ordered tests and dates are probed resource by resource unless ``materialise``; the others are collected
    once.
    """
    parts: list[str] = []
    arguments: list[int | float | str] = []
    for test in found.tests:
        if not test.table:
            parts.append(test.condition)
        elif test.table == "fhir_date" and not materialise:
            probe = (
                f"SELECT 1 FROM fhir_date INDEXED BY fhir_date_resource WHERE {test.condition} AND rid=r.rid"  # noqa: S608  (texts of ours)
            )
            parts.append(f"EXISTS ({probe})")
        elif test.ordered and not materialise:
            parts.append(f"EXISTS (SELECT 1 FROM {test.table} WHERE {test.condition} AND rid=r.rid)")  # noqa: S608  (table names are ours)
        else:
            parts.append(f"r.rid IN (SELECT rid FROM {test.table} WHERE {test.condition})")  # noqa: S608  (table names are ours)
        arguments.extend(test.arguments)
    text = "(" + " OR ".join(parts) + ")"
    return (f"NOT {text}" if found.negated else text), arguments
