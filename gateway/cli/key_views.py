"""Keys, rotations and who holds what: as the documents that ``--json`` prints, and as tables for people.

A table is drawn from the document, so that both say the same. Every key of a document is always there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final

import typer
from google.protobuf.message import Message
from recognition.v1 import keys_pb2
from rich.text import Text

from gateway.cli import connection
from gateway.cli.console import Cell, Lang, Screen, away, instant

STYLES: Final[Mapping[str, str]] = {
    "staged": "cyan",
    "published": "yellow",
    "active": "bold green",
    "draining": "green",
    "retired": "dim",
    "revoked": "bold red",
}
_SINCE: Final[Mapping[str, str]] = {
    "staged": "staged_at",
    "published": "published_at",
    "active": "activated_at",
    "draining": "drained_at",
    "retired": "retired_at",
    "revoked": "revoked_at",
}
SHORT_KID: Final = 12
"""So much of a kid tells two keys of a province apart on a screen."""


class Purpose(StrEnum):
    """What a key signs, as it is written on the command line."""

    CREDENTIAL = "credential"
    STATUS = "status"
    ISSUER_FEDERATION = "issuer-federation"
    GATEWAY_FEDERATION = "gateway-federation"
    ANCHOR_FEDERATION = "anchor-federation"
    RECEIPT = "receipt"
    AUDIT = "audit"

    @property
    def number(self) -> keys_pb2.KeyPurpose.ValueType:
        """The purpose in a message."""
        return keys_pb2.KeyPurpose.Value(f"KEY_PURPOSE_{self.value.upper().replace('-', '_')}")


PurposeOption = Annotated[Purpose | None, typer.Option("--purpose", help="Only keys of this purpose.")]

_SIGNS: Final[Mapping[str, tuple[str, str]]] = {
    Purpose.CREDENTIAL: ("凭证与断言", "credentials and assertions"),
    Purpose.STATUS: ("状态列表", "status lists"),
    Purpose.ISSUER_FEDERATION: ("签发机构的实体声明和撤销事件", "the issuer's entity configuration and events"),
    Purpose.GATEWAY_FEDERATION: ("网关的实体声明和确认", "the gateway's entity configuration and acknowledgements"),
    Purpose.ANCHOR_FEDERATION: ("信任锚的实体声明和下级声明", "the anchor's configuration and statements"),
    Purpose.RECEIPT: ("核验回执", "verification receipts"),
    Purpose.AUDIT: ("审计检查点及对他省检查点的联署", "audit checkpoints, and cosignatures of other provinces'"),
}
_TOO_EARLY: Final[Mapping[str, tuple[str, str]]] = {
    Purpose.CREDENTIAL: (
        "过早启用：尚未持有新密钥的网关无法判断新签发的凭证。",
        "Too early: gateways that do not hold the new key could not judge what is newly issued.",
    ),
    Purpose.STATUS: (
        "过早启用：尚未持有新密钥的网关无法判断凭证状态。",
        "Too early: gateways that do not hold the new key could not tell a credential's status.",
    ),
    Purpose.ISSUER_FEDERATION: (
        "过早启用：尚未认可新密钥的信任锚不再为签发机构作证。",
        "Too early: anchors that do not attest the new key would cease to vouch for the issuer.",
    ),
    Purpose.GATEWAY_FEDERATION: (
        "过早启用：尚未认可新密钥的信任锚不再为网关作证，其确认不被采信。",
        "Too early: anchors that do not attest the new key would cease to vouch for the gateway.",
    ),
    Purpose.ANCHOR_FEDERATION: (
        "过早启用：在章程列出新密钥之前，该信任锚失去投票。",
        "Too early: until the charter lists the new key, this anchor would have no vote.",
    ),
    Purpose.RECEIPT: (
        "过早启用：尚未持有新密钥的网关无法核对新出具的回执。",
        "Too early: gateways that do not hold the new key could not check new receipts.",
    ),
    Purpose.AUDIT: (
        "过早启用：尚未持有新密钥的网关不会联署本省的检查点，也不采信本省的联署。",
        "Too early: gateways that do not hold the new key would cosign nothing of ours, nor believe what we cosign.",
    ),
}


def name_of(names: Callable[[Any], str], number: int, prefix: str) -> str:
    """Write an enum's value the way people type it; a number that this program does not know, as a number."""
    try:
        name = names(number)
    except ValueError:  # a gateway newer than this program
        return str(int(number))
    return "" if name.endswith("_UNSPECIFIED") else name.removeprefix(prefix).lower().replace("_", "-")


