"""Keeps our log provable: its tree follows its entries, its head is signed, and others' word on it is kept.

A decision is answered when it is durable; a moment later its hash is in the tree and a head is signed over it. That
moment is short, and until then a receipt says so. Rules that live here:

* A head is signed at least once a second while entries are written, and now and then when none are: evidence always
  has a head that was signed by a key of the day.
* Tiles are written before the head that needs them is signed. After a crash the tree goes on where it was.
* What others have seen of our log is held against what is here, whenever they are asked. A database that was put back
  has fewer entries than were seen, or others in their place. Nothing can be added to such a log without a
  contradiction; it is ended where it stands, another one is begun, and that is for everybody to see.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from gateway.clock import World
from gateway.core.checkpoint import (
    Checkpoint,
    Cosignature,
    KeyOf,
    kept_issued_at,
    make_checkpoint,
    named_head,
    read_checkpoint,
    read_cosignature,
)
from gateway.core.entries import Kind, read
from gateway.core.jose import Signer
from gateway.core.merkle import HASH_BYTES, TILE_WIDTH, append, consistency_proof, inclusion_proof, leaf_hash, root_hash
from gateway.core.reasons import InvalidRequest, NotHeld, Rejected, Unavailable
from gateway.logs import get_logger
from gateway.storage import EntryQuery, HeldCheckpoint, Log, LogStore, StorageError, StoredEntry

TICK_SECONDS: Final = 0.25
"""How often to look for new entries. A head follows within twice of that, well within the second."""
PAGE: Final = 4_096
"""Entries hashed and written at once."""
RESIGN_EVERY: Final = timedelta(minutes=10)
RECOSIGN_EVERY: Final = timedelta(minutes=5)
"""How much newer a witness's word on our newest head must be to be written in place of the one before. On any other
head it is written once: each is a durable write, and any number of them would keep verdicts waiting for the disk."""

_log = get_logger("notary")


class Notary:
    """The tree and the signed head of our log. Thread-safe."""

    def __init__(
        self,
        *,
        gateway: str,
        store: LogStore,
        world: World,
        signer: Callable[[], Signer],
        key_of: KeyOf,
        may_sign: Callable[[], bool],
    ) -> None:
        """Prepare; nothing is signed yet.

        Args:
            gateway: our entity identifier.
            store: where the log is.
            world: the time.
            signer: gives the audit key that signs now; raises Unavailable.
            key_of: gives the audit key of a gateway by kid; ours among them.
            may_sign: whether the clock is right and nothing is waited for that others know of us.
        """
        self._gateway = gateway
        self._store = store
        self._world = world
        self._signer = signer
        self._key_of = key_of
        self._may_sign = may_sign
        self._lock = threading.Lock()
        """Held while the tree grows and while another log is begun."""
        begun = [read(each.raw) for each in _begun(store)]
        self._seen_logs = frozenset(str(each.body["seen"]) for each in begun if "seen" in each.body)
        """Logs of ours that others had seen, and that another one was begun for."""
        self._contradicted_at = max((each.at for each in begun if "seen" in each.body), default=None)
        self._is_silent = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    # -- signing -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Follow the entries from now on, in a thread."""
        self._thread = threading.Thread(target=self._run, name="notary", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Follow what there is once more, and end it."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self.tick()

    @property
    def contradicted_at(self) -> datetime | None:
        """When others were last found to have seen of our log what is not here; None: never."""
        return self._contradicted_at

    @property
    def is_signing(self) -> bool:
        """Whether the last attempt to sign a head that is due succeeded."""
        return not self._is_silent

    def tick(self) -> None:
        """Do what is due. Raises nothing."""
        try:
            with self._lock:
                self._follow()
            self._is_silent = False
        except (Unavailable, StorageError, Rejected) as error:
            if not self._is_silent:
                _log.error("log_not_signed", exc_info=error)
            self._is_silent = True

    def _run(self) -> None:
        while not self._stop.wait(TICK_SECONDS):
            self.tick()

    def _follow(self) -> None:
        log = self._store.logs()[-1]
        size = self._grow(log)
        last = self._store.latest_checkpoint(log.log_id)
        now = self._world.now()
        if size == 0 or not self._may_sign():
            return
        if last is not None and last.size == size and timedelta(0) <= now - last.issued_at < RESIGN_EVERY:
            return
        # No head bears an earlier time than the one before, or it would look like an old one.
        at = now if last is None else max(now, last.issued_at)
        token = make_checkpoint(
            gateway=self._gateway,
            log=log.log_id,
            size=size,
            root=root_hash(size, _Tiles(self._store, log.log_id)),
            now=at,
            signer=self._signer(),
        )
        self._store.save_checkpoint(
            HeldCheckpoint(log_id=log.log_id, size=size, issued_at=at, token=token, cosignatures={})
        )

    def _grow(self, log: Log) -> int:
        size, tiles = log.tree_size, _Tiles(self._store, log.log_id)
        while size < log.size:
            entries = self._store.read_entries(log.log_id, size, min(log.size, size + PAGE))
            if [each.position for each in entries] != list(range(size, size + len(entries))) or not entries:
                raise Unavailable(f"the log lacks an entry from position {size} on; mrg audit verify tells which")
            changed = append(size, [leaf_hash(each.raw) for each in entries], tiles)
            size += len(entries)
            self._store.save_tree(log.log_id, size, changed)
        return size

    # -- proving -------------------------------------------------------------------------------------------------------

    def inclusion(self, log_id: str, position: int, size: int) -> tuple[bytes, ...]:
        """Prove that an entry is in a log's tree of so many entries.

        Raises:
            NotHeld: there is no such log.
            InvalidRequest: the tree has not so many entries.
            Unavailable: the log cannot be read.
        """
        log = self._named(log_id)
        if not 0 <= position < size <= log.tree_size:
            raise InvalidRequest("size", f"must be beyond the position, and at most {log.tree_size}")
        try:
            return inclusion_proof(position, size, _Tiles(self._store, log.log_id))
        except (StorageError, Rejected) as error:
            raise Unavailable("the log's tree cannot be read") from error

    def leaves(self, log_id: str, begin: int, end: int) -> Sequence[bytes]:
        """Give the hashes that a log's tree holds for positions; fewer where it has not so many yet.

        Raises as ``inclusion``.
        """
        log = self._named(log_id)
        found: list[bytes] = []
        try:
            for number in range(begin // TILE_WIDTH, -(-min(end, log.tree_size) // TILE_WIDTH)):
                tile = self._store.tile(log.log_id, 0, number)
                hashes = [tile[at : at + HASH_BYTES] for at in range(0, len(tile), HASH_BYTES)]
                low, high = begin - number * TILE_WIDTH, min(end, log.tree_size) - number * TILE_WIDTH
                found += hashes[max(0, low) : high]
        except StorageError as error:
            raise Unavailable("the log's tree cannot be read") from error
        return found

    def consistency(self, log_id: str, old_size: int, new_size: int) -> tuple[bytes, ...]:
        """Prove that a larger tree of a log continues a smaller one; raises as ``inclusion``."""
        log = self._named(log_id)
        if not 0 <= old_size <= new_size <= log.tree_size:
            raise InvalidRequest("new_size", f"must be at least the old size, and at most {log.tree_size}")
        try:
            return consistency_proof(old_size, new_size, _Tiles(self._store, log.log_id))
        except (StorageError, Rejected) as error:
            raise Unavailable("the log's tree cannot be read") from error

    def checkpoint(self, log_id: str = "", at_least: int = 0) -> HeldCheckpoint | None:
        """Give the newest head of a log, or the first of at least so many entries; None: there is none yet."""
        log = self._named(log_id)
        try:
            if at_least:
                found = self._store.checkpoints_from(log.log_id, at_least, 1)
                return found[0] if found else None
            return self._store.latest_checkpoint(log.log_id)
        except StorageError as error:
            raise Unavailable("the log cannot be read") from error

    def logs(self) -> Sequence[Log]:
        """Give our logs, oldest first. Raises Unavailable."""
        try:
            return self._store.logs()
        except StorageError as error:
            raise Unavailable("the log cannot be read") from error

    def _named(self, log_id: str) -> Log:
        logs = self.logs()
        if not log_id:
            return logs[-1]
        for log in logs:
            if log.log_id == log_id:
                return log
        raise NotHeld("there is no log of that name here")

    # -- what others have seen -----------------------------------------------------------------------------------------

    def take_cosignature(self, token: str) -> str:
        """Keep another gateway's word that it has seen a head of ours; gives who it is.

        Raises:
            Rejected: it is not one by a gateway of the charter, or is about a head that was never signed here.
            Indeterminate: its key cannot be judged now.
            Unavailable: it cannot be kept.
        """
        log_id, size = named_head(token)
        held = self.checkpoint(log_id, size) if any(log.log_id == log_id for log in self.logs()) else None
        if held is None or held.size != size:
            raise NotHeld("no such head was signed here, or it is no longer kept")
        checkpoint = self._own(held.token)
        cosignature = read_cosignature(token, checkpoint, self._key_of, self._world.now())
        known = held.cosignatures.get(cosignature.witness)
        if known is not None and not self._is_worth_writing(cosignature, known, held):
            return cosignature.witness
        try:
            self._store.save_cosignature(log_id, size, cosignature.witness, token)
        except StorageError as error:
            raise Unavailable("the cosignature cannot be kept") from error
        return cosignature.witness

    def _is_worth_writing(self, cosignature: Cosignature, known: str, held: HeldCheckpoint) -> bool:
        latest = self.checkpoint(held.log_id)
        is_latest = latest is not None and latest.size == held.size
        return is_latest and cosignature.issued_at - kept_issued_at(known) >= RECOSIGN_EVERY

    def take_seen(self, witness: str, token: str) -> None:
        """Hold a head of ours that another gateway has seen against what is here.

        Raises:
            Rejected, Indeterminate: it is none of ours.
            Unavailable: the log cannot be read or written.
        """
        seen = self._own(token)
        try:
            with self._lock:
                if self._is_contradicted(seen):
                    self._begin_log(witness, seen)
        except StorageError as error:
            raise Unavailable("the log cannot be read or written") from error

    def _own(self, token: str) -> Checkpoint:
        checkpoint = read_checkpoint(token, self._key_of, self._world.now())
        if checkpoint.gateway != self._gateway:
            raise NotHeld("a head of another gateway's log")
        return checkpoint

    def _is_contradicted(self, seen: Checkpoint) -> bool:
        logs = self._store.logs()
        if seen.log != logs[-1].log_id:
            # One that was ended here says nothing more. One that nobody here remembers was written to after the
            # backup was made that is in use now.
            return all(log.log_id != seen.log for log in logs) and seen.log not in self._seen_logs
        size = self._grow(logs[-1])
        return seen.size > size or root_hash(seen.size, _Tiles(self._store, seen.log)) != seen.root

    def _begin_log(self, witness: str, seen: Checkpoint) -> None:
        _log.error("log_contradicted", peer=witness, log=seen.log, count=seen.size)
        now = self._world.now()
        self._store.begin_log(now, seen.log, seen.size)
        self._seen_logs |= {seen.log}
        self._contradicted_at = now


class _Tiles:
    """The tiles of one log."""

    def __init__(self, store: LogStore, log_id: str) -> None:
        self._store = store
        self._log_id = log_id

    def tile(self, level: int, number: int) -> bytes:
        """Load one; see ``core.merkle.Tiles``."""
        return self._store.tile(self._log_id, level, number)


def _begun(store: LogStore) -> Sequence[StoredEntry]:
    """Give the entries by which logs were begun in place of others, newest first."""
    return store.list_entries(EntryQuery(kinds=(Kind.LOG.value,)), _MAX_LOGS, newest_first=True)


_MAX_LOGS: Final = 1_000
"""Logs looked back on. Each stands for a backup that was put back."""
