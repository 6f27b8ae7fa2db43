"""De-identification of FHIR: nothing planted survives, references hold, and the result is valid R4."""

from __future__ import annotations

import copy
import json
import random
import re
import tarfile
from collections import Counter
from datetime import date
from pathlib import Path

import pytest

from digital_twins import InputError
from digital_twins.cli import main
from digital_twins.fhir.validation import Validator
from digital_twins.governance import DeidentificationKey, FhirDeidentifier, known_identifiers

KEY = DeidentificationKey(bytes(range(32)))
# Every value is invented; each must be gone from the output.
PLANTED = [
    *(
        "Whitfield",
        "Aurelia",
        "Okonkwo",
        "Benedikt",
        "Castellano",
        "4711-0815",
        "P47110815",
        "555-201-3344",
        "Elm Row",
    ),
    *(
        "Springfield",
        "02139",
        "aurelia@x.example.org",
        "1931-05-17",
        "2021-03-04",
        "Mercy West",
        "SN99887766",
        "10.1.2.3",
    ),
    *(
        "QUJDREVGRw",
        "http://hospital.example.org",
        "XW-4711",
        "42.3601",
        "12:31:07",
        "Quakebush",
        "LOT5567",
        "p1",
        "d1",
    ),
    *("2021-03-05", "LOCAL-ALBERT", "1.2.3.4.5.678", "U7788990011", "/home/aurelia"),
]


def resources() -> list[dict]:
    """Invented resources of 21 types, full of identifiers."""
    return json.loads((Path(__file__).parents[1] / "data" / "planted_fhir.json").read_text(encoding="utf-8"))


def bundle(entries: list[dict]) -> dict:
    base = "http://hospital.example.org/fhir"
    made = [{"fullUrl": f"{base}/{each['resourceType']}/{each['id']}", "resource": each} for each in entries]
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "timestamp": "2021-03-04T12:31:07Z",
        "entry": made,
    }


def errors(resource: dict, validator: Validator | None = None) -> list[str]:
    return [str(each) for each in (validator or Validator()).validate(resource) if each.severity == "error"]


def references(value) -> list[str]:
    if isinstance(value, list):
        return [found for each in value for found in references(each)]
    if not isinstance(value, dict):
        return []
    own = [value["reference"]] if isinstance(value.get("reference"), str) else []
    return own + [found for each in value.values() for found in references(each)]


@pytest.mark.parametrize("method", ["safe_harbor", "expert_determination"])
def test_nothing_planted_survives_and_the_result_is_valid(method):
    before = bundle(resources())
    assert errors(before) == []
    shown = json.dumps(before)
    assert [value for value in PLANTED if value not in shown] == []
    untouched = copy.deepcopy(before)
    after, counts = FhirDeidentifier(KEY, method).deidentify(before)
    assert before == untouched
    text = json.dumps(after)
    gone = [value for value in PLANTED if not re.search(rf"(?<!\w){re.escape(value)}", text, re.IGNORECASE)]
    kept = set(PLANTED) - set(gone)
    if method == "expert_determination":
        kept -= {"12:31:07"}  # the time of the day stays where dates move
    assert kept == set()
    assert errors(after) == []
    assert len({each["resource"]["resourceType"] for each in after["entry"]}) >= 20
    for term in (
        "Gleason 4+3=7",
        "Hodgkin lymphoma",
        "temozolomide 75 mg/m2",
        "Malignant tumor of colon",
        "363406005",
    ):
        assert term in text
    assert counts["reference"] > 20
    assert counts["attachment"] == 2


def test_references_hold():
    before = bundle(resources())
    after, _ = FhirDeidentifier(KEY).deidentify(before)
    targets = {f"{each['resource']['resourceType']}/{each['resource']['id']}" for each in after["entry"]}
    found = references(after)
    assert len(found) == len(references(before))
    contained = after["entry"][9]["resource"]["contained"][0]["id"]
    assert set(found) <= targets | {f"#{contained}"}
    for entry in after["entry"]:
        kind, own = entry["resource"]["resourceType"], entry["resource"]["id"]
        assert entry["fullUrl"] == f"https://deidentified.invalid/fhir/{kind}/{own}"


def test_safe_harbor_leaves_years_old_ages_and_areas():
    after, _ = FhirDeidentifier(KEY).deidentify(bundle(resources()))
    by_id = {each["resource"]["resourceType"]: each["resource"] for each in after["entry"]}
    patient = by_id["Patient"]
    assert "birthDate" not in patient  # born 1931: the year tells of an age over 89
    assert patient["_birthDate"]["extension"][0]["valueCode"] == "masked"
    assert patient["address"] == [{"country": "US", "state": "MA", "postalCode": "021"}]
    assert patient["identifier"] == [{"value": KEY.pseudonym("4711-0815")}]
    assert patient["gender"] == "female"
    assert by_id["Condition"]["onsetAge"]["value"] == 90
    assert by_id["Condition"]["onsetAge"]["comparator"] == ">="
    assert by_id["Encounter"]["period"] == {"start": "2021", "end": "2021"}
    assert by_id["ImagingStudy"]["identifier"][0]["value"] == f"urn:oid:{KEY.uid('1.2.3.4.5.678')}"
    assert by_id["ImagingStudy"]["series"][0]["uid"] == KEY.uid("1.2.3.4.5.678.1")
    ages = [each["resource"] for each in after["entry"] if each["resource"]["resourceType"] == "Observation"]
    assert ages[0]["valueQuantity"]["value"] == 90
    assert not re.search(r"\d{4}-\d\d-\d\d", json.dumps(after))


