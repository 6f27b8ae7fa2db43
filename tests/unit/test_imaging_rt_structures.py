"""Contours into masks and back: exact areas, holes, broken references."""

from __future__ import annotations

import copy
from io import BytesIO

import numpy as np
import pytest
from scipy import ndimage

import rt_case
from ct_series import AXIAL, ball, ct_series, oblique, tilted
from digital_twins import InputError
from digital_twins.imaging import (
    Mask,
    RigidRegistration,
    StructureDetails,
    Volume,
    as_mask,
    load_dose,
    load_mask,
    load_registrations,
    load_structures,
    registration_object,
    resample,
    structures_from_masks,
    volume_from_series,
)
from digital_twins.imaging._polygons import outlines, polygon_coverage
from digital_twins.records import Code


def _shoelace(points):
    y, x = points.T
    return 0.5 * abs(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def test_coverage_has_the_exact_area_of_a_polygon():
    rng = np.random.default_rng(4)
    for _ in range(50):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 40))
        radius = rng.uniform(3.0, 9.0, 40)
        star = np.stack([12.3 + radius * np.sin(angle), 14.1 + radius * np.cos(angle)], axis=1)
        covered = polygon_coverage(star, (26, 30))
        assert covered.sum() == pytest.approx(_shoelace(star), rel=1e-10)
        assert covered.min() >= -1e-12
        assert covered.max() <= 1 + 1e-12


def test_part_of_a_polygon_outside_the_grid_is_cut_off():
    square = np.array([[-5.0, -5.0], [-5.0, 3.25], [2.5, 3.25], [2.5, -5.0]])
    covered = polygon_coverage(square, (8, 9))
    assert covered.sum() == pytest.approx(3.0 * 3.75)
    assert polygon_coverage(np.add(square, (0, 30.0)), (8, 9)).sum() == 0.0


def test_outlines_enclose_exactly_the_pixels_with_holes_and_islands():
    rng = np.random.default_rng(1)
    for level in (-0.02, 0.0, 0.03):
        plane = ndimage.gaussian_filter(rng.normal(size=(50, 60)), 1.5) > level
        total = np.zeros(plane.shape)
        for outline in outlines(plane):
            part = polygon_coverage(outline, plane.shape)
            total += part - 2 * total * part
        np.testing.assert_allclose(total, plane, atol=1e-12)
        labels, _ = ndimage.label(plane)
        assert len(outlines(plane)) == labels.max()


@pytest.fixture(scope="module")
def breast():
    return load_structures(rt_case.packed("rtss")), load_dose(rt_case.packed("rtdose"))


def test_structures_of_the_breast_case(breast):
    structures, _ = breast
    assert len(structures.structures) == 10
    heart = structures["Heart"]
    assert (heart.number, heart.interpreted_type, heart.colour) == (5, "ORGAN", (255, 128, 0))
    assert structures[9].interpreted_type == "CTV"
    assert heart.volume_cm3() == pytest.approx(440.23124999, rel=3e-3)  # dicompyler-core, other raster
    with pytest.raises(InputError, match="no closed contour"):
        structures["Areola"].volume_cm3()
    with pytest.raises(InputError, match="0 structures"):
        _ = structures["Liver"]


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("Heart", 0.006), ("Breast", 0.01), ("Lt Lung", 0.003), ("Tumor Bed Block", 0.016)],
)
def test_volumes_agree_with_the_planning_system(breast, name, tolerance):
    structures, dose = breast
    structure = structures[name]
    (theirs,) = (h for h in dose.histograms if h.roi_numbers == (structure.number,))
    covered = structure.coverage(dose.volume)
    ours = covered.array.sum() * covered.voxel_volume_mm3 / 1000
    assert ours == pytest.approx(theirs.volume_cm3[0], rel=tolerance)
    assert structure.mask(dose.volume).volume_cm3 == pytest.approx(ours, rel=0.01)


