"""What ``mrg doctor`` finds on this machine: files, keys, certificates, charter, trust data. It asks nobody."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing, suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from gateway.cli.console import Failure, away, instant, span
from gateway.cli.findings import WARN_DAYS, Finding, end, fail, isolated, ok, warn
from gateway.cli.store import open_store
from gateway.cli.trust import Freshness, issuer_freshness, withdrawn_by
from gateway.config import Config, PairwiseOptions, Role
from gateway.core.charter import Charter
from gateway.core.key_schedule import KeyPurpose, KeyRecord, KeyState, due_at
from gateway.core.trust import TrustView, is_regressed
from gateway.keyring import ADDED_LATER, ROLES
from gateway.keystore import KeyRole, KeyStore, KeyStoreError, SecretName
from gateway.keystore.file import read_secrets, secret_file
from gateway.keystore.opening import open_key_store
from gateway.storage.opening import exists
from gateway.tls import certificate_facts, check_cas, check_own_certificate

_MIN_ADMINISTRATORS: Final = 2
_LIVE: Final = frozenset({KeyState.PUBLISHED, KeyState.ACTIVE, KeyState.DRAINING})
_COMMAND_WORDS: Final = {
    KeyPurpose.CREDENTIAL: "credential",
    KeyPurpose.STATUS: "status",
    KeyPurpose.RECEIPT: "receipt",
    KeyPurpose.AUDIT: "audit",
}
_ROLES: Final[Mapping[str, tuple[KeyRole, ...]]] = {
    "gateway": ("gateway-federation", "gateway-receipt", "gateway-audit"),
    "issuer": ("issuer-federation", "issuer-credential", "issuer-status"),
    "anchor": ("anchor-federation",),
}


def check_configuration(config: Config) -> Iterator[Finding]:
    """Look at what the configuration says beyond what it must."""
    yield ok("configuration", config.file.name, f"{config.province.code}, {len(config.peers)} peers")
    keys = sum(Role.KEYS in each.roles for each in config.administrators)
    if keys < _MIN_ADMINISTRATORS:
        yield warn(
            "configuration",
            "administrators",
            f"{keys} with the role keys",
            "add [[administrators]]: an emergency activation takes two of them",
        )
    if not config.peers:
        yield warn("configuration", "peers", "there are none", "add [[peers]] from the other provinces' cards")


def check_key_store(config: Config) -> Iterator[Finding]:
    """Look at the key store: can it be opened, is it protected, does each role have a key."""
    try:
        opened = open_key_store(config.keys, config.key_store)
    except KeyStoreError as error:
        yield _not_opened(config, error)
        return
    with closing(opened) as store:
        # Files for their owner alone are what an operator may choose. Said each time, but nothing to be mended.
        words = "not encrypted; [key_store] says how" if store.protection == "none" else f"by {store.protection}"
        yield ok("key store", config.keys.name, f"opened; protected: {words}")
        yield from _roles(config, store)
        if exists(config):
            yield from isolated("key store", partial(_live_keys, config, store))


def _not_opened(config: Config, error: KeyStoreError) -> Finding:
    place = Path(error.place)
    if config.key_store.passphrase is None:
        with suppress(OSError):
            if place.suffix == ".pem" and b"-----BEGIN ENCRYPTED " in place.read_bytes():
                what = "is encrypted, and no passphrase is configured"
                return fail("key store", str(place), what, "name passphrase_file under [key_store]")
    return fail("key store", str(place), error.problem, error.fix)


def _live_keys(config: Config, store: KeyStore) -> Iterator[Finding]:
    """Look for each key that signs, is to sign or has signed what still counts."""
    with open_store(config) as database:
        records = database.keys.load_keys()
    for record in records:
        kid = record.key.kid
        if record.state in _LIVE and kid not in store.keys(record.purpose.value):
            yield fail(
                "key store",
                f"{record.purpose.value}.{kid}",
                f"is {record.state.value}, and its private key is not there",
                f"put it back from the backup, before the gateway is started again: {config.keys}",
            )


def _roles(config: Config, store: KeyStore) -> Iterator[Finding]:
    later = _made_at_start(config)
    for entity, roles in _ROLES.items():
        for role in roles if getattr(config.entities, entity) is not None else ():
            count = len(store.keys(role))
            if count:
                yield ok("key store", role, f"{count} key{'s' if count > 1 else ''}")
            elif role in later:
                yield warn("key store", role, "has no key yet", "start the gateway: it makes the first one")
            else:
                yield fail("key store", role, "has no key", "put it back from the backup, or run mrg init again")


def _made_at_start(config: Config) -> frozenset[KeyRole]:
    """Give the roles whose first key the gateway makes when it starts: added later, and without any record yet."""
    recorded: set[KeyPurpose] = set()
    if exists(config):
        with suppress(Failure), open_store(config) as database:  # what is wrong with it is told elsewhere
            recorded = {record.purpose for record in database.keys.load_keys()}
    return frozenset(ROLES[purpose] for purpose in ADDED_LATER - recorded)


def check_pseudonyms(config: Config, now: datetime) -> Iterator[Finding]:
    """Look at the secrets behind pseudonyms: whether those that are needed are there, and no others."""
    try:
        held = read_secrets(config.keys)
    except KeyStoreError:
        return  # told with the key store
    played: dict[SecretName, PairwiseOptions] = {"pairwise": config.pairwise}
    if config.entities.issuer is not None:
        played["pairwise-issuer"] = config.pairwise_issuer
    for name, options in played.items():
        versions = {version for secret, version in held if secret == name}
        yield from _pseudonyms(config, name, options, versions, now)


def _pseudonyms(
    config: Config, name: SecretName, options: PairwiseOptions, held: AbstractSet[int], now: datetime
) -> Iterator[Finding]:
    mapped = options.mapped_version(now)
    needed = {options.version} if mapped is None else {options.version, mapped}
    for version in sorted(needed - held):
        file = secret_file(config.keys, name, version)
        yield fail("pseudonyms", file.name, "is missing", f"put it back from the backup: {file}")
    if not needed - held:
        given = (
            "" if mapped is None else f"; those of version {mapped} are given too until {instant(options.mapped_until)}"
        )
        yield ok("pseudonyms", name, f"version {options.version}{given}")
    for version in sorted(held - needed):
        file = secret_file(config.keys, name, version)
        if version < options.version:
            # Whoever has it can tell which old pseudonyms are of one person.
            fix = f"destroy it, and what the backups hold of it: shred -u '{file}'"
            yield warn("pseudonyms", file.name, "is of no use any more, but to whoever steals it", fix)
        else:
            fix = f"put version and mapped_until under [{name.replace('-', '_')}] and restart: mrg keys pairwise"
            yield warn("pseudonyms", file.name, "is made, and not in use", fix)


def check_tls(config: Config, now: datetime) -> Iterator[Finding]:
    """Look at the certificates: ours, the CAs of our listeners, the CAs of our peers."""
    tls, listeners = config.tls, config.listeners
    mode = stat.S_IMODE(tls.private_key.stat().st_mode)
    if mode & 0o077:
        fix = f"run: chmod 600 '{tls.private_key}'"
        yield fail("TLS", tls.private_key.name, "can be read by others than its owner", fix)
    try:
        check_own_certificate(tls.certificate.read_bytes(), tls.private_key.read_bytes(), config.entities.gateway, now)
        yield ok("TLS", tls.certificate.name, f"names {config.entities.gateway} and belongs to its key")
    except ValueError as error:
        fix = "put the right pair there, or remove both and run mrg init again"
        yield fail("TLS", tls.certificate.name, str(error), fix)
    renew = "renew it: remove certificate and key, run mrg init again"
    yield from _ends("our certificate", tls.certificate, now, renew)
    cas = {"CA of our services": listeners.verification.client_ca}
    if listeners.admin.client_ca != listeners.verification.client_ca:
        cas["CA of our operators"] = listeners.admin.client_ca
    cas |= {f"CA of {peer.province.code}": peer.ca for peer in config.peers}
    for subject, file in cas.items():
        try:
            check_cas(file.read_bytes())
        except (ValueError, OSError) as error:
            what = error.strerror or "" if isinstance(error, OSError) else str(error)
            yield fail("TLS", subject, what, f"put the CA's certificate there: {file}")
            continue
        yield from _ends(subject, file, now, "have the CA renewed, and its new certificate put beside the old one")


def _ends(subject: str, file: Path, now: datetime, fix: str) -> Iterator[Finding]:
    # The latest counts: beside a new CA, the old one may run out.
    try:
        facts = certificate_facts(file.read_bytes())
    except ValueError:
        return  # told above
    # Of our own file the first is ours; what follows are those of intermediate CAs.
    yield end("TLS", subject, max(each.not_after for each in facts), now, fix)


def check_charter(config: Config, charter: Charter, now: datetime) -> Iterator[Finding]:
    """Look at the charter in force."""
    pinned = "the pinned one" if charter.sha256 == config.charter.sha256 else "a successor of the pinned one"
    yield ok("charter", f"version {charter.version}", f"{pinned}; {charter.quorum} of {len(charter.anchors)} anchors")
    fix = "sign the next one together: mrg charter create --previous"
    yield end("charter", "expiry", charter.expires_at, now, fix)


def check_trust(view: TrustView, now: datetime) -> Iterator[Finding]:
    """Look at the trust data: the clock, alarms, and how fresh each issuer is."""
    if is_regressed(view.clock_floor, now):
        yield fail(
            "trust",
            "clock",
            f"ours shows {instant(now)}, a quorum of anchors attested {instant(view.clock_floor)}",
            "correct this machine's clock; only if it is right: mrg trust reset-clock",
        )
    for alarm in view.alarms:
        yield fail(
            "alarm",
            alarm.issuer,
            f"{alarm.reason.value}: {alarm.detail}",
            "call that province: a key of theirs may be in other hands; mrg trust show has the details",
        )
    for issuer in view.issuers.values():
        state, against = issuer_freshness(view, issuer, now), withdrawn_by(issuer, now)
        until = max((key.stale_until for key in issuer.keys.values()), default=None)
        detail = state.value if until is None else f"{state.value}, usable until {instant(until)}"
        if against:
            detail += f"; withdrawn or suspended by {' '.join(against)}"
        if state is Freshness.WITHDRAWN:
            mend = "everything of it is rejected; ask these provinces why. If we are one of them: mrg anchor members"
            yield fail("trust", issuer.entity_id, detail, mend)
        elif state is Freshness.FRESH and against:
            mend = "nothing, while a quorum of the others vouches for it; mrg trust show says more"
            yield warn("trust", issuer.entity_id, detail, mend)
        elif state is Freshness.FRESH:
            yield ok("trust", issuer.entity_id, detail)
        elif state is Freshness.STALE:
            yield warn(
                "trust", issuer.entity_id, detail, "see which anchors are not heard from: mrg trust show, peers below"
            )
        else:
            yield fail("trust", issuer.entity_id, detail, "mrg trust show names the reason; see the peers below")


def check_calendar(config: Config, now: datetime) -> Iterator[Finding]:
    """Look at when each key is to be replaced, and whether its successor is ready."""
    with open_store(config) as database:
        records = database.keys.load_keys()
    for purpose in KeyPurpose:
        own = [record for record in records if record.purpose is purpose]
        if own:
            yield from _key_calendar(config, purpose, own, now)


def _key_calendar(
    config: Config, purpose: KeyPurpose, records: Sequence[KeyRecord], now: datetime
) -> Iterator[Finding]:
    rotate = f"mrg keys rotate {_COMMAND_WORDS.get(purpose, purpose.value)}"
    active = next((record for record in records if record.state is KeyState.ACTIVE), None)
    if active is None:
        yield fail("keys", purpose.value, "no key signs", f"{rotate} --apply, then mrg keys activate")
        return
    days = _policy_days(config, purpose)
    if days == 0:
        since = active.activated_at or active.staged_at
        yield ok("keys", purpose.value, f"signs for {span(now - since)}; replaced when an administrator says so")
    else:
        yield _due(purpose, due_at(active, timedelta(days=days)), now, rotate)
    # An anchor's next key is published by a charter, which people sign.
    waits = config.rotation.standby and purpose is not KeyPurpose.ANCHOR_FEDERATION
    if waits and not any(record.state is KeyState.PUBLISHED for record in records):
        yield warn("keys", purpose.value, "no stand-by key is published", f"{rotate} --apply")


def _due(purpose: KeyPurpose, due: datetime, now: datetime, rotate: str) -> Finding:
    detail = f"to be replaced {away(due, now)}, at {instant(due)}"
    if due - now > timedelta(days=WARN_DAYS[0]):
        return ok("keys", purpose.value, detail)
    if purpose is KeyPurpose.ANCHOR_FEDERATION:
        return warn("keys", purpose.value, detail, f"{rotate} --apply, and have the next charter list the new key")
    # A key that is due still signs, and what it signs still counts.
    return warn("keys", purpose.value, detail, f"it is replaced by itself; if it is not: {rotate}")


def _policy_days(config: Config, purpose: KeyPurpose) -> int:
    match purpose:
        case KeyPurpose.CREDENTIAL:
            return config.rotation.credential_days
        case KeyPurpose.STATUS:
            return config.rotation.status_days
        case _:
            return config.rotation.federation_days
