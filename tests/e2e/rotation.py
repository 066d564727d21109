"""A rotation from its plan to the end of the old key, as an administrator carries it out, under load.

The administrator's program may be at any point when the province's process dies: ``Crash`` names the points, and the
process is killed there and started again. Whatever was asked for is then asked for once more under the same request
id, as a program does that got no answer.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, TypeAlias, TypeVar

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from recognition.v1 import federation_pb2, keys_pb2

from gateway.core.charter import add_signature, draft, parse_charter, unsigned
from gateway.core.encoding import b64url_decode, parse_json_object
from gateway.core.identifiers import Province
from gateway.core.jose import SoftwareKey
from gateway.lab.charter import entity_ids
from tests.e2e.lab import ADMINISTRATORS, CALL_SECONDS, RealFederation
from tests.e2e.links import wait_for
from tests.e2e.load import Load, Tally

Purpose: TypeAlias = "keys_pb2.KeyPurpose.ValueType"
CREDENTIAL: Final = keys_pb2.KEY_PURPOSE_CREDENTIAL
STATUS: Final = keys_pb2.KEY_PURPOSE_STATUS
ISSUER_FEDERATION: Final = keys_pb2.KEY_PURPOSE_ISSUER_FEDERATION
GATEWAY_FEDERATION: Final = keys_pb2.KEY_PURPOSE_GATEWAY_FEDERATION
ANCHOR_FEDERATION: Final = keys_pb2.KEY_PURPOSE_ANCHOR_FEDERATION
PURPOSES: Final = (CREDENTIAL, STATUS, ISSUER_FEDERATION, GATEWAY_FEDERATION, ANCHOR_FEDERATION)

LONGEST_WAIT: Final = timedelta(minutes=75)
"""Until a key may sign: the publication window, or for federation keys the life of the statements before it."""
ADMIN_SECONDS: Final = 20.0
"""Of a call, waiting for a process that was just started again included."""
_Answer = TypeVar("_Answer")


_SILENCE_NOTICED: Final = 180.0
"""Seconds: whoever is cut off by a line that swallows everything counts as reachable until its stream is given up."""


class Crash(StrEnum):
    """Where the rotating province's process is killed."""

    NOWHERE = "nowhere"
    PLANNED = "planned"
    APPLYING = "applying"
    """While the call runs: it may have been done, or not, or half."""
    APPLIED = "applied"
    WAITING = "waiting"
    ACTIVATING = "activating"
    ACTIVATED = "activated"
    DRAINING = "draining"
    RETIRING = "retiring"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that was refused as too early, and who keeps it from being carried out."""

    blockers: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """A rotation that is over."""

    old_kid: str
    new_kid: str
    waited: timedelta
    """By the lab's clock, from the plan to the first signature."""


