"""Search over several types at once, ``_text``, ``_content``, ``_list``, ``Location.near`` and hierarchies.

The words are checked against Python's own tokens of the stored JSON, distances against the closed form for
points on one meridian and against the law of cosines (another formula than the one that runs).
"""

from __future__ import annotations

import html
import json
import math
import re
import unicodedata
from typing import TYPE_CHECKING, Any

import pytest

from digital_twins import auth
from digital_twins.fhir import FhirError, FhirStore
from digital_twins.fhir._erasure import erase_fhir_in, fhir_footprint
from digital_twins.fhir._near import EARTH_RADIUS_KM
from digital_twins.fhir._words import TEXT_TABLES, catch_up
from fhir_support import LOINC, open_store, patient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def narrative(text: str) -> dict[str, str]:
    return {"status": "additional", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{text}</div>'}


def note(name: str, text: str, told: str = "") -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": name,
        "text": narrative(text),
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": "8480-6", "display": "Systolic blood pressure"}]},
        "subject": {"reference": "Patient/ann"},
        "valueString": told or "none",
    }


def place(name: str, latitude: float, longitude: float, part_of: str = "") -> dict[str, Any]:
    return {
        "resourceType": "Location",
        "id": name,
        "name": name,
        "position": {"latitude": latitude, "longitude": longitude},
        **({"partOf": {"reference": f"Location/{part_of}"}} if part_of else {}),
    }


CITIES = {
    "berlin": (52.52, 13.405),
    "hamburg": (53.5511, 9.9937),
    "vienna": (48.2082, 16.3738),
    "suva": (-18.1416, 178.4419),
    "apia": (-13.8333, -171.7667),
    "north": (89.9, 0.0),
    "north-too": (89.9, 180.0),
    "null": (0.0, 0.0),
}
RESOURCES: list[dict[str, Any]] = [
    patient(id="ann", text=narrative("<p>Ms. <b>Élodie</b> Muster &amp; daughter</p>")),
    patient(id="bob", gender="male", name=[{"family": "Okafor"}]),
    note("one", "<p>Metastases in the bone.</p>", "left hip, painful"),
    note("two", "<p>Metastases in the liver</p><p>bone scan clear</p>"),
    note("three", "<p>Liver: no finding</p>", "Überweisung an MVZ_7"),
    {
        "resourceType": "List",
        "id": "some",
        "status": "current",
        "mode": "working",
        "entry": [{"item": {"reference": "Patient/bob"}}, {"item": {"reference": "Observation/two"}}],
    },
    {"resourceType": "Location", "id": "nowhere", "name": "nowhere"},
    *(place(name, *where, "berlin" if name == "hamburg" else "") for name, where in CITIES.items()),
    place("ward", 52.5, 13.4, "hamburg"),
    {
        "resourceType": "Encounter",
        "id": "stay",
        "status": "finished",
        "class": {"code": "IMP"},
        "location": [{"location": {"reference": "Location/ward"}}],
    },
    {
        "resourceType": "QuestionnaireResponse",
        "id": "answers",
        "status": "completed",
        "questionnaire": "http://example.org/pain|2.3",
    },
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FhirStore]:
    with open_store(tmp_path_factory.mktemp("everywhere")) as opened:
        for resource in RESOURCES:
            opened.update(resource)
        yield opened


def found(store: FhirStore, kind: str, **parameters: str) -> set[str]:
    named = {name.replace("__", ":"): value for name, value in parameters.items()}
    return {hit.id for hit in store.search(kind, named, strict=True).matches}


def across(store: FhirStore, parameters: dict[str, str], **more: Any) -> Any:
    plan = store.parse_across(list(parameters.items()), **more)
    return plan, store.run_across(plan)


