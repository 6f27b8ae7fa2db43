"""Sample patients: real baseline unchanged, simulated follow-up labelled, invented record labelled."""

from __future__ import annotations

import json
import sys
from datetime import date
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from digital_twins import NotFoundError
from digital_twins.imaging import load_mask, load_volume, volume_from_series
from digital_twins.samples import NAMES, sample_patient, write_sample

VOLUMES_CM3 = {"lung": 48.434, "brain": 16.413}
SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module", params=NAMES)
def sample(request):
    return sample_patient(request.param)


def test_baseline_series_is_the_image_exactly(sample):
    series = sample.baseline_images()
    volume = volume_from_series(series[::-1])
    np.testing.assert_array_equal(volume.array, sample.image.array)
    assert volume.array.dtype == sample.image.array.dtype
    assert np.abs(volume.affine - sample.image.affine).max() < 1e-6
    assert {d.PatientID for d in series} == {sample.patient_id}
    assert sample.lesion.volume_cm3 == pytest.approx(VOLUMES_CM3[sample.name], abs=1e-3)
    assert volume.frame_of_reference_uid == sample.image.frame_of_reference_uid
    assert volume.acquired == sample.baseline
    assert volume.source_uids == sample.image.source_uids


def test_segs_return_the_masks_of_their_visits(sample):
    segs = [sample.baseline_seg(), *sample.follow_up_segs()]
    assert [v.day for v in sample.visits] == [0, 28, 56, 84]
    for seg, visit in zip(segs, sample.visits, strict=True):
        mask = load_mask(seg, like=sample.image)
        np.testing.assert_array_equal(mask.array, visit.mask.array)
        assert (mask.acquired - sample.baseline).days == visit.day
        assert visit.simulated == (visit.day > 0)


def test_follow_ups_are_studies_of_their_own_that_say_simulated(sample):
    images = sample.baseline_images()
    own = {d.StudyInstanceUID for d in images}
    assert sample.baseline_seg().StudyInstanceUID in own
    uids = {d.SOPInstanceUID for d in images}
    for seg, visit in zip(sample.follow_up_segs(), sample.visits[1:], strict=True):
        assert seg.StudyInstanceUID not in own
        own.add(seg.StudyInstanceUID)
        assert seg.SeriesDescription == f"SIMULATED follow-up day {visit.day:g} (not acquired)"
        assert "SIMULATED" in seg.StudyDescription
        assert "SIMULATED" in seg.SegmentSequence[0].SegmentLabel
        assert seg.ContentLabel == "SIMULATED"
        assert seg.FrameOfReferenceUID == sample.image.frame_of_reference_uid
        other = seg.StudiesContainingOtherReferencedInstancesSequence[0]
        assert other.StudyInstanceUID == images[0].StudyInstanceUID
        referred = other.ReferencedSeriesSequence[0].ReferencedInstanceSequence
        assert {item.ReferencedSOPInstanceUID for item in referred} <= uids


def test_everything_is_the_same_every_time(sample):
    first, second = (sample_patient(sample.name).datasets() for _ in range(2))
    assert first == second
    assert all(d.SOPInstanceUID.is_valid for d in first)
    assert len({d.SOPInstanceUID for d in first}) == len(first)


def test_truth_states_the_simulation_and_agrees_with_the_masks(sample):
    truth = sample.truth
    assert truth["label"].startswith("SIMULATED")
    for key in ("equation", "initial_state", "drug_effect", "observation", "parameters", "visible_threshold"):
        assert key in truth
    for stated, visit in zip(truth["visits"], sample.visits, strict=True):
        assert visit.volume_cm3 == pytest.approx(stated["volume_cm3"], abs=1e-3)
    assert sample.visits[-1].volume_cm3 > sample.visits[1].volume_cm3
    inside = sample.domain.array | sample.lesion.array
    grown = sample.visits[-1].mask.array
    assert (grown & inside).sum() > 0.9 * grown.sum()


def test_record_is_labelled_and_complete(sample):
    bundle = sample.fhir_bundle()
    resources_ = [entry["resource"] for entry in bundle["entry"]]
    assert bundle["type"] == "transaction"
    assert all(r["meta"]["security"][0]["code"] == "HTEST" for r in resources_)
    urls = {f"{r['resourceType']}/{r['id']}" for r in resources_}
    assert len(urls) == len(resources_)
    assert {e["request"]["url"] for e in bundle["entry"]} == urls
    references = _references(resources_)
    assert references <= urls
    patient = resources_[0]
    assert patient["identifier"][0]["value"] == sample.patient_id
    by_kind = {
        kind: [r for r in resources_ if r["resourceType"] == kind] for kind in {u.split("/")[0] for u in urls}
    }
    for request in by_kind["MedicationRequest"]:
        dosage = request["dosageInstruction"][0]
        assert dosage["doseAndRate"][0]["doseQuantity"]["code"] == "mg/m2"
        assert dosage["timing"]["repeat"].keys() >= {"count", "period", "periodUnit"}
    for request in by_kind["ServiceRequest"]:
        names = {e["url"].rsplit("/", 1)[1] for e in request["extension"]}
        assert names >= {"radiotherapy-total-dose-gy", "radiotherapy-fractions", "radiotherapy-technique"}
    planned = {a["reference"]["reference"] for a in by_kind["CarePlan"][0]["activity"]}
    assert len(planned) == 3
    given = by_kind.get("MedicationAdministration", [])
    days = [
        (date.fromisoformat(r["effectivePeriod"]["start"][:10]) - sample.baseline.date()).days for r in given
    ]
    assert days == [dose["day"] for dose in sample.truth["parameters"]["doses"]]


