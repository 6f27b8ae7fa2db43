"""What outlines, diffusion maps and PET tell beyond volumes; what they are refused for."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from digital_twins import InputError
from digital_twins.calibration import Belief
from digital_twins.patient_modeling import CalibrationSettings, PatientTwin, cellularity_from_adc
from digital_twins.patient_modeling._observations import Likelihood, surface_patches
from image_phantom import SPACING_MM, ImagePatient, frame, image_patient
from tumour_phantom import new_twin

D, K = "diffusion_mm2_per_day", "proliferation_per_day"
INVASIVE = {D: 0.25, K: 0.012}


@cache
def patient(index: int) -> ImagePatient:
    """Elongated, invasive: five times the prior's diffusion, with noisy outlines and images."""
    made = image_patient(index, elongation=0.9, carries=True, truth=INVASIVE)
    assert made is not None
    return made


def _calibrated(index: int, *observations: str):
    seen = patient(index)
    twin = seen.twin
    fresh = PatientTwin(
        twin.twin_id, twin.patient_id, baseline=None, image=None, simulator=twin._simulator,
        clinical_data={}, history=twin.history[:1],
    )  # fmt: skip
    return fresh.calibrate(seen.scans, settings=CalibrationSettings(observations=observations))


def test_outlines_tell_diffusion_from_growth_where_volumes_cannot() -> None:
    """Volumes know the front's speed 2 sqrt(D k); how bumps and poles lag (D times curvature) tells D."""
    errors: dict[str, list[float]] = {"volume": [], "shape": []}
    for index in range(1, 4):
        volume, outline = _calibrated(index, "volume"), _calibrated(index, "volume", "shape")
        assert volume.observations == ("volume",)
        assert outline.observations == ("volume", "shape")
        for name, result in (("volume", volume), ("shape", outline)):
            errors[name].append(abs(np.log(result.estimates[D].value / INVASIVE[D])))
        assert volume.information.variance_reduction[D] < 0.35, "volumes leave D to the prior"
        assert outline.information.variance_reduction[D] > volume.information.variance_reduction[D] + 0.15
        for name, value in INVASIVE.items():
            assert 0.85 * outline.estimates[name].low < value < 1.15 * outline.estimates[name].high
    assert np.mean(errors["shape"]) < 0.5 * np.mean(errors["volume"])


@pytest.mark.parametrize("kind", ["cellularity", "uptake"])
def test_diffusion_maps_and_pet_tell_diffusion(kind: str) -> None:
    for index in (1, 2, 3):
        result = _calibrated(index, "volume", kind)
        assert result.observations == ("volume", kind)
        assert result.information.variance_reduction[D] > 0.9
        for name, value in INVASIVE.items():
            assert 0.9 * result.estimates[name].low < value < 1.1 * result.estimates[name].high


def test_patches_and_their_contrasts() -> None:
    patches = surface_patches(patient(1).twin._simulator)
    assert patches is not None
    assert 8 <= patches.count <= 16
    assert patches.contrasts @ np.ones(patches.count) == pytest.approx(np.zeros(patches.count - 1), abs=1e-12)
    assert patches.contrasts @ patches.contrasts.T == pytest.approx(np.eye(patches.count - 1), abs=1e-12)
    assert np.abs(patches.normal.mean(axis=0)).max() < 0.2, "a closed surface has no mean direction"
    assert surface_patches(new_twin(6.0)._simulator) is None, "a small lesion tells its volume only"


def test_residuals_have_unit_variance_on_what_obeys_the_model() -> None:
    """At the true parameters the sum of squares is the number of data, within what three patients tell."""
    sums, counts = 0.0, 0
    for index in (1, 2, 3):
        seen = patient(index)
        twin = seen.twin
        visits, _ = PatientTwin._new_visits(twin, seen.scans)
        truth = {**twin.snapshot.belief.values, **seen.truth}
        residuals = Likelihood(twin._simulator, visits, [], truth, observations=("volume", "shape"))({})
        sums, counts = sums + float(residuals @ residuals), counts + residuals.size
    assert 0.4 * counts < sums < 1.6 * counts


