"""The Merkle tree of an append-only log (RFC 9162 section 2.1), kept in tiles.

Rules that live here:

* Leaves and nodes are hashed apart (0x00 and 0x01 before what is hashed), so that no node passes for an entry.
* A tile holds up to 256 hashes side by side: at level L the roots of complete subtrees of 256**L leaves. A full one
  never changes and a partial one only grows, so the tiles of a log prove what it was at every size that it has had.
* A proof reads the few tiles between a leaf and the root, at the leaf and at the right edge, and computes the levels
  inside a tile anew. Nothing reads the whole log.
* Whoever checks a proof takes nothing in it for granted: sizes, positions, the number of hashes and their lengths are
  the other side's. A proof with a hash too many is refused like one with a hash too few, or one proof would have many
  spellings.
* A hash that a tile ought to hold and does not is an error. To go on with fewer would make another tree, and sign it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from gateway.core.reasons import Reason, Rejected

TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 256
HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
"""The root of a tree without leaves."""
MAX_SIZE: Final = 2**40
"""Entries of one log: a million a day for three thousand years. Every walk up a tree is this many bits long at most."""
MAX_PROOF_HASHES: Final = 41
"""In any proof: one for each level of the largest tree, and one for the subtree that two trees share."""


class Tiles(Protocol):
    """Where hashes are read from."""

    def tile(self, level: int, number: int) -> bytes:
        """Give the hashes of one tile, one after the other; b"" if there is none.

        The tile of this number holds the roots of the complete subtrees of ``256**level`` leaves from number
        ``256 * number`` on; at the right edge, fewer than 256 of them. What is given is not trusted to be long enough.
        """


def leaf_hash(entry: bytes) -> bytes:
    """Hash an entry as a leaf."""
    return hashlib.sha256(b"\x00" + entry).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _fold(hashes: Sequence[bytes]) -> bytes:
    """Give the root over the hashes of complete subtrees side by side, a power of two of them."""
    level = list(hashes)
    while len(level) > 1:
        level = [_node(level[i], level[i + 1]) for i in range(0, len(level), 2)]
    return level[0]


# -- growing ----------------------------------------------------------------------------------------------------------


def append(size: int, leaves: Sequence[bytes], tiles: Tiles) -> Mapping[tuple[int, int], bytes]:
    """Add leaf hashes to a tree of that size, and give the tiles that change, whole, by (level, number).

    Of a partial tile, only the hashes that belong to ``size`` are kept: tiles may be written before the size is, and
    what was written when the power failed is no part of the log.

    Raises:
        ValueError: the tree would have more than ``MAX_SIZE`` leaves, or a leaf is no hash.
        Rejected: PROOF_INVALID when a tile is too short for that size.
    """
    _require_size(size + len(leaves))
    _require_size(size)
    if any(len(leaf) != HASH_BYTES for leaf in leaves):
        raise ValueError("a leaf is no SHA-256 hash")
    changed: dict[tuple[int, int], bytes] = {}
    reader = _Reader(tiles)
    level, new = 0, list(leaves)
    while new:  # a 256th from level to level
        number, held = divmod(size >> (TILE_HEIGHT * level), TILE_WIDTH)
        row = [*reader.hashes(level, TILE_WIDTH * number, held), *new]
        new = []
        for begin in range(0, len(row), TILE_WIDTH):
            tile = row[begin : begin + TILE_WIDTH]
            changed[level, number + begin // TILE_WIDTH] = b"".join(tile)
            if len(tile) == TILE_WIDTH:
                new.append(_fold(tile))
        level += 1
    return changed


class Hasher:
    """The root over leaves that come one by one, as many as there are: it keeps one hash for each bit of their number.

    For whoever computes a root anew from the entries themselves.
    """

    __slots__ = ("_peaks", "_size")

    def __init__(self) -> None:
        self._size = 0
        self._peaks: list[bytes] = []
        """Roots of the complete subtrees so far, the largest first: one for each bit of the size that is set."""

    @property
    def size(self) -> int:
        """How many leaves were added."""
        return self._size

    def add(self, leaf: bytes) -> None:
        """Add the next leaf hash. Raises ValueError when it is no hash."""
        if len(leaf) != HASH_BYTES:
            raise ValueError("a leaf is no SHA-256 hash")
        size, node = self._size, leaf
        while size & 1:
            node = _node(self._peaks.pop(), node)
            size >>= 1
        self._peaks.append(node)
        self._size += 1

    def root(self) -> bytes:
        """Give the root over all leaves added so far."""
        return _join(self._peaks)


def _join(peaks: Sequence[bytes]) -> bytes:
    """Give the root over complete subtrees, each smaller than the one before it."""
    if not peaks:
        return EMPTY_ROOT
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = _node(peak, root)
    return root


# -- reading tiles ----------------------------------------------------------------------------------------------------


class _Reader:
    """Reads each tile once, and trusts no length."""

    __slots__ = ("_read", "_tiles")

    def __init__(self, tiles: Tiles) -> None:
        self._tiles = tiles
        self._read: dict[tuple[int, int], bytes] = {}

    def hashes(self, level: int, first: int, count: int) -> list[bytes]:
        """Give hashes side by side, all of one tile.

        Raises:
            Rejected: PROOF_INVALID when the tile does not hold them.
        """
        if not count:
            return []
        number, place = divmod(first, TILE_WIDTH)
        tile = self._read.get((level, number))
        if tile is None:
            tile = self._read[level, number] = self._tiles.tile(level, number)
        begin, end = place * HASH_BYTES, (place + count) * HASH_BYTES
        if len(tile) < end:
            raise _invalid(f"tile {number} of level {level} is too short")
        return [tile[at : at + HASH_BYTES] for at in range(begin, end, HASH_BYTES)]

    def subtree(self, height: int, number: int) -> bytes:
        """Give the root of a complete subtree of 2**height leaves."""
        level, inside = divmod(height, TILE_HEIGHT)
        return _fold(self.hashes(level, number << inside, 1 << inside))

    def root(self, begin: int, end: int) -> bytes:
        """Give the root over the leaves from ``begin`` to before ``end``, of which there are some.

        ``begin`` is a multiple of a power of two that is no less than their number, as for every subtree of a tree.
        """
        peaks: list[bytes] = []
        while begin < end:  # one for each bit of the number that is set
            height = (end - begin).bit_length() - 1
            peaks.append(self.subtree(height, begin >> height))
            begin += 1 << height
        return _join(peaks)


def root_hash(size: int, tiles: Tiles) -> bytes:
    """Give the root of the tree of the first ``size`` leaves, which may be fewer than there are.

    Raises:
        ValueError: that is not the size of a tree.
        Rejected: PROOF_INVALID when a tile is too short.
    """
    _require_size(size)
    return _Reader(tiles).root(0, size)


def inclusion_proof(index: int, size: int, tiles: Tiles) -> tuple[bytes, ...]:
    """Prove that the leaf of this index, counted from 0, is in the tree of the first ``size`` leaves (2.1.3.1).

    Raises:
        ValueError: there is no such leaf in such a tree.
        Rejected: PROOF_INVALID when a tile is too short.
    """
    _require_size(size)
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} in a tree of {size}")
    reader, path = _Reader(tiles), list[bytes]()
    begin, end = 0, size
    while end - begin > 1:  # down from the root
        middle = _split(begin, end)
        if index < middle:
            path.append(reader.root(middle, end))
            end = middle
        else:
            path.append(reader.root(begin, middle))
            begin = middle
    return tuple(reversed(path))


def consistency_proof(old: int, new: int, tiles: Tiles) -> tuple[bytes, ...]:
    """Prove that the tree of the first ``new`` leaves begins with that of the first ``old`` (2.1.4.1).

    Nothing has to be proven, and the proof is empty, when the old tree has no leaves or is the new one.

    Raises:
        ValueError: there are no such trees.
        Rejected: PROOF_INVALID when a tile is too short.
    """
    _require_size(new)
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} does not begin with one of {old}")
    if old in {0, new}:
        return ()
    reader, path = _Reader(tiles), list[bytes]()
    begin, end = 0, new
    while end != old:  # down from the root, to the last subtree that is whole in the old tree
        middle = _split(begin, end)
        if old <= middle:
            path.append(reader.root(middle, end))
            end = middle
        else:
            path.append(reader.root(begin, middle))
            begin = middle
    if begin:
        # Where the old tree is a left subtree of the new one, its root is known to whoever checks.
        path.append(reader.root(begin, end))
    return tuple(reversed(path))


def _split(begin: int, end: int) -> int:
    """Where the left subtree ends: after the largest power of two that is less than the number of leaves."""
    return begin + (1 << ((end - begin - 1).bit_length() - 1))


# -- checking proofs --------------------------------------------------------------------------------------------------


def check_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that a leaf hash is that of an entry of the tree with this root (2.1.3.2).

    Raises:
        Rejected: PROOF_INVALID.
    """
    if not 0 <= index < size <= MAX_SIZE:
        raise _invalid("there is no such leaf in such a tree")
    _require_hashes([leaf, root, *proof])
    at, last, computed = index, size - 1, leaf
    for sibling in proof:  # at most MAX_PROOF_HASHES
        if not last:
            raise _invalid("inclusion proof is too long")
        if at & 1 or at == last:
            computed = _node(sibling, computed)
            while at and not at & 1:
                # A subtree that has no right sibling goes up as it is.
                at, last = at >> 1, last >> 1
        else:
            computed = _node(computed, sibling)
        at, last = at >> 1, last >> 1
    if last:
        raise _invalid("inclusion proof is too short")
    if computed != root:
        raise _invalid("inclusion proof does not lead to the root")


