"""Statements over tables whose columns are encrypted: what is bound is hidden, what is searched is looked up.

A value that is stored, or must be equal, is hidden before it is sent. A condition that no ciphertext can
answer (a range, a pattern, a function) is answered here, over the different values of its column, and becomes
a list of ciphertexts. Where the server itself needs the values, to sort by them, it gets a table of them with
the statement; they are in its memory for that statement and in none of its files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from digital_twins._errors import StorageError
from digital_twins.storage._sql_parts import Parsed, parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_EQUALS = frozenset({"=", "==", "<>", "!="})


@dataclass(frozen=True, slots=True)
class Plain:
    """A value that is sent as it is; ``source`` is its place in the values of the statement."""

    source: int


@dataclass(frozen=True, slots=True)
class Hidden:
    """A value, or each value of a list, that is sent hidden for a column."""

    source: int
    column: str


@dataclass(frozen=True, slots=True)
class Constant:
    """A text of the statement that is sent hidden for a column."""

    text: str
    column: str


@dataclass(frozen=True, slots=True)
class Found:
    """The ciphertexts of a column whose values ``v`` satisfy a condition in SQLite's SQL."""

    table: str
    column: str
    condition: str
    sources: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """Ciphertext to text, for every value of a column."""

    table: str
    column: str


Value = Plain | Hidden | Constant | Found | Shown


