"""The running monitor: its formats, its storage over a restart, and HL7 v2 over a real MLLP port."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from digital_twins import InputError, StorageError
from digital_twins.hl7v2 import MllpClient, parse, start_mllp
from digital_twins.monitoring import (
    COLUMN,
    VITALS,
    Association,
    BrokerAddress,
    History,
    MonitorService,
    Reading,
    decode_reading,
    observation_readings,
    oru_readings,
)
from hl7_messages import PCIM_BEGIN, PID, header, message, pcim

ORU = (
    b"MSH|^~\\&|GATEWAY|ICU|TWIN|HOSP|20261125101500+0000||ORU^R01^ORU_R01|7|P|2.6|||AL|NE\r"
    b"PID|||SOMEBODY^^^HOSP^MR\r"
    b"OBR|1|O7|F7|182777000^monitoring of patient^SCT|||20261125101459.250+0100\r"
    b"OBX|1||69965^MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS^MDC|1.0.0.0|||||||X|||||||MON7\r"
    b"OBX|2|NM|147842^MDC_ECG_HEART_RATE^MDC|1.1.1.1|131|264864^MDC_DIM_BEAT_PER_MIN^MDC|||||R|||||||MON7\r"
    b"OBX|3|NM|150456^MDC_PULS_OXIM_SAT_O2^MDC|1.1.1.2|93|262688^MDC_DIM_PERCENT^MDC|||||R|||||||MON7\r"
    b"OBX|4|NM|150021^MDC_PRESS_BLD_NONINV_SYS^MDC|1.1.1.3|12.0|kPa|||||R|||||||MON7\r"
    b"OBX|5|NM|151578^MDC_TTHOR_RESP_RATE^MDC|1.1.1.4|22|264928^MDC_DIM_RESP_PER_MIN^MDC|||||D|||||||MON7\r"
)


@pytest.fixture
def now() -> list[float]:
    return [1_764_064_500.0]


def open_service(folder: Path, now: list[float]) -> MonitorService:
    return MonitorService(folder, capacity=4, clock=lambda: now[0])


@pytest.fixture
def service(tmp_path: Path, now: list[float]) -> Iterator[MonitorService]:
    made = open_service(tmp_path, now)
    made.associate(Association("device", "MON7", "B7", 0.0))
    made.associate(Association("bed", "B7", "P7", 0.0))
    yield made
    made.close()


def test_pcd_01_message_is_mapped_by_its_mdc_codes() -> None:
    (reading,) = oru_readings(parse(ORU))
    assert reading.device == "MON7"
    assert reading.device_time_s == pytest.approx(1795598099.25)  # 2026-11-25 09:14:59.25 UTC
    assert reading.values == {"HR": 131.0, "SPO2": 93.0, "NIBP_SYS": pytest.approx(90.0, abs=0.01)}


def test_devices_and_moments_of_one_message_stay_apart() -> None:
    """A gateway may send several devices, or what it has kept of an hour, in one message."""
    lines = (
        "MSH|^~\\&|GATEWAY|ICU|TWIN|HOSP|20261125101500+0000||ORU^R01^ORU_R01|7|P|2.6",
        "OBR|1|||182777000|||20261125101400+0000",
        "OBX|1||69965^MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS^MDC|1.0.0.0|||||||X|||||||MON7",
        "OBX|2|NM|147842^MDC_ECG_HEART_RATE^MDC|1.1.1.1|71||||||R",
        "OBX|3|NM|147842^MDC_ECG_HEART_RATE^MDC|1.1.1.1|72||||||R|||20261125101401+0000",
        "OBX|4|NM|151578^MDC_TTHOR_RESP_RATE^MDC|2.1.1.1|14||||||R|||||||VENT3",
        "OBR|2|||182777000|||20261125101402+0000",
        "OBX|1|NM|150456^MDC_PULS_OXIM_SAT_O2^MDC|1.1.1.2|96||||||R",
        "PRT|1|UC||EQUIP^EQUIP^HL70912||||||MON8^^231A8456B1CB2366^EUI-64",
    )
    found = oru_readings(parse("\r".join(lines).encode()))
    second = 1795601640.0  # 2026-11-25 10:14:00 UTC
    assert [(each.device, each.device_time_s - second, each.values) for each in found] == [
        ("MON7", 0.0, {"HR": 71.0}),
        ("MON7", 1.0, {"HR": 72.0}),
        ("VENT3", 0.0, {"RR": 14.0}),
        ("MON8", 2.0, {"SPO2": 96.0}),
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"ORU^R01", b"ORU^R40"), (b"|kPa|", b"|furlong|"), (b"20261125101459.250+0100", b"soon")],
)
def test_oru_that_cannot_be_used_is_refused(old: bytes, new: bytes) -> None:
    with pytest.raises(InputError):
        oru_readings(parse(ORU.replace(old, new)))


def test_oru_over_mllp_is_acknowledged_and_raises_its_alert(
    service: MonitorService, now: list[float]
) -> None:
    now[0] = 1795598100.0

    async def run() -> list[str]:
        server = await start_mllp(service.take_hl7)
        async with MllpClient("127.0.0.1", server.port) as client:
            answers = [await client.send(parse(data)) for data in (ORU, ORU.replace(b"|kPa|", b"|furlong|"))]
        await server.close()
        return [each["MSA-1"] for each in answers]

    assert asyncio.run(run()) == ["CA", "CE"]
    assert service.work() == 1
    now[0] += 15.0
    service.work()
    assert [each.key for each in service.monitor.alerts.open_alerts()] == ["hr_high"]


def test_adt_and_pcim_over_mllp_say_whose_readings_they_are_and_outlive_a_restart(
    tmp_path: Path, now: list[float]
) -> None:
    now[0] = 1795598100.0
    place = "PV1|1|I|ICU^1^{}^HOSP"
    told = [
        message(header("ADT^A01"), "EVN|A01|20261125090000+0000", PID, place.format(7)),
        message(header("ADT^A02"), "EVN|A02|20261125091459+0000", PID, place.format(8)),
        ORU,
        message(header("ADT^A03"), "EVN|A03|20261125091500+0000", "PID|1||", place.format(8)),
        pcim(PCIM_BEGIN, "F", begin="20261125090000+0000"),
        pcim(PCIM_BEGIN, "R", begin="20261125090000+0000", device="TELE6"),
    ]

    async def run(service: MonitorService) -> list[str]:
        server = await start_mllp(service.take_hl7)
        async with MllpClient("127.0.0.1", server.port) as client:
            answers = [await client.send(parse(data)) for data in told]
        await server.close()
        return [each["MSA-1"] for each in answers]

    service = open_service(tmp_path, now)
    service.associate(Association("device", "MON7", "ICU/1/7", 0.0))
    assert asyncio.run(run(service)) == ["CA", "CA", "CA", "CE", "CA", "CE"]
    assert service.work() == 0  # measured a quarter of a second after the patient had left that bed
    assert service.intake.quarantined == 1
    service.close()
    service = open_service(tmp_path, now)
    assert service.associations.bed_of("4711", now[0]) == "ICU/1/8"
    assert service.associations.carried_by("4711", now[0]) == ["TELE5"]
    service.associate(Association("device", "MON7", "ICU/1/8", 1795598099.2))
    assert service.work() == 1
    service.close()


def test_who_carries_a_device_is_not_discharged_for_lying_in_no_bed(
    service: MonitorService, now: list[float]
) -> None:
    service.associate(Association("carried", "TELE5", "P5", now[0]))
    for each in range(0, 300, 10):
        now[0] += 10.0
        service.intake.offer(Reading("TELE5", now[0], {"HR": 70.0}, (), each), received_s=now[0])
        service.work()
    assert "P5" in service.monitor.patients
    service.associate(Association("carried", "TELE5", None, now[0]))
    for _ in range(20):
        now[0] += 10.0
        service.work()
    assert "P5" not in service.monitor.patients


def test_json_message_and_poison(service: MonitorService, now: list[float]) -> None:
    good = b'{"t": 1764064499.5, "v": {"HR": 71, "PAIN": 3}, "n": 5}'
    assert decode_reading("MON7", good).sequence == 5
    no_text = b'{"t": 1, "v": {"\xff": 1}}'
    for poison in (b"", b"{", b"[]", b'{"t": "x"}', b'{"v": 1}', b"\xff", no_text, b" " * 20_000):
        with pytest.raises(InputError):
            decode_reading("MON7", poison)
        assert service.take_message("vitals/MON7", poison)
    assert service.take_message("vitals/MON7", good)
    assert service.work() == 1
    assert service.intake.counts["malformed"] == 8
    assert service.monitor.view("P7", now_s=now[0])["vitals"]["HR"] == 71.0


def observation(**changes: object) -> dict[str, object]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "device": {"reference": "Device/MON7"},
        "effectiveDateTime": "2025-11-25T10:54:59+01:00",
        "valueQuantity": {"value": 88, "code": "/min", "system": "http://unitsofmeasure.org"},
        **changes,
    }


def test_fhir_observations_panel_and_bundle() -> None:
    panel = observation(
        code={"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
        component=[
            {
                "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
                "valueQuantity": {"value": value, "code": "mm[Hg]"},
            }
            for code, value in (("8480-6", 118), ("8462-4", 70))
        ],
    )
    del panel["valueQuantity"]
    bundle = {
        "resourceType": "Bundle",
        "entry": [
            {"resource": each}
            for each in (observation(), panel, {"resourceType": "Patient"}, observation(status="cancelled"))
        ],
    }
    first, second = observation_readings(bundle)
    assert (first.device, first.device_time_s, first.values) == ("MON7", 1764064499.0, {"HR": 88.0})
    assert second.values == {"NIBP_SYS": 118.0, "NIBP_DIA": 70.0}


@pytest.mark.parametrize(
    "changes",
    [
        {"device": {}},
        {"effectiveDateTime": "2025-11-25"},
        {"effectiveDateTime": "soon"},
        {"valueQuantity": {"value": 1, "code": "km"}},
    ],
)
def test_fhir_observation_that_cannot_be_used_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InputError):
        observation_readings(observation(**changes))


def test_restart_resumes_open_alerts_and_associations(tmp_path: Path, now: list[float]) -> None:
    service = open_service(tmp_path, now)
    service.associate(Association("device", "MON7", "B7", 0.0))
    service.associate(Association("bed", "B7", "P7", 0.0))
    service.take_message("vitals/MON7", b'{"t": 1764064499, "v": {"NIBP_SYS": 70}, "e": ["vf"]}')
    service.work()
    fibrillation = next(each for each in service.monitor.alerts.open_alerts() if each.key == "event:vf")
    service.monitor.alerts.acknowledge(fibrillation.id, by="N", role="nurse", at_s=now[0])
    service.close()

    again = open_service(tmp_path, now)
    found = {each.key: each for each in again.monitor.alerts.open_alerts()}
    assert set(found) == {"event:vf", "cuff_low", "cuff_very_low"}
    assert found["event:vf"].acknowledged_by == "N"
    assert again.associations.patient_of("MON7", now[0]) == "P7"
    steps = [step for step, *_ in again.store.steps(fibrillation.id)]
    assert steps == ["raised", "told", "acknowledged"]
    times, values = again.history.read("P7", "NIBP_SYS", since_s=0.0, until_s=2e9)
    assert (times.tolist(), values.tolist()) == ([1764064499.0], [70.0])
    again.close()


def test_history_rolls_reads_and_forgets(tmp_path: Path) -> None:
    history = History(tmp_path, roll_s=60.0, keep_s=120.0)
    for second in range(300):
        values = np.full((2, len(VITALS)), np.nan)
        values[:, COLUMN["HR"]] = [60.0, 70.0 + second]
        history.add(["A", "B"], np.full(2, float(second)), values)
    history.flush()
    assert len(list(tmp_path.glob("*.parquet"))) == 3
    times, values = history.read("B", "HR", since_s=200.0, until_s=210.0)
    assert times.tolist() == list(range(200, 211))
    assert values.tolist() == [70.0 + second for second in range(200, 211)]
    assert history.read("B", "SPO2", since_s=0.0, until_s=999.0)[0].size == 0


def test_full_disk_keeps_the_readings_for_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet

    history = History(tmp_path)
    history.add(["A"], np.zeros(1), np.full((1, len(VITALS)), 1.0))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pyarrow.parquet, "write_table", full)
        with pytest.raises(StorageError):
            history.flush()
    assert history.flush() is not None
    assert history.read("A", "HR", since_s=-1.0, until_s=1.0)[1].tolist() == [1.0]


def test_broker_urls() -> None:
    assert BrokerAddress.parse("mqtt://u:p%40@h:1") == BrokerAddress("h", 1, "u", "p@")
    assert BrokerAddress.parse("mqtt5s://h") == BrokerAddress("h", 8883, version=5, tls=True)
    for bad in ("http://h", "mqtt://", "mqtt://h:x"):
        with pytest.raises(InputError):
            BrokerAddress.parse(bad)
