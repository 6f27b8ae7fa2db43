"""From text to tokens (FHIRPath N1, section 2.1, and the grammar's lexical rules)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from digital_twins.fhir.fhirpath._errors import FhirPathError

_DATE = r"\d{4}(?:-\d\d(?:-\d\d)?)?"
_CLOCK = r"\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)?"
_ZONE = r"(?:Z|[+-]\d\d:\d\d)"
_PATTERNS = (
    ("space", r"\s+|//[^\n]*|/\*.*?\*/"),
    ("time", rf"@T{_CLOCK}"),
    ("datetime", rf"@{_DATE}T(?:{_CLOCK}{_ZONE}?)?"),
    ("date", rf"@{_DATE}"),
    ("number", r"\d+(?:\.\d+)?"),
    ("string", r"'(?:[^'\\]|\\.)*'"),
    ("name", r"[A-Za-z_]\w*"),
    ("quoted", r"`(?:[^`\\]|\\.)*`"),
    ("constant", r"%(?:[A-Za-z_][\w-]*|'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`)"),
    ("special", r"\$(?:this|index|total)"),
    ("symbol", r"<=|>=|!=|!~|[-+*/&|=~<>.,()\[\]{}]"),
)
_TOKEN = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in _PATTERNS), re.DOTALL | re.ASCII)
_ESCAPES = {"f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of an expression: its kind, its text with escapes undone, and where it stands."""

    kind: str
    text: str
    position: int


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    return chr(int(code[1:], 16)) if len(code) == 5 else _ESCAPES.get(code, code)


def _inner(text: str) -> str:
    return _ESCAPE.sub(_unescaped, text[1:-1])


def tokens(text: str) -> list[Token]:
    """Split an expression into its tokens, an ``end`` token last.

    Raises
    ------
    FhirPathError
        When a character belongs to no token.
    """
    found, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise FhirPathError(f"Character {position + 1} begins nothing that FHIRPath knows.")
        kind, part = match.lastgroup or "", match[0]
        if kind == "string":
            part = _inner(part)
        elif kind == "quoted":
            kind, part = "name`", _inner(part)
        elif kind == "constant":
            part = _inner(part[1:]) if part[1] in "'`" else part[1:]
        if kind != "space":
            found.append(Token(kind, part, position))
        position = match.end()
    found.append(Token("end", "", position))
    return found