def _drawn(contours, frame="1.2.3.4"):
    """A structure set with one region of the given contours, as a planning system would write it."""
    series = ct_series(np.zeros((6, 12, 11), np.int16), AXIAL)
    image = volume_from_series(series)
    dataset = structures_from_masks(
        [as_mask(image, ball((6, 12, 11), (2.5, 6, 5), 2.2))],
        series,
        series_description="x",
        series_number=1,
    )
    template = dataset.ROIContourSequence[0].ContourSequence[0]
    made = []
    for points in contours:
        item = copy.deepcopy(template)
        item.ContourData = [f"{v:.4f}" for v in np.asarray(points, float).ravel()]
        item.NumberOfContourPoints = len(points)
        made.append(item)
    dataset.ROIContourSequence[0].ContourSequence = made
    return load_structures(dataset, images=series).structures[0], image


def _rectangle(image, k, rows, columns):
    corners = [[k, rows[0], columns[0]], [k, rows[0], columns[1]], [k, rows[1], columns[1]]]
    return image.index_to_mm(np.array([*corners, [k, rows[1], columns[0]]], float))


def test_an_inner_contour_and_a_keyhole_are_holes():
    image = volume_from_series(ct_series(np.zeros((6, 12, 11), np.int16), AXIAL))
    outer, inner = _rectangle(image, 2, (2, 9), (1, 8)), _rectangle(image, 2, (4, 6), (3, 6))
    keyhole = np.concatenate([outer[:1], inner[:1], inner[::-1], outer[:1], outer[1:]])
    solid = 7.0 * 7.0 - 2.0 * 3.0
    for contours in ([outer, inner], [keyhole]):
        structure, image = _drawn(contours)
        covered = structure.coverage(image).array
        assert covered[2].sum() == pytest.approx(solid, rel=1e-9)
        assert covered[2, 5, 4] == pytest.approx(0.0, abs=1e-9)
        assert covered[[0, 1, 3, 4, 5]].sum() == 0.0


def test_a_structure_keeps_its_volume_on_any_grid_of_the_frame(breast):
    structures, dose = breast
    bed = structures["Tumor Bed"]
    fine = Volume(
        np.zeros((70, 90, 90), np.uint8),
        np.array([[0, 0, 1.3, 30], [0, 1.1, 0, -340], [1.7, 0, 0, -50], [0, 0, 0, 1.0]]),
        frame_of_reference_uid=dose.volume.frame_of_reference_uid,
    )
    fine_cm3 = bed.coverage(fine).array.sum() * fine.voxel_volume_mm3 / 1000
    assert fine_cm3 == pytest.approx(bed.volume_cm3(), rel=1e-3)


def test_other_frames_and_slanting_contours_are_refused(breast):
    structures, _ = breast
    elsewhere = Volume(np.zeros((4, 5, 6)), AXIAL, frame_of_reference_uid="1.2.3.4")
    with pytest.raises(InputError, match="another frame"):
        structures["Heart"].mask(elsewhere)
    turned = Volume(np.zeros((4, 5, 6)), oblique(), frame_of_reference_uid=None)
    with pytest.raises(InputError, match="not parallel"):
        structures["Heart"].mask(turned)


@pytest.mark.parametrize("affine", [AXIAL, oblique(), tilted()], ids=["axial", "oblique", "tilted"])
def test_mask_to_rtstruct_to_mask_returns_the_voxels(affine, tmp_path):
    series = ct_series(np.zeros((8, 24, 22), np.int16), affine)
    image = volume_from_series(series)
    hollow = ball((8, 24, 22), (3.5, 12, 10), 8.0) & ~ball((8, 24, 22), (3.5, 12, 10), 3.0)
    masks = [
        as_mask(image, hollow),
        as_mask(image, ball((8, 24, 22), (4, 5, 5), 3.0), meaning=Code("64033007", "SCT", "Kidney")),
    ]
    dataset = structures_from_masks(
        masks,
        series[::-1],
        series_description="Predicted",
        series_number=9,
        details=StructureDetails(names=("Lesion",), interpreted_types=("GTV", "ORGAN")),
    )
    dataset.save_as(tmp_path / "rs.dcm")
    again = load_structures(tmp_path / "rs.dcm", images=series)
    assert again.names == ("Lesion", "Kidney")
    for mask, structure in zip(masks, again.structures, strict=True):
        np.testing.assert_array_equal(structure.mask(image).array, mask.array)
        assert structure.meaning == mask.meaning
    assert again["Lesion"].interpreted_type == "GTV"
    assert again.series_uids == ("1.2.3.8",)
    assert again.patient_id == "P1"


