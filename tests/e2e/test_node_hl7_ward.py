"""A ward over HL7 v2: records that are merged, beds and devices that move, results that go back."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from digital_twins.audit import tail_trail
from digital_twins.config import Settings
from digital_twins.hl7v2 import alert_message, parse, send_message
from digital_twins.server import Node
from digital_twins.server._results import RESULT, queue_results
from hl7_messages import PID, PID2, TYPES, adt, header, message, nurse_call, pv1, swap

if TYPE_CHECKING:
    from collections.abc import Iterator

EVA, MAX = "urn:oid:1.2.3|4711", "urn:oid:1.2.3|4712"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("node"),
        dicom_port=0,
        http_port=0,
        hl7_port=0,
        study_stable_seconds=3600,
        hl7_systems={"HOSP": "urn:oid:1.2.3"},
    )
    with Node(settings) as running:
        yield running


def sent(node: Node, data: bytes) -> str:
    return send_message(parse(data), "127.0.0.1", node.hl7_port)["MSA-1"]


def stored(node: Node, kind: str, **search: str) -> list[dict[str, Any]]:
    return [json.loads(hit.body) for hit in node.services.fhir.search(kind, search).hits]


def event(name: str, pid: str, bed: str, visit: str, clock: str) -> bytes:
    structure = {"A04": "A01", "A11": "A09", "A13": "A01"}.get(name, name)
    at = f"202603{clock}00+0000"
    return message(header(f"ADT^{name}^ADT_{structure}"), f"EVN|{name}|{at}", pid, pv1(bed, visit))


def when(clock: str) -> datetime:
    return datetime.strptime(f"202603{clock}", "%Y%m%d%H%M").replace(tzinfo=UTC)


def test_beds_and_devices_move_with_the_messages(node: Node) -> None:
    beds = node.services.beds
    for device, bed in (("MON1", "ONK/12/1"), ("MON2", "ONK/12/2"), ("MON3", "ONK/12/3")):
        beds.attach(device, when("010000"), bed=bed)
    assert sent(node, event("A01", PID, "2", "V100", "010800")) == "CA"
    assert sent(node, event("A01", PID2, "1", "V200", "010900")) == "CA"
    assert sent(node, swap()) == "CA"  # 11:30 UTC
    assert sent(node, swap()) == "CA"  # a message that comes twice changes nothing
    now = {d: beds.patient_of(d, when("011200")) for d in ("MON1", "MON2")}
    assert now == {"MON1": EVA, "MON2": MAX}
    assert [beds.patient_of(d, when("011129")) for d in ("MON1", "MON2")] == [MAX, EVA]
    assert sent(node, event("A02", PID, "3", "V100", "011300")) == "CA"
    assert [beds.patient_of(d, when("011330")) for d in ("MON1", "MON3")] == [None, EVA]
    assert sent(node, event("A12", PID, "1", "V100", "011310")) == "CA"
    assert [beds.patient_of(d, when("011330")) for d in ("MON1", "MON3")] == [EVA, None]
    assert sent(node, event("A03", PID, "1", "V100", "011400")) == "CA"
    assert beds.patient_of("MON1", when("011401")) is None
    assert sent(node, event("A13", PID, "1", "V100", "011410")) == "CA"
    assert beds.patient_of("MON1", when("011430")) == EVA
    assert sent(node, event("A11", PID, "1", "V100", "011500")) == "CA"
    assert beds.stays(EVA)[-1].bed == "ONK/12/2"
    (visit,) = stored(node, "Encounter", identifier="urn:oid:1.2.3|V100")
    assert visit["status"] == "cancelled"
    places = [(p["location"]["display"], p["status"]) for p in visit["location"]]
    assert places[-1] == ("ONK 12 1 HOSP", "active")
    assert all(status == "completed" for _, status in places[:-1])


def test_a_swap_of_somebody_in_no_bed_changes_nothing(node: Node) -> None:
    other = PID2.replace("4712", "4799")
    data = message(
        header("ADT^A17^ADT_A17"), "EVN|A17|20260302", PID2, pv1("", "V200"), other, pv1("", "V300")
    )
    assert sent(node, data) == "CE"
    assert stored(node, "Patient", identifier="urn:oid:1.2.3|4799") == []


def test_what_a_message_does_not_state_is_kept(node: Node) -> None:
    assert sent(node, adt("A31")) == "CA"
    (before,) = stored(node, "Patient", identifier=EVA)
    node.services.fhir.update({**before, "communication": [{"language": {"text": "French"}}]})
    short = 'PID|1||4711^^^HOSP^MR||Neu^Eva^^^^^L||||||||""'
    assert sent(node, adt("A08", pid=short)) == "CA"
    (after,) = stored(node, "Patient", identifier=EVA)
    assert after["name"][0]["family"] == "Neu"
    assert after["communication"] == [{"language": {"text": "French"}}]
    assert after["birthDate"] == before["birthDate"]
    assert after["address"] == before["address"]
    assert "telecom" in before
    assert "telecom" not in after  # stated as null
    assert {i["value"] for i in after["identifier"]} == {"4711", "99"}


def test_laboratory_pharmacy_and_nurse_calls(node: Node) -> None:
    for kind in ("OML", "RDE", "RDS"):
        assert sent(node, TYPES[kind]) == "CA"
    requests = stored(node, "ServiceRequest", category="108252007")
    assert sorted(r["code"]["coding"][0]["code"] for r in requests) == ["2951-2", "58410-2"]
    (specimen,) = stored(node, "Specimen")
    assert specimen["collection"]["collectedDateTime"].startswith("2026-03-01T07:45:00")
    (drug,) = stored(node, "MedicationRequest")
    dose = drug["dosageInstruction"][0]["doseAndRate"][0]["doseQuantity"]
    assert dose == {"value": 75, "unit": "mg/m2", "system": "http://unitsofmeasure.org", "code": "mg/m2"}
    assert drug["dosageInstruction"][0]["text"] == "over 2 hours"
    (given,) = stored(node, "MedicationDispense")
    assert given["quantity"]["value"] == 2
    assert sent(node, nurse_call()) == "CA"
    (call,) = stored(node, "Communication")
    assert (call["status"], call["priority"]) == ("in-progress", "urgent")
    assert call["payload"] == [{"contentString": "Bathroom pull cord"}]
    assert sent(node, nurse_call("end")) == "CA"
    assert [c["status"] for c in stored(node, "Communication")] == ["completed"]


def test_an_alert_of_ours_is_read_back(node: Node) -> None:
    out = alert_message(number="A1", patient="4711", bed="ONK/12/1", text="SpO2 low", at_utc=when("021000"))
    assert (out.kind, out["PV1-3.3"], out["OBX-5"]) == (("ORU", "R40"), "1", "SpO2 low")
    assert sent(node, out.to_bytes()) in {"AA", "CA"}
    found = [c for c in stored(node, "Communication") if c["payload"][0]["contentString"] == "SpO2 low"]
    assert (len(found), found[0]["priority"]) == (1, "stat")


def test_a_refused_message_is_in_the_trail(node: Node) -> None:
    assert sent(node, message(header("MDM^T02"), PID)) == "CR"
    node._trail.drain(node.services.database)
    found = [json.loads(row.event.to_json()) for row in tail_trail(node._trail.path, 10_000)]
    last = [each for each in found if each["kind"] == "hl7.message"][-1]
    assert (last["outcome"], last["agent"], last["detail"]) == (
        "refused",
        "hl7:KIS",
        {"code": "200", "message": "MDM_T02"},
    )
    assert "Muster" not in json.dumps(found)


def test_a_report_goes_back_as_a_result(node: Node) -> None:
    """The worker sends the report to the receiver: here the node's own port, which stores it anew."""
    services = node.services
    person = stored(node, "Patient", identifier=EVA)[0]
    measured = {
        "resourceType": "Observation",
        "id": "twin-volume",
        "status": "preliminary",
        "code": {"text": "Tumour volume"},
        "subject": {"reference": f"Patient/{person['id']}"},
        "valueQuantity": {"value": 12.5, "unit": "cm3", "system": "http://unitsofmeasure.org", "code": "cm3"},
    }
    report = {
        "resourceType": "DiagnosticReport",
        "id": "twin-report",
        "identifier": [{"system": "urn:oid:1.2.4", "value": "R1"}],
        "status": "preliminary",
        "code": {"text": "Digital twin"},
        "subject": {"reference": f"Patient/{person['id']}"},
        "result": [{"reference": "Observation/twin-volume"}],
        "conclusion": "Growth is slow.",
    }
    services.fhir.update(measured)
    services.fhir.update(report)
    services.results_to = f"127.0.0.1:{node.hl7_port}"
    references = ["Observation/twin-volume", "DiagnosticReport/twin-report"]
    for _ in range(2):
        services.database.write(lambda cursor: queue_results(services, cursor, references, 1))
    deadline = time.monotonic() + 60
    while (job := services.jobs.list(kind=RESULT)[0]).state not in {"succeeded", "failed"}:
        assert time.monotonic() < deadline, job
        time.sleep(0.1)
    assert (job.state, job.result, len(services.jobs.list(kind=RESULT))) == (
        "succeeded",
        {"answer": "AA"},
        1,
    )
    # The receiver knows the report by its identifier: it holds our OBX and the conclusion as a second one.
    (back,) = [r for r in stored(node, "DiagnosticReport") if r["id"] == "twin-report"]
    assert back["subject"]["reference"] == f"Patient/{person['id']}"
    assert (back["meta"]["versionId"], back["status"], len(back["result"])) == ("2", "preliminary", 2)
