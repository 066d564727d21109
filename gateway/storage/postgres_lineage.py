"""Whether a PostgreSQL database is the one that was known here, or a backup that was put in its place.

What must not be forgotten counts its changes in the database, and every process keeps the highest count that it knows
of in a file of its own host, where no backup of the database reaches. A database behind that mark was put back, and
says so until its owner has made good what it lacks. Here several processes share one database:

* A mark behind the database is an intact one: others have written.
* A process without a mark is a new one as long as another leads, which has compared its own; else nobody knows the
  database, and it counts as put back.

The server may also be put back under a process that goes on running: each new connection compares again.
"""

from __future__ import annotations

from pathlib import Path

from gateway.storage import StorageError
from gateway.storage.mark import Mark
from gateway.storage.postgres_connection import LOCKS, Db, Lock, Session


class PostgresLineage:
    """The count in the database, and the mark beside the configuration. Thread-safe."""

    def __init__(self, mark: Path) -> None:
        """Know of no database yet; ``compare`` makes its acquaintance."""
        self._mark = Mark(mark, mark.parent)
        self._restored: bool | None = None
        self._settled = 0

    def compare(self, session: Session) -> None:
        """Look, once, whether the database was put back."""
        mark = self._mark.read()  # first: another process may be writing both
        with session.statement() as db:
            generation, restored, self._settled = _read(db)
            is_led = mark is None and _is_led(db)
        if mark is None and (generation == 0 or is_led):
            self._mark.write(generation)
            mark = generation
        self._restored = restored or mark is None or generation < mark

    def check(self, db: Db) -> None:
        """Look at a new connection of a process that runs already.

        Raises:
            StorageError: the database was put back meanwhile. The process has to begin anew.
        """
        if self._restored is not False:
            return  # not compared yet, or known to lack something
        mark = self._mark.read() or 0
        if _read(db)[0] < mark:
            raise StorageError("PostgreSQL: the database is older than what it was before; it was put back")

    def is_restored(self, session: Session) -> bool:
        """Whether it lacks something that was known, and no process has made that good since."""
        if not self._restored:
            return False
        try:
            with session.statement() as db:
                _, restored, settled = _read(db)
        except StorageError:
            return True
        if settled != self._settled and not restored:
            self._restored = False
        return bool(self._restored)

    def count(self, db: Db) -> int:
        """Count a change, in the transaction that makes it and before it takes any other lock but the log's."""
        # A backup put back goes on counting, and would look intact once it had passed the mark: so it is noted.
        row = db.execute(
            "UPDATE lineage SET generation = generation + 1, restored = restored OR (%s AND settled = %s)"
            " RETURNING generation",
            (bool(self._restored), self._settled),
        ).fetchone()
        return _only(row)

    def settle(self, db: Db) -> int | None:
        """Count the change by which it is whole again; None: another process has done it."""
        _, _, settled = _read(db, lock=True)
        if settled != self._settled:
            return None
        # Beyond what the one that was lost had reached: from here on this is the newer of the two.
        row = db.execute(
            "UPDATE lineage SET restored = false, generation = greatest(generation, %s) + 1,"
            " settled = greatest(generation, %s) + 1 RETURNING generation",
            (self._mark.read() or 0, self._mark.read() or 0),
        ).fetchone()
        return _only(row)

    def note(self, generation: int) -> None:
        """Raise the mark to a count that was committed."""
        self._mark.write(generation)

    def note_settled(self, generation: int | None) -> None:
        """Likewise, for the one by which it is whole again."""
        self._restored = False
        if generation is not None:
            self.note(generation)


def _read(db: Db, *, lock: bool = False) -> tuple[int, bool, int]:
    query = "SELECT generation, restored, settled FROM lineage"
    row = db.execute(query + " FOR UPDATE" if lock else query).fetchone()
    if row is None:
        raise StorageError("PostgreSQL: the database has no lineage")
    return row[0], row[1], row[2]


def _is_led(db: Db) -> bool:
    # A shared lock can be had as long as nobody leads, and is given back at the end of the statement.
    row = db.execute("SELECT pg_try_advisory_xact_lock_shared(%s, %s)", (LOCKS, Lock.LEAD)).fetchone()
    return row == (False,)


def _only(row: tuple[int, ...] | None) -> int:
    if row is None:
        raise StorageError("PostgreSQL: the database has no lineage")
    return row[0]
