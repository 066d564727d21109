"""How each RPC is called: by whom, with what, and what may come back besides an answer.

Every call has been made with ``grpcurl`` against the lab. Bodies name shell variables as ``$NAME``; the lines around a
call set them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.core.agreement import Words


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody who may call, and as whom the lab has them."""

    listener: str
    who: Words
    certificate: str
    """In the lab, without the ending: .pem is the certificate, .key the private key."""
    ca: str
    address: str
    """The shell variable with the listener's address in the lab."""


SERVICE: Final = Caller(
    listener="verification",
    who=Words("已登记的业务系统", "relying services, for matters that they are registered for"),
    certificate=".lab/ah/clients/hukou",
    ca=".lab/ah/tls/ca.pem",
    address="VERIFICATION",
)
COURT: Final = Caller(
    listener="verification",
    who=SERVICE.who,
    certificate=".lab/ah/clients/court",
    ca=SERVICE.ca,
    address=SERVICE.address,
)
IDENTITY: Final = Caller(
    listener="verification",
    who=Words("本省的身份认证系统", "identity systems of the province"),
    certificate=".lab/sh/clients/identity",
    ca=".lab/sh/tls/ca.pem",
    address="ISSUER",
)
PEER: Final = Caller(
    listener="federation",
    who=Words("持有任一省所发证书的程序", "anybody whose certificate one of the provinces issued"),
    certificate=".lab/sh/tls/server",
    ca=".lab/sh/tls/peers/ah.pem",
    address="FEDERATION",
)
GATEWAY: Final = Caller(
    listener="federation",
    who=Words("其他省的网关", "gateways of other provinces"),
    certificate=PEER.certificate,
    ca=PEER.ca,
    address=PEER.address,
)


def _administrator(role: str) -> Caller:
    return Caller(
        listener="admin",
        who=Words(f"具有 `{role}` 角色的管理员", f"administrators with the role `{role}`"),
        certificate=".lab/ah/clients/admin-1",
        ca=".lab/ah/tls/ca.pem",
        address="ADMIN",
    )


KEYS: Final = _administrator("keys")
ANCHOR: Final = _administrator("anchor")
EXPLAIN: Final = _administrator("explain")
DISPUTES: Final = _administrator("disputes")
AUDITOR: Final = Caller(
    listener="admin",
    who=Words("审计人员", "auditors"),
    certificate=".lab/ah/clients/auditor-1",
    ca=".lab/ah/tls/ca.pem",
    address="ADMIN",
)

ADDRESSES: Final[Mapping[str, str]] = {
    "VERIFICATION": r"""sed -n 's/^address = "\(.*\)"/\1/p' .lab/ah/clients/hukou.toml""",
    "ISSUER": r"""sed -n 's/^address = "\(.*\)"/\1/p' .lab/sh/clients/identity.toml""",
    "FEDERATION": r"""sed -n '/^\[listeners.federation\]/,/^address/s/^address = "\(.*\)"/\1/p' .lab/ah/gateway.toml""",
    "ADMIN": r"""sed -n 's/^address = "\(.*\)"/\1/p' .lab/ah/clients/admin-1.toml""",
}
"""How the lab's addresses are found: it takes other ports each time it is made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One RPC, as it is called in the lab."""

    zh: str
    """What it does, in Chinese."""
    callers: Sequence[Caller]
    """All who may. The first one calls, unless ``calls`` says who does."""
    body: Mapping[str, Any]
    calls: Caller | None = None
    before: Sequence[str] = ()
    """Shell lines."""
    kept: str = ""
    """The file in .lab/try that the answer is kept in; empty: none."""
    after: Sequence[str] = ()
    errors: Mapping[str, str] = field(default_factory=dict)
    """Besides those that every call may meet: code and when."""
    ends: str = ""
    """The code that the lab answers this with; empty: OK."""
    note: str = ""
    """What is to be known about the sample."""
    options: Sequence[str] = ()


def _name(variable: str, member: str, file: str) -> str:
    return f"""{variable}=$(sed -n 's/.*"{member}": "\\(.*\\)".*/\\1/p' .lab/try/{file} | head -n 1)"""


def _first(variable: str, member: str, file: str) -> str:
    return f"""{variable}=$(sed -n '/"{member}"/{{n;s/.*"\\(.*\\)".*/\\1/p;q;}}' .lab/try/{file})"""


def _assertion(file: str) -> tuple[str, ...]:
    return (
        "mrg issue assertion --as .lab/sh/clients/identity.toml --subject register-0001 \\",
        "  --acr urn:yrd:loa:3 --amr face --claims name=徐某 \\",
        f"  --audience https://gateway.ah.mrg.example/services/court --out .lab/try/{file}.assertion",
    )


