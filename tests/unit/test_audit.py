"""Audit events, the outbox, the chain, and what verification finds."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from digital_twins import InputError, NotFoundError, StorageError
from digital_twins.audit import (
    OUTBOX_MIGRATIONS,
    AuditEvent,
    Auditor,
    AuditTrail,
    load_pseudonym_key,
    plain_row,
    pseudonym,
    stage,
    verify_trail,
)
from digital_twins.storage import Database, Migration

SRC = Path(__file__).parents[2] / "src"
KEY = bytes(range(32))


def event(number: int = 0) -> AuditEvent:
    return AuditEvent(
        "C", "dicom.store", "success", "STORESCU", entity=f"1.2.{number}", detail={"bytes": number}
    )


@pytest.fixture
def trail(tmp_path):
    with AuditTrail(tmp_path / "audit.db") as opened:
        yield opened


def test_rows_are_chained_as_the_docstring_says(tmp_path, trail):
    events = [event(number) for number in range(5)]
    assert trail.append(events[:2]) == 2
    assert trail.append(events[2:]) == 3
    chain = bytes(32)
    with contextlib.closing(sqlite3.connect(tmp_path / "audit.db")) as connection:
        rows = connection.execute("SELECT seq, body, leaf, chain FROM audit_event").fetchall()
    assert [row[0] for row in rows] == [1, 2, 3, 4, 5]
    for row, given_event in zip(rows, events, strict=True):
        leaf = hashlib.sha256(b"\0" + row[1].encode()).digest()
        chain = hashlib.sha256(chain + leaf).digest()
        assert row[1] == given_event.to_json()
        assert (row[2], row[3]) == (leaf, chain)
    report = trail.verify()
    assert report.ok
    assert (report.events, report.chain) == (5, chain.hex())
    assert [row.event for row in trail.tail(3)] == events[2:]


def test_event_ids_are_version_7_and_follow_the_time():
    ids = []
    for _ in range(5):
        ids.append(uuid.UUID(AuditEvent("C", "test", "success", "agent").event_id))
        time.sleep(0.002)  # the ids count milliseconds
    assert {(one.version, one.variant) for one in ids} == {(7, uuid.RFC_4122)}
    assert ids == sorted(ids)
    assert abs((ids[-1].int >> 80) / 1000 - time.time()) < 60


def test_canonical_json_is_the_same_for_what_the_fast_writer_refuses():
    event = AuditEvent("C", "test", "success", "agent", detail={"n": 2**80, "b": 1, "a": "\x01\u2028é"})
    assert '"detail":{"a":"\\u0001\u2028é","b":1,"n":1208925819614629174706176}' in event.to_json()
    small = AuditEvent("C", "test", "success", "agent", detail={"b": 1, "a": "\x01\u2028é"})
    assert '"detail":{"a":"\\u0001\u2028é","b":1}' in small.to_json()


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.none() | st.text(st.characters(exclude_categories=["Cs"])),
    st.booleans(),
    st.integers(0, 4_000_000_000_000_000),
)
def test_the_quick_form_of_a_plain_event_is_the_canonical_one(agent, entity, named, at_us):
    patient = "0a" * 32 if named else None
    name, body = plain_row("R", "fhir.read", agent, entity=entity, patient=patient, at_us=at_us)
    at = (datetime(1970, 1, 1) + timedelta(microseconds=at_us)).isoformat(timespec="microseconds")  # noqa: DTZ001
    event = AuditEvent("R", "fhir.read", "success", agent, entity, patient, event_id=name, at_utc=f"{at}Z")
    assert body == event.to_json()


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8) | st.integers()))
def test_the_quick_form_holds_details_as_the_canonical_one(detail):
    name, body = plain_row("C", "k", "a", entity="e", patient=None, at_us=0, detail=detail)
    at = "1970-01-01T00:00:00.000000Z"
    event = AuditEvent("C", "k", "success", "a", "e", detail=detail, event_id=name, at_utc=at)
    assert body == event.to_json()


def test_the_quick_form_refuses_details_that_are_no_text_or_whole_number():
    with pytest.raises(InputError, match="detail"):
        plain_row("C", "k", "a", entity=None, patient=None, at_us=0, detail={"dose": 1.5})


def test_the_quick_form_takes_no_patient_in_clear():
    with pytest.raises(InputError, match="pseudonym"):
        plain_row("R", "fhir.read", "a", entity=None, patient="Ada", at_us=0)


def test_canonical_json_is_sorted_and_without_spaces():
    text = AuditEvent("E", "twin.calibrate", "failure", "é", event_id="x", at_utc="t").to_json()
    assert text == (
        '{"action":"E","agent":"é","at_utc":"t","detail":{},"entity":null,"event_id":"x",'
        '"kind":"twin.calibrate","node":"","outcome":"failure","patient":null}'
    )
    assert AuditEvent.from_json(text).to_json() == text


@pytest.mark.parametrize(
    "fields",
    [
        {"action": "X"},
        {"outcome": "maybe"},
        {"patient": "MRN-12345"},
        {"detail": {"dose": 1.5}},
        {"detail": {"name": None}},
        {"detail": {"flag": True}},
    ],
)
def test_an_event_that_could_leak_or_mislead_is_refused(fields):
    plain = {"action": "C", "kind": "k", "outcome": "success", "agent": "a"}
    with pytest.raises(InputError) as error:
        AuditEvent(**{**plain, **fields})
    assert "MRN" not in str(error.value)


def test_update_and_delete_abort(tmp_path, trail):
    trail.append([event()])
    connection = sqlite3.connect(tmp_path / "audit.db")
    for statement in ("UPDATE audit_event SET body = 'x'", "DELETE FROM audit_event"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)
    connection.close()


def test_a_known_event_is_not_recorded_twice(trail):
    once = event()
    assert trail.append([once, once]) == 1
    assert trail.append([once, event(2)]) == 1
    assert trail.verify().events == 2


def test_many_threads_make_one_chain(trail):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: trail.append([event(number)]), range(200)))
    assert trail.verify().ok
    assert trail.verify().events == 200


def test_a_staged_event_shares_the_fate_of_its_write(tmp_path, trail):
    steps = [*OUTBOX_MIGRATIONS, Migration("test.0001", "CREATE TABLE item(a)")]
    with Database(tmp_path / "node.db", migrations=steps) as database:

        def write(cursor, fails):
            cursor.execute("INSERT INTO item VALUES (1)")
            stage(cursor, event(int(fails)))
            if fails:
                raise LookupError

        database.write(lambda cursor: write(cursor, False))
        with pytest.raises(LookupError):
            database.write(lambda cursor: write(cursor, True))
        assert trail.drain(database) == 1
        assert trail.drain(database) == 0
        assert [row.event.entity for row in trail.tail()] == ["1.2.0"]


def test_drain_keeps_the_order_and_survives_a_stop_between_its_steps(tmp_path, trail, monkeypatch):
    with Database(tmp_path / "node.db", migrations=OUTBOX_MIGRATIONS) as database:
        for number in range(30):
            database.write(lambda cursor, number=number: stage(cursor, event(number)))
        monkeypatch.setattr("digital_twins.audit._trail._DRAIN_ROWS", 7)
        with monkeypatch.context() as patch:
            patch.setattr(
                "digital_twins.audit._outbox.remove", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
            )
            with pytest.raises(KeyboardInterrupt):
                trail.drain(database)
        assert trail.drain(database) == 23
        assert [row.event.detail["bytes"] for row in trail.tail(100)] == list(range(30))
        assert trail.verify().ok


STAGE_AND_DRAIN = """
    import sys, threading
    from digital_twins.audit import OUTBOX_MIGRATIONS, AuditEvent, AuditTrail, stage
    from digital_twins.storage import Database
    database = Database(sys.argv[1] + "/node.db", migrations=OUTBOX_MIGRATIONS)
    trail = AuditTrail(sys.argv[1] + "/audit.db")
    def drain():
        while True:
            trail.drain(database)
    threading.Thread(target=drain).start()
    number = 0
    while True:
        name = f"{sys.argv[2]}-{number}"
        event = AuditEvent("C", "test", "success", "agent", event_id=name)
        database.write(lambda cursor: stage(cursor, event))
        sys.stdout.write(name + "\\n")
        sys.stdout.flush()
        number += 1
