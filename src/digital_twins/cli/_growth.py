"""`twin growth`: growth laws on a table of volumes."""

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from digital_twins._errors import InputError
from digital_twins.cli._options import Json

_JSON_KEYS = (
    "model", "mean_absolute_error", "pinball", "coverage_50", "coverage_80", "coverage_95", "seconds",
)  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the command and its parts."""
    growth = typer.Typer(no_args_is_help=True, help="Growth laws on a table of tumour volumes.")
    growth.command("fit")(fit)
    app.add_typer(growth, name="growth")


def fit(  # noqa: PLR0913  (one parameter an option)
    table: Annotated[Path, typer.Argument(metavar="FILE.csv", help="One row a reading, with a header.")],
    *,
    patient: Annotated[str, typer.Option(help="Column that tells patients apart.")],
    time: Annotated[str, typer.Option(help="Column of the time, in days.")],
    volume: Annotated[str, typer.Option(help="Column of the volume, in any unit.")],
    hold_out: Annotated[int, typer.Option(min=1, help="Last readings to hold out.")] = 2,
    min_readings: Annotated[int, typer.Option(min=3, help="Forecast patients with so many or more.")] = 6,
    models: Annotated[str, typer.Option(help="Names separated by commas, or 'all'.")] = "all",
    offset: Annotated[
        float | None,
        typer.Option(
            help="Added before logarithms are taken; default 1e-5, times the largest volume if above 1.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fit growth laws to many patients and score their forecasts of held-out last readings."""
    patients, days, volumes = _read(table, (patient, time, volume))

    from digital_twins.cli import _output
    from digital_twins.models import GROWTH_MODELS, compare_growth_models, series_from_rows

    small = 1e-5 * max(1.0, max(volumes, default=1.0)) if offset is None else offset
    result = compare_growth_models(
        series_from_rows(patients, days, volumes, offset=small),
        offset=small,
        models=GROWTH_MODELS if models == "all" else [name.strip() for name in models.split(",")],
        hold_out=hold_out,
        min_readings=min_readings,
    )
    rows = [asdict(score) for score in result.scores]
    if as_json:
        # Other programs read these names: nothing more, nothing less.
        scores = [{key: row[key] for key in _JSON_KEYS} for row in rows]
        _output.write_json({"default": result.default, "models": scores})
        return
    _output.write_table(list(rows[0]), [list(row.values()) for row in rows])
    _output.write_lines([f"default: {result.default} (chosen on the readings before the hold-out)"])


def _read(path: Path, columns: tuple[str, str, str]) -> tuple[list[str], list[float], list[float]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(
                    f"The table has no column '{missing[0]}'.",
                    f"Its columns are {', '.join(reader.fieldnames or ()) or 'none'}.",
                    "Name columns of the header.",
                )
            rows = [tuple(row[name] for name in columns) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            "The table cannot be read.", f"{type(error).__name__}.", "Give a UTF-8 CSV file with a header."
        ) from None
    try:
        return [row[0] for row in rows], [float(row[1]) for row in rows], [float(row[2]) for row in rows]
    except (TypeError, ValueError):
        raise InputError(
            "The table cannot be used.",
            "A time or a volume is not a number.",
            "Remove rows without a measurement; write 0 for a tumour too small to measure.",
        ) from None
