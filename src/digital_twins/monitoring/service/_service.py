"""The running monitor: broker or MLLP or HTTP in, a pass five times a second or when one waits, storage."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING, Self

import numpy as np

from digital_twins._errors import DigitalTwinError, InputError
from digital_twins._logging import get_logger
from digital_twins.monitoring.alerts import AlertBook, AlertStore
from digital_twins.monitoring.engine import PatientMonitor
from digital_twins.monitoring.ingest import SETTLE_S, BatchDecoder, Intake, decode_reading
from digital_twins.monitoring.parts import PartLostError, WardPart, open_monitor_database
from digital_twins.monitoring.prediction import bedside_risk
from digital_twins.monitoring.service._division import Division
from digital_twins.monitoring.service._keeper import Keeper
from digital_twins.monitoring.signals import COLUMN, AssociationLog, Waveforms
from digital_twins.monitoring.storage import History, store_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence, Set as AbstractSet
    from pathlib import Path
    from types import TracebackType

    from digital_twins.hl7v2 import Message
    from digital_twins.monitoring.alerts import Alert, AlertStep, Notice, Thresholds
    from digital_twins.monitoring.detection import AnomalyDetector
    from digital_twins.monitoring.ingest import Payloads
    from digital_twins.monitoring.signals import Association, Reading

_log = get_logger(__name__)
_PASS_S = 0.2
_TICK_S = 1.0
_LEFT_S, _LOOK_S = 120.0, 10.0


class MonitorService:
    """A monitor with its storage; a restart, also after a kill, goes on where it stopped.

    What `durable` has answered for is in the database: readings, every step of the alerts, associations. A
    snapshot of all filters and twins is written every twenty seconds, and the readings since then are worked
    through again at the start.

    Parameters
    ----------
    folder
        Database, history files.
    capacity, thresholds, detectors, notify
        As for `PatientMonitor`.
    devices
        Who may speak; None: every device that the transport let through.
    clock
        Seconds since 1970 UTC.
    part
        Which part of a ward, on which database.

    Attributes
    ----------
    lost
        Another worker has taken the part over; the service has stopped and writes nothing any more.
    zone
        Time zone of HL7 v2 messages whose times name none.
    """

    def __init__(
        self,
        folder: Path,
        *,
        capacity: int = 256,
        thresholds: Thresholds | None = None,
        detectors: Sequence[AnomalyDetector] = (),
        notify: Callable[[Notice], None] | None = None,
        devices: AbstractSet[str] | None = None,
        clock: Callable[[], float] = time.time,
        part: WardPart | None = None,
    ) -> None:
        self.part = part = part or WardPart()
        self._owns_database = part.database is None
        self.database = part.database or open_monitor_database(
            folder, server=part.server, parts=part.count, key=part.key
        )
        self.store = AlertStore(self.database, auditor=part.auditor, outgoing=part.outgoing)
        tag = f"{part.number}-" if part.count > 1 else ""
        self.history = History(folder / "history", tag=tag, key=store_key(part.key, "history"))
        self._clock = clock
        self.associations = AssociationLog()
        self.intake = Intake(self.associations, devices=devices)
        self.division = Division(self) if part.count > 1 else None
        if self.division is None:
            for entry in self.store.associations():
                self.associations.apply(entry)
        self.waveforms = Waveforms(self.associations, devices=devices)
        self.monitor = PatientMonitor(
            self.intake,
            capacity=capacity,
            thresholds=thresholds,
            detectors=detectors,
            record=self._record,
            notify=notify,
            history=self._keep,
            risk=None if part.risk is None else bedside_risk(part.risk),
        )
        self._keeper = Keeper(self)
        self._resume()
        self.lost = False
        self.zone: tzinfo = UTC
        self._task: asyncio.Task[None] | None = None
        self._ticked_s = 0.0
        self._charted_s = self.clock()
        self._kick = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._decoder = BatchDecoder()
        self._homeless: dict[str, float] = {}
        self._looked = (-1, 0, 0)

    synthetic = False

    def clock(self) -> float:
        """Return the time in seconds since 1970 UTC."""
        return self._clock()

    def want_snapshot(self) -> None:
        """Let the next transaction hold a snapshot."""
        self._keeper.want_snapshot()

    def save(self) -> int:
        """Make every step of the alerts durable; return how many there were."""
        return self._keeper.save()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        self.close()

    async def stop(self) -> None:
        """End the passes; who waits for `durable` gets no answer."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self.division is not None:
            await self.division.stop()
        for each in self._waiting:
            each.cancel()
        self._waiting = []

    def close(self) -> None:
        """Work through what has arrived, write everything, and close the files."""
        try:
            self.work()
            self._keeper.finish()
        finally:
            if self._owns_database:
                self.database.close()

    def associate(self, entry: Association) -> None:
        """Add an association, durably, and let out of quarantine what it explains."""
        if self.division is not None:
            self.associations.check(entry)
            self.store.save_association(entry)
            self.division.hear(self.division.exchange.poll())
            return
        self.associations.check(entry)
        self.store.save_association(entry)  # before it counts: what is told again must be written then
        self.associations.apply(entry)
        self.intake.release()

    def take_message(self, topic: str, payload: bytes) -> bool:
        """Take a message of MQTT: the device is the last part of the topic. False: no room now.

        A message that cannot be read is counted as malformed and done with.
        """
        try:
            reading = decode_reading(topic.rpartition("/")[2], payload)
        except InputError:
            self.intake.counts["malformed"] += 1
            return True
        return self.intake.offer(reading, received_s=self.clock())

    async def take_messages(self, payloads: Payloads) -> None:
        """Take messages of MQTT as `take_message` does each; returns once there was room for all."""
        batch, unreadable = self._decoder.decode(payloads)
        if unreadable:
            self.intake.counts["malformed"] += unreadable
        while (taken := self.intake.offer_batch(batch, received_s=self.clock())) < len(batch):
            batch = batch.rows(np.arange(taken, len(batch)))
            await asyncio.sleep(_PASS_S / 2)

    def take_waveform(self, topic: str, payload: bytes) -> bool:
        """Take a piece of a waveform from MQTT; it is shown and not kept."""
        return self.waveforms.take_message(topic, payload, received_s=self.clock())

    async def take_hl7(self, message: Message) -> None:
        """Take an ORU or ADT as a handler of `digital_twins.hl7v2.start_mllp`.

        ADT and IHE PCIM tell whose readings they are, ORU of IHE PCD-01 are readings; raises InputError or
        ConflictError to refuse a message.
        """
        from digital_twins.monitoring.ingest import oru_readings, placements

        told = placements(message, self.associations, zone=self.zone)
        if told is not None:
            for entry in told:
                self.associate(entry)
            return
        await self.take(*oru_readings(message))

    async def take(self, *readings: Reading) -> None:
        """Take readings once there is room, and return when they are durable."""
        for each in readings:
            while not self.intake.offer(each, received_s=self.clock()):
                await asyncio.sleep(_PASS_S)
        await self.durable()

    async def durable(self) -> None:
        """Return once everything that was taken before is in the database; a full disk makes it wait.

        Without a running service (no ``async with``) it is written at once.
        """
        if self._task is None:
            self.save()
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._kick.set()
        await future

    def work(self) -> int:
        """Use what has arrived, let timers run once a second, write; return readings used."""
        if self.division is not None:
            self.division.hear(self.division.exchange.poll())
        used = self._pass()
        self._keeper.save()
        return used

    def _pass(self) -> int:
        now_s = self.clock()
        self.intake.settled_s = now_s - SETTLE_S
        used = self.monitor.step()
        if now_s - self._ticked_s >= _TICK_S:
            self._ticked_s = now_s
            self.monitor.tick(now_s)
            self._let_go(now_s)
            self._chart(now_s)
        return used

    def _chart(self, now_s: float) -> None:
        """Queue the shown vital signs of every patient for the channels that want them."""
        if not self.part.chart_s or now_s - self._charted_s < self.part.chart_s:
            return
        self._charted_s = now_s
        shown, codes = self.monitor.quality.shown(now_s), list(COLUMN)
        rows = [
            (patient, {codes[n]: float(shown[row, n]) for n in np.flatnonzero(np.isfinite(shown[row]))})
            for patient, row in self.monitor.patients.items()
        ]
        self.store.chart(now_s, [each for each in rows if each[1]])

    def _let_go(self, now_s: float) -> None:
        """Discharge who has lain in no bed, without a device, for two minutes: a transfer takes a moment.

        Looking through all of them is dear, so it is done when beds or patients changed, and each ten seconds
        for associations that begin later.
        """
        known = (self.associations.changes, len(self.monitor.patients), int(now_s // _LOOK_S))
        if known == self._looked and not self._homeless:
            return
        self._looked = known
        homeless = {}
        for patient in list(self.monitor.patients):
            if not self.associations.is_here(patient, now_s):
                homeless[patient] = self._homeless.get(patient, now_s)
        self._homeless = homeless
        for patient, since_s in homeless.items():
            if now_s - since_s >= _LEFT_S:
                self.monitor.discharge(patient, at_s=now_s)

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PASS_S):
                    await self._kick.wait()
            self._kick.clear()
            waiting, self._waiting = self._waiting, []
            try:
                if self.division is not None:
                    await self.division.listen()
                self._pass()
                await self._keeper.commit()
            except PartLostError:
                self._waiting[:0] = waiting
                self.lost = True
                return
            except Exception as error:  # noqa: BLE001  (one bad pass must not end the watch)
                self._waiting[:0] = waiting
                self.intake.counts["failed"] += 1
                told = error if isinstance(error, DigitalTwinError) else None
                _log.error("monitor.pass", what=told.what if told else type(error).__name__)
                await asyncio.sleep(_PASS_S)
                continue
            except asyncio.CancelledError:
                self._waiting[:0] = waiting
                raise
            for each in waiting:
                if not each.done():
                    each.set_result(None)

    def _record(self, step: AlertStep, alert: Alert | None) -> None:
        self.store.record(step, alert)
        if step.step == "shelved":
            self._keeper.want_snapshot()

    def _keep(self, *values: object) -> None:
        self._keeper.keep(*values)  # type: ignore[arg-type]

    def _resume(self) -> None:
        """Go on from the snapshot and the readings since; then the alerts are those of the database."""
        book, scratch = self.monitor.alerts, AlertBook(self.monitor.thresholds)
        self.monitor.alerts = scratch
        counts = self.intake.counts.copy()
        self._keeper.resume()
        self.intake.counts = counts
        self.monitor.alerts = book
        book.resume_shelves(scratch.shelves())
        number, parts = self.part.number, self.part.count
        alerts, next_id = self.store.open_alerts(part=number, parts=parts)
        since_s = self.clock() - self.monitor.thresholds.dedup_s
        book.remember(self.store.closed_alerts(since_s=since_s, part=number, parts=parts))
        book.number(next_id, parts)
        book.restore(alerts, next_id=next_id)
