"""Every kind of treatment on a twin, alone and together, in any order, and in its history."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from digital_twins import InputError
from digital_twins.models import ReactionDiffusionModel, SplittingOptions, coupled_trajectory
from digital_twins.patient_modeling import PatientTwin, forcing_for
from digital_twins.patient_modeling._immune_forcing import immune_courses
from digital_twins.patient_modeling._treatment_priors import completed, treatment_priors
from digital_twins.records import parse_treatment
from digital_twins.treatment_simulation import TreatmentSimulator, compare_protocols
from tumour_phantom import follow_up, new_twin

ANTIBODY = {
    "type": "immunotherapy",
    "drug": "pembrolizumab",
    "dose_mg": 200,
    "schedule": "every_3_weeks",
    "cycles": 4,
}
TARGETED = {"drug": "erlotinib", "dose_mg": 150, "schedule": "daily", "duration_days": 42, "day": 7}
RADIATION = {"type": "radiation", "total_dose_gy": 20, "fractions": 10, "day": 20}
CHEMOTHERAPY = {"drug": "paclitaxel", "dose_mg": 315, "days": [5, 26]}
SURGERY = {"type": "surgery", "day": 30, "margin_mm": 2}
OBSERVATION = {"type": "observation"}
KINDS = [ANTIBODY, TARGETED, RADIATION, CHEMOTHERAPY, SURGERY]


@pytest.fixture(scope="module")
def twin() -> PatientTwin:
    return new_twin(10.0, clinical_data={"diagnosis": "lung"})


def test_the_order_in_a_list_changes_nothing(twin: PatientTwin) -> None:
    orders = [*itertools.islice(itertools.permutations(KINDS), 0, 120, 119)]
    finals = [twin.predict(60, treatments=order, samples=8).samples_cm3 for order in orders]
    for other in finals[1:]:
        np.testing.assert_allclose(other, finals[0], rtol=1e-4, atol=1e-4)


def test_more_treatment_never_leaves_more_tumour(twin: PatientTwin) -> None:
    plans: list[list[dict[str, object]]] = [[OBSERVATION], *([kind] for kind in KINDS), KINDS]
    responses = TreatmentSimulator(twin).compare(plans, 63, samples=8)
    finals = [r.prediction.samples_cm3[:, -1] for r in responses]
    for final in finals[1:-1]:
        assert np.all(final <= finals[0] + 1e-9)
        assert np.all(finals[-1] <= final + 1e-3)
        assert final.sum() < finals[0].sum()
    assert "independently" in responses[-1].assumptions[-1]
    assert responses[0].criteria_label == "RECIST 1.1, predicted, target lesions only"
    table = compare_protocols(responses)
    assert [row["smaller_than_first"] for row in table.rows[1:]] == [1.0] * 6
    assert table.rows[0]["volume_ratio_to_first"] == 1.0
    assert table.to_markdown().count("\n") == len(plans) + 1
    assert all(row["nadir_day"] >= 0.0 for row in table.rows)
    with pytest.raises(InputError, match="cannot be compared"):
        compare_protocols([responses[0], TreatmentSimulator(twin).predict_response(RADIATION, 30, samples=8)])


def test_a_block_as_a_forcing_is_the_coupled_course(twin: PatientTwin) -> None:
    """Effectors solved beside tumour and radiation in splits of half a day, against the twin's own course."""
    parameters = {**twin.snapshot.belief.values, "immune_kill_per_day:pd1": 0.05}
    parameters |= {"effector_turnover_per_day": 0.0412, "immune_half_burden_cm3": 0.02}
    block, radiation = twin._parsed(ANTIBODY), twin._parsed(RADIATION)
    simulator = twin._simulator
    _, courses = immune_courses([block], parameters)
    (fine,) = coupled_trajectory(
        ReactionDiffusionModel(parameters["diffusion_mm2_per_day"], parameters["proliferation_per_day"]),
        simulator.density(),
        simulator.solver_domain,
        days=[60.0],
        courses=courses,
        forcing=forcing_for([radiation], parameters),
        options=SplittingOptions(split_days=0.5),
    )
    ((_, state),) = simulator.states(parameters, [block, radiation], np.array([60.0]))
    assert np.linalg.norm(state - fine.density) / np.linalg.norm(fine.density) < 3e-3


