"""What a twin file says about itself: a page for a reader without this software, a schema, checksums."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

README, SCHEMA, SUMS = "README.txt", "twin.schema.json", "SHA256SUMS"

TEXT = """\
PATIENT TWIN, exported by digital-twins. Research use, not a medical device. This file may hold patient data.

This is a zip archive. Nothing in it is a program, and no software of ours is needed to read it.

  twin.json         everything but the arrays, UTF-8 JSON; twin.schema.json (JSON Schema 2020-12) explains
                    each field. "history" holds every version of the twin, oldest first, none overwritten.
  domain.npy        where tumour cells can live on the model grid: eight voxels a byte, first voxel in the
                    highest bit, in C order (numpy.packbits); shape and affine under "domain" in twin.json
  distance_mm.npy   signed distance to the edge of the baseline lesion on that grid, positive inside, float32
  image.npy         baseline image around the lesion, if any; shape and affine under "image"
  visit-DIGEST.npy  lesion of a follow-up scan on the model grid, packed as the domain is
  visit-DIGEST-KIND.npy  another image of that scan there: cellularity (of ADC) or uptake (of PET), float32
  particles-VERSION.npy, weights-VERSION.npy  samples of the logarithms of the parameters under "sampled",
                    [sample, parameter], and their weights, for versions that a sampler made
  diffusivity.npy   relative diffusivity of each voxel, if tissue maps were given
  tensor.npy        relative diffusion tensors [slice, row, column, 3, 3] along the grid's axes, if given
  dose-DIGEST.npy   dose of a treatment's map on the model grid, gray
  SHA256SUMS        checksums of all the other members: unzip, then: sha256sum -c SHA256SUMS

Arrays are NumPy .npy files (format 1.0), indexed slice, row, column. Affines map (slice, row, column, 1) to
patient LPS millimetres, as DICOM has them. Days count from the baseline scan. Volumes are in cm3, times in
days, D in mm2/day. Parameters are log-normal: "log_mean" and "log_covariance" belong to the natural
logarithms of the parameters in the order of "priors".
"""


def checksums(members: Mapping[str, bytes]) -> bytes:
    """Return the SHA256SUMS of an archive's members, as ``sha256sum`` writes and checks them."""
    lines = (f"{hashlib.sha256(members[name]).hexdigest()}  {name}\n" for name in sorted(members))
    return "".join(lines).encode()


def schema_text() -> bytes:
    """Return the schema of ``twin.json`` as JSON."""
    return json.dumps(SCHEMA_2020, indent=1, sort_keys=True).encode()


def _object(about: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "description": about,
        "properties": dict(properties),
        "required": sorted(properties),
    }


def _is(kind: str | list[str], about: str = "") -> dict[str, Any]:
    return {"type": kind, "description": about} if about else {"type": kind}


def _list(items: dict[str, Any], about: str = "") -> dict[str, Any]:
    return {"type": "array", "items": items, **({"description": about} if about else {})}


def _map(values: dict[str, Any], about: str = "") -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values, **({"description": about} if about else {})}


_NUMBER, _TEXT, _WHOLE = _is("number"), _is("string"), _is("integer")
_MAYBE_TEXT = _is(["string", "null"])
_TIME = {"type": ["string", "null"], "format": "date-time"}

