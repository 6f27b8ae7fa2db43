"""CDS Hooks 2.0: the official shapes, and calls of a service over a store that a twin wrote into."""

from __future__ import annotations

import json
import tarfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from digital_twins import InputError
from digital_twins.fhir.cds_hooks import (
    CdsHooks,
    cds_routes,
    request_issues,
    response_issues,
    services_issues,
)
from digital_twins.fhir.validation import Validator
from fhir_bulk_support import serve_routes
from fhir_support import open_store, patient, transaction

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from digital_twins.fhir import FhirStore

ISSUED = datetime(2026, 3, 1, tzinfo=UTC).isoformat()
LATER = "2027-01-01T00:00:00Z"
OWN = "urn:digital-twins:CodeSystem:digital-twin-result"
CODING = {"coding": [{"system": OWN, "code": "digital-twin-analysis"}]}


def risk(number: int, label: str, share: float) -> dict[str, Any]:
    """A RiskAssessment in the shape that `digital_twins.reports` writes."""
    return {
        "resourceType": "RiskAssessment",
        "id": f"risk{number}",
        "status": "preliminary",
        "method": CODING,
        "subject": {"reference": "Patient/p"},
        "occurrenceDateTime": ISSUED,
        "prediction": [
            {
                "outcome": {"text": "partial response"},
                "probabilityDecimal": share,
                "rationale": "Volume change -42.0 %, 90 % interval -60 to -20 %",
            },
            {"outcome": {"text": "stable disease"}, "probabilityDecimal": round(1 - share, 4)},
        ],
        "mitigation": f"Treatment option: {label}",
    }


