"""HTTP and WebSocket doors: who may do what, and that a reading becomes a tile and an alert."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from digital_twins.monitoring import (
    Association,
    MonitorPorts,
    MonitorService,
    StaffMember,
    monitor_app,
    run_monitor,
)

NOW_S = 1_764_064_500.0
DEVICE, OTHER = {"Authorization": "Bearer one"}, {"Authorization": "Bearer two"}
NURSE, VISITOR = {"Authorization": "Bearer n"}, {"Authorization": "Bearer v"}
LOW = {"t": NOW_S, "v": {"NIBP_SYS": 70}}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[MonitorService]:
    made = MonitorService(tmp_path, capacity=2, clock=lambda: NOW_S)
    yield made
    made.close()


def call(service: MonitorService, *requests: tuple[str, str, object, dict[str, str]]) -> list[httpx.Response]:
    """Send requests one after the other; a pass of the monitor after each."""
    staff = {"n": StaffMember("N. N.", "nurse"), "v": StaffMember("V. V.", "visitor")}
    app = monitor_app(service, devices={"D1": "one", "D2": "two"}, staff=staff)

    async def run() -> list[httpx.Response]:
        answers = []
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://monitor") as client:
            for method, path, body, headers in requests:
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                answers.append(await client.request(method, path, content=content, headers=headers))
                service.work()
        return answers

    return asyncio.run(run())


def associations() -> list[tuple[str, str, object, dict[str, str]]]:
    return [
        ("POST", "/associations", {"kind": kind, "subject": subject, "target": target, "since_s": 0}, NURSE)
        for kind, subject, target in (("device", "D1", "B1"), ("bed", "B1", "P1"))
    ]


def test_reading_becomes_tile_and_alert_and_is_acknowledged(service: MonitorService) -> None:
    answers = call(
        service,
        ("POST", "/readings/D1", LOW, DEVICE),  # before anybody said whose: quarantined, then released
        *associations(),
        ("GET", "/patients", b"", NURSE),
        ("GET", "/alerts", b"", NURSE),
        ("POST", "/alerts/1/acknowledge", b"", VISITOR),
        ("POST", "/alerts/1/acknowledge", b"", NURSE),
        ("POST", "/alerts/99/acknowledge", b"", NURSE),
        ("POST", "/shelves", {"patient": "P1", "key": "cuff_low", "for_s": 60}, NURSE),
        ("POST", "/shelves", {"patient": "P1", "key": "event:vf", "for_s": 60}, NURSE),
    )
    assert [each.status_code for each in answers] == [202, 201, 201, 200, 200, 400, 200, 404, 200, 409]
    tile = answers[3].json()["patients"][0]
    assert (tile["patient"], tile["bed"], tile["vitals"]["NIBP_SYS"]) == ("P1", "B1", 70.0)
    assert tile["status"] == "critical"
    assert [each["colour"] for each in answers[4].json()] == ["red", "yellow"]
    assert answers[6].json()["acknowledged_by"] == "N. N."


def test_beds_and_devices_are_told_by_who_may_and_shown(service: MonitorService) -> None:
    own = {"kind": "carried", "subject": "D2", "target": "P1"}  # from now on
    answers = call(
        service,
        *associations(),
        ("POST", "/associations", own, VISITOR),
        ("GET", "/associations", b"", VISITOR),
        ("POST", "/associations", own, NURSE),
        ("GET", "/associations", b"", NURSE),
        *(
            ("POST", "/associations", {**own, **wrong}, NURSE)
            for wrong in ({"kind": "room"}, {"target": ""}, {"subject": ""}, {"since_s": "soon"})
        ),
    )
    assert [each.status_code for each in answers] == [201, 201, 400, 200, 201, 200, 400, 400, 400, 400]
    assert "role" in answers[2].json()["why"]
    told = [each.json()["devices"] for each in (answers[3], answers[5])]
    first = {"device": "D1", "bed": "B1", "patient": "P1"}
    assert told[0] == [first, {"device": "D2", "bed": "", "patient": ""}]
    assert told[1] == [first, {"device": "D2", "bed": "B1", "patient": "P1"}]
    assert answers[5].json()["beds"] == [{"bed": "B1", "patient": "P1"}]


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", "/readings/D1", {}),
        ("POST", "/readings/D1", OTHER),
        ("POST", "/readings/D9", DEVICE),
        ("POST", "/readings/D1", NURSE),
        ("GET", "/patients", {}),
        ("GET", "/patients", DEVICE),
        ("GET", "/alerts", DEVICE),
        ("POST", "/associations", DEVICE),
        ("POST", "/alerts/1/acknowledge", DEVICE),
        ("POST", "/shelves", {}),
    ],
)
def test_nobody_is_let_in_by_the_wrong_door(
    service: MonitorService, method: str, path: str, headers: dict[str, str]
) -> None:
    assert call(service, (method, path, LOW, headers))[0].status_code == 401
    assert not service.intake.counts


def test_observation_of_another_device_is_refused_as_a_whole(service: MonitorService) -> None:
    def observation(device: str) -> dict[str, object]:
        return {
            "resourceType": "Observation",
            "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
            "device": {"reference": f"Device/{device}"},
            "effectiveDateTime": "2025-11-25T09:55:00Z",
            "valueQuantity": {"value": 80, "code": "/min"},
        }

    bundle = {"resourceType": "Bundle", "entry": [{"resource": observation(each)} for each in ("D1", "D2")]}
    answers = call(
        service, ("POST", "/fhir", bundle, DEVICE), ("POST", "/fhir/Observation", observation("D1"), DEVICE)
    )
    assert [each.status_code for each in answers] == [401, 202]
    assert service.intake.counts["quarantined"] == 1


def test_bodies_that_cannot_be_used(service: MonitorService) -> None:
    bodies = (b"", b"{", b"[1]", b"x" * 2_000_000, b'{"kind": "ward", "subject": "a", "since_s": 0}')
    answers = call(service, *(("POST", "/associations", body, NURSE) for body in bodies))
    assert {each.status_code for each in answers} == {400}
    assert all(set(each.json()) == {"error", "what", "why", "fix"} for each in answers)


def test_running_monitor_over_real_sockets(tmp_path: Path) -> None:
    """All doors at once: MQTT, WebSocket and HTTP readings, and the live stream of tiles."""
    devices, staff = tmp_path / "devices.yaml", tmp_path / "staff.yaml"
    devices.write_text("D1: one\nD2: two\n", encoding="utf-8")
    staff.write_text("n: {name: N. N., role: nurse}\n", encoding="utf-8")

    async def use(ports: dict[str, int]) -> tuple[dict[str, float], int]:
        from websockets.asyncio.client import connect
        from websockets.exceptions import ConnectionClosed, InvalidStatus

        base = f"127.0.0.1:{ports['http']}"
        async with httpx.AsyncClient(base_url=f"http://{base}") as client:
            for _, path, body, headers in associations():
                (await client.post(path, json=body, headers=headers)).raise_for_status()
            t = (await client.get("/patients", headers=NURSE)).json()["at_s"]
            (
                await client.post("/readings/D1", json={"t": t, "v": {"HR": 77}}, headers=DEVICE)
            ).raise_for_status()
            async with connect(f"ws://{base}/stream/D1", additional_headers=DEVICE) as socket:
                await socket.send(json.dumps({"t": t + 0.01, "v": {"SPO2": 96}}))
                await socket.send("poison")
                assert json.loads(await socket.recv())["error"] == "InputError"
            denied = 0
            try:
                async with connect(f"ws://{base}/stream/D1", additional_headers=OTHER) as socket:
                    await socket.recv()
            except (InvalidStatus, ConnectionClosed):
                denied = 1
            async with connect(f"ws://{base}/live", additional_headers=NURSE) as socket:
                for _ in range(5):
                    tiles = json.loads(await socket.recv())["patients"]
                    if tiles and tiles[0]["vitals"]["SPO2"]:
                        break
            await _sees_waveform(base, ports["mqtt"], t)
            return tiles[0]["vitals"], denied

    async def run() -> tuple[dict[str, float], int]:
        opened: asyncio.Future[dict[str, int]] = asyncio.get_running_loop().create_future()
        running = asyncio.create_task(
            run_monitor(
                tmp_path / "data", files=(devices, staff), ports=MonitorPorts(hl7=0), ready=opened.set_result
            )
        )
        try:
            ports = await asyncio.wait_for(opened, 60)
            assert set(ports) == {"http", "mqtt", "hl7"}
            return await use(ports)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    vitals, denied = asyncio.run(run())
    assert (vitals["HR"], vitals["SPO2"], denied) == (77.0, 96.0, 1)
    assert Association("bed", "B1", "P1", 0.0) in _reopened(tmp_path / "data")


async def _sees_waveform(base: str, mqtt: int, t: float) -> None:
    """A device publishes with its own name by paho; the bed's page gets it, and nobody without a token."""
    from paho.mqtt.client import CallbackAPIVersion, Client
    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosed, InvalidStatus

    def publish() -> None:
        client = Client(CallbackAPIVersion.VERSION2)
        client.username_pw_set("D1", "one")
        client.connect("127.0.0.1", mqtt)
        client.loop_start()
        form = {"t": t, "c": "MDC_PULS_OXIM_PLETH", "hz": 4, "v": [0.1, 0.2, None, 0.4]}
        client.publish("waveforms/D1", json.dumps(form), 1).wait_for_publish(30.0)
        client.disconnect()
        client.loop_stop()

    address = f"ws://{base}/patients/P1/waveforms"
    with pytest.raises((InvalidStatus, ConnectionClosed)):
        async with connect(address, additional_headers=DEVICE) as socket:
            await socket.recv()
    await asyncio.to_thread(publish)
    async with asyncio.timeout(60), connect(address, additional_headers=NURSE) as socket:
        while not (pieces := json.loads(await socket.recv())["waveforms"]):
            pass
    assert [(each["name"], each["v"]) for each in pieces] == [("Plethysmogram", [0.1, 0.2, None, 0.4])]