def test_what_cannot_be_outlined_is_refused():
    series = ct_series(np.zeros((4, 12, 11), np.int16), AXIAL)
    image = volume_from_series(series)
    with pytest.raises(InputError, match="nothing to outline"):
        structures_from_masks(
            [as_mask(image, np.zeros(image.shape, bool))], series, series_description="", series_number=1
        )
    foreign = Mask(np.ones(image.shape, bool), image.affine, frame_of_reference_uid="9.9")
    with pytest.raises(InputError, match="frames of reference"):
        structures_from_masks([foreign], series, series_description="", series_number=1)


def _small_set():
    series = ct_series(np.zeros((4, 12, 11), np.int16), AXIAL)
    image = volume_from_series(series)
    lesion = as_mask(image, ball(image.shape, (2, 6, 5), 2.2))
    return series, structures_from_masks([lesion], series, series_description="x", series_number=1)


def test_references_to_other_images_are_refused():
    series, dataset = _small_set()
    with pytest.raises(InputError, match="not among the images"):
        load_structures(dataset, images=series[:2])
    del dataset.ReferencedFrameOfReferenceSequence
    for contour in dataset.ROIContourSequence[0].ContourSequence:
        del contour.ContourImageSequence
    assert len(load_structures(dataset).structures) == 1
    with pytest.raises(InputError, match="refers to no image"):
        load_structures(dataset, images=series)


@pytest.mark.shared
def test_broken_references_of_rt_utils_are_refused(shared_data):
    folder = shared_data / "dicom" / "rt" / "rt-utils" / "mock_data"
    import pydicom

    images = [pydicom.dcmread(folder / f"ct_{n}.dcm") for n in (1, 2)]
    for name in ("invalid_reference_rt", "non_existent_reference_rt"):
        with pytest.raises(InputError, match="not among the images"):
            load_structures(folder / f"{name}.dcm", images=images)
    whole = load_structures(folder / "rt.dcm", images=images)
    with pytest.raises(InputError, match="another frame"):
        whole.structures[0].mask(volume_from_series(images))


@pytest.mark.parametrize("data", [[], [1.0, 2.0, 3.0], [1.0] * 10, [float("nan")] * 9])
def test_contours_that_are_no_polygons_are_refused(data):
    _, bad = _small_set()
    bad.ROIContourSequence[0].ContourSequence[0].ContourData = data
    with pytest.raises(InputError):
        load_structures(bad)


def test_registration_round_trip(tmp_path):
    turn = np.eye(4)
    angle = 0.2
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turn[:3, 3] = [12.5, -3.25, 40.125]
    moving = ct_series(np.zeros((4, 12, 11), np.int16), AXIAL, frame_uid="1.2.3.5")
    fixed = ct_series(np.zeros((4, 12, 11), np.int16), oblique())
    registration = RigidRegistration(turn, "1.2.3.5", "1.2.3.4")
    dataset = registration_object(
        registration, fixed, moving, series_description="PET to CT", series_number=3
    )
    dataset.save_as(tmp_path / "reg.dcm")
    (again,) = load_registrations(tmp_path / "reg.dcm")
    np.testing.assert_allclose(again.matrix, turn, atol=1e-9)
    volume = volume_from_series(moving)
    moved = again.apply(volume)
    assert moved.frame_of_reference_uid == "1.2.3.4"
    corner = np.append(volume.index_to_mm(np.array([3.0, 11.0, 10.0])), 1.0)
    np.testing.assert_allclose(moved.index_to_mm(np.array([3.0, 11.0, 10.0])), (turn @ corner)[:3], atol=1e-6)
    back = again.inverse.apply(moved)
    assert back.same_grid(volume)
    with pytest.raises(InputError, match="does not start"):
        again.inverse.apply(volume)


