"""Receipts and evidence bundles: what they prove, and what they do not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from gateway.core.charter import Charter, add_signature, draft, unsigned, verify_successor
from gateway.core.checkpoint import CHECKPOINT_TYPE, MAX_CHARS, make_checkpoint, make_cosignature, read_checkpoint
from gateway.core.encoding import b64url_encode, write_json
from gateway.core.identifiers import Province
from gateway.core.jose import PublicKey, SoftwareKey, parse_compact, sign_compact
from gateway.core.merkle import append, inclusion_proof, leaf_hash, root_hash
from gateway.core.reasons import Indeterminate, Reason, Rejected
from gateway.core.receipt import (
    MAX_COSIGNATURES,
    MAX_ENTRY_CHARS,
    RECEIPT_TYPE,
    EvidenceBundle,
    Receipt,
    ReceiptCheck,
    Verdict,
    check_bundle,
    make_receipt,
    read_bundle,
    read_receipt,
    view_of,
    write_bundle,
)
from gateway.core.trust import TrustedKey
from gateway.lab.charter import charter_claims, entity_ids
from tests.core.papers import (
    ANCHORS,
    GATEWAY,
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    SHANGHAI,
    Papers,
    compromised,
    key_of,
    reason_of,
    superseded,
)
from tests.core.tokens import mutated, seeded, survives

LOG = "verdicts-2026"
SERVICE = f"{GATEWAY}/services/court"
WITNESSES = tuple(entity_ids(province).gateway for province in Province)[:3]
LATER = NOW + 5 * MINUTE
PAPERS = Papers()
CHARTER = PAPERS.charter


def receipt_key(gateway: str) -> SoftwareKey:
    return key_of(f"receipts of {gateway}")


def audit_key(gateway: str) -> SoftwareKey:
    return key_of(f"audit of {gateway}")


def as_key_of(keys: Callable[[str], SoftwareKey]) -> Callable[[str, str], PublicKey]:
    def look_up(gateway: str, kid: str) -> PublicKey:
        if keys(gateway).public.kid != kid:
            raise Rejected(Reason.KEY_UNKNOWN, "no such key")
        return keys(gateway).public

    return look_up


@dataclass(frozen=True, kw_only=True)
class Keys:
    """A trust view that knows every gateway's keys."""

    superseded: Mapping[str, datetime]
    stale: frozenset[str]

    def receipt_key(self, gateway: str, kid: str, now: datetime, /) -> TrustedKey:
        return self._key(gateway, as_key_of(receipt_key)(gateway, kid), now)

    def audit_key(self, gateway: str, kid: str, now: datetime, /) -> TrustedKey:
        return self._key(gateway, as_key_of(audit_key)(gateway, kid), now)

    def _key(self, gateway: str, key: PublicKey, now: datetime) -> TrustedKey:
        if key.kid in self.stale:
            raise Indeterminate(Reason.TRUST_STALE, "too old")
        return TrustedKey(
            key=key,
            anchors=tuple(ANCHORS),
            fresh_until=now + HOUR,
            stale_until=now + HOUR,
            signed_before=self.superseded.get(key.kid),
        )


RECEIPT = Receipt(
    gateway=GATEWAY,
    service=SERVICE,
    issued_at=LATER,
    verified_at=NOW,
    verification_id="mK2pQ7hTz0yV5sXa9bRw3g",
    matter="HK-QY",
    verdict=Verdict.REJECTED,
    reason=Reason.CREDENTIAL_REVOKED,
    charter_version=1,
    charter_sha256=CHARTER.sha256,
    view_id="yV5sXa9bRw3gmK2pQ7hTz0",
    log=LOG,
    position=17,
    entry_sha256=b"\0" * 32,
)


def entry_of(receipt: Receipt) -> bytes:
    return write_json(receipt.repeated() | {"salt": "whatever else there is"})


def read_entry(entry: bytes) -> Mapping[str, Any]:
    said: dict[str, Any] = json.loads(entry)
    del said["salt"]
    return said


