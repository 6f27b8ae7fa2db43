"""Resections: analytic profiles, sizes of what is taken out, recurrence and margins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from digital_twins import InputError
from digital_twins.imaging import Mask, as_mask
from digital_twins.models import Domain, ReactionDiffusionModel
from digital_twins.patient_modeling import Prediction
from digital_twins.patient_modeling._context import TumourContext, tumour_context
from digital_twins.patient_modeling._resection import decoded, encoded
from digital_twins.patient_modeling._surgery_forcing import removed_share, surgery_forcing
from digital_twins.records import parse_treatment
from digital_twins.treatment_simulation import TreatmentSimulator, optimise_margin, recurrence_times
from tumour_phantom import follow_up, new_twin

THRESHOLD = 0.16


def _mask(shape: tuple[int, int, int], spacing: float = 1.0) -> Mask:
    affine = np.diag([0.0, 0.0, 0.0, 1.0])
    affine[:3, :3] = np.eye(3)[::-1] * spacing
    return Mask(np.ones(shape, dtype=bool), affine)


def _planar(decay_per_mm: float, edge: int, length: int) -> TumourContext:
    """A front along the first axis: dense up to ``edge``, then an exponential tail."""
    domain = _mask((length, 5, 5))
    position = np.arange(length) - edge + 0.5
    profile = np.where(position < 0.0, 0.8, THRESHOLD * np.exp(-decay_per_mm * np.maximum(position, 0.0)))
    profile[position < 0.0] = 0.8
    field = np.broadcast_to(profile[:, None, None], (length, 5, 5))
    distance = np.broadcast_to(-position[:, None, None], field.shape).astype(np.float32)
    return TumourContext(domain, distance, float(field.sum()) / 1000.0)


@pytest.mark.parametrize("margin", [0.0, 3.0, 7.5, 12.0])
def test_residual_of_an_exponential_tail(margin: float) -> None:
    """Beyond a margin m of a planar lesion the tail's part exp(-lambda m) is left (within a voxel's edge)."""
    decay, edge, length = 0.25, 20, 120
    context = _planar(decay, edge, length)
    position = np.arange(length) - edge + 0.5
    # voxel means of the continuous tail
    cells = THRESHOLD / decay * (np.exp(-decay * (position - 0.5)) - np.exp(-decay * (position + 0.5)))
    tail = np.where(position > 0.0, cells, 0.0)
    surgery = parse_treatment({"type": "surgery", "day": 0, "margin_mm": margin})
    (cut,) = surgery_forcing(surgery, {}, context).survival_maps
    left = float((tail * cut.survival[:, 2, 2]).sum()) / tail.sum()
    assert left == pytest.approx(np.exp(-decay * margin), rel=0.01)
    assert np.all(cut.survival[: edge - 1] == 0.0)


def _ball_context(radius: float, spacing: float = 1.0) -> TumourContext:
    size = int(2 * (radius + 16.0) / spacing)
    axis = (np.arange(size) - (size - 1) / 2) * spacing
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    r = np.sqrt(z**2 + y**2 + x**2)
    density = THRESHOLD * np.exp(np.clip((radius - r) / 2.0, -40.0, 1.5))
    return tumour_context(_mask((size, size, size), spacing), np.pad(density, 1), THRESHOLD)


@pytest.mark.parametrize("spacing", [1.0, 2.0])
@pytest.mark.parametrize("margin", [0.0, 5.0, 10.0])
def test_volume_within_a_margin_of_a_ball(margin: float, spacing: float) -> None:
    context = _ball_context(10.0, spacing)
    surgery = parse_treatment({"type": "surgery", "margin_mm": margin})
    got = removed_share(surgery, context).sum() * spacing**3
    effective = (got * 0.75 / np.pi) ** (1 / 3)
    assert effective == pytest.approx(10.0 + margin, abs=0.35 * spacing)


def test_extent_of_resection_leaves_a_rim() -> None:
    context = _ball_context(10.0)
    whole = removed_share(parse_treatment({"type": "surgery"}), context).sum()
    part = removed_share(parse_treatment({"type": "surgery", "extent_of_resection": 0.5}), context)
    assert part.sum() == pytest.approx(0.5 * whole, rel=1e-6)
    assert np.all(part[context.distance_mm < 1.0] == 0.0)


def test_nothing_visible_is_nothing_to_take_out() -> None:
    context = tumour_context(_mask((9, 9, 9)), np.full((11, 11, 11), 0.01), THRESHOLD)
    share = removed_share(parse_treatment({"type": "surgery", "margin_mm": 10}), context)
    assert share.max() == 0.0
    assert context.burden_cm3 == pytest.approx(0.01 * 0.729)


def test_masks_survive_their_text() -> None:
    rng = np.random.default_rng(1)
    inside = rng.random((7, 5, 9)) < 0.3
    np.testing.assert_array_equal(decoded(encoded(inside), inside.shape), inside)
    with pytest.raises(InputError, match="another size"):
        decoded(encoded(inside), (7, 5, 90))
    with pytest.raises(InputError, match="cannot be read"):
        decoded("not a mask", (7, 5, 9))


def test_recurrence_time_follows_the_growth_law() -> None:
    """A uniform residual below the threshold regrows logistically: ln of the odds over the rate."""
    rate, residual = 0.04, 0.002
    expected = np.log((THRESHOLD / (1 - THRESHOLD)) / (residual / (1 - residual))) / rate
    domain = Domain(np.ones((6, 6, 6), dtype=bool), (1.0, 1.0, 1.0))
    days = np.linspace(0.0, 200.0, 401)
    solved = ReactionDiffusionModel(0.1, rate).solve(np.full((6, 6, 6), residual), domain, days)
    visible = (solved.density >= THRESHOLD).mean(axis=(1, 2, 3)) * 0.216
    prediction = _prediction(days, visible[None])
    times = recurrence_times(prediction, after_day=0.0, threshold_cm3=0.1)
    assert times.days[0] == pytest.approx(expected, abs=0.5)


def _prediction(days: np.ndarray, volumes: np.ndarray) -> Prediction:
    nothing = np.zeros((0, 1, 1, 1), dtype=np.float32)
    median = np.median(volumes, axis=0)
    return Prediction(
        twin_id="t", days=days, origin_day=0.0, volume_cm3=median, low_cm3=median, high_cm3=median,
        interval=0.95, samples_cm3=volumes, treatments=(), model_version=1, input_hash="",
        domain=_mask((1, 1, 1)), probability=nothing, mean_density=nothing,
    )  # fmt: skip


def test_recurrence_is_interpolated_and_censored() -> None:
    days = np.array([0.0, 10.0, 20.0, 30.0])
    volumes = np.array([[5.0, 0.0, 0.05, 0.25], [5.0, 0.0, 0.0, 0.05], [5.0, 0.4, 0.5, 0.6]])
    times = recurrence_times(_prediction(days, volumes), after_day=0.0, threshold_cm3=0.15)
    np.testing.assert_allclose(times.days, [25.0, np.nan, 0.0])
    assert times.censored == 1
    assert times.probability_by(26.0) == pytest.approx(2 / 3)
    assert times.median == 25.0
    assert times.quantile(0.9) is None
    assert times.to_dict()["share_without_event"] == pytest.approx(1 / 3)
    with pytest.raises(InputError, match="does not reach"):
        times.probability_by(31.0)
    with pytest.raises(InputError, match="no time after"):
        recurrence_times(_prediction(days, volumes), after_day=30.0)


def test_surgery_on_a_twin_takes_out_what_is_visible_by_then() -> None:
    """The baseline shows 28 mm, the last scan a larger lesion: it is the latter that is cut."""
    twin = new_twin()
    seen = follow_up(twin, {"proliferation_per_day": 0.06}, [40.0, 80.0])
    twin.calibrate(seen.scans)
    surgery = {"type": "surgery", "day": 0, "margin_mm": 5}
    assert twin.resection_share(surgery).sum() > 1.2 * twin.lesion.array.sum()
    prediction = twin.predict(60, treatments=[surgery], samples=8)
    before, after = prediction.samples_cm3[:, prediction.days == 80.0], prediction.samples_cm3[:, -1]
    assert np.all(before > 15.0)
    assert np.all(prediction.samples_cm3[:, prediction.days == 87.0] < 0.2)
    assert np.all(after < before[:, 0])


def test_history_with_surgery_is_calibrated_and_kept(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Growth is recovered from scans after a resection; the mask outlives the file."""
    twin = new_twin()
    outline = replace(as_mask(twin.domain, twin._simulator.distance_mm > -4.0), patient_id=None)
    given = {"type": "surgery", "day": 10, "resection_mask": outline}
    truth = {"proliferation_per_day": 0.07, "diffusion_mm2_per_day": 0.08}
    operated = [twin._parsed(given)]
    seen = follow_up(twin, truth, [9.0, 60.0, 70.0, 80.0], treatments=operated)  # type: ignore[list-item]
    shown = follow_up(twin, truth, [9.0, 12.0], treatments=operated)  # type: ignore[list-item]
    assert shown.true_volumes_cm3[1] < 0.01 < shown.true_volumes_cm3[0]
    result = twin.calibrate(seen.scans, [given])
    estimate = result.estimates["proliferation_per_day"]
    assert estimate.low < 0.07 < estimate.high
    assert max(abs(r) for r in result.residuals) < 1.0
    twin.save(tmp_path / "a.twin")
    again = type(twin).open(tmp_path / "a.twin")
    assert again.treatment_history == twin.treatment_history
    np.testing.assert_array_equal(
        again.predict(30, samples=8).samples_cm3, twin.predict(30, samples=8).samples_cm3
    )


