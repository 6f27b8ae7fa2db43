"""Beds and devices: whose value it was, over admissions, transfers, swaps, cancellations and discharges."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from digital_twins import InputError
from digital_twins.records import BED_MIGRATIONS, BedBook
from digital_twins.storage import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T0 = datetime(2026, 3, 1, 8, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return T0 + timedelta(minutes=minutes)


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[tuple[BedBook, Callable[..., None]]]:
    with Database(tmp_path / "beds.db", migrations=BED_MIGRATIONS) as database:
        book = BedBook(database)

        def do(name: str, *values: object, **named: object) -> None:
            database.write(lambda cursor: getattr(book, f"{name}_in")(cursor, *values, **named))

        yield book, do


def test_a_fixed_monitor_follows_the_bed_and_telemetry_the_patient(
    ward: tuple[BedBook, Callable[..., None]],
) -> None:
    book, do = ward
    book.attach("MON1", at(0), bed="ICU/1")
    book.attach("TELE1", at(12), patient="eva")
    do("move", "eva", "ICU/1", at=at(10), visit="V1")
    do("move", "eva", "ICU/2", at=at(20), visit="V1")
    do("move", "max", "ICU/1", at=at(25), visit="V2")
    do("leave", "eva", at(40))
    seen = {minute: book.patient_of("MON1", at(minute)) for minute in (5, 10, 19.99, 20, 24, 25, 50)}
    assert seen == {5: None, 10: "eva", 19.99: "eva", 20: None, 24: None, 25: "max", 50: "max"}
    assert [book.patient_of("TELE1", at(m)) for m in (11, 12, 30, 40)] == [None, "eva", "eva", None]
    assert [(s.bed, s.visit, s.end) for s in book.stays("eva")] == [
        ("ICU/1", "V1", at(20)),
        ("ICU/2", "V1", at(40)),
    ]
    assert [s.patient for s in book.occupied(at(30))] == ["max", "eva"]
    assert [link.device for link in book.links(at(30))] == ["MON1", "TELE1"]


def test_a_swap_happens_at_one_moment(ward: tuple[BedBook, Callable[..., None]]) -> None:
    book, do = ward
    for device, bed in (("M1", "B1"), ("M2", "B2")):
        book.attach(device, at(0), bed=bed)
    do("move", "eva", "B1", at=at(1))
    do("move", "max", "B2", at=at(1))
    do("swap", "eva", "max", at=at(5))
    assert [book.patient_of(d, at(4.9)) for d in ("M1", "M2")] == ["eva", "max"]
    assert [book.patient_of(d, at(5)) for d in ("M1", "M2")] == ["max", "eva"]
    with pytest.raises(InputError, match="in no bed"):
        do("swap", "eva", "nobody", at=at(6))


def test_cancellations(ward: tuple[BedBook, Callable[..., None]]) -> None:
    book, do = ward
    do("move", "eva", "B1", at=at(1))
    do("move", "eva", "B2", at=at(5))
    do("take_back", "eva", reopen=True)
    assert [(s.bed, s.end) for s in book.stays("eva")] == [("B1", None)]
    do("leave", "eva", at(9))
    do("return", "eva")
    assert book.patients_in("B1", at(10)) == ("eva",)
    do("take_back", "eva", reopen=False)
    assert book.stays("eva") == []


def test_two_patients_in_a_bed_are_nobody(ward: tuple[BedBook, Callable[..., None]]) -> None:
    book, do = ward
    book.attach("M1", at(0), bed="B1")
    do("move", "eva", "B1", at=at(1))
    do("move", "max", "B1", at=at(2))
    assert book.patients_in("B1", at(3)) == ("eva", "max")
    assert book.patient_of("M1", at(3)) is None
    with pytest.raises(InputError, match="either a bed or a patient"):
        book.attach("M2", at(0))
    with pytest.raises(InputError, match="time zone"):
        book.attach("M2", datetime(2026, 3, 1), bed="B1")  # noqa: DTZ001  (what is refused)


def test_random_moves_agree_with_a_plain_replay(ward: tuple[BedBook, Callable[..., None]]) -> None:
    """Against a dictionary that is replayed: at no minute is a value given to another patient."""
    book, do = ward
    dice = random.Random(7)
    beds = [f"B{n}" for n in range(4)]
    for bed in beds:
        book.attach(f"M-{bed}", at(0), bed=bed)
    where: dict[str, str] = {}
    truth: list[dict[str, str]] = []
    for minute in range(1, 61):
        patient = f"p{dice.randrange(4)}"
        free = [bed for bed in beds if bed not in where.values()]
        match dice.randrange(3):
            case 0 if free:
                where[patient] = dice.choice(free)
                do("move", patient, where[patient], at=at(minute))
            case 1 if len(where) > 1:
                first, second = dice.sample(sorted(where), 2)
                where[first], where[second] = where[second], where[first]
                do("swap", first, second, at=at(minute))
            case 2 if patient in where:
                del where[patient]
                do("leave", patient, at(minute))
        truth.append({bed: name for name, bed in where.items()})
    for minute, expected in enumerate(truth, start=1):
        for bed in beds:
            assert book.patient_of(f"M-{bed}", at(minute + 0.5)) == expected.get(bed)
