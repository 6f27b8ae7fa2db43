"""The treatment simulator: responses of a patient's twin to treatments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError
from digital_twins.patient_modeling import with_dose_map
from digital_twins.pharmacology import drug
from digital_twins.records import Treatment, parse_treatment
from digital_twins.treatment_simulation._response import Response, response_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from digital_twins.patient_modeling import PatientTwin
    from digital_twins.treatment_simulation._criteria import Criteria

    TreatmentLike = Mapping[str, Any] | Treatment
    Plan = TreatmentLike | Sequence[TreatmentLike]

DEFAULT_SAMPLES = 64


class TreatmentSimulator:
    """Simulates treatments on a patient's twin.

    Parameters
    ----------
    patient_twin
        The twin; its last calibrated version is used.
    body_surface_area_m2
        Of the patient, for doses per square metre; by default the twin's clinical data. Where neither knows
        it, 1.8 m2 is assumed and the response says so.
    """

    def __init__(self, patient_twin: PatientTwin, *, body_surface_area_m2: float | None = None) -> None:
        self.patient_twin = patient_twin
        known = patient_twin.clinical_data.get("body_surface_area_m2")
        self.body_surface_area_m2 = known if body_surface_area_m2 is None else body_surface_area_m2

    def predict_response(
        self,
        treatment: Plan,
        horizon_days: float = 180.0,
        *,
        interval: float = 0.95,
        samples: int = DEFAULT_SAMPLES,
        seed: int = 0,
        criteria: Criteria = "recist_1_1",
        progress: Callable[[float, str], None] | None = None,
    ) -> Response:
        """Predict the response to a treatment, or to several given together.

        Day 0 of a planned treatment is the twin's "now", its last observation. Chemotherapy, radiation,
        observation and their combinations are simulated.

        Parameters
        ----------
        treatment
            A dictionary as :func:`digital_twins.records.parse_treatment` takes it, a
            :class:`~digital_twins.records.Treatment`, or a sequence of them: a combination.
        horizon_days
            Days from now to the assessment.
        interval
            Central probability of every interval.
        samples
            Size of the ensemble over what is believed of the parameters.
        seed
            The same seed gives the same ensemble, so that treatments differ by their effect only.
        criteria
            ``"recist_1_1"`` or ``"rano"``.
        progress
            Called with a fraction in 0..1 and a text.

        Raises
        ------
        InputError
            When the treatment cannot be understood or is of a kind whose effect is not modelled (surgery,
            immunotherapy, targeted drugs), or the horizon is unusable.
        """
        planned = self._parse(treatment)
        prediction = self.patient_twin.predict(
            horizon_days,
            treatments=planned,
            interval=interval,
            samples=samples,
            seed=seed,
            progress=progress,
        )
        return response_of(
            prediction, prediction.treatments, criteria=criteria, assumptions=self._assumptions(planned)
        )

    def compare(
        self,
        treatments: Sequence[Plan],
        horizon_days: float = 180.0,
        *,
        interval: float = 0.95,
        samples: int = DEFAULT_SAMPLES,
        seed: int = 0,
        criteria: Criteria = "recist_1_1",
    ) -> list[Response]:
        """Predict the response to each of several plans with the same ensemble, in the order given.

        See :meth:`predict_response`; a plan is a treatment or a sequence of treatments given together.
        """
        return [
            self.predict_response(
                plan, horizon_days, interval=interval, samples=samples, seed=seed, criteria=criteria
            )
            for plan in treatments
        ]

    def _parse(self, plan: Plan) -> tuple[Treatment, ...]:
        items = [plan] if isinstance(plan, Treatment | Mapping) else list(plan)
        if not items:
            raise InputError(
                "There is no treatment to simulate.",
                "The list is empty.",
                "Pass a treatment, or {'type': 'observation'} for none.",
            )
        return tuple(
            parse_treatment(with_dose_map(item), body_surface_area_m2=self.body_surface_area_m2)
            for item in items
        )

    def _assumptions(self, treatments: tuple[Treatment, ...]) -> tuple[str, ...]:
        """Everything behind a response that was assumed, not verified, or not calibrated here."""
        words: dict[str, None] = {}
        parameters = self.patient_twin.parameters
        clearance = parameters.get("clearance_half_life_days")
        irradiated = any(treatment.fractions for treatment in treatments)
        if irradiated and clearance is not None and clearance.source != "calibrated":
            words[f"dead cells cleared with a half-life of {clearance.value:.0f} days: a prior"] = None
        for treatment in treatments:
            words.update(dict.fromkeys(treatment.assumptions))
            if treatment.kind == "radiation":
                alpha = parameters.get("alpha_per_gy")
                if alpha is not None and alpha.source != "calibrated":
                    words["radiosensitivity not calibrated in this patient: wide prior"] = None
            if treatment.drug is None:
                continue
            entry = drug(treatment.drug)
            own = parameters.get(f"drug_sensitivity:{treatment.drug}")
            if own is None or own.source != "calibrated":
                words[f"sensitivity to {treatment.drug} not calibrated in this patient: wide prior"] = None
            if entry.unverified:
                words[f"{entry.name}: not verified in a source: {', '.join(entry.unverified)}"] = None
        return tuple(words)
