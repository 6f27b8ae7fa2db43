"""A running node: exports by its worker, subscribers told, cards asked for."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import httpx
from starlette.responses import Response
from starlette.routing import Route

from digital_twins.config import Settings
from digital_twins.fhir import FHIRClient
from digital_twins.server import Node
from fhir_bulk_support import serve_routes
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
