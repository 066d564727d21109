"""What is asked, and what is answered: plain values.

A verdict is one of three, and a program has to say what it does about each::

    match decision.verdict:
        case Accepted() as accepted:
            ...
        case Rejected(reason=reason):
            ...
        case Indeterminate(reason=reason, retry_after=retry_after):
            ...
        case never:
            assert_never(never)

No value here is true or false: ``if decision`` raises, and so no forgotten case becomes a yes. What ``repr`` shows of a
value is safe to log: no attribute, pseudonym, presentation, nonce or answer to a question stands in it.

When a decision comes, it is checked that nothing is missing in it that a decision has, and that every time is one.
Most of a ``Decision`` and of an ``Accepted``, which keep the answer that they came in, is read when it is first asked
for.

For tests of one's own, every value is made from its fields, and equals one that came with the same::

    Decision(
        verdict=Rejected(reason=Reason.EXPIRED, reason_number=Reason.EXPIRED.value),
        verification_id="v-1",
        decided_at=datetime(2026, 3, 2, tzinfo=UTC),
        next_step=NextStep.RENEW_CREDENTIAL,
        receipt="",
        trust_basis=TrustBasis(charter_version=1, view_id="t-1", age=timedelta(minutes=5), stale=False),
        status_basis=None,
        request_id="case-1",
    )
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeAlias

from recognition.errors import RecognitionError
from recognition.reasons import NextStep, Reason


class _NeitherTrueNorFalse:
    __slots__ = ()

    def __bool__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is neither true nor false: use match, and answer to every case")


Readers: TypeAlias = Mapping[str, Callable[[Any], object]]
"""By the name of a field, how it is read from a message."""


class _ReadLate(_NeitherTrueNorFalse):
    """A dataclass whose fields may be unset: they are read from an answer when they are first asked for, and kept.

    Reading all of an answer takes a tenth of what a call costs, and nobody looks at most of it.
    """

    __slots__ = ("_answer",)

    __dataclass_fields__: ClassVar[Mapping[str, Field[Any]]]
    _answer: tuple[Readers, object]
    """How to read, and what from; unset in what is made from its fields."""

    if not TYPE_CHECKING:  # else a type checker would take every name for a field

        def __getattr__(self, name: str) -> object:
            if name not in type(self).__dataclass_fields__:
                raise AttributeError(f"{type(self).__name__} has no {name}", name=name, obj=self)
            readers, message = self._answer
            value = readers[name](message)
            object.__setattr__(self, name, value)
            return value

    def __repr__(self) -> str:
        shown = [f"{name}={getattr(self, name)!r}" for name, each in self.__dataclass_fields__.items() if each.repr]
        return f"{type(self).__name__}({', '.join(shown)})"


# -- questions --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AgeAtLeast:
    """Is the person at least so many years old today?"""

    years: int
    """1 to 150."""


@dataclass(frozen=True, slots=True)
class HouseholdIn:
    """Is the household registered in one of these provinces?"""

    provinces: Sequence[str]
    """Codes: sh, js, zj, ah."""


@dataclass(frozen=True, slots=True)
class ClaimMatches:
    """Is an attribute exactly this?"""

    claim: str
    """Its name."""
    value: str = field(repr=False)
    """What it is compared with, character by character."""


Predicate: TypeAlias = AgeAtLeast | HouseholdIn | ClaimMatches
"""A question about an attribute, for who only needs the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRequest:
    """May this presentation be relied on for this matter?"""

    matter: str
    """Code of the matter. The service must be registered for it."""
    presentation: str = field(repr=False)
    """What the person handed over: an SD-JWT VC with key binding, or an identity assertion. At most 64 KiB; the client
    sends no request of more than 256 KiB."""
    nonce: str = field(default="", repr=False)
    """The nonce of the challenge that it answers. Required for a credential; empty for an assertion."""
    request_id: str = ""
    """The reference of this question, at most 64 characters of A-Z a-z 0-9 . _ - ; it is written to the audit log.

    Where it is empty, the client makes one, which is best. One of your own is random, made for this question and kept
    for all its tries: never the number of a case, nor anything that whoever presents can guess or bring, because who
    asks the same under the same reference has the same acceptance. It must not say anything about the person."""
    consent_id: str = field(default="", repr=False)
    """The consent that this rests on, as ``record_consent`` named it."""
    predicates: Sequence[Predicate] = field(default=(), repr=False)
    """At most 8 questions."""
    terminal: str = ""
    """Your name of the counter, terminal or operator that asks; written to the log like ``request_id``."""
    want_receipt: bool = False
    """Whether the gateway is to sign a receipt of the decision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """What a holder signs into the key-binding proof of one presentation, unchanged."""

    nonce: str = field(repr=False)
    audience: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """A consent on record."""

    consent_id: str = field(repr=False)
    """To be named in a ``VerifyRequest``. Keep it with the signed document."""
    expires_at: datetime


# -- verdicts ---------------------------------------------------------------------------------------------------------


class SubjectType(Enum):
    """Who or what a credential is about."""

    NATURAL = 1
    """A person (自然人)."""
    LEGAL = 2
    """An organisation (法人)."""
    UNRECOGNISED = -1
    """Something that this version of the client does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assurance:
    """How surely the person was identified and authenticated."""

    identity: int
    """How surely it is this person. 1 to 3."""
    authenticator: int
    """How strong the log-in was. 1 to 3."""
    federation: int
    """How well the hand-over is protected. 1 to 3."""
    acr: str
    """The issuer's own name for the level."""
    level: int
    """The overall level by the agreement's scale: 1 and up; 0: below the lowest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who acts for the subject. Never to be taken for the subject."""

    subject: str = field(repr=False)
    """A pseudonym of that person."""
    relationship: str
    """guardian, agent, lawyer or legal_representative."""
    attributes: Mapping[str, Any] = field(repr=False)
    """That person's attributes which the matter may have."""
    previous_subject: str = field(repr=False)
    """The pseudonym by the key version before, while records are moved; else empty."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Accepted(_ReadLate):
    """It may be relied on for this matter. Erase the attributes at ``erase_at``."""

    subject: str = field(repr=False)
    """A pseudonym: stable for this service's sector, useless to any other."""
    issuer: str
    """Entity identifier of the issuer."""
    issuing_province: str
    """sh, js, zj or ah."""
    credential_type: str
    """Type of the credential (vct), or of the assertion."""
    assurance: Assurance
    attributes: Mapping[str, Any] = field(repr=False)
    """The attributes that the matter may have, and no others."""
    issued_at: datetime | None
    """When the issuer signed it."""
    authenticated_at: datetime | None
    """When the issuer last authenticated the person."""
    expires_at: datetime | None
    """When the credential expires."""
    holder_bound: bool
    """Whether the presenter proved possession of the holder's key. Never so for an assertion."""
    predicate_answers: Sequence[bool] = field(repr=False)
    """Whether each of the request's predicates holds, in their order."""
    subject_type: SubjectType
    actor: Actor | None
    """Who presented this on the subject's behalf; None: the subject itself."""
    household_province: str = field(repr=False)
    """Where the household is registered at present, if the matter may know; else empty."""
    credential_age: timedelta | None
    """Time since the issuer signed it; None: not said."""
    authentication_age: timedelta | None
    """Time since the person was last authenticated; None: not said."""
    erase_at: datetime
    """Until when the attributes may be kept."""
    previous_subject: str = field(repr=False)
    """The pseudonym by the key version before, while records are moved from one to the next; else empty."""
    legal_basis: str
    """What the law rests this on: a statutory duty or a consent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected(_NeitherTrueNorFalse):
    """Not accepted; the same presentation will not be accepted later either."""

    reason: Reason
    reason_number: int
    """The reason's number in the contract, which ``UNRECOGNISED`` does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Indeterminate(_NeitherTrueNorFalse):
    """The gateway cannot tell now. Never to be treated as accepted, nor held against the person."""

    reason: Reason
    reason_number: int
    """The reason's number in the contract, which ``UNRECOGNISED`` does not tell."""
    retry_after: timedelta | None
    """When asking again may help; None: not said."""


