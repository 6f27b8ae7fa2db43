"""The running monitor: broker or MLLP or HTTP in, a pass ten times a second, storage behind it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Self

from digital_twins._errors import DigitalTwinError, InputError
from digital_twins._logging import get_logger
from digital_twins.monitoring._alert_store import MIGRATIONS, AlertStore
from digital_twins.monitoring._association import AssociationLog
from digital_twins.monitoring._history import History
from digital_twins.monitoring._intake import Intake
from digital_twins.monitoring._message import decode_reading
from digital_twins.monitoring._monitor import PatientMonitor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence, Set as AbstractSet
    from pathlib import Path
    from types import TracebackType

    from digital_twins.hl7v2 import Message
    from digital_twins.monitoring._alert import Notice
    from digital_twins.monitoring._anomaly import AnomalyDetector
    from digital_twins.monitoring._association import Association
    from digital_twins.monitoring._thresholds import Thresholds

_log = get_logger(__name__)
_PASS_S = 0.1
_TICK_S = 1.0


class MonitorService:
    """A monitor with its storage; what was open and who lay where is there again after a restart.

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
    ) -> None:
        from digital_twins.storage import Database

        folder.mkdir(parents=True, exist_ok=True)
        self.database = Database(folder / "monitor.sqlite", migrations=MIGRATIONS)
        self.store, self.history = AlertStore(self.database), History(folder / "history")
        self._clock = clock
        self.associations = AssociationLog()
        for entry in self.store.associations():
            self.associations.apply(entry)
        self.intake = Intake(self.associations, devices=devices)
        self.monitor = PatientMonitor(
            self.intake,
            capacity=capacity,
            thresholds=thresholds,
            detectors=detectors,
            record=self.store.record,
            notify=notify,
            history=self.history.add,
        )
        alerts, next_id = self.store.open_alerts()
        self.monitor.alerts.restore(alerts, next_id=next_id)
        self._task: asyncio.Task[None] | None = None
        self._ticked_s = 0.0

    synthetic = False

    def clock(self) -> float:
        """Return the time in seconds since 1970 UTC."""
        return self._clock()

    def save(self) -> int:
        """Make every step of the alerts durable; return how many there were."""
        return self.store.flush()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self.close()

    def close(self) -> None:
        """Work through what has arrived, write everything, and close the files."""
        try:
            self.work()
            self.history.flush()
        finally:
            self.database.close()

    def associate(self, entry: Association) -> None:
        """Add an association, durably, and let out of quarantine what it explains."""
        self.associations.apply(entry)
        self.store.save_association(entry)
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

    async def take_hl7(self, message: Message) -> None:
        """Take an ORU as a handler of `digital_twins.hl7v2.start_mllp`; raises InputError to refuse it."""
        from digital_twins.monitoring._from_hl7 import oru_reading

        while not self.intake.offer(oru_reading(message), received_s=self.clock()):
            await asyncio.sleep(_PASS_S)

    def work(self) -> int:
        """Use what has arrived, let timers run once a second, write alerts; return readings used."""
        used = self.monitor.step()
        now_s = self.clock()
        if now_s - self._ticked_s >= _TICK_S:
            self._ticked_s = now_s
            self.monitor.tick(now_s)
        self.store.flush()
        return used

    async def _run(self) -> None:
        while True:
            try:
                self.work()
            except DigitalTwinError as error:
                self.intake.counts["failed"] += 1
                _log.error("monitor.pass", what=error.what, why=error.why)
            await asyncio.sleep(_PASS_S)
