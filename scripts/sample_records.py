"""The invented clinical records of the sample patients, as FHIR R4 transaction bundles.

Nothing here was ever true of anybody: every resource carries the security label HTEST. Shapes follow
mCODE 4.0 where it has one.

Codes: SNOMED CT, LOINC, RxNorm, HGNC where their meaning is certain, plain text elsewhere.
"""

from __future__ import annotations

from typing import Any

Resource = dict[str, Any]

SNOMED, LOINC, UCUM = "http://snomed.info/sct", "http://loinc.org", "http://unitsofmeasure.org"
RXNORM, HGNC = "http://www.nlm.nih.gov/research/umls/rxnorm", "http://www.genenames.org/geneId"
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
EXTENSION = "https://digital-twins.example/fhir/StructureDefinition"
MCODE = "http://hl7.org/fhir/us/mcode/StructureDefinition"
MRN = "https://example.org/mrn"
HTEST = {"system": f"{TERMINOLOGY}/v3-ActReason", "code": "HTEST", "display": "test health data"}
INVENTED = "Invented for a sample patient: not a fact about any person."


def bundles() -> dict[str, Resource]:
    """Return the transaction bundle of each sample patient."""
    return {"lung": lung(), "brain": brain()}


class Record:
    """Collects the resources of one patient under ids that follow from their names."""

    def __init__(self, stem: str, baseline: str) -> None:
        self.stem, self.baseline, self.resources = stem, baseline, []

    def add(self, kind: str, name: str, content: Resource, *, profile: str | None = None) -> str:
        """Add a resource and return the reference to it."""
        ident = f"{self.stem}-{name}" if name else self.stem
        meta: Resource = {"profile": [f"{MCODE}/{profile}"]} if profile else {}
        meta["security"] = [HTEST]
        self.resources.append({"resourceType": kind, "id": ident, "meta": meta, **content})
        return f"{kind}/{ident}"

    @property
    def subject(self) -> Resource:
        """Reference to the patient."""
        return {"reference": f"Patient/{self.stem}"}

    def bundle(self) -> Resource:
        """Return a transaction that can be sent again without making duplicates (PUT under fixed ids)."""
        entries = []
        for resource in self.resources:
            url = f"{resource['resourceType']}/{resource['id']}"
            entries.append(
                {
                    "fullUrl": f"https://digital-twins.example/fhir/{url}",
                    "resource": resource,
                    "request": {"method": "PUT", "url": url},
                }
            )
        return {
            "resourceType": "Bundle",
            "type": "transaction",
            "meta": {"security": [HTEST]},
            "entry": entries,
        }


def concept(text: str, *codings: tuple[str, str, str]) -> Resource:
    """CodeableConcept with codings (system, code, display)."""
    made: Resource = {"text": text}
    if codings:
        made["coding"] = [{"system": s, "code": c, "display": d} for s, c, d in codings]
    return made


def quantity(value: float, unit: str, code: str | None = None) -> Resource:
    """Quantity in UCUM."""
    return {"value": value, "unit": unit, "system": UCUM, "code": code or unit}


def patient(record: Record, *, name: tuple[str, str], sex: str, born: str) -> None:
    """Add the Patient; its MRN is the DICOM PatientID."""
    record.add(
        "Patient",
        "",
        {
            "identifier": [
                {
                    "use": "usual",
                    "type": concept("MRN", (f"{TERMINOLOGY}/v2-0203", "MR", "Medical record number")),
                    "system": MRN,
                    "value": record.stem.upper(),
                }
            ],
            "active": True,
            "name": [{"use": "official", "family": name[0], "given": [name[1]]}],
            "gender": sex,
            "birthDate": born,
        },
    )


def condition(record: Record, code: Resource, *, site: Resource, stage: str, stage_kind: str) -> str:
    """Add the primary cancer and return its reference; the stage observation has the id '-stage'."""
    return record.add(
        "Condition",
        "cancer",
        {
            "clinicalStatus": concept("Active", (f"{TERMINOLOGY}/condition-clinical", "active", "Active")),
            "verificationStatus": concept(
                "Confirmed", (f"{TERMINOLOGY}/condition-ver-status", "confirmed", "Confirmed")
            ),
            "category": [
                concept(
                    "Problem list item",
                    (f"{TERMINOLOGY}/condition-category", "problem-list-item", "Problem List Item"),
                )
            ],
            "code": code,
            "bodySite": [site],
            "subject": record.subject,
            "onsetDateTime": record.baseline,
            "recordedDate": record.baseline,
            "stage": [
                {
                    "summary": concept(stage),
                    "type": concept(stage_kind),
                    "assessment": [{"reference": f"Observation/{record.stem}-stage"}],
                }
            ],
            "note": [{"text": INVENTED}],
        },
        profile="mcode-primary-cancer-condition",
    )


