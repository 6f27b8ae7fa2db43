"""What a treatment would do: responses of a patient's twin, and treated xenografts."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.treatment_simulation._burdens import (
        biologically_effective_dose as biologically_effective_dose,
        dose_intensity_mg_per_week as dose_intensity_mg_per_week,
        overall_days as overall_days,
        total_dose_mg as total_dose_mg,
    )
    from digital_twins.treatment_simulation._comparison import (
        ProtocolComparison as ProtocolComparison,
        compare_protocols as compare_protocols,
    )
    from digital_twins.treatment_simulation._criteria import (
        Criteria as Criteria,
        ResponseCategory as ResponseCategory,
        categories as categories,
    )
    from digital_twins.treatment_simulation._events import EventTimes as EventTimes
    from digital_twins.treatment_simulation._optimise import (
        Candidate as Candidate,
        Limit as Limit,
        ScheduleSearch as ScheduleSearch,
        SearchOptions as SearchOptions,
        optimise_schedule as optimise_schedule,
        pareto_front as pareto_front,
    )
    from digital_twins.treatment_simulation._recurrence import (
        MarginOption as MarginOption,
        MarginPlan as MarginPlan,
        optimise_margin as optimise_margin,
        recurrence_times as recurrence_times,
    )
    from digital_twins.treatment_simulation._response import (
        Response as Response,
    )
    from digital_twins.treatment_simulation._simulator import (
        TreatmentSimulator as TreatmentSimulator,
    )
    from digital_twins.treatment_simulation._sizes import (
        bidimensional_product_mm2 as bidimensional_product_mm2,
    )
    from digital_twins.treatment_simulation._xenograft_data import (
        PlasmaSample as PlasmaSample,
        XenograftMouse as XenograftMouse,
    )
    from digital_twins.treatment_simulation._xenografts import (
        ArmForecast as ArmForecast,
        crps as crps,
        forecast_arm as forecast_arm,
    )

_WHERE = {
    **dict.fromkeys(
        ("Criteria", "ResponseCategory", "categories"), "digital_twins.treatment_simulation._criteria"
    ),
    **dict.fromkeys(
        (
            "biologically_effective_dose",
            "dose_intensity_mg_per_week",
            "overall_days",
            "total_dose_mg",
        ),
        "digital_twins.treatment_simulation._burdens",
    ),
    **dict.fromkeys(
        ("ProtocolComparison", "compare_protocols"), "digital_twins.treatment_simulation._comparison"
    ),
    **dict.fromkeys(
        ("Candidate", "Limit", "ScheduleSearch", "SearchOptions", "optimise_schedule", "pareto_front"),
        "digital_twins.treatment_simulation._optimise",
    ),
    "EventTimes": "digital_twins.treatment_simulation._events",
    **dict.fromkeys(
        ("MarginOption", "MarginPlan", "optimise_margin", "recurrence_times"),
        "digital_twins.treatment_simulation._recurrence",
    ),
    "Response": "digital_twins.treatment_simulation._response",
    "TreatmentSimulator": "digital_twins.treatment_simulation._simulator",
    "bidimensional_product_mm2": "digital_twins.treatment_simulation._sizes",
    **dict.fromkeys(("PlasmaSample", "XenograftMouse"), "digital_twins.treatment_simulation._xenograft_data"),
    **dict.fromkeys(
        ("ArmForecast", "crps", "forecast_arm"), "digital_twins.treatment_simulation._xenografts"
    ),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