Verdict: TypeAlias = Accepted | Rejected | Indeterminate
"""One of three; ``match`` it, and end with ``assert_never``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustBasis:
    """Which trust data a decision rests on."""

    charter_version: int
    view_id: str
    age: timedelta | None
    """Time since a quorum of anchors last confirmed it."""
    stale: bool
    """It is past its freshness, and within the grace that the agreement allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusBasis:
    """Which status list a decision rests on."""

    list: str
    issued_at: datetime | None
    age: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Decision(_ReadLate):
    """What the gateway decided and recorded."""

    verdict: Verdict
    verification_id: str
    """Names the decision in the audit log. Keep it with the case, and act once on it."""
    decided_at: datetime
    next_step: NextStep
    """What to do next, whatever the verdict."""
    receipt: str = field(repr=False)
    """The signed receipt, where one was asked for; else empty."""
    trust_basis: TrustBasis
    status_basis: StatusBasis | None
    """None: no status was looked at."""
    request_id: str
    """The request's, or the one that the client made."""
    repeated: bool = False
    """This acceptance was given before, to the same question: its answer may have been lost, or acted on."""


@dataclass(frozen=True, slots=True)
class Failure(_NeitherTrueNorFalse):
    """There is no decision on one of many requests. Never to be treated as a rejection."""

    error: RecognitionError


Outcome: TypeAlias = Decision | Failure
"""What became of one of many requests."""


# -- explanations -----------------------------------------------------------------------------------------------------


class StepOutcome(Enum):
    """How a step of a verification ended."""

    PASSED = 1
    FAILED = 2
    UNDECIDED = 3
    NOT_REACHED = 4
    NOT_NEEDED = 5
    UNRECOGNISED = -1


@dataclass(frozen=True, slots=True)
class LocalizedText:
    """The same in Chinese and in English."""

    zh: str
    en: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedStep:
    """One step of a verification."""

    number: int
    title: LocalizedText
    outcome: StepOutcome
    inputs: Mapping[str, str]
    """What it looked at, by name. Never an attribute."""
    reason: Reason | None
    """Why, where it decided."""
    meaning: LocalizedText | None
    fix: LocalizedText | None
    """What would mend it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """How a decision came about."""

    verification_id: str
    decided_at: datetime | None
    """None: not said."""
    service: str
    matter: str
    verdict: str
    """accepted, rejected or indeterminate, as recorded then: a text to show, not a verdict to act on."""
    reason: Reason | None
    steps: Sequence[ExplainedStep]
