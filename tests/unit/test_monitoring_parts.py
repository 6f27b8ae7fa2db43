"""A ward in parts: leases by a set clock, a random ward with kills beside the undivided one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from digital_twins.monitoring import (
    Association,
    History,
    Homes,
    Leases,
    MonitorService,
    PartLostError,
    Reading,
    WardPart,
    device_part,
    open_monitor_database,
)
from digital_twins.monitoring.storage import store_key
from digital_twins.monitoring.ward._mail import ReadingMail

START_S = 1_764_064_500.0
PARTS = 3


class Clock:
    def __init__(self) -> None:
        self.now_s = START_S

    def __call__(self) -> float:
        return self.now_s


def test_a_dead_workers_parts_are_taken_over_after_the_lease_and_not_before(tmp_path: Path) -> None:
    clock = Clock()
    with open_monitor_database(tmp_path, parts=6) as database:
        workers = {
            name: Leases(database, parts=6, owner=name, lease_s=4.0, expected=3, clock=clock)
            for name in "abc"
        }
        held = {name: each.round().epochs for name, each in workers.items()}
        assert {name: len(each) for name, each in held.items()} == {"a": 2, "b": 2, "c": 2}
        assert sorted(part for each in held.values() for part in each) == list(range(6))
        for _ in range(20):
            clock.now_s += 0.5
            assert {name: each.round().epochs for name, each in workers.items()} == held
        died_s = clock.now_s
        while len(found := {**workers["a"].round().epochs, **workers["b"].round().epochs}) < 6:
            assert clock.now_s - died_s < 4.0
            clock.now_s += 0.5
        assert clock.now_s - died_s == 4.0
        kept_epochs = held["a"] | held["b"]
        assert {part for part in found if found[part] != kept_epochs.get(part)} == set(held["c"])
        assert all(found[part] == held["c"][part] + 1 for part in held["c"])
        assert [len(workers[name].round().epochs) for name in "ab"] == [3, 3]


def test_parts_are_given_back_to_a_worker_that_joins(tmp_path: Path) -> None:
    clock = Clock()
    with open_monitor_database(tmp_path, parts=5) as database:
        first = Leases(database, parts=5, owner="a", clock=clock)
        assert len(first.round().epochs) == 5
        second = Leases(database, parts=5, owner="b", clock=clock)
        assert second.round().epochs == {}
        surplus = first.round().surplus
        assert surplus == (3, 4)
        for part in surplus:
            first.release(part)
        assert sorted(second.round().epochs) == [3, 4]
        second.leave()
        assert len(first.round().epochs) == 5


def test_a_worker_that_slept_through_its_lease_writes_nothing(tmp_path: Path) -> None:
    clock = Clock()
    with open_monitor_database(tmp_path, parts=2) as database:
        slow, fast = (Leases(database, parts=2, owner=name, clock=clock) for name in ("slow", "fast"))
        epochs = slow.round().epochs
        ward = Ward(tmp_path, database, clock, parts=2)
        ward.tell("device", "D0", "B0")
        ward.tell("bed", "B0", "P0")
        home = Homes(2)
        for service in ward.services:
            assert service.part.epoch == 0
        number = device_part("D0", 2)
        sleeper = ward.open(number, epoch=epochs[number])
        fast.round()
        clock.now_s += 4.0
        taken = fast.round().epochs
        assert sorted(taken) == [0, 1]
        sleeper.intake.offer(Reading("D0", clock.now_s, {"HR": 70.0}, ("vf",)), received_s=clock.now_s)
        with pytest.raises(PartLostError):
            sleeper.work()
        heir = ward.open(number, epoch=taken[number])
        assert heir.monitor.alerts.open_alerts() == []
        heir.intake.offer(Reading("D0", clock.now_s, {"HR": 70.0}, ("vf",)), received_s=clock.now_s)
        heir.work()
        assert len(heir.store.open_alerts(part=number, parts=2)[0]) == 1
        assert home.of("P0") == device_part("P0", 2)


class Ward:
    """Services of all parts in this process, on one database."""

    key: bytes | None = None

    def __init__(self, folder: Path, database, clock: Clock, *, parts: int, key: bytes | None = None) -> None:
        self.folder, self.database, self.clock, self.parts, self.key = folder, database, clock, parts, key
        self.services = [self.open(number) for number in range(parts)]

    def open(self, number: int, *, epoch: int = 0) -> MonitorService:
        part = WardPart(number, self.parts, database=self.database, epoch=epoch, key=self.key)
        return MonitorService(self.folder, capacity=16, clock=self.clock, part=part)

    def tell(self, kind: str, subject: str, target: str | None, since_s: float = 0.0) -> None:
        self.services[0].associate(Association(kind, subject, target, since_s))
        for service in self.services[1:]:
            assert service.division is not None
            service.division.hear(service.division.exchange.poll())

    def send(self, reading: Reading) -> None:
        service = self.services[device_part(reading.device, self.parts)]
        assert service.intake.offer(reading, received_s=self.clock.now_s)

    def work(self) -> None:
        for service in self.services:
            service.work()

    def kill(self, number: int) -> None:
        """Go on with a new service: the old one is left as a kill leaves it."""
        self.services[number] = self.open(number)


class Whole(Ward):
    """The same ward undivided."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.service = MonitorService(folder, capacity=16, clock=clock)
        self.folder, self.clock, self.parts, self.services = folder, clock, 1, [self.service]


