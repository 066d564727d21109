"""How a decision came about, step by step, for developers and administrators.

Made from what the audit log keeps of a decision, hence without a word about the person: which issuer, key, anchors,
charter and status list were looked at, which step decided, why, and what would mend it. What a clerk is told is in
``texts``; here speaks one engineer to another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from gateway.core.agreement import Assurance, Words
from gateway.core.findings import Findings, Step
from gateway.core.reasons import Reason
from gateway.core.texts import Language, text

ORDER: Final = (*(step for step in Step if step < Step.STATUS), Step.POLICY, Step.STATUS, Step.LEDGER, Step.ANSWER)
"""As the steps run: the matter's policy before the status, since what is refused anyway needs no status."""


class Outcome(StrEnum):
    """How a step ended. Mirrors ``recognition.v1.StepOutcome``."""

    PASSED = "PASSED"
    FAILED = "FAILED"
    UNDECIDED = "UNDECIDED"
    NOT_REACHED = "NOT_REACHED"
    NOT_NEEDED = "NOT_NEEDED"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedStep:
    """One step of a verification, and how it ended."""

    step: Step
    title: Words
    outcome: Outcome
    inputs: Mapping[str, str]
    reason: Reason | None = None
    meaning: Words | None = None
    fix: Words | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is on record of a decision."""

    service: str
    matter: str
    verdict: str
    """accepted, rejected or indeterminate."""
    reason: Reason | None
    charter_version: int
    view_id: str
    findings: Findings


def explain(decision: Decision) -> tuple[ExplainedStep, ...]:
    """Tell what each step looked at and how it ended, in the order in which they ran."""
    deciding = None if decision.reason is None else decision.findings.step
    reached = len(ORDER) if deciding is None else ORDER.index(deciding)
    return tuple(_explained(step, place, reached, decision) for place, step in enumerate(ORDER))


def _explained(step: Step, place: int, reached: int, decision: Decision) -> ExplainedStep:
    reason = decision.reason if place == reached else None
    return ExplainedStep(
        step=step,
        title=title(step),
        outcome=_outcome(step, place - reached, decision),
        inputs=dict(_inputs(step, decision)),
        reason=reason,
        meaning=None if reason is None else Words(text(reason, Language.ZH).what, text(reason, Language.EN).what),
        fix=None if reason is None else fix(reason),
    )


def _outcome(step: Step, beyond: int, decision: Decision) -> Outcome:
    if beyond == 0:
        return Outcome.UNDECIDED if decision.verdict == "indeterminate" else Outcome.FAILED
    if step is Step.ANSWER or (step is Step.LEDGER and beyond > 0):
        return Outcome.PASSED  # whatever was decided was recorded, then answered
    if beyond > 0:
        return Outcome.NOT_REACHED
    if step is Step.STATUS and not decision.findings.status_list:
        return Outcome.NOT_NEEDED
    return Outcome.PASSED


def _inputs(step: Step, decision: Decision) -> Iterator[tuple[str, str]]:
    findings = decision.findings
    shown: Mapping[Step, Mapping[str, object]] = {
        Step.CALLER: {"service": decision.service, "matter": decision.matter},
        Step.STRUCTURE: {"profile": findings.profile},
        Step.KEY: {
            "issuer": findings.issuer,
            "kid": findings.kid,
            "anchors": findings.anchors,
            "trusted_until": findings.trusted_until,
            "charter_version": decision.charter_version,
            "view_id": decision.view_id,
        },
        Step.SIGNATURE: {"algorithm": findings.algorithm},
        Step.STATEMENT: {
            "credential_type": findings.credential_type,
            "acr": findings.acr,
            "asserted": findings.asserted,
            "issued_at": findings.issued_at,
            "authenticated_at": findings.authenticated_at,
            "expires_at": findings.expires_at,
            "subject_type": findings.subject_type,
            "party": findings.party,
        },
        Step.DISCLOSURES: {"disclosed": findings.disclosed, "actor_disclosed": findings.actor_disclosed},
        Step.BINDING: {"holder_bound": findings.holder_bound if findings.effective is not None else None},
        Step.STATUS: {
            "status_list": findings.status_list,
            "list_issued_at": findings.status_issued_at,
            "status": findings.status,
        },
        Step.POLICY: {
            "effective": findings.effective,
            "asked": findings.asked,
            "consented": findings.consented if findings.effective is not None else None,
            "in_scope": findings.in_scope if findings.party is not None else None,
        },
    }
    for name, value in shown.get(step, {}).items():
        if value not in (None, "", (), frozenset()):
            yield name, _shown(value)


def _shown(value: object) -> str:
    if isinstance(value, Assurance):
        return f"ial {value.identity}, aal {value.authenticator}, fal {value.federation}"
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple | frozenset):
        return ", ".join(sorted(value))
    return str(value)


def title(step: Step) -> Words:
    """Say what a step does."""
    return _TITLES[step]


_TITLES: Final[Mapping[Step, Words]] = {
    Step.CALLER: Words("调用方与事项", "Caller and matter"),
    Step.STRUCTURE: Words("大小、字符与结构", "Size, characters, structure"),
    Step.KEY: Words("签发方与密钥", "Issuer and key"),
    Step.SIGNATURE: Words("算法与签名", "Algorithm and signature"),
    Step.STATEMENT: Words("签发方的陈述与权限", "What the issuer states, and may state"),
    Step.DISCLOSURES: Words("选择性披露", "Disclosures"),
    Step.BINDING: Words("持有证明、受众与随机数", "Holder binding, audience, nonce"),
    Step.STATUS: Words("凭证状态", "Status of the credential"),
    Step.POLICY: Words("事项的要求", "What the matter demands"),
    Step.LEDGER: Words("登记与防重放", "Ledger and replay"),
    Step.ANSWER: Words("答复", "Answer"),
}


@dataclass(frozen=True, slots=True)
class Advice:
    """What would mend it."""

    developer: Words
    """To whoever writes what presents, asks or issues."""
    administrator: Words
    """To whoever runs the gateway."""


def advice(reason: Reason) -> Advice:
    """Say what would mend it, to each of the two apart."""
    return _ADVICE[reason]


def fix(reason: Reason) -> Words:
    """Say what would mend it, to whoever runs a gateway or writes its clients."""
    developer, administrator = _ADVICE[reason].developer, _ADVICE[reason].administrator
    return Words(
        f"开发者：{developer.zh}管理员：{administrator.zh}",
        f"Developer: {developer.en} Administrator: {administrator.en}",
    )


# -- to developers ----------------------------------------------------------------------------------------------------

_SHOW_IT: Final = Words(
    "客户端无须修改；把说明和下一步显示给工作人员即可。",
    "Nothing to change in a client: show the clerk what it means and the next step.",
)
_WALLET: Final = Words(
    "检查钱包或签发软件：出示内容不符合线上格式（见 README《Documents on the wire》）。",
    "Mend the wallet or the issuing software: what was presented breaks the wire format (README, Documents on the"
    " wire).",
)
_ISSUER_SOFTWARE: Final = Words(
    "修改签发软件：按章程中的条款签发（见 mrg charter show）。",
    "Mend the issuing software: it must issue by the terms of the charter (see mrg charter show).",
)
_BINDING: Final = Words(
    "先用 CreateChallenge 取得随机数和受众，由持有人签入 kb+jwt，并在五分钟内一次性使用。",
    "Get nonce and audience from CreateChallenge, have the holder sign both into the kb+jwt, and use it once, within"
    " five minutes.",
)
_CONSENT: Final = Words(
    "用 RecordConsent（mrg consent record）登记覆盖本事项必需信息的同意，并在请求中写明其编号。",
    "Record a consent that covers what the matter requires with RecordConsent (mrg consent record), and name it in the"
    " request.",
)
_OTHER_PARTY: Final = Words(
    "对照 mrg charter show 中该事项的 parties 与 subject_types，改由有权者出示。",
    "Compare parties and subject_types of the matter in mrg charter show, and have somebody present who may.",
)
_ASK_AGAIN: Final = Words(
    "等过 retry_after 再问；随机数未被用掉，在五分钟内仍可使用。不得当作拒绝处理。",
    "Ask again when retry_after has passed; the nonce is not used up, and good for its five minutes. Never take it for"
    " a refusal.",
)
_NO_VERDICT: Final = Words(
    "判定不会带有这一原因；签署此类文件的软件，应对照 README《Documents on the wire》。",
    "No verdict bears this reason. Software that signs such documents must keep to README, Documents on the wire.",
)
_CHECKER: Final = Words(
    "判定不会带有这一原因；核查凭据或日志的程序应保留所得文件，并如实报告。",
    "No verdict bears this reason. A program that checks evidence or logs keeps what it was given, and reports it.",
)

# -- to administrators ------------------------------------------------------------------------------------------------

_TELL_THEM: Final = Words(
    "网关无须处理；如频繁出现，用 mrg audit list 查看来自哪个服务和签发方，并告知对方。",
    "Nothing at the gateway. If it happens often, see with mrg audit list which service and issuer it comes from, and"
    " tell them.",
)
_TELL_ISSUER: Final = Words(
    "网关无须处理；用 mrg explain 查明签发方，请其所在省修正。",
    "Nothing at the gateway: see with mrg explain which issuer it is, and ask its province to mend it.",
)
_AGREEMENT: Final = Words(
    "这是协议的规定；如规定不合适，由各省修改章程（先用 mrg agreement preview 试算）。",
    "The agreement says so. If it should not, the provinces change the charter (try it with mrg agreement preview).",
)
_CONSENTS: Final = Words(
    "网关无须处理；mrg audit list 可查同意何时登记、何时撤回。",
    "Nothing at the gateway: mrg audit list shows when the consent was recorded, and withdrawn.",
)
_AS_ISSUED: Final = Words(
    "这是签发方的决定；用 mrg status show 可在签发省查看。", "The issuer decided so; mrg status show tells more there."
)
_TELL_AUTHOR: Final = Words(
    "用 mrg trust show 查看是谁的文件，告知该省；此前采用的文件继续有效。",
    "See with mrg trust show whose document it is, and tell that province. What was held before stays in force.",
)
_DO_NOT_FIT: Final = Words(
    "信任锚的声明与成员的元数据不相符（主机、实体类型或凭证类型）；请两省核对。",
    "What the anchor states and the member's metadata do not fit (host, entity types or credential types): have the two"
    " provinces compare them.",
)

_ADVICE: Final[Mapping[Reason, Advice]] = {
    # What was sent cannot be read.
    Reason.MALFORMED: Advice(_WALLET, _TELL_THEM),
    Reason.TOO_LARGE: Advice(_WALLET, _TELL_THEM),
    Reason.HEADER_NOT_ALLOWED: Advice(_WALLET, _TELL_THEM),
    Reason.TYPE_MISMATCH: Advice(_WALLET, _TELL_THEM),
    Reason.ALGORITHM_NOT_ALLOWED: Advice(
        Words(
            "修改签发软件：使用章程为该签发方列出的算法。",
            "Mend the issuing software: it must sign by an algorithm that the charter lists for the issuer.",
        ),
        Words(
            "章程为该签发方列出的算法不含此算法，或已过停用日期；请签发方换用，或修改协议。",
            "The charter does not list this algorithm for the issuer, or its sunset has passed: have the issuer use"
            " another, or change the agreement.",
        ),
    ),
    Reason.HASH_NOT_ALLOWED: Advice(_WALLET, _TELL_THEM),
    # Who signed it.
    Reason.ISSUER_UNKNOWN: Advice(
        Words(
            "iss 必须与章程中签发方的标识完全一致。",
            "iss must be the issuer's entity identifier, exactly as in the charter.",
        ),
        Words(
            "mrg charter show 列出成员；新的签发方须经新章程加入（mrg charter create）。",
            "mrg charter show lists the members; a new issuer joins by a new charter (mrg charter create).",
        ),
    ),
    Reason.KEY_UNKNOWN: Advice(
        Words(
            "修改签发软件：只用已公布并启用的密钥签名（mrg keys list），kid 为其 RFC 7638 指纹。",
            "Mend the issuing software: it must sign with a key that is published and active (mrg keys list), and kid"
            " is that key's RFC 7638 thumbprint.",
        ),
        Words(
            "用 mrg trust show 查看哪些信任锚证明了该密钥，用 mrg doctor 查看是否联系得上各省；刚公布的密钥须等几秒。",
            "See with mrg trust show which anchors attest the key, and with mrg doctor whether all peers are reached;"
            " a key that was just published takes seconds.",
        ),
    ),
    Reason.KEY_NOT_ACCEPTABLE: Advice(
        Words(
            "改用 README《Documents on the wire》允许的密钥种类和长度。",
            "Use a key of a kind and size that README, Documents on the wire, allows.",
        ),
        Words(
            "请密钥所属的省换一把密钥（mrg keys rotate）。",
            "Have the province whose key it is replace it (mrg keys rotate).",
        ),
    ),
    Reason.SIGNATURE_INVALID: Advice(
        Words(
            "原样转交出示内容，不改一个字符；仍不通过的，检查钱包或签发软件（见 README《Documents on the wire》）。",
            "Hand on what was presented as it came, unchanged to the last character. If that is done, mend the wallet"
            " or the issuing software (README, Documents on the wire).",
        ),
        _TELL_THEM,
    ),
    Reason.ISSUER_NOT_AUTHORISED: Advice(
        _SHOW_IT,
        Words(
            "协议没有该签发方的条款，或信任锚未授予这种凭证类型。",
            "The agreement has no terms for the issuer, or the anchors do not grant it this type.",
        ),
    ),
    Reason.KEY_REVOKED: Advice(
        _SHOW_IT,
        Words(
            "签发方已吊销该密钥（见 mrg trust show）；凭证须重新签发。",
            "The issuer revoked the key (see mrg trust show); the credential has to be issued anew.",
        ),
    ),
    Reason.ISSUER_WITHDRAWN: Advice(
        _SHOW_IT,
        Words(
            "用 mrg trust show 查看哪些信任锚撤回了认可；只有它们能够恢复。",
            "See with mrg trust show which anchors withdrew their word; only they can give it again.",
        ),
    ),
    # What it says.
    Reason.CLAIM_INVALID: Advice(_ISSUER_SOFTWARE, _TELL_ISSUER),
    Reason.EXPIRED: Advice(
        Words(
            "重新签发后再出示；断言最多有效五分钟，取得后应立即使用。",
            "Have it issued anew. An assertion lives five minutes at most: use it at once.",
        ),
        Words("用 mrg doctor 核对双方时钟。", "Compare the clocks of both sides with mrg doctor."),
    ),
    Reason.NOT_YET_VALID: Advice(
        Words(
            "修改签发软件：iat 和 nbf 不得晚于签名的时刻。",
            "Mend the issuing software: iat and nbf must not be later than the moment of signing.",
        ),
        Words(
            "用 mrg doctor 核对签发方与本网关的时钟。",
            "Compare the issuer's clock with this gateway's with mrg doctor.",
        ),
    ),
    Reason.LIFETIME_TOO_LONG: Advice(_ISSUER_SOFTWARE, _TELL_ISSUER),
    Reason.DISCLOSURE_INVALID: Advice(_WALLET, _TELL_THEM),
    # Who presents it, to whom.
    Reason.KEY_BINDING_MISSING: Advice(_BINDING, _TELL_THEM),
    Reason.KEY_BINDING_INVALID: Advice(_BINDING, _TELL_THEM),
    Reason.AUDIENCE_MISMATCH: Advice(_BINDING, _TELL_THEM),
    Reason.NONCE_MISMATCH: Advice(_BINDING, _TELL_THEM),
    Reason.REPLAYED: Advice(
        Words(
            "每次都用 CreateChallenge 取新的随机数；没有等到回答时，一分钟内用同一个 request_id 原样再问，"
            "会得到第一次的判定。",
            "Take a new nonce from CreateChallenge each time; where an answer was lost, ask the same again within a"
            " minute with the same request_id, and you are told the first decision.",
        ),
        _TELL_THEM,
    ),
    # What the matter demands.
    Reason.CREDENTIAL_TYPE_NOT_ACCEPTED: Advice(
        Words(
            "只请钱包出示该事项接受的种类：对照 mrg charter show 中该事项的 credential_types。",
            "Ask wallets for types that the matter accepts: credential_types of the matter in mrg charter show.",
        ),
        _AGREEMENT,
    ),
    Reason.CREDENTIAL_TOO_OLD: Advice(
        Words(
            "凭证早于事项的 max_credential_age_seconds；重新签发。",
            "The credential is older than the matter's max_credential_age_seconds; have it issued anew.",
        ),
        _AGREEMENT,
    ),
    Reason.AUTHENTICATION_TOO_OLD: Advice(
        Words(
            "认证早于事项的 max_authentication_age_seconds；重新认证后再签发。",
            "The authentication is older than the matter's max_authentication_age_seconds; authenticate, then issue"
            " anew.",
        ),
        _AGREEMENT,
    ),
    Reason.ASSURANCE_UNKNOWN: Advice(_ISSUER_SOFTWARE, _TELL_ISSUER),
    Reason.ASSURANCE_ABOVE_CAP: Advice(_ISSUER_SOFTWARE, _TELL_ISSUER),
    Reason.ASSURANCE_TOO_LOW: Advice(
        Words(
            "比较 effective 与事项的 min_assurance；断言与不带持有证明的出示，fal 最多为 2。",
            "Compare effective with the matter's min_assurance; without a proof of possession, fal counts as 2 at"
            " most.",
        ),
        _AGREEMENT,
    ),
    Reason.REQUIRED_CLAIM_MISSING: Advice(
        Words(
            "请持有人披露 required_claims，以及所提问题涉及的信息。",
            "Have the holder disclose required_claims and what the questions are about.",
        ),
        _AGREEMENT,
    ),
    Reason.SUBJECT_TYPE_NOT_ACCEPTED: Advice(_OTHER_PARTY, _AGREEMENT),
    Reason.ACTOR_MISSING: Advice(_OTHER_PARTY, _AGREEMENT),
    Reason.ACTOR_NOT_ACCEPTED: Advice(_OTHER_PARTY, _AGREEMENT),
    Reason.AUTHORITY_EXCEEDED: Advice(
        Words(
            "请签发方签发 act.scope 含本事项代码且未到期的凭证。",
            "Have a credential issued whose act.scope names the matter's code and whose authority has not ended.",
        ),
        _TELL_ISSUER,
    ),
    Reason.CONSENT_MISSING: Advice(_CONSENT, _CONSENTS),
    Reason.CONSENT_INVALID: Advice(_CONSENT, _CONSENTS),
    Reason.CONSENT_WITHDRAWN: Advice(
        Words(
            "不要再以这项同意提问；当事人重新签署后，才登记新的同意。",
            "Do not ask on that consent again. Record a new one only if the person signs again.",
        ),
        _CONSENTS,
    ),
    # What became of it.
    Reason.CREDENTIAL_REVOKED: Advice(_SHOW_IT, _AS_ISSUED),
    Reason.CREDENTIAL_SUSPENDED: Advice(_SHOW_IT, _AS_ISSUED),
    Reason.ATTRIBUTES_STALE: Advice(
        Words(
            "所载信息已变更，旧凭证不再可用；请重新签发。",
            "What it states has changed and it is of no more use: issue a new one.",
        ),
        _AS_ISSUED,
    ),
    Reason.STATUS_MISSING: Advice(_ISSUER_SOFTWARE, _TELL_ISSUER),
    Reason.STATUS_INVALID: Advice(_ISSUER_SOFTWARE, _TELL_ISSUER),
    # Why the gateway cannot tell.
    Reason.TRUST_STALE: Advice(
        _ASK_AGAIN,
        Words(
            "用 mrg trust show 和 mrg doctor 查看多久没有收到信任锚的文件；通常联系上任何一个省即可恢复。",
            "See with mrg trust show and mrg doctor how long ago the anchors were heard; mostly it is enough to reach"
            " one other province.",
        ),
    ),
    Reason.STATUS_UNAVAILABLE: Advice(
        _ASK_AGAIN,
        Words(
            "用 mrg doctor 查看状态列表的时间；签发省恢复联系后会自动更新。",
            "See with mrg doctor how old the status lists are; they are renewed by themselves once the issuing province"
            " is reachable.",
        ),
    ),
    Reason.CLOCK_REGRESSED: Advice(
        _ASK_AGAIN,
        Words(
            "校准本机时钟（见 mrg doctor）；只有确知是信任锚的时钟曾经走快，才用 mrg trust reset-clock。",
            "Set this machine's clock right (see mrg doctor). Use mrg trust reset-clock only when people know that the"
            " anchors' clocks had run ahead.",
        ),
    ),
    # Trust documents.
    Reason.STATEMENT_INVALID: Advice(_NO_VERDICT, _TELL_AUTHOR),
    Reason.CHAIN_INVALID: Advice(
        _NO_VERDICT,
        Words(
            "用 mrg trust show 查看哪个信任锚的信任链不成立；成员只失去这一票。",
            "See with mrg trust show which anchor's chain fails; it costs the member that one vote.",
        ),
    ),
    Reason.CONSTRAINT_VIOLATED: Advice(_NO_VERDICT, _DO_NOT_FIT),
    Reason.METADATA_POLICY_INVALID: Advice(_NO_VERDICT, _TELL_AUTHOR),
    Reason.METADATA_POLICY_VIOLATED: Advice(_NO_VERDICT, _DO_NOT_FIT),
    Reason.CRITICAL_NOT_UNDERSTOOD: Advice(
        _NO_VERDICT,
        Words(
            "文件出自更新的软件或其他约定：更新本网关，或请其作者去掉该扩展。",
            "It was made by newer software, or to other rules: update this gateway, or have its author leave the"
            " extension out.",
        ),
    ),
    Reason.CHARTER_INVALID: Advice(
        _NO_VERDICT,
        Words(
            "用 mrg charter verify 和 mrg charter diff 检查该文件；现行章程继续有效。",
            "Check the file with mrg charter verify and mrg charter diff; the charter in force stays so.",
        ),
    ),
    Reason.QUORUM_NOT_MET: Advice(
        _NO_VERDICT,
        Words(
            "章程的签名数见 mrg charter verify，密钥由谁证明见 mrg trust show；请其余的省补足。",
            "mrg charter verify counts a charter's signatures, mrg trust show who attests a key: ask the provinces that"
            " are missing.",
        ),
    ),
    Reason.ROLLED_BACK: Advice(
        _NO_VERDICT,
        Words(
            "转递迟到的，无须处理；如作者的数据是从备份恢复的，见 docs/keys.md《Restored backups》。",
            "Nothing if a relay was late. If its author restored a backup: docs/keys.md, Restored backups.",
        ),
    ),
    Reason.EQUIVOCATION: Advice(
        _NO_VERDICT,
        Words(
            "密钥可能落入他人之手，请立即联系签署方；信任锚的，见 docs/keys.md《An anchor with two tongues》。",
            "Somebody else may have the key: call its owner now. For an anchor: docs/keys.md, An anchor with two"
            " tongues.",
        ),
    ),
    Reason.SEQUENCE_INVALID: Advice(
        _NO_VERDICT,
        Words(
            "请文件的作者核对时钟：首个 seq 是以秒计的时间，过于超前的不予采用。",
            "Have the author look at its clock: the first seq is the time in seconds, and one too far ahead is"
            " refused.",
        ),
    ),
    Reason.SNAPSHOT_MISMATCH: Advice(
        _NO_VERDICT,
        Words(
            "信任锚重新发布期间可能短暂出现；持续不消的，请告知该信任锚所在的省。",
            "It may show for a moment while an anchor publishes anew. If it stays, tell the anchor's province.",
        ),
    ),
    Reason.STATUS_LIST_INVALID: Advice(
        _NO_VERDICT,
        Words(
            "告知签发省；此前的列表在到期前继续使用。",
            "Tell the issuing province; the list held before stays in use until it lapses.",
        ),
    ),
    # Logs.
    Reason.PROOF_INVALID: Advice(
        _CHECKER,
        Words(
            "重新取一次凭据（mrg receipt fetch）；仍不成立的，用 mrg audit verify 核查日志。",
            "Fetch the evidence again (mrg receipt fetch). If it still fails, check the log with mrg audit verify.",
        ),
    ),
    Reason.LOG_FORKED: Advice(
        _CHECKER,
        Words(
            "这是警报：保留现场，告知各省和审计人员；mrg audit seen 列出互相矛盾的日志头。",
            "An alarm: change nothing, tell the other provinces and the auditors; mrg audit seen shows the heads that"
            " contradict each other.",
        ),
    ),
    Reason.LOG_ENTRY_INVALID: Advice(
        _CHECKER,
        Words(
            "用 mrg audit verify 找出该记录；可能有人改动过数据库，在审计人员查看之前不要修复。",
            "mrg audit verify names the entry. Somebody may have edited the database: mend nothing before auditors have"
            " seen it.",
        ),
    ),
    Reason.COSIGNATURES_MISSING: Advice(
        _CHECKER,
        Words(
            "等几秒再取；持续不足的，用 mrg doctor 查看哪些省联系不上。",
            "Ask again in some seconds. If it stays, see with mrg doctor which provinces are not reached.",
        ),
    ),
}