_NOW: Final = "NOW=$(date -u +%Y-%m-%dT%H:%M:%SZ)"
_HOLDER: Final = '{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}'
"""The public key of RFC 8037, appendix A.2."""
_FACE: Final = {"acr": "urn:yrd:loa:4", "amr": ["face"], "authentication_time": "$NOW"}
_NO_KEY: Final = "there never was a key of that purpose or `kid` in this province"
_HELD: Final = {"NOT_FOUND": "it is not held here, which says nothing about it"}
_NO_DECISION: Final = "there is no verification under that number, or none that the caller may see"
_NO_MEMBER: Final = "the charter does not name the member, or no key of it was enrolled here"
_NO_LOG: Final = "there is no log of that name here"
_KEY_PURPOSE: Final = "KEY_PURPOSE_CREDENTIAL"
_OF_SHANGHAI: Final = "https://issuer.sh.mrg.example"
_TRIED: Final = "With `validate_only` nothing is changed."

BEFORE: Final[Mapping[str, Sequence[str]]] = {
    "VerificationService": (
        "mrg issue credential --as .lab/sh/clients/identity.toml --type urn:yrd:credential:resident-id:1 \\",
        "  --subject register-0001 --acr urn:yrd:loa:4 --amr face --claims @.lab/xu.json \\",
        "  --holder-key .lab/try/xu.pem --out .lab/try/xu.credential",
    ),
    "AuditService": (
        *_assertion("audit"),
        "mrg verify .lab/try/audit.assertion --as .lab/ah/clients/court.toml --matter KY-LA --json \\",
        "  > .lab/try/verdict.json",
        _name("VERIFICATION_ID", "verification_id", "verdict.json"),
        "# Waits until another province has seen it",
        'mrg receipt fetch "$VERIFICATION_ID" --out .lab/try/evidence.json --as .lab/ah/clients/court.toml',
    ),
}
"""Shell lines that the calls of a service need done before."""

