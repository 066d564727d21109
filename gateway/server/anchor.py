"""AnchorService: for operators of the province's trust anchor."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

import grpc
from recognition.v1 import anchor_pb2, anchor_pb2_grpc

from gateway import wire
from gateway.anchor import Anchor, MemberStanding
from gateway.clock import World
from gateway.config import Role
from gateway.core.charter import Charter
from gateway.core.reasons import InvalidRequest
from gateway.core.vouching import PendingChange
from gateway.logs import get_logger
from gateway.resolver import Resolver
from gateway.server.admin import Administration, page, stores_available

MAX_CHANGE_ID_CHARS: Final = 64

_log = get_logger("anchor")


class AnchorServicer(anchor_pb2_grpc.AnchorServiceServicer):
    """For operators of the province's trust anchor. What they decide is on disk, then published at once."""

    def __init__(self, anchor: Anchor, resolver: Resolver, administration: Administration, world: World) -> None:
        self._anchor = anchor
        self._resolver = resolver
        self._administration = administration
        self._world = world

    def ListMembers(
        self, request: anchor_pb2.ListMembersRequest, context: grpc.ServicerContext
    ) -> anchor_pb2.ListMembersResponse:
        """List the members."""
        self._permit(context)
        members, further = page(
            self._anchor.members(self._charter()),
            request.page_size,
            request.page_token,
            lambda standing: standing.member.entity_id,
        )
        now = self._world.now()
        return anchor_pb2.ListMembersResponse(
            members=[_member(standing, now) for standing in members], next_page_token=further
        )

    def ListPendingChanges(
        self, request: anchor_pb2.ListPendingChangesRequest, context: grpc.ServicerContext
    ) -> anchor_pb2.ListPendingChangesResponse:
        """List the changes that wait for approval."""
        self._permit(context)
        charter = self._charter()
        waiting = [(member, change) for member, change in self._anchor.pending() if charter.member(member)]
        changes, further = page(waiting, request.page_size, request.page_token, lambda each: each[1].change_id)
        return anchor_pb2.ListPendingChangesResponse(
            changes=[_change(charter, member, change) for member, change in changes], next_page_token=further
        )

    def ApproveChange(
        self, request: anchor_pb2.ApproveChangeRequest, context: grpc.ServicerContext
    ) -> anchor_pb2.ApproveChangeResponse:
        """Approve a change."""
        identity, change_id = self._permit(context), _change_id(request.change_id)
        member = self._decide(
            "change_approved",
            identity,
            lambda: self._anchor.approve(
                self._charter(),
                change_id,
                administrator=identity,
                now=self._world.now(),
                validate_only=request.validate_only,
            ),
            validate_only=request.validate_only,
        )
        return anchor_pb2.ApproveChangeResponse(member=member)

    def RejectChange(
        self, request: anchor_pb2.RejectChangeRequest, context: grpc.ServicerContext
    ) -> anchor_pb2.RejectChangeResponse:
        """Reject a change."""
        identity, change_id = self._permit(context), _change_id(request.change_id)
        member = self._decide(
            "change_rejected",
            identity,
            lambda: self._anchor.reject(
                self._charter(),
                change_id,
                administrator=identity,
                now=self._world.now(),
                validate_only=request.validate_only,
            ),
            validate_only=request.validate_only,
        )
        return anchor_pb2.RejectChangeResponse(member=member)

    def EnrolMember(
        self, request: anchor_pb2.EnrolMemberRequest, context: grpc.ServicerContext
    ) -> anchor_pb2.EnrolMemberResponse:
        """Take a member's federation key that people compared."""
        identity, entity_id = self._permit(context), wire.entity_id("entity_id", request.entity_id)
        member = self._decide(
            "member_enrolled",
            identity,
            lambda: self._anchor.enrol(
                self._charter(),
                entity_id,
                wire.thumbprint("federation_key", request.federation_key),
                replace_keys=request.replace,
                now=self._world.now(),
                administrator=identity,
                validate_only=request.validate_only,
            ),
            validate_only=request.validate_only,
        )
        return anchor_pb2.EnrolMemberResponse(member=member)

    def SuspendMember(
        self, request: anchor_pb2.SuspendMemberRequest, context: grpc.ServicerContext
    ) -> anchor_pb2.SuspendMemberResponse:
        """Say nothing for a member for a while."""
        identity, entity_id = self._permit(context), wire.entity_id("entity_id", request.entity_id)
        if not request.HasField("until_time"):
            raise InvalidRequest("until_time", "is required")
        until = wire.instant("until_time", request.until_time)
        member = self._decide(
            "member_suspended",
            identity,
            lambda: self._anchor.suspend(
                self._charter(),
                entity_id,
                until=until,
                reason=request.reason,
                now=self._world.now(),
                administrator=identity,
                validate_only=request.validate_only,
            ),
            validate_only=request.validate_only,
        )
        return anchor_pb2.SuspendMemberResponse(member=member)

    def ResumeMember(
        self, request: anchor_pb2.ResumeMemberRequest, context: grpc.ServicerContext
    ) -> anchor_pb2.ResumeMemberResponse:
        """End a suspension."""
        identity, entity_id = self._permit(context), wire.entity_id("entity_id", request.entity_id)
        member = self._decide(
            "member_resumed",
            identity,
            lambda: self._anchor.resume(
                self._charter(),
                entity_id,
                now=self._world.now(),
                administrator=identity,
                validate_only=request.validate_only,
            ),
            validate_only=request.validate_only,
        )
        return anchor_pb2.ResumeMemberResponse(member=member)

    def RevokeMember(
        self, request: anchor_pb2.RevokeMemberRequest, context: grpc.ServicerContext
    ) -> anchor_pb2.RevokeMemberResponse:
        """Say nothing for a member ever again."""
        identity, entity_id = self._permit(context), wire.entity_id("entity_id", request.entity_id)
        member = self._decide(
            "member_revoked",
            identity,
            lambda: self._anchor.revoke(
                self._charter(),
                entity_id,
                reason=request.reason,
                now=self._world.now(),
                administrator=identity,
                validate_only=request.validate_only,
            ),
            validate_only=request.validate_only,
        )
        return anchor_pb2.RevokeMemberResponse(member=member)

    def _decide(
        self, deed: str, identity: str, act: Callable[[], MemberStanding], *, validate_only: bool
    ) -> anchor_pb2.AnchorMember:
        with stores_available():
            standing = act()
        if not validate_only:
            # Who decided is for the log: what was decided is in the anchor's own statements, for all to see.
            _log.info("anchor_decided", status=deed, member=standing.member.entity_id, caller=identity)
            self._publish()
        return _member(standing, self._world.now())

    def _publish(self) -> None:
        try:
            self._resolver.publish_own()
        except Exception as error:  # noqa: BLE001 - it is decided and on disk; the next round publishes it
            _log.error("publication_failed", exc_info=error)

    def _charter(self) -> Charter:
        return self._resolver.view.charter

    def _permit(self, context: grpc.ServicerContext) -> str:
        return self._administration.administrator(context, Role.ANCHOR)


