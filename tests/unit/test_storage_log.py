"""SQLite's log, written out before it is needed."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from digital_twins.storage import Database, Migration

SIZE = 1 << 20
TABLE = Migration("test.0001.item", "CREATE TABLE item(n INTEGER, text TEXT)")


def add(cursor, number: int) -> None:
    cursor.execute("INSERT INTO item VALUES (?, ?)", (number, "x" * 1000))


def numbers(database) -> list[int]:
    with database.read() as connection:
        return [row[0] for row in connection.execute("SELECT n FROM item ORDER BY n")]


@pytest.mark.parametrize("key", [None, bytes(range(32))])
def test_the_log_has_its_size_from_the_start_and_keeps_it(tmp_path, key):
    log = tmp_path / "node.db-wal"
    for start in (0, 400):  # the second time the file is there already
        with Database(tmp_path / "node.db", migrations=[TABLE], log_bytes=SIZE, key=key) as database:
            assert log.stat().st_size == SIZE
            for number in range(start, start + 400):  # more than one round of the log
                database.write(lambda cursor, number=number: add(cursor, number))
            assert log.stat().st_size == SIZE
            assert numbers(database) == list(range(start + 400))
    if key is None:
        with contextlib.closing(sqlite3.connect(tmp_path / "node.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_second_process_that_opens_it_overwrites_no_commit(tmp_path):
    with Database(tmp_path / "node.db", migrations=[TABLE]) as first:
        for number in range(100):
            first.write(lambda cursor, number=number: add(cursor, number))
            if number % 20 == 0:
                with Database(tmp_path / "node.db", log_bytes=SIZE * (1 + number // 20)) as second:
                    assert numbers(second) == list(range(number + 1))
        assert numbers(first) == list(range(100))
    with contextlib.closing(sqlite3.connect(tmp_path / "node.db")) as connection:
        assert connection.execute("SELECT count(*) FROM item").fetchone() == (100,)
