"""Threads that work on arriving objects: all is done, the last one is used again, nothing stays open."""

from __future__ import annotations

import os
import threading

import pytest

from digital_twins.dicom._keepers import Keepers


def test_all_that_was_put_is_done_when_close_returns() -> None:
    keepers, gate, done = Keepers(3, "test"), threading.Event(), []
    mutex = threading.Lock()

    def work(number: int) -> None:
        gate.wait(60)
        with mutex:
            done.append(number)

    for number in range(50):  # far more than threads
        keepers.put(lambda number=number: work(number))  # type: ignore[misc]
    gate.set()
    keepers.close()
    assert sorted(done) == list(range(50))


def test_work_runs_beside_other_work() -> None:
    keepers, meeting = Keepers(4, "test"), threading.Barrier(4, timeout=60)
    broken: list[bool] = []

    def meet() -> None:
        try:
            meeting.wait()
        except threading.BrokenBarrierError:
            broken.append(True)

    for _ in range(4):
        keepers.put(meet)
    keepers.close()
    assert not broken


def test_the_thread_that_was_busy_last_is_woken_first() -> None:
    keepers, used = Keepers(5, "test"), set()
    for _ in range(20):
        finished = threading.Event()

        def work(finished: threading.Event = finished) -> None:
            used.add(threading.current_thread().name)
            finished.set()

        keepers.put(work)
        assert finished.wait(60)
        while len(keepers._idle) < 5:  # it lies down after its work
            os.sched_yield()
    keepers.close()
    assert len(used) == 1


def test_no_descriptor_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []
    real = os.close

    def close(descriptor: int) -> None:
        closed.append(descriptor)
        real(descriptor)

    keepers = Keepers(6, "test")
    ends = [end for thread in keepers._threads for end in (thread._sleep, thread._wake)]
    monkeypatch.setattr(os, "close", close)
    keepers.close()
    assert sorted(set(ends) & set(closed)) == sorted(ends)