@dataclass(frozen=True, slots=True)
class Plan:
    """A statement, and what is bound to its places ``?1``, ``?2``, ..."""

    sql: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of each table in their order, and those that are protected."""

    every: Mapping[str, Sequence[str]]
    protected: frozenset[tuple[str, str]]


def plan_statement(sql: str, columns: Columns) -> Plan | None:
    """Return what is run in place of a statement; None when it speaks of no protected column.

    Raises
    ------
    StorageError
        The statement does with a protected column what cannot be done with ciphertexts.
    """
    parsed = parse(sql)
    planner = _Planner(sql, parsed, columns)
    planner.inserts()
    planner.assignments()
    for low, high in parsed.regions:
        planner.condition(low, high)
    planner.others()
    return planner.plan() if planner.touched else None


class _Planner:
    def __init__(self, sql: str, parsed: Parsed, columns: Columns) -> None:
        self.sql = sql
        self.parsed = parsed
        self.words = parsed.words
        self.columns = columns
        self.edits: dict[int, tuple[int, str, Value]] = {}  # first word -> word behind, text, value
        self.done: set[int] = set()
        self.touched = False
        self.sources: dict[int, int] = {}
        for place, word in enumerate(self.words):
            if word.kind == "mark":
                self.sources[place] = int(word.text[1:] or len(self.sources) + 1) - 1

    # What a word is

    def known(self, place: int) -> tuple[str, str] | None:
        """Return table and column of a word that is a column."""
        if not self.parsed.may_be_column(place):
            return None
        return self.parsed.parts[place].table_of(self.words[place].text, self.columns.every)

    def protected(self, place: int) -> tuple[str, str] | None:
        found = self.known(place)
        if found is None or found not in self.columns.protected:
            return None
        self.touched = True
        return found

    # What is put in its place

    def bind(self, low: int, value: Value, *, high: int = 0, text: str = "{}") -> None:
        self.edits[low] = (high or low + 1, text, value)

    def hide(self, place: int, column: str) -> None:
        """Hide a bound value or a text of the statement."""
        word = self.words[place]
        if word.kind == "mark":
            self.bind(place, Hidden(self.sources[place], column))
        elif word.kind == "text" and word.text != "''":
            self.bind(place, Constant(word.text[1:-1].replace("''", "'"), column))

    def show(self, place: int, found: tuple[str, str]) -> None:
        """Let the server see the value of a column for this statement."""
        text = f'(CAST({{}} AS jsonb) ->> {self.words[place].text}) COLLATE "C"'
        self.bind(place, Shown(*found), text=text)

    def refuse(self, place: int) -> StorageError:
        return StorageError(
            "A statement cannot be run on an encrypted database.",
            f"It does something with the column '{self.words[place].text}' that ciphertexts do not allow.",
            "This is a fault of the software: report the statement's origin.",
        )

    # INSERT

    def inserts(self) -> None:
        for place, word in enumerate(self.words):
            if word.key != "INTO":
                continue
            table = self.words[place + 1].text
            names, at = list(self.columns.every.get(table, ())), place + 2
            if at in self.parsed.closing:
                close = self.parsed.closing[at]
                names = [each.text for each in self.words[at + 1 : close] if each.kind == "name"]
                self.done |= set(range(at, close))
                at = close + 1
            wanted = {n: name for n, name in enumerate(names) if (table, name) in self.columns.protected}
            if wanted:
                self.touched = True
                self.stored(at, wanted)

    def stored(self, at: int, wanted: Mapping[int, str]) -> None:
        """Hide what goes into protected columns, from VALUES or from a SELECT."""
        if self.words[at].key == "SELECT":
            ends = (n for n in range(at, len(self.words)) if self.words[n].key in {"FROM", "WHERE"})
            self.items(at + 1, next(ends, len(self.words)), wanted)
            return
        at += 1
        while at in self.parsed.closing:
            self.items(at + 1, self.parsed.closing[at], wanted)
            at = self.parsed.closing[at] + 1
            at += at < len(self.words) and self.words[at].text == ","

    def items(self, low: int, high: int, wanted: Mapping[int, str]) -> None:
        for number, (first, behind) in enumerate(self.parsed.split(low, high, at=",")):
            if number in wanted:
                self.assigned(first, behind, wanted[number])

    def assigned(self, low: int, high: int, column: str) -> None:
        """Hide what an expression gives to a protected column."""
        for place in range(low, high):
            if self.parsed.may_be_column(place):
                found = self.known(place)
                own = self.words[place].text.rpartition(".")[2] == column
                excluded = self.words[place].text.startswith("excluded.")
                if not own or (not excluded and found not in self.columns.protected):
                    raise self.refuse(place)
                self.done.add(place)
            self.hide(place, column)

    # UPDATE

    def assignments(self) -> None:
        place = 0
        while place < len(self.words):
            if self.words[place].key != "SET":
                place += 1
                continue
            low = place + 1
            place = low
            while place < len(self.words) and self.parsed.clauses[place] == "SET":
                place += 1
            for first, behind in self.parsed.split(low, place, at=","):
                found = self.known(first)
                self.done.add(first)
                if found in self.columns.protected and found is not None:
                    self.touched = True
                    self.assigned(first + 2, behind, found[1])

    # WHERE

    def condition(self, low: int, high: int) -> None:
        alternatives = self.parsed.split(low, high, at="OR")
        if len(alternatives) > 1:
            for each in alternatives:
                self.condition(*each)
            return
        waiting: list[tuple[int, int]] = []  # tests of one column that follow each other
        for first, behind in self.parsed.split(low, high, at="AND"):
            start = first
            while start < behind and self.words[start].key == "NOT":
                start += 1
            whole = self.parsed.closing.get(start) == behind - 1 and not self.parsed.is_select(start)
            wanted = not whole and self.atom(start, behind)
            if waiting and not (wanted and start == first and self.same_column(waiting[-1], (start, behind))):
                self.look_up(waiting)
                waiting = []
            if whole:
                self.condition(start + 1, behind - 1)
            elif wanted and start != first:
                self.look_up([(start, behind)])
            elif wanted:
                waiting.append((start, behind))
        self.look_up(waiting)

    def atom(self, low: int, high: int) -> bool:
        """Take one test; True when it has to be looked up."""
        every = [place for place in self.parsed.columns(low, high) if self.known(place)]
        found = [place for place in every if self.protected(place)]
        self.done |= set(found)
        if not found:
            return False
        if any(self.parsed.is_select(place) for place in range(low, high)):
            if not any(word.key == "IN" for word in self.words[low:high]):
                self.show_all(found)
            return False
        if len(every) == 1:
            return not self.equal(low, high, found[0])
        names = {self.words[place].text.rpartition(".")[2] for place in every}
        signs = [word.text for word in self.words[low:high] if word.kind != "name"]
        if len(names) > 1 or len(found) != len(every) or not _EQUALS.issuperset(signs):
            self.show_all(found)
        return False

    def equal(self, low: int, high: int, place: int) -> bool:
        """Hide the other side of an equation; False when the test is none."""
        _, column = self.protected(place) or ("", "")
        rest = [n for n in range(low, high) if n != place and self.words[n].text not in {"+", "(", ")", ","}]
        values = [n for n in rest if self.words[n].kind not in {"name", "sign"}]
        signs = {self.words[n].key or self.words[n].text for n in rest if n not in values} - {"ANY", "NOT"}
        if signs not in ({"IS", "NULL"}, {"IN"}) and not (signs and signs <= _EQUALS):
            return False
        for value in values:
            self.hide(value, column)
        return True

    def same_column(self, one: tuple[int, int], other: tuple[int, int]) -> bool:
        first, second = (
            {self.words[n].text for n in self.parsed.columns(*each) if self.known(n)} for each in (one, other)
        )
        return first == second

    def look_up(self, tests: list[tuple[int, int]]) -> None:
        """Put a list of ciphertexts in place of tests of one column that follow each other."""
        if not tests:
            return
        low, high = tests[0][0], tests[-1][1]
        place = next(n for n in self.parsed.columns(low, high) if self.known(n))
        found = self.known(place)
        assert found is not None
        sources: list[int] = []
        pieces: list[str] = []
        for number in range(low, high):
            word = self.words[number]
            if word.kind == "mark":
                sources.append(self.sources[number])
                pieces.append("?")
            else:
                pieces.append("v" if self.known(number) else word.text)
        value = Found(*found, " ".join(pieces), tuple(sources))
        self.bind(low, value, high=high, text=f"{self.words[place].text} = ANY({{}})")

    def show_all(self, places: Sequence[int]) -> None:
        for place in places:
            found = self.known(place)
            if found is not None:
                self.show(place, found)

    # SELECT, ORDER BY

    def others(self) -> None:
        """Take the columns that stand outside of conditions and of what is stored."""
        sorted_parts = set()
        selected: list[int] = []
        for place in range(len(self.words)):
            if place in self.done:
                continue
            clause = self.parsed.clauses[place]
            found = self.protected(place)
            if found is None or clause in {"GROUP", "RETURNING", "CONFLICT", "INTO"}:
                continue
            if clause == "SELECT":
                selected.append(place)
            else:
                self.show(place, found)
                sorted_parts.add(id(self.parsed.parts[place]))
        for place in selected:
            part = self.parsed.parts[place]
            found = self.known(place)
            as_it_is = self.passed_on(place) and not (part.distinct and id(part) in sorted_parts)
            if not as_it_is and found is not None and not self.counted(place):
                self.show(place, found)

    def passed_on(self, place: int) -> bool:
        """Whether a column is an item by itself of a SELECT whose values nobody but us, or IN, looks at."""
        part = self.parsed.parts[place]
        if part.parent is not None and part.before not in {"IN", "EXISTS"}:
            return False
        before, after = self.words[place - 1], self.words[place + 1] if place + 1 < len(self.words) else None
        starts = before.key in {"SELECT", "DISTINCT"} or before.text == ","
        ends = after is None or after.key in {"FROM", "AS", "UNION"} or after.text in {",", ")"}
        inner = part.parent is None and self.parsed.level[place] > 0
        deeper = part.parent is not None and self.parsed.level[place] > self.parsed.level[part.start]
        return starts and ends and not inner and not deeper

    def counted(self, place: int) -> bool:
        """Whether a column is the argument of count()."""
        low = place - 1 - (self.words[place - 1].key == "DISTINCT")
        return low > 0 and self.words[low].text == "(" and self.words[low - 1].text.lower() == "count"

    # The statement

    def plan(self) -> Plan:
        pieces: list[str] = []
        values: list[Value] = []
        numbers: dict[Value, int] = {}
        # What is hidden elsewhere is text there: a test for NULL needs its own place, with a type.
        hidden = {value.source for _, _, value in self.edits.values() if isinstance(value, Hidden)}
        place = end = 0
        while place < len(self.words):
            word = self.words[place]
            edit = self.edits.get(place)
            if edit is None and word.kind == "mark":
                source = self.sources[place]
                null = place + 1 < len(self.words) and self.words[place + 1].key == "IS" and source in hidden
                edit = (place + 1, "CAST({} AS TEXT)" if null else "{}", Plain(source))
            if edit is None:
                place += 1
                continue
            behind, text, value = edit
            if value not in numbers:
                values.append(value)
                numbers[value] = len(values)
            pieces += [self.sql[end : word.start], text.format(f"?{numbers[value]}")]
            end = self.words[behind - 1].end
            place = behind
        return Plan("".join([*pieces, self.sql[end:]]), tuple(values))