def test_expert_determination_keeps_intervals():
    after, _ = FhirDeidentifier(KEY, "expert_determination").deidentify(bundle(resources()))
    by_type = {each["resource"]["resourceType"]: each["resource"] for each in after["entry"]}
    day = date.fromisoformat(by_type["Procedure"]["performedDateTime"])
    assert (day - date(2021, 3, 4)).days == KEY.shift_days("p1")
    start, end = (date.fromisoformat(by_type["Encounter"]["period"][each][:10]) for each in ("start", "end"))
    assert (start, (end - start).days) == (day, 1)


def test_random_places_do_not_leak(full):
    """A name and a number of the record, planted at any string of any resource, go."""
    draw = random.Random(7)
    known = known_identifiers(resources())
    cleaner = FhirDeidentifier(KEY, known=known)
    made = planted = 0
    for _ in range(2000 if full else 300):
        resource = draw.choice(resources())
        holders = [
            (holder, name) for holder, name in _strings(resource) if name not in {"resourceType", "id", "url"}
        ]
        holder, name = draw.choice(holders)
        holder[name] = draw.choice(["Whitfield", "4711-0815", "Okonkwo, Benedikt", "call 555-201-3344"])
        planted += 1
        after = json.dumps(cleaner.deidentify(resource)[0])
        gone = not re.search("whitfield|4711-0815|okonkwo|555-201", after, re.IGNORECASE)
        made += gone
        assert gone, (name, holder)
    assert made == planted


def _strings(value):
    for name, each in value.items():
        if isinstance(each, str):
            yield value, name
        for inner in each if isinstance(each, list) else [each]:
            if isinstance(inner, dict):
                yield from _strings(inner)


def test_what_cannot_be_done_is_refused():
    with pytest.raises(InputError, match="limited_data_set"):
        FhirDeidentifier(KEY, "limited_data_set")
    with pytest.raises(InputError, match="modifierExtension"):
        FhirDeidentifier(KEY).deidentify(
            {"resourceType": "Patient", "modifierExtension": [{"url": "urn:x", "valueBoolean": True}]}
        )
    with pytest.raises(InputError, match="no resource"):
        FhirDeidentifier(KEY).deidentify({"resourceType": "Nothing"})


def test_synthea_patients_are_gone_and_the_records_stay_valid(shared_data, full):
    with tarfile.open(shared_data / "fhir" / "synthea-bundles.tar.xz") as archive:
        sizes = sorted((each.size, each.name) for each in archive if each.name.endswith(".json"))
        names = [name for _, name in sizes][: len(sizes) if full else 2]
        bundles = [json.loads(archive.extractfile(name).read()) for name in names]
    validator, types = Validator(), Counter()
    for before in bundles:
        after, _ = FhirDeidentifier(KEY).deidentify(before)
        known = known_identifiers([before])
        text = json.dumps(after)
        # digits inside a measured number, e.g. 1.0999999999999999, are no identifier
        words = set(re.findall(r"[\w.-]+", re.sub(r"(?<=\d)\.\d+", "", text)))
        spaced = {each for each in known.values if not re.fullmatch(r"[\w.-]+", each)}
        assert [each for each in spaced if len(each) > 7 and each in text] == []
        assert [each for each in known.values - spaced if len(each) > 7 and each in words] == []
        family = before["entry"][0]["resource"]["name"][0]["family"]
        assert family not in text
        assert not re.search(r"\d{4}-\d\d-\d\d", re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "", text))
        targets = {each["fullUrl"] for each in after["entry"]}
        assert {each for each in references(after) if each.startswith("urn:uuid:")} <= targets
        assert len(references(after)) == len(references(before))
        for old, new in zip(before["entry"], after["entry"], strict=True):
            types[new["resource"]["resourceType"]] += 1
            assert len(errors(new["resource"], validator)) <= len(errors(old["resource"], validator))
    assert len(types) >= 10


def test_a_folder_of_fhir_files(tmp_path, capsys):
    source, target = tmp_path / "Aurelia_Whitfield", tmp_path / "out"
    source.mkdir()
    by_type: dict[str, list[dict]] = {}
    for each in resources():
        by_type.setdefault(each["resourceType"], []).append(each)
    for kind, found in by_type.items():
        (source / f"{kind}_Whitfield.ndjson").write_text("\n".join(map(json.dumps, found)), encoding="utf-8")
    (source / "one.json").write_text(json.dumps(bundle(resources())), encoding="utf-8")
    (source / "none.json").write_text('{"resourceType": "Nothing"}', encoding="utf-8")
    (source / "cut.ndjson").write_text('{"resourceType": ', encoding="utf-8")
    words = [
        "deid",
        str(source),
        str(target),
        "--dates",
        "remove",
        "--key",
        str(tmp_path / "deid.key"),
        "--json",
    ]
    assert main(words) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["written"], result["refused"]) == (0, 0)
    assert result["fhir"]["written"] == len(by_type) + 1
    assert result["fhir"]["resources"] == 2 * len(resources())
    assert set(result["fhir"]["refused_files"]) == {"none.json", "cut.ndjson"}
    files = [path for path in target.rglob("*") if path.is_file()]
    assert len(files) == len(by_type) + 1
    shown = "".join(f"{path.relative_to(target)} {path.read_text(encoding='utf-8')}" for path in files)
    assert [
        each for each in PLANTED if re.search(rf"(?<!\w){re.escape(each)}(?!\w)", shown, re.IGNORECASE)
    ] == []
    assert main([*words[:4], "keep", *words[5:]]) == 1
