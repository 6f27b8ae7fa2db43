"""Retention: which studies go, which must stay, and how their files are removed without losing any other."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError, NotFoundError, StorageError
from digital_twins.audit import AuditEvent, stage
from digital_twins.dicom._removal import entry_of, take_out

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    import apsw

    from digital_twins.dicom._store import DicomStore
    from digital_twins.dicom._stored import Prepared

_UNLINK_BATCH = 200
_RECOUNT_S = 5.0


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """Which studies may go; a study is judged as a whole.

    Attributes
    ----------
    modalities
        The rule is for studies that hold nothing else; empty: all.
    calling
        The rule is for studies of which every object came from these AE titles; empty: all.
    older_than_days
        Days since the last object of the study came; 0: no limit.
    keep_bytes
        The studies that came last stay up to this many bytes in all, and older ones go; 0: age alone decides.
    committed_by
        AE title of an archive that must have committed (N-EVENT-REPORT) to every object; '': none need be.
    including_twins
        Studies also go that a twin or its documents were made from, or that hold those documents.
    """

    modalities: tuple[str, ...] = ()
    calling: tuple[str, ...] = ()
    older_than_days: float = 0.0
    keep_bytes: int = 0
    committed_by: str = ""
    including_twins: bool = False


@dataclass(frozen=True, slots=True)
class RetentionItem:
    """A study that a rule wants to go.

    Attributes
    ----------
    rule
        Number of the rule, from 1.
    kept_because
        '' when it goes; else ``"legal hold"``, ``"twin"``, ``"queued"`` or ``"not committed"``.
    """

    study_uid: str
    instances: int
    size_bytes: int
    last_received_utc: str
    rule: int
    kept_because: str = ""


@dataclass(frozen=True, slots=True)
class RetentionReport:
    """What a run did, or would do."""

    dry_run: bool
    items: tuple[RetentionItem, ...]
    freed_bytes: int


@dataclass(frozen=True, slots=True)
class _Study:
    uid: str
    instances: int
    size_bytes: int
    last_received_utc: str
    modalities: frozenset[str] = field(default_factory=frozenset)
    sources: frozenset[str] = field(default_factory=frozenset)


class Retention:
    """Follows retention rules over a store.

    Parameters
    ----------
    protected
        Returns the SOP Instance UIDs that twins and reports depend on; called with the cursor.
    """

    def __init__(
        self,
        store: DicomStore,
        rules: Sequence[RetentionRule],
        *,
        protected: Callable[[apsw.Cursor], Container[str]] = lambda _cursor: frozenset(),
    ) -> None:
        check_retention(rules)
        self._store, self._rules, self._protected = store, tuple(rules), protected

    def plan(self, *, now: datetime | None = None) -> tuple[RetentionItem, ...]:
        """Return every study that a rule wants to go, with why it stays if it must; oldest first."""
        with self._store.database.read() as connection:
            return self._plan(connection.cursor(), now or datetime.now(tz=UTC))

    def run(
        self, *, dry_run: bool = False, agent: str = "node", now: datetime | None = None
    ) -> RetentionReport:
        """Remove what may go, one transaction with one audit event a study.

        Each study is judged again inside its transaction. Files go after that, once nothing names them.

        Raises
        ------
        StorageError
            The database or a file cannot be written; the next run goes on.
        """
        at = now or datetime.now(tz=UTC)
        planned = self.plan(now=at)
        if dry_run:
            freed = sum(each.size_bytes for each in planned if not each.kept_because)
            return RetentionReport(dry_run=True, items=planned, freed_bytes=freed)
        done = []
        for item in planned:
            if item.kept_because:
                done.append(item)
                continue
            removed = self._store.database.write(partial(self._remove, planned=item, now=at, agent=agent))
            done.append(removed)
        unlink_unnamed(self._store)
        freed = sum(each.size_bytes for each in done if not each.kept_because)
        return RetentionReport(dry_run=False, items=tuple(done), freed_bytes=freed)

    def uncommitted(self, *, now: datetime | None = None) -> list[tuple[str, list[tuple[str, str]]]]:
        """Return what to ask a commitment for: the archive's AE title, and objects of one study.

        An object is (SOP Class, SOP Instance UID). What was asked for is left out for a day, then the answer
        counts as lost. Each study is a request of its own: an object that the archive lacks must not keep
        others.
        """
        at = now or datetime.now(tz=UTC)
        lost = (at - timedelta(days=1)).isoformat()
        wanted: list[tuple[str, list[tuple[str, str]]]] = []
        for item in self.plan(now=at):
            if item.kept_because != "not committed":
                continue
            peer = self._rules[item.rule - 1].committed_by
            with self._store.database.read() as connection:
                rows: Any = connection.execute(
                    "SELECT i.sop_class_uid, i.sop_uid FROM dicom_instance i JOIN dicom_series e"
                    " ON e.id = i.series JOIN dicom_study s ON s.id = e.study WHERE s.study_uid = ?"
                    " AND NOT EXISTS (SELECT 1 FROM dicom_commitment_object o JOIN dicom_commitment c"
                    " ON c.transaction_uid = o.transaction_uid WHERE o.sop_uid = i.sop_uid AND c.peer = ?"
                    " AND (c.state = 'committed' OR c.state = 'requested' AND c.requested_utc > ?))",
                    (item.study_uid, peer, lost),
                ).fetchall()
            if rows:
                wanted.append((peer, [(str(row[0]), str(row[1])) for row in rows]))
        return wanted

    def _plan(self, cursor: apsw.Cursor, now: datetime) -> tuple[RetentionItem, ...]:
        if not self._rules:
            return ()
        chosen: dict[str, RetentionItem] = {}
        studies = _studies(cursor)
        for number, rule in enumerate(self._rules, 1):
            for study in _wanted(studies, rule, now):
                if study.uid not in chosen or chosen[study.uid].kept_because:
                    item = RetentionItem(
                        study.uid, study.instances, study.size_bytes, study.last_received_utc, number
                    )
                    chosen[study.uid] = replace(item, kept_because=self._obstacle(cursor, item, rule))
        return tuple(sorted(chosen.values(), key=lambda each: each.last_received_utc))

    def _obstacle(self, cursor: apsw.Cursor, item: RetentionItem, rule: RetentionRule) -> str:
        uid = item.study_uid
        if cursor.execute("SELECT 1 FROM dicom_hold WHERE study_uid = ?", (uid,)).fetchall():
            return "legal hold"
        if cursor.execute("SELECT 1 FROM dicom_queue_entry WHERE study_uid = ? LIMIT 1", (uid,)).fetchall():
            return "queued"
        objects = _objects(cursor, uid)
        if not rule.including_twins:
            protected = self._protected(cursor)
            if any(each in protected for each in objects):
                return "twin"
        if rule.committed_by and not all(_committed(cursor, each, rule.committed_by) for each in objects):
            return "not committed"
        return ""

    def _remove(
        self, cursor: apsw.Cursor, planned: RetentionItem, now: datetime, agent: str
    ) -> RetentionItem:
        current = {each.study_uid: each for each in self._plan(cursor, now)}
        item = current.get(planned.study_uid)
        if item is None or item.kept_because:
            return replace(planned, kept_because=item.kept_because if item else "changed meanwhile")
        patient = ""
        for sop_uid in _objects(cursor, item.study_uid):
            entry = entry_of(cursor, sop_uid)
            assert entry is not None
            patient = str(entry["dicom_patient"]["patient_id"])
            take_out(cursor, entry)
            cursor.execute(
                "INSERT INTO dicom_unlink (blob) VALUES (?) ON CONFLICT DO NOTHING",
                (entry["dicom_instance"]["blob"],),
            )
        event = AuditEvent(
            action="D",
            kind="dicom.retention",
            outcome="success",
            agent=agent,
            entity=item.study_uid,
            patient=self._store.pseudonym(patient),
            detail={"instances": item.instances, "bytes": item.size_bytes, "rule": item.rule},
        )
        stage(cursor, event)
        return item


def check_retention(rules: Sequence[RetentionRule]) -> None:
    """Refuse rules that would take everything; raises InputError."""
    for number, rule in enumerate(rules, 1):
        if rule.older_than_days <= 0 and rule.keep_bytes <= 0:
            raise InputError(
                f"Retention rule {number} cannot be used.",
                "It has neither older_than_days nor keep_bytes, so everything would go.",
                "Set at least one of them in [[dicom_retention]] of twin.toml.",
            )


def hold_study(store: DicomStore, study_uid: str, *, reason: str, agent: str = "operator") -> None:
    """Keep a study from retention until `release_study`, also one that is yet to come."""

    def work(cursor: apsw.Cursor) -> None:
        cursor.execute(
            "INSERT INTO dicom_hold (study_uid, reason, agent, since_utc) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (study_uid) DO UPDATE SET reason = excluded.reason, agent = excluded.agent",
            (study_uid, reason, agent, datetime.now(tz=UTC).isoformat()),
        )
        stage(cursor, AuditEvent("U", "dicom.hold", "success", agent, entity=study_uid))

    store.database.write(work)


def release_study(store: DicomStore, study_uid: str, *, agent: str = "operator") -> None:
    """End a legal hold; raises NotFoundError where there is none."""

    def work(cursor: apsw.Cursor) -> None:
        if not cursor.execute(
            "DELETE FROM dicom_hold WHERE study_uid = ? RETURNING study_uid", (study_uid,)
        ).fetchall():
            raise NotFoundError(
                "There is no such legal hold.", "The study is not held.", "List the holds first."
            )
        stage(cursor, AuditEvent("U", "dicom.release", "success", agent, entity=study_uid))

    store.database.write(work)


def holds(store: DicomStore) -> list[dict[str, str]]:
    """Return the legal holds: study_uid, reason, agent, since_utc."""
    with store.database.read() as connection:
        rows: Any = connection.execute(
            "SELECT study_uid, reason, agent, since_utc FROM dicom_hold ORDER BY since_utc"
        ).fetchall()
    return [dict(zip(("study_uid", "reason", "agent", "since_utc"), row, strict=True)) for row in rows]


def unlink_unnamed(store: DicomStore) -> int:
    """Remove files that no row names any more and return how many.

    The check and the removal happen in a transaction of the one writer, and `file_is_there` refuses an object
    whose file went between its writing and its index row: no acknowledged object loses its file.
    """
    removed = 0
    while batch := store.database.write(lambda cursor: _unlink(cursor, store)):
        removed += batch
    return removed


def file_is_there(store: DicomStore, prepared: Prepared) -> None:
    """Refuse a new object whose file retention has just removed; raises StorageError."""
    if not store.blobs.exists(prepared.digest):
        raise StorageError(
            "The object could not be stored.",
            "An equal file was just removed by a retention rule.",
            "Send the object again.",
        )


class Room:
    """Refuses objects when a quota is used up or the disk nearly full (C-STORE status A700, HTTP 507).

    Parameters
    ----------
    quota_bytes
        All DICOM files together, withdrawn ones too; 0: no quota.
    min_free_bytes
        Free space that stays on the disk; 0: all may be used.
    """

    def __init__(self, store: DicomStore, *, quota_bytes: int = 0, min_free_bytes: int = 0) -> None:
        self._store, self._quota, self._free = store, quota_bytes, min_free_bytes
        self._used = 0
        self._counted = float("-inf")

    def __call__(self, size_bytes: int) -> None:
        """Take room for an object; raises StorageError when there is none."""
        if self._free and shutil.disk_usage(self._store.blobs.root).free - size_bytes < self._free:
            raise _full("The disk has less free space than dicom_min_free_bytes leaves.")
        if not self._quota:
            return
        if time.monotonic() - self._counted > _RECOUNT_S or self._used + size_bytes > self._quota:
            self._used, self._counted = used_bytes(self._store), time.monotonic()
        if self._used + size_bytes > self._quota:
            raise _full("The quota dicom_quota_bytes is used up.")
        self._used += size_bytes


def used_bytes(store: DicomStore) -> int:
    """Return the bytes of all stored DICOM files, withdrawn ones too."""
    with store.database.read() as connection:
        rows: Any = connection.execute(
            "SELECT (SELECT coalesce(sum(size_bytes), 0) FROM dicom_instance)"
            " + (SELECT coalesce(sum(size_bytes), 0) FROM dicom_withdrawn)"
        ).fetchall()
    return int(rows[0][0])


def _full(why: str) -> StorageError:
    return StorageError(
        "The object could not be stored.", why, "Make room, set a retention rule, or raise the limit."
    )


def _unlink(cursor: apsw.Cursor, store: DicomStore) -> int:
    rows: Any = cursor.execute("SELECT blob FROM dicom_unlink LIMIT ?", (_UNLINK_BATCH,)).fetchall()
    for (blob,) in rows:
        named = cursor.execute(
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM dicom_instance WHERE blob = ?)"
            " OR EXISTS (SELECT 1 FROM dicom_queue_entry WHERE blob = ?)"
            " OR EXISTS (SELECT 1 FROM dicom_withdrawn WHERE blob = ?)",
            (blob, blob, blob),
        ).fetchall()
        if not named:
            with suppress(FileNotFoundError):
                store.blobs.path(blob).unlink()
        cursor.execute("DELETE FROM dicom_unlink WHERE blob = ?", (blob,))
    return len(rows)


def _studies(cursor: apsw.Cursor) -> list[_Study]:
    rows: Any = cursor.execute(
        "SELECT s.study_uid, e.modality, i.source, count(*), sum(i.size_bytes), max(i.received_utc)"
        " FROM dicom_instance i JOIN dicom_series e ON e.id = i.series JOIN dicom_study s ON s.id = e.study"
        " GROUP BY s.study_uid, e.modality, i.source"
    ).fetchall()
    found: dict[str, _Study] = {}
    for uid, modality, source, instances, size, received in rows:
        before = found.get(uid, _Study(uid, 0, 0, ""))
        found[uid] = _Study(
            uid,
            before.instances + instances,
            before.size_bytes + int(size),
            max(before.last_received_utc, received),
            before.modalities | {modality},
            before.sources | {source.rpartition("@")[2]},
        )
    return sorted(found.values(), key=lambda each: each.last_received_utc, reverse=True)


def _wanted(studies: list[_Study], rule: RetentionRule, now: datetime) -> list[_Study]:
    """Return the studies that a rule wants to go, of all of them with the latest first."""
    fitting = [
        each
        for each in studies
        if (not rule.modalities or each.modalities <= set(rule.modalities))
        and (not rule.calling or each.sources <= set(rule.calling))
    ]
    if rule.keep_bytes:
        total, beyond = 0, []
        for each in fitting:
            total += each.size_bytes
            if total > rule.keep_bytes:
                beyond.append(each)
        fitting = beyond
    if rule.older_than_days:
        limit = (now - timedelta(days=rule.older_than_days)).isoformat()
        fitting = [each for each in fitting if each.last_received_utc < limit]
    return fitting


def _objects(cursor: apsw.Cursor, study_uid: str) -> list[str]:
    rows: Any = cursor.execute(
        "SELECT i.sop_uid FROM dicom_instance i JOIN dicom_series e ON e.id = i.series"
        " JOIN dicom_study s ON s.id = e.study WHERE s.study_uid = ?",
        (study_uid,),
    ).fetchall()
    return [str(row[0]) for row in rows]


def _committed(cursor: apsw.Cursor, sop_uid: str, peer: str) -> bool:
    return bool(
        cursor.execute(
            "SELECT 1 FROM dicom_commitment_object o JOIN dicom_commitment c"
            " ON c.transaction_uid = o.transaction_uid WHERE o.sop_uid = ? AND c.peer = ?"
            " AND c.state = 'committed' LIMIT 1",
            (sop_uid, peer),
        ).fetchall()
    )
