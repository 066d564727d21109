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
10  replay key, consent and log entry, in one durable transaction; a used key turns the verdict into REPLAYED, unless
    the same was asked and decided a moment ago: then that decision stands, and is the answer
11  the answer, with a signed receipt where one was asked for

Steps 2 to 9 are ``core.credential``: pure functions of presentation, request, view, status lists and now. This module
gathers what it needs, and records what it decided. The first failed step decides; whatever the verdict, it is recorded
before it is answered, with what was found out on the way and nothing about the person. While what is held may lack
something that was known here before, the verdict is indeterminate, whatever is presented.

Several presentations are recorded together: step 10 costs a wait for the disk, which they share. A few at a time, they
also take steps 2 and 3 one after another, then 4, then the rest: a processor that does the same thing again has what it
needs at hand, which saves a third of the time. What is wrong with one of them is no concern of the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, Final, ParamSpec, TypeVar

from gateway.clock import World
from gateway.config import RelyingService
from gateway.core.agreement import Assurance, Matter, Party, SubjectType
from gateway.core.challenge import make_nonce
from gateway.core.consent import Consent
from gateway.core.credential import (
    OpenedPresentation,
    PresentationRequest,
    VerifiedPresentation,
    check_signature,
    judge,
    open_presentation,
)
from gateway.core.encoding import new_timed_name, write_canonical_json
from gateway.core.entries import (
    SealedEntry,
    Verification,
    blinded,
    instant,
    milliseconds,
    read,
    seal,
    verification_entry,
)
from gateway.core.findings import Findings, Step
from gateway.core.pairwise import PairwiseKey
from gateway.core.predicates import Predicate, may_ask, spelled
from gateway.core.reasons import Indeterminate, NotPermitted, Overloaded, Reason, Rejected, Unavailable
from gateway.core.references import References
from gateway.core.status_list import StatusList
from gateway.core.texts import NextStep, next_step
from gateway.core.trust import TrustView
from gateway.known import KnownCredentials
from gateway.ledger import Ledger
from gateway.receipts import Receipts
from gateway.resolver import Resolver
from gateway.storage import Committed, ConsentStore, ConsentUse, LedgerEntry, Outcome, StorageError
from gateway.tls import Caller
from gateway.turns import ALONE, Turn
from gateway.wire import VerifyRequest

