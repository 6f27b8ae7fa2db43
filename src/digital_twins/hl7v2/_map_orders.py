"""ORC, OBR and TQ1 of ORM O01 and OMI O23 as ServiceRequest (v2-to-FHIR segment maps)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from digital_twins.hl7v2._errors import missing, wrong
from digital_twins.hl7v2._map_patient import put
from digital_twins.hl7v2._map_results import subjects
from digital_twins.hl7v2._values import V2, SiteMapping, concepts, entity, filled, moment, person, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from digital_twins.hl7v2._message import Message, Segment

# table 0119 (what the order message does) to the request's status, from memory of the guide [verify]
_STATUS = {
    **dict.fromkeys(("NW", "SN", "OK", "XO", "XR", "SC", "SR", "RL", "RP", "RU", "PA", "CH"), "active"),
    **dict.fromkeys(("CA", "OC", "CR", "DC", "OD", "DR"), "revoked"),
    **dict.fromkeys(("HD", "OH", "HR"), "on-hold"),
}
CANCELLED = frozenset(code for code, status in _STATUS.items() if status == "revoked")
_ORDER_STATUS = {
    "CM": "completed",
    "CA": "revoked",
    "DC": "revoked",
    "HD": "on-hold",
    "ER": "entered-in-error",
}
_PRIORITY = {"S": "stat", "A": "asap", "R": "routine", "P": "asap", "U": "urgent"}


@dataclass(frozen=True, slots=True)
class Order:
    """An ORC with the segments that belong to it."""

    orc: Segment
    rest: tuple[Segment, ...]

    def first(self, name: str) -> Segment | None:
        """Return its first segment of a name."""
        return next((each for each in self.rest if each.name == name), None)

    def value(self, name: str, number: int, component: int = 1) -> str:
        """Return a value of its first segment of a name, empty when it is not there."""
        segment = self.first(name)
        return text_of(segment.value(number, component)) if segment is not None else ""

    @property
    def start(self) -> str:
        """When it is to be done, as the message writes it: TQ1-7, OBR-27.4, ORC-7.4 or OBR-36."""
        return (
            self.value("TQ1", 7)
            or self.value("OBR", 27, 4)
            or text_of(self.orc.value(7, 4))
            or self.value("OBR", 36)
        )

    @property
    def priority(self) -> str:
        """Code of its priority: TQ1-9, OBR-27.6, ORC-7.6 or OBR-5."""
        return (
            self.value("TQ1", 9)
            or self.value("OBR", 27, 6)
            or text_of(self.orc.value(7, 6))
            or self.value("OBR", 5)
        ).upper()


def orders(group: Sequence[Segment]) -> list[Order]:
    """Return the orders of one patient's segments.

    Raises
    ------
    HL7Error
        There is none.
    """
    starts = [n for n, segment in enumerate(group) if segment.name == "ORC"]
    if not starts:
        raise missing("ORC", 1, "order control")
    stops = [*starts[1:], len(group)]
    return [Order(group[a], tuple(group[a + 1 : b])) for a, b in zip(starts, stops, strict=True)]


def service_requests(
    message: Message, group: Sequence[Segment], how: SiteMapping
) -> Iterator[dict[str, Any]]:
    """Yield the entries of one patient's orders: patient, visit, requests."""
    person_entry, visit = subjects(message, group, how)
    yield person_entry
    if visit is not None:
        yield visit
    common = filled(
        subject={"reference": person_entry["fullUrl"]},
        encounter={"reference": visit["fullUrl"]} if visit is not None else {},
    )
    for order in orders(group):
        yield request_of(message, order, how, common)


def numbers(message: Message, order: Order, how: SiteMapping) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return placer and filler number of an order; the first is empty when only the filler's is there.

    Raises
    ------
    HL7Error
        There is neither.
    """
    facility, obr = message["MSH-4"], order.first("OBR")
    placer, filler = (
        entity(order.orc, n, how, facility=facility) or entity(obr, n, how, facility=facility) for n in (2, 3)
    )
    if not placer and not filler:
        raise missing("ORC", 2, "placer order number")
    return placer, filler


def request_of(message: Message, order: Order, how: SiteMapping, common: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of the ServiceRequest of an order; `common` holds subject and encounter."""
    placer, filler = numbers(message, order, how)
    obr = order.first("OBR")
    codes = concepts(obr, 4, how)
    if not codes:
        raise missing("OBR", 4, "code of the examination")
    control = order.orc.value(1)
    status = _STATUS.get(control)
    if status is None:
        raise wrong("ORC", 1, "names an order control that is not mapped", code="103")
    if control in {"SC", "SR"}:
        status = _ORDER_STATUS.get(order.orc.value(5), status)
    notes = [text_of(each.value(3)) for each in order.rest if each.name == "NTE"]
    resource = {
        "resourceType": "ServiceRequest",
        "status": status,
        "intent": "order",
        "code": codes[0],
        **common,
        **filled(
            identifier=[
                {"type": {"coding": [{"system": f"{V2}0203", "code": code}]}, **found}
                for code, found in (("PLAC", placer), ("FILL", filler))
                if found
            ],
            priority=_PRIORITY.get(order.priority),
            occurrenceDateTime=moment(order.start, how, place=("TQ1", 7)),
            authoredOn=moment(order.orc.value(9), how, place=("ORC", 9)),
            requester=person(order.orc, 12) or person(obr, 16),
            reasonCode=concepts(obr, 31, how),
            note=[{"text": note} for note in notes if note],
        ),
    }
    return put("ServiceRequest", placer or filler, resource)
