"""What an acknowledged event survives: power cuts at any byte of the log, failing neighbours, interrupts."""

from __future__ import annotations

import random
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from digital_twins import StorageError
from digital_twins.audit import AuditEvent, AuditTrail, verify_trail
from digital_twins.audit._shared import SharedAppend

SECTOR_BYTES = 512
BESIDE = ("audit.head", "audit.checkpoints", "audit.key", "audit.vkey")


def event(number: int) -> AuditEvent:
    return AuditEvent("C", "dicom.store", "success", "STORESCU", entity=f"1.2.{number}")


def torn(before: bytes, after: bytes, choice: random.Random) -> bytes:
    """Return a log as a power cut during the flush from `before` to `after` may leave it."""
    length = max(len(before), len(after))
    before, after = before.ljust(length, b"\0"), after.ljust(length, b"\0")
    places = [
        place for place in range(0, length, SECTOR_BYTES) if sector(before, place) != sector(after, place)
    ]
    if choice.random() < 0.5:  # written from the start on, and cut at some byte
        cut = choice.randint(places[0], places[-1] + SECTOR_BYTES)
        return after[:cut] + before[cut:]
    mixed = bytearray(before)  # the disk wrote its sectors in an order of its own
    for place in places:
        if choice.random() < 0.5:
            mixed[place : place + SECTOR_BYTES] = sector(after, place)
    return bytes(mixed)


def sector(log: bytes, place: int) -> bytes:
    return log[place : place + SECTOR_BYTES]


def test_a_power_cut_at_any_byte_of_the_log_loses_no_acknowledged_event(tmp_path, monkeypatch, full):
    """Several rounds of the log, so that frames of the round before lie behind the cut."""
    monkeypatch.setattr("digital_twins.audit._trail._LOG_BYTES", 80 * 1024)
    choice = random.Random(6)
    node, copy = tmp_path / "node", tmp_path / "copy"
    log = node / "audit.db-wal"
    cycles = set()
    with AuditTrail(node / "audit.db") as trail:
        for number in range(600 if full else 60):
            copy.mkdir()
            for name in (*BESIDE, "audit.db"):
                shutil.copy(node / name, copy / name)
            before = log.read_bytes()
            cycles.add(before[16:24])
            trail.append([event(number)])
            (copy / "audit.db-wal").write_bytes(torn(before, log.read_bytes(), choice))
            report = verify_trail(copy / "audit.db")
            assert report.ok, report.problems
            assert report.events in (number, number + 1)
            if number % 10 == 9:
                with AuditTrail(copy / "audit.db") as again:
                    again.append([event(-1)])
                    assert again.verify().ok
                    assert [row.event.entity for row in again.tail(report.events + 1)] == [
                        *(f"1.2.{known}" for known in range(report.events)),
                        "1.2.-1",
                    ]
            shutil.rmtree(copy)
        assert log.stat().st_size == 80 * 1024
    assert len(cycles) > 3  # salts of the log's header: it was begun again that often


def test_other_readers_see_an_acknowledged_event_at_once(tmp_path):
    with AuditTrail(tmp_path / "audit.db") as trail:
        for number in range(20):
            trail.append([event(number)])
            assert verify_trail(tmp_path / "audit.db").events == number + 1


def test_a_known_event_does_not_take_its_neighbours_along(tmp_path):
    with AuditTrail(tmp_path / "audit.db") as trail:
        known = event(0)
        trail.append([known])
        with ThreadPoolExecutor(8) as pool:
            counts = list(
                pool.map(
                    lambda number: trail.append([known, event(number)] if number % 3 else [known]), range(60)
                )
            )
        assert counts == [int(number % 3 > 0) for number in range(60)]
        assert trail.verify().ok
        assert trail.verify().events == 1 + sum(counts)


class Held:
    """A record function whose first call stays under way until `free` is set."""

    def __init__(self, fails=lambda rows: None) -> None:
        self.begun, self.free = threading.Event(), threading.Event()
        self.groups: list[list[str]] = []
        self.fails = fails

    def __call__(self, batches):
        rows = [row[0] for rows in batches for row in rows]
        if not self.begun.is_set():
            self.begun.set()
            assert self.free.wait(60)
        self.fails(rows)
        self.groups.append(rows)
        return [len(each) for each in batches]


