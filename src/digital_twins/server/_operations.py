"""What an operator's settings do to stored objects, put to work in a node: see `digital_twins.dicom`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from digital_twins._errors import DigitalTwinError
from digital_twins._logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import apsw

    from digital_twins.config import Settings
    from digital_twins.dicom import (
        Coercion,
        DicomPeer,
        PrefetchRule,
        Prepared,
        PriorSource,
        Rejection,
        RetentionRule,
        Stored,
        Tls,
    )
    from digital_twins.server._services import Services

_POLL_S = 0.5
_AFTER_ERROR_S = 5.0
_HOUR_S = 3600.0
_log = get_logger(__name__)


def follow_operations(services: Services, *, show_quality: bool = False) -> None:
    """Let rejection notes and retention see every new object of this process, before the routes do."""
    from digital_twins.dicom import Rejections, file_is_there

    route = services.dicom.on_new

    def rejected(cursor: apsw.Cursor, rejection: Rejection) -> None:
        mark_withdrawn(cursor, services, rejection)

    services.rejections = Rejections(services.dicom, show_quality=show_quality, on_rejected=rejected)

    def arrived(cursor: apsw.Cursor, prepared: Prepared) -> None:
        file_is_there(services.dicom, prepared)
        services.rejections.follow(cursor, prepared)
        if route is not None:
            route(cursor, prepared)

    services.dicom.on_new = arrived


def configure_operations(settings: Settings, services: Services) -> None:
    """Follow the coercion rules, the quota and the rejection notes of the settings.

    Raises
    ------
    InputError
        A coercion or retention rule that cannot be used.
    """
    from digital_twins.dicom import Room, check_coercions, check_retention, coerce_received

    rules = coercions(settings)
    check_coercions(rules)
    check_retention(retention_rules(settings))
    if any(rule.when == "receive" for rule in rules):
        services.dicom.coerce = coerce_received(rules, services.dicom, system=settings.ae_title)
    if settings.dicom_quota_bytes or settings.dicom_min_free_bytes:
        services.dicom.room = Room(
            services.dicom,
            quota_bytes=settings.dicom_quota_bytes,
            min_free_bytes=settings.dicom_min_free_bytes,
        )
    follow_operations(services, show_quality=settings.dicom_rejected_for_quality == "show")


def coercions(settings: Settings) -> list[Coercion]:
    """Return the coercion rules of the settings."""
    from digital_twins.dicom import Coercion

    return [Coercion(**row.model_dump()) for row in settings.dicom_coercions]


def retention_rules(settings: Settings) -> list[RetentionRule]:
    """Return the retention rules of the settings."""
    from digital_twins.dicom import RetentionRule

    return [RetentionRule(**row.model_dump()) for row in settings.dicom_retention]


def prefetch_rules(settings: Settings) -> list[PrefetchRule]:
    """Return the prefetch rules of the settings."""
    from digital_twins.dicom import PrefetchRule

    return [PrefetchRule(**row.model_dump()) for row in settings.dicom_prefetch]


def mark_withdrawn(cursor: apsw.Cursor, services: Services, rejection: Rejection) -> None:
    """Mark the twins that were made from withdrawn objects, with an audit event when there are any."""
    from digital_twins.audit import AuditEvent
    from digital_twins.dicom import REJECTION_REASONS

    reason = REJECTION_REASONS[rejection.reason].meaning
    count = services.stale.withdrawn_in(cursor, rejection.sop_uids, reason=reason, note=rejection.note)
    if count:
        event = AuditEvent(
            "U", "twin.stale", "success", "node", entity=rejection.note, detail={"versions": count}
        )
        services.auditor.stage(cursor, event)


def mark_if_withdrawn(cursor: apsw.Cursor, services: Services, twin: tuple[str, int]) -> None:
    """Mark a new twin version whose objects were withdrawn while it was built."""
    from digital_twins.dicom import Rejection

    rows: Any = cursor.execute(
        "SELECT w.reason, w.note, w.sop_uid FROM dicom_withdrawn w JOIN server_twin_input i"
        " ON i.sop_uid = w.sop_uid WHERE i.twin_id = ? AND i.version = ?",
        twin,
    ).fetchall()
    for reason, note, uid in rows:
        mark_withdrawn(cursor, services, Rejection(note, reason, (uid,), hidden=True, ignored=0))


def start_prefetch(
    settings: Settings,
    services: Services,
    peers: dict[str, DicomPeer],
    *,
    tls: Tls | None,
    on_stored: Callable[[Stored], None],
) -> asyncio.Task[None] | None:
    """Fetch priors of what is ordered from now on and what waits; returns the task, None without rules.

    Raises
    ------
    InputError
        A rule whose archive cannot be asked.
    """
    from digital_twins.dicom import PrefetchQueue, check_prefetch, dimse_source, vendor_profile, web_source
    from digital_twins.server._routing import api_key

    rules = prefetch_rules(settings)
    services.prefetch = PrefetchQueue(services.dicom, rules)
    sources: dict[str, PriorSource] = {}
    loop = asyncio.get_running_loop()

    def told(stored: Stored) -> None:
        loop.call_soon_threadsafe(on_stored, stored)

    for title in {rule.source for rule in rules} & set(peers):
        peer = peers[title]
        profile = vendor_profile(peer.profile)
        remote = peer.remote(settings.ae_title, tls)
        if peer.web_url:
            headers = profile.headers(api_key(peer))
            sources[title] = web_source(
                peer.web_url, services.dicom, headers=headers, source=title, on_stored=told
            )
        elif remote is not None:
            sources[title] = dimse_source(
                remote, services.dicom, profile=profile, destination=settings.ae_title, on_stored=told
            )
    check_prefetch(rules, known=sources)
    return asyncio.create_task(_prefetch(services, sources)) if rules else None


def show_operations(services: Services) -> None:
    """Register the values for ``/metrics``."""
    from digital_twins.dicom import used_bytes

    def counted(sql: str) -> list[Any]:
        with services.database.read() as connection:
            rows: list[Any] = connection.execute(sql).fetchall()
        return rows

    services.metrics.gauge("twin_dicom_stored_bytes", lambda: {"": float(used_bytes(services.dicom))})
    services.metrics.gauge(
        "twin_dicom_withdrawn",
        lambda: {"": float(counted("SELECT count(*) FROM dicom_withdrawn WHERE entry <> ''")[0][0])},
    )
    services.metrics.gauge(
        "twin_dicom_prefetch",
        lambda: {
            f'source="{source}",state="{state}"': float(count)
            for source, state, count in counted(
                "SELECT source, state, count(*) FROM dicom_prefetch GROUP BY source, state"
            )
        },
    )


async def _prefetch(services: Services, sources: dict[str, PriorSource]) -> None:
    queue = services.prefetch
    while True:
        try:
            await asyncio.to_thread(queue.take_orders)
            due = [each for each in await asyncio.to_thread(queue.due) if each.source in sources]
            for entry in due:
                await asyncio.to_thread(queue.run, entry, sources[entry.source])
            if not due:
                await asyncio.sleep(_POLL_S)
        except DigitalTwinError as error:  # a full disk: what waits is tried again
            _log.error("dicom.prefetch.stopped", what=error.what, why=error.why)
            await asyncio.sleep(_AFTER_ERROR_S)


def start_retention(
    settings: Settings, services: Services, peers: dict[str, DicomPeer], *, tls: Tls | None
) -> asyncio.Task[None] | None:
    """Run the retention rules again and again; returns the task, None when there is nothing to do."""
    rules = retention_rules(settings)
    if not rules or not settings.dicom_retention_hours:
        return None

    async def live() -> None:
        while True:
            try:
                await asyncio.to_thread(run_retention, services, rules)
                await asyncio.to_thread(_ask_commitment, settings, services, rules, peers=peers, tls=tls)
            except DigitalTwinError as error:
                _log.error("dicom.retention.failed", what=error.what, why=error.why)
            await asyncio.sleep(settings.dicom_retention_hours * _HOUR_S)

    return asyncio.create_task(live())


def run_retention(services: Services, rules: Sequence[RetentionRule]) -> None:
    """Remove once what the rules let go."""
    from digital_twins.dicom import Retention

    report = Retention(services.dicom, rules, protected=services.stale.objects_in).run()
    removed = sum(not each.kept_because for each in report.items)
    _log.info("dicom.retention.run", count=removed, bytes=report.freed_bytes)


def _ask_commitment(
    settings: Settings,
    services: Services,
    rules: Sequence[RetentionRule],
    *,
    peers: dict[str, DicomPeer],
    tls: Tls | None,
) -> None:
    from digital_twins.dicom import DimseFailedError, Retention, request_commitment

    retention = Retention(services.dicom, rules, protected=services.stale.objects_in)
    unreachable: set[str] = set()
    for title, objects in retention.uncommitted():
        remote = peers[title].remote(settings.ae_title, tls) if title in peers else None
        if remote is None or title in unreachable:
            _log.error("dicom.retention.uncommitted", peer=title)
            continue
        try:
            request_commitment(services.dicom, remote, objects)
        except DimseFailedError as error:  # asked again after dicom_retention_hours
            _log.error("dicom.retention.uncommitted", peer=title, why=error.why)
            unreachable.add(title)
