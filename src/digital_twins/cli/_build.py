"""`twin build`: from images to a twin in one file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from digital_twins.cli._options import Json
from digital_twins.cli._simulate import read_treatment

if TYPE_CHECKING:
    from digital_twins.patient_modeling import PatientTwin


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("build")(build)


def build(  # noqa: PLR0913  (each parameter is an option)
    *,
    image: Annotated[Path, typer.Option(help="Image: NIfTI, NRRD, or the folder of a DICOM series.")],
    mask: Annotated[Path, typer.Option(help="Tumour: NIfTI or NRRD mask, or a DICOM SEG file.")],
    patient_id: Annotated[str, typer.Option(help="Identifier that the twin carries.")],
    scan: Annotated[
        list[str] | None,
        typer.Option(
            help="Follow-up mask as DAY:PATH (days since the image); repeat it.", show_default=False
        ),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(help="Treatment already given, as JSON or a file; repeat it.", show_default=False),
    ] = None,
    domain: Annotated[
        Path | None, typer.Option(help="Mask of the tissue that the tumour can invade.", show_default=False)
    ] = None,
    method: Annotated[
        Literal["map", "lm", "bayesian"], typer.Option(help="How to calibrate on the follow-up masks.")
    ] = "map",
    export: Annotated[
        Path | None,
        typer.Option(help="Folder for tables, images and a page of the twin.", show_default=False),
    ] = None,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("patient.twin"),
    seed: Annotated[int, typer.Option(help="Seed of every random step.")] = 0,
    as_json: Json = False,
) -> None:
    """Build a patient twin from an image and a tumour mask, and calibrate it on follow-up masks."""
    scans = [_dated(text) for text in scan or ()]
    history = [treatment for text in given or () for treatment in read_treatment(text)]

    from digital_twins.cli import _output
    from digital_twins.cli._export import export_twin
    from digital_twins.patient_modeling import TumorTwinPipeline

    with _output.steps() as step:
        with step("twin from image and mask"):
            twin = TumorTwinPipeline().create_twin(patient_id, image, mask, domain=domain, seed=seed)
        if scans:
            with step(f"calibration ({method}) on {len(scans)} follow-up scans") as progress:
                twin.calibrate(scans, history, method=method, seed=seed, progress=progress)
        twin.save(out)
        described = describe(twin) | {"file": str(out)}
        if export is not None:
            with step("export"):
                described["exported"] = [str(path) for path in export_twin(twin, export)]
    if as_json:
        _output.write_json(described)
        return
    _output.write_lines(
        [f"{out}: twin {twin.twin_id}, version {twin.version}, {twin.current_volume_cm3:.2f} cm3"]
    )
    _output.write_table(
        ("parameter", "value", "low", "high", "unit", "source"),
        [
            (name, each["value"], each["low"], each["high"], each["unit"], each["source"])
            for name, each in described["parameters"].items()
        ],
    )


def describe(twin: "PatientTwin") -> dict[str, Any]:
    """Return a twin's numbers as plain data."""
    low, high = twin.proliferation_rate_interval
    return {
        "twin_id": twin.twin_id,
        "version": twin.version,
        "current_volume_cm3": twin.current_volume_cm3,
        "proliferation_rate_per_day": {"value": twin.proliferation_rate, "low": low, "high": high},
        "parameters": {
            name: {
                "value": estimate.value,
                "low": estimate.low,
                "high": estimate.high,
                "unit": estimate.unit,
                "fixed": estimate.fixed,
                "source": estimate.source,
            }
            for name, estimate in twin.parameters.items()
        },
    }


def _dated(text: str) -> tuple[float, Path]:
    day, colon, path = text.partition(":")
    try:
        if not (colon and path):
            raise ValueError
        return float(day), Path(path)
    except ValueError:
        raise typer.BadParameter(
            f"'{text}' is not DAY:PATH, e.g. 42:week6.nii.gz", param_hint="--scan"
        ) from None
