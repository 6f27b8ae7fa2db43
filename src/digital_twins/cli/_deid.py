"""``twin deid``: a folder of DICOM and FHIR files without its patients."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from digital_twins.cli._options import Json

_FHIR_METHODS = {"remove": "safe_harbor", "shift": "expert_determination"}
_NO_DATES = "Dates of FHIR files cannot be kept; say --dates remove or shift."


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("deid")(deid)


def deid(  # noqa: PLR0913  (each parameter is an option)
    source: Annotated[Path, typer.Argument(metavar="IN", help="Folder of DICOM or FHIR files.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the new files.")],
    *,
    profile: Annotated[str, typer.Option(help="Profile of PS3.15 Annex E: basic.")] = "basic",
    dates: Annotated[str, typer.Option(help="Dates: shift (by the patient), remove or keep.")] = "shift",
    keep: Annotated[
        list[str] | None,
        typer.Option(
            help="device, institution, patient_characteristics, uids, descriptors, safe_private; repeatable."
        ),
    ] = None,
    key: Annotated[
        Path, typer.Option(help="Secret of the new identities, made at first use; keep it from the receiver.")
    ] = Path("deid.key"),
    table: Annotated[
        Path | None,
        typer.Option(help="Also write the re-identification table, encrypted under TABLE.key beside it."),
    ] = None,
    pixels_checked: Annotated[
        bool,
        typer.Option("--pixels-checked", help="Somebody looked for burned-in text: let such images pass."),
    ] = False,
    ocr: Annotated[
        bool,
        typer.Option("--ocr", help="Find and cover text in the pixels of images that may show some."),
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    as_json: Json = False,
) -> int:
    """De-identify a folder of DICOM and FHIR files; images that may show text are refused or searched.

    Shifted dates are not Safe Harbor of HIPAA (years only): use --dates remove for that.
    """
    from digital_twins._errors import InputError
    from digital_twins.cli import _output
    from digital_twins.crypto import LocalKeyFile
    from digital_twins.governance import (
        BurnedInText,
        Dates,
        DeidentificationKey,
        DicomDeidentifier,
        Policy,
        deidentify_folder,
        write_reidentification_table,
    )

    if profile != "basic":
        raise InputError(f"There is no profile '{profile}'.", "The one that exists is basic.", "Say basic.")
    if dates not in set(Dates):
        raise InputError(f"Dates cannot be '{dates}'.", "That is no choice.", "Say shift, remove or keep.")
    cleaner = DicomDeidentifier(
        DeidentificationKey.load(key),
        Policy(Dates(dates), frozenset(keep or ())),
        pixels_checked=pixels_checked,
        pixel_text=BurnedInText() if ocr else None,
    )
    with _output.steps() as step, step("de-identify") as shown:
        report = deidentify_folder(
            source,
            target,
            deidentifier=cleaner,
            workers=workers,
            progress=lambda done, files: shown(done / files, f"{done} of {files} files"),
        )
    if table is not None:
        provider = LocalKeyFile(table.with_name(f"{table.name}.key"))
        write_reidentification_table(table, report.identities, provider=provider)
    result = _with_fhir(report.to_dict(), (source, target), key=key, dates=dates)
    if as_json:
        _output.write_json(result)
    else:
        _output.write_lines(_lines(result))
    written = report.identities or result.get("fhir", {}).get("written")
    return 1 if not written and (result["refused"] or "fhir" in result) else 0


def _with_fhir(
    result: dict[str, Any], folders: tuple[Path, Path], *, key: Path, dates: str
) -> dict[str, Any]:
    """De-identify the FHIR files, and tell of them apart from the DICOM files."""
    from digital_twins.governance import DeidentificationKey, FhirDeidentifier, deidentify_fhir_folder

    fhir = {name for name in result["refused_files"] if name.endswith((".json", ".ndjson"))}
    if not fhir:
        return result
    others = {name: why for name, why in result["refused_files"].items() if name not in fhir}
    result |= {"refused": len(others), "reasons": dict(Counter(others.values())), "refused_files": others}
    if dates not in _FHIR_METHODS:
        said = {"written": 0, "resources": 0, "refused_files": dict.fromkeys(sorted(fhir), _NO_DATES)}
        return result | {"fhir": said}
    cleaner = FhirDeidentifier(DeidentificationKey.load(key), _FHIR_METHODS[dates])
    return result | {"fhir": deidentify_fhir_folder(*folders, deidentifier=cleaner).to_dict()}


def _lines(result: dict[str, Any]) -> list[str]:
    lines = [f"{result['written']} objects of {result['patients']} patients written"]
    if result["faces_can_be_rendered_from"]:
        count = result["faces_can_be_rendered_from"]
        lines.append(f"faces can be rendered from {count} of them: nothing was defaced")
    if result["dicomdir"]["left_out"]:
        count = result["dicomdir"]["objects_in_new_one"]
        lines.append(f"a new DICOMDIR over {count} objects took the place of the old one")
    refused = dict(result["refused_files"])
    if "fhir" in result:
        fhir = result["fhir"]
        lines.append(f"{fhir['written']} FHIR files with {fhir['resources']} resources written")
        refused |= fhir["refused_files"]
    if refused:
        lines += [f"refused {name}: {why}" for name, why in refused.items()]
    return lines