def test_a_sphere_of_known_displacement_is_measured_in_mm() -> None:
    """A shift of the whole tumour is put down to registration, a bulge is not."""
    twin = new_twin(20.0)
    belief = twin.snapshot.belief.values
    still = {**belief, D: 0.001, K: 0.0005}
    day = 1.0
    (_, state), *_ = twin._simulator.states(still, [], np.array([day]))
    mask = state[1:-1, 1:-1, 1:-1] >= 0.16
    step = round(2.0 / twin.domain.spacing_mm[1])

    def misfit(seen: np.ndarray) -> float:
        from digital_twins.imaging import as_mask

        visits, _ = twin._new_visits([(day, as_mask(twin.domain, seen))])
        shape = Likelihood(twin._simulator, visits, [], still, observations=("shape",))({})
        return float(shape @ shape)

    bulge = mask.copy()
    half = mask.shape[1] // 2
    bulge[:, half:] |= np.roll(mask, 3 * step, axis=1)[:, half:]
    bulge[:, :half] |= np.roll(mask, -3 * step, axis=1)[:, :half]
    assert misfit(mask) < 1.0
    assert misfit(np.roll(mask, step, axis=1)) < 4.0
    assert misfit(bulge) > 20.0


def test_cellularity_is_linear_between_its_references() -> None:
    adc = np.array([3.0e-3, 1.5e-3, 0.6e-3, 4.0e-3, 0.0, -1.0, np.nan])
    cells = cellularity_from_adc(adc)
    assert cells[:4] == pytest.approx([0.0, 0.5, 0.8, 0.0])
    assert np.isnan(cells[4:]).all()
    assert cellularity_from_adc(0.6e-3, densest_mm2_per_s=0.6e-3) == pytest.approx(1.0)
    assert cellularity_from_adc(0.3e-3, densest_mm2_per_s=0.6e-3) == pytest.approx(1.0)
    with pytest.raises(InputError, match="contradict each other"):
        cellularity_from_adc(adc, densest_mm2_per_s=3.0e-3)


def _with(image, **changes):
    day, scan = patient(1).scans[0]
    return [(day, {"segmentation": scan["segmentation"], **image, **changes})]


def test_units_of_diffusion_maps_are_told_by_their_values() -> None:
    adc = patient(1).scans[0][1]["adc"]
    twin = patient(1).twin
    one, other = (
        twin._new_visits(_with({"adc": adc.with_array(adc.array * np.float32(scale))}))[0][0].images[0]
        for scale in (1.0, 1e-6)
    )
    assert np.nanmax(np.abs(one.values - other.values)) < 1e-4
    assert np.nanmin(one.values) >= 0.0
    with pytest.raises(InputError, match="diffusion coefficients cannot be used"):
        twin._new_visits(_with({"adc": adc.with_array(adc.array * np.float32(50.0))}))


def test_necrotic_cold_and_unknown_images_are_refused() -> None:
    twin = patient(1).twin
    box = frame(SPACING_MM)
    fluid = box.with_array(np.full(box.shape, 2900.0, dtype=np.float32))
    with pytest.raises(InputError, match="no viable tumour"):
        twin.calibrate(_with({"adc": fluid}))
    cold = box.with_array(np.ones(box.shape, dtype=np.float32))
    with pytest.raises(InputError, match="no uptake"):
        twin.calibrate(_with({"pet": cold}))
    with pytest.raises(InputError, match="blur"):
        twin.calibrate(_with({"pet": cold}, pet_fwhm_mm=0.0))
    with pytest.raises(InputError, match="unknown: dwi"):
        twin.calibrate(_with({"dwi": fluid}))
    with pytest.raises(InputError, match="no segmentation"):
        twin.calibrate([(28.0, {"adc": fluid})])
    with pytest.raises(InputError, match="observations"):
        CalibrationSettings(observations=("smell",))
    assert twin.version == 1


def test_images_are_kept_with_the_twin(tmp_path) -> None:
    seen = patient(1)
    seen.twin.calibrate(seen.scans[:1])
    seen.twin.save(tmp_path / "a.twin")
    again = PatientTwin.open(tmp_path / "a.twin")
    for one, other in zip(seen.twin.visits[0].images, again.visits[0].images, strict=True):
        assert (one.kind, one.digest, one.fwhm_mm) == (other.kind, other.digest, other.fwhm_mm)
        np.testing.assert_array_equal(one.values, other.values)
    assert again.calibration == seen.twin.calibration
    assert again.provenance.inputs["uptake_day_28"] == seen.twin.visits[0].images[1].digest
    assert isinstance(again.snapshot.belief, Belief)
