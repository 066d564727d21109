"""The log as evidence: a proof out of ten million entries, recomputing a whole log, signing a receipt.

All from a real SQLite file beside this one. The tree of ten million entries is a true one, over made-up hashes; as its
subtrees of 65,536 leaves are all alike, only one of them has to be computed, and the rest is writing tiles.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from bench.core import GATEWAY, ISSUER, SERVICE
from bench.figures import Figure
from bench.members import NOW
from gateway.cli.log_sources import FoundLog, StoredLogs
from gateway.clock import World
from gateway.core.encoding import b64url_encode, new_name
from gateway.core.entries import SealedEntry, Verification, blinded, seal, verification_entry
from gateway.core.jose import SoftwareKey, generate_key
from gateway.core.log_audit import Head, audit_log
from gateway.core.merkle import HASH_BYTES, TILE_WIDTH, Tiles, append, check_inclusion, root_hash
from gateway.core.receipt import Receipt, Verdict, make_receipt
from gateway.notary import Notary
from gateway.storage.opening import open_sqlite
from gateway.storage.stores import Stores

LEAVES: Final = 10_000_000
PROOFS: Final = 500
ENTRIES: Final = 50_000
RECEIPTS: Final = 500
_SUBTREE: Final = TILE_WIDTH * TILE_WIDTH
_PAGE: Final = 2_000
_PLACE: Final = Path(__file__).parent / "out"


def measure(
    say: Callable[[str], None],
    leaves: int = LEAVES,
    proofs: int = PROOFS,
    entries: int = ENTRIES,
    receipts: int = RECEIPTS,
) -> list[Figure]:
    """Measure all three."""
    _PLACE.mkdir(exist_ok=True)
    key = generate_key()
    say(f"{proofs} proofs out of {leaves:,} entries")
    with _opened() as stores:
        proof_ms = _proof_ms(stores, key, leaves, proofs)
    say(f"recomputing a log of {entries:,} entries")
    with _opened() as stores:
        audited_per_s = _audited_per_s(stores, key, entries)
    say(f"signing {receipts} receipts")
    return [
        Figure(metric="proof_ms_10m", value=proof_ms, unit="ms", target=5, at_most=True),
        Figure(metric="audit_verify_entries_per_s", value=audited_per_s, unit="1/s"),
        Figure(metric="receipt_sign_per_s", value=_receipts_per_s(key, receipts), unit="1/s"),
    ]


@contextmanager
def _opened() -> Iterator[Stores]:
    with tempfile.TemporaryDirectory(prefix="log-", dir=_PLACE) as folder:
        stores = open_sqlite(Path(folder) / "bench.sqlite")
        try:
            yield stores
        finally:
            stores.close()


def notary_of(stores: Stores, key: SoftwareKey) -> Notary:
    """Make what keeps the tree of a log; it signs whatever it is to."""
    return Notary(
        gateway=GATEWAY,
        store=stores.log,
        world=World(now=lambda: NOW, random_bytes=os.urandom),
        signer=lambda: key,
        key_of=lambda _gateway, _kid: key.public,
        may_sign=lambda: True,
    )


# -- proofs -----------------------------------------------------------------------------------------------------------


def _proof_ms(stores: Stores, key: SoftwareKey, size: int, count: int) -> float:
    log_id = stores.log.logs()[-1].log_id
    alike = _plant(stores, log_id, size)
    notary, root = notary_of(stores, key), root_hash(size, _Tiles(stores, log_id))
    took = []
    for _ in range(count):
        position = int.from_bytes(os.urandom(8)) % size
        began = time.perf_counter()
        proof = notary.inclusion(log_id, position, size)
        took.append(time.perf_counter() - began)
        check_inclusion(alike[position % len(alike)], position, size, proof, root)
    return statistics.median(took) * 1_000


def _plant(stores: Stores, log_id: str, size: int) -> list[bytes]:
    """Write the tiles of a tree; gives the leaves of one of its subtrees, which are those of every other one."""
    leaves = [os.urandom(HASH_BYTES) for _ in range(_SUBTREE)]
    made = append(0, leaves, _NoTiles())
    bottom, top = [made[0, number] for number in range(TILE_WIDTH)], made[1, 0]
    whole, rest = divmod(size, _SUBTREE)
    for number in range(whole):
        tiles = {(0, number * TILE_WIDTH + place): tile for place, tile in enumerate(bottom)}
        stores.log.save_tree(log_id, (number + 1) * _SUBTREE, {**tiles, (1, number): top})
    full, partial = divmod(rest, TILE_WIDTH)
    edge = {(0, whole * TILE_WIDTH + place): bottom[place] for place in range(full)}
    edge[0, whole * TILE_WIDTH + full] = bottom[full][: partial * HASH_BYTES]
    edge[1, whole] = top[: full * HASH_BYTES]
    edge[2, 0] = made[2, 0] * whole
    stores.log.save_tree(log_id, size, {place: tile for place, tile in edge.items() if tile})
    return leaves


class _Tiles:
    def __init__(self, stores: Stores, log_id: str) -> None:
        self._stores = stores
        self._log_id = log_id

    def tile(self, level: int, number: int) -> bytes:
        return self._stores.log.tile(self._log_id, level, number)


class _NoTiles(Tiles):
    def tile(self, level: int, number: int) -> bytes:
        del level, number
        return b""


# -- a whole log ------------------------------------------------------------------------------------------------------


def _audited_per_s(stores: Stores, key: SoftwareKey, count: int) -> float:
    entries = verification_entries()
    for _ in range(0, count, _PAGE):
        stores.log.append([next(entries) for _ in range(_PAGE)])
    notary_of(stores, key).tick()
    log = stores.log.logs()[-1]
    head = Head(size=log.size, root=root_hash(log.size, _Tiles(stores, log.log_id)), signed_at=NOW)
    source = StoredLogs(stores.trust, stores.log)
    found = FoundLog(log_id=log.log_id, size=log.size, heads=())
    began = time.perf_counter()
    audit = audit_log(lambda: source.pages(found), log.size, [head])
    took = time.perf_counter() - began
    assert audit.is_clean
    assert audit.covered == log.size
    return log.size / took


def verification_entries() -> Iterator[SealedEntry]:
    """Entries of verifications, as long as real ones."""
    at = NOW
    while True:
        at += timedelta(milliseconds=20)
        name, person = new_name(os.urandom(16)), b64url_encode(os.urandom(32))
        verification = Verification(
            verification_id=name,
            decided_at=at,
            service=SERVICE,
            caller_certificate="c" * 43,
            matter="HJ-QY",
            verdict="accepted",
            reason="",
            issuer=ISSUER,
            kid="k" * 43,
            charter_version=1,
            charter_sha256="d" * 43,
            view_id="v" * 22,
            person=blinded(person, name),
            replay=b64url_encode(os.urandom(32)),
            released=("hukou_region", "name"),
            request_id="r" * 22,
            duration=500,
            findings=_FINDINGS,
        )
        yield seal(verification_entry(verification), person=person)


_FINDINGS: Final[Mapping[str, object]] = {
    "format": 1,
    "step": 10,
    "profile": "identity-assertion+jwt",
    "issuer": ISSUER,
    "kid": "k" * 43,
    "algorithm": "ES256",
    "credential_type": "urn:yrd:assertion:identity:1",
    "subject_type": "natural",
    "party": "self",
    "in_scope": True,
    "acr": "urn:yrd:loa:4",
    "authenticated_at": 1_795_395_600,
    "issued_at": 1_795_395_600,
    "expires_at": 1_795_395_900,
    "trusted_until": 1_795_396_200,
    "anchors": [f"https://anchor.{code}.mrg.example" for code in ("ah", "js", "sh", "zj")],
    "asserted": [3, 3, 3],
    "effective": [3, 3, 3],
    "disclosed": ["hukou_region", "name"],
}


# -- receipts ---------------------------------------------------------------------------------------------------------


def _receipts_per_s(key: SoftwareKey, count: int) -> float:
    receipt = Receipt(
        gateway=GATEWAY,
        service=SERVICE,
        issued_at=NOW,
        verified_at=NOW,
        verification_id="v" * 22,
        matter="HJ-QY",
        verdict=Verdict.ACCEPTED,
        reason=None,
        charter_version=1,
        charter_sha256="d" * 43,
        view_id="v" * 22,
        log="0" * 32,
        position=0,
        entry_sha256=os.urandom(32),
    )
    receipts = [replace(receipt, position=position) for position in range(count)]
    began = time.perf_counter()
    for each in receipts:
        make_receipt(each, key)
    return count / (time.perf_counter() - began)
