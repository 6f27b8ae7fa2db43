"""One matcher for C-FIND and QIDO-RS: DICOM matching (PS3.4 section C.2.2.2) as parameterised SQL."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError
from digital_twins.dicom._attributes import ATTRIBUTES, NUMBERS, TABLES, Level, by_keyword
from digital_twins.dicom._text import glob, has_wildcard, name_groups, name_key, sounds_like

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from digital_twins.dicom._attributes import Attribute
    from digital_twins.storage import Database

Match = dict[str, str | int | None]
_ALIAS = {Level.PATIENT: "p", Level.STUDY: "s", Level.SERIES: "e", Level.INSTANCE: "i"}
_PARENT = {Level.STUDY: "p.id = s.patient", Level.SERIES: "s.id = e.study", Level.INSTANCE: "e.id = i.series"}
"""How a row finds the one above it."""
_MOMENTS = (
    ("StudyDate", "StudyTime"),
    ("SeriesDate", "SeriesTime"),
    ("PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime"),
    ("ContentDate", "ContentTime"),
    ("AcquisitionDate", "AcquisitionTime"),
)
REQUEST_COLUMNS = {
    "RequestAttributesSequence.ScheduledProcedureStepID": "step_id",
    "RequestAttributesSequence.RequestedProcedureID": "procedure_id",
}
"""Matching keys inside the Request Attributes Sequence (PS3.18 table 10.6.1-5), by their columns."""
_PAGE = 200
_MAX_VALUES = 1000
_EMPTY = '""'
_LAST = "\U0010ffff"
"""Sorts behind every text that begins with what stands before it."""


@dataclass(frozen=True, slots=True)
class Query:
    """A question to the index.

    Attributes
    ----------
    level
        What one match is: a patient, study, series or instance.
    conditions
        Keyword to matching value as DICOM writes it: wildcards, ``a-b`` ranges of dates and times, values
        separated by a backslash; '' and '*' match all. Keywords below `level` or not indexed raise.
        ``""`` (two quotes) matches an empty value.
    returning
        Computed attributes to work out (`ModalitiesInStudy`, `NumberOfStudyRelatedInstances`, ...); the
        columns of the level and of those above it come anyway.
    fuzzy_names
        Names match when every word of the value sounds like, or begins, a word of the name, in any order.
    combined_times
        A date range and the time range of the same event are one range of moments (PS3.4 C.2.2.2.5.4).
    """

    level: Level
    conditions: Mapping[str, str] = field(default_factory=dict)
    returning: frozenset[str] = frozenset()
    fuzzy_names: bool = False
    combined_times: bool = False


def supported(level: Level) -> frozenset[str]:
    """Return the keywords that a query of this level may match on."""
    return frozenset(
        a.keyword
        for a in ATTRIBUTES
        if a.level <= level and (not a.computed or a.keyword == "ModalitiesInStudy")
    )


def find(database: Database, query: Query, *, limit: int, offset: int = 0) -> list[Match]:
    """Return at most ``limit`` matches in the order of their arrival.

    Raises
    ------
    InputError
        A condition on an attribute that is not indexed at this level, or a malformed date, time or number.
    """
    return [match for _id, match in _page(database, query, after=0, limit=limit, offset=offset)]


def find_all(database: Database, query: Query) -> Iterator[Match]:
    """Yield every match page by page, holding no snapshot between pages; raises as `find` does."""
    after = 0
    while page := _page(database, query, after=after, limit=_PAGE, offset=0):
        after = page[-1][0]
        for _id, match in page:
            yield match


def _page(
    database: Database, query: Query, *, after: int, limit: int, offset: int
) -> list[tuple[int, Match]]:
    key = f"{_ALIAS[query.level]}.id"
    columns = [
        a for a in ATTRIBUTES if a.level <= query.level and (not a.computed or a.keyword in query.returning)
    ]
    where, top = [f"{key} > ?"], min([query.level, *(_level_of(keyword) for keyword in query.conditions)])
    values: list[str | int] = [after]
    for clause, parameters in _clauses(query):
        where.append(clause)
        values += parameters
    chosen = ", ".join([key, *(_expression(a) for a in columns)])
    # Only the rows of the page are put together: where an index finds many, nothing but their ids is sorted.
    page = (
        f"SELECT {key} FROM {_joined(query.level, top)} WHERE {' AND '.join(where)}"  # noqa: S608  (own names; values bound)  # nosec B608
        f" ORDER BY {key} LIMIT ? OFFSET ?"
    )
    sql = (
        f"SELECT {chosen} FROM {_joined(query.level, Level.PATIENT)} WHERE {key} IN ({page})"  # noqa: S608  (own names; values bound)  # nosec B608
        f" ORDER BY {key}"
    )
    names = [a.keyword for a in columns]
    with database.read() as connection:
        if query.fuzzy_names:
            connection.create_scalar_function("dicom_sounds_like", sounds_like, 2, deterministic=True)
        rows: list[Any] = connection.execute(sql, (*values, limit, offset)).fetchall()
    return [(row[0], dict(zip(names, row[1:], strict=True))) for row in rows]


def _level_of(keyword: str) -> Level:
    """Return the level whose alias a condition speaks of; one that is not known raises later."""
    attribute = by_keyword().get(keyword)
    return Level.SERIES if attribute is None else attribute.level


def _joined(level: Level, top: Level) -> str:
    """Return the tables from a level up to another one, joined."""
    tables = f"{TABLES[level]} {_ALIAS[level]}"
    for below in range(level, top, -1):
        above = Level(below - 1)
        tables += f" JOIN {TABLES[above]} {_ALIAS[above]} ON {_PARENT[Level(below)]}"
    return tables


def _expression(attribute: Attribute) -> str:
    return attribute.sql if attribute.computed else f"{_ALIAS[attribute.level]}.{attribute.sql}"


def _clauses(query: Query) -> Iterator[tuple[str, list[str | int]]]:
    conditions = dict(query.conditions)
    for keyword in REQUEST_COLUMNS.keys() & conditions.keys():
        if query.level >= Level.SERIES and (value := conditions.pop(keyword)).strip("*"):
            clause, parameters = _any_of(f"r.{REQUEST_COLUMNS[keyword]}", value.split("\\"))
            matched = f"r.series_uid = e.series_uid AND r.number > 0 AND {clause}"
            yield f"EXISTS (SELECT 1 FROM dicom_series_request r WHERE {matched})", parameters  # noqa: S608  (own names; values are bound)  # nosec B608
    if query.combined_times:
        for date, time in _MOMENTS:
            if "-" in conditions.get(date, "") and "-" in conditions.get(time, ""):
                yield _moments(query.level, (date, conditions.pop(date)), (time, conditions.pop(time)))
    for keyword, value in conditions.items():
        clause, parameters = _condition(keyword, value, query.level, fuzzy=query.fuzzy_names)
        if clause:
            yield clause, parameters


def _moments(level: Level, date: tuple[str, str], time: tuple[str, str]) -> tuple[str, list[str | int]]:
    for keyword, _value in (date, time):
        _check_supported(keyword, level)
    day, hour = by_keyword()[date[0]], by_keyword()[time[0]]
    first_day, last_day = _ends(day, date[1])
    first_hour, last_hour = _ends(hour, time[1])
    moment = f"{_expression(day)} || {_expression(hour)}"
    clauses, values = [f"{_expression(day)} <> ''"], []
    if first_day:
        clauses.append(f"{moment} >= ?")
        values.append(first_day + first_hour)
    if last_day:
        clauses.append(f"{moment} <= ?")
        values.append(last_day + last_hour + "~")
    return f"({' AND '.join(clauses)})", list(values)


def _check_supported(keyword: str, level: Level) -> None:
    if keyword not in supported(level):
        raise InputError(
            f"The query cannot match on {keyword}.",
            f"It is not indexed at the {level.name.lower()} level.",
            "Leave this key out or query a level below.",
        )


def _condition(keyword: str, value: str, level: Level, *, fuzzy: bool = False) -> tuple[str, list[str | int]]:
    _check_supported(keyword, level)
    attribute = by_keyword()[keyword]
    parts = [part.strip(" \0") for part in value.split("\\")]
    if all(part in {"", "*"} for part in parts):
        return "", []
    if len(parts) > _MAX_VALUES:
        raise _malformed(attribute)
    if keyword == "ModalitiesInStudy":
        clause, parameters = _any_of("x.modality", parts)
        return f"EXISTS (SELECT 1 FROM dicom_series x WHERE x.study = s.id AND {clause})", parameters  # noqa: S608  (own names; values are bound)  # nosec B608
    column = _expression(attribute)
    if value == _EMPTY:
        return f"coalesce({column}, '') = ''", []
    if attribute.vr == "PN":
        if fuzzy and not has_wildcard(value.rstrip("*")):
            return f"dicom_sounds_like(?, {column})", [name_key(value)]
        return _name(column, value)
    if attribute.vr in {"DA", "TM"}:
        clauses = [_range(attribute, column, part) for part in parts]
        return _join([c for c, _ in clauses]), [p for _, values in clauses for p in values]
    if attribute.vr in NUMBERS:
        if not all(re.fullmatch(r"[+-]?\d{1,10}", part) for part in parts):
            raise _malformed(attribute)
        return f"{column} IN ({', '.join('?' * len(parts))})", [int(part) for part in parts]
    return _any_of(column, parts, wildcards=attribute.vr != "UI")


def _any_of(column: str, parts: list[str], *, wildcards: bool = True) -> tuple[str, list[str | int]]:
    """Equal to one of the values, or matching one of the patterns."""
    patterns = [part for part in parts if wildcards and has_wildcard(part)]
    exact = [part for part in parts if part not in patterns]
    tests = [_like(column, pattern) for pattern in patterns]
    if exact:
        tests.append((f"{column} IN ({', '.join('?' * len(exact))})", exact))
    return _join([clause for clause, _ in tests]), [p for _, values in tests for p in values]


def _like(column: str, pattern: str) -> tuple[str, list[str]]:
    """Matching a pattern; an index finds the rows by how it begins, which a bound GLOB does not tell it."""
    start = re.split(r"[*?]", pattern, maxsplit=1)[0]
    if not start:
        return f"{column} GLOB ?", [glob(pattern)]
    return f"({column} >= ? AND {column} < ? AND {column} GLOB ?)", [start, start + _LAST, glob(pattern)]


def _name(column: str, value: str) -> tuple[str, list[str | int]]:
    """A name without '=' may match any component group; with it, each group matches its own."""
    columns = [f"{column}_{kind}" for kind in ("alphabetic", "ideographic", "phonetic")]
    if "=" not in value:
        key = name_key(value.rstrip("^ "))
        tests = [_any_of(one, [key]) for one in columns]
        return _join([clause for clause, _ in tests]), [p for _, values in tests for p in values]
    groups = [name_key(group) for group in name_groups(value)]
    tests = [_any_of(one, [key]) for one, key in zip(columns, groups, strict=True) if key not in {"", "*"}]
    return " AND ".join(clause for clause, _ in tests), [p for _, values in tests for p in values]


def _range(attribute: Attribute, column: str, value: str) -> tuple[str, list[str | int]]:
    """Single value or range; an open end is open, and a time stands for all times of its precision."""
    low, high = _ends(attribute, value)
    clauses, values = [f"{column} <> ''"], []
    if low:
        clauses.append(f"{column} >= ?")
        values.append(low)
    if high:
        clauses.append(f"{column} <= ?")
        values.append(high if attribute.vr == "DA" else high + "~")
    return f"({' AND '.join(clauses)})", list(values)


def _ends(attribute: Attribute, value: str) -> tuple[str, str]:
    """Return both ends of a single date or time or a range, '' for an open one."""
    is_date = attribute.vr == "DA"
    shape = r"\d{8}|\d{4}\.\d{2}\.\d{2}" if is_date else r"\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?"
    match = re.fullmatch(rf"({shape})?\s*(-)?\s*({shape})?", value.replace(":", ""))
    if match is None or not (match[1] or match[3]):
        raise _malformed(attribute)
    low, high = match[1] or "", match[3] or ""
    if match[2] is None:
        high = low
    if is_date:
        return low.replace(".", ""), high.replace(".", "")
    # 0930 is kept as it came and means 09:30:00 too, so a lower end must not be longer than it need be.
    return re.sub(r"(?<=\d\d)(00){1,2}(\.0*)?$", "", low), high


def _join(clauses: list[str]) -> str:
    return clauses[0] if len(clauses) == 1 else f"({' OR '.join(clauses)})"


def _malformed(attribute: Attribute) -> InputError:
    return InputError(
        f"The query value for {attribute.keyword} cannot be used.",
        f"It does not follow the rules of its value representation {attribute.vr}.",
        "Write dates as YYYYMMDD, times as HHMMSS, ranges with a hyphen, whole numbers as digits.",
    )


def count(database: Database, level: Level) -> int:
    """Return how many patients, studies, series or instances are stored."""
    with database.read() as connection:
        row = connection.execute(f"SELECT count(*) FROM {TABLES[level]}").fetchone()  # noqa: S608  (own names)  # nosec B608
    assert row is not None
    return int(row[0])