def test_registrations_that_are_not_rigid_are_refused():
    for matrix in (
        np.diag([1.0, 1.0, 1.1, 1.0]),
        np.diag([1.0, 1.0, -1.0, 1.0]),
        np.zeros((4, 4)),
        np.eye(3),
    ):
        with pytest.raises(InputError, match="not rigid"):
            RigidRegistration(matrix, "1.2", "1.3")


@pytest.mark.parametrize("name", ["lung", "brain"])
def test_real_lesions_survive_the_round_trip(name):
    """Segmentations of real CT and MR, by RTSTRUCT and back: Dice at least 0.98 (here every voxel)."""
    from digital_twins.samples import sample_patient

    patient = sample_patient(name)
    images = patient.baseline_images()
    grid = volume_from_series(images)
    masks = [visit.mask for visit in patient.visits]
    dataset = structures_from_masks(masks, images, series_description="Visits", series_number=8)
    again = load_structures(dataset, images=images)
    for mask, structure in zip(masks, again.structures, strict=True):
        expected = resample(mask, grid, interpolation="nearest").array
        back = structure.mask(grid).array
        dice = 2 * np.count_nonzero(back & expected) / (back.sum() + expected.sum())
        assert dice >= 0.98
        assert structure.volume_cm3() == pytest.approx(mask.volume_cm3, rel=1e-3)


def test_a_mask_is_loaded_from_contours(tmp_path):
    """By load_mask, on the image's grid or alone; the only structure, or the only GTV, need not be named."""
    series = ct_series(np.zeros((8, 24, 22), np.int16), oblique())
    image = volume_from_series(series)
    masks = [as_mask(image, ball(image.shape, (4, 12, 10), r)) for r in (3.2, 4.5)]
    dataset = structures_from_masks(
        masks,
        series,
        series_description="x",
        series_number=1,
        details=StructureDetails(names=("Tumour", "Margin"), interpreted_types=("GTV", "PTV")),
    )
    dataset.save_as(tmp_path / "rs.dcm")
    np.testing.assert_array_equal(load_mask(tmp_path / "rs.dcm", like=image).array, masks[0].array)
    np.testing.assert_array_equal(load_mask(dataset, like=image, segment="Margin").array, masks[1].array)
    alone = load_mask(dataset, segment=2)
    assert alone.volume_cm3 == pytest.approx(masks[1].volume_cm3, rel=0.02)
    assert alone.centroid_mm == pytest.approx(masks[1].centroid_mm, abs=0.1)
    assert (alone.patient_id, alone.frame_of_reference_uid) == ("P1", "1.2.3.4")
    for item in dataset.RTROIObservationsSequence:
        item.RTROIInterpretedType = "ORGAN"
    with pytest.raises(InputError, match="None was chosen"):
        load_mask(dataset)


def test_damaged_structure_sets_leave_as_input_errors_or_load():
    """Bytes of a small object changed at random: no other exception leaves the boundary."""
    series, dataset = _small_set()
    image = volume_from_series(series)
    stream = BytesIO()
    dataset.save_as(stream)
    good = stream.getvalue()
    rng = np.random.default_rng(11)
    refused = 0
    for _ in range(150):
        bad = bytearray(good)
        for at in rng.integers(132, len(good), rng.integers(1, 12)):
            bad[at] = rng.integers(256)
        cut = len(bad) if rng.random() < 0.7 else int(rng.integers(132, len(bad)))
        try:
            for structure in load_structures(bytes(bad[:cut]), images=series).structures:
                structure.mask(image)
        except InputError:
            refused += 1
    assert refused > 50
