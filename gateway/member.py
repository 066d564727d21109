"""What a member of the federation publishes: its federation keys, and its application keys under its entity type.

An issuer and a gateway do it the same way, so it is done once. Rules that live here:

* The keys listed are read from the key ring whenever a configuration is signed, and with each key goes the proof that
  the member holds it: without one, no anchor attests the key (``core.publication``).
* Past and revoked keys of all purposes are the entity's, not only those that sign its statements: what an application
  key signed is looked at years later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from gateway.core.jose import PublicKey, Signer
from gateway.core.key_schedule import KeyPurpose
from gateway.core.publication import KEY_PARAMETERS, KEY_PROOFS, key_proof
from gateway.entity import Entity
from gateway.keyring import KeyRing

CONFIGURATION_LIFETIME: Final = timedelta(hours=1)


def member_entity(
    *,
    entity_id: str,
    entity_type: str,
    federation: KeyPurpose,
    keys: KeyRing,
    parameters: Callable[[], Mapping[str, Any]] = dict,
) -> Entity:
    """Make the entity of a member that has one entity type.

    Args:
        entity_id: its entity identifier.
        entity_type: what it is.
        federation: the purpose of the keys that sign its statements.
        keys: those, and the application keys of its type.
        parameters: further metadata of its type, asked for each time.

    Raises:
        KeyStoreError: there never was a federation key.
    """
    keys.require(federation)
    listing = _Listing(entity_id, entity_type, keys)
    purposes = (federation, *listing.purposes)
    return Entity(
        entity_id=entity_id,
        signer=lambda: keys.signer(federation),
        federation_keys=lambda: keys.published(federation),
        metadata=lambda: {entity_type: {**parameters(), **listing.parameters()}},
        lifetime=CONFIGURATION_LIFETIME,
        revocations=lambda: keys.revocations(*purposes),
        history=lambda: keys.records(*purposes),
    )


class _Listing:
    """The application keys of one entity type as metadata lists them."""

    def __init__(self, entity_id: str, entity_type: str, keys: KeyRing) -> None:
        self._entity_id = entity_id
        self._names = {purpose: name for purpose, (place, name) in KEY_PARAMETERS.items() if place == entity_type}
        self._keys = keys
        self._proofs: dict[str, str] = {}

    @property
    def purposes(self) -> Sequence[KeyPurpose]:
        return tuple(self._names)

    def parameters(self) -> Mapping[str, Any]:
        listed: dict[str, Any] = {}
        proofs: dict[str, str] = {}
        for purpose, name in self._names.items():
            signers = self._keys.proof_signers(purpose)
            # An empty set is no JWK Set; a member with no key to show leaves the name out.
            if signers:
                listed[name] = _jwks([signer.public for signer in signers])
            proofs.update({signer.public.kid: self._proof(signer) for signer in signers})
        return {**listed, KEY_PROOFS: proofs}

    def _proof(self, signer: Signer) -> str:
        # It says the same for as long as the key lives, and would look new each time it is signed: made once.
        kid = signer.public.kid
        if kid not in self._proofs:
            self._proofs[kid] = key_proof(self._entity_id, signer)
        return self._proofs[kid]


def _jwks(keys: Sequence[PublicKey]) -> dict[str, Any]:
    return {"keys": [dict(key.jwk) for key in keys]}
