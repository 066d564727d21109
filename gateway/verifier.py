"""One verification, from top to bottom.

 1  the caller is a relying service registered for the matter
 2  size, character set, profile by structure, strict parsing
 3  issuer and kid give the key in the trust view; unknown kid: one rate-limited refresh, then asked once more
 4  the algorithm is the key's own and allowed; the signature verifies
 5  type, issuer, times, authority for this type and assurance
 6  disclosures
 7  holder binding, audience, nonce
 8  status
 9  the matter's policy; only what the matter may have is released
10  replay key and audit entry, in one durable transaction; a used key turns the verdict into REPLAYED
11  the answer

Steps 2 to 9 are ``core.credential.verify_presentation``: a pure function of presentation, request, view and now. This
module gathers what it needs, and records what it decided. The first failed step decides; whatever the verdict, it is
recorded before it is answered. While what is held may lack something that was known here before, the verdict is
indeterminate, whatever is presented.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from gateway.clock import World
from gateway.config import RelyingService
from gateway.core.agreement import Assurance, Matter
from gateway.core.challenge import make_nonce
from gateway.core.credential import PresentationRequest, VerifiedPresentation, verify_presentation
from gateway.core.encoding import b64url_encode, keyed_digest
from gateway.core.reasons import Indeterminate, NotPermitted, Reason, Rejected
from gateway.core.trust import TrustView
from gateway.ledger import Ledger
from gateway.resolver import Resolver
from gateway.storage import AuditEntry, LedgerEntry
from gateway.tls import Caller

CHALLENGE_LIFETIME: Final = timedelta(minutes=5)
REPLAY_MARGIN: Final = timedelta(minutes=5)
"""Replay keys outlive the window in which a presentation could be accepted by this much: one constant for nonce and
jti, so that acceptance and memory cannot drift apart."""
RETRY_AFTER: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """A nonce for one presentation to one service."""

    nonce: str
    audience: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustBasis:
    """Which trust data a decision rests on."""

    charter_version: int
    view_id: str
    age: timedelta | None
    """Time since a quorum of anchors last spoke; None: never."""
    stale: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """What the relying service may act on."""

    subject: str
    issuer: str
    province: str
    credential_type: str
    assurance: Assurance
    acr: str
    attributes: Mapping[str, Any]
    issued_at: datetime
    authenticated_at: datetime
    expires_at: datetime
    holder_bound: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Not accepted; the same presentation will not be."""

    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecided:
    """Could not be decided now."""

    reason: Reason
    retry_after: timedelta