"""


def test_kill_9_loses_and_doubles_no_event(tmp_path, full):
    said = []
    for round_number in range(50 if full else 5):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(STAGE_AND_DRAIN), str(tmp_path), str(round_number)],
            env={**os.environ, "PYTHONPATH": str(SRC)},
            stdout=subprocess.PIPE,
            text=True,
        )
        said += [process.stdout.readline().strip() for _ in range(20 + 7 * round_number)]
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate(timeout=60)
        said += [line.strip() for line in rest.splitlines(keepends=True) if line.endswith("\n")]
        assert verify_trail(tmp_path / "audit.db").ok
    with (
        Database(tmp_path / "node.db", migrations=OUTBOX_MIGRATIONS) as database,
        AuditTrail(tmp_path / "audit.db") as trail,
    ):
        trail.drain(database)
        assert trail.verify().ok
        recorded = [row.event.event_id for row in trail.tail(10_000_000)]
    assert len(recorded) == len(set(recorded))
    assert set(said) <= set(recorded)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pristine")
    with AuditTrail(folder / "audit.db") as trail:
        trail.append([event(number) for number in range(60)])
    assert verify_trail(folder / "audit.db").ok
    return folder


def guards(connection):
    return connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()


def tampered(pristine: Path, folder: Path, change) -> Path:
    """Copy the trail and change it as somebody would who drops the triggers and puts them back."""
    shutil.copytree(pristine, folder, dirs_exist_ok=True)
    connection = sqlite3.connect(folder / "audit.db")
    triggers = guards(connection)
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    change(connection)
    for _, sql in triggers:
        connection.execute(sql)
    connection.commit()
    connection.close()
    return folder / "audit.db"


def flip(connection, row, other, position):
    column = ("body", "leaf", "chain", "event_id")[other % 4]
    (value,) = connection.execute(f"SELECT {column} FROM audit_event WHERE seq = ?", (row,)).fetchone()
    data = bytearray(value.encode() if isinstance(value, str) else value)
    data[position % len(data)] ^= 1 << (position % 7)
    changed = bytes(data).decode("latin-1") if isinstance(value, str) else bytes(data)
    connection.execute(f"UPDATE audit_event SET {column} = ? WHERE seq = ?", (changed, row))


def delete(connection, row, other, position):
    connection.execute("DELETE FROM audit_event WHERE seq = ?", (row,))
    if position % 2:  # close the gap
        connection.execute("UPDATE audit_event SET seq = -(seq - 1) WHERE seq > ?", (row,))
        connection.execute("UPDATE audit_event SET seq = -seq WHERE seq < 0")


def insert(connection, row, other, position):
    values = connection.execute(
        "SELECT body, leaf, chain FROM audit_event WHERE seq = ?", (other,)
    ).fetchone()
    connection.execute("UPDATE audit_event SET seq = -(seq + 1) WHERE seq >= ?", (row,))
    connection.execute("UPDATE audit_event SET seq = -seq WHERE seq < 0")
    connection.execute("INSERT INTO audit_event VALUES (?, 'forged', ?, ?, ?)", (row, *values))


def swap(connection, row, other, position):
    other = other if other != row else row % 60 + 1
    connection.execute("UPDATE audit_event SET seq = -1 WHERE seq = ?", (row,))
    connection.execute("UPDATE audit_event SET seq = ? WHERE seq = ?", (row, other))
    connection.execute("UPDATE audit_event SET seq = ? WHERE seq = -1", (other,))


def rewrite_last(connection, row, other, position):
    """Change the last event and recompute its hashes: only the head file tells."""
    (body,) = connection.execute("SELECT body FROM audit_event WHERE seq = 60").fetchone()
    (previous,) = connection.execute("SELECT chain FROM audit_event WHERE seq = 59").fetchone()
    body = body.replace("STORESCU", f"MALLORY{position}")
    leaf = hashlib.sha256(b"\0" + body.encode()).digest()
    chain = hashlib.sha256(previous + leaf).digest()
    connection.execute(
        "UPDATE audit_event SET body = ?, leaf = ?, chain = ? WHERE seq = 60", (body, leaf, chain)
    )


def truncate(connection, row, other, position):
    """Cut the end off and put everything beside the rows back to that time too: only an anchor tells."""
    folder = Path(connection.execute("PRAGMA database_list").fetchone()[2]).parent
    connection.execute("DELETE FROM audit_event WHERE seq >= ?", (row,))
    last = connection.execute("SELECT chain FROM audit_event WHERE seq = ?", (row - 1,)).fetchone()
    text = f"{row - 1} {(last[0] if last else bytes(32)).hex()}"
    check = hashlib.sha256(text.encode()).hexdigest()[:16]
    (folder / "audit.head").write_bytes(f"{text} {check}".encode().ljust(127) + b"\n" + bytes(128))
    notes = (folder / "audit.checkpoints").read_text().split("\n\n")
    (folder / "audit.checkpoints").write_text("\n\n".join(notes[:2]) + "\n\n")


def first_bad_row(change, row, other):
    """Return the row that a verification has to name first."""
    if change is swap:
        return min(row, other if other != row else row % 60 + 1)
    return 60 if change is rewrite_last else row


@settings(
    max_examples=1000 if os.environ.get("TWIN_TEST_FULL") == "1" else 100,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    change=st.sampled_from([flip, delete, insert, swap, rewrite_last, truncate]),
    row=st.integers(1, 60),
    other=st.integers(1, 60),
    position=st.integers(0, 10_000),
)
def test_every_random_change_is_found_and_its_first_row_named(
    tmp_path, pristine, change, row, other, position
):
    folder = tmp_path / "copy"
    shutil.rmtree(folder, ignore_errors=True)
    file = tampered(pristine, folder, lambda connection: change(connection, row, other, position))
    if change is truncate:
        assert verify_trail(file).ok  # as the docstring says: nothing inside the folder tells
    report = verify_trail(file, anchor=pristine / "audit.checkpoints")
    assert report.problems[0].seq == first_bad_row(change, row, other)


def test_rows_cut_off_at_the_end_are_found_also_after_a_restart(tmp_path, pristine):
    file = tampered(
        pristine, tmp_path / "copy", lambda c: c.execute("DELETE FROM audit_event WHERE seq > 55")
    )
    report = verify_trail(file)
    assert "60" in report.problems[0].what
    with AuditTrail(file) as trail:
        trail.append([event(number) for number in range(10)])
    assert not verify_trail(file).ok


def test_a_missing_or_damaged_head_is_found_also_after_a_restart(tmp_path, pristine):
    for damage in (Path.unlink, lambda path: path.write_bytes(b"x" * 256)):
        folder = tmp_path / str(time.monotonic_ns())
        shutil.copytree(pristine, folder)
        damage(folder / "audit.head")
        assert not verify_trail(folder / "audit.db").ok
        with AuditTrail(folder / "audit.db") as trail:
            assert not trail.verify().ok


def test_a_torn_write_of_the_head_leaves_the_other_slot(tmp_path, pristine):
    folder = tmp_path / "torn"
    shutil.copytree(pristine, folder)
    head = folder / "audit.head"
    content = head.read_bytes()
    slot = 0 if content[:3] == b"60 " else 128
    head.write_bytes(content[: slot + 20] + bytes(10) + content[slot + 30 :])
    report = verify_trail(folder / "audit.db")
    assert report.ok
    assert report.checkpoint_events == 0


def test_dropped_triggers_are_found(tmp_path, pristine):
    shutil.copytree(pristine, tmp_path / "copy")
    connection = sqlite3.connect(tmp_path / "copy" / "audit.db")
    connection.execute("DROP TRIGGER audit_event_no_update")
    connection.commit()
    connection.close()
    assert "audit_event_no_update" in verify_trail(tmp_path / "copy" / "audit.db").problems[0].what


def test_what_cannot_be_found_without_an_outside_anchor(tmp_path, pristine):
    """Both files put back together, or a whole chain recomputed, look right: the docstring says so."""
    shutil.copytree(pristine, tmp_path / "old")
    shutil.copytree(pristine, tmp_path / "node")
    with AuditTrail(tmp_path / "node" / "audit.db") as trail:
        trail.append([event(61)])
        anchor = trail.verify().chain
    rolled_back = verify_trail(tmp_path / "old" / "audit.db")
    assert rolled_back.ok
    assert rolled_back.chain != anchor
    shutil.rmtree(tmp_path / "node")
    with AuditTrail(tmp_path / "node" / "audit.db") as trail:
        trail.append([event(number) for number in range(61)])
        assert trail.verify().ok
        assert trail.verify().chain != anchor


def test_no_trail_and_no_database(tmp_path):
    with pytest.raises(NotFoundError, match="no audit trail"):
        verify_trail(tmp_path / "audit.db")
    (tmp_path / "audit.db").write_bytes(b"junk" * 1000)
    with pytest.raises(StorageError, match="cannot be read"):
        verify_trail(tmp_path / "audit.db")


def test_a_full_disk_refuses_the_event_and_keeps_the_chain(small_volume):
    folder = small_volume("size=3m")
    with AuditTrail(folder / "audit.db") as trail:
        trail.append([event(1)])
        small_volume.fill(folder / "ballast")
        big = AuditEvent("C", "k", "success", "a", detail={"text": "x" * 4_000_000})
        with pytest.raises(StorageError, match="full"):
            trail.append([big])
        (folder / "ballast").unlink()
        trail.append([event(2)])
        assert trail.verify().ok
        assert trail.verify().events == 2


def test_pseudonyms_are_keyed_and_stable(tmp_path):
    key = load_pseudonym_key(tmp_path / "keys" / "pseudonym.key")
    assert (tmp_path / "keys" / "pseudonym.key").stat().st_mode & 0o777 == 0o600
    assert load_pseudonym_key(tmp_path / "keys" / "pseudonym.key") == key
    assert len(list((tmp_path / "keys").iterdir())) == 1
    assert pseudonym("MRN-1", key) == pseudonym("MRN-1", key)
    assert len({pseudonym("MRN-1", key), pseudonym("MRN-2", key), pseudonym("MRN-1", KEY)}) == 3
    # RFC 4231, test case 2
    assert pseudonym("what do ya want for nothing?", b"Jefe") == (
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )


def test_processes_that_start_at_once_agree_on_the_key(tmp_path):
    code = "import sys; from digital_twins.audit import load_pseudonym_key as f; print(f(sys.argv[1]).hex())"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "key")],
            env={**os.environ, "PYTHONPATH": str(SRC)},
            stdout=subprocess.PIPE,
        )
        for _ in range(4)
    ]
    assert len({process.communicate(timeout=60)[0] for process in processes}) == 1


def test_an_unsafe_or_damaged_key_is_refused(tmp_path):
    path = tmp_path / "key"
    load_pseudonym_key(path)
    path.chmod(0o644)
    with pytest.raises(StorageError, match="chmod 600"):
        load_pseudonym_key(path)
    path.write_text("abc")
    path.chmod(0o600)
    with pytest.raises(StorageError, match="64 hexadecimal"):
        load_pseudonym_key(path)


def test_the_auditor_turns_patients_into_pseudonyms(tmp_path, trail):
    auditor = Auditor("TWIN", KEY).acting("STORESCU")
    made = auditor.event("C", "dicom.store", entity="1.2.3", patient_id="MRN-1", detail={"bytes": 7})
    assert (made.agent, made.node, made.patient) == ("STORESCU", "TWIN", pseudonym("MRN-1", KEY))
    with Database(tmp_path / "node.db", migrations=OUTBOX_MIGRATIONS) as database:
        database.write(lambda cursor: auditor.stage(cursor, made))
        trail.drain(database)
    assert trail.tail()[0].event == made
    assert b"MRN-1" not in (tmp_path / "audit.db").read_bytes()
    assert json.loads(made.to_json())["outcome"] == "success"


def test_the_figure_of_durable_single_events(trail, record_property):
    """No assertion on time: the rate is a property of the disk."""
    start = time.perf_counter()
    for number in range(300):
        trail.append([event(number)])
    record_property("single_durable_events_per_s", round(300 / (time.perf_counter() - start)))
    assert trail.verify().events == 300


def test_a_reader_of_another_kind_can_open_the_trail(tmp_path, trail):
    trail.append([event(1)])
    connection = apsw.Connection(str(tmp_path / "audit.db"), flags=apsw.SQLITE_OPEN_READONLY)
    assert connection.execute("SELECT count(*) FROM audit_event").fetchall() == [(1,)]
    connection.close()
