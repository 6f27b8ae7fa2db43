"""kill -9 of the node at random moments of the demo: nothing acknowledged is lost, all is finished.

A moment is a point of the demo's own progress, not of the clock: the n-th acknowledgement of the hospital,
or a fraction of the build job, and up to a second more.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw
import httpx
import pytest
from node_process import NodeProcess, free_port, node_process, start_hospital, start_node, wait_for_twin

from digital_twins.samples import sample_patient

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENT = "lung"
BUILDING = 0.6
"""Share of the kills that fall into the build; the others fall into the arrival of the data."""

DOCUMENTS = {"PDF": 1, "SR": 1, "SEG": 1, "DICOM PDF": 1, "FHIR": 1}
"""Links that a finished twin shows, by kind."""


@dataclass(frozen=True)
class Moment:
    """When to kill."""

    acknowledgements: int
    job_fraction: float | None
    delay_s: float


def draw(chance: random.Random, objects: int) -> Moment:
    """A random moment: while the data comes in, or while the twin is built."""
    where, delay_s = chance.random(), chance.random()
    if where < BUILDING:
        return Moment(objects, where / BUILDING, delay_s)
    return Moment(int((where - BUILDING) / (1 - BUILDING) * (objects + 1)), None, 0.2 * delay_s)


def said(acks: Path) -> list[dict[str, Any]]:
    """What the hospital has printed; the last line may be cut, for it writes while we read."""
    return [json.loads(line) for line in acks.read_text().splitlines() if line.endswith("}")]


def acknowledged(acks: Path) -> set[str]:
    return {event["acknowledged"] for event in said(acks) if "acknowledged" in event}


def builds(node: NodeProcess) -> list[dict[str, Any]]:
    return [job for job in node.get("/api/jobs") if job["kind"] == "twin.build"]


def wait_until(moment: Moment, node: NodeProcess, acks: Path) -> None:
    deadline = time.monotonic() + 240
    while len(acknowledged(acks)) < moment.acknowledgements:
        assert time.monotonic() < deadline, said(acks)
        time.sleep(0.002)
    while moment.job_fraction is not None:
        jobs = builds(node)
        if jobs and (jobs[0]["fraction"] >= moment.job_fraction or jobs[0]["state"] == "succeeded"):
            break
        assert time.monotonic() < deadline, jobs
        time.sleep(0.05)
    time.sleep(moment.delay_s)


def stored(node: NodeProcess) -> dict[str, str]:
    """SOP Instance UID to address of everything that QIDO-RS shows."""
    found = {}
    with httpx.Client(base_url=node.base_url, headers={"Accept": "application/dicom+json"}) as http:
        studies = http.get("/dicom-web/studies")
        for study in studies.json() if studies.status_code == 200 else []:
            uid = study["0020000D"]["Value"][0]
            answer = http.get(f"/dicom-web/studies/{uid}/instances", params={"limit": 5000})
            assert answer.status_code == 200, answer.text
            for instance in answer.json():
                series, sop = (instance[tag]["Value"][0] for tag in ("0020000E", "00080018"))
                assert sop not in found
                found[sop] = f"/dicom-web/studies/{uid}/series/{series}/instances/{sop}"
    return found


def assert_nothing_lost(node: NodeProcess, acks: Path, resources: set[str]) -> None:
    """Every acknowledged object comes back whole by WADO-RS, every acknowledged resource by a read."""
    expected, events = acknowledged(acks), said(acks)
    places = stored(node)
    assert expected <= set(places)
    with httpx.Client(base_url=node.base_url, timeout=30) as http:
        for uid in expected:
            answer = http.get(places[uid], headers={"Accept": 'multipart/related; type="application/dicom"'})
            assert answer.status_code == 200, answer.text
            assert uid.encode() in answer.content
        if any(event.get("sent") == "record" for event in events):
            missing = [ref for ref in sorted(resources) if http.get(f"/fhir/{ref}").status_code != 200]
            assert not missing


def assert_complete_once(node: NodeProcess, twin: dict[str, Any], acks: Path) -> None:
    """The finished twin, its versions and its documents are there once each, whatever was run twice."""
    assert [job["state"] for job in builds(node)] == ["succeeded"]
    (patient,) = node.get("/api/patients")
    assert patient["twin_count"] == 1
    assert [v["version"] for v in twin["versions"]] in ([1, 2], [2, 1], [2])
    assert Counter(document["kind"] for document in twin["documents"]) == DOCUMENTS
    ours = {d["id"] for d in twin["documents"] if "FHIR" not in d["kind"]}
    assert set(stored(node)) == acknowledged(acks) | ours
    report = httpx.get(f"{node.base_url}/fhir/DiagnosticReport").json()
    assert [entry["resource"]["status"] for entry in report["entry"]] == ["preliminary"]
    for kind in ("RiskAssessment", "Provenance"):
        found = httpx.get(f"{node.base_url}/fhir/{kind}", params={"_count": 500}).json()["entry"]
        contents = Counter(json.dumps(_content(entry["resource"]), sort_keys=True) for entry in found)
        assert contents
        assert set(contents.values()) == {1}


def _content(resource: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in resource.items() if name not in {"id", "meta"}}


def assert_audited_once(data: Path, expected: set[str]) -> None:
    """The chain holds, and each object has exactly one event that says it was new; none ever changed."""
    verified = subprocess.run(
        [sys.executable, "-m", "digital_twins.cli", "audit", "verify", "--data", str(data), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert json.loads(verified.stdout)["ok"] is True
    trail = apsw.Connection(str(data / "audit.sqlite"), flags=apsw.SQLITE_OPEN_READONLY)
    events = [json.loads(str(row[0])) for row in trail.execute("SELECT body FROM audit_event")]
    trail.close()
    stores = [event for event in events if event["kind"] == "dicom.store"]
    by_outcome = {
        outcome: Counter(event["entity"] for event in stores if event["detail"].get("outcome") == outcome)
        for outcome in ("new", "identical", "different")
    }
    assert by_outcome["new"] == dict.fromkeys(expected, 1)
    assert not by_outcome["different"]
    assert set(by_outcome["identical"]) <= expected  # sent again, for its acknowledgement was lost
    builds = [event for event in events if event["kind"] == "twin.build"]
    assert len(builds) == 1


def workers_of(data: Path) -> list[int]:
    """Processes of the node's worker module on this data folder."""
    wanted = b"\0digital_twins.server.worker\0--data\0" + os.fsencode(data) + b"\0"
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:  # it has just ended
                continue
            if wanted in command:
                found.append(int(entry.name))
    return found


