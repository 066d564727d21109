"""Six of the ten matters, each with somebody who gets through and somebody who does not (facts: domain.md section 3).

A counter and an app, an adult and a guardian, police, court and market regulation, a person and a company, attributes
and mere answers. What rides along for each is what the agreement gives that matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from recognition.v1 import issuance_pb2, verification_pb2

from gateway.core.agreement import Party
from gateway.core.identifiers import Province
from gateway.lab.agreement import (
    COURT_FILING,
    ENTERPRISE_CHANGE,
    FIRST_ID_CARD,
    LICENCE_DISPLAY,
    NEWBORN_REGISTRATION,
    NO_CRIMINAL_RECORD,
)
from gateway.lab.callers import Observed, Person
from gateway.lab.cast import (
    CLIENT,
    COURT,
    FATHER,
    HUKOU,
    MARKET,
    MOTHER,
    XU,
    XU_OF_34,
    Words,
    enterprise,
    guarded_child,
)
from gateway.lab.stage import Case, Stage

SH, JS, ZJ, AH = Province
_PLEDGED: Final = ("name", "id_type", "id_number")
_OF_THE_FIRM: Final = ("uscc", "organisation_name")


def matters(stage: Stage) -> Sequence[Case]:
    """Give all of them but the household migration, which is Mr Xu's."""
    return (
        *_first_id_card(stage),
        *_newborn(stage),
        *_questions(stage),
        *_court_filing(stage),
        *_enterprise_change(stage),
    )


def _first_id_card(stage: Stage) -> Sequence[Case]:
    def apply(person: Person, *questions: verification_pb2.Predicate) -> Observed:
        return stage.present(AH, stage.issue(ZJ, person), FIRST_ID_CARD, questions=questions)

    child = guarded_child()
    return (
        _case(
            "first-id-card-guardian",
            ("监护人为未满16周岁的人首次申领身份证：两人的信息分开", "a guardian applies for a child's first ID card"),
            accepted(_given(child, "name", "id_type", "id_number", "hukou_region"), acts="guardian", answers=[False]),
            lambda: apply(child, verification_pb2.Predicate(age_at_least=16)),
        ),
        _case(
            "guardian-of-another-matter",
            ("监护权限不包含本事项", "the guardian's authority is for another matter"),
            rejected("AUTHORITY_EXCEEDED"),
            lambda: apply(guarded_child(Party.GUARDIAN, NEWBORN_REGISTRATION)),
        ),
        _case(
            "agent-instead-of-guardian",
            ("受托人代未成年人申领：本事项只接受监护人", "an agent where only a guardian may act"),
            rejected("ACTOR_NOT_ACCEPTED"),
            lambda: apply(guarded_child(Party.AGENT)),
        ),
    )


def _newborn(stage: Stage) -> Sequence[Case]:
    same_ethnicity = verification_pb2.Predicate(
        claim_matches=verification_pb2.ClaimMatch(claim="ethnicity", value=str(MOTHER.claims["ethnicity"]))
    )

    def pledge() -> str:
        return stage.service(ZJ).consent(NEWBORN_REGISTRATION, (*_PLEDGED, "ethnicity"))

    def register(person: Person, consent_id: str) -> Observed:
        wallet, questions = stage.issue(SH, person), (same_ethnicity,)
        return stage.present(ZJ, wallet, NEWBORN_REGISTRATION, consent_id=consent_id, questions=questions)

    def of_the_other() -> Observed:
        consent_id = pledge()
        first = register(FATHER, consent_id)
        return register(MOTHER, consent_id) if first.verdict == "accepted" else first

    def withdrawn() -> Observed:
        consent_id = pledge()
        stage.service(ZJ).withdraw(consent_id)
        return register(FATHER, consent_id)

    return (
        _case(
            "newborn-father",
            (
                "新生儿入户：父亲签署承诺书；民族只比对，不放行",
                "newborn registration: the father pledges; ethnicity is compared, not given",
            ),
            accepted(_given(FATHER, *_PLEDGED), answers=[True]),
            lambda: register(FATHER, pledge()),
            asks=(ZJ, HUKOU),
        ),
        _case(
            "newborn-mother",
            ("母亲另签一份", "the mother signs one of her own"),
            accepted(_given(MOTHER, *_PLEDGED), answers=[True]),
            lambda: register(MOTHER, pledge()),
            asks=(ZJ, HUKOU),
        ),
        _case(
            "newborn-no-consent",
            ("没有承诺书", "nobody signed"),
            rejected("CONSENT_MISSING"),
            lambda: register(FATHER, ""),
            asks=(ZJ, HUKOU),
        ),
        _case(
            "newborn-consent-of-another",
            ("母亲用父亲的承诺书", "the mother by what the father signed"),
            rejected("CONSENT_INVALID"),
            of_the_other,
            asks=(ZJ, HUKOU),
        ),
        _case(
            "newborn-consent-withdrawn",
            ("承诺书已撤回", "the consent was withdrawn"),
            rejected("CONSENT_WITHDRAWN"),
            withdrawn,
            asks=(ZJ, HUKOU),
        ),
    )