def _reopened(folder: Path) -> tuple[Association, ...]:
    service = MonitorService(folder)
    entries = service.associations.entries
    service.close()
    return entries


def browser(service: MonitorService) -> tuple[httpx.AsyncClient, str]:
    app = monitor_app(service, devices={"D1": "one"}, staff={"n": StaffMember("N. N.", "nurse")})
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://monitor"), "http://monitor"


def test_signed_in_browser_is_served_from_its_own_origin_only(service: MonitorService) -> None:
    async def run() -> list[int]:
        client, own = browser(service)
        async with client:
            seen = [(await client.post("/session", json={"token": "wrong"})).status_code]
            assert (await client.get("/session")).json() == {"name": None}
            answer = await client.post("/session", json={"token": "n"})
            cookie = answer.headers["set-cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=strict" in cookie
            assert (await client.get("/session")).json()["may_acknowledge"] is True
            seen.append((await client.get("/patients")).status_code)
            body = {"patient": "P", "key": "cuff_low", "for_s": 60}
            for origin in ("http://elsewhere", None, own):
                headers = {"origin": origin} if origin else {}
                seen.append((await client.post("/shelves", json=body, headers=headers)).status_code)
            seen.append((await client.get("/patients", headers={"origin": "http://elsewhere"})).status_code)
            seen.append((await client.delete("/session", headers={"origin": own})).status_code)
            client.cookies.update({"station": cookie.split("=", 1)[1].split(";")[0]})
            seen.append((await client.get("/patients")).status_code)
        return seen

    assert asyncio.run(run()) == [401, 200, 401, 401, 200, 401, 200, 401]


def test_page_carries_its_policy_and_the_bed_its_forecast(service: MonitorService) -> None:
    page, *_, trend, bed, ahead, missing, wrong = call(
        service,
        ("GET", "/", b"", {}),
        *associations(),
        ("POST", "/readings/D1", {"t": NOW_S - 5, "v": {"HR": 80, "NIBP_MEAN": 90, "SPO2": 99}}, DEVICE),
        ("POST", "/readings/D1", {"t": NOW_S, "v": {"HR": 82, "NIBP_MEAN": 88}}, DEVICE),
        ("GET", "/trends?code=MAP", b"", NURSE),
        ("GET", "/patients/P1", b"", NURSE),
        ("POST", "/patients/P1/what-if", {"fluid_ml": 500}, NURSE),
        ("GET", "/patients/P9", b"", NURSE),
        ("POST", "/patients/P1/what-if", {"fluid_ml": None}, NURSE),
    )
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert trend.json()["patients"]["P1"] == {"t": [NOW_S - 5, NOW_S], "v": [90.0, 88.0]}
    ahead_of = bed.json()["forecast"]
    assert ahead_of["minutes"][-1] == 30
    assert ahead_of["HR"]["low"][-1] < ahead_of["HR"]["mean"][-1] < ahead_of["HR"]["high"][-1]
    assert max(ahead_of["SPO2"]["high"]) <= 100
    assert {each["name"] for each in bed.json()["twin"]} >= {"arterial_pressure_mmhg", "log_vascular_tone"}
    pressure = {name: ahead.json()[name]["MAP"]["median"][-1] for name in ("without", "with")}
    assert pressure["with"] > pressure["without"]
    assert [missing.status_code, wrong.status_code] == [404, 400]
