"""The writer thread, its savepoints and commits, migrations, and failing processes and disks."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import apsw
import pytest

from digital_twins import ConflictError, InputError, StorageError
from digital_twins.storage import Database, Migration

SRC = Path(__file__).parents[2] / "src"
TABLE = Migration("test.0001", "CREATE TABLE item(number INTEGER PRIMARY KEY, body TEXT)")


def insert(number: int, body: str = ""):
    return lambda cursor: cursor.execute("INSERT INTO item VALUES (?, ?)", (number, body)) and number


def numbers(database: Database) -> list[int]:
    with database.read() as connection:
        return [row[0] for row in connection.execute("SELECT number FROM item ORDER BY number")]


@pytest.fixture
def database(tmp_path):
    with Database(tmp_path / "node.db", migrations=[TABLE]) as opened:
        yield opened


def held(database: Database) -> tuple[threading.Event, Future[None]]:
    """Occupy the writer until the event is set, so that what is submitted meanwhile waits together."""
    release, entered = threading.Event(), threading.Event()

    def wait(_: object) -> None:
        entered.set()
        release.wait(30)

    future = database.submit(wait)
    assert entered.wait(30)
    return release, future


def test_a_write_returns_its_result_and_is_seen_by_readers(database):
    assert database.write(insert(1)) == 1
    assert numbers(database) == [1]


def test_units_that_wait_together_share_one_commit(database):
    release, first = held(database)
    before = database.counts
    futures = [database.submit(insert(number)) for number in range(100)]
    release.set()
    first.result(30)
    assert [future.result(30) for future in futures] == list(range(100))
    after = database.counts
    assert after.units - before.units == 101
    assert after.commits - before.commits == 2


def test_many_threads_need_fewer_commits_than_writes(database):
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: database.write(insert(number)), range(800)))
    assert numbers(database) == list(range(800))
    assert database.counts.units == 800
    assert database.counts.commits < 800


def test_a_caller_that_is_alone_commits_in_its_own_thread(database):
    here = threading.get_ident()
    assert [database.write(lambda _: threading.get_ident()) for _ in range(3)] == [here] * 3
    release, _ = held(database)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(database.write, lambda _: threading.get_ident())
        mine = pool.submit(threading.get_ident)
        release.set()
        assert other.result(30) not in {here, mine.result(30)}


def test_no_caller_is_forgotten_when_lone_and_common_commits_alternate(database):
    """Futures, waiting callers and pauses mixed at random; a lost wake-up would leave somebody waiting."""

    def calls(seed):
        chance = random.Random(seed)
        for number in range(100):
            unit = insert(1000 * seed + number)
            if chance.random() < 0.5:
                assert database.write(unit) == 1000 * seed + number
            else:
                assert database.submit(unit).result(60) == 1000 * seed + number
            if chance.random() < 0.1:
                time.sleep(chance.random() / 1000)  # lets the other callers be alone

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(calls, range(6)))
    assert len(numbers(database)) == 600


def test_a_failing_unit_is_rolled_back_alone(database):
    def broken(cursor):
        cursor.execute("INSERT INTO item VALUES (50, 'half')")
        raise LookupError("on purpose")

    release, _ = held(database)
    good = [database.submit(insert(number)) for number in (1, 2)]
    bad = database.submit(broken)
    twice = database.submit(insert(1))
    later = database.submit(insert(3))
    release.set()
    with pytest.raises(LookupError, match="on purpose"):
        bad.result(30)
    with pytest.raises(ConflictError) as conflict:
        twice.result(30)
    assert "item.number" in conflict.value.why
    assert [future.result(30) for future in [*good, later]] == [1, 2, 3]
    assert numbers(database) == [1, 2, 3]


def test_a_unit_that_ends_the_transaction_harms_no_other(database):
    release, _ = held(database)
    good = database.submit(insert(1))
    bad = database.submit(lambda cursor: cursor.execute("ROLLBACK"))
    release.set()
    with pytest.raises(apsw.SQLError):
        bad.result(30)
    assert good.result(30) == 1
    assert numbers(database) == [1]


def test_units_of_a_group_run_again_when_one_raises_and_then_in_savepoints(database):
    runs = []

    def counted(value):
        return lambda cursor: (runs.append(value), insert(value)(cursor))[1]

    def failing(_):
        raise ValueError

    release, _ = held(database)
    good = [database.submit(counted(value)) for value in (1, 2)]
    bad = database.submit(failing)
    release.set()
    with pytest.raises(ValueError, match=r"^$"):
        bad.result(30)
    assert [future.result(30) for future in good] == [1, 2]
    assert runs == ([1, 2] if database.location else [1, 2, 1, 2])  # PostgreSQL: savepoints from the start
    assert numbers(database) == [1, 2]
    runs.clear()
    release, _ = held(database)
    futures = [database.submit(counted(3)), database.submit(failing), database.submit(counted(4))]
    release.set()
    assert [future.result(30) for future in futures[::2]] == [3, 4]
    assert runs == [3, 4]  # soon after a failure savepoints are used at once


def test_coroutines_get_their_results_and_errors_after_the_commit(database):
    async def main():
        def failing(_):
            raise ValueError

        return await asyncio.gather(
            *(database.commit(insert(value)) for value in range(1, 40)),
            database.commit(failing),
            return_exceptions=True,
        )

    for _ in range(2):  # the second event loop is another one
        *values, error = asyncio.run(main())
        assert values == list(range(1, 40))
        assert isinstance(error, ValueError)
        assert numbers(database) == list(range(1, 40))
        database.write(lambda cursor: cursor.execute("DELETE FROM item"))


def test_a_cancelled_coroutine_is_not_run(database):
    async def main():
        release, _ = held(database)
        task = asyncio.ensure_future(database.commit(insert(1)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        release.set()
        await database.commit(insert(2))

    asyncio.run(main())
    assert numbers(database) == [2]


def test_a_cancelled_unit_is_not_run(database):
    release, _ = held(database)
    future = database.submit(insert(1))
    assert future.cancel()
    release.set()
    database.write(insert(2))
    assert numbers(database) == [2]


def test_write_inside_a_unit_is_refused_instead_of_waiting_for_itself(database):
    with pytest.raises(RuntimeError, match="wait for itself"):
        database.write(lambda _: database.write(insert(1)))


def test_a_read_block_is_one_snapshot_and_cannot_write(database):
    database.write(insert(1))
    with database.read() as connection:
        assert connection.execute("SELECT count(*) FROM item").fetchall() == [(1,)]
        database.write(insert(2))
        assert connection.execute("SELECT count(*) FROM item").fetchall() == [(1,)]
    assert numbers(database) == [1, 2]
    with pytest.raises(StorageError, match="read-only"), database.read() as connection:
        connection.execute("DELETE FROM item")


def test_readers_are_reused(database):
    with database.read() as first:
        pass
    with database.read() as second:
        assert second is first
        with database.read() as third:
            assert third is not first


def test_close_finishes_what_waits_and_then_refuses(tmp_path):
    database = Database(tmp_path / "node.db", migrations=[TABLE])
    futures = [database.submit(insert(number)) for number in range(50)]
    database.close()
    database.close()
    assert [future.result(0) for future in futures] == list(range(50))
    with pytest.raises(StorageError, match="closed"):
        database.write(insert(99))
    with pytest.raises(StorageError, match="closed"), database.read():
        pass


def test_synchronous_full_and_wal(database):
    def settings(cursor):
        return [
            cursor.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("synchronous", "journal_mode", "foreign_keys")
        ]

    assert database.write(settings) == [2, "wal", 1]


def test_migrations_apply_once_and_in_order(tmp_path):
    more = Migration(
        "test.0002", "ALTER TABLE item ADD COLUMN extra TEXT; CREATE INDEX item_extra ON item(extra)"
    )
    with Database(tmp_path / "node.db", migrations=[TABLE]) as database:
        database.write(insert(1))
    for _ in range(2):
        with (
            Database(tmp_path / "node.db", migrations=[TABLE, more]) as database,
            database.read() as connection,
        ):
            assert connection.execute("SELECT number, extra FROM item").fetchall() == [(1, None)]
            assert [row[0] for row in connection.execute("SELECT name FROM migration ORDER BY name")] == [
                "test.0001",
                "test.0002",
            ]


def test_a_failing_migration_leaves_nothing(tmp_path):
    broken = Migration("test.0002", "CREATE TABLE half(a); CREATE TABLE item(again)")
    with pytest.raises(apsw.SQLError):
        Database(tmp_path / "node.db", migrations=[TABLE, broken])
    with Database(tmp_path / "node.db") as database, database.read() as connection:
        assert (
            connection.execute("SELECT name FROM sqlite_master WHERE name IN ('half', 'item')").fetchall()
            == []
        )


def test_an_edited_migration_and_a_double_name_are_refused(tmp_path):
    with Database(tmp_path / "node.db", migrations=[TABLE]):
        pass
    with pytest.raises(StorageError, match=r"test\.0001"):
        Database(tmp_path / "node.db", migrations=[Migration("test.0001", "CREATE TABLE other(a)")])
    with pytest.raises(InputError, match="same name"):
        Database(tmp_path / "node.db", migrations=[TABLE, TABLE])


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "node.db").write_bytes(b"not a database, but long enough to be looked at" * 20)
    with pytest.raises(StorageError, match="not a SQLite database"):
        Database(tmp_path / "node.db")


def python(code: str, *arguments: object, **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(SRC)},
        text=True,
        stdout=subprocess.PIPE,
        **options,
    )


START_AND_WRITE = """
    import sys
    from digital_twins.storage import Database, Migration
    path, offset, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    steps = [Migration(f"test.{n:04d}", f"CREATE TABLE t{n}(a INTEGER PRIMARY KEY)") for n in range(20)]
    with Database(path, migrations=steps) as database:
        for number in range(offset, offset + count):
            database.write(lambda cursor: cursor.execute("INSERT INTO t7 VALUES (?)", (number,)) and None)
