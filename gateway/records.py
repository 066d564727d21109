"""The province's records, put together: the log, what proves it, who is told what of it, and what is erased when.

Housekeeping: once an hour, what is older than the law and the configuration ask for is erased, a bounded number of
entries at a time. Hashes stay, so every proof and every receipt holds on; that something was erased is itself an entry.
An entry's age counts by our clock and by what the anchors have attested, whichever is earlier: a clock that ran ahead
erases nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Final

from gateway.clock import World
from gateway.config import RelyingService, Retention
from gateway.core.charter import Charter
from gateway.core.entries import Keep, Kind, TrustChange, read, seal, trust_entry
from gateway.core.jose import PublicKey
from gateway.core.key_schedule import KeyPurpose
from gateway.core.receipt import keys_by
from gateway.core.references import References
from gateway.disclosures import DisclosureDesk
from gateway.disputes import Disputes
from gateway.keyring import KeyRing
from gateway.logs import get_logger
from gateway.notary import Notary
from gateway.peers import Peer, TrustOffer
from gateway.receipts import Receipts
from gateway.resolver import Resolver
from gateway.storage import EntryQuery, LogBook, StorageError
from gateway.witness import Witness

ERASE_EVERY_SECONDS: Final = 3_600.0
ALARM_FOR: Final = timedelta(days=30)
"""How long health tells of a contradiction. What was found is kept for ever."""
MAX_ERASURES: Final = 100
"""Transactions of one round: a million entries. What is left waits an hour."""

_log = get_logger("records")


class Records:
    """All of it. Thread-safe."""

    def __init__(
        self,
        *,
        province: str,
        gateway: str,
        issuer: str | None,
        log: LogBook,
        keys: KeyRing,
        resolver: Resolver,
        is_whole: Callable[[], bool],
        pinned: Charter,
        peers: Sequence[Peer],
        services: Mapping[str, RelyingService],
        references: References,
        subjects: Callable[[str, str], Sequence[str]],
        retention: Retention,
        world: World,
    ) -> None:
        """Put them together; nothing runs yet.

        Args:
            province: ours.
            gateway: our entity identifier.
            issuer: our issuer's; None: this process plays none.
            log: where the log is.
            keys: those that sign receipts and heads of the log.
            resolver: gives the trust view.
            is_whole: whether nothing is waited for that others know of us.
            pinned: the charter that the configuration pins.
            peers: the other provinces' gateways.
            services: relying services by the identity in their certificate.
            references: makes references to people.
            subjects: gives the subjects that our issuer gives a person; see ``DisclosureDesk``.
            retention: how long entries are kept.
            world: clock and randomness.
        """
        self.log = log
        self._resolver = resolver
        self._pinned = pinned
        self._retention = retention
        self._world = world
        self._is_whole = is_whole
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.notary = Notary(
            gateway=gateway,
            store=log,
            world=world,
            signer=lambda: keys.signer(KeyPurpose.AUDIT),
            key_of=self._audit_key,
            may_sign=self._may_sign,
        )
        self.witness = Witness(
            gateway=gateway,
            peers=peers,
            store=log,
            world=world,
            signer=lambda: keys.signer(KeyPurpose.AUDIT),
            key_of=self._audit_key,
            notary=self.notary,
            may_sign=self._may_sign,
        )
        self.receipts = Receipts(
            gateway=gateway,
            log=log,
            notary=self.notary,
            world=world,
            signer=lambda: keys.signer(KeyPurpose.RECEIPT),
            offer=self._offer,
            charters=self._charters,
        )
        self.disclosures = DisclosureDesk(
            province=province,
            issuer=issuer,
            subjects=subjects,
            log=log,
            references=references,
            services=services,
            peers=peers,
            charter=lambda: resolver.view.charter,
        )
        self.disputes = Disputes(
            province=province,
            log=log,
            store=log,
            evidence=lambda verification_id: self.receipts.evidence(verification_id).document,
            peers=peers,
            world=world,
        )

    def start(self) -> None:
        """Sign, look at others' logs, and keep house, in threads."""
        self.notary.start()
        self.witness.start()
        self._thread = threading.Thread(target=self._keep_house, name="retention", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it. What was written meanwhile is under a signed head, if this process leads; else a later leader's."""
        self._stop.set()
        self.witness.stop()
        if self._thread is not None:
            self._thread.join()
        self.notary.stop()

    def note_configuration(self, file_sha256: str) -> None:
        """Write down that the configuration is another one than at the last start, if it is. Raises StorageError."""
        after: tuple[str, int] | None = None
        while page := self.log.list_entries(EntryQuery(kinds=(Kind.TRUST.value,)), 100, after, newest_first=True):
            for stored in page:
                body = read(stored.raw).body
                if body.get("change") == TrustChange.CONFIGURATION:
                    if body.get("subject") != file_sha256:
                        self._write_configuration(file_sha256)
                    return
            after = (page[-1].log_id, page[-1].position)
        self._write_configuration(file_sha256)

    def _write_configuration(self, file_sha256: str) -> None:
        now = self._world.now()
        entry = trust_entry(TrustChange.CONFIGURATION, at=now, subject=file_sha256, event="in force")
        self.log.append([seal(entry)])

    @property
    def is_sound(self) -> bool:
        """Whether the log is signed, and no log, ours or another's, was found to contradict itself of late."""
        now = self._world.now()
        found = (self.notary.contradicted_at, self.witness.alarmed_at)
        return self.notary.is_signing and not any(at is not None and now - at < ALARM_FOR for at in found)

    # -- keeping house -------------------------------------------------------------------------------------------------

    def _keep_house(self) -> None:
        while not self._stop.wait(ERASE_EVERY_SECONDS):
            try:
                self.erase_due()
            except StorageError as error:
                _log.warning("entries_not_erased", exc_info=error)

    def erase_due(self) -> int:
        """Erase what is over; gives how many entries. Raises StorageError."""
        floor = self._resolver.view.clock_floor
        if floor is None or not self._may_sign():
            return 0
        now = self._world.now()
        count = 0
        for keep, days in (
            (Keep.SECURITY, self._retention.security_days),
            (Keep.DISCLOSURE, self._retention.disclosure_days),
        ):
            for _ in range(MAX_ERASURES):
                erasure = self.log.erase(keep, min(now, floor) - timedelta(days=days), now)
                if erasure is None or self._stop.is_set():
                    break
                count += erasure.count
        if count:
            _log.info("entries_erased", count=count)
        return count

    # -- what they need ------------------------------------------------------------------------------------------------

    def _audit_key(self, gateway: str, kid: str) -> PublicKey:
        # As of now: a superseded key signs no more heads, whatever time they bear. Ours would end our own log.
        return keys_by(self._resolver.view.audit_key, self._world.now())(gateway, kid)

    def _may_sign(self) -> bool:
        return self._resolver.is_ready and self._is_whole() and not self._resolver.is_clock_regressed

    def _offer(self) -> TrustOffer:
        return self._resolver.state()

    def _charters(self) -> Sequence[Charter]:
        """Give the charters from the pinned one to the one in force."""
        return self._resolver.charters_from(self._pinned)