class Log:
    def __init__(self, entries: list[bytes]) -> None:
        self.tiles = append(0, [leaf_hash(entry) for entry in entries], self)

    def tile(self, level: int, number: int) -> bytes:
        return self.tiles[level, number]


def bundle(
    receipt: Receipt = RECEIPT, *, entry: bytes | None = None, signer: SoftwareKey | None = None, **changes: Any
) -> EvidenceBundle:
    """All that there is to a receipt, honestly made."""
    written = entry_of(receipt) if entry is None else entry
    receipt = replace(receipt, entry_sha256=leaf_hash(written))
    log = Log([written if number == 17 else f"entry {number}".encode() for number in range(30)])
    token = make_checkpoint(
        gateway=GATEWAY, log=LOG, size=30, root=root_hash(30, log), now=LATER, signer=audit_key(GATEWAY)
    )
    checkpoint = read_checkpoint(token, as_key_of(audit_key), LATER)
    made = EvidenceBundle(
        receipt=make_receipt(receipt, signer or receipt_key(GATEWAY)),
        entry=written,
        checkpoint=token,
        inclusion=inclusion_proof(17, 30, log),
        cosignatures=tuple(
            make_cosignature(checkpoint, witness=witness, now=LATER, signer=audit_key(witness)) for witness in WITNESSES
        ),
    )
    return replace(made, **changes)


HONEST = bundle()


def checked(
    evidence: EvidenceBundle,
    *,
    pinned: Charter = CHARTER,
    now: datetime = LATER,
    superseded: Mapping[str, datetime] | None = None,
    stale: frozenset[str] = frozenset(),
    asked: list[tuple[int, datetime]] | None = None,
) -> ReceiptCheck:
    def keys_at(charter: Charter, at: datetime) -> Keys:
        if asked is not None:
            asked.append((charter.version, at))
        return Keys(superseded=superseded or {}, stale=stale)

    return check_bundle(evidence, pinned, keys_at, read_entry, now)


def resigned(token: str, change: Callable[[dict[str, Any]], object], signer: SoftwareKey | None = None) -> str:
    jws = parse_compact(token, max_chars=MAX_CHARS)
    claims = jws.unverified_claims()
    change(claims)
    return sign_compact(jws.header.typ or "", claims, signer or receipt_key(GATEWAY))


# -- receipts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        (Verdict.ACCEPTED, None),
        (Verdict.REJECTED, Reason.EXPIRED),
        (Verdict.INDETERMINATE, Reason.TRUST_STALE),
    ],
)
def test_a_receipt_that_is_made_is_read(verdict: Verdict, reason: Reason | None) -> None:
    receipt = replace(RECEIPT, verdict=verdict, reason=reason)
    token = make_receipt(receipt, receipt_key(GATEWAY))
    assert read_receipt(token, as_key_of(receipt_key)) == receipt


def test_a_receipt_tells_nothing_about_a_person() -> None:
    claims = parse_compact(HONEST.receipt, max_chars=MAX_CHARS).unverified_claims()
    assert claims.keys() == {
        *("iss", "aud", "iat", "verified_at", "jti", "matter", "verdict", "reason", "charter_version"),
        *("charter_sha256", "view_id"),
        *("log", "position", "entry_sha256"),
    }


@pytest.mark.parametrize(("verdict", "reason"), [(Verdict.ACCEPTED, Reason.EXPIRED), (Verdict.REJECTED, None)])
def test_a_verdict_has_a_reason_exactly_when_it_is_not_accepted(verdict: Verdict, reason: Reason | None) -> None:
    with pytest.raises(ValueError, match="reason"):
        make_receipt(replace(RECEIPT, verdict=verdict, reason=reason), receipt_key(GATEWAY))