def observation(
    record: Record, name: str, code: Resource, value: Resource, *, category: str, **more: Any
) -> str:
    """Add an Observation made on the day of the baseline."""
    return record.add(
        "Observation",
        name,
        {
            "status": "final",
            "category": [
                concept(category, (f"{TERMINOLOGY}/observation-category", category, category.capitalize()))
            ],
            "code": code,
            "subject": record.subject,
            "effectiveDateTime": f"{record.baseline}T08:00:00Z",
            **value,
            "note": [{"text": INVENTED}],
            **more,
        },
    )


def body(record: Record, *, weight_kg: float, height_cm: float, ecog: int) -> None:
    """Weight, height and ECOG performance status."""
    observation(
        record,
        "weight",
        concept("Body weight", (LOINC, "29463-7", "Body weight")),
        {"valueQuantity": quantity(weight_kg, "kg")},
        category="vital-signs",
    )
    observation(
        record,
        "height",
        concept("Body height", (LOINC, "8302-2", "Body height")),
        {"valueQuantity": quantity(height_cm, "cm")},
        category="vital-signs",
    )
    observation(
        record,
        "ecog",
        concept("ECOG Performance Status score", (LOINC, "89247-1", "ECOG Performance Status score")),
        {"valueInteger": ecog},
        category="survey",
    )


def variant(record: Record, gene: str, hgnc: str, *, present: bool, detail: str) -> None:
    """A genomic variant observation: gene studied, present or absent (mCODE genomic variant)."""
    answer = ("LA9633-4", "Present") if present else ("LA9634-2", "Absent")
    observation(
        record,
        gene.lower(),
        concept(f"{gene} {detail}", (LOINC, "69548-6", "Genetic variant assessment")),
        {"valueCodeableConcept": concept(answer[1], (LOINC, *answer))},
        category="laboratory",
        component=[
            {
                "code": concept("Gene studied", (LOINC, "48018-6", "Gene studied [ID]")),
                "valueCodeableConcept": concept(gene, (HGNC, hgnc, gene)),
            }
        ],
    )


def chemotherapy(record: Record, name: str, drug: tuple[str, str], mg_m2: float, repeat: Resource) -> str:
    """A proposed drug course: dose per square metre of body surface, repeated."""
    label, rxcui = drug
    unit = {"wk": "weeks", "d": "days"}[repeat["periodUnit"]]
    text = f"{label} {mg_m2:g} mg/m2 every {repeat['period']:g} {unit}, {repeat['count']} doses"
    return record.add(
        "MedicationRequest",
        name,
        {
            "status": "draft",
            "intent": "proposal",
            "medicationCodeableConcept": concept(label, (RXNORM, rxcui, label)),
            "subject": record.subject,
            "authoredOn": record.baseline,
            "reasonReference": [{"reference": f"Condition/{record.stem}-cancer"}],
            "note": [{"text": INVENTED}],
            "dosageInstruction": [
                {
                    "sequence": 1,
                    "text": text,
                    "timing": {"repeat": repeat},
                    "doseAndRate": [
                        {
                            "type": concept(
                                "Ordered", (f"{TERMINOLOGY}/dose-rate-type", "ordered", "Ordered")
                            ),
                            "doseQuantity": quantity(mg_m2, "mg/m2"),
                        }
                    ],
                }
            ],
        },
    )


def radiotherapy(record: Record, name: str, total_gy: float, fractions: int, technique: str) -> str:
    """A proposed radiotherapy course; the prescription is in extensions of this project."""
    text = f"{technique} {total_gy:g} Gy in {fractions} fractions, 5 a week"
    return record.add(
        "ServiceRequest",
        name,
        {
            "extension": [
                {
                    "url": f"{EXTENSION}/radiotherapy-total-dose-gy",
                    "valueQuantity": quantity(total_gy, "Gy"),
                },
                {"url": f"{EXTENSION}/radiotherapy-fractions", "valuePositiveInt": fractions},
                {"url": f"{EXTENSION}/radiotherapy-fractions-per-week", "valuePositiveInt": 5},
                {"url": f"{EXTENSION}/radiotherapy-technique", "valueString": technique},
            ],
            "status": "draft",
            "intent": "proposal",
            "category": [
                concept(
                    "Radiotherapy",
                    (SNOMED, "108290001", "Radiation oncology AND/OR radiotherapy (procedure)"),
                )
            ],
            "code": concept(
                text, (SNOMED, "108290001", "Radiation oncology AND/OR radiotherapy (procedure)")
            ),
            "subject": record.subject,
            "authoredOn": record.baseline,
            "reasonReference": [{"reference": f"Condition/{record.stem}-cancer"}],
            "note": [{"text": INVENTED}],
        },
    )


def options(record: Record, references: list[str]) -> None:
    """The CarePlan that lists the options still open, for the tumour board."""
    record.add(
        "CarePlan",
        "options",
        {
            "status": "draft",
            "intent": "proposal",
            "title": "Treatment options for the tumour board",
            "description": INVENTED,
            "subject": record.subject,
            "created": record.baseline,
            "addresses": [{"reference": f"Condition/{record.stem}-cancer"}],
            "activity": [{"reference": {"reference": r}} for r in references],
        },
    )