def check_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree with the new root begins with the tree with the old one (2.1.4.2).

    Raises:
        Rejected: PROOF_INVALID; also when the new tree is the smaller.
    """
    if not 0 <= old <= new <= MAX_SIZE:
        raise _invalid("the new tree is smaller than the old one, or there are no such trees")
    _require_hashes([old_root, new_root, *proof])
    if (not old and old_root != EMPTY_ROOT) or (not new and new_root != EMPTY_ROOT):
        raise _invalid("the root of a tree without leaves is another")
    if old in {0, new}:
        if proof:
            raise _invalid("consistency proof is too long")
        if old == new and old_root != new_root:
            raise _invalid("two trees of one size have different roots")
        return
    _check_growth(old, new, old_root, new_root, proof)


def _check_growth(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    path = list(proof)
    if not old & (old - 1):
        # The old tree is a left subtree of the new one: the proof leaves out its root.
        path.insert(0, old_root)
    if not path:
        raise _invalid("consistency proof is too short")
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old_computed = new_computed = path[0]
    for sibling in path[1:]:  # at most MAX_PROOF_HASHES
        if not last:
            raise _invalid("consistency proof is too long")
        if at & 1 or at == last:
            old_computed, new_computed = _node(sibling, old_computed), _node(sibling, new_computed)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            new_computed = _node(new_computed, sibling)
        at, last = at >> 1, last >> 1
    if last:
        raise _invalid("consistency proof is too short")
    if (old_computed, new_computed) != (old_root, new_root):
        raise _invalid("consistency proof does not lead to both roots")


def _require_size(size: int) -> None:
    if not 0 <= size <= MAX_SIZE:
        raise ValueError(f"a tree has 0 to {MAX_SIZE} leaves")


def _require_hashes(hashes: Sequence[bytes]) -> None:
    if len(hashes) > MAX_PROOF_HASHES + 2:
        raise _invalid("proof has more hashes than any can have")
    if any(len(each) != HASH_BYTES for each in hashes):
        raise _invalid("a hash has the wrong length")


def _invalid(detail: str) -> Rejected:
    return Rejected(Reason.PROOF_INVALID, detail)
