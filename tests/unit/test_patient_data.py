"""PatientData: sequences on one grid, outlines beside them, visits by day, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ct_series import AXIAL, ct_series
from digital_twins import InputError, NotFoundError, PatientData
from digital_twins.imaging import ImagingVisit, Volume, as_mask, enhancing_lesion, load_mask, seg_from_masks
from digital_twins.patient_modeling import ReactionDiffusionModel
from mr_series import brain, sequences, single_frames, write_multi_frame

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (12, 40, 40)


def dice(a: Any, b: Any) -> float:
    return 2.0 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def series(
    voxels: Any, *, number: int = 1, day: str = "20260102", shift: float = 0.0, **changes: Any
) -> list:
    """A small MR series of one sequence and day."""
    affine = AXIAL.copy()
    affine[0, 3] += shift
    made = ct_series(np.asarray(voxels), affine, intercepts=0)
    for k, dataset in enumerate(made):
        dataset.Modality = "MR"
        dataset.SeriesInstanceUID = f"1.2.3.8.{number}.{day}"
        dataset.StudyInstanceUID = f"1.2.3.7.{day}"
        dataset.SOPInstanceUID = f"1.2.3.9.{number}.{day}.{k + 1}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.StudyDate = dataset.AcquisitionDate = day
        for name, value in changes.items():
            setattr(dataset, name, value)
    return made


def write(datasets: list, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for dataset in datasets:
        dataset.save_as(folder / f"{dataset.SOPInstanceUID}.dcm", enforce_file_format=True)
    return folder


def head(lesion: bool = False, *, radius: float = 5.0, seed: int = 0) -> np.ndarray:
    """A noisy head of 400 in air of 0, with a bright ball if asked for."""
    _, y, x = np.indices(SHAPE)
    array = np.where((y - 20) ** 2 + (x - 20) ** 2 < 18**2, 400.0, 0.0)
    array += 4.0 * np.random.default_rng(seed).standard_normal(SHAPE)
    if lesion:
        array += 200.0 * ball(radius)
    return np.clip(array, 0, None).astype(np.uint16)


def ball(radius: float = 5.0) -> np.ndarray:
    z, y, x = np.indices(SHAPE)
    return ((z - 6) * 2.5 / 0.7) ** 2 + (y - 22) ** 2 + (x - 17) ** 2 <= (radius / 0.7) ** 2


def test_multi_frame_files_and_folders_of_single_frames_give_the_same(tmp_path: Path) -> None:
    written = write_multi_frame(tmp_path, segmentations=False)
    arrays = sequences()
    folder = write(single_frames(arrays["t2"], 9), tmp_path / "t2-singles")
    patient = PatientData.from_dicom(**{**written.arguments, "t2_path": folder})
    assert list(patient.images) == ["t1ce", "t1", "t2", "flair"]
    for name, volume in patient.images.items():
        assert volume.same_grid(brain().image)
        assert np.array_equal(volume.array, arrays[name]), name
    assert patient.patient_id == brain().patient_id
    assert patient.baseline == brain().baseline
    (visit,) = patient.visits
    assert visit.lesion_from.startswith("automatic: contrast enhancement")
    assert "not reviewed" in visit.lesion_from
    assert visit.lesion is not None
    # the rule against the real outline in which contrast was simulated
    assert dice(visit.lesion.array, brain().lesion.array) > 0.9


def test_a_necrotic_core_belongs_to_the_outline() -> None:
    arrays = sequences(core=True, gain=0.7)
    image = brain().image
    found = enhancing_lesion(image.with_array(arrays["t1"]), image.with_array(arrays["t1ce"]))
    assert dice(found.array, brain().lesion.array) > 0.85


def test_no_enhancement_is_no_lesion() -> None:
    image = Volume(head(), AXIAL)
    with pytest.raises(InputError, match="No enhancing lesion"):
        enhancing_lesion(image, image.with_array((1.3 * head(seed=5)).astype(np.uint16)))
    with pytest.raises(InputError, match="different grids"):
        enhancing_lesion(image, Volume(head()[:6], AXIAL))


def test_everything_comes_onto_the_grid_of_the_contrast_t1(tmp_path: Path) -> None:
    t1ce = write(series(head(lesion=True), number=1), tmp_path / "ce")
    rows = np.broadcast_to(np.arange(20)[:, None] * 10, (12, 20, 20))
    coarse = series(rows, number=2, PixelSpacing=[1.4, 1.4])
    patient = PatientData.from_dicom(t1ce_path=t1ce, t2_path=write(coarse, tmp_path / "t2"))
    assert patient.images["t2"].same_grid(patient.images["t1ce"])
    # row 7 of the fine grid lies half-way between rows 3 and 4 of the coarse one
    assert patient.images["t2"].array[5, 7, 9] == pytest.approx(35.0)
    assert patient.visits[0].lesion is None


def test_visits_of_several_days_are_told_apart(tmp_path: Path) -> None:
    days = ("20260102", "20260201", "20260303")
    for n, day in enumerate(days):
        write(series(head(), number=1, day=day), tmp_path / "t1")
        write(series(head(lesion=True, radius=4.0 + n, seed=n), number=2, day=day), tmp_path / "ce")
    patient = PatientData.from_dicom(t1_path=tmp_path / "t1", t1ce_path=tmp_path / "ce")
    assert [visit.day for visit in patient.visits] == [0.0, 30.0, 60.0]
    for n, visit in enumerate(patient.visits):
        assert visit.lesion is not None
        assert dice(visit.lesion.array, ball(4.0 + n)) > 0.8
    with pytest.raises(InputError, match="no visit of its own for day 45"):
        ReactionDiffusionModel(0.1, 0.05).calibrate(patient, [0, 45])


def outline(mask: np.ndarray, images: list) -> Any:
    return seg_from_masks(
        [as_mask(Volume(head(), AXIAL), mask)], images, series_description="outline", series_number=9
    )


def test_segmentations_beside_and_apart(tmp_path: Path) -> None:
    images = series(head(lesion=True), number=2)
    mine = outline(ball(), images)
    write([*images], tmp_path / "ce")
    alone = PatientData.from_dicom(t1ce_path=tmp_path / "ce")
    assert alone.visits[0].lesion is None
    mine.save_as(tmp_path / "ce" / "outline.dcm", enforce_file_format=True)
    beside = PatientData.from_dicom(t1ce_path=tmp_path / "ce")
    assert beside.visits[0].lesion_from == "DICOM Segmentation"
    on_image = load_mask(beside.visits[0].lesion, like=beside.images["t1ce"])
    assert np.array_equal(on_image.array, ball())
    # one of another patient that happens to lie there is not this patient's
    stranger = outline(ball(), series(head(), number=7, PatientID="P2"))
    stranger.save_as(tmp_path / "ce" / "stranger.dcm", enforce_file_format=True)
    assert PatientData.from_dicom(t1ce_path=tmp_path / "ce").visits[0].lesion is not None
    with pytest.raises(InputError, match="different patients"):
        PatientData.from_dicom(t1ce_path=tmp_path / "ce", segmentation_path=tmp_path / "ce" / "stranger.dcm")
    with pytest.raises(InputError, match="no segmentation at the path"):
        PatientData.from_dicom(
            t1ce_path=tmp_path / "ce", segmentation_path=next((tmp_path / "ce").glob("1.2*.dcm"))
        )
    outline(ball(4.0), images).save_as(tmp_path / "ce" / "second.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match=r"2 segmentations"):
        PatientData.from_dicom(t1ce_path=tmp_path / "ce")


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    good = write(series(head(), number=1), tmp_path / "good")
    others = {
        "different frames of reference": series(head(), number=2, FrameOfReferenceUID="1.9.9"),
        "different patients": series(head(), number=2, PatientID="P2"),
        "shows another place": series(head(), number=2, shift=500.0),
        "acquired on different days": series(head(), number=2, day="20260110"),
    }
    for n, (why, datasets) in enumerate(others.items()):
        bad = write(datasets, tmp_path / f"bad{n}")
        with pytest.raises(InputError, match=why):
            PatientData.from_dicom(t1ce_path=good, t1_path=bad)
    twice = write(
        [*series(head(), number=2), *series(head(), number=3), *series(head(), number=2, day="20260202")],
        tmp_path / "twice",
    )
    with pytest.raises(InputError, match="twice on one day"):
        PatientData.from_dicom(t1_path=twice)
    with pytest.raises(InputError, match="no image"):
        PatientData.from_dicom()
    with pytest.raises(NotFoundError):
        PatientData.from_dicom(t1_path=tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no DICOM"):
        PatientData.from_dicom(t1_path=tmp_path / "empty")
    (tmp_path / "torn.dcm").write_bytes(next(good.iterdir()).read_bytes()[:700])
    with pytest.raises(InputError):
        PatientData.from_dicom(t1_path=tmp_path / "torn.dcm")


def test_visits_can_be_added_and_must_rise(tmp_path: Path) -> None:
    first = write(series(head(), number=1), tmp_path / "t1")
    patient = PatientData.from_dicom(t1_path=first)
    outline = as_mask(patient.images["t1"], ball())
    fuller = (
        patient.with_visit(0, lesion=outline).with_visit(60, lesion=outline).with_visit(30, lesion=outline)
    )
    assert [visit.day for visit in fuller.visits] == [0.0, 30.0, 60.0]
    assert fuller.images.keys() == {"t1"}
    assert fuller.visits[0].lesion_from == "given"
    assert patient.visits[0].lesion is None
    with pytest.raises(InputError, match="must rise from 0"):
        patient.with_visit(-3, lesion=outline)
    with pytest.raises(InputError, match="empty"):
        patient.with_visit(3)
    with pytest.raises(InputError, match="frames of reference"):
        patient.with_visit(3, lesion=replace(outline, frame_of_reference_uid="1.9"))
    with pytest.raises(InputError, match="frames of reference"):
        patient.with_domain(replace(outline, frame_of_reference_uid="1.9"))
    assert patient.with_domain(outline).domain is not None


def test_the_model_refuses_what_it_cannot_use() -> None:
    image, lesion = brain().image, brain().lesion
    patient = PatientData(brain().patient_id, None, (ImagingVisit(0.0, {"t1": image}, lesion, "given"),))
    model = ReactionDiffusionModel(0.1, 0.05)
    with pytest.raises(InputError, match="not calibrated"):
        model.predict(30)
    for numbers in ((0.0, 0.05), (0.1, 9.0), (-1.0, 0.05), (float("nan"), 0.05), (0.1, 0.05, 0.0)):
        with pytest.raises(InputError):
            ReactionDiffusionModel(*numbers)
    for days in ([0, 60, 30], [30, 60], [0], [0, float("nan")], [0, 0]):
        with pytest.raises(InputError, match="time points"):
            model.calibrate(patient, days)
    with pytest.raises(InputError, match="no visit of its own"):
        model.calibrate(patient, [0, 30, 60])
    with pytest.raises(InputError, match="not known"):
        model.calibrate(patient, optimization_method="guess")
    with pytest.raises(InputError, match="no follow-up"):
        model.calibrate(patient)
    bare = patient.with_visit(30, images={"t1": image})
    with pytest.raises(InputError, match="day 30 has no outline"):
        model.calibrate(bare, [0, 30])
    assert "not calibrated" in repr(model)
