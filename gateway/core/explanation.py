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
        title=_TITLES[step],
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


def fix(reason: Reason) -> Words:
    """Say what would mend it, to whoever runs a gateway or writes its clients."""
    return _FIXES.get(reason, _SEE_TRUST)


_SEE_TRUST: Final = Words(
    "用 mrg trust show 和 mrg doctor 查看信任数据。", "Look at the trust data with mrg trust show and mrg doctor."
)
_WALLET: Final = Words(
    "检查钱包或签发软件：出示内容不符合线上格式（见 README《Documents on the wire》）。",
    "Mend the wallet or the issuing software: what was presented breaks the wire format (README, Documents on the"
    " wire).",
)
_ISSUER_SOFTWARE: Final = Words(
    "请签发方按章程中的条款签发（见 mrg charter show）。",
    "Have the issuer issue by the terms of the charter (see mrg charter show).",
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
_STATUS: Final = Words(
    "用 mrg doctor 查看状态列表的时间；签发省恢复联系后会自动更新。",
    "See with mrg doctor how old the status lists are; they are renewed by themselves once the issuing province is"
    " reachable.",
)
_AS_ISSUED: Final = Words(
    "这是签发方的决定；用 mrg status show 可在签发省查看。", "The issuer decided so; mrg status show tells more there."
)
_OTHER_PARTY: Final = Words(
    "对照 mrg charter show 中该事项的 parties 与 subject_types，改由有权者出示。",
    "Compare parties and subject_types of the matter in mrg charter show, and have somebody present who may.",
)

_FIXES: Final[Mapping[Reason, Words]] = {
    Reason.MALFORMED: _WALLET,
    Reason.TOO_LARGE: _WALLET,
    Reason.HEADER_NOT_ALLOWED: _WALLET,
    Reason.TYPE_MISMATCH: _WALLET,
    Reason.HASH_NOT_ALLOWED: _WALLET,
    Reason.DISCLOSURE_INVALID: _WALLET,
    Reason.SIGNATURE_INVALID: _WALLET,
    Reason.ALGORITHM_NOT_ALLOWED: Words(
        "章程为该签发方列出的算法不含此算法，或已过停用日期；请签发方换用，或修改协议。",
        "The charter does not list this algorithm for the issuer, or its sunset has passed: have the issuer use"
        " another, or change the agreement.",
    ),
    Reason.ISSUER_NOT_AUTHORISED: Words(
        "协议没有该签发方的条款，或信任锚未授予这种凭证类型。",
        "The agreement has no terms for the issuer, or the anchors do not grant it this type.",
    ),
    Reason.KEY_REVOKED: Words(
        "签发方已吊销该密钥；凭证须重新签发。", "The issuer revoked the key; the credential has to be issued anew."
    ),
    Reason.CLAIM_INVALID: _ISSUER_SOFTWARE,
    Reason.EXPIRED: Words("重新签发；并核对双方时钟。", "Have it issued anew; compare the clocks of both sides."),
    Reason.NOT_YET_VALID: Words("核对签发方与本网关的时钟。", "Compare the issuer's clock with this gateway's."),
    Reason.LIFETIME_TOO_LONG: _ISSUER_SOFTWARE,
    Reason.ASSURANCE_UNKNOWN: _ISSUER_SOFTWARE,
    Reason.ASSURANCE_ABOVE_CAP: _ISSUER_SOFTWARE,
    Reason.KEY_BINDING_MISSING: _BINDING,
    Reason.KEY_BINDING_INVALID: _BINDING,
    Reason.AUDIENCE_MISMATCH: _BINDING,
    Reason.NONCE_MISMATCH: _BINDING,
    Reason.REPLAYED: _BINDING,
    Reason.CREDENTIAL_TYPE_NOT_ACCEPTED: Words(
        "对照 mrg charter show 中该事项的 credential_types。",
        "Compare credential_types of the matter in mrg charter show.",
    ),
    Reason.CREDENTIAL_TOO_OLD: Words(
        "凭证早于事项的 max_credential_age_seconds；重新签发。",
        "The credential is older than the matter's max_credential_age_seconds; have it issued anew.",
    ),
    Reason.AUTHENTICATION_TOO_OLD: Words(
        "认证早于事项的 max_authentication_age_seconds；重新认证后再签发。",
        "The authentication is older than the matter's max_authentication_age_seconds; authenticate, then issue anew.",
    ),
    Reason.ASSURANCE_TOO_LOW: Words(
        "比较 effective 与事项的 min_assurance；断言与不带持有证明的出示，fal 最多为 2。",
        "Compare effective with the matter's min_assurance; without a proof of possession, fal counts as 2 at most.",
    ),
    Reason.REQUIRED_CLAIM_MISSING: Words(
        "请持有人披露 required_claims，以及所提问题涉及的信息。",
        "Have the holder disclose required_claims and what the questions are about.",
    ),
    Reason.SUBJECT_TYPE_NOT_ACCEPTED: _OTHER_PARTY,
    Reason.ACTOR_MISSING: _OTHER_PARTY,
    Reason.ACTOR_NOT_ACCEPTED: _OTHER_PARTY,
    Reason.AUTHORITY_EXCEEDED: Words(
        "请签发方签发 act.scope 含本事项代码且未到期的凭证。",
        "Have a credential issued whose act.scope names the matter's code and whose authority has not ended.",
    ),
    Reason.CONSENT_MISSING: _CONSENT,
    Reason.CONSENT_INVALID: _CONSENT,
    Reason.CONSENT_WITHDRAWN: _CONSENT,
    Reason.CREDENTIAL_REVOKED: _AS_ISSUED,
    Reason.CREDENTIAL_SUSPENDED: _AS_ISSUED,
    Reason.ATTRIBUTES_STALE: Words(
        "所载信息已变更，旧凭证不再可用；请重新签发。",
        "What it states has changed and it is of no more use: issue a new one.",
    ),
    Reason.STATUS_MISSING: _ISSUER_SOFTWARE,
    Reason.STATUS_INVALID: _ISSUER_SOFTWARE,
    Reason.STATUS_UNAVAILABLE: _STATUS,
}