def assert_workers_end(data: Path) -> None:
    deadline = time.monotonic() + 120
    while workers_of(data):
        assert time.monotonic() < deadline, "a worker outlived its node"
        time.sleep(0.02)


@contextmanager
def demo(folder: Path, ports: dict[str, int]) -> Iterator[tuple[NodeProcess, subprocess.Popen[bytes], Path]]:
    """A node and a hospital that sends to it; both are ended at the end, if they still run."""
    node = start_node(folder / "data", **ports)
    acks = folder / "acknowledged.jsonl"
    hospital = start_hospital(node, PATIENT, acks)
    try:
        yield node, hospital, acks
    finally:
        for process in (hospital, node.process):
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.mark.timeout(7200)
def test_kill_at_random_moments(tmp_path: Path, full: bool) -> None:
    chance = random.Random(20261122)
    patient = sample_patient(PATIENT)
    objects = len(patient.datasets())
    resources = {entry["request"]["url"] for entry in patient.fhir_bundle()["entry"]}
    for number in range(20 if full else 2):
        moment = draw(chance, objects)
        try:
            one_round(tmp_path / f"round-{number}", moment, resources)
        except BaseException as error:
            error.add_note(f"round {number}, killed at {moment}")
            raise


def one_round(folder: Path, moment: Moment, resources: set[str]) -> None:
    ports = {"dicom_port": free_port(), "http_port": free_port()}
    data = folder / "data"
    with demo(folder, ports) as (node, hospital, acks):
        wait_until(moment, node, acks)
        node.kill()
        assert_workers_end(data)
        with node_process(data, **ports) as again:
            assert_nothing_lost(again, acks, resources)
            assert hospital.wait(timeout=180) == 0
            twin = wait_for_twin(again, version=2)
            assert_nothing_lost(again, acks, resources)
            assert_complete_once(again, twin, acks)
            everything = set(stored(again))
    assert_audited_once(data, everything)
