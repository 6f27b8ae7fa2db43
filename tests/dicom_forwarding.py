"""A store whose new objects are routed, and what sends them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from dicom_support import LoopThread, open_store
from digital_twins import dicom

FAST = dicom.Backoff(0.02, 0.1, attempts=3)


@contextmanager
def forwarding(
    folder: Path, routes: list[dicom.Route], *, stable_s: float = 0.2, **options: object
) -> Iterator[tuple[dicom.DicomStore, dicom.SendQueues, Callable[..., None]]]:
    """A store with routes, its queues, and what starts the sending."""
    thread = LoopThread()
    running: list[dicom.Forwarder] = []
    with open_store(folder) as store, ThreadPoolExecutor(4) as executor:
        queues = dicom.SendQueues(store.database, FAST)
        store.on_new = dicom.route_new(routes, queues, stable_s=stable_s, pseudonym=store.pseudonym)

        def start(**destinations: dicom.Destination) -> None:
            async def make() -> dicom.Forwarder:
                return dicom.Forwarder(store, queues, executor, destinations=destinations, **options)  # type: ignore[arg-type]

            running.append(thread.run(make()))

        try:
            yield store, queues, start
        finally:
            for each in running:
                thread.run(each.close())
            thread.close()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
