"""The client library's own check of evidence: what it calls proven, the gateway's check proves as well.

The two are written apart and share no code, so each is held against the other: on what the gateways of a federation
hand out, and on documents made by hand, each of which is wrong in one thing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recognition import _jose, evidence
from recognition.evidence import Flaw, NotProven, Proven, Signed

from gateway.core import encoding, merkle
from gateway.core.charter import Charter, add_signature, draft, parse_charter, unsigned, verify_successor
from gateway.core.encoding import b64url_encode, write_json
from gateway.core.entries import Verification, seal, verification_entry
from gateway.core.jose import Algorithm, SoftwareKey, generate_key, sign_compact
from gateway.core.key_schedule import KeyPurpose
from gateway.core.memory import Revocation
from gateway.core.publication import AUDIT_JWKS, RECEIPT_JWKS
from gateway.core.reasons import Indeterminate, Reason, Rejected
from gateway.core.receipt import ReceiptCheck, check_bundle, read_bundle, read_logged, view_of
from gateway.core.snapshot import Entry, Suspended, Vouched, Withdrawn
from gateway.lab.charter import HUKOU_MIGRATION, entity_ids
from gateway.wire import VerifyRequest
from tests.core.papers import (
    AH,
    ANCHORS,
    GATEWAY,
    HOUR,
    JS,
    MINUTE,
    NOW,
    SECOND,
    SH,
    SHANGHAI,
    ZJ,
    Papers,
    compromised,
    jwks_of,
    key_of,
    superseded,
)
from tests.core.tokens import mutated, seeded
from tests.federation import Federation

ROOT = Path(__file__).parent.parent
CLIENT = ROOT / "clients" / "python"
OLDEST = ROOT / ".venv-oldest" / "bin" / "python"
OTHERS = tuple(entity_ids(province).gateway for province in (SH, JS, ZJ))
THIEF = key_of("thief")
AT = NOW + MINUTE
POSITION, SIZE = 17, 30
Claims = dict[str, Any]
Change = Callable[[Claims], object]


# -- both checks ------------------------------------------------------------------------------------------------------


def by_gateway(raw: bytes, charter: Charter, now: Any = AT) -> ReceiptCheck | Reason:
    try:
        held = read_bundle(raw)
        return check_bundle(held, charter, lambda found, at: view_of(held, found, at), read_logged, now)
    except (Rejected, Indeterminate) as refusal:
        return refusal.reason


def by_client(raw: bytes | str, document: str, now: Any = AT, **options: Any) -> evidence.Evidence | Flaw:
    try:
        return evidence.check(raw, document, now=now, **options)
    except NotProven as refusal:
        return refusal.reason


def compared(raw: bytes, charter: Charter, now: Any = AT, **options: Any) -> evidence.Evidence | Flaw:
    """Check by both, and see that the client claims nothing that the gateway does not."""
    found, known = by_client(raw, charter.document, now, **options), by_gateway(raw, charter, now)
    if isinstance(found, Flaw):
        return found
    assert isinstance(known, ReceiptCheck), (found, known)
    said = found.receipt
    assert (said.gateway, said.service, said.verification_id) == (
        known.receipt.gateway,
        known.receipt.service,
        known.receipt.verification_id,
    )
    assert (said.verified_at, said.issued_at) == (known.receipt.verified_at, known.receipt.issued_at)
    assert (said.verdict, said.reason) == (known.receipt.verdict.value, known.receipt.reason)
    assert (said.charter_version, said.charter_sha256) == (known.receipt.charter_version, known.receipt.charter_sha256)
    assert (said.matter, said.view_id) == (known.receipt.matter, known.receipt.view_id)
    assert (said.log, said.position) == (known.receipt.log, known.receipt.position)
    assert set(found.witnesses) <= set(known.witnesses)
    if isinstance(found, Proven) or found.in_log:
        assert known.checkpoint is not None
    if isinstance(found, Proven):
        assert known.checkpoint is not None
        assert (found.log_size, found.logged_at) == (known.checkpoint.size, known.checkpoint.issued_at)
    return found


# -- what gateways hand out -------------------------------------------------------------------------------------------


@pytest.fixture
def federation(restarted: Federation) -> Federation:
    restarted.publish()
    return restarted


def accepted(federation: Federation) -> str:
    node = federation[AH]
    presentation, nonce = federation.present(federation.issue())
    answer = node.verifier.verify(
        node.caller,
        VerifyRequest(matter=HUKOU_MIGRATION, presentation=presentation, nonce=nonce, request_id="case-1"),
    )
    return answer.verification_id


def handed_out(federation: Federation, verification_id: str) -> bytes:
    return federation[AH].records.receipts.evidence(verification_id).document


def test_what_others_have_seen_is_proven(federation: Federation) -> None:
    verification = accepted(federation)
    federation.witness()
    found = compared(
        handed_out(federation, verification),
        federation.charter,
        federation.clock.now,
        sha256=federation.charter.sha256,
        witnesses=3,
    )
    assert isinstance(found, Proven)
    assert (found.receipt.province, found.receipt.verdict, found.receipt.reason) == ("ah", "accepted", None)
    assert (found.receipt.verification_id, found.witnesses) == (verification, OTHERS)


def test_what_is_not_in_the_log_yet_is_signed_and_no_more(federation: Federation) -> None:
    raw = handed_out(federation, accepted(federation))
    found = compared(raw, federation.charter, federation.clock.now)
    assert isinstance(found, Signed)
    assert (found.in_log, found.witnesses) == (False, ())


def test_a_refusal_is_proven_like_an_acceptance(federation: Federation) -> None:
    verification = federation.verify("not.a.credential~").verification_id
    federation.witness()
    found = compared(handed_out(federation, verification), federation.charter, federation.clock.now)
    assert isinstance(found, Proven)
    assert (found.receipt.verdict, found.receipt.reason) == ("rejected", "MALFORMED")


def test_it_holds_years_later_and_with_other_keys_in_use(federation: Federation) -> None:
    verification = accepted(federation)
    federation.witness()
    old = handed_out(federation, verification)
    for purpose in (KeyPurpose.RECEIPT, KeyPurpose.AUDIT, KeyPurpose.GATEWAY_FEDERATION):
        kid = federation.new_key(AH, purpose)
        federation.settle()
        federation.activate(AH, kid, purpose)
    federation.clock.advance(timedelta(hours=3))
    federation.settle()
    federation.witness()
    assert isinstance(compared(handed_out(federation, verification), federation.charter, federation.clock.now), Proven)
    federation.clock.advance(timedelta(days=5_000))
    assert isinstance(compared(old, federation.charter, federation.clock.now), Proven)


def test_a_key_that_its_gateway_revoked_proves_nothing(federation: Federation) -> None:
    verification = accepted(federation)
    federation.witness()
    file = json.loads(handed_out(federation, verification))
    (active,) = [each for each in federation[AH].ring.records(KeyPurpose.RECEIPT) if each.state.value == "active"]
    federation.revoke(AH, active.key.kid, purpose=KeyPurpose.RECEIPT)
    federation.settle()
    file["events"] = list(federation[SH].resolver.state().events)
    assert compared(write_json(file), federation.charter, federation.clock.now) is Flaw.KEY_REVOKED


# -- made by hand -----------------------------------------------------------------------------------------------------


class Log:
    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.tiles = merkle.append(0, leaves, self)

    def tile(self, level: int, number: int) -> bytes:
        return self.tiles[level, number]


def unchanged(_claims: Claims) -> None:
    """Leave it as it is."""


@dataclass(kw_only=True)
class Case:
    """One bundle, honest unless something is changed before ``raw``."""

    papers: Papers = field(default_factory=Papers)
    at: Any = AT
    said: Claims = field(default_factory=dict)
    """Of the verification, other than usual."""
    entry: Callable[[bytes], bytes] = lambda raw: raw
    """What becomes of the entry before it is hashed."""
    receipt: Change = unchanged
    receipt_key: SoftwareKey | None = None
    head: Change = unchanged
    head_key: SoftwareKey | None = None
    cosignature: Change = unchanged
    cosigners: Sequence[tuple[str, SoftwareKey | None]] = tuple((gateway, None) for gateway in OTHERS)
    events: list[str] = field(default_factory=list)
    charters: list[str] = field(default_factory=list)
    planted: list[str] = field(default_factory=list)
    """Statements beside the honest ones."""
    about_issuers: bool = False
    """Whether what concerns issuers only is in it too."""
    file: Change = unchanged
    """What becomes of the file."""

    def key(self, gateway: str, name: str) -> SoftwareKey:
        return self.papers.gateway_keys[gateway][name][0]

    def raw(self) -> bytes:
        usual: Claims = {
            "verification_id": "mK2pQ7hTz0yV5sXa9bRw3g",
            "decided_at": NOW,
            "service": f"{GATEWAY}/services/court",
            "caller_certificate": "A" * 43,
            "matter": "HK-QY",
            "verdict": "rejected",
            "reason": "CREDENTIAL_REVOKED",
            "issuer": SHANGHAI,
            "kid": "A" * 43,
            "charter_version": 1,
            "charter_sha256": self.papers.charter.sha256,
            "view_id": "yV5sXa9bRw3gmK2pQ7hTz0",
        }
        entry = self.entry(seal(verification_entry(Verification(**usual | self.said))).raw)
        receipt = {
            "iss": GATEWAY,
            "iat": seconds(self.at),
            "aud": usual["service"],
            "verified_at": seconds(usual["decided_at"]),
            "jti": usual["verification_id"],
            **{name: usual[name] for name in ("matter", "verdict", "reason")},
            **{name: usual[name] for name in ("charter_version", "charter_sha256", "view_id")},
            "log": "verdicts",
            "position": POSITION,
            "entry_sha256": b64url_encode(merkle.leaf_hash(entry)),
        }
        self.receipt(receipt)
        log = Log([merkle.leaf_hash(entry if number == POSITION else b"%d" % number) for number in range(SIZE)])
        head = {
            "iss": GATEWAY,
            "log": "verdicts",
            "size": SIZE,
            "root": b64url_encode(merkle.root_hash(SIZE, log)),
            "iat": seconds(self.at),
        }
        self.head(head)
        signer = self.head_key or self.key(GATEWAY, AUDIT_JWKS)
        file: Claims = {
            "format": 1,
            "receipt": sign_compact(
                "verification-receipt+jwt", receipt, self.receipt_key or self.key(GATEWAY, RECEIPT_JWKS)
            ),
            "entry": b64url_encode(entry),
            "checkpoint": sign_compact("audit-checkpoint+jwt", head, signer),
            "inclusion": [b64url_encode(each) for each in merkle.inclusion_proof(POSITION, SIZE, log)],
            "cosignatures": [self.cosigned(head, *cosigner) for cosigner in self.cosigners],
            "statements": [
                *(
                    token
                    for (_, subject), token in self.papers.documents.items()
                    if self.about_issuers or subject not in self.papers.issuers
                ),
                *self.planted,
            ],
            "events": self.events,
            "charters": self.charters or [self.papers.charter.document],
        }
        self.file(file)
        return write_json(file)

    def cosigned(self, head: Claims, witness: str, key: SoftwareKey | None) -> str:
        claims = {**head, "iss": witness, "sub": GATEWAY}
        self.cosignature(claims)
        return sign_compact("audit-cosignature+jwt", claims, key or self.key(witness, AUDIT_JWKS))

    def found(self, **options: Any) -> evidence.Evidence | Flaw:
        return compared(self.raw(), self.papers.charter, **options)


def seconds(at: Any) -> int:
    return int(at.timestamp())


def test_an_honest_case_is_proven() -> None:
    found = Case().found(witnesses=3)
    assert isinstance(found, Proven)
    assert (found.receipt.verdict, found.receipt.reason) == ("rejected", "CREDENTIAL_REVOKED")
    assert (found.log_size, found.witnesses) == (SIZE, OTHERS)


@pytest.mark.parametrize("algorithm", [Algorithm.ES256, Algorithm.ES384, Algorithm.ED25519])
def test_keys_of_every_algorithm_of_the_federation_count(algorithm: Algorithm) -> None:
    case = Case()
    for name in (RECEIPT_JWKS, AUDIT_JWKS):
        case.papers.gateway_keys[GATEWAY][name] = [generate_key(algorithm)]
    case.papers.federation_keys[GATEWAY] = generate_key(algorithm)
    renewed(case, GATEWAY)
    assert isinstance(case.found(), Proven)


def renewed(case: Case, *members: str) -> None:
    """Have members publish, and all anchors state, what there is now."""
    papers = case.papers
    for member in members:
        papers.documents[member, member] = papers.configuration(member)
        for anchor in ANCHORS:
            papers.documents[anchor, member] = papers.statement(anchor, member)
    papers.seal(*ANCHORS)


# -- whose keys count -------------------------------------------------------------------------------------------------

TWO = ANCHORS[:2]
"""Anchors without whom there is no quorum."""


def say(case: Case, anchors: Sequence[str], change: Change, **options: Any) -> None:
    for anchor in anchors:
        case.papers.say(anchor, GATEWAY, change=change, **options)


def unpinned(claims: Claims) -> None:
    del claims["metadata"]["recognition_gateway"][RECEIPT_JWKS]


def unlisted(case: Case, _anchors: Sequence[str]) -> None:
    case.papers.documents[GATEWAY, GATEWAY] = case.papers.configuration(GATEWAY, change=unpinned)


def unnamed(case: Case, anchors: Sequence[str]) -> None:
    for anchor in anchors:
        case.papers.documents[anchor, GATEWAY] = case.papers.statement(anchor, GATEWAY)


def with_entry(case: Case, anchors: Sequence[str], entry: Entry) -> None:
    for anchor in anchors:
        case.papers.seal(anchor, entries=case.papers.entries(anchor) | {GATEWAY: entry})


def renumbered(case: Case, anchors: Sequence[str]) -> None:
    for anchor in anchors:
        entry = case.papers.entries(anchor)[GATEWAY]
        assert isinstance(entry, Vouched)
        with_entry(case, [anchor], replace(entry, seq=entry.seq + 1))


def sealed(case: Case, anchors: Sequence[str], **options: Any) -> None:
    case.papers.seal(*anchors, **options)


def constrained(case: Case, anchors: Sequence[str], constraints: Any) -> None:
    say(case, anchors, lambda claims: claims.update(constraints=constraints))


def policed(case: Case, anchors: Sequence[str], policy: Any) -> None:
    say(case, anchors, lambda claims: claims.update(metadata_policy=policy))


def own_configuration(case: Case, _anchors: Sequence[str], **options: Any) -> None:
    case.papers.documents[GATEWAY, GATEWAY] = case.papers.configuration(GATEWAY, **options)


def claims_claim(case: Case, anchors: Sequence[str], name: str, value: Any) -> None:
    say(case, anchors, lambda claims: claims.update({name: value}))


TYPES = "allowed_entity_types"
NAMES = "naming_constraints"
BY_ANCHORS: Mapping[str, Callable[[Case, Sequence[str]], object]] = {
    "does not pin the key": lambda case, anchors: say(case, anchors, unpinned),
    "did not name its statement": unnamed,
    "names another number": renumbered,
    "suspended the gateway": lambda case, anchors: with_entry(
        case, anchors, Suspended(suspended_at=NOW, until=AT + SECOND, reason="looked into")
    ),
    "ended a suspension and says nothing": lambda case, anchors: with_entry(
        case, anchors, Suspended(suspended_at=NOW, until=NOW, reason="looked into")
    ),
    "withdrew its word": lambda case, anchors: with_entry(
        case, anchors, Withdrawn(revoked_at=NOW, reason="closed down")
    ),
    "has no snapshot": lambda case, anchors: sealed(case, anchors, change=lambda claims: claims.pop("snapshot")),
    "has an entry of two kinds in its snapshot": lambda case, anchors: sealed(
        case,
        anchors,
        change=lambda claims: claims["snapshot"]["members"][SHANGHAI].update(revoked_at=1, reason="both"),
    ),
    "speaks by a key that the charter does not list": lambda case, anchors: sealed(case, anchors, key=THIEF),
    "states by a key that the charter does not list": lambda case, anchors: say(case, anchors, unchanged, signer=THIEF),
    "does not publish the key it signs with": lambda case, anchors: sealed(
        case, anchors, change=lambda claims: claims.update(jwks=jwks_of([THIEF]))
    ),
    "attests another federation key": lambda case, anchors: say(case, anchors, unchanged, federation=[THIEF]),
    "stated it in the future": lambda case, anchors: say(case, anchors, unchanged, at=AT + timedelta(seconds=61)),
    "made a statement that lives too long": lambda case, anchors: say(
        case, anchors, lambda claims: claims.update(exp=claims["iat"] + 3_601)
    ),
    "made a statement that ends before it begins": lambda case, anchors: say(
        case, anchors, lambda claims: claims.update(exp=claims["iat"])
    ),
    "does not permit the name": lambda case, anchors: constrained(case, anchors, {NAMES: {"permitted": ["x.example"]}}),
    "permits the end of the name without its dot": lambda case, anchors: constrained(
        case, anchors, {NAMES: {"permitted": ["mrg.example"]}}
    ),
    "permits no name": lambda case, anchors: constrained(case, anchors, {NAMES: {"permitted": []}}),
    "does not let it be a gateway": lambda case, anchors: constrained(
        case, anchors, {TYPES: ["identity_credential_issuer"]}
    ),
    "constrains it by nonsense": lambda case, anchors: constrained(case, anchors, {"max_path_length": -1}),
    "calls a claim critical": lambda case, anchors: claims_claim(case, anchors, "crit", ["seq"]),
    "states it for one registration": lambda case, anchors: claims_claim(case, anchors, "aud", GATEWAY),
    "states what only the gateway may": lambda case, anchors: claims_claim(case, anchors, "authority_hints", ANCHORS),
    "forbids by policy": lambda case, anchors: policed(
        case, anchors, {"recognition_gateway": {"operator": {"essential": True}}}
    ),
    "has a policy that is none": lambda case, anchors: policed(case, anchors, {"recognition_gateway": 7}),
    "pins a private key": lambda case, anchors: say(
        case,
        anchors,
        lambda claims: claims["metadata"]["recognition_gateway"][RECEIPT_JWKS]["keys"][0].update(d="AAAA"),
    ),
    "pins the key under another name": lambda case, anchors: say(
        case,
        anchors,
        lambda claims: claims["metadata"]["recognition_gateway"][RECEIPT_JWKS]["keys"][0].update(kid="A" * 43),
    ),
    "pins it for another purpose as well": lambda case, anchors: say(
        case,
        anchors,
        lambda claims: claims["metadata"]["recognition_gateway"].update(
            {AUDIT_JWKS: claims["metadata"]["recognition_gateway"][RECEIPT_JWKS]}
        ),
    ),
    "attests it as a federation key as well": lambda case, anchors: say(
        case,
        anchors,
        unchanged,
        federation=[case.papers.federation_keys[GATEWAY], case.key(GATEWAY, RECEIPT_JWKS)],
    ),
}


@pytest.mark.parametrize("change", BY_ANCHORS.values(), ids=BY_ANCHORS.keys())
def test_a_key_counts_while_a_quorum_speaks_for_it(change: Callable[[Case, Sequence[str]], object]) -> None:
    one, two = Case(), Case()
    change(one, ANCHORS[:1])
    change(two, TWO)
    # With two anchors fewer the checkpoint's key may be gone as well; it is the receipt's that is looked at first.
    assert isinstance(one.found(), Proven)
    assert two.found() is Flaw.KEY_UNKNOWN


PERMITTED: Mapping[str, Callable[[Case, Sequence[str]], object]] = {
    "permits the name": lambda case, anchors: constrained(
        case, anchors, {NAMES: {"permitted": ["gateway.ah.mrg.example"]}, TYPES: ["recognition_gateway"]}
    ),
    "permits all names below": lambda case, anchors: constrained(
        case, anchors, {NAMES: {"permitted": [".mrg.example"]}, "max_path_length": 0}
    ),
    "takes away keys of another kind by policy": lambda case, anchors: policed(
        case, anchors, {"recognition_gateway": {"other_jwks": {"value": None}}}
    ),
    "says more than is known here": lambda case, anchors: claims_claim(case, anchors, "note", {"a": [1.5]}),
}


@pytest.mark.parametrize("change", PERMITTED.values(), ids=PERMITTED.keys())
def test_what_an_anchor_may_say_costs_nothing(change: Callable[[Case, Sequence[str]], object]) -> None:
    case = Case()
    change(case, ANCHORS)
    assert isinstance(case.found(), Proven)


@pytest.mark.parametrize(("published", "counts"), [(True, True), (False, False)])
def test_an_anchor_states_by_a_key_that_it_publishes(published: bool, counts: bool) -> None:
    """The charter lists two of each anchor."""
    case = Case()
    papers, second = case.papers, {anchor: key_of(f"second {anchor}") for anchor in ANCHORS}

    def listed(claims: Claims) -> None:
        for anchor in claims["anchors"]:
            anchor["jwks"]["keys"] += jwks_of([second[anchor["entity_id"]]])["keys"]

    papers.charter = papers.make_charter(listed)
    for anchor in TWO:
        keys = [papers.anchor_keys[anchor], *([second[anchor]] if published else [])]
        papers.documents[anchor, GATEWAY] = papers.statement(anchor, GATEWAY, signer=second[anchor])
        papers.seal(anchor, change=lambda claims, keys=keys: claims.update(jwks=jwks_of(keys)))
    found = case.found()
    assert isinstance(found, Proven) if counts else found is Flaw.KEY_UNKNOWN


BY_ITSELF: Mapping[str, Callable[[Case], object]] = {
    "does not list the key": lambda case: unlisted(case, ()),
    "signs by a key that nobody attests": lambda case: own_configuration(case, (), signer=THIEF),
    "signs by a key that it does not publish": lambda case: own_configuration(case, (), federation=[THIEF]),
    "names no superior": lambda case: own_configuration(case, (), hints=()),
    "names too few superiors": lambda case: own_configuration(case, (), hints=TWO),
    "calls a claim critical": lambda case: own_configuration(
        case, (), change=lambda claims: claims.update(crit=["seq"])
    ),
    "constrains itself": lambda case: own_configuration(case, (), change=lambda claims: claims.update(constraints={})),
    "has a parameter that is null": lambda case: own_configuration(
        case, (), change=lambda claims: claims["metadata"]["recognition_gateway"].update(note=None)
    ),
    "is not there": lambda case: case.papers.documents.pop((GATEWAY, GATEWAY)),
    "published the newest one without the key": lambda case: case.planted.append(
        case.papers.configuration(GATEWAY, at=NOW + SECOND, change=unpinned)
    ),
}


@pytest.mark.parametrize("change", BY_ITSELF.values(), ids=BY_ITSELF.keys())
def test_a_key_counts_while_its_gateway_lists_it(change: Callable[[Case], object]) -> None:
    case = Case()
    change(case)
    assert case.found() is Flaw.KEY_UNKNOWN


@pytest.mark.parametrize(("anchors", "counts"), [(3, True), (2, False)])
def test_a_federation_key_counts_when_a_quorum_attests_it(anchors: int, counts: bool) -> None:
    case, fresh = Case(), key_of("fresh")
    own = case.papers.federation_keys[GATEWAY]
    for anchor in ANCHORS[:anchors]:
        case.papers.say(anchor, GATEWAY, federation=[own, fresh])
    own_configuration(case, (), signer=fresh, federation=[fresh, own])
    found = case.found()
    assert isinstance(found, Proven) if counts else found is Flaw.KEY_UNKNOWN


def test_a_statement_of_before_is_not_put_in_place_of_a_newer_one() -> None:
    """Whoever hands the bundle on adds the anchors' words of before they fell silent."""
    case = Case()
    before = list(case.papers.documents.values())
    for anchor in TWO:
        case.papers.seal(
            anchor,
            at=NOW + SECOND,
            entries=case.papers.entries(anchor) | {GATEWAY: Withdrawn(revoked_at=NOW, reason="closed down")},
        )
    case.planted = before
    assert case.found() is Flaw.KEY_UNKNOWN


