"""Figures of twins: what they say, that they are the same every time, and what they refuse."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest

from digital_twins import InputError
from digital_twins.patient_modeling import PatientTwin, Prediction
from digital_twins.plotting import (
    EventFree,
    Outcome,
    Picture,
    event_free_curves,
    fit_quality,
    parameter_posterior,
    predicted_slices,
    response_waterfall,
    twin_course,
)
from digital_twins.records import Quantity
from tumour_phantom import CHEMOTHERAPY, RADIATION, follow_up, new_twin


def words(svg: bytes) -> str:
    """Texts of a figure: matplotlib names each in a comment beside its outlines."""
    return " | ".join(re.findall(r"<!-- (.*?) -->", svg.decode()))


@pytest.fixture(scope="module")
def twin() -> PatientTwin:
    made = new_twin()
    scans = follow_up(made, {"proliferation_per_day": 0.03}, [28.0, 56.0], treatments=[CHEMOTHERAPY]).scans
    made.calibrate(scans, [CHEMOTHERAPY])
    return made


@pytest.fixture(scope="module")
def forecast(twin: PatientTwin) -> Prediction:
    return twin.predict(42, treatments=[RADIATION], samples=16)


def test_course_shows_scans_forecast_and_treatments(twin: PatientTwin, forecast: Prediction) -> None:
    picture = twin_course(twin, forecast)
    said = words(picture)
    for text in ("segmented", "last observation", "95 % interval", "time since baseline (days)", "(planned)"):
        assert text in said
    assert "paclitaxel" in said
    assert picture == twin_course(twin, forecast)
    assert "paclitaxel" not in words(twin_course(new_twin(), new_twin().predict(14, samples=8)))


def test_posterior_shows_every_uncertain_parameter(twin: PatientTwin) -> None:
    picture = parameter_posterior(twin, truth={"proliferation_per_day": 0.03})
    said = words(picture)
    for text in (
        "proliferation",
        "diffusion",
        "drug sensitivity: paclitaxel",
        "prior",
        "calibrated",
        "per day",
    ):
        assert text in said
    assert "alpha, not informed by data" in said
    assert "beta" not in said  # alpha over beta is held fixed
    assert picture == parameter_posterior(twin, truth={"proliferation_per_day": 0.03})
    fixed = SimpleNamespace(snapshot=SimpleNamespace(belief=SimpleNamespace(priors=())))
    with pytest.raises(InputError, match="no parameter"):
        parameter_posterior(fixed)


def test_fit_shows_residuals_and_correlations(twin: PatientTwin) -> None:
    picture = fit_quality(twin)
    said = words(picture)
    belief = twin.snapshot.belief
    i, j = (belief.names.index(n) for n in ("diffusion_mm2_per_day", "proliferation_per_day"))
    covariance = belief.log_covariance
    expected = covariance[i, j] / np.sqrt(covariance[i, i] * covariance[j, j])
    assert f"{expected:.2f}".replace("-", "\u2212") in said or f"{expected:.2f}" in said
    assert "residual (standard deviations)" in said
    assert picture == fit_quality(twin)
    with pytest.raises(InputError, match="never calibrated"):
        fit_quality(new_twin())


def test_slices_name_what_is_predicted(twin: PatientTwin, forecast: Prediction) -> None:
    said = words(predicted_slices(twin, forecast, [0, 56, 98], image_format="svg"))
    assert "day 98, PREDICTED" in said
    assert "day 56, PREDICTED" not in said
    assert predicted_slices(twin, forecast, [98]) == predicted_slices(twin, forecast, [98])
    with pytest.raises(InputError, match="does not cover"):
        predicted_slices(twin, forecast, [500])
    for days in ([], [0] * 7):
        with pytest.raises(InputError, match="days were given"):
            predicted_slices(twin, forecast, days)


def test_waterfall_is_in_falling_order_and_names_categories() -> None:
    outcomes = [
        Outcome("shrinks", Quantity(-70, "%", -80, -60), "partial response"),
        Outcome("grows", Quantity(90, "%", 60, 120), "progressive disease"),
        Outcome("rests", Quantity(5, "%", -5, 20), "stable disease"),
    ]
    said = words(response_waterfall(outcomes, horizon_days=90, limits_percent=(-66, 73)))
    assert said.index("grows") < said.index("rests") < said.index("shrinks")
    assert "partial response" in said
    assert "on day 90 (%)" in said
    many = [Outcome(f"p{i}", Quantity(i - 20.0, "%"), "") for i in range(40)]
    assert "40 outcomes" in words(response_waterfall(many, horizon_days=90))
    assert response_waterfall(many, horizon_days=90) == response_waterfall(many[::-1], horizon_days=90)
    with pytest.raises(InputError, match="nothing to draw"):
        response_waterfall([], horizon_days=90)


def test_event_free_curve_is_the_share_of_members_below() -> None:
    samples = np.array([[9, 9, 9, 9], [1, 2, 6, 3], [1, 1, 1, 7], [2, 2, 2, 2], [1, 2, 3, 4.0]])
    prediction = SimpleNamespace(days=np.array([0, 10, 20, 30.0]), origin_day=10.0, samples_cm3=samples)
    curve = EventFree.below_volume(prediction, 5.0, label="x")
    assert list(curve.days) == [10, 20, 30]
    assert list(curve.probability) == [0.8, 0.6, 0.4]  # once above, always counted
    # Wilson's interval of 3 in 5
    assert (curve.low[1], curve.high[1]) == pytest.approx((0.2307, 0.8824), abs=1e-4)
    said = words(event_free_curves([curve]))
    assert "probability of no recurrence" in said
    assert "95 % interval of 5 members" in said
    assert event_free_curves([curve]) == event_free_curves([curve])
    for curves in ([], [curve] * 8):
        with pytest.raises(InputError, match="cannot be drawn"):
            event_free_curves(curves)
    with pytest.raises(InputError, match="days do not rise"):
        EventFree("x", curve.days[::-1], curve.probability, curve.low, curve.high)


def test_pictures_show_themselves_in_notebooks(twin: PatientTwin, tmp_path) -> None:
    svg, png = (fit_quality(twin, image_format=kind) for kind in ("svg", "png"))
    assert isinstance(svg, Picture)
    assert svg._repr_svg_().lstrip().startswith("<?xml")
    assert svg._repr_png_() is None
    assert png._repr_svg_() is None
    assert png._repr_png_().startswith(b"\x89PNG")
    png.save(tmp_path / "fit.png")
    assert (tmp_path / "fit.png").read_bytes() == png
