"""FHIR R4 Observations (single, panel, or a Bundle of them) as readings."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError
from digital_twins.monitoring.signals import LOINC_CODE, MDC_CODE, Reading, in_unit, vital

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NOT_A_VALUE = {"entered-in-error", "cancelled", "registered"}


def observation_readings(resource: Mapping[str, Any]) -> list[Reading]:
    """Return the readings of an Observation or of a Bundle's Observations; other resources are left out.

    Codes are LOINC or MDC; the device is that of ``Observation.device`` (the id after the slash). Components,
    such as those of a blood pressure panel (85354-9), are values of the same moment.

    Parameters
    ----------
    resource
        Decoded JSON.

    Raises
    ------
    InputError
        An Observation with a vital sign names no device, no time with an offset, or an unknown unit.
    """
    if resource.get("resourceType") == "Bundle":
        inner = [each.get("resource", {}) for each in resource.get("entry", ())]
    else:
        inner = [resource]
    return [
        reading
        for each in inner
        if each.get("resourceType") == "Observation"
        for reading in [_reading(each)]
        if reading is not None
    ]


def _reading(observation: Mapping[str, Any]) -> Reading | None:
    if observation.get("status") in _NOT_A_VALUE:
        return None
    values = {
        code: in_unit(float(quantity["value"]), str(quantity.get("code", "")), vital(code).unit)
        for part in (observation, *observation.get("component", ()))
        for code, quantity in _known(part)
    }
    if not values:
        return None
    device = str(observation.get("device", {}).get("reference", "")).rpartition("/")[2]
    if not device:
        raise _refused("it names no device", "Give Observation.device as Device/ID.")
    moment = observation.get("effectiveDateTime") or observation.get("effectiveInstant") or ""
    try:
        time = datetime.fromisoformat(str(moment))
    except ValueError:
        raise _refused("it has no usable time", "Give effectiveDateTime with an offset.") from None
    if time.tzinfo is None:
        raise _refused("its time has no offset", "Give effectiveDateTime with an offset.")
    return Reading(device, time.timestamp(), values)


def _known(part: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    quantity = part.get("valueQuantity")
    if not isinstance(quantity, dict) or not isinstance(quantity.get("value"), int | float):
        return
    for coding in part.get("code", {}).get("coding", ()):
        system, code = str(coding.get("system", "")), str(coding.get("code", ""))
        found = LOINC_CODE.get(code) if system == "http://loinc.org" else None
        if system == "urn:iso:std:iso:11073:10101" and code.isdecimal():
            found = MDC_CODE.get(int(code))
        if found is not None:
            yield found, quantity
            return


def _refused(why: str, fix: str) -> InputError:
    return InputError("The observation was not taken.", f"For {why}.", fix)