SHARED: Mapping[str, Callable[[Case], object]] = {
    "another gateway": lambda case: case.papers.gateway_keys[OTHERS[0]].update(
        {RECEIPT_JWKS: [case.key(GATEWAY, RECEIPT_JWKS)]}
    ),
    "an issuer": lambda case: case.papers.credential_keys.update({SHANGHAI: [case.key(GATEWAY, RECEIPT_JWKS)]}),
    "an anchor": lambda case: case.papers.gateway_keys[GATEWAY].update(
        {RECEIPT_JWKS: [case.papers.anchor_keys[ANCHORS[0]]]}
    ),
    "its own log": lambda case: case.papers.gateway_keys[GATEWAY].update(
        {AUDIT_JWKS: case.papers.gateway_keys[GATEWAY][RECEIPT_JWKS]}
    ),
    "its own federation": lambda case: case.papers.gateway_keys[GATEWAY].update(
        {RECEIPT_JWKS: [case.papers.federation_keys[GATEWAY]]}
    ),
}


@pytest.mark.parametrize("share", SHARED.values(), ids=SHARED.keys())
def test_a_key_that_serves_something_else_as_well_counts_for_nothing(share: Callable[[Case], object]) -> None:
    case = Case(about_issuers=True)
    share(case)
    renewed(case, GATEWAY, OTHERS[0], SHANGHAI)
    assert case.found() is Flaw.KEY_UNKNOWN


