"""The report as a FHIR R4 transaction: DiagnosticReport, Observations, RiskAssessments, Provenance."""

from __future__ import annotations

import base64
import hashlib
import html
import uuid
from typing import TYPE_CHECKING

from digital_twins import dicom
from digital_twins.reports import _fhir_parts as parts
from digital_twins.reports._model import NAMESPACE, PRELIMINARY, RESEARCH_USE
from digital_twins.reports._pdf import interval_text, number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from digital_twins.records import Quantity
    from digital_twins.reports._fhir_parts import Json
    from digital_twins.reports._model import OptionSummary, TwinReport

_STATUS = "preliminary"


def render_fhir(
    report: TwinReport, *, pdf: bytes | None = None, dicom_uids: Mapping[str, str] | None = None
) -> Json:
    """Return the transaction Bundle that files the report in a FHIR server.

    Every resource has a client-assigned id made from the report's and is sent by PUT, so sending the bundle
    twice changes nothing. Status is ``preliminary`` throughout; there is no way to ask for another before
    a person has signed.

    Parameters
    ----------
    report
        What to say.
    pdf
        The :func:`render_pdf` rendering, attached as ``presentedForm``.
    dicom_uids
        Kind to SOP Instance UID of the DICOM renderings (``"sr"``, ``"pdf"``, ...), recorded as identifiers
        of the DiagnosticReport.

    Returns
    -------
    dict
        FHIR R4 Bundle of type transaction.
    """
    device = _device(report)
    observations = _observations(report)
    risks = [_risk(report, i, option, device) for i, option in enumerate(report.options)]
    diagnostic = _diagnostic_report(report, observations, pdf, dicom_uids or {})
    content = [device, *observations, diagnostic, *risks]
    provenance = _provenance(report, content[1:], device)
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "fullUrl": f"urn:uuid:{resource['id']}",
                "resource": resource,
                "request": {"method": "PUT", "url": _reference(resource)},
            }
            for resource in [*content, provenance]
        ],
    }


def _reference(resource: Json) -> str:
    return f"{resource['resourceType']}/{resource['id']}"


def _device(report: TwinReport) -> Json:
    """Return the software and its model as a Device, one resource for each version, shared by reports."""
    name, version, model = report.software_name, report.software_version, report.twin.model
    return {
        "resourceType": "Device",
        "id": str(uuid.uuid5(NAMESPACE, f"device/{name}/{version}/{model}")),
        "status": "active",
        "deviceName": [
            {"name": name, "type": "user-friendly-name"},
            {"name": model, "type": "model-name"},
        ],
        "modelNumber": f"{model} {version}",
        "type": {"text": "software"},
        "version": [{"value": version}],
        "note": parts.note(),
    }


def _observation(
    report: TwinReport, kind: str, code: Json, quantity: Quantity, *, measured: bool = False
) -> Json:
    """Return one Observation; a measured one is dated by the study, a computed one by the report."""
    moment = report.twin.baseline if measured and report.twin.baseline else report.created
    resource: Json = {
        "resourceType": "Observation",
        "id": report.id_of(f"observation/{kind}"),
        "meta": parts.meta(report, "Observation"),
        "status": _STATUS,
        "code": code,
        "subject": parts.subject(report),
        "effectiveDateTime": moment.isoformat(timespec="seconds"),
        "issued": report.created.isoformat(timespec="seconds"),
        "valueQuantity": parts.fhir_quantity(quantity.value, quantity.unit),
        "derivedFrom": [parts.imaging_study(report)],
        "note": parts.note(),
    }
    system = "http://terminology.hl7.org/CodeSystem/observation-category"
    imaging = {"system": system, "code": "imaging", "display": "Imaging"}
    resource["category"] = [{"coding": [imaging if measured else parts.own_coding("model-result")]}]
    components = parts.interval_components(quantity)
    if components:
        resource["component"] = components
    return resource


def _observations(report: TwinReport) -> list[Json]:
    twin = report.twin
    found = [
        _observation(
            report, "volume", parts.concept("tumour-volume", dicom.VOLUME), twin.volume, measured=True
        )
    ]
    if twin.longest_diameter is not None:
        code = parts.concept("longest-diameter", dicom.LONGEST_DIAMETER)
        found.append(_observation(report, "diameter", code, twin.longest_diameter, measured=True))
    found.append(_observation(report, "growth", parts.concept("growth-rate"), twin.growth_rate))
    if twin.current_volume is not None:
        found.append(_observation(report, "current", parts.concept("modelled-volume"), twin.current_volume))
    for i, option in enumerate(report.options):
        predicted = (("predicted-volume", option.volume), ("predicted-volume-change", option.change))
        for kind, quantity in predicted:
            concept = parts.concept(kind)
            concept["text"] += f": {option.label}"
            resource = _observation(report, f"{kind}/{i}", concept, quantity)
            resource["component"].append(
                {
                    "code": {"coding": [parts.own_coding("prediction-day")]},
                    "valueQuantity": parts.fhir_quantity(option.horizon_days, "d"),
                }
            )
            found.append(resource)
    for resource in found:
        resource["method"] = {"text": _method(report)}
    return found


def _method(report: TwinReport) -> str:
    twin = report.twin
    return (
        f"{twin.model} model, twin version {twin.version}, {report.software_name} {report.software_version}"
    )


