"""The exact Jacobian of a calibration against finite differences, and the fits that both give."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest

from digital_twins import InputError
from digital_twins.models import (
    Direction,
    Domain,
    Forcing,
    GradientOptions,
    ReactionDiffusionModel,
    SurvivalMap,
    _active as active,
    lq_log_survival,
    tangents_with_dead_cells,
    trajectory_with_dead_cells,
)
from digital_twins.patient_modeling import (
    CalibrationSettings,
    PatientTwin,
    TumorTwinPipeline,
    _observations as observations,
)
from digital_twins.patient_modeling._observations import Likelihood
from image_phantom import image_patient
from tumour_phantom import CHEMOTHERAPY, RADIATION, ball, follow_up

THRESHOLD = 0.16
DAYS = (2.0, 11.0, 30.0, 55.0)
VALUES = {"D": 0.13, "k": 0.061, "alpha": 0.06, "drug": 0.9, "scale": 1.0, "clearance": 20.0}


class DoubleModel(ReactionDiffusionModel):
    """The same equation, always in double precision."""

    def trajectory(self, *given, **named):
        return super().trajectory(*given, **{**named, "precision": "float64"})


@pytest.fixture
def double(monkeypatch):
    """Both ways in double precision and on the whole domain, so that differences are differences."""
    monkeypatch.setattr(active, "_WORTH", 0.0)
    simulator = "digital_twins.patient_modeling._simulator.ReactionDiffusionModel"
    monkeypatch.setattr(simulator, DoubleModel)
    exact = functools.partial(observations.observed_tangents, precision="float64")
    monkeypatch.setattr(observations, "observed_tangents", exact)


def _case(values):
    """A ball under two fractions a day, a second course and a drug."""
    shape, spacing_mm = (14, 20, 19), (2.0, 1.5, 1.5)
    axes = [(np.arange(n) - (n - 1) / 2) * h for n, h in zip(shape, spacing_mm, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    density = values["scale"] * 0.7 / (1.0 + np.exp((np.sqrt(z**2 + 0.8 * y**2 + x**2) - 7.0) / 2.0))
    fractions = np.array([4.0, 4.25, 5.0, 6.0, 7.0, 13.5, 33.0])
    forcing = Forcing(
        fractions,
        lq_log_survival(np.full(fractions.size, 2.0), values["alpha"], 10.0),
        [1.0, 20.0, 40.0],
        values["drug"] * np.ones(3),
        [1.2, 9.242, 0.1],
    )
    model = DoubleModel(values["D"], values["k"])
    return model, density, Domain(np.ones(shape, dtype=bool), spacing_mm), forcing


def _volumes(values):
    model, density, domain, forcing = _case(values)
    return np.array(
        [
            state.visible_volume_mm3(THRESHOLD, voxel_volume_mm3=4.5)
            for state in trajectory_with_dead_cells(
                model,
                density,
                domain,
                output_days=DAYS,
                forcing=forcing,
                clearance_half_life_days=values["clearance"],
            )
        ]
    )


def test_tangents_of_the_visible_volume_equal_central_differences(double) -> None:
    """Before any cell is dead, during the course, and while dead cells are cleared."""
    model, density, domain, forcing = _case(VALUES)
    directions = {
        "D": Direction(diffusion_coefficient=VALUES["D"]),
        "k": Direction(proliferation_rate=VALUES["k"]),
        "alpha": Direction(jump_log_survival=forcing.jump_log_survival),
        "drug": Direction(amplitude_per_day=forcing.amplitude_per_day),
        "scale": Direction(initial_density=density),
        "clearance": Direction(clearance_half_life_days=VALUES["clearance"]),
    }
    found = [
        each.visible_volume_mm3(THRESHOLD, voxel_volume_mm3=4.5)
        for each in tangents_with_dead_cells(
            model,
            density,
            domain,
            output_days=DAYS,
            directions=list(directions.values()),
            forcing=forcing,
            clearance_half_life_days=VALUES["clearance"],
            options=GradientOptions(),
        )
    ]
    assert [volume for volume, _ in found] == pytest.approx(_volumes(VALUES), rel=1e-12)
    by = np.array([moved for _, moved in found])
    step = 1e-5
    for index, name in enumerate(directions):
        up, down = ({**VALUES, name: VALUES[name] * math.exp(s)} for s in (step, -step))
        expected = (_volumes(up) - _volumes(down)) / (2.0 * step)
        assert np.any(expected), name
        error = np.linalg.norm(by[:, index] - expected) / np.linalg.norm(expected)
        assert error <= 1e-5, (name, error)


def _likelihood(kinds: tuple[str, ...]) -> tuple[Likelihood, dict[str, float], list[str]]:
    """A noisy patient with radiation and a drug, seen by volumes and images."""
    made = image_patient(3, history=[RADIATION, CHEMOTHERAPY], carries=True)
    assert made is not None
    twin = made.twin
    visits, _ = twin._new_visits(made.scans)
    treatments = twin._given([RADIATION, CHEMOTHERAPY])
    drug = f"drug_sensitivity:{CHEMOTHERAPY['drug']}"
    values = {**twin.snapshot.belief.values, drug: 0.4}
    names = [*("diffusion_mm2_per_day", "proliferation_per_day"), "alpha_per_gy", drug]
    likelihood = Likelihood(twin._simulator, visits, treatments, values, observations=kinds)
    return likelihood, values, [*names, "clearance_half_life_days", "baseline_volume_scale"]


def test_jacobian_of_a_likelihood_equals_central_differences(double) -> None:
    """Volumes, diffusion maps and PET of a patient under radiation and a drug."""
    likelihood, values, names = _likelihood(("volume", "cellularity", "uptake"))
    assert likelihood.tangents_missing is None
    residuals, jacobian = likelihood.with_tangents(values, names)
    np.testing.assert_allclose(residuals, likelihood(values), rtol=1e-9, atol=1e-9)
    step = 1e-5
    for index, name in enumerate(names[:-1]):
        up, down = ({**values, name: values[name] * math.exp(s)} for s in (step, -step))
        expected = (likelihood(up) - likelihood(down)) / (2.0 * step)
        error = np.linalg.norm(jacobian[:, index] - expected) / np.linalg.norm(expected)
        assert error <= 1e-5, (name, error)
    # The baseline density is kept in single precision, so a larger step: its table of shifts has kinks.
    step = 2e-3
    up, down = ({**values, names[-1]: math.exp(s)} for s in (step, -step))
    expected = (likelihood(up) - likelihood(down)) / (2.0 * step)
    assert np.linalg.norm(jacobian[:, -1] - expected) <= 0.05 * np.linalg.norm(expected)


def test_slope_of_the_baseline_density(double) -> None:
    """Away from the table's kinks, the derivative of the single-precision profile."""
    _, mask = ball(16.0, shape=(16, 32, 32))
    simulator = TumorTwinPipeline().create_twin("SMALL", None, mask)._simulator
    scale = float(np.exp(0.5 * np.log(simulator._shift_table[1])[24:26].sum()) / simulator.lesion_volume_cm3)
    step = 5e-3
    up, down = (simulator.density(scale * math.exp(s)).astype(float) for s in (step, -step))
    slope = simulator.density_slope(scale)
    assert np.linalg.norm(slope - (up - down) / (2 * step)) <= 1e-3 * np.linalg.norm(slope)
    assert not simulator.density_slope(1e-6).any(), "beyond the table the density stays"


