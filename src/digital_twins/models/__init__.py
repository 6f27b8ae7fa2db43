"""Growth laws and solvers: pure numerics that know no patient, no drug and no plan."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.models._closed_forms import FisherWave as FisherWave
    from digital_twins.models._closed_forms import fisher_wave_check as fisher_wave_check
    from digital_twins.models._closed_forms import logistic_growth as logistic_growth
    from digital_twins.models._domain import Domain as Domain
    from digital_twins.models._forcing import Forcing as Forcing
    from digital_twins.models._forcing import SurvivalMap as SurvivalMap
    from digital_twins.models._gradient import Gradient as Gradient
    from digital_twins.models._gradient import GradientOptions as GradientOptions
    from digital_twins.models._gradient import density_gradient as density_gradient
    from digital_twins.models._growth_laws import GrowthLawModel as GrowthLawModel
    from digital_twins.models._level import volume_above_mm3 as volume_above_mm3
    from digital_twins.models._radiobiology import lq_log_survival as lq_log_survival
    from digital_twins.models._reaction_diffusion import ReactionDiffusionModel as ReactionDiffusionModel
    from digital_twins.models._reaction_diffusion import Solution as Solution
    from digital_twins.models._tensor import TensorDomain as TensorDomain

_WHERE = {
    "Domain": "digital_twins.models._domain",
    "FisherWave": "digital_twins.models._closed_forms",
    "Forcing": "digital_twins.models._forcing",
    "Gradient": "digital_twins.models._gradient",
    "GradientOptions": "digital_twins.models._gradient",
    "GrowthLawModel": "digital_twins.models._growth_laws",
    "ReactionDiffusionModel": "digital_twins.models._reaction_diffusion",
    "Solution": "digital_twins.models._reaction_diffusion",
    "SurvivalMap": "digital_twins.models._forcing",
    "TensorDomain": "digital_twins.models._tensor",
    "density_gradient": "digital_twins.models._gradient",
    "fisher_wave_check": "digital_twins.models._closed_forms",
    "logistic_growth": "digital_twins.models._closed_forms",
    "lq_log_survival": "digital_twins.models._radiobiology",
    "volume_above_mm3": "digital_twins.models._level",
}

__getattr__, __dir__ = exports(__name__, _WHERE)