def _risk(report: TwinReport, index: int, option: OptionSummary, device: Json) -> Json:
    """Return one RiskAssessment: the probability of every response category by the horizon."""
    shares: dict[str, float | None] = {**option.probabilities} or {option.category: None}
    basis = [f"Observation/{report.id_of(f'observation/{kind}')}" for kind in ("volume", "growth")]
    basis.append(f"Observation/{report.id_of(f'observation/predicted-volume/{index}')}")
    return {
        "resourceType": "RiskAssessment",
        "id": report.id_of(f"risk/{index}"),
        "meta": parts.meta(report, "RiskAssessment"),
        "status": _STATUS,
        "method": {"coding": [parts.own_coding("digital-twin-analysis")], "text": _method(report)},
        "code": {"text": f"Predicted response ({option.criteria}): {option.label}"},
        "subject": parts.subject(report),
        "occurrenceDateTime": report.created.isoformat(timespec="seconds"),
        "performer": {"reference": _reference(device)},
        "basis": [{"reference": reference} for reference in basis],
        "prediction": [_prediction(option, category, share) for category, share in shares.items()],
        "mitigation": f"Treatment option: {option.label}",
        "note": parts.note() + [{"text": f"Assumption: {text}"} for text in option.assumptions],
    }


def _prediction(option: OptionSummary, category: str, share: float | None) -> Json:
    words = category.replace("_", " ")
    code = f"response-{category.replace('_', '-')}"
    found: Json = {
        "outcome": {"coding": [parts.own_coding(code, words.capitalize())], "text": words},
        "whenRange": {
            "low": parts.fhir_quantity(0.0, "d"),
            "high": parts.fhir_quantity(option.horizon_days - option.origin_day, "d"),
        },
        "rationale": f"Volume change {option.change.value:+.1f} %, {interval_text(option.change)} %",
    }
    if share is not None:
        found["probabilityDecimal"] = round(float(share), 4)
    return found


def _diagnostic_report(
    report: TwinReport, observations: Sequence[Json], pdf: bytes | None, dicom_uids: Mapping[str, str]
) -> Json:
    conclusion = _conclusion(report)
    category = {
        "system": "http://terminology.hl7.org/CodeSystem/v2-0074",
        "code": "RAD",
        "display": "Radiology",
    }
    loinc = {"system": "http://loinc.org", "code": "18748-4", "display": "Diagnostic imaging study"}
    identifiers = [{"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{report.report_id}"}]
    identifiers += [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"} for uid in dicom_uids.values()]
    resource: Json = {
        "resourceType": "DiagnosticReport",
        "id": report.report_id,
        "meta": parts.meta(report, "DiagnosticReport"),
        "text": {"status": "generated", "div": _narrative(report, conclusion)},
        "identifier": identifiers,
        "status": _STATUS,
        "category": [{"coding": [category]}],
        "code": {
            "coding": [loinc, parts.own_coding("digital-twin-analysis")],
            "text": "Digital twin analysis",
        },
        "subject": parts.subject(report),
        "effectiveDateTime": (report.twin.baseline or report.created).isoformat(timespec="seconds"),
        "issued": report.created.isoformat(timespec="seconds"),
        "result": [{"reference": _reference(o), "display": o["code"]["text"]} for o in observations],
        "imagingStudy": [parts.imaging_study(report)],
        "conclusion": conclusion,
    }
    if pdf is not None:
        resource["presentedForm"] = [
            {
                "contentType": "application/pdf",
                "language": "en",
                "title": f"Digital twin report, {PRELIMINARY}",
                "creation": report.created.isoformat(timespec="seconds"),
                "data": base64.b64encode(pdf).decode(),
                "size": len(pdf),
                "hash": base64.b64encode(hashlib.sha1(pdf, usedforsecurity=False).digest()).decode(),
            }
        ]
    return resource


def _conclusion(report: TwinReport) -> str:
    lines = [
        f"{option.label}: predicted volume {number(option.volume.value)} cm3 on day {option.horizon_days:g} "
        f"({interval_text(option.volume)}), change {option.change.value:+.1f} % "
        f"({interval_text(option.change)}), {option.category.replace('_', ' ')}."
        for option in report.options
    ]
    return " ".join([PRELIMINARY + ".", *lines, *report.notices, RESEARCH_USE])


def _narrative(report: TwinReport, conclusion: str) -> str:
    twin = report.twin
    head = (
        f"Digital twin {twin.twin_id}, version {twin.version}: tumour volume {number(twin.volume.value)} cm3."
    )
    return (
        '<div xmlns="http://www.w3.org/1999/xhtml">'
        f"<p>{html.escape(head)}</p><p>{html.escape(conclusion)}</p></div>"
    )


def _provenance(report: TwinReport, targets: Sequence[Json], device: Json) -> Json:
    role = {
        "system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type",
        "code": "assembler",
        "display": "Assembler",
    }
    entities: list[Json] = [{"role": "source", "what": parts.imaging_study(report)}]
    entities += [
        {"role": "source", "what": {"identifier": {"value": f"sha256:{digest}"}, "display": name}}
        for name, digest in report.twin.inputs.items()
    ]
    return {
        "resourceType": "Provenance",
        "id": report.id_of("provenance"),
        "meta": parts.meta(report, "Provenance"),
        "target": [{"reference": _reference(target)} for target in targets],
        "recorded": report.created.isoformat(timespec="seconds"),
        "activity": {"text": _method(report)},
        "agent": [
            {
                "type": {"coding": [role]},
                "who": {
                    "reference": _reference(device),
                    "display": f"{report.software_name} {report.software_version}",
                },
            }
        ],
        "entity": entities,
    }
