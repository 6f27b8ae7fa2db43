"""Our listener against pynetdicom as SCU, and against peers that send nonsense."""

from __future__ import annotations

from pathlib import Path

from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, Verification

from dicom_support import ct_slice, listening, open_store


def test_echo(tmp_path: Path) -> None:
    with open_store(tmp_path) as store, listening(store) as node:
        ae = AE()
        ae.add_requested_context(Verification)
        association = ae.associate("127.0.0.1", node.port)
        assert association.is_established
        assert association.send_c_echo().Status == 0
        association.release()
        assert association.is_released


def test_store_keeps_the_bytes(tmp_path: Path) -> None:
    sent = [ct_slice(n) for n in range(1, 4)]
    seen = []
    with open_store(tmp_path) as store, listening(store, on_stored=seen.append) as node:
        ae = AE()
        ae.add_requested_context(CTImageStorage, "1.2.840.10008.1.2.1")
        association = ae.associate("127.0.0.1", node.port)
        for ds in sent:
            assert association.send_c_store(ds).Status == 0
        association.release()
        kept = store.series_datasets("1.2.3.1.1")
    assert [ds.SOPInstanceUID for ds in kept] == [ds.SOPInstanceUID for ds in sent]
    assert [ds.PixelData for ds in kept] == [ds.PixelData for ds in sent]
    assert [s.outcome for s in seen] == ["new"] * 3
