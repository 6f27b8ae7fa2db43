"""ADT messages and IHE PCIM reports as associations of devices, beds and patients.

PCIM is "Point-of-Care Identity Management", IHE Devices Technical Framework Supplement, revision 2.2
(github.com/IHE/DEV.PCIM, ``asciidoc/IHE_DEV_Suppl_PCIM.adoc``, appendix A): an ORU R01 whose OBR-4 is 69136.
"""

from __future__ import annotations

import math
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING

from digital_twins._errors import ConflictError, InputError
from digital_twins.monitoring.signals import Association

if TYPE_CHECKING:
    from digital_twins.hl7v2 import Message, Segment, SiteMapping
    from digital_twins.monitoring.signals import AssociationLog

_ASSOCIATION = "69136"  # MDC_OBS_ASSOCIATION_PATIENT_DEVICE
_CONDITION = "68487"  # MDC_ATTR_EVT_COND
_BEGINS, _ENDS = "198332", "198334"  # MDC_EVT_ASSOCIATION_PATIENT_DEVICE and its opposite
_ADMITS = frozenset({"A01", "A02", "A04"})


def placements(message: Message, log: AssociationLog, *, zone: tzinfo = UTC) -> list[Association] | None:
    """Return what a message tells of who lies where, in the order to apply; None: it is neither kind.

    ADT: A01, A02 and A04 put the patient into the bed of PV1-3 (``ward/room/bed``), A02 to a place without a
    bed empties the old one, A17 exchanges two patients, A03 ends the stay and what the patient carries, A11
    takes the admission back, A12 the transfer, A13 the discharge. Other events move nobody. The moment is
    EVN-6, else EVN-2, else MSH-7. PCIM: the device of the EQUIP participant is the patient's from PRT-11
    until a report of its end (PRT-12). A report that comes twice changes nothing.

    Parameters
    ----------
    message
        Of HL7 v2.
    log
        What is known so far.
    zone
        Of times without an offset.

    Raises
    ------
    InputError
        It names no patient, no device or no time, or it is an assertion that nobody has validated (OBX-11 is
        R).
    ConflictError
        What it takes back can no longer be: another patient lies in the bed by now.
    """
    from digital_twins.hl7v2 import SiteMapping

    mapping = SiteMapping(zone=zone)
    if message.kind[0] == "ADT":
        return _moves(message, log, mapping)
    if message.kind == ("ORU", "R01") and message["OBR-4.1"] == _ASSOCIATION:
        return _carryings(message, log, mapping)
    return None


def _moves(message: Message, log: AssociationLog, mapping: SiteMapping) -> list[Association]:
    from digital_twins.hl7v2 import bed_of, event_time

    event = message.kind[1]
    if event not in _ADMITS | {"A03", "A11", "A12", "A13", "A17"}:
        return []
    at_s = event_time(message, mapping).timestamp()
    people = _people(message)
    if not people or (event == "A17" and len(people) != 2):
        raise _refused("PID-3 names no patient", "Send PID-3 of each patient.")
    if event == "A17":
        return _exchange(people, log, at_s)
    patient, visit = people[0]
    if event == "A03":
        return _leave(patient, log, at_s)
    if event in {"A11", "A12", "A13"}:
        return _take_back(event, patient, log, at_s)
    bed = bed_of(visit)
    if bed:
        return _into({patient: bed}, log, at_s)
    elsewhere = event == "A02" and visit is not None and visit.value(3)
    return _into({patient: None}, log, at_s) if elsewhere else []


def _into(wanted: dict[str, str | None], log: AssociationLog, at_s: float) -> list[Association]:
    """Return what puts patients into beds: first everybody out of the old ones."""
    moving = {each: bed for each, bed in wanted.items() if log.bed_of(each, at_s) != bed}
    old = [log.bed_of(each, at_s) for each in moving]
    out = [Association("bed", bed, None, at_s) for bed in old if bed is not None]
    return out + [Association("bed", bed, who, at_s) for who, bed in moving.items() if bed is not None]


def _exchange(
    people: list[tuple[str, Segment | None]], log: AssociationLog, at_s: float
) -> list[Association]:
    from digital_twins.hl7v2 import bed_of

    (first, _), (second, _) = people
    told = [bed_of(visit) for _, visit in people]
    if not all(told):  # the beds are those before the exchange, so that a repetition does not undo it
        before_s = math.nextafter(at_s, -math.inf)
        beds = [log.bed_of(each, before_s) for each in (second, first)]
        if None in beds:
            raise _refused("one of the two patients is in no bed", "Send a transfer of each instead.")
        return _into({first: beds[0], second: beds[1]}, log, at_s)
    return _into({first: told[0], second: told[1]}, log, at_s)