def outcomes(held: Held, names: list[str]):
    """Call once for each name: the first alone, the others while it is under way."""
    shared = SharedAppend(held)

    def call(name: str):
        try:
            return shared.append([(name, "")])
        except (StorageError, KeyboardInterrupt) as error:
            return type(error)

    with ThreadPoolExecutor(len(names)) as pool:
        futures = [pool.submit(call, names[0])]
        assert held.begun.wait(60)
        for count, name in enumerate(names[1:], 1):
            futures.append(pool.submit(call, name))
            until_waiting(shared, count)
        held.free.set()
        return [future.result(60) for future in futures]


def test_callers_who_wait_share_one_commit():
    held = Held()
    assert outcomes(held, list("abcd")) == [1] * 4
    assert held.groups == [["a"], ["b", "c", "d"]]


def test_a_caller_whose_rows_fail_fails_alone():
    def fails(rows):
        if "c" in rows:
            raise StorageError("full", "full", "full")

    held = Held(fails)
    assert outcomes(held, list("abcd")) == [1, 1, StorageError, 1]
    assert held.groups == [["a"], ["b"], ["d"]]


def test_an_interrupt_of_the_thread_that_commits_is_not_an_acknowledgement_to_the_others():
    def fails(rows):
        if len(rows) > 1:
            raise KeyboardInterrupt

    held = Held(fails)
    assert outcomes(held, list("abcd")) == [1, KeyboardInterrupt, 1, 1]
    assert held.groups == [["a"], ["c"], ["d"]]


class InterruptError(Exception):
    """What a signal handler raises in the thread that waits."""


def interrupted_while_waiting(before: list[str], after: list[str]):
    """Wait for a group in the main thread, the only one that runs signal handlers, and break that off."""
    held = Held()
    shared = SharedAppend(held)

    def handler(number, frame):
        del number, frame
        raise InterruptError

    def others() -> list[int]:
        until_waiting(shared, len(before) + 1)
        late = []
        for count, name in enumerate(after, len(before) + 2):
            late.append(pool.submit(shared.append, [(name, "")]))
            until_waiting(shared, count)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
        assert told.wait(60) if before else True  # who does not lead is told at once
        held.free.set()
        return [future.result(60) for future in late]

    told = threading.Event()
    old = signal.signal(signal.SIGUSR1, handler)
    try:
        with ThreadPoolExecutor(8) as pool:
            early = [pool.submit(shared.append, [("first", "")])]
            assert held.begun.wait(60)
            for count, name in enumerate(before, 1):
                early.append(pool.submit(shared.append, [(name, "")]))
                until_waiting(shared, count)
            rest = pool.submit(others)
            with pytest.raises(InterruptError):
                shared.append([("mine", "")])
            told.set()
            assert [future.result(60) for future in early] == [1] * len(early)
            assert rest.result(60) == [1] * len(after)
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert shared.append([("last", "")]) == 1
    assert not shared._busy
    return held.groups


def until_waiting(shared: SharedAppend, count: int) -> None:
    deadline = time.monotonic() + 60
    while (0 if shared._next is None else len(shared._next.calls)) < count:
        assert time.monotonic() < deadline
        threading.Event().wait(0.001)


def test_who_is_interrupted_while_waiting_does_not_keep_the_others_asleep():
    groups = interrupted_while_waiting(["a", "b"], ["c", "d"])
    assert groups == [["first"], ["a", "b", "mine", "c", "d"], ["last"]]


def test_who_is_to_commit_for_others_and_is_interrupted_commits_first():
    groups = interrupted_while_waiting([], ["c", "d"])
    assert groups == [["first"], ["mine", "c", "d"], ["last"]]


@pytest.mark.parametrize("log_bytes", [0, 1 << 20])
def test_a_trail_on_a_disk_without_room_for_the_log_still_works(small_volume, monkeypatch, log_bytes):
    monkeypatch.setattr("digital_twins.audit._trail._LOG_BYTES", log_bytes * 64)
    folder: Path = small_volume("size=3m")
    with AuditTrail(folder / "audit.db") as trail:
        assert (folder / "audit.db-wal").stat().st_size < 1 << 20
        for number in range(50):
            trail.append([event(number)])
        assert trail.verify().ok