"""


def test_processes_that_start_and_write_at_once(tmp_path):
    processes = [python(START_AND_WRITE, tmp_path / "node.db", 1000 * n, 100) for n in range(3)]
    for process in processes:
        process.communicate(timeout=120)
        assert process.returncode == 0
    with Database(tmp_path / "node.db") as database, database.read() as connection:
        assert connection.execute("SELECT count(*) FROM t7").fetchall() == [(300,)]
        assert connection.execute("SELECT count(*) FROM migration").fetchall() == [(20,)]


WRITE_AND_SAY = """
    import sys, threading
    from digital_twins.storage import Database, Migration
    table = Migration("test.0001", "CREATE TABLE item(number INTEGER PRIMARY KEY, body TEXT)")
    database = Database(sys.argv[1], migrations=[table])
    def loop(number):
        insert = lambda cursor: cursor.execute("INSERT INTO item VALUES (?, ?)", (number, "x" * 500)) and None
        while True:
            database.write(insert)
            sys.stdout.write(f"{number}\\n")
            sys.stdout.flush()
            number += 4
    for offset in range(4):
        threading.Thread(target=loop, args=(int(sys.argv[2]) + offset,)).start()
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path, full):
    chance = random.Random(20261122)
    said: list[int] = []
    for round_number in range(50 if full else 4):
        process = python(WRITE_AND_SAY, tmp_path / "node.db", round_number * 10_000_000)
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.2))  # the moment of the kill, which is meant to be random
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate(timeout=60)
        said += [int(line) for line in (first + rest).splitlines(keepends=True) if line.endswith("\n")]
        with Database(tmp_path / "node.db") as database:
            kept = set(numbers(database))
            with database.read() as connection:
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert set(said) <= kept
    assert len(said) >= 4


