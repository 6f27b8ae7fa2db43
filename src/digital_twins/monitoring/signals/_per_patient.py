"""Arrays with one row a patient, and how a row is made anew for the next patient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


class PerPatient:
    """Base of what keeps state in arrays whose first axis is the patient."""

    def _keep(self, *names: str) -> None:
        """Remember how rows of these arrays look before the first reading."""
        self._fresh = {name: np.array(getattr(self, name)[0]) for name in names}

    def forget(self, row: int) -> None:
        """Begin anew for a row: it now is another patient."""
        for name, value in self._fresh.items():
            getattr(self, name)[row] = value

    def state(self, rows: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
        """Return the state of some rows by name, for a snapshot."""
        return {name: getattr(self, name)[rows] for name in self._fresh}

    def resume(self, rows: NDArray[np.intp], state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `state` returned; what has another form now (other rules) begins anew."""
        for name, value in state.items():
            if name in self._fresh and value.shape[1:] == self._fresh[name].shape:
                getattr(self, name)[rows] = value
