"""The status lists of all recognised issuers: fetched ahead, judged, made durable, then used.

Rules that live here:

* A list is on disk before any verdict rests on it: a restart must not know less. What is on disk is judged again before
  it counts, and again whenever the view changed what it is judged by.
* Only lists that an issuer of the view registered are taken in, and only from keys that the view binds to that issuer
  for lists. What one issuer can have us keep is bounded.
* The newest list of a name is a floor under the next one for ever: after it expired, after its key was revoked, after
  its issuer took the name back, after a restart.
* While the clock shows less than a quorum of anchors has attested, nothing is taken in.
* Nothing here fetches. Lists come from whoever brings them (``prefetch``, or the issuer itself), never because somebody
  presented a credential.

All lists in use are one immutable snapshot, swapped in one assignment: a verification that began with the old one ends
with it. They are kept as inflated bytes; the signed text stays in the store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from itertools import islice
from types import MappingProxyType
from typing import Final

from gateway.clock import World
from gateway.core.encoding import sha256_b64url
from gateway.core.jose import PublicKey, parse_compact
from gateway.core.reasons import Indeterminate, Reason, Rejected
from gateway.core.status_list import (
    MAX_HEADS,
    MAX_LISTS,
    MAX_TOKEN_CHARS,
    Floor,
    StatusList,
    check_floor,
    is_within_reach,
    read_status_list,
)
from gateway.core.trust import TrustView, is_regressed
from gateway.logs import Sparing, get_logger
from gateway.storage import HeldStatusList, StatusStore

MAX_NAMES: Final = 4 * MAX_LISTS
"""Names of lists that are remembered of one issuer, whether it has them still or not."""
JUDGE_AGAIN: Final = timedelta(minutes=1)
"""How often a list on disk that was refused is judged again: it may have been the clock's fault."""
STORE: Final = "store"
"""In the log, where the name of a peer would be."""
_NOTHING: Final[Mapping[str, StatusList]] = MappingProxyType({})

_log = get_logger("statuses")


class Outcome(Enum):
    """What became of a list that somebody brought."""

    TAKEN = auto()
    KNOWN = auto()
    REFUSED = auto()
    NOT_NOW = auto()
    """It cannot be judged now: our trust data or our clock is at fault, not the list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What is remembered of a name."""

    issuer: str
    kid: str
    """Of the key that signed the newest list, as the list says."""
    floor: Floor


