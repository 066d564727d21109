"""Somebody edits the database of a gateway by hand: whatever they do, the audit of the log finds it and names it.

They have everything that the gateway has, the key included that signs heads. What they do not have is what the other
provinces have seen.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from gateway.config.reader import load_config
from gateway.core.checkpoint import kept_checkpoint, make_checkpoint
from gateway.core.entries import Erasure, Keep, SealedEntry, read, retention_entry, seal
from gateway.core.jose import SoftwareKey
from gateway.core.merkle import HASH_BYTES, TILE_WIDTH, append, leaf_hash, root_hash
from gateway.lab.charter import entity_ids
from gateway.lab.folder import LabFolder
from gateway.storage import HeldCheckpoint, sqlite_entries
from gateway.storage.sqlite_log import SqliteLog
from tests.cli.ceremony import Ended, mrg
from tests.e2e.crowd import Crowd
from tests.e2e.kept import kept_log
from tests.e2e.lab import AH, SH, RealFederation, header_of
from tests.e2e.links import wait_for

ANSWERS = 300
"""More than one tile holds."""
GATEWAY = entity_ids(AH).gateway
Found = set[tuple[object, ...]]


@dataclass(frozen=True, kw_only=True)
class Victim:
    """Anhui's database, and what there is to edit it and to audit it with."""

    folder: LabFolder
    seen: Path
    """What Shanghai has seen."""
    seen_size: int
    key: SoftwareKey
    """With which heads are signed."""
    log_id: str
    size: int
    place: int
    """A position somewhere in the middle, of a verification that was accepted; so is the next but one."""

    @property
    def database(self) -> Path:
        database = load_config(self.folder.config(AH)).database
        assert isinstance(database, Path)
        return database

    @property
    def now(self) -> datetime:
        return self.folder.world().now()

    # -- what somebody does ------------------------------------------------------------------------------------------

    def edit(self, statement: str, *values: object) -> None:
        with closing(sqlite3.connect(self.database)) as db, db:
            assert db.execute(statement, values).rowcount, statement

    def entry(self, position: int) -> bytes:
        with closing(sqlite3.connect(self.database)) as db:
            (raw,) = db.execute("SELECT entry FROM entries WHERE number = ?", (position,)).fetchone()
        return bytes(raw)

    def put(self, position: int, entry: SealedEntry) -> None:
        """Put an entry anywhere, with columns that agree with it."""
        with closing(sqlite3.connect(self.database)) as db, db:
            db.execute("DELETE FROM entries WHERE number = ?", (position,))
            db.execute(sqlite_entries._INSERT, sqlite_entries._row(position, entry))

    def invented(self, entry_id: str = "") -> SealedEntry:
        """The entry in the middle, about somebody else who is not named, or another one like it."""
        true = read(self.entry(self.place))
        body = {name: value for name, value in true.body.items() if name not in {"person", "actor"}}
        return seal(replace(true, entry_id=entry_id or true.entry_id, body=body))

    def spoil_tile(self, position: int) -> None:
        number, place = divmod(position, TILE_WIDTH)
        with closing(sqlite3.connect(self.database)) as db, db:
            (hashes,) = db.execute("SELECT hashes FROM tiles WHERE level = 0 AND number = ?", (number,)).fetchone()
            begin = place * HASH_BYTES
            spoilt = hashes[:begin] + bytes(HASH_BYTES) + hashes[begin + HASH_BYTES :]
            db.execute("UPDATE tiles SET hashes = ? WHERE level = 0 AND number = ?", (spoilt, number))

    def sign(self, root: bytes, size: int) -> None:
        """Sign a head, as the gateway would."""
        at = self.now
        token = make_checkpoint(gateway=GATEWAY, log=self.log_id, size=size, root=root, now=at, signer=self.key)
        with closing(SqliteLog(self.database)) as log:
            log.save_checkpoint(
                HeldCheckpoint(log_id=self.log_id, size=size, issued_at=at, token=token, cosignatures={})
            )

    def grow(self, entries: Sequence[SealedEntry]) -> None:
        """Add entries, with their hashes and a head, as the gateway would."""
        with closing(SqliteLog(self.database)) as log:
            log.append(entries)
            size = self.size + len(entries)
            tiles = _Tiles(log, self.log_id)
            log.save_tree(self.log_id, size, append(self.size, [leaf_hash(each.raw) for each in entries], tiles))
            root = root_hash(size, tiles)
        self.sign(root, size)

    def rebuild(self) -> None:
        """Make the tree anew of the entries that are there now, and sign no head but that of the whole."""
        with closing(SqliteLog(self.database)) as log:
            held = log.read_entries(self.log_id, 0, self.size)
            tiles = _Tiles(log, self.log_id)
            log.save_tree(self.log_id, self.size, append(0, [leaf_hash(each.raw) for each in held], tiles))
            root = root_hash(self.size, tiles)
        self.edit("DELETE FROM checkpoints")
        self.edit("DELETE FROM cosignatures")
        self.sign(root, self.size)

    # -- what an auditor does ----------------------------------------------------------------------------------------

    def audit(self, *, seen: bool = True) -> Ended:
        """Audit the database, with what Shanghai has seen or without."""
        options: list[str | Path] = ["--seen", self.seen] if seen else []
        config, clock = self.folder.config(AH), self.folder.clock
        return mrg("audit", "verify", "--config", config, "--lab-clock", clock, "--json", *options)

    def found(self) -> Found:
        """What is named: the fault, its positions, and whence it came or which columns."""
        ended = self.audit()
        assert ended.code == 1, ended
        (log,) = ended.document["logs"]
        return {
            (each["fault"], each["begin"], each["end"], *_details(each["source"], each["columns"]))
            for each in log["findings"]
        }


