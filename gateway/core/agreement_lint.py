"""What is odd about an agreement that is acceptable: for those who write and review it.

The parser refuses what breaks a rule. Here is what no rule forbids and hardly anybody means: a floor that nobody
reaches, a number handed out without knowing who holds the credential, a term that no one uses. An error says that
something can never work, or only at times; a warning, that somebody should be able to say why; a note is no more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import combinations
from typing import Final

from gateway.core.agreement import Agreement, Assurance, IssuerTerms, Matter, Question, Words, terms_used
from gateway.core.credential import ASSERTION_CREDENTIAL_TYPE

RESIGNING_INTERVAL: Final = timedelta(seconds=150)
"""How often an issuer signs its status lists anew: a list that may not be older is at times too old."""
LONG_RETENTION: Final = timedelta(days=3 * 366)
KNOWN_AT_ALL: Final = 2
"""From this level on, somebody has seen a document of the person's."""
_UNBOUND_FEDERATION: Final = 2
"""The most that a hand-over is worth in which the holder proves nothing."""
_NUMBERED: Final = re.compile(r"(.*?)([0-9]{1,9})")
_REVEALS: Final[Mapping[Question, str]] = {Question.AGE_AT_LEAST: "birthdate", Question.HOUSEHOLD_IN: "hukou_region"}


