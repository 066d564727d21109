"""AuditService: the log, for whoever is entitled to see what.

The same service is on all three listeners. Which callers a listener serves is said where it is put together: auditors
and administrators of disputes on admin, other gateways on federation, relying services and identity systems on
verification. An identity that is registered for nothing is told nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

import grpc
from recognition.v1 import audit_pb2, audit_pb2_grpc

from gateway import wire
from gateway.clock import World
from gateway.core.checkpoint import LOG_ID
from gateway.core.disputes import Dispute, DisputeOutcome, Ground
from gateway.core.encoding import b64url_decode, b64url_encode
from gateway.core.entries import Kind, contradictions
from gateway.core.merkle import MAX_SIZE
from gateway.core.reasons import Indeterminate, InvalidRequest, NotHeld, NotPermitted, Rejected, Unavailable
from gateway.guard import caller_of
from gateway.peers import Disclosed
from gateway.records import Records
from gateway.storage import EntryQuery, Log, StorageError, StoredEntry
from gateway.tls import Caller, CallerReader

PAGE: Final = 100
MAX_PAGE: Final = 1_000
MAX_PAGE_BYTES: Final = 2 * 1024 * 1024
"""Of entries in one answer; clients take four megabytes unless told otherwise."""
_TOKEN: Final = re.compile(rf"({LOG_ID.pattern}) (-?[0-9]{{1,13}})")
_MAX_TOKEN_CHARS: Final = 256
_GROUNDS: Final = {audit_pb2.DisputeGround.Value(f"DISPUTE_GROUND_{each.name}"): each for each in Ground}
_OUTCOMES: Final = {audit_pb2.DisputeOutcome.Value(f"DISPUTE_OUTCOME_{each.name}"): each for each in DisputeOutcome}
_KINDS: Final = frozenset(each.value for each in Kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entitled:
    """Whom a listener serves, by identity."""

    auditors: Collection[str] = ()
    dispute_officers: Collection[str] = ()
    identity_systems: Collection[str] = ()
    services: Collection[str] = ()
    gateways: Callable[[], Collection[str]] = field(default=tuple)


class AuditServicer(audit_pb2_grpc.AuditServiceServicer):
    """The log, on one listener."""

    def __init__(self, records: Records, entitled: Entitled, callers: CallerReader, world: World) -> None:
        self._records = records
        self._entitled = entitled
        self._callers = callers
        self._world = world

    # -- the log -------------------------------------------------------------------------------------------------------

    def ListEntries(
        self, request: audit_pb2.ListEntriesRequest, context: grpc.ServicerContext
    ) -> audit_pb2.ListEntriesResponse:
        """List entries."""
        self._permit(context, self._entitled.auditors)
        size = _page_size(request.page_size)
        after = self._after(request.page_token)
        try:
            if request.HasField("range"):
                return self._range(request.range, size, after)
            query = _query(request.filter)
            found = self._records.log.list_entries(query, size, after, newest_first=request.newest_first)
        except StorageError as error:
            raise Unavailable("the log cannot be read") from error
        entries = _within(found, MAX_PAGE_BYTES)
        more = len(entries) < len(found) or len(found) == size
        return audit_pb2.ListEntriesResponse(
            entries=[_entry(each) for each in entries],
            next_page_token=_write_token(entries[-1].log_id, entries[-1].position) if more and entries else "",
        )

    def _range(
        self, wanted: audit_pb2.RangeOfEntries, size: int, after: tuple[str, int] | None
    ) -> audit_pb2.ListEntriesResponse:
        if not wanted.log:
            raise InvalidRequest("range.log", "must name a log")
        begin = wanted.begin if after is None else after[1] + 1
        if not 0 <= wanted.begin <= wanted.end <= MAX_SIZE or (after is not None and after[0] != wanted.log):
            raise InvalidRequest("range", "must be positions of one log, ascending")
        end = max(begin, min(wanted.end, begin + size))
        leaves = self._records.notary.leaves(wanted.log, begin, end)
        found = self._records.log.read_entries(wanted.log, begin, end)
        entries = _within(found, MAX_PAGE_BYTES)
        if len(entries) < len(found):
            end = entries[-1].position + 1
        return audit_pb2.ListEntriesResponse(
            entries=[_entry(each) for each in entries],
            leaf_hashes=leaves[: end - begin],
            next_page_token=_write_token(wanted.log, end - 1) if end < wanted.end else "",
        )

    def GetCheckpoint(
        self, request: audit_pb2.GetCheckpointRequest, context: grpc.ServicerContext
    ) -> audit_pb2.GetCheckpointResponse:
        """Give a signed head."""
        caller = self._permit(context, self._entitled.auditors, self._entitled.gateways())
        response = audit_pb2.GetCheckpointResponse()
        seen = self._records.witness.seen_of(caller.identity)
        if seen:
            response.witnessed = seen[-1].token
        if request.at_least < 0 or request.seen_size < 0:
            raise InvalidRequest("at_least", "must not be negative")
        held = self._records.notary.checkpoint(request.log, request.at_least)
        if held is None:
            return response
        response.checkpoint = held.token
        response.cosignatures.extend(held.cosignatures.values())
        if request.seen_size and request.seen_log == held.log_id and request.seen_size <= held.size:
            proof = self._records.notary.consistency(held.log_id, request.seen_size, held.size)
            response.consistency.extend(proof)
        return response

    def GetInclusionProof(
        self, request: audit_pb2.GetInclusionProofRequest, context: grpc.ServicerContext
    ) -> audit_pb2.GetInclusionProofResponse:
        """Prove that an entry is in the log."""
        self._permit(context, self._entitled.auditors, self._entitled.gateways())
        hashes = self._records.notary.inclusion(request.log, request.position, request.size)
        return audit_pb2.GetInclusionProofResponse(hashes=hashes)

    def GetConsistencyProof(
        self, request: audit_pb2.GetConsistencyProofRequest, context: grpc.ServicerContext
    ) -> audit_pb2.GetConsistencyProofResponse:
        """Prove that a head continues an earlier one."""
        self._permit(context, self._entitled.auditors, self._entitled.gateways())
        hashes = self._records.notary.consistency(request.log, request.old_size, request.new_size)
        return audit_pb2.GetConsistencyProofResponse(hashes=hashes)

    def CosignCheckpoint(
        self, request: audit_pb2.CosignCheckpointRequest, context: grpc.ServicerContext
    ) -> audit_pb2.CosignCheckpointResponse:
        """Take another gateway's cosignature."""
        self._permit(context, self._entitled.gateways())
        try:
            self._records.notary.take_cosignature(request.cosignature)
        except Rejected as rejection:
            raise InvalidRequest("cosignature", f"is not acceptable: {rejection.reason}") from rejection
        except Indeterminate as indeterminate:
            raise Unavailable("the cosignature cannot be judged yet") from indeterminate
        return audit_pb2.CosignCheckpointResponse()

    def ListLogs(self, request: audit_pb2.ListLogsRequest, context: grpc.ServicerContext) -> audit_pb2.ListLogsResponse:
        """Tell which logs there are and who has seen what."""
        self._permit(context, self._entitled.auditors)
        response = audit_pb2.ListLogsResponse(logs=[self._summary(log) for log in self._records.notary.logs()])
        for gateway in self._entitled.gateways():
            response.seen.extend(
                audit_pb2.SeenLog(gateway=gateway, checkpoint=each.token)
                for each in self._records.witness.seen_of(gateway)
            )
        response.forks.extend(
            audit_pb2.LogFork(
                gateway=each.gateway,
                kind=each.kind,
                find_time=wire.timestamp(each.found_at),
                seen=each.seen,
                shown=each.shown,
            )
            for each in self._records.witness.forks()
        )
        trust = self._records.receipts.trust()
        response.statements.extend(trust.statements)
        response.events.extend(trust.events)
        response.charters.extend(trust.charters)
        return response

    def _summary(self, log: Log) -> audit_pb2.LogSummary:
        message = audit_pb2.LogSummary(log=log.log_id, size=log.size, tree_size=log.tree_size)
        latest = self._records.notary.checkpoint(log.log_id)
        if latest is not None:
            message.checkpoint = latest.token
        cosigned = self._records.receipts.cosigned(log.log_id)
        if cosigned is not None:
            message.cosigned_checkpoint = cosigned.token
            message.cosignatures.extend(cosigned.cosignatures.values())
        return message

    # -- one verification, one person ----------------------------------------------------------------------------------

    def GetEvidence(
        self, request: audit_pb2.GetEvidenceRequest, context: grpc.ServicerContext
    ) -> audit_pb2.GetEvidenceResponse:
        """Give what proves a verification."""
        gateways = self._entitled.gateways()
        caller = self._permit(context, self._entitled.auditors, self._entitled.services, gateways)
        verification_id = wire.reference("verification_id", request.verification_id)
        found = self._records.receipts.evidence(verification_id)
        said = found.verification
        is_own = caller.identity in self._entitled.services and said.service == caller.identity
        is_theirs = caller.identity in gateways and self._records.disclosures.knows(caller, said.issuer)
        if not (is_own or is_theirs or caller.identity in self._entitled.auditors):
            # As for one that there never was: whoever may not see it is not told that it is there.
            raise NotHeld("no verification under that number")
        return audit_pb2.GetEvidenceResponse(evidence=found.document.decode("utf-8"), witnesses=found.witnesses)

    def ListDisclosures(
        self, request: audit_pb2.ListDisclosuresRequest, context: grpc.ServicerContext
    ) -> audit_pb2.ListDisclosuresResponse:
        """Tell who verified a person's identity."""
        since = wire.instant("since_time", request.since_time) if request.HasField("since_time") else None
        until = wire.instant("until_time", request.until_time) if request.HasField("until_time") else None
        if request.WhichOneof("person") == "subjects":
            caller = self._permit(context, self._entitled.gateways())
            asked = request.subjects
            told = self._records.disclosures.of_subjects(
                caller, wire.entity_id("subjects.issuer", asked.issuer), list(asked.subjects), since, until
            )
            return audit_pb2.ListDisclosuresResponse(
                disclosures=[_disclosure("", each) for each in told.found],
                truncated=told.truncated,
                audiences=told.audiences,
            )
        self._permit(context, self._entitled.identity_systems)
        found = self._records.disclosures.of_person(wire.local_subject(request.local_subject), since, until)
        return audit_pb2.ListDisclosuresResponse(
            disclosures=[_disclosure(each.province, each.disclosed) for each in found.found],
            truncated=found.truncated,
            unreachable_provinces=found.unreachable,
        )

    # -- disputes ------------------------------------------------------------------------------------------------------

    def OpenDispute(
        self, request: audit_pb2.OpenDisputeRequest, context: grpc.ServicerContext
    ) -> audit_pb2.OpenDisputeResponse:
        """Record that a verification is contested."""
        caller = self._permit(context, self._entitled.dispute_officers, self._entitled.identity_systems)
        ground = _GROUNDS.get(request.ground)
        if ground is None:
            raise InvalidRequest("ground", "must say why")
        dispute = self._records.disputes.open(
            caller.identity,
            verification_id=wire.reference("verification_id", request.verification_id),
            province=request.province,
            ground=ground,
            case_reference=wire.request_id(request.case_reference, "case_reference"),
        )
        return audit_pb2.OpenDisputeResponse(dispute=_dispute(dispute))

    def ResolveDispute(
        self, request: audit_pb2.ResolveDisputeRequest, context: grpc.ServicerContext
    ) -> audit_pb2.ResolveDisputeResponse:
        """Record how a dispute was settled."""
        caller = self._permit(context, self._entitled.dispute_officers)
        outcome = _OUTCOMES.get(request.outcome)
        if outcome is None:
            raise InvalidRequest("outcome", "must say how it was settled")
        dispute_id = wire.reference("dispute_id", request.dispute_id)
        dispute = self._records.disputes.resolve(caller.identity, dispute_id, outcome)
        return audit_pb2.ResolveDisputeResponse(dispute=_dispute(dispute))

    def GetDispute(
        self, request: audit_pb2.GetDisputeRequest, context: grpc.ServicerContext
    ) -> audit_pb2.GetDisputeResponse:
        """Give a dispute."""
        entitled = self._entitled
        self._permit(context, entitled.dispute_officers, entitled.identity_systems, entitled.auditors)
        dispute = self._records.disputes.get(wire.reference("dispute_id", request.dispute_id))
        response = audit_pb2.GetDisputeResponse(dispute=_dispute(dispute))
        if request.with_evidence:
            response.evidence = self._records.disputes.evidence(dispute).decode("utf-8")
        return response

    def ListDisputes(
        self, request: audit_pb2.ListDisputesRequest, context: grpc.ServicerContext
    ) -> audit_pb2.ListDisputesResponse:
        """List disputes."""
        self._permit(context, self._entitled.dispute_officers, self._entitled.auditors)
        after = self._after(request.page_token)
        found, further = self._records.disputes.list(_page_size(request.page_size), after)
        return audit_pb2.ListDisputesResponse(
            disputes=[_dispute(each) for each in found if each.outcome is None or not request.open_only],
            next_page_token="" if further is None else _write_token(*further),
        )

    def _after(self, token: str) -> tuple[str, int] | None:
        """Read where to go on. A place comes from an answer, so its log is one of ours."""
        after = _read_token(token) if token else None
        if after is not None and all(log.log_id != after[0] for log in self._records.notary.logs()):
            raise InvalidRequest("page_token", "is not one from an answer")
        return after

    def _permit(self, context: grpc.ServicerContext, *groups: Collection[str]) -> Caller:
        caller = caller_of(context, self._callers, self._world)
        if not any(caller.identity in group for group in groups):
            raise NotPermitted("caller is not registered for this on this listener")
        return caller


