"""The SQL of the rooms taken apart: words, groups, and the SELECT to which each word belongs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_WORD = re.compile(
    r"(?P<space>\s+|--[^\n]*)|(?P<text>[xX]?'(?:[^']|'')*')|(?P<quoted>\"(?:[^\"]|\"\")*\")|(?P<mark>\?\d*)"
    r"|(?P<name>[A-Za-z_]\w*(?:\.(?:[A-Za-z_]\w*|\*))?)|(?P<number>\d+(?:\.\d+)?)"
    r"|(?P<sign>->>|->|<>|<=|>=|!=|==|\|\||.)",
    re.DOTALL,
)
_CLAUSES = {
    **dict.fromkeys(("SELECT", "SET", "VALUES", "RETURNING", "GROUP", "ORDER", "LIMIT", "INTO"), ""),
    **dict.fromkeys(("FROM", "JOIN", "LEFT", "CROSS", "INNER", "UPDATE"), "FROM"),
    **dict.fromkeys(("WHERE", "HAVING", "ON"), "WHERE"),
}
_JOINED = frozenset({"UNION", "EXCEPT", "INTERSECT"})
_KEYWORDS = frozenset(
    {
        *("SELECT", "DISTINCT", "FROM", "WHERE", "AND", "OR", "NOT", "IN", "IS", "NULL", "LIKE", "ESCAPE"),
        *("GLOB", "BETWEEN", "EXISTS", "AS", "ON", "JOIN", "LEFT", "CROSS", "INNER", "OUTER", "GROUP"),
        *("ORDER", "BY", "HAVING", "LIMIT", "OFFSET", "ASC", "DESC", "UNION", "ALL", "EXCEPT", "INTERSECT"),
        *("INSERT", "IGNORE", "INTO", "VALUES", "UPDATE", "SET", "DELETE", "RETURNING", "CONFLICT", "DO"),
        *("NOTHING", "CASE", "WHEN", "THEN", "ELSE", "END", "CAST", "COLLATE", "ANY", "INDEXED", "USING"),
    }
)


@dataclass(frozen=True, slots=True)
class Word:
    """A piece of a statement: its kind (text, quoted, mark, name, number, sign) and its place."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def key(self) -> str:
        """The word in capitals when it is a keyword; else ''."""
        upper = self.text.upper()
        return upper if self.kind == "name" and upper in _KEYWORDS else ""


@dataclass(eq=False, slots=True)
class Part:
    """One SELECT, or the INSERT, UPDATE or DELETE itself: its tables by alias, and who is around it.

    ``before`` is the word in front of its parenthesis; ``start`` the first word behind that.
    """

    parent: Part | None
    before: str
    start: int
    tables: dict[str, str | None] = field(default_factory=dict)
    distinct: bool = False

    def table_of(self, name: str, columns: Mapping[str, Sequence[str]]) -> tuple[str, str] | None:
        """Return table and column that a name stands for, as SQL looks it up: inside first."""
        alias, dot, column = name.rpartition(".")
        part: Part | None = self
        while part is not None:
            if dot and alias in part.tables:
                table = part.tables[alias]
                return None if table is None else (table, column)
            if not dot:
                for table in part.tables.values():
                    if table is not None and column in columns.get(table, ()):
                        return table, column
            part = part.parent
        return None


@dataclass(slots=True)
class Parsed:
    """A statement: its words, where each group ends, and part and clause of each word."""

    words: list[Word]
    closing: dict[int, int] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)
    """Of each word."""
    clauses: list[str] = field(default_factory=list)
    """Of each word: SELECT, FROM, WHERE, SET, VALUES, ... as its part has it there."""
    level: list[int] = field(default_factory=list)
    """How many parentheses are around each word."""
    tables: set[int] = field(default_factory=set)
    """Words that are names of tables or aliases."""
    regions: list[tuple[int, int]] = field(default_factory=list)
    """Conditions of WHERE, ON and HAVING: first word, and the word behind the last."""

    def is_select(self, place: int) -> bool:
        """Whether the word opens the parenthesis of a SELECT."""
        return place in self.closing and place + 1 < len(self.words) and self.words[place + 1].key == "SELECT"

    def split(self, low: int, high: int, *, at: str) -> list[tuple[int, int]]:
        """Return the ranges between the separators of a range that stand outside of its parentheses."""
        found, start, place, between, cases = [], low, low, False, 0
        while place < high:
            word = self.words[place]
            cases += {"CASE": 1, "END": -1}.get(word.key, 0)
            between = between or word.key == "BETWEEN"
            if not cases and (word.key or word.text) == at:
                if at == "AND" and between:
                    between = False
                else:
                    found.append((start, place))
                    start = place + 1
            place = self.closing[place] + 1 if place in self.closing else place + 1
        return [*found, (start, high)]

    def columns(self, low: int, high: int) -> Iterator[int]:
        """Yield the words of a range that may be columns; those of a SELECT inside it are its own."""
        place = low
        while place < high:
            if self.is_select(place):
                place = self.closing[place] + 1
                continue
            if self.may_be_column(place):
                yield place
            place += 1

    def may_be_column(self, place: int) -> bool:
        """Whether a word may name a column: no keyword, function, table, alias."""
        word = self.words[place]
        if word.kind != "name" or word.key or place in self.tables:
            return False
        after = self.words[place + 1].text if place + 1 < len(self.words) else ""
        return after != "(" and (place == 0 or self.words[place - 1].key not in {"AS", "COLLATE"})


