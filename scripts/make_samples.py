"""Make the packs of the sample patients in src/digital_twins/samples/data/ from the pyradiomics test cases.

    python scripts/make_samples.py FOLDER      FOLDER holds lung2_image.nrrd, lung2_label.nrrd, brain1_...

The images are real and only cropped. The follow-up visits are simulated here, on purpose without the engine's
own solver and calibration code: an explicit finite-volume Fisher-KPP equation in numpy,

    du/dt = div(D grad u) + rho u (1 - u),   no flux through the edge of the domain,   u -> S u at each dose,

from u0 = 1 / (1 + exp(s / sqrt(D / rho))) with s the signed distance (mm) to the outline at baseline. The
lesion that a reader would draw is u >= 0.5, whose outline is then moved by a smooth Gaussian random field.
Every parameter is written to truth.json beside the masks.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from sample_records import bundles
from scipy import ndimage

from digital_twins.imaging import (
    Mask,
    Volume,
    as_mask,
    crop,
    grid,
    load_mask,
    load_volume,
    resample,
    save_nrrd,
)

DATA = Path(__file__).parents[1] / "src/digital_twins/samples/data"
VISIT_DAYS = (28.0, 56.0, 84.0)
DOMAIN_BIT = 7


@dataclass(frozen=True)
class Case:
    """One sample patient: where the images come from and how its tumour is made to grow."""

    name: str
    source: str
    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    diffusion_mm2_per_day: float
    proliferation_per_day: float
    doses: tuple[dict[str, float | str], ...] = ()
    outline_noise_sd_mm: float = 0.4
    outline_noise_correlation_mm: float = 6.0
    cell_mm: float = 1.5
    step_days: float = 0.25
    seed: int = 0


CASES = (
    Case(
        "lung",
        "lung2",
        ((25, 52), (40, 480), (0, 512)),
        diffusion_mm2_per_day=0.10,
        proliferation_per_day=0.020,
        doses=(
            {"day": 0.0, "drug": "cisplatin", "dose_mg_m2": 75.0, "log_survival": -0.35},
            {"day": 21.0, "drug": "cisplatin", "dose_mg_m2": 75.0, "log_survival": -0.35},
        ),
        seed=20250303,
    ),
    Case(
        "brain",
        "brain1",
        ((0, 25), (0, 256), (0, 256)),
        diffusion_mm2_per_day=0.12,
        proliferation_per_day=0.018,
        seed=20250407,
    ),
)


def main() -> None:
    """Write every pack."""
    folder = Path(sys.argv[1])
    for case in CASES:
        write_pack(case, folder)


def write_pack(case: Case, folder: Path) -> None:
    """Write image.nrrd, masks.nrrd, truth.json and bundle.json of one patient."""
    image = standard_order(load_volume(folder / f"{case.source}_image.nrrd"))
    lesion = standard_order(load_mask(folder / f"{case.source}_label.nrrd"))
    box = tuple(slice(a, b) for a, b in case.box)
    image, lesion = crop(image, box), crop(lesion, box)
    domain = lung_domain(image, lesion) if case.name == "lung" else brain_domain(image, lesion)
    visits = simulate(case, lesion, domain)
    bits = lesion.array.astype(np.uint8) | (domain.array.astype(np.uint8) << DOMAIN_BIT)
    for n, mask in enumerate(visits, 1):
        bits |= mask.array.astype(np.uint8) << n
    target = DATA / case.name
    target.mkdir(parents=True, exist_ok=True)
    save_nrrd(image.with_array(image.array.astype(np.int16)), target / "image.nrrd")
    save_nrrd(Volume(bits, image.affine), target / "masks.nrrd")
    write_json(target / "truth.json", truth(case, lesion, visits))
    write_json(target / "bundle.json", bundles()[case.name])
    print(case.name, image.shape, [round(m.volume_cm3, 2) for m in (lesion, *visits)])


def standard_order(volume: Volume) -> Volume:
    """Order slices to the feet, rows to the back and columns to the left, as the DICOM loader does."""
    for axis, (direction, sign) in enumerate(((2, -1), (1, 1), (0, 1))):
        if volume.affine[direction, axis] * sign < 0:
            affine = volume.affine.copy()
            affine[:3, 3] += affine[:3, axis] * (volume.shape[axis] - 1)
            affine[:3, axis] *= -1
            volume = replace(volume, array=np.flip(volume.array, axis), affine=affine)
    return volume


def lung_domain(image: Volume, lesion: Mask) -> Mask:
    """Lung around the lesion: air-filled tissue inside the body, vessels closed, and the lesion itself."""
    inside = ndimage.binary_fill_holes(image.array > -300, structure=plane_structure())
    lung = ndimage.binary_opening(inside & (image.array < -400), iterations=2)
    lung = ndimage.binary_closing(lung, disc(image, 6.0)) & inside
    return as_mask(image, connected(lung | ndimage.binary_dilation(lesion.array, disc(image, 2.0)), lesion))


def brain_domain(image: Volume, lesion: Mask) -> Mask:
    """Brain around the lesion: what is left of the head without its bright rim and dark skull."""
    head = ndimage.binary_fill_holes(
        ndimage.gaussian_filter(image.array.astype(float), (0, 1, 1)) > 120, structure=plane_structure()
    )
    within = distance_inside(head, image) > 15.0
    tissue = within & (ndimage.gaussian_filter(image.array.astype(float), (0, 1, 1)) > 200)
    tissue = ndimage.binary_opening(tissue, disc(image, 2.5))
    return as_mask(image, connected(tissue | lesion.array, lesion))


def plane_structure() -> np.ndarray:
    """Neighbours within the slice only."""
    return ndimage.generate_binary_structure(3, 1) & (np.arange(3) == 1)[:, None, None]


def disc(image: Volume, radius_mm: float) -> np.ndarray:
    """Disc of a radius in the plane of a slice."""
    pixels = int(radius_mm / image.spacing_mm[1])
    y, x = np.ogrid[-pixels : pixels + 1, -pixels : pixels + 1]
    return (x**2 + y**2 <= pixels**2)[None]


def distance_inside(mask: np.ndarray, image: Volume) -> np.ndarray:
    """Distance of each voxel inside to the edge within its slice, in mm."""
    return np.stack([ndimage.distance_transform_edt(plane, image.spacing_mm[1:]) for plane in mask])


def connected(mask: np.ndarray, lesion: Mask) -> np.ndarray:
    """The parts of a mask that the lesion touches."""
    labels = ndimage.label(mask)[0]
    return np.isin(labels, np.unique(labels[lesion.array & mask])) & mask


def signed_distance_mm(mask: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Distance to the outline, negative inside."""
    outside = ndimage.distance_transform_edt(~mask, spacing)
    inside = ndimage.distance_transform_edt(mask, spacing)
    return outside - inside + np.where(mask, 0.5, -0.5) * min(spacing)