def given(
    record: Record, name: str, drug: tuple[str, str], *, start: tuple[str, int], mg: float, text: str
) -> None:
    """A drug dose that was given; the dose is absolute milligrams."""
    day, hours = start
    record.add(
        "MedicationAdministration",
        name,
        {
            "status": "completed",
            "medicationCodeableConcept": concept(drug[0], (RXNORM, drug[1], drug[0])),
            "subject": record.subject,
            "effectivePeriod": {"start": f"{day}T{hours:02d}:00:00Z", "end": f"{day}T{hours + 2:02d}:00:00Z"},
            "reasonReference": [{"reference": f"Condition/{record.stem}-cancer"}],
            "note": [{"text": INVENTED}],
            "dosage": {
                "text": text,
                "route": concept("Intravenous", (SNOMED, "47625008", "Intravenous route (qualifier value)")),
                "dose": quantity(mg, "mg"),
            },
        },
    )


def lung() -> Resource:
    """Adenocarcinoma of the left lower lobe, stage IIIA, cisplatin on days 0 and 21."""
    record = Record("sample-lung-001", "2025-03-03")
    patient(record, name=("Sample", "Lung"), sex="male", born="1961-06-14")
    condition(
        record,
        concept(
            "Non-small cell lung cancer, adenocarcinoma",
            (SNOMED, "254637007", "Non-small cell lung cancer (disorder)"),
        ),
        site=concept(
            "Left lower lobe",
            (SNOMED, "41224006", "Structure of lower lobe of left lung (body structure)"),
        ),
        stage="IIIA",
        stage_kind="Clinical stage group (TNM)",
    )
    observation(
        record,
        "stage",
        concept("Stage group", (LOINC, "21908-9", "Stage group.clinical Cancer")),
        {"valueCodeableConcept": concept("IIIA")},
        category="exam",
        focus=[{"reference": f"Condition/{record.stem}-cancer"}],
    )
    variant(record, "EGFR", "HGNC:3236", present=False, detail="mutation")
    variant(record, "KRAS", "HGNC:6407", present=True, detail="mutation")
    observation(
        record,
        "pd-l1",
        concept("PD-L1 tumor proportion score"),
        {"valueQuantity": quantity(60, "%")},
        category="laboratory",
    )
    body(record, weight_kg=78.0, height_cm=172.0, ecog=1)
    cisplatin = ("cisplatin", "2555")
    for number, day in enumerate(("2025-03-03", "2025-03-24"), 1):
        text = "75 mg/m2 at a body surface area of 1.93 m2"
        given(record, f"cisplatin-{number}", cisplatin, start=(day, 12), mg=144.8, text=text)
    three_weekly = {"count": 6, "duration": 3, "durationUnit": "h", "period": 3, "periodUnit": "wk"}
    options(
        record,
        [
            chemotherapy(record, "option-paclitaxel", ("paclitaxel", "56946"), 175.0, three_weekly),
            radiotherapy(record, "option-radiotherapy", 60.0, 30, "IMRT"),
            chemotherapy(
                record,
                "option-docetaxel",
                ("docetaxel", "72962"),
                75.0,
                {**three_weekly, "count": 4, "duration": 1},
            ),
        ],
    )
    return record.bundle()


def brain() -> Resource:
    """Glioblastoma of the left hemisphere, untreated during the follow-up."""
    record = Record("sample-brain-001", "2025-04-07")
    patient(record, name=("Sample", "Brain"), sex="female", born="1966-11-02")
    condition(
        record,
        concept(
            "Glioblastoma, IDH-wildtype",
            ("http://hl7.org/fhir/sid/icd-10-cm", "C71.9", "Malignant neoplasm of brain, unspecified"),
        ),
        site=concept("Brain, left hemisphere", (SNOMED, "12738006", "Brain structure (body structure)")),
        stage="WHO grade 4",
        stage_kind="WHO grade",
    )
    observation(
        record,
        "stage",
        concept("WHO grade of central nervous system tumor"),
        {"valueCodeableConcept": concept("WHO grade 4")},
        category="exam",
        focus=[{"reference": f"Condition/{record.stem}-cancer"}],
    )
    variant(record, "IDH1", "HGNC:5382", present=False, detail="mutation")
    observation(
        record,
        "mgmt",
        concept("MGMT promoter methylation"),
        {"valueCodeableConcept": concept("Methylated")},
        category="laboratory",
    )
    body(record, weight_kg=66.0, height_cm=165.0, ecog=1)
    options(
        record,
        [
            radiotherapy(record, "option-radiotherapy", 60.0, 30, "IMRT"),
            radiotherapy(record, "option-hypofractionated", 40.0, 15, "VMAT"),
            chemotherapy(
                record,
                "option-temozolomide",
                ("temozolomide", "37776"),
                75.0,
                {"count": 42, "period": 1, "periodUnit": "d"},
            ),
        ],
    )
    return record.bundle()
