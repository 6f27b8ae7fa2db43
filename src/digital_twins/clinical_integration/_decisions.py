"""Treatment options in the order of what a patient's twin predicts of them, for a tumour board to discuss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from digital_twins._errors import InputError
from digital_twins.clinical_integration._options import protocol_of
from digital_twins.records import Quantity
from digital_twins.treatment_simulation import TreatmentSimulator, overall_days

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from digital_twins.clinical_integration._twin import ClinicalTwin
    from digital_twins.fhir import FHIRClient
    from digital_twins.treatment_simulation import Response

NOTICE = (
    "Options in the order of a simulation, for discussion by a tumour board: no treatment decision. "
    "Research use only."
)
RECOVERY_DAYS = 28.0
"""Days that a surgery counts as treatment: an assumption."""
_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class _Target:
    words: str
    before: float
    after: float


_TARGETS = {
    "overall_survival": _Target(
        "days without progression by the horizon, which stand in for survival: the twin does not model death",
        1.0,
        0.0,
    ),
    "progression_free_survival": _Target("days without progression by the horizon", 1.0, 0.0),
    "quality_adjusted_life_years": _Target(
        "quality-adjusted days by the horizon (utility 0.653 before and 0.473 after progression: "
        "Nafees 2008, doi:10.1186/1477-7525-6-84 [verify]); the twin does not model death",
        0.653,
        0.473,
    ),
}
_WEIGHTS = {"low_priority": 0.0, "medium_priority": 0.25, "high_priority": 0.5}
"""What part of its worth a day under treatment loses, by the priority of quality of life: our own scale."""


@dataclass(frozen=True, eq=False)
class Recommendation:
    """One option: its place, what the twin predicts, and why it stands there.

    Attributes
    ----------
    rank
        1 is the option with the highest score.
    option
        The word or the name of the protocol.
    response
        The predicted response with its intervals.
    score
        What the order follows: mean over the ensemble in days (a restricted mean), with the 95 % interval.
    probability_best
        Share of the ensemble in which no other option scores higher; equals share it.
    treatment_days
        Days under treatment by the horizon.
    assumptions
        In words, what was assumed.
    """

    rank: int
    option: str
    response: Response
    score: Quantity
    probability_best: float
    treatment_days: float
    assumptions: tuple[str, ...]

    @property
    def rationale(self) -> str:
        """What speaks for the place, in one sentence with its interval."""
        score = self.score
        return (
            f"{score.value:.0f} days ({score.low:.0f} to {score.high:.0f}); best in "
            f"{100 * self.probability_best:.0f} % of the simulated courses; predicted change of volume "
            f"{self.response.volume_change_percent:+.0f} % ({self.response.volume_change_low:+.0f} to "
            f"{self.response.volume_change_high:+.0f}); {self.treatment_days:.0f} days under treatment"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain data for JSON."""
        return {
            "rank": self.rank,
            "option": self.option,
            "score_days": self.score.value,
            "score_low_days": self.score.low,
            "score_high_days": self.score.high,
            "probability_best": self.probability_best,
            "treatment_days": self.treatment_days,
            "assumptions": list(self.assumptions),
            "response": self.response.to_dict(),
        }


@dataclass(frozen=True, eq=False)
class Recommendations(Sequence[Recommendation]):
    """The options, best first; a sequence.

    Attributes
    ----------
    items
        One for each option.
    target
        What the score counts, in words.
    horizon_days
        Days from the twin's last observation that were simulated.
    notice
        What the order is and is not: show it with every use.
    """

    items: tuple[Recommendation, ...]
    target: str
    horizon_days: float
    notice: str = NOTICE

    @overload
    def __getitem__(self, index: int) -> Recommendation: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Recommendation, ...]: ...
    def __getitem__(self, index: int | slice) -> Recommendation | tuple[Recommendation, ...]:
        """Return one recommendation, or some."""
        return self.items[index]

    def __len__(self) -> int:
        """Return how many options there are."""
        return len(self.items)

    def to_dict(self) -> dict[str, Any]:
        """Return the whole as plain data for JSON."""
        return {
            "target": self.target,
            "horizon_days": self.horizon_days,
            "notice": self.notice,
            "recommendations": [each.to_dict() for each in self.items],
        }


