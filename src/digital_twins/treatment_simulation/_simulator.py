"""The treatment simulator: responses of a patient's twin to treatments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError
from digital_twins.patient_modeling import tumour_family, with_dose_map
from digital_twins.records import Treatment, parse_treatment
from digital_twins.treatment_simulation._assumptions import assumptions
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
        criteria: Criteria | None = None,
        progress: Callable[[float, str], None] | None = None,
    ) -> Response:
        """Predict the response to a treatment, or to several given together.

        Day 0 of a planned treatment is the twin's "now", its last observation. Chemotherapy, radiation,
        targeted drugs, checkpoint antibodies, surgery, observation and their combinations in any order are
        simulated; they act independently of each other.

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
            ``"recist_1_1"``, ``"rano"`` (product of diameters) or ``"rano_2_0"`` (volume); by default
            ``"rano_2_0"`` where the clinical data name a brain tumour, else ``"recist_1_1"``.
        progress
            Called with a fraction in 0..1 and a text.

        Raises
        ------
        InputError
            When the treatment cannot be understood or has a drug whose effect is not modelled, or the horizon
            is unusable.
        """
        planned = self.parse_plan(treatment)
        prediction = self.patient_twin.predict(
            horizon_days,
            treatments=planned,
            interval=interval,
            samples=samples,
            seed=seed,
            progress=progress,
        )
        return response_of(
            prediction,
            prediction.treatments,
            criteria=criteria or self.default_criteria,
            assumptions=assumptions(planned, self.patient_twin.parameters),
        )

    @property
    def default_criteria(self) -> Criteria:
        """Criteria of the tumour's site: volumetric RANO 2.0 in the brain, RECIST 1.1 elsewhere."""
        in_brain = tumour_family(self.patient_twin.clinical_data) == "glioma"
        return "rano_2_0" if in_brain else "recist_1_1"

    def compare(
        self,
        treatments: Sequence[Plan],
        horizon_days: float = 180.0,
        *,
        interval: float = 0.95,
        samples: int = DEFAULT_SAMPLES,
        seed: int = 0,
        criteria: Criteria | None = None,
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

    def parse_plan(self, plan: Plan) -> tuple[Treatment, ...]:
        """Validate a plan into treatments, with this patient's body surface.

        Raises
        ------
        InputError
            When the plan is empty or a treatment cannot be understood.
        """
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
