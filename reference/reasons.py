"""``docs/reasons.md`` and ``docs/reasons.zh-CN.md``: every reason, for clerks, developers and administrators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from gateway.core.agreement import Words
from gateway.core.explanation import advice, title
from gateway.core.findings import Step
from gateway.core.reasons import Reason
from gateway.core.texts import Language, next_step, text
from reference.contract import File
from reference.markdown import marked, wrapped
from reference.texts import number, verdict

STEPS: Final[Mapping[Reason, Sequence[Step]]] = {
    Reason.MALFORMED: (Step.STRUCTURE, Step.DISCLOSURES),
    Reason.TOO_LARGE: (Step.STRUCTURE, Step.DISCLOSURES),
    Reason.HEADER_NOT_ALLOWED: (Step.STRUCTURE,),
    Reason.TYPE_MISMATCH: (Step.STRUCTURE,),
    Reason.ALGORITHM_NOT_ALLOWED: (Step.STRUCTURE, Step.SIGNATURE),
    Reason.HASH_NOT_ALLOWED: (Step.DISCLOSURES,),
    Reason.ISSUER_UNKNOWN: (Step.STRUCTURE, Step.KEY),
    Reason.KEY_UNKNOWN: (Step.KEY,),
    Reason.SIGNATURE_INVALID: (Step.SIGNATURE,),
    Reason.ISSUER_NOT_AUTHORISED: (Step.SIGNATURE, Step.STATEMENT),
    Reason.KEY_REVOKED: (Step.KEY, Step.STATEMENT),
    Reason.ISSUER_WITHDRAWN: (Step.KEY,),
    Reason.CLAIM_INVALID: (Step.STATEMENT, Step.DISCLOSURES, Step.POLICY),
    Reason.EXPIRED: (Step.STATEMENT,),
    Reason.NOT_YET_VALID: (Step.STATEMENT,),
    Reason.LIFETIME_TOO_LONG: (Step.STATEMENT,),
    Reason.DISCLOSURE_INVALID: (Step.DISCLOSURES,),
    Reason.KEY_BINDING_MISSING: (Step.BINDING,),
    Reason.KEY_BINDING_INVALID: (Step.BINDING,),
    Reason.AUDIENCE_MISMATCH: (Step.BINDING,),
    Reason.NONCE_MISMATCH: (Step.BINDING,),
    Reason.REPLAYED: (Step.LEDGER,),
    Reason.CREDENTIAL_TYPE_NOT_ACCEPTED: (Step.POLICY,),
    Reason.CREDENTIAL_TOO_OLD: (Step.POLICY,),
    Reason.AUTHENTICATION_TOO_OLD: (Step.POLICY,),
    Reason.ASSURANCE_UNKNOWN: (Step.STATEMENT,),
    Reason.ASSURANCE_ABOVE_CAP: (Step.STATEMENT,),
    Reason.ASSURANCE_TOO_LOW: (Step.POLICY,),
    Reason.REQUIRED_CLAIM_MISSING: (Step.POLICY,),
    Reason.SUBJECT_TYPE_NOT_ACCEPTED: (Step.POLICY,),
    Reason.ACTOR_MISSING: (Step.POLICY,),
    Reason.ACTOR_NOT_ACCEPTED: (Step.POLICY,),
    Reason.AUTHORITY_EXCEEDED: (Step.POLICY,),
    Reason.CONSENT_MISSING: (Step.POLICY,),
    Reason.CONSENT_INVALID: (Step.POLICY, Step.LEDGER),
    Reason.CONSENT_WITHDRAWN: (Step.POLICY, Step.LEDGER),
    Reason.CREDENTIAL_REVOKED: (Step.STATUS,),
    Reason.CREDENTIAL_SUSPENDED: (Step.STATUS,),
    Reason.ATTRIBUTES_STALE: (Step.STATUS,),
    Reason.STATUS_MISSING: (Step.STATUS,),
    Reason.STATUS_INVALID: (Step.STATUS,),
    Reason.TRUST_STALE: (Step.KEY, Step.STATEMENT),
    Reason.STATUS_UNAVAILABLE: (Step.STATUS,),
    Reason.CLOCK_REGRESSED: (Step.KEY,),
}
"""At which steps of a verification a reason decides. Those that are not here never come with a verdict."""


@dataclass(frozen=True, slots=True)
class Group:
    """Reasons that stand together, as in the enum."""

    first: Reason
    title: Words


GROUPS: Final = (
    Group(Reason.MALFORMED, Words("出示的内容无法读取", "What was sent cannot be read")),
    Group(Reason.ISSUER_UNKNOWN, Words("由谁签发", "Who signed it")),
    Group(Reason.CLAIM_INVALID, Words("内容", "What it says")),
    Group(Reason.KEY_BINDING_MISSING, Words("谁出示、给谁", "Who presents it, to whom")),
    Group(Reason.CREDENTIAL_TYPE_NOT_ACCEPTED, Words("事项要求", "What the matter demands")),
    Group(Reason.CREDENTIAL_REVOKED, Words("后来怎样了", "What became of it")),
    Group(Reason.TRUST_STALE, Words("网关为何无法判断", "Why the gateway cannot tell")),
    Group(Reason.STATEMENT_INVALID, Words("信任文件", "Trust documents")),
    Group(Reason.PROOF_INVALID, Words("判定日志", "Logs of verdicts")),
)

_HEAD: Final = {
    Language.EN: """\
