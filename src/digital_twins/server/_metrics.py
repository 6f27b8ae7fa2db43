"""Counters of the node in the Prometheus text format, version 0.0.4."""

from __future__ import annotations

import threading
from collections import defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_HELP = {
    "twin_http_requests_total": "HTTP requests answered, by door and status class.",
    "twin_dicom_instances_stored_total": "DICOM instances made durable since the start.",
    "twin_dicom_associations_total": "DICOM associations accepted since the start.",
    "twin_dicom_queue_waiting": "DICOM objects waiting to be sent, by destination.",
    "twin_dicom_queue_oldest_seconds": "Age of the oldest waiting DICOM object, by destination.",
    "twin_dicom_queue_paused": "1 while an operator has paused the queue, by destination.",
    "twin_dicom_queue_dead": "DICOM objects given up, by destination.",
    "twin_dicom_queue_sent_total": "DICOM objects sent since the queue exists, by destination.",
    "twin_dicom_queue_failed_total": "Attempts refused since the queue exists, by destination.",
    "twin_dicom_peer_associations_total": "DICOM associations of a peer since the start.",
    "twin_dicom_peer_refused_total": "DICOM associations of a peer that were refused since the start.",
    "twin_dicom_peer_echo_ok": "1 when the peer answered the last C-ECHO of this node, by peer.",
    "twin_dicom_prefetch": "Orders whose priors are fetched, by archive and state.",
    "twin_dicom_stored_bytes": "Bytes of the stored DICOM files, withdrawn ones too.",
    "twin_dicom_withdrawn": "DICOM objects that a rejection note keeps hidden.",
    "twin_emergency_access_total": "Times somebody broke the glass since the start.",
    "twin_jobs": "Jobs of the queue, by state.",
    "twin_builds_scheduled_total": "Twin builds put into the queue since the start.",
    "twin_worker_restarts_total": "Times the worker process was started again after it ended.",
}


class Metrics:
    """Thread-safe counters with labels; values that are asked for at the time of reading are `gauge`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str], float] = defaultdict(float)
        self._gauges: dict[str, Callable[[], dict[str, float]]] = {}

    def add(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Add `amount` to the counter `name` with these labels (none may hold patient data)."""
        text = _text(tuple(labels.items()))
        with self._lock:
            self._counts[name, text] += amount

    def gauge(self, name: str, read: Callable[[], dict[str, float]]) -> None:
        """Register a value read on demand; `read` returns label text (``'state="queued"'``) to value."""
        self._gauges[name] = read

    def value(self, name: str, **labels: str) -> float:
        """Return a counter's value, 0 when it was never added to."""
        text = _text(tuple(labels.items()))
        with self._lock:
            return self._counts.get((name, text), 0.0)

    def exposition(self) -> str:
        """Return everything as text."""
        with self._lock:
            found: dict[str, dict[str, float]] = defaultdict(dict)
            for (name, labels), amount in self._counts.items():
                found[name][labels] = amount
        kinds = dict.fromkeys(found, "counter")
        for name, read in self._gauges.items():
            found[name] = read()
            kinds[name] = "counter" if name.endswith("_total") else "gauge"
        lines = []
        for name in sorted(found):
            lines += [f"# HELP {name} {_HELP.get(name, name)}", f"# TYPE {name} {kinds[name]}"]
            for labels, amount in sorted(found[name].items()):
                lines.append(f"{name}{{{labels}}} {amount:g}" if labels else f"{name} {amount:g}")
        return "\n".join(lines) + "\n"


@lru_cache(maxsize=4096)
def _text(labels: tuple[tuple[str, str], ...]) -> str:
    """Return labels as they stand in the exposition, by name."""
    return ",".join(f'{key}="{value}"' for key, value in sorted(labels))
