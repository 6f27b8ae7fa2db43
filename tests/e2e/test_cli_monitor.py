"""``twin monitor``: what the source document's demonstration shows, and a monitor that is served."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from digital_twins.cli import main


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict:
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["monitor", "demo", "--speed", "0", "--json"]) == 0
    return json.loads(out.getvalue())


def test_three_patients_of_different_conditions_at_three_seconds(told: dict) -> None:
    assert told["synthetic"] is True
    assert told["interval_s"] == 3
    assert told["updates"] == 20 * 60 / 3
    assert len({each["condition"] for each in told["patients"]}) == 3


def test_the_one_who_deteriorates_is_critical_and_the_stable_one_normal(told: dict) -> None:
    status = {each["patient"]: each["status"] for each in told["patients"]}
    assert status["VIRTUAL-3"] == "critical"
    assert status["VIRTUAL-1"] == "normal"
    keys = {each["key"] for each in told["alerts"] if each["patient"] == "VIRTUAL-3"}
    assert {"news2_medium", "news2_high", "anomaly_forest", "anomaly_svm"} <= keys
    assert not [each for each in told["alerts"] if each["patient"] == "VIRTUAL-1"]


def test_both_methods_and_the_forecast_see_the_deterioration(told: dict) -> None:
    stable, _, septic = told["patients"]
    assert septic["isolation_forest"] > 0.5 > 0 > stable["isolation_forest"]
    assert septic["one_class_svm"] > 0.5 > 0 > stable["one_class_svm"]
    ahead = septic["forecast_15_min"]["ART_MEAN"]
    assert ahead["low"] < ahead["mean"] < ahead["high"]
    assert ahead["mean"] < stable["forecast_15_min"]["ART_MEAN"]["low"]


def test_record_is_replayed_with_its_dead_line_and_its_haemorrhage(told: dict) -> None:
    record = told["record"]
    assert record["synthetic"] is True
    assert record["minutes"] == pytest.approx(89.0)
    by_key = {each["key"]: each for each in record["alerts"]}
    assert "lead off" in by_key["technical:ART_SYS"]["text"]
    assert not [key for key in by_key if key.startswith("art_")]
    assert by_key["cuff_low"]["raised_s"] > 3600


def test_demo_for_people_ends_when_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["monitor", "demo", "--exit-after", "1", "--minutes", "1", "--speed", "0"]) == 0
    text = capsys.readouterr().out
    assert "SIMULATED" in text
    assert "VIRTUAL-3" in text


def test_serve_opens_its_ports_and_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    devices, staff = tmp_path / "devices.yaml", tmp_path / "staff.yaml"
    devices.write_text("D1: secret\n", encoding="utf-8")
    staff.write_text("token: {name: A, role: nurse}\n", encoding="utf-8")
    words = ["monitor", "serve", "--devices", str(devices), "--staff", str(staff), "--http-port", "0"]
    words += [
        "--mqtt-port",
        "0",
        "--hl7-port",
        "0",
        "--data",
        str(tmp_path / "d"),
        "--exit-after",
        "0.3",
        "--json",
    ]
    assert main(words) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"http", "mqtt", "hl7"}
    staff.write_text("token: nurse\n", encoding="utf-8")
    assert main(words) == 1


def test_demo_shows_its_patients_on_the_central_station_as_simulated() -> None:
    import asyncio

    import httpx

    from digital_twins.monitoring import VirtualWard, open_ward

    async def run() -> tuple[dict, list[dict], int]:
        ward = VirtualWard()
        for _ in range(4):
            ward.step()
        async with open_ward(ward) as address:
            base, token = address.split("/#token=")
            async with httpx.AsyncClient(base_url=base, headers={"origin": base}) as client:
                assert "Central station" in (await client.get("/")).text
                who = (await client.post("/session", json={"token": token})).json()
                patients = (await client.get("/patients")).json()["patients"]
            async with httpx.AsyncClient(base_url=base) as nobody:
                stranger = await nobody.get("/patients")
        return who, patients, stranger.status_code

    who, patients, stranger = asyncio.run(run())
    assert who["simulated"] is True
    assert who["may_acknowledge"] is True
    assert sorted(each["patient"] for each in patients) == ["VIRTUAL-1", "VIRTUAL-2", "VIRTUAL-3"]
    assert all(each["vitals"]["HR"] for each in patients)
    assert stranger == 401


def test_demo_at_a_speed_prints_the_address_of_its_station(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["monitor", "demo", "--exit-after", "1", "--minutes", "1", "--speed", "60"]) == 0
    assert "http://127.0.0.1:" in capsys.readouterr().out
