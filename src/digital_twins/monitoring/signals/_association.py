"""Which patient a device speaks of: device to bed and bed to patient, each a time line.

Devices know no patients (IHE PCIM calls the missing link an association). A sample belongs to the patient
who lay, at the moment of the measurement, in the bed where the device stood at that moment; or to the
patient with whom the device itself was associated, wherever that patient lay.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field

from digital_twins._errors import ConflictError

KINDS = frozenset({"device", "carried", "bed"})
"""What an association may say."""


@dataclass(frozen=True, slots=True)
class Association:
    """One entry of a time line.

    Attributes
    ----------
    kind
        One of `KINDS`: ``"device"`` (a device stands at a bed), ``"carried"`` (a device is a patient's, as
        IHE PCIM says it) or ``"bed"`` (a patient lies in a bed). A device has one place: the later entry of
        the first two ends the earlier one.
    subject
        The device, or of ``"bed"`` the bed.
    target
        The bed, or of ``"carried"`` and ``"bed"`` the patient; None ends what was.
    since_s
        Seconds since 1970 UTC from which it holds.
    """

    kind: str
    subject: str
    target: str | None
    since_s: float


class _Carrier(str):
    """A patient as the place of a device."""

    __slots__ = ()


@dataclass(slots=True)
class _Line:
    since: list[float] = field(default_factory=list)
    target: list[str | None] = field(default_factory=list)

    def at(self, time_s: float) -> str | None:
        place = bisect_right(self.since, time_s)
        return self.target[place - 1] if place else None

    def between(self, time_s: float) -> tuple[str | None, float, float]:
        place = bisect_right(self.since, time_s)
        start = self.since[place - 1] if place else -math.inf
        end = self.since[place] if place < len(self.since) else math.inf
        return self.target[place - 1] if place else None, start, end

    def spans(self, target: str) -> list[tuple[float, float]]:
        """Return from when until when the target was this one, each span once."""
        found: list[tuple[float, float]] = []
        for place, each in enumerate(self.target):
            if each != target or isinstance(each, _Carrier) != isinstance(target, _Carrier):
                continue
            end = self.since[place + 1] if place + 1 < len(self.since) else math.inf
            if found and found[-1][1] == self.since[place]:
                found[-1] = found[-1][0], end
            else:
                found.append((self.since[place], end))
        return found

    def put(self, since_s: float, target: str | None) -> None:
        place = bisect_right(self.since, since_s)
        if place and self.since[place - 1] == since_s:
            self.target[place - 1] = target
            return
        self.since.insert(place, since_s)
        self.target.insert(place, target)


class AssociationLog:
    """The time-stamped associations of devices, beds and patients.

    Changes may be told late and out of order: what counts is the time from which they hold. Two patients in
    one bed, or one patient in two beds, at the same time are refused.
    """

    def __init__(self) -> None:
        self._devices: dict[str, _Line] = {}
        self._beds: dict[str, _Line] = {}
        self._stays: dict[str, set[str]] = {}
        self._carried: dict[str, set[str]] = {}
        self._entries: list[Association] = []
        self.changes = 0

    @property
    def entries(self) -> tuple[Association, ...]:
        """Every change in the order in which it was told."""
        return tuple(self._entries)

    def apply(self, entry: Association) -> None:
        """Add one change, as `place_device`, `carry`, `admit` and `discharge` do.

        Raises
        ------
        ConflictError
            The patient lies in another bed at that time.
        """
        self.check(entry)
        target = entry.target
        line = (self._beds if entry.kind == "bed" else self._devices).setdefault(entry.subject, _Line())
        if target is not None and entry.kind == "bed":
            self._stays.setdefault(target, set()).add(entry.subject)
        if target is not None and entry.kind == "carried":
            self._carried.setdefault(target, set()).add(entry.subject)
            target = _Carrier(target)
        line.put(entry.since_s, target)
        self._entries.append(entry)
        self.changes += 1

    def check(self, entry: Association) -> None:
        """Raise what `apply` would raise, and change nothing."""
        if entry.kind == "bed" and entry.target is not None:
            bed = self.bed_of(entry.target, entry.since_s)
            if bed not in {None, entry.subject}:
                raise ConflictError(
                    "The patient was not admitted to the bed.",
                    "The same patient lies in another bed at that time.",
                    "Transfer the patient, or discharge from the other bed first.",
                )

    def place_device(self, device: str, bed: str | None, *, since_s: float) -> None:
        """Say that a device stands at a bed from then on; None: it is in no room."""
        self.apply(Association("device", device, bed, since_s))

    def carry(self, device: str, patient: str | None, *, since_s: float) -> None:
        """Say that a device is a patient's from then on, in whatever bed; None: it is nobody's."""
        self.apply(Association("carried", device, patient, since_s))

    def admit(self, patient: str, bed: str, *, since_s: float) -> None:
        """Say that a patient lies in a bed from then on; raises ConflictError when in another."""
        self.apply(Association("bed", bed, patient, since_s))

    def discharge(self, bed: str, *, since_s: float) -> None:
        """Say that a bed is empty from then on."""
        self.apply(Association("bed", bed, None, since_s))

    def transfer(self, patient: str, bed: str, *, since_s: float) -> None:
        """Move a patient to another bed; the old one is empty from then on."""
        old = self.bed_of(patient, since_s)
        if old is not None and old != bed:
            self.discharge(old, since_s=since_s)
        self.admit(patient, bed, since_s=since_s)

    def swap(self, bed: str, other: str, *, since_s: float) -> None:
        """Exchange the patients of two beds."""
        first, second = self.patient_in(bed, since_s), self.patient_in(other, since_s)
        self.discharge(bed, since_s=since_s)
        self.discharge(other, since_s=since_s)
        for patient, place in ((first, other), (second, bed)):
            if patient is not None:
                self.admit(patient, place, since_s=since_s)

    def bed_at(self, device: str, time_s: float) -> str | None:
        """Return the bed at which a device stood; None also where a patient carried it."""
        line = self._devices.get(device)
        place = line.at(time_s) if line is not None else None
        return None if isinstance(place, _Carrier) else place

    def patient_in(self, bed: str, time_s: float) -> str | None:
        """Return the patient who lay in a bed."""
        line = self._beds.get(bed)
        return line.at(time_s) if line is not None else None

    def patient_of(self, device: str, time_s: float) -> str | None:
        """Return the patient of a device's measurement at a moment; None: its samples are quarantined."""
        return self.patient_between(device, time_s)[0]

    def patient_between(self, device: str, time_s: float) -> tuple[str | None, float, float]:
        """Return what `patient_of` does, and from and until when (s) that answer holds without a change."""
        line = self._devices.get(device)
        if line is None:
            return None, -math.inf, math.inf
        bed, start, end = line.between(time_s)
        if isinstance(bed, _Carrier):
            return str(bed), start, end
        stays = self._beds.get(bed) if bed is not None else None
        if stays is None:
            return None, start, end
        patient, since, until = stays.between(time_s)
        return patient, max(start, since), min(end, until)

    def bed_of(self, patient: str, time_s: float) -> str | None:
        """Return the bed in which a patient lay."""
        for bed in self._stays.get(patient, ()):
            if self._beds[bed].at(time_s) == patient:
                return bed
        return None

    def is_here(self, patient: str, time_s: float) -> bool:
        """Return whether a patient lay in a bed or carried a device."""
        return self.bed_of(patient, time_s) is not None or bool(self.carried_by(patient, time_s))

    def carried_by(self, patient: str, time_s: float) -> list[str]:
        """Return the devices that were a patient's, by name."""
        lines = self._devices
        owned = (each for each in self._carried.get(patient, ()) if lines[each].at(time_s) == patient)
        return sorted(each for each in owned if isinstance(lines[each].at(time_s), _Carrier))

    def last_stay(self, patient: str) -> tuple[str, float, float] | None:
        """Return bed, begin and end (s; infinite: not told) of the stay that began last; None: none."""
        stays = [
            (start, bed, end)
            for bed in sorted(self._stays.get(patient, ()))
            for start, end in self._beds[bed].spans(patient)
        ]
        if not stays:
            return None
        start, bed, end = max(stays)
        return bed, start, end

    def last_carrying(self, device: str) -> tuple[str, float, float] | None:
        """Return patient, begin and end (s) of the association of a device that began last; None: none."""
        line = self._devices.get(device, _Line())
        carriers = {each for each in line.target if isinstance(each, _Carrier)}
        spans = [(start, str(each), end) for each in sorted(carriers) for start, end in line.spans(each)]
        if not spans:
            return None
        start, patient, end = max(spans)
        return patient, start, end

    def places(self, time_s: float) -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
        """Return who lies in each bed that is taken, and bed and patient of each device that has a place."""
        beds = {bed: who for bed, line in sorted(self._beds.items()) if (who := line.at(time_s)) is not None}
        devices = {}
        for device, line in sorted(self._devices.items()):
            if line.at(time_s) is not None:
                patient = self.patient_of(device, time_s) or ""
                devices[device] = (self.bed_at(device, time_s) or self.bed_of(patient, time_s) or "", patient)
        return beds, devices
