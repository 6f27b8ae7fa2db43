"""ADT and IHE PCIM messages say whose readings they are, told late, twice and taken back too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from digital_twins import ConflictError, InputError
from digital_twins.hl7v2 import parse
from digital_twins.monitoring import AssociationLog, placements
from hl7_messages import PCIM_BEGIN as BEGIN, PCIM_END as END, PID, PID2, header, message, pcim, pv1, swap

EVA, MAX = "4711", "4712"


def at(clock: str) -> float:
    """Seconds of a day and time of March 2026 in UTC, such as 020815."""
    return datetime.strptime(f"202603{clock}", "%Y%m%d%H%M").replace(tzinfo=UTC).timestamp()


class Told:
    """A log with a monitor at each of three beds, and what was applied to it."""

    def __init__(self) -> None:
        self.log = AssociationLog()
        for n in (1, 2, 3):
            self.log.place_device(f"MON{n}", f"ONK/12/{n}", since_s=at("010000"))

    def take(self, data: bytes) -> int:
        found = placements(parse(data), self.log)
        assert found is not None
        for each in found:
            self.log.apply(each)
        return len(found)

    def adt(self, event: str, pid: str, bed: str, clock: str) -> int:
        lines = header(f"ADT^{event}"), f"EVN|{event}|202603{clock}00+0000", pid, pv1(bed, "V1")
        return self.take(message(*lines))

    def patients(self, clock: str) -> list[str | None]:
        return [self.log.patient_of(f"MON{n}", at(clock)) for n in (1, 2, 3)]

    def carrier(self, *clocks: str) -> list[str | None]:
        return [self.log.patient_of("TELE5", at(each)) for each in clocks]


@pytest.fixture
def told() -> Told:
    made = Told()
    made.adt("A01", PID, "1", "010800")
    made.adt("A01", PID2, "2", "010900")
    return made


def test_admission_transfer_and_discharge(told: Told) -> None:
    assert told.patients("010759") == [None, None, None]
    assert told.patients("010930") == [EVA, MAX, None]
    told.adt("A02", PID, "3", "011000")
    told.adt("A03", PID2, "2", "011100")
    assert told.patients("011030") == [None, MAX, EVA]
    assert told.patients("011100") == [None, None, EVA]
    assert told.patients("010959") == [EVA, MAX, None]


def test_who_leaves_for_a_place_without_a_bed_leaves_the_bed(told: Told) -> None:
    theatre = pv1("1", "V1").replace("ONK^12^1^HOSP", "THEATRE")
    told.take(message(header("ADT^A02"), "EVN|A02|20260301100000+0000", PID, theatre))
    assert told.patients("011000") == [None, MAX, None]


def test_beds_are_exchanged_with_and_without_their_names(told: Told) -> None:
    nameless = message(
        header("ADT^A17"), "EVN|A17|20260301100000+0000", PID, pv1("", "V1"), PID2, pv1("", "V2")
    )
    assert told.take(nameless) == 4
    assert told.take(nameless) == 0
    assert told.patients("011000") == [MAX, EVA, None]
    told.take(swap())  # names the beds: 11:30 UTC on the first of March
    assert told.take(swap()) == 0
    assert told.patients("011200") == [EVA, MAX, None]


@pytest.mark.parametrize(
    ("event", "bed", "beds"),
    [
        ("A11", "3", [None, MAX, None]),  # the last admission or transfer: in no bed
        ("A12", "3", [EVA, MAX, None]),  # back in the bed before
    ],
)
def test_what_is_taken_back_never_was(told: Told, event: str, bed: str, beds: list[str | None]) -> None:
    told.adt("A02", PID, "3", "011000")
    told.adt(event, PID, bed, "011005")
    assert told.patients("011001") == beds
    assert told.patients("011010") == beds
    assert told.patients("010959") == [EVA, MAX, None]


def test_a_discharge_is_taken_back_unless_somebody_else_lies_there(told: Told) -> None:
    told.adt("A03", PID, "1", "011000")
    assert told.patients("011001") == [None, MAX, None]
    told.adt("A13", PID, "1", "011005")
    assert told.patients("011001") == [EVA, MAX, None]
    assert told.adt("A13", PID, "1", "011006") == 0
    told.adt("A03", PID, "1", "011100")
    told.adt("A02", PID2, "1", "011200")
    with pytest.raises(ConflictError):
        told.adt("A13", PID, "1", "011205")
    assert told.patients("011210") == [MAX, None, None]


def test_messages_that_move_nobody_are_taken_and_those_without_a_patient_refused(told: Told) -> None:
    assert told.adt("A08", PID, "3", "011000") == 0
    assert told.take(message(header("ADT^A01"), "EVN|A01|20260301100000+0000", PID, pv1("", "V1"))) == 0
    with pytest.raises(InputError):
        told.adt("A01", "PID|1||", "3", "011000")
    assert placements(parse(message(header("ORU^R01"), PID)), told.log) is None
    assert told.patients("011100") == [EVA, MAX, None]


def test_a_time_without_an_offset_is_of_the_zone() -> None:
    data = message(header("ADT^A01"), "EVN|A01|20260301090000", PID, pv1("1", "V1"))
    (entry,) = placements(parse(data), AssociationLog(), zone=timezone(timedelta(hours=2))) or []
    assert (entry.subject, entry.target, entry.since_s) == ("ONK/12/1", EVA, at("010700"))


def test_pcim_a_device_goes_with_its_patient_and_ends(told: Told) -> None:
    assert told.take(pcim(BEGIN, "F", begin="20260301100000+0000")) == 1
    assert told.take(pcim(BEGIN, "F", begin="20260301100000+0000")) == 0
    told.adt("A02", PID, "3", "011100")
    assert told.carrier("010959", "011000", "011200") == [None, EVA, EVA]
    told.take(pcim(END, "F", end="20260301130000+0000"))
    assert told.carrier("011259", "011300") == [EVA, None]
    told.take(pcim(END, "F", end="20260301140000+0000"))  # the end was told too early
    assert told.carrier("011330", "011400") == [EVA, None]


def test_pcim_a_monitor_of_a_bed_becomes_the_patients_alone(told: Told) -> None:
    told.take(pcim(BEGIN, "F", begin="20260301100000+0000", device="MON1"))
    told.adt("A02", PID, "3", "011100")
    told.adt("A02", PID2, "1", "011200")
    assert told.patients("011300") == [EVA, None, EVA]
    told.adt("A03", PID, "3", "011400")
    assert told.patients("011400") == [None, None, None]  # not of who lies in that bed: nobody said so
    assert told.log.is_here(MAX, at("011400"))
    assert not told.log.is_here(EVA, at("011400"))


def test_pcim_corrections_and_wrong_reports(told: Told) -> None:
    told.take(pcim(BEGIN, "F", begin="20260301100000+0000"))
    told.take(pcim(BEGIN, "C", begin="20260301103000+0000"))
    assert told.carrier("011029", "011030") == [None, EVA]
    told.take(pcim(BEGIN, "W"))
    assert told.carrier("011100") == [None]


@pytest.mark.parametrize(
    "data",
    [
        pcim(BEGIN, "R", begin="20260301100000"),
        pcim(BEGIN, "F"),
        pcim(END, "F"),
        pcim("1^OTHER^MDC", "F", begin="20260301100000"),
        pcim(BEGIN, "F", begin="20260301100000").replace(b"EQUIP^EQUIP", b"RO^RO"),
        pcim(BEGIN, "F", begin="soon"),
    ],
)
def test_pcim_reports_that_cannot_be_used_are_refused(told: Told, data: bytes) -> None:
    with pytest.raises(InputError):
        told.take(data)