def moves(random: np.random.Generator, seconds: int) -> dict[int, list[tuple[str, str, str | None]]]:
    """Swaps, transfers, discharges, admissions, moved and carried devices, by second."""
    beds: dict[str, str | None] = {f"B{n}": f"P{n}" for n in range(6)}
    found: dict[int, list[tuple[str, str, str | None]]] = {}
    admitted = 6
    for second in range(5, seconds, 4):
        kind = random.integers(6)
        first, other = random.choice(list(beds), 2, replace=False).tolist()
        if kind == 0:
            found[second] = [("device", f"D{random.integers(9)}", first)]
            continue
        if kind == 5:  # a device becomes the patient's own, wherever that patient lies from then on
            found[second] = [("carried", f"D{random.integers(9)}", beds[first])]
            continue
        if kind == 1:  # discharge, or an admission to a bed that is free
            patient = None
            if beds[first] is None:
                patient, admitted = f"P{admitted}", admitted + 1
            beds[first] = patient
            found[second] = [("bed", first, patient)]
            continue
        a, b = beds[first], beds[other]  # a swap; a transfer where one of the beds is free
        beds[first], beds[other] = b, a
        steps: list[tuple[str, str, str | None]] = [("bed", first, None), ("bed", other, None)]
        steps += [("bed", bed, who) for bed, who in ((first, b), (other, a)) if who is not None]
        found[second] = steps
    return found


def kept(ward: Ward, until_s: float) -> dict[tuple[str, str], list[tuple[float, float]]]:
    for service in ward.services:
        service.close()
    history = History(ward.folder / "history", key=store_key(ward.key, "history"))
    found = {}
    for patient in (f"P{n}" for n in range(40)):
        for code in ("HR", "SPO2"):
            times, values = history.read(patient, code, since_s=0.0, until_s=until_s)
            found[patient, code] = list(zip(times.tolist(), values.tolist(), strict=True))
    return found


def test_no_reading_is_lost_or_on_the_wrong_patient_when_patients_move_and_parts_are_killed(
    tmp_path: Path, *, full: bool
) -> None:
    """Nine devices, six beds: some have two devices, of different parts. Each value names who lies there."""
    for seed in range(8 if full else 1):
        compare_wards(tmp_path / str(seed), seed, seconds=120 if full else 30)


