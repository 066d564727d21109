"""KeyService: for administrators of the province's own keys."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import grpc
from google.protobuf import timestamp_pb2
from recognition.v1 import keys_pb2, keys_pb2_grpc

from gateway import wire
from gateway.config import Role
from gateway.core.key_schedule import Holder, KeyPurpose, KeyRecord, KeyState, RotationPlan, Step
from gateway.core.memory import RevocationReason
from gateway.core.reasons import InvalidRequest
from gateway.rotation import Asked, Rotation
from gateway.server.admin import Administration, page, stores_available

MAX_JUSTIFICATION_CHARS: Final = 500
_PURPOSES: Final = {keys_pb2.KeyPurpose.Value(f"KEY_PURPOSE_{each.name}"): each for each in KeyPurpose}
_REASONS: Final = {keys_pb2.RevocationReason.Value(f"REVOCATION_REASON_{each.name}"): each for each in RevocationReason}
_PAST: Final = frozenset({KeyState.RETIRED, KeyState.REVOKED})


class KeyServicer(keys_pb2_grpc.KeyServiceServicer):
    """For administrators of the province's own keys."""

    def __init__(self, rotation: Rotation, administration: Administration, store_kind: str) -> None:
        self._rotation = rotation
        self._administration = administration
        self._store_kind = store_kind

    def ListKeys(self, request: keys_pb2.ListKeysRequest, context: grpc.ServicerContext) -> keys_pb2.ListKeysResponse:
        """List the keys."""
        self._permit(context)
        purpose = _purpose(request.purpose) if request.purpose else None
        keys = [key for key in self._rotation.keys(purpose) if request.include_past or key.state not in _PAST]
        found, further = page(keys, request.page_size, request.page_token, lambda key: key.key.kid)
        return keys_pb2.ListKeysResponse(keys=[self._key(key) for key in found], next_page_token=further)

    def PlanRotation(
        self, request: keys_pb2.PlanRotationRequest, context: grpc.ServicerContext
    ) -> keys_pb2.PlanRotationResponse:
        """Say what rotating would do."""
        self._permit(context)
        return keys_pb2.PlanRotationResponse(rotation=_rotation(self._rotation.plan(_purpose(request.purpose))))

    def ApplyRotation(
        self, request: keys_pb2.ApplyRotationRequest, context: grpc.ServicerContext
    ) -> keys_pb2.ApplyRotationResponse:
        """Make and publish the next key."""
        asked = self._asked(request, context)
        with stores_available():
            plan = self._rotation.apply(_purpose(request.purpose), asked, request.etag)
        return keys_pb2.ApplyRotationResponse(rotation=_rotation(plan))

    def ActivateKey(
        self, request: keys_pb2.ActivateKeyRequest, context: grpc.ServicerContext
    ) -> keys_pb2.ActivateKeyResponse:
        """Let a published key sign."""
        asked = self._asked(request, context)
        if request.override:
            _check_justification(request.justification)
        with stores_available():
            activated = self._rotation.activate(
                wire.thumbprint("kid", request.kid),
                asked,
                override=request.override,
                justification=request.justification,
            )
        return keys_pb2.ActivateKeyResponse(
            rotation=_rotation(activated.plan), awaiting_approval=activated.awaiting_approval
        )

    def UndoRotation(
        self, request: keys_pb2.UndoRotationRequest, context: grpc.ServicerContext
    ) -> keys_pb2.UndoRotationResponse:
        """Take back a key."""
        asked = self._asked(request, context)
        with stores_available():
            plan = self._rotation.undo(wire.thumbprint("kid", request.kid), asked)
        return keys_pb2.UndoRotationResponse(rotation=_rotation(plan))

    def RevokeKey(
        self, request: keys_pb2.RevokeKeyRequest, context: grpc.ServicerContext
    ) -> keys_pb2.RevokeKeyResponse:
        """Revoke a key for good."""
        asked = self._asked(request, context)
        reason = _REASONS.get(request.reason)
        if reason is None:
            raise InvalidRequest("reason", "must say why")
        since = wire.instant("compromised_since", request.compromised_since) if _has_since(request) else None
        if since is not None and reason is not RevocationReason.COMPROMISED:
            raise InvalidRequest("compromised_since", "is for a key that was compromised")
        with stores_available():
            revoked = self._rotation.revoke(wire.thumbprint("kid", request.kid), reason, asked, compromised_since=since)
        return keys_pb2.RevokeKeyResponse(
            key=self._key(revoked.record),
            promoted_kid=revoked.promoted_kid,
            revoke_time=_time(revoked.record.revoked_at),
            accepted_count=revoked.accepted_count,
        )

    def ListAcknowledgements(
        self, request: keys_pb2.ListAcknowledgementsRequest, context: grpc.ServicerContext
    ) -> keys_pb2.ListAcknowledgementsResponse:
        """Say who holds a key."""
        self._permit(context)
        holders = self._rotation.acknowledgements(wire.thumbprint("kid", request.kid) if request.kid else "")
        return keys_pb2.ListAcknowledgementsResponse(holders=[_holder(holder) for holder in holders])

    def _permit(self, context: grpc.ServicerContext) -> str:
        return self._administration.administrator(context, Role.KEYS)

    def _asked(
        self,
        request: keys_pb2.ApplyRotationRequest
        | keys_pb2.ActivateKeyRequest
        | keys_pb2.UndoRotationRequest
        | keys_pb2.RevokeKeyRequest,
        context: grpc.ServicerContext,
    ) -> Asked:
        administrator = self._permit(context)
        name = wire.request_id(request.request_id)
        if not name and not request.validate_only:
            raise InvalidRequest("request_id", "must be given, so that asking again does nothing twice")
        return Asked(administrator=administrator, request_id=name, validate_only=request.validate_only)

    def _key(self, record: KeyRecord) -> keys_pb2.Key:
        reason = f"REVOCATION_REASON_{record.reason.name}" if record.reason else "REVOCATION_REASON_UNSPECIFIED"
        return keys_pb2.Key(
            kid=record.key.kid,
            purpose=keys_pb2.KeyPurpose.Value(f"KEY_PURPOSE_{record.purpose.name}"),
            state=keys_pb2.KeyState.Value(f"KEY_STATE_{record.state.name}"),
            algorithm=record.key.algorithm.value,
            stage_time=_time(record.staged_at),
            publish_time=_time(record.published_at),
            activate_time=_time(record.activated_at),
            drain_time=_time(record.drained_at),
            retire_time=_time(record.retired_at),
            revoke_time=_time(record.revoked_at),
            revocation_reason=keys_pb2.RevocationReason.Value(reason),
            signed_until_time=_time(record.signed_until),
            used=record.signed_until is not None,
            store=self._store_kind,
        )


