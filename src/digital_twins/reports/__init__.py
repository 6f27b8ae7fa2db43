"""Reports of a twin: one model, rendered as PDF, DICOM SR, SEG, Encapsulated PDF and FHIR."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.reports._dicom import predicted_days as predicted_days
    from digital_twins.reports._dicom import render_encapsulated_pdf as render_encapsulated_pdf
    from digital_twins.reports._dicom import render_seg as render_seg
    from digital_twins.reports._dicom import render_sr as render_sr
    from digital_twins.reports._documents import Documents as Documents
    from digital_twins.reports._documents import documents as documents
    from digital_twins.reports._fhir import render_fhir as render_fhir
    from digital_twins.reports._model import PRELIMINARY as PRELIMINARY
    from digital_twins.reports._model import RESEARCH_USE as RESEARCH_USE
    from digital_twins.reports._model import OptionSummary as OptionSummary
    from digital_twins.reports._model import ParameterSummary as ParameterSummary
    from digital_twins.reports._model import StudyReference as StudyReference
    from digital_twins.reports._model import TwinReport as TwinReport
    from digital_twins.reports._model import TwinSummary as TwinSummary
    from digital_twins.reports._pdf import render_pdf as render_pdf
    from digital_twins.reports._summary import summarise as summarise
    from digital_twins.reports._summary import summarise_response as summarise_response
    from digital_twins.reports._summary import summarise_twin as summarise_twin

_WHERE = {
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
    **dict.fromkeys(
        ("summarise", "summarise_response", "summarise_twin"),
        "digital_twins.reports._summary",
    ),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
