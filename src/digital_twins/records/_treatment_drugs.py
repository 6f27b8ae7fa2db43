"""Names of the drugs that a treatment may carry, their kind, and the brand names that people write."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from digital_twins.records._treatment import TreatmentKind

DRUG_KINDS: dict[str, TreatmentKind] = {
    **dict.fromkeys(
        (
            "paclitaxel",
            "docetaxel",
            "cisplatin",
            "carboplatin",
            "gemcitabine",
            "pemetrexed",
            "etoposide",
            "temozolomide",
            "doxorubicin",
            "fluorouracil",
        ),
        "chemotherapy",
    ),
    **dict.fromkeys(("erlotinib", "gefitinib", "osimertinib", "targeted_agent"), "targeted"),
    **dict.fromkeys(
        ("pembrolizumab", "nivolumab", "atezolizumab", "durvalumab", "ipilimumab"), "immunotherapy"
    ),
}
"""Generic name (INN, lower case) to the kind of treatment it is."""

_ALIASES = {
    "taxol": "paclitaxel",
    "taxotere": "docetaxel",
    "cddp": "cisplatin",
    "gemzar": "gemcitabine",
    "alimta": "pemetrexed",
    "vp-16": "etoposide",
    "vp16": "etoposide",
    "tmz": "temozolomide",
    "temodar": "temozolomide",
    "temodal": "temozolomide",
    "adriamycin": "doxorubicin",
    "5-fu": "fluorouracil",
    "5fu": "fluorouracil",
    "5-fluorouracil": "fluorouracil",
    "tarceva": "erlotinib",
    "iressa": "gefitinib",
    "tagrisso": "osimertinib",
    "keytruda": "pembrolizumab",
    "opdivo": "nivolumab",
    "tecentriq": "atezolizumab",
    "imfinzi": "durvalumab",
    "yervoy": "ipilimumab",
}


def canonical_drug(name: object) -> str:
    """Return the generic name of a drug, whatever its case or brand.

    Raises
    ------
    InputError
        When the name is no drug that is known here; the message names the closest ones.
    """
    if not isinstance(name, str) or not name.strip():
        raise InputError(
            "The drug of a treatment is not a name.",
            f"'drug' must be a non-empty text, not {type(name).__name__}.",
            "Write the generic name, e.g. 'drug': 'paclitaxel'.",
        )
    key = name.strip().lower()
    key = _ALIASES.get(key, key)
    if key in DRUG_KINDS:
        return key
    near = difflib.get_close_matches(key, [*DRUG_KINDS, *_ALIASES], n=3)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    raise InputError(
        f"The drug '{name}' is not known.",
        "Its pharmacology is not in the drug library, so no effect can be computed.",
        f"{hint}Known drugs: {', '.join(sorted(DRUG_KINDS))}.",
    )
