"""Kinetics of drugs and their log-kill rates, with the source of every number."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.pharmacology._antibodies import (
        Antibody as Antibody,
        antibody as antibody,
        antibody_library as antibody_library,
    )
    from digital_twins.pharmacology._compartments import (
        Exponentials as Exponentials,
        compartment_model as compartment_model,
    )
    from digital_twins.pharmacology._kill import (
        KillTerms as KillTerms,
        concentration_mg_l as concentration_mg_l,
        kill_terms as kill_terms,
        log_kill_integral as log_kill_integral,
        reference_area_mg_h_l as reference_area_mg_h_l,
    )
    from digital_twins.pharmacology._library import (
        Drug as Drug,
        Parameter as Parameter,
        drug as drug,
        drug_library as drug_library,
    )
    from digital_twins.pharmacology._saturable import SaturableModel as SaturableModel
    from digital_twins.pharmacology._variability import individual_kinetics as individual_kinetics

_WHERE = {
    **dict.fromkeys(("Antibody", "antibody", "antibody_library"), "digital_twins.pharmacology._antibodies"),
    **dict.fromkeys(("Exponentials", "compartment_model"), "digital_twins.pharmacology._compartments"),
    **dict.fromkeys(
        ("KillTerms", "concentration_mg_l", "kill_terms", "log_kill_integral", "reference_area_mg_h_l"),
        "digital_twins.pharmacology._kill",
    ),
    **dict.fromkeys(("Drug", "Parameter", "drug", "drug_library"), "digital_twins.pharmacology._library"),
    "SaturableModel": "digital_twins.pharmacology._saturable",
    "individual_kinetics": "digital_twins.pharmacology._variability",
}

__getattr__, __dir__ = exports(__name__, _WHERE)
