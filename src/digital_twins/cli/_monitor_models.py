"""``twin monitor train`` and ``evaluate``: the learned predictor of the risk of in-hospital death."""

from pathlib import Path
from typing import Annotated

import typer

from digital_twins.cli._options import Json

_Train = Annotated[
    Path, typer.Option("--train", help="Folder of records.parquet and outcomes.csv to learn from.")
]


def register(monitor: typer.Typer) -> None:
    """Add the commands to ``twin monitor``."""
    monitor.command("train")(train)
    monitor.command("evaluate")(evaluate)


def train(
    *,
    train: _Train,
    out: Annotated[Path, typer.Option(help="Model file to write.")],
    seed: Annotated[int, typer.Option(help="Seed of folds and trees.")] = 0,
    as_json: Json = False,
) -> None:
    """Learn the risk of in-hospital death from the first 48 hours of intensive care stays.

    The file holds one model on vital signs and one on all inputs, each calibrated by cross-fitting.
    """
    from digital_twins.cli import _output
    from digital_twins.monitoring import read_stays, save_death_risk, train_death_risk

    stays = read_stays(train)
    models = {
        "vitals": train_death_risk(stays, vitals_only=True, seed=seed),
        "all_inputs": train_death_risk(stays, seed=seed),
    }
    answer = {
        "output": "risk of in-hospital death",
        "stays": len(stays),
        "deaths": int(stays.died.sum()),
        "values_left_out": stays.left_out,
        "sha256": save_death_risk(out, models),
        "models": {
            name: {"inputs": len(model.names), "threshold": model.calibrated.threshold}
            for name, model in models.items()
        },
    }
    if as_json:
        _output.write_json(answer)
        return
    _output.write_lines(
        [
            f"Learned from {answer['stays']} stays, {answer['deaths']} deaths; wrote {out.name}.",
            f"SHA-256 {answer['sha256']}",
        ]
    )


def evaluate(
    *,
    train: _Train,
    test: Annotated[Path, typer.Option("--test", help="Folder of stays to score.")],
    task: Annotated[str, typer.Option(help="death or hypotension.")] = "death",
    seed: Annotated[int, typer.Option(help="Seed of folds, trees and bootstrap.")] = 0,
    as_json: Json = False,
) -> None:
    """Learn from one folder, score another: learned predictor, logistic regression and partial NEWS2.

    Every choice is made within the training folder. Intervals are 95 % bootstrap over patients.
    """
    from digital_twins._errors import InputError
    from digital_twins.cli import _output
    from digital_twins.monitoring import evaluate_death_risk, evaluate_hypotension, read_stays

    tasks = {"death": evaluate_death_risk, "hypotension": evaluate_hypotension}
    if task not in tasks:
        raise InputError(f"There is no task {task}.", "It names no outcome.", "Give death or hypotension.")
    answer = tasks[task](read_stays(train), read_stays(test), seed=seed)
    if as_json:
        _output.write_json(answer)
        return
    for inputs, predictors in answer.items():
        names = list(next(iter(predictors.values())))
        _output.write_table(
            [inputs, *names],
            [
                [
                    name,
                    *(
                        f"{each['value']:.3f} ({each['low']:.3f}, {each['high']:.3f})"
                        for each in row.values()
                    ),
                ]
                for name, row in predictors.items()
            ],
        )
