"""Receipts of verifications, and the evidence that goes with them.

With a verdict, a receipt is signed at once: what was decided, and where in the log it stands. Some seconds later the
log's head is signed and other provinces have seen it; from then on the evidence of a verification is complete, and
whoever has it needs nobody any more. It is put together whenever it is asked for, from what is held at that time: the
receipt signed anew, a head of the day, and the trust documents of the day.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gateway.clock import World
from gateway.core.charter import GATEWAY_TYPE, Charter
from gateway.core.entries import Kind, SealedEntry, Verification, read, read_verification
from gateway.core.jose import Signer
from gateway.core.merkle import leaf_hash
from gateway.core.reasons import NotHeld, Reason, Rejected, Unavailable
from gateway.core.receipt import MAX_CHARTERS, EvidenceBundle, Receipt, Verdict, make_receipt, write_bundle
from gateway.core.statements import PROFILE, parse_statement
from gateway.notary import Notary
from gateway.peers import TrustOffer
from gateway.storage import Committed, HeldCheckpoint, LogStore, StorageError, StoredEntry

MAX_HEADS: Final = 16
"""Heads looked at for one that others have seen: those of the last seconds."""


@dataclass(frozen=True, slots=True)
class EvidenceFile:
    """The evidence of one verification."""

    verification: Verification
    document: bytes
    """For whoever keeps it; see ``core.receipt``."""
    witnesses: int
    """Gateways that have seen a log with the entry in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustDocuments:
    """By which gateways' signatures are checked."""

    statements: tuple[str, ...]
    events: tuple[str, ...]
    charters: tuple[str, ...]
    """From the pinned one to the one in force."""


class Receipts:
    """Signs receipts and puts evidence together. Thread-safe: it holds nothing that changes."""

    def __init__(
        self,
        *,
        gateway: str,
        log: LogStore,
        notary: Notary,
        world: World,
        signer: Callable[[], Signer],
        offer: Callable[[], TrustOffer],
        charters: Callable[[], Sequence[Charter]],
    ) -> None:
        """Prepare.

        Args:
            gateway: our entity identifier.
            log: where entries are.
            notary: proves that they are there.
            world: the time.
            signer: gives the receipt key that signs now; raises Unavailable.
            offer: gives all trust documents held.
            charters: gives the charters from the pinned one to the one in force.
        """
        self._gateway = gateway
        self._log = log
        self._notary = notary
        self._world = world
        self._signer = signer
        self._offer = offer
        self._charters = charters

    def sign(self, entry: SealedEntry, committed: Committed) -> str:
        """Sign the receipt of an entry that is durable: the one that was given, or the one that it repeats.

        Raises:
            Unavailable: no key may sign now. The verdict is on record all the same.
        """
        raw = entry.raw if committed.first is None else committed.first
        return self._sign(raw, committed.log_id, committed.position, self._world.now())

    def evidence(self, verification_id: str) -> EvidenceFile:
        """Put together what proves a verification, as far as it is provable by now.

        Raises:
            NotHeld: there is no such verification, or its time is over.
            Unavailable: the log cannot be read, the entry is not what was logged, or no key may sign now.
        """
        try:
            stored = self._log.find_entry(verification_id)
            if stored is None or stored.index.kind != Kind.VERIFICATION:
                raise NotHeld("no verification under that number")
            head = self._head(stored.log_id, stored.position)
        except StorageError as error:
            raise Unavailable("the log cannot be read") from error
        self._require_logged(stored)
        trust = self.trust()
        document = write_bundle(
            EvidenceBundle(
                receipt=self._sign(stored.raw, stored.log_id, stored.position, self._world.now()),
                entry=stored.raw,
                checkpoint=None if head is None else head.token,
                inclusion=() if head is None else self._notary.inclusion(stored.log_id, stored.position, head.size),
                cosignatures=() if head is None else tuple(head.cosignatures.values()),
                statements=trust.statements,
                events=trust.events,
                charters=trust.charters,
            )
        )
        verification = _verification(stored.raw)
        return EvidenceFile(verification, document, 0 if head is None else len(head.cosignatures))

    def trust(self) -> TrustDocuments:
        """Give the trust documents of the day by which gateways' signatures are checked."""
        offer, charters = self._offer(), self._charters()
        return TrustDocuments(
            statements=tuple(_about_gateways(offer, charters[-1])),
            events=offer.events,
            charters=tuple(charter.document for charter in charters[-MAX_CHARTERS:]),
        )

    def cosigned(self, log_id: str) -> HeldCheckpoint | None:
        """Give the head of a log that most others have seen lately. None: nobody has. Raises Unavailable."""
        try:
            head = self._head(log_id, -1)
        except StorageError as error:
            raise Unavailable("the log cannot be read") from error
        return head if head is not None and head.cosignatures else None

    def require_signer(self) -> None:
        """Refuse now what could not be signed later. Raises Unavailable."""
        self._signer()

    def _require_logged(self, stored: StoredEntry) -> None:
        """Refuse to sign what somebody wrote into the database: they have not got the receipt key."""
        held = self._notary.leaves(stored.log_id, stored.position, stored.position + 1)
        if any(leaf != leaf_hash(stored.raw) for leaf in held):  # none: it is younger than the tree
            raise _damaged()

    def _sign(self, raw: bytes, log_id: str, position: int, now: datetime) -> str:
        said = _verification(raw)
        if not said.charter_sha256:
            raise NotHeld("that was decided before there were receipts")
        return make_receipt(
            Receipt(
                gateway=self._gateway,
                service=said.service,
                issued_at=max(now, said.decided_at),
                verified_at=said.decided_at,
                verification_id=said.verification_id,
                matter=said.matter,
                verdict=Verdict(said.verdict),
                reason=Reason(said.reason) if said.reason else None,
                charter_version=said.charter_version,
                charter_sha256=said.charter_sha256,
                view_id=said.view_id,
                log=log_id,
                position=position,
                entry_sha256=leaf_hash(raw),
            ),
            self._signer(),
        )

    def _head(self, log_id: str, position: int) -> HeldCheckpoint | None:
        """Give the head with the entry in it that most others have seen; of several, the newest."""
        latest = self._log.latest_checkpoint(log_id)
        if latest is None or latest.size <= position:
            return None
        recent = self._log.checkpoints_before(log_id, latest.size + 1, MAX_HEADS)
        covering = [each for each in recent if each.size > position]
        return max(covering, key=lambda each: (len(each.cosignatures), each.size))


def _about_gateways(offer: TrustOffer, charter: Charter) -> Sequence[str]:
    """Give the statements by which gateways' keys are judged, and no others."""
    authors = {anchor.entity_id for anchor in charter.anchors}
    gateways = {member.entity_id for member in charter.members if GATEWAY_TYPE in member.entity_types}
    chosen: list[str] = []
    for token in offer.statements:
        try:
            statement = parse_statement(token, PROFILE)
        except Rejected:
            continue
        is_own = statement.iss == statement.sub and statement.iss in authors | gateways
        if is_own or (statement.iss in authors and statement.sub in gateways):
            chosen.append(token)
    return chosen


def _verification(raw: bytes) -> Verification:
    try:
        return read_verification(read(raw))
    except Rejected as rejection:
        raise _damaged() from rejection


def _damaged() -> Unavailable:
    return Unavailable("the log's entry is not what was logged; mrg audit verify tells more")
