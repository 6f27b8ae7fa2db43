"""The value of ``_text`` and ``_content``: words, phrases, ``and``, ``or``, ``not``, parentheses."""

from __future__ import annotations

import re

from digital_twins.fhir._conditions import LAST_CHARACTER, Predicate, Test
from digital_twins.fhir._outcome import FhirError, bad_request
from digital_twins.fhir._predicates import liked, split_values, unescape
from digital_twins.fhir._words import fold, word_key

_PIECE = re.compile(r'\s*(?:(?P<mark>[()])|"(?P<phrase>[^"]*)"|(?P<word>[^\s()"]+))')
MAX_PIECES = 100
_COLUMNS = {"_text": "narrative", "_content": "content"}


class _Reader:
    """Reads one alternative; words side by side are joined by AND, which binds tighter than OR."""

    def __init__(self, kind: str, parameter: str, text: str) -> None:
        self.key = word_key(kind, parameter)
        self.parameter = parameter
        self.pieces = list(_PIECE.finditer(text))
        self.at = 0
        if len(self.pieces) > MAX_PIECES:
            raise bad_request(f"{parameter} takes at most {MAX_PIECES} words.", code="too-costly")

    def bad(self) -> FhirError:
        text = f'{self.parameter} takes words, "phrases", and, or, not and parentheses.'
        return bad_request(text, code="value")

    def word(self) -> str:
        """The next piece when it is a word that joins others, in small letters."""
        if self.at >= len(self.pieces):
            return ""
        return (self.pieces[self.at]["word"] or self.pieces[self.at]["mark"] or "").lower()

    def any(self) -> Predicate:
        parts = [self.all()]
        while self.word() == "or":
            self.at += 1
            parts.append(self.all())
        return parts[0] if len(parts) == 1 else Predicate((), either=tuple(parts))

    def all(self) -> Predicate:
        parts = [self.one()]
        while self.at < len(self.pieces) and self.word() not in {"or", ")"}:
            self.at += self.word() == "and"
            parts.append(self.one())
        return parts[0] if len(parts) == 1 else Predicate((), also=tuple(parts))

    def one(self) -> Predicate:
        if self.at >= len(self.pieces):
            raise self.bad()
        piece, word = self.pieces[self.at], self.word()
        self.at += 1
        if word == "not":
            return Predicate((), either=(self.one(),), negated=True)
        if word == "(":
            found = self.any()
            if self.word() != ")":
                raise self.bad()
            self.at += 1
            return found
        if word in {")", "and", "or"}:
            raise self.bad()
        return self.words(piece["phrase"] if piece["word"] is None else piece["word"])

    def words(self, text: str) -> Predicate:
        """Return the predicate of a word, or of words that follow each other; the last may end with ``*``."""
        begins, words = text.endswith("*"), fold(text).split()
        if not words:
            raise self.bad()
        tests = [self.probe(word, begins=begins and n == len(words) - 1) for n, word in enumerate(words)]
        if len(words) == 1:
            return tests[0]
        pattern = f"% {liked(' '.join(words))}{'' if begins else ' '}%"
        condition = (
            "EXISTS (SELECT 1 FROM fhir_text t WHERE t.rid=r.rid "  # noqa: S608  (column names of ours)  # nosec B608
            f"AND t.{_COLUMNS[self.parameter]} LIKE ? ESCAPE '!')"
        )
        return Predicate((), also=(*tests, Predicate((Test("", condition, (pattern,)),), rank=9)))

    def probe(self, word: str, *, begins: bool) -> Predicate:
        if begins:
            bounds = (self.key, word, word + LAST_CHARACTER)
            return Predicate((Test("fhir_word", "param=? AND word>=? AND word<?", bounds),))
        return Predicate((Test("fhir_word", "param=? AND word=?", (self.key, word)),))


def words_predicate(kind: str, parameter: str, text: str) -> Predicate:
    """Return the predicate of ``_text`` or ``_content``.

    Parameters
    ----------
    kind
        Resource type.
    parameter
        ``"_text"`` or ``"_content"``.
    text
        Such as ``(bone or liver) and metastases``; alternatives behind commas. Case and accents do not count.

    Raises
    ------
    FhirError
        400 when it cannot be read.
    """
    found = []
    for value in split_values(text):
        reader = _Reader(kind, parameter, unescape(value))
        found.append(reader.any())
        if reader.at != len(reader.pieces):
            raise reader.bad()
    if not found:
        raise bad_request(f"The value of '{parameter}' is empty.", code="value")
    return found[0] if len(found) == 1 else Predicate((), either=tuple(found))