def simulate(case: Case, lesion: Mask, domain: Mask) -> list[Mask]:
    """Return what a reader would draw at each visit."""
    where = np.argwhere(lesion.array)
    margin = np.ceil(35.0 / np.array(lesion.spacing_mm)).astype(int)
    low = np.maximum(where.min(0) - margin, 0)
    high = np.minimum(where.max(0) + margin + 1, lesion.shape)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    near, room = crop(lesion, box), crop(domain, box)
    cells = grid(near, spacing_mm=case.cell_mm)
    distance = signed_distance_mm(near.array, near.spacing_mm)
    fine = resample(Volume(distance.astype(np.float32), near.affine), cells, outside=100.0).array
    width = (case.diffusion_mm2_per_day / case.proliferation_per_day) ** 0.5
    open_cells = resample(room, cells).array | (fine < 0)
    u = open_cells / (1.0 + np.exp(np.clip(fine / width, -50, 50)))
    rng = np.random.default_rng(case.seed)
    visits, day = [], 0.0
    for visit in VISIT_DAYS:
        u = advance(case, u, open_cells, day, visit)
        visits.append(drawn(case, u, cells, lesion, rng))
        day = visit
    return visits


def advance(case: Case, u: np.ndarray, room: np.ndarray, start: float, end: float) -> np.ndarray:
    """Explicit finite-volume steps; doses of the day ``start`` count, those of ``end`` do not yet."""
    rate = case.diffusion_mm2_per_day * case.step_days / case.cell_mm**2
    steps = round((end - start) / case.step_days)
    doses = {round((float(d["day"]) - start) / case.step_days): float(d["log_survival"]) for d in case.doses}
    walls = [np.logical_and(*(np.take(room, cut, axis) for cut in cuts(room, axis))) for axis in range(3)]
    for step in range(steps):
        u = u * np.exp(doses.get(step, 0.0))
        change = case.step_days * case.proliferation_per_day * u * (1.0 - u)
        for axis in range(3):
            flux = rate * np.diff(u, axis=axis) * walls[axis]
            change += np.diff(flux, axis=axis, prepend=0.0, append=0.0)
        u = u + change
    return u


