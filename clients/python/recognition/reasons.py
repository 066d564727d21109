"""Why a presentation was not accepted, and what to do next, in words for clerks and citizens.

Written by generate_reasons.py from clients/texts.json: not to be edited.
"""

# ruff: noqa: E501

from __future__ import annotations

from enum import Enum
from typing import Final, Literal, NamedTuple, TypeAlias

Language: TypeAlias = Literal["zh", "en"]
"""The languages there are words in."""


class ReasonText(NamedTuple):
    """One reason in one language."""

    what: str
    """What is the matter."""
    next_step: str
    """What to do about it."""


class NextStep(Enum):
    """What whoever asked should do next. The value is the number in the contract."""

    PROCEED = 1
    PRESENT_AGAIN = 2
    NEW_CHALLENGE = 3
    CHOOSE_IDENTITY_CREDENTIAL = 4
    CHOOSE_ACCEPTED_TYPE = 5
    CHOOSE_RECOGNISED_ISSUER = 6
    RENEW_CREDENTIAL = 7
    GET_NEW_CREDENTIAL = 8
    ASK_ISSUER = 9
    AUTHENTICATE_AGAIN = 10
    AUTHENTICATE_STRONGER = 11
    DISCLOSE_MORE = 12
    OBTAIN_CONSENT = 13
    CHANGE_ACTOR = 14
    CHECK_CLOCK = 15
    RETRY_LATER = 16
    CALL_SUPPORT = 17
    TELL_ADMINISTRATOR = 18

    @classmethod
    def of(cls, number: int) -> NextStep:
        """Give the step of a number; one that this version does not know is CALL_SUPPORT."""
        return _STEPS_BY_NUMBER.get(number, cls.CALL_SUPPORT)

    def text(self, language: Language) -> str:
        """Say it in words."""
        zh, en = _STEPS[self]
        return zh if language == "zh" else en


class Reason(Enum):
    """Why a presentation was not accepted, or why the gateway cannot tell. The value is the number in the contract."""

    MALFORMED = 1
    TOO_LARGE = 2
    HEADER_NOT_ALLOWED = 3
    TYPE_MISMATCH = 4
    ALGORITHM_NOT_ALLOWED = 5
    HASH_NOT_ALLOWED = 6
    ISSUER_UNKNOWN = 10
    KEY_UNKNOWN = 11
    KEY_NOT_ACCEPTABLE = 12
    SIGNATURE_INVALID = 13
    ISSUER_NOT_AUTHORISED = 14
    KEY_REVOKED = 15
    ISSUER_WITHDRAWN = 16
    CLAIM_INVALID = 20
    EXPIRED = 21
    NOT_YET_VALID = 22
    LIFETIME_TOO_LONG = 23
    DISCLOSURE_INVALID = 24
    KEY_BINDING_MISSING = 30
    KEY_BINDING_INVALID = 31
    AUDIENCE_MISMATCH = 32
    NONCE_MISMATCH = 33
    REPLAYED = 34
    CREDENTIAL_TYPE_NOT_ACCEPTED = 40
    CREDENTIAL_TOO_OLD = 41
    AUTHENTICATION_TOO_OLD = 42
    ASSURANCE_UNKNOWN = 43
    ASSURANCE_ABOVE_CAP = 44
    ASSURANCE_TOO_LOW = 45
    REQUIRED_CLAIM_MISSING = 46
    SUBJECT_TYPE_NOT_ACCEPTED = 47
    ACTOR_MISSING = 48
    ACTOR_NOT_ACCEPTED = 49
    AUTHORITY_EXCEEDED = 50
    CONSENT_MISSING = 51
    CONSENT_INVALID = 52
    CONSENT_WITHDRAWN = 53
    CREDENTIAL_REVOKED = 54
    CREDENTIAL_SUSPENDED = 55
    ATTRIBUTES_STALE = 56
    STATUS_MISSING = 57
    STATUS_INVALID = 58
    TRUST_STALE = 60
    STATUS_UNAVAILABLE = 61
    CLOCK_REGRESSED = 62
    STATEMENT_INVALID = 70
    CHAIN_INVALID = 71
    CONSTRAINT_VIOLATED = 72
    METADATA_POLICY_INVALID = 73
    METADATA_POLICY_VIOLATED = 74
    CRITICAL_NOT_UNDERSTOOD = 75
    CHARTER_INVALID = 76
    QUORUM_NOT_MET = 77
    ROLLED_BACK = 78
    EQUIVOCATION = 79
    SEQUENCE_INVALID = 80
    SNAPSHOT_MISMATCH = 81
    STATUS_LIST_INVALID = 82
    PROOF_INVALID = 83
    LOG_FORKED = 84
    LOG_ENTRY_INVALID = 85
    COSIGNATURES_MISSING = 86
    UNRECOGNISED = -1
    """A reason that this version of the client does not know."""

    @classmethod
    def of(cls, number: int) -> Reason:
        """Give the reason of a number; UNRECOGNISED for one that this version does not know."""
        return _REASONS_BY_NUMBER.get(number, cls.UNRECOGNISED)

    @property
    def next_step(self) -> NextStep:
        """What to do next."""
        return _REASONS[self][2]

    def text(self, language: Language) -> ReasonText:
        """Say it in words."""
        zh, en, step = _REASONS[self]
        return ReasonText(zh if language == "zh" else en, step.text(language))


