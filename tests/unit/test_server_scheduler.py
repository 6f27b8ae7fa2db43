"""When the scheduler looks: after quiet, not while a patient's data arrives, and not never."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from digital_twins.server import _scheduler
from digital_twins.server._metrics import Metrics
from digital_twins.server._scheduler import TwinScheduler

STABLE_S = 0.05


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Patients in the order in which they were looked at; the node knows A and B."""
    seen: list[str] = []
    monkeypatch.setattr(_scheduler, "patient_ids", lambda services: ["A", "B"])
    monkeypatch.setattr(_scheduler, "consider", lambda services, patient_id: seen.append(patient_id))
    return seen


def scheduler() -> TwinScheduler:
    services: Any = SimpleNamespace(metrics=Metrics())
    return TwinScheduler(services, stable_s=STABLE_S)


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.mark.anyio
async def test_a_rescan_leaves_out_the_patient_whose_data_arrives(looked: list[str]) -> None:
    made = scheduler()
    made.rescan()
    arriving: Any = SimpleNamespace(patient_id="B")
    await until(lambda: made.stored(arriving) or looked)
    assert looked == ["A"]
    await until(lambda: len(looked) == 2)
    assert looked == ["A", "B"]
    await made.close()


@pytest.mark.anyio
async def test_records_that_never_rest_are_looked_at_all_the_same(looked: list[str]) -> None:
    made = scheduler()
    await until(lambda: made.record_changed() or len(looked) >= 4)
    assert looked[:2] == ["A", "B"]
    await made.close()


@pytest.mark.anyio
async def test_a_full_disk_is_tried_again(looked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from digital_twins import StorageError

    def refuse(services: Any, patient_id: str) -> None:
        looked.append(patient_id)
        if len(looked) == 1:
            raise StorageError("Not written.", "The volume is full.", "Free space.")

    monkeypatch.setattr(_scheduler, "consider", refuse)
    made = scheduler()
    arriving: Any = SimpleNamespace(patient_id="B")
    made.stored(arriving)
    await until(lambda: looked == ["B", "B"])
    await made.close()