def cuts(room: np.ndarray, axis: int) -> tuple[range, range]:
    """Indices of the cells on the two sides of the inner faces."""
    return range(room.shape[axis] - 1), range(1, room.shape[axis])


def drawn(case: Case, u: np.ndarray, cells: Volume, lesion: Mask, rng: np.random.Generator) -> Mask:
    """The outline u = 0.5, moved by the reader's noise, on the grid of the image."""
    width = (case.diffusion_mm2_per_day / case.proliferation_per_day) ** 0.5
    noise = ndimage.gaussian_filter(
        rng.normal(size=u.shape), case.outline_noise_correlation_mm / case.cell_mm
    )
    noise *= case.outline_noise_sd_mm / noise.std()
    clipped = np.clip(u, 1e-9, 1 - 1e-9)
    outline = np.log(clipped / (1 - clipped)) * width + noise
    there = resample(cells.with_array(outline.astype(np.float32)), lesion, outside=-50.0)
    return as_mask(lesion, there.array >= 0)


def truth(case: Case, lesion: Mask, visits: list[Mask]) -> dict[str, object]:
    """Everything that the simulation used, and what came out."""
    return {
        "label": "SIMULATED follow-up: no patient was scanned on these days. The baseline is a real image.",
        "equation": "du/dt = div(D grad u) + rho u (1 - u), no flux at the edge of the domain",
        "initial_state": "u0 = 1 / (1 + exp(s / sqrt(D / rho))), s = signed distance to first outline, mm",
        "drug_effect": "u -> exp(log_survival) u on the day of each dose, after that day's scan",
        "observation": "lesion = {u >= 0.5}; outline moved by a Gaussian random field",
        "scheme": "explicit finite volumes on a regular grid (scripts/make_samples.py)",
        "parameters": {key: value for key, value in asdict(case).items() if key not in ("name", "box")},
        "carrying_capacity": 1.0,
        "visible_threshold": 0.5,
        "mask_bits": {"0": "lesion, day 0 (real outline)"}
        | {str(n): f"lesion, day {day:g} (simulated)" for n, day in enumerate(VISIT_DAYS, 1)}
        | {str(DOMAIN_BIT): "domain of growth used by the simulation"},
        "visits": [
            {"day": day, "volume_cm3": round(mask.volume_cm3, 3), "simulated": day > 0}
            for day, mask in zip((0.0, *VISIT_DAYS), (lesion, *visits), strict=True)
        ],
    }


def write_json(path: Path, content: object) -> None:
    """Write readable JSON with a final newline."""
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
