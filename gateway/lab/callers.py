"""Who calls the gateways in the lab: service backends, identity systems, and people with their wallets.

They know nothing that a program of another vendor would not know. They speak the published contract over mutual TLS
with the client certificates that provisioning wrote, and a wallet signs with a key that no gateway ever sees.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from recognition.v1 import (
    audit_pb2,
    audit_pb2_grpc,
    issuance_pb2,
    issuance_pb2_grpc,
    reason_pb2,
    verification_pb2,
    verification_pb2_grpc,
)

from gateway import wire
from gateway.core.agreement import Party, SubjectType
from gateway.core.encoding import write_json
from gateway.core.jose import SoftwareKey, generate_key
from gateway.core.key_binding import make_key_binding
from gateway.core.sd_jwt import HashAlgorithm, digest, select_disclosures

CALL_SECONDS: Final = 10.0
"""Deadline of a call, waiting for the connection included: a gateway that was just started may need a moment."""
_CHANNEL_OPTIONS: Final = (
    # A gateway that was killed and started again is found within a tenth of a second instead of gRPC's usual seconds.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)
_REASON_PREFIX: Final = "REASON_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What came back: a verdict, or that the question was not permitted."""

    verdict: str
    """accepted, rejected, indeterminate, not_permitted or error."""
    reason: str = ""
    attributes: Mapping[str, Any] | None = None
    """What was released; None where nothing was, and where an expectation leaves it open."""
    told: Mapping[str, Any] = field(default_factory=dict)
    """What else an acceptance says; of an expectation, the part that matters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How a client reaches its gateway."""

    address: str
    ca: Path
    certificate: Path
    private_key: Path


def read_profile(file: Path) -> Profile:
    """Read a client profile that provisioning wrote."""
    content = tomllib.loads(file.read_text("utf-8"))
    return Profile(
        address=content["address"],
        ca=file.parent / content["ca"],
        certificate=file.parent / content["certificate"],
        private_key=file.parent / content["private_key"],
    )


def connect(profile: Profile) -> grpc.Channel:
    """Open a channel as the client a profile describes; nothing is connected before the first call."""
    credentials = grpc.ssl_channel_credentials(
        root_certificates=profile.ca.read_bytes(),
        private_key=profile.private_key.read_bytes(),
        certificate_chain=profile.certificate.read_bytes(),
    )
    return grpc.secure_channel(profile.address, credentials, options=_CHANNEL_OPTIONS)