def _questions(stage: Stage) -> Sequence[Case]:
    same_number = verification_pb2.Predicate(
        claim_matches=verification_pb2.ClaimMatch(claim="id_number", value=str(XU.claims["id_number"]))
    )
    here = verification_pb2.Predicate(household_in=verification_pb2.HouseholdIn(provinces=[SH.code]))
    elsewhere = verification_pb2.Predicate(household_in=verification_pb2.HouseholdIn(provinces=[AH.code]))
    without_name = frozenset({"name"})
    return (
        _case(
            "licence-answers-only",
            ("亮证：只答号码是否相符，不给任何信息", "showing a licence: is it this number? yes, and no attribute"),
            accepted({}, answers=[True]),
            lambda: stage.present(
                AH, stage.wallet(SH), LICENCE_DISPLAY, withhold=without_name, questions=(same_number,)
            ),
        ),
        _case(
            "number-begins-with-34",
            (
                "上海居民，号码以34开头：户籍在上海，不在安徽",
                "a resident of Shanghai whose number begins with 34: household in Shanghai, not in Anhui",
            ),
            accepted(_given(XU_OF_34, "name", "id_type", "id_number"), answers=[True, False]),
            lambda: stage.present(AH, stage.issue(SH, XU_OF_34), NO_CRIMINAL_RECORD, questions=(here, elsewhere)),
        ),
    )


def _court_filing(stage: Stage) -> Sequence[Case]:
    return (
        _case(
            "lawyer-files",
            ("律师代当事人跨域立案：当事人与律师分开", "a lawyer files for a client; the two are kept apart"),
            accepted(_given(CLIENT, "name", "id_type", "id_number"), acts="lawyer", actor={"name": "陆律师"}),
            lambda: stage.present(JS, stage.issue(ZJ, CLIENT), COURT_FILING, at=COURT),
            asks=(JS, COURT),
        ),
    )


def _enterprise_change(stage: Stage) -> Sequence[Case]:
    def change(person: Person) -> Observed:
        consent_id = stage.service(JS, MARKET).consent(ENTERPRISE_CHANGE, _OF_THE_FIRM)
        return stage.present(JS, stage.issue(SH, person), ENTERPRISE_CHANGE, at=MARKET, consent_id=consent_id)

    return (
        _case(
            "enterprise-agent",
            ("企业变更登记：经办人代企业，经办人只给化名", "a company by its agent, of whom only a pseudonym is given"),
            accepted(_given(enterprise(), *_OF_THE_FIRM), acts="agent", actor={}),
            lambda: change(enterprise()),
            asks=(JS, MARKET),
        ),
        _case(
            "enterprise-authority-ended",
            ("授权已到期", "the agent's authority has ended"),
            rejected("AUTHORITY_EXCEEDED"),
            lambda: change(enterprise(until=stage.lab.now() - timedelta(seconds=1))),
            asks=(JS, MARKET),
        ),
        _case(
            "enterprise-by-a-person",
            ("自然人的凭证不能办理企业事项", "a person's credential in a company's matter"),
            rejected("CREDENTIAL_TYPE_NOT_ACCEPTED"),
            lambda: change(XU),
            asks=(JS, MARKET),
        ),
    )


# -- what becomes of a credential -------------------------------------------------------------------------------------


def statuses(stage: Stage) -> Sequence[Case]:
    """Give the steps in which the issuing province takes something back, and another one refuses it at once."""

    def revoked() -> Observed:
        wallet = stage.issue(SH)
        stage.set_status(SH, wallet, issuance_pb2.CREDENTIAL_STATUS_REVOKED)
        return stage.present_until(AH, wallet, "CREDENTIAL_REVOKED")

    def suspended() -> Observed:
        stage.set_status(JS, stage.wallet(JS), issuance_pb2.CREDENTIAL_STATUS_SUSPENDED)
        return stage.present_until(AH, stage.wallet(JS), "CREDENTIAL_SUSPENDED")

    def resumed() -> Observed:
        stage.set_status(JS, stage.wallet(JS), issuance_pb2.CREDENTIAL_STATUS_VALID)
        return stage.present_until(AH, stage.wallet(JS), "")

    def moved() -> Observed:
        wallet = stage.issue(SH)
        stage.set_status(SH, wallet, issuance_pb2.CREDENTIAL_STATUS_ATTRIBUTES_CHANGED)
        return stage.present_until(AH, wallet, "ATTRIBUTES_STALE")

    return (
        _case(
            "revoked",
            ("上海吊销凭证，合肥随即拒绝", "Shanghai revokes a credential, Hefei refuses it at once"),
            rejected("CREDENTIAL_REVOKED"),
            revoked,
        ),
        _case(
            "suspended",
            ("江苏暂停凭证", "Jiangsu suspends one"),
            rejected("CREDENTIAL_SUSPENDED"),
            suspended,
        ),
        _case("resumed", ("恢复之后照常认可", "and resumes it"), accepted(None), resumed),
        _case(
            "residence-moved",
            (
                "徐某户籍已迁出：上海的旧凭证所载户籍不再属实",
                "Mr Xu's household has moved: the old credential is not true any more",
            ),
            rejected("ATTRIBUTES_STALE"),
            moved,
        ),
    )


def accepted(attributes: Mapping[str, Any] | None, **told: Any) -> Observed:
    """Expect an acceptance with exactly these attributes, which says this too."""
    return Observed(verdict="accepted", attributes=attributes, told=told)


def rejected(reason: str) -> Observed:
    """Expect a rejection."""
    return Observed(verdict="rejected", reason=reason)


def _given(person: Person, *names: str) -> Mapping[str, Any]:
    return {name: person.claims[name] for name in names}


def _case(
    name: str, title: tuple[str, str], expected: Observed, action: Any, asks: tuple[Province, str] = (AH, HUKOU)
) -> Case:
    return Case(name=name, asks=asks, title=Words(*title), expected=expected, action=action)
