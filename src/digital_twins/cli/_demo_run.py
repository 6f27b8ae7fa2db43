"""The demo, step by step: a node, a hospital that sends to it, and the answers that come back."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from digital_twins._errors import DigitalTwinError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    import httpx

START_PATIENCE_S = 60.0
TWIN_PATIENCE_S = 300.0
POLL_S = 0.2
_ENDINGS = {"application/pdf": ".pdf", "application/dicom": ".dcm", "application/fhir+json": ".json"}


@dataclass(slots=True)
class DemoNode:
    """A node that runs as a child process."""

    process: subprocess.Popen[bytes]
    http_url: str
    dicom_port: int
    data: Path

    def get(self, path: str) -> Any:
        """Return the JSON of a page of the node."""
        return self.fetch(path).json()

    def fetch(self, path: str) -> httpx.Response:
        """Return the answer of a page of the node."""
        import httpx

        answer = httpx.get(self.http_url + path, timeout=30.0)
        if answer.status_code != httpx.codes.OK:
            raise DigitalTwinError(
                what=f"The node answered {answer.status_code} to {path}.",
                why="The step before it did not complete.",
                fix="Run the demo again with TWIN_LOG_LEVEL=debug and read the log.",
            )
        return answer


@dataclass(slots=True)
class DemoResult:
    """What the demo did, as ``twin demo --json`` prints it."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    twin: dict[str, Any] = field(default_factory=dict)
    responses: dict[str, Any] = field(default_factory=dict)
    documents: dict[str, str] = field(default_factory=dict)
    forecast: dict[str, Any] = field(default_factory=dict)
    url: str = ""
    data: str = ""


