"""Nurse call by webhook, to a receiver that fails at first; a killed monitor resumes its alerts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from digital_twins import InputError
from digital_twins.monitoring import WebhookCall

NURSE, DEVICE = {"Authorization": "Bearer n"}, {"Authorization": "Bearer one"}


class Receiver:
    """A receiver that answers its first calls with 503."""

    def __init__(self, failing: int) -> None:
        self.calls: list[dict[str, object]] = []
        self.tokens: set[str | None] = set()
        self.refused = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.tokens.add(self.headers["Authorization"])
                fails = outer.refused < failing
                outer.refused += fails
                if not fails:
                    outer.calls.append(body)
                self.send_response(503 if fails else 204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/call"
        self.thread = threading.Thread(target=self.server.serve_forever)

    def __enter__(self) -> Receiver:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def until(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("url", ["", "http://hospital.example/x", "ftp://127.0.0.1/", "https:///x"])
def test_address_that_would_send_patients_in_clear_is_refused(url: str) -> None:
    with pytest.raises(InputError):
        WebhookCall(url)


class Served:
    """`twin monitor serve` as a process."""

    def __init__(self, folder: Path, *words: str) -> None:
        (folder / "devices.yaml").write_text("D1: one\n", encoding="utf-8")
        (folder / "staff.yaml").write_text("n: {name: N. N., role: nurse}\n", encoding="utf-8")
        command = [sys.executable, "-m", "digital_twins.cli", "monitor", "serve", "--json"]
        command += ["--devices", str(folder / "devices.yaml"), "--staff", str(folder / "staff.yaml")]
        command += ["--data", str(folder / "data"), "--http-port", "0", "--mqtt-port", "0", "--capacity", "4"]
        environment = {**os.environ, "TWIN_NURSE_CALL_TOKEN": "secret"}
        with (folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *words], stdout=subprocess.PIPE, stderr=log, env=environment, text=True,
                start_new_session=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        text = ""
        for line in self.process.stdout:
            text += line
            if text.rstrip().endswith("}"):
                break
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{json.loads(text)['http']}", timeout=30)

    def kill(self) -> None:
        """End it and its broker by SIGKILL, as a power cut would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.client.close()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def alerts(self) -> dict[str, dict[str, object]]:
        return {each["key"]: each for each in self.client.get("/alerts", headers=NURSE).json()}


@pytest.mark.timeout(300)
def test_notices_arrive_and_a_killed_monitor_resumes_what_was_acknowledged(tmp_path: Path) -> None:
    with Receiver(failing=1) as receiver:
        first = Served(tmp_path, "--nurse-call", receiver.url)
        try:
            for kind, subject, target in (("device", "D1", "B1"), ("bed", "B1", "P1")):
                body = {"kind": kind, "subject": subject, "target": target, "since_s": 0}
                first.client.post("/associations", json=body, headers=NURSE).raise_for_status()
            low = {"t": time.time(), "v": {"NIBP_SYS": 65}}
            first.client.post("/readings/D1", json=low, headers=DEVICE).raise_for_status()
            until(lambda: len(receiver.calls) >= 2)
            before = first.alerts()
            high = next(each for each in before.values() if each["priority"] == "high")
            first.client.post(f"/alerts/{high['id']}/acknowledge", headers=NURSE).raise_for_status()
        finally:
            first.kill()
    told = [each["alert"]["key"] for each in receiver.calls]
    assert set(told) == set(before)
    assert {each["to"] for each in receiver.calls} == {"nurse"}
    assert (receiver.refused, receiver.tokens) == (1, {"Bearer secret"})
    second = Served(tmp_path)
    try:
        after = second.alerts()
    finally:
        second.kill()
    assert set(before) <= set(after)
    again = after[str(high["key"])]
    assert (again["id"], again["acknowledged_by"]) == (high["id"], "N. N.")