def signs(purpose: str, lang: Lang) -> str:
    """Say what keys of a purpose sign."""
    return lang.pick(*_SIGNS.get(purpose, (purpose, purpose)))


def too_early(purpose: str, lang: Lang) -> str:
    """Say what would break if a key of a purpose signed before others hold it."""
    return lang.pick(*_TOO_EARLY.get(purpose, ("", "")))


# -- documents --------------------------------------------------------------------------------------------------------


def describe_key(key: keys_pb2.Key) -> dict[str, Any]:
    """Write a key as a document."""
    return {
        "kid": key.kid,
        "purpose": name_of(keys_pb2.KeyPurpose.Name, key.purpose, "KEY_PURPOSE_"),
        "state": name_of(keys_pb2.KeyState.Name, key.state, "KEY_STATE_"),
        "algorithm": key.algorithm,
        "staged_at": at(key, "stage_time"),
        "published_at": at(key, "publish_time"),
        "activated_at": at(key, "activate_time"),
        "drained_at": at(key, "drain_time"),
        "retired_at": at(key, "retire_time"),
        "revoked_at": at(key, "revoke_time"),
        "revocation_reason": name_of(keys_pb2.RevocationReason.Name, key.revocation_reason, "REVOCATION_REASON_")
        or None,
        "signed_until": at(key, "signed_until_time"),
        "used": key.used,
        "store": key.store,
    }


def describe_rotation(rotation: keys_pb2.Rotation, now: datetime) -> dict[str, Any]:
    """Write a rotation as a document."""
    return {
        "purpose": name_of(keys_pb2.KeyPurpose.Name, rotation.purpose, "KEY_PURPOSE_"),
        "current_kid": rotation.current_kid or None,
        "next_kid": rotation.next_kid or None,
        "signed_until": at(rotation, "signed_until_time"),
        "steps": [
            {
                "step": name_of(keys_pb2.RotationStepKind.Name, step.kind, "ROTATION_STEP_KIND_"),
                "done": step.done,
                "at": at(step, "time"),
                "detail": step.detail,
            }
            for step in rotation.steps
        ],
        "holders": [describe_holder(holder, now) for holder in rotation.holders],
        "etag": rotation.etag,
    }


def describe_holder(holder: keys_pb2.Holder, now: datetime) -> dict[str, Any]:
    """Write one party that has to hold a key as a document."""
    said = connection.moment(holder.acknowledge_time) if holder.HasField("acknowledge_time") else None
    offset = holder.clock_offset.ToTimedelta().total_seconds() if holder.HasField("clock_offset") else None
    return {
        "entity_id": holder.entity_id,
        "province": holder.province,
        "reachable": holder.reachable,
        "holds": holder.holds,
        "refuses": holder.refuses,
        "acknowledged_at": instant(said),
        "age_seconds": None if said is None else int((now - said).total_seconds()),
        "charter_version": holder.charter_version,
        "clock_offset_seconds": offset,
        "blocks": holder.blocks,
    }


def at(message: Message, field: str) -> str | None:
    """Write a time of a message; None when it is absent."""
    return instant(connection.moment(getattr(message, field))) if message.HasField(field) else None


def is_ready(rotation: Mapping[str, Any], now: datetime) -> bool:
    """Whether the next key of a rotation could be activated now."""
    if rotation["next_kid"] is None or any(holder["blocks"] for holder in rotation["holders"]):
        return False
    waits = [step for step in rotation["steps"] if step["step"] == "wait"]
    return all(step["done"] or (step["at"] is not None and step["at"] <= (instant(now) or "")) for step in waits)


# -- tables -----------------------------------------------------------------------------------------------------------


def show_keys(screen: Screen, keys: Sequence[Mapping[str, Any]], now: datetime, lang: Lang) -> None:
    """Draw the keys of a province."""
    pick = lang.pick
    screen.table(
        pick("密钥", "Keys"),
        (
            *(pick("用途", "Purpose"), "kid", pick("状态", "State"), pick("自", "Since")),
            *(pick("签名有效至", "Its signatures end"), pick("保管", "Store")),
        ),
        [
            (
                *(key["purpose"], key["kid"], _state(key)),
                *(since(key[name], now, lang) for name in (_SINCE.get(key["state"], "staged_at"), "signed_until")),
                key["store"],
            )
            for key in keys
        ],
        whole={"kid"},
    )


