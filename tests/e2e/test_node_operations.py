"""An archive and a node: priors on order, withdrawn objects, merges, retention; by HTTP and command line."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from dicom_peers import free_port
from dicom_support import ct_slice, file_bytes, listening, open_store
from digital_twins import dicom, hl7v2
from digital_twins.cli import main
from digital_twins.config import (
    DicomCoercionSettings,
    DicomPeerSettings,
    DicomPrefetchSettings,
    DicomRetentionSettings,
    Settings,
    load_settings,
)
from digital_twins.server import Node
from hl7_messages import header

ORDER = "\r".join(
    [
        header("ORM^O01^ORM_O01"),
        "PID|1||P1^^^HOSP^MR||Doe^Jane||19600102|F",
        "ORC|NW|9001|||SC",
        "OBR|1|9001||CT0001^CT chest^L" + "|" * 20 + "CT|||^^^20300101080000",
    ]
)
MERGE = "\r".join(
    [header("ADT^A40^ADT_A39"), "PID|1||P9^^^HOSP^MR||Doe^Jane||19600102|F", "MRG|P1^^^HOSP^MR"]
)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def prior(number: int, *, part: str = "CHEST", day: str = "20240110", modality: str = "CT") -> bytes:
    ds = ct_slice(1, study=str(number), series=f"{number}.1")
    ds.StudyDate, ds.Modality = day, modality
    if part:
        ds.BodyPartExamined = part
    return file_bytes(ds)


def test_what_an_operator_does_to_stored_objects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    settings = Settings(
        data_dir=tmp_path / "node",
        dicom_port=0,
        http_port=0,
        hl7_port=0,
        workers=1,
        dicom_peers={"PACS": DicomPeerSettings(host="127.0.0.1", port=port)},
        dicom_prefetch=(
            DicomPrefetchSettings(source="PACS", modalities=("CT",), body_parts=("CHEST",), max_studies=2),
        ),
        dicom_coercions=(DicomCoercionSettings(calling=("SCANNER",), set={"InstitutionName": "General"}),),
        dicom_retention=(DicomRetentionSettings(older_than_days=30),),
        dicom_retention_hours=0,
    )
    toml = tmp_path / "twin.toml"
    toml.write_text("[[dicom_retention]]\nolder_than_days = 30\n")

    def twin(*words: str) -> object:
        assert main(["dicom", *words, "--data", str(settings.data_dir), "--config", str(toml)]) == 0
        out = capsys.readouterr().out
        return json.loads(out) if "--json" in words else out

    with open_store(tmp_path / "pacs") as pacs, Node(settings) as node:
        for file in (
            prior(1),
            prior(2, part=""),
            prior(3, part="FOOT"),
            prior(4, day="19990101"),
            prior(5, modality="US"),
        ):
            pacs.ingest(file)
        http = httpx.Client(base_url=node.base_url, timeout=60)
        # an order comes while the archive is down; then it answers
        assert node.services.prefetch.request("P1", agent="test")[0].state == "waiting"
        wait_for(lambda: any(each["error"] for each in http.get("/api/prefetch").json()))
        node.services.prefetch.backoff = dicom.Backoff(0.1, 0.1)
        with listening(pacs, on_port=port, ae_title="PACS"):
            echo = http.post("/api/peers/PACS/echo").json()
            assert (echo["echo_ok"], echo["echo_error"]) == (True, "")
            assert http.post("/api/peers/NOBODY/echo").status_code == 404
            hl7v2.send_message(hl7v2.parse(ORDER.encode()), "127.0.0.1", node.hl7_port)
            wait_for(lambda: [e["state"] for e in http.get("/api/prefetch").json()] == ["done", "done"])
            done = http.get("/api/prefetch").json()
            assert {(each["found"], each["source"]) for each in done} == {(2, "PACS")}
            assert sorted(each["fetched"] for each in done) == [0, 2]  # the second order lacks nothing
        found = node.services.dicom.search(dicom.Query(dicom.Level.STUDY))
        assert sorted(str(each["StudyInstanceUID"]) for each in found) == ["1.2.3.1", "1.2.3.2"]
        assert 'twin_dicom_prefetch{source="PACS",state="done"} 2' in http.get("/metrics").text
        # coercion of the settings, and the peer's book
        scanner = dicom.Remote("127.0.0.1", node.dicom_port, calling_ae="SCANNER")
        dicom.send(scanner, [ct_slice(2, study="7", series="7.1")])
        assert node.services.dicom.dataset("1.2.3.7.1.2").InstitutionName == "General"
        peers = {each["ae_title"]: each for each in http.get("/api/peers").json()}
        assert peers["(others)"]["associations"] == 1
        assert 'twin_dicom_peer_echo_ok{peer="PACS"} 1' in http.get("/metrics").text
        # a twin version that was made from an object which is then withdrawn
        twin_version = ("twin-1", 3)
        node.services.database.write(
            lambda cursor: node.services.stale.depends_in(cursor, twin_version, ["1.2.3.7.1.2"])
        )
        asked = {"reason": "113037", "study_uid": "1.2.3.7", "description": "wrong patient"}
        note = http.post("/api/rejections", json=asked).json()
        assert note["sop_uids"] == ["1.2.3.7.1.2"]
        (mark,) = node.services.stale.of(*twin_version)
        assert (mark.kind, mark.reference) == ("withdrawn", note["note"])
        assert http.get("/dicom-web/studies", params={"StudyInstanceUID": "1.2.3.7"}).status_code == 204
        assert {each["sop_uid"] for each in http.get("/api/rejections").json()} == {
            "1.2.3.7.1.2",
            note["note"],
        }
        assert "twin_dicom_withdrawn 2" in http.get("/metrics").text
        assert http.post(f"/api/rejections/{note['note']}/restore").json() == []
        assert node.services.stale.of(*twin_version) == []
        told = twin("reject", "1.2.3.7", "--reason", "113038", "--instance", "1.2.3.7.1.2", "--json")
        assert told["sop_uids"] == ["1.2.3.7.1.2"]  # type: ignore[index, call-overload]
        assert "2 objects" in str(twin("restore", told["note"]))  # type: ignore[index, call-overload]
        # a merge by HL7 moves images too, and can be undone
        hl7v2.send_message(hl7v2.parse(MERGE.encode()), "127.0.0.1", node.hl7_port)
        (merge,) = http.get("/api/merges").json()
        assert len(merge["studies"]) == 3
        answers = dicom.find(scanner, {"PatientID": "P9", "StudyInstanceUID": ""})
        assert len(answers) == 3
        assert http.post(f"/api/merges/{merge['id']}/undo").json()["undone_utc"]
        key = merge["prior"]
        again = http.post(f"/api/patients/{key}/merge", json={"into": "P8"}).json()
        assert len(again["studies"]) == 3
        twin("unmerge", str(again["id"]))
        moved = twin("merge", "P1", "P8", "--json")
        assert len(moved["studies"]) == 3  # type: ignore[index, call-overload]
        # retention
        old = datetime(2024, 1, 1, tzinfo=UTC).isoformat()
        node.services.database.write(
            lambda cursor: cursor.execute(
                "UPDATE dicom_instance SET received_utc = ? WHERE sop_uid <> '1.2.3.7.1.2'", (old,)
            ).fetchall()
        )
        assert "held" in str(twin("hold", "1.2.3.1", "--reason", "case 12"))
        assert http.put("/api/holds/1.2.3.9", json={"reason": "case 13"}).json()[1]["agent"] == "web"
        assert len(http.delete("/api/holds/1.2.3.9").json()) == 1
        plan = {
            each["study_uid"]: each["kept_because"] for each in http.get("/api/retention").json()["items"]
        }
        assert plan == {"1.2.3.1": "legal hold", "1.2.3.2": ""}
        dry = twin("retention", "--dry-run", "--json")
        assert (dry["dry_run"], len(dry["items"])) == (True, 2)  # type: ignore[index, call-overload]
        assert "bytes freed" in str(twin("retention"))
        assert http.get("/dicom-web/studies", params={"StudyInstanceUID": "1.2.3.2"}).status_code == 204
        assert twin("holds", "--json")[0]["reason"] == "case 12"  # type: ignore[index, call-overload]
        twin("release", "1.2.3.1")
        assert http.post("/api/retention").json()["freed_bytes"] > 0
        assert http.get("/api/holds").json() == []
        http.close()
    assert main(["dicom", "retention", "--data", str(tmp_path / "none")]) == 1


def test_operation_rules_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "twin.toml"
    file.write_text(
        '[[dicom_coercions]]\ncalling = ["CT1"]\n[dicom_coercions.set]\nInstitutionName = "General"\n'
        '[[dicom_prefetch]]\nsource = "PACS"\nmax_age_days = 700\n'
        '[[dicom_retention]]\nmodalities = ["US"]\nolder_than_days = 400\ncommitted_by = "PACS"\n'
    )
    found = load_settings(config_file=file)
    assert found.dicom_coercions[0].set == {"InstitutionName": "General"}
    assert found.dicom_prefetch[0].max_age_days == 700
    assert found.dicom_retention[0].committed_by == "PACS"
