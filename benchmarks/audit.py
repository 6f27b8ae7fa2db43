"""The audit trail: durable events a second beside the raw fsync of the same disk, and verification.

The peer of the write rates is a plain file on the same disk that gets one record of an event's size and an
fsync at a time. How long a flush takes changes within seconds on a shared host, so the two are measured in
turns, in short blocks: a ratio is the median over the blocks, each beside the mean of the peer's block before
it and the one after it. The peer of the verification is the bare SHA-256 work of chain and tree over the same
rows. The default verifies 200,000 events and scales to a million; TWIN_BENCH_AUDIT_EVENTS=1000000 verifies
that many.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from digital_twins.audit import AuditEvent, AuditTrail, prove_event, verify_trail

Figure = tuple[str, float, str, float | None]
EVENTS = int(os.environ.get("TWIN_BENCH_AUDIT_EVENTS", "200000"))
BLOCK_S = 0.25
ROUNDS = 16
WRITERS = 32


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(dir=os.environ.get("TWIN_BENCH_DIR")) as name:
        folder = Path(name)
        with AuditTrail(folder / "turns" / "audit.db") as trail, (folder / "raw").open("wb") as file:
            raw, single, many = _turns(file.fileno(), trail)
        yield "raw_fsync_time", 1e3 / statistics.median(raw), "ms", None
        yield "durable_single_events", statistics.median(single), "1/s", _beside(single, raw)
        yield f"durable_events_{WRITERS}_writers", statistics.median(many), "1/s", _beside(many, raw)
        yield f"{WRITERS}_writers_over_single", _beside(many, single), "x", None
        yield from _verification(folder / "verify" / "audit.db")


def _turns(descriptor: int, trail: AuditTrail) -> tuple[list[float], list[float], list[float]]:
    """Return the rates of raw fsyncs, single events and many writers, block by block; peers once more."""
    raw: list[float] = []
    single: list[float] = []
    many: list[float] = []
    for _ in range(ROUNDS):
        raw.append(_fsyncs_per_s(descriptor))
        single.append(_events_per_s(trail, 1))
        many.append(_events_per_s(trail, WRITERS))
    return [*raw, _fsyncs_per_s(descriptor)], [*single, _events_per_s(trail, 1)], many


def _beside(ours: list[float], peer: list[float]) -> float:
    """Return the median ratio of a block to the peer's blocks before and after it."""
    around = [statistics.harmonic_mean(pair) for pair in pairwise(peer)]
    return statistics.median(own / other for own, other in zip(ours, around, strict=False))


def event(number: int) -> AuditEvent:
    return AuditEvent(
        "C", "dicom.store", "success", "STORESCU", entity=f"1.2.826.0.1.{number}", patient="ab" * 32
    )


def _fsyncs_per_s(descriptor: int) -> float:
    """Append: a file that is overwritten would have no new size to flush."""
    count, record, size = 0, event(0).to_json().encode(), os.fstat(descriptor).st_size
    start = time.perf_counter()
    while time.perf_counter() - start < BLOCK_S:
        os.pwrite(descriptor, record, size + len(record) * count)
        os.fsync(descriptor)
        count += 1
    return count / (time.perf_counter() - start)


def _events_per_s(trail: AuditTrail, writers: int) -> float:
    """Each writer waits for its event to be durable before it sends the next."""
    counts = [0] * writers
    start = time.perf_counter()
    end = start + BLOCK_S

    def write(place: int) -> None:
        while time.perf_counter() < end:
            trail.append([event(place)])
            counts[place] += 1

    threads = [threading.Thread(target=write, args=(place,)) for place in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - start)


def _cpu_s() -> float:
    """Of this process and of those that it started and that ended: verification starts some."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _verification(path: Path) -> Iterator[Figure]:
    with AuditTrail(path) as trail:
        start = time.process_time()
        for first in range(0, EVENTS, 1000):
            trail.append([event(number) for number in range(first, first + 1000)])
        yield "append_by_thousands", EVENTS / (time.process_time() - start), "1/cpu_s", None
    start, begun = _cpu_s(), time.perf_counter()
    report = verify_trail(path)
    ours, elapsed = _cpu_s() - start, time.perf_counter() - begun
    assert report.ok
    assert report.events == EVENTS == report.signed_events
    body = event(1).to_json().encode()
    start = time.process_time()
    for _ in range(EVENTS):
        for data in (body, body[:64], body[:65]):
            hashlib.sha256(data).digest()
    yield "verify_1M_events", ours * 1e6 / EVENTS, "cpu_s", ours / (time.process_time() - start)
    yield "verify_1M_events_elapsed", elapsed * 1e6 / EVENTS, "s", None
    start = time.process_time()
    for number in range(100):
        prove_event(path, 1 + number * (EVENTS // 100))
    yield "proof", 1e3 * (time.process_time() - start) / 100, "cpu_ms", None