BROKEN: Mapping[str, Callable[[dict[str, Any]], object]] = {
    **{
        f"no {name}": lambda claims, name=name: claims.pop(name)  # type: ignore[misc]
        for name in (
            *(
                "iss",
                "aud",
                "iat",
                "verified_at",
                "jti",
                "matter",
                "verdict",
                "reason",
                "charter_version",
                "charter_sha256",
            ),
            *("view_id", "log", "position", "entry_sha256"),
        )
    },
    "a claim too many": lambda claims: claims.update(sub="a person"),
    "accepted for a reason": lambda claims: claims.update(verdict="accepted"),
    "a verdict of another kind": lambda claims: claims.update(verdict="perhaps"),
    "a verdict that is a list": lambda claims: claims.update(verdict=["rejected"]),
    "a reason of another kind": lambda claims: claims.update(reason="BECAUSE"),
    "a service with a space": lambda claims: claims.update(aud="the court"),
    "many services": lambda claims: claims.update(aud=[SERVICE]),
    "a malformed verification": lambda claims: claims.update(jti="a b"),
    "a malformed matter": lambda claims: claims.update(matter="户口迁移"),
    "a malformed view": lambda claims: claims.update(view_id=""),
    "a malformed charter": lambda claims: claims.update(charter_sha256="AAAA"),
    "a charter version that is no number": lambda claims: claims.update(charter_version=True),
    "a position before the log": lambda claims: claims.update(position=-1),
    "a position that is no number": lambda claims: claims.update(position="17"),
    "an entry hash that is too short": lambda claims: claims.update(entry_sha256=b64url_encode(b"\0" * 31)),
    "a time that is no number": lambda claims: claims.update(iat=1.5),
    "signed before the verdict": lambda claims: claims.update(iat=claims["verified_at"] - 1),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN.keys())
def test_a_receipt_says_exactly_what_it_must(change: Callable[[dict[str, Any]], object]) -> None:
    token = resigned(HONEST.receipt, change)
    assert reason_of(lambda: read_receipt(token, as_key_of(receipt_key))) is Reason.STATEMENT_INVALID


def test_another_document_or_another_key_makes_no_receipt() -> None:
    claims = parse_compact(HONEST.receipt, max_chars=MAX_CHARS).unverified_claims()
    cases = {
        sign_compact(CHECKPOINT_TYPE, claims, receipt_key(GATEWAY)): Reason.TYPE_MISMATCH,
        sign_compact(RECEIPT_TYPE, claims, audit_key(GATEWAY)): Reason.KEY_UNKNOWN,
        sign_compact(RECEIPT_TYPE, claims, receipt_key(WITNESSES[0])): Reason.KEY_UNKNOWN,
        HONEST.receipt[:-4] + "AAAA": Reason.SIGNATURE_INVALID,
    }
    for token, reason in cases.items():
        assert reason_of(lambda token=token: read_receipt(token, as_key_of(receipt_key))) is reason  # type: ignore[misc]


# -- the file ---------------------------------------------------------------------------------------------------------


def test_a_bundle_that_is_written_is_read() -> None:
    full = replace(HONEST, statements=("a", "b"), events=("c",), charters=(CHARTER.document,))
    assert read_bundle(write_bundle(full)) == full
    early = bundle(checkpoint=None, inclusion=(), cosignatures=())
    assert read_bundle(write_bundle(early)) == early


MISSHAPEN: Mapping[str, tuple[Callable[[dict[str, Any]], object], Reason]] = {
    "of another format": (lambda file: file.update(format=2), Reason.MALFORMED),
    "of a format that is no number": (lambda file: file.update(format=True), Reason.MALFORMED),
    "without receipt": (lambda file: file.pop("receipt"), Reason.MALFORMED),
    "with a member too many": (lambda file: file.update(note=""), Reason.MALFORMED),
    "with a head and no proof": (lambda file: file.pop("inclusion"), Reason.MALFORMED),
    "with a proof and no head": (lambda file: file.pop("checkpoint"), Reason.MALFORMED),
    "with a receipt that is no string": (lambda file: file.update(receipt=7), Reason.MALFORMED),
    "with an entry that is no base64url": (lambda file: file.update(entry="="), Reason.MALFORMED),
    "with an entry that is too long": (lambda file: file.update(entry="A" * (MAX_ENTRY_CHARS + 4)), Reason.TOO_LARGE),
    "with statements that are no array": (lambda file: file.update(statements="a"), Reason.MALFORMED),
    "with a statement that is no string": (lambda file: file.update(statements=[1]), Reason.MALFORMED),
    "with too many cosignatures": (
        lambda file: file.update(cosignatures=["a"] * (MAX_COSIGNATURES + 1)),
        Reason.TOO_LARGE,
    ),
    "with a proof without end": (lambda file: file.update(inclusion=["AA"] * 42), Reason.TOO_LARGE),
}