def _query(wanted: audit_pb2.EntryFilter) -> EntryQuery:
    if not set(wanted.kinds) <= _KINDS:
        raise InvalidRequest("filter.kinds", f"must be of {', '.join(sorted(_KINDS))}")
    texts = (wanted.service, wanted.matter, wanted.verdict, wanted.issuer, wanted.kid, wanted.verification_id)
    if any(len(each) > wire.MAX_ENTITY_ID for each in texts):
        raise InvalidRequest("filter", "holds a text that is too long")
    return EntryQuery(
        kinds=tuple(wanted.kinds),
        since=wire.instant("filter.since_time", wanted.since_time) if wanted.HasField("since_time") else None,
        until=wire.instant("filter.until_time", wanted.until_time) if wanted.HasField("until_time") else None,
        service=wanted.service,
        matter=wanted.matter,
        verdict=wanted.verdict,
        reason=wire.reason_name("filter.reason", wanted.reason) if wanted.reason else "",
        issuer=wanted.issuer,
        kid=wanted.kid,
        verification_id=wanted.verification_id,
    )


def _entry(stored: StoredEntry) -> audit_pb2.LogEntry:
    return audit_pb2.LogEntry(
        log=stored.log_id,
        position=stored.position,
        entry=stored.raw,
        contradictions=contradictions(stored.raw, stored.index),
    )


