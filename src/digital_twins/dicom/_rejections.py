"""Rejection notes (IHE Imaging Object Change Management): key objects that withdraw other objects."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any

from digital_twins._errors import ConflictError, InputError
from digital_twins.audit import AuditEvent, stage
from digital_twins.dicom._dataset_file import load
from digital_twins.dicom._dimse import Status
from digital_twins.dicom._header import ObjectRefusedError
from digital_twins.dicom._removal import entry_of, packed, put_back, take_out, unpacked
from digital_twins.dicom._store import not_found, select_instances
from digital_twins.dicom._text import quiet_pydicom
from digital_twins.records import Code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import apsw
    from pydicom.dataset import Dataset

    from digital_twins.dicom._store import DicomStore
    from digital_twins.dicom._stored import Prepared, Stored

QUALITY, SAFETY, WRONG_ENTRY, EXPIRED = "113001", "113037", "113038", "113039"
REJECTION_REASONS: dict[str, Code] = {
    QUALITY: Code(QUALITY, "DCM", "Rejected for Quality Reasons"),
    SAFETY: Code(SAFETY, "DCM", "Rejected for Patient Safety Reasons"),
    WRONG_ENTRY: Code(WRONG_ENTRY, "DCM", "Incorrect Modality Worklist Entry"),
    EXPIRED: Code(EXPIRED, "DCM", "Data Retention Policy Expired"),
}
"""Titles of key objects that reject, by code value (PS3.16 CID 7010; IHE RAD TF-3 4.66)."""

_KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59"
_SERIES_NUMBER = 9990


@dataclass(frozen=True, slots=True)
class Rejection:
    """What one rejection note did.

    Attributes
    ----------
    note
        SOP Instance UID of the note.
    reason
        Code value of its title; `REJECTION_REASONS` has the words.
    sop_uids
        Objects of its patient that it names and that were stored here.
    hidden
        Whether they were taken out of queries and retrievals.
    ignored
        Named objects that belong to another patient, study or series than the note says.
    """

    note: str
    reason: str
    sop_uids: tuple[str, ...]
    hidden: bool
    ignored: int


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """An object that a rejection note keeps hidden; ``stored`` is False when it never came."""

    sop_uid: str
    study_uid: str
    series_uid: str
    reason: str
    note: str
    stored: bool
    withdrawn_utc: str


class Rejections:
    """Follows the rejection notes that a store receives, and writes our own.

    A hidden object and its note are in no answer to FIND, QIDO, MOVE, GET or WADO; their files stay. The same
    object is refused when it is sent again (0124), except after 113039 "Data Retention Policy Expired".

    Parameters
    ----------
    store
        Whose ``on_new`` calls `follow`.
    show_quality
        Leave objects visible that 113001 "Rejected for Quality Reasons" names; the profile lets a
        site choose.
    on_rejected
        Called in the transaction with what a note did, e.g. to mark what was made from the objects.
    """

    def __init__(
        self,
        store: DicomStore,
        *,
        show_quality: bool = False,
        on_rejected: Callable[[apsw.Cursor, Rejection], None] | None = None,
    ) -> None:
        self._store, self._show_quality, self._on_rejected = store, show_quality, on_rejected

    def follow(self, cursor: apsw.Cursor, prepared: Prepared) -> None:
        """Do what a new object means for withdrawals, in the transaction that stores it.

        Raises
        ------
        ObjectRefusedError
            The object itself was withdrawn (0124).
        """
        header = prepared.header
        row: Any = cursor.execute(
            "SELECT reason, note FROM dicom_withdrawn WHERE sop_uid = ?", (header.sop_uid,)
        ).fetchone()
        cursor.fetchall()
        if row is not None:
            self._again(cursor, header.sop_uid, reason=row[0], is_note=row[1] == header.sop_uid)
        elif header.sop_class_uid == _KEY_OBJECTS:
            note = self._read(prepared)
            if (reason := _reason(note)) is not None:
                self._apply(cursor, note, reason, agent=prepared.source)

    def reject(
        self,
        sop_uids: tuple[str, ...],
        reason: str,
        *,
        description: str = "",
        agent: str = "operator",
    ) -> Stored:
        """Write a rejection note for stored objects of one study, store it, and so withdraw them.

        Parameters
        ----------
        sop_uids
            SOP Instance UIDs.
        reason
            A key of `REJECTION_REASONS`.
        description
            Words for the reader of the note.
        agent
            Who rejects, for the audit trail.

        Raises
        ------
        InputError
            Another reason, or no objects.
        ConflictError
            The objects are of different patients or studies.
        NotFoundError
            An object is not stored.
        """
        if reason not in REJECTION_REASONS:
            raise InputError(
                "The objects cannot be rejected for this reason.",
                f"'{reason}' is none of {', '.join(REJECTION_REASONS)}.",
                "Choose one of these codes of IHE IOCM.",
            )
        note = self._note(sop_uids, REJECTION_REASONS[reason], description)
        buffer = BytesIO()
        note.save_as(buffer, enforce_file_format=True)
        return self._store.ingest(buffer.getvalue(), source=f"{agent}@node")

    def objects_of(self, study_uid: str, series_uid: str | None = None) -> tuple[str, ...]:
        """Return the SOP Instance UIDs of a study or series; raises NotFoundError."""
        return tuple(each.sop_uid for each in self._store.instances(study_uid, series_uid))

    def withdrawn(self, study_uid: str | None = None) -> list[Withdrawn]:
        """Return what is withdrawn, of one study or of all."""
        where, values = ("", ()) if study_uid is None else (" WHERE study_uid = ?", (study_uid,))
        with self._store.database.read() as connection:
            rows: list[Any] = connection.execute(
                "SELECT sop_uid, study_uid, series_uid, reason, note, entry, withdrawn_utc"  # noqa: S608  (constants)  # nosec B608
                f" FROM dicom_withdrawn{where} ORDER BY withdrawn_utc, sop_uid",
                values,
            ).fetchall()
        return [
            Withdrawn(sop, study, series, reason, note, stored=bool(entry), withdrawn_utc=at)
            for sop, study, series, reason, note, entry, at in rows
        ]

    def restore(self, note_uid: str, *, agent: str = "operator") -> int:
        """Undo a rejection note that hid objects: they and the note are answered again; return how many.

        The profile has no such step; it is for a note that should never have been sent.

        Raises
        ------
        NotFoundError
            No withdrawn object is due to that note.
        ConflictError
            An object with the UID of one of them was stored meanwhile.
        """

        def work(cursor: apsw.Cursor) -> int:
            rows: list[Any] = cursor.execute(
                "SELECT sop_uid, entry FROM dicom_withdrawn WHERE note = ?", (note_uid,)
            ).fetchall()
            if not rows:
                raise not_found("rejection note")
            back = 0
            for sop_uid, entry in rows:
                if entry and not put_back(cursor, unpacked(entry)):
                    raise ConflictError(
                        "The withdrawal cannot be undone.",
                        "An object with the same SOP Instance UID was stored meanwhile.",
                        "Withdraw that object first.",
                    )
                cursor.execute("DELETE FROM dicom_withdrawn WHERE sop_uid = ?", (sop_uid,))
                back += bool(entry)
            stage(
                cursor,
                AuditEvent("U", "dicom.restore", "success", agent, entity=note_uid, detail={"objects": back}),
            )
            return back

        return self._store.database.write(work)

    def _again(self, cursor: apsw.Cursor, sop_uid: str, *, reason: str, is_note: bool) -> None:
        """An object comes that was withdrawn before: a note changes nothing, an expired object may return."""
        if is_note:
            entry = entry_of(cursor, sop_uid)
            assert entry is not None
            take_out(cursor, entry)
        elif reason == EXPIRED:
            cursor.execute("DELETE FROM dicom_withdrawn WHERE sop_uid = ?", (sop_uid,))
        else:
            raise ObjectRefusedError(
                f"the object was withdrawn: {REJECTION_REASONS[reason].meaning}",
                status=Status.NOT_AUTHORISED,
                fix="Send corrected objects under new UIDs, or undo the rejection note at this node.",
            )

    def _apply(self, cursor: apsw.Cursor, note: Dataset, reason: str, *, agent: str) -> None:
        uid = str(note.SOPInstanceUID)
        own = entry_of(cursor, uid)
        assert own is not None
        patient = own["dicom_patient"]["id"]
        hide = reason != QUALITY or not self._show_quality
        found, ignored, absent = [], 0, 0
        for study, series, sop_uid in _evidence(note):
            entry = entry_of(cursor, sop_uid)
            if entry is None:
                absent += 1
                if hide:
                    _withdraw(cursor, (sop_uid, study, series), reason, note=uid)
                continue
            where = entry["dicom_study"]["study_uid"], entry["dicom_series"]["series_uid"]
            if where != (study, series) or entry["dicom_patient"]["id"] != patient:
                ignored += 1
                continue
            found.append(sop_uid)
            if hide:
                take_out(cursor, entry)
                _withdraw(cursor, (sop_uid, study, series), reason, note=uid, entry=packed(entry))
                cursor.execute("DELETE FROM dicom_queue_entry WHERE sop_uid = ?", (sop_uid,))
        if hide:
            place = uid, str(note.StudyInstanceUID), str(note.SeriesInstanceUID)
            own = entry_of(cursor, uid)
            assert own is not None
            take_out(cursor, own)
            _withdraw(cursor, place, reason, note=uid, entry=packed(own))
        counts = {"objects": len(found), "hidden": int(hide), "absent": absent, "ignored": ignored}
        pseudonym = self._store.pseudonym(str(note.get("PatientID") or ""))
        detail: dict[str, str | int] = {"reason": reason, **counts}
        stage(
            cursor,
            AuditEvent("U", "dicom.reject", "success", agent, entity=uid, patient=pseudonym, detail=detail),
        )
        if self._on_rejected is not None:
            self._on_rejected(cursor, Rejection(uid, reason, tuple(found), hide, ignored))

    def _note(self, sop_uids: tuple[str, ...], title: Code, description: str) -> Dataset:
        from pydicom.uid import generate_uid

        import digital_twins
        from digital_twins.dicom._documents import DocumentIdentity, Software
        from digital_twins.dicom._key_objects import key_object_selection

        identity = DocumentIdentity(
            sop_uid=generate_uid(prefix=None),
            series_uid=generate_uid(prefix=None),
            created=datetime.now(tz=UTC),
            series_number=_SERIES_NUMBER,
            series_description=title.meaning,
        )
        software = Software("digital-twins", digital_twins.__version__)
        return key_object_selection(
            [self._header_of(uid) for uid in sop_uids],
            identity=identity,
            software=software,
            title=title,
            description=description,
        )

    def _header_of(self, sop_uid: str) -> Dataset:
        found = select_instances(self._store, " WHERE i.sop_uid = ?", (sop_uid,))
        if not found:
            raise not_found("instance")
        with quiet_pydicom():
            return load(self._store.file(found[0]), stop_before_pixels=True)

    def _read(self, prepared: Prepared) -> Dataset:
        with quiet_pydicom():
            return load(self._store.blobs.file(prepared.digest))


def _reason(note: Dataset) -> str | None:
    """Return the code value of a rejection note, None for any other key object."""
    from digital_twins.dicom._key_objects import read_key_objects

    try:
        title = read_key_objects(note).title
    except (InputError, AttributeError, IndexError):
        return None
    return title.value if title.scheme == "DCM" and title.value in REJECTION_REASONS else None


def _evidence(note: Dataset) -> Iterator[tuple[str, str, str]]:
    """Yield study, series and SOP Instance UID of every object that a note names."""
    for study in note.get("CurrentRequestedProcedureEvidenceSequence") or []:
        for series in study.get("ReferencedSeriesSequence") or []:
            for item in series.get("ReferencedSOPSequence") or []:
                uids = (
                    study.get("StudyInstanceUID"),
                    series.get("SeriesInstanceUID"),
                    item.get("ReferencedSOPInstanceUID"),
                )
                if all(uids):
                    yield str(uids[0]), str(uids[1]), str(uids[2])


def _withdraw(
    cursor: apsw.Cursor, place: tuple[str, str, str], reason: str, *, note: str, entry: str = ""
) -> None:
    sop_uid, study_uid, series_uid = place
    instance = unpacked(entry)["dicom_instance"] if entry else {"blob": "", "size_bytes": 0}
    cursor.execute(
        "INSERT INTO dicom_withdrawn (sop_uid, study_uid, series_uid, reason, note, blob, size_bytes, entry,"
        " withdrawn_utc) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            *(sop_uid, study_uid, series_uid, reason, note, instance["blob"], instance["size_bytes"], entry),
            datetime.now(tz=UTC).isoformat(),
        ),
    )