def grace(case: Case) -> timedelta:
    return case.papers.charter.agreement.stale_grace


@pytest.mark.parametrize(("late", "counts"), [(-SECOND, True), (timedelta(0), False)])
def test_what_was_said_counts_until_its_grace_is_over(late: timedelta, counts: bool) -> None:
    case = Case()
    case.at = NOW + 10 * MINUTE + grace(case) + late  # configurations of anchors are the first to end
    found = case.found(now=case.at)
    assert isinstance(found, Proven) if counts else found is Flaw.KEY_UNKNOWN


@pytest.mark.parametrize("later", [timedelta(0), timedelta(days=4_000)])
def test_the_time_of_the_receipt_decides_and_not_that_of_the_check(later: timedelta) -> None:
    assert isinstance(Case().found(now=AT + later), Proven)


def revoke(case: Case, kid: str, revocation: Revocation, **options: Any) -> None:
    case.events.append(case.papers.events(GATEWAY, {kid: revocation}, **options))


REVOCATIONS: Mapping[str, tuple[Revocation, bool]] = {
    "compromised": (compromised(), False),
    "compromised, as was found out later": (compromised(AT + HOUR), False),
    "superseded before": (superseded(NOW), False),
    "superseded in that second": (superseded(AT), False),
    "superseded after": (superseded(AT + SECOND), True),
}


