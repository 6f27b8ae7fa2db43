"""For the tests of programs that talk to an archive: a PACS in this process, with faults on request."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.testing._faults import Fault as Fault
    from digital_twins.testing._mock_pacs import MockPACS as MockPACS

_WHERE = {"Fault": "digital_twins.testing._faults", "MockPACS": "digital_twins.testing._mock_pacs"}

__getattr__, __dir__ = exports(__name__, _WHERE)
