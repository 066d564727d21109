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
10  replay key, consent and log entry, in one durable transaction; a used key turns the verdict into REPLAYED
11  the answer, with a signed receipt where one was asked for

Steps 2 to 9 are ``core.credential.verify_presentation``: a pure function of presentation, request, view, status lists
and now. This module gathers what it needs, and records what it decided. The first failed step decides; whatever the
verdict, it is recorded before it is answered, with what was found out on the way and nothing about the person. While
what is held may lack something that was known here before, the verdict is indeterminate, whatever is presented.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from gateway.clock import World
from gateway.config import RelyingService
from gateway.core.agreement import Assurance, Matter, Party, SubjectType
from gateway.core.challenge import make_nonce
from gateway.core.consent import Consent
from gateway.core.credential import PresentationRequest, VerifiedPresentation, verify_presentation
from gateway.core.encoding import new_name
from gateway.core.entries import SealedEntry, Verification, blinded, seal, verification_entry
from gateway.core.findings import Findings, Step
from gateway.core.pairwise import PairwiseKey
from gateway.core.predicates import Predicate, may_ask
from gateway.core.reasons import Indeterminate, NotPermitted, Reason, Rejected, Unavailable
from gateway.core.references import References
from gateway.core.status_list import StatusList
from gateway.core.texts import NextStep, next_step
from gateway.core.trust import TrustView
from gateway.ledger import Ledger
from gateway.receipts import Receipts
from gateway.resolver import Resolver
from gateway.storage import Committed, ConsentStore, ConsentUse, LedgerEntry, Outcome, StorageError
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
class StatusBasis:
    """Which status data a decision rests on."""

    uri: str
    issued_at: datetime
    age: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class ActingPerson:
    """Who acts for the subject. Never to be taken for the subject."""

    subject: str
    previous_subject: str
    relationship: Party
    attributes: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """What the relying service may act on."""

    subject: str
    previous_subject: str
    """By the key version before, while records are moved; else empty."""
    subject_type: SubjectType
    actor: ActingPerson | None
    issuer: str
    province: str
    household_province: str
    credential_type: str
    assurance: Assurance
    acr: str
    level: int
    attributes: Mapping[str, Any] = field(repr=False)
    answers: tuple[bool, ...] = field(repr=False)
    """To the predicates, in their order."""
    issued_at: datetime
    authenticated_at: datetime
    expires_at: datetime
    holder_bound: bool
    erase_at: datetime
    """Until when the attributes may be kept."""
    legal_basis: str


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
    status: StatusBasis | None
    receipt: str = ""
    """Compact JWS, typ verification-receipt+jwt; empty: none was asked for."""

    @property
    def next_step(self) -> NextStep:
        """What whoever asked should do next."""
        return next_step(None if isinstance(self.verdict, Acceptance) else self.verdict.reason)


_Decided = VerifiedPresentation | Rejection | Undecided
_AGAINST: Final = {
    Outcome.REPLAYED: Rejection(reason=Reason.REPLAYED),
    Outcome.CONSENT_WITHDRAWN: Rejection(reason=Reason.CONSENT_WITHDRAWN),
    Outcome.CONSENT_OF_ANOTHER: Rejection(reason=Reason.CONSENT_INVALID),
}
"""What the ledger may find when it writes."""


