"""Priors on order: what is scheduled makes the node fetch earlier studies of the patient from an archive."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from digital_twins._errors import DigitalTwinError, InputError, NotFoundError
from digital_twins._logging import get_logger
from digital_twins.audit import AuditEvent, stage
from digital_twins.dicom._queues import Backoff

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    import apsw

    from digital_twins.dicom._store import DicomStore

WAITING, DONE, DEAD = "waiting", "done", "dead"
_COLUMNS = (
    "id, order_key, source, patient_id, study_uid, state, attempts, not_before, error, found, fetched, queued"
)
_PATIENT_ID, _STUDY_UID = "00100020", "0020000D"
_SCAN = 500
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PrefetchRule:
    """Which priors are fetched from which archive.

    Attributes
    ----------
    source
        AE title of a peer that can be called, or has a DICOMweb root.
    modalities
        A prior holds at least one of them; empty: any.
    body_parts
        A prior has a series of one of these BodyPartExamined. One without any body part is fetched too:
        it might be the one that is needed.
    max_studies
        The latest so many.
    max_age_days
        Days since StudyDate; 0: any age.
    """

    source: str
    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    max_studies: int = 3
    max_age_days: float = 0.0


@dataclass(frozen=True, slots=True)
class Prefetch:
    """One order's priors of one archive on their way.

    Attributes
    ----------
    state
        ``"waiting"``, ``"done"`` or ``"dead"`` (given up after the attempts of the back-off).
    found, fetched
        Priors that the archive has and the rule wants; objects that came.
    error
        Why the last attempt failed.
    """

    id: int
    order_key: str
    source: str
    patient_id: str = field(repr=False)
    study_uid: str
    state: str
    attempts: int
    not_before: float
    error: str
    found: int
    fetched: int
    queued: float


@dataclass(frozen=True, slots=True)
class Prior:
    """A study that an archive has: its UID, StudyDate, modalities, body parts and number of objects."""

    study_uid: str
    date: str
    modalities: frozenset[str]
    body_parts: frozenset[str]
    instances: int


class PriorSource(Protocol):
    """An archive that is asked for priors; `digital_twins.dicom.dimse_source` and `web_source` make one."""

    def studies(self, patient_id: str) -> list[Prior]:
        """Return every study of a patient; raises DigitalTwinError when the archive does not answer."""

    def fetch(self, study_uid: str) -> int:
        """Bring a study into the store and return how many objects came; raises DigitalTwinError."""


class PrefetchQueue:
    """Orders whose priors are to be fetched, in a database with `digital_twins.dicom.MIGRATIONS`.

    Parameters
    ----------
    store
        Where priors go, and whose worklist and workitems are the orders.
    rules
        One or more archives; an order asks each of them once.
    """

    def __init__(
        self, store: DicomStore, rules: Sequence[PrefetchRule], backoff: Backoff | None = None
    ) -> None:
        self._store, self._rules, self.backoff = store, tuple(rules), backoff or Backoff(first_s=5.0)

    def take_orders(self) -> int:
        """Queue what was scheduled since the last call, from worklist and workitems; return how many."""
        if not self._rules:
            return 0
        with self._store.database.read() as connection:
            items: Any = connection.execute(
                "SELECT 'mwl ' || w.study_uid || ' ' || w.step_id, w.patient_id, w.study_uid"
                " FROM dicom_worklist w WHERE w.status = 'SCHEDULED' AND w.patient_id <> ''"
                " AND NOT EXISTS (SELECT 1 FROM dicom_prefetch f"
                "  WHERE f.order_key = 'mwl ' || w.study_uid || ' ' || w.step_id) LIMIT ?",
                (_SCAN,),
            ).fetchall()
            workitems: Any = connection.execute(
                "SELECT 'ups ' || w.uid, w.model FROM dicom_workitem w WHERE w.state = 'SCHEDULED'"
                " AND NOT EXISTS (SELECT 1 FROM dicom_prefetch f"
                "  WHERE f.order_key = 'ups ' || w.uid) LIMIT ?",
                (_SCAN,),
            ).fetchall()
        orders = [(str(key), str(patient), str(study)) for key, patient, study in items]
        orders += [(str(key), *_names(orjson.loads(model))) for key, model in workitems]
        if orders:
            self._store.database.write(partial(self._put_all, orders=orders))
        return len(orders)

    def request(self, patient_id: str, *, order: str = "", agent: str = "operator") -> list[Prefetch]:
        """Queue a patient's priors by hand; an ``order`` is asked for once.

        Raises
        ------
        InputError
            No PatientID, or no rule says where from.
        """
        if not patient_id or not self._rules:
            raise InputError(
                "No priors can be fetched.",
                "There is no PatientID." if self._rules else "No rule says from which archive.",
                "Name the patient, and add a rule to [[dicom_prefetch]] of twin.toml.",
            )
        key = f"api {order or time.time_ns()}"

        def work(cursor: apsw.Cursor) -> None:
            self._put(cursor, key, patient_id, "")
            patient = self._store.pseudonym(patient_id)
            stage(cursor, AuditEvent("E", "dicom.prefetch.request", "success", agent, patient=patient))

        self._store.database.write(work)
        return [each for each in self.entries() if each.order_key == key]

    def entries(self, *, limit: int = 500) -> list[Prefetch]:
        """Return the latest entries, newest first."""
        return self._select("ORDER BY id DESC LIMIT ?", (limit,))

    def due(self, *, limit: int = 16) -> list[Prefetch]:
        """Return what is to be fetched now, oldest first."""
        return self._select(
            "WHERE state = 'waiting' AND not_before <= ? ORDER BY id LIMIT ?", (time.time(), limit)
        )

    def replay(self, source: str, *, agent: str = "operator") -> int:
        """Try again what was given up of an archive and return how many orders that is."""

        def work(cursor: apsw.Cursor) -> int:
            rows = cursor.execute(
                "UPDATE dicom_prefetch SET state = 'waiting', attempts = 0, not_before = 0"
                " WHERE source = ? AND state = 'dead' RETURNING id",
                (source,),
            ).fetchall()
            detail = {"orders": len(rows)}
            event = AuditEvent("U", "dicom.prefetch.replay", "success", agent, entity=source, detail=detail)
            stage(cursor, event)
            return len(rows)

        return self._store.database.write(work)

    def run(self, entry: Prefetch, source: PriorSource) -> Prefetch:
        """Fetch the priors of one order and note the end; blocks, whatever the archive does."""
        try:
            rule = self._rule(entry.source)
            if set(entry.patient_id) & set("*?\\"):  # an archive would take it for a pattern
                raise _no_pattern()
            wanted = choose_priors(source.studies(entry.patient_id), rule, not_this=entry.study_uid)
            fetched = sum(source.fetch(each.study_uid) for each in wanted if self._lacks(each))
        except DigitalTwinError as error:
            _log.warning("dicom.prefetch.failed", peer=entry.source, reason=error.why)
            return self._failed(entry, error.why)
        return self._ended(entry, found=len(wanted), fetched=fetched)

    def _rule(self, source: str) -> PrefetchRule:
        for rule in self._rules:
            if rule.source == source:
                return rule
        raise NotFoundError(
            "The priors were not fetched.",
            "No rule names this archive any more.",
            "Add it to [[dicom_prefetch]] again.",
        )

    def _lacks(self, prior: Prior) -> bool:
        """Whether fewer objects of a study are stored than the archive has; unknown numbers count as more."""
        with self._store.database.read() as connection:
            rows: Any = connection.execute(
                "SELECT coalesce(sum(e.instances), 0) FROM dicom_series e"
                " JOIN dicom_study s ON s.id = e.study WHERE s.study_uid = ?",
                (prior.study_uid,),
            ).fetchall()
        return prior.instances == 0 or int(rows[0][0]) < prior.instances

    def _put_all(self, cursor: apsw.Cursor, *, orders: Sequence[tuple[str, str, str]]) -> None:
        for order in orders:
            self._put(cursor, *order)

    def _put(self, cursor: apsw.Cursor, key: str, patient_id: str, study_uid: str) -> None:
        for source in dict.fromkeys(rule.source for rule in self._rules):
            state = WAITING if patient_id else DEAD
            cursor.execute(
                "INSERT INTO dicom_prefetch (order_key, source, patient_id, study_uid, state, attempts,"
                " not_before, error, found, fetched, queued) VALUES (?, ?, ?, ?, ?, 0, 0, ?, 0, 0, ?)"
                " ON CONFLICT DO NOTHING",
                (
                    *(key, source, patient_id, study_uid, state),
                    "" if patient_id else "The order names no patient.",
                    time.time(),
                ),
            )

    def _ended(self, entry: Prefetch, *, found: int, fetched: int) -> Prefetch:
        def work(cursor: apsw.Cursor) -> None:
            cursor.execute(
                "UPDATE dicom_prefetch SET state = 'done', error = '', attempts = attempts + 1, found = ?,"
                " fetched = ? WHERE id = ?",
                (found, fetched, entry.id),
            )
            stage(cursor, self._event(entry, "success", {"priors": found, "objects": fetched}))

        self._store.database.write(work)
        return self._again(entry)

    def _failed(self, entry: Prefetch, why: str) -> Prefetch:
        attempts = entry.attempts + 1
        dead = attempts >= self.backoff.attempts
        due = time.time() + self.backoff.pause_s(attempts)

        def work(cursor: apsw.Cursor) -> None:
            cursor.execute(
                "UPDATE dicom_prefetch SET attempts = ?, not_before = ?, error = ?, state = ? WHERE id = ?",
                (attempts, due, why, DEAD if dead else WAITING, entry.id),
            )
            if dead:
                stage(cursor, self._event(entry, "failure", {"why": why}))

        self._store.database.write(work)
        return self._again(entry)

    def _event(self, entry: Prefetch, outcome: str, detail: Mapping[str, str | int]) -> AuditEvent:
        return AuditEvent(
            action="R",
            kind="dicom.prefetch",
            outcome=outcome,  # type: ignore[arg-type]
            agent=entry.source,
            entity=entry.order_key,
            patient=self._store.pseudonym(entry.patient_id),
            detail=detail,
        )

    def _again(self, entry: Prefetch) -> Prefetch:
        return self._select("WHERE id = ?", (entry.id,))[0]

    def _select(self, tail: str, values: tuple[Any, ...]) -> list[Prefetch]:
        with self._store.database.read() as connection:
            sql = f"SELECT {_COLUMNS} FROM dicom_prefetch {tail}"  # noqa: S608  (constants)  # nosec B608
            rows: Any = connection.execute(sql, values).fetchall()
        return [Prefetch(*row) for row in rows]


def choose_priors(
    studies: Sequence[Prior], rule: PrefetchRule, *, not_this: str = "", today: datetime | None = None
) -> list[Prior]:
    """Return the studies that a rule wants, the latest first.

    Parameters
    ----------
    not_this
        The ordered study itself.
    today
        From when the age counts; now by default.
    """
    oldest = ""
    if rule.max_age_days:
        at = today or datetime.now(tz=UTC)
        oldest = (at - timedelta(days=rule.max_age_days)).strftime("%Y%m%d")
    parts = {part.upper() for part in rule.body_parts}
    wanted = [
        each
        for each in studies
        if each.study_uid != not_this
        and (not rule.modalities or each.modalities & set(rule.modalities))
        and (not parts or not each.body_parts or {part.upper() for part in each.body_parts} & parts)
        and (not oldest or not each.date or each.date >= oldest)
    ]
    return sorted(wanted, key=lambda each: (each.date, each.study_uid), reverse=True)[: rule.max_studies]


def check_prefetch(rules: Sequence[PrefetchRule], *, known: Container[str]) -> None:
    """Refuse rules whose archive cannot be asked, or that name one twice; raises InputError."""
    seen: set[str] = set()
    for number, rule in enumerate(rules, 1):
        if rule.source not in known or rule.source in seen or rule.max_studies < 1:
            raise InputError(
                f"Prefetch rule {number} cannot be used.",
                f"Its source '{rule.source}' is no peer that can be called, has a rule already, or"
                " max_studies is below 1.",
                "Correct it in [[dicom_prefetch]] of twin.toml; sources are rows of the peers table.",
            )
        seen.add(rule.source)


def _no_pattern() -> InputError:
    return InputError(
        "The priors were not fetched.",
        "The PatientID has a character that queries read as a wildcard.",
        "Fetch the priors by hand.",
    )


def _names(model: Mapping[str, Any]) -> tuple[str, str]:
    """Return PatientID and Study Instance UID of a workitem."""
    found = []
    for tag in (_PATIENT_ID, _STUDY_UID):
        values = model.get(tag, {}).get("Value") or [""]
        found.append(str(values[0]))
    return found[0], found[1]