class RelyingService:
    """A service backend: asks its own province's gateway."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = verification_pb2_grpc.VerificationServiceStub(channel)
        self._audit = audit_pb2_grpc.AuditServiceStub(channel)

    def challenge(self, matter: str) -> verification_pb2.CreateChallengeResponse:
        """Ask for the nonce and audience that a holder is to sign."""
        request = verification_pb2.CreateChallengeRequest(matter=matter)
        return self._stub.CreateChallenge(request, timeout=CALL_SECONDS, wait_for_ready=True)

    def verify(
        self,
        matter: str,
        presentation: str,
        nonce: str = "",
        *,
        consent_id: str = "",
        questions: Sequence[verification_pb2.Predicate] = (),
    ) -> Observed:
        """Ask for the verdict."""
        request = verification_pb2.VerifyCredentialRequest(
            matter=matter, presentation=presentation, nonce=nonce, consent_id=consent_id, predicates=questions
        )
        try:
            answer = self._stub.VerifyCredential(request, timeout=CALL_SECONDS, wait_for_ready=True)
        except grpc.RpcError as error:
            return refused(error)
        match answer.WhichOneof("verdict"):
            case "accepted":
                accepted = answer.accepted
                told = _told(accepted) | {"verification_id": answer.verification_id}
                return Observed(verdict="accepted", attributes=MessageToDict(accepted.attributes), told=told)
            case "rejected":
                return Observed(verdict="rejected", reason=_reason(answer.rejected.reason))
            case "indeterminate":
                return Observed(verdict="indeterminate", reason=_reason(answer.indeterminate.reason))
            case _:
                return Observed(verdict="error", reason="DAMAGED_ANSWER")

    def evidence(self, verification_id: str) -> audit_pb2.GetEvidenceResponse:
        """Fetch what proves a verification of its own."""
        request = audit_pb2.GetEvidenceRequest(verification_id=verification_id)
        return self._audit.GetEvidence(request, timeout=CALL_SECONDS, wait_for_ready=True)

    def consent(self, matter: str, claims: Sequence[str]) -> str:
        """Record that a person signed; gives the reference."""
        request = verification_pb2.RecordConsentRequest(matter=matter, claims=claims)
        request.lifetime.FromTimedelta(timedelta(days=90))
        return self._stub.RecordConsent(request, timeout=CALL_SECONDS, wait_for_ready=True).consent_id

    def withdraw(self, consent_id: str) -> None:
        """Note that the person withdrew it."""
        request = verification_pb2.WithdrawConsentRequest(consent_id=consent_id)
        self._stub.WithdrawConsent(request, timeout=CALL_SECONDS, wait_for_ready=True)


class IdentitySystem:
    """A province's identity system: has its own issuer sign what it established about a person."""

    def __init__(self, channel: grpc.Channel, now: Callable[[], datetime]) -> None:
        self._stub = issuance_pb2_grpc.IssuanceServiceStub(channel)
        self._audit = audit_pb2_grpc.AuditServiceStub(channel)
        self._now = now

    def credential(self, person: Person, credential_type: str, *, acr: str = "urn:yrd:loa:4") -> Wallet:
        """Have a credential issued into a new wallet."""
        key = generate_key()
        answer = self._stub.IssueCredential(
            issuance_pb2.IssueCredentialRequest(
                local_subject=person.local_subject,
                credential_type=credential_type,
                claims=wire.struct(person.claims),
                holder_jwk=write_json(key.public.jwk).decode("utf-8"),
                authentication=self._authentication(acr),
                subject_type=wire.subject_type_number(person.subject_type),
                actor=None if person.actor is None else person.actor.message(),
            ),
            timeout=CALL_SECONDS,
            wait_for_ready=True,
        )
        return Wallet(key=key, credential=answer.credential, now=self._now, credential_id=answer.credential_id)

    def disclosures(self, person: Person) -> audit_pb2.ListDisclosuresResponse:
        """Ask who verified a person."""
        request = audit_pb2.ListDisclosuresRequest(local_subject=person.local_subject)
        return self._audit.ListDisclosures(request, timeout=CALL_SECONDS, wait_for_ready=True)

    def set_status(self, credential_id: str, status: issuance_pb2.CredentialStatus.ValueType) -> None:
        """Say what became of a credential."""
        target = issuance_pb2.CredentialTarget(credential_id=credential_id)
        request = issuance_pb2.SetCredentialStatusRequest(targets=[target], status=status)
        self._stub.SetCredentialStatus(request, timeout=CALL_SECONDS, wait_for_ready=True)

    def assertion(
        self, person: Person, audience: str, *, acr: str = "urn:yrd:loa:3", lifetime: timedelta | None = None
    ) -> str:
        """Have an assertion issued for one audience."""
        request = issuance_pb2.IssueAssertionRequest(
            local_subject=person.local_subject,
            audience=audience,
            claims=wire.struct(person.claims),
            authentication=self._authentication(acr),
        )
        if lifetime is not None:
            request.lifetime.CopyFrom(wire.duration(lifetime))
        return self._stub.IssueAssertion(request, timeout=CALL_SECONDS, wait_for_ready=True).assertion

    def _authentication(self, acr: str) -> issuance_pb2.Authentication:
        return issuance_pb2.Authentication(
            acr=acr, amr=["face", "hwk"], authentication_time=wire.timestamp(self._now())
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody an identity system knows. Synthetic: every ID number in the lab has the birth year 1900."""

    name_zh: str
    name_en: str
    local_subject: str
    claims: Mapping[str, Any]
    subject_type: SubjectType = SubjectType.NATURAL
    actor: ActingPerson | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ActingPerson:
    """Who acts for somebody, by which right, for which matters and until when."""

    local_subject: str
    relationship: Party
    scope: Sequence[str]
    claims: Mapping[str, Any]
    until: datetime | None = None

    def message(self) -> issuance_pb2.IssuedActor:
        """Write it for the issuer."""
        message = issuance_pb2.IssuedActor(
            local_subject=self.local_subject,
            relationship=self.relationship.value,
            scope=self.scope,
            claims=wire.struct(self.claims),
        )
        if self.until is not None:
            message.expire_time.CopyFrom(wire.timestamp(self.until))
        return message


@dataclass(frozen=True, slots=True, kw_only=True)
class Wallet:
    """A holder's key and one credential bound to it."""

    key: SoftwareKey
    credential: str
    now: Callable[[], datetime]
    credential_id: str
    """Known to the issuer alone: it says there what becomes of the credential."""

    def present(
        self,
        challenge: verification_pb2.CreateChallengeResponse,
        *,
        withhold: frozenset[str] = frozenset(),
    ) -> str:
        """Answer a challenge, with every attribute but those kept back."""
        return self.bind(select_disclosures(self.credential, lambda path: path[-1] not in withhold), challenge)

    def bind(
        self, sd_jwt: str, challenge: verification_pb2.CreateChallengeResponse, *, key: SoftwareKey | None = None
    ) -> str:
        """Prove possession over any text, altered or forged, with the holder's key or, for a thief, another."""
        return sd_jwt + make_key_binding(
            digest(sd_jwt, HashAlgorithm.SHA_256),
            signer=key or self.key,
            audience=challenge.audience,
            nonce=challenge.nonce,
            issued_at=self.now(),
        )


def _told(accepted: verification_pb2.Acceptance) -> dict[str, Any]:
    told: dict[str, Any] = {"level": accepted.assurance.level, "household": accepted.household_province}
    if accepted.predicate_answers:
        told["answers"] = [answer == verification_pb2.PREDICATE_ANSWER_YES for answer in accepted.predicate_answers]
    if accepted.HasField("actor"):
        told["acts"] = accepted.actor.relationship
        told["actor"] = MessageToDict(accepted.actor.attributes)
    return told


def refused(error: Exception) -> Observed:
    """Read a call that ended in an error: the ErrorInfo that the gateway attached, else the status alone."""
    if not isinstance(error, grpc.Call):
        return Observed(verdict="error", reason="NO_ANSWER")
    code = error.code()
    reason = code.name
    status = rpc_status.from_call(error)
    for packed in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if packed.Unpack(info):
            reason = info.reason
    verdict = "not_permitted" if code is grpc.StatusCode.PERMISSION_DENIED else "error"
    return Observed(verdict=verdict, reason=reason)


def _reason(number: reason_pb2.Reason.ValueType) -> str:
    return reason_pb2.Reason.Name(number).removeprefix(_REASON_PREFIX)
