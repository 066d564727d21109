"""Enrolment cards: what one province must know of another before the first charter, and nothing secret.

A card is a small JSON file, made by ``create_province`` and sent by mail. What is in it counts once people have read
its fingerprint to each other over a channel where they know each other's voices. The file alone proves nothing.

``charter_claims`` turns the cards of all provinces into the claims of their first or next charter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from gateway.core.charter import GATEWAY_TYPE, ISSUER_TYPE, Charter
from gateway.core.encoding import b64url_decode, sha256_b64url, write_json
from gateway.core.fields import Field
from gateway.core.identifiers import Province, check_entity_id
from gateway.core.jose import PublicKey, import_jwk
from gateway.core.reasons import Rejected
from gateway.provision import ProvisionError, answers, files
from gateway.tls import CallerReader

FORMAT: Final = 1
_ADDRESS: Final = re.compile(r"[A-Za-z0-9.:\[\]-]{1,253}:[1-9][0-9]{0,4}")
_SHA256_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One province's public data, as the others enrol it."""

    province: Province
    gateway: str
    issuer: str
    anchor: str
    anchor_key: PublicKey
    issuer_federation_key: str
    """Thumbprint (RFC 7638) of the issuer's first federation key."""
    gateway_federation_key: str
    federation_address: str
    """Where the other gateways call it: host:port."""
    ca: str
    """PEM of the CA that its certificate comes from."""

    @property
    def claims(self) -> Mapping[str, Any]:
        """The card as JSON."""
        return {
            "recognition_card": FORMAT,
            "province": self.province.code,
            "gateway": self.gateway,
            "issuer": self.issuer,
            "anchor": self.anchor,
            "anchor_key": dict(self.anchor_key.jwk),
            "issuer_federation_key": self.issuer_federation_key,
            "gateway_federation_key": self.gateway_federation_key,
            "federation_address": self.federation_address,
            "ca": self.ca,
        }

    @property
    def fingerprint(self) -> str:
        """What people compare by voice: SHA-256 over the card's content, base64url."""
        return sha256_b64url(write_json(self.claims))


def read_card(file: Path) -> Card:
    """Read another province's card, trusting nothing in it.

    Raises:
        ProvisionError: it cannot be read, or is no card.
    """
    return files.read_json(file, _card, what="card", fix="ask that province for its card.json again")


def _card(field: Field) -> Card:
    names = ("gateway", "issuer", "anchor", "issuer_federation_key", "gateway_federation_key", "federation_address")
    members = field.members("recognition_card", "province", "anchor_key", "ca", *names)
    if members["recognition_card"].integer(1, 1_000) != FORMAT:
        raise members["recognition_card"].invalid(f"must be {FORMAT}, the one format this version knows")
    province = answers.province(members["province"])
    try:
        anchor_key = import_jwk(members["anchor_key"].value)
    except Rejected as error:
        raise members["anchor_key"].invalid(error.detail) from error
    if _ADDRESS.fullmatch(members["federation_address"].token()) is None:
        raise members["federation_address"].invalid("must be host:port")
    gateway, issuer, anchor = (_entity(members[role]) for role in ("gateway", "issuer", "anchor"))
    if len({entity.split("/")[2] for entity in (gateway, issuer, anchor)}) != len((gateway, issuer, anchor)):
        raise field.invalid("gateway, issuer and anchor must have hosts of their own")
    return Card(
        province=province,
        gateway=gateway,
        issuer=issuer,
        anchor=anchor,
        anchor_key=anchor_key,
        issuer_federation_key=_thumbprint(members["issuer_federation_key"]),
        gateway_federation_key=_thumbprint(members["gateway_federation_key"]),
        federation_address=members["federation_address"].token(),
        ca=_ca(members["ca"], gateway),
    )


def _entity(field: Field) -> str:
    text = field.token()
    try:
        check_entity_id(text)
    except ValueError as error:
        raise field.invalid(str(error)) from error
    return text