class Administrator:
    """A person of a province with a certificate, calling its KeyService."""

    def __init__(self, federation: RealFederation, province: Province, name: str = ADMINISTRATORS[0]) -> None:
        self.province = province
        self._federation = federation
        self._keys = federation.keys(province, name)

    def list(self, purpose: Purpose, *, past: bool = True) -> dict[str, keys_pb2.Key]:
        request = keys_pb2.ListKeysRequest(purpose=purpose, include_past=past, page_size=1000)
        answer = self._keys.ListKeys(request, timeout=ADMIN_SECONDS, wait_for_ready=True)
        return {key.kid: key for key in answer.keys}

    def state(self, purpose: Purpose, kid: str) -> str:
        key = self.list(purpose).get(kid)
        return "" if key is None else keys_pb2.KeyState.Name(key.state).removeprefix("KEY_STATE_")

    def active(self, purpose: Purpose) -> str:
        """The kid that signs; empty when none does."""
        kids = [kid for kid, key in self.list(purpose).items() if key.state == keys_pb2.KEY_STATE_ACTIVE]
        assert len(kids) <= 1, "two keys of one purpose are active"
        return kids[0] if kids else ""

    def plan(self, purpose: Purpose) -> keys_pb2.Rotation:
        request = keys_pb2.PlanRotationRequest(purpose=purpose)
        return self._keys.PlanRotation(request, timeout=ADMIN_SECONDS, wait_for_ready=True).rotation

    def apply(self, purpose: Purpose, request_id: str) -> keys_pb2.Rotation:
        request = keys_pb2.ApplyRotationRequest(purpose=purpose, request_id=request_id)
        return self._keys.ApplyRotation(request, timeout=ADMIN_SECONDS, wait_for_ready=True).rotation

    def begin_apply(self, purpose: Purpose, request_id: str) -> object:
        """Send the call and do not wait for it."""
        request = keys_pb2.ApplyRotationRequest(purpose=purpose, request_id=request_id)
        return self._keys.ApplyRotation.future(request, timeout=ADMIN_SECONDS)

    def activate(self, kid: str, request_id: str = "", *, validate_only: bool = False) -> Refusal | None:
        """Activate, or try to; gives the refusal when it is too early. Any other error is raised."""
        request = keys_pb2.ActivateKeyRequest(kid=kid, request_id=request_id, validate_only=validate_only)
        try:
            self._keys.ActivateKey(request, timeout=ADMIN_SECONDS, wait_for_ready=True)
        except grpc.RpcError as error:
            return too_early(error)
        return None

    def begin_activate(self, kid: str, request_id: str) -> object:
        request = keys_pb2.ActivateKeyRequest(kid=kid, request_id=request_id)
        return self._keys.ActivateKey.future(request, timeout=ADMIN_SECONDS)

    def undo(self, kid: str, request_id: str) -> None:
        request = keys_pb2.UndoRotationRequest(kid=kid, request_id=request_id)
        self._keys.UndoRotation(request, timeout=ADMIN_SECONDS, wait_for_ready=True)

    def revoke(
        self,
        kid: str,
        request_id: str,
        reason: keys_pb2.RevocationReason.ValueType = keys_pb2.REVOCATION_REASON_COMPROMISED,
        since: datetime | None = None,
    ) -> keys_pb2.RevokeKeyResponse:
        request = keys_pb2.RevokeKeyRequest(kid=kid, reason=reason, request_id=request_id)
        if since is not None:
            request.compromised_since.CopyFrom(Timestamp(seconds=int(since.timestamp())))
        return self._keys.RevokeKey(request, timeout=ADMIN_SECONDS, wait_for_ready=True)

    def holders(self, kid: str) -> Sequence[keys_pb2.Holder]:
        request = keys_pb2.ListAcknowledgementsRequest(kid=kid)
        return self._keys.ListAcknowledgements(request, timeout=ADMIN_SECONDS, wait_for_ready=True).holders

    def all_hold(self, kid: str) -> bool:
        """Whether everybody who can be reached holds a key."""
        reachable = [holder for holder in self.holders(kid) if holder.reachable]
        return bool(reachable) and all(holder.holds for holder in reachable)

    def explain(self, kid: str) -> str:
        return "; ".join(
            f"{holder.entity_id} reachable={holder.reachable} holds={holder.holds} charter={holder.charter_version}"
            for holder in self.holders(kid)
        )


def too_early(error: Exception) -> Refusal:
    """Read why a call was refused in this state; whatever else is wrong is raised."""
    if not isinstance(error, grpc.Call) or error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
        raise error
    status = rpc_status.from_call(error)
    blockers: list[str] = []
    for packed in status.details if status is not None else ():
        failure = error_details_pb2.PreconditionFailure()
        if packed.Unpack(failure):
            blockers += [violation.description for violation in failure.violations]
    return Refusal(blockers)


# -- one rotation -----------------------------------------------------------------------------------------------------