class Statuses:
    """All status lists held. Thread-safe."""

    def __init__(
        self,
        *,
        world: World,
        store: StatusStore,
        view: Callable[[], TrustView],
        on_change: Callable[[], object] = lambda: None,
    ) -> None:
        """Load what the store holds; of that, what the view lets count is in use at once.

        Args:
            world: the time.
            store: where lists are kept.
            view: gives the trust view in force.
            on_change: called after the lists in use have changed, by whoever changed them.
        """
        self._world = world
        self._store = store
        self._view = view
        self._on_change = on_change
        self._lock = threading.Lock()
        self._sparing = Sparing()
        self._current = _NOTHING
        self._known = {held.uri: _recall(held, store.load_status_list(held.uri)) for held in store.load_status_lists()}
        self._tried: dict[str, datetime] = {}
        self._renew()

    # -- what is held --------------------------------------------------------------------------------------------------

    @property
    def current(self) -> Mapping[str, StatusList]:
        """The lists in use, by uri. Read it once per verification."""
        return self._current

    @property
    def heads(self) -> Mapping[str, int]:
        """The number of each list in use, by uri: what others are told."""
        return {uri: each.seq for uri, each in islice(sorted(self._current.items()), MAX_HEADS)}

    def token(self, uri: str) -> str | None:
        """Give a list in use as it was signed, for serving and relaying."""
        return self._store.load_status_list(uri) if uri in self._current else None

    def floor(self, uri: str) -> Floor | None:
        """Give what is remembered of the newest list of a name, in use or not."""
        known = self._known.get(uri)
        return None if known is None else known.floor

    def wants(self, uri: str, seq: int) -> bool:
        """Whether a list with this number would be worth having."""
        view, now = self._view(), self._world.now()
        if is_regressed(view.clock_floor, now) or _registered(view, uri) is None or not is_within_reach(seq, now):
            return False
        floor = self.floor(uri)
        return floor is None or seq > floor.seq or not is_within_reach(floor.seq, now)

    # -- taking in -----------------------------------------------------------------------------------------------------

    def absorb(self, uri: str, token: str, source: str) -> bool:
        """Take a list in, if it is good and newer than the one held; see ``take``. Returns whether it was."""
        return self.take(uri, token, source) is Outcome.TAKEN

    def take(self, uri: str, token: str, source: str) -> Outcome:
        """Judge a list, make it durable, and use it.

        Args:
            uri: its name.
            token: as it was signed; untrusted.
            source: from whom, for the log.

        Raises:
            StorageError: it could not be made durable, and is not used.
        """
        return self._take(uri, token, source, is_stored=False)

    def _take(self, uri: str, token: str, source: str, *, is_stored: bool) -> Outcome:
        view, now = self._view(), self._world.now()
        try:
            judged = self._judge(view, uri, token, now)
            with self._lock:
                is_new = self._is_new(view, judged, now)
                if not is_new and uri in self._current:
                    return Outcome.KNOWN
                if is_new:
                    if not is_stored:
                        held = HeldStatusList(uri=uri, issuer=judged.issuer, seq=judged.seq, issued_at=judged.issued_at)
                        self._store.save_status_list(held, token)
                    self._known[uri] = _Known(issuer=judged.issuer, kid=judged.kid, floor=judged.floor)
                self._current = MappingProxyType({**self._current, uri: judged})
        except Rejected as rejection:
            self._note(rejection, view, uri, source, now)
            return Outcome.REFUSED
        except Indeterminate:
            return Outcome.NOT_NOW
        self._on_change()
        return Outcome.TAKEN

    def follow_store(self) -> None:
        """Take over the lists that another process of this gateway has written. Raises StorageError."""
        for held in self._store.load_status_lists():
            if self.wants(held.uri, held.seq):
                token = self._store.load_status_list(held.uri)
                if token is not None:
                    self._take(held.uri, token, STORE, is_stored=True)

    def renew(self) -> None:
        """Look at all lists again: to be called when the view or the time has changed.

        What has expired, or lost its key or its registration, is used no more; what is on disk and had to wait for its
        key is used from now on.
        """
        if self._renew():
            self._on_change()

    def _renew(self) -> bool:
        with self._lock:
            view, now = self._view(), self._world.now()
            lists: dict[str, StatusList] = {}
            for uri in self._known:
                found = self._look_again(view, uri, now)
                if found is not None:
                    lists[uri] = found
            changed = lists != self._current
            if changed:
                self._current = MappingProxyType(lists)
            return changed

    def _look_again(self, view: TrustView, uri: str, now: datetime) -> StatusList | None:
        known, held, registered = self._known[uri], self._current.get(uri), _registered(view, uri)
        if registered is None or registered.issuer != known.issuer:
            return None
        try:
            _, signed_before = _key(view, known.issuer, known.kid, now)
        except Rejected:
            return None
        except Indeterminate:
            return held  # whether it may be relied on is for the verification to say
        if held is None:
            return self._judge_again(view, uri, now)
        counts = signed_before is None or held.issued_at < signed_before
        return held if counts and now < held.expires_at and held.size >= registered.size else None

    def _judge_again(self, view: TrustView, uri: str, now: datetime) -> StatusList | None:
        tried = self._tried.get(uri)
        if tried is not None and abs(now - tried) < JUDGE_AGAIN:
            return None
        self._tried[uri] = now
        token = self._store.load_status_list(uri)
        try:
            return None if token is None else self._judge(view, uri, token, now)
        except (Rejected, Indeterminate):
            return None

    def _judge(self, view: TrustView, uri: str, token: str, now: datetime) -> StatusList:
        view.require_clock(now)
        registered = _registered(view, uri)
        if registered is None:
            raise Rejected(Reason.STATUS_LIST_INVALID, "no issuer has registered the list")
        known = self._known.get(uri)
        signed_before: datetime | None = None

        def key(kid: str) -> PublicKey:
            nonlocal signed_before
            found, signed_before = _key(view, registered.issuer, kid, now)
            return found

        judged = read_status_list(
            token,
            uri=uri,
            issuer=registered.issuer,
            size=registered.size,
            key=key,
            now=now,
            clock_skew=view.charter.agreement.clock_skew,
            floor=None if known is None else known.floor,
        )
        if signed_before is not None and judged.issued_at >= signed_before:
            raise Rejected(Reason.KEY_REVOKED, "signed after the issuer superseded the key")
        return judged

    def _is_new(self, view: TrustView, judged: StatusList, now: datetime) -> bool:
        """Whether it goes beyond what is remembered by now. Raises Rejected when it contradicts that."""
        known = self._known.get(judged.uri)
        if known is None:
            if sum(each.issuer == judged.issuer for each in self._known.values()) >= MAX_NAMES:
                raise Rejected(Reason.TOO_LARGE, f"issuer has had more than {MAX_NAMES} lists")
            return True
        check_floor(judged.floor, known.floor, now=now, clock_skew=view.charter.agreement.clock_skew)
        return judged.seq != known.floor.seq

    def _note(self, rejection: Rejected, view: TrustView, uri: str, source: str, now: datetime) -> None:
        registered = _registered(view, uri)
        issuer = "" if registered is None else registered.issuer
        if not self._sparing.is_worth(source, (issuer, rejection.reason), now):
            return
        write = _log.error if rejection.reason is Reason.EQUIVOCATION else _log.warning
        write("status_list_refused", peer=source, issuer=issuer, reason=rejection.reason, detail=rejection.detail)


@dataclass(frozen=True, slots=True)
class _Registered:
    issuer: str
    size: int


def _registered(view: TrustView, uri: str) -> _Registered | None:
    for issuer in view.issuers.values():
        size = issuer.status_lists.get(uri)
        if size is not None:
            return _Registered(issuer.entity_id, size)
    return None


def _key(view: TrustView, issuer: str, kid: str, now: datetime) -> tuple[PublicKey, datetime | None]:
    """Give an issuer's key for lists, and the time from which what it signs does not count.

    Raises:
        Rejected: the issuer has no such key, or may not sign with its algorithm.
        Indeterminate: nobody can say.
    """
    trusted = view.status_key(issuer, kid, now)
    terms = view.charter.agreement.issuers.get(issuer)
    if terms is None or not terms.allows(trusted.key.algorithm, now):
        raise Rejected(Reason.ALGORITHM_NOT_ALLOWED, "the agreement does not allow the issuer this algorithm")
    return trusted.key, trusted.signed_before


def _recall(held: HeldStatusList, token: str | None) -> _Known:
    try:
        jws = parse_compact(token or "", max_chars=MAX_TOKEN_CHARS)
    except Rejected:
        # It has to come again; nothing older will do.
        floor = Floor(seq=held.seq - 1, issued_at=held.issued_at, sha256="")
        return _Known(issuer=held.issuer, kid="", floor=floor)
    floor = Floor(seq=held.seq, issued_at=held.issued_at, sha256=sha256_b64url(jws.payload))
    return _Known(issuer=held.issuer, kid=jws.header.kid or "", floor=floor)
