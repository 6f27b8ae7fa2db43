"""What a running monitor writes: readings at once, steps of alerts, a snapshot every twenty seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from digital_twins._errors import StorageError
from digital_twins._logging import get_logger
from digital_twins.monitoring.engine import monitor_state, resume_monitor
from digital_twins.monitoring.ingest import SETTLE_S
from digital_twins.monitoring.parts import NO_POST, Exchange
from digital_twins.monitoring.signals import Named
from digital_twins.monitoring.storage import StateStore

if TYPE_CHECKING:
    from collections.abc import Callable

    import apsw
    from numpy.typing import NDArray

    from digital_twins.monitoring.service._service import MonitorService
    from digital_twins.monitoring.signals import Batch
    from digital_twins.monitoring.storage import Values

    Floats = NDArray[np.float64]

_log = get_logger(__name__)
_SNAPSHOT_S, _TICK_S = 20.0, 1.0
_MOST = 500_000
"""Readings that wait for a database that cannot be written; older ones are given up and counted."""


class Keeper:
    """Writer of one `MonitorService`.

    Parameters
    ----------
    service
        Whose monitor, intake, alert store and history are kept.
    """

    def __init__(self, service: MonitorService) -> None:
        self._service = service
        self._states = StateStore(service.database, service.part.number)
        division = service.division
        self._exchange = Exchange(service.database, service.part) if division is None else division.exchange
        self._journal: list[tuple[Batch, float]] = []
        self._names: list[Named] = []
        self._times: list[Floats] = []
        self._values: list[NDArray[np.float32]] = []
        self._snapshot_s = service.clock()
        self._wanted = self._kept = False

    def want_snapshot(self) -> None:
        """Let the next write be a snapshot."""
        self._wanted = True

    def note(self, batch: Batch, received_s: float) -> None:
        """Remember readings for the journal; `Intake` calls it."""
        self._journal.append((batch, received_s))

    def keep(self, names: Named, times: Floats, values: Floats) -> None:
        """Remember clean values; `PatientMonitor` calls it."""
        self._names.append(names)
        self._times.append(times)
        self._values.append(values.astype(np.float32))

    def save(self) -> int:
        """Write what waits, now; return how many steps of alerts there were.

        Raises
        ------
        StorageError
            It could not be made durable; all of it is kept for the next call.
        """
        work, done, undo, steps = self._unit()
        if work is None:
            return 0
        try:
            self._service.database.write(work)
        except BaseException:
            undo()
            raise
        done()
        return steps

    async def commit(self) -> None:
        """Do as `save`, without keeping the event loop waiting."""
        work, done, undo, _ = self._unit()
        if work is None:
            return
        try:
            await self._service.database.commit(work)
        except BaseException:
            undo()
            raise
        done()

    def finish(self) -> None:
        """Write a snapshot and the history's last file, and say that they belong together."""
        self.want_snapshot()
        self.save()
        if self._service.history.flush() is not None or self._kept:
            self._kept = False
            self._service.database.write(self._states.mark_kept)

    def _unit(
        self,
    ) -> tuple[Callable[[apsw.Cursor], None] | None, Callable[[], None], Callable[[], None], int]:
        """Take what waits as one transaction, with what follows its success and its failure."""
        service, states = self._service, self._states
        now_s = service.clock()
        due = self._wanted or now_s - self._snapshot_s >= _SNAPSHOT_S
        post = self._exchange.take()
        steps = service.store.take()
        lines, self._journal = self._journal, []
        if not (steps or lines or due or post != NO_POST):
            return None, _nothing, _nothing, 0
        state = monitor_state(service.monitor) if due else {}
        values = self._take_values() if due else None
        kept, self._kept = self._kept, False
        if due:
            self._wanted, self._snapshot_s = False, now_s

        def work(cursor: apsw.Cursor) -> None:
            self._exchange.write(cursor, post)
            service.store.write(cursor, steps)
            if due:
                states.write_snapshot(cursor, state, values, at_s=now_s, kept=kept)
            elif lines:
                states.write_journal(cursor, lines)

        def done() -> None:
            self._exchange.written(post)
            if values is not None:
                self._to_history(values)

        def undo() -> None:
            self._exchange.put_back(post)
            service.store.put_back(steps)
            self._kept = self._kept or kept
            self._wanted = self._wanted or due
            self._put_back(lines, values)

        return work, done, undo, len(steps)

    def _put_back(self, lines: list[tuple[Batch, float]], values: Values | None) -> None:
        """Remember again what could not be written, before the later ones."""
        self._journal[:0] = lines
        if values is not None:
            self._names.insert(0, values[0])
            self._times.insert(0, values[1])
            self._values.insert(0, values[2])
        spare = sum(len(each) for each, _ in self._journal) - _MOST
        while spare > 0:
            batch, received_s = self._journal[0]
            gone = min(spare, len(batch))
            self._service.intake.counts["not-stored"] += gone
            self._journal[:1] = (
                [(batch.rows(np.arange(gone, len(batch))), received_s)] if gone < len(batch) else []
            )
            spare -= gone

    def _take_values(self) -> Values | None:
        if not self._names:
            return None
        names, times, values = (
            Named.join(self._names),
            np.concatenate(self._times),
            np.concatenate(self._values),
        )
        self._names, self._times, self._values = [], [], []
        return names, times, values

    def _to_history(self, values: Values) -> None:
        """Hand values to the history; once it has written a file, all of them are in one."""
        history = self._service.history
        try:
            self._kept = history.add(values[0], values[1], values[2]) or self._kept
        except StorageError as error:
            self._service.intake.counts["history-failed"] += 1
            _log.error("monitor.history", what=error.what, why=error.why)

    def resume(self) -> None:
        """Fill the monitor from what a process before has written, and listen to the intake from now on."""
        service, states = self._service, self._states
        data = states.snapshot()
        if data is not None:
            resume_monitor(service.monitor, data)
            monitor = service.monitor
            self._fill(states.values(most=monitor.ring.times.shape[1] * len(monitor.patients)))
            for values in states.loose_values():
                self._to_history(values)
        service.intake.release()  # older than the journal
        self._repeat(states.journal())
        if service.division is None:
            service.monitor.step()
        elif service.division.exchange.sending:
            self.want_snapshot()  # so that they are not found, and sent, again
        service.intake.journal = self.note

    def _repeat(self, batches: list[tuple[Batch, float]]) -> None:
        """Work through readings again, with the timers as they ran then."""
        intake, monitor = self._service.intake, self._service.monitor
        ticked_s = batches[0][1] if batches else 0.0
        for batch, received_s in batches:
            if received_s - ticked_s >= _TICK_S:
                intake.settled_s = received_s - SETTLE_S
                monitor.step()
                monitor.tick(ticked_s)
                ticked_s = received_s
            left = batch
            while (taken := intake.offer_batch(left, received_s=received_s)) < len(left):
                left = left.rows(np.arange(taken, len(left)))
                monitor.step()
        if batches:
            monitor.step()
            monitor.tick(ticked_s)

    def _fill(self, pieces: list[Values]) -> None:
        """Put the last values of each patient back into the ring."""
        if not pieces:
            return
        names, numbers = Named.join([piece[0] for piece in pieces]).compact()
        times = np.concatenate([piece[1] for piece in pieces])
        values = np.concatenate([piece[2] for piece in pieces])
        order = np.lexsort((times, numbers))  # late ones into their place
        starts = np.unique(numbers[order], return_index=True)[1]
        monitor = self._service.monitor
        for name, rows in zip(names, np.split(order, starts[1:]), strict=True):
            row = monitor.patients.get(name)
            if row is not None:
                monitor.ring.fill(row, times[rows], values[rows])


def _nothing() -> None:
    """Do nothing."""
