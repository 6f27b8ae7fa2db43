"""Reports of a twin: one model, rendered as PDF, DICOM SR, SEG, Encapsulated PDF and FHIR."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.reports._compliance import (
        ReportSection as ReportSection,
        render_compliance_pdf as render_compliance_pdf,
    )
    from digital_twins.reports._dicom import (
        predicted_days as predicted_days,
        render_encapsulated_pdf as render_encapsulated_pdf,
        render_seg as render_seg,
        render_sr as render_sr,
    )
    from digital_twins.reports._documents import Documents as Documents, documents as documents
    from digital_twins.reports._fhir import render_fhir as render_fhir
    from digital_twins.reports._model import (
        PRELIMINARY as PRELIMINARY,
        RESEARCH_USE as RESEARCH_USE,
        OptionSummary as OptionSummary,
        ParameterSummary as ParameterSummary,
        StudyReference as StudyReference,
        TwinReport as TwinReport,
        TwinSummary as TwinSummary,
    )
    from digital_twins.reports._pdf import render_pdf as render_pdf
    from digital_twins.reports._stamp import STAMP_MM as STAMP_MM, render_stamp as render_stamp
    from digital_twins.reports._summary import (
        summarise as summarise,
        summarise_response as summarise_response,
        summarise_twin as summarise_twin,
    )

_WHERE = {
    **dict.fromkeys(("ReportSection", "render_compliance_pdf"), "digital_twins.reports._compliance"),
    **dict.fromkeys(
        ("predicted_days", "render_encapsulated_pdf", "render_seg", "render_sr"),
        "digital_twins.reports._dicom",
    ),
    **dict.fromkeys(("Documents", "documents"), "digital_twins.reports._documents"),
    "render_fhir": "digital_twins.reports._fhir",
    **dict.fromkeys(
        (
            "RESEARCH_USE",
            "PRELIMINARY",
            "OptionSummary",
            "ParameterSummary",
            "StudyReference",
            "TwinReport",
            "TwinSummary",
        ),
        "digital_twins.reports._model",
    ),
    "render_pdf": "digital_twins.reports._pdf",
    **dict.fromkeys(("STAMP_MM", "render_stamp"), "digital_twins.reports._stamp"),
    **dict.fromkeys(
        ("summarise", "summarise_response", "summarise_twin"),
        "digital_twins.reports._summary",
    ),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
