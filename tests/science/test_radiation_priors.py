"""What is believed of radiation before it is seen: sources, histology, plausible medians."""

from __future__ import annotations

import numpy as np
import pytest

from digital_twins.patient_modeling._priors import growth_priors, tumour_family
from digital_twins.patient_modeling._radiation_priors import SITES
from digital_twins.treatment_simulation import TreatmentSimulator
from tumour_phantom import new_twin

COURSE = {"type": "radiation", "total_dose_gy": 60, "fractions": 30}


@pytest.mark.parametrize(
    ("diagnosis", "family", "alpha", "ratio"),
    [
        ("Non-small cell lung cancer", "lung", 0.305, 2.8),
        ("Glioblastoma", "glioma", 0.06, 8.0),
        ("Breast cancer", "breast", 0.08, 2.9),
        ("Hepatocellular carcinoma", "liver", 0.010, 15.0),
        ("HNSCC", "head_and_neck", 0.25, 10.0),
        ("Sarcoma", "tumour", 0.15, 10.0),
    ],
)
def test_each_site_has_its_own_response_with_a_source(diagnosis, family, alpha, ratio):
    data = {"diagnosis": diagnosis}
    assert tumour_family(data) == family
    priors = {prior.name: prior for prior in growth_priors(family, data)}
    assert priors["alpha_per_gy"].median == alpha
    assert priors["alpha_beta_gy"].median == ratio
    assert priors["clearance_half_life_days"].median == 45.0
    assert all(len(priors[name].source) > 10 for name in ("alpha_per_gy", "clearance_half_life_days"))
    assert set(SITES) >= {family}


def test_histology_of_a_lung_tumour_decides_the_clearance():
    """Chvetsov 2008: 28.2 d for squamous-cell carcinoma, 72.4 d for adenocarcinoma."""

    def days(diagnosis):
        priors = growth_priors("lung", {"diagnosis": diagnosis})
        return next(p.median for p in priors if p.name == "clearance_half_life_days")

    assert days("squamous cell carcinoma of the lung") == 28.2
    assert days("adenocarcinoma of lung") == 72.4
    assert days("lung cancer") == 45.0


def test_a_lung_tumour_shrinks_gradually_under_60_gy():
    """It does not vanish at once, nor grow: the seeds' course, 60 Gy in 30 fractions."""
    twin = new_twin(clinical_data={"diagnosis": "non-small cell lung cancer"})
    response = TreatmentSimulator(twin).predict_response(COURSE, 90, samples=24)
    volumes = response.prediction.volume_cm3 / response.prediction.volume_cm3[0]
    days = response.prediction.days
    assert 0.6 < np.interp(14.0, days, volumes) < 1.0
    assert 0.15 < np.interp(90.0, days, volumes) < 0.5
    assert np.all(np.diff(volumes) < 0.0)
    assert response.volume_change_high < 0.0
    assert any("half-life of 45 days" in words for words in response.assumptions)


def test_twins_without_the_parameter_behave_as_before():
    """A twin saved by an earlier version has no clearance: killed cells vanish at once."""
    twin = new_twin()
    belief = twin.snapshot.belief.values
    old = {name: value for name, value in belief.items() if name != "clearance_half_life_days"}
    simulator, days = twin._simulator, np.array([0.0, 30.0])
    course = [twin._parsed(COURSE)]
    states = [(s.dead is None, simulator.visible_cm3(s)) for s in simulator.observed(old, course, days)]
    plain = [simulator.volume_cm3(state) for _, state in simulator.states(old, course, days)]
    assert states == [(True, plain[0]), (True, plain[1])]
    assert simulator.volumes_cm3(belief, course, days)[1] > plain[1]
