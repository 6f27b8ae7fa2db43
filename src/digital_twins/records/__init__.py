"""Plain data of the clinical record: patients, conditions, observations, treatments, codes."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.records._beds import (
        BED_MIGRATIONS as BED_MIGRATIONS,
        BedBook as BedBook,
        DeviceLink as DeviceLink,
        Stay as Stay,
    )
    from digital_twins.records._codes import (
        DCM as DCM,
        FHIR_SYSTEM as FHIR_SYSTEM,
        LOINC as LOINC,
        NEOPLASM as NEOPLASM,
        SCT as SCT,
        UCUM as UCUM,
        Code as Code,
    )
    from digital_twins.records._evidence import Conflict as Conflict, Fact as Fact
    from digital_twins.records._patient import (
        Condition as Condition,
        Observation as Observation,
        PatientRecord as PatientRecord,
    )
    from digital_twins.records._quantity import (
        Quantity as Quantity,
    )
    from digital_twins.records._treatment import (
        DrugDose as DrugDose,
        Fraction as Fraction,
        Treatment as Treatment,
        TreatmentKind as TreatmentKind,
    )
    from digital_twins.records._treatment_drugs import (
        DRUG_KINDS as DRUG_KINDS,
        canonical_drug as canonical_drug,
    )
    from digital_twins.records._treatment_parse import (
        parse_history as parse_history,
        parse_treatment as parse_treatment,
    )
    from digital_twins.records._treatment_radiation import RadiationEffect as RadiationEffect

_WHERE = {
    **dict.fromkeys(("Conflict", "Fact"), "digital_twins.records._evidence"),
    **dict.fromkeys(("BED_MIGRATIONS", "BedBook", "DeviceLink", "Stay"), "digital_twins.records._beds"),
    **dict.fromkeys(
        ("DCM", "FHIR_SYSTEM", "LOINC", "NEOPLASM", "SCT", "UCUM", "Code"), "digital_twins.records._codes"
    ),
    **dict.fromkeys(("Condition", "Observation", "PatientRecord"), "digital_twins.records._patient"),
    "Quantity": "digital_twins.records._quantity",
    **dict.fromkeys(
        ("DrugDose", "Fraction", "Treatment", "TreatmentKind"), "digital_twins.records._treatment"
    ),
    **dict.fromkeys(("DRUG_KINDS", "canonical_drug"), "digital_twins.records._treatment_drugs"),
    "RadiationEffect": "digital_twins.records._treatment_radiation",
    **dict.fromkeys(("parse_history", "parse_treatment"), "digital_twins.records._treatment_parse"),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
