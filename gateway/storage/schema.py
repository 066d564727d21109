"""The tables of the SQLite store, as numbered steps from an empty file.

A step is SQL, or a function where values have to be written anew.

* ``status_lists``: the newest status list of every issuer, ours among them, as its issuer signed it; the floor under
  the next one.
* ``own_lists``, ``own_statuses``: this province's own lists, and which place in them was given to which credential. A
  row without ``credential_id`` is a decoy. ``subject`` and ``actor`` are keyed references: nobody who reads the
  file learns whom they mean.
* ``replays``: what is used up, and the entry of the decision that did. ``request`` is a keyed reference of the question
  and its answer; empty where it may not be asked again.
* ``consents``: what a person consented to. ``subject`` is the keyed reference of whom it was first used for.
* ``logs``, ``entries``: the log. ``entry`` is what counts; the other columns are for finding it. ``number`` counts all
  entries of the store through; a log's own positions begin at its ``first``.
* ``tiles``, ``checkpoints``, ``cosignatures``: the log's tree, its signed heads, and who has seen them.
* ``evidence``: what proves the verifications that disputes are about, as it was when they were opened.
* ``tidings``: how often what other processes take over was written, by topic. Triggers count, so that whoever writes,
  a command among them, need not think of it.
* ``seen``, ``forks``: what was seen of the logs of other gateways, and what contradicts itself there.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Final

from gateway.core.entries import Verification, instant, seal, verification_entry
from gateway.storage import Topic
from gateway.storage.sqlite_entries import append


def _audit_to_entries(db: sqlite3.Connection) -> None:
    """Take over what was decided before there was a log."""
    rows = db.execute(
        "SELECT verification_id, decided_at, service, matter, verdict, reason, issuer, kid, charter_version, view_id,"
        " request_id, findings FROM audit ORDER BY position"
    )
    while page := rows.fetchmany(1_000):
        decisions = [
            Verification(
                verification_id=row[0],
                decided_at=instant(row[1]),
                service=row[2],
                caller_certificate="",
                matter=row[3],
                verdict=row[4],
                reason=row[5],
                issuer=row[6],
                kid=row[7],
                charter_version=row[8],
                charter_sha256="",
                view_id=row[9],
                request_id=row[10],
                findings=json.loads(row[11]) if row[11] else {},
            )
            for row in page
        ]
        append(db, [seal(verification_entry(each)) for each in decisions])
    db.execute("DROP TABLE audit")


_TOPICS: Final = {
    Topic.TRUST: ("documents", "charters", "events", "revocations", "withdrawals", "equivocations", "clock_floor"),
    Topic.LISTS: ("status_lists",),
    Topic.KEYS: ("keys",),
}


def _count_tidings(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE tidings (topic TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID")
    for topic, tables in _TOPICS.items():
        db.execute("INSERT INTO tidings (topic, count) VALUES (?, 0)", (topic.value,))
        for table in tables:
            for change in ("INSERT", "UPDATE", "DELETE"):
                db.execute(
                    f"CREATE TRIGGER tidings_{table}_{change.lower()} AFTER {change} ON {table} BEGIN"  # noqa: S608
                    f" UPDATE tidings SET count = count + 1 WHERE topic = '{topic.value}'; END"
                )
    db.execute("ALTER TABLE lineage ADD COLUMN settled INTEGER NOT NULL DEFAULT 0")


# Numbered, forward only. A version once released is never edited; changes are appended.
MIGRATIONS: Final[tuple[str | Callable[[sqlite3.Connection], None], ...]] = (
    """
    CREATE TABLE documents (
        issuer TEXT NOT NULL, subject TEXT NOT NULL, token TEXT NOT NULL, PRIMARY KEY (issuer, subject)
    ) WITHOUT ROWID;
    CREATE TABLE charters (version INTEGER PRIMARY KEY, document TEXT NOT NULL);
    CREATE TABLE events (member TEXT PRIMARY KEY, token TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE revocations (
        member TEXT NOT NULL, kid TEXT NOT NULL, revoked_at INTEGER NOT NULL, reason TEXT NOT NULL,
        compromised_since INTEGER, attested INTEGER NOT NULL, PRIMARY KEY (member, kid)
    ) WITHOUT ROWID;
    CREATE TABLE withdrawals (
        anchor TEXT NOT NULL, signer TEXT NOT NULL, member TEXT NOT NULL, revoked_at INTEGER NOT NULL,
        reason TEXT NOT NULL, PRIMARY KEY (anchor, signer, member)
    ) WITHOUT ROWID;
    CREATE TABLE equivocations (
        anchor TEXT NOT NULL, signer TEXT NOT NULL, one TEXT NOT NULL, other TEXT NOT NULL,
        PRIMARY KEY (anchor, signer)
    ) WITHOUT ROWID;
    CREATE TABLE clock_floor (only INTEGER PRIMARY KEY CHECK (only = 0), at INTEGER NOT NULL);
    CREATE TABLE views (taken_at INTEGER PRIMARY KEY, summary TEXT NOT NULL);
    CREATE TABLE members (member TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE keys (
        position INTEGER PRIMARY KEY AUTOINCREMENT, kid TEXT NOT NULL UNIQUE, purpose TEXT NOT NULL, jwk TEXT NOT NULL,
        state TEXT NOT NULL, staged_at INTEGER NOT NULL, published_at INTEGER, activated_at INTEGER, drained_at INTEGER,
        retired_at INTEGER, revoked_at INTEGER, reason TEXT, compromised_since INTEGER, signed_until INTEGER
    );
    CREATE TABLE key_events (
        position INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, kid TEXT NOT NULL, purpose TEXT NOT NULL,
        event TEXT NOT NULL, administrator TEXT NOT NULL, detail TEXT NOT NULL
    );
    CREATE TABLE requests (request_id TEXT PRIMARY KEY, done_at INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE overrides (
        kid TEXT PRIMARY KEY, administrator TEXT NOT NULL, justification TEXT NOT NULL, asked_at INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE replays (replay_key TEXT PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX replays_until ON replays (until);
    CREATE TABLE audit (
        position INTEGER PRIMARY KEY AUTOINCREMENT, verification_id TEXT NOT NULL UNIQUE, decided_at INTEGER NOT NULL,
        service TEXT NOT NULL, matter TEXT NOT NULL, verdict TEXT NOT NULL, reason TEXT NOT NULL, issuer TEXT NOT NULL,
        kid TEXT NOT NULL, charter_version INTEGER NOT NULL, view_id TEXT NOT NULL, request_id TEXT NOT NULL
    );
    """,
    """
    CREATE TABLE lineage (
        only INTEGER PRIMARY KEY CHECK (only = 0), generation INTEGER NOT NULL, restored INTEGER NOT NULL
    );
    INSERT INTO lineage (only, generation, restored) VALUES (0, 0, 0);
    """,
    """
    CREATE TABLE status_lists (
        uri TEXT PRIMARY KEY, issuer TEXT NOT NULL, seq INTEGER NOT NULL, issued_at INTEGER NOT NULL,
        token TEXT NOT NULL
    );
    CREATE TABLE own_lists (
        uri TEXT PRIMARY KEY, size INTEGER NOT NULL, opened_at INTEGER NOT NULL, closed INTEGER NOT NULL
    );
    CREATE TABLE own_statuses (
        uri TEXT NOT NULL, place INTEGER NOT NULL, credential_id TEXT UNIQUE, subject TEXT NOT NULL,
        actor TEXT NOT NULL, expires_at INTEGER NOT NULL, status INTEGER NOT NULL, changed_at INTEGER,
        PRIMARY KEY (uri, place)
    ) WITHOUT ROWID;
    CREATE INDEX own_statuses_subject ON own_statuses (subject) WHERE subject <> '';
    CREATE INDEX own_statuses_actor ON own_statuses (actor) WHERE actor <> '';
    CREATE INDEX own_statuses_set ON own_statuses (uri, place, status) WHERE status <> 0;
    CREATE TABLE consents (
        consent_id TEXT PRIMARY KEY, service TEXT NOT NULL, matter TEXT NOT NULL, claims TEXT NOT NULL,
        recorded_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, withdrawn_at INTEGER, subject TEXT NOT NULL
    ) WITHOUT ROWID;
    ALTER TABLE audit ADD COLUMN findings TEXT NOT NULL DEFAULT '';
    """,
    """
    CREATE TABLE logs (
        log_id TEXT PRIMARY KEY, first INTEGER NOT NULL UNIQUE, size INTEGER NOT NULL, tree_size INTEGER NOT NULL
    ) WITHOUT ROWID;
    INSERT INTO logs (log_id, first, size, tree_size) VALUES (lower(hex(randomblob(16))), 0, 0, 0);
    CREATE TABLE entries (
        number INTEGER PRIMARY KEY, entry BLOB NOT NULL, kind TEXT NOT NULL, at INTEGER NOT NULL, keep TEXT NOT NULL,
        entry_id TEXT NOT NULL, about TEXT NOT NULL, service TEXT NOT NULL, matter TEXT NOT NULL, verdict TEXT NOT NULL,
        reason TEXT NOT NULL, issuer TEXT NOT NULL, kid TEXT NOT NULL, person TEXT NOT NULL, actor TEXT NOT NULL
    );
    CREATE UNIQUE INDEX entries_id ON entries (entry_id) WHERE entry_id <> '';
    CREATE INDEX entries_about ON entries (about) WHERE about <> '';
    CREATE INDEX entries_at ON entries (at);
    CREATE INDEX entries_kind ON entries (kind, number) WHERE kind <> 'verification';
    CREATE INDEX entries_person ON entries (person) WHERE person <> '';
    CREATE INDEX entries_actor ON entries (actor) WHERE actor <> '';
    CREATE TABLE tiles (
        log_id TEXT NOT NULL, level INTEGER NOT NULL, number INTEGER NOT NULL, hashes BLOB NOT NULL,
        PRIMARY KEY (log_id, level, number)
    );
    CREATE TABLE checkpoints (
        log_id TEXT NOT NULL, size INTEGER NOT NULL, issued_at INTEGER NOT NULL, token TEXT NOT NULL,
        PRIMARY KEY (log_id, size)
    ) WITHOUT ROWID;
    CREATE TABLE cosignatures (
        log_id TEXT NOT NULL, size INTEGER NOT NULL, witness TEXT NOT NULL, token TEXT NOT NULL,
        PRIMARY KEY (log_id, size, witness)
    ) WITHOUT ROWID;
    CREATE TABLE seen (
        position INTEGER PRIMARY KEY AUTOINCREMENT, gateway TEXT NOT NULL, log_id TEXT NOT NULL, size INTEGER NOT NULL,
        issued_at INTEGER NOT NULL, token TEXT NOT NULL, UNIQUE (gateway, log_id)
    );
    CREATE TABLE evidence (dispute_id TEXT PRIMARY KEY, document BLOB NOT NULL);
    CREATE TABLE forks (
        position INTEGER PRIMARY KEY AUTOINCREMENT, gateway TEXT NOT NULL, kind TEXT NOT NULL,
        found_at INTEGER NOT NULL, seen TEXT NOT NULL, shown TEXT NOT NULL, UNIQUE (gateway, kind, seen, shown)
    );
    """,
    _audit_to_entries,
    _count_tidings,
    """
    ALTER TABLE replays ADD COLUMN request TEXT NOT NULL DEFAULT '';
    ALTER TABLE replays ADD COLUMN entry_id TEXT NOT NULL DEFAULT '';
    """,
)
