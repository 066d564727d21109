"""The documents of a small federation, made by hand so that each can be made wrong.

Four anchors of which three make a quorum, four issuers, four gateways. What is changed has to be sealed: an anchor's
configuration names the statements that counted when it was made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.core.admission import Admission, Offer, admit
from gateway.core.charter import (
    GATEWAY_TYPE,
    ISSUER_TYPE,
    Charter,
    add_signature,
    draft,
    parse_charter,
    unsigned,
    verify_pinned,
)
from gateway.core.events import EVENTS_TYPE, events_claims
from gateway.core.identifiers import Province
from gateway.core.jose import SoftwareKey, generate_key, parse_compact, sign_compact
from gateway.core.memory import Revocation, RevocationReason, TrustMemory
from gateway.core.publication import AUDIT_JWKS, KEY_PROOFS, RECEIPT_JWKS, configuration_claims, key_proof
from gateway.core.reasons import Indeterminate, Reason, Rejected
from gateway.core.snapshot import Entry, Vouched, payload_digest, snapshot_claim
from gateway.core.statements import TYP
from gateway.core.trust import TrustView, build_view
from gateway.lab.charter import RESIDENT_ID, charter_claims, entity_ids

NOW = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)
START = int(NOW.timestamp())
SH, JS, ZJ, AH = Province
ANCHORS = [entity_ids(province).anchor for province in Province]
SHANGHAI = entity_ids(SH).issuer
JIANGSU = entity_ids(JS).issuer
GATEWAY = entity_ids(AH).gateway
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
MAX_CHARS = 200_000
# Keys are slow to make and the same in every test; what is made of them is not.
_KEYS: dict[str, SoftwareKey] = {}


def key_of(name: str) -> SoftwareKey:
    """Give the key of this name, always the same one."""
    return _KEYS.setdefault(name, generate_key())


def claims_of(token: str) -> dict[str, Any]:
    return parse_compact(token, max_chars=MAX_CHARS).unverified_claims()


def reason_of(action: Callable[[], object]) -> Reason:
    try:
        action()
    except (Rejected, Indeterminate) as refusal:
        return refusal.reason
    return pytest.fail("nothing was refused")


def jwks_of(keys: Iterable[SoftwareKey]) -> dict[str, Any]:
    return {"keys": [dict(key.public.jwk) for key in keys]}


def nothing(_claims: dict[str, Any]) -> None:
    """Change nothing."""


def agreed(claims: dict[str, Any], signers: Iterable[SoftwareKey]) -> Charter:
    document = unsigned(draft(claims))
    for key in signers:
        document = add_signature(document, key)
    return verify_pinned(document, parse_charter(document).unverified.sha256)


class Papers:
    def __init__(self) -> None:
        self.anchor_keys = {anchor: key_of(anchor) for anchor in ANCHORS}
        members = [member for p in Province for member in (entity_ids(p).issuer, entity_ids(p).gateway)]
        self.federation_keys = {member: key_of(member) for member in members}
        self.issuers = [entity_ids(p).issuer for p in Province]
        self.credential_keys = {issuer: [key_of(f"credential {issuer}")] for issuer in self.issuers}
        self.gateway_keys = {
            entity_ids(p).gateway: {
                name: [key_of(f"{name} {entity_ids(p).gateway}")] for name in (RECEIPT_JWKS, AUDIT_JWKS)
            }
            for p in Province
        }
        """By gateway, then by metadata parameter."""
        self.charter = self.make_charter()
        self._seq = START
        self.documents: dict[tuple[str, str], str] = {}
        for member in members:
            self.documents[member, member] = self.configuration(member)
            for anchor in ANCHORS:
                self.documents[anchor, member] = self.statement(anchor, member)
        self.seal(*ANCHORS)

    def make_charter(self, change: Callable[[dict[str, Any]], None] = nothing) -> Charter:
        claims = charter_claims({p: self.anchor_keys[entity_ids(p).anchor].public for p in Province}, NOW)
        change(claims)
        return agreed(claims, self.anchor_keys.values())

    def next_seq(self) -> int:
        self._seq += 1
        return self._seq

    # -- anchors -------------------------------------------------------------------------------------------------------

    def entries(self, anchor: str) -> dict[str, Entry]:
        """What a snapshot of the documents held names."""
        return {
            subject: Vouched(seq=claims_of(token)["seq"], sha256=payload_digest(token))
            for (issuer, subject), token in self.documents.items()
            if issuer == anchor and subject != anchor
        }

    def head(
        self,
        anchor: str,
        *,
        key: SoftwareKey | None = None,
        at: datetime = NOW,
        lifetime: timedelta = 10 * MINUTE,
        seq: int | None = None,
        entries: Mapping[str, Entry] | None = None,
        change: Callable[[dict[str, Any]], None] = nothing,
    ) -> str:
        signer = key or self.anchor_keys[anchor]
        claims = configuration_claims(
            entity_id=anchor,
            federation_keys=[signer.public],
            metadata={"federation_entity": {}},
            authority_hints=(),
            lifetime=lifetime,
            now=at,
            seq=self.next_seq() if seq is None else seq,
            extra={"snapshot": snapshot_claim(self.entries(anchor) if entries is None else entries)},
        )
        change(claims)
        return sign_compact(TYP, claims, signer)

    def seal(self, *anchors: str, **options: Any) -> None:
        for anchor in anchors:
            self.documents[anchor, anchor] = self.head(anchor, **options)

    def statement(
        self,
        anchor: str,
        member: str,
        *,
        keys: Sequence[SoftwareKey] | None = None,
        federation: Sequence[SoftwareKey] | None = None,
        signer: SoftwareKey | None = None,
        at: datetime = NOW,
        seq: int | None = None,
        change: Callable[[dict[str, Any]], None] = nothing,
    ) -> str:
        claims: dict[str, Any] = {
            "iss": anchor,
            "sub": member,
            "iat": int(at.timestamp()),
            "exp": int((at + HOUR).timestamp()),
            "seq": self.next_seq() if seq is None else seq,
            "jwks": {"keys": [dict(key.public.jwk) for key in federation or [self.federation_keys[member]]]},
            "constraints": {"max_path_length": 0},
        }
        if member in self.credential_keys:
            jwks = self.metadata(member, keys or self.credential_keys[member])[ISSUER_TYPE]["jwks"]
            claims["metadata"] = {ISSUER_TYPE: {"jwks": jwks}}
        else:
            claims["metadata"] = {
                GATEWAY_TYPE: {name: jwks_of(each) for name, each in self.gateway_keys[member].items()}
            }
        change(claims)
        return sign_compact(TYP, claims, signer or self.anchor_keys[anchor])

    def say(self, anchor: str, member: str, **options: Any) -> None:
        """Have an anchor state something, and name it in its snapshot."""
        self.documents[anchor, member] = self.statement(anchor, member, **options)
        self.seal(anchor)

    def bundle(self, anchor: str) -> list[str]:
        """All that an anchor says, as its province would hand it out."""
        return [token for (issuer, _), token in self.documents.items() if issuer == anchor]

    # -- members -------------------------------------------------------------------------------------------------------

    def configuration(
        self,
        member: str,
        *,
        keys: Sequence[SoftwareKey] | None = None,
        federation: Sequence[SoftwareKey] | None = None,
        signer: SoftwareKey | None = None,
        at: datetime = NOW,
        hints: Sequence[str] = ANCHORS,
        prover: str | None = None,
        seq: int | None = None,
        change: Callable[[dict[str, Any]], None] = nothing,
    ) -> str:
        signing = signer or self.federation_keys[member]
        claims = configuration_claims(
            entity_id=member,
            federation_keys=[key.public for key in federation or [signing]],
            metadata=self.metadata(member, keys or self.credential_keys.get(member, []), prover),
            authority_hints=hints,
            lifetime=HOUR,
            now=at,
            seq=self.next_seq() if seq is None else seq,
        )
        change(claims)
        return sign_compact(TYP, claims, signing)

    def metadata(self, member: str, keys: Sequence[SoftwareKey], prover: str | None = None) -> dict[str, Any]:
        if member not in self.credential_keys:
            own = self.gateway_keys[member]
            proofs = {key.public.kid: key_proof(prover or member, key) for each in own.values() for key in each}
            return {GATEWAY_TYPE: {**{name: jwks_of(each) for name, each in own.items()}, KEY_PROOFS: proofs}}
        return {
            ISSUER_TYPE: {
                "credential_types": [RESIDENT_ID],
                "jwks": jwks_of(keys),
                KEY_PROOFS: {key.public.kid: key_proof(prover or member, key) for key in keys},
            }
        }

    def attest(self, issuer: str, keys: Sequence[SoftwareKey], anchors: Sequence[str]) -> None:
        """Publish keys, and have these anchors pin them."""
        self.documents[issuer, issuer] = self.configuration(issuer, keys=keys)
        for anchor in anchors:
            self.say(anchor, issuer, keys=keys)

    def events(
        self,
        member: str,
        revoked: Mapping[str, Revocation],
        *,
        signer: SoftwareKey | None = None,
        seq: int | None = None,
        at: datetime = NOW,
        change: Callable[[dict[str, Any]], None] = nothing,
    ) -> str:
        claims = events_claims(member, revoked, seq=self.next_seq() if seq is None else seq, now=at)
        change(claims)
        return sign_compact(EVENTS_TYPE, claims, signer or self.federation_keys[member])

    # -- what comes of it ----------------------------------------------------------------------------------------------

    def memory(self, **parts: Any) -> TrustMemory:
        return replace(TrustMemory(documents=dict(self.documents)), **parts)

    def view(self, now: datetime = NOW, **parts: Any) -> TrustView:
        return build_view(self.charter, self.memory(**parts), now)

    def admit(
        self,
        *statements: str,
        events: Sequence[str] = (),
        now: datetime = NOW,
        memory: TrustMemory | None = None,
        charter: Charter | None = None,
    ) -> Admission:
        held = self.memory() if memory is None else memory
        return admit(charter or self.charter, held, Offer(statements=statements, events=events), now)


def reasons(admission: Admission) -> list[Reason]:
    return [problem.reason for problem in admission.refused]


def alarms(admission: Admission) -> list[Reason]:
    return [alarm.reason for alarm in admission.alarms]


def compromised(at: datetime = NOW) -> Revocation:
    return Revocation(revoked_at=at, reason=RevocationReason.COMPROMISED)


def superseded(at: datetime = NOW) -> Revocation:
    return Revocation(revoked_at=at, reason=RevocationReason.SUPERSEDED)
