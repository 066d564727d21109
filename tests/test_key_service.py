"""The services for administrators, over real mutual TLS: who may call, what is answered, what an error becomes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, timedelta
from functools import partial
from typing import Any

import grpc
import pytest
from google.protobuf import timestamp_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from recognition.v1 import anchor_pb2, anchor_pb2_grpc, keys_pb2, keys_pb2_grpc

from gateway.certificates import ChannelMaterial
from gateway.clock import system_world
from gateway.config import Administrator, Role, RotationPolicy
from gateway.core.jose import generate_key
from gateway.core.key_schedule import KeyPurpose
from gateway.core.vouching import Approval
from gateway.holdings import Holdings
from gateway.rotation import Rotation
from gateway.server.admin import Administration
from gateway.server.anchor import AnchorServicer
from gateway.server.keys import KeyServicer
from gateway.server.listener import Listener
from gateway.storage import StorageError
from gateway.tls import CallerReader, create_ca, issue_certificate
from tests.federation import SH, START, ZJ, Federation

# TLS lives in the machine's time, the federation in the test's.
WORLD = system_world()
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
CREDENTIAL = keys_pb2.KEY_PURPOSE_CREDENTIAL
BY_HAND = RotationPolicy(credential_days=0, status_days=0, federation_days=0, standby=False)


@dataclass
class Counter:
    """Shanghai's admin listener, and administrators to call it."""

    federation: Federation
    rotation: Rotation
    listener: Listener
    ca: tuple[bytes, bytes]

    def channel(self, name: str) -> grpc.Channel:
        certificate, key = issue_certificate(
            *self.ca,
            identity_uri=self.identity(name),
            dns_names=[],
            ip_addresses=[],
            server=False,
            client=True,
            now=WORLD.now() - MINUTE,
            lifetime=DAY,
        )
        credentials = grpc.ssl_channel_credentials(self.ca[0], key, certificate)
        return grpc.secure_channel(f"localhost:{self.listener.port}", credentials)

    def identity(self, name: str) -> str:
        return f"{self.federation[SH].ids.gateway}/administrators/{name}"

    def settle(self) -> None:
        self.federation.settle()
        self.rotation.tick()


@pytest.fixture(params=[Approval.AUTO])
def counter(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Counter]:
    federation = Federation(tmp_path, approve=request.param)
    node = federation[SH]
    entities = {
        **dict.fromkeys((KeyPurpose.CREDENTIAL, KeyPurpose.STATUS, KeyPurpose.ISSUER_FEDERATION), node.ids.issuer),
        **dict.fromkeys((KeyPurpose.GATEWAY_FEDERATION, KeyPurpose.RECEIPT, KeyPurpose.AUDIT), node.ids.gateway),
        KeyPurpose.ANCHOR_FEDERATION: node.ids.anchor,
    }
    rotation = Rotation(
        world=federation.world,
        store=node.store,
        keys=node.ring,
        holdings=Holdings(node.resolver, node.ids.gateway, entities),
        entities=entities,
        policy=BY_HAND,
        publish=node.resolver.publish_own,
    )
    ca = create_ca("Shanghai test CA", WORLD.now() - MINUTE)
    certificate, key = issue_certificate(
        *ca,
        identity_uri=node.ids.gateway,
        dns_names=["localhost"],
        ip_addresses=[],
        server=True,
        client=True,
        now=WORLD.now() - MINUTE,
        lifetime=DAY,
    )
    callers = CallerReader({ca[0]: (node.ids.gateway,)})
    listener = Listener(
        address="localhost:0",
        material=lambda: ChannelMaterial(certificate=certificate, private_key=key, cas=ca[0]),
        callers=callers,
        threads=4,
        max_concurrent_calls=16,
        world=WORLD,
    )
    administrators = [
        Administrator(identity=f"{node.ids.gateway}/administrators/{name}", roles=frozenset(roles))
        for name, roles in {
            "both": {Role.KEYS, Role.ANCHOR},
            "second": {Role.KEYS},
            "keys": {Role.KEYS},
            "anchor": {Role.ANCHOR},
        }.items()
    ]
    administration = Administration(administrators, callers, WORLD)
    listener.add_keys(KeyServicer(rotation, administration, "file"))
    listener.add_anchor(AnchorServicer(node.anchor, node.resolver, administration, federation.world))
    listener.start()
    yield Counter(federation=federation, rotation=rotation, listener=listener, ca=ca)
    listener.stop(0)()
    federation.close()