_GEOMETRY = _object(
    "Grid of an array",
    {
        "shape": _list(_WHOLE, "slices, rows, columns"),
        "affine": _list(_list(_NUMBER), "4x4, index (slice, row, column, 1) to patient LPS mm"),
        "frame_of_reference_uid": _MAYBE_TEXT,
        "modality": _MAYBE_TEXT,
        "acquired": _TIME,
        "source_uids": _list(_TEXT, "SOP instances, or sha256:... of a file"),
        "patient_id": _MAYBE_TEXT,
        "meaning": _map(_MAYBE_TEXT, "code of a mask") | {"type": ["object", "null"]},
    },
)
_ESTIMATE = _object(
    "A value with its 95 % interval",
    {
        "value": _NUMBER,
        "standard_deviation": _NUMBER,
        "low": _NUMBER,
        "high": _NUMBER,
        "unit": _TEXT,
        "fixed": _is("boolean", "taken as known"),
        "source": _is("string", "'calibrated', or where the prior comes from"),
    },
)
_PRIOR = _object(
    "Log-normal prior of a parameter",
    {
        "name": _TEXT,
        "median": _NUMBER,
        "log_sd": _is("number", "standard deviation of the natural logarithm, 0 fixes it"),
        "low": _NUMBER,
        "high": _NUMBER,
        "unit": _TEXT,
        "source": _TEXT,
    },
)
_TREATMENT = _object(
    "A treatment in days since baseline, with the dictionary that it was given as",
    {
        "kind": _TEXT,
        "label": _TEXT,
        "drug": _MAYBE_TEXT,
        "technique": _MAYBE_TEXT,
        "source": _MAYBE_TEXT,
        "start": _TIME,
        "day": _is(["number", "null"], "of a treatment that is one event, such as surgery"),
        "doses": _list(_is("object", "day, dose_mg, duration_hours of a drug")),
        "fractions": _list(_is("object", "day and dose_gy of a radiation fraction")),
        "radiation": _is(["object", "null"], "what the plan says of the effect of its dose"),
        "dose_map": _is(["string", "null"], "digest of the dose map"),
        "as_given": _is("object"),
        "assumptions": _list(_TEXT),
    },
)
_PROVENANCE = _object(
    "Where a version comes from",
    {
        "inputs": _map(_TEXT, "SHA-256 of each input"),
        "software_version": _TEXT,
        "seed": _WHOLE,
        "parent_version": _is(["integer", "null"], "version that it was made from"),
        "notes": _list(_TEXT, "choices made on the way, in words"),
    },
)
_SNAPSHOT = _object(
    "One version",
    {
        "version": _WHOLE,
        "created_utc": _TIME,
        "priors": _list(_PRIOR),
        "log_mean": _list(_NUMBER, "in the order of priors"),
        "log_covariance": _list(_list(_NUMBER)),
        "calibrated": _list(_TEXT, "parameters that data have informed"),
        "sampled": _list(_TEXT, "columns of particles-VERSION.npy") | {"type": ["array", "null"]},
        "visits": _list(_TEXT, "digests of the follow-up scans used"),
        "treatment_history": _list(_TREATMENT),
        "provenance": _PROVENANCE,
        "current_volume_cm3": _ESTIMATE,
        "calibration": _is(["object", "null"], "outcome of the calibration that made it"),
    },
)
SCHEMA_2020: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Patient twin",
    **_object(
        "twin.json of a twin file",
        {
            "format": {"const": "digital-twins/patient-twin"},
            "format_version": {"type": "integer", "minimum": 1},
            "twin_id": _is("string", "UUID derived from the inputs"),
            "patient_id": _is("string", "medical record number"),
            "baseline": {**_TIME, "description": "wall-clock time of day 0"},
            "clinical_data": _is("object", "facts given by the user"),
            "lesion_volume_cm3": _is("number", "segmented volume at baseline"),
            "solver": _is("string", "how densities are computed"),
            "domain": _GEOMETRY,
            "image": {**_GEOMETRY, "type": ["object", "null"]},
            "visits": _map(
                _object(
                    "A follow-up scan; its mask is visit-DIGEST.npy",
                    {
                        "day": _is("number", "days since baseline"),
                        "volume_cm3": _is("number", "on its own grid"),
                        "digest": _TEXT,
                        "day_from": _is("string", "where the day was read"),
                        "images": _list(_is("object"), "kind, digest and fwhm_mm of its images"),
                    },
                )
            ),
            "history": _list(_SNAPSHOT, "versions, oldest first"),
        },
    ),
}
