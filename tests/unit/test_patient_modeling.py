"""What the pipeline and the twin refuse, each with what, why and fix; and how days of scans are told."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from digital_twins import InputError, NotFoundError, StorageError
from digital_twins.imaging import as_mask, save_nifti
from digital_twins.models import _jax_solver
from digital_twins.patient_modeling import PatientTwin, TumorTwinPipeline
from digital_twins.records import Treatment
from foreign import python_package
from tumour_phantom import ball, follow_up, new_twin

BASELINE = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def twin() -> PatientTwin:
    return new_twin(baseline=BASELINE)


def _grown(radius_mm: float, **changes):
    _, mask = ball(radius_mm)
    return replace(mask, **changes) if changes else mask


@pytest.mark.parametrize("options", [{"model_type": "crystal_ball"}, {"solver": "abacus"}])
def test_unknown_model_or_solver(options: dict) -> None:
    with pytest.raises(InputError, match="is not known") as caught:
        TumorTwinPipeline(**options)
    assert caught.value.why
    assert caught.value.fix


def test_gpu_request_without_a_gpu_runs_on_the_cpu_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_jax_solver, "accelerator_missing", lambda: "jax finds no GPU")
    image, mask = ball()
    twin = TumorTwinPipeline(solver="gpu_parallel").create_twin("P", {"ct": image}, mask)
    assert any("CPU" in note and "jax finds no GPU" in note for note in twin.provenance.notes)


@pytest.mark.peers
def test_gpu_request_reaches_jax_and_is_kept_with_the_twin(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    python_package("jax")
    monkeypatch.setattr(_jax_solver, "accelerator_missing", lambda: None)
    image, mask = ball()
    plain, twin = (
        TumorTwinPipeline(solver=solver).create_twin("P", {"ct": image}, mask)
        for solver in ("cpu", "gpu_parallel")
    )
    assert any("JAX" in note for note in twin.provenance.notes)
    twin.save(tmp_path / "twin.dtwin")
    calls: list[float] = []
    states = _jax_solver.jax_states

    def counted(*arguments: object, **named: object) -> object:
        calls.append(1.0)
        return states(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(_jax_solver, "jax_states", counted)
    opened = PatientTwin.open(tmp_path / "twin.dtwin")
    found = opened.predict(horizon_days=30, samples=8)
    assert len(calls) == 8
    np.testing.assert_allclose(
        found.samples_cm3, plain.predict(horizon_days=30, samples=8).samples_cm3, rtol=1e-3
    )


def test_unusable_inputs() -> None:
    image, mask = ball()
    pipeline = TumorTwinPipeline()
    nan = image.array.astype(np.float32)
    nan[5, 5, 5] = np.nan
    with pytest.raises(InputError, match=r"(?i)nan|finite|not a number"):
        pipeline.create_twin("P", image.with_array(nan), mask)
    with pytest.raises(InputError, match="empty"):
        pipeline.create_twin("P", image, mask.with_array(np.zeros(mask.shape, dtype=bool)))
    with pytest.raises(InputError, match="frames of reference"):
        pipeline.create_twin("P", image, replace(mask, frame_of_reference_uid="1.2.3"))
    with pytest.raises(InputError, match="another patient"):
        pipeline.create_twin("P", replace(image, patient_id="Q"), mask)
    with pytest.raises(InputError, match="no patient"):
        pipeline.create_twin(" ", image, mask)
    with pytest.raises(InputError, match="too small"):
        pipeline.create_twin("P", None, ball(1.2, spacing_mm=0.8)[1])
    with pytest.raises(InputError, match="timezone"):
        pipeline.create_twin("P", image, mask, baseline=datetime(2026, 1, 1))  # noqa: DTZ001  (the error)
    with pytest.raises(InputError, match="image, not a mask"):
        pipeline.create_twin("P", image, image)


def test_tumour_outside_the_given_domain() -> None:
    image, mask = ball()
    elsewhere = np.zeros(image.shape, dtype=bool)
    elsewhere[:, -6:, :] = True
    with pytest.raises(InputError, match="outside the domain"):
        TumorTwinPipeline().create_twin("P", image, mask, domain=as_mask(image, elsewhere))


def test_domain_from_ct_leaves_the_air_out() -> None:
    image, mask = ball(18.0)
    array = np.full(image.shape, 40, dtype=np.int16)
    array[:, :10, :] = -1000
    twin = TumorTwinPipeline().create_twin("P", image.with_array(array), mask)
    assert 0.75 < twin.domain.array.mean() < 0.95
    assert not (twin.lesion.array & ~twin.domain.array).any()
    assert any("HU" in note for note in twin.provenance.notes)


def test_same_inputs_same_twin_id(twin: PatientTwin) -> None:
    assert new_twin(baseline=BASELINE).twin_id == twin.twin_id
    assert new_twin(13.0).twin_id != twin.twin_id


def test_image_on_another_grid_and_a_second_image() -> None:
    image, mask = ball()
    coarse = ball(shape=(12, 24, 24), spacing_mm=4.0)[0]
    twin = TumorTwinPipeline().create_twin("P", {"a": replace(coarse, modality="MR"), "b": image}, mask)
    assert twin.current_volume_cm3 == pytest.approx(mask.volume_cm3)
    assert set(twin.provenance.inputs) == {"image:a", "image:b", "tumor_segmentation"}
    alone = TumorTwinPipeline().create_twin("P", None, mask)
    assert alone.image is None
    assert alone.domain.array.all()


def test_days_of_scans(twin: PatientTwin, tmp_path) -> None:
    later = BASELINE + timedelta(days=21)
    save_nifti(_grown(16.0), tmp_path / "scan_week_4.nii.gz")
    save_nifti(_grown(17.0), tmp_path / "lesion-day-42.nii")
    visits, notes = twin._new_visits(
        [
            tmp_path / "lesion-day-42.nii",
            str(tmp_path / "scan_week_4.nii.gz"),
            (14, _grown(15.0)),
            _grown(15.5, acquired=later),
            (0, ball()[1]),
        ]
    )
    assert [visit.day for visit in visits] == [42.0, 28.0, 14.0, 21.0]
    assert any("already known" in note for note in notes), "the baseline's own mask"
    assert visits[0].volume_cm3 == pytest.approx(_grown(17.0).volume_cm3)


def test_scans_that_cannot_be_used(twin: PatientTwin, tmp_path) -> None:
    save_nifti(_grown(16.0), tmp_path / "scan.nii.gz")
    save_nifti(_grown(16.0), tmp_path / "week_1_day_9.nii.gz")
    image, _ = ball()
    far = _grown(5.0)
    affine = far.affine.copy()
    affine[:3, 3] += 300.0
    refused = {
        "day of a follow-up scan is not known": [tmp_path / "scan.nii.gz"],
        "several days": [tmp_path / "week_1_day_9.nii.gz"],
        "before the baseline": [(-3, _grown(16.0))],
        "before the baseline.": [_grown(16.0, acquired=BASELINE - timedelta(days=2))],
        "frames of reference": [(28, _grown(16.0, frame_of_reference_uid="9.9"))],
        "image, not a mask": [(28, image)],
        "outside the twin's domain": [(28, replace(far, affine=affine))],
        "cannot be used": [(float("nan"), _grown(16.0))],
        "no follow-up scan": [],
    }
    for reason, scans in refused.items():
        with pytest.raises(InputError, match=reason):
            twin.calibrate(scans)
    with pytest.raises(NotFoundError):
        twin.calibrate([(28, tmp_path / "missing.nii.gz")])
    assert twin.version == 1


def test_mask_on_another_grid_of_the_frame_is_resampled(twin: PatientTwin) -> None:
    _, coarse = ball(16.0, shape=(20, 40, 40), spacing_mm=3.0)
    visits, _ = twin._new_visits([(28, replace(coarse, affine=_centred(coarse)))])
    assert visits[0].mask.shape == twin.domain.shape
    placed = visits[0].mask.sum() * twin.domain.voxel_volume_mm3 / 1000.0
    assert placed == pytest.approx(coarse.volume_cm3, rel=0.03)


def _centred(mask):
    image, _ = ball()
    middle = image.index_to_mm((np.array(image.shape) - 1) / 2)
    affine = mask.affine.copy()
    affine[:3, 3] += middle - mask.index_to_mm((np.array(mask.shape) - 1) / 2)
    return affine


def test_predictions_that_cannot_be_made(twin: PatientTwin) -> None:
    for options in (
        {"horizon_days": 0},
        {"horizon_days": float("nan")},
        {"horizon_days": 90, "interval": 1.0},
        {"horizon_days": 90, "samples": 2},
        {"horizon_days": 900, "output_interval_days": 0.1},
        {"horizon_days": 90, "treatments": [{"drug": "paclitaxel", "dose_mg": -1, "day": 0}]},
        {"horizon_days": 90, "treatments": [{"drug": "moonshine", "dose_mg": 1, "day": 0}]},
        {"horizon_days": 90, "treatments": [Treatment("hyperthermia", "heat", day=1.0)]},
    ):
        with pytest.raises(InputError):
            twin.predict(**options)
    with pytest.raises(InputError, match="does not cover"):
        twin.predict(7, samples=8).mask_at(8.0)


def test_treatment_with_a_wall_clock_start_is_placed_on_the_timeline() -> None:
    twin = new_twin(baseline=BASELINE)
    plan = {
        "type": "radiation",
        "total_dose_gy": 10,
        "fractions": 5,
        "start": BASELINE + timedelta(days=10),
    }
    prediction = twin.predict(30, treatments=[plan], samples=8)
    assert prediction.treatments[0].first_day == pytest.approx(10.0)


def test_failed_calibration_leaves_the_twin_as_it_was() -> None:
    twin = new_twin()
    scans = follow_up(twin, {}, [28.0]).scans
    with pytest.raises(InputError):
        twin.calibrate(scans, [{"drug": "moonshine", "dose_mg": 1, "day": 0}])
    with pytest.raises(InputError, match="cannot be simulated"):
        twin.calibrate(scans, [Treatment("hyperthermia", "heat", day=3.0)])
    assert twin.version == 1
    assert twin.visits == ()


def test_files_that_are_no_twin(twin: PatientTwin, tmp_path) -> None:
    path = tmp_path / "a.twin"
    with pytest.raises(NotFoundError):
        PatientTwin.open(path)
    twin.save(path)
    whole = path.read_bytes()
    for damaged in (b"", b"not a zip", whole[: len(whole) // 2], whole[:300] + b"\0" * 64 + whole[364:]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="not a readable twin"):
            PatientTwin.open(path)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("twin.json", '{"format": "something else", "format_version": 1}')
    path.write_bytes(buffer.getvalue())
    with pytest.raises(InputError, match="not a readable twin"):
        PatientTwin.open(path)
    with pytest.raises(StorageError):
        twin.save(tmp_path / "missing" / "a.twin")


def test_pickled_arrays_are_refused(twin: PatientTwin, tmp_path) -> None:
    path = tmp_path / "a.twin"
    twin.save(path)
    evil = io.BytesIO()
    np.save(evil, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    changed = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(changed, "w") as new:
        members = {name: old.read(name) for name in old.namelist() if name != "SHA256SUMS"}
        members["distance_mm.npy"] = evil.getvalue()
        members["SHA256SUMS"] = "".join(
            f"{hashlib.sha256(members[name]).hexdigest()}  {name}\n" for name in sorted(members)
        ).encode()
        for name, content in members.items():
            new.writestr(name, content)
    path.write_bytes(changed.getvalue())
    with pytest.raises(InputError, match="ValueError"):
        PatientTwin.open(path)


def test_tilted_gantry_gives_an_upright_grid_and_the_same_volume() -> None:
    image, mask = ball(12.0)
    affine = image.affine.copy()
    affine[1, 0] = 1.2  # each slice is shifted along the rows, as by a tilted gantry
    tilted, lesion = replace(image, affine=affine), replace(mask, affine=affine)
    assert lesion.is_sheared
    twin = TumorTwinPipeline().create_twin("P", tilted, lesion)
    assert not twin.domain.is_sheared
    assert twin.current_volume_cm3 == pytest.approx(lesion.volume_cm3)
    assert twin.lesion.centroid_mm == pytest.approx(lesion.centroid_mm, abs=0.5)
    reach = [np.ptp(m.index_to_mm(np.argwhere(m.array)), axis=0) for m in (twin.lesion, lesion)]
    assert reach[0] == pytest.approx(reach[1], abs=5.0)


def test_domain_from_mr_is_the_bright_foreground() -> None:
    image, mask = ball(10.0)
    array = np.where(image.array < -500, 2.0, 300.0).astype(np.float32)
    array[:, 40:44, :] = 1.0
    twin = TumorTwinPipeline().create_twin("P", replace(image, array=array, modality="MR"), mask)
    dark = ~twin.domain.array
    assert dark.any()
    assert any("image above" in note for note in twin.provenance.notes)
    assert not (twin.lesion.array & dark).any()