@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # JAX's, where another test has loaded it
def test_a_forked_child_is_told_to_open_its_own(database):
    database.write(insert(1))
    child = os.fork()
    if child == 0:
        try:
            database.write(insert(2))
        except StorageError as error:
            os._exit(7 if "forked" in error.why else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert database.write(insert(3)) == 3
    assert numbers(database) == [1, 3]


def test_a_program_that_is_started_inherits_no_file(database, tmp_path):
    database.write(insert(1))
    with database.read():
        listing = subprocess.run(
            ["ls", "-l", "/proc/self/fd"], capture_output=True, text=True, check=False, close_fds=False
        )
    if listing.returncode != 0:
        pytest.skip("needs /proc")
    assert "node.db" not in listing.stdout


def test_a_full_disk_is_reported_and_left_usable(small_volume):
    folder = small_volume("size=3m")
    with Database(folder / "node.db", migrations=[TABLE]) as database:
        database.write(insert(1, "kept"))
        ballast = folder / "ballast"
        small_volume.fill(ballast)
        release, _ = held(database)
        big = database.submit(insert(2, "x" * 2_000_000))
        bigger = database.submit(insert(3, "x" * 4_000_000))
        release.set()
        for future in (big, bigger):
            with pytest.raises(StorageError, match="full"):
                future.result(60)
        assert numbers(database) == [1]
        ballast.unlink()
        with pytest.raises(StorageError, match="full"):
            database.write(insert(5, "x" * 4_000_000))
        assert database.write(insert(4, "after")) == 4
        assert numbers(database) == [1, 4]
        with database.read() as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_unit_that_fills_the_disk_does_not_take_its_neighbours_along(small_volume):
    folder = small_volume("size=3m")
    with Database(folder / "node.db", migrations=[TABLE]) as database:
        release, _ = held(database)
        before = database.submit(insert(1, "small"))
        big = database.submit(insert(2, "x" * 4_000_000))
        after = database.submit(insert(3, "small"))
        release.set()
        assert (before.result(60), after.result(60)) == (1, 3)
        with pytest.raises(StorageError, match="full"):
            big.result(60)
        assert numbers(database) == [1, 3]


def test_a_read_only_folder_is_reported(small_volume):
    folder = small_volume("size=3m")
    with Database(folder / "node.db", migrations=[TABLE]) as database:
        database.write(insert(1))
    small_volume.remount("ro")
    for name in ("node.db", "new.db", "sub/new.db"):
        with pytest.raises(StorageError, match=r"read-only|cannot be opened") as error:
            Database(folder / name, migrations=[TABLE])
        assert "write permission" in error.value.fix
    small_volume.remount("rw")
    with Database(folder / "node.db", migrations=[TABLE]) as database:
        assert numbers(database) == [1]


def test_a_cursor_held_half_read_does_not_keep_an_old_snapshot_for_the_next_reader(database):
    database.write(lambda cursor: cursor.executemany("INSERT INTO item VALUES (?, NULL)", [(1,), (2,)]))
    with database.read() as connection:
        kept = connection.cursor()
        assert kept.execute("SELECT number FROM item").fetchone() is not None
    database.write(insert(3))
    assert len(numbers(database)) == 3
    kept.close(force=True)


def test_a_statement_keeps_its_plan_whatever_is_bound(tmp_path):
    tables = Migration("t.1", "CREATE TABLE t(a INT, b INT, PRIMARY KEY (a, b)) WITHOUT ROWID")
    sql = "SELECT b FROM t WHERE a=? AND EXISTS (SELECT 1 FROM t x WHERE x.a=? AND x.b=t.b) ORDER BY b"
    prepared = []
    with Database(tmp_path / "plans.db", migrations=[tables]) as database:
        database.write(lambda cursor: cursor.executemany("INSERT INTO t VALUES (?, 1)", [(1,), (2,)]))

        def ask(connection):
            # Asked whenever a statement is prepared; setting it makes SQLite forget all plans.
            connection.authorizer = lambda *what: prepared.append(what) or apsw.SQLITE_OK
            counts = []
            for values in ((1, 1), (2, 1), (1, 2)):
                assert connection.execute(sql, values).fetchall() == [(1,)]
                counts.append(len(prepared))
            connection.authorizer = None
            assert counts[0] == counts[1] == counts[2] > 0

        with database.read() as connection:
            ask(connection)
        prepared.clear()
        database.write(lambda cursor: ask(cursor.connection))


def test_a_reader_for_one_statement_cannot_write_and_holds_no_snapshot(database):
    database.write(insert(1))
    with database.read(one_statement=True) as connection:
        assert connection.execute("SELECT count(*) FROM item").fetchone() == (1,)
        database.write(insert(2))
        assert connection.execute("SELECT count(*) FROM item").fetchone() in {(1,), (2,)}
        with pytest.raises(Exception, match=r"(?i)read-?only"):
            connection.execute("DELETE FROM item")
    with database.read(one_statement=True) as connection:
        assert connection.execute("SELECT count(*) FROM item").fetchone() == (2,)
