"""Growth laws and solvers: pure numerics that know no patient, no drug and no plan."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.models._closed_forms import FisherWave as FisherWave
    from digital_twins.models._closed_forms import fisher_wave_check as fisher_wave_check
    from digital_twins.models._closed_forms import logistic_growth as logistic_growth
    from digital_twins.models._domain import Domain as Domain
    from digital_twins.models._forcing import Forcing as Forcing
    from digital_twins.models._level import volume_above_mm3 as volume_above_mm3
    from digital_twins.models._radiobiology import lq_log_survival as lq_log_survival
    from digital_twins.models._reaction_diffusion import ReactionDiffusionModel as ReactionDiffusionModel
    from digital_twins.models._reaction_diffusion import Solution as Solution

_WHERE = {
    "Domain": "digital_twins.models._domain",
    "FisherWave": "digital_twins.models._closed_forms",
    "Forcing": "digital_twins.models._forcing",
    "ReactionDiffusionModel": "digital_twins.models._reaction_diffusion",
    "Solution": "digital_twins.models._reaction_diffusion",
    "fisher_wave_check": "digital_twins.models._closed_forms",
    "logistic_growth": "digital_twins.models._closed_forms",
    "lq_log_survival": "digital_twins.models._radiobiology",
    "volume_above_mm3": "digital_twins.models._level",
}

__getattr__, __dir__ = exports(__name__, _WHERE)
