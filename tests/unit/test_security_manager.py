"""Twins encrypted and opened again, and twins that predict the same without their patient."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pytest

from digital_twins import InputError
from digital_twins.auth import NOBODY, AccessDeniedError, NotSignedInError, Principal, acting_as, role_table
from digital_twins.crypto import DecryptionError, LocalKeyFile
from digital_twins.governance import DeidentificationKey, SecurityManager
from tumour_phantom import RADIATION, follow_up, new_twin

if TYPE_CHECKING:
    from pathlib import Path

    from digital_twins.patient_modeling import PatientTwin

BASELINE = datetime(2024, 3, 5, 9, 30, tzinfo=UTC)
KEY = DeidentificationKey(bytes(range(32)))


@pytest.fixture(scope="module")
def twin() -> PatientTwin:
    made = new_twin()
    made.patient_id, made.baseline = "MRN4711", BASELINE
    made.clinical_data = {"age": 93, "weight_kg": 70.5, "tumor_type": "glioma", "physician": "Dr Meier"}
    scans = follow_up(new_twin(), {"proliferation_per_day": 0.03}, [28.0, 56.0]).scans
    made.calibrate(scans, [{**RADIATION, "technique": "of Eva Muster", "label": "Muster's plan"}])
    return made


def security(tmp_path: Path) -> SecurityManager:
    return SecurityManager(
        providers={"local": LocalKeyFile(tmp_path / "keys.json")}, deidentification_key=KEY
    )


def test_an_encrypted_twin_opens_again_and_nowhere_else(twin, tmp_path):
    manager = security(tmp_path)
    encrypted = manager.encrypt_data(twin, encryption="AES-256-GCM", key_management="local")
    assert b"MRN4711" not in encrypted.ciphertext
    assert "MRN4711" not in encrypted.object_name
    assert manager.decrypt_data(encrypted).content_digest == twin.content_digest
    flipped = bytearray(encrypted.ciphertext)
    flipped[-1] ^= 1
    other = manager.encrypt_data(twin)
    for damaged in (
        replace(encrypted, ciphertext=bytes(flipped)),
        replace(encrypted, ciphertext=other.ciphertext),
        replace(encrypted, object_name=other.object_name),
        replace(encrypted, wrapped_key=other.wrapped_key),
    ):
        with pytest.raises(DecryptionError):
            manager.decrypt_data(damaged)
    with pytest.raises(InputError, match="AES-256-GCM"):
        manager.encrypt_data(twin, encryption="DES")
    with pytest.raises(InputError, match="aws_kms, keyring, local, vault"):
        manager.encrypt_data(twin, key_management="paper")


@pytest.mark.parametrize("method", ["safe_harbor", "expert_determination", "limited_data_set"])
def test_a_twin_without_its_patient_predicts_the_same(twin, tmp_path, method):
    clean = security(tmp_path).deidentify(twin, method=method, retain_dates=method == "limited_data_set")
    assert clean.patient_id == KEY.pseudonym("MRN4711")
    assert clean.twin_id != twin.twin_id
    assert clean.image is None
    before, after = (each.predict(30, seed=1, samples=8) for each in (twin, clean))
    np.testing.assert_array_equal(after.volume_cm3, before.volume_cm3)
    np.testing.assert_array_equal(after.high_cm3, before.high_cm3)
    assert clean.clinical_data == {"age": 90, "weight_kg": 70.5, "tumor_type": "glioma"}
    assert method in clean.provenance.notes[0]
    clean.save(tmp_path / "clean.twin")
    text = b"".join(
        zipfile.ZipFile(io.BytesIO((tmp_path / "clean.twin").read_bytes())).read(name)
        for name in zipfile.ZipFile(tmp_path / "clean.twin").namelist()
    )
    # the digest of an outline is one of the mask that stays
    inputs = set(twin.provenance.inputs.values()) - {visit.digest for visit in twin.visits}
    for value in ("MRN4711", "Meier", "Muster", twin.twin_id, *inputs):
        assert value.encode() not in text
    if method == "safe_harbor":
        assert clean.baseline == datetime(2024, 1, 1, tzinfo=UTC)
        assert b"2024-03-05" not in text
    elif method == "expert_determination":
        assert (clean.baseline - BASELINE).days == KEY.shift_days("MRN4711")
    else:
        assert clean.baseline == BASELINE
    assert twin.patient_id == "MRN4711"


def test_safe_harbor_is_years_only(twin, tmp_path):
    manager = security(tmp_path)
    with pytest.raises(InputError, match="years only"):
        manager.deidentify(twin, method="safe_harbor", retain_dates=True)
    with pytest.raises(InputError, match="limited_data_set"):
        manager.deidentify(twin, method="magic")


def test_pseudonyms_of_a_new_manager_cannot_be_repeated(twin):
    first, second = SecurityManager(), SecurityManager()
    assert first.deidentify(twin).patient_id != second.deidentify(twin).patient_id
    assert first.deidentify(twin).patient_id == first.deidentify(twin).patient_id


def test_a_function_kept_for_a_role_runs_for_nobody_else(tmp_path):
    manager = security(tmp_path)

    @manager.require_role("oncologist", "physicist")
    def view(number: int) -> int:
        """Say what was asked for."""
        return number

    assert view.__name__ == "view"
    with pytest.raises(NotSignedInError):
        view(1)
    with acting_as(NOBODY), pytest.raises(NotSignedInError):
        view(1)
    for role in role_table():
        with acting_as(Principal("user:anna", roles=frozenset({role}))):
            if role in {"oncologist", "physicist"}:
                assert view(1) == 1
            else:
                with pytest.raises(AccessDeniedError):
                    view(1)
    for wrong in ((), ("oncologits",)):
        with pytest.raises(InputError):
            manager.require_role(*wrong)
