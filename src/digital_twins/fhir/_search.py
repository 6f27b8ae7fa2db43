"""Running a parsed search: the most selective index leads, the others are probed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from digital_twins.fhir._access import guarded_query
from digital_twins.fhir._conditions import filter_sql
from digital_twins.fhir._hits import Executes, Hit, bodies
from digital_twins.fhir._includes import add_included
from digital_twins.fhir._query import encode_cursor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from digital_twins.fhir._conditions import Predicate
    from digital_twins.fhir._query import Query, SortKey

_PROBE = 64
_LAST_TEXT = "\U0010ffff"
_LAST_NUMBER = 2**62


@dataclass(slots=True)
class SearchPage:
    """One page of a search; ``next_cursor`` continues behind it, None on the last page."""

    hits: list[Hit] = field(default_factory=list)
    total: int | None = None
    next_cursor: str | None = None

    @property
    def matches(self) -> list[Hit]:
        """The hits that the search itself found, without included resources."""
        return [hit for hit in self.hits if hit.mode == "match"]

    def place_cursor(self, last: Sequence[Any], keys: int) -> None:
        """Let the next page begin behind a row: the resource's number, then the values it is sorted by."""
        self.next_cursor = encode_cursor([*last[1 : keys + 1], last[0]])


@dataclass(slots=True)
class _Sql:
    """FROM and WHERE of a search, and whether rows come in order of resources without sorting.

    ``resource`` joins the resource's own row to ``source``; a count does without it when ``bare``.
    """

    source: str = "fhir_resource r"
    resource: str = ""
    bare: bool = True
    where: list[str] = field(default_factory=list)
    arguments: list[Any] = field(default_factory=list)
    rid: str = "r.rid"
    repeats: bool = False


def _leader(cursor: Executes, predicates: Sequence[Predicate]) -> int | None:
    """Return the position of the predicate to start from: fewest rows first, then by kind."""
    usable = [
        n
        for n, p in enumerate(predicates)
        if not p.negated and len(p.tests) == 1 and not p.either and not p.also and p.tests[0].ordered
    ]
    if len(usable) < 2:
        return usable[0] if usable else None
    usable.sort(key=lambda n: predicates[n].rank)
    best, fewest = usable[0], _PROBE + 1
    if predicates[best].rank <= 1:
        return best  # an identifier or a patient: nothing narrower is worth a count
    for number in usable:
        test = predicates[number].tests[0]
        sql = f"SELECT count(*) FROM (SELECT 1 FROM {test.table} WHERE {test.condition} LIMIT {_PROBE})"  # noqa: S608  (our own texts; values are bound)  # nosec B608
        (count,) = cursor.execute(sql, test.arguments).fetchone()
        if count < fewest:
            best, fewest = number, count
        if count < _PROBE // 4:
            break
    return best


def _plan(cursor: Executes, query: Query) -> _Sql:
    """Return FROM and WHERE: rows of the leading index, else the resources of the type.

    A deleted resource has no index rows, and a parameter belongs to one type: behind a leading index neither
    needs a test.
    """
    predicates = query.predicates
    lead = _leader(cursor, predicates)
    sql = _Sql()
    if lead is not None:
        test = predicates[lead].tests[0]
        sql.source = f"{test.table} d"
        sql.resource = " CROSS JOIN fhir_resource r ON r.rid=d.rid"
        sql.where.append(test.condition)
        sql.arguments.extend(test.arguments)
        sql.rid = "d.rid"
        sql.repeats = test.table == "fhir_token"
    elif any(not p.negated and p.tests and all(t.table for t in p.tests) for p in predicates):
        sql.where.append("+r.deleted=0 AND +r.type=?")
        sql.arguments.append(query.type)
    else:
        sql.where.append("r.deleted=0 AND r.type=?")
        sql.arguments.append(query.type)
    for number, found in enumerate(predicates):
        if number != lead:
            text, arguments = filter_sql(found, materialise=lead is None, rid=sql.rid)
            sql.where.append(text)
            sql.arguments.extend(arguments)
            sql.bare = sql.bare and _bare(found)
    return sql


def _bare(found: Predicate) -> bool:
    """Whether a predicate speaks of index tables only, not of the resource's own row."""
    return all(test.table for test in found.tests) and all(map(_bare, (*found.either, *found.also)))


