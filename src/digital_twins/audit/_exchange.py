"""A trail in the forms that other programs read: FHIR AuditEvent and DICOM audit messages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from digital_twins.audit._dicom_message import dicom_message
from digital_twins.audit._event import AuditEvent
from digital_twins.audit._fhir_event import fhir_audit_event
from digital_twins.audit._reading import export_trail

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator


def export_messages(
    path: str | os.PathLike[str], form: Literal["fhir", "dicom"], *, period: str | None = None
) -> Iterator[str]:
    """Give the events of a trail in another form, oldest first, one a line.

    Parameters
    ----------
    path
        The trail's file.
    form
        ``"fhir"``: FHIR R4 AuditEvent as NDJSON; ``"dicom"``: the XML of DICOM audit messages.
    period
        As for `export_trail`.

    Raises
    ------
    NotFoundError, StorageError, InputError
        As for `export_trail`.
    """
    for line in export_trail(path, period=period):
        event = AuditEvent(**json.loads(line)["event"])
        if form == "fhir":
            yield json.dumps(fhir_audit_event(event), ensure_ascii=False, separators=(",", ":")) + "\n"
        else:
            yield dicom_message(event) + "\n"
