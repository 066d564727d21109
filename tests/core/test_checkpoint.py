"""Heads of logs, who has seen them, and what a witness concludes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.checkpoint import (
    CHECKPOINT_TYPE,
    COSIGNATURE_TYPE,
    MAX_CHARS,
    Checkpoint,
    Progress,
    judge_progress,
    make_checkpoint,
    make_cosignature,
    read_checkpoint,
    read_cosignature,
)
from gateway.core.encoding import b64url_encode
from gateway.core.identifiers import MAX_ENTITY_ID_CHARS
from gateway.core.jose import Algorithm, PublicKey, SoftwareKey, generate_key, parse_compact, sign_compact
from gateway.core.merkle import EMPTY_ROOT, MAX_SIZE, append, consistency_proof, leaf_hash, root_hash
from gateway.core.reasons import Reason, Rejected
from tests.core.tokens import MUTATIONS, mutated, raw_token, reason_of, seeded, survives

NOW = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)
SECOND, MINUTE, YEAR = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=365)
GATEWAY = "https://gateway.ah.mrg.example"
WITNESS = "https://gateway.sh.mrg.example"
KEYS = {GATEWAY: generate_key(), WITNESS: generate_key()}
LOG = "verdicts-2026"


class Tree:
    def __init__(self, entries: list[bytes]) -> None:
        self.tiles = append(0, [leaf_hash(entry) for entry in entries], self)

    def tile(self, level: int, number: int) -> bytes:
        return self.tiles[level, number]


ENTRIES = [f"entry {number}".encode() for number in range(40)]
TREE = Tree(ENTRIES)
REWRITTEN = Tree([b"another beginning", *ENTRIES[1:]])


def key_of(gateway: str, kid: str) -> PublicKey:
    found = KEYS.get(gateway)
    if found is None:
        raise Rejected(Reason.ISSUER_UNKNOWN, "no gateway")
    if found.public.kid != kid:
        raise Rejected(Reason.KEY_UNKNOWN, "no such key")
    return found.public


def head(
    size: int = 20, *, at: datetime = NOW, tree: Tree = TREE, gateway: str = GATEWAY, log: str = LOG
) -> Checkpoint:
    token = make_checkpoint(
        gateway=gateway, log=log, size=size, root=root_hash(size, tree), now=at, signer=KEYS[gateway]
    )
    return read_checkpoint(token, key_of, at)


HEAD = head()
COSIGNED = make_cosignature(HEAD, witness=WITNESS, now=NOW + SECOND, signer=KEYS[WITNESS])


def claims_of(token: str) -> dict[str, Any]:
    return parse_compact(token, max_chars=MAX_CHARS).unverified_claims()


def resigned(token: str, change: Callable[[dict[str, Any]], object], signer: SoftwareKey | None = None) -> str:
    """Sign a document again, changed, by a key of its author."""
    jws = parse_compact(token, max_chars=MAX_CHARS)
    claims = jws.unverified_claims()
    author = KEYS.get(claims["iss"])
    change(claims)
    key = signer or author
    assert key is not None
    return sign_compact(jws.header.typ or "", claims, key)


def cosigned_by_reader(token: str) -> object:
    return read_cosignature(token, HEAD, key_of, NOW)


def checked_by_reader(token: str) -> object:
    return read_checkpoint(token, key_of, NOW)


# -- reading ----------------------------------------------------------------------------------------------------------


def test_a_checkpoint_that_is_made_is_read() -> None:
    assert (HEAD.gateway, HEAD.log, HEAD.size, HEAD.issued_at) == (GATEWAY, LOG, 20, NOW)
    assert HEAD.root == root_hash(20, TREE)
    assert claims_of(HEAD.token).keys() == {"iss", "log", "size", "root", "iat"}
    assert read_checkpoint(HEAD.token, key_of, NOW) == HEAD


def test_a_cosignature_that_is_made_is_read() -> None:
    said = read_cosignature(COSIGNED, HEAD, key_of, NOW)
    assert (said.witness, said.issued_at, said.token) == (WITNESS, NOW + SECOND, COSIGNED)
    assert claims_of(COSIGNED).keys() == {"iss", "sub", "log", "size", "root", "iat"}


def test_evidence_does_not_expire() -> None:
    late = NOW + 10 * YEAR
    assert read_checkpoint(HEAD.token, key_of, late) == HEAD
    assert read_cosignature(COSIGNED, HEAD, key_of, late).witness == WITNESS


def test_an_empty_log_has_a_head() -> None:
    empty = head(0)
    assert (empty.size, empty.root) == (0, EMPTY_ROOT)


def test_the_longest_documents_there_can_be_are_read() -> None:
    longest = "https://gateway.ah.mrg.example/" + "a" * (MAX_ENTITY_ID_CHARS - len("https://gateway.ah.mrg.example/"))
    key = generate_key(Algorithm.ES384)
    token = make_checkpoint(
        gateway=longest, log="l" * 64, size=MAX_SIZE, root=b"\xff" * 32, now=NOW, signer=KEYS[GATEWAY]
    )
    checkpoint = read_checkpoint(token, lambda *_: KEYS[GATEWAY].public, NOW)
    witness = longest[:-1] + "b"
    cosigned = make_cosignature(checkpoint, witness=witness, now=NOW, signer=key)
    assert read_cosignature(cosigned, checkpoint, lambda *_: key.public, NOW).witness == witness


def test_documents_of_one_kind_do_not_pass_for_the_other() -> None:
    as_cosignature = sign_compact(CHECKPOINT_TYPE, claims_of(COSIGNED), KEYS[WITNESS])
    assert reason_of(checked_by_reader, COSIGNED) is Reason.TYPE_MISMATCH
    assert reason_of(cosigned_by_reader, HEAD.token) is Reason.TYPE_MISMATCH
    assert reason_of(checked_by_reader, as_cosignature) is Reason.STATEMENT_INVALID


BROKEN: Mapping[str, Callable[[dict[str, Any]], object]] = {
    "a claim too many": lambda claims: claims.update(exp=2_000_000_000),
    "no log": lambda claims: claims.pop("log"),
    "a log without a name": lambda claims: claims.update(log=""),
    "a log with a long name": lambda claims: claims.update(log="l" * 65),
    "a log with a path for a name": lambda claims: claims.update(log="../log"),
    "a log whose name is a number": lambda claims: claims.update(log=7),
    "no size": lambda claims: claims.pop("size"),
    "a size that is no number": lambda claims: claims.update(size=True),
    "a size in words": lambda claims: claims.update(size="20"),
    "a size with a fraction": lambda claims: claims.update(size=20.0),
    "a size below nothing": lambda claims: claims.update(size=-1),
    "a size beyond all logs": lambda claims: claims.update(size=MAX_SIZE + 1),
    "no root": lambda claims: claims.pop("root"),
    "a short root": lambda claims: claims.update(root=b64url_encode(b"\0" * 31)),
    "a long root": lambda claims: claims.update(root=b64url_encode(b"\0" * 33)),
    "a root with padding": lambda claims: claims.update(root=claims["root"] + "="),
    "a root that is a list": lambda claims: claims.update(root=[claims["root"]]),
    "the root of an empty log is another": lambda claims: claims.update(size=0),
    "no time": lambda claims: claims.pop("iat"),
    "a time that is no number": lambda claims: claims.update(iat=True),
    "a time before all time": lambda claims: claims.update(iat=-1),
    "a time beyond all time": lambda claims: claims.update(iat=253_402_300_800),
    "no author": lambda claims: claims.pop("iss"),
    "an author that is no entity": lambda claims: claims.update(iss="gateway.ah"),
    "an author that is a list": lambda claims: claims.update(iss=[claims["iss"]]),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN.keys())
def test_documents_say_exactly_what_they_must(change: Callable[[dict[str, Any]], object]) -> None:
    assert reason_of(checked_by_reader, resigned(HEAD.token, change)) is Reason.STATEMENT_INVALID
    assert reason_of(cosigned_by_reader, resigned(COSIGNED, change)) is Reason.STATEMENT_INVALID


def test_whose_word_it_is_is_checked() -> None:
    stranger = "https://gateway.gd.mrg.example"
    cases = {
        resigned(HEAD.token, dict, KEYS[WITNESS]): Reason.KEY_UNKNOWN,
        resigned(HEAD.token, lambda claims: claims.update(iss=stranger)): Reason.ISSUER_UNKNOWN,
        resigned(HEAD.token, lambda claims: claims.update(iss=WITNESS)): Reason.KEY_UNKNOWN,
    }
    for token, reason in cases.items():
        assert reason_of(checked_by_reader, token) is reason
    header, payload, _ = HEAD.token.split(".")
    other = head(21).token.split(".")[2]
    assert reason_of(checked_by_reader, f"{header}.{payload}.{other}") is Reason.SIGNATURE_INVALID


def test_headers_name_a_key_and_an_algorithm_of_the_federation() -> None:
    claims = claims_of(HEAD.token)
    rsa = generate_key(Algorithm.RS256)
    nameless = raw_token({"alg": "ES256", "typ": CHECKPOINT_TYPE}, claims, KEYS[GATEWAY])
    assert reason_of(checked_by_reader, nameless) is Reason.STATEMENT_INVALID
    weak = sign_compact(CHECKPOINT_TYPE, claims, rsa)
    assert reason_of(read_checkpoint, weak, lambda *_: rsa.public, NOW) is Reason.ALGORITHM_NOT_ALLOWED


@pytest.mark.parametrize(("ahead", "accepted"), [(MINUTE, True), (MINUTE + SECOND, False)])
def test_clocks_may_differ_a_little_and_no_more(ahead: timedelta, accepted: bool) -> None:
    def later(claims: dict[str, Any]) -> None:
        claims["iat"] = int((NOW + ahead).timestamp())

    for token, read in ((HEAD.token, checked_by_reader), (COSIGNED, cosigned_by_reader)):
        if accepted:
            read(resigned(token, later))
        else:
            assert reason_of(read, resigned(token, later)) is Reason.NOT_YET_VALID


def test_a_document_that_is_too_long_is_not_even_read() -> None:
    assert reason_of(checked_by_reader, HEAD.token + "A" * MAX_CHARS) is Reason.TOO_LARGE


OTHER_HEADS: Mapping[str, Callable[[dict[str, Any]], object]] = {
    "of another gateway": lambda claims: claims.update(sub="https://gateway.js.mrg.example"),
    "of another log": lambda claims: claims.update(log="verdicts-2027"),
    "of another size": lambda claims: claims.update(size=21),
    "of another root": lambda claims: claims.update(root=b64url_encode(root_hash(21, TREE))),
}


@pytest.mark.parametrize("change", OTHER_HEADS.values(), ids=OTHER_HEADS.keys())
def test_a_cosignature_counts_for_its_own_head_alone(change: Callable[[dict[str, Any]], object]) -> None:
    assert reason_of(cosigned_by_reader, resigned(COSIGNED, change)) is Reason.PROOF_INVALID


def test_nobody_witnesses_their_own_log() -> None:
    own = sign_compact(COSIGNATURE_TYPE, claims_of(COSIGNED) | {"iss": GATEWAY}, KEYS[GATEWAY])
    assert reason_of(cosigned_by_reader, own) is Reason.STATEMENT_INVALID
    with pytest.raises(ValueError, match="own log"):
        make_cosignature(HEAD, witness=GATEWAY, now=NOW, signer=KEYS[GATEWAY])


def test_whatever_comes_is_read_or_refused() -> None:
    rng = seeded(9162)
    for token, read in ((HEAD.token, checked_by_reader), (COSIGNED, cosigned_by_reader)):
        for _ in range(MUTATIONS // 10):
            changed = mutated(token.encode(), rng).decode("latin-1")
            assert changed == token or not survives(read, changed)


# -- witnessing -------------------------------------------------------------------------------------------------------


def test_the_first_head_is_taken() -> None:
    assert judge_progress(None, HEAD, ()) is Progress.FIRST


@pytest.mark.parametrize("at", [NOW - MINUTE, NOW, NOW + MINUTE])
def test_a_log_that_has_not_grown_is_the_same(at: datetime) -> None:
    assert judge_progress(HEAD, head(at=at), ()) is Progress.SAME


@pytest.mark.parametrize("at", [NOW, NOW + MINUTE])
def test_a_log_that_grew_is_newer(at: datetime) -> None:
    assert judge_progress(HEAD, head(31, at=at), consistency_proof(20, 31, TREE)) is Progress.NEWER


def test_an_empty_log_may_become_any() -> None:
    assert judge_progress(head(0), HEAD, ()) is Progress.NEWER


@pytest.mark.parametrize("at", [NOW, NOW - MINUTE])
def test_an_old_letter_that_arrives_late_is_nobodys_fault(at: datetime) -> None:
    assert judge_progress(HEAD, head(19, at=at), ()) is Progress.OLDER


def test_another_log_is_neither_newer_nor_a_contradiction() -> None:
    other = head(31, at=NOW + MINUTE, log="verdicts-2027")
    assert judge_progress(HEAD, other, consistency_proof(20, 31, TREE)) is Progress.REPLACED


FORKS: Mapping[str, tuple[Checkpoint, tuple[bytes, ...]]] = {
    "one size, two roots": (head(tree=REWRITTEN), ()),
    "one size, two roots, earlier": (head(tree=REWRITTEN, at=NOW - MINUTE), ()),
    "smaller, later": (head(19, at=NOW + SECOND), ()),
    "larger, from another beginning": (head(31, tree=REWRITTEN), consistency_proof(20, 31, REWRITTEN)),
    "larger, without proof": (head(31), ()),
    "larger, proven from another size": (head(31), consistency_proof(19, 31, TREE)),
}


@pytest.mark.parametrize(("shown", "proof"), FORKS.values(), ids=FORKS.keys())
def test_a_log_that_contradicts_itself_is_found_out(shown: Checkpoint, proof: tuple[bytes, ...]) -> None:
    assert reason_of(judge_progress, HEAD, shown, proof) is Reason.LOG_FORKED


def test_a_log_that_grew_while_its_time_went_back_is_left_aside() -> None:
    shown = head(31, at=NOW - SECOND)
    assert reason_of(judge_progress, HEAD, shown, consistency_proof(20, 31, TREE)) is Reason.ROLLED_BACK


def test_heads_of_two_gateways_are_not_compared() -> None:
    with pytest.raises(ValueError, match="two gateways"):
        judge_progress(HEAD, replace(HEAD, gateway=WITNESS), ())


@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_an_honest_log_is_never_accused_in_whatever_order_its_heads_arrive(data: st.DataObject) -> None:
    sizes = sorted(data.draw(st.lists(st.integers(0, 40), min_size=1, max_size=8)))
    times = sorted(data.draw(st.lists(st.integers(0, 9), min_size=len(sizes), max_size=len(sizes))))
    heads = [
        replace(HEAD, size=size, root=root_hash(size, TREE), issued_at=NOW + time * SECOND)
        for size, time in zip(sizes, times, strict=True)
    ]
    seen: Checkpoint | None = None
    for shown in data.draw(st.lists(st.sampled_from(heads), max_size=20)):
        grew = seen is not None and shown.size > seen.size
        proof = consistency_proof(seen.size, shown.size, TREE) if seen is not None and grew else ()
        if judge_progress(seen, shown, proof) in {Progress.FIRST, Progress.NEWER}:
            seen = shown
    assert seen is None or seen.size <= max(sizes)
