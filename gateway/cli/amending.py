"""What one charter changes of the one before: who joins, who leaves, which keys an anchor has.

Works on the claims as they are written, entry by entry, so that what nobody named stays as it was agreed. Removals come
before additions: an anchor that is removed and added in one command is replaced.

Who leaves takes along what the agreement says of them. Terms for somebody who is no member make a charter void, and are
nobody's intention; they are taken out, and it is said.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, TypeAlias

from gateway.cli import files
from gateway.cli.console import Failure
from gateway.core.charter import GATEWAY_TYPE, ISSUER_TYPE
from gateway.core.encoding import JsonLimits, parse_json_object
from gateway.core.identifiers import Province
from gateway.core.jose import PublicKey, import_jwk, import_jwks
from gateway.core.reasons import Rejected
from gateway.provision.cards import anchor_entry, member_entries, read_card

MAX_FILE_BYTES: Final = 262_144
_LIMITS: Final = JsonLimits(max_bytes=MAX_FILE_BYTES, max_members=20_000)
_MEMBER: Final = {"entity_id", "province", "entity_types", "name_zh", "name_en"}
_Entry: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What the options of ``mrg charter create`` ask for."""

    leaving: Sequence[Province]
    remove_member: Sequence[str]
    add_member: Sequence[Path]
    remove_anchor: Sequence[str]
    add_anchor: Sequence[Path]
    remove_anchor_key: Sequence[str]
    add_anchor_key: Sequence[str]

    @property
    def option(self) -> str | None:
        """One option that was given; None when none was."""
        given = (field.name for field in fields(self) if getattr(self, field.name))
        return next((f"--{name.replace('_', '-')}" for name in given), None)


def amend(claims: Mapping[str, Any], changes: Changes) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Apply changes to the claims of a charter.

    Returns:
        The claims, and what was changed beyond what the options name, for people to be told.

    Raises:
        Failure: an option names what is not there, or is there already.
        ProvisionError: a file is no card.
    """
    anchors: list[_Entry] = list(claims["anchors"])
    members: list[_Entry] = list(claims["members"])
    leaving = {province.code for province in changes.leaving}
    for code in leaving - {entry["province"] for entry in anchors + members}:
        raise Failure(f"--leaving {code}: has no part in the charter", fix="leave the option out")
    anchors = [entry for entry in anchors if entry["province"] not in leaving]
    members = [entry for entry in members if entry["province"] not in leaving]
    members = _with_members(_without_members(members, changes.remove_member), changes.add_member)
    anchors = _with_anchors(_without_anchors(anchors, changes.remove_anchor), changes.add_anchor)
    anchors = _with_keys(_without_keys(anchors, changes.remove_anchor_key), changes.add_anchor_key)
    for entry in anchors:
        if not entry["jwks"]["keys"]:
            raise Failure(
                f"{entry['province']}: its anchor would have no key left",
                fix=f"add one with --add-anchor-key {entry['province']}=FILE,"
                f" or remove it with --remove-anchor {entry['province']}",
            )
    departed = {entry["entity_id"] for entry in claims["members"]} - {entry["entity_id"] for entry in members}
    agreement, said = _agreement_without(claims["agreement"], departed)
    return {
        **claims,
        "anchors": sorted(anchors, key=by_province),
        "members": sorted(members, key=by_province),
        "agreement": agreement,
    }, said


def by_province(entry: Mapping[str, Any]) -> int:
    """Where an entry stands in the usual order; one of an unknown province last, for the charter's rules to refuse."""
    codes = [province.code for province in Province]
    return codes.index(entry["province"]) if entry["province"] in codes else len(codes)


def _agreement_without(
    agreement: Mapping[str, Any], departed: Collection[str]
) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    # Only of those who left: terms for who never was a member are a mistake, for the rules of the charter to refuse.
    issuers = agreement.get("issuers")
    if not isinstance(issuers, list):
        return agreement, ()
    gone = [each for each in issuers if isinstance(each, dict) and each.get("entity_id") in departed]
    said = tuple(f"the agreement's terms for {each['entity_id']}, which leaves, are taken out" for each in gone)
    return {**agreement, "issuers": [each for each in issuers if each not in gone]}, said


# -- members ----------------------------------------------------------------------------------------------------------


def _without_members(members: list[_Entry], removed: Sequence[str]) -> list[_Entry]:
    for entity_id in removed:
        if all(entry["entity_id"] != entity_id for entry in members):
            raise Failure(
                f"--remove-member {entity_id}: the charter has no such member",
                fix=f"give one of {' '.join(entry['entity_id'] for entry in members)}",
            )
    return [entry for entry in members if entry["entity_id"] not in removed]


