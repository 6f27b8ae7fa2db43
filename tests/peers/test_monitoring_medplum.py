"""Alerts and readings of the monitor, written back to a FHIR server that others wrote."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from digital_twins.fhir import FHIRClient
from digital_twins.monitoring import (
    Association,
    Courier,
    FhirWriteBack,
    MonitorService,
    WardPart,
    load_thresholds,
)
from fhir_support import patient
from medplum_peer import medplum_server
from monitor_process import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.peers
START_S = 1_764_064_500.0


class _Ward:
    """One patient on one device, at a clock that the test moves."""

    def __init__(self, folder: Path) -> None:
        self.now_s = START_S
        part = WardPart(outgoing={FhirWriteBack.name: FhirWriteBack.steps}, chart_s=2.0)
        self.service = MonitorService(folder, capacity=2, clock=lambda: self.now_s, part=part)
        self.service.associate(Association("device", "D", "ICU/3/1", 0.0))
        self.service.associate(Association("bed", "ICU/3/1", "P7", 0.0))

    def send(self, **values: float) -> None:
        self.now_s += 1.0
        reading = {"t": self.now_s - 0.5, "v": values}
        assert self.service.take_message("vitals/D", json.dumps(reading).encode())
        self.service.work()

    def all_delivered(self) -> bool:
        with self.service.database.read() as connection:
            rows = connection.execute("SELECT state FROM monitor_delivery").fetchall()
        return {str(state) for (state,) in rows} == {"delivered"}


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[_Ward]:
    made = _Ward(tmp_path / "ward")
    yield made
    made.service.close()


def _all(base: str, kind: str) -> list[dict[str, Any]]:
    with FHIRClient(base_url=base) as client:
        return [dict(each) for each in client.search(kind, {"_count": 100})]


def test_an_alert_is_raised_acknowledged_and_ended_there(ward: _Ward, tmp_path: Path) -> None:
    home = tmp_path / "medplum"
    home.mkdir()
    with medplum_server(home) as base, FHIRClient(base_url=base) as client:
        whose = client.create("Patient", patient(identifier=[{"system": "urn:n", "value": "P7"}])).id
        channel = FhirWriteBack(base, load_thresholds(), system="urn:n")
        with Courier(ward.service.database, (channel,), clock=lambda: ward.now_s):
            ward.send(NIBP_SYS=66.0, NIBP_DIA=40.0, HR=88.0)
            until(ward.all_delivered)
            raised = _all(base, "Flag")
            assert {each["status"] for each in raised} == {"active"}
            assert {each["subject"]["reference"] for each in raised} == {f"Patient/{whose}"}
            book = ward.service.monitor.alerts
            number = next(each.id for each in book.open_alerts() if each.key == "cuff_low")
            book.acknowledge(number, by="N. N.", role="nurse", at_s=ward.now_s)
            ward.service.save()
            until(ward.all_delivered)
            assert "completed" in {each["status"] for each in _all(base, "Communication")}
            for _ in range(3):
                ward.send(NIBP_SYS=120.0, NIBP_DIA=80.0, HR=88.0)
            until(ward.all_delivered)
        ended = _all(base, "Flag")
        assert {each["id"] for each in ended} == {each["id"] for each in raised}
        assert "inactive" in {each["status"] for each in ended}
        heart_rates = [
            each["valueQuantity"]["value"]
            for each in _all(base, "Observation")
            if each["code"]["coding"][0]["code"] == "8867-4"
        ]
        assert heart_rates
        assert set(heart_rates) == {88.0}
