"""The workitem of the Unified Procedure Step (PS3.4 annex CC): its states, what each asks for, its events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins._errors import ConflictError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

Model = dict[str, Any]
SCHEDULED, IN_PROGRESS, COMPLETED, CANCELED = "SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELED"
FINAL = frozenset({COMPLETED, CANCELED})
GLOBAL = "1.2.840.10008.5.1.4.34.5"
FILTERED = "1.2.840.10008.5.1.4.34.5.1"
"""Well-known UIDs that stand for all workitems in a subscription (PS3.4 section CC.2.3)."""
PUSH_CLASS, EVENT_CLASS = "1.2.840.10008.5.1.4.34.6.1", "1.2.840.10008.5.1.4.34.6.4"
STATE_REPORT, CANCEL_REQUESTED, PROGRESS_REPORT, ASSIGNED = 1, 2, 3, 5

STATE, TRANSACTION, SOP_UID, SOP_CLASS = "00741000", "00081195", "00080018", "00080016"
PATIENT_ID = "00100020"
READINESS, PROGRESS, PERFORMED, PERFORMER = "00404041", "00741002", "00741216", "00404034"
_REASON, _CONTACT, _CONTACT_NAME = "00741238", "0074100A", "0074100C"
_START, _END, _WORK_CODE = "00404050", "00404051", "00404019"
_REQUIRED = {
    "00741200": "ScheduledProcedureStepPriority",
    "00741204": "ProcedureStepLabel",
    "00404005": "ScheduledProcedureStepStartDateTime",
    READINESS: "InputReadinessState",
}
_FIXED = frozenset({STATE, TRANSACTION, SOP_UID, SOP_CLASS, "00100010", PATIENT_ID, "00100030", "00100040"})


def first(model: Mapping[str, Any], tag: str) -> str:
    """Return the first value of an element, '' when there is none."""
    element = model.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return str(values[0]) if isinstance(values, list) and values and not isinstance(values[0], dict) else ""


def items(model: Mapping[str, Any], tag: str) -> list[Model]:
    """Return the items of a sequence."""
    element = model.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return [item for item in values or [] if isinstance(item, dict)]


def check_new(model: Mapping[str, Any]) -> None:
    """Raise InputError for a workitem that cannot be created (PS3.4 table CC.2.5-3, N-CREATE column)."""
    if first(model, STATE) != SCHEDULED:
        raise InputError(
            "The workitem cannot be created.",
            "Its ProcedureStepState is not SCHEDULED.",
            "Create it as SCHEDULED and change the state afterwards.",
        )
    if first(model, TRANSACTION):
        raise InputError(
            "The workitem cannot be created.",
            "It carries a TransactionUID, which belongs to the performer who claims it.",
            "Leave TransactionUID out.",
        )
    missing = [name for tag, name in _REQUIRED.items() if not first(model, tag)]
    if missing:
        raise InputError(
            "The workitem cannot be created.",
            f"These attributes are missing: {', '.join(missing)}.",
            "Fill them in; PS3.4 table CC.2.5-3 lists them.",
        )


def check_update(changes: Mapping[str, Any]) -> None:
    """Raise InputError for changes of what an update may not change."""
    if _FIXED & set(changes):
        raise InputError(
            "The workitem cannot be changed so.",
            "State, identity and patient are not changed by an update.",
            "Change the state at .../state; make another workitem for another patient.",
        )


def check_owner(state: str, owner: str, transaction: str) -> None:
    """Raise for a change by who does not hold the workitem, or of one that has ended."""
    if state in FINAL:
        raise ConflictError(
            "The workitem cannot be changed.",
            f"It is {state}.",
            "Make another workitem: a final state stays.",
        )
    if state == IN_PROGRESS and transaction != owner:
        raise InputError(
            "The workitem cannot be changed.",
            "The Transaction UID is missing." if not transaction else "The Transaction UID is incorrect.",
            "Pass the TransactionUID with which the workitem was claimed.",
        )


def check_transition(model: Mapping[str, Any], state: str, owner: str, *, to: str, transaction: str) -> bool:
    """Whether a change of state has to be made; False when the workitem is in that final state already.

    Raises
    ------
    InputError
        No state to change to, or a missing or wrong Transaction UID.
    ConflictError
        A change that the state does not allow (PS3.4 table CC.1.1-2), or final state requirements not met.
    """
    if to not in {IN_PROGRESS, COMPLETED, CANCELED}:
        raise InputError(
            "The state cannot be changed.",
            "ProcedureStepState must be IN PROGRESS, COMPLETED or CANCELED.",
            "A workitem never goes back to SCHEDULED.",
        )
    if not transaction:
        raise InputError(
            "The state cannot be changed.",
            "The Transaction UID is missing.",
            "Send a TransactionUID: a new one to claim the workitem, the same one to end it.",
        )
    if state == to and state in FINAL:
        return False
    if state == SCHEDULED and to == IN_PROGRESS:
        return True
    if state != IN_PROGRESS or to == IN_PROGRESS:
        raise ConflictError(
            "The state cannot be changed.",
            f"The submitted request is inconsistent with the current state {state}.",
            "Claim a SCHEDULED workitem first; end one that is IN PROGRESS.",
        )
    check_owner(state, owner, transaction)
    if to == COMPLETED and not _is_performed(model):
        raise ConflictError(
            "The workitem cannot be completed.",
            "It does not say what was performed, from when to when.",
            "Update UnifiedProcedureStepPerformedProcedureSequence first.",
        )
    return True


def _is_performed(model: Mapping[str, Any]) -> bool:
    """Final state requirements for COMPLETED: what was done, from when to when (PS3.4 table CC.2.5-3)."""
    done = items(model, PERFORMED)
    return bool(done) and bool(first(done[0], _START) and first(done[0], _END) and items(done[0], _WORK_CODE))


def event(model: Mapping[str, Any], uid: str, kind: int, extra: Mapping[str, Any] | None = None) -> Model:
    """Return an event report in the DICOM JSON model (PS3.18 section 11.13, PS3.4 table CC.2.4-1)."""
    body: Model = {
        "00000002": {"vr": "UI", "Value": [EVENT_CLASS]},
        "00001000": {"vr": "UI", "Value": [uid]},
        "00001002": {"vr": "US", "Value": [kind]},
    }
    if kind == STATE_REPORT:
        body[STATE] = {"vr": "CS", "Value": [first(model, STATE)]}
        body[READINESS] = {"vr": "CS", "Value": [first(model, READINESS)]}
    elif kind == PROGRESS_REPORT:
        body[PROGRESS] = model.get(PROGRESS, {"vr": "SQ"})
    elif kind == ASSIGNED:
        body[PERFORMER] = model.get(PERFORMER, {"vr": "SQ"})
    return {**body, **(extra or {})}


def cancel_details(request: Mapping[str, Any]) -> Model:
    """Return what a request to cancel tells the performer: reason and contact."""
    return {tag: request[tag] for tag in (_REASON, _CONTACT, _CONTACT_NAME, "0074100E") if tag in request}