def _change_id(text: str) -> str:
    if not 1 <= len(text) <= MAX_CHANGE_ID_CHARS:
        raise InvalidRequest("change_id", "must name a change")
    return text


def _member(standing: MemberStanding, now: datetime) -> anchor_pb2.AnchorMember:
    member, record = standing.member, standing.record
    message = anchor_pb2.AnchorMember(
        entity_id=member.entity_id,
        province=member.province.code,
        entity_types=sorted(member.entity_types),
        state=_state(standing, now),
    )
    if record is None:
        return message
    message.federation_keys.extend(sorted(record.federation_keys))
    message.credential_keys.extend(sorted(record.credential_keys))
    message.change_pending = record.pending is not None
    if record.withdrawal is not None:
        message.reason = record.withdrawal.reason
    elif record.silence is not None and now < record.silence.until:
        message.reason = record.silence.reason
        message.suspend_until_time.CopyFrom(wire.timestamp(record.silence.until))
    elif standing.statement_expires_at is not None:
        message.statement_expire_time.CopyFrom(wire.timestamp(standing.statement_expires_at))
    return message


def _state(standing: MemberStanding, now: datetime) -> anchor_pb2.MemberState.ValueType:
    record = standing.record
    if record is None:
        return anchor_pb2.MEMBER_STATE_NOT_ENROLLED
    if record.withdrawal is not None:
        return anchor_pb2.MEMBER_STATE_REVOKED
    if record.silence is not None and now < record.silence.until:
        return anchor_pb2.MEMBER_STATE_SUSPENDED
    expires_at = standing.statement_expires_at
    if expires_at is not None and now < expires_at:
        return anchor_pb2.MEMBER_STATE_VOUCHED
    return anchor_pb2.MEMBER_STATE_AWAITED


def _change(charter: Charter, entity_id: str, change: PendingChange) -> anchor_pb2.PendingChange:
    member = charter.member(entity_id)
    message = anchor_pb2.PendingChange(
        change_id=change.change_id,
        entity_id=entity_id,
        province=member.province.code if member is not None else "",
        added_federation_keys=sorted(change.federation_keys),
        added_credential_keys=sorted(change.credential_keys),
    )
    message.create_time.CopyFrom(wire.timestamp(change.seen_at))
    return message