@pytest.fixture
def keys(counter: Counter) -> Iterator[keys_pb2_grpc.KeyServiceStub]:
    with counter.channel("keys") as channel:
        yield keys_pb2_grpc.KeyServiceStub(channel)


@pytest.fixture
def anchor(counter: Counter) -> Iterator[anchor_pb2_grpc.AnchorServiceStub]:
    with counter.channel("anchor") as channel:
        yield anchor_pb2_grpc.AnchorServiceStub(channel)


def failure(call: Callable[[], object]) -> tuple[grpc.StatusCode, dict[str, Any]]:
    """The status a call fails with, and its details by kind."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    status = rpc_status.from_call(error)
    details: dict[str, Any] = {}
    for packed in status.details if status is not None else ():
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.PreconditionFailure):
            message = kind()
            if packed.Unpack(message):
                details[kind.__name__] = message
    return error.code(), details


def refused_field(call: Callable[[], object]) -> str:
    code, details = failure(call)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    field: str = details["BadRequest"].field_violations[0].field
    return field


def only_key(keys: keys_pb2_grpc.KeyServiceStub) -> keys_pb2.Key:
    (key,) = keys.ListKeys(keys_pb2.ListKeysRequest(purpose=CREDENTIAL)).keys
    return key


def applied(keys: keys_pb2_grpc.KeyServiceStub, request_id: str = "apply-1") -> keys_pb2.Rotation:
    return keys.ApplyRotation(keys_pb2.ApplyRotationRequest(purpose=CREDENTIAL, request_id=request_id)).rotation


# -- who may call -----------------------------------------------------------------------------------------------------

KEY_CALLS: dict[str, Any] = {
    "ListKeys": keys_pb2.ListKeysRequest(),
    "PlanRotation": keys_pb2.PlanRotationRequest(purpose=CREDENTIAL),
    "ApplyRotation": keys_pb2.ApplyRotationRequest(purpose=CREDENTIAL, validate_only=True),
    "ActivateKey": keys_pb2.ActivateKeyRequest(kid="A" * 43, validate_only=True),
    "UndoRotation": keys_pb2.UndoRotationRequest(kid="A" * 43, validate_only=True),
    "RevokeKey": keys_pb2.RevokeKeyRequest(
        kid="A" * 43, reason=keys_pb2.REVOCATION_REASON_COMPROMISED, validate_only=True
    ),
    "ListAcknowledgements": keys_pb2.ListAcknowledgementsRequest(),
}
ANCHOR_CALLS: dict[str, Any] = {
    "ListMembers": anchor_pb2.ListMembersRequest(),
    "ListPendingChanges": anchor_pb2.ListPendingChangesRequest(),
    "ApproveChange": anchor_pb2.ApproveChangeRequest(change_id="x", validate_only=True),
    "RejectChange": anchor_pb2.RejectChangeRequest(change_id="x", validate_only=True),
    "EnrolMember": anchor_pb2.EnrolMemberRequest(entity_id="https://x", federation_key="A" * 43, validate_only=True),
    "SuspendMember": anchor_pb2.SuspendMemberRequest(
        entity_id="https://x", until_time=timestamp_pb2.Timestamp(seconds=1), reason="x", validate_only=True
    ),
    "ResumeMember": anchor_pb2.ResumeMemberRequest(entity_id="https://x", validate_only=True),
    "RevokeMember": anchor_pb2.RevokeMemberRequest(entity_id="https://x", reason="x", validate_only=True),
}


def test_each_call_is_for_administrators_of_its_role(counter: Counter) -> None:
    def codes(name: str) -> tuple[set[bool], set[bool]]:
        """Whether calls of either service get past the door."""
        with counter.channel(name) as channel:
            found = []
            for stub, calls in (
                (keys_pb2_grpc.KeyServiceStub(channel), KEY_CALLS),
                (anchor_pb2_grpc.AnchorServiceStub(channel), ANCHOR_CALLS),
            ):
                permitted = set()
                for method, request in calls.items():
                    try:
                        getattr(stub, method)(request)
                        permitted.add(True)
                    except grpc.RpcError as error:
                        permitted.add(error.code() is not grpc.StatusCode.PERMISSION_DENIED)
                found.append(permitted)
            return found[0], found[1]

    assert codes("both") == ({True}, {True})
    assert codes("keys") == ({True}, {False})
    assert codes("anchor") == ({False}, {True})
    assert codes("stranger") == ({False}, {False})


# -- keys -------------------------------------------------------------------------------------------------------------


def test_a_key_is_rotated_over_the_wire(counter: Counter, keys: keys_pb2_grpc.KeyServiceStub) -> None:
    old = only_key(keys)
    plan = keys.PlanRotation(keys_pb2.PlanRotationRequest(purpose=CREDENTIAL)).rotation
    assert [step.kind for step in plan.steps] == list(keys_pb2.RotationStepKind.values())[1:]
    assert (plan.current_kid, plan.next_kid) == (old.kid, "")
    rotation = applied(keys)
    activate = keys_pb2.ActivateKeyRequest(kid=rotation.next_kid, request_id="activate-1")
    counter.settle()
    code, details = failure(lambda: keys.ActivateKey(activate))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert details["ErrorInfo"].reason == "WRONG_STATE"
    assert len(details["PreconditionFailure"].violations) == 1
    counter.federation.clock.advance(12 * MINUTE)
    counter.settle()
    answer = keys.ActivateKey(activate)
    assert (answer.rotation.current_kid, answer.awaiting_approval) == (rotation.next_kid, False)
    assert {holder.holds for holder in answer.rotation.holders} == {True}
    counter.federation.issue(SH)
    listed = {key.kid: key for key in keys.ListKeys(keys_pb2.ListKeysRequest(purpose=CREDENTIAL)).keys}
    assert listed[old.kid].state == keys_pb2.KEY_STATE_DRAINING
    new = listed[rotation.next_kid]
    assert (new.state, new.used, new.store, new.algorithm) == (keys_pb2.KEY_STATE_ACTIVE, True, "file", "ES256")
    assert new.activate_time.ToDatetime(tzinfo=UTC) == START + 12 * MINUTE
    assert not new.HasField("drain_time")
    assert new.signed_until_time.ToDatetime(tzinfo=UTC) >= START + 30 * DAY


def test_the_one_who_blocks_is_named(counter: Counter, keys: keys_pb2_grpc.KeyServiceStub) -> None:
    for peer in counter.federation[ZJ].peers.values():
        peer.freeze()
    kid = applied(keys).next_kid
    counter.settle()
    counter.federation.clock.advance(12 * MINUTE)
    counter.settle()
    _, details = failure(lambda: keys.ActivateKey(keys_pb2.ActivateKeyRequest(kid=kid, request_id="r")))
    (violation,) = details["PreconditionFailure"].violations
    assert counter.federation[ZJ].ids.gateway in violation.description
    holders = keys.ListAcknowledgements(keys_pb2.ListAcknowledgementsRequest(kid=kid)).holders
    assert [(holder.province, holder.holds) for holder in holders if holder.blocks] == [("zj", False)]
    assert all(holder.HasField("acknowledge_time") and holder.HasField("clock_offset") for holder in holders)


def test_an_override_takes_two_certificates(counter: Counter, keys: keys_pb2_grpc.KeyServiceStub) -> None:
    request = keys_pb2.ActivateKeyRequest(
        kid=applied(keys).next_kid, request_id="r", override=True, justification="the old one is failing"
    )
    assert keys.ActivateKey(request).awaiting_approval
    assert keys.ActivateKey(request).awaiting_approval
    with counter.channel("second") as channel:
        assert not keys_pb2_grpc.KeyServiceStub(channel).ActivateKey(request).awaiting_approval
    events = counter.rotation.history(request.kid)
    assert {counter.identity("keys"), counter.identity("second")} <= {event.administrator for event in events}


def test_a_stale_etag_is_told_from_a_bad_request(counter: Counter, keys: keys_pb2_grpc.KeyServiceStub) -> None:
    request = keys_pb2.ApplyRotationRequest(purpose=CREDENTIAL, request_id="r", etag="stale")
    code, details = failure(lambda: keys.ApplyRotation(request))
    assert (code, details["ErrorInfo"].reason) == (grpc.StatusCode.ABORTED, "CONFLICT")
    request.etag = keys.PlanRotation(keys_pb2.PlanRotationRequest(purpose=CREDENTIAL)).rotation.etag
    assert keys.ApplyRotation(request).rotation.next_kid


def test_a_key_is_undone_and_another_revoked(counter: Counter, keys: keys_pb2_grpc.KeyServiceStub) -> None:
    old, kid = only_key(keys), applied(keys).next_kid
    assert keys.UndoRotation(keys_pb2.UndoRotationRequest(kid=kid, request_id="undo-1")).rotation.next_kid == ""
    standby = applied(keys, "apply-2").next_kid
    since = timestamp_pb2.Timestamp()
    since.FromDatetime(START - DAY)
    request = keys_pb2.RevokeKeyRequest(
        kid=old.kid, reason=keys_pb2.REVOCATION_REASON_COMPROMISED, compromised_since=since, request_id="revoke-1"
    )
    answer = keys.RevokeKey(request)
    assert (answer.key.state, answer.promoted_kid) == (keys_pb2.KEY_STATE_REVOKED, standby)
    assert (answer.key.revocation_reason, answer.accepted_count) == (keys_pb2.REVOCATION_REASON_COMPROMISED, 0)
    assert answer.revoke_time.ToDatetime(tzinfo=UTC) == START
    assert keys.RevokeKey(request) == answer
    listed = keys.ListKeys(keys_pb2.ListKeysRequest(purpose=CREDENTIAL)).keys
    assert [key.kid for key in listed] == [standby]
    everything = keys.ListKeys(keys_pb2.ListKeysRequest(purpose=CREDENTIAL, include_past=True)).keys
    assert [key.kid for key in everything] == [standby, kid, old.kid]


GOOD: dict[str, Any] = {
    "apply": keys_pb2.ApplyRotationRequest(purpose=CREDENTIAL, request_id="r", validate_only=True),
    "activate": keys_pb2.ActivateKeyRequest(
        kid="A" * 43, request_id="r", validate_only=True, override=True, justification="x"
    ),
    "revoke": keys_pb2.RevokeKeyRequest(
        kid="A" * 43, request_id="r", validate_only=True, reason=keys_pb2.REVOCATION_REASON_COMPROMISED
    ),
    "list": keys_pb2.ListKeysRequest(purpose=CREDENTIAL, page_size=1),
}


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("apply", {"purpose": 0}, "purpose"),
    ("apply", {"purpose": 8}, "purpose"),
    ("apply", {"request_id": "", "validate_only": False}, "request_id"),
    ("apply", {"request_id": "x" * 65}, "request_id"),
    ("apply", {"request_id": "a b"}, "request_id"),
    ("activate", {"kid": "A" * 42}, "kid"),
    ("activate", {"justification": ""}, "justification"),
    ("activate", {"justification": " "}, "justification"),
    ("activate", {"justification": "two\nlines"}, "justification"),
    ("activate", {"justification": "x" * 501}, "justification"),
    ("revoke", {"reason": 0}, "reason"),
    ("revoke", {"reason": 3}, "reason"),
    ("revoke", {"reason": 2, "compromised_since": timestamp_pb2.Timestamp(seconds=1)}, "compromised_since"),
    ("revoke", {"compromised_since": timestamp_pb2.Timestamp(seconds=1, nanos=-1)}, "compromised_since"),
    ("list", {"purpose": 8}, "purpose"),
    ("list", {"page_size": -1}, "page_size"),
    ("list", {"page_token": "?"}, "page_token"),
    ("list", {"page_token": "A" * 43}, "page_token"),
]


def test_a_request_is_well_formed(keys: keys_pb2_grpc.KeyServiceStub) -> None:
    stubs: dict[str, Any] = {
        "apply": keys.ApplyRotation,
        "activate": keys.ActivateKey,
        "revoke": keys.RevokeKey,
        "list": keys.ListKeys,
    }
    for call in ("apply", "list"):
        stubs[call](GOOD[call])
    for call in ("activate", "revoke"):  # well-formed, and there is no such key
        assert failure(partial(stubs[call], GOOD[call]))[0] is grpc.StatusCode.NOT_FOUND
    for call, change, field in BAD:
        request = type(GOOD[call])()
        request.CopyFrom(GOOD[call])
        for name, value in change.items():
            if isinstance(value, timestamp_pb2.Timestamp):
                getattr(request, name).CopyFrom(value)
            else:
                setattr(request, name, value)
        assert refused_field(partial(stubs[call], request)) == field, (call, change)


def test_keys_come_in_pages(keys: keys_pb2_grpc.KeyServiceStub) -> None:
    whole = [key.kid for key in keys.ListKeys(keys_pb2.ListKeysRequest()).keys]
    assert len(whole) == len(KeyPurpose)
    found: list[str] = []
    token = ""
    for _page in range(4):
        answer = keys.ListKeys(keys_pb2.ListKeysRequest(page_size=2, page_token=token))
        found += [key.kid for key in answer.keys]
        token = answer.next_page_token
    assert (found, token) == (whole, "")


def test_what_cannot_be_written_down_is_not_done(
    counter: Counter, keys: keys_pb2_grpc.KeyServiceStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise StorageError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(counter.federation[SH].store, "save_keys", full)
        code, _ = failure(lambda: applied(keys))
    assert code is grpc.StatusCode.UNAVAILABLE
    assert applied(keys).next_kid
    assert len(counter.federation[SH].ring.records(KeyPurpose.CREDENTIAL)) == 2


# -- the anchor -------------------------------------------------------------------------------------------------------


def member_of(anchor: anchor_pb2_grpc.AnchorServiceStub, entity_id: str) -> anchor_pb2.AnchorMember:
    (found,) = [
        member
        for member in anchor.ListMembers(anchor_pb2.ListMembersRequest()).members
        if member.entity_id == entity_id
    ]
    return found


def test_members_are_listed_with_what_the_anchor_says_of_them(
    counter: Counter, anchor: anchor_pb2_grpc.AnchorServiceStub
) -> None:
    charter = counter.federation.charter
    listed = anchor.ListMembers(anchor_pb2.ListMembersRequest()).members
    assert [member.entity_id for member in listed] == [member.entity_id for member in charter.members]
    assert {member.state for member in listed} == {anchor_pb2.MEMBER_STATE_VOUCHED}
    issuer = member_of(anchor, counter.federation[ZJ].ids.issuer)
    keys = counter.federation.keys[ZJ]
    assert list(issuer.federation_keys) == [keys["issuer-federation"].public.thumbprint]
    assert set(issuer.credential_keys) == {
        keys[role].public.thumbprint for role in ("issuer-credential", "issuer-status")
    }
    assert issuer.statement_expire_time.ToDatetime(tzinfo=UTC) > START
    paged = anchor.ListMembers(anchor_pb2.ListMembersRequest(page_size=1))
    assert [member.entity_id for member in paged.members] == [listed[0].entity_id]
    after = anchor.ListMembers(anchor_pb2.ListMembersRequest(page_token=paged.next_page_token)).members
    assert [member.entity_id for member in after] == [member.entity_id for member in listed[1:]]


def test_a_member_is_suspended_resumed_and_revoked(counter: Counter, anchor: anchor_pb2_grpc.AnchorServiceStub) -> None:
    entity_id = counter.federation[ZJ].ids.issuer
    until = timestamp_pb2.Timestamp()
    until.FromDatetime(START + DAY)
    suspend = anchor_pb2.SuspendMemberRequest(
        entity_id=entity_id, until_time=until, reason="under inquiry", validate_only=True
    )
    assert anchor.SuspendMember(suspend).member.state == anchor_pb2.MEMBER_STATE_SUSPENDED
    assert member_of(anchor, entity_id).state == anchor_pb2.MEMBER_STATE_VOUCHED
    suspend.validate_only = False
    suspended = anchor.SuspendMember(suspend).member
    assert (suspended.state, suspended.reason) == (anchor_pb2.MEMBER_STATE_SUSPENDED, "under inquiry")
    assert suspended.suspend_until_time == until
    resumed = anchor.ResumeMember(anchor_pb2.ResumeMemberRequest(entity_id=entity_id)).member
    assert resumed.state != anchor_pb2.MEMBER_STATE_SUSPENDED
    counter.settle()
    assert member_of(anchor, entity_id).state == anchor_pb2.MEMBER_STATE_VOUCHED
    revoke = anchor_pb2.RevokeMemberRequest(entity_id=entity_id, reason="left")
    assert anchor.RevokeMember(revoke).member.state == anchor_pb2.MEMBER_STATE_REVOKED
    code, _ = failure(lambda: anchor.RevokeMember(revoke))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    code, _ = failure(lambda: anchor.ResumeMember(anchor_pb2.ResumeMemberRequest(entity_id=entity_id)))
    assert code is grpc.StatusCode.FAILED_PRECONDITION


def test_a_key_is_enrolled_in_place_of_another_only_when_that_is_said(
    counter: Counter, anchor: anchor_pb2_grpc.AnchorServiceStub
) -> None:
    entity_id, thumbprint = counter.federation[ZJ].ids.issuer, generate_key().public.thumbprint
    request = anchor_pb2.EnrolMemberRequest(entity_id=entity_id, federation_key=thumbprint)
    code, _ = failure(lambda: anchor.EnrolMember(request))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    request.replace = True
    assert list(anchor.EnrolMember(request).member.federation_keys) == [thumbprint]
    request.federation_key = "short"
    assert refused_field(lambda: anchor.EnrolMember(request)) == "federation_key"


@pytest.mark.parametrize("counter", [Approval.MANUAL], indirect=True)
@pytest.mark.parametrize("approved", [True, False])
def test_new_keys_wait_for_a_person(
    counter: Counter, anchor: anchor_pb2_grpc.AnchorServiceStub, keys: keys_pb2_grpc.KeyServiceStub, approved: bool
) -> None:
    for change in anchor.ListPendingChanges(anchor_pb2.ListPendingChangesRequest()).changes:
        anchor.ApproveChange(anchor_pb2.ApproveChangeRequest(change_id=change.change_id))
    kid = applied(keys).next_kid
    (change,) = anchor.ListPendingChanges(anchor_pb2.ListPendingChangesRequest()).changes
    entity_id = counter.federation[SH].ids.issuer
    assert (change.entity_id, change.province, list(change.added_credential_keys)) == (entity_id, "sh", [kid])
    assert change.create_time.ToDatetime(tzinfo=UTC) == START
    assert member_of(anchor, entity_id).change_pending
    if approved:
        anchor.ApproveChange(anchor_pb2.ApproveChangeRequest(change_id=change.change_id))
    else:
        anchor.RejectChange(anchor_pb2.RejectChangeRequest(change_id=change.change_id))
    member = member_of(anchor, entity_id)
    assert (kid in member.credential_keys, member.change_pending) == (approved, False)
    code, _ = failure(lambda: anchor.ApproveChange(anchor_pb2.ApproveChangeRequest(change_id=change.change_id)))
    assert code is grpc.StatusCode.NOT_FOUND
    counter.settle()
    assert not anchor.ListPendingChanges(anchor_pb2.ListPendingChangesRequest()).changes


def test_only_members_can_be_decided_on(anchor: anchor_pb2_grpc.AnchorServiceStub) -> None:
    code, _ = failure(lambda: anchor.ResumeMember(anchor_pb2.ResumeMemberRequest(entity_id="https://nobody.example")))
    assert code is grpc.StatusCode.NOT_FOUND
    assert refused_field(lambda: anchor.ResumeMember(anchor_pb2.ResumeMemberRequest(entity_id="x"))) == "entity_id"