def _leave(patient: str, log: AssociationLog, at_s: float) -> list[Association]:
    carried = [Association("carried", each, None, at_s) for each in log.carried_by(patient, at_s)]
    return _into({patient: None}, log, at_s) + carried


def _take_back(event: str, patient: str, log: AssociationLog, at_s: float) -> list[Association]:
    """Return what undoes an admission, a transfer or a discharge: entries at the moments of the old ones."""
    stay = log.last_stay(patient)
    if stay is None:
        return []
    bed, since_s, until_s = stay
    if event == "A13":
        return [] if math.isinf(until_s) else _back(patient, bed, until_s, log, at_s)
    if not math.isinf(until_s):
        return []
    undone = [Association("bed", bed, None, since_s)]
    before = log.bed_of(patient, math.nextafter(since_s, -math.inf)) if event == "A12" else None
    return undone + (_back(patient, before, since_s, log, at_s) if before is not None else [])


def _back(patient: str, bed: str, since_s: float, log: AssociationLog, at_s: float) -> list[Association]:
    if log.patient_in(bed, at_s) not in {None, patient} or log.patient_in(bed, since_s) not in {
        None,
        patient,
    }:
        raise ConflictError(
            "The patient was not put back.",
            "Another patient lies in the bed by now.",
            "Send a transfer to another bed.",
        )
    return [Association("bed", bed, patient, since_s)]


def _carryings(message: Message, log: AssociationLog, mapping: SiteMapping) -> list[Association]:
    device, begin_s, end_s = _equipment(message, mapping)
    people = _people(message)
    condition = next((each for each in message.segments("OBX") if each.value(3) == _CONDITION), None)
    if not people or condition is None or condition.value(5) not in {_BEGINS, _ENDS}:
        raise _refused(
            "PID-3, or the condition of OBX-5, is missing", "Send it as IHE PCIM says (appendix A.1)."
        )
    patient, status = people[0][0], condition.value(11)
    if status == "R":
        raise _refused("nobody has validated it (OBX-11 is R)", "Send the validated report (DEV-52).")
    last = log.last_carrying(device)
    undone = []
    if status in {"C", "D", "W"} and last is not None:
        undone = [Association("carried", device, None, last[1])]
    if status in {"D", "W"}:
        return undone
    if condition.value(5) == _ENDS:
        return _ended(device, patient, end_s, last)
    if begin_s is None:
        raise _refused("PRT-11 of the device has no time", "Send since when it is the patient's.")
    if not undone and device in log.carried_by(patient, begin_s):
        return []
    return [*undone, Association("carried", device, patient, begin_s)]


def _ended(
    device: str, patient: str, end_s: float | None, last: tuple[str, float, float] | None
) -> list[Association]:
    if end_s is None:
        raise _refused("PRT-12 of the device has no time", "Send until when it was the patient's.")
    if last is None or last[0] != patient or end_s < last[1]:
        return []
    longer = [Association("carried", device, patient, last[2])] if last[2] < end_s else []
    return [*longer, Association("carried", device, None, end_s)]


def _equipment(message: Message, mapping: SiteMapping) -> tuple[str, float | None, float | None]:
    """Return the device that a PCIM report speaks of, and from and until when (s) it was the patient's."""
    from digital_twins.hl7v2 import instant

    for each in message.segments("PRT"):
        if each.value(4) == "EQUIP" and each.value(10):
            times = [instant(each.value(number), mapping, place=("PRT", number)) for number in (11, 12)]
            begin, end = (when.timestamp() if when is not None else None for when in times)
            return each.value(10), begin, end
    raise _refused("no PRT of EQUIP names the device", "Send PRT-10 of the device (PRT-4 is EQUIP).")


def _people(message: Message) -> list[tuple[str, Segment | None]]:
    """Return the number of each patient (of kind MR, else the first) with the PV1 that follows."""
    found: list[tuple[str, Segment | None]] = []
    for segment in message.lines:
        if segment.name == "PID":
            numbers = [(len(each) > 4 and each[4][0] == "MR", each[0][0]) for each in segment.repetitions(3)]
            numbers = [each for each in numbers if each[1].strip('" ')]
            if numbers:
                found.append((max(numbers, key=lambda each: each[0])[1], None))
        elif segment.name == "PV1" and found and found[-1][1] is None:
            found[-1] = (found[-1][0], segment)
    return found


def _refused(why: str, fix: str) -> InputError:
    return InputError("The HL7 v2 message tells of no association.", f"For {why}.", fix)
