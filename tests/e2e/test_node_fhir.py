"""A running node: exports by its worker, subscribers told, cards asked for."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx
from starlette.responses import Response
from starlette.routing import Route

from digital_twins.config import Settings
from digital_twins.fhir import FHIRClient
from digital_twins.server import Node
from fhir_bulk_support import serve_routes
from fhir_package_support import WARD, on_ward, package, parameter
from fhir_support import observation, patient

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request


def test_export_subscription_and_cards(tmp_path: Path) -> None:
    got: list[bytes] = []

    async def hook(request: Request) -> Response:
        got.append(await request.body())
        return Response()

    with serve_routes([Route("/{path:path}", hook, methods=["POST", "PUT"])]) as receiver:
        settings = Settings(
            data_dir=tmp_path,
            dicom_port=0,
            http_port=0,
            study_stable_seconds=3600,
            subscription_endpoints=(f"{receiver}/hook",),
        )
        with Node(settings) as node, FHIRClient(f"{node.base_url}/fhir") as client:
            channel = {
                "type": "rest-hook",
                "endpoint": f"{receiver}/hook",
                "payload": "application/fhir+json",
            }
            asked = {"status": "requested", "reason": "test", "criteria": "Observation?code=29463-7"}
            made = client.create(
                "Subscription", {"resourceType": "Subscription", **asked, "channel": channel}
            )
            deadline = time.monotonic() + 120
            while client.read("Subscription", made.id).status == "requested":
                assert time.monotonic() < deadline
                time.sleep(0.1)
            person = client.create("Patient", patient())
            client.create("Observation", observation(f"Patient/{person.id}", "29463-7", 61.5))
            done = client.bulk_export(tmp_path / "out", scope="patient")
            assert {f.type: f.count for f in done.output} == {"Observation": 1, "Patient": 1}
            while not got:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert json.loads(got[0])["valueQuantity"]["value"] == 61.5
            offered = httpx.get(f"{node.base_url}/cds-services").json()["services"]
            call = {
                "hook": "patient-view",
                "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
                "context": {"userId": "Practitioner/1", "patientId": person.id},
            }
            place = f"{node.base_url}/cds-services/{offered[0]['id']}"
            assert httpx.post(place, json=call).json() == {"cards": []}  # no twin yet: nothing is said


def test_a_package_added_to_a_running_node_brings_its_search_parameters(tmp_path: Path) -> None:
    ward = parameter("ward", "token", "Patient", f"Patient.extension('{WARD}').value")
    file = package(tmp_path / "ward.tgz", [ward])
    settings = Settings(data_dir=tmp_path / "node", dicom_port=0, http_port=0, study_stable_seconds=3600)
    strict = {"prefer": "handling=strict"}
    with Node(settings) as node, FHIRClient(f"{node.base_url}/fhir") as client:
        place = f"{node.base_url}/fhir/Patient"
        east = client.create("Patient", on_ward("east")).id
        assert httpx.get(place, params={"ward": "east"}, headers=strict).status_code == 400
        add = ["fhir", "package", "add", str(file), "--data", str(settings.data_dir), "--json"]
        command = [sys.executable, "-m", "digital_twins.cli", *add]
        done = subprocess.run(command, capture_output=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {
            "name": "org.example.ward",
            "version": "1.0.0",
            "fhir_versions": ["4.0.1"],
            "profiles": 0,
            "search_parameters": 1,
            "indexed": 1,
        }
        client.create("Patient", on_ward("west"))
        found = httpx.get(place, params={"ward": "east"}, headers=strict).json()
        assert [entry["resource"]["id"] for entry in found["entry"]] == [east]
        told = httpx.get(f"{node.base_url}/fhir/metadata").json()["rest"][0]["resource"]
        (patients,) = [each["searchParam"] for each in told if each["type"] == "Patient"]
        assert {"name": "ward", "type": "token", "definition": ward["url"]} in patients
        out = client.bulk_export(tmp_path / "out", scope="patient", type_filters=["Patient?ward=east"])
        assert [(f.type, f.count) for f in out.output] == [("Patient", 1)]
    (settings.data_dir / "fhir-packages" / "org.example.ward-1.0.0.tgz").rename(tmp_path / "kept.tgz")
    with Node(settings) as node:  # a folder that was changed while no node ran
        assert httpx.get(f"{node.base_url}/fhir/Patient?ward=east", headers=strict).status_code == 400
