"""Protection of a twin that leaves the node: encrypted, without its patient, or for one role alone."""

from __future__ import annotations

import io
import os
import secrets
import tempfile
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from digital_twins._errors import InputError
from digital_twins.auth import require_role, role_table
from digital_twins.crypto import (
    AwsKms,
    DecryptionError,
    LocalKeyFile,
    OsKeyring,
    VaultTransit,
    WrappedKey,
    decrypt_stream,
    encrypt_stream,
)
from digital_twins.governance._subject import CarriesTwin, twin_of
from digital_twins.governance.deidentification._identity import DeidentificationKey
from digital_twins.governance.deidentification._words import clean_text
from digital_twins.patient_modeling import NewIdentity, PatientTwin, twin_without_identity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from digital_twins.crypto import KeyProvider

P = ParamSpec("P")
T = TypeVar("T")

_ENCRYPTION = "AES-256-GCM"
_METHODS = {
    "safe_harbor": "years only, as 45 CFR 164.514(b)(2) asks",
    "limited_data_set": "dates kept, as 45 CFR 164.514(e) allows under a data use agreement",
    "expert_determination": "dates moved by the patient's own number of days, for an expert to judge",
}
_OLDEST_YEARS = 89
_FACTS_OF_NUMBERS = frozenset(
    [
        "height_cm",
        "weight_kg",
        "body_surface_area_m2",
        "gfr_ml_min",
        "age",
        "age_years",
        "karnofsky",
        "ecog",
        "grade",
    ]
)
_FACTS_OF_WORDS = frozenset(
    [
        "sex",
        "tumor_type",
        "tumour_type",
        "diagnosis",
        "histology",
        "stage",
        "mgmt",
        "idh",
        "egfr",
        "her2",
        "pdl1",
        "site",
    ]
)


@dataclass(frozen=True, slots=True)
class EncryptedTwin:
    """A twin as ciphertext with its wrapped key.

    Parameters
    ----------
    object_name
        Pseudonym that key and ciphertext are bound to.
    wrapped_key
        Data key, sealed by the key provider.
    ciphertext
        The ``.twin`` file as a stream of Tink's AES256_GCM_HKDF_1MB.
    """

    object_name: str
    wrapped_key: WrappedKey
    ciphertext: bytes