def test_smallest_margin_within_limits() -> None:
    twin = new_twin()
    wall = np.zeros(twin.domain.shape, dtype=bool)
    wall[:, :, -6:] = True
    critical = replace(as_mask(twin.domain, wall), patient_id=None)
    options = {"samples": 8, "output_interval_days": 10.0}
    plan = optimise_margin(
        twin,
        [0.0, 3.0, 6.0, 20.0],
        horizon_days=150,
        highest_recurrence=0.7,
        critical=critical,
        largest_overlap_cm3=0.5,
        prediction_options=options,
    )
    risk = [option.recurrence_probability for option in plan.options]
    assert risk == sorted(risk, reverse=True)
    assert risk[0] > 0.7 > risk[2]
    sizes = [option.resected_cm3 for option in plan.options]
    assert sizes == sorted(sizes)
    assert plan.options[0].overlap_cm3 == 0.0
    assert plan.options[-1].overlap_cm3 > 0.5
    allowed = [o for o in plan.options if o.recurrence_probability <= 0.7 and o.overlap_cm3 <= 0.5]
    assert plan.recommended is allowed[0]
    with pytest.raises(InputError, match="no margin"):
        optimise_margin(twin, [], horizon_days=10, highest_recurrence=0.5)
    with pytest.raises(InputError, match="takes no tissue out"):
        twin.resection_share({"type": "observation"})


def test_more_extensive_resections_recur_later() -> None:
    """As in Swanson et al. 2008: recurrence after subtotal, gross total and wide resection, in this order."""
    twin = new_twin(clinical_data={"diagnosis": "glioblastoma"})
    simulator = TreatmentSimulator(twin)
    assert simulator.default_criteria == "rano_2_0"
    ways = [{"extent_of_resection": 0.5}, {}, {"margin_mm": 4}]
    medians = []
    for way in ways:
        response = simulator.predict_response({"type": "surgery", **way}, 200, samples=8)
        times = recurrence_times(response.prediction, after_day=0.0, threshold_cm3=4.0)
        medians.append(np.nan_to_num(np.nanmedian(times.days), nan=200.0))
    assert medians[0] < medians[1] < medians[2]
