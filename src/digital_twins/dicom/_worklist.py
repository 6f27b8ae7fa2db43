"""Modality worklist: scheduled procedure steps, and the service that answers for them (PS3.4 annex K)."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from digital_twins._errors import DigitalTwinError, InputError, NotFoundError
from digital_twins.audit import AuditEvent, stage
from digital_twins.dicom._contexts import IMPLICIT_LE, WORKLIST_FIND
from digital_twins.dicom._dimse import CommandField, Status, response
from digital_twins.dicom._find_event import FindEvent
from digital_twins.dicom._identifier import character_set, read_dataset, write_dataset
from digital_twins.dicom._matching import matches, returned
from digital_twins.dicom._text import quiet_pydicom

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from concurrent.futures import Executor

    import apsw
    from pydicom.dataset import Dataset

    from digital_twins.dicom._dimse import Command
    from digital_twins.dicom._framing import Message
    from digital_twins.dicom._setup import Handler, Peer
    from digital_twins.dicom._store import DicomStore

SCHEDULED, STARTED = "SCHEDULED", "STARTED"
COMPLETED, DISCONTINUED = "COMPLETED", "DISCONTINUED"
_STATES = frozenset({SCHEDULED, STARTED, COMPLETED, DISCONTINUED})
_PAGE = 500
_SEQUENCES = ("ReferencedStudySequence", "ReferencedPatientSequence")


@dataclass(frozen=True, slots=True)
class WorklistItem:
    """One scheduled procedure step with its requested procedure, visit and patient.

    Dates are YYYYMMDD and times HHMMSS, as DICOM writes them. `study_uid` and `step_id` together name the
    item. `procedure_code` is (value, coding scheme, meaning), or empty.
    """

    study_uid: str
    step_id: str
    patient_id: str = field(repr=False)
    patient_name: str = field(repr=False)
    modality: str
    station_ae_title: str
    start_date: str
    start_time: str = "000000"
    accession_number: str = ""
    requested_procedure_id: str = ""
    requested_procedure_description: str = ""
    step_description: str = ""
    performing_physician: str = ""
    referring_physician: str = ""
    requesting_physician: str = ""
    birth_date: str = field(default="", repr=False)
    sex: str = ""
    issuer: str = ""
    weight_kg: float | None = None
    admission_id: str = ""
    station_name: str = ""
    location: str = ""
    priority: str = "ROUTINE"
    procedure_code: tuple[str, ...] = ()
    status: str = SCHEDULED

    def dataset(self) -> Dataset:
        """Return the attributes of PS3.4 table K.6-1 that are known."""
        from pydicom.dataset import Dataset

        with quiet_pydicom():
            item, step = Dataset(), Dataset()
            item.PatientName, item.PatientID = self.patient_name, self.patient_id
            item.PatientBirthDate, item.PatientSex = self.birth_date, self.sex
            item.IssuerOfPatientID, item.AdmissionID = self.issuer, self.admission_id
            item.PatientWeight = self.weight_kg
            item.MedicalAlerts, item.Allergies, item.PregnancyStatus = None, None, None
            item.AccessionNumber, item.StudyInstanceUID = self.accession_number, self.study_uid
            item.RequestedProcedureID = self.requested_procedure_id or self.step_id
            item.RequestedProcedureDescription = self.requested_procedure_description
            item.RequestedProcedurePriority = self.priority
            item.ReferringPhysicianName = self.referring_physician
            item.RequestingPhysician = self.requesting_physician
            item.CurrentPatientLocation = ""
            codes = [_code(self.procedure_code)] if self.procedure_code else []
            item.RequestedProcedureCodeSequence = codes
            for name in _SEQUENCES:
                setattr(item, name, [])
            step.Modality, step.ScheduledStationAETitle = self.modality, self.station_ae_title
            step.ScheduledProcedureStepStartDate = self.start_date
            step.ScheduledProcedureStepStartTime = self.start_time
            step.ScheduledPerformingPhysicianName = self.performing_physician
            step.ScheduledProcedureStepDescription = self.step_description
            step.ScheduledProcedureStepID, step.ScheduledStationName = self.step_id, self.station_name
            step.ScheduledProcedureStepLocation = self.location
            step.ScheduledProcedureStepStatus = self.status
            step.ScheduledProtocolCodeSequence = [_code(self.procedure_code)] if self.procedure_code else []
            item.ScheduledProcedureStepSequence = [step]
        return item


def _code(code: tuple[str, ...]) -> Dataset:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code
    return item


def universal_identifier() -> Dataset:
    """Return an identifier that asks for everything of every item."""
    blank = WorklistItem("", "", "", "", "", "", "", "").dataset()
    for element in (*blank, *blank.ScheduledProcedureStepSequence[0]):
        if element.VR != "SQ":
            element.value = None
    blank.SpecificCharacterSet = "ISO_IR 192"
    return blank


class Worklist:
    """The scheduled procedure steps of a node.

    Parameters
    ----------
    store
        Whose database holds them.
    """

    def __init__(self, store: DicomStore) -> None:
        self._store = store

    def put(self, item: WorklistItem, *, agent: str = "node") -> None:
        """Add an item, or replace the one with the same study UID and step id.

        Raises
        ------
        InputError
            The study UID, step id, patient, modality, station, start date or status is missing or malformed.
        """
        _check(item)
        event = AuditEvent(
            action="U",
            kind="dicom.worklist.put",
            outcome="success",
            agent=agent,
            entity=item.study_uid,
            patient=self._store.pseudonym(item.patient_id),
        )

        def work(cursor: apsw.Cursor) -> None:
            schedule_item(cursor, item)
            stage(cursor, event)

        self._store.database.write(work)

    def remove(self, study_uid: str, step_id: str, *, agent: str = "node") -> None:
        """Remove an item; raises NotFoundError when there is none."""

        def work(cursor: apsw.Cursor) -> None:
            row = cursor.execute(
                "DELETE FROM dicom_worklist WHERE study_uid = ? AND step_id = ? RETURNING patient_id",
                (study_uid, step_id),
            ).fetchone()
            if row is None:
                raise NotFoundError(
                    "The worklist item does not exist.",
                    "No scheduled procedure step has that study UID and step id.",
                    "List the worklist to find it.",
                )
            stage(
                cursor,
                AuditEvent(
                    action="D",
                    kind="dicom.worklist.remove",
                    outcome="success",
                    agent=agent,
                    entity=study_uid,
                    patient=self._store.pseudonym(str(row[0])),
                ),
            )

        self._store.database.write(work)

    def items(self, *, finished: bool = False) -> list[WorklistItem]:
        """Return the items in the order of their start; those that are over only with ``finished``."""
        return [item for item in self._select([], []) if finished or item.status in {SCHEDULED, STARTED}]

    def search(self, identifier: Dataset) -> Iterator[Dataset]:
        """Yield the answers to an identifier; steps that are over only when their status is asked for.

        Raises
        ------
        InputError
            A malformed date or time.
        """
        steps = identifier.get("ScheduledProcedureStepSequence") or []
        wanted = steps[0] if steps else None
        conditions, values = [], []
        for column, key in (("modality", "Modality"), ("station", "ScheduledStationAETitle")):
            value = str((wanted.get(key) if wanted is not None else "") or "").strip()
            if value and "*" not in value and "?" not in value and "\\" not in value:
                conditions.append(f"{column} = ?")
                values.append(value)
        asked_status = wanted is not None and bool(wanted.get("ScheduledProcedureStepStatus"))
        if not asked_status:
            conditions.append(f"status IN ('{SCHEDULED}', '{STARTED}')")
        for item in self._select(conditions, values):
            stored = item.dataset()
            if matches(identifier, stored):
                yield returned(identifier, stored)

    def _select(self, conditions: list[str], values: list[str]) -> Iterator[WorklistItem]:
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        with self._store.database.read() as connection:
            rows = connection.execute(
                f"SELECT item FROM dicom_worklist {where} ORDER BY start_date, step_id",  # noqa: S608  (own names)  # nosec B608
                values,
            ).fetchall()
        known = {each.name for each in fields(WorklistItem)}
        for (text,) in rows:
            found = {name: value for name, value in json.loads(str(text)).items() if name in known}
            yield WorklistItem(**{**found, "procedure_code": tuple(found.get("procedure_code", ()))})


def schedule_item(cursor: apsw.Cursor, item: WorklistItem) -> None:
    """Add or replace an item inside a transaction that stages its own audit event.

    Raises
    ------
    InputError
        As for `Worklist.put`.
    """
    _check(item)
    cursor.execute(
        "INSERT INTO dicom_worklist (study_uid, step_id, start_date, modality, station, patient_id,"
        " status, item, updated_utc) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (study_uid,"
        " step_id) DO UPDATE SET start_date = excluded.start_date, modality = excluded.modality,"
        " station = excluded.station, patient_id = excluded.patient_id, status = excluded.status,"
        " item = excluded.item, updated_utc = excluded.updated_utc",
        (
            item.study_uid,
            item.step_id,
            item.start_date,
            item.modality,
            item.station_ae_title,
            item.patient_id,
            item.status,
            json.dumps(asdict(item)),
            datetime.now(tz=UTC).isoformat(),
        ),
    )


def set_status(cursor: apsw.Cursor, study_uid: str, step_id: str, *, status: str) -> bool:
    """Set the status of an item inside a transaction; False when there is none."""
    row = cursor.execute(
        "SELECT item FROM dicom_worklist WHERE study_uid = ? AND step_id = ?", (study_uid, step_id)
    ).fetchone()
    if row is None:
        return False
    item = json.dumps({**json.loads(row[0]), "status": status})
    cursor.execute(
        "UPDATE dicom_worklist SET status = ?, item = ? WHERE study_uid = ? AND step_id = ?",
        (status, item, study_uid, step_id),
    )
    return True


def worklist_handlers(store: DicomStore, executor: Executor) -> dict[tuple[int, str], Handler]:
    """Return the handler of the worklist's C-FIND."""
    worklist = Worklist(store)

    async def find(message: Message, peer: Peer) -> AsyncIterator[tuple[Command, bytes | None]]:
        request = message.command
        implicit = message.context.transfer_syntax == IMPLICIT_LE
        loop = asyncio.get_running_loop()
        event = FindEvent(store, peer, "dicom.worklist")
        final = response(request, Status.SUCCESS)
        try:
            identifier = await loop.run_in_executor(
                executor, lambda: read_dataset(message.dataset, implicit=implicit)
            )
            terms = character_set(identifier)
            answers = await loop.run_in_executor(
                executor,
                lambda: [
                    write_dataset(each, implicit=implicit, character_set=terms)
                    for each in worklist.search(identifier)
                ],
            )
            for answer in answers:
                if message.cancelled.is_set():
                    final = response(request, Status.CANCELLED)
                    break
                event.count()
                yield response(request, Status.PENDING, dataset=True), answer
                await asyncio.sleep(0)
            event.outcome = "success"
        except DigitalTwinError as error:
            final = event.refused(request, error)
        finally:  # also of an association that is aborted between two answers
            await event.record()
        yield final, None

    return {(CommandField.C_FIND_RQ, WORKLIST_FIND): find}


def _check(item: WorklistItem) -> None:
    from digital_twins.dicom._text import normal_date, normal_time

    missing = [
        name
        for name in ("study_uid", "step_id", "patient_id", "patient_name", "modality", "station_ae_title")
        if not getattr(item, name).strip()
    ]
    if not normal_date(item.start_date) or not normal_time(item.start_time):
        missing.append("start_date or start_time")
    if item.status not in _STATES:
        missing.append("status")
    if item.procedure_code and len(item.procedure_code) != 3:
        missing.append("procedure_code")
    if missing:
        raise InputError(
            "The worklist item cannot be used.",
            f"Missing or malformed: {', '.join(missing)}.",
            "Give every attribute that a modality needs (PS3.4 table K.6-1).",
        )