# Reasons, one by one

[中文](reasons.zh-CN.md) · [README](../README.md) · [Verdicts](verdicts.md) · [API](api/README.md)

Why something was not accepted, or could not be told: what each reason means, and what the clerk, the developer and the
administrator do now. The set is closed; a number, once given, is never used for anything else. A program that meets a
number it does not know treats `rejected` as rejected, `indeterminate` as indeterminate, and has support called.

Two things hold for all of them. None calls anybody a forger: most of what fails is software. And `indeterminate` is no
refusal: nobody is turned away for it.

The same words are in [`clients/texts.json`](../clients/texts.json), for client libraries. This page is written by
`make docs` from the program's own texts; it is changed there.
""",
    Language.ZH: """\
# 原因逐条说明

[English](reasons.md) · [README](../README.zh-CN.md) · [核验判定](verdicts.zh-CN.md) · [API](api/README.zh-CN.md)

为什么不予认可，或者为什么无法判断：每个原因是什么意思，窗口人员、开发者和管理员各自怎么办。原因是一个封闭的集合，编号从不挪作他用。
程序遇到不认识的编号时，`rejected` 仍按不予认可处理，`indeterminate` 仍按无法判断处理，并提示联系技术支持。

有两点适用于全部原因：没有一个原因指认任何人造假，多数失败出自软件；`indeterminate` 不是拒绝，不得据此退件。

同样的文字在 [`clients/texts.json`](../clients/texts.json) 中供客户端库使用。本页由 `make docs`
根据程序自己的文字写成；要改，请改那里。
""",
}
_LABELS: Final = {
    Language.EN: ("Means", "Contract", "Clerk", "Developer", "Administrator"),
    Language.ZH: ("含义", "契约原文", "窗口人员", "开发者", "管理员"),
}


def members(group: Group) -> Sequence[Reason]:
    """Give the reasons of a group."""
    firsts = {each.first for each in GROUPS}
    following = list(Reason)[list(Reason).index(group.first) + 1 :]
    return [group.first, *takewhile(lambda reason: reason not in firsts, following)]


def write_reasons(language: Language, contract: Sequence[File]) -> str:
    """Write the page in one language."""
    comments = {
        value.name.removeprefix("REASON_"): value.comment
        for file in contract
        for enum in file.enums
        if enum.name == "Reason"
        for value in enum.values
    }
    parts = [_HEAD[language]]
    for group in GROUPS:
        parts.append(f"## {_in(language, group.title)}\n")
        parts += ["\n".join(_section(reason, language, comments[reason.value])) + "\n" for reason in members(group)]
    return "\n".join(parts)


def _section(reason: Reason, language: Language, comment: str) -> Iterator[str]:
    words, mend = text(reason, language), advice(reason)
    yield f"### {reason}"
    yield ""
    yield wrapped(_where(reason, language))
    yield ""
    told = (
        words.what,
        comment,
        f"{words.next_step} (`{next_step(reason)}`)"
        if language is Language.EN
        else f"{words.next_step}（`{next_step(reason)}`）",
        marked(_in(language, mend.developer)),
        marked(_in(language, mend.administrator)),
    )
    for label, what in zip(_LABELS[language], told, strict=True):
        colon = ":" if language is Language.EN else "："
        yield wrapped(f"- **{label}**{colon}{' ' if language is Language.EN else ''}{what}", "  ")


def _where(reason: Reason, language: Language) -> str:
    steps = STEPS.get(reason, ())
    if language is Language.EN:
        if not steps:
            return f"Number {number(reason)}; of documents and logs, never with a verdict."
        named = " or ".join(f"{step.value} ({title(step).en})" for step in steps)
        return f"Number {number(reason)}; verdict `{verdict(reason)}`; at step {named}."
    if not steps:
        return f"编号 {number(reason)}；用于文件和日志，判定从不带有。"
    named = "或".join(f"第 {step.value} 步（{title(step).zh}）" for step in steps)
    return f"编号 {number(reason)}；判定为 `{verdict(reason)}`；出现在{named}。"


def _in(language: Language, words: Words) -> str:
    return words.zh if language is Language.ZH else words.en