class TestSeveralTypes:
    def test_pages_of_several_types_have_everything_once(self, store: FhirStore) -> None:
        asked = {"_type": "Patient,Observation,Location", "_count": "4", "_total": "accurate"}
        seen: list[tuple[str, str]] = []
        while True:
            _, page = across(store, asked)
            assert page.total == len(CITIES) + 7
            seen += [(hit.type, hit.id) for hit in page.hits]
            if page.next_cursor is None:
                break
            asked["_cursor"] = page.next_cursor
        wanted = {(r["resourceType"], r["id"]) for r in RESOURCES}
        wanted = {each for each in wanted if each[0] in {"Patient", "Observation", "Location"}}
        assert len(seen) == len(set(seen))
        assert set(seen) == wanted

    @pytest.mark.parametrize("order", ["_lastUpdated", "-_lastUpdated", "_id", "-_id"])
    def test_the_order_is_one_over_all_types(self, store: FhirStore, order: str) -> None:
        asked = {"_sort": order, "_count": "3"}
        seen: list[Any] = []
        while True:
            _, page = across(store, asked)
            for hit in page.hits:
                resource = json.loads(hit.body)
                seen.append(resource["id"] if "id" in order else resource["meta"]["lastUpdated"])
            if page.next_cursor is None:
                break
            asked["_cursor"] = page.next_cursor
        assert len(seen) == len(RESOURCES)
        assert seen == sorted(seen, reverse=order.startswith("-"))

    def test_only_what_all_types_have_in_common_narrows(self, store: FhirStore) -> None:
        plan, page = across(store, {"_type": "Patient,Observation", "code": "8480-6", "_id": "ann,one"})
        assert {hit.id for hit in page.hits} == {"ann", "one"}
        assert ["code" in issue.text for issue in plan.shape.warnings] == [True]
        assert ("code", "8480-6") not in plan.shape.used
        _, page = across(store, {"_type": "Encounter,QuestionnaireResponse", "status": "completed"})
        assert {hit.id for hit in page.hits} == {"answers"}
        with pytest.raises(FhirError) as error:
            across(store, {"_type": "Patient,Observation", "code": "8480-6"}, strict=True)
        assert error.value.http_status == 400
        for bad in ({"_type": "Patience"}, {"_type": "Patient", "_lastUpdated": "x"}):
            with pytest.raises(FhirError):
                across(store, bad)

    def test_words_and_filters_go_over_all_types(self, store: FhirStore) -> None:
        _, page = across(store, {"_content": "muster"})
        assert {(hit.type, hit.id) for hit in page.hits} == {("Patient", "ann")}
        _, page = across(store, {"_filter": "id eq ann or id eq stay", "_summary": "count"})
        assert page.total == 2

    def test_includes_come_along(self, store: FhirStore) -> None:
        _, page = across(
            store, {"_type": "Observation,Encounter", "_id": "one", "_include": "Observation:subject"}
        )
        assert [(hit.id, hit.mode) for hit in page.hits] == [("one", "match"), ("ann", "include")]

    @pytest.mark.parametrize(
        ("scopes", "patient_id", "expected"),
        [
            ("user/Patient.rs", None, {"ann", "bob"}),
            ("patient/Observation.rs patient/Patient.rs", "ann", {"ann", "one", "two", "three"}),
            ("patient/Observation.rs", "bob", set()),
            ("user/Location.rs", None, None),
        ],
    )
    def test_a_token_finds_only_its_types(
        self, store: FhirStore, scopes: str, patient_id: str | None, expected: set[str] | None
    ) -> None:
        parsed = tuple(s for text in scopes.split() if (s := auth.parse_fhir_scope(text)) is not None)
        who = auth.Principal("client:x", scopes=parsed, patient=patient_id)
        asked = {"_type": "Patient,Observation,Encounter", "_revinclude": "Observation:subject"}
        with auth.acting_as(who):
            if expected is None:
                with pytest.raises(FhirError) as error:
                    across(store, asked)
                assert error.value.http_status == 403
                return
            plan, page = across(store, asked)
            with pytest.raises(FhirError):  # it would tell what other types hold
                across(store, {"_type": "Observation", "_filter": "subject.gender eq male"})
        assert {hit.id for hit in page.hits} == expected
        assert any("Encounter was not searched" in issue.text for issue in plan.shape.warnings)

    def test_one_event_for_one_request(self, tmp_path: Path) -> None:
        with open_store(tmp_path) as store:
            store.update(patient(id="ann"))
            across(store, {"_type": "Patient,Observation", "_content": "muster"})
            store.close()
            with store.database.read() as connection:
                rows = connection.execute("SELECT body FROM audit_outbox ORDER BY seq").fetchall()
        searches = [body for (body,) in rows if "fhir.search" in body]
        assert len(searches) == 1
        assert "Patient,Observation" in searches[0]