def _calibrated(jacobian: str, history: list) -> tuple[PatientTwin, str | None, int]:
    _, mask = ball(16.0, shape=(16, 32, 32))
    twin = TumorTwinPipeline().create_twin("SMALL", None, mask)
    truth = {"diffusion_mm2_per_day": 0.06, "proliferation_per_day": 0.035}
    seen = follow_up(twin, truth, (28.0, 56.0, 84.0, 112.0), noise=0.1, seed=3, treatments=history)
    result = twin.calibrate(seen.scans, history, settings=CalibrationSettings(jacobian=jacobian))
    return twin, result.jacobian, result.evaluations


@pytest.mark.parametrize("history", [[], [RADIATION], [CHEMOTHERAPY]])
def test_both_jacobians_lead_to_the_same_fit(history) -> None:
    exact, told, _ = _calibrated("tangent", history)
    plain, also, _ = _calibrated("finite_difference", history)
    assert (told, also) == ("tangent", "finite_difference")
    first, second = exact.snapshot.belief, plain.snapshot.belief
    spread = np.sqrt(np.diag(second.log_covariance))
    free = spread > 0.0
    assert np.abs((first.log_mean - second.log_mean)[free] / spread[free]).max() < 0.2
    assert np.sqrt(np.diag(first.log_covariance))[free] == pytest.approx(spread[free], rel=0.1)
    assert exact.calibration.cost <= plain.calibration.cost + 5e-3


def test_what_the_tangents_do_not_cover_takes_differences_and_says_so() -> None:
    _, told, _ = _calibrated("tangent", [{"type": "surgery", "day": 10.0, "extent_of_resection": 0.3}])
    assert told == "finite_difference"
    shape, *_ = _likelihood(("volume", "shape"))
    assert "patches" in str(shape.tangents_missing)


def test_unknown_jacobians_and_what_has_no_tangents_are_refused() -> None:
    with pytest.raises(InputError, match="Jacobian 'adjoint' is not known"):
        CalibrationSettings(jacobian="adjoint")
    model, density, domain, _ = _case(VALUES)
    cut = Forcing(survival_maps=(SurvivalMap(3.0, np.ones(domain.shape)),))
    for forcing, half_life, match in ((cut, 20.0, "no survival maps"), (Forcing(), -1.0, "half-life")):
        with pytest.raises(InputError, match=match):
            tangents_with_dead_cells(
                model,
                density,
                domain,
                output_days=DAYS,
                directions=[Direction(proliferation_rate=1.0)],
                forcing=forcing,
                clearance_half_life_days=half_life,
                options=GradientOptions(),
            )
