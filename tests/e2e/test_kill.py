"""kill -9 of the node at random moments of the demo: nothing acknowledged is lost, and the work is finished."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx
import pytest
from node_process import free_port, node_process, start_hospital, start_node, wait_for_twin

if TYPE_CHECKING:
    from pathlib import Path

DEMO_S = 14.0
"""About how long the demo takes from the first byte sent to the last document; kills are spread over it."""


def acknowledged(lines: str) -> set[str]:
    # The last line may be cut: the sender is not killed, but it writes while we read.
    events = [json.loads(line) for line in lines.splitlines() if line.endswith("}")]
    return {event["acknowledged"] for event in events if "acknowledged" in event}


def stored(base_url: str) -> set[str]:
    found: set[str] = set()
    studies = httpx.get(
        f"{base_url}/dicom-web/studies", headers={"Accept": "application/dicom+json"}, timeout=30
    )
    for study in studies.json() if studies.status_code == 200 else []:
        uid = study["0020000D"]["Value"][0]
        answer = httpx.get(
            f"{base_url}/dicom-web/studies/{uid}/instances",
            params={"limit": 5000},
            headers={"Accept": "application/dicom+json"},
            timeout=30,
        )
        found.update(instance["00080018"]["Value"][0] for instance in answer.json())
    return found


@pytest.mark.timeout(3600)
def test_kill_at_random_moments(tmp_path: Path, full: bool) -> None:
    rounds = 20 if full else 3
    chance = random.Random(20261122)
    for number in range(rounds):
        moment = (number + chance.random()) / rounds * DEMO_S
        one_round(tmp_path / f"round-{number}", moment)


def one_round(folder: Path, moment_s: float) -> None:
    ports = {"dicom_port": free_port(), "http_port": free_port()}
    data = folder / "data"
    acks = folder / "acknowledged.jsonl"
    node = start_node(data, **ports)
    hospital = start_hospital(node, "lung", acks)
    try:
        started = time.monotonic()
        while time.monotonic() - started < moment_s:
            time.sleep(0.01)
        node.kill()
        before = acknowledged(acks.read_text())
        with node_process(data, **ports) as again:
            assert before <= stored(again.base_url), f"lost after a kill at {moment_s:.1f} s"
            assert hospital.wait(timeout=180) == 0
            twin = wait_for_twin(again, version=2)
            assert acknowledged(acks.read_text()) <= stored(again.base_url)
            assert {document["kind"] for document in twin["documents"]} >= {"sr", "seg", "pdf"}
            record = httpx.get(f"{again.base_url}/fhir/DiagnosticReport", timeout=30).json()
            assert record["entry"][0]["resource"]["status"] == "preliminary"
        verified = subprocess.run(
            [sys.executable, "-m", "digital_twins.cli", "audit", "verify", "--data", str(data), "--json"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert json.loads(verified.stdout)["ok"] is True
    finally:
        for process in (hospital, node.process):
            if process.poll() is None:
                process.kill()
                process.wait()
