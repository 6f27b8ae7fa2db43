"""Routing rules: which received objects go to which destination, decided inside the storing transaction."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from digital_twins._errors import InputError
from digital_twins.dicom._attributes import Level
from digital_twins.dicom._coercion import COERCE

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    import apsw

    from digital_twins.dicom._coercion import Coercion
    from digital_twins.dicom._queues import SendQueues
    from digital_twins.dicom._stored import Prepared

INSTANCE, STUDY_STABLE = "instance", "study_stable"


@dataclass(frozen=True, slots=True)
class Route:
    """One routing rule; conditions that are empty hold for everything.

    Attributes
    ----------
    destination
        AE title of a peer that the object is sent to.
    calling
        AE titles (or HTTP agents) that the object came from.
    modalities
        Modality codes, e.g. ``("CT", "MR")``.
    sop_classes
        SOP Class UIDs.
    when
        ``"instance"``: as soon as the object is stored; ``"study_stable"``: once nothing of its study has
        come for a while.
    deidentify
        Name of the function that makes the object fit to leave; '' sends it as it is.
    """

    destination: str
    calling: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    sop_classes: tuple[str, ...] = ()
    when: str = INSTANCE
    deidentify: str = ""

    def matches(self, prepared: Prepared) -> bool:
        """Whether the rule is for an object; never for one that came from the destination itself."""
        header, source = prepared.header, prepared.source.rpartition("@")[2]
        modality = str(header.rows[Level.SERIES]["modality"])
        return (
            source != self.destination
            and (not self.calling or source in self.calling)
            and (not self.modalities or modality in self.modalities)
            and (not self.sop_classes or header.sop_class_uid in self.sop_classes)
        )


def check_routes(routes: Sequence[Route], *, known: Container[str], deidentifiers: Container[str]) -> None:
    """Refuse rules that could not be followed.

    Parameters
    ----------
    known
        Destinations that can be reached.
    deidentifiers
        Names of the functions that were handed in.

    Raises
    ------
    InputError
        An unknown destination, another ``when``, or a de-identification that this node has no function for.
    """
    for number, route in enumerate(routes, 1):
        if route.destination not in known:
            raise _unusable(number, f"Its destination '{route.destination}' is no peer that can be called.")
        if route.when not in {INSTANCE, STUDY_STABLE}:
            raise _unusable(number, f"'{route.when}' is neither '{INSTANCE}' nor '{STUDY_STABLE}'.")
        if route.deidentify and route.deidentify not in deidentifiers:
            raise _unusable(
                number, f"This node was given no function '{route.deidentify}' that de-identifies."
            )


def route_new(
    routes: Sequence[Route],
    queues: SendQueues,
    *,
    stable_s: float,
    pseudonym: Callable[[str], str | None],
    coercions: Sequence[Coercion] = (),
) -> Callable[[apsw.Cursor, Prepared], None]:
    """Return what `DicomStore` calls for each new object: it goes into the queues of the matching rules.

    Of several rules for one destination the first that matches decides.

    Parameters
    ----------
    stable_s
        Seconds without a new object after which a study is stable.
    pseudonym
        Turns a PatientID into what the audit trail may hold.
    coercions
        Rules that change objects before they are sent.
    """

    def enqueue(cursor: apsw.Cursor, prepared: Prepared) -> None:
        now = time.time()
        done: set[str] = set()
        for route in routes:
            if route.destination in done or not route.matches(prepared):
                continue
            done.add(route.destination)
            header, to = prepared.header, route.destination
            changed = any(rule.fits(header, prepared.source, to) for rule in coercions)
            queues.put_in(
                cursor,
                route.destination,
                prepared,
                stable_at=now + stable_s if route.when == STUDY_STABLE else None,
                deidentify=route.deidentify or (COERCE if changed else ""),
                patient=pseudonym(prepared.header.patient_id),
            )

    return enqueue


def _unusable(number: int, why: str) -> InputError:
    return InputError(
        f"Routing rule {number} cannot be used.",
        why,
        "Correct it in [[dicom_routes]] of twin.toml; destinations are rows of the peers table.",
    )
