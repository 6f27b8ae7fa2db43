"""HL7 v2 into a running node: record, worklist and trail, each message one transaction with one event."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from digital_twins import InputError
from digital_twins.audit import tail_trail
from digital_twins.cli import main
from digital_twins.config import Settings
from digital_twins.dicom import Worklist
from digital_twins.hl7v2 import parse, send_message
from digital_twins.server import Node
from hl7_messages import PID, TYPES, adt, header, message, orm, oru

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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


def sent(node: Node, data: bytes) -> tuple[str, str]:
    answer = send_message(parse(data), "127.0.0.1", node.hl7_port)
    return answer["MSA-1"], answer["ERR-3"]


def stored(node: Node, kind: str, **search: str) -> list[dict[str, Any]]:
    return [json.loads(hit.body) for hit in node.services.fhir.search(kind, search).hits]


def events(node: Node) -> list[dict[str, Any]]:
    """Every event of the trail whose agent is an HL7 sender, after the outbox has been drained."""
    node._trail.drain(node.services.database)
    found = [json.loads(row.event.to_json()) for row in tail_trail(node._trail.path, 10_000)]
    return [each for each in found if each["agent"].startswith("hl7:")]


def test_admission_to_discharge_is_one_patient_and_one_visit(node: Node) -> None:
    before = len(events(node))
    for event in ("A04", "A01", "A02", "A08", "A03", "A13", "A31"):
        assert sent(node, adt(event)) == ("CA", "")
    (patient,) = stored(node, "Patient", identifier="urn:oid:1.2.3|4711")
    (visit,) = stored(node, "Encounter", identifier="urn:oid:1.2.3|V100")
    assert patient["meta"]["versionId"] == "7"
    assert (visit["status"], visit["meta"]["versionId"]) == ("in-progress", "7")
    assert visit["subject"]["reference"] == f"Patient/{patient['id']}"
    after = events(node)
    assert len(after) - before == 7
    assert {each["agent"] for each in after} == {"hl7:KIS"}
    assert all(each["patient"] for each in after)
    assert "Muster" not in json.dumps(after)


def test_results_that_come_twice_are_stored_once(node: Node) -> None:
    for _ in range(2):
        assert sent(node, oru()) == ("CA", "")
    assert len(stored(node, "Observation", status="final")) == 10
    (report,) = stored(node, "DiagnosticReport", status="final")
    assert len(report["result"]) == 10


def test_an_order_is_on_the_worklist_until_it_is_cancelled(node: Node) -> None:
    worklist = Worklist(node.services.dicom)
    before = len(events(node))
    assert sent(node, orm("NW")) == ("CA", "")
    (item,) = worklist.items()
    assert (item.study_uid, item.modality, item.patient_id) == ("1.2.3.4.5", "CT", "4711")
    assert sent(node, orm("CA")) == ("CA", "")
    assert worklist.items() == []
    (request,) = stored(node, "ServiceRequest", status="revoked")
    assert request["meta"]["versionId"] == "2"
    assert len(events(node)) - before == 2


def test_a_merge_links_both_patients(node: Node) -> None:
    assert sent(node, TYPES["A40"]) == ("CA", "")
    (old,) = stored(node, "Patient", identifier="urn:oid:1.2.3|0815")
    (new,) = stored(node, "Patient", identifier="urn:oid:1.2.3|4711")
    assert old["link"] == [{"other": {"reference": f"Patient/{new['id']}"}, "type": "replaced-by"}]
    assert new["link"] == [{"other": {"reference": f"Patient/{old['id']}"}, "type": "replaces"}]


def test_what_is_refused_leaves_nothing(node: Node) -> None:
    count = node.services.fhir.count("Patient")
    pid = PID.replace("4711", "666")
    assert sent(node, message(header("MDM^T02"), pid)) == ("CR", "200")
    assert sent(node, message(header("ADT^A01"), pid)) == ("CE", "101")
    assert sent(node, orm("QQ").replace(b"4711", b"666")) == ("CE", "103")
    assert node.services.fhir.count("Patient") == count


def test_an_order_that_the_record_refuses_is_not_on_the_worklist(node: Node) -> None:
    twice = {"resourceType": "Patient", "identifier": [{"system": "urn:oid:1.2.3", "value": "777"}]}
    for _ in range(2):
        node.services.fhir.create(twice)
    worklist = Worklist(node.services.dicom)
    before = (len(worklist.items(finished=True)), len(events(node)))
    order = orm().replace(b"4711", b"777").replace(b"SPS1", b"SPS7")
    assert sent(node, order) == ("CE", "207")
    assert len(worklist.items(finished=True)) == before[0]
    (refused,) = events(node)[before[1] :]
    assert (refused["kind"], refused["outcome"], refused["patient"]) == ("hl7.message", "refused", None)
    assert refused["detail"] == {"code": "207", "message": "ORM_O01"}


def test_the_command_line_sends_and_parses(
    node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "day.hl7"
    file.write_bytes(oru() + adt("A08"))
    assert main(["hl7", "send", str(file), "--to", f"127.0.0.1:{node.hl7_port}", "--json"]) == 0
    assert [each["code"] for each in json.loads(capsys.readouterr().out)] == ["CA", "CA"]
    assert main(["hl7", "parse", str(file), "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree[0][1]["fields"]["3"][0][0] == ["4711"]
    assert main(["hl7", "parse", str(file), "--fhir"]) == 0
    assert json.loads(capsys.readouterr().out)[1]["type"] == "transaction"
    file.write_bytes(message(header("MDM^T02"), PID))
    assert main(["hl7", "send", str(file), "--to", f"127.0.0.1:{node.hl7_port}"]) == 1
    assert "CR 200" in capsys.readouterr().out
    assert main(["hl7", "send", str(file), "--to", "nowhere"]) == 1


def test_settings_that_cannot_be_used(tmp_path: Path) -> None:
    ports = {"dicom_port": 0, "http_port": 0, "hl7_port": 0}
    for wrong in ({"hl7_timezone": "Mars/Olympus"}, {"hl7_tls": True}):
        with pytest.raises(InputError), Node(Settings(data_dir=tmp_path, **ports, **wrong)):
            pass