class Rotating:
    """One rotation of one key."""

    def __init__(
        self,
        federation: RealFederation,
        load: Load,
        province: Province,
        purpose: Purpose,
        *,
        crash: Crash = Crash.NOWHERE,
        among: Iterable[Iterable[Province]] | None = None,
    ) -> None:
        """Prepare.

        Args:
            federation: the provinces.
            load: runs all the while.
            province: whose key.
            purpose: which.
            crash: where its process is killed.
            among: groups of provinces that can hear each other, where not all can.
        """
        self._federation = federation
        self._load = load
        self._province = province
        self._purpose = purpose
        self._crash = crash
        self._among = None if among is None else [tuple(group) for group in among]
        self._admin = Administrator(federation, province)
        self._name = f"{province.code}-{purpose}-{crash.value}-{int(federation.now.timestamp())}"
        self.refusals: list[Refusal] = []

    def run(self) -> Rotated:
        """Do all of it."""
        began = self._federation.now
        old, new = self.publish()
        self.wait(new)
        waited = self._federation.now - began
        self.activate(new)
        self.drain(old, new)
        if old:
            self.retire(old)
        return Rotated(old_kid=old, new_kid=new, waited=waited)

    @property
    def is_played(self) -> bool:
        """Whether the province has keys of this purpose at all."""
        return bool(self._admin.list(self._purpose))

    def publish(self) -> tuple[str, str]:
        """Plan and apply; gives the key that signs (empty: none did) and the one that will."""
        plan = self._admin.plan(self._purpose)
        old = plan.current_kid
        assert old == self._admin.active(self._purpose)
        self._maybe(Crash.PLANNED)
        request_id = f"apply-{self._name}"
        rotation = self._repeated(
            Crash.APPLYING,
            lambda: self._admin.begin_apply(self._purpose, request_id),
            lambda: self._admin.apply(self._purpose, request_id),
        )
        new = rotation.next_kid
        assert new
        assert new != old
        self._maybe(Crash.APPLIED)
        again = self._admin.apply(self._purpose, request_id)
        assert again.next_kid == new, "the same request made another key"
        return old, new

    def wait(self, kid: str) -> None:
        """Until the key may sign: everybody holds it, and long enough."""
        if self._purpose == ANCHOR_FEDERATION:
            put_in_force(self._federation, next_charter(self._federation, self._province, add=kid))
        wait_for(
            lambda: self._admin.all_hold(kid),
            within=_SILENCE_NOTICED,
            what=lambda: f"everybody holding {kid[:6]} ({self._admin.explain(kid)})",
        )
        self._maybe(Crash.WAITING)
        refusal = self._admin.activate(kid, validate_only=True)
        if refusal is None:
            return
        self.refusals.append(refusal)
        for _ in self._federation.advancing(LONGEST_WAIT, self._among):
            refusal = self._admin.activate(kid, validate_only=True)
            if refusal is None:
                return
            self.refusals.append(refusal)
        raise AssertionError(f"never ready: {refusal}")

    def activate(self, kid: str) -> None:
        request_id = f"activate-{self._name}"
        self._repeated(
            Crash.ACTIVATING,
            lambda: self._admin.begin_activate(kid, request_id),
            # After a crash nobody's word is known at first, and without it the key must not be activated.
            lambda: wait_for(lambda: self._admin.activate(kid, request_id) is None, what="the activation"),
        )
        self._maybe(Crash.ACTIVATED)
        assert self._admin.active(self._purpose) == kid

    def drain(self, old: str, new: str) -> None:
        """See that the new key is in use, and that what the old one signed still counts."""
        mark = self._load.mark()
        self._maybe(Crash.DRAINING)
        assert not old or self._admin.state(self._purpose, old) in {"DRAINING", "RETIRED"}
        tally = self._load.at_least(2, mark, [self._province])
        if self._purpose == CREDENTIAL:
            wait_for(lambda: self._load.since(mark).signed_by(new).calls, what="a call with a new credential")
        assert len(tally)

    def retire(self, old: str) -> None:
        """Let everything that the old key signed lapse, and see it go out of use."""
        key = self._admin.list(self._purpose)[old]
        if self._purpose == ANCHOR_FEDERATION:
            put_in_force(self._federation, next_charter(self._federation, self._province, drop=old))
        lapses = datetime.fromtimestamp(key.signed_until_time.seconds, UTC)
        self._load.pause()
        try:
            self._federation.jump(max(lapses - self._federation.now, timedelta(0)) + timedelta(minutes=5))
            self._maybe(Crash.RETIRING)
            wait_for(lambda: self._admin.state(self._purpose, old) == "RETIRED", what=f"{old[:6]} being retired")
        finally:
            self._load.resume()

    def _maybe(self, crash: Crash) -> None:
        if crash is self._crash:
            self._federation.crash(self._province)

    def _repeated(self, crash: Crash, begin: Callable[[], object], call: Callable[[], _Answer]) -> _Answer:
        """Call; or begin to call, have the process die in the middle, and call again."""
        if crash is self._crash:
            begun = begin()
            pause = threading.Event()
            pause.wait(0.004)  # long enough to arrive; where in the call it dies is left to chance, on purpose
            self._federation.crash(self._province)
            del begun
        return call()