def own_tokens(text: str) -> list[str]:
    decomposed = unicodedata.normalize("NFD", text)
    bare = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
    return re.findall(r"\w+", bare.casefold())


def own_content(resource: dict[str, Any]) -> set[str]:
    """The words of a resource by another reading: its JSON text, with the markup taken out."""
    shown = {name: value for name, value in resource.items() if name not in {"resourceType", "text"}}
    texts = re.findall(r':\s*"((?:[^"\\]|\\.)*)"|[\[,]\s*"((?:[^"\\]|\\.)*)"(?!\s*:)', json.dumps(shown))
    words = {word for pair in texts for text in pair for word in own_tokens(json.loads(f'"{text}"'))}
    return words | set(own_narrative(resource))


def own_narrative(resource: dict[str, Any]) -> list[str]:
    return own_tokens(html.unescape(re.sub("<.*?>", " ", resource.get("text", {}).get("div", ""))))


class TestWords:
    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("bone", {"one", "two"}),
            ("BONE metastases", {"one", "two"}),
            ("bone and liver", {"two"}),
            ("(bone or liver) and metastases", {"one", "two"}),
            ("bone or liver", {"one", "two", "three"}),
            ("liver and not metastases", {"three"}),
            ("not (liver or hip)", {"one"}),
            ('"the bone"', {"one"}),
            ('"liver bone"', {"two"}),  # one narrative is one text
            ("metast*", {"one", "two"}),
            ('"in the l*"', {"two"}),
            ("hip", set()),
            ("bone,finding", {"one", "two", "three"}),
            ("p", set()),  # markup is no word
        ],
    )
    def test_text(self, store: FhirStore, query: str, expected: set[str]) -> None:
        assert found(store, "Observation", _text=query) == expected

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("hip", {"one"}),
            ("uberweisung", {"three"}),
            ("ÜBERWEISUNG", {"three"}),
            ("MVZ_7", {"three"}),
            ("mvz*", {"three"}),
            ("8480-6", {"one", "two", "three"}),
            ("bone hip", {"one"}),
            ('"hip painful"', {"one"}),
            ('"pressure none"', set()),  # two elements
            ("%", None),
            ("(bone", None),
            ("bone)", None),
            ("or", None),
        ],
    )
    def test_content(self, store: FhirStore, query: str, expected: set[str] | None) -> None:
        if expected is None:
            with pytest.raises(FhirError) as error:
                found(store, "Observation", _content=query)
            assert error.value.http_status == 400
            return
        assert found(store, "Observation", _content=query) == expected

    def test_every_word_finds_what_holds_it(self, store: FhirStore) -> None:
        resources = [json.loads(h.body) for h in store.search("Observation", {}).matches]
        contents = {r["id"]: own_content(r) for r in resources}
        narratives = {r["id"]: set(own_narrative(r)) for r in resources}
        words = set().union(*contents.values()) - {"and", "or", "not"}
        assert len(words) > 30
        for word in sorted(words):
            assert found(store, "Observation", _content=word) == {n for n, w in contents.items() if word in w}
            assert found(store, "Observation", _text=word) == {n for n, w in narratives.items() if word in w}

    def test_chains_and_filters_reach_words(self, store: FhirStore) -> None:
        assert found(store, "Observation", **{"subject:Patient._text": "daughter"}) == {"one", "two", "three"}
        assert found(store, "Patient", _has__Observation__subject___content="hip") == {"ann"}
        assert found(store, "Observation", _filter='_text co "liver" and not (id eq two)') == {"three"}

    def test_updates_and_deletions_are_followed(self, tmp_path: Path) -> None:
        with open_store(tmp_path) as store:
            for n in range(5):
                store.update(note(f"n{n}", f"number{n} alike"))
            assert found(store, "Observation", _text="alike") == {f"n{n}" for n in range(5)}
            store.update(note("n1", "changed"))
            store.delete("Observation", "n2")
            store.update(note("n9", "alike"))
            assert found(store, "Observation", _text="alike") == {"n0", "n3", "n4", "n9"}
            assert found(store, "Observation", _text="number1 or changed") == {"n1"}
            store.update(note("n2", "back"))
            assert found(store, "Observation", _text="back") == {"n2"}
            assert catch_up(store.database) == 0

    def test_a_large_backlog_is_built_over_several_searches(self, tmp_path: Path) -> None:
        with open_store(tmp_path) as store:
            entries = [
                {"resource": note(f"n{n}", "alike"), "request": {"method": "PUT", "url": f"Observation/n{n}"}}
                for n in range(1100)
            ]
            store.transaction({"resourceType": "Bundle", "type": "transaction", "entry": entries})
            with pytest.raises(FhirError) as error:
                catch_up(store.database, most=500)
            assert error.value.http_status == 503
            assert catch_up(store.database) == 600
            page = store.search("Observation", {"_text": "alike", "_summary": "count"})
            assert page.total == 1100

    def test_an_erasure_takes_the_words_along(self, tmp_path: Path) -> None:
        with open_store(tmp_path) as store:
            store.update(patient(id="ann"))
            store.update(note("one", "unmistakable"))
            assert found(store, "Observation", _text="unmistakable") == {"one"}
            store.update(note("one", "unmistakable too"))  # waits to be read again

            def erase(cursor: Any) -> None:
                erase_fhir_in(cursor, fhir_footprint(cursor, ["12345678"]))

            store.database.write(erase)
            with store.database.read() as connection:
                counts = [
                    connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TEXT_TABLES
                ]
            assert counts == [0, 0, 0]
            store.update(note("three", "another"))
            assert found(store, "Observation", _text="another") == {"three"}

    def test_conditions_of_writes_refuse_them(self, store: FhirStore) -> None:
        with pytest.raises(FhirError) as error:
            store.create(patient(), if_none_exist="_content=muster")
        assert error.value.http_status == 400