class SecurityManager:
    """Encrypts twins, takes their patients out, and keeps functions for those who may call them.

    Parameters
    ----------
    providers
        Key providers by the name that ``key_management`` uses. Those that are not given are made when asked
        for: ``local`` (file ``TWIN_KEY_FILE``, else ``twin-keys.json``), ``keyring``, ``aws_kms`` (key
        ``TWIN_KMS_KEY_ID``, else ``alias/digital-twins``), ``vault`` (``VAULT_ADDR``, ``VAULT_TOKEN_FILE``,
        key ``digital-twins``).
    deidentification_key
        Where pseudonyms come from; a random one, so that nobody can repeat them, unless given.
    """

    def __init__(
        self,
        *,
        providers: Mapping[str, KeyProvider] | None = None,
        deidentification_key: DeidentificationKey | None = None,
    ) -> None:
        self._providers = dict(providers or {})
        self._key = deidentification_key or DeidentificationKey(secrets.token_bytes(32))

    def encrypt_data(
        self, twin: PatientTwin | CarriesTwin, *, encryption: str = _ENCRYPTION, key_management: str = "local"
    ) -> EncryptedTwin:
        """Encrypt a twin with all its versions under a data key of its own.

        Parameters
        ----------
        twin
            Stays as it is; delete other copies of it.
        encryption
            ``"AES-256-GCM"``.
        key_management
            Who wraps the key: ``"local"``, ``"keyring"``, ``"aws_kms"`` or ``"vault"``.

        Raises
        ------
        InputError
            Another cipher or key management is asked for.
        KeyServiceError
            The provider did not wrap the key.
        MissingExtraError
            The provider needs a package that is not installed.
        """
        if encryption != _ENCRYPTION:
            raise InputError(f"There is no encryption '{encryption}'.", f"It is {_ENCRYPTION}.", "Say so.")
        twin = twin_of(twin)
        name = f"twin-{uuid.uuid4()}"
        data_key = secrets.token_bytes(32)
        wrapped = self._provider(key_management).wrap(data_key, {"object": name})
        sealed = io.BytesIO()
        encrypt_stream(io.BytesIO(_to_bytes(twin)), sealed, key=data_key, associated_data=name.encode())
        return EncryptedTwin(name, wrapped, sealed.getvalue())

    def decrypt_data(self, encrypted: EncryptedTwin) -> PatientTwin:
        """Return the twin that was encrypted.

        Raises
        ------
        DecryptionError
            Ciphertext, key or name were changed, or belong to another twin.
        KeyServiceError
            The provider did not unwrap the key.
        """
        provider = self._provider(encrypted.wrapped_key.provider)
        data_key = provider.unwrap(encrypted.wrapped_key, {"object": encrypted.object_name})
        plain = io.BytesIO()
        decrypt_stream(
            io.BytesIO(encrypted.ciphertext),
            plain,
            key=data_key,
            associated_data=encrypted.object_name.encode(),
        )
        return _from_bytes(plain.getvalue())

    def deidentify(
        self, twin: PatientTwin | CarriesTwin, *, method: str = "safe_harbor", retain_dates: bool = False
    ) -> PatientTwin:
        """Return a twin that predicts the same and names nobody.

        Identifiers, UIDs, the image, sources in the record and free notes go; ages over 89 become 90; masks,
        parameters and days since baseline stay.

        Parameters
        ----------
        twin
            Stays as it is.
        method
            ``"safe_harbor"``: of dates the year alone. ``"expert_determination"``: dates moved by the
            patient's own number of days. ``"limited_data_set"``: dates kept.
        retain_dates
            Keep dates; only a limited data set may.

        Raises
        ------
        InputError
            There is no such method, or it does not allow dates.
        """
        twin = twin_of(twin)
        if method not in _METHODS:
            raise InputError(
                f"There is no method '{method}'.",
                "It is not one of HIPAA's.",
                f"Use one of {', '.join(_METHODS)}.",
            )
        if retain_dates and method != "limited_data_set":
            raise InputError(
                f"'{method}' cannot keep dates.",
                "Safe Harbor allows years only, and an expert's method moves dates.",
                'Say method="limited_data_set", which needs a data use agreement.',
            )
        moment = self._moments(method, twin.patient_id)
        identity = NewIdentity(
            patient_id=self._key.pseudonym(twin.patient_id),
            twin_id=str(uuid.UUID(bytes=self._key.digest("twin", twin.twin_id)[:16], version=4)),
            uid=self._key.uid,
            moment=moment,
            clinical_data=_facts,
            note=f"De-identified by method {method}: {_METHODS[method]}.",
        )
        return twin_without_identity(twin, identity)

    def require_role(self, *roles: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
        """Let a function run only for somebody who signed in with one of the roles.

        Who acts is the principal of the request, or of ``auth.acting_as``; nobody is refused, and so is
        somebody with other roles, administrators included.

        Parameters
        ----------
        roles
            Names of the role table (``auth.role_table``), e.g. ``"oncologist"``.

        Raises
        ------
        InputError
            No role is given, or the table does not have one of them.
        NotSignedInError
            On the call: nobody acts here.
        AccessDeniedError
            On the call: who acts has none of the roles.
        """
        unknown = sorted(set(roles) - set(role_table()))
        if unknown or not roles:
            raise InputError(
                "The function cannot be kept for a role.",
                f"Unknown: {', '.join(unknown)}." if unknown else "No role was given.",
                f"Use one of {', '.join(sorted(role_table()))}.",
            )
        return require_role(*roles)

    def _moments(self, method: str, patient_id: str) -> Callable[[datetime], datetime]:
        if method == "limited_data_set":
            return lambda moment: moment
        if method == "safe_harbor":
            return lambda moment: datetime(moment.year, 1, 1, tzinfo=UTC)
        shift = timedelta(days=self._key.shift_days(patient_id))
        return lambda moment: moment + shift

    def _provider(self, name: str) -> KeyProvider:
        if name not in self._providers:
            make = _PROVIDERS.get(name)
            if make is None:
                raise InputError(
                    f"There is no key management '{name}'.",
                    "No provider has that name.",
                    f"Use one of {', '.join(sorted(_PROVIDERS))}.",
                )
            self._providers[name] = make()
        return self._providers[name]


def _vault() -> VaultTransit:
    try:
        address, token_file = os.environ["VAULT_ADDR"], os.environ["VAULT_TOKEN_FILE"]
    except KeyError as missing:
        raise InputError(
            "Vault cannot be asked.",
            f"The variable {missing} is not set.",
            "Set VAULT_ADDR and VAULT_TOKEN_FILE.",
        ) from None
    return VaultTransit(address, "digital-twins", token_file=token_file)


_PROVIDERS: dict[str, Callable[[], KeyProvider]] = {
    "local": lambda: LocalKeyFile(os.environ.get("TWIN_KEY_FILE", "twin-keys.json")),
    "keyring": OsKeyring,
    "aws_kms": lambda: AwsKms(os.environ.get("TWIN_KMS_KEY_ID", "alias/digital-twins")),
    "vault": _vault,
}


def _facts(clinical: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the facts that models read: numbers, and words that are DICOM's own."""
    kept: dict[str, Any] = {}
    for name, value in clinical.items():
        if name in _FACTS_OF_NUMBERS and isinstance(value, (int, float)):
            kept[name] = _OLDEST_YEARS + 1 if name.startswith("age") and value > _OLDEST_YEARS else value
        elif name in _FACTS_OF_WORDS and isinstance(value, str):
            kept[name] = clean_text(value, frozenset())
    return kept


def _to_bytes(twin: PatientTwin) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "twin.twin"
        twin.save(path)
        return path.read_bytes()


def _from_bytes(content: bytes) -> PatientTwin:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "twin.twin"
        path.write_bytes(content)
        try:
            return PatientTwin.open(path)
        except InputError as error:
            raise DecryptionError(f"It is no twin: {error.why}") from error
