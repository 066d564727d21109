"""Asking a gateway about keys: what several commands ask alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

import grpc
from recognition.v1 import keys_pb2, keys_pb2_grpc

from gateway.cli import connection
from gateway.cli.console import ExitCode, Failure, stderr
from gateway.cli.key_views import Purpose, describe_holder
from gateway.clock import World

MIN_KID: Final = 6
"""Fewer characters of a kid might soon fit another key as well."""
_PAGE: Final = 1_000
_MAX_PAGES: Final = 100


def stub(channel: grpc.Channel) -> Any:
    """Give the service."""
    return keys_pb2_grpc.KeyServiceStub(channel)


def list_keys(connected: connection.Connection, purpose: Purpose | None, *, past: bool) -> list[keys_pb2.Key]:
    """List keys, all pages.

    Raises:
        Failure: the gateway was not reached or refused.
    """
    keys: list[keys_pb2.Key] = []
    request = keys_pb2.ListKeysRequest(include_past=past, page_size=_PAGE)
    if purpose is not None:
        request.purpose = purpose.number
    for _ in range(_MAX_PAGES):
        answer = connected.ask(lambda channel: stub(channel).ListKeys, request)
        keys += answer.keys
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token
    return keys


def find_key(connected: connection.Connection, kid: str) -> keys_pb2.Key:
    """Find the key that a person named, by its kid or the beginning of it.

    Raises:
        Failure: there is none, or several; or the gateway was not reached.
    """
    keys = list_keys(connected, None, past=True)
    found = [key for key in keys if key.kid == kid] or [
        key for key in keys if len(kid) >= MIN_KID and key.kid.startswith(kid)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise Failure("several keys begin like that", fix="write more of the kid; mrg keys list --all shows it whole")
    if len(kid) < MIN_KID:
        raise Failure(
            f"{kid}: too short: give at least {MIN_KID} characters", fix="mrg keys list --all shows the kid whole"
        )
    raise Failure(
        "this province has no such key",
        fix=f"write the kid, or at least its first {MIN_KID} characters, as mrg keys list --all shows it",
    )


def holders_of(connected: connection.Connection, kid: str, now: datetime) -> list[dict[str, Any]]:
    """Ask who holds a key.

    Raises:
        Failure: the gateway was not reached or refused.
    """
    answer = connected.ask(
        lambda channel: stub(channel).ListAcknowledgements, keys_pb2.ListAcknowledgementsRequest(kid=kid)
    )
    return [describe_holder(holder, now) for holder in answer.holders]


def plan_of(connected: connection.Connection, purpose: keys_pb2.KeyPurpose.ValueType) -> keys_pb2.Rotation:
    """Ask what rotating would do.

    Raises:
        Failure: the gateway was not reached or refused.
    """
    request = keys_pb2.PlanRotationRequest(purpose=purpose)
    answer: keys_pb2.PlanRotationResponse = connected.ask(lambda channel: stub(channel).PlanRotation, request)
    return answer.rotation


@contextmanager
def request_id(given: str | None, world: World, *, as_json: bool) -> Iterator[str]:
    """Give the name under which a change is asked for, and tell it to whoever may have to ask again.

    Raises:
        Failure: of the call inside; where nobody knows whether the change was made, it says how to ask again.
    """
    name = given or world.random_bytes(8).hex()
    if not as_json:
        stderr().line(f"Request: {name}")
    try:
        yield name
    except Failure as failure:
        if failure.code is not ExitCode.NOT_ASKED:
            raise
        raise Failure(
            failure.message,
            fix=f"{failure.fix}; then run it again with --request-id {name}: nothing is done twice",
            code=failure.code,
            details={**failure.details, "request_id": name},
        ) from failure