def _details(source: int | None, columns: Sequence[str]) -> tuple[object, ...]:
    return tuple(columns) if source is None else (source,)


class _Tiles:
    def __init__(self, log: SqliteLog, log_id: str) -> None:
        self._log = log
        self._log_id = log_id

    def tile(self, level: int, number: int) -> bytes:
        return self._log.tile(self._log_id, level, number)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Victim:
    """A gateway that was used, was seen by others, and has stopped."""
    path = tmp_path_factory.mktemp("edited")
    with RealFederation(path / "lab") as federation:
        folder = federation.folder
        federation.settle()
        with Crowd(federation, AH, SH, pace_seconds=0.0) as crowd:
            wait_for(lambda: crowd.answers >= ANSWERS, what=lambda: f"answers: {crowd.outcomes}")
        with kept_log(folder, AH) as book:
            written = book.logs()[-1].size
        wait_for(lambda: _seen_size(folder) >= written, what="Shanghai seeing all of the log")
        with kept_log(folder, AH) as book:
            (log,) = book.logs()
            signed = book.latest_checkpoint(log.log_id)
        assert signed is not None
        key = federation.private_key(AH, "gateway-audit", header_of(signed.token)["kid"])
    with kept_log(folder, SH) as book:
        heads = [each.token for each in book.load_seen(GATEWAY)]
    seen = path / "seen.json"
    seen.write_text(json.dumps({"seen": [{"checkpoint": token} for token in heads], "forks": []}))
    database = load_config(folder.config(AH)).database
    assert isinstance(database, Path)
    with closing(sqlite3.connect(database)) as db:
        db.execute("VACUUM INTO ?", (str(path / "untouched.sqlite"),))
        (size,) = db.execute("SELECT size FROM logs").fetchone()
        accepted = db.execute(
            "SELECT number FROM entries AS one WHERE number > 100 AND verdict = 'accepted' AND EXISTS"
            " (SELECT 1 FROM entries AS other WHERE other.number = one.number + 2 AND other.verdict = 'accepted')"
        )
        (place,) = accepted.fetchone()
    return Victim(
        folder=folder,
        seen=seen,
        seen_size=kept_checkpoint(heads[-1]).size,
        key=key,
        log_id=log.log_id,
        size=size,
        place=place,
    )


def _seen_size(folder: LabFolder) -> int:
    with kept_log(folder, SH) as book:
        heads = book.load_seen(GATEWAY)
    return kept_checkpoint(heads[-1].token).size if heads else 0


@pytest.fixture
def victim(untouched: Victim) -> Victim:
    for name in ("", "-wal", "-shm"):
        Path(f"{untouched.database}{name}").unlink(missing_ok=True)
    shutil.copy(untouched.seen.with_name("untouched.sqlite"), untouched.database)
    return untouched


def test_a_log_that_nobody_edited_is_clean(victim: Victim) -> None:
    ended = victim.audit()
    assert ended.code == 0, ended
    (log,) = ended.document["logs"]
    assert (log["clean"], log["size"], log["entries"]) == (True, victim.size, victim.size)
    assert victim.size > TILE_WIDTH


