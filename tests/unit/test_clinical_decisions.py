"""The order of treatment options: by hand-made responses, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from digital_twins import InputError
from digital_twins.clinical_integration import (
    ClinicalDecisionSupport,
    ClinicalTwin,
    Recommendations,
    _decisions as decisions,
)
from digital_twins.clinical_integration._options import protocol_of
from digital_twins.records import PatientRecord, parse_treatment
from digital_twins.treatment_simulation import EventTimes

RECORD = PatientRecord(patient_id="MRN-1")
COURSES = {  # days to progression of four members, by the kind of the first treatment
    "observation": [42.0, 42.0, 84.0, 84.0],
    "radiation": [np.nan, np.nan, np.nan, 84.0],
    "surgery": [np.nan, np.nan, 126.0, 84.0],
}


class Simulator:
    """Answers with the courses above."""

    def __init__(self, _twin: object) -> None:
        pass

    def compare(self, plans: list[list[dict[str, Any]]], horizon_days: float, **_: Any) -> list[Any]:
        found = []
        for plan in plans:
            treatments = tuple(parse_treatment(each, body_surface_area_m2=1.8) for each in plan)
            days = np.array(COURSES[treatments[0].kind])
            found.append(
                SimpleNamespace(
                    treatments=treatments,
                    horizon_days=horizon_days,
                    time_to_progression=EventTimes(days, horizon_days),
                    assumptions=(),
                )
            )
        return found


@pytest.fixture
def support(monkeypatch: pytest.MonkeyPatch) -> ClinicalDecisionSupport:
    monkeypatch.setattr(decisions, "TreatmentSimulator", Simulator)
    twin: Any = SimpleNamespace(clinical_data={})
    return ClinicalDecisionSupport(ClinicalTwin(record=RECORD, tumor=twin))


def order(found: Recommendations) -> list[tuple[str, float]]:
    return [(each.option, round(each.score.value, 6)) for each in found]


def test_scores_are_those_of_the_equation_and_a_preference_changes_the_order(
    support: ClinicalDecisionSupport,
) -> None:
    options = ["observation", "surgery", "radiation"]
    found = support.generate_recommendations(options, "overall_survival")
    assert order(found) == [("radiation", 156.0), ("surgery", 142.5), ("observation", 63.0)]
    assert [each.rank for each in found] == [1, 2, 3]
    # members 1 and 2 tie, radiation wins member 3, all three share member 4
    shares = {each.option: each.probability_best for each in found}
    assert shares == pytest.approx({"radiation": 7 / 12, "surgery": 4 / 12, "observation": 1 / 12})
    days = {each.option: each.treatment_days for each in found}
    assert (days["observation"], days["surgery"]) == (0.0, 28.0)
    assert 40 <= days["radiation"] <= 42

    weighed = support.generate_recommendations(
        options, patient_preferences={"quality_of_life": "high_priority"}
    )
    scores = dict(order(weighed))
    assert scores["radiation"] == pytest.approx(156.0 - 0.5 * days["radiation"])
    assert scores["surgery"] == pytest.approx(142.5 - 14.0)
    assert "0.5 of each day under treatment" in weighed.target

    quality = dict(order(support.generate_recommendations(options, "quality_adjusted_life_years")))
    assert quality["observation"] == pytest.approx(0.653 * 63.0 + 0.473 * 117.0)


def test_a_preference_for_quality_of_life_turns_close_options_round(
    support: ClinicalDecisionSupport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(COURSES, "surgery", [np.nan, np.nan, np.nan, 80.0])
    plain = support.generate_recommendations(["surgery", "radiation"])
    assert [each.option for each in plain] == ["radiation", "surgery"]
    weighed = support.generate_recommendations(
        ["surgery", "radiation"], patient_preferences={"quality_of_life": "high_priority"}
    )
    assert [each.option for each in weighed] == ["surgery", "radiation"]


@pytest.mark.parametrize(
    ("options", "target", "preferences"),
    [
        ([], "overall_survival", {}),
        (["homeopathy"], "overall_survival", {}),
        (["surgery"], "profit", {}),
        (["surgery"], "overall_survival", {"quality_of_life": "much"}),
        (["surgery"], "overall_survival", {"colour": "high_priority"}),
    ],
)
def test_what_is_not_known_is_refused(
    support: ClinicalDecisionSupport, options: list[str], target: str, preferences: dict[str, str]
) -> None:
    with pytest.raises(InputError):
        support.generate_recommendations(options, target, preferences)


def test_a_glioma_gets_its_own_protocol_and_a_dictionary_is_taken_as_it_is() -> None:
    brain = protocol_of("chemoradiation", {"diagnosis": "Glioblastoma"})
    assert [each.get("drug") for each in brain[1]] == [None, "temozolomide"]
    lung = protocol_of("chemoradiation", {"diagnosis": "Adenocarcinoma of lung"})
    assert [each.get("drug") for each in lung[1]] == [None, "cisplatin", "etoposide"]
    own = {"type": "radiation", "total_dose_gy": 50, "fractions": 25}
    assert protocol_of(own, {}) == ("radiation", [own], "")


def test_without_a_record_nothing_is_exported(support: ClinicalDecisionSupport) -> None:
    with pytest.raises(InputError, match="without a connector"):
        support.export_to_fhir(Recommendations((), "", 180.0))