@pytest.mark.parametrize(("revocation", "counts"), REVOCATIONS.values(), ids=REVOCATIONS.keys())
@pytest.mark.parametrize("name", [RECEIPT_JWKS, AUDIT_JWKS])
def test_a_revoked_key_counts_for_what_it_signed_before_it_was_superseded(
    name: str, revocation: Revocation, counts: bool
) -> None:
    case = Case()
    revoke(case, case.key(GATEWAY, name).public.kid, revocation)
    found = case.found()
    assert isinstance(found, Proven) if counts else found is Flaw.KEY_REVOKED


def test_a_head_that_was_signed_after_its_key_was_superseded_counts_for_nothing() -> None:
    """Also when the receipt was signed before: the gateway's check goes by the receipt alone."""
    case = Case(head=lambda claims: claims.update(iat=seconds(AT + 2 * MINUTE)))
    revoke(case, case.key(GATEWAY, AUDIT_JWKS).public.kid, superseded(AT + MINUTE))
    assert case.found(now=AT + HOUR) is Flaw.KEY_REVOKED


def test_a_configuration_by_a_revoked_federation_key_counts_for_nothing() -> None:
    case = Case()
    revoke(case, case.papers.federation_keys[GATEWAY].public.kid, compromised())
    assert case.found() is Flaw.KEY_UNKNOWN


def test_nobody_revokes_the_keys_of_another() -> None:
    case = Case()
    kid = case.key(GATEWAY, RECEIPT_JWKS).public.kid
    revoke(case, kid, compromised(), signer=THIEF)
    case.events.append(case.papers.events(OTHERS[0], {kid: compromised()}))
    case.events.append("rubbish")
    assert isinstance(case.found(), Proven)


def test_what_else_stands_in_a_bundle_vouches_for_nothing() -> None:
    case = Case(receipt_key=THIEF)
    pinned = {"recognition_gateway": {RECEIPT_JWKS: jwks_of([THIEF]), AUDIT_JWKS: jwks_of([THIEF])}}
    for signer in (None, THIEF):
        case.planted += [
            case.papers.statement(anchor, GATEWAY, signer=signer, change=lambda claims: claims.update(metadata=pinned))
            for anchor in ANCHORS
        ]
    case.planted += ["", "rubbish", "a.b.c"]
    assert case.found() is Flaw.KEY_UNKNOWN
    case.receipt_key = None
    assert isinstance(case.found(), Proven)


# -- what gateways say ------------------------------------------------------------------------------------------------

