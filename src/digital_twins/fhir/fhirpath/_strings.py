"""String functions (FHIRPath N1, section 5.6; encode, escape, trim, split and join from N2)."""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from digital_twins.fhir.fhirpath._errors import FhirPathError
from digital_twins.fhir.fhirpath._values import integer_of, items, string_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from digital_twins.fhir.fhirpath._scope import Collection, Scope

_LONGEST_PATTERN = 1000
Impl = "Callable[[Collection, list[Collection], Scope], Collection]"


@lru_cache(maxsize=512)
def _pattern(text: str) -> re.Pattern[str]:
    if len(text) > _LONGEST_PATTERN:
        raise FhirPathError(f"A regular expression is longer than {_LONGEST_PATTERN} characters.")
    try:
        return re.compile(text, re.DOTALL)
    except (re.error, OverflowError) as error:
        raise FhirPathError("A regular expression cannot be read.") from error


def on_text(
    name: str, function: Callable[..., Any]
) -> Callable[[Collection, list[Collection], Scope], Collection]:
    """Return a function over one string and string arguments; any empty one gives an empty result."""

    def run(focus: Collection, arguments: list[Collection], _scope: Scope) -> Collection:
        texts = [string_of(values, f"{name}()") for values in (focus, *arguments)]
        if any(text is None for text in texts):
            return []
        found = function(*texts)
        return found if isinstance(found, list) else [] if found is None else [found]

    return run


def substring(focus: Collection, arguments: list[Collection], _scope: Scope) -> Collection:
    """``substring(start [, length])``."""
    text = string_of(focus, "substring()")
    start = integer_of(arguments[0], "substring()")
    if text is None or start is None or not 0 <= start < len(text):
        return []
    if len(arguments) > 1 and (length := integer_of(arguments[1], "substring()")) is not None:
        return [text[start : start + max(length, 0)]]
    return [text[start:]]


def join(focus: Collection, arguments: list[Collection], _scope: Scope) -> Collection:
    """``join([separator])``: an empty string of nothing, as SQL on FHIR expects it."""
    separator = string_of(arguments[0], "join()") if arguments else ""
    texts = items(focus)
    if not all(isinstance(text, str) for text in texts):
        raise FhirPathError("join() takes strings.")
    return [(separator or "").join(texts)]


def encode(text: str, form: str) -> str | None:
    """``encode(format)``."""
    raw = text.encode()
    if form == "hex":
        return raw.hex()
    return (
        {"base64": base64.b64encode, "urlbase64": base64.urlsafe_b64encode}[form](raw).decode()
        if form in _BASES
        else None
    )


def decode(text: str, form: str) -> str | None:
    """``decode(format)``."""
    try:
        if form == "hex":
            return bytes.fromhex(text).decode()
        if form in _BASES:
            return base64.b64decode(
                text, altchars=b"-_" if form == "urlbase64" else None, validate=True
            ).decode()
    except (ValueError, binascii.Error):
        return None
    return None


_BASES = {"base64", "urlbase64"}


def escape(text: str, form: str) -> str | None:
    """``escape(target)``."""
    return {"html": lambda: html.escape(text), "json": lambda: json.dumps(text)[1:-1]}.get(
        form, lambda: None
    )()


def unescape(text: str, form: str) -> str | None:
    """``unescape(target)``."""
    if form == "html":
        return html.unescape(text)
    return re.sub(r"\\(u[0-9a-fA-F]{4}|.)", _json_escape, text) if form == "json" else None


def _json_escape(match: re.Match[str]) -> str:
    code = match[1]
    plain = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "b": "\b"}
    return chr(int(code[1:], 16)) if len(code) == 5 else plain.get(code, code)


TEXT_FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "indexOf": (1, str.find),
    "lastIndexOf": (1, str.rfind),
    "startsWith": (1, str.startswith),
    "endsWith": (1, str.endswith),
    "contains": (1, lambda text, part: part in text),
    "upper": (0, str.upper),
    "lower": (0, str.lower),
    "replace": (2, str.replace),
    "matches": (1, lambda text, pattern: _pattern(pattern).search(text) is not None),
    "matchesFull": (1, lambda text, pattern: _pattern(pattern).fullmatch(text) is not None),
    "replaceMatches": (
        2,
        lambda text, pattern, new: _pattern(pattern).sub(_group_marks(new), text) if pattern else text,
    ),
    "length": (0, len),
    "toChars": (0, list),
    "trim": (0, str.strip),
    "split": (1, lambda text, separator: text.split(separator) if separator else list(text)),
    "encode": (1, encode),
    "decode": (1, decode),
    "escape": (1, escape),
    "unescape": (1, unescape),
}
"""Name -> (number of arguments, function of the text and the arguments)."""


def _group_marks(text: str) -> str:
    """Write ``$1`` and ``${name}`` the way Python's substitution does."""
    safe = text.replace("\\", "\\\\")
    return re.sub(r"\$(?:\{(\w+)\}|(\d+))", lambda m: f"\\g<{m[1] or m[2]}>", safe)
