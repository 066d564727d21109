"""Trees in tiles against RFC 9162's own definitions, and proofs that were tampered with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.merkle import (
    EMPTY_ROOT,
    HASH_BYTES,
    MAX_PROOF_HASHES,
    MAX_SIZE,
    TILE_WIDTH,
    Hasher,
    append,
    check_consistency,
    check_inclusion,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_hash,
)
from gateway.core.reasons import Reason
from tests.core.tokens import reason_of, survives

# -- RFC 9162 section 2.1, word for word ------------------------------------------------------------------------------


@cache
def leaf(index: int) -> bytes:
    return hashlib.sha256(b"\x00" + f"entry {index}".encode()).digest()


def largest_power_below(size: int) -> int:
    power = 1
    while power * 2 < size:
        power *= 2
    return power


@cache
def mth(begin: int, end: int) -> bytes:
    """MTH(D[begin:end]) of section 2.1.1."""
    size = end - begin
    if size == 0:
        return hashlib.sha256(b"").digest()
    if size == 1:
        return leaf(begin)
    k = largest_power_below(size)
    return hashlib.sha256(b"\x01" + mth(begin, begin + k) + mth(begin + k, end)).digest()


def path(m: int, begin: int, end: int) -> tuple[bytes, ...]:
    """PATH(m, D[begin:end]) of section 2.1.3.1."""
    if end - begin == 1:
        return ()
    k = largest_power_below(end - begin)
    if m < k:
        return (*path(m, begin, begin + k), mth(begin + k, end))
    return (*path(m - k, begin + k, end), mth(begin, begin + k))


def subproof(m: int, begin: int, end: int, *, known: bool = True) -> tuple[bytes, ...]:
    """SUBPROOF(m, D[begin:end], b) of section 2.1.4.1."""
    if m == end - begin:
        return () if known else (mth(begin, end),)
    k = largest_power_below(end - begin)
    if m <= k:
        return (*subproof(m, begin, begin + k, known=known), mth(begin + k, end))
    return (*subproof(m - k, begin + k, end, known=False), mth(begin, begin + k))


# -- tiles in memory --------------------------------------------------------------------------------------------------


class Stored:
    """A log and its tiles."""

    def __init__(self, tiles: Mapping[tuple[int, int], bytes] | None = None) -> None:
        self.tiles = dict(tiles or {})
        self.size = 0

    def tile(self, level: int, number: int) -> bytes:
        return self.tiles.get((level, number), b"")

    def add(self, count: int) -> None:
        leaves = [leaf(index) for index in range(self.size, self.size + count)]
        self.tiles.update(append(self.size, leaves, self))
        self.size += count


def grown(splits: Iterable[int]) -> Stored:
    stored = Stored()
    for count in splits:
        stored.add(count)
    return stored


MOST = 65_538
EDGES = (*range(254, 262), *range(511, 515), *range(65_534, MOST + 1))
"""Sizes at which tiles fill up, of one level and of two."""


@pytest.fixture(scope="module")
def log() -> Stored:
    return grown([MOST])


# -- known answers ----------------------------------------------------------------------------------------------------

# Certificate Transparency's reference tests.
ENTRIES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
LEAF_1 = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
NODE_23 = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
NODE_45 = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
NODE_67 = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
NODE_4567 = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
LEAF_4 = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
KNOWN_PATHS = {
    (0, 1): (),
    (0, 8): (LEAF_1, NODE_23, NODE_4567),
    (5, 8): (LEAF_4, NODE_67, ROOTS[3]),
    (2, 3): (ROOTS[1],),
    (1, 5): (ROOTS[0], NODE_23, LEAF_4),
}
KNOWN_CONSISTENCIES = {
    (1, 1): (),
    (1, 8): (LEAF_1, NODE_23, NODE_4567),
    (6, 8): (NODE_45, NODE_67, ROOTS[3]),
    (2, 5): (NODE_23, LEAF_4),
}


@pytest.fixture(scope="module")
def known() -> Stored:
    return Stored(append(0, [leaf_hash(entry) for entry in ENTRIES], Stored()))


def test_root_of_the_empty_tree_is_the_hash_of_nothing(known: Stored) -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert EMPTY_ROOT.hex() == root_hash(0, known).hex() == Hasher().root().hex() == empty


def test_known_roots(known: Stored) -> None:
    assert tuple(root_hash(size, known).hex() for size in range(1, 9)) == ROOTS


@pytest.mark.parametrize(("place", "proof"), KNOWN_PATHS.items())
def test_known_inclusion_proofs(known: Stored, place: tuple[int, int], proof: Sequence[str]) -> None:
    assert tuple(each.hex() for each in inclusion_proof(*place, known)) == proof
    index, size = place
    hashes = [bytes.fromhex(each) for each in proof]
    check_inclusion(leaf_hash(ENTRIES[index]), index, size, hashes, bytes.fromhex(ROOTS[size - 1]))


@pytest.mark.parametrize(("sizes", "proof"), KNOWN_CONSISTENCIES.items())
def test_known_consistency_proofs(known: Stored, sizes: tuple[int, int], proof: Sequence[str]) -> None:
    assert tuple(each.hex() for each in consistency_proof(*sizes, known)) == proof
    old, new = sizes
    hashes = [bytes.fromhex(each) for each in proof]
    check_consistency(old, new, bytes.fromhex(ROOTS[old - 1]), bytes.fromhex(ROOTS[new - 1]), hashes)


# -- against the definitions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [*range(72), *EDGES])
def test_roots_of_all_sizes_come_from_the_tiles_of_today(log: Stored, size: int) -> None:
    assert root_hash(size, log) == mth(0, size)


def test_streamed_roots_are_those_of_the_tree() -> None:
    hasher = Hasher()
    for index in range(MOST):
        if index < 72 or index in EDGES:
            assert (hasher.size, hasher.root()) == (index, mth(0, index))
        hasher.add(leaf(index))
    assert (hasher.size, hasher.root()) == (MOST, mth(0, MOST))


@pytest.mark.parametrize("size", range(1, 72))
def test_every_leaf_of_a_small_tree_is_proven(log: Stored, size: int) -> None:
    for index in range(size):
        proof = inclusion_proof(index, size, log)
        assert proof == path(index, 0, size)
        check_inclusion(leaf(index), index, size, proof, mth(0, size))


@pytest.mark.parametrize("size", EDGES)
def test_leaves_at_the_edges_of_tiles_are_proven(log: Stored, size: int) -> None:
    for index in {0, 1, 127, 128, 255, 256, 257, 510, 511, 512, 65_279, 65_280, 65_535, 65_536, size - 2, size - 1}:
        if index < size:
            proof = inclusion_proof(index, size, log)
            assert proof == path(index, 0, size)
            check_inclusion(leaf(index), index, size, proof, mth(0, size))


@pytest.mark.parametrize("new", [*range(1, 72), *EDGES])
def test_growth_between_any_two_sizes_is_proven(log: Stored, new: int) -> None:
    for old in {*range(1, 72), *EDGES, 128, 192, 32_768, 65_280}:
        if old <= new:
            proof = consistency_proof(old, new, log)
            assert proof == subproof(old, 0, new)
            check_consistency(old, new, mth(0, old), mth(0, new), proof)


@pytest.mark.parametrize("new", [0, 1, 2, 300])
def test_every_tree_grew_from_the_empty_one(log: Stored, new: int) -> None:
    assert consistency_proof(0, new, log) == ()
    check_consistency(0, new, EMPTY_ROOT, mth(0, new), ())


@given(size=st.integers(1, MOST), data=st.data())
@settings(deadline=None, max_examples=200)
def test_any_leaf_and_any_growth_is_proven(log: Stored, size: int, data: st.DataObject) -> None:
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    check_inclusion(leaf(index), index, size, inclusion_proof(index, size, log), mth(0, size))
    check_consistency(old, size, mth(0, old), mth(0, size), consistency_proof(old, size, log))


# -- tiles ------------------------------------------------------------------------------------------------------------


def test_tiles_hold_the_roots_of_their_subtrees(log: Stored) -> None:
    width = TILE_WIDTH
    assert log.tiles.keys() == {(0, number) for number in range(257)} | {(1, 0), (2, 0)}
    assert log.tiles[0, 256] == leaf(65_536) + leaf(65_537)
    assert log.tiles[1, 0] == b"".join(mth(width * number, width * (number + 1)) for number in range(width))
    assert log.tiles[2, 0] == mth(0, width * width)


@given(splits=st.lists(st.integers(0, 700), max_size=8))
@settings(deadline=None, max_examples=60)
def test_the_way_a_log_grew_does_not_show_in_its_tiles(splits: Sequence[int]) -> None:
    assert grown(splits).tiles == grown([sum(splits)]).tiles


def test_one_by_one_gives_the_same_tiles() -> None:
    assert grown([1] * 600).tiles == grown([600]).tiles


def test_tiles_only_ever_grow() -> None:
    stored = grown([])
    for count in (1, 200, 55, 1, 255, 1, 700):
        before = dict(stored.tiles)
        stored.add(count)
        assert all(stored.tiles[place].startswith(tile) for place, tile in before.items())


def test_only_tiles_that_change_are_given(log: Stored) -> None:
    changed = append(MOST, [leaf(MOST)], log)
    assert changed == {(0, 256): leaf(65_536) + leaf(65_537) + leaf(MOST)}
    assert append(MOST, [], log) == {}


def test_what_was_written_before_the_power_failed_is_no_part_of_the_log() -> None:
    stored = grown([300])
    torn = dict(append(300, [leaf(9_000 + extra) for extra in range(250)], stored))
    stored.tiles.update(torn)
    assert root_hash(300, stored) == mth(0, 300)
    stored.add(300)
    assert {place: stored.tiles[place] for place in grown([600]).tiles} == grown([600]).tiles


class Vast:
    """The tiles of a log of ten million entries that are all the same."""

    size = 10_000_000

    def __init__(self) -> None:
        self.read: list[tuple[int, int]] = []
        self.roots = [leaf_hash(b"")]
        for _height in range(24):
            self.roots.append(hashlib.sha256(b"\x01" + self.roots[-1] + self.roots[-1]).digest())

    def tile(self, level: int, number: int) -> bytes:
        self.read.append((level, number))
        held = (self.size >> (8 * level)) - TILE_WIDTH * number
        return self.roots[8 * level] * max(0, min(TILE_WIDTH, held))


@pytest.mark.parametrize("index", [0, 1_234_567, 9_961_472, 9_999_999])
def test_proofs_of_a_vast_log_read_a_handful_of_tiles(index: int) -> None:
    vast = Vast()
    root = root_hash(vast.size, vast)
    assert len(vast.read) == 3
    vast.read.clear()
    proof = inclusion_proof(index, vast.size, vast)
    assert len(set(vast.read)) == len(vast.read) <= 6
    check_inclusion(leaf_hash(b""), index, vast.size, proof, root)
    vast.read.clear()
    growth = consistency_proof(index + 1, vast.size, vast)
    assert len(set(vast.read)) == len(vast.read) <= 6
    check_consistency(index + 1, vast.size, root_hash(index + 1, vast), root, growth)


@pytest.mark.parametrize("cut", [1, HASH_BYTES - 1, HASH_BYTES, 2 * HASH_BYTES])
def test_a_tile_that_is_too_short_makes_no_root_and_no_proof(cut: int) -> None:
    stored = grown([300])
    stored.tiles[0, 1] = stored.tiles[0, 1][:-cut]
    assert reason_of(root_hash, 300, stored) is Reason.PROOF_INVALID
    assert reason_of(inclusion_proof, 7, 300, stored) is Reason.PROOF_INVALID
    assert reason_of(consistency_proof, 200, 300, stored) is Reason.PROOF_INVALID
    assert reason_of(append, 300, [leaf(300)], stored) is Reason.PROOF_INVALID
    assert root_hash(256, stored) == mth(0, 256)


def test_a_tile_that_is_missing_makes_no_root() -> None:
    stored = grown([300])
    del stored.tiles[1, 0]
    assert reason_of(root_hash, 300, stored) is Reason.PROOF_INVALID


@pytest.mark.parametrize(("index", "size"), [(-1, 5), (5, 5), (0, 0), (0, -1), (0, MAX_SIZE + 1)])
def test_no_proof_of_what_is_no_leaf(log: Stored, index: int, size: int) -> None:
    with pytest.raises(ValueError, match="tree"):
        inclusion_proof(index, size, log)
    assert reason_of(check_inclusion, leaf(0), index, size, (), leaf(0)) is Reason.PROOF_INVALID


@pytest.mark.parametrize(("old", "new"), [(6, 5), (-1, 5), (0, MAX_SIZE + 1), (-2, -1)])
def test_no_proof_of_what_is_no_growth(log: Stored, old: int, new: int) -> None:
    with pytest.raises(ValueError, match="tree"):
        consistency_proof(old, new, log)
    assert reason_of(check_consistency, old, new, EMPTY_ROOT, EMPTY_ROOT, ()) is Reason.PROOF_INVALID


def test_only_hashes_become_leaves(log: Stored) -> None:
    with pytest.raises(ValueError, match="hash"):
        append(0, [b"short"], log)
    with pytest.raises(ValueError, match="hash"):
        Hasher().add(b"short")
    with pytest.raises(ValueError, match="leaves"):
        append(MAX_SIZE, [leaf(0)], log)


# -- proofs that were tampered with -----------------------------------------------------------------------------------


def flipped(raw: bytes, bit: int) -> bytes:
    changed = bytearray(raw)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


def tampered(draw: st.DataObject, proof: Sequence[bytes]) -> list[bytes]:
    """Change one thing about a proof."""
    changed = list(proof)
    at = draw.draw(st.integers(0, max(0, len(changed) - 1)))
    kinds = ["longer", "flip", "shorter", "cut", "double"] if changed else ["longer"]
    match draw.draw(st.sampled_from(kinds)):
        case "flip":
            changed[at] = flipped(changed[at], draw.draw(st.integers(0, 255)))
        case "shorter":
            del changed[at]
        case "cut":
            changed[at] = changed[at][:-1]
        case "double":
            changed.insert(at, changed[at])
        case _:
            changed.insert(draw.draw(st.integers(0, len(changed))), draw.draw(st.binary(min_size=32, max_size=32)))
    return changed


@given(size=st.integers(1, 600), data=st.data())
@settings(deadline=None, max_examples=100)
def test_an_inclusion_proof_that_was_changed_is_refused(log: Stored, size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof, root = inclusion_proof(index, size, log), mth(0, size)
    bit = data.draw(st.integers(0, 255))
    assert not survives(check_inclusion, leaf(index), index, size, tampered(data, proof), root)
    assert not survives(check_inclusion, flipped(leaf(index), bit), index, size, proof, root)
    assert not survives(check_inclusion, leaf(index), index, size, proof, flipped(root, bit))
    other = data.draw(st.integers(0, size).filter(lambda each: each != index))
    assert not survives(check_inclusion, leaf(index), other, size, proof, root)


@given(new=st.integers(1, 600), data=st.data())
@settings(deadline=None, max_examples=100)
def test_a_consistency_proof_that_was_changed_is_refused(log: Stored, new: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, new))
    proof, old_root, new_root = consistency_proof(old, new, log), mth(0, old), mth(0, new)
    bit = data.draw(st.integers(0, 255))
    assert not survives(check_consistency, old, new, old_root, new_root, tampered(data, proof))
    assert not survives(check_consistency, old, new, flipped(old_root, bit), new_root, proof)
    assert not survives(check_consistency, old, new, old_root, flipped(new_root, bit), proof)
    other = data.draw(st.integers(1, 700).filter(lambda each: each != old))
    assert not survives(check_consistency, other, new, old_root, new_root, proof)


@pytest.mark.parametrize("size", range(1, 40))
def test_a_proof_shows_a_tree_of_another_size_only_where_its_shape_is_the_same(log: Stored, size: int) -> None:
    # An inclusion proof does not bind the size (it is the root, and the checkpoint over both, that do): where the way
    # from a leaf to the root turns alike in both trees, it fits both. Anywhere else it is refused.
    for index in range(size):
        proof, root = inclusion_proof(index, size, log), mth(0, size)
        for other in range(index + 1, 80):
            alike = turns(index, other) == turns(index, size)
            assert survives(check_inclusion, leaf(index), index, other, proof, root) is alike


def turns(index: int, size: int) -> list[str]:
    """On which side the sibling stands, from the leaf up."""
    found, begin, end = list[str](), 0, size
    while end - begin > 1:
        middle = begin + largest_power_below(end - begin)
        found.append("right" if index < middle else "left")
        begin, end = (begin, middle) if index < middle else (middle, end)
    return found[::-1]


def test_growth_to_another_size_is_refused(log: Stored) -> None:
    for old in range(1, 20):
        for new in range(old + 1, 40):
            proof = consistency_proof(old, new, log)
            shorter = new - 1
            assert not survives(check_consistency, old, shorter, mth(0, old), mth(0, shorter), proof)


def test_an_entry_does_not_pass_for_a_node() -> None:
    left, right = leaf(0), leaf(1)
    assert leaf_hash(left + right) != mth(0, 2)


def test_a_log_that_was_rewritten_cannot_prove_that_it_grew(log: Stored) -> None:
    rewritten = Stored(append(0, [leaf(index if index != 100 else 9_999) for index in range(300)], Stored()))
    proof = consistency_proof(200, 300, rewritten)
    assert reason_of(check_consistency, 200, 300, mth(0, 200), root_hash(300, rewritten), proof) is Reason.PROOF_INVALID
    check_consistency(200, 300, root_hash(200, rewritten), root_hash(300, rewritten), proof)


@pytest.mark.parametrize("size", [0, 5])
def test_two_roots_of_one_size_are_a_contradiction(size: int) -> None:
    assert reason_of(check_consistency, size, size, mth(0, size), leaf(7), ()) is Reason.PROOF_INVALID
    assert reason_of(check_consistency, size, size, leaf(7), mth(0, size), ()) is Reason.PROOF_INVALID


def test_nothing_needs_no_proof_and_gets_none() -> None:
    assert reason_of(check_consistency, 5, 5, mth(0, 5), mth(0, 5), [leaf(1)]) is Reason.PROOF_INVALID
    assert reason_of(check_consistency, 0, 5, EMPTY_ROOT, mth(0, 5), [leaf(1)]) is Reason.PROOF_INVALID
    assert reason_of(check_consistency, 0, 5, leaf(7), mth(0, 5), ()) is Reason.PROOF_INVALID


def test_a_proof_without_end_is_refused_at_once() -> None:
    endless = [leaf(0)] * (MAX_PROOF_HASHES + 1)
    assert reason_of(check_inclusion, leaf(0), 0, MAX_SIZE, endless, leaf(1)) is Reason.PROOF_INVALID
    assert reason_of(check_consistency, 3, MAX_SIZE, leaf(0), leaf(1), endless) is Reason.PROOF_INVALID
