"""Arrays with one row a patient, and how a row is made anew for the next patient."""

from __future__ import annotations

import numpy as np


class PerPatient:
    """Base of what keeps state in arrays whose first axis is the patient."""

    def _keep(self, *names: str) -> None:
        """Remember how rows of these arrays look before the first reading."""
        self._fresh = {name: np.array(getattr(self, name)[0]) for name in names}

    def forget(self, row: int) -> None:
        """Begin anew for a row: it now is another patient."""
        for name, value in self._fresh.items():
            getattr(self, name)[row] = value