def _within(entries: Sequence[StoredEntry], most: int) -> Sequence[StoredEntry]:
    """Give the first of them, as many as an answer has room for; at least one."""
    size = 0
    for count, each in enumerate(entries):
        size += len(each.raw)
        if size > most and count:
            return entries[:count]
    return entries


def _disclosure(province: str, disclosed: Disclosed) -> audit_pb2.Disclosure:
    return audit_pb2.Disclosure(
        verification_id=disclosed.verification_id,
        verify_time=wire.timestamp(disclosed.verified_at),
        province=province,
        service=disclosed.service,
        service_name=disclosed.service_name,
        matter=disclosed.matter,
        claims=disclosed.claims,
        as_actor=disclosed.as_actor,
        consent_id=disclosed.consent_id,
    )


def _dispute(dispute: Dispute) -> audit_pb2.Dispute:
    message = audit_pb2.Dispute(
        dispute_id=dispute.dispute_id,
        verification_id=dispute.verification_id,
        province=dispute.province,
        ground=audit_pb2.DisputeGround.Value(f"DISPUTE_GROUND_{dispute.ground.name}"),
        case_reference=dispute.case_reference,
        open_time=wire.timestamp(dispute.opened_at),
        opened_by=dispute.opened_by,
        resolved_by=dispute.resolved_by,
        evidence_sha256=b64url_decode(dispute.evidence_sha256),
    )
    if dispute.outcome is not None and dispute.resolved_at is not None:
        message.outcome = audit_pb2.DisputeOutcome.Value(f"DISPUTE_OUTCOME_{dispute.outcome.name}")
        message.resolve_time.CopyFrom(wire.timestamp(dispute.resolved_at))
    return message


# -- pages ------------------------------------------------------------------------------------------------------------


def _page_size(asked: int) -> int:
    if asked < 0:
        raise InvalidRequest("page_size", "must not be negative")
    return min(asked or PAGE, MAX_PAGE)


def _write_token(log_id: str, position: int) -> str:
    return b64url_encode(f"{log_id} {position}".encode("ascii"))


def _read_token(token: str) -> tuple[str, int]:
    if len(token) > _MAX_TOKEN_CHARS:
        raise InvalidRequest("page_token", "is not one from an answer")
    try:
        found = _TOKEN.fullmatch(b64url_decode(token).decode("ascii"))
    except (Rejected, ValueError) as error:
        raise InvalidRequest("page_token", "is not one from an answer") from error
    if found is None:
        raise InvalidRequest("page_token", "is not one from an answer")
    return found[1], int(found[2])
