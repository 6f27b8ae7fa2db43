"""What a treatment would do: responses of a patient's twin, and treated xenografts."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.treatment_simulation._criteria import (
        Criteria as Criteria,
        ResponseCategory as ResponseCategory,
        categories as categories,
    )
    from digital_twins.treatment_simulation._events import EventTimes as EventTimes
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
