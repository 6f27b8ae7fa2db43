"""Character sets, person names and matching keys (PS3.5 chapter 6, PS3.4 section C.2.2.2)."""

from __future__ import annotations

import re
import threading
import unicodedata
import warnings
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class _Quiet:
    """How many threads are inside `quiet_pydicom`, and the warning filters that the first of them found."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.filters = warnings.catch_warnings()


_QUIET = _Quiet()
_TERM = re.compile(r"ISO[ _](?P<kind>IR|2022)[ _-]?(?:IR)?[ _-]?(?P<number>\d+)", re.IGNORECASE)

_DATE_MARKS, _DATE = re.compile(r"[.\-/]"), re.compile(r"\d{8}")
_TIME = re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?")


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Silence pydicom's warnings, which quote values of patients.

    The filters belong to the whole process: the first thread that enters sets them and the last that leaves
    puts them back, so that a long decoding in one thread keeps no other waiting.
    """
    with _QUIET.lock:
        if _QUIET.inside == 0:
            _QUIET.filters = warnings.catch_warnings()
            _QUIET.filters.__enter__()
            warnings.simplefilter("ignore")
        _QUIET.inside += 1
    try:
        yield
    finally:
        with _QUIET.lock:
            _QUIET.inside -= 1
            if _QUIET.inside == 0:
                _QUIET.filters.__exit__(None, None, None)


@lru_cache(maxsize=64)
def python_encodings(specific_character_set: bytes) -> tuple[str, ...]:
    """Return Python codec names for a raw Specific Character Set; an unknown term reads as Latin-1."""
    from pydicom.charset import python_encoding

    encodings: list[str] = []
    for raw in specific_character_set.decode("ascii", "replace").split("\\"):
        term = raw.strip(" \0")
        match = _TERM.fullmatch(term)
        if match and term not in python_encoding:
            kind = "ISO_IR" if match["kind"].upper() == "IR" else "ISO 2022 IR"
            term = f"{kind} {match['number']}"
        encodings.append(python_encoding.get(term, "latin_1"))
    return tuple(encodings)


def decode_text(raw: bytes, encodings: Sequence[str]) -> str:
    """Decode a text value with code extensions; what cannot be decoded becomes U+FFFD, never an error."""
    if b"\x1b" not in raw:
        text = raw.decode(encodings[0], "replace")
    else:
        from pydicom.charset import decode_bytes

        with quiet_pydicom():
            text = decode_bytes(raw, list(encodings), {0x5E, 0x3D, 0x5C})
    return text.strip(" \0")


def name_groups(name: str) -> tuple[str, str, str]:
    """Return the alphabetic, ideographic and phonetic groups of a PN, '' where absent."""
    groups = [group.rstrip("^ ").strip() for group in name.split("=", 2)] + ["", ""]
    return groups[0], groups[1], groups[2]


def name_key(text: str) -> str:
    """Return the form in which names are compared: folded case and width, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def sounds_like(*texts: object) -> bool:
    """Whether every word of the first text begins, sounds like or nearly is a word of the second.

    Sounds are compared by Soundex (US National Archives rules) on letters without their marks; words in
    scripts that it does not know match by their beginning only. Both in the form of `name_key`.
    """
    asked, name = texts
    words = _words(str(name))
    return all(any(one.startswith(word) or _alike(word, one) for one in words) for word in _words(str(asked)))


def _words(name: str) -> list[str]:
    plain = "".join(
        letter
        for letter in unicodedata.normalize("NFD", name.casefold())
        if not unicodedata.combining(letter) or letter in _KANA_MARKS
    )
    return [word for word in re.split(r"[\^=\s,*.'-]+", unicodedata.normalize("NFC", plain)) if word]


def _alike(first: str, second: str) -> bool:
    if not (first.isascii() and second.isascii()):
        return False
    return soundex(first) == soundex(second) or (min(len(first), len(second)) >= 4 and _slip(first, second))


def _slip(first: str, second: str) -> bool:
    """Whether one letter more, less or other, or two swapped, tells the words apart."""
    start = 0
    while start < min(len(first), len(second)) and first[start] == second[start]:
        start += 1
    one, other = first[start:], second[start:]
    return (
        one[1:] == other
        or one == other[1:]
        or one[1:] == other[1:]
        or (one[:2] == other[:2][::-1] and one[2:] == other[2:])
    )


_SOUNDS = {
    letter: digit
    for digit, letters in {"1": "bfpv", "2": "cgjkqsxz", "3": "dt", "4": "l", "5": "mn", "6": "r"}.items()
    for letter in letters
}
_KANA_MARKS = "\u3099\u309a"


@lru_cache(maxsize=4096)
def soundex(word: str) -> str:
    """Return the Soundex code of a word of ASCII letters, e.g. ``"r163"`` for Rupert."""
    code, last = word[:1], _SOUNDS.get(word[:1], "")
    for letter in word[1:]:
        digit = _SOUNDS.get(letter, "")
        if digit and digit != last:
            code += digit
        if letter not in "hw":  # letters of one sound on both sides of h or w count once
            last = digit
    return code[:4].ljust(4, "0")


def glob(pattern: str) -> str:
    """Turn DICOM's ``*`` and ``?`` into an SQLite GLOB pattern in which nothing else is special."""
    return pattern.replace("[", "[[]")


def has_wildcard(pattern: str) -> bool:
    """Whether a matching value holds ``*`` or ``?``."""
    return "*" in pattern or "?" in pattern


def normal_date(text: str) -> str:
    """Return YYYYMMDD also for the older ``YYYY.MM.DD``, '' when it is no date."""
    digits = _DATE_MARKS.sub("", text.strip())
    return digits if _DATE.fullmatch(digits) else ""


def normal_time(text: str) -> str:
    """Return HH[MM[SS[.F]]] also for the older ``HH:MM:SS``, '' when it is no time."""
    digits = text.strip().replace(":", "")
    return digits if _TIME.fullmatch(digits) else ""
