"""Growth laws and solvers: pure numerics that know no patient, no drug and no plan."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.models._forcing import Forcing as Forcing
    from digital_twins.models._radiobiology import lq_log_survival as lq_log_survival

_WHERE = {
    "Forcing": "digital_twins.models._forcing",
    "lq_log_survival": "digital_twins.models._radiobiology",
}

__getattr__, __dir__ = exports(__name__, _WHERE)