def _thumbprint(field: Field) -> str:
    text = field.token()
    try:
        size = len(b64url_decode(text))
    except Rejected:
        size = 0
    if size != _SHA256_BYTES:
        raise field.invalid("must be a SHA-256 in base64url (43 characters)")
    return text


def _ca(field: Field, gateway: str) -> str:
    text = field.value
    if not isinstance(text, str) or not text.isascii() or "PRIVATE KEY" in text:
        raise field.invalid("must be the PEM of a CA certificate, and of nothing else")
    try:
        CallerReader({text.encode("ascii"): (gateway,)})
    except ValueError as error:
        raise field.invalid("must be the PEM of a CA certificate, and of nothing else") from error
    return text


def check_apart(cards: Mapping[Path, Card]) -> None:
    """Refuse cards that claim the same thing: a province, an entity, a key, an address or a CA of another.

    Raises:
        ProvisionError: naming the later one.
    """
    seen: dict[tuple[str, str], str] = {}
    for file, card in cards.items():
        for key, kind, value in _own(card):
            place = f"{key} of {file}"
            first = seen.setdefault((kind, value), place)
            if first != place and key == "province":
                problem = f"is the second card of {value}; the first is {first.removeprefix('province of ')}"
                raise ProvisionError(file, problem, "give one card of each province", key=key)
            if first != place:
                raise ProvisionError(file, f"is the same as {first}", "find out whose it is; no two share one", key=key)


def _own(card: Card) -> Sequence[tuple[str, str, str]]:
    return (
        ("province", "province", card.province.code),
        ("gateway", "entity", card.gateway),
        ("issuer", "entity", card.issuer),
        ("anchor", "entity", card.anchor),
        ("anchor_key", "key", card.anchor_key.thumbprint),
        ("issuer_federation_key", "key", card.issuer_federation_key),
        ("gateway_federation_key", "key", card.gateway_federation_key),
        ("federation_address", "address", card.federation_address),
        ("ca", "ca", card.ca),
    )


def charter_claims(
    cards: Sequence[Card],
    agreement: Mapping[str, Any],
    *,
    quorum: int,
    now: datetime,
    lifetime: timedelta,
    previous: Charter | None = None,
) -> dict[str, Any]:
    """Write the claims of a charter between the provinces of these cards, for ``core.charter.draft`` to check.

    Args:
        cards: one of each province.
        agreement: the recognition agreement, as JSON.
        quorum: how many anchors must agree.
        now: when it is issued.
        lifetime: when it expires, counted from then.
        previous: the charter it follows; None for the first.
    """
    ordered = sorted(cards, key=lambda card: list(Province).index(card.province))
    issued_at = int(now.timestamp())
    return {
        "version": 1 if previous is None else previous.version + 1,
        "prev_sha256": None if previous is None else previous.sha256,
        "iat": issued_at,
        "exp": issued_at + int(lifetime.total_seconds()),
        "anchors": [anchor_entry(card) for card in ordered],
        "quorum": quorum,
        "members": [member for card in ordered for member in member_entries(card)],
        "agreement": dict(agreement),
    }


def anchor_entry(card: Card) -> dict[str, Any]:
    """Write the anchor of a card as a charter names it."""
    return {
        "entity_id": card.anchor,
        "province": card.province.code,
        "jwks": {"keys": [dict(card.anchor_key.jwk)]},
    }


def member_entries(card: Card) -> Sequence[dict[str, Any]]:
    """Write the issuer and the gateway of a card as a charter names them."""
    province = card.province
    return (
        {
            "entity_id": card.issuer,
            "province": province.code,
            "entity_types": [ISSUER_TYPE],
            "name_zh": f"{province.name_zh}身份认证机构",
            "name_en": f"{province.name_en} identity authority",
        },
        {
            "entity_id": card.gateway,
            "province": province.code,
            "entity_types": [GATEWAY_TYPE],
            "name_zh": f"{province.name_zh}互认网关",
            "name_en": f"{province.name_en} recognition gateway",
        },
    )
