"""The tables of the PostgreSQL store, as numbered steps from an empty database.

* ``lineage``: see ``postgres_lineage``.
* ``logs``, ``entries``, ``entry_parts``: the log; see ``postgres_entries``. ``entries`` is divided by class and day, so
  that what nobody may keep any longer gives its room back a day at a time, and no index grows for ever.
* ``tiles``, ``checkpoints``, ``cosignatures``: its tree and what was signed of it. ``evidence``: what proves the
  verifications that disputes are about. ``seen`` and ``forks``: what was seen of the logs of others.
* ``own_statuses``: a row without ``credential_id`` is a decoy. ``subject`` and ``actor`` are keyed references: nobody
  who reads the database learns whom they mean.
* ``replays``: what is used up, and the entry of the decision that did. ``request`` is a keyed reference of the question
  and its answer; empty where it may not be asked again.
* ``consents.subject``: the keyed reference of whom the consent was first used for.
* Triggers named ``tidings`` tell other processes what was written; whoever writes need not think of it.

Times are seconds since 1970; those of ``entries.at`` and ``views.taken_at`` are milliseconds.
"""

from __future__ import annotations

from typing import Final

from gateway.storage import StorageError, Topic
from gateway.storage.postgres_connection import LOCKS, Db, Lock, Session

TIDINGS: Final = "mrg_tidings"
"""The channel on which processes are told what others have written."""
_TOPICS: Final = {
    Topic.TRUST: ("documents", "charters", "events", "revocations", "withdrawals", "equivocations", "clock_floor"),
    Topic.LISTS: ("status_lists",),
    Topic.KEYS: ("keys",),
}


def _tell_tidings() -> str:
    # Once a statement, however many rows it writes; the server tells the same only once of each transaction.
    triggers = "".join(
        f"CREATE TRIGGER tidings AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}"
        f" FOR EACH STATEMENT EXECUTE FUNCTION tell_tidings('{topic.value}');\n"
        for topic, tables in _TOPICS.items()
        for table in tables
    )
    return (
        "CREATE FUNCTION tell_tidings() RETURNS trigger LANGUAGE plpgsql AS $body$"
        f" BEGIN PERFORM pg_notify('{TIDINGS}', TG_ARGV[0]); RETURN NULL; END $body$;\n{triggers}"
    )