def test_a_changed_entry_is_named(victim: Victim) -> None:
    victim.put(victim.place, victim.invented())
    assert victim.found() == {("changed", victim.place, victim.place + 1)}


def test_a_changed_column_is_named(victim: Victim) -> None:
    victim.edit("UPDATE entries SET matter = 'elsewhere' WHERE number = ?", victim.place)
    assert victim.found() == {("column", victim.place, victim.place + 1, "matter")}


def test_a_deleted_entry_is_named(victim: Victim) -> None:
    victim.edit("DELETE FROM entries WHERE number = ?", victim.place)
    assert victim.found() == {("removed", victim.place, victim.place + 1)}


def test_an_inserted_entry_is_named_and_those_that_made_room_for_it(victim: Victim) -> None:
    place, size, invented = victim.place, victim.size, victim.invented("invented")
    victim.edit("UPDATE entries SET number = -number - 1 WHERE number >= ?", place)
    victim.edit("UPDATE entries SET number = -number WHERE number < 0")
    victim.edit("UPDATE logs SET size = ?", size + 1)
    victim.put(place, invented)
    assert victim.found() == {
        ("inserted", place, place + 1),
        ("reordered", place + 1, size, place),
        ("uncovered", size, size + 1),
    }


def test_two_entries_that_changed_places_are_named(victim: Victim) -> None:
    one, other = victim.place, victim.place + 2
    for source, target in ((one, -1), (other, one), (-1, other)):
        victim.edit("UPDATE entries SET number = ? WHERE number = ?", target, source)
    assert victim.found() == {("reordered", one, one + 1, other), ("reordered", other, other + 1, one)}


def test_an_entry_beyond_the_logs_end_is_named(victim: Victim) -> None:
    victim.put(victim.size, victim.invented("invented"))
    assert victim.found() == {("beyond", victim.size, victim.size + 1)}


def test_an_edited_tile_is_told_from_an_edited_entry(victim: Victim) -> None:
    victim.spoil_tile(victim.place)
    found = victim.found()
    assert ("tree", victim.place, victim.place + 1) in found
    assert {fault for fault, *_ in found} == {"tree"}


def test_a_log_that_was_cut_short_is_named_by_what_others_have_seen(victim: Victim) -> None:
    left = victim.size - 10
    victim.edit("DELETE FROM entries WHERE number >= ?", left)
    victim.edit("UPDATE logs SET size = ?, tree_size = ?", left, left)
    victim.edit("DELETE FROM checkpoints WHERE size > ?", left)
    assert victim.audit(seen=False).code == 0, "nothing is left that could tell"
    assert victim.found() == {("head", left, victim.seen_size)}


def test_a_head_that_was_replaced_by_one_with_another_root_is_named(victim: Victim) -> None:
    victim.sign(b"r" * HASH_BYTES, victim.size)
    found = victim.found()
    assert {(fault, end) for fault, _, end, *_ in found} == {("head", victim.size)}


def test_a_tree_that_was_built_anew_over_a_changed_entry_is_named_by_what_others_have_seen(victim: Victim) -> None:
    victim.put(victim.place, victim.invented())
    victim.rebuild()
    assert victim.audit(seen=False).code == 0, "nothing is left that could tell"
    assert {(fault, end) for fault, _, end, *_ in victim.found()} == {("head", victim.seen_size)}


def _erasure(victim: Victim, before: datetime) -> SealedEntry:
    erasure = Erasure(keep=Keep.DISCLOSURE, before=before, positions=(range(victim.place, victim.place + 1),))
    return seal(retention_entry(erasure, at=victim.now))


def test_an_entry_that_was_erased_too_early_is_named(victim: Victim) -> None:
    victim.edit("DELETE FROM entries WHERE number = ?", victim.place)
    victim.grow([_erasure(victim, before=victim.now)])
    assert victim.found() == {("removed", victim.place, victim.place + 1)}


def test_an_entry_that_was_erased_as_if_it_were_old_is_named(victim: Victim) -> None:
    """The law would let go of what is so old; but what stands beside it is of today."""
    victim.edit("DELETE FROM entries WHERE number = ?", victim.place)
    victim.grow([_erasure(victim, before=victim.now - timedelta(days=4 * 366))])
    assert victim.found() == {("removed", victim.place, victim.place + 1)}
