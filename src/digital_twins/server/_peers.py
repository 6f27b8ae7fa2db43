"""What is known of each DICOM peer: its last association, its last refusal, and whether it answers us."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from digital_twins._errors import DigitalTwinError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from digital_twins.dicom import DicomPeer, Tls
    from digital_twins.server._metrics import Metrics

OTHERS = "(others)"
"""Stands for every calling title that is not in the peers table, so that strangers cannot fill the memory."""


@dataclass(frozen=True, slots=True)
class PeerState:
    """A peer as the node has seen it since its start.

    Attributes
    ----------
    associations, refused
        Calls that were let in, and that were not.
    echo_ok
        Whether it answered our last C-ECHO; None: never asked.
    echo_error
        Why it did not.
    """

    ae_title: str
    host: str = ""
    port: int = 0
    web_url: str = ""
    profile: str = ""
    tls: bool = False
    associations: int = 0
    refused: int = 0
    last_association_utc: datetime | None = None
    last_refused_utc: datetime | None = None
    echo_ok: bool | None = None
    echo_utc: datetime | None = None
    echo_ms: float | None = None
    echo_error: str = ""


@dataclass(slots=True)
class PeerBook:
    """The peers of a node; safe to use from several threads.

    Attributes
    ----------
    ae_title, tls
        Our title and certificate, for calling them.
    """

    ae_title: str = ""
    tls: Tls | None = None
    _peers: Mapping[str, DicomPeer] = field(default_factory=dict)
    _states: dict[str, PeerState] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def know(self, peers: Iterable[DicomPeer], *, ae_title: str, tls: Tls | None) -> None:
        """Take the peers table."""
        self.ae_title, self.tls = ae_title, tls
        self._peers = {each.ae_title: each for each in peers}
        for each in self._peers.values():
            self._states[each.ae_title] = PeerState(
                each.ae_title, each.host, each.port, each.web_url, each.profile, each.tls
            )

    def called(self, title: str, address: str, accepted: bool) -> None:
        """Count a call of a peer."""
        del address
        name, now = title if title in self._peers else OTHERS, datetime.now(tz=UTC)
        with self._lock:
            state = self._states.get(name, PeerState(name))
            self._states[name] = (
                replace(state, associations=state.associations + 1, last_association_utc=now)
                if accepted
                else replace(state, refused=state.refused + 1, last_refused_utc=now)
            )

    def states(self) -> list[PeerState]:
        """Return every peer, by title."""
        with self._lock:
            return sorted(self._states.values(), key=lambda each: each.ae_title)

    def echo(self, title: str) -> PeerState:
        """Ask a peer whether it is there (C-ECHO) and return what is known of it then; blocks.

        Raises
        ------
        NotFoundError
            The peer is not in the table, or the table does not say where it listens.
        """
        from digital_twins import dicom

        peer = self._peers.get(title)
        remote = None if peer is None else peer.remote(self.ae_title, self.tls)
        if remote is None:
            raise NotFoundError(
                "The DICOM peer cannot be called.",
                "It is not in the peers table, or its row has no port.",
                "Give it host and port in [dicom_peers] of twin.toml.",
            )
        started, error = time.perf_counter(), ""
        try:
            dicom.echo(remote)
        except DigitalTwinError as failure:
            error = failure.why
        took_ms = 1000 * (time.perf_counter() - started)
        with self._lock:
            self._states[title] = replace(
                self._states[title],
                echo_ok=not error,
                echo_utc=datetime.now(tz=UTC),
                echo_ms=round(took_ms, 1),
                echo_error=error,
            )
            return self._states[title]

    def show(self, metrics: Metrics) -> None:
        """Register the values for ``/metrics``."""

        def labelled(values: Mapping[str, float]) -> dict[str, float]:
            return {f'peer="{name}"': value for name, value in values.items()}

        metrics.gauge(
            "twin_dicom_peer_associations_total",
            lambda: labelled({each.ae_title: each.associations for each in self.states()}),
        )
        metrics.gauge(
            "twin_dicom_peer_refused_total",
            lambda: labelled({each.ae_title: each.refused for each in self.states()}),
        )
        metrics.gauge(
            "twin_dicom_peer_echo_ok",
            lambda: labelled(
                {each.ae_title: float(each.echo_ok) for each in self.states() if each.echo_ok is not None}
            ),
        )
