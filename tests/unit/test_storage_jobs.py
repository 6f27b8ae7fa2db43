"""The job queue: by key, at least once, over crashes, with cancellation."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from digital_twins import ConflictError, InputError, NotFoundError
from digital_twins.storage import MIGRATIONS, Database, JobQueue, JobState

SRC = Path(__file__).parents[2] / "src"


@pytest.fixture
def database(tmp_path):
    with Database(tmp_path / "node.db", migrations=MIGRATIONS) as opened:
        yield opened


@pytest.fixture
def jobs(database):
    return JobQueue(database, boot_id="boot-1")


def test_a_job_from_key_to_result(jobs):
    job_id = jobs.enqueue("twin.build", {"study": "1.2"}, key="study 1.2")
    assert jobs.get(job_id).state is JobState.QUEUED
    job = jobs.claim("worker-1", ["twin.build"])
    assert job is not None
    assert (job.job_id, job.payload, job.attempts, job.state) == (
        job_id,
        {"study": "1.2"},
        1,
        JobState.RUNNING,
    )
    assert (job.worker, job.boot_id) == ("worker-1", "boot-1")
    assert jobs.claim("worker-2", ["twin.build"]) is None
    assert jobs.progress(job, 0.5, "calibrating")
    assert (jobs.get(job_id).progress, jobs.get(job_id).progress_text) == (0.5, "calibrating")
    jobs.succeed(job, {"twin": "t1"})
    done = jobs.get(job_id)
    assert (done.state, done.result, done.progress, done.error) == (
        JobState.SUCCEEDED,
        {"twin": "t1"},
        1.0,
        None,
    )
    assert done.created_utc.utcoffset().total_seconds() == 0


def test_the_same_key_is_the_same_job_in_every_state(jobs):
    job_id = jobs.enqueue("twin.build", {"a": 1}, key="k")
    assert jobs.enqueue("twin.build", {"a": 2}, key="k") == job_id
    job = jobs.claim("w", ["twin.build"])
    jobs.succeed(job)
    assert jobs.enqueue("twin.build", {"a": 3}, key="k") == job_id
    assert jobs.get(job_id).payload == {"a": 1}
    assert len(jobs.list()) == 1


def test_enqueue_in_shares_the_fate_of_its_transaction(database, jobs):
    def broken(cursor):
        jobs.enqueue_in(cursor, "twin.build", {}, key="k")
        raise LookupError

    with pytest.raises(LookupError):
        database.write(broken)
    assert jobs.list() == ()
    database.write(lambda cursor: jobs.enqueue_in(cursor, "twin.build", {}, key="k"))
    assert len(jobs.list()) == 1


def test_claim_takes_the_oldest_of_the_kinds_asked_for(jobs):
    ids = [jobs.enqueue(kind, {}, key=str(n)) for n, kind in enumerate(["a", "b", "a"])]
    assert jobs.claim("w", ["b", "c"]).job_id == ids[1]
    assert jobs.claim("w", ["a"]).job_id == ids[0]
    assert jobs.claim("w", ["a", "b"]).job_id == ids[2]
    assert jobs.claim("w", ["a", "b"]) is None
    assert [job.job_id for job in jobs.list(kind="a")] == [ids[2], ids[0]]
    assert jobs.list(state="queued") == ()
    assert len(jobs.list(state=JobState.RUNNING, limit=2)) == 2


def test_no_job_is_given_twice(jobs):
    for number in range(60):
        jobs.enqueue("a", {}, key=str(number))

    def drain(worker):
        taken = []
        while (job := jobs.claim(worker, ["a"])) is not None:
            taken.append(job.job_id)
        return taken

    with ThreadPoolExecutor(6) as pool:
        taken = [job_id for part in pool.map(drain, map(str, range(6))) for job_id in part]
    assert len(taken) == len(set(taken)) == 60


def test_a_lease_that_ran_out_goes_to_another_worker_and_the_first_is_told(jobs):
    job_id = jobs.enqueue("a", {}, key="k")
    first = jobs.claim("w1", ["a"], lease_s=-1)
    second = jobs.claim("w2", ["a"])
    assert second.job_id == job_id
    assert second.attempts == 2
    assert not jobs.heartbeat(first)
    assert not jobs.progress(first, 0.9)
    with pytest.raises(ConflictError):
        jobs.succeed(first)
    with pytest.raises(ConflictError):
        jobs.fail(first, ValueError())
    assert jobs.heartbeat(second, lease_s=120)
    assert jobs.get(job_id).lease_until_utc > second.lease_until_utc
    jobs.succeed(second)


def test_a_failure_is_retried_with_a_delay_until_the_attempts_are_used_up(jobs):
    job_id = jobs.enqueue("a", {}, key="k", max_attempts=2)
    job = jobs.claim("w", ["a"])
    error = InputError("The mask is empty.", "No voxel is set.", "Send a mask with a lesion.")
    assert jobs.fail(job, error, retry_delay_s=3600) is JobState.QUEUED
    assert jobs.get(job_id).error["why"] == "No voxel is set."
    assert jobs.claim("w", ["a"]) is None
    other = jobs.enqueue("b", {}, key="k2", max_attempts=2)
    for expected in (JobState.QUEUED, JobState.FAILED):
        assert jobs.fail(jobs.claim("w", ["b"]), error, retry_delay_s=0) is expected
    assert jobs.get(other).error["fix"] == "Send a mask with a lesion."
    jobs.retry(other)
    assert jobs.claim("w", ["b"]).attempts == 1


def test_a_failure_that_no_retry_mends(jobs):
    jobs.enqueue("a", {}, key="k")
    assert jobs.fail(jobs.claim("w", ["a"]), InputError("w", "y", "f"), retry=False) is JobState.FAILED


def test_the_text_of_a_foreign_exception_is_not_kept(jobs):
    job_id = jobs.enqueue("a", {}, key="k", max_attempts=1)
    jobs.fail(jobs.claim("w", ["a"]), ValueError("Jane Doe"))
    assert "Doe" not in str(jobs.get(job_id).error)
    assert "ValueError" in jobs.get(job_id).error["why"]


def test_a_job_that_kills_its_worker_is_given_up(jobs):
    job_id = jobs.enqueue("a", {}, key="k", max_attempts=2)
    for _ in range(2):
        assert jobs.claim("w", ["a"], lease_s=-1) is not None
    assert jobs.claim("w", ["a"]) is None
    job = jobs.get(job_id)
    assert job.state is JobState.FAILED
    assert "worker" in job.error["why"]


def test_cancelling(jobs):
    waiting = jobs.enqueue("a", {}, key="1")
    assert jobs.cancel(waiting) is JobState.CANCELLED
    assert jobs.claim("w", ["a"]) is None
    running = jobs.enqueue("a", {}, key="2")
    job = jobs.claim("w", ["a"])
    assert jobs.cancel(running) is JobState.RUNNING
    assert jobs.get(running).cancel_requested
    assert not jobs.heartbeat(job)
    assert jobs.fail(job, InterruptedError()) is JobState.CANCELLED
    lost = jobs.enqueue("a", {}, key="3")
    jobs.claim("w", ["a"], lease_s=-1)
    jobs.cancel(lost)
    assert jobs.claim("w", ["a"]) is None
    assert jobs.get(lost).state is JobState.CANCELLED
    assert jobs.cancel(lost) is JobState.CANCELLED
    with pytest.raises(NotFoundError):
        jobs.cancel("none")


def test_release_gives_back_without_counting(jobs):
    jobs.enqueue("a", {}, key="k")
    jobs.release(jobs.claim("w", ["a"]))
    assert jobs.claim("w", ["a"]).attempts == 1


def test_succeed_in_writes_result_and_end_together(database, jobs):
    job_id = jobs.enqueue("a", {}, key="k")
    job = jobs.claim("w", ["a"], lease_s=-1)
    jobs.claim("w2", ["a"])

    def work(cursor):
        jobs.enqueue_in(cursor, "report.write", {}, key="next")
        jobs.succeed_in(cursor, job, {})

    with pytest.raises(ConflictError):
        database.write(work)
    assert [each.job_id for each in jobs.list()] == [job_id]


CLAIM_AND_HANG = """
    import sys, time
    from digital_twins.storage import MIGRATIONS, Database, JobQueue
    jobs = JobQueue(Database(sys.argv[1], migrations=MIGRATIONS), boot_id="boot-0")
    jobs.enqueue("a", {"n": 1}, key="waiting")
    jobs.enqueue("b", {"n": 2}, key="running")
    print(jobs.claim("w", ["b"]).job_id, flush=True)
    time.sleep(600)
