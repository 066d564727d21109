"""The charter document: its form, its content, its signatures (facts/federation.md section 1.12, cases 118 to 121)."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from gateway.core import jose
from gateway.core.charter import (
    CHARTER_TYP,
    MAX_DOCUMENT_CHARS,
    MAX_SIGNATURES,
    add_signature,
    count_signatures,
    draft,
    merge_signatures,
    parse_charter,
    require_unexpired,
    unsigned,
    verify_pinned,
)
from gateway.core.encoding import b64url_decode, b64url_encode, sha256_b64url, write_json
from gateway.core.identifiers import Province
from gateway.core.jose import Algorithm, generate_key, protected_header
from gateway.core.reasons import Reason, Rejected
from tests.core.charters import KEYS, LIFETIME, SPARE, START, anchor_claims, charter_claims, delete_at, set_at, sign
from tests.core.tokens import mutated, reason_of, seeded

SH, JS, ZJ, AH = (KEYS[province.code] for province in Province)
CLAIMS = charter_claims()
DOCUMENT = sign(CLAIMS, SH, JS)
DIGEST = sha256_b64url(write_json(CLAIMS))


def complaint(action: Callable[[], object]) -> str:
    """Where a charter is refused."""
    with pytest.raises(Rejected) as caught:
        action()
    assert caught.value.reason is Reason.CHARTER_INVALID
    return caught.value.detail.partition(": ")[0]


def tally(document: str) -> str:
    """How its own anchors signed a charter."""
    parsed = parse_charter(document)
    return str(count_signatures(parsed, parsed.unverified))


def entries(*added: dict[str, Any], document: str = DOCUMENT) -> str:
    """The document with more signature entries."""
    envelope = json.loads(document)
    return json.dumps(envelope | {"signatures": [*envelope["signatures"], *added]})


def test_baseline_charter_is_accepted() -> None:
    charter = verify_pinned(DOCUMENT, DIGEST)
    assert (charter.version, charter.prev_sha256, charter.quorum) == (1, None, 2)
    assert (charter.issued_at, charter.expires_at) == (START, START + LIFETIME)
    assert charter.sha256 == DIGEST
    assert charter.document == DOCUMENT
    assert [anchor.province.code for anchor in charter.anchors] == ["sh", "js", "zj"]
    anchor = charter.anchor("https://anchor.js.example")
    assert anchor is not None
    assert anchor.keys == {JS.public.kid: JS.public}
    member = charter.member("https://sh.example")
    assert member is not None
    assert member.province is Province.SHANGHAI
    assert member.entity_types == {"identity_credential_issuer"}
    assert charter.anchor("https://sh.example") is None
    assert charter.member("https://anchor.js.example") is None
    assert set(charter.agreement.matters) == {"HK-QY"}


# -- content ----------------------------------------------------------------------------------------------------------


def with_anchors(*anchors: dict[str, Any], quorum: int) -> dict[str, Any]:
    return charter_claims(anchors, quorum=quorum)


FOUR = tuple(anchor_claims(province) for province in KEYS)
BAD_ELECTORATES = {
    "case 120: two anchors that share a key": with_anchors(
        anchor_claims("sh", SPARE), anchor_claims("js", SPARE), quorum=2
    ),
    "case 120: two anchors that share one key of two": with_anchors(
        anchor_claims("sh", SH, SPARE), anchor_claims("js", JS, SPARE), quorum=2
    ),
    "case 121: quorum 0": with_anchors(*FOUR[:3], quorum=0),
    "case 121: a negative quorum": with_anchors(*FOUR[:3], quorum=-2),
    "case 121: quorum 4 of 3": with_anchors(*FOUR[:3], quorum=4),
    "case 121: quorum 1 of 3": with_anchors(*FOUR[:3], quorum=1),
    "case 121: quorum 2 of 4, exactly half": with_anchors(*FOUR, quorum=2),
    "case 121: quorum 1 of 2, exactly half": with_anchors(*FOUR[:2], quorum=1),
    "no anchors": with_anchors(quorum=1),
    "the same anchor twice": with_anchors(FOUR[0], FOUR[0], FOUR[1], quorum=2),
    "two anchors of one identifier": with_anchors(FOUR[0], FOUR[1] | {"entity_id": FOUR[0]["entity_id"]}, quorum=2),
    "two anchors of one province": with_anchors(FOUR[0], FOUR[1] | {"province": "sh"}, quorum=2),
    "17 anchors": with_anchors(
        *(
            anchor_claims("sh", generate_key(Algorithm.ED25519)) | {"entity_id": f"https://a{i}.example"}
            for i in range(17)
        ),
        quorum=9,
    ),
}


@pytest.mark.parametrize("claims", BAD_ELECTORATES.values(), ids=BAD_ELECTORATES)
def test_charter_is_refused_for(claims: dict[str, Any]) -> None:
    assert complaint(lambda: draft(claims)) in {"anchors", "quorum"}


@pytest.mark.parametrize(("anchors", "quorum"), [(1, 1), (2, 2), (3, 2), (3, 3), (4, 3), (4, 4)])
def test_case_121_quorum_of_more_than_half_is_accepted(anchors: int, quorum: int) -> None:
    assert draft(with_anchors(*FOUR[:anchors], quorum=quorum))


Path = tuple[str | int, ...]
MEMBER: Path = ("members", 0)
ANCHOR: Path = ("anchors", 0)
REFUSED: dict[str, tuple[Path, object, str]] = {
    "an unknown member": (("note",), "x", "charter"),
    "version 0": (("version",), 0, "version"),
    "version true": (("version",), True, "version"),
    "a version that is a string": (("version",), "1", "version"),
    "a version of a million and one": (("version",), 1_000_001, "version"),
    "a predecessor of version 1": (("prev_sha256",), DIGEST, "prev_sha256"),
    "no predecessor of version 2": (("version",), 2, "prev_sha256"),
    "an iat that is a fraction": (("iat",), 1.5, "iat"),
    "an exp before iat": (("exp",), int(START.timestamp()) - 1, "exp"),
    "an exp at iat": (("exp",), int(START.timestamp()), "exp"),
    "an exp 400 days and a second after iat": (("exp",), int(START.timestamp()) + 400 * 86_400 + 1, "exp"),
    "an exp after the year 9999": (("exp",), 253_402_300_800, "exp"),
    "anchors that are an object": (("anchors",), {}, "anchors"),
    "an anchor that is a string": (ANCHOR, "sh", "anchors[0]"),
    "an unknown member of an anchor": ((*ANCHOR, "name"), "x", "anchors[0]"),
    "an anchor on http": ((*ANCHOR, "entity_id"), "http://anchor.sh.example", "anchors[0].entity_id"),
    "an anchor with a query": ((*ANCHOR, "entity_id"), "https://anchor.sh.example?a", "anchors[0].entity_id"),
    "an anchor without keys": ((*ANCHOR, "jwks", "keys"), [], "anchors[0].jwks"),
    "an anchor with a private key": ((*ANCHOR, "jwks", "keys", 0, "d"), "AAAA", "anchors[0].jwks"),
    "an anchor with another kid": ((*ANCHOR, "jwks", "keys", 0, "kid"), JS.public.kid, "anchors[0].jwks"),
    "an unknown member of a key set": ((*ANCHOR, "jwks", "jwks_uri"), "https://a.example", "anchors[0].jwks"),
    "an anchor of province bj": ((*ANCHOR, "province"), "bj", "anchors[0].province"),
    "an anchor of province SH": ((*ANCHOR, "province"), "SH", "anchors[0].province"),
    "a quorum that is a fraction": (("quorum",), 2.0, "quorum"),
    "no members": (("members",), [], "members"),
    "401 members": (("members",), [{}] * 401, "members"),
    "an unknown member of a member": ((*MEMBER, "jwks"), {}, "members[0]"),
    "a member with a fragment": ((*MEMBER, "entity_id"), "https://sh.example#a", "members[0].entity_id"),
    "the same member twice": (("members", "..."), CLAIMS["members"][0], "members"),
    "a member that is an anchor": (("members", 1, "entity_id"), "https://anchor.sh.example", "members"),
    "a member without entity types": ((*MEMBER, "entity_types"), [], "members[0].entity_types"),
    "a misspelt entity type": ((*MEMBER, "entity_types"), ["identity_credential_isuer"], "members[0].entity_types"),
    "entity type federation_entity": ((*MEMBER, "entity_types"), ["federation_entity"], "members[0].entity_types"),
    "an entity type twice": ((*MEMBER, "entity_types"), ["recognition_gateway"] * 2, "members[0].entity_types"),
    "a member without a name": ((*MEMBER, "name_zh"), "", "members[0].name_zh"),
    "an agreement that is null": (("agreement",), None, "agreement"),
    "a fault inside the agreement": (
        ("agreement", "matters", 0, "min_assurance", "ial"),
        4,
        "agreement.matters[0].min_assurance.ial",
    ),
    "terms for an issuer that is no member": (
        ("agreement", "issuers", 0, "entity_id"),
        "https://js.example",
        "agreement",
    ),
    "terms for a member that issues nothing": (
        ("agreement", "issuers", 0, "entity_id"),
        "https://gateway.ah.example",
        "agreement",
    ),
}


@pytest.mark.parametrize(("path", "value", "place"), REFUSED.values(), ids=REFUSED)
def test_charter_is_refused_with(path: Path, value: object, place: str) -> None:
    claims = charter_claims()
    set_at(claims, path, value)
    assert complaint(lambda: draft(claims)) == place
    assert complaint(lambda: parse_charter(unsigned(write_json(claims)))) == place


@pytest.mark.parametrize(
    "path",
    [(name,) for name in CLAIMS]
    + [(*ANCHOR, name) for name in FOUR[0]]
    + [(*MEMBER, name) for name in CLAIMS["members"][0]],
    ids=lambda path: ".".join(map(str, path)),
)
def test_charter_is_refused_without(path: Path) -> None:
    claims = charter_claims()
    delete_at(claims, path)
    assert complaint(lambda: draft(claims)) in {"charter", "anchors[0]", "members[0]"}


BAD_DIGESTS = {
    "42 characters": DIGEST[:42],
    "44 characters": DIGEST + "A",
    "unused bits set": DIGEST[:42] + "9",
    "plus signs": "+" * 43,
    "nothing": "",
    "a number": 1,
}


@pytest.mark.parametrize("digest", BAD_DIGESTS.values(), ids=BAD_DIGESTS)
def test_predecessor_that_is_no_digest_is_refused(digest: object) -> None:
    assert draft(charter_claims(version=2) | {"prev_sha256": DIGEST})
    assert complaint(lambda: draft(charter_claims(version=2) | {"prev_sha256": digest})) == "prev_sha256"


def test_charter_of_the_last_seconds_of_the_calendar_is_refused_for_its_lifetime_alone() -> None:
    last = 253_402_300_799
    assert parse_charter(sign(CLAIMS | {"iat": last - 1, "exp": last})).unverified.version == 1
    assert complaint(lambda: parse_charter(sign(CLAIMS | {"iat": last - 1, "exp": last - 1}))) == "exp"


def test_charter_of_four_hundred_members_is_accepted() -> None:
    claims = charter_claims()
    for i in range(398):
        claims["members"].append(claims["members"][1] | {"entity_id": f"https://m{i}.example"})
    assert len(parse_charter(sign(claims, SH, JS)).unverified.members) == 400


# -- form -------------------------------------------------------------------------------------------------------------

ENVELOPE = json.loads(DOCUMENT)
FIRST = ENVELOPE["signatures"][0]
BAD_FORMS = {
    "an empty document": "",
    "a compact JWS": f"{FIRST['protected']}.{ENVELOPE['payload']}.{FIRST['signature']}",
    "a flattened serialization": json.dumps({"payload": ENVELOPE["payload"]} | FIRST),
    "an array": json.dumps([ENVELOPE]),
    "an unknown member": json.dumps(ENVELOPE | {"header": {}}),
    "no payload": json.dumps({"signatures": ENVELOPE["signatures"]}),
    "no signatures": json.dumps({"payload": ENVELOPE["payload"]}),
    "signatures that are an object": json.dumps(ENVELOPE | {"signatures": FIRST}),
    "a signature that is a string": json.dumps(ENVELOPE | {"signatures": [FIRST["signature"]]}),
    "an unprotected header": entries(FIRST | {"header": {"kid": SH.public.kid}}),
    "a signature without protected header": entries({"signature": FIRST["signature"]}),
    "a protected header that is an object": entries(FIRST | {"protected": {"alg": "Ed25519"}}),
    "an empty signature": entries(FIRST | {"signature": ""}),
    "a duplicate member": DOCUMENT[:-1] + f',"payload":"{ENVELOPE["payload"]}"}}',
    "a padded payload": json.dumps(ENVELOPE | {"payload": ENVELOPE["payload"] + "="}),
    "a payload that is no JSON": json.dumps(ENVELOPE | {"payload": b64url_encode(b"charter")}),
    "a payload with a duplicate member": json.dumps(
        ENVELOPE | {"payload": b64url_encode(b'{"version":1,"version":1}')}
    ),
    "a payload nested 100,000 deep": json.dumps(ENVELOPE | {"payload": b64url_encode(b"[" * 100_000)}),
    "a lone surrogate": DOCUMENT[:-1] + ',"\ud800":1}',
    "65 signatures": json.dumps(ENVELOPE | {"signatures": [FIRST] * (MAX_SIGNATURES + 1)}),
    "a document over the limit": DOCUMENT + " " * MAX_DOCUMENT_CHARS,
}


@pytest.mark.parametrize("document", BAD_FORMS.values(), ids=BAD_FORMS)
def test_document_is_refused_that_is_or_has(document: str) -> None:
    assert reason_of(parse_charter, document) is Reason.CHARTER_INVALID


def test_mutated_documents_raise_nothing_but_charter_invalid() -> None:
    rng = seeded(20210219)
    for _ in range(1_000):
        document = mutated(DOCUMENT.encode(), rng).decode("utf-8", "surrogateescape")
        try:
            parse_charter(document)
        except Rejected as rejection:
            if rejection.reason is not Reason.CHARTER_INVALID:
                raise


def test_mutated_payloads_raise_nothing_but_charter_invalid() -> None:
    rng = seeded(20210224)
    for _ in range(1_000):
        try:
            parse_charter(unsigned(mutated(write_json(CLAIMS), rng)))
        except Rejected as rejection:
            if rejection.reason is not Reason.CHARTER_INVALID:
                raise


# -- signatures -------------------------------------------------------------------------------------------------------


def entry(payload: str = ENVELOPE["payload"], *, protected: str | None = None, key: Any = ZJ) -> dict[str, str]:
    """A signature of one more anchor, made as told."""
    header = protected_header(CHARTER_TYP, key) if protected is None else protected
    return {"protected": header, "signature": b64url_encode(key.sign(f"{header}.{payload}".encode()))}


def protected(**changes: object) -> str:
    header = {"alg": "Ed25519", "typ": CHARTER_TYP, "kid": ZJ.public.kid} | changes
    return b64url_encode(json.dumps({name: value for name, value in header.items() if value is not None}).encode())


def flipped(signature: str) -> str:
    raw = b64url_decode(signature)
    return b64url_encode(bytes([raw[0] ^ 1]) + raw[1:])


def test_extra_signature_of_a_third_anchor_counts() -> None:
    assert tally(entries(entry())) == "3 of 2"


WORTHLESS = {
    "a signature over another payload": entry(payload=b64url_encode(b"{}")),
    "a signature by another key under the anchor's kid": entry(protected=protected(), key=SPARE),
    "a signature by a stranger": entry(key=SPARE),
    "a signature by an anchor of another charter": entry(key=AH),
    "a signature with one bit flipped": entry() | {"signature": flipped(entry()["signature"])},
    "a signature of the wrong length": entry() | {"signature": "AAAA"},
    "a signature that is not base64url": entry() | {"signature": "!!!!"},
    "another typ": entry(protected=protected(typ="entity-statement+jwt")),
    "no typ": entry(protected=protected(typ=None)),
    "no kid": entry(protected=protected(kid=None)),
    "another alg": entry(protected=protected(alg="ES256")),
    "alg none": entry(protected=protected(alg="none")),
    "crit": entry(protected=protected(crit=["exp"])),
    "the anchor's key in the header": entry(protected=protected(jwk=dict(ZJ.public.jwk))),
    "a protected header that is no JSON": entry(protected=b64url_encode(b"header")),
    "a protected header that is not base64url": entry(protected="{}"),
}


@pytest.mark.parametrize("added", WORTHLESS.values(), ids=WORTHLESS)
def test_entry_that_proves_nothing_counts_for_nothing_and_spoils_nothing(added: dict[str, str]) -> None:
    assert tally(entries(added)) == "2 of 2, missing zj"
    assert verify_pinned(entries(added), DIGEST).sha256 == DIGEST


def test_case_118_one_anchor_less_than_the_quorum_is_not_enough() -> None:
    assert reason_of(verify_pinned, sign(CLAIMS, SH), DIGEST) is Reason.QUORUM_NOT_MET
    assert reason_of(verify_pinned, unsigned(write_json(CLAIMS)), DIGEST) is Reason.QUORUM_NOT_MET


def test_payload_is_decoded_once_however_many_signatures_and_quorums_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []

    def counting(text: str) -> bytes:
        decoded.append(text)
        return b64url_decode(text)

    monkeypatch.setattr(jose, "b64url_decode", counting)
    worthless = entry() | {"signature": flipped(entry()["signature"])}
    parsed = parse_charter(entries(*[worthless] * (MAX_SIGNATURES - 2)))
    assert [count_signatures(parsed, parsed.unverified).met for _ in range(2)] == [True, True]
    assert decoded.count(parsed.payload) == 1


def test_case_119_one_anchor_with_two_keys_has_one_vote() -> None:
    claims = with_anchors(anchor_claims("sh", SH, SPARE), *FOUR[1:3], quorum=2)
    digest = sha256_b64url(write_json(claims))
    assert tally(sign(claims, SH, SPARE)) == "1 of 2, missing js zj"
    assert reason_of(verify_pinned, sign(claims, SH, SPARE), digest) is Reason.QUORUM_NOT_MET
    assert verify_pinned(sign(claims, SPARE, JS), digest).sha256 == digest


def test_duplicate_signature_counts_once() -> None:
    once = sign(CLAIMS, SH)
    assert tally(entries(json.loads(once)["signatures"][0], document=once)) == "1 of 2, missing js zj"


def test_second_signature_of_one_key_counts_once() -> None:
    # Two ECDSA signatures of one key over one payload differ.
    key = generate_key(Algorithm.ES256)
    claims = with_anchors(anchor_claims("sh", key), *FOUR[1:3], quorum=2)
    once, again = sign(claims, key), sign(claims, key)
    second = json.loads(again)["signatures"][0]
    assert second not in json.loads(once)["signatures"]
    assert tally(entries(second, document=once)) == "1 of 2, missing js zj"


def test_bad_signature_before_a_good_one_of_the_same_key_does_not_spoil_it() -> None:
    envelope = json.loads(DOCUMENT)
    good = envelope["signatures"]
    bad = [item | {"signature": b64url_encode(bytes(64))} for item in good]
    assert tally(json.dumps(envelope | {"signatures": bad + good})) == "2 of 2, missing zj"


def test_count_is_for_people_to_read_in_the_usual_order_of_provinces() -> None:
    claims = with_anchors(*reversed(FOUR), quorum=3)
    result = tally(sign(claims, ZJ))
    assert result == "1 of 3, missing sh js ah"
    parsed = parse_charter(sign(claims, AH, SH, ZJ))
    count = count_signatures(parsed, parsed.unverified)
    assert [anchor.province.code for anchor in count.signed] == ["sh", "zj", "ah"]
    assert count.met


# -- the first charter ------------------------------------------------------------------------------------------------


def test_charter_with_another_digest_than_the_pinned_is_refused() -> None:
    other = sign(charter_claims(issued_at=START + timedelta(seconds=1)), SH, JS)
    assert reason_of(verify_pinned, other, DIGEST) is Reason.CHARTER_INVALID
    assert reason_of(verify_pinned, DOCUMENT, "") is Reason.CHARTER_INVALID


def test_charter_expires_at_its_last_second_not_after_it() -> None:
    expiry = START + LIFETIME
    charter = verify_pinned(DOCUMENT, DIGEST)
    assert charter.expires_at == expiry
    require_unexpired(charter, expiry - timedelta(microseconds=1))
    assert reason_of(require_unexpired, charter, expiry) is Reason.EXPIRED


def test_digest_survives_a_signature_that_is_added_later() -> None:
    late = add_signature(DOCUMENT, ZJ)
    assert late != DOCUMENT
    charter = verify_pinned(late, DIGEST)
    assert (charter.sha256, charter.document) == (DIGEST, late)


def test_payload_spelt_differently_is_another_charter() -> None:
    respelt = json.dumps(CLAIMS, indent=1, ensure_ascii=False).encode()
    document = add_signature(add_signature(unsigned(respelt), SH), JS)
    assert reason_of(verify_pinned, document, DIGEST) is Reason.CHARTER_INVALID
    assert verify_pinned(document, sha256_b64url(respelt)).version == 1


# -- authoring --------------------------------------------------------------------------------------------------------


def test_draft_is_the_payload_that_is_signed() -> None:
    assert draft(CLAIMS) == write_json(CLAIMS)
    assert parse_charter(unsigned(draft(CLAIMS))).signatures == ()


def test_stranger_is_not_let_to_sign() -> None:
    document = unsigned(draft(CLAIMS))
    assert reason_of(add_signature, document, AH) is Reason.CHARTER_INVALID
    assert tally(add_signature(document, AH, allow_unlisted=True)) == "0 of 2, missing sh js zj"


def test_anchor_that_leaves_may_sign_the_charter_without_it() -> None:
    current = verify_pinned(DOCUMENT, DIGEST)
    claims = charter_claims([FOUR[0], FOUR[1], FOUR[3]], version=2, prev_sha256=DIGEST)
    document = unsigned(draft(claims))
    assert reason_of(add_signature, document, ZJ) is Reason.CHARTER_INVALID
    parsed = parse_charter(add_signature(document, ZJ, previous=current))
    assert str(count_signatures(parsed, current)) == "1 of 2, missing sh js"


def test_signing_again_replaces_the_signature_of_the_same_key() -> None:
    key = generate_key(Algorithm.ES256)
    claims = with_anchors(anchor_claims("sh", key), *FOUR[1:3], quorum=2)
    document = sign(claims, key, JS)
    signatures = parse_charter(add_signature(document, key)).signatures
    assert len(signatures) == 2
    assert set(signatures) != set(parse_charter(document).signatures)


def test_signature_is_not_added_over_the_limit() -> None:
    envelope = json.loads(DOCUMENT)
    full = json.dumps(envelope | {"signatures": [FIRST] * MAX_SIGNATURES})
    assert reason_of(add_signature, full, JS) is Reason.CHARTER_INVALID
    assert len(parse_charter(add_signature(full, SH)).signatures) == 1


# -- signed in parallel -----------------------------------------------------------------------------------------------


def test_copies_signed_in_parallel_come_together() -> None:
    merged = merge_signatures([sign(CLAIMS, SH), sign(CLAIMS), sign(CLAIMS, ZJ, JS)])
    assert tally(merged) == "3 of 2"
    assert merge_signatures([merged]) == merged
    assert verify_pinned(merged, DIGEST).sha256 == DIGEST


def test_the_same_signature_in_two_copies_is_kept_once() -> None:
    merged = merge_signatures([sign(CLAIMS, SH, JS), sign(CLAIMS, JS, ZJ)])
    assert len(parse_charter(merged).signatures) == 3


@pytest.mark.parametrize("first", [0, 1])
def test_a_broken_copy_of_a_signature_does_not_push_out_the_good_one(first: int) -> None:
    good = sign(CLAIMS, SH, JS)
    broken = json.loads(good)
    for each in broken["signatures"]:
        each["signature"] = flipped(each["signature"])
    copies = [good, json.dumps(broken)]
    assert tally(merge_signatures([copies[first], copies[1 - first]])) == "2 of 2, missing zj"


def test_copies_of_different_charters_are_not_merged() -> None:
    other = sign(charter_claims(issued_at=START + timedelta(seconds=1)), JS)
    assert reason_of(merge_signatures, [sign(CLAIMS, SH), other]) is Reason.CHARTER_INVALID
    assert reason_of(merge_signatures, [sign(CLAIMS, SH), ""]) is Reason.CHARTER_INVALID


def test_merging_keeps_to_the_limit_of_signatures() -> None:
    full = [entry(protected=protected(n=i)) for i in range(MAX_SIGNATURES)]
    half = json.dumps(ENVELOPE | {"signatures": full[: MAX_SIGNATURES // 2]})
    rest = json.dumps(ENVELOPE | {"signatures": full[MAX_SIGNATURES // 2 :]})
    assert len(parse_charter(merge_signatures([half, rest])).signatures) == MAX_SIGNATURES
    assert reason_of(merge_signatures, [half, rest, sign(CLAIMS, SH)]) is Reason.CHARTER_INVALID
