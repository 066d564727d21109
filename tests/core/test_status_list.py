"""Status lists: one that is accepted, and one thing changed at a time."""

from __future__ import annotations

import json
import tracemalloc
import zlib
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core.encoding import MAX_SAFE_INTEGER, b64url_encode
from gateway.core.jose import PublicKey, SoftwareKey, generate_key, sign_compact
from gateway.core.reasons import Reason, Rejected
from gateway.core.status_list import (
    MAX_ENTRIES,
    MAX_JUMP,
    MAX_LISTS,
    MAX_RAW_BYTES,
    MAX_TOKEN_CHARS,
    MAX_URI_CHARS,
    MIN_ENTRIES,
    STATUS_LIST_TYPE,
    Floor,
    StatusList,
    StatusReference,
    check_value,
    decode,
    encode,
    list_uri,
    next_list_seq,
    read_reference,
    read_registered,
    read_status_list,
    status_list_claims,
    value_at,
)
from tests.core.tokens import mutated, reason_of, seeded, signed, survives

NOW = datetime.fromtimestamp(1_700_000_000, UTC)
EPOCH = 1_700_000_000
SEQ = EPOCH * 1_000
ISSUER = "https://issuer.sh.example"
URI = f"{ISSUER}/status/1"
SIZE = MIN_ENTRIES
SKEW = timedelta(seconds=60)
SECOND = timedelta(seconds=1)

KEY = generate_key()
CREDENTIAL_KEY = generate_key()
OTHER_PROVINCE_KEY = generate_key()