class ClinicalDecisionSupport:
    """Compares treatment options on a patient's twin, and hands the comparison to the clinical workflow.

    Parameters
    ----------
    twin
        A clinical twin with imaging, as the connector or the factory makes it.
    """

    def __init__(self, twin: ClinicalTwin) -> None:
        self.twin = twin

    def generate_recommendations(
        self,
        treatment_options: Sequence[str | Mapping[str, Any] | Sequence[Mapping[str, Any]]],
        optimization_target: str = "overall_survival",
        patient_preferences: Mapping[str, str] | None = None,
        *,
        horizon_days: float = 180.0,
        samples: int = 64,
        seed: int = 0,
    ) -> Recommendations:
        """Simulate each option on one ensemble and put them in order.

        The score of a course is ``u_before t + u_after (H - t) - w d``: ``t`` days to progression within the
        horizon ``H``, the target's utilities, ``d`` days under treatment, and the weight ``w`` that the
        preference for quality of life gives them. All options share the ensemble, so that they differ by
        their effect only.

        Parameters
        ----------
        treatment_options
            Words such as ``"surgery"``, ``"chemoradiation"``, ``"immunotherapy"`` (each with an assumed
            protocol, which the result names), or protocols as dictionaries.
        optimization_target
            ``"overall_survival"``, ``"progression_free_survival"`` or ``"quality_adjusted_life_years"``.
        patient_preferences
            ``{"quality_of_life": "low_priority" | "medium_priority" | "high_priority"}``.
        horizon_days
            Days to simulate.
        samples, seed
            Size and seed of the ensemble.

        Raises
        ------
        InputError
            An option, target or preference is not known, or there is no option.
        NotFoundError
            The clinical twin was made without imaging.
        """
        target, weight = _target(optimization_target), _weight(patient_preferences or {})
        if not treatment_options:
            raise InputError("There is nothing to compare.", "No option was given.", "Give some.")
        simulator = TreatmentSimulator(self.twin.twin)
        named = [protocol_of(option, self.twin.twin.clinical_data) for option in treatment_options]
        responses = simulator.compare(
            [protocol for _, protocol, _ in named], horizon_days, samples=samples, seed=seed
        )
        days = [_treatment_days(response) for response in responses]
        scores = np.array(
            [_scores(r, target) - weight * spent for r, spent in zip(responses, days, strict=True)]
        )
        winning = scores == scores.max(axis=0)
        best = (winning / winning.sum(axis=0)).mean(axis=1)
        order = sorted(range(len(named)), key=lambda i: (-float(scores[i].mean()), days[i]))
        items = tuple(
            Recommendation(
                rank=rank,
                option=named[i][0],
                response=responses[i],
                score=_quantity(scores[i]),
                probability_best=float(best[i]),
                treatment_days=days[i],
                assumptions=tuple(text for text in (named[i][2], *responses[i].assumptions) if text),
            )
            for rank, i in enumerate(order, 1)
        )
        words = target.words if not weight else f"{target.words}, less {weight:g} of each day under treatment"
        return Recommendations(items, words, horizon_days)

    def export_to_fhir(
        self,
        recommendations: Recommendations,
        destination: str = "tumor_board_review",
        *,
        client: FHIRClient | None = None,
    ) -> tuple[str, ...]:
        """Write the comparison to the record as one transaction; return ``Type/id`` of what was stored.

        A preliminary DiagnosticReport with its Observations and RiskAssessments, a RequestGroup (draft
        proposal) with the options in order, a Task for the destination, and the Provenance of the software;
        all of it carries the label "Artificial Intelligence asserted" (AIAST). Sending it again changes
        nothing anew.

        Parameters
        ----------
        recommendations
            As `generate_recommendations` returns them.
        destination
            Whom the Task is for, e.g. ``"tumor_board_review"``.
        client
            The record; by default that of the connector which made the twin.

        Raises
        ------
        InputError
            There is no record to write to, or the record refused it.
        """
        from digital_twins.clinical_integration._decision_bundle import decision_bundle

        record = client or (self.twin.connector.fhir if self.twin.connector is not None else None)
        if record is None:
            raise InputError(
                "The recommendations cannot be exported.",
                "The twin was made without a connector, and no client was given.",
                "Pass client=FHIRClient(...).",
            )
        bundle = decision_bundle(self.twin, recommendations, destination)
        record.transaction(bundle)
        return tuple(entry["request"]["url"] for entry in bundle["entry"])


def _target(name: str) -> _Target:
    if name not in _TARGETS:
        raise InputError(
            "The optimisation target is not known.",
            "The twin cannot judge it.",
            f"Use {', '.join(_TARGETS)}.",
        )
    return _TARGETS[name]


def _weight(preferences: Mapping[str, str]) -> float:
    if preferences.keys() - {"quality_of_life"}:
        raise InputError(
            "A preference is not known.", "Only quality_of_life can be weighed.", "Leave it out."
        )
    priority = preferences.get("quality_of_life", "low_priority")
    if priority not in _WEIGHTS:
        raise InputError("A priority is not known.", "It has no weight.", f"Use {', '.join(_WEIGHTS)}.")
    return _WEIGHTS[priority]


def _treatment_days(response: Response) -> float:
    given = response.treatments
    spent = overall_days(given) + (1.0 if any(t.doses or t.fractions for t in given) else 0.0)
    surgery = RECOVERY_DAYS if any(t.kind == "surgery" for t in given) else 0.0
    return min(spent + surgery, response.horizon_days)


def _scores(response: Response, target: _Target) -> NDArray[np.float64]:
    """Return the score of each member of the ensemble, in days, before the preferences."""
    horizon = response.horizon_days
    free = np.nan_to_num(response.time_to_progression.days, nan=horizon).clip(0.0, horizon)
    return target.before * free + target.after * (horizon - free)


def _quantity(scores: NDArray[np.float64]) -> Quantity:
    low, high = np.quantile(scores, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Quantity(float(scores.mean()), "d", float(low), float(high), _LEVEL)
