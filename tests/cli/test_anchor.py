"""mrg anchor against a gateway over real mutual TLS: what is asked, shown and refused."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.rpc import code_pb2
from recognition.v1 import anchor_pb2

from gateway import wire
from tests.cli.ceremony import Ended, mrg
from tests.cli.stand_in import StandIn, refusing, serving, wrong_state

START = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)
ISSUER = "https://issuer.sh.test"
CHANGE = "-changed" + "A" * 35
THUMBPRINT = "B" * 42 + "A"


@pytest.fixture(scope="module")
def server(drafted: Path) -> Iterator[tuple[StandIn, int]]:
    stand_in = StandIn()
    with serving(stand_in, drafted / "ah" / "tls") as port:
        yield stand_in, port


class Anchor:
    """The stand-in, and how an operator reaches it."""

    def __init__(self, stand_in: StandIn, reach: list[str]) -> None:
        self.stand_in = stand_in
        self.reach = reach

    def run(self, *arguments: str, typed: str | None = None) -> Ended:
        return mrg("anchor", *arguments, *self.reach, typed=typed)

    def request(self, rpc: str) -> Any:
        (request,) = self.stand_in.requests(rpc)
        return request


@pytest.fixture
def anchor(server: tuple[StandIn, int], drafted: Path) -> Anchor:
    stand_in, port = server
    stand_in.asked.clear()
    stand_in.answers.clear()
    stand_in.answer("ListPendingChanges", anchor_pb2.ListPendingChangesResponse(changes=[change()]))
    profile = drafted / "ah" / "clients" / "admin-2.toml"
    return Anchor(stand_in, ["--as", str(profile), "--address", f"127.0.0.1:{port}"])


def member(
    state: anchor_pb2.MemberState.ValueType = anchor_pb2.MEMBER_STATE_VOUCHED, **said: Any
) -> anchor_pb2.AnchorMember:
    members = {"entity_id": ISSUER, "province": "sh", "entity_types": ["identity_credential_issuer"], "state": state}
    return anchor_pb2.AnchorMember(**{**members, "federation_keys": [THUMBPRINT], **said})


def change(change_id: str = CHANGE) -> anchor_pb2.PendingChange:
    return anchor_pb2.PendingChange(
        change_id=change_id,
        entity_id=ISSUER,
        province="sh",
        added_credential_keys=[THUMBPRINT],
        create_time=wire.timestamp(START),
    )


# -- looking ----------------------------------------------------------------------------------------------------------


def test_members_are_shown_with_what_is_said_of_them(anchor: Anchor) -> None:
    suspended = member(
        anchor_pb2.MEMBER_STATE_SUSPENDED,
        suspend_until_time=wire.timestamp(START),
        reason="audit",
        change_pending=True,
    )
    anchor.stand_in.answer(
        "ListMembers",
        anchor_pb2.ListMembersResponse(members=[member()], next_page_token="more"),
        anchor_pb2.ListMembersResponse(members=[suspended]),
        anchor_pb2.ListMembersResponse(members=[suspended]),
    )
    members = anchor.run("members", "--json").document["members"]
    assert [(each["state"], each["suspended_until"], each["reason"], each["change_pending"]) for each in members] == [
        ("vouched", None, None, False),
        ("suspended", "2026-11-23T01:00:00Z", "audit", True),
    ]
    assert set(members[0]) == set(members[1])
    assert "new keys wait for approval" in anchor.run("members", "--lang", "en").out


def test_pending_changes_are_shown_with_the_thumbprints_to_compare(anchor: Anchor) -> None:
    changes = anchor.run("pending", "--json").document["changes"]
    assert [(each["change_id"], each["added_federation_keys"], each["added_credential_keys"]) for each in changes] == [
        (CHANGE, [], [THUMBPRINT])
    ]
    shown = anchor.run("pending", "--lang", "en").out
    assert CHANGE in shown
    assert "BBBB BBBB" in shown
    anchor.stand_in.answer("ListPendingChanges", anchor_pb2.ListPendingChangesResponse())
    assert "Nothing waits" in anchor.run("pending", "--lang", "en").out


# -- new keys ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "done", "rpc", "response"),
    [
        ("approve", "approved", "ApproveChange", anchor_pb2.ApproveChangeResponse(member=member())),
        ("reject", "rejected", "RejectChange", anchor_pb2.RejectChangeResponse(member=member())),
    ],
)
@pytest.mark.parametrize("name", [CHANGE, CHANGE[:6]])
def test_a_change_is_decided_on_after_a_yes(
    anchor: Anchor, command: str, done: str, rpc: str, response: Any, name: str
) -> None:
    anchor.stand_in.answer(rpc, response)
    assert anchor.run(command, name).code == 2
    shown = anchor.run(command, name, typed="n\n")
    assert shown.code == 1
    assert "BBBB BBBB" in shown.err
    assert anchor.stand_in.requests(rpc) == []
    ended = anchor.run(command, name, "--yes", "--json")
    assert (ended.code, ended.document["done"]) == (0, done)
    assert (anchor.request(rpc).change_id, anchor.request(rpc).validate_only) == (CHANGE, False)
    assert anchor.run(command, name, typed="y\n").code == 0


@pytest.mark.parametrize("name", ["other", CHANGE[:5]])
def test_a_change_that_does_not_wait_is_not_guessed_at(anchor: Anchor, name: str) -> None:
    assert anchor.run("approve", name, "--yes").code == 2


def test_changes_that_begin_alike_are_not_guessed_at(anchor: Anchor) -> None:
    alike = [change("abcdefg1"), change("abcdefg2")]
    anchor.stand_in.answer("ListPendingChanges", anchor_pb2.ListPendingChangesResponse(changes=alike))
    assert anchor.run("approve", "abcdefg", "--yes").code == 2


# -- members ----------------------------------------------------------------------------------------------------------


def test_a_member_is_enrolled_under_its_thumbprint(anchor: Anchor) -> None:
    anchor.stand_in.answer("EnrolMember", anchor_pb2.EnrolMemberResponse(member=member()))
    assert anchor.run("enroll", ISSUER, "--key", THUMBPRINT, "--json").document["done"] == "enrolled"
    asked = anchor.request("EnrolMember")
    assert (asked.entity_id, asked.federation_key, asked.replace) == (ISSUER, THUMBPRINT, False)
    assert anchor.run("enroll", ISSUER, "--key", "abc").code == 2


def test_replacing_a_members_key_takes_a_yes(anchor: Anchor) -> None:
    anchor.stand_in.answer("EnrolMember", anchor_pb2.EnrolMemberResponse(member=member()))
    again = ["enroll", ISSUER, "--key", THUMBPRINT, "--replace"]
    assert anchor.run(*again).code == 2
    assert anchor.run(*again, typed="n\n").code == 1
    assert anchor.stand_in.requests("EnrolMember") == []
    assert anchor.run(*again, typed="y\n").code == 0
    assert anchor.request("EnrolMember").replace is True


def test_an_enrolled_member_is_not_enrolled_again(anchor: Anchor) -> None:
    anchor.stand_in.answer("EnrolMember", wrong_state("it is enrolled"))
    ended = anchor.run("enroll", ISSUER, "--key", THUMBPRINT, "--json")
    assert (ended.code, ended.error["reason"]) == (1, "WRONG_STATE")


@pytest.mark.parametrize(
    ("option", "until"),
    [
        (("--until", "2027-01-01T00:00:00+00:00"), datetime(2027, 1, 1, tzinfo=UTC)),
        (("--for", "7d"), None),
    ],
)
def test_a_member_is_suspended_until_a_time_or_for_a_while(
    anchor: Anchor, option: tuple[str, str], until: datetime | None
) -> None:
    anchor.stand_in.answer(
        "SuspendMember", anchor_pb2.SuspendMemberResponse(member=member(anchor_pb2.MEMBER_STATE_SUSPENDED))
    )
    ended = anchor.run("suspend", ISSUER, "--reason", "audit", *option, "--json")
    assert (ended.code, ended.document["member"]["state"]) == (0, "suspended")
    asked = anchor.request("SuspendMember")
    assert (asked.entity_id, asked.reason) == (ISSUER, "audit")
    given = asked.until_time.ToDatetime(tzinfo=UTC)
    assert given == until or (until is None and given > START - timedelta(days=3650))


@pytest.mark.parametrize("options", [(), ("--for", "7d", "--until", "2027-01-01T00:00:00Z"), ("--for", "7")])
def test_a_suspension_says_once_how_long(anchor: Anchor, options: tuple[str, ...]) -> None:
    assert anchor.run("suspend", ISSUER, "--reason", "audit", *options).code == 2
    assert anchor.stand_in.asked == []


def test_a_suspension_is_ended(anchor: Anchor) -> None:
    anchor.stand_in.answer("ResumeMember", anchor_pb2.ResumeMemberResponse(member=member()))
    assert anchor.run("resume", ISSUER, "--json").document["done"] == "resumed"
    assert anchor.request("ResumeMember").entity_id == ISSUER


def test_a_member_is_revoked_after_a_yes(anchor: Anchor) -> None:
    anchor.stand_in.answer(
        "RevokeMember", anchor_pb2.RevokeMemberResponse(member=member(anchor_pb2.MEMBER_STATE_REVOKED))
    )
    for_good = ["revoke", ISSUER, "--reason", "closed"]
    assert anchor.run(*for_good).code == 2
    assert anchor.run(*for_good, typed="\n").code == 1
    assert anchor.stand_in.requests("RevokeMember") == []
    assert anchor.run(*for_good, "--check", "--json").document["done"] is None
    assert anchor.run(*for_good, "--yes", "--json").document["member"]["state"] == "revoked"
    assert [request.validate_only for request in anchor.stand_in.requests("RevokeMember")] == [True, False]


def test_somebody_without_the_role_is_4(anchor: Anchor) -> None:
    anchor.stand_in.answer("ListMembers", refusing(code_pb2.PERMISSION_DENIED, "NOT_PERMITTED", "no"))
    ended = anchor.run("members", "--json")
    assert (ended.code, ended.error["reason"]) == (4, "NOT_PERMITTED")


def test_what_the_gateway_finds_malformed_is_2(anchor: Anchor) -> None:
    anchor.stand_in.answer("SuspendMember", refusing(code_pb2.INVALID_ARGUMENT, "INVALID_REQUEST", "until_time"))
    ended = anchor.run("suspend", ISSUER, "--for", "40d", "--reason", "audit", "--json")
    assert (ended.code, ended.error["reason"]) == (2, "INVALID_REQUEST")
    assert "--for" in ended.error["message"]
    assert "until_time" not in ended.error["message"]
    assert "30 days" in ended.error["fix"]


def test_what_is_not_suspended_is_not_resumed(anchor: Anchor) -> None:
    anchor.stand_in.answer("ResumeMember", wrong_state("the member is not suspended"))
    ended = anchor.run("resume", ISSUER, "--json")
    assert ended.code == 1
    assert "mrg anchor members" in ended.error["fix"]


def test_relative_times_speak_chinese(anchor: Anchor) -> None:
    lives = member(statement_expire_time=wire.timestamp(START + timedelta(days=36_500)))
    anchor.stand_in.answer("ListMembers", anchor_pb2.ListMembersResponse(members=[lives]))
    assert "天后" in anchor.run("members", "--lang", "zh").out
    assert "天后" not in anchor.run("members", "--lang", "en").out