# -- reading ----------------------------------------------------------------------------------------------------------


def _purpose(number: keys_pb2.KeyPurpose.ValueType) -> KeyPurpose:
    purpose = _PURPOSES.get(number)
    if purpose is None:
        raise InvalidRequest("purpose", "must say what the key signs")
    return purpose


def _check_justification(text: str) -> None:
    if not text.strip() or len(text) > MAX_JUSTIFICATION_CHARS or not text.isprintable():
        raise InvalidRequest(
            "justification", f"must say why, on one line of at most {MAX_JUSTIFICATION_CHARS} characters"
        )


def _has_since(request: keys_pb2.RevokeKeyRequest) -> bool:
    return request.HasField("compromised_since")


# -- writing ----------------------------------------------------------------------------------------------------------


def _time(moment: datetime | None) -> timestamp_pb2.Timestamp | None:
    return None if moment is None else wire.timestamp(moment)


def _rotation(plan: RotationPlan) -> keys_pb2.Rotation:
    return keys_pb2.Rotation(
        purpose=keys_pb2.KeyPurpose.Value(f"KEY_PURPOSE_{plan.purpose.name}"),
        current_kid=plan.current.key.kid if plan.current is not None else "",
        next_kid=plan.following.key.kid if plan.following is not None else "",
        steps=[_step(step) for step in plan.steps],
        signed_until_time=_time(plan.signed_until),
        holders=[_holder(holder) for holder in plan.holders],
        etag=plan.etag,
    )


def _step(step: Step) -> keys_pb2.RotationStep:
    return keys_pb2.RotationStep(
        kind=keys_pb2.RotationStepKind.Value(f"ROTATION_STEP_KIND_{step.kind.name}"),
        done=step.done,
        time=_time(step.at),
        detail=step.detail,
    )


def _holder(holder: Holder) -> keys_pb2.Holder:
    return keys_pb2.Holder(
        entity_id=holder.entity_id,
        province=holder.province,
        reachable=holder.reachable,
        holds=holder.holds,
        refuses=holder.refuses,
        acknowledge_time=_time(holder.acknowledged_at),
        charter_version=holder.charter_version,
        blocks=holder.blocks,
        clock_offset=wire.duration(holder.clock_offset) if holder.clock_offset is not None else None,
    )
