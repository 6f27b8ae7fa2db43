"""kill -9 under load: what was acknowledged is there, and no transaction is half there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

from fhir_support import open_store

SIZE = 6
WRITER = """
import sys, threading
from pathlib import Path
from fhir_support import observation, open_store, post, transaction
lock = threading.Lock()
def load(store, worker):
    for number in range(100000):
        tag = f"{sys.argv[2]}-{worker}-{number}"
        entries = [post(observation(f"Patient/{tag}", "29463-7", n)) for n in range(int(sys.argv[3]))]
        store.transaction(transaction(*entries))
        with lock:
            print(tag, flush=True)
with open_store(Path(sys.argv[1])) as store:
    threads = [threading.Thread(target=load, args=(store, n), daemon=True) for n in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
"""


@pytest.mark.timeout(1800)  # fifty starts of a process, and each checks all that was acknowledged before
def test_no_acknowledged_write_is_lost_and_no_transaction_is_half_visible(tmp_path: Path, full: bool) -> None:
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), *sys.path])}
    acknowledged: list[str] = []
    for number in range(50 if full else 5):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(number), str(SIZE)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline().strip()]
            time.sleep(0.02 * (number % 7))
            os.kill(process.pid, signal.SIGKILL)
            lines += process.stdout.read().splitlines()
        assert lines[0]
        acknowledged += lines
        with open_store(tmp_path) as store:
            for tag in acknowledged:
                assert len(store.search("Observation", {"subject": f"Patient/{tag}"}).hits) == SIZE
            check_whole(store)


def check_whole(store: object) -> None:
    """Every transaction is complete, every resource indexed, and the audit outbox holds one event each."""
    with store.database.read() as connection:  # type: ignore[attr-defined]
        bodies = [orjson.loads(body) for (body,) in connection.execute("SELECT body FROM fhir_resource")]
        indexed = connection.execute("SELECT count(DISTINCT rid) FROM fhir_token").fetchone()[0]
        events = [json.loads(body) for (body,) in connection.execute("SELECT body FROM audit_outbox")]
    counts: dict[str, int] = {}
    for body in bodies:
        subject = body["subject"]["reference"]
        counts[subject] = counts.get(subject, 0) + 1
    assert set(counts.values()) == {SIZE}
    assert indexed == len(bodies)
    assert sum(e["kind"] == "fhir.transaction" for e in events) == len(counts)