@pytest.mark.parametrize(("change", "reason"), MISSHAPEN.values(), ids=MISSHAPEN.keys())
def test_a_file_of_another_shape_is_refused(change: Callable[[dict[str, Any]], object], reason: Reason) -> None:
    file = json.loads(write_bundle(HONEST))
    change(file)
    assert reason_of(lambda: read_bundle(write_json(file))) is reason


def test_whatever_a_file_holds_it_is_read_and_checked_or_refused() -> None:
    rng, raw = seeded(9162), write_bundle(HONEST)
    for _ in range(300):
        changed = mutated(raw, rng)
        survives(lambda changed=changed: checked(read_bundle(changed)))


# -- what it proves ---------------------------------------------------------------------------------------------------


def test_an_honest_bundle_proves_all() -> None:
    check = checked(HONEST)
    assert replace(check.receipt, entry_sha256=RECEIPT.entry_sha256) == RECEIPT
    assert check.charter == CHARTER
    assert check.in_log
    assert check.witnesses == WITNESSES
    assert check.problems == ()


def test_a_receipt_is_signed_before_it_is_in_the_log() -> None:
    check = checked(bundle(checkpoint=None, inclusion=(), cosignatures=()))
    assert (check.in_log, check.witnesses, check.problems) == (False, (), ())


def test_keys_are_those_of_the_time_of_what_they_signed() -> None:
    asked: list[tuple[int, datetime]] = []
    checked(HONEST, asked=asked, now=NOW + timedelta(days=3_000))
    assert asked == [(1, LATER)]


UNSIGNED: Mapping[str, tuple[EvidenceBundle, Reason]] = {
    "signed by another gateway": (bundle(signer=receipt_key(WITNESSES[0])), Reason.KEY_UNKNOWN),
    "signed by the audit key": (bundle(signer=audit_key(GATEWAY)), Reason.KEY_UNKNOWN),
    "with another entry": (replace(HONEST, entry=HONEST.entry + b" "), Reason.LOG_ENTRY_INVALID),
    "with an entry of another verdict": (
        bundle(entry=entry_of(replace(RECEIPT, verdict=Verdict.ACCEPTED, reason=None))),
        Reason.LOG_ENTRY_INVALID,
    ),
    "with an entry of another service": (
        bundle(entry=entry_of(replace(RECEIPT, service=f"{GATEWAY}/services/school"))),
        Reason.LOG_ENTRY_INVALID,
    ),
    "with an entry of another time": (
        bundle(entry=entry_of(replace(RECEIPT, verified_at=NOW + SECOND))),
        Reason.LOG_ENTRY_INVALID,
    ),
    "under a charter that nobody knows": (
        bundle(replace(RECEIPT, charter_sha256=b64url_encode(b"\1" * 32))),
        Reason.CHARTER_INVALID,
    ),
    "under a charter of another version": (bundle(replace(RECEIPT, charter_version=2)), Reason.CHARTER_INVALID),
    "from the future": (bundle(replace(RECEIPT, issued_at=LATER + MINUTE + SECOND)), Reason.NOT_YET_VALID),
}


@pytest.mark.parametrize(("evidence", "reason"), UNSIGNED.values(), ids=UNSIGNED.keys())
def test_without_a_receipt_that_holds_there_is_nothing_to_tell(evidence: EvidenceBundle, reason: Reason) -> None:
    assert reason_of(lambda: checked(evidence)) is reason