RAW = bytearray(SIZE // 4)
RAW[0] = 0b11_10_01_00  # places 0 to 3 have the values 0 to 3
RAW[-1] = 0b01_00_00_00  # the last place
LST = encode(bytes(RAW))
KEYS = {KEY.public.kid: KEY.public}


def key(kid: str) -> PublicKey:
    found = KEYS.get(kid)
    if found is None:
        raise Rejected(Reason.KEY_UNKNOWN, "not a key of the issuer for lists")
    return found


@dataclass(kw_only=True)
class Case:
    """An accepted list, before something is changed."""

    claims: dict[str, Any] = field(
        default_factory=lambda: status_list_claims(
            uri=URI,
            issuer=ISSUER,
            seq=SEQ,
            now=NOW,
            ttl=timedelta(minutes=5),
            lifetime=timedelta(days=1),
            lst=LST,
        )
    )
    typ: str = STATUS_LIST_TYPE
    signer: SoftwareKey = KEY
    token: str | None = None
    uri: str = URI
    issuer: str = ISSUER
    size: int = SIZE
    now: datetime = NOW
    floor: Floor | None = None

    def make(self) -> str:
        return self.token or sign_compact(self.typ, self.claims, self.signer)

    def read(self) -> StatusList:
        return read_status_list(
            self.make(),
            uri=self.uri,
            issuer=self.issuer,
            size=self.size,
            key=key,
            now=self.now,
            clock_skew=SKEW,
            floor=self.floor,
        )


def claims(**changes: Any) -> Case:
    case = Case()
    for name, value in changes.items():
        if value is None:
            del case.claims[name]
        else:
            case.claims[name] = value
    return case


def listed(**changes: Any) -> Case:
    case = Case()
    case.claims["status_list"] = {"bits": 2, "lst": LST} | changes
    return case


def untyped() -> Case:
    header = b64url_encode(json.dumps({"alg": "ES256", "kid": KEY.public.kid}).encode())
    return Case(token=signed(f"{header}.{b64url_encode(json.dumps(Case().claims).encode())}", KEY))


def compressed(raw: bytes = bytes(RAW), **options: Any) -> bytes:
    deflate = zlib.compressobj(9, **options)
    return deflate.compress(raw) + deflate.flush()


def spoilt_checksum() -> bytes:
    stream = compressed()
    return stream[:-1] + bytes([stream[-1] ^ 1])


def bomb(size: int) -> str:
    deflate = zlib.compressobj(9)
    block = bytes(1 << 20)
    return b64url_encode(b"".join(deflate.compress(block) for _ in range(size >> 20)) + deflate.flush())


INVALID = Reason.STATUS_LIST_INVALID

REFUSED: Mapping[str, tuple[Callable[[], Case], Reason]] = {
    # Who signed it.
    "case 93: another typ": (lambda: Case(typ="JWT"), Reason.TYPE_MISMATCH),
    "case 93: the typ in other letters": (lambda: Case(typ="StatusList+jwt"), Reason.TYPE_MISMATCH),
    "case 93: the typ as a media type": (lambda: Case(typ="application/statuslist+jwt"), Reason.TYPE_MISMATCH),
    "case 93: the typ of a credential": (lambda: Case(typ="dc+sd-jwt"), Reason.TYPE_MISMATCH),
    "case 93: no typ": (untyped, Reason.TYPE_MISMATCH),
    "case 93: signed by a credential key": (lambda: Case(signer=CREDENTIAL_KEY), Reason.KEY_UNKNOWN),
    "case 93: signed by another province": (lambda: Case(signer=OTHER_PROVINCE_KEY), Reason.KEY_UNKNOWN),
    "case 93: signed by one key in the name of another": (
        lambda: Case(token=_under_the_name_of(KEY, OTHER_PROVINCE_KEY)),
        Reason.SIGNATURE_INVALID,
    ),
    "case 93: alg of another key": (
        lambda: Case(token=_with_header({"alg": "ES384", "typ": STATUS_LIST_TYPE, "kid": KEY.public.kid})),
        Reason.ALGORITHM_NOT_ALLOWED,
    ),
    "case 93: no kid": (
        lambda: Case(token=_with_header({"alg": "ES256", "typ": STATUS_LIST_TYPE})),
        Reason.KEY_UNKNOWN,
    ),
    # Which list it is.
    "case 94: sub in other letters": (lambda: claims(sub=URI.replace("issuer", "Issuer")), INVALID),
    "case 94: sub with a slash behind": (lambda: claims(sub=f"{URI}/"), INVALID),
    "case 94: sub with a query": (lambda: claims(sub=f"{URI}?time=1"), INVALID),
    "case 94: no sub": (lambda: claims(sub=None), INVALID),
    "case 94: sub of another list": (lambda: claims(sub=f"{ISSUER}/status/2"), INVALID),
    "iss of another": (lambda: claims(iss="https://issuer.js.example"), INVALID),
    "no iss": (lambda: claims(iss=None), INVALID),
    # When.
    "case 95: expired": (lambda: Case(now=NOW + timedelta(days=1)), Reason.EXPIRED),
    "case 95: iat in the future": (lambda: claims(iat=EPOCH + 61), Reason.NOT_YET_VALID),
    "case 95: a lower number than one seen": (
        lambda: Case(floor=Floor(seq=SEQ + 1, issued_at=NOW, sha256="x")),
        Reason.ROLLED_BACK,
    ),
    "case 95: an earlier iat than one seen": (
        lambda: Case(floor=Floor(seq=SEQ - 1, issued_at=NOW + SECOND, sha256="x")),
        Reason.ROLLED_BACK,
    ),
    "case 95: the number of another seen": (
        lambda: Case(floor=Floor(seq=SEQ, issued_at=NOW, sha256="x")),
        Reason.EQUIVOCATION,
    ),
    "case 95: no iat": (lambda: claims(iat=None), INVALID),
    "case 95: iat a float": (lambda: claims(iat=EPOCH + 0.5), INVALID),
    "case 95: iat a text": (lambda: claims(iat=str(EPOCH)), INVALID),
    "case 95: iat true": (lambda: claims(iat=True), INVALID),
    "case 95: iat after all calendars": (lambda: claims(iat=253_402_300_800), INVALID),
    "case 95: no exp": (lambda: claims(exp=None), INVALID),
    "case 95: exp at iat": (lambda: claims(exp=EPOCH), INVALID),
    "case 95: exp later than seven days": (lambda: claims(exp=EPOCH + 7 * 86_400 + 1), Reason.LIFETIME_TOO_LONG),
    "no seq": (lambda: claims(seq=None), Reason.SEQUENCE_INVALID),
    "seq zero": (lambda: claims(seq=0), Reason.SEQUENCE_INVALID),
    "seq true": (lambda: claims(seq=True), Reason.SEQUENCE_INVALID),
    "seq a float": (lambda: claims(seq=float(SEQ)), Reason.SEQUENCE_INVALID),
    "seq a text": (lambda: claims(seq=str(SEQ)), Reason.SEQUENCE_INVALID),
    "seq beyond reach": (lambda: claims(seq=SEQ + MAX_JUMP + 1), Reason.SEQUENCE_INVALID),
    "seq as high as numbers go": (lambda: claims(seq=MAX_SAFE_INTEGER), Reason.SEQUENCE_INVALID),
    "case 96: ttl 0": (lambda: claims(ttl=0), INVALID),
    "case 96: ttl negative": (lambda: claims(ttl=-300), INVALID),
    "case 96: ttl a text": (lambda: claims(ttl="300"), INVALID),
    "case 96: ttl 1e12": (lambda: claims(ttl=10**12), INVALID),
    "case 96: ttl a float": (lambda: claims(ttl=300.0), INVALID),
    "case 96: ttl true": (lambda: claims(ttl=True), INVALID),
    "case 96: ttl under a minute": (lambda: claims(ttl=59), INVALID),
    "case 96: ttl over a day": (lambda: claims(ttl=86_401), INVALID),
    "case 96: no ttl": (lambda: claims(ttl=None), INVALID),
    # What is in it.
    "case 97: bits 0": (lambda: listed(bits=0), INVALID),
    "case 97: bits 3": (lambda: listed(bits=3), INVALID),
    "case 97: bits 16": (lambda: listed(bits=16), INVALID),
    "case 97: bits a text": (lambda: listed(bits="1"), INVALID),
    "case 97: bits true": (lambda: listed(bits=True), INVALID),
    "case 97: bits a float": (lambda: listed(bits=1.0), INVALID),
    "case 97: bits 4, which the draft has and we have not": (lambda: listed(bits=4), INVALID),
    "case 97: bits negative": (lambda: listed(bits=-2), INVALID),
    "no status_list": (lambda: claims(status_list=None), INVALID),
    "status_list a text": (lambda: claims(status_list=LST), INVALID),
    "case 100: lst padded": (lambda: listed(lst=urlsafe_b64encode(compressed(bytes(RAW) + b"\1")).decode()), INVALID),
    "case 100: lst in the other alphabet": (
        lambda: listed(lst=LST.replace("_", "/").replace("-", "+") + "+/"),
        INVALID,
    ),
    "case 100: lst empty": (lambda: listed(lst=""), INVALID),
    "case 100: lst not base64": (lambda: listed(lst="eN!" + LST[3:]), INVALID),
    "case 100: lst no text": (lambda: listed(lst=[1]), INVALID),
    "case 100: lst with an unused bit": (lambda: listed(lst=f"{LST}A"), INVALID),
    "case 101: gzip": (lambda: listed(lst=b64url_encode(compressed(wbits=31))), INVALID),
    "case 101: a bare stream": (lambda: listed(lst=b64url_encode(compressed(wbits=-15))), INVALID),
    "case 101: a preset dictionary": (lambda: listed(lst=b64url_encode(compressed(zdict=bytes(64)))), INVALID),
    "case 101: truncated": (lambda: listed(lst=b64url_encode(compressed()[:-5])), INVALID),
    "case 101: without its checksum": (lambda: listed(lst=b64url_encode(compressed()[:-4])), INVALID),
    "case 101: a wrong checksum": (lambda: listed(lst=b64url_encode(spoilt_checksum())), INVALID),
    "case 101: a byte behind": (lambda: listed(lst=b64url_encode(compressed() + b"\0")), INVALID),
    "case 101: a second stream behind": (lambda: listed(lst=b64url_encode(compressed() + compressed())), INVALID),
    "case 102: one byte too many": (lambda: listed(lst=encode(bytes(MAX_RAW_BYTES + 1))), Reason.TOO_LARGE),
    "case 102: more entries than there may be": (
        lambda: listed(bits=1, lst=encode(bytes(MAX_ENTRIES // 8 + 1))),
        Reason.TOO_LARGE,
    ),
    "case 102: a token that is too long": (lambda: Case(token="x" * (MAX_TOKEN_CHARS + 1)), Reason.TOO_LARGE),
    "case 102: lst that is longer than anything that does not shrink": (
        lambda: listed(lst="A" * 2_800_000),
        Reason.TOO_LARGE,
    ),
    "case 103: shorter than registered": (lambda: listed(lst=encode(bytes(SIZE // 4 - 1))), INVALID),
    "case 103: half as long, for all its bytes": (lambda: listed(bits=2, lst=encode(bytes(SIZE // 8))), INVALID),
    "case 103: nothing at all": (lambda: listed(lst=encode(b"")), INVALID),
    "no JWS": (lambda: Case(token="eyJ"), Reason.MALFORMED),
}


def _with_header(header: dict[str, str]) -> str:
    segment = b64url_encode(json.dumps(header).encode())
    return signed(f"{segment}.{b64url_encode(json.dumps(Case().claims).encode())}", KEY)


def _under_the_name_of(owner: SoftwareKey, signer: SoftwareKey) -> str:
    signing_input = Case(signer=owner).make().rpartition(".")[0]
    return signed(signing_input, signer)


@pytest.mark.parametrize(("make", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_a_list_is_refused(make: Callable[[], Case], reason: Reason) -> None:
    Case().read()
    assert reason_of(make().read) is reason


ACCEPTED: Mapping[str, Callable[[], Case]] = {
    "as it is": Case,
    "case 95: a second before it expires": lambda: Case(now=NOW + timedelta(days=1) - SECOND),
    "case 95: iat as far ahead as clocks may differ": lambda: claims(iat=EPOCH + 60),
    "case 95: seven days": lambda: claims(exp=EPOCH + 7 * 86_400),
    "case 95: a higher number at the same second": lambda: Case(floor=Floor(seq=SEQ - 1, issued_at=NOW, sha256="x")),
    "case 96: the shortest ttl": lambda: claims(ttl=60),
    "case 96: the longest ttl": lambda: claims(ttl=86_400),
    "case 97: one bit": lambda: listed(bits=1, lst=encode(bytes(SIZE // 8))),
    "case 102: as many entries as there may be": lambda: listed(lst=encode(bytes(MAX_RAW_BYTES))),
    "case 103: longer than registered": lambda: listed(lst=encode(bytes(SIZE // 4 + 1))),
    "lst compressed less": lambda: listed(lst=b64url_encode(zlib.compress(bytes(RAW), 1))),
    "lst not compressed": lambda: listed(lst=b64url_encode(zlib.compress(bytes(RAW), 0))),
    "an aggregation_uri, which nobody follows": lambda: listed(aggregation_uri="http://127.0.0.1/"),
    "further claims": lambda: claims(jti="x"),
    "seq as far ahead as it may be": lambda: claims(seq=SEQ + MAX_JUMP),
}


@pytest.mark.parametrize("make", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_a_list_is_accepted(make: Callable[[], Case]) -> None:
    make().read()


def test_what_was_written_is_read() -> None:
    case = Case()
    read = case.read()
    assert (read.uri, read.issuer, read.kid, read.seq) == (URI, ISSUER, KEY.public.kid, SEQ)
    assert (read.issued_at, read.expires_at) == (NOW, NOW + timedelta(days=1))
    assert (read.ttl, read.bits, read.size) == (timedelta(minutes=5), 2, SIZE)
    assert read.entries == RAW
    assert read.floor == Floor(seq=SEQ, issued_at=NOW, sha256=read.sha256)


def test_the_longest_list_there_can_be_fits_a_token() -> None:
    noise = seeded(1).randbytes(MAX_RAW_BYTES)
    case = listed(lst=encode(noise))
    token = case.make()
    assert 3_700_000 < len(token) <= MAX_TOKEN_CHARS < 4 * 1024 * 1024
    assert replace(case, token=token, size=MAX_ENTRIES).read().entries == noise


def test_the_same_list_is_accepted_again_also_signed_anew() -> None:
    case = Case()
    read = case.read()
    again = replace(case, token=case.make(), floor=read.floor).read()
    assert again == read


def test_the_key_is_asked_for_before_anything_is_read_and_may_answer_as_it_likes() -> None:
    def stale(_kid: str) -> PublicKey:
        raise LookupError

    with pytest.raises(LookupError):
        read_status_list(
            listed(lst="!").make(),
            uri=URI,
            issuer=ISSUER,
            size=SIZE,
            key=stale,
            now=NOW,
            clock_skew=SKEW,
            floor=None,
        )


# -- clocks that were wrong -------------------------------------------------------------------------------------------


def test_a_list_taken_while_clocks_ran_ahead_is_followed_by_a_right_one() -> None:
    ahead = timedelta(hours=20)
    case = claims(iat=EPOCH + int(ahead.total_seconds()), exp=EPOCH + int(ahead.total_seconds()) + 3_600)
    case.claims["seq"] = seq = SEQ + int(ahead.total_seconds()) * 1_000
    floor = replace(case, now=NOW + ahead).read().floor
    assert reason_of(replace(Case(), floor=floor).read) is Reason.ROLLED_BACK
    follower = claims(seq=next_list_seq(seq, NOW))
    assert replace(follower, floor=floor).read().seq == seq + 1


def test_a_floor_beyond_reach_is_none() -> None:
    floor = Floor(seq=SEQ + MAX_JUMP + 1, issued_at=NOW, sha256="x")
    Case(floor=floor).read()
    assert reason_of(Case(floor=replace(floor, seq=SEQ + MAX_JUMP)).read) is Reason.ROLLED_BACK


@pytest.mark.parametrize(
    ("last", "following"), [(0, SEQ), (SEQ - 5, SEQ), (SEQ, SEQ + 1), (SEQ + 9, SEQ + 10), (SEQ + MAX_JUMP + 1, SEQ)]
)
def test_numbers_rise_and_begin_with_the_clock(last: int, following: int) -> None:
    assert next_list_seq(last, NOW) == following


# -- case 102: bombs --------------------------------------------------------------------------------------------------


def peak_of(action: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        assert reason_of(action) is Reason.TOO_LARGE
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_case_102_a_bomb_costs_no_more_than_a_list() -> None:
    lst = bomb(1 << 30)
    assert len(lst) > 1_000_000
    token = listed(lst=lst).make()
    assert peak_of(lambda: decode(2, lst, max_raw=MAX_RAW_BYTES)) < 8 * 1024 * 1024
    # The token's own text goes through several hands before.
    assert peak_of(Case(token=token).read) < 8 * 1024 * 1024 + 2 * len(token)


# -- values -----------------------------------------------------------------------------------------------------------


def test_case_99_the_last_place_is_in_the_list_and_the_next_is_not() -> None:
    read = Case().read()
    assert read.at(SIZE - 1) == 1
    assert reason_of(read.at, SIZE) is Reason.STATUS_INVALID


@pytest.mark.parametrize("index", [-1, SIZE, 2**53 - 1, 2**63])
def test_case_98_a_place_outside_the_list_has_no_status(index: int) -> None:
    assert reason_of(Case().read().at, index) is Reason.STATUS_INVALID


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (1, Reason.CREDENTIAL_REVOKED),
        (2, Reason.CREDENTIAL_SUSPENDED),
        (3, Reason.ATTRIBUTES_STALE),
        *((value, Reason.STATUS_INVALID) for value in (4, 5, 0x0B, 0x0C, 0x0F, 0xFF, -1)),
    ],
)
def test_case_104_only_zero_is_good(value: int, reason: Reason) -> None:
    check_value(0)
    assert reason_of(check_value, value) is reason


def test_case_105_the_first_value_is_in_the_lowest_bits() -> None:
    revoked_at_one, written_the_other_way_round = bytearray(SIZE // 8), bytearray(SIZE // 8)
    revoked_at_one[0], written_the_other_way_round[0] = 0b0000_0010, 0b0100_0000
    right = listed(bits=1, lst=encode(bytes(revoked_at_one))).read()
    wrong = listed(bits=1, lst=encode(bytes(written_the_other_way_round))).read()
    assert (right.at(1), right.at(6)) == (1, 0)
    assert (wrong.at(1), wrong.at(6)) == (0, 1)


# -- references -------------------------------------------------------------------------------------------------------


def reference(**changes: Any) -> dict[str, Any]:
    return {"status_list": {"idx": 7, "uri": URI} | changes}


def test_a_reference_is_read_whatever_stands_beside_it() -> None:
    expected = StatusReference(uri=URI, index=7)
    assert read_reference(reference()) == expected
    assert read_reference(reference() | {"other_mechanism": {"x": 1}}) == expected
    assert read_reference(reference(idx=0)).index == 0
    assert read_reference(reference(idx=MAX_SAFE_INTEGER)).index == MAX_SAFE_INTEGER


@pytest.mark.parametrize("index", [-1, 1.0, "1", True, None, 2**53, 2**63, [1]])
def test_case_98_what_is_no_place_is_refused(index: Any) -> None:
    assert reason_of(read_reference, reference(idx=index)) is Reason.STATUS_INVALID


@pytest.mark.parametrize("uri", ["", 1, None, [URI], "x" * (MAX_URI_CHARS + 1)])
def test_case_98_what_is_no_name_is_refused(uri: Any) -> None:
    assert reason_of(read_reference, reference(uri=uri)) is Reason.STATUS_INVALID


@pytest.mark.parametrize(
    "status",
    [
        *(None, [], "", 1, {}, {"status_list": None}, {"status_list": []}, {"status_list": {}}),
        {"status_list": {"idx": 1}},
        {"status_list": {"uri": URI}},
        {"other_mechanism": {"idx": 1, "uri": URI}},
    ],
)
def test_case_108_a_status_without_a_list_is_refused(status: Any) -> None:
    assert reason_of(read_reference, status) is Reason.STATUS_INVALID


# -- what an issuer registers -----------------------------------------------------------------------------------------


def test_registered_lists_are_read() -> None:
    assert read_registered(ISSUER, None) == {}
    assert read_registered(ISSUER, []) == {}
    lists = [{"uri": list_uri(ISSUER, f"a-_{n}"), "size": MAX_ENTRIES} for n in range(MAX_LISTS)]
    assert read_registered(ISSUER, lists) == {entry["uri"]: MAX_ENTRIES for entry in lists}


ENTRY = {"uri": URI, "size": SIZE}
BAD_REGISTRATIONS: Mapping[str, Any] = {
    "no list": ENTRY,
    "a list of names": [URI],
    "an entry without size": [{"uri": URI}],
    "more than was asked": [ENTRY | {"note": 1}],
    "twice the same": [ENTRY, ENTRY],
    "too many": [{"uri": f"{ISSUER}/status/{n}", "size": SIZE} for n in range(MAX_LISTS + 1)],
    "case 109: another issuer's": [ENTRY | {"uri": "https://issuer.js.example/status/1"}],
    "case 109: this machine": [ENTRY | {"uri": "http://127.0.0.1/status/1"}],
    "case 109: a file": [ENTRY | {"uri": "file:///etc/passwd"}],
    "case 109: a host that begins alike": [ENTRY | {"uri": f"{ISSUER}.evil/status/1"}],
    "uri not under status": [ENTRY | {"uri": f"{ISSUER}/1"}],
    "uri with a path": [ENTRY | {"uri": f"{URI}/2"}],
    "uri with a query": [ENTRY | {"uri": f"{URI}?x"}],
    "uri with a line break": [ENTRY | {"uri": f"{URI}\n"}],
    "uri without a name": [ENTRY | {"uri": f"{ISSUER}/status/"}],
    "uri with a long name": [ENTRY | {"uri": f"{ISSUER}/status/{'x' * 65}"}],
    "uri no text": [ENTRY | {"uri": 1}],
    "size too small": [ENTRY | {"size": MIN_ENTRIES - 4}],
    "size too large": [ENTRY | {"size": MAX_ENTRIES + 4}],
    "size that fills no byte": [ENTRY | {"size": MIN_ENTRIES + 2}],
    "size a float": [ENTRY | {"size": float(SIZE)}],
    "size true": [ENTRY | {"size": True}],
}


@pytest.mark.parametrize("value", BAD_REGISTRATIONS.values(), ids=BAD_REGISTRATIONS.keys())
def test_a_bad_registration_is_refused_as_a_whole(value: Any) -> None:
    assert read_registered(ISSUER, [ENTRY]) == {URI: SIZE}
    assert reason_of(read_registered, ISSUER, value) is Reason.STATUS_LIST_INVALID


@pytest.mark.parametrize("name", ["", "a/b", "x" * 65, "\u4e00", "a\n"])
def test_a_list_has_a_plain_name(name: str) -> None:
    assert list_uri(ISSUER, "1") == URI
    with pytest.raises(ValueError, match="malformed"):
        list_uri(ISSUER, name)


# -- properties -------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=2_000), st.sampled_from([1, 2, 4, 8]))
def test_what_is_encoded_is_decoded(entries: bytes, bits: int) -> None:
    assert decode(bits, encode(entries), max_raw=len(entries)) == entries
    if entries:
        assert reason_of(decode, bits, encode(entries), max_raw=len(entries) - 1) is Reason.TOO_LARGE


@given(st.binary(max_size=200), st.sampled_from([1, 2, 4, 8]))
def test_values_are_those_that_a_plain_reader_finds(entries: bytes, bits: int) -> None:
    stream = [(byte >> bit) & 1 for byte in entries for bit in range(8)]
    for index in range(len(stream) // bits):
        digits = stream[index * bits : (index + 1) * bits]
        assert value_at(entries, bits, index) == sum(digit << place for place, digit in enumerate(digits))
    assert reason_of(value_at, entries, bits, len(stream) // bits) is Reason.STATUS_INVALID


@given(st.text(max_size=300) | st.binary(max_size=300).map(b64url_encode), st.integers(-1, 9))
@example("A\u00e9==", 1)
@example("eNrbuRgAAhcBXQ", 1)
def test_nothing_but_a_rejection_comes_of_arbitrary_lists(lst: str, bits: int) -> None:
    survives(decode, bits, lst, max_raw=1_000)


@given(st.binary(max_size=300))
def test_nothing_but_a_rejection_comes_of_arbitrary_streams(tail: bytes) -> None:
    survives(decode, 1, b64url_encode(compressed(b"\xb9\xa3")[: len(tail) % 14] + tail), max_raw=1_000)


_VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
)
_ANYTHING = st.recursive(
    _VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["iss", "sub", "iat", "exp", "ttl", "seq", "status_list"]), _ANYTHING, min_size=1)
)
def test_nothing_but_a_rejection_comes_of_arbitrary_claims(changes: dict[str, Any]) -> None:
    case = claims(status_list={"bits": 1, "lst": "eNrbuRgAAhcBXQ"})
    case.claims |= changes
    assert not survives(case.read)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32))
def test_no_altered_token_is_accepted(seed: int) -> None:
    token = SMALL.make().encode()
    spoilt = mutated(token, seeded(seed))
    if spoilt == token:
        return
    assert not survives(replace(SMALL, token=spoilt.decode("utf-8", "replace")).read)


SMALL = listed(lst=encode(bytes(SIZE // 4)))


@given(_ANYTHING)
def test_nothing_but_a_rejection_comes_of_arbitrary_references_and_registrations(value: Any) -> None:
    survives(read_reference, value)
    survives(read_reference, {"status_list": value})
    survives(read_registered, ISSUER, value)
    survives(read_registered, ISSUER, [value])