def cosine_km(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Great circle distance by the spherical law of cosines."""
    a, b = math.radians(one[0]), math.radians(other[0])
    turn = math.radians(one[1] - other[1])
    inner = math.sin(a) * math.sin(b) + math.cos(a) * math.cos(b) * math.cos(turn)
    return EARTH_RADIUS_KM * math.acos(max(-1.0, min(1.0, inner)))


class TestNear:
    @pytest.mark.parametrize("centre", [*CITIES.values(), (-18.0, -179.9), (-90.0, 0.0), (51.0, 13.0)])
    @pytest.mark.parametrize("distance_km", [1.0, 30.0, 256.0, 1200.0, 6000.0, 19_000.0, 30_000.0])
    def test_agrees_with_the_law_of_cosines(
        self, store: FhirStore, centre: tuple[float, float], distance_km: float
    ) -> None:
        places = {**CITIES, "ward": (52.5, 13.4)}
        expected = {name for name, where in places.items() if cosine_km(centre, where) <= distance_km}
        near = f"{centre[0]}|{centre[1]}|{distance_km}|km"
        assert found(store, "Location", near=near) == expected

    def test_one_degree_of_a_meridian(self, store: FhirStore) -> None:
        degree_km = 2 * math.pi * 6371.0088 / 360
        near = "1|0|{}|{}"
        for factor, hit in ((0.999999, False), (1.000001, True)):
            length = degree_km * factor
            for value, unit in ((length, "km"), (length * 1000, "m"), (length / 1.609344, "[mi_i]")):
                assert ("null" in found(store, "Location", near=near.format(value, unit))) is hit

    def test_defaults_alternatives_and_refusals(self, store: FhirStore) -> None:
        assert found(store, "Location", near="52.5|13.4") == {"berlin", "ward"}
        assert found(store, "Location", near="0|0|5,48.2|16.4|5") == {"null", "vienna"}
        assert found(store, "Location", near__missing="true") == {"nowhere"}
        for bad in ("1", "91|0", "0|181", "a|b", "0|0|-1", "0|0|1|parsec", "0|0|1|km|x", "nan|0", "1e999|0"):
            with pytest.raises(FhirError) as error:
                found(store, "Location", near=bad)
            assert error.value.http_status == 400
        with pytest.raises(FhirError):
            store.search("Location", {"_sort": "near"}, strict=True)

    def test_an_update_moves_a_place(self, tmp_path: Path) -> None:
        with open_store(tmp_path) as store:
            store.update(place("van", 10, 10))
            store.update(place("van", 20, 20))
            assert found(store, "Location", near="10|10") == set()
            assert found(store, "Location", near="20|20") == {"van"}


class TestListsAndHierarchies:
    def test_members_of_a_list(self, store: FhirStore) -> None:
        assert found(store, "Patient", _list="some") == {"bob"}
        assert found(store, "Observation", _list="List/some", code="8480-6") == {"two"}
        assert found(store, "Patient", _list="other") == set()
        with pytest.raises(FhirError):
            found(store, "Patient", _list="$current-allergies")

    @pytest.mark.parametrize(
        ("kind", "name", "value", "expected"),
        [
            ("Encounter", "location:below", "berlin", {"stay"}),
            ("Encounter", "location:below", "Location/hamburg", {"stay"}),
            ("Encounter", "location:below", "ward", {"stay"}),
            ("Encounter", "location:below", "vienna", set()),
            ("Location", "partof:below", "Location/berlin", {"hamburg", "ward"}),
            ("Location", "partof:above", "Location/ward", {"hamburg", "ward"}),
            ("Location", "partof:above", "Location/berlin", {"hamburg"}),
            (
                "QuestionnaireResponse",
                "questionnaire:below",
                "http://example.org/pain",
                {"answers"},
            ),
            (
                "QuestionnaireResponse",
                "questionnaire:below",
                "http://example.org/pain|2",
                {"answers"},
            ),
            (
                "QuestionnaireResponse",
                "questionnaire:below",
                "http://example.org/pain|2.3",
                {"answers"},
            ),
            (
                "QuestionnaireResponse",
                "questionnaire:below",
                "http://example.org/pain|2.30",
                set(),
            ),
            ("QuestionnaireResponse", "questionnaire", "http://example.org/pain", {"answers"}),
            (
                "QuestionnaireResponse",
                "questionnaire",
                "http://example.org/pain|2.3",
                {"answers"},
            ),
            ("Patient", "_id:missing", "false", {"ann", "bob"}),
            ("Patient", "_lastUpdated:missing", "true", set()),
        ],
    )
    def test_up_and_down(
        self, store: FhirStore, kind: str, name: str, value: str, expected: set[str]
    ) -> None:
        assert {hit.id for hit in store.search(kind, {name: value}, strict=True).matches} == expected

    @pytest.mark.parametrize(
        ("kind", "name", "value"),
        [
            ("Observation", "subject:below", "Patient/ann"),
            ("Encounter", "location:below", "Location/a/b"),
            ("QuestionnaireResponse", "questionnaire:above", "http://example.org/x"),
        ],
    )
    def test_refuses_where_there_is_no_hierarchy(
        self, store: FhirStore, kind: str, name: str, value: str
    ) -> None:
        with pytest.raises(FhirError) as error:
            store.search(kind, {name: value}, strict=True)
        assert error.value.http_status == 400

    def test_a_circle_of_parts_ends(self, tmp_path: Path) -> None:
        with open_store(tmp_path) as store:
            store.update(place("a", 0, 0, "b"))
            store.update(place("b", 0, 0, "a"))
            assert found(store, "Location", partof__below="Location/a") == {"a", "b"}
            assert found(store, "Location", partof__above="Location/a") == {"a", "b"}
