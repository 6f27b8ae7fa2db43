"""From what arrives to jobs: once a patient's data has been quiet for a while, a build is enqueued."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from digital_twins._errors import DigitalTwinError, StorageError
from digital_twins._logging import get_logger
from digital_twins.server._inputs import dicom_name, gather, patient_ids
from digital_twins.server._services import BUILD, METADATA

if TYPE_CHECKING:
    from collections.abc import Container

    import apsw

    from digital_twins.dicom import Stored
    from digital_twins.server._inputs import Inputs
    from digital_twins.server._services import Services

_log = get_logger(__name__)
_LONGEST_WAIT = 10
"""Quiet times after which changed records are looked at although further ones keep coming."""


def consider(services: Services, patient_id: str) -> str | None:
    """Enqueue a build if the patient's data is complete and its state new; return the job id.

    What is missing otherwise is noted for the patient list. The key of the job holds the state's hash, so
    calling this again changes nothing.
    """
    inputs = gather(services, patient_id)
    key = services.catalogue.patient_key(patient_id)
    summary = _summary(services, inputs)
    missing = inputs.missing

    def work(cursor: apsw.Cursor) -> str | None:
        job_id = None
        if missing is None:
            payload = {"patient_id": patient_id, "patient_key": key, "state": inputs.state}
            job_id = services.jobs.enqueue_in(cursor, BUILD, payload, key=f"{BUILD}/{key}/{inputs.state}")
        services.jobs.enqueue_in(
            cursor, METADATA, {"patient_key": key}, key=f"{METADATA}/{key}/{inputs.series_state}"
        )
        services.catalogue.note_in(cursor, key, summary=summary, waiting_for=missing, job_id=job_id)
        return job_id

    return services.database.write(work)


def _summary(services: Services, inputs: Inputs) -> dict[str, Any]:
    if inputs.resources is None:
        return {"name": dicom_name(services, inputs.patient_id)}
    try:
        record = inputs.record()
    except DigitalTwinError:  # the build reports it in full; the list shows what the images say
        return {"name": dicom_name(services, inputs.patient_id)}
    return {
        "name": record.name,
        "sex": record.sex,
        "birth_date": record.birth_date.isoformat() if record.birth_date else None,
        "diagnosis": record.diagnosis,
        "stage": record.stage,
        "biomarkers": dict(record.biomarkers),
        "labels": ["TEST DATA"] if "HTEST" in record.security_labels else [],
    }


class TwinScheduler:
    """Timers on the event loop; every patient's starts anew with each object or resource that arrives.

    Parameters
    ----------
    services
        The node's rooms.
    stable_s
        Seconds of quiet after which a study counts as complete.
    """

    def __init__(self, services: Services, *, stable_s: float) -> None:
        self._services = services
        self._stable_s = stable_s
        self._timers: dict[str | None, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._latest_look: float | None = None
        self._closed = False

    def stored(self, stored: Stored) -> None:
        """A DICOM object of a patient is on disk."""
        self._services.metrics.add("twin_dicom_instances_stored_total")
        if stored.patient_id:
            self._touch(stored.patient_id)

    def record_changed(self) -> None:
        """A FHIR resource was written: every patient with images is looked at again."""
        self._touch(None)

    def rescan(self) -> None:
        """Look at every patient soon: what arrived before a crash may still wait for its timer.

        A sender that the crash cut off goes on within the quiet time, and its patient then has to wait.
        """
        self._touch(None)

    async def close(self) -> None:
        """Stop the timers and wait for what is being looked at; a rescan at the next start finds the rest."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _touch(self, patient_id: str | None) -> None:
        if self._closed:
            return
        if (timer := self._timers.pop(patient_id, None)) is not None:
            timer.cancel()
        loop = asyncio.get_running_loop()
        due = loop.time() + self._stable_s
        if patient_id is None:  # a hospital whose records never rest must not put off everybody for ever
            self._latest_look = self._latest_look or loop.time() + _LONGEST_WAIT * self._stable_s
            due = min(due, self._latest_look)
        self._timers[patient_id] = loop.call_at(due, self._fire, patient_id)

    def _fire(self, patient_id: str | None) -> None:
        self._timers.pop(patient_id, None)
        if patient_id is None:
            self._latest_look = None
        task = asyncio.create_task(self._look(patient_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look(self, patient_id: str | None) -> None:
        try:
            busy = frozenset(self._timers)  # still arriving: their own timers look at them later
            found = await asyncio.to_thread(self._consider_all, patient_id, busy)
            self._services.metrics.add("twin_builds_scheduled_total", found)
        except StorageError as error:  # a full disk may have room again later
            _log.error("scheduler.failed", what=error.what, why=error.why)
            self._touch(patient_id)
        except Exception as error:  # noqa: BLE001  (edge: one patient's trouble must not end the node)
            _log.error("scheduler.failed", error=type(error).__name__)

    def _consider_all(self, patient_id: str | None, busy: Container[str | None]) -> int:
        if patient_id is not None:
            return int(consider(self._services, patient_id) is not None)
        wanted = [each for each in patient_ids(self._services) if each not in busy]
        return sum(consider(self._services, each) is not None for each in wanted)