def show_rotation(screen: Screen, rotation: Mapping[str, Any], now: datetime, lang: Lang) -> None:
    """Draw a plan: what happens when, whom it concerns, what would break."""
    pick, purpose = lang.pick, rotation["purpose"]
    until = ago(rotation["signed_until"], now, lang)
    screen.facts(
        [
            (pick("用途", "Purpose"), f"{purpose}: {signs(purpose, lang)}"),
            (pick("现用密钥", "Signs now"), rotation["current_kid"] or pick("无", "none")),
            (pick("下一密钥", "Next"), rotation["next_kid"] or pick("尚未生成", "not made yet")),
            (
                pick("影响", "Impact"),
                pick(
                    f"旧密钥所签内容继续有效，至 {until}。", f"What the old key signed goes on counting, until {until}."
                )
                if rotation["signed_until"] is not None
                else pick("现用密钥尚未签过任何内容。", "The present key has signed nothing."),
            ),
            ("", too_early(purpose, lang)),
        ]
    )
    screen.table(
        pick("步骤", "Steps"),
        (pick("步骤", "Step"), "", pick("时间", "When"), pick("说明", "Detail")),
        [
            (
                step["step"],
                Text("✓", "green") if step["done"] else Text("·", "dim"),
                _when(step, now, lang),
                step["detail"],
            )
            for step in rotation["steps"]
        ],
    )
    show_holders(screen, rotation["next_kid"] or "", rotation["holders"], now, lang)


def show_holders(screen: Screen, kid: str, holders: Sequence[Mapping[str, Any]], now: datetime, lang: Lang) -> None:
    """Draw who holds a key and how old their word is."""
    pick = lang.pick
    screen.table(
        f"{pick('持有情况', 'Who holds it')}: {kid[:SHORT_KID]}".rstrip(": "),
        (
            *("", pick("网关或信任锚", "Gateway or anchor"), pick("可达", "Reached"), pick("持有", "Holds")),
            *(pick("确认于", "Said"), pick("章程", "Charter"), pick("时钟", "Clock"), pick("阻碍", "Blocks")),
        ),
        [
            (
                *(holder["province"], holder["entity_id"], _yes(met=holder["reachable"]), _holding(holder, lang)),
                since(holder["acknowledged_at"], now, lang)
                if holder["acknowledged_at"] or holder["holds"]
                else pick("从未", "never"),
                str(holder["charter_version"] or "-"),
                "-" if holder["clock_offset_seconds"] is None else f"{holder['clock_offset_seconds']:+.1f} s",
                Text(pick("是", "yes"), "bold red") if holder["blocks"] else "-",
            )
            for holder in holders
        ],
    )


def advice(holder: Mapping[str, Any], lang: Lang) -> str:
    """Say what to do about a party that keeps a key from being activated."""
    if holder["refuses"]:
        words = ("它已将此密钥视为撤销，请另换一把。", "it refuses this key as revoked: rotate to another one")
    elif not holder["reachable"]:
        words = (
            "联系不上：请恢复其网关或网络；待其再次可达即可。",
            "not reached: have that gateway or the way to it mended; it catches up by itself",
        )
    elif not holder["holds"]:
        words = (
            "可达但尚未持有：请等待下一轮更新；若久等，请对方运行 mrg doctor。",
            "reached, does not hold it yet: wait for its next refresh; if that lasts, ask them for mrg doctor",
        )
    else:
        words = ("其说法过旧：请等待新的确认。", "its word is too old: wait for a new acknowledgement")
    return lang.pick(*words)


def ago(moment: str | None, now: datetime, lang: Lang) -> str:
    """Write a time of a document and how far away it is."""
    return "-" if moment is None else f"{moment} ({away(datetime.fromisoformat(moment), now, lang)})"


def since(moment: str | None, now: datetime, lang: Lang) -> str:
    """Write how far away a time of a document is, where there is no room for more."""
    return "-" if moment is None else away(datetime.fromisoformat(moment), now, lang)


def _when(step: Mapping[str, Any], now: datetime, lang: Lang) -> str:
    if step["at"] is None:
        return "-"
    at_ = ago(step["at"], now, lang)
    return at_ if step["done"] else f"{lang.pick('最早', 'not before')} {at_}"


def _state(key: Mapping[str, Any]) -> Text:
    reason = f" ({key['revocation_reason']})" if key["revocation_reason"] else ""
    return Text(f"{key['state']}{reason}", STYLES.get(key["state"], ""))


def _holding(holder: Mapping[str, Any], lang: Lang) -> Cell:
    if holder["refuses"]:
        return Text(lang.pick("拒绝", "refuses"), "bold red")
    return _yes(met=holder["holds"])


def _yes(*, met: bool) -> Text:
    return Text("✓", "green") if met else Text("✗", "red")