class Verifier:
    """Answers relying services. Thread-safe: it holds nothing that changes."""

    def __init__(
        self,
        *,
        gateway_id: str,
        services: Mapping[str, RelyingService],
        resolver: Resolver,
        is_whole: Callable[[], bool],
        lists: Callable[[], Mapping[str, StatusList]],
        consents: ConsentStore,
        ledger: Ledger,
        receipts: Receipts,
        world: World,
        nonce_key: bytes,
        references: References,
        pairwise_key: PairwiseKey,
    ) -> None:
        """Prepare the verifier.

        Args:
            gateway_id: this gateway's entity identifier.
            services: relying services by the identity in their certificate.
            resolver: gives the trust view.
            is_whole: whether that may be decided by (see ``Restoration``).
            lists: gives the status lists held, by their URIs.
            consents: where consents are on record.
            ledger: records decisions.
            receipts: signs receipts.
            world: clock and randomness.
            nonce_key: secret behind challenges, shared by the province's processes.
            references: makes replay keys and references to people in the log.
            pairwise_key: secret behind the subjects given out, likewise shared.
        """
        self._gateway_id = gateway_id
        self._services = services
        self._resolver = resolver
        self._is_whole = is_whole
        self._lists = lists
        self._consents = consents
        self._ledger = ledger
        self._receipts = receipts
        self._world = world
        self._nonce_key = nonce_key
        self._references = references
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

    def verify(
        self,
        caller: Caller,
        *,
        matter_code: str,
        presentation: str,
        nonce: str,
        request_id: str,
        consent_id: str = "",
        predicates: Sequence[Predicate] = (),
        terminal: str = "",
        receipt: bool = False,
    ) -> Answer:
        """Verify one presentation for one matter, record the decision, answer.

        Raises:
            NotPermitted: the caller is not registered for the matter, or the matter may not ask a predicate.
            Unavailable, Overloaded: the decision could not be recorded, so there is none.
        """
        began = time.monotonic_ns()
        if receipt:
            self._receipts.require_signer()  # rather than after a nonce was used up
        is_whole = self._is_whole()  # before the view is taken: what made it whole is in the view, then
        view = self._resolver.view
        service, matter = self._registered(caller, matter_code, view, predicates)  # 1
        request = PresentationRequest(
            presentation=presentation,
            matter=matter,
            service=service.identity,
            gateway=self._gateway_id,
            nonce=nonce,
            nonce_key=self._nonce_key,
            certificate_sha256=caller.certificate_sha256,
            predicates=predicates,
            consent_id=consent_id,
            consent=self._consent(consent_id),
        )
        now = self._world.now()
        case = _Case(
            request=request,
            view=view,
            now=now,
            findings=Findings(step=Step.KEY),
            began=began,
            request_id=request_id,
            terminal=terminal,
        )
        decided: _Decided = Undecided(reason=Reason.TRUST_STALE, retry_after=RETRY_AFTER)
        if is_whole:
            decided = self._decide(caller, case)  # 2 to 9
        verdict = decided if not isinstance(decided, VerifiedPresentation) else self._accept(decided, service, case)
        answer = Answer(
            verdict=verdict,
            verification_id=new_name(self._world.random_bytes(16)),
            decided_at=now,
            basis=self._basis(case.view, decided, now),
            status=_status_basis(case.findings, now),
        )
        answer, written, committed = self._record(answer, decided, case)  # 10
        if not receipt:
            return answer  # 11
        return replace(answer, receipt=self._receipts.sign(written, committed))

    def _registered(
        self, caller: Caller, matter_code: str, view: TrustView, predicates: Sequence[Predicate] = ()
    ) -> tuple[RelyingService, Matter]:
        service = self._services.get(caller.identity)
        if service is None:
            raise NotPermitted("caller is not a registered relying service")
        matter = view.charter.agreement.matters.get(matter_code)
        if matter is None or matter.code not in service.matters:
            raise NotPermitted("relying service is not registered for this matter")
        if not all(may_ask(matter, predicate) for predicate in predicates):
            raise NotPermitted("the agreement does not let this matter ask that")
        return service, matter

    def _consent(self, consent_id: str) -> Consent | None:
        try:
            return self._consents.load_consent(consent_id) if consent_id else None
        except StorageError as error:
            raise Unavailable("the consents on record could not be read") from error

    def _decide(self, caller: Caller, case: _Case) -> _Decided:
        try:
            try:
                return self._judge(case)
            except Rejected as rejection:
                # A key published seconds ago may not be in the view yet. Only an issuer the charter knows gets a
                # refresh, and the resolver limits how often. Or it came by itself meanwhile.
                if rejection.reason is not Reason.KEY_UNKNOWN:
                    raise
                if not self._resolver.refresh_for_unknown_key() and self._resolver.view is case.view:
                    raise
                case.view = self._resolver.view
                # The charter may be another one now: its matter counts, and whether the caller may still ask for it.
                request = case.request
                _, matter = self._registered(caller, request.matter.code, case.view, request.predicates)
                case.request = replace(request, matter=matter)
                return self._judge(case)
        except Rejected as rejection:
            return Rejection(reason=rejection.reason)
        except Indeterminate as indeterminate:
            return Undecided(reason=indeterminate.reason, retry_after=RETRY_AFTER)

    def _judge(self, case: _Case) -> VerifiedPresentation:
        case.findings = Findings()
        return verify_presentation(case.request, case.view, self._lists(), case.now, case.findings)

    def _accept(self, presented: VerifiedPresentation, service: RelyingService, case: _Case) -> Acceptance:
        matter, now = case.request.matter, case.now

        def pairwise(subject: str, previous: str) -> tuple[str, str]:
            # The issuer's subject is the same wherever this credential is shown; what we give out is not, so that two
            # services of different sectors cannot compare notes. Whichever of the two keys was replaced, ours or the
            # issuer's, the subject before is what records are still filed under.
            ours = self._pairwise_key.previous_subject(now, service.sector, presented.issuer, previous or subject)
            theirs = self._pairwise_key.subject(service.sector, presented.issuer, previous) if previous else ""
            return self._pairwise_key.subject(service.sector, presented.issuer, subject), ours or theirs

        subject, previous_subject = pairwise(presented.subject, presented.previous_subject)
        actor = None
        if presented.actor is not None:
            acting, previous_acting = pairwise(presented.actor.subject, presented.actor.previous_subject)
            actor = ActingPerson(
                subject=acting,
                previous_subject=previous_acting,
                relationship=presented.actor.relationship,
                attributes=presented.actor.attributes,
            )
        return Acceptance(
            subject=subject,
            previous_subject=previous_subject,
            subject_type=presented.subject_type,
            actor=actor,
            issuer=presented.issuer,
            province=presented.province,
            household_province=presented.household_province,
            credential_type=presented.credential_type,
            assurance=presented.assurance,
            acr=presented.acr,
            level=presented.level,
            attributes=presented.attributes,
            answers=presented.answers,
            issued_at=presented.issued_at,
            authenticated_at=presented.authenticated_at,
            expires_at=presented.expires_at,
            holder_bound=presented.holder_bound,
            erase_at=now + matter.retention,
            legal_basis="" if matter.legal_basis is None else matter.legal_basis.zh,
        )

    def _record(self, answer: Answer, decided: _Decided, case: _Case) -> tuple[Answer, SealedEntry, Committed]:
        if not isinstance(decided, VerifiedPresentation):
            refused = self._entry(answer, answer.verdict, case)
            return answer, refused, self._ledger.record(LedgerEntry(entry=refused))
        case.findings.step = Step.LEDGER
        case.replay = self._references.replay(*decided.replay.parts)
        accepted = self._entry(answer, answer.verdict, case, decided)
        committed = self._ledger.record(
            LedgerEntry(
                entry=accepted,
                otherwise=lambda against: self._entry(answer, _AGAINST[against], case),
                replay_key=case.replay,
                replay_until=decided.replay.until + REPLAY_MARGIN,
                consent=self._consent_use(decided, case),
            )
        )
        if committed.outcome is Outcome.WRITTEN:
            return answer, accepted, committed
        answer = replace(answer, verdict=_AGAINST[committed.outcome])
        return answer, self._entry(answer, answer.verdict, case), committed

    def _entry(
        self,
        answer: Answer,
        verdict: Acceptance | Rejection | Undecided,
        case: _Case,
        presented: VerifiedPresentation | None = None,
    ) -> SealedEntry:
        """Write the entry for a verdict. Who it was about is told only of what was accepted: nothing was disclosed."""
        findings, person, actor = case.findings, "", ""
        released: tuple[str, ...] = ()
        actor_released: tuple[str, ...] = ()
        if presented is not None:
            person = self._references.person(presented.issuer, presented.subject)
            released = tuple(sorted(presented.attributes))
            if presented.actor is not None:
                actor = self._references.person(presented.issuer, presented.actor.subject)
                actor_released = tuple(sorted(presented.actor.attributes))
        if not case.duration:
            case.duration = (time.monotonic_ns() - case.began) // 1_000
        return seal(
            verification_entry(
                Verification(
                    verification_id=answer.verification_id,
                    decided_at=answer.decided_at,
                    service=case.request.service,
                    caller_certificate=case.request.certificate_sha256,
                    matter=case.request.matter.code,
                    verdict=_VERDICTS[type(verdict)],
                    reason="" if isinstance(verdict, Acceptance) else verdict.reason.value,
                    issuer=findings.issuer,
                    kid=findings.kid,
                    charter_version=answer.basis.charter_version,
                    charter_sha256=case.view.charter.sha256,
                    view_id=answer.basis.view_id,
                    request_id=case.request_id,
                    terminal=case.terminal,
                    consent_id=case.request.consent_id if case.request.consent is not None else "",
                    person=blinded(person, answer.verification_id),
                    actor=blinded(actor, answer.verification_id),
                    replay=case.replay,
                    released=released,
                    actor_released=actor_released,
                    duration=case.duration,
                    findings=findings.to_members(),
                )
            ),
            person=person,
            actor=actor,
        )

    def _consent_use(self, presented: VerifiedPresentation, case: _Case) -> ConsentUse | None:
        if case.request.consent is None:
            return None
        # While the issuer's key is replaced, a person is still who they were when the consent was first used.
        subject, previous = (
            self._references.consent(presented.issuer, each) if each else ""
            for each in (presented.subject, presented.previous_subject)
        )
        return ConsentUse(consent_id=case.request.consent.consent_id, subject=subject, previous_subject=previous)

    def _basis(self, view: TrustView, decided: _Decided, now: datetime) -> TrustBasis:
        confirmed_at = view.confirmed_at()
        return TrustBasis(
            charter_version=view.charter.version,
            view_id=view.view_id,
            age=None if confirmed_at is None else max(timedelta(0), now - confirmed_at),
            stale=isinstance(decided, VerifiedPresentation) and decided.stale,
        )


@dataclass(slots=True, kw_only=True)
class _Case:
    """What is being decided, by which view, and what has been found out."""

    request: PresentationRequest
    view: TrustView
    now: datetime
    findings: Findings
    began: int
    """By the monotonic clock, nanoseconds."""
    request_id: str
    terminal: str
    replay: str = ""
    duration: int = 0


def _status_basis(findings: Findings, now: datetime) -> StatusBasis | None:
    if findings.status_issued_at is None:
        return None
    age = max(timedelta(0), now - findings.status_issued_at)
    return StatusBasis(uri=findings.status_list, issued_at=findings.status_issued_at, age=age)
