"""OML O21 as ServiceRequest and Specimen: laboratory orders (v2-to-FHIR segment maps)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins.hl7v2._map_orders import Order, numbers, orders, request_of
from digital_twins.hl7v2._map_patient import put
from digital_twins.hl7v2._map_results import subjects
from digital_twins.hl7v2._values import SiteMapping, concepts, entity, filled, moment, urn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from digital_twins.hl7v2._message import Message, Segment

_LABORATORY = {
    "coding": [{"system": "http://snomed.info/sct", "code": "108252007", "display": "Laboratory procedure"}]
}


def lab_orders(message: Message, group: Sequence[Segment], how: SiteMapping) -> Iterator[dict[str, Any]]:
    """Yield the entries of one patient's laboratory orders: patient, visit, specimens, requests."""
    person, visit = subjects(message, group, how)
    yield person
    if visit is not None:
        yield visit
    common = filled(
        subject={"reference": person["fullUrl"]},
        encounter={"reference": visit["fullUrl"]} if visit is not None else {},
    )
    for order in orders(group):
        entry = request_of(message, order, how, common)
        specimens = list(_specimens(message, order, how, person["fullUrl"]))
        yield from specimens
        resource = {
            **entry["resource"],
            "category": [_LABORATORY],
            **filled(specimen=[{"reference": each["fullUrl"]} for each in specimens]),
        }
        yield {**entry, "resource": resource}


def _specimens(message: Message, order: Order, how: SiteMapping, subject: str) -> Iterator[dict[str, Any]]:
    placer, filler = numbers(message, order, how)
    for place, spm in enumerate((s for s in order.rest if s.name == "SPM"), start=1):
        own = entity(spm, 2, how, facility=message["MSH-4"])
        number = placer or filler
        named = urn("SPM", number["system"], number["value"], str(place))
        identifier = own or {"system": "urn:ietf:rfc:3986", "value": named}
        resource = {
            "resourceType": "Specimen",
            **filled(
                identifier=[identifier],
                type_=next(iter(concepts(spm, 4, how)), None),
                subject={"reference": subject},
                receivedTime=moment(spm.value(18), how, place=("SPM", 18)),
                collection=filled(
                    collectedDateTime=moment(spm.value(17), how, place=("SPM", 17)),
                    bodySite=next(iter(concepts(spm, 8, how)), None),
                ),
            ),
        }
        yield put("Specimen", identifier, resource)