def _sort_column(key: SortKey) -> str:
    """Return the SQL value to sort by; resources without one come last in either direction."""
    if key.parameter is None:
        return "r.id" if key.name == "_id" else "r.updated"
    low = "max" if key.descending else "min"
    parameter = key.parameter
    keys = ",".join(map(str, parameter.numbers))
    columns = {"string": "norm", "token": "code", "uri": "value", "reference": "target"}
    if parameter.kind == "date":
        column = "high" if key.descending else "low"
        last: int | str = -_LAST_NUMBER if key.descending else _LAST_NUMBER
        inner = f"(SELECT {low}({column}) FROM fhir_date x WHERE x.rid=r.rid AND x.param IN ({keys}))"  # noqa: S608  (names and numbers of ours)  # nosec B608
        return f"coalesce({inner},{last})"
    table = "fhir_quantity" if parameter.kind in {"number", "quantity"} else f"fhir_{parameter.kind}"
    column = columns.get(parameter.kind, "low")
    if column == "low":
        last = -_LAST_NUMBER if key.descending else _LAST_NUMBER
    else:
        last = "''" if key.descending else f"'{_LAST_TEXT}'"
    # The index has no key by resource: the values of the parameter are gathered once and joined.
    where = f"param IN ({keys})"
    gathered = f"SELECT rid, {low}({column}) AS value FROM {table} WHERE {where} GROUP BY rid"  # noqa: S608  (names and numbers of ours)  # nosec B608
    return f"coalesce((SELECT g.value FROM ({gathered}) g WHERE g.rid=r.rid),{last})"  # noqa: S608  (as above)  # nosec B608


def _after(sort: Sequence[SortKey], cursor: Sequence[Any]) -> tuple[str, list[Any]]:
    """Return the condition for rows behind a paging position, for any mix of directions."""
    parts: list[str] = []
    arguments: list[Any] = []
    names = [*(f"k{n}" for n in range(len(sort))), "rid"]
    descending = [*(key.descending for key in sort), False]
    for number, name in enumerate(names):
        same = " AND ".join(f"{n}=?" for n in names[:number])
        ahead = f"{name}{'<' if descending[number] else '>'}?"
        parts.append(f"({same} AND {ahead})" if same else ahead)
        arguments.extend([*cursor[:number], cursor[number]])
    return "(" + " OR ".join(parts) + ")", arguments


def _rows(cursor: Executes, query: Query, sql: _Sql) -> list[tuple[Any, ...]]:
    where = " AND ".join(sql.where)
    arguments = list(sql.arguments)
    limit = query.count + 1
    if not query.sort:
        once = f" GROUP BY {sql.rid}" if sql.repeats else ""
        if query.cursor:
            where += f" AND {sql.rid}>?"
            arguments.append(query.cursor[-1])
        text = (
            f"SELECT {sql.rid}, r.type, r.id, r.body FROM {sql.source}{sql.resource} WHERE {where}{once} "  # noqa: S608  (our own texts; values are bound)  # nosec B608
            f"ORDER BY {sql.rid} LIMIT {limit}"
        )
        return list(cursor.execute(text, arguments))
    distinct = "DISTINCT " if sql.repeats else ""
    columns = "".join(f", {_sort_column(key)} AS k{n}" for n, key in enumerate(query.sort))
    text = f"SELECT {distinct}r.rid AS rid{columns} FROM {sql.source}{sql.resource} WHERE {where}"  # noqa: S608  (our own texts; values are bound)  # nosec B608
    order = ", ".join(f"k{n} {'DESC' if key.descending else 'ASC'}" for n, key in enumerate(query.sort))
    outer = ""
    if query.cursor:
        condition, more = _after(query.sort, query.cursor)
        outer = f" WHERE {condition}"
        arguments.extend(more)
    text = f"SELECT * FROM ({text}){outer} ORDER BY {order}, rid LIMIT {limit}"  # noqa: S608  (our own texts; values are bound)  # nosec B608
    return list(cursor.execute(text, arguments))


def rows_of_page(cursor: Executes, query: Query) -> list[tuple[Any, ...]]:
    """Return the first rows of a page and one more: the number of a resource, then the sort values.

    Without a sort the type, the id and the body follow the number. No right is checked here.
    """
    return _rows(cursor, query, _plan(cursor, query))


def count_of(cursor: Executes, query: Query) -> int:
    """Return how many resources a search matches. No right is checked here."""
    return _count(cursor, _plan(cursor, query))


def _count(cursor: Executes, sql: _Sql) -> int:
    where = " AND ".join(sql.where)
    source = sql.source if sql.resource and sql.bare else f"{sql.source}{sql.resource}"
    text = f"SELECT count(DISTINCT {sql.rid}) FROM {source} WHERE {where}"  # noqa: S608  (our own texts; values are bound)  # nosec B608
    (total,) = cursor.execute(text, sql.arguments).fetchone()
    return int(total)


@guarded_query
def run_query(cursor: Executes, query: Query) -> SearchPage:
    """Return one page of a search.

    The page after it starts behind the last resource of this one, so writes in between neither repeat nor
    skip what was already there.
    """
    sql = _plan(cursor, query)
    page = SearchPage()
    if query.total or query.summary == "count":
        page.total = _count(cursor, sql)
    if query.summary == "count":
        return page
    rows = _rows(cursor, query, sql)
    if len(rows) > query.count:
        rows = rows[: query.count]
        page.place_cursor(rows[-1], len(query.sort))
    if query.sort:
        page.hits = bodies(cursor, [row[0] for row in rows], "match")
    else:
        page.hits = [Hit(*row) for row in rows]
    if query.includes and page.hits:
        add_included(cursor, query.includes, page.hits)
    return page
