"""Words for treatment options, as clinicians say them, and the protocols that they stand for here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from digital_twins._errors import InputError
from digital_twins.patient_modeling import tumour_family

Protocol = Sequence[Mapping[str, Any]]
_RADIATION = {"type": "radiation", "total_dose_gy": 60.0, "fractions": 30}
_CONCURRENT = (
    _RADIATION,
    {"type": "chemotherapy", "drug": "cisplatin", "dose_mg_m2": 50.0, "days": [0, 7, 28, 35]},
    {
        "type": "chemotherapy",
        "drug": "etoposide",
        "dose_mg_m2": 50.0,
        "days": [0, 1, 2, 3, 4, 28, 29, 30, 31, 32],
    },
)
_CISPLATIN = {
    "type": "chemotherapy",
    "drug": "cisplatin",
    "dose_mg_m2": 75.0,
    "schedule": "every_3_weeks",
    "cycles": 4,
}
_GLIOMA = (
    _RADIATION,
    {"type": "chemotherapy", "drug": "temozolomide", "dose_mg_m2": 75.0, "days": list(range(42))},
)
_OPTIONS: dict[str, tuple[Protocol, str]] = {
    "observation": (({"type": "observation"},), "no treatment"),
    "surgery": (
        ({"type": "surgery", "margin_mm": 10.0},),
        "10 mm margin; whether the tumour can be resected is not judged",
    ),
    "radiation": ((_RADIATION,), "60 Gy in 30 fractions"),
    "chemotherapy": ((_CISPLATIN,), "cisplatin 75 mg/m2 every 3 weeks, 4 cycles"),
    "chemoradiation": (
        _CONCURRENT,
        "60 Gy in 30 fractions with cisplatin and etoposide (doses of Albain 1995, "
        "doi:10.1200/JCO.1995.13.8.1880 [verify])",
    ),
    "immunotherapy": (
        (
            {
                "type": "immunotherapy",
                "drug": "pembrolizumab",
                "dose_mg": 200.0,
                "schedule": "every_3_weeks",
                "cycles": 8,
            },
        ),
        "pembrolizumab 200 mg every 3 weeks, 8 cycles (dose of KEYNOTE-024, "
        "doi:10.1056/NEJMoa1606774 [verify])",
    ),
}
_BRAIN = {
    "chemoradiation": (
        _GLIOMA,
        "60 Gy in 30 fractions with temozolomide 75 mg/m2 daily (Stupp 2005, "
        "doi:10.1056/NEJMoa043330 [verify])",
    ),
}
_ALIASES = {"chemo": "chemotherapy", "radiotherapy": "radiation", "chemoradiotherapy": "chemoradiation"}


def protocol_of(
    option: str | Mapping[str, Any] | Protocol, known: Mapping[str, Any]
) -> tuple[str, Protocol, str]:
    """Return name, protocol and what was assumed of a treatment option.

    Parameters
    ----------
    option
        A word (``"surgery"``, ``"radiation"``, ``"chemotherapy"``, ``"chemoradiation"``, ``"immunotherapy"``,
        ``"observation"``), or a protocol of its own as `parse_treatment` takes it.
    known
        The twin's clinical data: a glioma gets the doses of gliomas.

    Raises
    ------
    InputError
        The word is not known.
    """
    if not isinstance(option, str):
        given = [option] if isinstance(option, Mapping) else list(option)
        name = " + ".join(str(each.get("label") or each.get("drug") or each.get("type")) for each in given)
        return name, given, ""
    word = option.strip().lower().replace(" ", "_")
    word = _ALIASES.get(word, word)
    found = (_BRAIN.get(word) if tumour_family(known) == "glioma" else None) or _OPTIONS.get(word)
    if found is None:
        raise InputError(
            "A treatment option is not known.",
            "No protocol stands behind this word.",
            f"Use one of {', '.join(_OPTIONS)}, or give the protocol as a dictionary.",
        )
    protocol, words = found
    return option, protocol, f"assumed protocol: {words}"