def _references(node):
    if isinstance(node, dict):
        own = {node["reference"]} if isinstance(node.get("reference"), str) else set()
        return own.union(*(_references(v) for v in node.values()))
    return set().union(*(_references(v) for v in node)) if isinstance(node, list) else set()


def test_changing_a_bundle_changes_no_other(sample):
    sample.fhir_bundle()["entry"].clear()
    assert sample.fhir_bundle()["entry"]


def test_files_of_a_sample_load_again(sample, tmp_path):
    paths = write_sample(sample.name, tmp_path)
    assert all(p.stat().st_size for p in paths)
    image = load_volume(tmp_path / "dicom")
    nifti = load_volume(tmp_path / "image.nii.gz")
    np.testing.assert_array_equal(nifti.array, sample.image.array)
    assert image.shape == nifti.shape
    for visit in sample.visits:
        mask = load_mask(tmp_path / f"scan_week_{visit.day / 7:g}.nii.gz", like=sample.image)
        np.testing.assert_array_equal(mask.array, visit.mask.array)
    np.testing.assert_array_equal(load_mask(tmp_path / "tumor_mask.nii.gz").array, sample.lesion.array)
    assert json.loads((tmp_path / "bundle.json").read_text()) == sample.fhir_bundle()


def test_unknown_sample():
    with pytest.raises(NotFoundError, match="lung, brain"):
        sample_patient("liver")


def test_pack_is_small_and_carries_its_licences():
    data = Path(str(resources.files("digital_twins.samples") / "data"))
    assert sum(p.stat().st_size for p in data.rglob("*") if p.is_file()) <= 15e6
    for name, owner in (("pyradiomics", "Harvard Medical School"), ("chi-drm", "David Augustin")):
        assert owner in (data / "LICENSES" / f"{name}-BSD-3-Clause.txt").read_text()
    assert len(list((data / "erlotinib").glob("*.csv"))) == 5


def test_packs_are_made_again_from_their_source(shared_data, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import make_samples

    monkeypatch.setattr(make_samples, "DATA", tmp_path)
    monkeypatch.setattr(sys, "argv", ["", str(shared_data / "dicom/tumour_nrrd_pyradiomics")])
    make_samples.main()
    for name in NAMES:
        kept = Path(str(resources.files("digital_twins.samples") / "data" / name))
        for file in ("truth.json", "bundle.json"):
            assert json.loads((tmp_path / name / file).read_text()) == json.loads((kept / file).read_text())
        for file in ("image.nrrd", "masks.nrrd"):
            assert load_volume(tmp_path / name / file).digest() == load_volume(kept / file).digest()


def test_simulation_scheme_conserves_mass_and_moves_at_fisher_speed(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import make_samples

    case = make_samples.Case("x", "x", ((0, 1),) * 3, 0.5, 0.0, cell_mm=1.0, step_days=0.1)
    rng = np.random.default_rng(5)
    room = rng.random((12, 10, 11)) < 0.8
    u = rng.random(room.shape) * room
    later = make_samples.advance(case, u, room, 0.0, 20.0)
    assert later.sum() == pytest.approx(u.sum(), rel=1e-12)
    assert not later[~room].any()
    wave = make_samples.Case("x", "x", ((0, 1),) * 3, 0.4, 0.1, cell_mm=0.5, step_days=0.05)
    line = np.zeros((400, 1, 1))
    line[:40] = 1.0
    room = np.ones_like(line, dtype=bool)
    early = make_samples.advance(wave, line, room, 0.0, 150.0)
    late = make_samples.advance(wave, early, room, 150.0, 250.0)
    speed = (np.sum(late) - np.sum(early)) * wave.cell_mm / 100.0
    # Fisher-KPP front from a step: c(t) = 2 sqrt(D rho) - (3/2) sqrt(D/rho) / t (Bramson 1983)
    expected = 2 * (0.4 * 0.1) ** 0.5 - 1.5 * (0.4 / 0.1) ** 0.5 * np.log(250 / 150) / 100
    assert speed == pytest.approx(expected, rel=0.02)
