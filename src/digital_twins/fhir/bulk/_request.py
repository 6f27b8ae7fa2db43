"""What a kick-off request asks for (Bulk Data Access 2.0.0, section "Bulk Data Kick-off Request")."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl

from digital_twins._errors import InputError
from digital_twins.fhir._compartment import patient_compartment
from digital_twins.fhir._dates import date_range
from digital_twins.fhir._definitions import definitions
from digital_twins.fhir._outcome import bad_request
from digital_twins.fhir._query import parse_query
from digital_twins.fhir._validate import ID

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from digital_twins.fhir._package_search import Extra

Level = Literal["system", "patient", "group"]
NDJSON = "application/fhir+ndjson"
_FORMATS = {NDJSON, "application/ndjson", "ndjson"}
_LISTS = {"_type", "_typeFilter", "_elements", "patient"}
_KNOWN = {*_LISTS, "_outputFormat", "_since", "_until"}
_NO_FILTER = {"_sort", "_count", "_include", "_revinclude", "_summary", "_elements", "_total", "_cursor"}


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """A valid request for an export.

    Attributes
    ----------
    level
        Everything, all patients' compartments, or those of a Group's members.
    group
        Id of the Group at level ``"group"``.
    types
        Resource types to export; empty: all that the level has.
    since_us, until_us
        Only what was changed after, and not after, these moments (microseconds since 1970 UTC).
    filters
        ``Type?query`` searches; a type that has some is cut to what one of them finds.
    elements
        ``Type.element`` or ``element``: what is kept beside the mandatory elements.
    patients
        Ids of the only patients to export; empty: all of the level.
    skipped
        What a lenient request asked for and does not get, in words.
    """

    level: Level
    group: str = ""
    types: tuple[str, ...] = ()
    since_us: int | None = None
    until_us: int | None = None
    filters: tuple[str, ...] = ()
    elements: tuple[str, ...] = ()
    patients: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    def to_payload(self) -> dict[str, Any]:
        """Return the request as JSON values."""
        return asdict(self)

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> ExportRequest:
        """Return the request that `to_payload` wrote."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in payload.items()}
        return cls(**values)

    @property
    def exported_types(self) -> tuple[str, ...]:
        """The types in order of name: those asked for, else all of the level."""
        if self.types:
            return tuple(sorted(self.types))
        if self.level == "system":
            return tuple(sorted(definitions().types))
        return tuple(sorted({*patient_compartment(), "Patient"}))


def parse_export(
    pairs: Iterable[tuple[str, str]],
    *,
    level: Level,
    group: str = "",
    lenient: bool = False,
    extra: Extra | None = None,
) -> ExportRequest:
    """Return the request that query parameters, or those of a Parameters resource, make.

    Parameters
    ----------
    pairs
        Names and values; a name may come several times.
    level, group
        What the address says.
    lenient
        ``Prefer: handling=lenient``: what is not served is skipped and told, instead of refused.
    extra
        The search parameters of packages, for ``_typeFilter``.

    Raises
    ------
    FhirError
        400 for a parameter, type, format, time or filter that cannot be served.
    """
    values: dict[str, list[str]] = {}
    skipped: list[str] = []

    def refuse(text: str) -> None:
        if not lenient:
            raise bad_request(text, code="not-supported")
        skipped.append(text)

    for name, value in pairs:
        if name not in _KNOWN:
            refuse("A parameter of the export request is not served here.")
        else:
            values.setdefault(name, []).extend(
                value.split(",") if name in _LISTS - {"_typeFilter"} else [value]
            )
    if any(form.replace(" ", "+") not in _FORMATS for form in values.get("_outputFormat", ())):
        raise bad_request(f"The only output format is {NDJSON}.", code="not-supported")
    request = ExportRequest(level, group)
    types = list(_types(values.get("_type", ()), request, refuse))
    if values.get("_type") and not types:
        raise bad_request("None of the types of _type can be exported here.", code="not-supported")
    return ExportRequest(
        level,
        group,
        tuple(types),
        since_us=_moment(values.get("_since"), "_since"),
        until_us=_moment(values.get("_until"), "_until"),
        filters=tuple(_filters(values.get("_typeFilter", ()), types, extra, refuse)),
        elements=tuple(e for e in values.get("_elements", ()) if e),
        patients=tuple(_patients(values.get("patient", ()), level)),
        skipped=tuple(dict.fromkeys(skipped)),
    )


def _types(names: Iterable[str], request: ExportRequest, refuse: Any) -> Iterator[str]:
    served = set(request.exported_types)
    for name in dict.fromkeys(n.strip() for n in names if n.strip()):
        if name in served:
            yield name
        else:
            refuse("A type of _type cannot be exported at this level.")


def _moment(values: list[str] | None, name: str) -> int | None:
    if not values:
        return None
    try:
        return date_range(values[-1].replace(" ", "+"))[0]
    except InputError:
        raise bad_request(f"{name} is no instant such as 2026-01-31T08:00:00Z.", code="value") from None


def _filters(values: Iterable[str], types: list[str], extra: Extra | None, refuse: Any) -> Iterator[str]:
    for text in (part for value in values for part in _split_filters(value)):
        kind, _, query = text.partition("?")
        pairs = parse_qsl(query, keep_blank_values=True)
        unfit = kind not in definitions().types or (types and kind not in types) or not pairs
        if unfit or any(name.partition(":")[0] in _NO_FILTER for name, _ in pairs):
            refuse("A _typeFilter is no search of an exported type, or holds more than conditions.")
            continue
        parse_query(kind, pairs, strict=True, extra=extra)
        yield text


def _split_filters(value: str) -> Iterator[str]:
    """Split ``A?x=1,2,B?y=3`` where a new ``Type?`` begins: commas inside a search mean OR."""
    start = 0
    for position in range(len(value)):
        head = value[position + 1 :].partition("?")
        if value[position] == "," and head[1] and head[0] in definitions().types:
            yield value[start:position]
            start = position + 1
    yield value[start:]


def _patients(values: Iterable[str], level: Level) -> Iterator[str]:
    for value in values:
        name = value.removeprefix("Patient/")
        if level == "system" or not ID.fullmatch(name):
            raise bad_request(
                "patient takes references such as Patient/1, and not at the level of the system."
            )
        yield name


def parameters_of(body: Any) -> list[tuple[str, str]]:
    """Return the pairs of a Parameters resource (kick-off by POST).

    Raises
    ------
    FhirError
        400 when the body is no Parameters resource.
    """
    parts = body.get("parameter", []) if isinstance(body, dict) else None
    if not isinstance(body, dict) or body.get("resourceType") != "Parameters" or not isinstance(parts, list):
        raise bad_request("A kick-off by POST takes a Parameters resource.")
    pairs = []
    for part in parts:
        value = (
            next((v for k, v in part.items() if k.startswith("value")), None)
            if isinstance(part, dict)
            else None
        )
        if isinstance(value, dict):
            value = value.get("reference")
        if not isinstance(value, str):
            raise bad_request("A parameter of the export request has no value that can be read.")
        pairs.append((str(part.get("name")), value))
    return pairs