_STEPS: Final[dict[NextStep, tuple[str, str]]] = {
    NextStep.PROCEED: (
        "请继续办理。所得信息仅用于本事项，并在保存期满时删除。",
        "Go on with the matter. Use the information for this matter only, and erase it when the time to keep it is over.",
    ),
    NextStep.PRESENT_AGAIN: (
        "请当事人重新打开应用，再出示一次。如仍不成功，请联系技术支持；这不是当事人的过错。",
        "Ask the person to open the app again and present once more. If that fails too, call technical support; the person has done nothing wrong.",
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
        "Ask for a credential from an issuer that is recognised, or go on in the conventional way. If you think this issuer should be recognised, tell your gateway's administrator.",
    ),
    NextStep.RENEW_CREDENTIAL: (
        "请当事人在签发地的应用中更新凭证后再出示。",
        "Ask the person to renew the credential in the issuing province's app and present it again.",
    ),
    NextStep.GET_NEW_CREDENTIAL: (
        "请当事人在签发地的应用中重新申领凭证后再出示；这不是当事人的过错。",
        "Ask the person to have the credential issued again in the issuing province's app and to present the new one; the person has done nothing wrong.",
    ),
    NextStep.ASK_ISSUER: (
        "请当事人向签发机构咨询该凭证的状态；在此期间可按常规方式受理。",
        "Ask the person to enquire with the issuer about this credential; meanwhile you may go on in the conventional way.",
    ),
    NextStep.AUTHENTICATE_AGAIN: (
        "请当事人重新认证一次，再出示凭证。",
        "Ask the person to authenticate once more and present the credential again.",
    ),
    NextStep.AUTHENTICATE_STRONGER: (
        "请当事人按本事项要求的方式重新认证（例如窗口读证并人像比对）后再出示。",
        "Ask the person to authenticate again in the way this matter demands, such as reading the card and comparing the face at the counter, and to present again.",
    ),
    NextStep.DISCLOSE_MORE: (
        "请告知当事人所需信息及用途；当事人同意后再出示一次。",
        "Tell the person which information is needed and what for; if they agree, ask them to present once more.",
    ),
    NextStep.OBTAIN_CONSENT: (
        "请告知当事人用途、所需信息和保存期限；当事人签署同意书后登记同意，再核验一次。当事人不同意的，按常规方式受理。",
        "Tell the person what for, which information and for how long; when they have signed, record the consent and verify once more. If they do not consent, go on in the conventional way.",
    ),
    NextStep.CHANGE_ACTOR: (
        "请由有权办理本事项的人（本人、监护人或受托人）出示其凭证；授权范围应包含本事项。",
        "Have somebody present who may act in this matter: the person themself, a guardian or an agent whose authority extends to it.",
    ),
    NextStep.CHECK_CLOCK: (
        "请核对本机时间，稍后再试；如仍不成功，请联系技术支持。",
        "Check this computer's clock and try again in a moment; if it still fails, call technical support.",
    ),
    NextStep.RETRY_LATER: (
        "请稍后再试。凭证没有被拒绝，请勿据此退件；如急需办理，可按常规方式受理。",
        "Please try again later. The credential was not refused, so do not turn the person away; if it is urgent, go on in the conventional way.",
    ),
    NextStep.CALL_SUPPORT: (
        "请联系本省网关技术支持，并提供核验编号。这是系统之间的技术问题，与当事人无关；可按常规方式继续受理。",
        "Call your gateway's technical support and give them the verification number. This is a technical matter between systems and has nothing to do with the person; you may go on in the conventional way.",
    ),
    NextStep.TELL_ADMINISTRATOR: (
        "请通知本省网关管理员处理。这是系统之间的信任文件问题，与当事人无关。",
        "Tell your gateway's administrator. This concerns the documents by which the systems trust each other and has nothing to do with the person.",
    ),
}
_REASONS: Final[dict[Reason, tuple[str, str, NextStep]]] = {
    Reason.MALFORMED: (
        "出示的凭证无法读取。",
        "The credential presented cannot be read.",
        NextStep.PRESENT_AGAIN,
    ),
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
    Reason.CLAIM_INVALID: (
        "凭证缺少必要内容或内容格式有误。",
        "The credential lacks something it must say, or says it in the wrong form.",
        NextStep.CALL_SUPPORT,
    ),
    Reason.EXPIRED: (
        "凭证已过有效期。",
        "The credential has expired.",
        NextStep.RENEW_CREDENTIAL,
    ),
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
    Reason.STATEMENT_INVALID: (
        "一份实体声明不符合规定。",
        "An entity statement breaks the rules for such statements.",
        NextStep.TELL_ADMINISTRATOR,
    ),
    Reason.CHAIN_INVALID: (
        "信任链不成立。",
        "A trust chain does not hold together.",
        NextStep.TELL_ADMINISTRATOR,
    ),
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
    Reason.UNRECOGNISED: (
        "网关给出的原因是本程序尚不认识的。",
        "The gateway gave a reason that this program does not know yet.",
        NextStep.CALL_SUPPORT,
    ),
}
_STEPS_BY_NUMBER: Final[dict[int, NextStep]] = {step.value: step for step in NextStep}
_REASONS_BY_NUMBER: Final[dict[int, Reason]] = {reason.value: reason for reason in Reason}
