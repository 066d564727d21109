"""Disputes: opened with their evidence put by, settled once. Each step is an entry of the log.

The evidence comes from the gateway whose verification is contested, which may have something to hide. What it gives is
put by only when it is about that verification, and what it gives later serves only when it shows the same entry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from gateway.clock import World
from gateway.core.disputes import (
    Dispute,
    DisputeOutcome,
    Ground,
    as_it_stands,
    opening_entry,
    read_opening,
    settlement_entry,
)
from gateway.core.encoding import new_name, sha256_b64url
from gateway.core.entries import Kind, read, seal
from gateway.core.reasons import InvalidRequest, NotHeld, Rejected, Unavailable, WrongState
from gateway.core.receipt import read_bundle
from gateway.peers import Peer, PeerError
from gateway.storage import DisputeStore, EntryQuery, LogStore, StorageError, StoredEntry

MAX_DISPUTES: Final = 50
"""About one verification. Each puts evidence by."""
MAX_STEPS: Final = 1_000
"""Entries about one verification that are looked at: disputes about it and their settlements. Many more than there can
be, or a settlement would be overlooked, and the dispute settled once more."""


class Disputes:
    """The disputes on record. Thread-safe: it holds nothing that changes."""

    def __init__(
        self,
        *,
        province: str,
        log: LogStore,
        store: DisputeStore,
        evidence: Callable[[str], bytes],
        peers: Sequence[Peer],
        world: World,
    ) -> None:
        """Prepare.

        Args:
            province: ours.
            log: where verifications and disputes are.
            store: where the evidence of disputes is put by.
            evidence: puts together what proves a verification of ours; raises NotHeld, Unavailable.
            peers: the other provinces' gateways.
            world: clock and randomness.
        """
        self._province = province
        self._log = log
        self._store = store
        self._evidence = evidence
        self._peers = {peer.province: peer for peer in peers}
        self._world = world

    def open(self, by: str, *, verification_id: str, province: str, ground: Ground, case_reference: str) -> Dispute:
        """Record that a verification is contested, with its evidence as it is now.

        Raises:
            InvalidRequest: there is no such province.
            NotHeld: there is no such verification there, or it is none of a person of ours.
            WrongState: it is contested too often already.
            Unavailable: the other province cannot be asked, or nothing can be written; nothing was recorded.
        """
        province = province or self._province
        self._require_room(verification_id)
        evidence = self._fetch(verification_id, province)
        dispute = Dispute(
            dispute_id=new_name(self._world.random_bytes(16)),
            verification_id=verification_id,
            province=province,
            ground=ground,
            case_reference=case_reference,
            opened_at=self._world.now(),
            opened_by=by,
            evidence_sha256=sha256_b64url(evidence),
        )
        try:
            self._store.save_dispute(dispute.dispute_id, evidence, seal(opening_entry(dispute)))
        except StorageError as error:
            raise Unavailable("the dispute cannot be recorded") from error
        return self.get(dispute.dispute_id)

    def resolve(self, by: str, dispute_id: str, outcome: DisputeOutcome) -> Dispute:
        """Record how a dispute was settled.

        Raises:
            NotHeld: there is no such dispute.
            WrongState: it was settled before, otherwise.
            Unavailable: nothing can be written; nothing was recorded.
        """
        dispute = self.get(dispute_id)
        if dispute.outcome is outcome:
            return dispute  # asked again
        if dispute.outcome is not None:
            raise WrongState(f"the dispute was settled: {dispute.outcome}; open another one if there is news")
        try:
            self._log.append([seal(settlement_entry(dispute, outcome, at=self._world.now(), by=by))])
        except StorageError as error:
            raise Unavailable("the settlement cannot be recorded") from error
        settled = self.get(dispute_id)
        if settled.outcome is not outcome:  # somebody else was a moment faster, and the first counts
            raise WrongState(f"the dispute was settled: {settled.outcome}; open another one if there is news")
        return settled

    def get(self, dispute_id: str) -> Dispute:
        """Give a dispute as it stands.

        Raises:
            NotHeld: there is no such dispute.
            Unavailable: the log cannot be read.
        """
        try:
            stored = self._log.find_entry(dispute_id)
            if stored is None or stored.index.kind != Kind.DISPUTE:
                raise NotHeld("no dispute under that number")
            return self._stands(stored)
        except StorageError as error:
            raise Unavailable("the log cannot be read") from error
        except Rejected as rejection:
            raise Unavailable("an entry of the log is damaged; mrg audit verify tells more") from rejection

    def evidence(self, dispute: Dispute) -> bytes:
        """Give the evidence of what is contested: as it can be had now, if it shows the same, else as it was put by.

        Raises:
            Unavailable: what was put by is gone.
        """
        try:
            kept = self._store.load_evidence(dispute.dispute_id)
        except StorageError as error:
            raise Unavailable("the evidence cannot be read") from error
        if kept is None or sha256_b64url(kept) != dispute.evidence_sha256:
            raise Unavailable("the evidence that was put by is gone, or damaged")
        try:
            fresh = self._fetch(dispute.verification_id, dispute.province)
            return fresh if _entry_of(fresh) == _entry_of(kept) else kept
        except (NotHeld, Unavailable, Rejected):
            return kept  # retention may have passed over it, or the other province is down

    def list(self, limit: int, after: tuple[str, int] | None) -> tuple[Sequence[Dispute], tuple[str, int] | None]:
        """Give disputes, newest first, and where to go on; None: these were the last.

        Raises:
            Unavailable: the log cannot be read.
        """
        try:
            page = self._log.list_entries(EntryQuery(kinds=(Kind.DISPUTE.value,)), limit, after, newest_first=True)
            found = [self._stands(each) for each in page if read(each.raw).body.get("event") == "opened"]
        except StorageError as error:
            raise Unavailable("the log cannot be read") from error
        except Rejected as rejection:
            raise Unavailable("an entry of the log is damaged; mrg audit verify tells more") from rejection
        return found, (page[-1].log_id, page[-1].position) if len(page) == limit else None

    def _stands(self, stored: StoredEntry) -> Dispute:
        dispute = read_opening(read(stored.raw))
        query = EntryQuery(kinds=(Kind.DISPUTE.value,), about=dispute.verification_id)
        return as_it_stands(dispute, [read(each.raw) for each in self._log.list_entries(query, MAX_STEPS)])

    def _fetch(self, verification_id: str, province: str) -> bytes:
        if province == self._province:
            return self._evidence(verification_id)
        peer = self._peers.get(province)
        if peer is None:
            raise InvalidRequest("province", "is none that this gateway knows")
        try:
            given = peer.evidence(verification_id).encode("utf-8")
            is_of_it = read(_entry_of(given)).entry_id == verification_id
        except PeerError as error:
            if str(error) in ("NOT_FOUND", "PERMISSION_DENIED"):
                raise NotHeld("that province has no such verification of a person of ours") from error
            raise Unavailable("the other province's gateway cannot be asked now") from error
        except Rejected as rejection:
            raise Unavailable("what the other province's gateway gave is no evidence") from rejection
        if not is_of_it:
            raise Unavailable("what the other province's gateway gave is about another verification")
        return given

    def _require_room(self, verification_id: str) -> None:
        query = EntryQuery(kinds=(Kind.DISPUTE.value,), about=verification_id)
        try:
            steps = self._log.list_entries(query, MAX_STEPS)
            opened = sum(read(each.raw).body.get("event") == "opened" for each in steps)
        except StorageError as error:
            raise Unavailable("the log cannot be read") from error
        except Rejected as rejection:
            raise Unavailable("an entry of the log is damaged; mrg audit verify tells more") from rejection
        if opened >= MAX_DISPUTES:
            raise WrongState(f"the verification is contested {opened} times already")


def _entry_of(evidence: bytes) -> bytes:
    """Give the entry that evidence is about. Raises Rejected."""
    return read_bundle(evidence).entry
