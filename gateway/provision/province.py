"""Making a province's files, in two steps; the package says how they fit together."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from gateway.clock import World
from gateway.config import (
    Administrator,
    AdminListener,
    AnchorEnrolment,
    Auditor,
    CharterPin,
    Config,
    ConfigError,
    Entities,
    FederationListener,
    IdentitySystem,
    Listeners,
    Peer,
    Refresh,
    RelyingService,
    Role,
    TlsFiles,
    VerificationListener,
)
from gateway.config.reader import load_config
from gateway.config.writer import render_config
from gateway.core.charter import Charter, verify_pinned
from gateway.core.identifiers import Province
from gateway.core.jose import PublicKey
from gateway.core.reasons import Rejected
from gateway.keystore import KeyRole, KeyStore, KeyStoreError
from gateway.keystore.opening import create_key_store, open_key_store
from gateway.provision import ProvisionError, answers, files
from gateway.provision.answers import Answers
from gateway.provision.cards import Card, check_apart, read_card
from gateway.tls import CA_LIFETIME, create_ca, issue_certificate

CONFIG_FILE: Final = "gateway.toml"
CARD_FILE: Final = "card.json"
CHARTER_FILE: Final = "charter.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """From when to when new certificates are good."""

    begins: timedelta = timedelta(0)
    """Before now, beyond the few minutes that every certificate begins early."""
    ca: timedelta = CA_LIFETIME
    end: timedelta = timedelta(days=397)
    """The usual most for end certificates: a year, and a month to renew them in."""


# -- step 1 -----------------------------------------------------------------------------------------------------------


def create_province(folder: Path, decided: Answers, world: World, validity: Validity | None = None) -> Card:
    """Make everything a province can make alone, and give its card.

    Raises:
        ProvisionError: something is in the way. No key that existed was touched; what was made so far stays.
    """
    validity = validity or Validity()
    answers.check(decided, folder / answers.FILE)
    for each in (folder, folder / "tls" / "peers", folder / "clients"):
        files.make_folder(each)
    try:
        keys = create_key_store(folder / "keys", decided.key_store, world)
    except KeyStoreError as error:
        raise _unusable(error) from error
    with closing(keys):
        card = _make(folder, decided, keys, validity, world.now() - validity.begins)
    answers.write(folder, decided)
    files.write(folder / CARD_FILE, files.pretty(card.claims), files.PUBLIC)
    return card


def _make(folder: Path, decided: Answers, keys: KeyStore, validity: Validity, begins: datetime) -> Card:
    _create_ca(folder, decided, begins, validity)
    _create_certificates(folder, decided, begins, validity)
    addresses = dict.fromkeys(decided.clients, decided.reached(decided.verification_address))
    addresses |= dict.fromkeys(decided.operators, decided.admin_reached)
    for name, address in addresses.items():
        files.write(folder / "clients" / f"{name}.toml", _profile(folder, decided, name, address), files.PUBLIC)
    return _card(folder, decided, keys)


def _create_ca(folder: Path, decided: Answers, begins: datetime, validity: Validity) -> None:
    certificate, key = folder / "tls" / "ca.pem", folder / "tls" / "ca.key"
    if not files.pair_exists(certificate, key):
        made = create_ca(f"{decided.province.name_en} recognition gateway CA", begins, lifetime=validity.ca)
        files.write_pair(certificate, key, made)


def _create_certificates(folder: Path, decided: Answers, begins: datetime, validity: Validity) -> None:
    ca = (folder / "tls" / "ca.pem").read_bytes(), (folder / "tls" / "ca.key").read_bytes()
    # The gateway's own certificate serves its listeners and calls the peers.
    server = folder / "tls" / "server.pem"
    wanted = {server: decided.gateway}
    clients = {**decided.clients, **decided.operators}
    wanted.update({folder / "clients" / f"{name}.pem": identity for name, identity in clients.items()})
    for certificate, identity in wanted.items():
        key = certificate.with_suffix(".key")
        if files.pair_exists(certificate, key):
            continue
        try:
            made = issue_certificate(
                *ca,
                identity_uri=identity,
                dns_names=decided.dns_names if certificate == server else (),
                ip_addresses=decided.ip_addresses if certificate == server else (),
                server=certificate == server,
                client=True,
                now=begins,
                lifetime=validity.end,
            )
        except ValueError as error:
            raise ProvisionError(certificate, f"cannot be made ({error})", "correct the answers") from error
        files.write_pair(certificate, key, made)


def _profile(folder: Path, decided: Answers, name: str, address: str) -> bytes:
    identity = decided.clients.get(name) or decided.operators[name]
    commands = "mrg verify, mrg issue and others"
    if name in decided.operators:
        commands = "mrg audit" if name in decided.auditors else "mrg keys, mrg anchor, mrg dispute"
    members = {
        "address": address,
        "ca": os.path.relpath(folder / "tls" / "ca.pem", folder / "clients"),
        "certificate": f"{name}.pem",
        "private_key": f"{name}.key",
    }
    lines = [
        f"# Client profile of {identity}",
        f"# for {commands}: --as THIS_FILE. Paths count from this file's folder.",
        *(f"{key} = {json.dumps(value)}" for key, value in members.items()),
    ]
    return "\n".join((*lines, "")).encode()


def _card(folder: Path, decided: Answers, keys: KeyStore) -> Card:
    shown: frozenset[str] = frozenset()
    with suppress(ProvisionError):
        before = read_card(folder / CARD_FILE)
        shown = frozenset({before.anchor_key.kid, before.issuer_federation_key, before.gateway_federation_key})
    return Card(
        province=decided.province,
        gateway=decided.gateway,
        issuer=decided.issuer,
        anchor=decided.anchor,
        anchor_key=_first_key(keys, "anchor-federation", shown),
        issuer_federation_key=_first_key(keys, "issuer-federation", shown).thumbprint,
        gateway_federation_key=_first_key(keys, "gateway-federation", shown).thumbprint,
        federation_address=decided.reached(decided.federation_address),
        ca=(folder / "tls" / "ca.pem").read_text("ascii"),
    )


def _first_key(keys: KeyStore, role: KeyRole, shown: frozenset[str]) -> PublicKey:
    """The key of a role that goes on the card: the one that others were shown, also when there are later ones."""
    for kid, signer in keys.keys(role).items():
        if kid in shown:
            return signer.public
    return keys.sole(role).public


# -- step 2 -----------------------------------------------------------------------------------------------------------


def complete_province(
    folder: Path, cards: Mapping[Path, Card], charter_document: str, sha256: str, *, replace: bool = False
) -> Path:
    """Hold charter and cards against each other, and write the configuration.

    Args:
        folder: where ``create_province`` worked.
        cards: the other provinces' cards, by the file each was read from. This province's own may be among them.
        charter_document: the first charter, signed by its quorum.
        sha256: its digest, as people compared it.
        replace: write over a configuration that says something else.

    Returns:
        The configuration file.

    Raises:
        ProvisionError: charter, cards and this province do not fit together, or another configuration is in the way.
    """
    decided = answers.read(folder)
    own = _own_card(folder, decided)
    others = {file: card for file, card in cards.items() if card.claims != own.claims}
    everybody = {folder / CARD_FILE: own, **others}
    check_apart(everybody)
    charter = _charter(folder / CHARTER_FILE, charter_document, sha256)
    _check_enrolment(charter, folder / CHARTER_FILE, everybody)
    config = _config(folder.absolute(), decided, charter, list(everybody.values()))
    _check_in_the_way(config, replace=replace)
    files.make_folder(folder / "tls" / "peers")
    for card in others.values():
        files.write(_peer_ca(folder, card.province), card.ca.encode("ascii"), files.PUBLIC)
    files.write(folder / CHARTER_FILE, charter_document.encode(), files.PUBLIC)
    files.write(config.file, render_config(config).encode(), files.PUBLIC)
    try:
        load_config(config.file)
    except ConfigError as error:
        raise ProvisionError(config.file, str(error), f"correct {folder / answers.FILE} and try again") from error
    return config.file


def _own_card(folder: Path, decided: Answers) -> Card:
    try:
        with closing(open_key_store(folder / "keys", decided.key_store)) as keys:
            return _card(folder, decided, keys)
    except KeyStoreError as error:
        raise _unusable(error) from error
    except OSError as error:
        ca = folder / "tls" / "ca.pem"
        raise ProvisionError(ca, f"cannot be read ({error.strerror})", "create the province first") from error


def _unusable(error: KeyStoreError) -> ProvisionError:
    return ProvisionError(Path(error.place), f"the key store cannot be used: {error.problem}", error.fix)


def _check_in_the_way(config: Config, *, replace: bool) -> None:
    if replace or not config.file.exists():
        return
    with suppress(ConfigError):
        # What it means is compared, so that a comment somebody added is not in the way.
        if load_config(config.file) == config:
            return
    raise ProvisionError(config.file, "exists and says something else", "move it away, or have it replaced")


def _charter(file: Path, document: str, sha256: str) -> Charter:
    try:
        return verify_pinned(document, sha256)
    except Rejected as error:
        raise ProvisionError(
            file,
            f"the charter is not acceptable ({error.detail})",
            "compare its digest, and have it signed by a quorum",
        ) from error


def _check_enrolment(charter: Charter, file: Path, cards: Mapping[Path, Card]) -> None:
    """Whoever the charter names must have sent a card that says the same."""
    sources = {
        entity: (source, card.province)
        for source, card in cards.items()
        for entity in (card.anchor, card.issuer, card.gateway)
    }
    named = [(each.entity_id, each.province) for each in charter.anchors]
    named += [(each.entity_id, each.province) for each in charter.members]
    for entity, province in named:
        if entity not in sources:
            raise ProvisionError(file, f"names {entity}, of which there is no card", "add that province's card")
        source, claimed = sources[entity]
        if claimed is not province:
            raise ProvisionError(
                source,
                f"claims {entity}, which the charter gives to {province.code}",
                "ask both provinces for their cards again",
                key="province",
            )
    for source, card in cards.items():
        anchor = charter.anchor(card.anchor)
        if anchor is None or charter.member(card.issuer) is None or charter.member(card.gateway) is None:
            raise ProvisionError(
                source, "is of entities that the charter does not name", "use the cards the charter was made from"
            )
        if card.anchor_key.kid not in anchor.keys:
            raise ProvisionError(
                source,
                "the charter lists another key for this anchor",
                "use the cards the charter was made from",
                key="anchor_key",
            )


def _config(folder: Path, decided: Answers, charter: Charter, cards: Sequence[Card]) -> Config:
    ca = folder / "tls" / "ca.pem"
    order = list(Province)
    ordered = sorted(cards, key=lambda card: order.index(card.province))
    return Config(
        file=folder / CONFIG_FILE,
        province=decided.province,
        database=decided.database or folder / "gateway.sqlite",
        keys=folder / "keys",
        entities=Entities(gateway=decided.gateway, issuer=decided.issuer, anchor=decided.anchor),
        charter=CharterPin(file=folder / CHARTER_FILE, sha256=charter.sha256),
        tls=TlsFiles(certificate=folder / "tls" / "server.pem", private_key=folder / "tls" / "server.key"),
        listeners=Listeners(
            verification=VerificationListener(address=decided.verification_address, client_ca=ca),
            federation=FederationListener(address=decided.federation_address),
            admin=AdminListener(address=decided.admin_address, client_ca=ca, reflection=False),
        ),
        peers=tuple(
            Peer(
                province=card.province,
                address=card.federation_address,
                ca=_peer_ca(folder, card.province),
                gateway=card.gateway,
            )
            for card in ordered
            if card.province is not decided.province
        ),
        relying_services=tuple(
            RelyingService(
                identity=decided.clients[service.name],
                name=service.title,
                sector=service.sector,
                matters=service.matters,
                explain=service.explain,
            )
            for service in decided.services
        ),
        identity_systems=tuple(IdentitySystem(identity=decided.clients[name]) for name in decided.systems),
        administrators=tuple(
            Administrator(identity=identity, roles=frozenset(Role)) for identity in decided.administrators.values()
        ),
        auditors=tuple(Auditor(identity=identity) for identity in decided.auditors.values()),
        anchor_enrolments=tuple(
            AnchorEnrolment(entity_id=entity_id, federation_key=thumbprint)
            for card in ordered
            for entity_id, thumbprint in (
                (card.issuer, card.issuer_federation_key),
                (card.gateway, card.gateway_federation_key),
            )
        ),
        key_store=decided.key_store,
        refresh=Refresh(interval_seconds=decided.refresh_seconds),
    )


def _peer_ca(folder: Path, province: Province) -> Path:
    return folder / "tls" / "peers" / f"{province.code}.pem"
