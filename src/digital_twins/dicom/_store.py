"""The image store: received bytes as files, an index of them, and success only when both are on disk."""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

from digital_twins._errors import NotFoundError, StorageError
from digital_twins.audit import LateEvents, plain_row, stage_rows
from digital_twins.dicom._arrivals import Arrivals, withdraw
from digital_twins.dicom._dataset_file import load
from digital_twins.dicom._dimse import Status
from digital_twins.dicom._header import ObjectRefusedError, read_header
from digital_twins.dicom._indexing import check_family, index_object
from digital_twins.dicom._part10 import file_header, split_file
from digital_twins.dicom._query import find_all
from digital_twins.dicom._stored import NEW, REPLACED, Instance, Policy, Prepared, Stored
from digital_twins.dicom._text import quiet_pydicom
from digital_twins.dicom._walk import HeadTooShortError, LayoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    import apsw
    from pydicom.dataset import Dataset

    from digital_twins.audit import AuditEvent
    from digital_twins.dicom._header import Family, Header
    from digital_twins.dicom._query import Match, Query
    from digital_twins.dicom._spooling import SpoolWriter
    from digital_twins.storage import BlobFile, BlobStore, Database

    Bytes = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class _Checked:
    header: Header
    file: bytes
    dataset_offset: int

    def prepared(self, digest: str, source: str) -> Prepared:
        return Prepared(self.header, digest, self.dataset_offset, len(self.file), source)


_GROUP = 64
_FAMILIES = 16
"""Series that arrive at one time, for which the index need not be asked again before the file is written."""
_KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59"
"""Key Object Selection: it may be a rejection note, which withdraws others."""
_INSTANCE = (
    "SELECT i.id, s.study_uid, e.series_uid, i.sop_uid, i.sop_class_uid, i.instance_number,"
    " coalesce(i.frames, 1), i.transfer_syntax, i.blob, i.dataset_offset, i.size_bytes, i.pixel_offset,"
    " i.pixel_length, coalesce(i.rows, 0), coalesce(i.columns, 0), coalesce(i.bits_allocated, 0),"
    " p.patient_id"
    " FROM dicom_instance i JOIN dicom_series e ON e.id = i.series JOIN dicom_study s ON s.id = e.study"
    " JOIN dicom_patient p ON p.id = s.patient"
)


def _no_pseudonym(patient_id: str) -> None:
    del patient_id


