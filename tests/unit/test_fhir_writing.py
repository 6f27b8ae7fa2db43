"""The short ways of writing against the general ones: index rows, depth of JSON, plain bundles."""

from __future__ import annotations

import copy
import json
import random
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from digital_twins.audit import OUTBOX_MIGRATIONS
from digital_twins.fhir import MIGRATIONS, FhirError, FhirStore
from digital_twins.fhir._definitions import definitions
from digital_twins.fhir._index import IndexRows, _adder, extract
from digital_twins.fhir._json import MAX_DEPTH, _shallow, check_depth, loads
from digital_twins.fhir.validation import ResourceValidation
from digital_twins.storage import Database, Migration, insert_row

if TYPE_CHECKING:
    from pathlib import Path

CODING: list[Any] = [
    {"system": "http://loinc.org", "code": "1", "display": "Öne  two"},
    {"code": "1"},
    {"code": 5},
    {"display": "x"},
    {"system": 7, "code": "a"},
    {"system": "u", "code": "a", "userSelected": True},
    {"system": ["u"], "code": "a"},
    {"system": "u", "code": "a", "display": {}},
]
VALUES: list[Any] = [
    None,
    "",
    "x",
    "A/1",
    True,
    1,
    2.5,
    [],
    {},
    "2024-01",
    {"reference": "Patient/1"},
    {"reference": "#a"},
    {"text": "t"},
    {"reference": "http://x.org/fhir/Patient/1/_history/3"},
    {"reference": 5},
    {"text": 5, "coding": [{"code": "a"}]},
    {"reference": "Patient/1", "identifier": {"system": "u", "value": "v"}},
    {"text": "x" * 300, "coding": [{"code": "a"}]},
    {"coding": "no"},
    {"coding": ["no"]},
    {"coding": []},
    {"value": 1.5, "code": "mg", "system": "u", "unit": "mg"},
    *({"coding": [coding]} for coding in CODING),
    *({"coding": [coding], "text": "Some  Text"} for coding in CODING),
    {"coding": CODING[:2], "text": "one"},
    {"value": 1, "comparator": "<"},
    {"start": "2024", "end": "2025-01"},
]


def rows_of(work: Any) -> Any:
    rows = IndexRows()
    try:
        work(rows)
    except (AttributeError, TypeError) as error:
        return type(error)
    return rows


@pytest.mark.parametrize("kind", ["Observation", "Patient", "Condition", "Encounter", "MedicationRequest"])
def test_index_rows_of_common_shapes_are_those_of_the_general_way(kind: str) -> None:
    compared = 0
    for parameter in definitions().parameters[kind].values():
        for path in parameter.paths:
            add = _adder(parameter, path)
            for value in [*VALUES, *VALUES]:  # the second time out of what is kept
                general = rows_of(lambda rows, v=value, p=path, m=parameter: extract(rows, m, v, p))
                assert rows_of(lambda rows, v=value, a=add: a(rows, v)) == general, (parameter.code, value)
                compared += 1
    assert compared > 500


def nested(chance: random.Random, depth: int) -> Any:
    text = chance.choice(["", "a", "{", "}}", '"', '\\"', "\\", "[]", '"]', "\\\\}"])
    if depth <= 0:
        return text
    inner = nested(chance, depth - 1)
    return chance.choice([{"a": inner}, [inner], {text: inner, "b": [text]}, [[], {}, inner]])


def test_what_is_plainly_shallow_passes_the_check_of_every_level() -> None:
    chance, plain, deep = random.Random(8), 0, 0
    for _ in range(600):
        value = nested(chance, chance.choice([0, 3, 20, MAX_DEPTH - 2, MAX_DEPTH, MAX_DEPTH + 1, 150]))
        raw = chance.choice([orjson.dumps, lambda v: json.dumps(v, indent=1).encode()])(value)
        if _shallow(raw):
            plain += 1
            check_depth(value)
        else:
            deep += 1
    assert plain > 50
    assert deep > 50
    assert _shallow(orjson.dumps([{"a": 'said \\ "so"'}] * 200))


