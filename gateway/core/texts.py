"""What a reason means in a clerk's words, and what to do next, in Chinese and English.

Kept apart from the enum: words change, numbers never do. Three rules for whoever edits them:

* Plain words. The reader stands at a counter with a person waiting, and is no engineer.
* Never blame the citizen for a technical failure, and never call anyone a forger: most bad signatures are bad software.
* Where the gateway cannot tell, say so, and say to try again later. The person is not turned away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from gateway.core.reasons import Reason


class Language(StrEnum):
    """The languages there are texts in."""

    ZH = "zh"
    EN = "en"


@dataclass(frozen=True, slots=True)
class ReasonText:
    """One reason in one language."""

    what: str
    next_step: str


class NextStep(StrEnum):
    """What whoever asked should do next. Mirrors ``recognition.v1.NextStep``; numbers live in the proto."""

    PROCEED = "PROCEED"
    PRESENT_AGAIN = "PRESENT_AGAIN"
    NEW_CHALLENGE = "NEW_CHALLENGE"
    CHOOSE_IDENTITY_CREDENTIAL = "CHOOSE_IDENTITY_CREDENTIAL"
    CHOOSE_ACCEPTED_TYPE = "CHOOSE_ACCEPTED_TYPE"
    CHOOSE_RECOGNISED_ISSUER = "CHOOSE_RECOGNISED_ISSUER"
    RENEW_CREDENTIAL = "RENEW_CREDENTIAL"
    GET_NEW_CREDENTIAL = "GET_NEW_CREDENTIAL"
    ASK_ISSUER = "ASK_ISSUER"
    AUTHENTICATE_AGAIN = "AUTHENTICATE_AGAIN"
    AUTHENTICATE_STRONGER = "AUTHENTICATE_STRONGER"
    DISCLOSE_MORE = "DISCLOSE_MORE"
    OBTAIN_CONSENT = "OBTAIN_CONSENT"
    CHANGE_ACTOR = "CHANGE_ACTOR"
    CHECK_CLOCK = "CHECK_CLOCK"
    RETRY_LATER = "RETRY_LATER"
    CALL_SUPPORT = "CALL_SUPPORT"
    TELL_ADMINISTRATOR = "TELL_ADMINISTRATOR"


def text(reason: Reason, language: Language) -> ReasonText:
    """Look up the words for a reason."""
    return TEXTS[reason][language]


def next_step(reason: Reason | None) -> NextStep:
    """Give what to do next after a verdict with a reason; None: it was accepted."""
    return NextStep.PROCEED if reason is None else _WORDS[reason][2]


def step_text(step: NextStep, language: Language) -> str:
    """Look up the words for a next step."""
    return _STEPS[step][0 if language is Language.ZH else 1]


_STEPS: Final[Mapping[NextStep, tuple[str, str]]] = {
    NextStep.PROCEED: (
        "请继续办理。所得信息仅用于本事项，并在保存期满时删除。",
        (
            "Go on with the matter. Use the information for this matter only, and erase it when the time to keep it is"
            " over."
        ),
    ),
    NextStep.PRESENT_AGAIN: (
        "请当事人重新打开应用，再出示一次。如仍不成功，请联系技术支持；这不是当事人的过错。",
        (
            "Ask the person to open the app again and present once more. If that fails too, call technical support; the"
            " person has done nothing wrong."
        ),
    ),
    NextStep.NEW_CHALLENGE: (
        "请在本窗口重新发起核验，并请当事人当场再出示一次。",
        "Start a new verification at this counter and ask the person to present once more, here and now.",
    ),
    NextStep.CHOOSE_IDENTITY_CREDENTIAL: (
        "请当事人在应用中选择身份凭证后再出示。",
        "Ask the person to choose the identity credential in the app and present it again.",
    ),
    NextStep.CHOOSE_ACCEPTED_TYPE: (
        "请查看本事项接受的凭证种类，请当事人出示其中一种。",
        "See which types of credential this matter accepts and ask the person for one of them.",
    ),
    NextStep.CHOOSE_RECOGNISED_ISSUER: (
        "请当事人改用已互认机构签发的凭证，或按常规方式受理。如认为该机构应当被互认，请告知本省网关管理员。",
        (
            "Ask for a credential from an issuer that is recognised, or go on in the conventional way. If you think"
            " this issuer should be recognised, tell your gateway's administrator."
        ),
    ),
    NextStep.RENEW_CREDENTIAL: (
        "请当事人在签发地的应用中更新凭证后再出示。",
        "Ask the person to renew the credential in the issuing province's app and present it again.",
    ),
    NextStep.GET_NEW_CREDENTIAL: (
        "请当事人在签发地的应用中重新申领凭证后再出示；这不是当事人的过错。",
        (
            "Ask the person to have the credential issued again in the issuing province's app and to present the new"
            " one; the person has done nothing wrong."
        ),
    ),
    NextStep.ASK_ISSUER: (
        "请当事人向签发机构咨询该凭证的状态；在此期间可按常规方式受理。",
        (
            "Ask the person to enquire with the issuer about this credential; meanwhile you may go on in the"
            " conventional way."
        ),
    ),
    NextStep.AUTHENTICATE_AGAIN: (
        "请当事人重新认证一次，再出示凭证。",
        "Ask the person to authenticate once more and present the credential again.",
    ),
    NextStep.AUTHENTICATE_STRONGER: (
        "请当事人按本事项要求的方式重新认证（例如窗口读证并人像比对）后再出示。",
        (
            "Ask the person to authenticate again in the way this matter demands, such as reading the card and"
            " comparing the face at the counter, and to present again."
        ),
    ),
    NextStep.DISCLOSE_MORE: (
        "请告知当事人所需信息及用途；当事人同意后再出示一次。",
        "Tell the person which information is needed and what for; if they agree, ask them to present once more.",
    ),
    NextStep.OBTAIN_CONSENT: (
        "请告知当事人用途、所需信息和保存期限；当事人签署同意书后登记同意，再核验一次。当事人不同意的，按常规方式受理。",
        (
            "Tell the person what for, which information and for how long; when they have signed, record the consent"
            " and verify once more. If they do not consent, go on in the conventional way."
        ),
    ),
    NextStep.CHANGE_ACTOR: (
        "请由有权办理本事项的人（本人、监护人或受托人）出示其凭证；授权范围应包含本事项。",
        (
            "Have somebody present who may act in this matter: the person themself, a guardian or an agent whose"
            " authority extends to it."
        ),
    ),
    NextStep.CHECK_CLOCK: (
        "请核对本机时间，稍后再试；如仍不成功，请联系技术支持。",
        "Check this computer's clock and try again in a moment; if it still fails, call technical support.",
    ),
    NextStep.RETRY_LATER: (
        "请稍后再试。凭证没有被拒绝，请勿据此退件；如急需办理，可按常规方式受理。",
        (
            "Please try again later. The credential was not refused, so do not turn the person away; if it is urgent,"
            " go on in the conventional way."
        ),
    ),
    NextStep.CALL_SUPPORT: (
        "请联系本省网关技术支持，并提供核验编号。这是系统之间的技术问题，与当事人无关；可按常规方式继续受理。",
        (
            "Call your gateway's technical support and give them the verification number. This is a technical matter"
            " between systems and has nothing to do with the person; you may go on in the conventional way."
        ),
    ),
    NextStep.TELL_ADMINISTRATOR: (
        "请通知本省网关管理员处理。这是系统之间的信任文件问题，与当事人无关。",
        (
            "Tell your gateway's administrator. This concerns the documents by which the systems trust each other and"
            " has nothing to do with the person."
        ),
    ),
}

_WORDS: Final[Mapping[Reason, tuple[str, str, NextStep]]] = {
    # What was sent cannot be read.
    Reason.MALFORMED: ("出示的凭证无法读取。", "The credential presented cannot be read.", NextStep.PRESENT_AGAIN),
    Reason.TOO_LARGE: (
        "出示的凭证超出允许的大小。",
        "The credential presented is larger than allowed.",
        NextStep.PRESENT_AGAIN,
    ),
    Reason.HEADER_NOT_ALLOWED: (
        "凭证含有不允许的技术内容。",
        "The credential carries technical content that is not allowed.",
        NextStep.CALL_SUPPORT,
    ),
    Reason.TYPE_MISMATCH: (
        "出示的不是本次核验所需的那一类凭证。",
        "What was presented is not the kind of document this check is for.",
        NextStep.CHOOSE_IDENTITY_CREDENTIAL,
    ),
    Reason.ALGORITHM_NOT_ALLOWED: (
        "凭证的签名方式不在互认范围内。",
        "The credential is signed in a way that the provinces have not agreed on.",
        NextStep.CALL_SUPPORT,
    ),
    Reason.HASH_NOT_ALLOWED: (
        "凭证采用的摘要方式不在互认范围内。",
        "The credential uses a digest method that the provinces have not agreed on.",
        NextStep.CALL_SUPPORT,
    ),
    # Who signed it.
    Reason.ISSUER_UNKNOWN: (
        "签发该凭证的机构不在互认范围内。",
        "The credential's issuer is not recognised by the four provinces.",
        NextStep.CHOOSE_RECOGNISED_ISSUER,
    ),
    Reason.KEY_UNKNOWN: (
        "无法确认该凭证由登记的签发机构签发。",
        "It cannot be confirmed that the registered issuer signed this credential.",
        NextStep.CALL_SUPPORT,
    ),
    Reason.KEY_NOT_ACCEPTABLE: (
        "凭证使用的密钥不符合互认要求。",
        "The credential uses a key that does not meet the requirements for recognition.",
        NextStep.CALL_SUPPORT,
    ),
    Reason.SIGNATURE_INVALID: (
        "凭证的签名未能通过核验，内容可能在传输中受损。",
        "The credential's signature did not verify; it may have been damaged on the way.",
        NextStep.PRESENT_AGAIN,
    ),
    Reason.ISSUER_NOT_AUTHORISED: (
        "该机构未获授权签发这类凭证。",
        "This issuer is not authorised to issue this type of credential.",
        NextStep.CHOOSE_RECOGNISED_ISSUER,
    ),
    Reason.KEY_REVOKED: (
        "签发机构已停用签发该凭证的密钥。",
        "The issuer has taken the key that signed this credential out of use.",
        NextStep.GET_NEW_CREDENTIAL,
    ),
    Reason.ISSUER_WITHDRAWN: (
        "各省已暂停或终止对该签发机构的互认。",
        "The provinces have suspended or ended their recognition of this issuer.",
        NextStep.CHOOSE_RECOGNISED_ISSUER,
    ),
    # What it says.
    Reason.CLAIM_INVALID: (
        "凭证缺少必要内容或内容格式有误。",
        "The credential lacks something it must say, or says it in the wrong form.",
        NextStep.CALL_SUPPORT,
    ),
    Reason.EXPIRED: ("凭证已过有效期。", "The credential has expired.", NextStep.RENEW_CREDENTIAL),
    Reason.NOT_YET_VALID: (
        "凭证尚未到生效时间。",
        "The credential is not valid yet.",
        NextStep.CHECK_CLOCK,
    ),
    Reason.LIFETIME_TOO_LONG: (
        "凭证标明的有效期超过互认规定的上限。",
        "The credential is made out for longer than the agreement allows.",
        NextStep.CALL_SUPPORT,
    ),
    Reason.DISCLOSURE_INVALID: (
        "凭证所附的信息与凭证本身不一致。",
        "The information that came with the credential does not belong to it.",
        NextStep.PRESENT_AGAIN,
    ),
    # Who presents it, to whom.
    Reason.KEY_BINDING_MISSING: (
        "本事项要求本人持证出示，本次出示缺少持有证明。",
        "This matter requires proof that the person holds the credential, and none was sent.",
        NextStep.NEW_CHALLENGE,
    ),
    Reason.KEY_BINDING_INVALID: (
        "未能确认凭证由持有人本人的设备出示。",
        "It could not be confirmed that the credential was presented from its holder's device.",
        NextStep.NEW_CHALLENGE,
    ),
    Reason.AUDIENCE_MISMATCH: (
        "该凭证是出示给其他单位的，不能在此使用。",
        "The credential was presented for another office and cannot be used here.",
        NextStep.NEW_CHALLENGE,
    ),
    Reason.NONCE_MISMATCH: (
        "该凭证对应另一次核验，或本次核验已超时。",
        "The credential answers another verification, or this one has timed out.",
        NextStep.NEW_CHALLENGE,
    ),
    Reason.REPLAYED: (
        "该次出示已经使用过，每次出示只能用一次。",
        "This presentation has been used already; each one works only once.",
        NextStep.NEW_CHALLENGE,
    ),
    # What the matter demands.
    Reason.CREDENTIAL_TYPE_NOT_ACCEPTED: (
        "本事项不接受这一类凭证。",
        "This matter does not accept this type of credential.",
        NextStep.CHOOSE_ACCEPTED_TYPE,
    ),
    Reason.CREDENTIAL_TOO_OLD: (
        "凭证签发时间较早，超出本事项允许的期限。",
        "The credential was issued longer ago than this matter allows.",
        NextStep.RENEW_CREDENTIAL,
    ),
    Reason.AUTHENTICATION_TOO_OLD: (
        "当事人上次认证的时间较早，超出本事项允许的期限。",
        "The person last authenticated longer ago than this matter allows.",
        NextStep.AUTHENTICATE_AGAIN,
    ),
    Reason.ASSURANCE_UNKNOWN: (
        "凭证标明的认证等级不在互认等级表内。",
        "The credential states a level of assurance that the agreement does not know.",
        NextStep.CALL_SUPPORT,
    ),
    Reason.ASSURANCE_ABOVE_CAP: (
        "凭证标明的认证等级高于该机构可签发的等级。",
        "The credential states a higher level of assurance than its issuer may give.",
        NextStep.CALL_SUPPORT,
    ),
    Reason.ASSURANCE_TOO_LOW: (
        "凭证的认证等级低于本事项的要求。",
        "The credential's level of assurance is lower than this matter demands.",
        NextStep.AUTHENTICATE_STRONGER,
    ),
    Reason.REQUIRED_CLAIM_MISSING: (
        "本事项必需的信息没有一并出示。",
        "Information that this matter needs was not presented.",
        NextStep.DISCLOSE_MORE,
    ),
    Reason.SUBJECT_TYPE_NOT_ACCEPTED: (
        "本事项不受理这一类主体（自然人或法人）。",
        "This matter does not accept a credential about this kind of subject, a person or an organisation.",
        NextStep.CHOOSE_ACCEPTED_TYPE,
    ),
    Reason.ACTOR_MISSING: (
        "本事项须由有权代办的人出示，凭证未载明代办人。",
        "In this matter somebody has to act for the subject, and the credential names nobody.",
        NextStep.CHANGE_ACTOR,
    ),
    Reason.ACTOR_NOT_ACCEPTED: (
        "本事项不接受这种代办关系。",
        "This matter does not accept that somebody acts in this relationship.",
        NextStep.CHANGE_ACTOR,
    ),
    Reason.AUTHORITY_EXCEEDED: (
        "代办人的授权不包含本事项，或授权已到期。",
        "The authority to act does not extend to this matter, or has ended.",
        NextStep.CHANGE_ACTOR,
    ),
    Reason.CONSENT_MISSING: (
        "本事项须当事人同意，本次核验未注明同意。",
        "This matter rests on the person's consent, and none was named.",
        NextStep.OBTAIN_CONSENT,
    ),
    Reason.CONSENT_INVALID: (
        "所注明的同意未登记、已到期，或不适用于本次核验。",
        "The consent named is not on record, has lapsed, or was given for something else.",
        NextStep.OBTAIN_CONSENT,
    ),
    Reason.CONSENT_WITHDRAWN: (
        "当事人已撤回同意。",
        "The person has withdrawn their consent.",
        NextStep.OBTAIN_CONSENT,
    ),
    # What became of it.
    Reason.CREDENTIAL_REVOKED: (
        "该凭证已由签发机构注销。",
        "The issuer has revoked this credential.",
        NextStep.ASK_ISSUER,
    ),
    Reason.CREDENTIAL_SUSPENDED: (
        "该凭证已由签发机构暂停使用。",
        "The issuer has suspended this credential.",
        NextStep.ASK_ISSUER,
    ),
    Reason.ATTRIBUTES_STALE: (
        "凭证所载信息已经变更（例如户籍已迁移）。",
        "What the credential says has changed since, for example where the household is registered.",
        NextStep.GET_NEW_CREDENTIAL,
    ),
    Reason.STATUS_MISSING: (
        "本事项须核查凭证状态，该凭证没有状态信息。",
        "This matter demands that the credential's status be checked, and the credential has none.",
        NextStep.GET_NEW_CREDENTIAL,
    ),
    Reason.STATUS_INVALID: (
        "凭证的状态信息不符合规定。",
        "The credential's status is not in a form that the provinces have agreed on.",
        NextStep.CALL_SUPPORT,
    ),
    # Why the gateway cannot tell.
    Reason.TRUST_STALE: (
        "目前无法判断：互认信任数据未能及时更新。",
        "The gateway cannot tell at present: its trust data could not be updated in time.",
        NextStep.RETRY_LATER,
    ),
    Reason.STATUS_UNAVAILABLE: (
        "目前无法判断：暂时查不到凭证的状态。",
        "The gateway cannot tell at present: the credential's status could not be established.",
        NextStep.RETRY_LATER,
    ),
    Reason.CLOCK_REGRESSED: (
        "目前无法判断：本网关的时钟慢于各省已确认的时间。",
        "The gateway cannot tell at present: its clock is behind the time that the provinces have already confirmed.",
        NextStep.RETRY_LATER,
    ),
    # Trust documents. A clerk should not meet these; an administrator will.
    Reason.STATEMENT_INVALID: (
        "一份实体声明不符合规定。",
        "An entity statement breaks the rules for such statements.",
        NextStep.TELL_ADMINISTRATOR,
    ),
    Reason.CHAIN_INVALID: ("信任链不成立。", "A trust chain does not hold together.", NextStep.TELL_ADMINISTRATOR),
    Reason.CONSTRAINT_VIOLATED: (
        "信任链超出上级设定的限制。",
        "A trust chain breaks a constraint set by a superior.",
        NextStep.TELL_ADMINISTRATOR,
    ),
    Reason.METADATA_POLICY_INVALID: (
        "元数据策略有误或互相矛盾。",
        "A metadata policy is malformed or contradicts itself.",
        NextStep.TELL_ADMINISTRATOR,
    ),
    Reason.METADATA_POLICY_VIOLATED: (
        "元数据不符合上级的策略。",
        "Metadata does not comply with a superior's policy.",
        NextStep.TELL_ADMINISTRATOR,
    ),
    Reason.CRITICAL_NOT_UNDERSTOOD: (
        "文件含有本网关尚不支持的必需扩展。",
        "A document demands an extension that this gateway does not support.",
        NextStep.TELL_ADMINISTRATOR,
    ),
    Reason.CHARTER_INVALID: (
        "章程或章程的更替不符合规定。",
        "The charter, or the step from one charter to the next, is not valid.",
        NextStep.TELL_ADMINISTRATOR,
    ),
    Reason.QUORUM_NOT_MET: (
        "认可该文件的信任锚不足法定数。",
        "Fewer trust anchors than the quorum vouch for this.",
        NextStep.TELL_ADMINISTRATOR,
    ),
    Reason.ROLLED_BACK: (
        "收到的文件比已采用的更旧，未予采用。",
        "A document was older than the one already in use, and was left aside.",
        NextStep.TELL_ADMINISTRATOR,
    ),
    Reason.EQUIVOCATION: (
        "同一签署方用同一序号签署了两份不同的文件。",
        "One signer made two different documents with the same sequence number.",
        NextStep.TELL_ADMINISTRATOR,
    ),
    Reason.SEQUENCE_INVALID: (
        "一份文件没有序号，或序号跳动过大。",
        "A document bears no sequence number, or one that jumps too far ahead.",
        NextStep.TELL_ADMINISTRATOR,
    ),
    Reason.SNAPSHOT_MISMATCH: (
        "文件与信任锚的清单不一致，或清单遗漏了应列的成员。",
        "A document is not the one its anchor's snapshot names, or the snapshot leaves a member out.",
        NextStep.TELL_ADMINISTRATOR,
    ),
    Reason.STATUS_LIST_INVALID: (
        "一份状态列表不符合规定。",
        "A status list breaks the rules for such lists.",
        NextStep.TELL_ADMINISTRATOR,
    ),
    # Logs. A clerk should not meet these; an administrator or an auditor will.
    Reason.PROOF_INVALID: (
        "日志的证明不成立。",
        "A proof about a log does not hold.",
        NextStep.TELL_ADMINISTRATOR,
    ),
    Reason.LOG_FORKED: (
        "一份日志与它先前出示的内容矛盾。",
        "A log contradicts what it had shown before.",
        NextStep.TELL_ADMINISTRATOR,
    ),
    Reason.LOG_ENTRY_INVALID: (
        "日志中的一条记录不符合规定。",
        "An entry of a log is not what it must be.",
        NextStep.TELL_ADMINISTRATOR,
    ),
    Reason.COSIGNATURES_MISSING: (
        "见证该日志的其他省份不足规定数目。",
        "Not enough other provinces have seen the log.",
        NextStep.TELL_ADMINISTRATOR,
    ),
}

TEXTS: Final[Mapping[Reason, Mapping[Language, ReasonText]]] = MappingProxyType(
    {
        reason: MappingProxyType(
            {Language.ZH: ReasonText(zh, _STEPS[step][0]), Language.EN: ReasonText(en, _STEPS[step][1])}
        )
        for reason, (zh, en, step) in _WORDS.items()
    }
)
