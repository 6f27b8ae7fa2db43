"""`twin simulate`: a treatment on a twin."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from digital_twins.cli._options import Json

if TYPE_CHECKING:
    from digital_twins.treatment_simulation import Response


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("simulate")(simulate)


def simulate(
    twin_file: Annotated[Path, typer.Argument(metavar="FILE.twin", help="What 'twin build' wrote.")],
    *,
    treatment: Annotated[
        list[str],
        typer.Option(
            help="A treatment as JSON (a list: together), or a file that holds it; repeat it to compare."
        ),
    ],
    horizon: Annotated[float, typer.Option(min=1, help="Days to look ahead.")] = 90.0,
    interval: Annotated[float, typer.Option(min=0.5, max=0.999, help="Probability of the interval.")] = 0.95,
    export: Annotated[
        Path | None, typer.Option(help="Folder for courses and images of the forecast.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of every random step.")] = 0,
    as_json: Json = False,
) -> None:
    """Predict how a tumour responds to treatments, with intervals."""
    given = [read_treatment(text) for text in treatment]

    from digital_twins.cli import _output
    from digital_twins.cli._export import export_responses
    from digital_twins.patient_modeling import PatientTwin, with_dose_map
    from digital_twins.records import parse_treatment
    from digital_twins.treatment_simulation import TreatmentSimulator

    plans = [[with_dose_map(each) for each in plan] for plan in given]
    for plan in plans:
        for each in plan:
            parse_treatment(each)  # all are checked before the first is computed
    simulator = TreatmentSimulator(PatientTwin.open(twin_file))
    responses = []
    with _output.steps() as step:
        for number, plan in enumerate(plans, start=1):
            with step(f"treatment {number} of {len(plans)}") as progress:
                responses.append(
                    simulator.predict_response(plan, horizon, interval=interval, seed=seed, progress=progress)
                )
    answers = [describe(response) for response in responses]
    exported = [] if export is None else [str(path) for path in export_responses(responses, export)]
    if as_json:
        document = {"horizon_days": horizon, "interval": interval, "responses": answers}
        _output.write_json(document | ({"exported": exported} if exported else {}))
        return
    _output.write_table(
        ("treatment", "change %", "low", "high", "category", "progression day", "smallest cm3", "on day"),
        [
            (
                answer["treatment"],
                answer["volume_change_percent"],
                answer["volume_change_low"],
                answer["volume_change_high"],
                answer["response_category"],
                answer["time_to_progression"]["median_days"],
                answer["nadir_volume_cm3"],
                answer["nadir_day"],
            )
            for answer in answers
        ],
    )


def describe(response: "Response") -> dict[str, Any]:
    """Return a response and its predicted course as plain data."""
    prediction = response.prediction
    return response.to_dict() | {
        "model_version": prediction.model_version,
        "days": prediction.days,
        "volume_cm3": prediction.volume_cm3,
        "low_cm3": prediction.low_cm3,
        "high_cm3": prediction.high_cm3,
    }


def read_treatment(text: str) -> list[dict[str, Any]]:
    """Return the treatments of one plan, given as JSON or as the name of a file that holds it."""
    content = text
    if not text.lstrip().startswith(("{", "[")):
        try:
            content = Path(text).read_text(encoding="utf-8")
        except OSError as error:
            raise typer.BadParameter(
                f"'{text}' is neither JSON nor a readable file ({error.strerror})", param_hint="--treatment"
            ) from None
    try:
        treatment = json.loads(content)
    except ValueError as error:
        raise typer.BadParameter(f"it is not JSON: {error}", param_hint="--treatment") from None
    plan = treatment if isinstance(treatment, list) else [treatment]
    if not plan or not all(isinstance(each, dict) for each in plan):
        raise typer.BadParameter("a JSON object or a list of them is expected", param_hint="--treatment")
    return plan
