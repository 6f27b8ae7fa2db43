"""Composite search parameters: parts that must be met by one and the same element (FHIR R4 search 3.1.1.5).

Every composite parameter of R4 begins with a token. The rows of the other parts stand in the tables of their
kinds under a key made of the piece and that token, so that a composite search is one descent like any other.
Pieces over the resource itself need no rows of their own: both parts are parameters already.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from digital_twins.fhir._conditions import NOTHING, Predicate
from digital_twins.fhir._definitions import SearchParameter, definitions
from digital_twins.fhir._index import ANY_SYSTEM, NO_SYSTEM, composite_number, system_number
from digital_twins.fhir._outcome import bad_request
from digital_twins.fhir._predicates import build_test, split_values, unescape

if TYPE_CHECKING:
    from digital_twins.fhir._conditions import Test
    from digital_twins.fhir._definitions import Piece

_DOLLARS = re.compile(r"(?<!\\)\$")


def _tokens(text: str) -> list[str]:
    """Return the forms in which the first part of a value was indexed."""
    system, bar, code = text.rpartition("|")
    if not bar:
        return [unescape(code)]
    number = system_number(unescape(system)) if system else NO_SYSTEM
    return [f"{number}|{unescape(code)}", f"{ANY_SYSTEM}|{unescape(code)}"]


def _inner(parameter: SearchParameter, piece: Piece, position: int, token: str) -> SearchParameter:
    """Return the parameter whose rows are those of one part beside a first part of this form."""
    part, number = piece.parts[position], composite_number(piece.name, token, position)
    return SearchParameter(parameter.resource, parameter.code, part.kind, part.paths, number=number)


def inner_parameters(parameter: SearchParameter, text: str) -> list[SearchParameter]:
    """Return the second parts of a composite in the elements whose first part is the token ``text``."""
    pieces = [piece for piece in parameter.pieces if piece.base]
    return [_inner(parameter, piece, 1, token) for piece in pieces for token in _tokens(text)]


def _within(piece: Piece, texts: list[str], parameter: SearchParameter) -> Predicate:
    """Return the predicate of one piece inside of elements."""
    parts = []
    for position in range(1, len(piece.parts)):
        tests: list[Test] = []
        for token in _tokens(texts[0]):
            shown = _inner(parameter, piece, position, token)
            tests.append(build_test(shown, texts[position]))
        parts.append(Predicate(tuple(tests), rank=3))
    return parts[0] if len(parts) == 1 else Predicate((), also=tuple(parts), rank=3)


def _whole(piece: Piece, texts: list[str], parameter: SearchParameter) -> Predicate:
    """Return the predicate of a piece over the resource itself: each part is a parameter of its own."""
    parts = []
    known = definitions().parameters[parameter.resource].values()
    for part, text in zip(piece.parts, texts, strict=True):
        wanted = set(part.paths)
        usable = [p for p in known if p.kind == part.kind and p.stored and wanted <= set(p.paths)]
        own = min(usable, key=lambda p: len(p.paths))
        parts.append(Predicate((build_test(own, text),)))
    return Predicate((), also=tuple(parts), rank=3)


def composite_predicate(parameter: SearchParameter, text: str) -> Predicate:
    """Return the predicate of a composite parameter, e.g. ``8480-6$gt120``.

    Raises
    ------
    FhirError
        400 when a value has another number of parts than the parameter, or a part cannot be read.
    """
    found: list[Predicate] = []
    for value in split_values(text):
        texts = _DOLLARS.split(value)
        for piece in parameter.pieces:
            if len(texts) != len(piece.parts) or not all(texts):
                needed = "$".join("part" for _ in piece.parts)
                raise bad_request(
                    f"The value of the composite search parameter '{parameter.code}' is written {needed}.",
                    code="value",
                )
            found.append((_within if piece.base else _whole)(piece, texts, parameter))
    if len(found) == 1:
        return found[0]
    return Predicate((), rank=3, either=tuple(found)) if found else Predicate((NOTHING,))
