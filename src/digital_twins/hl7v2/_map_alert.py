"""ORU R40 (IHE PCD-04 Report Alert) as Communication: alarms and nurse calls, and the way back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from digital_twins.hl7v2._build import Header, build_message
from digital_twins.hl7v2._errors import missing
from digital_twins.hl7v2._map_patient import put
from digital_twins.hl7v2._map_results import subjects
from digital_twins.hl7v2._values import SiteMapping, concepts, entity, filled, moment, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from digital_twins.hl7v2._message import Message, Segment

_CATEGORY = "http://terminology.hl7.org/CodeSystem/communication-category"
# MDC codes of the alert's attributes, from memory of IHE PCD TF-2 appendix B.8 [verify]
_PHASE, _STATE = "68481", "68482"
_ENDED = {"end", "inactive"}
_PRIORITY = {"PH": "stat", "PM": "urgent", "PL": "routine", "PI": "routine"}


def alerts(message: Message, group: Sequence[Segment], how: SiteMapping) -> Iterator[dict[str, Any]]:
    """Yield the entries of one patient's alerts: patient, visit, a Communication for each OBR.

    The alert's number is OBR-3; a later message of the same alert (its end) updates it. What it says is the
    first OBX of a text or code; OBX-8 carries the priority PH, PM, PL or PI.
    """
    person, visit = subjects(message, group, how)
    yield person
    if visit is not None:
        yield visit
    starts = [n for n, segment in enumerate(group) if segment.name == "OBR"]
    if not starts:
        raise missing("OBR", 3, "number of the alert")
    for start, stop in zip(starts, [*starts[1:], len(group)], strict=True):
        obr, rows = group[start], [s for s in group[start + 1 : stop] if s.name == "OBX"]
        number = entity(obr, 3, how, facility=message["MSH-4"])
        if not number:
            raise missing("OBR", 3, "number of the alert")
        attributes = {row.value(3): text_of(row.value(5)) for row in rows}
        ended = attributes.get(_PHASE, "") in _ENDED or attributes.get(_STATE, "") in _ENDED
        said = [row for row in rows if row.value(3) not in {_PHASE, _STATE}]
        flags = [text_of(each[0][0]) for row in said for each in row.repetitions(8)]
        texts = [text for row in said if (text := text_of(row.value(5, 2)) or text_of(row.value(5)))]
        place = text_of(said[0].value(3, 2)) if said else ""
        resource = {
            "resourceType": "Communication",
            "status": "completed" if ended else "in-progress",
            "category": [{"coding": [{"system": _CATEGORY, "code": "alert", "display": "Alert"}]}],
            "priority": next((_PRIORITY[f] for f in flags if f in _PRIORITY), "urgent"),
            "subject": {"reference": person["fullUrl"]},
            **filled(
                identifier=[number],
                topic=next(iter(concepts(obr, 4, how)), None),
                encounter={"reference": visit["fullUrl"]} if visit is not None else {},
                sent=_instant_of(moment(obr.value(7), how, place=("OBR", 7))),
                payload=[{"contentString": text} for text in texts]
                or ([{"contentString": place}] if place else []),
            ),
        }
        yield put("Communication", number, resource)


def _instant_of(shown: str) -> str:
    return shown if len(shown) > 10 else ""


def alert_message(
    *,
    number: str,
    patient: str,
    bed: str,
    text: str,
    at_utc: datetime,
    ended: bool = False,
    priority: str = "PH",
    header: Header | None = None,
) -> Message:
    """Return an ORU R40 that tells a nurse-call system of an alert, or of its end.

    Parameters
    ----------
    number
        Number of the alert: its end carries the same.
    patient
        Identifier of the patient (PID-3.1).
    bed
        ``ward/room/bed``, as `records.BedBook` has it.
    text
        What the caller's display shows; keep names out of it.
    at_utc
        When it began, or ended.
    ended
        The alert is over.
    priority
        ``PH``, ``PM``, ``PL`` or ``PI``: high, medium, low, information (OBX-8).
    header
        Sender and receiver; its kind must be ``"ORU^R40^ORU_R40"``.
    """
    place = dict(zip(("3.1", "3.2", "3.3"), bed.split("/"), strict=False))
    when = at_utc.astimezone(UTC).strftime("%Y%m%d%H%M%S+0000")
    phase = "end" if ended else "start"
    rows: list[tuple[str, dict[str, str]]] = [
        ("PID", {"3.1": patient}),
        ("PV1", {"2": "I", **place}),
        (
            "OBR",
            {
                "1": "1",
                "3.1": number,
                "3.2": "TWIN",
                "4.1": "196616",
                "4.2": "MDC_EVT_ALARM",
                "4.3": "MDC",
                "7": when,
            },
        ),
        (
            "OBX",
            {
                "1": "1",
                "2": "ST",
                "3.1": "196616",
                "3.2": "MDC_EVT_ALARM",
                "3.3": "MDC",
                "4": "1",
                "5": text,
                "8": priority,
                "11": "R",
            },
        ),
        (
            "OBX",
            {
                "1": "2",
                "2": "ST",
                "3.1": _PHASE,
                "3.2": "MDC_ATTR_EVENT_PHASE",
                "3.3": "MDC",
                "4": "1",
                "5": phase,
                "11": "R",
            },
        ),
    ]
    return build_message(header or Header("ORU^R40^ORU_R40"), rows)