CALLS: Final[Mapping[str, Mapping[str, Call]]] = {
    "VerificationService": {
        "CreateChallenge": Call(
            zh="为一次出示取得随机数和受众",
            callers=(SERVICE,),
            body={"matter": "HK-QY"},
            kept="challenge.json",
            after=(_name("NONCE", "nonce", "challenge.json"),),
        ),
        "VerifyCredential": Call(
            zh="核验一份凭证或断言，记录并答复判定",
            callers=(SERVICE,),
            before=(
                'mrg present .lab/try/xu.credential --holder-key .lab/try/xu.pem --all --nonce "$NONCE" \\',
                "  --audience https://gateway.ah.mrg.example/services/hukou --out .lab/try/xu.presentation",
                "PRESENTATION=$(cat .lab/try/xu.presentation)",
            ),
            body={
                "matter": "HK-QY",
                "presentation": "$PRESENTATION",
                "nonce": "$NONCE",
                "request_id": "case-0001",
            },
            kept="verdict.json",
            after=(_name("VERIFICATION_ID", "verificationId", "verdict.json"),),
            note="A verdict is an answer: `rejected` and `indeterminate` come with OK too.",
        ),
        "BatchVerifyCredentials": Call(
            zh="一次核验至多一千份，逐份判定",
            callers=(SERVICE,),
            calls=COURT,
            before=(
                *_assertion("first"),
                *_assertion("second"),
                "FIRST=$(cat .lab/try/first.assertion)",
                "SECOND=$(cat .lab/try/second.assertion)",
            ),
            body={
                "items": [
                    {"matter": "KY-LA", "presentation": "$FIRST"},
                    {"matter": "KY-LA", "presentation": "$SECOND"},
                ]
            },
            errors={"RESOURCE_EXHAUSTED": "also when the caller has four batches under way, or eight are in all"},
        ),
        "StreamVerifyCredentials": Call(
            zh="在一条流上核验任意多份",
            callers=(SERVICE,),
            calls=COURT,
            before=(*_assertion("third"), "THIRD=$(cat .lab/try/third.assertion)"),
            body={"items": [{"item_id": "1", "request": {"matter": "KY-LA", "presentation": "$THIRD"}}]},
            errors={
                "CANCELLED": "nobody read the answers for half a minute",
                "UNAVAILABLE": "also when it came to its age, or nothing was sent for minutes; open another one",
            },
            note=(
                "`-d` takes several messages, one JSON object after the other; with `-d @` they come from the standard"
                " input."
            ),
        ),
        "ExplainVerification": Call(
            zh="逐步说明一次判定的由来",
            callers=(SERVICE, EXPLAIN),
            body={"verification_id": "$VERIFICATION_ID"},
            errors={"NOT_FOUND": _NO_DECISION},
            note="A service is told of its own decisions, where its registration has `explain = true`.",
        ),
        "RecordConsent": Call(
            zh="登记当事人的同意",
            callers=(SERVICE,),
            body={"matter": "XS-RH", "claims": ["name", "id_number"], "lifetime": "7776000s"},
            kept="consent.json",
            after=(_name("CONSENT_ID", "consentId", "consent.json"),),
        ),
        "WithdrawConsent": Call(
            zh="登记当事人撤回同意",
            callers=(SERVICE,),
            body={"consent_id": "$CONSENT_ID"},
            errors={"NOT_FOUND": "the caller recorded no consent under that reference"},
            note="Only the service that recorded it may withdraw it.",
        ),
    },
    "IssuanceService": {
        "IssueCredential": Call(
            zh="签发身份凭证",
            callers=(IDENTITY,),
            before=(_NOW,),
            body={
                "local_subject": "register-0001",
                "credential_type": "urn:yrd:credential:resident-id:1",
                "claims": {
                    "name": "徐某",
                    "id_type": "resident_id",
                    "id_number": "310101190001010011",
                    "hukou_region": "310101",
                },
                "holder_jwk": _HOLDER,
                "authentication": _FACE,
            },
            kept="issued.json",
            after=(_name("CREDENTIAL_ID", "credentialId", "issued.json"),),
        ),
        "IssueAssertion": Call(
            zh="签发身份断言",
            callers=(IDENTITY,),
            before=(_NOW,),
            body={
                "local_subject": "register-0001",
                "audience": "https://gateway.ah.mrg.example/services/court",
                "claims": {"name": "徐某"},
                "authentication": _FACE,
            },
        ),
        "SetCredentialStatus": Call(
            zh="吊销、暂停、恢复凭证，或声明所载信息已变更",
            callers=(IDENTITY,),
            body={"targets": [{"credential_id": "$CREDENTIAL_ID"}], "status": "CREDENTIAL_STATUS_SUSPENDED"},
        ),
        "GetCredentialStatus": Call(
            zh="查询凭证的状态",
            callers=(IDENTITY,),
            body={"target": {"credential_id": "$CREDENTIAL_ID"}},
        ),
        "ListStatusLists": Call(zh="列出本签发方的状态列表", callers=(IDENTITY,), body={}),
    },
    "FederationService": {
        "GetCharter": Call(zh="取得章程", callers=(PEER,), body={"version": 1}, errors=_HELD),
        "GetEntityConfiguration": Call(
            zh="取得实体自己签署的配置",
            callers=(PEER,),
            body={"entity_id": "https://issuer.ah.mrg.example"},
            errors=_HELD,
        ),
        "GetSubordinateStatement": Call(
            zh="取得信任锚对成员的声明",
            callers=(PEER,),
            body={"issuer": "https://anchor.ah.mrg.example", "subject": _OF_SHANGHAI},
            errors=_HELD,
        ),
        "GetStatusList": Call(
            zh="取得状态列表",
            callers=(PEER,),
            before=(
                "mrg status show --as .lab/sh/clients/identity.toml --json > .lab/try/lists.json",
                _name("LIST", "uri", "lists.json"),
            ),
            body={"uri": "$LIST"},
            errors=_HELD,
        ),
        "GetHistoricalKeys": Call(
            zh="取得实体过去用过的密钥",
            callers=(PEER,),
            body={"entity_id": "https://issuer.ah.mrg.example"},
            errors={"NOT_FOUND": "the entity is not one of this gateway's"},
        ),
        "GetTrust": Call(zh="一次取得所持的全部信任文件", callers=(PEER,), body={}),
        "WatchTrust": Call(
            zh="持续取得信任文件：立即一次，此后每有变化再来一次",
            callers=(PEER,),
            body={},
            options=("-max-time", "3"),
            ends="DEADLINE_EXCEEDED",
            note="The stream has no end of its own; `-max-time` leaves it after three seconds.",
            errors={"CANCELLED": "a newer stream of the same province took the place of this one"},
        ),
        "AcknowledgeTrust": Call(
            zh="接收其他网关签署的回执：它执行的是哪一版信任数据",
            callers=(PEER,),
            body={"acknowledgement": "JWS"},
            ends="INVALID_ARGUMENT",
            note=(
                "Only the federation key of another province's gateway makes one that is taken, as a running gateway"
                " does by itself after each change."
            ),
        ),
    },
    "KeyService": {
        "ListKeys": Call(zh="列出本省的签名密钥", callers=(KEYS,), body={"purpose": _KEY_PURPOSE}),
        "PlanRotation": Call(
            zh="说明换钥会做什么；不作改动",
            callers=(KEYS,),
            body={"purpose": _KEY_PURPOSE},
            kept="rotation.json",
            after=(_name("CURRENT", "currentKid", "rotation.json"), _name("NEXT", "nextKid", "rotation.json")),
            errors={"NOT_FOUND": _NO_KEY},
        ),
        "ApplyRotation": Call(
            zh="生成并公布下一把密钥",
            callers=(KEYS,),
            body={"purpose": _KEY_PURPOSE, "validate_only": True},
            errors={
                "NOT_FOUND": _NO_KEY,
                "FAILED_PRECONDITION": "it cannot be done as things stand",
                "ABORTED": "the plan has changed since its `etag` was looked at",
            },
            note=_TRIED,
        ),
        "ActivateKey": Call(
            zh="让已公布的密钥开始签名",
            callers=(KEYS,),
            body={
                "kid": "$NEXT",
                "override": True,
                "justification": "a drill",
                "validate_only": True,
            },
            errors={
                "NOT_FOUND": _NO_KEY,
                "FAILED_PRECONDITION": "somebody does not hold it yet; each violation says who",
            },
            note=f"{_TRIED} Without `override`, a new lab answers `FAILED_PRECONDITION` for some minutes.",
        ),
        "UndoRotation": Call(
            zh="收回尚未签过名的密钥",
            callers=(KEYS,),
            body={"kid": "$NEXT", "validate_only": True},
            errors={"NOT_FOUND": _NO_KEY, "FAILED_PRECONDITION": "it has signed already, or is out of use"},
            note=_TRIED,
        ),
        "RevokeKey": Call(
            zh="永久吊销密钥，由备用密钥接替",
            callers=(KEYS,),
            body={"kid": "$CURRENT", "reason": "REVOCATION_REASON_COMPROMISED", "validate_only": True},
            errors={
                "NOT_FOUND": _NO_KEY,
                "FAILED_PRECONDITION": "it is revoked already, or an anchor's, which the charter revokes",
            },
            note=_TRIED,
        ),
        "ListAcknowledgements": Call(
            zh="列出哪些网关持有或拒绝某把密钥", callers=(KEYS,), body={"kid": "$NEXT"}, errors={"NOT_FOUND": _NO_KEY}
        ),
    },
    "AnchorService": {
        "ListMembers": Call(
            zh="列出成员，以及本信任锚对各成员的说法",
            callers=(ANCHOR,),
            body={"page_size": 1},
            kept="members.json",
            after=(_name("MEMBER", "entityId", "members.json"), _first("KEY", "federationKeys", "members.json")),
        ),
        "ListPendingChanges": Call(zh="列出等待批准的新密钥", callers=(ANCHOR,), body={}),
        "ApproveChange": Call(
            zh="批准变更",
            callers=(ANCHOR,),
            body={"change_id": "CHANGE", "validate_only": True},
            errors={"NOT_FOUND": "no such change waits"},
            ends="NOT_FOUND",
            note="The lab's anchors approve by themselves; see [Keys](../keys.md#approval-by-hand).",
        ),
        "RejectChange": Call(
            zh="否决变更",
            callers=(ANCHOR,),
            body={"change_id": "CHANGE", "validate_only": True},
            errors={"NOT_FOUND": "no such change waits"},
            ends="NOT_FOUND",
            note="As above.",
        ),
        "EnrolMember": Call(
            zh="登记经人工比对的成员联邦密钥",
            callers=(ANCHOR,),
            body={"entity_id": "$MEMBER", "federation_key": "$KEY", "replace": True, "validate_only": True},
            errors={"NOT_FOUND": _NO_MEMBER, "FAILED_PRECONDITION": "it is enrolled already, or was revoked for good"},
            note=_TRIED,
        ),
        "SuspendMember": Call(
            zh="暂停对成员的认可",
            callers=(ANCHOR,),
            before=("UNTIL=$(date -u -d '+1 day' +%Y-%m-%dT%H:%M:%SZ)",),
            body={"entity_id": "$MEMBER", "until_time": "$UNTIL", "reason": "a drill"},
            errors={"NOT_FOUND": _NO_MEMBER, "FAILED_PRECONDITION": "it was revoked for good"},
            note="This does suspend it. One anchor's vote less changes no verdict in the lab; the next call ends it.",
        ),
        "ResumeMember": Call(
            zh="结束暂停",
            callers=(ANCHOR,),
            body={"entity_id": "$MEMBER"},
            errors={"NOT_FOUND": _NO_MEMBER, "FAILED_PRECONDITION": "it is not suspended, or was revoked for good"},
        ),
        "RevokeMember": Call(
            zh="永久撤回对成员的认可",
            callers=(ANCHOR,),
            body={"entity_id": "$MEMBER", "reason": "a drill", "validate_only": True},
            errors={"NOT_FOUND": _NO_MEMBER, "FAILED_PRECONDITION": "it was revoked already"},
            note=_TRIED,
        ),
    },
    "AuditService": {
        "ListEntries": Call(
            zh="按所涉内容列出日志记录",
            callers=(AUDITOR,),
            body={"filter": {"kinds": ["verification"]}, "page_size": 1, "newest_first": True},
            errors={"NOT_FOUND": _NO_LOG},
        ),
        "GetCheckpoint": Call(
            zh="取得日志最新的、或达到某个长度的签名日志头",
            callers=(AUDITOR, GATEWAY),
            body={},
            kept="checkpoint.json",
            after=(_first("COSIGNATURE", "cosignatures", "checkpoint.json"),),
            errors={"NOT_FOUND": _NO_LOG},
        ),
        "GetInclusionProof": Call(
            zh="证明某条记录在日志中",
            callers=(AUDITOR, GATEWAY),
            body={"position": 0, "size": 2},
            errors={"NOT_FOUND": _NO_LOG},
        ),
        "GetConsistencyProof": Call(
            zh="证明后来的日志头延续了先前的",
            callers=(AUDITOR, GATEWAY),
            body={"old_size": 1, "new_size": 2},
            errors={"NOT_FOUND": _NO_LOG},
        ),
        "CosignCheckpoint": Call(
            zh="接收其他网关对日志头的联署",
            callers=(GATEWAY,),
            body={"cosignature": "$COSIGNATURE"},
            errors={"NOT_FOUND": "no such head was signed here, or it is no longer kept"},
            note="A cosignature that is held already is taken again, and changes nothing.",
        ),
        "ListLogs": Call(zh="列出各份日志、见证情况和发现的矛盾", callers=(AUDITOR,), body={}),
        "GetEvidence": Call(
            zh="取得一次核验的全部凭据",
            callers=(SERVICE, GATEWAY, AUDITOR),
            calls=COURT,
            body={"verification_id": "$VERIFICATION_ID"},
            errors={"NOT_FOUND": _NO_DECISION},
            note="A service is given the evidence of its own verifications, a gateway that about its issuer's persons.",
        ),
        "ListDisclosures": Call(
            zh="查询谁在何时为何事核验过某人的身份",
            callers=(IDENTITY, GATEWAY),
            body={"local_subject": "register-0001"},
            note="Identity systems ask by `local_subject`, other gateways by `subjects`.",
        ),
        "OpenDispute": Call(
            zh="登记对一次核验的异议",
            callers=(IDENTITY, DISPUTES),
            calls=DISPUTES,
            body={
                "verification_id": "$VERIFICATION_ID",
                "ground": "DISPUTE_GROUND_NOT_ME",
                "case_reference": "case-0001",
            },
            kept="dispute.json",
            after=(_name("DISPUTE_ID", "disputeId", "dispute.json"),),
            errors={"NOT_FOUND": _NO_DECISION, "FAILED_PRECONDITION": "it is contested as often as it may be"},
        ),
        "ResolveDispute": Call(
            zh="登记异议的处理结果",
            callers=(DISPUTES,),
            body={"dispute_id": "$DISPUTE_ID", "outcome": "DISPUTE_OUTCOME_WITHDRAWN"},
            errors={"NOT_FOUND": "there is no such dispute", "FAILED_PRECONDITION": "it was settled otherwise"},
        ),
        "GetDispute": Call(
            zh="查看一项异议及其凭据",
            callers=(IDENTITY, DISPUTES, AUDITOR),
            calls=DISPUTES,
            body={"dispute_id": "$DISPUTE_ID", "with_evidence": True},
            errors={"NOT_FOUND": "there is no such dispute"},
        ),
        "ListDisputes": Call(zh="列出异议，最新的在前", callers=(DISPUTES, AUDITOR), body={}),
    },
}