def test_what_an_entry_reader_refuses_is_refused() -> None:
    def refuse(_entry: bytes) -> Mapping[str, Any]:
        raise Rejected(Reason.LOG_ENTRY_INVALID, "no entry")

    keys = Keys(superseded={}, stale=frozenset())
    refused = reason_of(lambda: check_bundle(HONEST, CHARTER, lambda *_: keys, refuse, LATER))
    assert refused is Reason.LOG_ENTRY_INVALID


@pytest.mark.parametrize(("at", "counts"), [(LATER, False), (LATER + SECOND, True)])
def test_a_receipt_counts_when_its_key_was_superseded_later(at: datetime, counts: bool) -> None:
    kid = receipt_key(GATEWAY).public.kid
    if counts:
        assert checked(HONEST, superseded={kid: at}).in_log
    else:
        assert reason_of(lambda: checked(HONEST, superseded={kid: at})) is Reason.KEY_REVOKED


def test_what_cannot_be_told_about_the_receipt_is_not_a_refusal() -> None:
    with pytest.raises(Indeterminate):
        checked(HONEST, stale=frozenset({receipt_key(GATEWAY).public.kid}))


def head_of(size: int = 30, *, log: str = LOG, gateway: str = GATEWAY, signer: SoftwareKey | None = None) -> str:
    root = root_hash(30, Log([HONEST.entry if number == 17 else f"entry {number}".encode() for number in range(30)]))
    return make_checkpoint(
        gateway=gateway, log=log, size=size, root=root, now=LATER, signer=signer or audit_key(gateway)
    )


NOT_IN_LOG: Mapping[str, tuple[Mapping[str, Any], Reason]] = {
    "a proof that is too short": ({"inclusion": HONEST.inclusion[:-1]}, Reason.PROOF_INVALID),
    "a proof of another leaf": ({"inclusion": HONEST.inclusion[::-1]}, Reason.PROOF_INVALID),
    "a head of a smaller log": ({"checkpoint": head_of(17)}, Reason.PROOF_INVALID),
    "a head of another log": ({"checkpoint": head_of(log="verdicts-2027")}, Reason.PROOF_INVALID),
    "a head of another gateway": ({"checkpoint": head_of(gateway=WITNESSES[0])}, Reason.PROOF_INVALID),
    "a head of nobody": ({"checkpoint": head_of(gateway="https://gateway.gd.mrg.example")}, Reason.PROOF_INVALID),
    "a head signed by the receipt key": ({"checkpoint": head_of(signer=receipt_key(GATEWAY))}, Reason.KEY_UNKNOWN),
    "a cosignature for a head": ({"checkpoint": HONEST.cosignatures[0]}, Reason.TYPE_MISMATCH),
    "no document at all": ({"checkpoint": ""}, Reason.MALFORMED),
}


@pytest.mark.parametrize(("changes", "reason"), NOT_IN_LOG.values(), ids=NOT_IN_LOG.keys())
def test_a_receipt_is_signed_though_its_place_in_the_log_is_not_proven(
    changes: Mapping[str, Any], reason: Reason
) -> None:
    check = checked(replace(HONEST, **changes))
    assert (check.in_log, check.witnesses) == (False, ())
    assert [problem.reason for problem in check.problems] == [reason]


def test_a_head_counts_when_its_key_did() -> None:
    kid = audit_key(GATEWAY).public.kid
    assert checked(HONEST, superseded={kid: LATER + SECOND}).in_log
    for check, reason in (
        (checked(HONEST, superseded={kid: LATER}), Reason.KEY_REVOKED),
        (checked(HONEST, stale=frozenset({kid})), Reason.TRUST_STALE),
    ):
        assert not check.in_log
        assert [problem.reason for problem in check.problems] == [reason]


def cosigned(witness: str, signer: SoftwareKey | None = None) -> str:
    assert HONEST.checkpoint is not None
    checkpoint = read_checkpoint(HONEST.checkpoint, as_key_of(audit_key), LATER)
    return make_cosignature(checkpoint, witness=witness, now=LATER, signer=signer or audit_key(witness))


