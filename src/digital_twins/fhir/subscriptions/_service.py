"""The service behind Subscriptions: it follows what is written, matches it, delivers by a durable queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import httpx
import orjson

from digital_twins._errors import DigitalTwinError, InputError, StorageError
from digital_twins._logging import get_logger
from digital_twins.audit import AuditEvent, stage
from digital_twins.fhir._query import parse_query
from digital_twins.fhir._search import run_query
from digital_twins.fhir._write import now_us
from digital_twins.fhir.subscriptions._bundles import Wish, notification, status_parameters, wish_of
from digital_twins.fhir.subscriptions._deliver import allowed_endpoint, header_lines, send
from digital_twins.storage import JobState

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    import apsw

    from digital_twins.fhir._store import FhirStore
    from digital_twins.storage import Job, JobQueue

NOTIFY = "fhir.notify"
"""Kind of the jobs that deliver one notification."""
_log = get_logger(__name__)
_LIVE = {"active", "requested"}
_ATTEMPTS = 8
_RETRY_S = 2.0
_WORKER = "subscriptions"
_JSON = "application/fhir+json"


class Subscriptions:
    """Follows a store and tells subscribers.

    A Subscription whose endpoint is allowed becomes ``active`` (one by topic after its handshake), any other
    ``error`` with the reason in ``Subscription.error``. Changes are followed by their time stamps, so that
    none is lost over a restart; several changes of a resource between two looks are told once. A delivery
    that fails is repeated with doubling pauses (2 s to 5 minutes, 8 times), then
    the subscription is in error.

    Parameters
    ----------
    store
        What is followed; its database has this module's and the queue's migrations.
    jobs
        The queue.
    allowed
        Addresses under which endpoints may lie; none by default.
    base_url
        Address of the FHIR base, for links in notifications.
    retry_delay_s
        Pause before the second try.
    attempts
        Tries before the subscription is in error.
    """

    def __init__(
        self,
        store: FhirStore,
        jobs: JobQueue,
        *,
        allowed: Sequence[str] = (),
        base_url: str,
        retry_delay_s: float = _RETRY_S,
        attempts: int = _ATTEMPTS,
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._allowed = tuple(allowed)
        self._base_url = base_url.rstrip("/")
        self._retry_s = retry_delay_s
        self._attempts = attempts
        self._client = httpx.Client(trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def run(self, stopping: threading.Event, *, pause_s: float = 0.5) -> None:
        """Follow and deliver until `stopping` is set."""
        while not stopping.is_set():
            try:
                busy = self.follow() or self.deliver_one()
            except StorageError as error:
                _log.error("fhir.subscriptions.storage", what=error.what, why=error.why)
                busy = False
            if not busy:
                stopping.wait(pause_s)

    def follow(self) -> bool:
        """Look once at what has changed since the last look; whether there was anything."""
        wishes = self._wishes()
        self._beat(wishes)
        since = self._since()
        until = (
            self._store.database.write(lambda _: now_us()) - 1000
        )  # as for exports: all of it is committed
        with self._store.database.read() as connection:
            rows = connection.execute(
                "SELECT type, id, updated FROM fhir_resource WHERE updated>? AND updated<=? AND deleted=0"
                " ORDER BY updated, rid",
                (since, until),
            ).fetchall()
        changed = [(str(kind), str(name), int(str(at))) for kind, name, at in rows]
        events = [
            (wish, f"{kind}/{name}", at)
            for kind, name, at in changed
            if kind != "Subscription"
            for status, wish in wishes
            if status == "active" and self._matches(wish, kind, name)
        ]

        def work(cursor: apsw.Cursor) -> None:
            for wish, focus, at in events:
                self._queue(cursor, wish, focus, at)
            cursor.execute(
                "INSERT INTO fhir_feed(name, until_us) VALUES('changes', ?)"
                " ON CONFLICT(name) DO UPDATE SET until_us=excluded.until_us",
                (until,),
            )

        if changed or until - since > 60_000_000:
            self._store.database.write(work)
        for kind, name, _ in changed:
            if kind == "Subscription":
                self._begin(name)
        return bool(changed)

    def deliver_one(self) -> bool:
        """Deliver the oldest notification that waits; False when there is none."""
        job = self._jobs.claim(_WORKER, [NOTIFY], lease_s=120.0)
        if job is None:
            return False
        wish, status = self._subscription(str(job.payload["subscription"]))
        if wish is None or status != "active":
            self._jobs.succeed(job, {"skipped": status})
            return True
        try:
            self._deliver(wish, job)
        except DigitalTwinError as error:
            if self._jobs.fail(job, error, retry_delay_s=self._retry_s) is JobState.FAILED:
                self._set_status(wish.name, "error", error.why)
            return True
        event = AuditEvent("E", "fhir.notify", "success", "node", f"Subscription/{wish.name}")

        def work(cursor: apsw.Cursor) -> None:
            self._jobs.succeed_in(cursor, job, {"event": job.payload["number"]})
            stage(cursor, event)

        self._store.database.write(work)
        return True

    def status(self, name: str) -> dict[str, Any]:
        """Return the status of a subscription as Parameters (operation ``$status``).

        Raises
        ------
        FhirError
            404 or 410 when there is no such subscription.
        """
        resource = self._store.read("Subscription", name).resource
        wish = wish_of(resource)
        return status_parameters(
            wish, status=str(resource.get("status")), kind="query-status", events=self._events(name)
        )

    def _since(self) -> int:
        with self._store.database.read() as connection:
            row = connection.execute("SELECT until_us FROM fhir_feed WHERE name='changes'").fetchone()
        return 0 if row is None else int(str(row[0]))

    def _wishes(self) -> list[tuple[str, Wish]]:
        with self._store.database.read() as connection:
            rows = connection.execute(
                "SELECT body FROM fhir_resource WHERE type='Subscription' AND deleted=0 ORDER BY rid"
            ).fetchall()
        resources = [orjson.loads(bytes(row[0])) for row in rows]  # type: ignore[arg-type]
        return [(str(r.get("status")), wish_of(r)) for r in resources if r.get("status") in _LIVE]

    def _subscription(self, name: str) -> tuple[Wish | None, str]:
        with self._store.database.read() as connection:
            row = connection.execute(
                "SELECT body FROM fhir_resource WHERE type='Subscription' AND id=? AND deleted=0", (name,)
            ).fetchone()
        if row is None:
            return None, "deleted"
        resource = orjson.loads(bytes(row[0]))
        return wish_of(resource), str(resource.get("status"))

    def _events(self, name: str) -> int:
        with self._store.database.read() as connection:
            row = connection.execute("SELECT events FROM fhir_subscription WHERE id=?", (name,)).fetchone()
        return 0 if row is None else int(str(row[0]))

    def _matches(self, wish: Wish, kind: str, name: str) -> bool:
        found = any(self._finds(query, kind, name) for query in wish.queries)
        own = [text for text in wish.filters if text.partition("?")[0] == kind]
        return found and all(self._finds(text, kind, name) for text in own)

    def _finds(self, text: str, kind: str, name: str) -> bool:
        wanted, _, words = text.partition("?")
        if wanted != kind:
            return False
        pairs = [*parse_qsl(words, keep_blank_values=True), ("_id", name)]
        served = self._store.package_parameters
        with self._store.database.read() as connection:
            return bool(run_query(connection, parse_query(kind, pairs, extra=served)).matches)

    def _queue(self, cursor: apsw.Cursor, wish: Wish, focus: str, at_us: int) -> None:
        cursor.execute(
            "INSERT INTO fhir_subscription(id, events) VALUES(?, 1)"
            " ON CONFLICT(id) DO UPDATE SET events=events+1",
            (wish.name,),
        )
        row = cursor.execute("SELECT events FROM fhir_subscription WHERE id=?", (wish.name,)).fetchone()
        number = int(str(row[0])) if row else 1
        payload = {"subscription": wish.name, "focus": focus, "number": number, "at_us": at_us}
        key = f"{NOTIFY}:{wish.name}:{number}"
        self._jobs.enqueue_in(cursor, NOTIFY, payload, key=key, max_attempts=self._attempts)

    def _begin(self, name: str) -> None:
        """Take a requested subscription up: check it, shake hands, make it active; else put it in error."""
        wish, status = self._subscription(name)
        if wish is None or status != "requested":
            return
        try:
            self._check(wish)
            if wish.topic:
                self._post(wish, status_parameters(wish, status="requested", kind="handshake", events=0))
        except DigitalTwinError as error:
            self._set_status(name, "error", error.why)
        else:
            self._set_status(name, "active", None)

    def _check(self, wish: Wish) -> None:
        """Raise InputError unless the subscription can be served."""
        resource = self._store.read("Subscription", wish.name, agent="node").resource
        what = "The subscription cannot be served."
        if resource.get("channel", {}).get("type") != "rest-hook":
            raise InputError(what, "Only the channel rest-hook is served.", "Use it.")
        if not allowed_endpoint(wish.endpoint, self._allowed):
            raise InputError(what, "Its endpoint is not allowed.", "Add it to subscription_endpoints.")
        if not wish.queries:
            raise InputError(what, "Its topic is not known here.", "Ask for the topics of the node.")
        if wish.payload not in {"", _JSON, "application/json"}:
            raise InputError(what, f"Only the payload {_JSON} is served.", "Use it, or none.")
        header_lines(wish.headers)
        for text in (*wish.queries, *wish.filters):
            kind, _, words = text.partition("?")
            if not kind:
                raise InputError(what, "Its criteria is no search.", "Write e.g. Observation?code=1234-5.")
            pairs = parse_qsl(words, keep_blank_values=True)
            parse_query(kind, pairs, strict=True, extra=self._store.package_parameters)

    def _set_status(self, name: str, status: str, error: str | None) -> None:
        resource = self._store.read("Subscription", name, agent="node").resource
        resource = {**resource, "status": status}
        resource.pop("error", None)
        if error is not None:
            resource["error"] = error
        self._store.update(resource, agent="node")

    def _deliver(self, wish: Wish, job: Job) -> None:
        if not allowed_endpoint(wish.endpoint, self._allowed):  # the operator may have changed their mind
            raise InputError("The subscription is not served.", "Its endpoint is not allowed.", "Allow it.")
        focus, number = str(job.payload["focus"]), int(job.payload["number"])
        kind, _, name = focus.partition("/")
        if wish.topic:
            event = {"number": number, "at_us": job.payload["at_us"], "focus": focus}
            parameters = status_parameters(
                wish, status="active", kind="event-notification", events=number, event=event
            )
            resource = (
                self._store.read(kind, name, agent="node").resource
                if wish.content == "full-resource"
                else None
            )
            self._post(wish, parameters, [(focus, resource)] if wish.content != "empty" else [])
            return
        headers = header_lines(wish.headers)
        if not wish.payload:
            send(self._client, "POST", wish.endpoint, headers=headers, timeout_s=wish.timeout_s)
            return
        # R4 rest-hook with a payload: PUT [endpoint]/[type]/[id], as HAPI sends it [verify]
        body = self._store.read(kind, name, agent="node").body
        url = f"{wish.endpoint.rstrip('/')}/{focus}"
        headers = {**headers, "content-type": wish.payload}
        send(self._client, "PUT", url, body=body, headers=headers, timeout_s=wish.timeout_s)

    def _post(self, wish: Wish, parameters: dict[str, Any], focus: Sequence[Any] = ()) -> None:
        bundle = notification(parameters, wish, base_url=self._base_url, focus=focus)
        headers = {**header_lines(wish.headers), "content-type": wish.payload or _JSON}
        body = orjson.dumps(bundle)
        send(self._client, "POST", wish.endpoint, body=body, headers=headers, timeout_s=wish.timeout_s)
        self._store.database.write(
            lambda cursor: (
                cursor.execute(
                    "INSERT INTO fhir_subscription(id, told_us) VALUES(?, ?)"
                    " ON CONFLICT(id) DO UPDATE SET told_us=excluded.told_us",
                    (wish.name, now_us()),
                )
                and None
            )
        )

    def _beat(self, wishes: Sequence[tuple[str, Wish]]) -> None:
        """Send a heartbeat to each topic subscription that was told nothing for its period."""
        for status, wish in wishes:
            if status != "active" or not wish.topic or wish.heartbeat_s <= 0:
                continue
            with self._store.database.read() as connection:
                row = connection.execute(
                    "SELECT told_us, events FROM fhir_subscription WHERE id=?", (wish.name,)
                ).fetchone()
            told, events = (int(str(row[0])), int(str(row[1]))) if row else (0, 0)
            if now_us() - told < wish.heartbeat_s * 1_000_000:
                continue
            try:
                self._post(wish, status_parameters(wish, status="active", kind="heartbeat", events=events))
            except DigitalTwinError as error:
                _log.warning("fhir.subscriptions.heartbeat", why=error.why)