class DicomStore:
    """DICOM objects of this node.

    What arrives is kept byte for byte behind our own file header. `prepare` and `commit` are the two halves
    of `ingest`: the first costs CPU and a file sync, the second one shared transaction.

    Parameters
    ----------
    database
        Opened with `digital_twins.dicom.MIGRATIONS` and those of the audit outbox.
    blobs
        Where the files go.
    pseudonym
        Turns a PatientID into what the audit trail may hold, e.g. a keyed hash; by default nothing.
    on_new
        Called inside the transaction that adds an object, with the cursor and the object: what it writes is
        there exactly if the object is. The file may still be on its way, but for a key object selection.
    policy
        What happens to objects that contradict stored ones; the default ignores duplicates and refuses
        patient conflicts.

    Attributes
    ----------
    room
        Called with the bytes of each object before its file is kept; raises StorageError to refuse it.
    coerce
        Called with header, encoded data set and source of each object; returns what is stored instead, or
        None to keep it byte for byte.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        *,
        pseudonym: Callable[[str], str | None] = _no_pseudonym,
        on_new: Callable[[apsw.Cursor, Prepared], None] | None = None,
        policy: Policy | None = None,
    ) -> None:
        self.on_new = on_new
        self.room: Callable[[int], None] | None = None
        self.coerce: Callable[[Header, Bytes, str], bytes | None] | None = None
        self.policy = policy or Policy()
        self.database = database
        self.blobs = blobs
        self._late = LateEvents(database)
        self._pseudonym = pseudonym
        self._seen: deque[Family] = deque(maxlen=_FAMILIES)
        self._arrivals = Arrivals()

    def prepare(
        self,
        dataset: bytes | bytearray | memoryview,
        transfer_syntax: str,
        *,
        expected: tuple[str, str] | None = None,
        study_uid: str | None = None,
        source: str = "",
    ) -> Prepared:
        """Check an encoded data set and write its file durably.

        Parameters
        ----------
        dataset
            Without preamble and file meta information, exactly as it came.
        expected
            SOP class and instance UID that its carrier (the C-STORE command) stated.
        study_uid
            The study that it must belong to, when its carrier names one.
        source
            Who sent it (an AE title or host), for the index and the audit trail.

        Raises
        ------
        ObjectRefusedError
            Truncated, unreadable, other UIDs than stated, or of another patient than its study or series.
        StorageError
            The disk is full or cannot be written; nothing is left behind.
        """
        dataset = self._coerced(dataset, transfer_syntax, source) or dataset
        checked = self._check(dataset, transfer_syntax, expected, study_uid)
        return checked.prepared(self._kept(checked), source)

    def prepare_spooled(
        self,
        writer: SpoolWriter,
        dataset_offset: int,
        transfer_syntax: str,
        *,
        expected: tuple[str, str],
        source: str,
        sync: Callable[[Callable[[], None]], None],
        study_uid: str | None = None,
    ) -> Prepared:
        """Check and name an object whose bytes were written while it arrived; raises as `prepare` does.

        Parameters
        ----------
        sync
            Runs what brings the file to the disk in another thread: `keep` waits for it.
        """
        spool = writer.finish()
        spool.start_writing()
        size = spool.size_bytes
        if self.coerce is not None:
            with writer.mapped() as file:
                changed = self._coerced(file[dataset_offset:], transfer_syntax, source)
            if changed is not None:
                return self.prepare(
                    changed, transfer_syntax, expected=expected, source=source, study_uid=study_uid
                )
        if self.room is not None:
            self.room(size)
        try:
            head = writer.head[dataset_offset:]
            header = self._allowed(
                read_header(head, transfer_syntax, size_bytes=size - dataset_offset), expected, study_uid
            )
        except HeadTooShortError:
            with writer.mapped() as file:
                header = self._allowed(
                    read_header(file[dataset_offset:], transfer_syntax), expected, study_uid
                )
        landing = self.blobs.land(spool, owner=header.patient_id)
        landing.start(sync)
        return Prepared(header, landing.digest, dataset_offset, size, source, landing)

    def commit(self, prepared: Prepared) -> Future[Stored]:
        """Write the index rows and the audit event; the future resolves when they are on disk.

        The future raises `ObjectRefusedError` or `StorageError` as `prepare` does.
        """
        return self.database.submit(partial(self._index, prepared=prepared))

    def keep(self, prepared: Prepared) -> Stored:
        """Do what `commit` does and wait until rows and file are on disk; raises as `prepare` does.

        The disk takes both at one time. Which of them comes first is open, so the rows come with a note that
        `settle_arrivals` reads; where the rows change other objects, they wait for the file.
        """
        landing = prepared.landing
        if landing is None:
            return self.database.write(partial(self._index, prepared=prepared))
        try:
            landing.written()  # who reads the rows may open the file
            stored = self.database.write(partial(self._index, prepared=prepared))
        except BaseException:
            with suppress(StorageError):
                landing.wait()  # the file is in use until then
            raise
        try:
            landing.wait()
        except StorageError as error:
            self.database.write(partial(withdraw, store=self, digest=prepared.digest, why=error.why))
            raise
        self._arrivals.landed(prepared.digest)
        return stored

    def ingest(self, data: bytes, *, source: str = "", study_uid: str | None = None) -> Stored:
        """Store a DICOM file (PS3.10); it is on disk when this returns.

        Parameters
        ----------
        study_uid
            The study that it must belong to.

        Raises
        ------
        ObjectRefusedError, StorageError
            As `prepare` does, and for an object of another study.
        """
        checked = self._check_file(data, study_uid, source)
        return self.keep(checked.prepared(self._kept(checked), source))

    def ingest_many(self, files: Iterable[bytes], *, source: str = "") -> list[Stored]:
        """Store several DICOM files with few syncs and commits.

        Raises
        ------
        ObjectRefusedError, StorageError
            At the first file that is refused; those of earlier groups of 64 stay stored.
        """
        rest = iter(files)
        futures: list[Future[Stored]] = []
        while group := [self._check_file(data, None, source) for data in islice(rest, _GROUP)]:
            for owner, of_owner in groupby(group, lambda checked: checked.header.patient_id):
                some = list(of_owner)
                digests = self.blobs.put_many((checked.file for checked in some), owner=owner)
                for checked, digest in zip(some, digests, strict=True):
                    futures.append(self.commit(checked.prepared(digest, source)))
        return [future.result() for future in futures]

    def instances(self, study_uid: str, series_uid: str | None = None) -> list[Instance]:
        """Return the instances of a study or series, ordered by series and instance number.

        Raises
        ------
        NotFoundError
            Nothing of that study or series is stored.
        """
        where, values = " WHERE s.study_uid = ?", [study_uid]
        if series_uid is not None:
            where += " AND e.series_uid = ?"
            values.append(series_uid)
        found = select_instances(
            self,
            where + " ORDER BY e.series_number NULLS FIRST, e.id, i.instance_number NULLS FIRST, i.id",
            values,
        )
        if not found:
            raise not_found("study" if series_uid is None else "series")
        return found

    def instance(self, sop_uid: str) -> Instance:
        """Return one instance by its SOP Instance UID; raises NotFoundError."""
        found = select_instances(self, " WHERE i.sop_uid = ?", (sop_uid,))
        if not found:
            raise not_found("instance")
        return found[0]

    def search(self, query: Query) -> Iterator[Match]:
        """Yield the patients, studies, series or instances that match, as keyword to value.

        Raises
        ------
        InputError
            A condition on what is not indexed at the level, or a malformed value.
        """
        return find_all(self.database, query)

    def file(self, instance: Instance) -> BlobFile:
        """Return the DICOM file of an instance, for reading."""
        return self.blobs.file(instance.digest)

    def path(self, instance: Instance) -> Path:
        """Return where the DICOM file of an instance lies; what lies there may be encrypted: see `file`."""
        return self.blobs.path(instance.digest)

    def read(self, sop_uid: str) -> bytes:
        """Return the DICOM file of an instance as bytes; raises NotFoundError."""
        return self.blobs.get(self.instance(sop_uid).digest)

    def dataset(self, sop_uid: str) -> Dataset:
        """Return an instance as a pydicom data set; raises NotFoundError."""
        return self._load(self.instance(sop_uid))

    def series_datasets(self, series_uid: str) -> list[Dataset]:
        """Return a series as pydicom data sets in the order of their instance numbers.

        Raises
        ------
        NotFoundError
            No such series is stored.
        """
        found = select_instances(
            self, " WHERE e.series_uid = ? ORDER BY i.instance_number NULLS FIRST, i.id", (series_uid,)
        )
        if not found:
            raise not_found("series")
        return [self._load(instance) for instance in found]

    def record(self, event: AuditEvent) -> Future[None]:
        """Queue an audit event of its own (a refusal, a query, a retrieval); see `LateEvents.record`."""
        return self._late.record(event)

    def pseudonym(self, patient_id: str) -> str | None:
        """Return what the audit trail may hold of a PatientID."""
        return self._pseudonym(patient_id) if patient_id else None

    def _load(self, instance: Instance) -> Dataset:
        with quiet_pydicom():
            return load(self.file(instance))

    def _kept(self, checked: _Checked) -> str:
        return self.blobs.put(checked.file, owner=checked.header.patient_id)

    def _check(
        self,
        dataset: bytes | bytearray | memoryview,
        transfer_syntax: str,
        expected: tuple[str, str] | None,
        study_uid: str | None,
    ) -> _Checked:
        if self.room is not None:
            self.room(len(dataset))
        header = self._allowed(read_header(dataset, transfer_syntax), expected, study_uid)
        head = file_header(header.sop_class_uid, header.sop_uid, transfer_syntax)
        return _Checked(header, b"".join((head, dataset)), len(head))

    def _allowed(self, header: Header, expected: tuple[str, str] | None, study_uid: str | None) -> Header:
        if expected is not None and (header.sop_class_uid, header.sop_uid) != expected:
            raise ObjectRefusedError(
                "SOP class or instance UID differs from the command", status=Status.DOES_NOT_MATCH
            )
        if study_uid not in {None, header.study_uid}:
            raise ObjectRefusedError("the object belongs to another study", status=Status.DOES_NOT_MATCH)
        # This only saves writing a file in vain: the transaction that adds the rows checks again.
        if header.family not in self._seen:
            with self.database.read() as connection:
                check_family(connection.cursor(), header, self.policy)
            self._seen.append(header.family)
        return header

    def _coerced(self, dataset: Bytes, transfer_syntax: str, source: str) -> bytes | None:
        if self.coerce is None:
            return None
        return self.coerce(read_header(dataset, transfer_syntax), dataset, source)

    def _check_file(self, data: bytes, study_uid: str | None, source: str) -> _Checked:
        try:
            file = split_file(data)
        except LayoutError as error:
            raise ObjectRefusedError(str(error)) from None
        dataset: Bytes = memoryview(data)[file.dataset_offset :]
        dataset = self._coerced(dataset, file.transfer_syntax, source) or dataset
        return self._check(dataset, file.transfer_syntax, None, study_uid)

    def _index(self, cursor: apsw.Cursor, prepared: Prepared) -> Stored:
        header = prepared.header
        outcome, patient_id = index_object(cursor, prepared, self.policy)
        if prepared.landing is not None:
            if outcome == NEW and header.sop_class_uid != _KEY_OBJECTS:
                self._arrivals.note(cursor, prepared.digest)
            else:
                prepared.landing.wait()
        if outcome in {NEW, REPLACED} and self.on_new is not None:
            self.on_new(cursor, prepared)
        detail: dict[str, Any] = {
            "outcome": outcome,
            "series": header.series_uid,
            "bytes": prepared.size_bytes,
        }
        if patient_id != header.patient_id:
            detail["patient_conflict"] = "accepted"
        event = plain_row(
            "C",
            "dicom.store",
            prepared.source,
            entity=header.sop_uid,
            patient=self.pseudonym(header.patient_id),
            at_us=time.time_ns() // 1000,
            detail=detail,
        )
        stage_rows(cursor, [event])
        return Stored(
            patient_id,
            header.study_uid,
            header.series_uid,
            header.sop_uid,
            header.sop_class_uid,
            prepared.digest,
            prepared.size_bytes,
            outcome,
        )


def select_instances(store: DicomStore, where: str, values: Sequence[str | int]) -> list[Instance]:
    """Return the instances that an SQL condition over the aliases p, s, e, i chooses."""
    with store.database.read() as connection:
        rows: list[Any] = connection.execute(_INSTANCE + where, tuple(values)).fetchall()
    return [Instance(*row) for row in rows]


def not_found(what: str) -> NotFoundError:
    """Return the error for a study, series or instance that is not stored."""
    return NotFoundError(
        f"The {what} is not stored here.",
        "No object with that UID has been received.",
        "Check the UID, or send the study to this node first.",
    )
