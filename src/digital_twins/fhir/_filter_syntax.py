"""The syntax of ``_filter`` (FHIR R4, search_filter.html): text to a tree of tests.

``and`` and ``or`` bind alike and from the left, as the standard says; ``not`` stands in front of parentheses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import orjson

from digital_twins.fhir._outcome import FhirError, bad_request

OPERATORS = frozenset(
    "eq ne co sw ew gt lt ge le ap sa eb pr po ss sb in ni re".split()  # noqa: SIM905  (as the standard lists them)
)
MAX_TERMS = 100
MAX_DEPTH = 20
_SPACE = re.compile(r"\s*")
_NAME = re.compile(r"(?:_has:\w+:[\w-]+:)*[A-Za-z_][\w-]*(?::[A-Z]\w+)?")
_WORD = re.compile(r"[a-z]+")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_TOKEN = re.compile(r"[^\s)\]]+")


@dataclass(frozen=True, slots=True)
class Segment:
    """One name of a path, with the filter in brackets behind it."""

    name: str
    within: FilterNode | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """``path operator value``."""

    path: tuple[Segment, ...]
    operator: str
    value: str


@dataclass(frozen=True, slots=True)
class Logical:
    """``and`` or ``or`` of two filters, or ``not`` of one."""

    operator: str
    parts: tuple[FilterNode, ...]


FilterNode = Comparison | Logical


def _bad(why: str, at: int) -> FhirError:
    return bad_request(f"_filter cannot be read at character {at + 1}: {why}.", code="value")


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.terms = 0

    def skip(self) -> None:
        match = _SPACE.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def take(self, pattern: re.Pattern[str]) -> str | None:
        match = pattern.match(self.text, self.at)
        if match is None:
            return None
        self.at = match.end()
        return match[0]

    def symbol(self, mark: str) -> bool:
        self.skip()
        if not self.text.startswith(mark, self.at):
            return False
        self.at += len(mark)
        return True

    def word(self, *wanted: str) -> str | None:
        """Take one of these words when it stands here by itself."""
        self.skip()
        before, found = self.at, self.take(_WORD)
        if found in wanted and re.match(r"[\s(]|$", self.text[self.at :]):
            return found
        self.at = before
        return None

    def filter(self, depth: int) -> FilterNode:
        if depth > MAX_DEPTH:
            raise _bad(f"it is nested more than {MAX_DEPTH} levels deep", self.at)
        found = self.term(depth)
        while (operator := self.word("and", "or")) is not None:
            found = Logical(operator, (found, self.term(depth)))
        return found

    def term(self, depth: int) -> FilterNode:
        self.terms += 1
        if self.terms > MAX_TERMS:
            raise _bad(f"it has more than {MAX_TERMS} tests", self.at)
        if self.symbol("("):
            return self.closed(")", depth)
        before = self.at
        if self.word("not") and self.symbol("("):
            return Logical("not", (self.closed(")", depth),))
        self.at = before
        return self.comparison(depth)

    def closed(self, mark: str, depth: int) -> FilterNode:
        found = self.filter(depth + 1)
        if not self.symbol(mark):
            raise _bad(f"'{mark}' is missing", self.at)
        return found

    def comparison(self, depth: int) -> Comparison:
        path = [self.segment(depth)]
        while self.text.startswith(".", self.at):
            self.at += 1
            path.append(self.segment(depth))
        if path[-1].within is not None:
            raise _bad("a name must follow the brackets", self.at)
        self.skip()
        before, operator = self.at, self.take(_WORD)
        if operator not in OPERATORS or operator is None:
            raise _bad("one of the operators is expected", before)
        return Comparison(tuple(path), operator, self.value())

    def segment(self, depth: int) -> Segment:
        self.skip()
        name = self.take(_NAME)
        if name is None:
            raise _bad("the name of a search parameter is expected", self.at)
        if not self.text.startswith("[", self.at):
            return Segment(name)
        self.at += 1
        return Segment(name, self.closed("]", depth))

    def value(self) -> str:
        if not re.match(r"\s", self.text[self.at :]):
            raise _bad("a space and a value are expected", self.at)
        self.skip()
        before = self.at
        if self.text.startswith('"', self.at):
            quoted = self.take(_STRING)
            try:
                return str(orjson.loads(quoted or ""))
            except orjson.JSONDecodeError:
                raise _bad("the text in quotes is no JSON string", before) from None
        found = self.take(_TOKEN)
        if found is None:
            raise _bad("a value is expected", before)
        return found


def parse_filter(text: str) -> FilterNode:
    """Return the tree of a filter.

    Parameters
    ----------
    text
        Such as ``given eq "peter" and not (birthdate ge 2014-10-10)``.

    Raises
    ------
    FhirError
        400 with the place where the syntax breaks, beyond 100 tests or 20 levels.
    """
    reader = _Reader(text)
    found = reader.filter(0)
    reader.skip()
    if reader.at != len(text):
        raise _bad("'and', 'or' or the end is expected", reader.at)
    return found
