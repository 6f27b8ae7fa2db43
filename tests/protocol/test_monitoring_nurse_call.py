"""Nurse call by webhook, to a receiver that fails at first; a killed monitor resumes its alerts."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from digital_twins import InputError
from digital_twins.audit import export_trail, verify_trail
from digital_twins.monitoring import WebhookCall
from monitor_process import DEVICE, NURSE, Served, until


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


@pytest.mark.parametrize("url", ["", "http://hospital.example/x", "ftp://127.0.0.1/", "https:///x"])
def test_address_that_would_send_patients_in_clear_is_refused(url: str) -> None:
    with pytest.raises(InputError):
        WebhookCall(url)


def audited(trail: Path) -> list[tuple[str, str]]:
    """Return step and person of every event of an alert."""
    rows = [json.loads(each)["event"] for each in export_trail(trail)]
    return [(each["kind"].removeprefix("monitor.alert."), each["agent"]) for each in rows]


@pytest.mark.timeout(300)
def test_notices_arrive_and_a_killed_monitor_resumes_what_was_acknowledged(tmp_path: Path) -> None:
    with Receiver(failing=1) as receiver:
        first = Served(
            tmp_path, "--nurse-call", receiver.url, environment={"TWIN_NURSE_CALL_TOKEN": "secret"}
        )
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
        trail = tmp_path / "data" / "audit.sqlite"
        until(lambda: ("acknowledged", "N. N.") in audited(trail))
    finally:
        second.kill()
    assert set(before) <= set(after)
    again = after[str(high["key"])]
    assert (again["id"], again["acknowledged_by"]) == (high["id"], "N. N.")
    assert verify_trail(trail).ok
    kinds = [kind for kind, _ in audited(trail)]
    assert kinds.count("raised") == len(before)
    assert kinds.count("acknowledged") == 1