"""


def test_a_killed_node_finds_its_jobs_again(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CLAIM_AND_HANG), str(tmp_path / "node.db")],
        env={**os.environ, "PYTHONPATH": str(SRC)},
        stdout=subprocess.PIPE,
        text=True,
    )
    running = process.stdout.readline().strip()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    with Database(tmp_path / "node.db", migrations=MIGRATIONS) as database:
        jobs = JobQueue(database)
        assert jobs.claim("w", ["b"]) is None
        assert jobs.release_stale() == 1
        assert jobs.release_stale() == 0
        job = jobs.claim("w", ["b"])
        assert (job.job_id, job.attempts, job.payload) == (running, 2, {"n": 2})
        assert jobs.release_stale() == 0
        assert jobs.claim("w", ["a"]).payload == {"n": 1}


def test_waiting_for_nothing_writes_nothing(database, jobs):
    before = database.counts
    deadline = time.monotonic() + 0.05
    while time.monotonic() < deadline:
        assert jobs.claim("w", ["a"]) is None
    assert database.counts == before


def test_the_jobs_of_a_worker_that_ended_are_queued_again(jobs):
    jobs.enqueue("k", {}, key="1")
    jobs.enqueue("k", {}, key="2")
    first, second = jobs.claim("a", ["k"]), jobs.claim("b", ["k"])
    assert jobs.release_worker("a") == 1
    assert jobs.get(first.job_id).state == "queued"
    assert jobs.get(second.job_id).state == "running"
    assert jobs.claim("c", ["k"]).attempts == 2
    assert not jobs.progress(first, 0.5)
