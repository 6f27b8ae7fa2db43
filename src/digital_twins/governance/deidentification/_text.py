"""Free text without the identifiers of its patient, and with its medicine."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from digital_twins.governance.deidentification._known_identifiers import KnownIdentifiers, plain
from digital_twins.governance.deidentification._text_rules import LABELLED, RELATED, RULES, SIGNED, TITLED
from digital_twins.governance.deidentification._word_list import word_list
from digital_twins.governance.deidentification._words import vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator

_WORD = re.compile(r"[^\W\d_]+")
_EPONYMS = word_list("eponyms")
_NOBODY = KnownIdentifiers()


@dataclass(frozen=True, slots=True)
class CleanText:
    """A text after de-identification.

    Parameters
    ----------
    text
        The new text, with ``[NAME]``, ``[DATE]``, ``[PHONE]`` and so on in the place of identifiers.
    removed
        How many identifiers of each label went.
    """

    text: str
    removed: Counter[str]


@dataclass(frozen=True, slots=True)
class _Span:
    start: int
    end: int
    label: str
    instead: str


def deidentify_text(text: str, known: KnownIdentifiers = _NOBODY, *, years: bool = True) -> CleanText:
    """Take identifiers out of free text, by what is known of the record and by what identifiers look like.

    The eighteen kinds of 45 CFR 164.514(b)(2)(i), in English: dates, telephone numbers, e-mail, URL, IP,
    numbers of accounts and devices, ages over 89, streets, ZIP codes. Names go when the record holds them, or
    after a title, a relation or a signature; a name of somebody else without such a sign stays. Eponyms
    (Hodgkin, Gleason) stay, unless the record knows somebody of that name.

    Parameters
    ----------
    text
        Free text.
    known
        Identifiers of the patient and staff.
    years
        Whether the year of a date stays (Safe Harbor allows it); a year that tells of an age over 89 goes.
    """
    spans = sorted(_found(text, known, years=years), key=lambda span: (span.start, -span.end))
    merged: list[_Span] = []
    for span in spans:
        last = merged[-1] if merged else None
        if last is None or span.start >= last.end:
            merged.append(span)
        elif span.end > last.end:
            merged[-1] = _Span(last.start, span.end, last.label, f"[{last.label}]")
    parts, position = [], 0
    for span in merged:
        parts += [text[position : span.start], span.instead]
        position = span.end
    return CleanText("".join([*parts, text[position:]]), Counter(span.label for span in merged))


def _found(text: str, known: KnownIdentifiers, *, years: bool) -> Iterator[_Span]:
    for rule in RULES:
        for match in rule.pattern.finditer(text):
            start = match.start("number") if "number" in rule.pattern.groupindex else match.start()
            instead = rule.instead(match, years) if rule.instead else f"[{rule.label}]"
            if instead != match[0]:
                yield _Span(start, match.end(), rule.label, instead)
    if known.pattern is not None:
        for match in known.pattern.finditer(text):
            yield _Span(match.start(), match.end(), "KNOWN", "[KNOWN]")
    if known.name_words:
        yield from _known_names(text, known)
    yield from _strangers(text)


def _strangers(text: str) -> Iterator[_Span]:
    for pattern in (TITLED, LABELLED):
        for match in pattern.finditer(text):
            yield _Span(match.start("name"), match.end("name"), "NAME", "[NAME]")
    for pattern in (RELATED, SIGNED):
        for match in pattern.finditer(text):
            for word in _WORD.finditer(text, match.start("name"), match.end("name")):
                if not _clinical(word[0]):
                    yield _Span(word.start(), word.end(), "NAME", "[NAME]")


def _known_names(text: str, known: KnownIdentifiers) -> Iterator[_Span]:
    for word in _WORD.finditer(text):
        token = word[0]
        if not known.is_name(token):
            continue
        if plain(token) in known.name_words:
            goes = token[0].isupper() or token not in vocabulary()
        else:
            goes = not _clinical(token)
        if goes:
            yield _Span(word.start(), word.end(), "NAME", "[NAME]")


def _clinical(word: str) -> bool:
    lower = word.lower()
    return lower in _EPONYMS or lower in vocabulary()
