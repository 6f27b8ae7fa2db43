"""Two nodes: what one gets it forwards to the other; the queue by HTTP, command line and metrics."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from dicom_peers import free_port
from dicom_support import ct_slice
from digital_twins import InputError, dicom
from digital_twins.cli import main
from digital_twins.config import DicomPeerSettings, DicomRouteSettings, Settings
from digital_twins.server import Node


def settings(folder: Path, **more: object) -> Settings:
    return Settings(data_dir=folder, dicom_port=0, http_port=0, workers=1, **more)  # type: ignore[arg-type]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_node_forwards_to_a_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    near = settings(
        tmp_path / "near",
        dicom_peers={"FAR": DicomPeerSettings(host="127.0.0.1", port=port)},
        dicom_routes=(DicomRouteSettings(destination="FAR", modalities=("CT",)),),
    )

    def twin(*words: str) -> object:
        assert main(["dicom", "queue", *words, "--data", str(near.data_dir), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    with Node(near) as node, httpx.Client(base_url=node.base_url) as http:
        dicom.send(dicom.Remote("127.0.0.1", node.dicom_port), [ct_slice(1), ct_slice(2)])
        wait_for(lambda: http.get("/api/queues").json()[0]["error"] != "")
        assert http.get("/api/queues").json()[0]["waiting"] == 2
        assert twin("pause", "FAR")["paused"] is True  # type: ignore[call-overload, index]
        assert 'twin_dicom_queue_paused{destination="FAR"} 1' in http.get("/metrics").text
        far = settings(tmp_path / "far", ae_title="FAR").model_copy(update={"dicom_port": port})
        with Node(far) as other:
            assert http.post("/api/queues/FAR/resume").json()["paused"] is False
            wait_for(lambda: http.get("/api/queues/FAR").json()["sent"] == 2)
            assert len(other.services.dicom.instances("1.2.3.1")) == 2
        text = http.get("/metrics").text
        assert "# TYPE twin_dicom_queue_sent_total counter" in text
        assert 'twin_dicom_queue_sent_total{destination="FAR"} 2' in text
        assert 'twin_dicom_queue_waiting{destination="FAR"} 0' in text
        assert http.post("/api/queues/FAR/replay").json()["dead"] == 0
        assert http.get("/api/queues/NOBODY").status_code == 404
        (listed,) = twin("list")  # type: ignore[misc]
        assert (listed["destination"], listed["sent"], listed["waiting"]) == ("FAR", 2, 0)
    assert main(["dicom", "queue", "replay", "NOBODY", "--data", str(near.data_dir)]) == 1
    assert main(["dicom", "queue", "list", "--data", str(tmp_path / "none")]) == 1


def test_a_node_does_not_start_with_a_rule_that_it_cannot_follow(tmp_path: Path) -> None:
    peers = {"FAR": DicomPeerSettings(host="127.0.0.1", port=104)}
    for number, rule in enumerate(
        (DicomRouteSettings(destination="NEAR"), DicomRouteSettings(destination="FAR", deidentify="basic"))
    ):
        wrong = settings(tmp_path / str(number), dicom_peers=peers, dicom_routes=(rule,))
        with pytest.raises(InputError, match="Routing rule 1"), Node(wrong):
            pass
    good = settings(tmp_path / "good", dicom_peers=peers, dicom_routes=(rule,))
    with Node(good, deidentifiers={"basic": lambda ds: ds}) as node:
        assert node.services.dicom.on_new is not None


def test_rules_from_the_file_and_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from digital_twins.config import load_settings

    file = tmp_path / "twin.toml"
    file.write_text('[[dicom_routes]]\ndestination = "FAR"\nmodalities = ["CT"]\nwhen = "study_stable"\n')
    rule = DicomRouteSettings(destination="FAR", modalities=("CT",), when="study_stable")
    assert load_settings(config_file=file).dicom_routes == (rule,)
    monkeypatch.setenv("TWIN_DICOM_ROUTES", '[{"destination": "FAR"}]')
    assert load_settings(config_file=file).dicom_routes == (DicomRouteSettings(destination="FAR"),)
