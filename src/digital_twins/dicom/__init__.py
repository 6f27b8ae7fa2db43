"""DICOM: documents and the handler; network services join them."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.dicom._documents import DocumentIdentity as DocumentIdentity
    from digital_twins.dicom._documents import Software as Software
    from digital_twins.dicom._encapsulated import encapsulate_pdf as encapsulate_pdf
    from digital_twins.dicom._handler import DICOMHandler as DICOMHandler
    from digital_twins.dicom._measurement_report import MeasurementGroup as MeasurementGroup
    from digital_twins.dicom._measurement_report import SegmentReference as SegmentReference
    from digital_twins.dicom._measurement_report import measurement_report as measurement_report
    from digital_twins.dicom._twin_codes import DATA_STATUS as DATA_STATUS
    from digital_twins.dicom._twin_codes import GROWTH_RATE as GROWTH_RATE
    from digital_twins.dicom._twin_codes import LONGEST_DIAMETER as LONGEST_DIAMETER
    from digital_twins.dicom._twin_codes import MODEL_ESTIMATE as MODEL_ESTIMATE
    from digital_twins.dicom._twin_codes import NOT_ACQUIRED as NOT_ACQUIRED
    from digital_twins.dicom._twin_codes import PREDICTED_CHANGE as PREDICTED_CHANGE
    from digital_twins.dicom._twin_codes import PREDICTED_RESPONSE as PREDICTED_RESPONSE
    from digital_twins.dicom._twin_codes import PREDICTED_VOLUME as PREDICTED_VOLUME
    from digital_twins.dicom._twin_codes import PREDICTION_DAY as PREDICTION_DAY
    from digital_twins.dicom._twin_codes import TWIN_ANALYSIS as TWIN_ANALYSIS
    from digital_twins.dicom._twin_codes import VOLUME as VOLUME
    from digital_twins.dicom._twin_codes import response_code as response_code

_WHERE = {
    **dict.fromkeys(("DocumentIdentity", "Software"), "digital_twins.dicom._documents"),
    **dict.fromkeys(("encapsulate_pdf",), "digital_twins.dicom._encapsulated"),
    **dict.fromkeys(("DICOMHandler",), "digital_twins.dicom._handler"),
    **dict.fromkeys(
        ("MeasurementGroup", "SegmentReference", "measurement_report"),
        "digital_twins.dicom._measurement_report",
    ),
    **dict.fromkeys(
        (
            "DATA_STATUS",
            "GROWTH_RATE",
            "LONGEST_DIAMETER",
            "MODEL_ESTIMATE",
            "NOT_ACQUIRED",
            "PREDICTED_CHANGE",
            "PREDICTED_RESPONSE",
            "PREDICTED_VOLUME",
            "PREDICTION_DAY",
            "TWIN_ANALYSIS",
            "VOLUME",
            "response_code",
        ),
        "digital_twins.dicom._twin_codes",
    ),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
