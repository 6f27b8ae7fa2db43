"""The SDC door against the provider of the library ``sdc11073``: values, alarm and waveform reach the bed."""

from __future__ import annotations

import asyncio
import json
import math
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import pytest

from digital_twins import InputError, NotFoundError
from digital_twins.audit import OUTBOX_MIGRATIONS, Auditor
from digital_twins.crypto import create_authority, issue_certificate
from digital_twins.monitoring import (
    Association,
    MonitorPorts,
    MonitorService,
    Reading,
    SdcDevice,
    SdcFeed,
    SdcPlan,
    SdcTls,
    WardSize,
    open_monitor_database,
    read_sdc,
    run_monitor,
    run_ward,
)
from digital_twins.monitoring.storage import AccessTrail, Line, reading_of
from digital_twins.storage import Database
from sdc_provider import SimulatedSdcDevice

pytestmark = [
    pytest.mark.peers,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore:commlog module is deprecated:DeprecationWarning"),
]


async def until(condition, seconds: float = 90.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def placed(service: MonitorService, device: str) -> None:
    service.associate(Association("device", device, "B1", 0.0))
    service.associate(Association("bed", "B1", "P1", 0.0))


def shown(service: MonitorService, code: str) -> float | None:
    if "P1" not in service.monitor.patients:
        return None
    return service.monitor.view("P1", now_s=time.time())["vitals"][code]


def feed(service: MonitorService, devices: list[SdcDevice], tls: SdcTls | None = None) -> SdcFeed:
    return SdcFeed(
        devices,
        take=lambda reading: service.intake.offer(reading, received_s=service.clock()),
        wave=lambda name, piece: service.waveforms.offer(name, piece, received_s=service.clock()),
        tls=tls,
    )


def test_values_alarm_and_waveform_of_a_device_reach_the_bed_and_it_is_found_again(tmp_path: Path) -> None:
    ecg = [round(0.01 * n, 2) for n in range(50)]

    async def run() -> tuple[dict[str, float | None], list[str], list[float | None], float]:
        with ExitStack() as stack:
            device = stack.enter_context(SimulatedSdcDevice())
            device.measure({"hr": 71.0, "unknown": 5.0})  # known before anybody asks
            async with MonitorService(tmp_path, capacity=1) as service:
                placed(service, "SDC-1")
                async with feed(service, [SdcDevice("SDC-1", address=device.address)]) as following:
                    await until(lambda: "SDC-1" in following.connected)
                    await until(lambda: shown(service, "HR") == 71.0)
                    await asyncio.to_thread(device.measure, {"hr": 72.0, "spo2": 97.0})
                    await asyncio.to_thread(device.measure, {"art": 80.0})
                    await asyncio.to_thread(device.alarm, time.time())
                    await until(service.monitor.alerts.open_alerts)
                    while not service.waveforms.counts["taken"]:  # a lost session misses a piece
                        await asyncio.to_thread(device.wave, time.time(), ecg)
                        await asyncio.sleep(0.5)
                    await until(lambda: shown(service, "SPO2") == 97.0)
                    view = service.monitor.view("P1", now_s=time.time())
                    waves = service.waveforms.fresh("P1", {}, now_s=time.time())
                    device.end()
                    await until(lambda: not following.connected)
                return (
                    view["vitals"],
                    [each["key"] for each in view["alerts"]],
                    waves[0]["v"][-50:],
                    waves[0]["hz"],
                )

    vitals, alerts, samples, hz = asyncio.run(run())
    assert (vitals["HR"], vitals["SPO2"], vitals["ART_MEAN"]) == (72.0, 97.0, None)
    assert alerts == ["event:mdc-196674"]
    assert (samples, hz) == (ecg, 250.0)


def test_a_value_that_the_device_does_not_vouch_for_is_missing() -> None:
    told: list[Reading] = []

    async def run() -> None:
        with SimulatedSdcDevice() as device:
            here = SdcDevice("SDC-1", address=device.address)
            async with SdcFeed([here], take=told.append, wave=lambda *_: None) as following:
                await until(lambda: following.connected)
                await asyncio.to_thread(device.measure, {"hr": 72.0}, valid=False)
                await until(lambda: told)
                await asyncio.to_thread(device.measure, {"hr": 73.0})
                await until(lambda: told[-1].values["HR"] == 73.0)

    asyncio.run(run())
    assert len(told) > 1
    assert all(math.isnan(each.values["HR"]) for each in told[:-1])
    assert told[0].device_time_s < told[-1].device_time_s
    assert told[0].sequence < told[-1].sequence


def test_a_device_over_tls_shows_a_certificate_of_the_authority_or_is_not_followed(tmp_path: Path) -> None:
    told: list[Reading] = []
    ours, other = create_authority(tmp_path / "ours"), create_authority(tmp_path / "other")
    monitor, device_file, foreign = (
        issue_certificate(authority.parent, name, hosts=("127.0.0.1",), purpose="both")
        for authority, name in ((ours, "monitor"), (ours, "device"), (other, "foreign"))
    )

    async def run() -> set[str]:
        with ExitStack() as stack:
            devices = [
                stack.enter_context(SimulatedSdcDevice(tls=(own, own.with_suffix(".key"), root)))
                for own, root in ((device_file, ours), (foreign, other))
            ]
            named = [SdcDevice(f"SDC-{n}", address=each.address) for n, each in enumerate(devices)]
            assert all(each.address.startswith("https://") for each in named)
            tls = SdcTls(monitor, monitor.with_suffix(".key"), ours)
            async with SdcFeed(named, take=told.append, wave=lambda *_: None, tls=tls) as following:
                await until(lambda: following.connected)
                await asyncio.to_thread(devices[0].measure, {"hr": 72.0})
                await until(lambda: told)
                return {each.device for each in told} | (following.connected - {"SDC-0"})

    assert asyncio.run(run()) == {"SDC-0"}


def test_tls_1_2_only_for_the_device_that_may_and_it_is_audited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two devices that know no TLS 1.3, of which one may; and a modern one whose session is no event."""
    ours = create_authority(tmp_path / "ours")
    own, monitor = (
        issue_certificate(ours.parent, name, hosts=("127.0.0.1",), purpose="both") for name in ("d", "m")
    )
    auditor = Auditor("WARD", b"k" * 32)
    lost: list[str] = []
    log = SimpleNamespace(info=lambda *_, **__: None, warning=lambda _, **said: lost.append(said["peer"]))
    monkeypatch.setattr("digital_twins.monitoring.ingest._sdc._log", log)

    async def run(database: Database) -> tuple[set[str], list[dict[str, Any]]]:
        with ExitStack() as stack:
            files = (own, own.with_suffix(".key"), ours)
            devices = [
                stack.enter_context(SimulatedSdcDevice(tls=files, old=each)) for each in (True, True, False)
            ]
            named = [
                SdcDevice(name, address=each.address, tls_1_2=may)
                for name, each, may in zip(("MAY", "NOT", "NEW"), devices, (True, False, False), strict=True)
            ]
            tls = SdcTls(monitor, monitor.with_suffix(".key"), ours)
            trail = AccessTrail(database, auditor)
            async with SdcFeed(named, take=print, wave=print, tls=tls, trail=trail) as following:
                await until(lambda: following.connected >= {"MAY", "NEW"})
                await until(lambda: lost.count("NOT") >= 2)
                connected = set(following.connected)
        with database.read() as connection:
            rows = connection.execute("SELECT body FROM audit_outbox").fetchall()
        return connected, [json.loads(str(body)) for (body,) in rows]

    with Database(tmp_path / "monitor.sqlite", migrations=OUTBOX_MIGRATIONS) as database:
        connected, events = asyncio.run(run(database))
    assert connected == {"MAY", "NEW"}
    told = [(each["kind"], each["agent"], each["detail"]) for each in events]
    assert told == [("monitor.tls", "device:MAY", {"version": "TLSv1.2"})]


def test_what_cannot_be_followed_is_refused_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="is not https"):
        SdcDevice("D", address="http://10.0.0.7:6464/x")
    with pytest.raises(InputError, match="neither epr nor address"):
        SdcDevice("D")
    away = SdcDevice("D", address="https://10.0.0.7:6464/x")
    with pytest.raises(InputError, match="no certificates"):
        SdcFeed([away], take=lambda _: None, wave=lambda *_: None)
    with pytest.raises(InputError, match="no certificates"):
        SdcFeed([SdcDevice("D", "urn:uuid:1")], take=print, wave=print, interface="10.0.0.1")
    monkeypatch.setitem(sys.modules, "sdc11073", None)
    with pytest.raises(NotFoundError, match="sdc11073"):
        SdcFeed([], take=lambda _: None, wave=lambda *_: None)


def test_a_file_names_the_devices(tmp_path: Path) -> None:
    file = tmp_path / "sdc.yaml"
    file.write_text(
        "interface: 10.1.2.3\n"
        "tls: {certificate: node.pem, key: node.key, authority: ca.pem}\n"
        "devices:\n"
        "  MON-7: {epr: 'urn:uuid:1'}\n"
        "  MON-8: {address: 'https://10.1.2.9:6464/monitor', tls_1_2: true}\n",
        encoding="utf-8",
    )
    plan = read_sdc(file)
    assert plan.interface == "10.1.2.3"
    assert plan.tls == SdcTls(tmp_path / "node.pem", tmp_path / "node.key", tmp_path / "ca.pem")
    assert plan.devices[0] == SdcDevice("MON-7", epr="urn:uuid:1")
    assert [each.tls_1_2 for each in plan.devices] == [False, True]
    for text in (
        "tls: {certificate: a, key: b, authority: c, tls_1_2: true}\ndevices: {}",
        "",
        "devices: 7",
        "devices: {A: {port: 7}}",
        "devices: {}\nother: 1",
        "{",
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match="file of SDC devices"):
            read_sdc(file)


@pytest.mark.timeout(600)
def test_a_ward_in_parts_follows_a_device(tmp_path: Path, *, full: bool) -> None:
    """The front follows it and its reading is the mail of a part; in the full run a worker shows it."""
    (tmp_path / "devices.yaml").write_text("D1: one\n", encoding="utf-8")
    (tmp_path / "staff.yaml").write_text("n: {name: N. N., role: nurse}\n", encoding="utf-8")
    nurse = {"Authorization": "Bearer n"}

    async def run(device: SimulatedSdcDevice) -> list[tuple[str, dict[str, float]]] | float:
        opened: asyncio.Future[dict[str, int]] = asyncio.get_running_loop().create_future()
        ports = MonitorPorts(sdc=SdcPlan((SdcDevice("SDC-1", address=device.address),)))
        files = tmp_path / "devices.yaml", tmp_path / "staff.yaml"
        size = WardSize(1 if full else 0, parts=2)
        running = asyncio.create_task(
            run_ward(tmp_path / "data", files=files, ports=ports, size=size, ready=opened.set_result)
        )
        try:
            base = f"http://127.0.0.1:{(await asyncio.wait_for(opened, 120))['http']}"
            await asyncio.to_thread(device.measure, {"hr": 72.0})
            with open_monitor_database(tmp_path / "data", parts=None) as database:
                if not full:
                    await until(lambda: mail(database), 120)
                    return mail(database)
            async with httpx.AsyncClient(base_url=base, headers=nurse, timeout=60) as client:
                for kind, subject, target in (("device", "SDC-1", "B1"), ("bed", "B1", "P1")):
                    entry = {"kind": kind, "subject": subject, "target": target, "since_s": 0}
                    async with asyncio.timeout(240):
                        while (await client.post("/associations", json=entry)).is_error:
                            await asyncio.sleep(0.5)
                async with asyncio.timeout(240):
                    while not (tiles := (await client.get("/patients")).json()["patients"]):
                        await asyncio.sleep(0.2)
                return float(tiles[0]["vitals"]["HR"])
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    with SimulatedSdcDevice() as device:
        found = asyncio.run(run(device))
    assert found == (72.0 if full else [("SDC-1", {"HR": 72.0})])


def mail(database: Database) -> list[tuple[str, dict[str, float]]]:
    """Devices and values of the readings that wait for a part."""
    with database.read() as connection:
        rows = connection.execute("SELECT data FROM monitor_mail").fetchall()
    lines = [line for (data,) in rows for line in msgspec.msgpack.decode(bytes(data), type=list[Line])]
    return [(reading.device, dict(reading.values)) for reading, _ in map(reading_of, lines)]


@pytest.mark.timeout(300)
def test_the_command_follows_a_device_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "devices.yaml").write_text("D1: one\n", encoding="utf-8")
    (tmp_path / "staff.yaml").write_text("n: {name: N. N., role: nurse}\n", encoding="utf-8")
    nurse = {"Authorization": "Bearer n"}

    async def run(device: SimulatedSdcDevice) -> float:
        opened: asyncio.Future[dict[str, int]] = asyncio.get_running_loop().create_future()
        plan = SdcPlan((SdcDevice("SDC-1", address=device.address),))
        files = tmp_path / "devices.yaml", tmp_path / "staff.yaml"
        running = asyncio.create_task(
            run_monitor(tmp_path / "data", files=files, ports=MonitorPorts(sdc=plan), ready=opened.set_result)
        )
        try:
            base = f"http://127.0.0.1:{(await asyncio.wait_for(opened, 90))['http']}"
            async with httpx.AsyncClient(base_url=base, headers=nurse) as client:
                for kind, subject, target in (("device", "SDC-1", "B1"), ("bed", "B1", "P1")):
                    entry = {"kind": kind, "subject": subject, "target": target, "since_s": 0}
                    (await client.post("/associations", json=entry)).raise_for_status()
                await asyncio.to_thread(device.measure, {"hr": 72.0})
                async with asyncio.timeout(120):
                    while not (tiles := (await client.get("/patients")).json()["patients"]):
                        await asyncio.sleep(0.1)
                return float(tiles[0]["vitals"]["HR"])
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    with SimulatedSdcDevice() as device:
        assert asyncio.run(run(device)) == 72.0


def test_a_device_is_found_by_its_endpoint_reference(full: bool) -> None:
    if not full:
        pytest.skip("multicast on the loopback interface: only in the full run")
    told: list[Reading] = []

    async def run() -> None:
        with SimulatedSdcDevice(discoverable=True) as device:
            named = [SdcDevice("SDC-1", epr=device.epr)]
            async with SdcFeed(named, take=told.append, wave=lambda *_: None) as following:
                await until(lambda: following.connected)
                await asyncio.to_thread(device.measure, {"hr": 72.0})
                await until(lambda: told)

    asyncio.run(run())
    assert told[0].values == {"HR": 72.0}