def _with_members(members: list[_Entry], added: Sequence[Path]) -> list[_Entry]:
    for file in added:
        new = _members_in(file)
        names = {entry["entity_id"] for entry in new}
        members = [*(entry for entry in members if entry["entity_id"] not in names), *new]
    return members


def _members_in(file: Path) -> list[_Entry]:
    """Read what joins: a card's issuer and gateway without its anchor, or one member as the charter writes it."""
    claims = _json(file, "card, or member")
    if "recognition_card" in claims:
        return list(member_entries(read_card(file)))
    if claims.keys() != _MEMBER or not {ISSUER_TYPE, GATEWAY_TYPE}.issuperset(_listed(claims["entity_types"])):
        raise Failure(
            f"{file}: is neither a card nor a member",
            fix=f"give a card.json, or an object with {' '.join(sorted(_MEMBER))}; types: {ISSUER_TYPE} {GATEWAY_TYPE}",
        )
    return [claims]


def _listed(value: object) -> list[str]:
    return value if isinstance(value, list) and all(isinstance(each, str) for each in value) else [""]


# -- anchors ----------------------------------------------------------------------------------------------------------


def _without_anchors(anchors: list[_Entry], removed: Sequence[str]) -> list[_Entry]:
    for name in removed:
        if all(name not in {entry["province"], entry["entity_id"]} for entry in anchors):
            raise Failure(
                f"--remove-anchor {name}: the charter has no such anchor",
                fix=f"give one of {' '.join(entry['province'] for entry in anchors)}, or an entity identifier",
            )
    return [entry for entry in anchors if not {entry["province"], entry["entity_id"]} & set(removed)]


def _with_anchors(anchors: list[_Entry], added: Sequence[Path]) -> list[_Entry]:
    for file in added:
        entry = anchor_entry(read_card(file))
        code = entry["province"]
        if any(each["province"] == code for each in anchors):
            raise Failure(
                f"--add-anchor {file}: {code} has an anchor already, and a province has one vote",
                fix=f"replace it with --remove-anchor {code} --add-anchor {file},"
                f" or give it another key with --add-anchor-key {code}={file}",
            )
        anchors = [*anchors, entry]
    return anchors


def _without_keys(anchors: list[_Entry], removed: Sequence[str]) -> list[_Entry]:
    listed = {jwk["kid"]: entry["province"] for entry in anchors for jwk in entry["jwks"]["keys"]}
    for kid in removed:
        if kid not in listed:
            known = " ".join(f"{known} ({code})" for known, code in listed.items())
            raise Failure(f"--remove-anchor-key {kid}: no anchor has that key", fix=f"give one of {known}")
    return [_with_jwks(entry, [jwk for jwk in entry["jwks"]["keys"] if jwk["kid"] not in removed]) for entry in anchors]


def _with_keys(anchors: list[_Entry], added: Sequence[str]) -> list[_Entry]:
    for spelt in added:
        code, equals, name = spelt.partition("=")
        if not equals or not name:
            raise Failure(f"--add-anchor-key {spelt}: is not PROVINCE=FILE", fix="write for example zj=zj-anchor.json")
        if all(entry["province"] != code for entry in anchors):
            raise Failure(
                f"--add-anchor-key {spelt}: {code} has no anchor in the charter",
                fix=f"give one of {' '.join(entry['province'] for entry in anchors)}, or add it with --add-anchor",
            )
        new = {key.kid: dict(key.jwk) for key in _keys_in(Path(name))}
        anchors = [
            _with_jwks(entry, [*(jwk for jwk in entry["jwks"]["keys"] if jwk["kid"] not in new), *new.values()])
            if entry["province"] == code
            else entry
            for entry in anchors
        ]
    return anchors


def _with_jwks(entry: _Entry, keys: list[Mapping[str, Any]]) -> _Entry:
    return {**entry, "jwks": {"keys": keys}}


def _keys_in(file: Path) -> Sequence[PublicKey]:
    """Read an anchor's public keys: those of a JWK Set, one JWK, or a card's."""
    claims = _json(file, "public key")
    if "recognition_card" in claims:
        return [read_card(file).anchor_key]
    try:
        return list(import_jwks(claims).values()) if "keys" in claims else [import_jwk(claims)]
    except Rejected as error:
        raise Failure(
            f"{file}: is no public key ({error.detail})",
            fix="write it where the anchor's key lies: mrg charter key --keys DIR --out FILE",
        ) from error


# -- files ------------------------------------------------------------------------------------------------------------


def _json(file: Path, what: str) -> _Entry:
    try:
        return parse_json_object(files.read_text(file, what, limit=MAX_FILE_BYTES).encode("utf-8"), _LIMITS)
    except Rejected as error:
        raise Failure(f"{file}: is no {what} ({error.detail})", fix="ask that province for the file again") from error
