"""Sample patients made from real, openly licensed images, and real xenograft follow-up.

``sample_patient("lung")`` and ``sample_patient("brain")`` give a baseline study (real image and outline),
follow-up outlines (SIMULATED, see ``truth.json``) and a clinical record (invented, security label HTEST).

The record is a FHIR R4 transaction of PUTs under fixed ids. What a reader finds in it:

- ``Patient``: identifier of type MR, whose value is the DICOM PatientID.
- ``Condition`` (mCODE primary cancer condition): ``code.text``, ``bodySite``, ``stage[0].summary.text``.
- ``Observation``: stage group (LOINC 21908-9; WHO grade as text), gene variants (LOINC 69548-6, gene in
  the component 48018-6, value LA9633-4 present or LA9634-2 absent), PD-L1 (percent) and MGMT (text) by
  ``code.text``, weight 29463-7, height 8302-2, ECOG 89247-1 (``valueInteger``).
- ``MedicationAdministration``: doses given, ``dosage.dose`` in absolute mg, ``effectivePeriod``.
- ``MedicationRequest`` (draft, proposal): a proposed course;
  ``dosageInstruction[0].doseAndRate[0].doseQuantity`` in mg/m2, ``timing.repeat`` with ``count``,
  ``period``, ``periodUnit`` (wk or d) and, for infusions, ``duration`` in h.
- ``ServiceRequest`` (draft, proposal, category SNOMED 108290001): a proposed radiotherapy course;
  extensions below ``https://digital-twins.example/fhir/StructureDefinition/``:
  ``radiotherapy-total-dose-gy`` (Quantity, Gy), ``radiotherapy-fractions`` and
  ``radiotherapy-fractions-per-week`` (positiveInt), ``radiotherapy-technique`` (string).
- ``CarePlan`` (draft, proposal): refers to every proposed course in ``activity[].reference``.

``erlotinib/`` in the package data holds real volumes of mice under treatment.
"""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.samples._patient import (
        NAMES as NAMES,
        SamplePatient as SamplePatient,
        Visit as Visit,
        sample_patient as sample_patient,
    )
    from digital_twins.samples._write import (
        write_sample as write_sample,
    )
    from digital_twins.samples._xenografts import (
        XenograftStudy as XenograftStudy,
        erlotinib as erlotinib,
    )

_WHERE = {
    **dict.fromkeys(("NAMES", "SamplePatient", "Visit", "sample_patient"), "digital_twins.samples._patient"),
    "write_sample": "digital_twins.samples._write",
    **dict.fromkeys(("XenograftStudy", "erlotinib"), "digital_twins.samples._xenografts"),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
