"""The parameters of a search, parsed once into a plan that the store runs."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import orjson

from digital_twins.fhir._criteria import Criteria
from digital_twins.fhir._definitions import SearchParameter, definitions
from digital_twins.fhir._includes import Include, include_of
from digital_twins.fhir._outcome import Issue, bad_request
from digital_twins.fhir._predicates import split_values

if TYPE_CHECKING:
    from collections.abc import Iterable

    from digital_twins.fhir._concepts import Concepts
    from digital_twins.fhir._conditions import Predicate
    from digital_twins.fhir._package_search import Extra

DEFAULT_COUNT = 50
MAX_COUNT = 1000
MAX_CONDITIONS = 100
_AGAIN = frozenset({"iterate", "recurse"})
_NAME_MARKS = str.maketrans("", "", "-_:.")


@dataclass(frozen=True, slots=True)
class SortKey:
    """One ``_sort`` entry: a parameter, or ``_id``/``_lastUpdated`` with ``parameter`` None."""

    name: str
    descending: bool
    parameter: SearchParameter | None = None


@dataclass(slots=True)
class Query:
    """A parsed search over one resource type.

    ``used`` are the parameters that were understood; ``asked`` is the query text of the address where all of
    them were, so that it can be repeated in links as it is. ``chained`` says that it goes through other
    resources than those it finds. ``place`` is its address below the base where that is not the type.
    """

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
    chained: bool = False
    place: str = ""
    asked: str | None = None

    @property
    def plain(self) -> bool:
        """Whether one statement finds the whole page: neither order, nor total, nor other resources."""
        return not (self.sort or self.includes or self.total or self.summary == "count")


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
    def __init__(self, kind: str, *, strict: bool, criteria: Criteria) -> None:
        self.kind = kind
        self.strict = strict
        self.criteria = criteria
        self.query = Query(kind)
        self.cursor = ""

    def unknown(self, name: str) -> None:
        shown = name if name.translate(_NAME_MARKS).isalnum() else "?"
        text = f"The search parameter '{shown[:60]}' is not known for {self.kind}."
        if self.strict:
            raise bad_request(text, code="not-supported")
        self.query.warnings.append(Issue("not-supported", text + " It was ignored.", severity="warning"))

    def condition(self, name: str, text: str) -> None:
        """Take one criterion; what is not known is told or refused."""
        found = self.criteria.read(name, text)
        if found is None:
            self.unknown(name)
            return
        if name in {"patient", "subject"}:
            self.query.patient = text.removeprefix("Patient/")
        # A criterion that is only an AND of others is taken apart, so that any of them may lead the search.
        together = found.also if found.also and not found.negated else (found,)
        self.query.predicates.extend(together)
        self.query.chained = self.criteria.chained
        self.query.used.append((name, text))

    def include(self, name: str, text: str) -> None:
        head, _, modifier = name.partition(":")
        found = include_of(
            self.kind,
            text,
            reverse=head == "_revinclude",
            again=modifier in _AGAIN,
            extra=self.criteria.extra,
        )
        if found is None or modifier not in {"", *_AGAIN}:
            self.unknown(name)
            return
        self.query.includes.append(found)
        self.query.used.append((name, text))

    def sort(self, text: str) -> None:
        for entry in split_values(text):
            name = entry.removeprefix("-")
            parameter = self.criteria.parameter(name)
            if (parameter is None and name not in {"_id", "_lastUpdated"}) or (
                parameter is not None and parameter.kind in {"composite", "special"}
            ):
                self.unknown("_sort")
                continue
            self.query.sort.append(SortKey(name, entry.startswith("-"), parameter))

    def count(self, text: str) -> None:
        if not text.isdecimal() or len(text) > 9:
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
            return True
        if name == "_count":
            self.count(text)
        elif name == "_sort":
            self.sort(text)
        elif name == "_total":
            if text not in {"none", "estimate", "accurate"}:
                raise bad_request("_total must be none, estimate or accurate.", code="value")
            query.total = text != "none"
        elif name == "_summary":
            self.summary(text)
        elif name == "_elements":
            query.elements = [v for v in split_values(text) if v.isalnum()]
        elif name == "_cursor":
            self.cursor = text
            return True
        elif name not in {"_format", "_pretty"} and (name, text) != ("_contained", "false"):
            return False
        query.used.append((name, text))
        return True


def parse_query(
    kind: str,
    parameters: Iterable[tuple[str, str]],
    *,
    strict: bool = False,
    concepts: Concepts | None = None,
    extra: Extra | None = None,
) -> Query:
    """Return the plan of a search.

    Parameters
    ----------
    kind
        Resource type.
    parameters
        Name and value pairs as they stand in the URL, decoded.
    strict
        Refuse unknown parameters (``Prefer: handling=strict``); otherwise they become warnings.
    concepts
        Codings and code systems, for the modifiers that need them.
    extra
        Search parameters of packages, beside those of R4.

    Raises
    ------
    FhirError
        400 for an unknown type, a value or a modifier that cannot be read.
    """
    if kind not in definitions().types:
        raise bad_request("This is not a resource type of FHIR R4.", code="not-supported", status=404)
    parser = _Parser(kind, strict=strict, criteria=Criteria(kind, concepts, extra))
    for number, (name, text) in enumerate(parameters):
        if number >= MAX_CONDITIONS:
            raise bad_request(f"A search has at most {MAX_CONDITIONS} parameters.", code="too-costly")
        if (name[:1] == "_" and parser.control(name, text)) or not text:
            continue
        parser.condition(name, text)
    if parser.cursor:
        parser.query.cursor = _decode_cursor(parser.cursor, len(parser.query.sort) + 1)
    return parser.query
