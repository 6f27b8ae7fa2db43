"""From a resource to the rows of the search index."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from digital_twins.fhir._coded import concept_key
from digital_twins.fhir._dates import date_ranges
from digital_twins.fhir._definitions import Part, SearchParameter, definitions
from digital_twins.fhir._paths import Step, values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from digital_twins.fhir._coded import Key
    from digital_twins.fhir._definitions import Piece
    from digital_twins.fhir._paths import Path

ANY_SYSTEM = -1
NO_SYSTEM = 0
TEXT_SYSTEM = -2
WORDS_ONLY = "\x02"
"""Stands in front of the words of a concept that has no code."""
TEXT_LIMIT = 512
CURRENCY = "urn:iso:std:iso:4217"
UNBOUNDED = 1e308
_NAME_PARTS = ("family", "given", "prefix", "suffix", "text")
_ADDRESS_PARTS = ("line", "city", "district", "state", "postalCode", "country", "text")
_SPACE = re.compile(r"\s+")
_LOCAL = re.compile(r"(?:^|/)([A-Z]\w+)/([A-Za-z0-9.\-]{1,64})$")


@dataclass(slots=True)
class IndexRows:
    """The rows of one resource, each without its resource number, keyed by the name of the table.

    ``coding`` has no resource number: it holds what the store has seen of codes and their words.
    """

    token: set[tuple[int, str, int]] = field(default_factory=set)
    reference: set[tuple[int, str]] = field(default_factory=set)
    date: set[tuple[int, int, int]] = field(default_factory=set)
    string: set[tuple[int, str, str]] = field(default_factory=set)
    quantity: set[tuple[int, float, float, int, str, str]] = field(default_factory=set)
    uri: set[tuple[int, str]] = field(default_factory=set)
    coding: set[tuple[int, str, int, str, str]] = field(default_factory=set)


@lru_cache(maxsize=4096)
def system_number(system: str) -> int:
    """Return the stable 63-bit number of a code system or unit system; 0 for none."""
    if not system:
        return NO_SYSTEM
    return int.from_bytes(blake2b(system.encode(), digest_size=8).digest(), "big") >> 1 or 1


def type_number(code: str) -> int:
    """Return the number under which an identifier of this type (v2-0203 code such as MR) is indexed."""
    return system_number(f"identifier-type:{code.upper()}")


def normalise(text: str) -> str:
    """Return text for string search: no accents, one case, single spaces (R4 search 3.1.1.4.7)."""
    folded = text
    if not text.isascii():
        decomposed = unicodedata.normalize("NFKD", text)
        folded = "".join(c for c in decomposed if not unicodedata.combining(c))
    return _SPACE.sub(" ", folded.casefold()).strip()[:TEXT_LIMIT]


def relative_reference(reference: str) -> str:
    """Return a reference without its version part; ``Patient/1/_history/2`` is ``Patient/1``."""
    return reference.partition("/_history/")[0]


def _token(rows: IndexRows, parameter: SearchParameter, value: Any, path: Path) -> None:
    number = parameter.number
    if isinstance(value, bool):
        rows.token.add((number, "true" if value else "false", ANY_SYSTEM))
    elif isinstance(value, str):
        rows.token.add((number, value[:TEXT_LIMIT], ANY_SYSTEM))
    elif isinstance(value, dict):
        leaf = path.leaf
        if leaf == "CodeableConcept":
            _concept(rows, number, value)
        elif leaf == "Coding":
            _concept(rows, number, {"coding": (value,)})
        elif leaf == "ContactPoint":
            if isinstance(value.get("value"), str):
                rows.token.add((number, value["value"][:TEXT_LIMIT], ANY_SYSTEM))
        elif leaf == "Identifier":
            _identifier(rows, number, value)


def _coding(rows: IndexRows, number: int, system: Any, code: Any) -> None:
    if isinstance(code, str):
        rows.token.add((number, code[:TEXT_LIMIT], system_number(system or "")))


def _concept(rows: IndexRows, number: int, concept: Mapping[str, Any]) -> None:
    """Index the codes of a concept, and each coding with its words for ``:text`` and ``:in``."""
    text = concept.get("text")
    codings = concept.get("coding", ())
    for coding in codings:
        code, uri, display = coding.get("code"), coding.get("system") or "", coding.get("display")
        if not isinstance(code, str) or not isinstance(uri, str):
            continue
        code, system = code[:TEXT_LIMIT], system_number(uri)
        rows.token.add((number, code, system))
        rows.coding.add((number, code, system, uri, normalise(display) if isinstance(display, str) else ""))
        if isinstance(text, str) and text != display:
            rows.coding.add((number, code, system, uri, normalise(text)))
    if not codings and isinstance(text, str):
        words = normalise(text)
        rows.token.add((number, f"{WORDS_ONLY}{words}", TEXT_SYSTEM))
        rows.coding.add((number, f"{WORDS_ONLY}{words}", TEXT_SYSTEM, "", words))


def _identifier(rows: IndexRows, number: int, identifier: Mapping[str, Any]) -> None:
    value = identifier.get("value")
    if not isinstance(value, str):
        return
    _coding(rows, number, identifier.get("system"), value)
    for coding in identifier.get("type", {}).get("coding", ()):
        if isinstance(coding.get("code"), str):
            rows.token.add((number, value[:TEXT_LIMIT], type_number(coding["code"])))


def _reference(rows: IndexRows, parameter: SearchParameter, value: Any, path: Path) -> None:
    number = parameter.number
    if isinstance(value, str):
        rows.reference.add((number, value))
        if "|" in value:
            rows.reference.add((number, value.partition("|")[0]))
        return
    if not isinstance(value, dict):
        return
    if path.leaf == "Resource":
        rows.reference.add((number, f"{value.get('resourceType')}/{value.get('id')}"))
        return
    reference = value.get("reference")
    if isinstance(reference, str) and not reference.startswith("#"):
        bare = relative_reference(reference)
        local = _LOCAL.search(bare)
        kind = local[1] if local else value.get("type")
        if path.target is None or kind == path.target:
            rows.reference.add((number, bare))
    if isinstance(value.get("identifier"), dict):
        _identifier(rows, parameter.identifier_number, value["identifier"])


def _date(rows: IndexRows, parameter: SearchParameter, value: Any, path: Path) -> None:
    for low, high in date_ranges(value, path.leaf):
        rows.date.add((parameter.number, low, high))


def _string(rows: IndexRows, parameter: SearchParameter, value: Any, path: Path) -> None:
    if isinstance(value, str):
        texts: list[Any] = [value]
    elif isinstance(value, dict):
        parts = _NAME_PARTS if path.leaf == "HumanName" else _ADDRESS_PARTS
        texts = []
        for part in parts:
            found = value.get(part)
            texts.extend(found if isinstance(found, list) else [found])
    else:
        return
    for text in texts:
        if isinstance(text, str):
            rows.string.add((parameter.number, normalise(text), text[:TEXT_LIMIT]))


def _bounds(value: Mapping[str, Any], leaf: str) -> tuple[float, float, Mapping[str, Any]] | None:
    if leaf == "Range":
        low, high = value.get("low", {}), value.get("high", {})
        return float(low.get("value", -UNBOUNDED)), float(high.get("value", UNBOUNDED)), low or high
    number = value.get("value")
    if not isinstance(number, int | float):
        return None
    comparator = value.get("comparator", "")
    low = -UNBOUNDED if comparator.startswith("<") else float(number)
    high = UNBOUNDED if comparator.startswith(">") else float(number)
    return low, high, value


def _quantity(rows: IndexRows, parameter: SearchParameter, value: Any, path: Path) -> None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        rows.quantity.add((parameter.number, float(value), float(value), NO_SYSTEM, "", ""))
    elif isinstance(value, dict) and (bounds := _bounds(value, path.leaf)):
        low, high, unit = bounds
        system = CURRENCY if path.leaf == "Money" else unit.get("system", "")
        code = unit.get("currency" if path.leaf == "Money" else "code", "")
        row = (parameter.number, low, high, system_number(system), str(code), str(unit.get("unit", "")))
        rows.quantity.add(row)


def _uri(rows: IndexRows, parameter: SearchParameter, value: Any, path: Path) -> None:
    if isinstance(value, str):
        rows.uri.add((parameter.number, value))


def _position(rows: IndexRows, parameter: SearchParameter, value: Any, path: Path) -> None:
    """Index a place on the globe: latitude and longitude in degrees as the two bounds of a row."""
    if isinstance(value, dict):
        latitude, longitude = value.get("latitude"), value.get("longitude")
        if isinstance(latitude, int | float) and isinstance(longitude, int | float):
            rows.quantity.add((parameter.number, float(latitude), float(longitude), NO_SYSTEM, "", ""))


_EXTRACT: dict[str, Callable[[IndexRows, SearchParameter, Any, Path], None]] = {
    "token": _token,
    "reference": _reference,
    "date": _date,
    "string": _string,
    "quantity": _quantity,
    "number": _quantity,
    "uri": _uri,
    "special": _position,
}


def extract(rows: IndexRows, parameter: SearchParameter, value: Any, path: Path) -> None:
    """Add the rows of one value of a parameter."""
    _EXTRACT[parameter.kind](rows, parameter, value, path)


_ROW_SETS = ("token", "reference", "date", "string", "quantity", "uri")


@lru_cache(maxsize=65_536)
def composite_number(name: str, token: str, part: int) -> int:
    """Return the key of the rows of one part of a composite piece whose elements have this first token."""
    text = f"{name}\n{part}\n{token}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def _scratch(part: Part, number: int = 0) -> SearchParameter:
    return SearchParameter("", "", part.kind, part.paths, number=number)


def _part_rows(part: Part, element: Any, resource: Any) -> IndexRows:
    found, parameter = IndexRows(), _scratch(part)
    for path in part.paths:
        for value in values(resource if part.far else element, path.steps):
            extract(found, parameter, value, path)
    return found


def _composite_rows(rows: IndexRows, resource: Mapping[str, Any], piece: Piece) -> None:
    """Add the rows of one piece of a composite parameter."""
    for element in values(resource, piece.base):
        tokens: set[str] = set()
        for _, code, system in _part_rows(piece.parts[0], element, resource).token:
            tokens.update((code, f"{system}|{code}"))
        if not tokens:
            continue
        for position, part in enumerate(piece.parts[1:], 1):
            found = _part_rows(part, element, resource)
            for name in _ROW_SETS:
                into: set[Any] = getattr(rows, name)
                for _, *rest in getattr(found, name):
                    into.update((composite_number(piece.name, token, position), *rest) for token in tokens)


@cache
def _pieces(kind: str) -> dict[str, list[Piece]]:
    """Return first element name -> the composite pieces over it; those over the resource need no rows."""
    found: dict[str, dict[str, Piece]] = {}
    for parameter in definitions().parameters[kind].values():
        for piece in parameter.pieces:
            if piece.base:
                found.setdefault(piece.base[0].name, {})[piece.name] = piece
    return {name: list(pieces.values()) for name, pieces in found.items()}


_Add = Callable[[IndexRows, Any], None]


@lru_cache(maxsize=16_384)
def _coded_rows(number: int, key: Key) -> tuple[list[Any], list[Any]]:
    """Return the rows of a plain concept as `concept_key` names it: the same codes come again and again."""
    system, code, display, text = key
    rows = IndexRows()
    _concept(rows, number, {"coding": [{"system": system, "code": code, "display": display}], "text": text})
    return list(rows.token), list(rows.coding)


def _adder(parameter: SearchParameter, path: Path) -> _Add:
    """Return what adds the rows of a value: the usual shapes in few steps, any other as `extract` does."""
    number, general = parameter.number, _EXTRACT[parameter.kind]

    def concept(rows: IndexRows, value: Any) -> None:
        key = concept_key(value) if type(value) is dict else None
        try:
            token, coding = ((), ()) if key is None else _coded_rows(number, key)
        except TypeError:  # a part of the coding is no text
            key = None
        if key is None:
            general(rows, parameter, value, path)
            return
        rows.token.update(token)
        rows.coding.update(coding)

    def reference(rows: IndexRows, value: Any) -> None:
        text = value.get("reference") if type(value) is dict and "identifier" not in value else None
        if type(text) is str and text[:1] != "#":
            rows.reference.add((number, relative_reference(text)))
        else:
            general(rows, parameter, value, path)

    if parameter.kind == "token" and path.leaf == "CodeableConcept":
        return concept
    if parameter.kind == "reference" and path.leaf == "Reference" and path.target is None:
        return reference
    return lambda rows, value: general(rows, parameter, value, path)


@cache
def _plan(kind: str) -> dict[str, list[tuple[_Add, tuple[Step, ...] | None]]]:
    """Return first element name -> what adds rows, and the steps to its values; None: the element itself."""
    plan: dict[str, list[tuple[_Add, tuple[Step, ...] | None]]] = {}
    for parameter in definitions().parameters[kind].values():
        for path in parameter.paths if parameter.stored else ():
            if path.leaf != "exists":
                first = path.steps[0]
                plain = path.steps == (Step(first.name),)
                plan.setdefault(first.name, []).append(
                    (_adder(parameter, path), None if plain else path.steps)
                )
    return plan


def index_rows(resource: Mapping[str, Any]) -> IndexRows:
    """Return the search-index rows of one resource; values of the wrong shape are passed over."""
    rows = IndexRows()
    kind = resource["resourceType"]
    plan = _plan(kind)
    for name, child in resource.items():
        for add, steps in plan.get(name, ()):
            if steps is not None:
                for value in values(resource, steps):
                    add(rows, value)
            elif type(child) is list:
                for value in child:
                    add(rows, value)
            else:
                add(rows, child)
    for name, pieces in _pieces(kind).items():
        if name in resource:
            for piece in pieces:
                _composite_rows(rows, resource, piece)
    _existence(rows, resource)
    return rows


def _existence(rows: IndexRows, resource: Mapping[str, Any]) -> None:
    """``Patient.deceased``: true when a date or ``true`` is given (its R4 expression)."""
    if resource["resourceType"] == "Patient":
        dead = bool(resource.get("deceasedBoolean") or resource.get("deceasedDateTime"))
        number = definitions().parameters["Patient"]["deceased"].number
        rows.token.add((number, "true" if dead else "false", ANY_SYSTEM))


def reference_targets(resource: Mapping[str, Any], parameter: SearchParameter) -> list[str]:
    """Return the references that one parameter finds in a resource, e.g. ``["Patient/1"]``."""
    rows = IndexRows()
    for path in parameter.paths:
        for value in values(resource, path.steps):
            _reference(rows, parameter, value, path)
    return sorted(target for number, target in rows.reference if number == parameter.number)