CHALLENGE_LIFETIME: Final = timedelta(minutes=5)
REPLAY_MARGIN: Final = timedelta(minutes=5)
"""Replay keys outlive the window in which a presentation could be accepted by this much: one constant for nonce and
jti, so that acceptance and memory cannot drift apart."""
RETRY_AFTER: Final = timedelta(seconds=30)
IN_A_ROW: Final = 16
"""Presentations that take each step one after another. What they need fits into a processor's cache."""
MAX_TOGETHER: Final = 50
"""Presentations that are recorded together. A single one that comes meanwhile waits until their group is on disk, a few
milliseconds; more of them would make each a little cheaper and that wait longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """A nonce for one presentation to one service."""

    nonce: str
    audience: str
    expires_at: datetime


@dataclass(slots=True, kw_only=True)
class TrustBasis:
    """Which trust data a decision rests on."""

    charter_version: int
    view_id: str
    age: timedelta | None
    """Time since a quorum of anchors last spoke; None: never."""
    stale: bool


@dataclass(slots=True, kw_only=True)
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


@dataclass(slots=True, kw_only=True)
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


@dataclass(slots=True, kw_only=True)
class Answer:
    """A verdict and what identifies it."""

    verdict: Acceptance | Rejection | Undecided
    verification_id: str
    decided_at: datetime
    basis: TrustBasis
    status: StatusBasis | None
    receipt: str = ""
    """Compact JWS, typ verification-receipt+jwt; empty: none was asked for."""
    repeated: bool = False
    """Whether this was decided before, and is told again; see ``core.repeats``."""

    @property
    def next_step(self) -> NextStep:
        """What whoever asked should do next."""
        return next_step(None if isinstance(self.verdict, Acceptance) else self.verdict.reason)


_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_Arguments = ParamSpec("_Arguments")
_Decided = VerifiedPresentation | Rejection | Undecided
_AGAINST: Final = {
    Outcome.REPLAYED: Rejection(reason=Reason.REPLAYED),
    Outcome.CONSENT_WITHDRAWN: Rejection(reason=Reason.CONSENT_WITHDRAWN),
    Outcome.CONSENT_OF_ANOTHER: Rejection(reason=Reason.CONSENT_INVALID),
}
"""What the ledger may find when it writes."""


class Verifier:
    """Answers relying services. Thread-safe."""

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
        self._known = KnownCredentials()

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

    def verify(self, caller: Caller, wanted: VerifyRequest) -> Answer:
        """Verify one presentation for one matter, record the decision, answer.

        Raises:
            NotPermitted: the caller is not registered for the matter, or the matter may not ask a predicate.
            Unavailable, Overloaded: the decision could not be recorded, so there is none.
        """
        case = self._begin(caller, _itself, wanted, ALONE)  # 1
        self._open(case, ALONE)  # 2, 3
        self._check(case, ALONE)  # 4
        self._judge(case, ALONE)  # 5 to 9
        decision = self._conclude(case)
        committed = self._ledger.record(decision.item)  # 10
        return self._answer(decision, committed)  # 11

    def verify_all(
        self,
        caller: Caller,
        items: Sequence[_Item],
        *,
        read: Callable[[_Item], VerifyRequest],
        write: Callable[[_Item, Answer | Exception], None],
        turn: Turn,
        asked: set[str],
    ) -> None:
        """Verify several presentations, as ``verify`` would each, and record them together.

        Args:
            caller: who asks.
            items: what holds them, at most ``MAX_TOGETHER``.
            read: gives what is wanted of an item. What it raises is the answer to that item.
            write: is told, item by item and in their order, the answer or why there is none: what ``verify`` or
                ``read`` would have raised. None is told before it is recorded.
            turn: the right to do this now.
            asked: what was asked in the same call before, to which this is added. Whoever asks the same twice in one
                call has lost no answer: it is no repeat.
        """
        outcomes: list[_Decision | Exception] = []
        for begin in range(0, len(items), IN_A_ROW):
            outcomes += self._decide_all(caller, items[begin : begin + IN_A_ROW], read, turn)  # 1 to 9
        decisions = [each for each in outcomes if isinstance(each, _Decision)]
        _refuse_repeats_within(decisions, asked)
        answers = self._record_all(decisions, turn)
        for item, outcome in zip(items, outcomes, strict=True):
            turn.give_way()
            write(item, next(answers) if isinstance(outcome, _Decision) else outcome)

    def _decide_all(
        self, caller: Caller, items: Sequence[_Item], read: Callable[[_Item], VerifyRequest], turn: Turn
    ) -> Sequence[_Decision | Exception]:
        cases: list[_Case | Exception] = [_attempt(self._begin, caller, read, item, turn) for item in items]
        for step in (self._open, self._check, self._judge):
            for place, case in enumerate(cases):
                turn.give_way()
                if isinstance(case, _Case):
                    cases[place] = _attempt(step, case, turn)
        return [_attempt(self._conclude, case) if isinstance(case, _Case) else case for case in cases]

    def _record_all(self, decisions: Sequence[_Decision], turn: Turn) -> Iterator[Answer | Exception]:
        try:
            with turn.aside():
                committed = self._ledger.record_all([each.item for each in decisions])  # 10
        except (Unavailable, Overloaded) as error:
            yield from [error] * len(decisions)
            return
        for decision, each in zip(decisions, committed, strict=True):
            yield _attempt(self._answer, decision, each)  # 11

    def _begin(self, caller: Caller, read: Callable[[_Item], VerifyRequest], item: _Item, turn: Turn) -> _Case:
        began = time.monotonic_ns()
        wanted = read(item)
        if wanted.want_receipt:
            self._receipts.require_signer()  # rather than after a nonce was used up
        is_whole = self._is_whole()  # before the view is taken: what made it whole is in the view, then
        view = self._resolver.view
        service, matter = self._registered(caller, wanted.matter, view, wanted.predicates)
        request = PresentationRequest(
            presentation=wanted.presentation,
            matter=matter,
            service=service.identity,
            gateway=self._gateway_id,
            nonce=wanted.nonce,
            nonce_key=self._nonce_key,
            certificate_sha256=caller.certificate_sha256,
            predicates=wanted.predicates,
            consent_id=wanted.consent_id,
            consent=self._consent(wanted.consent_id, turn) if wanted.consent_id else None,
        )
        return _Case(
            caller=caller,
            wanted=wanted,
            service=service,
            request=request,
            view=view,
            now=instant(milliseconds(self._world.now())),  # as it is logged
            findings=Findings(step=Step.KEY),
            began=began,
            decided=None if is_whole else Undecided(reason=Reason.TRUST_STALE, retry_after=RETRY_AFTER),
        )

    def _open(self, case: _Case, turn: Turn) -> _Case:
        if case.decided is None:
            try:
                self._open_by_view(case, turn)
            except (Rejected, Indeterminate) as refusal:
                case.decided = _verdict(refusal)
        return case

    def _open_by_view(self, case: _Case, turn: Turn) -> None:
        try:
            self._open_once(case)
        except Rejected as rejection:
            # A key published seconds ago may not be in the view yet. Only an issuer the charter knows gets a refresh,
            # and the resolver limits how often. Or it came by itself meanwhile.
            if rejection.reason is not Reason.KEY_UNKNOWN:
                raise
            with turn.aside():
                is_refreshed = self._resolver.refresh_for_unknown_key()
            if not is_refreshed and self._resolver.view is case.view:
                raise
            self._take_new_view(case)
            self._open_once(case)

    def _open_once(self, case: _Case) -> None:
        case.findings = Findings()
        case.opened = open_presentation(case.request, case.view, case.now, case.findings, self._known)

    def _take_new_view(self, case: _Case) -> None:
        case.view = self._resolver.view
        # The charter may be another one now: its matter counts, and whether the caller may still ask for it.
        request = case.request
        _, matter = self._registered(case.caller, request.matter.code, case.view, request.predicates)
        case.request = replace(request, matter=matter)

    def _check(self, case: _Case, _turn: Turn) -> _Case:
        if case.decided is None and case.opened is not None:
            try:
                check_signature(case.opened, self._known)
            except Rejected as rejection:
                case.decided = _verdict(rejection)
        return case

    def _judge(self, case: _Case, _turn: Turn) -> _Case:
        if case.decided is None and case.opened is not None:
            try:
                case.decided = judge(case.opened, self._lists(), case.now)
            except (Rejected, Indeterminate) as refusal:
                case.decided = _verdict(refusal)
        return case

    def _conclude(self, case: _Case) -> _Decision:
        decided = case.decided
        if decided is None:
            raise AssertionError("nothing was decided")
        answer = Answer(
            verdict=self._accept(decided, case) if isinstance(decided, VerifiedPresentation) else decided,
            verification_id=new_timed_name(milliseconds(case.now), self._world.random_bytes(10)),
            decided_at=case.now,
            basis=self._basis(case.view, decided, case.now),
            status=_status_basis(case.findings, case.now),
        )
        return _Decision(case=case, answer=answer, item=self._ledger_entry(answer, decided, case))

    def _answer(self, decision: _Decision, committed: Committed) -> Answer:
        answer, entry = decision.answer, decision.item.entry
        if committed.first is not None:
            answer = _as_first(answer, committed.first)
        elif committed.outcome is not Outcome.WRITTEN:
            answer = replace(answer, verdict=_AGAINST[committed.outcome])
            entry = self._entry(answer, answer.verdict, decision.case)
        if not decision.case.wanted.want_receipt:
            return answer
        return replace(answer, receipt=self._receipts.sign(entry, committed))

    def require_service(self, caller: Caller) -> None:
        """Refuse who may ask nothing at all. Raises NotPermitted."""
        self._service(caller)

    def _service(self, caller: Caller) -> RelyingService:
        service = self._services.get(caller.identity)
        if service is None:
            raise NotPermitted("caller is not a registered relying service")
        return service

    def _registered(
        self, caller: Caller, matter_code: str, view: TrustView, predicates: Sequence[Predicate] = ()
    ) -> tuple[RelyingService, Matter]:
        service = self._service(caller)
        matter = view.charter.agreement.matters.get(matter_code)
        if matter is None or matter.code not in service.matters:
            raise NotPermitted("relying service is not registered for this matter")
        if not all(may_ask(matter, predicate) for predicate in predicates):
            raise NotPermitted("the agreement does not let this matter ask that")
        return service, matter

    def _consent(self, consent_id: str, turn: Turn) -> Consent | None:
        try:
            with turn.aside():
                return self._consents.load_consent(consent_id)
        except StorageError as error:
            raise Unavailable("the consents on record could not be read") from error

    def _accept(self, presented: VerifiedPresentation, case: _Case) -> Acceptance:
        service, matter, now = case.service, case.request.matter, case.now

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

    def _ledger_entry(self, answer: Answer, decided: _Decided, case: _Case) -> LedgerEntry:
        if not isinstance(decided, VerifiedPresentation):
            return LedgerEntry(entry=self._entry(answer, answer.verdict, case))
        case.findings.step = Step.LEDGER
        case.replay = self._references.replay(*decided.replay.parts)
        return LedgerEntry(
            entry=self._entry(answer, answer.verdict, case, decided),
            request=self._request(answer.verdict, case),
            otherwise=lambda against: self._entry(answer, _AGAINST[against], case),
            replay_key=case.replay,
            replay_until=decided.replay.until + REPLAY_MARGIN,
            consent=self._consent_use(decided, case),
        )

    def _request(self, verdict: Acceptance | Rejection | Undecided, case: _Case) -> str:
        """Refer to a question and what it is told, where its caller named it; see ``core.repeats``."""
        if not case.wanted.request_id or not isinstance(verdict, Acceptance):
            return ""
        return self._references.request(case.request.service, _exchange(case.wanted, verdict))

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
                    request_id=case.wanted.request_id,
                    terminal=case.wanted.terminal,
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
        confirmed_at = view.confirmed_at
        return TrustBasis(
            charter_version=view.charter.version,
            view_id=view.view_id,
            age=None if confirmed_at is None else max(timedelta(0), now - confirmed_at),
            stale=isinstance(decided, VerifiedPresentation) and decided.stale,
        )


@dataclass(slots=True, kw_only=True)
class _Case:
    """What is being decided, by which view, and what has been found out."""

    caller: Caller
    wanted: VerifyRequest
    service: RelyingService
    request: PresentationRequest
    view: TrustView
    now: datetime
    findings: Findings
    began: int
    """By the monotonic clock, nanoseconds."""
    opened: OpenedPresentation | None = None
    decided: _Decided | None = None
    """By the first step that failed, or the last."""
    replay: str = ""
    duration: int = 0


def _verdict(refusal: Rejected | Indeterminate) -> Rejection | Undecided:
    if isinstance(refusal, Rejected):
        return Rejection(reason=refusal.reason)
    return Undecided(reason=refusal.reason, retry_after=RETRY_AFTER)


@dataclass(slots=True, kw_only=True)
class _Decision:
    """What was decided, to be recorded before it is answered."""

    case: _Case
    answer: Answer
    item: LedgerEntry


def _exchange(wanted: VerifyRequest, told: Acceptance) -> str:
    """Spell a question and what it is told, all but what counts from the time of the decision."""
    return write_canonical_json(
        {
            "asked": [*_asked_of(wanted), [spelled(each) for each in wanted.predicates]],
            "told": [*_told_of(told), *_values_of(told.assurance)],
            "actor": None if told.actor is None else _actor_of(told.actor),
        }
    ).decode()


_asked_of: Final = attrgetter(*(each.name for each in fields(VerifyRequest) if each.name != "predicates"))
_told_of: Final = attrgetter(
    *(each.name for each in fields(Acceptance) if each.name not in {"actor", "assurance", "erase_at"})
)
_actor_of: Final = attrgetter(*(each.name for each in fields(ActingPerson)))
_values_of: Final = attrgetter(*(each.name for each in fields(Assurance)))


def _as_first(answer: Answer, first: bytes) -> Answer:
    """Give an answer as the one that was recorded before and is repeated.

    What it is told by is the data of now, by which it was found that it still holds.
    """
    entry = read(first)
    verdict = answer.verdict
    if isinstance(verdict, Acceptance):
        verdict = replace(verdict, erase_at=verdict.erase_at - (answer.decided_at - entry.at))
    return replace(answer, verdict=verdict, verification_id=entry.entry_id, decided_at=entry.at, repeated=True)


def _refuse_repeats_within(decisions: Sequence[_Decision], asked: set[str]) -> None:
    for decision in decisions:
        if decision.item.request in asked:
            decision.item = replace(decision.item, request="")
        elif decision.item.request:
            asked.add(decision.item.request)


def _itself(wanted: VerifyRequest) -> VerifyRequest:
    return wanted


def _attempt(
    step: Callable[_Arguments, _Result], *args: _Arguments.args, **named: _Arguments.kwargs
) -> _Result | Exception:
    """Take one step for one of several presentations; what goes wrong is its own affair."""
    try:
        return step(*args, **named)
    except Exception as error:  # noqa: BLE001 - it is told to whoever asked, as an error of that presentation
        return error


def _status_basis(findings: Findings, now: datetime) -> StatusBasis | None:
    if findings.status_issued_at is None:
        return None
    age = max(timedelta(0), now - findings.status_issued_at)
    return StatusBasis(uri=findings.status_list, issued_at=findings.status_issued_at, age=age)