def parse(sql: str) -> Parsed:
    """Take a statement apart."""
    words = [
        Word(str(match.lastgroup), match[0], match.start(), match.end())
        for match in _WORD.finditer(sql)
        if match.lastgroup != "space"
    ]
    found = Parsed(words)
    stack: list[int] = []
    for place, word in enumerate(words):
        if word.text == "(" and word.kind == "sign":
            stack.append(place)
        elif word.text == ")" and word.kind == "sign" and stack:
            found.closing[stack.pop()] = place
    _Walk(found).run()
    return found


class _Walk:
    """Goes through the words once and notes for each its part and clause."""

    def __init__(self, parsed: Parsed) -> None:
        self.parsed = parsed
        self.words = parsed.words
        self.open: list[tuple[Part, str, int, int]] = []  # of the SELECTs around: part, clause, region, level
        self.part = Part(None, "", 0)
        self.clause, self.region, self.level, self.own = "", -1, 0, 0
        self.ends: set[int] = set()

    def run(self) -> None:
        for place, word in enumerate(self.words):
            if self.level == self.own and word.kind == "name":
                self.note(place, word)
            if word.text == ")" and word.kind == "sign":
                self.leave(place)
            self.parsed.parts.append(self.part)
            self.parsed.clauses.append(self.clause)
            self.parsed.level.append(self.level)
            if word.text == "(" and word.kind == "sign":
                self.enter(place)
        self.end_region(len(self.words))

    def enter(self, place: int) -> None:
        self.level += 1
        if self.parsed.is_select(place):
            before = self.words[place - 1] if place else None
            self.open.append((self.part, self.clause, self.region, self.own))
            self.part = Part(self.part, (before.key or before.text) if before else "", place + 1)
            self.clause, self.region, self.own = "", -1, self.level
            self.ends.add(self.parsed.closing[place])

    def leave(self, place: int) -> None:
        if place in self.ends:
            self.end_region(place)
            self.part, self.clause, self.region, self.own = self.open.pop()
        self.level -= 1

    def end_region(self, place: int) -> None:
        if self.region >= 0:
            self.parsed.regions.append((self.region, place))
        self.region = -1

    def note(self, place: int, word: Word) -> None:
        """Take a word outside of the part's inner parentheses."""
        key, before = word.key, self.words[place - 1].key if place else ""
        after = self.words[place + 1].key if place + 1 < len(self.words) else ""
        if key in _JOINED:
            self.end_region(place)
            self.part = Part(self.part.parent, self.part.before, place + 1)
            self.clause = ""
        elif key == "DISTINCT" and before == "SELECT":
            self.part.distinct = True
        elif key == "ON" and after == "CONFLICT":
            self.end_region(place)
            self.clause = "CONFLICT"
        elif key in _CLAUSES and not (key == "UPDATE" and before == "DO"):
            self.end_region(place)
            self.clause = _CLAUSES[key] or key
            if self.clause == "WHERE":
                self.region = place + 1
        if key in {"FROM", "JOIN", "INTO"} or (key == "UPDATE" and before != "DO"):
            self.table(place + 1)

    def table(self, place: int) -> None:
        """Note a table with its alias; behind a comma stands the next."""
        derived = place in self.parsed.closing
        name = None if derived else self.words[place].text
        if not derived:
            self.parsed.tables.add(place)
        place = self.parsed.closing[place] + 1 if derived else place + 1
        if place in self.parsed.closing and not derived and self.clause != "INTO":
            place = self.parsed.closing[place] + 1  # a function that gives rows
        if place < len(self.words) and self.words[place].key == "AS":
            place += 1
        alias = name or ""
        if place < len(self.words) and self.words[place].kind == "name" and not self.words[place].key:
            alias = self.words[place].text
            self.parsed.tables.add(place)
            place += 1
        self.part.tables[alias] = name
        if place < len(self.words) and self.words[place].text == "," and self.clause == "FROM":
            self.table(place + 1)