def wrong(tally: Tally, down: Iterable[Province] = ()) -> str:
    """What must not have happened, in words; empty when all is well.

    Valid credentials are never rejected. Only at a province that was down, or of an issuer that was down, may an answer
    be missing; and none are undecided but those of an issuer that was down for longer than its status lists are good.
    """
    out = frozenset(down)
    amiss = [call for call in tally.wrong if not (call.issuer in out and call.reason == "STATUS_UNAVAILABLE")]
    amiss += [call for call in tally.unanswered if not {call.gateway, call.issuer} & out]
    return tally.explain() if amiss else ""


# -- charters ---------------------------------------------------------------------------------------------------------


def charter_in_force(federation: RealFederation, at: Province) -> str:
    """The charter that a gateway enforces, as signed."""
    request = federation_pb2.GetCharterRequest(version=0)
    return federation.federation(at).GetCharter(request, timeout=CALL_SECONDS, wait_for_ready=True).charter


def next_charter(federation: RealFederation, province: Province, *, add: str = "", drop: str = "") -> str:
    """Draft the next charter, in which one anchor has a key more or a key less, and have three anchors sign it."""
    current = parse_charter(charter_in_force(federation, province)).unverified
    claims: dict[str, Any] = parse_json_object(b64url_decode(json.loads(current.document)["payload"]))
    issued_at = int(federation.now.timestamp())
    claims |= {"version": current.version + 1, "prev_sha256": current.sha256, "iat": issued_at}
    claims["exp"] = issued_at + 180 * 86_400
    for anchor in claims["anchors"]:
        if anchor["entity_id"] != entity_ids(province).anchor:
            continue
        keys = [key for key in anchor["jwks"]["keys"] if key["kid"] != drop]
        if add:
            keys.append(dict(federation.private_key(province, "anchor-federation", add).public.jwk))
        anchor["jwks"]["keys"] = keys
    document = unsigned(draft(claims))
    for signer in _anchor_signers(federation, current.document):
        document = add_signature(document, signer, previous=current)
    return document


def _anchor_signers(federation: RealFederation, document: str) -> Sequence[SoftwareKey]:
    """Every anchor's key that the charter in force lists, as the people of each province would use it."""
    listed = parse_charter(document).unverified
    return [
        federation.private_key(anchor.province, "anchor-federation", kid)
        for anchor in listed.anchors
        for kid in anchor.keys
    ]


def put_in_force(federation: RealFederation, document: str) -> None:
    """Carry the next charter into one province by hand; the others follow by themselves. Wait until all have."""
    version = parse_charter(document).unverified.version
    first = next(province for province in Province if province in federation.running)
    file = federation.folder.path / f"charter-{version}.json"
    file.write_text(document, "utf-8")
    config = federation.folder.config(first)
    install = ["charter", "install", str(file), "--config", str(config), "--lab-clock", str(federation.folder.clock)]
    subprocess.run([sys.executable, "-m", "gateway", *install], check=True, capture_output=True, timeout=ADMIN_SECONDS)
    for province in federation.running:
        wait_for(
            lambda province=province: _version(federation, province) >= version,
            what=f"{province.code} following to charter {version}",
        )


def _version(federation: RealFederation, at: Province) -> int:
    return parse_charter(charter_in_force(federation, at)).unverified.version
