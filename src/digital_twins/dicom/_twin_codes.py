"""Codes of the project's own scheme, for what no standard terminology names.

The scheme is private (``99`` prefix, PS3.16 section 8.2) and identified in every object that uses it
(Coding Scheme Identification Sequence, PS3.3 C.12.1.1.1). Values have at most 16 characters (VR SH). A
prediction never carries the code of a measurement, so that no system can take one for the other.
"""

from __future__ import annotations

from digital_twins.records import DCM, SCT, UCUM, Code

SCHEME = "99DTWIN"
SCHEME_NAME = "Digital Twins private coding scheme"
SCHEME_VERSION = "1"

VOLUME = Code("118565006", SCT, "Volume")
LONGEST_DIAMETER = Code("103339001", SCT, "Long Axis")
"""As TID 1500 users write it (CID 7470 Linear Measurements)."""

GROWTH_RATE = Code("growth-rate", SCHEME, "Tumour growth rate (model estimate)")
MODELLED_VOLUME = Code("model-volume", SCHEME, "Tumour volume by the model")
MODELLED_DAY = Code("model-day", SCHEME, "Day of the modelled volume after the twin's baseline")
PREDICTED_VOLUME = Code("pred-volume", SCHEME, "Predicted tumour volume, median")
PREDICTED_CHANGE = Code("pred-change", SCHEME, "Predicted change of tumour volume, median")
PREDICTION_DAY = Code("pred-day", SCHEME, "Day of the prediction after the twin's baseline")
INTERVAL_LEVEL = Code("interval-level", SCHEME, "Probability covered by the interval")
PREDICTED_RESPONSE = Code("pred-response", SCHEME, "Predicted response category")
DATA_STATUS = Code("data-status", SCHEME, "Status of the data")
NOT_ACQUIRED = Code("not-acquired", SCHEME, "Predicted, not acquired")
MODEL_ESTIMATE = Code("model-estimate", SCHEME, "Model estimate, not measured")
TWIN_ANALYSIS = Code("dt-analysis", SCHEME, "Digital twin analysis report")

IMAGING_MEASUREMENT_REPORT = Code("126000", DCM, "Imaging Measurement Report")

_UNIT_MEANINGS = {
    "cm3": "cubic centimeter",
    "mm": "millimeter",
    "/d": "per day",
    "mm2": "square millimeter",
    "mm2/d": "square millimeter per day",
    "/Gy": "per gray",
    "%": "percent",
    "d": "day",
    "1": "no units",
}


def limit_code(name: Code, side: str) -> Code:
    """Return the code of an interval's limit: ``side`` is ``"lower"`` or ``"upper"``.

    A limit is always of the private scheme, also for a standard concept: the limit of a volume is not
    itself a volume that anybody measured.
    """
    stem = {VOLUME: "volume", LONGEST_DIAMETER: "long-axis"}.get(name, name.value)
    return Code(f"{stem}-{side[:2]}", SCHEME, f"{name.meaning.removesuffix(', median')}, {side} limit"[:64])


def response_code(category: str) -> Code:
    """Return the private code of a response category, e.g. ``"partial_response"``.

    The value is shortened to the 16 characters of a Code Value (VR SH).
    """
    words = category.replace("-", "_").split("_")
    short = "-".join(words)
    if len(short) > 16:
        short = "-".join(word[: max(2, 16 // len(words) - 1)] for word in words)[:16]
    return Code(short, SCHEME, " ".join(words).capitalize()[:64])


def unit_code(unit: str) -> Code:
    """Return a UCUM unit as a code; an unlisted unit means itself."""
    return Code(unit, UCUM, _UNIT_MEANINGS.get(unit, unit))