OTHER_HASH = b64url_encode(b"\1" * 32)
SAID: Mapping[str, tuple[Change, Flaw]] = {
    **{
        f"without {name}": (lambda claims, name=name: claims.pop(name), Flaw.MALFORMED)  # type: ignore[misc]
        for name in (
            *("iss", "aud", "iat", "verified_at", "jti", "matter", "verdict", "reason", "charter_version"),
            *("charter_sha256", "view_id", "log", "position", "entry_sha256"),
        )
    },
    "with a claim too many": (lambda claims: claims.update(sub="a person"), Flaw.MALFORMED),
    "accepted for a reason": (lambda claims: claims.update(verdict="accepted"), Flaw.MALFORMED),
    "with a verdict that is none": (lambda claims: claims.update(verdict="perhaps"), Flaw.MALFORMED),
    "with a verdict that is a list": (lambda claims: claims.update(verdict=["rejected"]), Flaw.MALFORMED),
    "with many services": (lambda claims: claims.update(aud=[claims["aud"]]), Flaw.MALFORMED),
    "signed before the verdict": (lambda claims: claims.update(iat=claims["verified_at"] - 1), Flaw.MALFORMED),
    "with a time that is no number": (lambda claims: claims.update(iat=True), Flaw.MALFORMED),
    "with a position before the log": (lambda claims: claims.update(position=-1), Flaw.MALFORMED),
    "with half a hash": (lambda claims: claims.update(entry_sha256="AAAA"), Flaw.MALFORMED),
    "of an issuer": (lambda claims: claims.update(iss=SHANGHAI), Flaw.GATEWAY_UNKNOWN),
    "of a stranger": (lambda claims: claims.update(iss="https://gateway.example"), Flaw.GATEWAY_UNKNOWN),
    "of nobody": (lambda claims: claims.update(iss=[GATEWAY]), Flaw.GATEWAY_UNKNOWN),
    "of another gateway": (lambda claims: claims.update(iss=OTHERS[0]), Flaw.KEY_UNKNOWN),
    "about another entry": (lambda claims: claims.update(entry_sha256=OTHER_HASH), Flaw.ENTRY_MISMATCH),
    "for another service": (lambda claims: claims.update(aud=f"{GATEWAY}/services/x"), Flaw.ENTRY_MISMATCH),
    "about another verification": (lambda claims: claims.update(jti="A" * 22), Flaw.ENTRY_MISMATCH),
    "about another matter": (lambda claims: claims.update(matter="ZZ-CX"), Flaw.ENTRY_MISMATCH),
    "of another time": (lambda claims: claims.update(verified_at=claims["verified_at"] - 1), Flaw.ENTRY_MISMATCH),
    "of another verdict": (lambda claims: claims.update(verdict="indeterminate"), Flaw.ENTRY_MISMATCH),
    "for another reason": (lambda claims: claims.update(reason="EXPIRED"), Flaw.ENTRY_MISMATCH),
    "by another view": (lambda claims: claims.update(view_id="A" * 22), Flaw.ENTRY_MISMATCH),
    "under another charter": (lambda claims: claims.update(charter_sha256=OTHER_HASH), Flaw.CHARTER_INVALID),
    "under a charter to come": (lambda claims: claims.update(charter_version=2), Flaw.CHARTER_INVALID),
    "about another log": (lambda claims: claims.update(log="another"), Flaw.PROOF_INVALID),
    "about another position": (lambda claims: claims.update(position=POSITION + 1), Flaw.PROOF_INVALID),
    "about a position past the head": (lambda claims: claims.update(position=SIZE), Flaw.PROOF_INVALID),
}


@pytest.mark.parametrize(("change", "flaw"), SAID.values(), ids=SAID.keys())
def test_a_receipt_says_what_it_must_and_what_the_entry_says(change: Change, flaw: Flaw) -> None:
    assert Case(receipt=change).found() is flaw


@pytest.mark.parametrize(("ahead", "flaw"), [(60, None), (61, Flaw.NOT_YET_VALID)])
@pytest.mark.parametrize("document", ["receipt", "head"])
def test_nothing_is_dated_after_now(document: str, ahead: int, flaw: Flaw | None) -> None:
    case = Case(**{document: lambda claims: claims.update(iat=seconds(AT) + ahead)})  # type: ignore[arg-type]
    found = case.found()
    assert isinstance(found, Proven) if flaw is None else found is flaw
    assert isinstance(by_client(case.raw(), case.papers.charter.document, now=None), Proven)


SAID_IN_THE_LOG: Mapping[str, tuple[Claims, Flaw]] = {
    "another verdict": ({"verdict": "accepted", "reason": ""}, Flaw.ENTRY_MISMATCH),
    "another service": ({"service": f"{GATEWAY}/services/school"}, Flaw.ENTRY_MISMATCH),
    "another time": ({"decided_at": NOW + SECOND}, Flaw.ENTRY_MISMATCH),
    "another charter": ({"charter_sha256": OTHER_HASH}, Flaw.ENTRY_MISMATCH),
}


@pytest.mark.parametrize(("said", "flaw"), SAID_IN_THE_LOG.values(), ids=SAID_IN_THE_LOG.keys())
def test_an_entry_says_what_the_receipt_says(said: Claims, flaw: Flaw) -> None:
    assert Case(said=said).found() is flaw


