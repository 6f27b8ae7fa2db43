"""RDE O11 and RDS O13 as MedicationRequest and MedicationDispense (v2-to-FHIR segment maps)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins.hl7v2._errors import missing, wrong
from digital_twins.hl7v2._map_orders import Order, numbers, orders
from digital_twins.hl7v2._map_patient import put
from digital_twins.hl7v2._map_results import subjects
from digital_twins.hl7v2._values import V2, SiteMapping, concepts, filled, moment, person, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from digital_twins.hl7v2._message import Message, Segment

_UCUM = "http://unitsofmeasure.org"
# table 0119 (what the order message does) to the status of a prescription [verify]
_STATUS = {
    **dict.fromkeys(("NW", "OK", "XO", "RE", "RP", "RF", "SC", "SR"), "active"),
    **dict.fromkeys(("CA", "OC", "CR"), "cancelled"),
    **dict.fromkeys(("DC", "OD", "DR"), "stopped"),
    **dict.fromkeys(("HD", "OH", "HR"), "on-hold"),
}


def prescriptions(message: Message, group: Sequence[Segment], how: SiteMapping) -> Iterator[dict[str, Any]]:
    """Yield the entries of one patient's encoded orders (RDE O11): patient, visit, MedicationRequests."""
    person_entry, visit, common = _whose(message, group, how)
    yield person_entry
    if visit is not None:
        yield visit
    for order in orders(group):
        rxe = order.first("RXE")
        drug = next(iter(concepts(rxe, 2, how)), None)
        if rxe is None or drug is None:
            raise missing("RXE", 2, "code of the drug")
        status = _STATUS.get(order.orc.value(1))
        if status is None:
            raise wrong("ORC", 1, "names an order control that is not mapped", code="103")
        placer, filler = numbers(message, order, how)
        resource = {
            "resourceType": "MedicationRequest",
            "status": status,
            "intent": "order",
            "medicationCodeableConcept": drug,
            **common,
            **filled(
                identifier=_order_numbers(placer, filler),
                authoredOn=moment(order.orc.value(9), how, place=("ORC", 9)),
                requester=person(order.orc, 12),
                dosageInstruction=[dosage] if (dosage := _dosage(order, rxe, how)) else [],
                dispenseRequest=filled(quantity=_amount(rxe, 10, 11)),
            ),
        }
        yield put("MedicationRequest", placer or filler, resource)


def dispenses(message: Message, group: Sequence[Segment], how: SiteMapping) -> Iterator[dict[str, Any]]:
    """Yield the entries of what was dispensed (RDS O13): patient, visit, MedicationDispenses."""
    person_entry, visit, common = _whose(message, group, how)
    yield person_entry
    if visit is not None:
        yield visit
    context = {"context" if name == "encounter" else name: value for name, value in common.items()}
    for order in orders(group):
        rxd = order.first("RXD")
        drug = next(iter(concepts(rxd, 2, how)), None)
        if rxd is None or drug is None:
            raise missing("RXD", 2, "code of the drug")
        placer, filler = numbers(message, order, how)
        number = placer or filler
        # each dispensing of an order has its own number (RXD-1)
        identifier = {**number, "value": f"{number['value']}/{text_of(rxd.value(1)) or '1'}"}
        resource = {
            "resourceType": "MedicationDispense",
            "status": "cancelled" if order.orc.value(1) in {"CA", "OC", "CR"} else "completed",
            "medicationCodeableConcept": drug,
            **context,
            **filled(
                identifier=[identifier],
                quantity=_amount(rxd, 4, 5),
                whenHandedOver=moment(rxd.value(3), how, place=("RXD", 3)),
                note=[{"text": text}] if (text := text_of(rxd.value(9))) else [],
            ),
        }
        yield put("MedicationDispense", identifier, resource)


def _whose(
    message: Message, group: Sequence[Segment], how: SiteMapping
) -> tuple[dict[str, Any], dict[str, Any] | None, dict[str, Any]]:
    person_entry, visit = subjects(message, group, how)
    common = filled(
        subject={"reference": person_entry["fullUrl"]},
        encounter={"reference": visit["fullUrl"]} if visit is not None else {},
    )
    return person_entry, visit, common


def _order_numbers(placer: dict[str, Any], filler: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": {"coding": [{"system": f"{V2}0203", "code": code}]}, **found}
        for code, found in (("PLAC", placer), ("FILL", filler))
        if found
    ]


def _amount(segment: Segment, value: int, unit: int) -> dict[str, Any]:
    """Return a Quantity of two fields; a unit of UCUM keeps its code, others are text only."""
    number = text_of(segment.value(value))
    if not number:
        return {}
    try:
        amount = float(number)
    except ValueError:
        raise wrong(segment.name, value, "is no number") from None
    if not -1e12 < amount < 1e12:
        raise wrong(segment.name, value, "is no usable number")
    code, shown, system = (text_of(segment.value(unit, n)) for n in (1, 2, 3))
    coded = {"system": _UCUM, "code": code} if code and system == "UCUM" else {}
    return filled(value=int(amount) if amount.is_integer() else amount, unit=shown or code, **coded)


def _dosage(order: Order, rxe: Segment, how: SiteMapping) -> dict[str, Any]:
    rxr = order.first("RXR")
    low, high = _amount(rxe, 3, 5), _amount(rxe, 4, 5)
    dose = {"doseRange": {"low": low, "high": high}} if low and high else {"doseQuantity": low} if low else {}
    start, end = (order.value("TQ1", n) for n in (7, 8))
    bounds = filled(start=moment(start, how, place=("TQ1", 7)), end=moment(end, how, place=("TQ1", 8)))
    pattern = order.value("TQ1", 3)
    timing = filled(repeat=filled(boundsPeriod=bounds), code={"text": pattern} if pattern else {})
    text = text_of(rxe.value(7, 2)) or text_of(rxe.value(7))
    return filled(
        text=text,
        timing=timing,
        route=next(iter(concepts(rxr, 1, how)), None),
        site=next(iter(concepts(rxr, 2, how)), None),
        doseAndRate=[dose] if dose else [],
    )
