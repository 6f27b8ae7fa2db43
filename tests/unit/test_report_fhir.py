"""The FHIR transaction of a report: structure, links, labels, idempotence."""

from __future__ import annotations

import base64
import copy
import json

import pytest

from digital_twins.fhir import FhirError
from digital_twins.fhir.validation import DefinitionSet, ResourceValidation, Validator
from digital_twins.reports import RESEARCH_USE, render_fhir
from report_samples import sample_report


@pytest.fixture(scope="module")
def bundle():
    return render_fhir(sample_report(), pdf=b"%PDF-1.7 x", dicom_uids={"sr": "2.25.9"})


def _all(bundle, kind):
    return [e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == kind]


def test_kinds_and_put_by_client_assigned_id(bundle):
    kinds = [e["resource"]["resourceType"] for e in bundle["entry"]]
    assert kinds.count("DiagnosticReport") == kinds.count("Provenance") == kinds.count("Device") == 1
    assert kinds.count("RiskAssessment") == 2
    assert kinds.count("Observation") == 4 + 2 * 2
    for entry in bundle["entry"]:
        resource = entry["resource"]
        assert entry["request"] == {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"}
    assert len({e["resource"]["id"] for e in bundle["entry"]}) == len(kinds)


def test_second_run_is_identical(bundle):
    again = render_fhir(sample_report(), pdf=b"%PDF-1.7 x", dicom_uids={"sr": "2.25.9"})
    assert json.dumps(again) == json.dumps(bundle)


def test_everything_is_preliminary_and_labelled(bundle):
    for kind in ("DiagnosticReport", "Observation", "RiskAssessment"):
        for resource in _all(bundle, kind):
            assert resource["status"] == "preliminary"
            assert {s["code"] for s in resource["meta"]["security"]} == {"AIAST", "HTEST"}
            assert resource["subject"] == {"reference": "Patient/pat-1"}


def test_real_patients_carry_no_test_label():
    for resource in (e["resource"] for e in render_fhir(sample_report(labels=()))["entry"]):
        assert "HTEST" not in json.dumps(resource.get("meta", {}))


def test_report_code_is_imaging_study_and_never_procedure_findings(bundle):
    (report,) = _all(bundle, "DiagnosticReport")
    assert [c["code"] for c in report["code"]["coding"]] == ["18748-4", "digital-twin-analysis"]
    assert "59776-5" not in json.dumps(bundle)
    assert report["category"][0]["coding"][0]["code"] == "RAD"
    loinc = {
        c["code"] for o in _all(bundle, "Observation") for c in o["code"]["coding"] if "loinc" in c["system"]
    }
    assert not loinc


def test_report_links_results_study_pdf_and_sr(bundle):
    (report,) = _all(bundle, "DiagnosticReport")
    observations = {f"Observation/{o['id']}" for o in _all(bundle, "Observation")}
    assert {r["reference"] for r in report["result"]} == observations
    assert report["imagingStudy"][0]["identifier"] == {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3.7"}
    assert base64.b64decode(report["presentedForm"][0]["data"]) == b"%PDF-1.7 x"
    assert {"system": "urn:dicom:uid", "value": "urn:oid:2.25.9"} in report["identifier"]
    assert RESEARCH_USE in report["conclusion"]
    assert report["conclusion"].startswith("PRELIMINARY")


def test_every_prediction_and_estimate_has_its_limits(bundle):
    computed = [
        o
        for o in _all(bundle, "Observation")
        if o["code"]["coding"][-1]["code"].startswith(("predicted", "growth", "modelled"))
    ]
    assert len(computed) == 6
    for observation in computed:
        parts = {
            c["code"]["coding"][0]["code"]: c["valueQuantity"]["value"] for c in observation["component"]
        }
        assert parts["interval-low"] < observation["valueQuantity"]["value"] < parts["interval-high"]
        assert "118565006" not in json.dumps(observation["code"])


def test_measured_volume_is_coded_and_in_ucum(bundle):
    volume = _all(bundle, "Observation")[0]
    assert volume["code"]["coding"][0] == {
        "system": "http://snomed.info/sct",
        "code": "118565006",
        "display": "Volume",
    }
    assert volume["valueQuantity"] == {
        "value": 12.5,
        "unit": "cm³",
        "system": "http://unitsofmeasure.org",
        "code": "cm3",
    }
    assert volume["effectiveDateTime"].startswith("2026-01-02")


def test_risk_assessment_has_probabilities_by_the_horizon(bundle):
    for risk in _all(bundle, "RiskAssessment"):
        assert sum(p["probabilityDecimal"] for p in risk["prediction"]) <= 1.0 + 1e-9
        assert {p["whenRange"]["high"]["value"] for p in risk["prediction"]} == {84.0}
        known = {f"Observation/{o['id']}" for o in _all(bundle, "Observation")}
        assert {b["reference"] for b in risk["basis"]} <= known


def test_provenance_names_software_version_and_inputs(bundle):
    (provenance,) = _all(bundle, "Provenance")
    (device,) = _all(bundle, "Device")
    assert device["version"] == [{"value": "0.1.0"}]
    model = sample_report().twin.model
    assert device["modelNumber"] == f"{model} 0.1.0"
    assert {"name": model, "type": "model-name"} in device["deviceName"]
    assert provenance["agent"][0]["who"]["reference"] == f"Device/{device['id']}"
    assert "sha256:" + "a3" * 32 in json.dumps(provenance["entity"])
    targets = {t["reference"].split("/")[0] for t in provenance["target"]}
    assert targets == {"DiagnosticReport", "Observation", "RiskAssessment"}


def test_narrative_is_escaped():
    import dataclasses

    report = sample_report()
    option = dataclasses.replace(report.options[0], label="<script>x</script>")
    bundle = render_fhir(dataclasses.replace(report, options=(option,)))
    (diagnostic,) = _all(bundle, "DiagnosticReport")
    assert "<script>" not in diagnostic["text"]["div"]


def test_patient_without_fhir_resource_is_referred_to_by_identifier():
    import dataclasses

    report = sample_report()
    report = dataclasses.replace(report, record=dataclasses.replace(report.record, resource_id=None))
    (diagnostic,) = _all(render_fhir(report), "DiagnosticReport")
    assert diagnostic["subject"]["identifier"]["value"] == "P1"


def test_the_node_files_it_and_a_second_filing_changes_nothing(bundle, tmp_path):
    from digital_twins import audit, fhir, storage

    migrations = (*storage.MIGRATIONS, *audit.OUTBOX_MIGRATIONS, *fhir.MIGRATIONS)
    database = storage.Database(tmp_path / "node.sqlite", migrations=migrations)
    try:
        store = fhir.FhirStore(database)
        assert not fhir.structural_issues(bundle)
        for _ in range(2):
            answer = json.loads(store.transaction(json.dumps(bundle).encode()))
            assert all(e["response"]["status"][:3] in {"200", "201"} for e in answer["entry"])
        assert {store.count(kind) for kind in ("DiagnosticReport", "Provenance", "Device")} == {1}
        assert (store.count("Observation"), store.count("RiskAssessment")) == (8, 2)
    finally:
        database.close()


def test_what_is_written_back_breaks_no_rule_of_the_base(bundle):
    ResourceValidation().check(bundle)
    broken = copy.deepcopy(bundle)
    broken["entry"][0]["resource"]["status"] = 7
    with pytest.raises(FhirError):
        ResourceValidation().check(broken)


def test_what_is_written_back_conforms_to_its_us_core_profiles(bundle, shared_data):
    package = shared_data / "fhir" / "us-core" / "us_core_700.tgz"
    validator = Validator(DefinitionSet.from_packages([package]))

    def errors(resource):
        return [each.location for each in validator.validate(resource) if each.severity == "error"]

    profiled = [e["resource"] for e in bundle["entry"] if "profile" in e["resource"].get("meta", {})]
    assert {each["resourceType"] for each in profiled} == {"DiagnosticReport", "Observation", "Provenance"}
    assert len(profiled) == 1 + 8 + 1
    for each in profiled:
        assert errors(each) == []
    for kind, place in (
        ("Observation", "category"),
        ("DiagnosticReport", "category"),
        ("Provenance", "target"),
    ):
        broken = {name: part for name, part in _all(bundle, kind)[0].items() if name != place}
        assert f"{kind}.{place}" in errors(broken)
