"""Growth laws and solvers: pure numerics that know no patient, no drug and no plan."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.models._agents import (
        AgentBasedModel as AgentBasedModel,
        AgentSnapshot as AgentSnapshot,
        AgentState as AgentState,
        AgentTrajectory as AgentTrajectory,
    )
    from digital_twins.models._agents_parameters import AgentParameters as AgentParameters
    from digital_twins.models._clearance import (
        TumourState as TumourState,
        trajectory_with_dead_cells as trajectory_with_dead_cells,
    )
    from digital_twins.models._clearance_tangents import (
        TumourTangents as TumourTangents,
        tangents_with_dead_cells as tangents_with_dead_cells,
    )
    from digital_twins.models._clones import (
        TwoCloneModel as TwoCloneModel,
        clone_log_survival as clone_log_survival,
        resistance_probability as resistance_probability,
    )
    from digital_twins.models._closed_forms import (
        FisherWave as FisherWave,
        fisher_wave_check as fisher_wave_check,
        logistic_growth as logistic_growth,
    )
    from digital_twins.models._domain import Domain as Domain
    from digital_twins.models._ensemble import (
        EnsembleMember as EnsembleMember,
        EnsembleSummary as EnsembleSummary,
        ensemble_trajectories as ensemble_trajectories,
        summarise_ensemble as summarise_ensemble,
    )
    from digital_twins.models._forcing import Forcing as Forcing, SurvivalMap as SurvivalMap
    from digital_twins.models._gradient import (
        Gradient as Gradient,
        GradientOptions as GradientOptions,
        density_gradient as density_gradient,
    )
    from digital_twins.models._growth_age import (
        AgeEstimate as AgeEstimate,
        ReducedGompertz as ReducedGompertz,
        fit_reduced_gompertz as fit_reduced_gompertz,
    )
    from digital_twins.models._growth_forecast import (
        FORECAST_LEVELS as FORECAST_LEVELS,
        GROWTH_MODELS as GROWTH_MODELS,
        GrowthComparison as GrowthComparison,
        GrowthScore as GrowthScore,
        compare_growth_models as compare_growth_models,
        pinball_loss as pinball_loss,
        series_from_rows as series_from_rows,
    )
    from digital_twins.models._growth_laws import (
        GROWTH_LAWS as GROWTH_LAWS,
        GrowthLaw as GrowthLaw,
        growth_law as growth_law,
    )
    from digital_twins.models._immune import (
        KUZNETSOV_1994 as KUZNETSOV_1994,
        CoupledState as CoupledState,
        EffectorDynamics as EffectorDynamics,
        ImmuneCourse as ImmuneCourse,
        SplittingOptions as SplittingOptions,
        TumourImmuneModel as TumourImmuneModel,
        coupled_trajectory as coupled_trajectory,
    )
    from digital_twins.models._immune_four_cells import FourCellModel as FourCellModel
    from digital_twins.models._level import volume_above_mm3 as volume_above_mm3
    from digital_twins.models._outcome import (
        COMPLICATIONS as COMPLICATIONS,
        ComplicationModel as ComplicationModel,
        complication_probability as complication_probability,
        dose_response_tcp as dose_response_tcp,
        generalised_eud_gy as generalised_eud_gy,
        tumour_control_probability as tumour_control_probability,
    )
    from digital_twins.models._radiobiology import (
        Radiosensitivity as Radiosensitivity,
        bed_gy as bed_gy,
        dose_lost_gy_per_day as dose_lost_gy_per_day,
        eqd2_gy as eqd2_gy,
        fraction_log_survival as fraction_log_survival,
        lq_log_survival as lq_log_survival,
        repopulation_log_growth as repopulation_log_growth,
    )
    from digital_twins.models._reaction_diffusion import (
        ReactionDiffusionModel as ReactionDiffusionModel,
        Solution as Solution,
        solver_fallback as solver_fallback,
    )
    from digital_twins.models._spatial_laws import SpatialGrowthModel as SpatialGrowthModel
    from digital_twins.models._tangents import (
        Direction as Direction,
        density_tangents as density_tangents,
    )
    from digital_twins.models._tensor import TensorDomain as TensorDomain

_WHERE = {
    "AgentBasedModel": "digital_twins.models._agents",
    "AgentParameters": "digital_twins.models._agents_parameters",
    "AgentSnapshot": "digital_twins.models._agents",
    "AgentState": "digital_twins.models._agents",
    "AgentTrajectory": "digital_twins.models._agents",
    **dict.fromkeys(
        (
            "KUZNETSOV_1994",
            "CoupledState",
            "EffectorDynamics",
            "ImmuneCourse",
            "SplittingOptions",
            "TumourImmuneModel",
            "coupled_trajectory",
        ),
        "digital_twins.models._immune",
    ),
    "FourCellModel": "digital_twins.models._immune_four_cells",
    "TwoCloneModel": "digital_twins.models._clones",
    "clone_log_survival": "digital_twins.models._clones",
    "resistance_probability": "digital_twins.models._clones",
    "Domain": "digital_twins.models._domain",
    "EnsembleMember": "digital_twins.models._ensemble",
    "EnsembleSummary": "digital_twins.models._ensemble",
    "ensemble_trajectories": "digital_twins.models._ensemble",
    "summarise_ensemble": "digital_twins.models._ensemble",
    "FisherWave": "digital_twins.models._closed_forms",
    "Forcing": "digital_twins.models._forcing",
    "SurvivalMap": "digital_twins.models._forcing",
    "Gradient": "digital_twins.models._gradient",
    "GradientOptions": "digital_twins.models._gradient",
    "density_gradient": "digital_twins.models._gradient",
    "AgeEstimate": "digital_twins.models._growth_age",
    "ReducedGompertz": "digital_twins.models._growth_age",
    "fit_reduced_gompertz": "digital_twins.models._growth_age",
    "FORECAST_LEVELS": "digital_twins.models._growth_forecast",
    "GROWTH_MODELS": "digital_twins.models._growth_forecast",
    "GrowthComparison": "digital_twins.models._growth_forecast",
    "GrowthScore": "digital_twins.models._growth_forecast",
    "compare_growth_models": "digital_twins.models._growth_forecast",
    "pinball_loss": "digital_twins.models._growth_forecast",
    "series_from_rows": "digital_twins.models._growth_forecast",
    "GROWTH_LAWS": "digital_twins.models._growth_laws",
    "GrowthLaw": "digital_twins.models._growth_laws",
    "growth_law": "digital_twins.models._growth_laws",
    "ReactionDiffusionModel": "digital_twins.models._reaction_diffusion",
    "Solution": "digital_twins.models._reaction_diffusion",
    "solver_fallback": "digital_twins.models._reaction_diffusion",
    "SpatialGrowthModel": "digital_twins.models._spatial_laws",
    "Direction": "digital_twins.models._tangents",
    "density_tangents": "digital_twins.models._tangents",
    "TensorDomain": "digital_twins.models._tensor",
    "fisher_wave_check": "digital_twins.models._closed_forms",
    "logistic_growth": "digital_twins.models._closed_forms",
    **dict.fromkeys(
        (
            "COMPLICATIONS",
            "ComplicationModel",
            "complication_probability",
            "dose_response_tcp",
            "generalised_eud_gy",
            "tumour_control_probability",
        ),
        "digital_twins.models._outcome",
    ),
    **dict.fromkeys(
        (
            "Radiosensitivity",
            "bed_gy",
            "dose_lost_gy_per_day",
            "eqd2_gy",
            "fraction_log_survival",
            "lq_log_survival",
            "repopulation_log_growth",
        ),
        "digital_twins.models._radiobiology",
    ),
    "TumourState": "digital_twins.models._clearance",
    "TumourTangents": "digital_twins.models._clearance_tangents",
    "tangents_with_dead_cells": "digital_twins.models._clearance_tangents",
    "trajectory_with_dead_cells": "digital_twins.models._clearance",
    "volume_above_mm3": "digital_twins.models._level",
}

__getattr__, __dir__ = exports(__name__, _WHERE)