def test_an_encrypted_ward_moves_its_patients_as_one_in_clear(
    tmp_path: Path, database_backend: str, *, full: bool
) -> None:
    if database_backend != "sqlite":
        pytest.skip("a server: tests/peers/test_encrypted_postgresql_monitor.py")
    compare_wards(tmp_path, 11, seconds=120 if full else 30, key=bytes(range(32)))
    files = [path for path in (tmp_path / "parts").rglob("*") if path.is_file()]
    assert any(path.suffix == ".sealed" for path in files)
    assert not [path.name for path in files if b"P3" in path.read_bytes() and path.suffix == ".parquet"]
    assert (tmp_path / "parts" / "monitor.sqlite").read_bytes()[:15] != b"SQLite format 3"


def compare_wards(folder: Path, seed: int, *, seconds: int, key: bytes | None = None) -> None:
    random, clock = np.random.default_rng(seed), Clock()
    plan = moves(random, seconds)
    (folder / "whole").mkdir(parents=True)
    with open_monitor_database(folder / "parts", parts=PARTS, key=key) as database:
        divided = Ward(folder / "parts", database, clock, parts=PARTS, key=key)
        whole = Whole(folder / "whole", clock)
        both = (divided, whole)
        for ward in both:
            for n in range(9):
                ward.tell("device", f"D{n}", f"B{n % 6}")
            for n in range(6):
                ward.tell("bed", f"B{n}", f"P{n}")
        sent = 0
        for second in range(seconds):
            clock.now_s += 1.0
            for step in plan.get(second, ()):
                for ward in both:
                    ward.tell(*step, clock.now_s)
            for n in range(9):
                time_s = clock.now_s + 0.05 * n
                patient = whole.service.associations.patient_of(f"D{n}", time_s)
                code = "HR" if n < 6 else "SPO2"
                base = {"HR": 60.0, "SPO2": 60.0}[code]
                value = base + (-1.0 if patient is None else float(patient[1:]))
                for ward in both:
                    ward.send(Reading(f"D{n}", time_s, {code: value + second % 2 * 0.25}, (), second))
                sent += patient is not None  # nobody's are put aside
            clock.now_s += 0.5
            if random.random() < 0.3:
                number = int(random.integers(PARTS))
                divided.work()
                divided.kill(number)
            for _ in range(2):
                divided.work()
            whole.service.work()
        clock.now_s += 2.0
        for _ in range(3):
            divided.work()
        whole.service.work()
        assert sum(each.intake.counts["forwarded"] for each in divided.services) > 0
        ours, theirs = kept(divided, clock.now_s + 10), kept(whole, clock.now_s + 10)
        for (patient, code), rows in ours.items():
            assert {round(value) for _, value in rows} <= {60 + int(patient[1:])}, (
                patient,
                code,
            )
        assert {key: set(theirs[key]) ^ set(rows) for key, rows in ours.items() if theirs[key] != rows} == {}
        assert sum(map(len, ours.values())) == sent
        with database.read() as connection:
            assert connection.execute("SELECT count(*) FROM monitor_mail").fetchone() == (0,)


def test_readings_one_by_one_become_mail_and_wait_while_there_is_no_room() -> None:
    sent: list[list[str]] = []
    rooms = iter([False, True, True])

    async def send(readings: Sequence[Reading]) -> bool:
        room = next(rooms)
        if room:
            sent.append([each.device for each in readings])
        return room

    async def run() -> None:
        async with ReadingMail(send) as mail, asyncio.timeout(60):
            assert mail.offer(Reading("A", START_S, {"HR": 70.0}))
            assert mail.offer(Reading("B", START_S, {"HR": 71.0}))
            while not sent:
                await asyncio.sleep(0.01)
            mail.offer(Reading("C", START_S, {"HR": 72.0}))  # still goes out at the end
            assert mail.refused == 0

    asyncio.run(run())
    assert sent == [["A", "B"], ["C"]]
