"""The rules of the settings for what arrives and what is sent on, put to work."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError
from digital_twins.server._operations import coercions, configure_operations

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydicom.dataset import Dataset

    from digital_twins.config import Settings
    from digital_twins.dicom import Destination, DicomPeer, Forwarder, QueueState, Route, Tls
    from digital_twins.server._services import Services

_THREADS = 4


def start_routing(
    settings: Settings,
    services: Services,
    deidentifiers: Mapping[str, Callable[[Dataset], Dataset]],
) -> tuple[ThreadPoolExecutor, Forwarder]:
    """Queue what is stored from now on after the rules, and send what waits; returns what is to be closed.

    Raises
    ------
    InputError
        A peer or rule that cannot be used.
    """
    from digital_twins.dicom import Backoff, Forwarder, Policy, check_routes
    from digital_twins.server._dicom_ports import dicom_access

    access = dicom_access(settings, tls_port=False)
    wanted = {each.destination for each in settings.dicom_routes}
    wanted |= {state.destination for state in services.queues.states()}
    found = {
        title: _destination(access.peers.peers[title], settings.ae_title, access.tls)
        for title in sorted(wanted & set(access.peers.peers))
    }
    destinations = {title: to for title, to in found.items() if to is not None}
    routing = worker_routing(settings)
    check_routes(_rules(routing)[1], known=destinations, deidentifiers=deidentifiers)
    services.dicom.policy = Policy(settings.dicom_duplicates, settings.dicom_patient_conflicts)
    services.queues.backoff = Backoff(attempts=settings.dicom_route_attempts)
    follow_routing(services, routing)
    configure_operations(settings, services)
    _show_metrics(services)
    executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="forward")
    return executor, Forwarder(
        services.dicom,
        services.queues,
        executor,
        destinations=destinations,
        deidentifiers=deidentifiers,
        coercions=coercions(settings),
        system=settings.ae_title,
    )


def follow_settings(settings: Settings, services: Services) -> None:
    """Treat what this process stores as the node does, without sending: for commands beside a running node.

    Raises
    ------
    InputError
        A rule that cannot be used.
    """
    follow_routing(services, worker_routing(settings))
    configure_operations(settings, services)


def worker_routing(settings: Settings) -> str:
    """Return the rules as JSON for a worker process; '' without rules."""
    if not settings.dicom_routes:
        return ""
    rules = [each.model_dump() for each in settings.dicom_routes]
    forward = [each.model_dump() for each in settings.dicom_coercions if each.when == "forward"]
    return json.dumps({"stable_s": settings.study_stable_seconds, "rules": rules, "coercions": forward})


def follow_routing(services: Services, routing: str) -> None:
    """Queue what the store of this process gets from now on after rules that `worker_routing` wrote."""
    if not routing:
        return
    from digital_twins.dicom import Coercion, route_new

    stable_s, rules = _rules(routing)
    services.dicom.on_new = route_new(
        rules,
        services.queues,
        stable_s=stable_s,
        pseudonym=services.dicom.pseudonym,
        coercions=[Coercion(**row) for row in _rows(json.loads(routing)["coercions"])],
    )


def _rules(routing: str) -> tuple[float, list[Route]]:
    from digital_twins.dicom import Route

    if not routing:
        return 0.0, []
    found = json.loads(routing)
    return float(found["stable_s"]), [Route(**row) for row in _rows(found["rules"])]


def _rows(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give rules their tuples back, which JSON has as lists."""
    return [
        {key: tuple(each) if isinstance(each, list) else each for key, each in row.items()} for row in found
    ]


def _destination(peer: DicomPeer, ae_title: str, tls: Tls | None) -> Destination | None:
    from digital_twins.dicom import Destination, vendor_profile

    profile = vendor_profile(peer.profile)
    if peer.web_url:
        return Destination(web_url=peer.web_url, headers=profile.headers(api_key(peer)))
    remote = peer.remote(ae_title, tls)
    if remote is None:
        return None
    return Destination(remote, transfer_syntaxes=profile.compressed_transfer_syntaxes)


def api_key(peer: DicomPeer) -> str:
    """Return the API key of a peer, '' when it has none; raises InputError when its variable is not set."""
    if not peer.api_key_variable:
        return ""
    key = os.environ.get(peer.api_key_variable, "")
    if not key:
        raise InputError(
            f"The DICOM peer '{peer.ae_title}' cannot be sent to.",
            f"Its API key is not in the environment: {peer.api_key_variable} is not set.",
            "Set the variable for the node's process, or remove api_key_variable.",
        )
    return key


def _show_metrics(services: Services) -> None:
    values: dict[str, Callable[[QueueState], float]] = {
        "waiting": lambda state: state.waiting,
        "oldest_seconds": lambda state: state.oldest_s,
        "paused": lambda state: state.paused,
        "dead": lambda state: state.dead,
        "sent_total": lambda state: state.sent,
        "failed_total": lambda state: state.failed,
    }

    def reader(value: Callable[[QueueState], float]) -> Callable[[], dict[str, float]]:
        return lambda: {
            f'destination="{_escaped(state.destination)}"': float(value(state))
            for state in services.queues.states()
        }

    for name, value in values.items():
        services.metrics.gauge(f"twin_dicom_queue_{name}", reader(value))


def _escaped(title: str) -> str:
    return title.replace("\\", "\\\\").replace('"', '\\"')
