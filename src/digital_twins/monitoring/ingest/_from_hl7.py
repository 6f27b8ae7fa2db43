"""ORU R01 of a device gateway (IHE DEV PCD-01: OBX-3 in MDC codes) as readings."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from digital_twins._errors import InputError
from digital_twins.monitoring.signals import MDC_CODE, Reading, in_unit, vital

if TYPE_CHECKING:
    from collections.abc import Iterator

    from digital_twins.hl7v2 import Message, Segment


def oru_readings(message: Message) -> list[Reading]:
    """Return what an ORU says about vital signs, a reading for each device and moment.

    OBX of other codes are left out. The device is the equipment of OBX-18, or of a PRT of EQUIP below the
    OBX (HL7 v2.7 and later), else that of the OBX before in the same OBR, else OBR-10, else the sending
    application (MSH-3). The moment is OBX-14, else OBR-7, else MSH-7. The patient of PID is not used: who
    lies at the device is said by the associations.

    Parameters
    ----------
    message
        ORU^R01 whose numbers stand in OBX of type NM with codes of the system MDC (or MDC names).

    Raises
    ------
    InputError
        It is another message, has no usable time, or a value in an unknown unit.
    """
    if message.kind != ("ORU", "R01"):
        raise _refused("it is no ORU R01")
    found: dict[tuple[str, str], dict[str, float]] = {}
    for device, stamp, segment in _observations(message):
        code = _code(segment)
        if code is None or segment.value(11) in {"X", "D", "W", "N"}:
            continue
        try:
            number = float(segment.value(5))
        except ValueError:
            continue
        values = found.setdefault((device, stamp), {})
        values[code] = in_unit(number, segment.value(6), vital(code).unit)
    return [Reading(device, _seconds(stamp), values) for (device, stamp), values in found.items()]


def _observations(message: Message) -> Iterator[tuple[str, str, Segment]]:
    """Yield device, time and segment of every OBX."""
    order_time, device = message["MSH-7"], message["MSH-3"]
    held: tuple[str, Segment] | None = None
    for segment in message.lines:
        if segment.name == "PRT":
            if held is not None and segment.value(4) == "EQUIP" and segment.value(10):
                device = segment.value(10)
            continue
        if held is not None:
            yield device, *held
            held = None
        if segment.name == "OBR":
            order_time = segment.value(7) or message["MSH-7"]
            device = segment.value(10) or message["MSH-3"]
        elif segment.name == "OBX":
            device = segment.value(18) or device
            held = segment.value(14) or order_time, segment
    if held is not None:
        yield device, *held


def _code(segment: Segment) -> str | None:
    number = segment.value(3)
    if segment.value(2) != "NM" or not number.isdecimal() or segment.value(3, 3) not in {"MDC", ""}:
        return None
    return MDC_CODE.get(int(number))


def _seconds(stamp: str) -> float:
    """Return a time stamp of HL7 (DTM); without an offset it is UTC, as PCD-01 asks for an offset."""
    text, sign, offset = stamp, "", ""
    for mark in "+-":
        if mark in stamp:
            text, sign, offset = stamp.partition(mark)
    whole, _, fraction = text.partition(".")
    try:
        moment = datetime.strptime(whole.ljust(14, "0")[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        shift = (int(offset[:2]) * 3600 + int(offset[2:4] or 0) * 60) if sign else 0
        seconds = moment.timestamp() + (float(f"0.{fraction}") if fraction else 0.0)
    except ValueError:
        raise _refused("it has no usable time") from None
    return seconds + shift if sign == "-" else seconds - shift


def _refused(why: str) -> InputError:
    return InputError("The HL7 v2 message holds no reading.", f"For {why}.", "Send ORU^R01 after IHE PCD-01.")