# Numbered, forward only. A version once released is never edited; changes are appended.
MIGRATIONS: Final = (
    """
    CREATE TABLE lineage (
        single boolean PRIMARY KEY CHECK (single), generation bigint NOT NULL, restored boolean NOT NULL,
        settled bigint NOT NULL
    );
    INSERT INTO lineage (single, generation, restored, settled) VALUES (true, 0, false, 0);

    CREATE TABLE documents (
        issuer text NOT NULL, subject text NOT NULL, token text NOT NULL, PRIMARY KEY (issuer, subject)
    );
    CREATE TABLE charters (version bigint PRIMARY KEY, document text NOT NULL);
    CREATE TABLE events (member text PRIMARY KEY, token text NOT NULL);
    CREATE TABLE revocations (
        member text NOT NULL, kid text NOT NULL, revoked_at bigint NOT NULL, reason text NOT NULL,
        compromised_since bigint, attested boolean NOT NULL, PRIMARY KEY (member, kid)
    );
    CREATE TABLE withdrawals (
        anchor text NOT NULL, signer text NOT NULL, member text NOT NULL, revoked_at bigint NOT NULL,
        reason text NOT NULL, PRIMARY KEY (anchor, signer, member)
    );
    CREATE TABLE equivocations (
        anchor text NOT NULL, signer text NOT NULL, one text NOT NULL, other text NOT NULL,
        PRIMARY KEY (anchor, signer)
    );
    CREATE TABLE clock_floor (single boolean PRIMARY KEY CHECK (single), at bigint NOT NULL);
    CREATE TABLE views (taken_at bigint PRIMARY KEY, summary text NOT NULL);
    CREATE TABLE members (member text PRIMARY KEY, record text NOT NULL);

    CREATE TABLE keys (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kid text NOT NULL UNIQUE, purpose text NOT NULL,
        jwk text NOT NULL, state text NOT NULL, staged_at bigint NOT NULL, published_at bigint, activated_at bigint,
        drained_at bigint, retired_at bigint, revoked_at bigint, reason text, compromised_since bigint,
        signed_until bigint
    );
    CREATE TABLE key_events (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at bigint NOT NULL, kid text NOT NULL,
        purpose text NOT NULL, event text NOT NULL, administrator text NOT NULL, detail text NOT NULL
    );
    CREATE TABLE requests (request_id text PRIMARY KEY, done_at bigint NOT NULL);
    CREATE TABLE overrides (
        kid text PRIMARY KEY, administrator text NOT NULL, justification text NOT NULL, asked_at bigint NOT NULL
    );

    CREATE TABLE status_lists (
        uri text PRIMARY KEY, issuer text NOT NULL, seq bigint NOT NULL, issued_at bigint NOT NULL, token text NOT NULL
    );
    CREATE TABLE own_lists (
        uri text PRIMARY KEY, size bigint NOT NULL, opened_at bigint NOT NULL, closed boolean NOT NULL
    );
    CREATE TABLE own_statuses (
        uri text NOT NULL, place bigint NOT NULL, credential_id text UNIQUE, subject text NOT NULL,
        actor text NOT NULL, expires_at bigint NOT NULL, status integer NOT NULL, changed_at bigint,
        PRIMARY KEY (uri, place)
    );
    CREATE INDEX own_statuses_subject ON own_statuses (subject) WHERE subject <> '';
    CREATE INDEX own_statuses_actor ON own_statuses (actor) WHERE actor <> '';
    CREATE INDEX own_statuses_set ON own_statuses (uri, place, status) WHERE status <> 0;
    CREATE TABLE consents (
        consent_id text PRIMARY KEY, service text NOT NULL, matter text NOT NULL, claims text NOT NULL,
        recorded_at bigint NOT NULL, expires_at bigint NOT NULL, withdrawn_at bigint, subject text NOT NULL
    );

    CREATE TABLE replays (replay_key text PRIMARY KEY, until bigint NOT NULL);
    CREATE INDEX replays_until ON replays (until);
    CREATE TABLE logs (
        first bigint PRIMARY KEY, log_id text NOT NULL UNIQUE, size bigint NOT NULL, tree_size bigint NOT NULL
    );
    INSERT INTO logs (first, log_id, size, tree_size)
        VALUES (0, replace(gen_random_uuid()::text, '-', ''), 0, 0);
    CREATE TABLE entries (
        part integer NOT NULL, number bigint NOT NULL, raw bytea NOT NULL, kind text NOT NULL, at bigint NOT NULL,
        keep text NOT NULL, entry_id text NOT NULL, about text NOT NULL, service text NOT NULL, matter text NOT NULL,
        verdict text NOT NULL, reason text NOT NULL, issuer text NOT NULL, kid text NOT NULL, person text NOT NULL,
        actor text NOT NULL, PRIMARY KEY (number, part)
    ) PARTITION BY RANGE (part);
    CREATE TABLE entries_permanent PARTITION OF entries FOR VALUES FROM (-2147483648) TO (-2147483647);
    CREATE INDEX entries_entry_id ON entries (entry_id) WHERE entry_id <> '';
    CREATE INDEX entries_about ON entries (about) WHERE about <> '';
    CREATE INDEX entries_person ON entries (person) WHERE person <> '';
    CREATE INDEX entries_actor ON entries (actor) WHERE actor <> '';
    CREATE INDEX entries_accepted ON entries (kid) WHERE verdict = 'accepted';
    CREATE TABLE entry_parts (part integer PRIMARY KEY, low bigint NOT NULL, high bigint NOT NULL);
    CREATE TABLE tiles (
        log_id text NOT NULL, level integer NOT NULL, number bigint NOT NULL, hashes bytea NOT NULL,
        PRIMARY KEY (log_id, level, number)
    );
    CREATE TABLE checkpoints (
        log_id text NOT NULL, size bigint NOT NULL, issued_at bigint NOT NULL, token text NOT NULL,
        PRIMARY KEY (log_id, size)
    );
    CREATE TABLE cosignatures (
        log_id text NOT NULL, size bigint NOT NULL, witness text NOT NULL, token text NOT NULL,
        PRIMARY KEY (log_id, size, witness),
        FOREIGN KEY (log_id, size) REFERENCES checkpoints (log_id, size) ON DELETE CASCADE
    );
    CREATE TABLE evidence (dispute_id text PRIMARY KEY, document bytea NOT NULL);
    CREATE TABLE seen (
        position bigint GENERATED ALWAYS AS IDENTITY, gateway text NOT NULL, log_id text NOT NULL, size bigint NOT NULL,
        issued_at bigint NOT NULL, token text NOT NULL, PRIMARY KEY (gateway, log_id)
    );
    CREATE TABLE forks (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, gateway text NOT NULL, kind text NOT NULL,
        found_at bigint NOT NULL, seen text NOT NULL, shown text NOT NULL
    );
    """,
    _tell_tidings(),
    """
    ALTER TABLE replays
        ADD COLUMN request text NOT NULL DEFAULT '', ADD COLUMN entry_id text NOT NULL DEFAULT '';
    """,
)


def migrate(session: Session) -> None:
    """Bring a database to the newest schema; of several processes that start at once, one does.

    Raises:
        StorageError: it was written by a newer version, or the schema cannot be changed.
    """
    with session.statement() as db:
        version = _version(db)
    if version == len(MIGRATIONS):
        return
    with session.transaction() as db:
        db.execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '60s'")
        db.execute("SELECT pg_advisory_xact_lock(%s, %s)", (LOCKS, Lock.MIGRATION))
        version = _version(db)
        if version > len(MIGRATIONS):
            raise StorageError(f"PostgreSQL: written by a newer version of this program (schema {version})")
        if version == 0:
            db.execute("CREATE TABLE schema_version (single boolean PRIMARY KEY CHECK (single), version integer)")
            db.execute("INSERT INTO schema_version (single, version) VALUES (true, 0)")
        for script in MIGRATIONS[version:]:
            db.execute(script)
        db.execute("UPDATE schema_version SET version = %s", (len(MIGRATIONS),))


def _version(db: Db) -> int:
    row = db.execute("SELECT to_regclass('schema_version') IS NOT NULL").fetchone()
    if row != (True,):
        return 0
    row = db.execute("SELECT version FROM schema_version").fetchone()
    return int(row[0]) if row is not None else 0