STRANGER = "https://gateway.gd.mrg.example"
POOR_WITNESSES: Mapping[str, tuple[str, Reason]] = {
    "by another's key": (cosigned(WITNESSES[1], audit_key(WITNESSES[0])), Reason.KEY_UNKNOWN),
    "by a stranger": (cosigned(STRANGER), Reason.ISSUER_UNKNOWN),
    "by an issuer": (cosigned(SHANGHAI), Reason.ISSUER_UNKNOWN),
    "by the keeper": (
        resigned(HONEST.cosignatures[1], lambda claims: claims.update(iss=GATEWAY), audit_key(GATEWAY)),
        Reason.STATEMENT_INVALID,
    ),
    "of another head": (
        resigned(HONEST.cosignatures[1], lambda claims: claims.update(size=31), audit_key(WITNESSES[1])),
        Reason.PROOF_INVALID,
    ),
    "that is a head": (HONEST.checkpoint or "", Reason.TYPE_MISMATCH),
}


@pytest.mark.parametrize(("token", "reason"), POOR_WITNESSES.values(), ids=POOR_WITNESSES.keys())
def test_a_witness_that_does_not_count_spoils_nothing(token: str, reason: Reason) -> None:
    first, _, third = HONEST.cosignatures
    check = checked(replace(HONEST, cosignatures=(first, token, third)))
    assert check.in_log
    assert check.witnesses == (WITNESSES[0], WITNESSES[2])
    assert [problem.reason for problem in check.problems] == [reason]


def test_a_witness_counts_once_and_in_the_usual_order() -> None:
    first, second, _ = HONEST.cosignatures
    again = resigned(first, lambda claims: claims.update(iat=claims["iat"] + 1), audit_key(WITNESSES[0]))
    check = checked(replace(HONEST, cosignatures=(second, first, again, first)))
    assert check.witnesses == WITNESSES[:2]
    assert check.problems == ()


def second_gateways(*provinces: Province) -> Charter:
    def add(claims: dict[str, Any]) -> None:
        for province in provinces:
            one = next(each for each in claims["members"] if each["entity_id"] == entity_ids(province).gateway)
            claims["members"].append({**one, "entity_id": one["entity_id"] + "/second"})

    return PAPERS.make_charter(add)


def test_gateways_of_one_province_count_as_one_and_those_of_the_keepers_as_none() -> None:
    charter = second_gateways(Province.SHANGHAI, Province.ANHUI)
    evidence = bundle(replace(RECEIPT, charter_sha256=charter.sha256))
    assert evidence.checkpoint is not None
    checkpoint = read_checkpoint(evidence.checkpoint, as_key_of(audit_key), LATER)
    tokens = [
        make_cosignature(checkpoint, witness=witness, now=LATER, signer=audit_key(witness))
        for witness in (f"{WITNESSES[0]}/second", WITNESSES[0], f"{GATEWAY}/second")
    ]
    check = checked(replace(evidence, cosignatures=tuple(tokens)), pinned=charter)
    assert check.witnesses == (f"{WITNESSES[0]}/second",)


# -- charters ---------------------------------------------------------------------------------------------------------


def successor(*, signers: int = 4) -> str:
    claims = charter_claims({p: PAPERS.anchor_keys[entity_ids(p).anchor].public for p in Province}, NOW)
    document = unsigned(draft(claims | {"version": 2, "prev_sha256": CHARTER.sha256}))
    for anchor in ANCHORS[:signers]:
        document = add_signature(document, PAPERS.anchor_keys[anchor])
    return document


def test_charters_follow_from_the_pinned_one() -> None:
    second = successor()
    new = verify_successor(CHARTER, second)
    evidence = bundle(replace(RECEIPT, charter_version=2, charter_sha256=new.sha256), charters=(second,))
    asked: list[tuple[int, datetime]] = []
    assert checked(evidence, asked=asked).charter == new
    assert asked == [(2, LATER)]
    assert reason_of(lambda: checked(replace(evidence, charters=()))) is Reason.CHARTER_INVALID
    # Whoever has pinned a later one needs no earlier ones, and is not disturbed by them.
    assert checked(replace(evidence, charters=(CHARTER.document, second)), pinned=new).charter == new