def edited(change: Change) -> Callable[[bytes], bytes]:
    def edit(raw: bytes) -> bytes:
        entry = json.loads(raw)
        change(entry)
        return json.dumps(entry, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()

    return edit


ENTRIES: Mapping[str, Callable[[bytes], bytes]] = {
    "with white space": lambda raw: raw + b" ",
    "in another order": lambda raw: json.dumps(dict(reversed(json.loads(raw).items()))).encode(),
    "of another kind": edited(lambda entry: entry.update(kind="dispute")),
    "of another format": edited(lambda entry: entry.update(format=2)),
    "with a member too many": edited(lambda entry: entry.update(note="")),
    "that says more": edited(lambda entry: entry["body"].update(name="a person")),
    "with a number for a text": edited(lambda entry: entry["body"].update(terminal=7)),
    "with a time that is none": edited(lambda entry: entry.update(at=-1)),
    "that is none": lambda _: b"[]",
}


@pytest.mark.parametrize("change", ENTRIES.values(), ids=ENTRIES.keys())
def test_an_entry_has_one_spelling(change: Callable[[bytes], bytes]) -> None:
    assert Case(entry=change).found() is Flaw.MALFORMED


def signed_otherwise(name: str) -> Change:
    def change(file: Claims) -> None:
        file[name] = file[name][:-6] + "AAAAAA"

    return change


@pytest.mark.parametrize("name", ["receipt", "checkpoint"])
def test_a_signature_that_does_not_hold_is_none(name: str) -> None:
    assert Case(file=signed_otherwise(name)).found() is Flaw.SIGNATURE_INVALID


def test_a_key_signs_what_it_is_for() -> None:
    case = Case()
    case.receipt_key = case.key(GATEWAY, AUDIT_JWKS)
    assert case.found() is Flaw.KEY_UNKNOWN
    case = Case()
    case.head_key = case.key(GATEWAY, RECEIPT_JWKS)
    assert case.found() is Flaw.KEY_UNKNOWN


def test_the_algorithm_is_the_keys() -> None:
    case = Case()
    key = case.key(GATEWAY, RECEIPT_JWKS)

    def renamed(file: Claims) -> None:
        header = {"alg": "ES384", "typ": "verification-receipt+jwt", "kid": key.public.kid}
        signed = f"{b64url_encode(write_json(header))}.{file['receipt'].split('.')[1]}"
        file["receipt"] = f"{signed}.{b64url_encode(key.sign(signed.encode()))}"

    case.file = renamed
    assert case.found() is Flaw.SIGNATURE_INVALID


def test_a_document_passes_for_no_other() -> None:
    case = Case()
    key = case.key(GATEWAY, RECEIPT_JWKS)
    case.file = lambda file: file.update(receipt=sign_compact("audit-checkpoint+jwt", claims_of(file["receipt"]), key))
    assert case.found() is Flaw.MALFORMED


def claims_of(token: str) -> Claims:
    claims: Claims = json.loads(encoding.b64url_decode(token.split(".")[1]))
    return claims


# -- the place in the log ---------------------------------------------------------------------------------------------

HEADS: Mapping[str, tuple[Change, Flaw]] = {
    "of another root": (lambda claims: claims.update(root=OTHER_HASH), Flaw.PROOF_INVALID),
    "of another size": (lambda claims: claims.update(size=SIZE + 40), Flaw.PROOF_INVALID),
    "of another log": (lambda claims: claims.update(log="another"), Flaw.PROOF_INVALID),
    "that is too small": (lambda claims: claims.update(size=POSITION), Flaw.PROOF_INVALID),
    "of nothing": (
        lambda claims: claims.update(size=0, root=b64url_encode(merkle.EMPTY_ROOT)),
        Flaw.PROOF_INVALID,
    ),
    "with a claim too many": (lambda claims: claims.update(note=""), Flaw.MALFORMED),
    "with a receipt's claim": (lambda claims: claims.update(reason="EXPIRED"), Flaw.MALFORMED),
    "without a size": (lambda claims: claims.pop("size"), Flaw.MALFORMED),
    "of a size that is no number": (lambda claims: claims.update(size=str(SIZE)), Flaw.MALFORMED),
}


@pytest.mark.parametrize(("change", "flaw"), HEADS.values(), ids=HEADS.keys())
def test_a_head_proves_what_is_in_it(change: Change, flaw: Flaw) -> None:
    assert Case(head=change).found() is flaw


def test_a_head_of_another_gateway_proves_nothing() -> None:
    case = Case(head=lambda claims: claims.update(iss=OTHERS[0]))
    case.head_key = case.key(OTHERS[0], AUDIT_JWKS)
    assert case.found() is Flaw.PROOF_INVALID


PROOFS: Mapping[str, Change] = {
    "with a hash too few": lambda file: file["inclusion"].pop(),
    "with a hash too many": lambda file: file["inclusion"].append(OTHER_HASH),
    "with another hash": lambda file: file["inclusion"].__setitem__(0, OTHER_HASH),
    "in another order": lambda file: file["inclusion"].reverse(),
    "with half a hash": lambda file: file["inclusion"].__setitem__(0, "AAAA"),
    "without a hash": lambda file: file["inclusion"].clear(),
}


@pytest.mark.parametrize("change", PROOFS.values(), ids=PROOFS.keys())
def test_a_proof_leads_to_the_root(change: Change) -> None:
    assert Case(file=change).found() is Flaw.PROOF_INVALID


@given(
    size=st.integers(1, 70),
    place=st.integers(0, 69),
    change=st.sampled_from(["none", "drop", "add", "swap", "turn", "index", "size"]),
    where=st.integers(0, 6),
)
def test_proofs_are_judged_as_the_gateway_judges_them(size: int, place: int, change: str, where: int) -> None:
    leaves = [merkle.leaf_hash(b"%d" % number) for number in range(size)]
    log, index = Log(leaves), place % size
    root, leaf = merkle.root_hash(size, log), leaves[index]
    proof = list(merkle.inclusion_proof(index, size, log))
    at = where % len(proof) if proof else 0
    match change:
        case "drop":
            del proof[at : at + 1]
        case "add":
            proof.insert(at, leaf)
        case "swap":
            proof.reverse()
        case "turn" if proof:
            proof[at] = bytes(reversed(proof[at]))
        case "index":
            index = (index + where) % size
        case "size":
            size = max(size + where - 3, index + 1)
        case _:
            pass
    try:
        merkle.check_inclusion(leaf, index, size, proof, root)
        holds = True
    except Rejected:
        holds = False
    assert (evidence._root(leaf, index, size, proof) == root) is holds


# -- who has seen it --------------------------------------------------------------------------------------------------

UNSEEN: Mapping[str, Callable[[Case], object]] = {
    "there is none": lambda case: setattr(case, "cosigners", ()),
    "the keeper's own": lambda case: setattr(case, "cosigners", [(GATEWAY, None)]),
    "a thief's": lambda case: setattr(case, "cosigners", [(OTHERS[0], THIEF)]),
    "a stranger's": lambda case: setattr(case, "cosigners", [("https://gateway.example", THIEF)]),
    "by the key for receipts": lambda case: setattr(
        case, "cosigners", [(OTHERS[0], case.key(OTHERS[0], RECEIPT_JWKS))]
    ),
    "by another's key": lambda case: setattr(case, "cosigners", [(OTHERS[0], case.key(OTHERS[1], AUDIT_JWKS))]),
    "of another root": lambda case: setattr(case, "cosignature", lambda claims: claims.update(root=OTHER_HASH)),
    "of another size": lambda case: setattr(case, "cosignature", lambda claims: claims.update(size=SIZE - 1)),
    "of another log": lambda case: setattr(case, "cosignature", lambda claims: claims.update(log="another")),
    "of another gateway's log": lambda case: setattr(
        case, "cosignature", lambda claims: claims.update(sub="https://gateway.example")
    ),
    "with a claim too many": lambda case: setattr(case, "cosignature", lambda claims: claims.update(note="")),
    "from the future": lambda case: setattr(case, "cosignature", lambda claims: claims.update(iat=seconds(AT) + 61)),
    "that are no such documents": lambda case: setattr(
        case, "file", lambda file: file.update(cosignatures=["", "rubbish", file["checkpoint"], file["receipt"]])
    ),
    "by keys that were compromised": lambda case: case.events.extend(
        case.papers.events(gateway, {case.key(gateway, AUDIT_JWKS).public.kid: compromised()}) for gateway in OTHERS
    ),
}


@pytest.mark.parametrize("change", UNSEEN.values(), ids=UNSEEN.keys())
def test_what_no_other_province_has_seen_is_signed_and_no_more(change: Callable[[Case], object]) -> None:
    case = Case()
    change(case)
    found = case.found()
    assert isinstance(found, Signed)
    assert (found.in_log, found.witnesses) == (True, ())


@pytest.mark.parametrize("wanted", [1, 2, 3])
def test_as_many_provinces_have_to_have_seen_it_as_are_asked_for(wanted: int) -> None:
    case = Case()
    for number in range(4):
        case.cosigners = [(gateway, None) for gateway in OTHERS[:number]]
        found = case.found(witnesses=wanted)
        assert not isinstance(found, Flaw)
        assert isinstance(found, Proven) is (number >= wanted)
        assert found.witnesses == OTHERS[:number]


def test_a_province_counts_once_and_never_for_itself() -> None:
    case = Case()
    papers, twins = case.papers, {SH: "https://gateway2.sh.mrg.example", AH: "https://gateway2.ah.mrg.example"}
    papers.charter = papers.make_charter(
        lambda claims: claims["members"].extend(
            {
                "entity_id": twin,
                "province": province.code,
                "entity_types": ["recognition_gateway"],
                "name_zh": "网关",
                "name_en": "Gateway",
            }
            for province, twin in twins.items()
        )
    )
    for twin in twins.values():
        papers.federation_keys[twin] = key_of(twin)
        papers.gateway_keys[twin] = {name: [key_of(f"{name} {twin}")] for name in (RECEIPT_JWKS, AUDIT_JWKS)}
    renewed(case, *twins.values())
    case.cosigners = [(twins[AH], None), (twins[SH], None), (OTHERS[0], None)]
    found = case.found(witnesses=2)
    assert isinstance(found, Signed)
    assert found.witnesses == (twins[SH],)


# -- charters ---------------------------------------------------------------------------------------------------------


def successor(case: Case, old: Sequence[str], new: Sequence[str], change: Change = unchanged) -> str:
    """The next charter, with keys of its own for the anchors, signed by some of the old ones and some of the new."""
    papers = case.papers
    claims = json.loads(encoding.b64url_decode(json.loads(papers.charter.document)["payload"]))
    claims |= {"version": 2, "prev_sha256": papers.charter.sha256}
    for anchor in claims["anchors"]:
        anchor["jwks"] = jwks_of([key_of(f"new {anchor['entity_id']}")])
    change(claims)
    document = unsigned(draft(claims))
    for signers, keys in ((old, papers.anchor_keys), (new, {anchor: key_of(f"new {anchor}") for anchor in ANCHORS})):
        for anchor in signers:
            document = add_signature(document, keys[anchor], allow_unlisted=True)
    return document


def under(case: Case, document: str) -> None:
    """Let the anchors speak by the keys of the next charter."""
    papers = case.papers
    papers.anchor_keys = {anchor: key_of(f"new {anchor}") for anchor in ANCHORS}
    renewed(case, *papers.federation_keys)
    case.charters = [papers.charter.document, document]


def test_charters_are_followed() -> None:
    case = Case()
    under(case, successor(case, ANCHORS[:3], ANCHORS[1:]))
    assert isinstance(case.found(), Proven)


def test_a_verdict_from_before_the_pinned_charter_is_proven() -> None:
    case = Case()
    document = successor(case, ANCHORS[:3], ANCHORS[1:])
    under(case, document)
    new = verify_successor(case.papers.charter, document)
    assert isinstance(compared(case.raw(), new, sha256=new.sha256), Proven)


def test_a_bundle_may_begin_after_the_pinned_charter_and_leave_none_out() -> None:
    case = Case()
    document = successor(case, ANCHORS, ANCHORS)
    under(case, document)
    case.charters = [document]
    assert isinstance(case.found(), Proven)
    case.charters = [successor(case, ANCHORS, ANCHORS, lambda claims: claims.update(version=3))]
    assert case.found() is Flaw.CHARTER_INVALID


def test_charters_of_another_history_are_refused() -> None:
    case = Case()
    raw, other = case.raw(), case.papers.make_charter(lambda claims: claims.update(exp=claims["exp"] - 1))
    assert by_client(raw, other.document) is Flaw.CHARTER_INVALID


UNFOLLOWED: Mapping[str, tuple[Sequence[str], Sequence[str], Change, Flaw]] = {
    "too few of the old anchors": (TWO, ANCHORS, unchanged, Flaw.QUORUM_NOT_MET),
    "too few of the new anchors": (ANCHORS, TWO, unchanged, Flaw.QUORUM_NOT_MET),
    "nobody": ((), (), unchanged, Flaw.QUORUM_NOT_MET),
    "all, leaving one out": (ANCHORS, ANCHORS, lambda claims: claims.update(version=3), Flaw.CHARTER_INVALID),
    "all, after another one": (
        ANCHORS,
        ANCHORS,
        lambda claims: claims.update(prev_sha256=OTHER_HASH),
        Flaw.CHARTER_INVALID,
    ),
}


@pytest.mark.parametrize(("old", "new", "change", "flaw"), UNFOLLOWED.values(), ids=UNFOLLOWED.keys())
def test_a_charter_follows_by_both_quorums(old: Sequence[str], new: Sequence[str], change: Change, flaw: Flaw) -> None:
    case = Case()
    under(case, successor(case, old, new, change))
    assert case.found() is flaw


def test_the_charter_given_is_the_pinned_one() -> None:
    case = Case()
    raw, charter = case.raw(), case.papers.charter
    assert isinstance(by_client(raw, charter.document, sha256=charter.sha256), Proven)
    assert by_client(raw, charter.document, sha256=OTHER_HASH) is Flaw.CHARTER_INVALID
    assert by_client(raw, charter.document, sha256="") is Flaw.CHARTER_INVALID


@pytest.mark.parametrize(("signers", "counts"), [(3, True), (2, False)])
def test_the_charter_given_is_signed_by_its_quorum(signers: int, counts: bool) -> None:
    case = Case()
    file = json.loads(case.papers.charter.document)
    del file["signatures"][signers:]
    document = json.dumps(file)
    case.charters = [document]
    found = by_client(case.raw(), document)
    assert isinstance(found, Proven) if counts else found is Flaw.QUORUM_NOT_MET


def test_an_anchor_counts_once_however_often_it_signs() -> None:
    case = Case()
    file = json.loads(case.papers.charter.document)
    file["signatures"] = [*file["signatures"][:2], *file["signatures"][:2]]
    assert by_client(case.raw(), json.dumps(file)) is Flaw.QUORUM_NOT_MET


def test_nothing_is_proven_under_a_charter_that_had_expired() -> None:
    case = Case()
    case.papers.charter = case.papers.make_charter(lambda claims: claims.update(exp=seconds(AT)))
    assert case.found() is Flaw.CHARTER_EXPIRED
    case.papers.charter = case.papers.make_charter(lambda claims: claims.update(exp=seconds(AT) + 1))
    assert isinstance(case.found(), Proven)


def anchor_of(claims: Claims, number: int) -> Claims:
    anchor: Claims = claims["anchors"][number]
    return anchor


BAD_CHARTERS: Mapping[str, Change] = {
    "with two anchors of one province": lambda claims: anchor_of(claims, 1).update(province="sh"),
    "with one anchor twice": lambda claims: anchor_of(claims, 1).update(entity_id=ANCHORS[0]),
    "with one key twice": lambda claims: anchor_of(claims, 1).update(jwks=anchor_of(claims, 0)["jwks"]),
    "with an anchor that is a member": lambda claims: claims["members"][0].update(entity_id=ANCHORS[0]),
    "with one member twice": lambda claims: claims["members"][0].update(entity_id=claims["members"][1]["entity_id"]),
    "with a quorum of half": lambda claims: claims.update(quorum=2),
    "with a quorum of more than all": lambda claims: claims.update(quorum=5),
    "of a province that is none": lambda claims: anchor_of(claims, 1).update(province="bj"),
    "with a member too many": lambda claims: claims.update(note=""),
    "without an end": lambda claims: claims.pop("exp"),
    "with too late an end": lambda claims: claims.update(exp=claims["iat"] + 400 * 86_400 + 1),
    "with too long a grace": lambda claims: claims["agreement"].update(stale_grace_seconds=86_401),
    "of the first version, after another": lambda claims: claims.update(prev_sha256=OTHER_HASH),
    "with a key of small order": lambda claims: anchor_of(claims, 0).update(
        jwks={"keys": [{"kty": "OKP", "crv": "Ed25519", "x": b64url_encode(b"\1" + b"\0" * 31), "kid": OTHER_HASH}]}
    ),
}


@pytest.mark.parametrize("change", BAD_CHARTERS.values(), ids=BAD_CHARTERS.keys())
def test_a_charter_that_would_give_somebody_two_votes_or_more_is_none(change: Change) -> None:
    case = Case()
    file = json.loads(case.papers.charter.document)
    claims = json.loads(encoding.b64url_decode(file["payload"]))
    change(claims)
    document = unsigned(write_json(claims))
    for key in case.papers.anchor_keys.values():
        document = signed_raw(document, key)
    assert by_client(case.raw(), document) is Flaw.CHARTER_INVALID
    with pytest.raises(Rejected) as refused:
        parse_charter(document)
    assert refused.value.reason is Reason.CHARTER_INVALID


def signed_raw(document: str, key: SoftwareKey) -> str:
    """Add a signature without looking at what is signed."""
    file = json.loads(document)
    header = {"alg": "ES256", "typ": "recognition-charter+jws", "kid": key.public.kid}
    protected = b64url_encode(write_json(header))
    signature = b64url_encode(key.sign(f"{protected}.{file['payload']}".encode()))
    file["signatures"].append({"protected": protected, "signature": signature})
    return json.dumps(file)


# -- the file ---------------------------------------------------------------------------------------------------------

SHAPES: Mapping[str, Change] = {
    "of another format": lambda file: file.update(format=2),
    "of a format that is no number": lambda file: file.update(format=True),
    "without receipt": lambda file: file.pop("receipt"),
    "with a member too many": lambda file: file.update(note=""),
    "with a head and no proof": lambda file: file.pop("inclusion"),
    "with a proof and no head": lambda file: file.pop("checkpoint"),
    "with a receipt that is no string": lambda file: file.update(receipt=7),
    "with a receipt that is rubbish": lambda file: file.update(receipt="a.b.c"),
    "with a receipt that is too long": lambda file: file.update(receipt=file["receipt"] + "A" * 4_096),
    "with an entry that is no base64url": lambda file: file.update(entry="="),
    "with an entry that is too long": lambda file: file.update(entry="A" * 65_540),
    "with statements that are no array": lambda file: file.update(statements="a"),
    "with a statement that is no string": lambda file: file.update(statements=[1]),
    "with too many statements": lambda file: file.update(statements=["a"] * 4_001),
    "with too many events": lambda file: file.update(events=["a"] * 801),
    "with too many cosignatures": lambda file: file.update(cosignatures=["a"] * 65),
    "with a proof without end": lambda file: file.update(inclusion=[OTHER_HASH] * 42),
}


@pytest.mark.parametrize("change", SHAPES.values(), ids=SHAPES.keys())
def test_a_file_of_another_shape_is_refused(change: Change) -> None:
    assert Case(file=change).found() is Flaw.MALFORMED


def test_a_file_is_bytes_or_text() -> None:
    case = Case()
    raw, document = case.raw(), case.papers.charter.document
    assert by_client(raw.decode(), document) == by_client(raw, document)
    for broken in (b"", b"\xff", b"[]", raw + b"{}", "\ud800", " " * 33_554_433):
        assert by_client(broken, document) is Flaw.MALFORMED


def test_what_is_asked_wrongly_is_no_finding() -> None:
    case = Case()
    for witnesses in (0, 4):
        with pytest.raises(ValueError, match="witnesses"):
            evidence.check(case.raw(), case.papers.charter.document, witnesses=witnesses)
    with pytest.raises(ValueError, match="time zone"):
        evidence.check(case.raw(), case.papers.charter.document, now=NOW.replace(tzinfo=None))


def test_no_answer_is_taken_for_yes() -> None:
    for case in (Case(), Case(cosigners=())):
        with pytest.raises(TypeError):
            bool(case.found())


# -- whatever else ----------------------------------------------------------------------------------------------------


def test_whatever_a_file_holds_the_client_claims_no_more_than_the_gateway() -> None:
    rng, case = seeded(9162), Case()
    raw, charter = case.raw(), case.papers.charter
    for _ in range(100):
        compared(mutated(raw, rng), charter)


def test_whatever_a_document_says_the_client_claims_no_more_than_the_gateway() -> None:
    """Bytes inside the documents: in the file, base64url would catch most changes."""
    rng, case = seeded(6962), Case()
    file = json.loads(case.raw())
    signers = {
        **{key.public.kid: key for key in case.papers.anchor_keys.values()},
        **{key.public.kid: key for key in case.papers.federation_keys.values()},
        **{key.public.kid: key for own in case.papers.gateway_keys.values() for (key,) in own.values()},
    }
    proven = 0
    for _ in range(100):
        changed = json.loads(json.dumps(file))
        for _ in range(rng.randint(1, 3)):
            place = rng.choice(["receipt", "checkpoint", "cosignatures", "statements", "statements", "statements"])
            several = changed[place] if isinstance(changed[place], list) else None
            index = rng.randrange(len(several)) if several else 0
            token = several[index] if several else changed[place]
            altered = resigned(token, partial(mutated, rng=rng), signers)
            if several:
                several[index] = altered
            else:
                changed[place] = altered
        proven += isinstance(compared(write_json(changed), case.papers.charter), Proven)
    assert proven  # else nothing was compared


def resigned(token: str, change: Callable[[bytes], bytes], signers: Mapping[str, SoftwareKey]) -> str:
    """Change what a document says, and sign it again by the key that it names."""
    protected, payload, _ = token.split(".")
    kid = json.loads(encoding.b64url_decode(protected))["kid"]
    signed = f"{protected}.{b64url_encode(change(encoding.b64url_decode(payload)))}"
    return f"{signed}.{b64url_encode(signers[kid].sign(signed.encode()))}"


DAMAGES: Mapping[str, Callable[[Case], object]] = {
    **{
        f"{count} anchors: {name}": lambda case, change=change, count=count: change(case, ANCHORS[:count])  # type: ignore[misc]
        for name, change in BY_ANCHORS.items()
        for count in (1, 2)
    },
    **{f"all anchors: {name}": lambda case, change=change: change(case, ANCHORS) for name, change in PERMITTED.items()},  # type: ignore[misc]
    **{f"the gateway: {name}": change for name, change in BY_ITSELF.items() if name != "is not there"},
    **{f"cosignatures: {name}": change for name, change in UNSEEN.items()},
    **{
        f"receipt: {name}": lambda case, change=change: setattr(case, "receipt", change)  # type: ignore[misc]
        for name, (change, _) in SAID.items()
    },
    **{
        f"head: {name}": lambda case, change=change: setattr(case, "head", change)  # type: ignore[misc]
        for name, (change, _) in HEADS.items()
    },
    **{
        f"file: {name}": lambda case, change=change: setattr(case, "file", change)  # type: ignore[misc]
        for name, change in {**SHAPES, **PROOFS}.items()
    },
}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    names=st.lists(st.sampled_from(sorted(DAMAGES)), max_size=3, unique=True),
    late=st.integers(-120, 90_000),
    shuffled=st.randoms(use_true_random=False),
)
def test_damages_together_make_no_proof(names: Sequence[str], late: int, shuffled: Any) -> None:
    case = Case(at=AT + timedelta(seconds=late))
    for name in names:
        DAMAGES[name](case)
    file = json.loads(case.raw())
    for place in ("statements", "cosignatures"):
        if isinstance(file.get(place), list):
            shuffled.shuffle(file[place])
    compared(write_json(file), case.papers.charter, max(case.at, NOW))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**54), 2**54) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)