REPORT = {
    "resourceType": "DiagnosticReport",
    "id": "rep",
    "status": "preliminary",
    "code": CODING,
    "subject": {"reference": "Patient/p"},
    "issued": ISSUED,
    "conclusion": "See predictions.",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FhirStore]:
    with open_store(tmp_path_factory.mktemp("cds")) as store:
        written = [
            patient(id="p"),
            REPORT,
            risk(0, "Carboplatin + paclitaxel", 0.7),
            risk(1, "Radiotherapy 60 Gy", 0.4),
        ]
        written.append(
            {**REPORT, "id": "other", "code": {"text": "Chest CT"}, "issued": "2027-01-01T00:00:00Z"}
        )
        entries = [
            {"resource": r, "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}}
            for r in written
        ]
        store.transaction(transaction(*entries))
        yield store


def verify(token: str | None) -> str:
    if token != "good":
        raise InputError("The token was refused.", "It is not good.", "Send another.")
    return "ehr"


@pytest.fixture(scope="module")
def http(store: FhirStore) -> Iterator[httpx.Client]:
    routes = cds_routes(CdsHooks(store, verify=verify))
    headers = {"authorization": "Bearer good"}
    with serve_routes(routes) as base, httpx.Client(base_url=base, headers=headers) as client:
        yield client


def call(hook: str, **more: Any) -> dict[str, Any]:
    context = {"userId": "Practitioner/1", "patientId": "p", **more.pop("context", {})}
    return {"hook": hook, "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea", "context": context, **more}


def test_discovery(http: httpx.Client) -> None:
    body = http.get("/cds-services").json()
    assert services_issues(body) == []
    assert {s["hook"] for s in body["services"]} == {"patient-view", "order-select"}


def test_the_findings_of_the_twin(http: httpx.Client) -> None:
    answer = http.post("/cds-services/twin-findings", json=call("patient-view"))
    body = answer.json()
    assert (answer.status_code, response_issues(body)) == (200, [])
    (card,) = body["cards"]
    assert "2 treatments" in card["summary"]
    assert (
        "- Carboplatin + paclitaxel: partial response 70 %, stable disease 30 % (Volume change"
        in card["detail"]
    )
    assert "Research use only" in card["detail"]
    assert card["links"][0]["url"].endswith("/fhir/DiagnosticReport/rep")
    assert card["source"]["topic"]["code"] == "digital-twin-analysis"
    made = card["suggestions"][0]["actions"][0]["resource"]
    assert [i for i in Validator().validate(made) if i.severity == "error"] == []
    assert http.post("/cds-services/twin-findings", json=call("patient-view")).json() == body


def test_a_prefetched_patient_is_found_by_its_number(http: httpx.Client) -> None:
    theirs = {**patient(), "id": "ehr-77"}
    known = call("patient-view", context={"patientId": "ehr-77"}, prefetch={"patient": theirs})
    assert len(http.post("/cds-services/twin-findings", json=known).json()["cards"]) == 1
    stranger = {**theirs, "identifier": [{"value": "nobody"}]}
    unknown = call("patient-view", context={"patientId": "ehr-77"}, prefetch={"patient": stranger})
    assert http.post("/cds-services/twin-findings", json=unknown).json() == {"cards": []}
    bare = call("patient-view", context={"patientId": "ehr-77"})
    assert http.post("/cds-services/twin-findings", json=bare).status_code == 412


@pytest.mark.parametrize(("drug", "count"), [("Paclitaxel 6 mg/mL", 1), ("PACLITAXEL", 1), ("Aspirin", 0)])
def test_only_what_is_ordered_and_was_simulated_gets_a_card(
    http: httpx.Client, drug: str, count: int
) -> None:
    order = {
        "resourceType": "MedicationRequest",
        "id": "m1",
        "status": "draft",
        "intent": "order",
        "medicationCodeableConcept": {"text": drug},
        "subject": {"reference": "Patient/p"},
    }
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": order}]}
    context = {"draftOrders": bundle, "selections": ["MedicationRequest/m1"]}
    answer = http.post(
        "/cds-services/twin-order-prediction", json=call("order-select", context=context)
    ).json()
    assert response_issues(answer) == []
    assert len(answer["cards"]) == count
    other = {**context, "selections": ["MedicationRequest/m2"]}
    none = http.post("/cds-services/twin-order-prediction", json=call("order-select", context=other)).json()
    assert none == {"cards": []}


def test_feedback_is_kept_without_free_text(http: httpx.Client, store: FhirStore) -> None:
    item = {
        "card": "c1",
        "outcome": "overridden",
        "overrideReason": {
            "reason": {"code": "refused", "system": "urn:x"},
            "userComment": "Muster: no",
        },
        "outcomeTimestamp": "2026-03-01T00:00:00Z",
    }
    place = "/cds-services/twin-findings/feedback"
    assert http.post(place, json={"feedback": [item]}).status_code == 200
    assert http.post(place, json={"feedback": [{"card": "c1", "outcome": "lost"}]}).status_code == 400
    with store.database.read() as connection:
        rows = [json.loads(str(r[0])) for r in connection.execute("SELECT body FROM audit_outbox")]
    kept = [r for r in rows if r["kind"] == "cds.feedback"]
    assert [r["detail"]["reason"] for r in kept] == ["refused"]
    assert kept[0]["agent"] == "ehr"
    assert "Muster" not in json.dumps(rows)


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("twin-findings", call("patient-view"), {"authorization": "Bearer bad"}, 401),
        ("twin-findings", call("patient-view"), {"authorization": ""}, 401),
        ("nothing", call("patient-view"), {}, 404),
        ("nothing/feedback", {"feedback": []}, {}, 404),
        ("twin-findings", call("order-sign"), {}, 400),
        ("twin-findings", {"hook": "patient-view"}, {}, 400),
        ("twin-findings", [], {}, 400),
        ("twin-findings", call("patient-view", context={"patientId": "Patient/p"}), {}, 400),
    ],
)
def test_bad_calls(http: httpx.Client, path: str, body: Any, headers: dict[str, str], status: int) -> None:
    answer = http.post(f"/cds-services/{path}", json=body, headers=headers)
    assert answer.status_code == status
    assert answer.json()["fix"]


def test_the_official_cases(shared_data: Path) -> None:
    """Whether a case has an error, against the Java validator's outcome: 13 of 14."""
    checks = {"Request": request_issues, "Response": response_issues, "Services": services_issues}
    agreed: dict[str, bool] = {}
    with tarfile.open(shared_data / "fhir" / "validator-r4-cases.tar.xz") as archive:
        files = {name.partition("/")[2]: name for name in archive.getnames()}

        def read(name: str) -> Any:
            stream = archive.extractfile(files[name])
            assert stream is not None
            return json.loads(stream.read())

        for case in read("manifest.json")["test-cases"]:
            if case.get("module") == "cdshooks":
                check = checks[case["logical"]["format"].rpartition("CDSHooks")[2]]
                outcome = read(f"outcomes/{case['logical']['java']}")
                wrong = any(i["severity"] in {"error", "fatal"} for i in outcome.get("issue", ()))
                agreed[case["name"]] = bool(check(read(case["file"]))) == wrong
    assert len(agreed) == 14
    assert [name for name, same in agreed.items() if not same] == [
        "cdshooks-services-order-select-extensions"
    ]
