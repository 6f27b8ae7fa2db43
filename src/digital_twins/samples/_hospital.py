"""The hospital of the demo: a process of its own that sends a record by FHIR and studies by C-STORE.

It behaves as a modality does: what was not acknowledged is sent again after a pause, on a new association;
every acknowledgement is printed as one JSON line, so that a test can hold the receiver to it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, TextIO

from digital_twins._errors import DigitalTwinError
from digital_twins.dicom import Remote, send
from digital_twins.fhir import FHIRClient
from digital_twins.samples import sample_patient

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydicom import Dataset

RETRY_PAUSE_S = 0.5


def send_patient(
    name: str,
    *,
    fhir_base: str,
    dicom_host: str,
    dicom_port: int,
    called_ae: str = "TWIN",
    patience_s: float = 60.0,
    out: TextIO | None = None,
) -> None:
    """Send a sample patient's record and studies, repeating what was not acknowledged.

    Parameters
    ----------
    name
        Sample patient, e.g. ``"lung"``.
    fhir_base
        FHIR base URL of the receiver.
    dicom_host, dicom_port, called_ae
        The receiver's DICOM address.
    patience_s
        How long to go on trying.
    out
        Where the acknowledgements go, one JSON object a line; standard output when None.

    Raises
    ------
    DigitalTwinError
        The receiver did not take everything in time.
    """
    stream = out or sys.stdout
    patient = sample_patient(name)
    deadline = time.monotonic() + patience_s

    def say(**event: object) -> None:
        stream.write(json.dumps(event) + "\n")
        stream.flush()

    started = time.monotonic()
    bundle = patient.fhir_bundle()
    _until(deadline, lambda: FHIRClient(base_url=fhir_base).transaction(bundle))
    say(sent="record", resources=len(bundle["entry"]), seconds=round(time.monotonic() - started, 3))
    remote = Remote(dicom_host, dicom_port, called_ae=called_ae, calling_ae="HOSPITAL")
    for study in _by_study(patient.datasets()):
        started = time.monotonic()
        waiting = {str(instance.SOPInstanceUID): instance for instance in study}

        def acknowledged(uid: str, waiting: dict[str, Dataset] = waiting) -> None:
            del waiting[uid]
            say(acknowledged=uid)

        def store(waiting: dict[str, Dataset] = waiting, took: Callable[[str], None] = acknowledged) -> None:
            send(remote, list(waiting.values()), on_stored=took)

        _until(deadline, store)
        say(sent="study", instances=len(study), seconds=round(time.monotonic() - started, 3))


def _by_study(instances: list[Dataset]) -> list[list[Dataset]]:
    studies: dict[str, list[Dataset]] = {}
    for instance in instances:
        studies.setdefault(str(instance.StudyInstanceUID), []).append(instance)
    return list(studies.values())


def _until(deadline: float, attempt: Callable[[], object]) -> None:
    while True:
        try:
            attempt()
        except DigitalTwinError:
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_PAUSE_S)
        else:
            return


def main() -> None:
    """Run as ``python -m digital_twins.samples._hospital``."""
    parser = argparse.ArgumentParser(description="Send a sample patient to a node as a hospital would.")
    parser.add_argument("--patient", default="lung")
    parser.add_argument("--fhir", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--dicom-port", type=int, required=True)
    parser.add_argument("--ae-title", default="TWIN")
    parser.add_argument("--patience", type=float, default=60.0)
    chosen = parser.parse_args()
    send_patient(
        chosen.patient,
        fhir_base=chosen.fhir,
        dicom_host=chosen.host,
        dicom_port=chosen.dicom_port,
        called_ae=chosen.ae_title,
        patience_s=chosen.patience,
    )


if __name__ == "__main__":
    main()