@contextmanager
def running_node(data: Path, *, dicom_port: int = 0, http_port: int = 0) -> Iterator[DemoNode]:
    """Start ``twin serve`` on the data folder and end it when the block ends."""
    command = [sys.executable, "-m", "digital_twins.cli", "serve", "--data", str(data)]
    command += ["--dicom-port", str(dicom_port), "--http-port", str(http_port)]
    data.mkdir(parents=True, exist_ok=True)
    with (data / "node.log").open("ab") as log:
        process = subprocess.Popen(command, stderr=log)  # noqa: S603  (own interpreter)
    try:
        found = _announcement(process, data)
        yield DemoNode(process, str(found["base_url"]), int(found["dicom_port"]), data)
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _announcement(process: subprocess.Popen[bytes], data: Path) -> dict[str, Any]:
    """Wait for the ``node.json`` that this very process writes when it listens."""
    deadline = time.monotonic() + START_PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            found: dict[str, Any] = json.loads((data / "node.json").read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            found = {}
        if found.get("pid") == process.pid:
            return found
        time.sleep(POLL_S / 4)
    raise DigitalTwinError(
        what="The node did not start.",
        why=f"Its process ended with code {process.poll()}."
        if process.poll() is not None
        else "It took too long.",
        fix=f"Read {data / 'node.log'}; 'twin doctor' checks the usual reasons.",
    )


def run_demo(
    node: DemoNode,
    patient: str,
    *,
    step: Callable[[str], AbstractContextManager[Callable[[float, str], None]]],
) -> DemoResult:
    """Send the patient to the node, wait for the twin and its documents, forecast the real xenografts.

    Parameters
    ----------
    step
        Shows a step while its block runs; what it gives takes a fraction and a text.
    """
    result = DemoResult(url=node.http_url)

    @contextmanager
    def timed(name: str) -> Iterator[Callable[[float, str], None]]:
        started = time.monotonic()
        with step(name) as progress:
            yield progress
        seconds = round(time.monotonic() - started, 2)
        result.steps.append({"name": name, "seconds": seconds})

    with timed("hospital sends the record by FHIR and the studies by C-STORE"):
        _send(node, patient)
    with timed("node builds and calibrates the twin, compares treatments, writes the documents") as progress:
        key = _wait_for_twin(node, patient, progress)
    with timed("answers read back over HTTP"):
        _collect(node, key, result)
    with timed("forecast of an unseen arm of real xenografts"):
        result.forecast = xenograft_forecast()
    return result


def _send(node: DemoNode, patient: str) -> None:
    command = [sys.executable, "-m", "digital_twins.samples._hospital", "--patient", patient]
    command += ["--fhir", f"{node.http_url}/fhir", "--dicom-port", str(node.dicom_port)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)  # noqa: S603  (own interpreter)
    if done.returncode:
        raise DigitalTwinError(
            what="The hospital's data did not reach the node.",
            why=f"The sending process ended with code {done.returncode}.",
            fix="Its messages stand above.",
        )


def _wait_for_twin(node: DemoNode, name: str, progress: Callable[[float, str], None]) -> str:
    """Wait for the twin that knows every visit of the sample; return the key of the patient."""
    from digital_twins.samples import sample_patient

    visits = len(sample_patient(name).visits)
    deadline = time.monotonic() + TWIN_PATIENCE_S
    while time.monotonic() < deadline:
        for patient in node.get("/api/patients"):
            job = patient["latest_job"] or {}
            progress(float(job.get("fraction") or 0.0), str(job.get("text") or ""))
            if job.get("state") == "failed":
                raise DigitalTwinError(**{key: job["error"][key] for key in ("what", "why", "fix")})
            if job.get("state") == "succeeded" and _visits_known(node, patient["twin_id"]) >= visits:
                return str(patient["key"])
        time.sleep(POLL_S)
    raise DigitalTwinError(
        what="The twin was not ready in time.",
        why=f"No job finished within {TWIN_PATIENCE_S:.0f} seconds.",
        fix="See /api/jobs of the node; a slow machine may need another try.",
    )


def _visits_known(node: DemoNode, twin_id: str | None) -> int:
    # On a slow machine a first twin is built before the last visit has arrived.
    return len(node.get(f"/api/twins/{twin_id}")["observed"]) if twin_id else 0


def _collect(node: DemoNode, key: str, result: DemoResult) -> None:
    patient = node.get(f"/api/patients/{key}")
    twin = node.get(f"/api/twins/{patient['twin_id']}")
    rate = next(p for p in twin["parameters"] if p["name"] == "proliferation_per_day")
    result.url = f"{node.http_url}/patients/{key}"
    result.twin = {
        "twin_id": twin["twin_id"],
        "version": twin["version"],
        "current_volume_cm3": _interval(twin["current_volume"]),
        "proliferation_rate_per_day": _interval(rate),
        "simulated_follow_up": twin["simulated"],
    }
    result.responses = {
        scenario["label"]: {
            "volume_change_percent": _interval(scenario["volume_change_percent"]),
            "response_category": scenario["response_category"],
        }
        for scenario in twin["scenarios"]
    }
    folder = node.data / "documents"
    folder.mkdir(exist_ok=True)
    for document in twin["documents"]:
        same = sum(kind.split(" #")[0] == document["kind"] for kind in result.documents)
        result.documents[f"{document['kind']} #{same + 1}" if same else document["kind"]] = document["id"]
        ending = _ENDINGS.get(document["media_type"].split(";")[0], "")
        name = f"{document['kind']} {document['title']}".replace("/", "-")
        (folder / f"{name}{ending}").write_bytes(node.fetch(document["href"]).content)


def _interval(value: dict[str, Any]) -> dict[str, float]:
    return {name: value[name] for name in ("value", "low", "high")}


def xenograft_forecast(unseen: str = "high", neighbour: str = "medium") -> dict[str, Any]:
    """Calibrate on the other arms of the erlotinib xenografts; score the forecast of the unseen arm.

    Real measurements (Eigenmann 2016); the score is the CRPS in cm3 beside the CRPS of the median curve of
    the neighbouring arm scaled to each mouse's day-0 volume.
    """
    from digital_twins.samples import erlotinib
    from digital_twins.treatment_simulation import forecast_arm

    study = erlotinib()
    train = [mouse for arm, mice in study.arms.items() if arm != unseen for mouse in mice]
    scored = forecast_arm(train, study.arms[unseen], plasma=study.plasma, neighbour=neighbour)
    return {
        "data": study.source,
        "arm": unseen,
        "mice": scored.n_mice,
        "readings": scored.n_observations,
        "crps_model": scored.crps_model,
        "crps_baseline": scored.crps_baseline,
        "crps_baseline_ensemble": scored.crps_baseline_ensemble,
        "baseline": f"median curve of the {neighbour} arm scaled to the day-0 volume",
        "coverage_95": scored.coverage_95,
        "unit": "cm3",
    }
