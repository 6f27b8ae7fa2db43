"""A PostgreSQL schema whose protected columns are encrypted before they leave this process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

import apsw

from digital_twins._errors import StorageError
from digital_twins.storage._row_keys import HIDDEN, SEALED
from digital_twins.storage._sealed_sql import Columns, Constant, Found, Hidden, Plain, plan_statement

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from digital_twins.storage._migrations import Migration
    from digital_twins.storage._row_keys import RowKeys
    from digital_twins.storage._sealed_sql import Plan, Value

Row = TypeVar("Row")
_MARK = "storage.sealed_rows"
"""A row of the table ``migration``: the protected columns of this schema are encrypted."""
_MOST_PLANS = 4096
_COLUMNS = (
    "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = ?"
    " ORDER BY table_name, ordinal_position"
)


class SealedTables:
    """What the cursors of one schema need to hide and to show values.

    Parameters
    ----------
    row_keys
        Hide and show.
    migrations
        Name the protected columns.
    """

    def __init__(self, row_keys: RowKeys, migrations: Sequence[Migration]) -> None:
        self.row_keys = row_keys
        self._named = frozenset(
            tuple(each.split(".")) for migration in migrations for each in migration.protected
        )
        self._columns = Columns({}, frozenset())
        self._plans: dict[str, Plan | None] = {}

    def load(self, cursor: Any, schema: str) -> None:
        """Read the columns of the schema; ``cursor`` runs SQL as it is."""
        every: dict[str, list[str]] = {}
        for table, column in cursor.execute(_COLUMNS, (schema,)).fetchall():
            every.setdefault(table, []).append(column)
        protected = frozenset((t, c) for t, c in self._named if c in every.get(t, ()))
        missing = sorted(self._named - protected)
        if missing:
            raise StorageError(
                "The database cannot be opened.",
                f"It has not the column that is to be encrypted: {'.'.join(missing[0])}.",
                "This is a fault of the software: the list of protected columns does not fit its tables.",
            )
        self._columns = Columns(every, protected)
        self._plans.clear()

    def plan(self, sql: str) -> Plan | None:
        """Return what is run in place of a statement; None when it is run as it is."""
        try:
            return self._plans[sql]
        except KeyError:
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            found = self._plans[sql] = plan_statement(sql, self._columns)
            return found

    def bound(self, plan: Plan, values: Sequence[Any], cursor: Any) -> list[Any]:
        """Return what is bound to a planned statement; ``cursor``, which runs plain SQL, looks values up."""
        return [self._value(each, values, cursor) for each in plan.values]

    def shown(self, row: Row) -> Row:
        """Return a row with its values as they were stored."""
        keys = self.row_keys
        if not isinstance(row, tuple):
            return row
        for value in row:
            kind = type(value)
            if (kind is str and value.startswith(HIDDEN)) or (kind is bytes and value.startswith(SEALED)):
                return tuple(map(keys.clear, row))  # type: ignore[return-value]
        return row

    def _value(self, value: Value, values: Sequence[Any], cursor: Any) -> Any:
        keys = self.row_keys
        if isinstance(value, Plain):
            return values[value.source]
        if isinstance(value, Hidden):
            given = values[value.source]
            if isinstance(given, list):
                return [keys.protect(each, value.column) for each in given]
            return keys.protect(given, value.column)
        if isinstance(value, Constant):
            return keys.hide(value.text, value.column)
        pairs = self._pairs(value.table, value.column, cursor)
        if isinstance(value, Found):
            return _matching(pairs, value.condition, [values[source] for source in value.sources])
        return json.dumps(dict(pairs))

    def _pairs(self, table: str, column: str, cursor: Any) -> list[tuple[str, str]]:
        """Return each different value of a column, as it lies there and as it is."""
        rows = cursor.execute(f"SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL")  # noqa: S608  (names of our tables)  # nosec B608
        return [(text, self.row_keys.show(text)) for (text,) in rows.fetchall()]

    def begin(self, cursor: Any, *, fresh: bool) -> None:
        """Check, in the transaction that opens the schema, that its protected columns are encrypted.

        A schema that was in clear is encrypted here, within that transaction, once the register says so.

        Raises
        ------
        StorageError
            The columns are in clear, or were encrypted for another set of keys.
        """
        if not is_sealed(cursor):
            if not fresh and not self.row_keys.migrating:
                raise StorageError(
                    "The database is not opened.",
                    "encryption_at_rest is on, but its rows are not encrypted yet.",
                    "Stop the node and run 'twin keys encrypt' once.",
                )
            for table in sorted({table for table, _ in self._columns.protected}):
                names = [c for c in self._columns.every[table] if (table, c) in self._columns.protected]
                _encrypt_table(cursor, table, names, self.row_keys)
            cursor.execute(
                "INSERT INTO migration(name, digest, applied_utc) VALUES (?, ?, '')",
                (_MARK, self.row_keys.hide("probe", "probe")),
            )
            return
        (probe,) = cursor.execute("SELECT digest FROM migration WHERE name = ?", (_MARK,)).fetchone()
        if probe != self.row_keys.hide("probe", "probe"):
            raise StorageError(
                "The database is not opened.",
                "Its rows were encrypted with the keys of another data folder.",
                "Restore keys.sqlite of this database from the backup.",
            )


def is_sealed(cursor: Any) -> bool:
    """Whether the protected columns of a schema are encrypted."""
    return bool(cursor.execute("SELECT 1 FROM migration WHERE name = ?", (_MARK,)).fetchall())


def _encrypt_table(cursor: Any, table: str, names: Sequence[str], keys: RowKeys) -> None:
    """Encrypt the columns of a table that is in clear."""
    rows = cursor.execute(f"SELECT CAST(ctid AS TEXT), {', '.join(names)} FROM {table}").fetchall()  # noqa: S608  (names of our tables)  # nosec B608
    if not rows:
        return
    cursor.raw(f"ALTER TABLE {table} DISABLE TRIGGER USER")  # rows that nobody may change, in any other way
    given = ", ".join(f"{name} = ?" for name in names)
    cursor.executemany(
        f"UPDATE {table} SET {given} WHERE ctid = CAST(? AS tid)",  # noqa: S608  (as above)  # nosec B608
        [(*map(keys.protect, row[1:], names), row[0]) for row in rows],
    )
    cursor.raw(f"ALTER TABLE {table} ENABLE TRIGGER USER")


def _matching(pairs: Iterable[tuple[str, str]], condition: str, values: Sequence[Any]) -> list[str]:
    """Return the ciphertexts whose text satisfies a condition, as SQLite understands it."""
    connection = apsw.Connection(":memory:")
    try:
        connection.execute("CREATE TABLE held(c TEXT, v TEXT)")
        connection.executemany("INSERT INTO held VALUES (?, ?)", pairs)
        rows: Any = connection.execute(f"SELECT c FROM held WHERE {condition}", tuple(values))  # noqa: S608  (a piece of our own statement)  # nosec B608
        return [str(each) for (each,) in rows]
    finally:
        connection.close()