@given(
    value=st.dictionaries(st.text(max_size=3), VALUES, max_size=4), seed=st.integers(0, 2**32), changed=st.booleans()
)
def test_json_is_read_as_the_gateway_reads_it(value: Any, seed: int, changed: bool) -> None:
    raw = json.dumps(value, ensure_ascii=bool(seed % 2)).encode("utf-8", "surrogatepass")
    if changed:
        raw = mutated(raw, seeded(seed))
    limits = {"max_bytes": 200, "max_depth": 3, "max_members": 12, "max_string": 8}
    try:
        known: Any = encoding.parse_json_object(raw, encoding.JsonLimits(**limits))
    except Rejected:
        known = None
    try:
        found: Any = _jose.parse_json(raw, _jose.Limits(*limits.values()))
    except _jose.Unreadable:
        found = None
    assert json.dumps(found) == json.dumps(known)


@given(text=st.text(alphabet="AQgwEIMz09-_=+/ \n\u00e9", max_size=9))
def test_base64url_is_read_as_the_gateway_reads_it(text: str) -> None:
    try:
        known: bytes | None = encoding.b64url_decode(text)
    except Rejected:
        known = None
    try:
        found: bytes | None = _jose.decode(text)
    except _jose.Unreadable:
        found = None
    assert found == known