def test_a_charter_came_into_force_between_verdict_and_receipt() -> None:
    asked: list[tuple[int, datetime]] = []
    check = checked(replace(HONEST, charters=(successor(),)), asked=asked)
    assert (check.charter, check.in_log) == (CHARTER, True)
    assert asked == [(2, LATER)]


def test_a_charter_without_quorum_refuses_the_bundle() -> None:
    lacking = successor(signers=2)
    assert reason_of(lambda: checked(replace(HONEST, charters=(lacking,)))) is Reason.QUORUM_NOT_MET


def test_a_verdict_from_before_the_pinned_charter_is_proven_and_its_charter_is_not() -> None:
    new = verify_successor(CHARTER, successor())
    check = checked(replace(HONEST, charters=(CHARTER.document,)), pinned=new)
    assert (check.charter, check.in_log, check.witnesses) == (None, True, WITNESSES)


# -- keys from the statements -----------------------------------------------------------------------------------------


def held(papers: Papers, *events: str) -> EvidenceBundle:
    return replace(HONEST, statements=tuple(papers.documents.values()), events=events)


def test_statements_in_a_bundle_make_the_view_of_the_time() -> None:
    papers = Papers()
    view = view_of(held(papers), papers.charter, NOW)
    assert view.federation_keys(GATEWAY) == papers.view().federation_keys(GATEWAY) != {}
    assert view.issuers[SHANGHAI].keys.keys() == papers.view().issuers[SHANGHAI].keys.keys()


def test_statements_of_two_times_make_two_views() -> None:
    papers, fresh = Papers(), key_of("fresh")
    before = tuple(papers.documents.values())
    later = NOW + 30 * MINUTE
    for anchor in ANCHORS:
        papers.documents[anchor, GATEWAY] = papers.statement(anchor, GATEWAY, federation=[fresh], at=later - SECOND)
    papers.seal(*ANCHORS, at=later)
    both = replace(HONEST, statements=(*papers.documents.values(), *before))
    old = papers.federation_keys[GATEWAY].public.kid
    assert view_of(both, papers.charter, NOW).federation_keys(GATEWAY).keys() == {old}
    assert view_of(both, papers.charter, later).federation_keys(GATEWAY).keys() == {fresh.public.kid}


def test_statements_that_nobody_named_vouch_for_nothing() -> None:
    papers, thief = Papers(), key_of("thief")
    planted = [papers.statement(anchor, GATEWAY, federation=[thief]) for anchor in ANCHORS]
    forged = [papers.statement(anchor, GATEWAY, federation=[thief], signer=thief) for anchor in ANCHORS]
    statements = (*papers.documents.values(), *planted, *forged, "rubbish", "")
    view = view_of(replace(HONEST, statements=statements), papers.charter, NOW)
    assert view.federation_keys(GATEWAY).keys() == {papers.federation_keys[GATEWAY].public.kid}


def test_revocations_in_a_bundle_count_when_their_author_signed_them() -> None:
    papers = Papers()
    kid = papers.credential_keys[SHANGHAI][0].public.kid
    own = papers.events(SHANGHAI, {kid: superseded()})
    graver = papers.events(SHANGHAI, {kid: compromised(NOW + HOUR)}, at=NOW + HOUR)
    stranger = papers.events(SHANGHAI, {kid: compromised()}, signer=key_of("thief"))
    assert view_of(held(papers, stranger, "rubbish"), papers.charter, NOW).revocations == {}
    view = view_of(held(papers, stranger, own), papers.charter, NOW)
    assert view.revocations == {(SHANGHAI, kid): superseded()}
    view = view_of(held(papers, graver, own), papers.charter, NOW)
    assert reason_of(lambda: view.credential_key(SHANGHAI, kid, NOW)) is Reason.KEY_REVOKED
