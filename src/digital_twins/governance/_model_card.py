"""A model card: what one twin is, from what, how well it is known, and what it must not be used for.

The headings follow Mitchell et al. 2019, "Model Cards for Model Reporting", doi:10.1145/3287560.3287596.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digital_twins import __version__
from digital_twins.governance._hindcast import hindcast
from digital_twins.patient_modeling import citations

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from digital_twins.patient_modeling import PatientTwin

OPERATOR = "[operator to supply]"
"""Mark of what this program cannot know."""

INTENDED_USE = (
    "Research on tumour growth and response models, on data that the user may lawfully use.",
    "Users: computational oncologists, medical physicists, and clinicians who take part in such research.",
    "Not for patients in care, dose calculation, alarms or triage. Not a medical device; no conformity mark.",
)
LIMITATIONS = (
    "The model knows volumes, not biology: no mass effect, new lesions or metastases.",
    "Sensitivities never seen in the patient come from wide priors that are partly assumptions.",
    "Response categories are those of predicted sizes, without nodes, clinical state or confirmation.",
    "Coverage of the intervals was shown on phantoms that obey the model, not on patients.",
)


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A twin's card as data.

    Parameters
    ----------
    title
        One line, without the patient's identifier.
    sections
        Heading to lines; a line that a person at the site must write says so.
    """

    title: str
    sections: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def to_markdown(self) -> str:
        """Return the card as Markdown."""
        parts = [f"# {self.title}"]
        for heading, lines in self.sections.items():
            parts.append(f"## {heading}\n\n" + "\n".join(f"- {line}" for line in lines))
        return "\n\n".join(parts) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Return the card for JSON."""
        return asdict(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the card: JSON for a name that ends so, else Markdown."""
        target = Path(path)
        text = json.dumps(self.to_dict(), indent=2) if target.suffix == ".json" else self.to_markdown()
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


def model_card(
    twin: PatientTwin, *, validation: bool = True, limitations: bool = True, intended_use: bool = True
) -> ModelCard:
    """Write the card of a twin from its own calibration.

    Parameters
    ----------
    twin
        Stays as it is.
    validation
        Also the fit to each scan, and a forecast of the last scan by a twin that has not seen it.
    limitations, intended_use
        Also these sections.
    """
    sections = {"Model": _model(twin), "Data": tuple(_data(twin)), "Parameters": tuple(_parameters(twin))}
    if intended_use:
        sections["Intended use"] = INTENDED_USE
    if validation:
        sections["Validation"] = tuple(_validation(twin))
    if limitations:
        sections["Limitations"] = (*LIMITATIONS, *_limits(twin))
    sections["Sources"] = tuple(
        f"{each.used_for}: {each.reference}{'' if each.verified else ' [verify]'}" for each in citations(twin)
    )
    sections["Responsibility"] = (
        f"Responsible person at the site: {OPERATOR}",
        f"Local validation on the site's own patients: {OPERATOR}",
        f"Training of users: {OPERATOR}",
    )
    return ModelCard(f"Model card of twin {twin.twin_id[:8]}, version {twin.version}", sections)


def _model(twin: PatientTwin) -> tuple[str, ...]:
    return (
        "Reaction-diffusion model of tumour cell density on the patient's own anatomy, with treatment.",
        f"digital-twins {twin.provenance.software_version} made this version on {twin.created_utc:%Y-%m-%d}; "
        f"the card is by {__version__}.",
        f"Content digest {twin.content_digest}; seed {twin.provenance.seed}.",
    )


def _data(twin: PatientTwin) -> Iterable[str]:
    yield f"Baseline lesion of {twin.baseline_volume_cm3:.2f} cm3."
    for visit in twin.visits:
        yield f"Follow-up on day {visit.day:g}: {visit.volume_cm3:.2f} cm3 (day from {visit.day_from})."
    if not twin.visits:
        yield "No follow-up: every parameter is a prior."
    for treatment in twin.treatment_history:
        yield f"Treatment: {treatment.label}."
    yield f"{len(twin.provenance.inputs)} inputs, each with its SHA-256 in the twin's provenance."


def _parameters(twin: PatientTwin) -> Iterable[str]:
    for name, each in twin.parameters.items():
        if each.fixed:
            yield f"{name} = {each.value:.4g} {each.unit}, held fixed ({each.source})."
        else:
            interval = f"95 % interval {each.low:.4g} to {each.high:.4g}"
            yield f"{name} = {each.value:.4g} {each.unit}, {interval} ({each.source})."


def _validation(twin: PatientTwin) -> Iterable[str]:
    result = twin.calibration
    if result is None:
        yield "The twin was not calibrated: nothing of it has been validated."
        return
    yield f"Calibration by {result.method} {'converged' if result.converged else 'did not converge'}."
    columns = zip(result.days, result.observed_cm3, result.modelled_cm3, result.dice, strict=True)
    for day, observed, modelled, dice in columns:
        yield f"Day {day:g}: {observed:.2f} cm3 seen, {modelled:.2f} cm3 fitted, Dice {dice:.2f}."
    seen = hindcast(twin)
    if seen is None:
        yield "One scan: no forecast of an unseen scan can be made."
        return
    verdict = "holds it" if seen.inside else "misses it"
    yield (
        f"Forecast of day {seen.day:g} from the {seen.trained_on} earlier: {seen.forecast_cm3:.2f} cm3 "
        f"({seen.low_cm3:.2f} to {seen.high_cm3:.2f}); {seen.observed_cm3:.2f} cm3 was seen: "
        f"the interval {verdict}."
    )


def _limits(twin: PatientTwin) -> Sequence[str]:
    remarks = [] if twin.calibration is None else list(twin.calibration.identifiability)
    assumed = [text for treatment in twin.treatment_history for text in treatment.assumptions]
    return [*remarks, *assumed]
