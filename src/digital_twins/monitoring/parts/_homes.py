"""Which part of a divided ward hears a device, and which one watches a patient."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from digital_twins.monitoring.signals import Association, AssociationLog

_OFFSET, _PRIME = 2_166_136_261, 16_777_619


def device_part(device: str, parts: int) -> int:
    """Return the part that hears a device: what ``{{partition(parts,1)}}`` of a NATS server makes of it.

    FNV-1a of 32 bits modulo `parts` (nats-server ``server/subject_transform.go``; checked against the
    server in ``tests/protocol/test_monitoring_workers.py``).
    """
    found = _OFFSET
    for byte in device.encode():
        found = ((found ^ byte) * _PRIME) & 0xFFFF_FFFF
    return found % parts


class Homes:
    """The part that watches each patient, the same for every reader of the same associations.

    A patient is at home where the device speaks that stood at the patient's first bed, or that was the
    patient's before, so that hardly any reading takes a detour; without a device, where a hash of the name
    says. A transfer changes no
    home: the state stays, and the readings of the new bed's device are forwarded.

    Parameters
    ----------
    parts
        Into how many parts the ward is divided.
    """

    def __init__(self, parts: int) -> None:
        self.parts = parts
        self._homes: dict[str, int] = {}
        self._near: dict[str, set[str]] = {}
        self._devices: set[str] = set()

    def note(self, entry: Association, log: AssociationLog) -> None:
        """Take in an association that the log has just applied; every reader must in the same order."""
        if entry.target is None:
            return
        if entry.kind != "bed":
            self._devices.add(entry.subject)
        if entry.kind == "device":
            self._near.setdefault(entry.target, set()).add(entry.subject)
            return
        if entry.target in self._homes:
            return
        if entry.kind == "carried":
            self._homes[entry.target] = device_part(entry.subject, self.parts)
            return
        standing = [
            each
            for each in self._near.get(entry.subject, ())
            if log.bed_at(each, entry.since_s) == entry.subject
        ]
        self._homes[entry.target] = device_part(min(standing) if standing else entry.target, self.parts)

    def of(self, patient: str) -> int:
        """Return the part of a patient."""
        return self._homes.get(patient, device_part(patient, self.parts))

    def spread(self, log: AssociationLog, part: int, times_s: Iterable[float]) -> frozenset[str]:
        """Return the patients of a part whose devices are heard in several parts, at some moments (s)."""
        ways: dict[str, set[int]] = {}
        devices = {each: device_part(each, self.parts) for each in self._devices}
        for at_s in times_s:
            for device, heard_in in devices.items():
                patient = log.patient_of(device, at_s)
                if patient is not None and self.of(patient) == part:
                    ways.setdefault(patient, set()).add(heard_in)
        return frozenset(patient for patient, found in ways.items() if len(found) > 1)