def test_brackets_in_texts_do_not_hide_depth() -> None:
    raw = b'{"}":' * (MAX_DEPTH + 1) + b'["{"]' + b"}" * (MAX_DEPTH + 1)
    assert not _shallow(raw)
    with pytest.raises(FhirError):
        loads(raw)


def bundle(kind: str = "transaction") -> dict[str, Any]:
    patient = {"resourceType": "Patient", "gender": "female"}
    seen = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    return {
        "resourceType": "Bundle",
        "type": kind,
        "entry": [
            {"fullUrl": "urn:uuid:1", "resource": patient, "request": {"method": "POST", "url": "Patient"}},
            {"resource": seen, "request": {"method": "POST", "url": "Observation"}},
        ],
    }


def refusal(validation: ResourceValidation, document: Any) -> Any:
    try:
        validation.check(document)
    except FhirError as error:
        return error.http_status, [(i.code, i.location) for i in error.issues]
    return None


def test_a_plain_bundle_is_judged_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    odd: list[Any] = [None, "", " ", 5, [], {}, {"id": "x"}, "PO ST", "a b", ["x"]]
    documents = [bundle()]
    for name in ("type", "entry", "total", "colour"):
        documents += [{**bundle(), name: copy.deepcopy(value)} for value in odd]
    for number in (0, 1):
        for name in ("fullUrl", "resource", "request", "search", "id", "colour"):
            for value in odd:
                made = bundle()
                made["entry"][number][name] = copy.deepcopy(value)
                documents.append(made)
        for name in ("method", "url", "ifMatch", "colour"):
            for value in odd:
                made = bundle()
                made["entry"][number]["request"][name] = copy.deepcopy(value)
                documents.append(made)
    validation = ResourceValidation()
    quick = [refusal(validation, document) for document in documents]
    assert quick[0] is None
    monkeypatch.setattr(ResourceValidation, "_plainly_sound", lambda *_: False)
    assert quick == [refusal(validation, document) for document in documents]


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with Database(tmp_path / "f.db", migrations=(*OUTBOX_MIGRATIONS, *MIGRATIONS)) as database:
        found = FhirStore(database)
        yield found
        found.close()


def test_a_transaction_finds_what_it_has_made_itself(store: FhirStore) -> None:
    entries: list[dict[str, Any]] = [
        {"resource": {"resourceType": "Patient", "identifier": [{"system": "urn:m", "value": "7"}]},
         "request": {"method": "POST", "url": "Patient"}},
        {"resource": {"resourceType": "Observation", "status": "final", "code": {"text": "x"},
                      "subject": {"reference": "Patient?identifier=urn:m|7"}},
         "request": {"method": "POST", "url": "Observation"}},
        {"request": {"method": "GET", "url": "Observation?status=final"}},
    ]  # fmt: skip
    answer = json.loads(
        store.transaction({"resourceType": "Bundle", "type": "transaction", "entry": entries})
    )
    patient = answer["entry"][0]["response"]["location"].partition("/_history")[0]
    (found,) = answer["entry"][2]["resource"]["entry"]
    assert found["resource"]["subject"] == {"reference": patient}
    assert [hit.id for hit in store.search("Observation", {"subject": patient}).hits] == [
        found["resource"]["id"]
    ]


def test_codings_are_held_after_many_writes_and_stay_searchable(store: FhirStore) -> None:
    seen = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8302-2", "display": "Body height"}]},
    }
    for _ in range(40):
        store.create(seen)
    assert len(store._codings._held) == 1
    assert len(store.search("Observation", {"code:text": "body", "_count": "50"}).hits) == 40


def test_insert_row_returns_the_key_of_each_row(tmp_path: Path) -> None:
    table = Migration("t.0001", "CREATE TABLE t(k INTEGER PRIMARY KEY, v TEXT NOT NULL)")
    with Database(tmp_path / "t.db", migrations=(table,)) as database:
        sql = "INSERT INTO t(v) VALUES(?)"
        keys = database.write(lambda cursor: [insert_row(cursor, sql, (v,), key="k") for v in "ab"])
        with database.read() as connection:
            assert connection.execute("SELECT k, v FROM t ORDER BY k").fetchall() == list(
                zip(keys, "ab", strict=True)
            )