# As the contract names them.
_VERDICTS: Final = {Acceptance: "accepted", Rejection: "rejected", Undecided: "indeterminate"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A verdict and what identifies it."""

    verdict: Acceptance | Rejection | Undecided
    verification_id: str
    decided_at: datetime
    basis: TrustBasis


class Verifier:
    """Answers relying services. Thread-safe: it holds nothing that changes."""

    def __init__(
        self,
        *,
        gateway_id: str,
        services: Mapping[str, RelyingService],
        resolver: Resolver,
        is_whole: Callable[[], bool],
        ledger: Ledger,
        world: World,
        nonce_key: bytes,
        pairwise_key: bytes,
    ) -> None:
        """Prepare the verifier.

        Args:
            gateway_id: this gateway's entity identifier.
            services: relying services by the identity in their certificate.
            resolver: gives the trust view.
            is_whole: whether that may be decided by (see ``Restoration``).
            ledger: records decisions.
            world: clock and randomness.
            nonce_key: secret behind challenges, shared by the province's processes.
            pairwise_key: secret behind the subjects and replay keys given out, likewise shared.
        """
        self._gateway_id = gateway_id
        self._services = services
        self._resolver = resolver
        self._is_whole = is_whole
        self._ledger = ledger
        self._world = world
        self._nonce_key = nonce_key
        self._pairwise_key = pairwise_key

    def create_challenge(self, caller: Caller, matter_code: str) -> Challenge:
        """Make a nonce for one presentation.

        Raises:
            NotPermitted: the caller is not registered for the matter.
        """
        service, matter = self._registered(caller, matter_code, self._resolver.view)
        expires_at = self._world.now() + CHALLENGE_LIFETIME
        nonce = make_nonce(
            self._nonce_key,
            service=service.identity,
            matter=matter.code,
            expires_at=expires_at,
            random=self._world.random_bytes(16),
        )
        return Challenge(nonce=nonce, audience=service.identity, expires_at=expires_at)

    def verify(self, caller: Caller, *, matter_code: str, presentation: str, nonce: str, request_id: str) -> Answer:
        """Verify one presentation for one matter, record the decision, answer.

        Raises:
            NotPermitted: the caller is not registered for the matter.
            Unavailable, Overloaded: the decision could not be recorded, so there is none.
        """
        is_whole = self._is_whole()  # before the view is taken: what made it whole is in the view, then
        view = self._resolver.view
        service, matter = self._registered(caller, matter_code, view)  # 1
        request = PresentationRequest(
            presentation=presentation,
            matter=matter,
            service=service.identity,
            gateway=self._gateway_id,
            nonce=nonce,
            nonce_key=self._nonce_key,
            certificate_sha256=caller.certificate_sha256,
        )
        now = self._world.now()
        decided: VerifiedPresentation | Rejection | Undecided
        decided = Undecided(reason=Reason.TRUST_STALE, retry_after=RETRY_AFTER)
        if is_whole:
            view, decided = self._decide(caller, request, view, now)  # 2 to 9
        verdict = decided if not isinstance(decided, VerifiedPresentation) else self._accept(decided, service)
        answer = Answer(
            verdict=verdict,
            verification_id=b64url_encode(self._world.random_bytes(16)),
            decided_at=now,
            basis=self._basis(view, decided, now),
        )
        return self._record(answer, decided, service, matter, request_id)  # 10, 11

    def _registered(self, caller: Caller, matter_code: str, view: TrustView) -> tuple[RelyingService, Matter]:
        service = self._services.get(caller.identity)
        if service is None:
            raise NotPermitted("caller is not a registered relying service")
        matter = view.charter.agreement.matters.get(matter_code)
        if matter is None or matter.code not in service.matters:
            raise NotPermitted("relying service is not registered for this matter")
        return service, matter

    def _decide(
        self, caller: Caller, request: PresentationRequest, view: TrustView, now: datetime
    ) -> tuple[TrustView, VerifiedPresentation | Rejection | Undecided]:
        try:
            try:
                return view, verify_presentation(request, view, now)
            except Rejected as rejection:
                # A key published seconds ago may not be in the view yet. Only an issuer the charter knows gets a
                # refresh, and the resolver limits how often. Or it came by itself meanwhile.
                if rejection.reason is not Reason.KEY_UNKNOWN:
                    raise
                if not self._resolver.refresh_for_unknown_key() and self._resolver.view is view:
                    raise
                view = self._resolver.view
                # The charter may be another one now: its matter counts, and whether the caller may still ask for it.
                _, matter = self._registered(caller, request.matter.code, view)
                return view, verify_presentation(replace(request, matter=matter), view, now)
        except Rejected as rejection:
            return view, Rejection(reason=rejection.reason)
        except Indeterminate as indeterminate:
            return view, Undecided(reason=indeterminate.reason, retry_after=RETRY_AFTER)

    def _accept(self, presented: VerifiedPresentation, service: RelyingService) -> Acceptance:
        return Acceptance(
            # The issuer's subject is the same wherever this credential is shown; what we give out is not, so that two
            # services of different sectors cannot compare notes.
            subject=self._keyed("subject", service.sector, presented.issuer, presented.subject),
            issuer=presented.issuer,
            province=presented.province,
            credential_type=presented.credential_type,
            assurance=presented.assurance,
            acr=presented.acr,
            attributes=presented.attributes,
            issued_at=presented.issued_at,
            authenticated_at=presented.authenticated_at,
            expires_at=presented.expires_at,
            holder_bound=presented.holder_bound,
        )

    def _record(
        self,
        answer: Answer,
        decided: VerifiedPresentation | Rejection | Undecided,
        service: RelyingService,
        matter: Matter,
        request_id: str,
    ) -> Answer:
        def entry(verdict: Acceptance | Rejection | Undecided) -> AuditEntry:
            known = decided if isinstance(decided, VerifiedPresentation) else None
            return AuditEntry(
                verification_id=answer.verification_id,
                decided_at=answer.decided_at,
                service=service.identity,
                matter=matter.code,
                verdict=_VERDICTS[type(verdict)],
                reason="" if isinstance(verdict, Acceptance) else verdict.reason.value,
                issuer=known.issuer if known is not None else "",
                kid=known.kid if known is not None else "",
                charter_version=answer.basis.charter_version,
                view_id=answer.basis.view_id,
                request_id=request_id,
            )

        if not isinstance(decided, VerifiedPresentation):
            self._ledger.record(LedgerEntry(entry=entry(answer.verdict)))
            return answer
        replayed = Rejection(reason=Reason.REPLAYED)
        used = self._ledger.record(
            LedgerEntry(
                entry=entry(answer.verdict),
                if_replayed=entry(replayed),
                replay_key=self._keyed("replay", *decided.replay.parts),
                replay_until=decided.replay.until + REPLAY_MARGIN,
            )
        )
        if not used:
            return answer
        return Answer(
            verdict=replayed,
            verification_id=answer.verification_id,
            decided_at=answer.decided_at,
            basis=answer.basis,
        )

    def _keyed(self, purpose: str, *parts: str) -> str:
        return keyed_digest(self._pairwise_key, purpose, *parts)

    def _basis(
        self, view: TrustView, decided: VerifiedPresentation | Rejection | Undecided, now: datetime
    ) -> TrustBasis:
        confirmed_at = view.confirmed_at()
        return TrustBasis(
            charter_version=view.charter.version,
            view_id=view.view_id,
            age=None if confirmed_at is None else max(timedelta(0), now - confirmed_at),
            stale=isinstance(decided, VerifiedPresentation) and decided.stale,
        )