class Severity(StrEnum):
    """How much it matters."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class RemarkKind(StrEnum):
    """What may be odd about an agreement."""

    FLOOR_UNREACHABLE = "floor_unreachable"
    ONLY_ASSERTIONS_TO_BIND = "only_assertions_to_bind"
    ASSERTIONS_TO_BIND = "assertions_to_bind"
    STATUS_AGE_TOO_SHORT = "status_age_too_short"
    NO_ALGORITHM_LEFT = "no_algorithm_left"
    RESTRICTED_UNBOUND = "restricted_unbound"
    RESTRICTED_WITHOUT_STATUS = "restricted_without_status"
    RESTRICTED_OF_THE_UNKNOWN = "restricted_of_the_unknown"
    CONSENT_KEPT_LONG = "consent_kept_long"
    COMPARABLE_AND_RELEASED = "comparable_and_released"
    ASKED_AND_RELEASED = "asked_and_released"
    TYPE_NOT_GRANTED = "type_not_granted"
    EQUIVALENCE_CONTRADICTS = "equivalence_contradicts"
    EQUIVALENCE_DESCENDS = "equivalence_descends"
    TERM_UNUSED = "term_unused"
    SAME_WORDS = "same_words"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """One thing that is odd, and where."""

    severity: Severity
    kind: RemarkKind
    path: str
    words: Words


def lint(
    agreement: Agreement, *, now: datetime, until: datetime, granted: frozenset[str] | None = None
) -> tuple[Remark, ...]:
    """List what is odd about an agreement, what is worst first.

    Args:
        agreement: the agreement.
        now: the current time.
        until: when the charter that holds it expires.
        granted: the credential types that some issuer is granted by the anchors; None: not known, and not looked at.
    """
    found = [
        *(remark for matter in agreement.matters.values() for remark in _of_matter(matter, agreement, granted)),
        *(remark for name, terms in agreement.issuers.items() for remark in _of_issuer(name, terms, now, until)),
        *_of_equivalences(agreement.issuers),
        *_of_terms(agreement),
        *_of_words(agreement),
    ]
    order = list(Severity)
    return tuple(sorted(found, key=lambda remark: order.index(remark.severity)))


def _remark(severity: Severity, kind: RemarkKind, path: str, zh: str, en: str) -> Remark:
    return Remark(severity=severity, kind=kind, path=f"agreement.{path}", words=Words(zh, en))


# -- matters ----------------------------------------------------------------------------------------------------------


def _of_matter(matter: Matter, agreement: Agreement, granted: frozenset[str] | None) -> Iterator[Remark]:
    here = f"matters[{matter.code}]"
    if not any(_reaches(terms, matter) for terms in agreement.issuers.values()):
        yield _remark(
            Severity.ERROR,
            RemarkKind.FLOOR_UNREACHABLE,
            f"{here}.min_assurance",
            "没有签发方能达到这一下限：该事项对任何凭证都不予认可",
            "no issuer can reach the floor: nothing is ever accepted for the matter",
        )
    yield from _of_types(matter, here, granted)
    if matter.status_required and matter.max_status_age < RESIGNING_INTERVAL:
        yield _remark(
            Severity.ERROR,
            RemarkKind.STATUS_AGE_TOO_SHORT,
            f"{here}.max_status_age_seconds",
            f"状态列表每 {_seconds(RESIGNING_INTERVAL)} 秒重新签发一次：两次之间会时常无法判定",
            f"status lists are signed every {_seconds(RESIGNING_INTERVAL)} s: in between there is often no verdict",
        )
    yield from _of_restricted(matter, here)
    if matter.consent is not None and matter.retention > LONG_RETENTION:
        yield _remark(
            Severity.WARNING,
            RemarkKind.CONSENT_KEPT_LONG,
            f"{here}.retention_seconds",
            "以同意为依据，却要保存三年以上",
            "rests on consent and keeps attributes for more than three years",
        )
    yield from _of_answers(matter, here)


def _reaches(terms: IssuerTerms, matter: Matter) -> bool:
    floor = matter.min_assurance
    if matter.credential_types == {ASSERTION_CREDENTIAL_TYPE} and floor.federation > _UNBOUND_FEDERATION:
        return False
    return any(level.meets(floor) for level in terms.equivalence.values())


def _of_types(matter: Matter, here: str, granted: frozenset[str] | None) -> Iterator[Remark]:
    if matter.key_binding and ASSERTION_CREDENTIAL_TYPE in matter.credential_types:
        if len(matter.credential_types) == 1:
            yield _remark(
                Severity.ERROR,
                RemarkKind.ONLY_ASSERTIONS_TO_BIND,
                f"{here}.key_binding",
                "要求密钥绑定，却只接受断言：断言没有持有人密钥，任何出示都不予认可",
                "asks for key binding and takes only assertions, which have no holder's key: nothing is ever accepted",
            )
        else:
            yield _remark(
                Severity.NOTE,
                RemarkKind.ASSERTIONS_TO_BIND,
                f"{here}.credential_types",
                "要求密钥绑定，因此列出的断言不会被接受",
                "asks for key binding, so that the assertions it lists are refused",
            )
    for name in sorted(matter.credential_types - (matter.credential_types if granted is None else granted)):
        yield _remark(
            Severity.WARNING,
            RemarkKind.TYPE_NOT_GRANTED,
            f"{here}.credential_types",
            f"没有签发方获准签发 {name}",
            f"no issuer is granted {name}",
        )


def _of_restricted(matter: Matter, here: str) -> Iterator[Remark]:
    named = " ".join(sorted(matter.restricted_claims))
    if matter.restricted_claims and not matter.key_binding:
        yield _remark(
            Severity.WARNING,
            RemarkKind.RESTRICTED_UNBOUND,
            f"{here}.key_binding",
            f"放行受限制的属性（{named}），却不要求出示人证明持有密钥",
            f"releases what is restricted ({named}) to whoever presents, without proof of the holder's key",
        )
    # An assertion was made minutes ago, for this very service.
    if (
        matter.restricted_claims
        and not matter.status_required
        and matter.credential_types != {ASSERTION_CREDENTIAL_TYPE}
    ):
        yield _remark(
            Severity.WARNING,
            RemarkKind.RESTRICTED_WITHOUT_STATUS,
            f"{here}.status_required",
            f"放行受限制的属性（{named}），却不查凭证是否已被吊销",
            f"releases what is restricted ({named}) without asking whether the credential was revoked",
        )
    floor = matter.min_assurance
    required = (matter.required_claims | matter.actor_required_claims) & matter.restricted_claims
    if required and min(floor.identity, floor.authenticator) < KNOWN_AT_ALL:
        yield _remark(
            Severity.WARNING,
            RemarkKind.RESTRICTED_OF_THE_UNKNOWN,
            f"{here}.min_assurance",
            f"必需受限制的属性（{' '.join(sorted(required))}），下限却低于 {KNOWN_AT_ALL} 级：无人核实过是谁",
            f"requires what is restricted ({' '.join(sorted(required))}) under a floor below {KNOWN_AT_ALL}: nobody"
            " has made sure of whom",
        )


def _of_answers(matter: Matter, here: str) -> Iterator[Remark]:
    both = matter.comparable_claims & matter.released_claims
    if both:
        yield _remark(
            Severity.NOTE,
            RemarkKind.COMPARABLE_AND_RELEASED,
            f"{here}.comparable_claims",
            f"可比对的属性（{' '.join(sorted(both))}）反正也放行：能比对，就不必放行",
            f"lets be compared what it releases anyway ({' '.join(sorted(both))}): one of the two would do",
        )
    for question in sorted(matter.questions):
        if _REVEALS[question] in matter.released_claims:
            yield _remark(
                Severity.NOTE,
                RemarkKind.ASKED_AND_RELEASED,
                f"{here}.questions",
                f"{question} 只问是否，{_REVEALS[question]} 却也放行",
                f"lets {question} be asked and releases {_REVEALS[question]} anyway: one of the two would do",
            )


# -- issuers ----------------------------------------------------------------------------------------------------------


def _of_issuer(name: str, terms: IssuerTerms, now: datetime, until: datetime) -> Iterator[Remark]:
    sunsets = [sunset for sunset in terms.algorithms.values() if sunset is not None]
    if len(sunsets) < len(terms.algorithms) or max(sunsets) >= until:
        return
    last = max(sunsets)
    over = last <= now
    yield _remark(
        Severity.ERROR if over else Severity.WARNING,
        RemarkKind.NO_ALGORITHM_LEFT,
        f"issuers[{name}].algorithms",
        f"章程有效期内，该签发方的最后一个算法于 {last:%Y-%m-%d} 停用，此后它签的一律不算",
        f"its last algorithm {'has ended' if over else 'ends'} on {last:%Y-%m-%d}, while the charter lives; nothing"
        " that it signs counts after",
    )


def _of_equivalences(issuers: Mapping[str, IssuerTerms]) -> Iterator[Remark]:
    ranked: dict[tuple[str, str], str] = {}
    """Lower and higher name, by whom they were first ranked so."""
    for issuer, terms in issuers.items():
        here = f"issuers[{issuer}].equivalence"
        for one, other in combinations(sorted(terms.equivalence), 2):
            lower, higher = _ranked(one, other, terms.equivalence)
            if lower == higher:
                continue
            if (higher, lower) in ranked:
                yield _remark(
                    Severity.WARNING,
                    RemarkKind.EQUIVALENCE_CONTRADICTS,
                    f"{here}[{lower}]",
                    f"此处 {higher} 高于 {lower}，而 {ranked[higher, lower]} 的恰好相反",
                    f"{higher} ranks above {lower} here, and below it at {ranked[higher, lower]}",
                )
            else:
                ranked.setdefault((lower, higher), issuer)
            if _counts_down(lower, higher):
                yield _remark(
                    Severity.WARNING,
                    RemarkKind.EQUIVALENCE_DESCENDS,
                    f"{here}[{lower}]",
                    f"{lower} 的数字大，等级却低于 {higher}",
                    f"{lower} has the higher number and ranks below {higher}",
                )


def _ranked(one: str, other: str, levels: Mapping[str, Assurance]) -> tuple[str, str]:
    """Put two names in the order of their levels; the same name twice: they have none."""
    if levels[one] == levels[other]:
        return one, one
    if levels[other].meets(levels[one]):
        return one, other
    return (other, one) if levels[one].meets(levels[other]) else (one, one)


def _counts_down(lower: str, higher: str) -> bool:
    """Whether two names are numbered, and against their order."""
    low, high = _NUMBERED.fullmatch(lower), _NUMBERED.fullmatch(higher)
    return low is not None and high is not None and low[1] == high[1] and int(low[2]) > int(high[2])


# -- words ------------------------------------------------------------------------------------------------------------


def _of_terms(agreement: Agreement) -> Iterator[Remark]:
    for name in sorted(agreement.terms.keys() - terms_used(agreement)):
        yield _remark(
            Severity.NOTE,
            RemarkKind.TERM_UNUSED,
            f"terms[{name}]",
            "协议中没有用到",
            "nothing in the agreement uses it",
        )


def _of_words(agreement: Agreement) -> Iterator[Remark]:
    places = {f"terms[{name}]": words for name, words in agreement.terms.items()}
    places |= {f"levels[{number}].name": step.name for number, step in enumerate(agreement.levels, 1)}
    for matter in agreement.matters.values():
        here = f"matters[{matter.code}]"
        places[f"{here}.name_en"] = Words(matter.name_zh, matter.name_en)
        places |= {
            f"{here}.{name}": words
            for name, words in (("legal_basis", matter.legal_basis), ("consent", matter.consent))
            if words is not None
        }
    for place, words in places.items():
        if words.zh == words.en:
            yield _remark(
                Severity.WARNING,
                RemarkKind.SAME_WORDS,
                place,
                "中文和英文一字不差：有一种没有翻译",
                "Chinese and English are the same: one is not translated",
            )


def _seconds(span: timedelta) -> int:
    return int(span.total_seconds())