# -- by itself --------------------------------------------------------------------------------------------------------

CHECK_ALONE = """
import json, sys
from importlib.metadata import version
from pathlib import Path

client, folder = sys.argv[1:]
sys.path.insert(0, client)
from recognition import evidence

assert evidence.__file__.startswith(client), evidence.__file__
found = evidence.check(Path(folder, "bundle.json").read_bytes(), Path(folder, "charter.json").read_text())
foreign = sorted({"grpc", "google", "gateway", "jwt"} & {name.partition(".")[0] for name in sys.modules})
json.dump([type(found).__name__, list(found.witnesses), foreign, version("cryptography")], sys.stdout)
"""


def check_alone(python: Path, folder: Path) -> Any:
    case = Case()
    (folder / "bundle.json").write_bytes(case.raw())
    (folder / "charter.json").write_text(case.papers.charter.document, encoding="utf-8")
    command = [str(python), "-I", "-W", "error", "-c", CHECK_ALONE, str(CLIENT), str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_it_needs_neither_grpc_nor_the_gateway(tmp_path: Path) -> None:
    assert check_alone(Path(sys.executable), tmp_path)[:3] == ["Proven", list(OTHERS), []]


def test_it_runs_on_the_oldest_versions_we_promise(tmp_path: Path) -> None:
    if not OLDEST.exists():
        pytest.fail(f"{OLDEST.relative_to(ROOT)} is missing: run `make setup`")
    *found, cryptography = check_alone(OLDEST, tmp_path)
    assert found == ["Proven", list(OTHERS), []]
    assert f'"cryptography>={cryptography.removesuffix(".0.0")}"' in (CLIENT / "pyproject.toml").read_text()


def test_every_reason_of_the_contract_is_one_that_a_receipt_may_give() -> None:
    assert all(evidence._REASON.fullmatch(reason) for reason in Reason)
