"""Results on their way back: each report of a twin goes as ORU R01 to the receiver that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins._errors import ConflictError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import apsw

    from digital_twins.server._services import Services
    from digital_twins.storage import Job

RESULT = "hl7.result"
"""Kind of the jobs that send a report as ORU R01."""
_ATTEMPTS = 50
_TIMEOUT_S = 30.0


def receiver(text: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``.

    Raises
    ------
    InputError
        It has not that form.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InputError(
            "Results cannot be sent.",
            "hl7_results_to is not HOST:PORT.",
            "Set e.g. 10.1.2.3:2575, or nothing.",
        )
    return host.strip("[]"), int(port)


def queue_results(services: Services, cursor: apsw.Cursor, references: Iterable[str], version: int) -> None:
    """Queue the reports among the references, inside the transaction that ends their build.

    Parameters
    ----------
    services
        With the receiver in ``results_to``; without one nothing is queued.
    cursor
        Of the caller's transaction.
    references
        ``Type/id`` of what was stored.
    version
        Of the twin.
    """
    if not services.results_to:
        return
    for reference in references:
        if reference.startswith("DiagnosticReport/"):
            payload = {"report": reference, "to": services.results_to}
            services.jobs.enqueue_in(
                cursor, RESULT, payload, key=f"{RESULT}:{reference}:{version}", max_attempts=_ATTEMPTS
            )


def send_result(services: Services, job: Job, progress: Callable[[float, str], None]) -> None:
    """Send the report of a job and end it once the receiver has accepted it.

    Raises
    ------
    HL7Error
        The report cannot be sent as HL7 v2.
    ConflictError
        No answer came, or the receiver refused it; another attempt may succeed.
    """
    from digital_twins.hl7v2 import Header, HL7Error, oru_of, send_message

    kind, _, name = str(job.payload["report"]).partition("/")
    report = services.fhir.read(kind, name, agent="node").resource
    patient = _target(services, report["subject"])
    observations = [_target(services, each) for each in report.get("result", ())]
    # The control id follows from the report and its version: a message that is sent again is recognised.
    version = report["meta"]["versionId"]
    header = Header("ORU^R01^ORU_R01", control_id=f"{name.replace('-', '')[:16]}{version}"[:20])
    message = oru_of(report, patient=patient, observations=observations, header=header)
    progress(0.5, "sending")
    host, port = receiver(str(job.payload["to"]))
    try:
        answer = send_message(message, host, port, timeout_s=_TIMEOUT_S)
    except HL7Error as error:  # a receiver that is away: unlike a report that is unfit, it is tried again
        raise ConflictError(error.what, error.why, error.fix) from error
    code = answer["MSA-1"]
    if code not in {"AA", "CA"}:
        raise ConflictError(
            "The receiver did not take the result.",
            f"It answered {code} with error {answer['ERR-3'] or 'unknown'}.",
            "Look into the receiver's log; the message is sent again.",
        )
    event = services.auditor.event(
        "E",
        "hl7.result",
        entity=f"{kind}/{name}",
        patient_id=str(report["subject"]["reference"]).rpartition("/")[2],
        detail={"job": job.job_id, "answer": code},
    )

    def work(cursor: apsw.Cursor) -> None:
        services.auditor.stage(cursor, event)
        services.jobs.succeed_in(cursor, job, {"answer": code})

    services.database.write(work)


def _target(services: Services, reference: dict[str, Any]) -> dict[str, Any]:
    kind, name = str(reference["reference"]).split("/")[-2:]
    return services.fhir.read(kind, name, agent="node").resource