def test_surgery_before_and_after_radiation_differ_by_time_alone(twin: PatientTwin) -> None:
    """Radiation before surgery acts on everything, after it on the rest: with no growth between, the same."""
    parameters = {**twin.snapshot.belief.values, "proliferation_per_day": 1e-9, "diffusion_mm2_per_day": 1e-9}
    mask = {"type": "surgery", "resection_mask": twin.lesion}
    radiation = {"type": "radiation", "total_dose_gy": 10, "fractions": 5, "days": [10, 11, 12, 13, 14]}
    ends = []
    for day in (5.0, 20.0):
        course = [twin._parsed({**mask, "day": day}), twin._parsed(radiation)]
        *_, (_, state) = twin._simulator.states(parameters, course, np.array([0.0, 30.0]))
        ends.append(state.copy())
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-5, atol=1e-7)


def test_what_one_plan_adds_leaves_the_rest_of_the_ensemble_alone() -> None:
    members = [{"proliferation_per_day": 0.01 * i} for i in range(1, 9)]
    plain = completed(members, [parse_treatment(RADIATION)], seed=3)
    assert plain == members
    one = completed(members, [parse_treatment(TARGETED)], seed=3)
    both = completed(members, [parse_treatment(ANTIBODY), parse_treatment(TARGETED)], seed=3)
    name = "resistant_fraction:erlotinib"
    assert [m[name] for m in one] == [m[name] for m in both]
    assert one == completed(members, [parse_treatment(TARGETED)], seed=3)
    assert one != completed(members, [parse_treatment(TARGETED)], seed=4)


def test_every_prior_names_its_source() -> None:
    given = [parse_treatment(t) for t in (ANTIBODY, TARGETED, {**TARGETED, "drug": "osimertinib"})]
    for prior in treatment_priors(given):
        assert len(prior.source) > 20
    assert {p.name for p in treatment_priors(given)} >= {
        "immune_kill_per_day:pd1",
        "resistant_fraction:osimertinib",
    }
    forcing = forcing_for(given[1:], {p.name: p.median for p in treatment_priors(given)})
    assert forcing.cumulative_log_kill([300.0])[0] > 1.0


@pytest.mark.parametrize(
    ("plan", "name", "truth"),
    [
        ({**ANTIBODY, "cycles": 6}, "immune_kill_per_day:pd1", 0.05),
        ({**TARGETED, "duration_days": 80, "day": 10}, "targeted_sensitivity:erlotinib", 1.2),
    ],
)
def test_effects_are_calibrated_from_history(plan: dict[str, object], name: str, truth: float) -> None:
    twin = new_twin(14.0, clinical_data={"diagnosis": "lung"})
    parsed = twin._parsed(plan)
    values = {prior.name: prior.median for prior in treatment_priors([parsed])}
    true = {**values, name: truth, "proliferation_per_day": 0.03, "diffusion_mm2_per_day": 0.05}
    seen = follow_up(twin, true, [9.0, 20.0, 30.0, 40.0], treatments=[parsed])  # type: ignore[list-item]
    assert seen.true_volumes_cm3.min() > 0.5
    result = twin.calibrate(seen.scans, [plan])
    estimate = result.estimates[name]
    assert estimate.source == "calibrated"
    assert estimate.low < truth < estimate.high
    prior = next(p for p in treatment_priors([parsed]) if p.name == name)
    assert np.log(estimate.high / estimate.low) < 0.75 * 2 * 1.96 * prior.log_sd
    response = TreatmentSimulator(twin).predict_response(plan, 42, samples=8)
    assert not any("not calibrated" in words for words in response.assumptions)


def test_antibodies_before_the_baseline_still_act(twin: PatientTwin) -> None:
    parameters = {**twin.snapshot.belief.values, "immune_kill_per_day:pd1": 0.05}
    parameters |= {"effector_turnover_per_day": 0.0412, "immune_half_burden_cm3": 0.02}
    days = np.array([0.0, 7.0])
    volumes = {}
    for name, given in {"none": [], "early": [{**ANTIBODY, "day": -63}], "now": [ANTIBODY]}.items():
        course = [twin._parsed(t) for t in given]
        volumes[name] = twin._simulator.volumes_cm3(parameters, course, days)[-1]
    assert volumes["early"] < volumes["now"] < volumes["none"]


@pytest.mark.full
@pytest.mark.parametrize(
    ("plan", "horizon", "expected"),
    [
        # response rates that the priors were chosen to reproduce: KEYNOTE-010; FLAURA
        ({**ANTIBODY, "cycles": 9}, 126, 0.18),
        ({**TARGETED, "duration_days": 180, "day": 0}, 84, 0.76),
    ],
)
def test_priors_reproduce_the_response_rates_that_they_name(
    plan: dict[str, object], horizon: float, expected: float
) -> None:
    twin = new_twin(16.0, clinical_data={"diagnosis": "nsclc"})
    response = TreatmentSimulator(twin).predict_response(plan, horizon, samples=128)
    assert response.response_probability == pytest.approx(expected, abs=0.12)
