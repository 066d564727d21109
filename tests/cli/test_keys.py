"""mrg keys against a gateway over real mutual TLS: what is asked, shown, refused and written down.

The gateway is a stand-in that gives the answers it is told to; what a real one answers, the end-to-end tests show.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import duration_pb2
from google.rpc import code_pb2
from recognition.v1 import keys_pb2

from gateway import wire
from gateway.cli.console import instant
from gateway.config import PairwiseOptions
from gateway.config.reader import load_config
from gateway.core.key_schedule import KeyPurpose
from gateway.keystore import SecretName
from gateway.keystore.file import secret_file
from gateway.storage import KeyEvent
from gateway.storage.sqlite import SqliteStore
from tests.cli.ceremony import Ceremony, Ended, done, failed, mrg
from tests.cli.stand_in import StandIn, refusing, serving, wrong_state

START = datetime.fromisoformat("2026-11-23T01:00:00+00:00")
OLD, NEW, LOST = ("-old" + "A" * 39, "new" + "B" * 40, "old" + "C" * 40)
SH, JS = "https://gateway.sh.test", "https://gateway.js.test"


@pytest.fixture(scope="module")
def server(drafted: Path) -> Iterator[tuple[StandIn, int]]:
    stand_in = StandIn()
    with serving(stand_in, drafted / "ah" / "tls") as port:
        yield stand_in, port


class Gateway:
    """The stand-in, and how an administrator reaches it."""

    def __init__(self, stand_in: StandIn, reach: list[str]) -> None:
        self.stand_in = stand_in
        self.reach = reach

    def keys(self, *arguments: str | Path, typed: str | None = None) -> Ended:
        return mrg("keys", *arguments, *self.reach, typed=typed)

    def request(self, rpc: str) -> Any:
        (request,) = self.stand_in.requests(rpc)
        return request


@pytest.fixture
def gateway(server: tuple[StandIn, int], drafted: Path) -> Gateway:
    stand_in, port = server
    stand_in.asked.clear()
    stand_in.answers.clear()
    stand_in.answer("ListKeys", keys_pb2.ListKeysResponse(keys=[key(NEW, keys_pb2.KEY_STATE_PUBLISHED), key(OLD)]))
    stand_in.answer("PlanRotation", keys_pb2.PlanRotationResponse(rotation=rotation()))
    stand_in.answer("ListAcknowledgements", keys_pb2.ListAcknowledgementsResponse(holders=[holder(SH)]))
    profile = drafted / "ah" / "clients" / "admin-1.toml"
    return Gateway(stand_in, ["--as", str(profile), "--address", f"127.0.0.1:{port}"])


def key(kid: str, state: keys_pb2.KeyState.ValueType = keys_pb2.KEY_STATE_ACTIVE) -> keys_pb2.Key:
    return keys_pb2.Key(
        kid=kid,
        purpose=keys_pb2.KEY_PURPOSE_CREDENTIAL,
        state=state,
        algorithm="ES256",
        stage_time=wire.timestamp(START),
        activate_time=wire.timestamp(START) if state == keys_pb2.KEY_STATE_ACTIVE else None,
        used=state == keys_pb2.KEY_STATE_ACTIVE,
        store="file",
    )


def holder(entity_id: str, **said: Any) -> keys_pb2.Holder:
    members = {
        "province": entity_id.split(".")[1],
        "reachable": True,
        "holds": True,
        "acknowledge_time": wire.timestamp(START),
        "clock_offset": duration_pb2.Duration(seconds=-1),
        "charter_version": 1,
        **said,
    }
    return keys_pb2.Holder(entity_id=entity_id, **members)


def rotation(
    *holders: keys_pb2.Holder, next_kid: str = NEW, waited: bool = True, etag: str = "e-1"
) -> keys_pb2.Rotation:
    steps = (
        (keys_pb2.ROTATION_STEP_KIND_STAGE, True),
        (keys_pb2.ROTATION_STEP_KIND_PUBLISH, True),
        (keys_pb2.ROTATION_STEP_KIND_WAIT, waited),
        (keys_pb2.ROTATION_STEP_KIND_ACTIVATE, False),
    )
    return keys_pb2.Rotation(
        purpose=keys_pb2.KEY_PURPOSE_CREDENTIAL,
        current_kid=OLD,
        next_kid=next_kid,
        # In the far future: what is waited for has not come, whatever the machine's clock says.
        steps=[
            keys_pb2.RotationStep(
                kind=kind, done=is_done, time=wire.timestamp(START + timedelta(days=0 if is_done else 36_500))
            )
            for kind, is_done in steps
        ],
        signed_until_time=wire.timestamp(START + timedelta(days=400)),
        holders=holders or [holder(SH)],
        etag=etag,
    )


# -- looking ----------------------------------------------------------------------------------------------------------


def test_keys_are_listed_with_purpose_and_state(gateway: Gateway) -> None:
    document = gateway.keys("list", "--json").document
    assert [(each["kid"], each["purpose"], each["state"], each["used"]) for each in document["keys"]] == [
        (NEW, "credential", "published", False),
        (OLD, "credential", "active", True),
    ]
    assert document["keys"][1]["activated_at"] == "2026-11-23T01:00:00Z"
    assert document["keys"][0]["activated_at"] is None
    assert set(document["keys"][0]) == set(document["keys"][1])
    request = gateway.request("ListKeys")
    assert (request.purpose, request.include_past) == (keys_pb2.KEY_PURPOSE_UNSPECIFIED, False)
    shown = gateway.keys("list")
    assert NEW in shown.out
    assert OLD in shown.out


def test_every_page_is_asked_for(gateway: Gateway) -> None:
    gateway.stand_in.answer(
        "ListKeys",
        keys_pb2.ListKeysResponse(keys=[key(NEW)], next_page_token="more"),
        keys_pb2.ListKeysResponse(keys=[key(LOST)]),
    )
    document = gateway.keys("list", "--all", "--purpose", "anchor-federation", "--json").document
    assert [each["kid"] for each in document["keys"]] == [NEW, LOST]
    assert [request.page_token for request in gateway.stand_in.requests("ListKeys")] == ["", "more"]
    first = gateway.stand_in.requests("ListKeys")[0]
    assert (first.purpose, first.include_past) == (keys_pb2.KEY_PURPOSE_ANCHOR_FEDERATION, True)


def test_a_state_this_program_does_not_know_is_shown_as_a_number(gateway: Gateway) -> None:
    unknown = key(NEW)
    unknown.MergeFromString(b"\x18\x63")  # state: 99
    gateway.stand_in.answer("ListKeys", keys_pb2.ListKeysResponse(keys=[unknown]))
    assert gateway.keys("list", "--json").document["keys"][0]["state"] == "99"


def test_status_is_0_when_nobody_is_waited_for(gateway: Gateway) -> None:
    ended = gateway.keys("status", "--json")
    assert (ended.code, ended.document["ready"]) == (0, True)
    held = {each["kid"]: each["holders"] for each in ended.document["keys"]}
    assert [each["entity_id"] for each in held[NEW]] == [SH]
    assert held[NEW][0]["clock_offset_seconds"] == -1
    assert held[NEW][0]["acknowledged_at"] == "2026-11-23T01:00:00Z"
    assert {request.purpose for request in gateway.stand_in.requests("PlanRotation")} == {
        keys_pb2.KEY_PURPOSE_CREDENTIAL
    }


@pytest.mark.parametrize(
    "waiting",
    [
        rotation(holder(SH), holder(JS, holds=False, blocks=True), waited=False),
        rotation(holder(SH), waited=False),
    ],
    ids=["a peer", "the publication window"],
)
def test_status_is_3_while_somebody_is_waited_for(gateway: Gateway, waiting: keys_pb2.Rotation) -> None:
    gateway.stand_in.answer("PlanRotation", keys_pb2.PlanRotationResponse(rotation=waiting))
    ended = gateway.keys("status", "--json")
    assert (ended.code, ended.document["ready"]) == (3, False)
    assert [each["waits"] for each in ended.document["keys"]] == [True, False]
    assert gateway.keys("status").code == 3


def test_status_names_who_is_waited_for(gateway: Gateway) -> None:
    never = keys_pb2.Holder(entity_id=JS, province="js", blocks=True)
    gateway.stand_in.answer("PlanRotation", keys_pb2.PlanRotationResponse(rotation=rotation(holder(SH), never)))
    shown = gateway.keys("status", "--lang", "en").out
    assert "1 of 2" in shown
    assert "never" in shown
    assert JS in shown


def test_watching_ends_when_nobody_is_waited_for_any_more(gateway: Gateway) -> None:
    blocked = keys_pb2.PlanRotationResponse(rotation=rotation(holder(JS, blocks=True)))
    ready = keys_pb2.PlanRotationResponse(rotation=rotation())
    for arguments, typed in ((["--json"], None), ([], None), ([], "")):
        gateway.stand_in.asked.clear()
        gateway.stand_in.answer("PlanRotation", blocked, blocked, ready)
        assert gateway.keys("status", "--watch", "--interval", "0.2", *arguments, typed=typed).code == 0
        assert len(gateway.stand_in.requests("PlanRotation")) == 3


def test_a_gateway_that_is_down_is_4(gateway: Gateway) -> None:
    ended = mrg("keys", "list", *gateway.reach[:3], "127.0.0.1:1", "--json")
    assert (ended.code, ended.error["status"]) == (4, "UNAVAILABLE")


def test_somebody_who_is_no_administrator_is_told_where_to_be_registered(gateway: Gateway) -> None:
    gateway.stand_in.answer("ListKeys", refusing(code_pb2.PERMISSION_DENIED, "NOT_PERMITTED", "no"))
    ended = gateway.keys("list", "--json")
    assert ended.code == 4
    assert "[[administrators]]" in ended.error["fix"]


# -- rotating ---------------------------------------------------------------------------------------------------------


def test_rotate_alone_shows_the_plan_and_changes_nothing(gateway: Gateway) -> None:
    ended = gateway.keys("rotate", "credential", "--json")
    assert ended.code == 0
    assert ended.document["applied"] is False
    plan = ended.document["rotation"]
    assert (plan["current_kid"], plan["next_kid"], plan["etag"]) == (OLD, NEW, "e-1")
    assert [(step["step"], step["done"]) for step in plan["steps"]] == [
        ("stage", True),
        ("publish", True),
        ("wait", True),
        ("activate", False),
    ]
    assert [name for name, _ in gateway.stand_in.asked] == ["PlanRotation"]
    shown = gateway.keys("rotate", "credential", "--lang", "en").out
    for expected in ("wait", "Too early", f"mrg keys activate {NEW}", SH):
        assert expected in shown
    gateway.stand_in.answer("PlanRotation", keys_pb2.PlanRotationResponse(rotation=rotation(next_kid="")))
    assert "mrg keys rotate credential --apply" in gateway.keys("rotate", "credential").out


def test_the_plan_speaks_both_languages(gateway: Gateway) -> None:
    assert "过早启用" in gateway.keys("rotate", "credential", "--lang", "zh").out
    assert "过早启用" not in gateway.keys("rotate", "credential", "--lang", "en").out


def nothing_waits(gateway: Gateway) -> None:
    gateway.stand_in.answer("PlanRotation", keys_pb2.PlanRotationResponse(rotation=rotation(next_kid="")))


def test_apply_asks_for_the_plan_that_was_shown_under_a_new_name(gateway: Gateway) -> None:
    nothing_waits(gateway)
    gateway.stand_in.answer("ApplyRotation", keys_pb2.ApplyRotationResponse(rotation=rotation(etag="e-2")))
    document = gateway.keys("rotate", "credential", "--apply", "--yes", "--json").document
    asked = gateway.request("ApplyRotation")
    assert (document["applied"], document["waiting_kid"], document["request_id"]) == (True, NEW, asked.request_id)
    assert (asked.purpose, asked.etag, asked.validate_only) == (keys_pb2.KEY_PURPOSE_CREDENTIAL, "e-1", False)
    again = gateway.keys("rotate", "credential", "--apply", "--yes", "--json").document
    assert again["request_id"] != document["request_id"]


@pytest.mark.parametrize("arguments", [["--yes"], []])
def test_apply_does_nothing_where_the_next_key_waits_already(gateway: Gateway, arguments: list[str]) -> None:
    ended = gateway.keys("rotate", "credential", "--apply", *arguments, "--json")
    assert ended.code == 0
    document = ended.document
    assert (document["applied"], document["waiting_kid"], document["request_id"]) == (False, NEW, None)
    shown = gateway.keys("rotate", "credential", "--apply", *arguments, "--lang", "en")
    assert (shown.code, "Nothing had to be done" in shown.out) == (0, True)
    assert gateway.stand_in.requests("ApplyRotation") == []


def test_after_an_anchors_next_key_comes_the_charter_that_lists_it(gateway: Gateway) -> None:
    staged = rotation()
    staged.purpose = keys_pb2.KEY_PURPOSE_ANCHOR_FEDERATION
    staged.steps[1].done = False
    nothing_waits(gateway)
    gateway.stand_in.answer("ApplyRotation", keys_pb2.ApplyRotationResponse(rotation=staged))
    shown = gateway.keys("rotate", "anchor-federation", "--apply", "--yes").out
    assert f"mrg charter key --config gateway.toml --kid {NEW}" in shown
    assert "--add-anchor-key" in shown
    assert "mrg keys activate" not in shown
    staged.steps[1].done = True
    gateway.stand_in.answer("PlanRotation", keys_pb2.PlanRotationResponse(rotation=staged))
    shown = gateway.keys("rotate", "anchor-federation").out
    assert f"mrg keys activate {NEW}" in shown
    assert "--add-anchor-key" not in shown


def test_apply_can_be_asked_for_again_under_the_same_name(gateway: Gateway) -> None:
    nothing_waits(gateway)
    gateway.stand_in.answer("ApplyRotation", refusing(code_pb2.UNAVAILABLE, "UNAVAILABLE", "no disk"))
    ended = gateway.keys("rotate", "credential", "--apply", "--yes", "--json")
    assert ended.code == 4
    name = ended.error["request_id"]
    assert f"--request-id {name}" in ended.error["fix"]
    gateway.stand_in.answer("ApplyRotation", keys_pb2.ApplyRotationResponse(rotation=rotation()))
    assert gateway.keys("rotate", "credential", "--apply", "--yes", "--request-id", name).code == 0
    assert {request.request_id for request in gateway.stand_in.requests("ApplyRotation")} == {name}


def test_a_plan_that_changed_meanwhile_is_1(gateway: Gateway) -> None:
    nothing_waits(gateway)
    gateway.stand_in.answer("ApplyRotation", refusing(code_pb2.ABORTED, "CONFLICT", "the plan has changed"))
    ended = gateway.keys("rotate", "credential", "--apply", "--yes", "--json")
    assert (ended.code, ended.error["reason"]) == (1, "CONFLICT")


def test_nothing_is_applied_without_a_yes(gateway: Gateway) -> None:
    nothing_waits(gateway)
    assert gateway.keys("rotate", "credential", "--apply", typed="n\n").code == 1
    assert gateway.keys("rotate", "credential", "--apply").code == 2
    assert gateway.stand_in.requests("ApplyRotation") == []
    gateway.stand_in.answer("ApplyRotation", keys_pb2.ApplyRotationResponse(rotation=rotation()))
    assert gateway.keys("rotate", "credential", "--apply", typed="y\n").code == 0


# -- activating and taking back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [NEW, NEW[:6]])
def test_a_key_is_activated_by_its_kid_or_the_beginning_of_it(gateway: Gateway, name: str) -> None:
    gateway.stand_in.answer("ActivateKey", keys_pb2.ActivateKeyResponse(rotation=rotation()))
    document = gateway.keys("activate", name, "--yes", "--json").document
    assert (document["kid"], document["activated"], document["awaiting_approval"]) == (NEW, True, False)
    asked = gateway.request("ActivateKey")
    assert (asked.kid, asked.override, asked.justification, asked.validate_only) == (NEW, False, "", False)


def test_a_kid_may_begin_with_a_dash(gateway: Gateway) -> None:
    gateway.stand_in.answer("ActivateKey", keys_pb2.ActivateKeyResponse(rotation=rotation()))
    assert gateway.keys("activate", OLD, "--yes", "--json").document["kid"] == OLD


@pytest.mark.parametrize("name", ["other", NEW[:5], "x" * 43])
def test_a_key_that_is_not_there_is_not_guessed_at(gateway: Gateway, name: str) -> None:
    ended = gateway.keys("activate", name)
    assert ended.code == 2
    assert ("too short: give at least 6 characters" in ended.err) == (len(name) < 6)
    assert gateway.stand_in.requests("ActivateKey") == []


def test_two_keys_that_begin_alike_are_not_guessed_at(gateway: Gateway) -> None:
    gateway.stand_in.answer("ListKeys", keys_pb2.ListKeysResponse(keys=[key("abcdefg1"), key("abcdefg2")]))
    assert gateway.keys("activate", "abcdefg").code == 2


def test_a_refused_activation_is_1_and_says_who_how_old_and_what_to_do(gateway: Gateway) -> None:
    gateway.stand_in.answer("ActivateKey", wrong_state("too early", f"{JS} does not hold it, last heard 12 min ago"))
    blocking = holder(JS, holds=False, reachable=False, blocks=True)
    held = keys_pb2.PlanRotationResponse(rotation=rotation(holder(SH), blocking))
    gateway.stand_in.answer("PlanRotation", held)
    ended = gateway.keys("activate", NEW, "--yes", "--json")
    assert (ended.code, ended.error["reason"]) == (1, "WRONG_STATE")
    assert ended.error["blockers"] == [f"{JS} does not hold it, last heard 12 min ago"]
    assert [(each["entity_id"], each["acknowledged_at"]) for each in ended.error["holders"]] == [
        (JS, "2026-11-23T01:00:00Z")
    ]
    assert ended.error["holders"][0]["advice"]
    assert "--override" in ended.error["fix"]
    shown = gateway.keys("activate", NEW, "--yes").err
    assert "12 min ago" in shown
    assert shown.count(JS) >= 3


def test_a_refused_activation_shows_the_parties_that_status_shows(gateway: Gateway) -> None:
    gateway.stand_in.answer("ActivateKey", wrong_state("too early", "the window is open"))
    parties = [f"https://gateway.{code}.test" for code in ("sh", "js", "zj", "ah")]
    plan = keys_pb2.PlanRotationResponse(rotation=rotation(*map(holder, parties), waited=False))
    gateway.stand_in.answer("PlanRotation", plan)
    held = {each["kid"]: each["holders"] for each in gateway.keys("status", "--json").document["keys"]}
    assert [each["entity_id"] for each in held[NEW]] == parties
    assert all(party in gateway.keys("activate", NEW, "--yes").err for party in parties)
    # Of a key that is not the next one everybody's word is asked for.
    gateway.stand_in.answer("ListKeys", keys_pb2.ListKeysResponse(keys=[key(LOST, keys_pb2.KEY_STATE_STAGED)]))
    assert SH in gateway.keys("activate", LOST, "--yes").err


def test_a_key_is_activated_after_a_yes(gateway: Gateway) -> None:
    gateway.stand_in.answer("ActivateKey", keys_pb2.ActivateKeyResponse(rotation=rotation()))
    assert gateway.keys("activate", NEW).code == 2
    assert gateway.keys("activate", NEW, "--json").code == 2
    assert gateway.keys("activate", NEW, typed="n\n").code == 1
    assert gateway.stand_in.requests("ActivateKey") == []
    assert gateway.keys("activate", NEW, typed="y\n").code == 0


def test_where_only_the_window_is_open_it_says_until_when(gateway: Gateway) -> None:
    blocker = "the publication window is open for 11 min yet, until 2026-11-23T05:05:45Z"
    gateway.stand_in.answer("ActivateKey", wrong_state("not everybody who has to holds the key yet", blocker))
    gateway.stand_in.answer("PlanRotation", keys_pb2.PlanRotationResponse(rotation=rotation(waited=False)))
    error = gateway.keys("activate", NEW, "--yes", "--json").error
    assert "wait until 2126-" in error["fix"]
    assert "override" not in error["fix"]


@pytest.mark.parametrize("state", [keys_pb2.KEY_STATE_ACTIVE, keys_pb2.KEY_STATE_REVOKED])
def test_a_key_that_can_never_be_activated_is_not_waited_for(
    gateway: Gateway, state: keys_pb2.KeyState.ValueType
) -> None:
    gateway.stand_in.answer("ListKeys", keys_pb2.ListKeysResponse(keys=[key(OLD, state)]))
    gateway.stand_in.answer("ActivateKey", wrong_state("the key is not published"))
    ended = gateway.keys("activate", OLD, "--yes", "--json")
    assert ended.code == 1
    assert not {"wait", "--override"} & set(ended.error["fix"].split())


def test_somebody_with_a_services_profile_is_told_which_one_to_take(gateway: Gateway) -> None:
    gateway.stand_in.answer("ListKeys", lambda context: context.abort(grpc.StatusCode.UNIMPLEMENTED, "no"))
    assert "clients/admin-1.toml" in gateway.keys("list", "--json").error["fix"]


def test_what_the_gateway_finds_malformed_is_2(gateway: Gateway) -> None:
    gateway.stand_in.answer("ActivateKey", refusing(code_pb2.INVALID_ARGUMENT, "INVALID_REQUEST", "justification"))
    ended = gateway.keys("activate", NEW, "--yes", "--json")
    assert (ended.code, ended.error["reason"]) == (2, "INVALID_REQUEST")


def test_relative_times_and_next_steps_speak_chinese(gateway: Gateway) -> None:
    signed = key(OLD)
    signed.signed_until_time.CopyFrom(wire.timestamp(START + timedelta(days=36_500)))
    gateway.stand_in.answer(
        "ListKeys", keys_pb2.ListKeysResponse(keys=[signed, key(NEW, keys_pb2.KEY_STATE_PUBLISHED)])
    )
    never = keys_pb2.Holder(entity_id=JS, province="js", blocks=True)
    gateway.stand_in.answer("PlanRotation", keys_pb2.PlanRotationResponse(rotation=rotation(never)))
    gateway.stand_in.answer("ActivateKey", keys_pb2.ActivateKeyResponse(rotation=rotation(), awaiting_approval=True))
    wish = ["activate", NEW, "--override", "--justification", "x", "--yes"]
    for arguments in (["list"], ["status"], ["rotate", "credential"], wish):
        shown = gateway.keys(*arguments, "--lang", "zh").out
        assert re.search(r"\b(in \d|ago|days?|never|not before|then|within|of \d)\b", shown) is None, shown
    assert "天后" in gateway.keys("list", "--lang", "zh").out
    assert "in 36" in gateway.keys("list", "--lang", "en").out


def test_an_override_needs_its_reason_and_is_recorded_for_a_second_administrator(gateway: Gateway) -> None:
    assert gateway.keys("activate", NEW, "--override").code == 2
    assert gateway.keys("activate", NEW, "--justification", "js is down for days").code == 2
    gateway.stand_in.answer("ActivateKey", keys_pb2.ActivateKeyResponse(rotation=rotation(), awaiting_approval=True))
    wish = ["activate", NEW, "--override", "--justification", "js is down for days"]
    assert gateway.keys(*wish).code == 2
    assert gateway.keys(*wish, typed="n\n").code == 1
    assert gateway.stand_in.requests("ActivateKey") == []
    ended = gateway.keys(*wish, "--yes", "--json")
    assert ended.code == 3
    assert (ended.document["activated"], ended.document["awaiting_approval"]) == (False, True)
    asked = gateway.request("ActivateKey")
    assert (asked.override, asked.justification) == (True, "js is down for days")
    assert "ANOTHER_ADMIN" in gateway.keys(*wish, typed="y\n").out


def test_checking_an_activation_changes_nothing(gateway: Gateway) -> None:
    gateway.stand_in.answer("ActivateKey", keys_pb2.ActivateKeyResponse(rotation=rotation()))
    assert gateway.keys("activate", NEW, "--check", "--json").document["activated"] is False
    assert gateway.request("ActivateKey").validate_only is True


def test_a_key_is_taken_back_after_a_yes(gateway: Gateway) -> None:
    gateway.stand_in.answer("UndoRotation", keys_pb2.UndoRotationResponse(rotation=rotation(next_kid="")))
    assert gateway.keys("undo", NEW).code == 2
    assert gateway.keys("undo", NEW, typed="\n").code == 1
    assert gateway.stand_in.requests("UndoRotation") == []
    document = gateway.keys("undo", NEW, "--yes", "--json").document
    assert (document["kid"], document["undone"], document["rotation"]["next_kid"]) == (NEW, True, None)
    assert gateway.request("UndoRotation").kid == NEW


def test_a_key_that_has_signed_is_not_taken_back(gateway: Gateway) -> None:
    gateway.stand_in.answer("UndoRotation", wrong_state("it has signed"))
    ended = gateway.keys("undo", NEW, "--yes", "--json")
    assert ended.code == 1
    assert "mrg keys rotate credential" in ended.error["fix"]


# -- a superseded key -------------------------------------------------------------------------------------------------


def test_a_key_is_superseded_by_the_standby_key_after_a_yes(gateway: Gateway) -> None:
    gateway.stand_in.answer("RevokeKey", revoked())
    assert gateway.keys("supersede", OLD).code == 2
    assert gateway.keys("supersede", OLD, typed="n\n").code == 1
    assert gateway.stand_in.requests("RevokeKey") == []
    document = gateway.keys("supersede", OLD, "--yes", "--json").document
    assert (document["kid"], document["superseded"], document["promoted_kid"]) == (OLD, True, NEW)
    asked = gateway.request("RevokeKey")
    assert (asked.kid, asked.reason, asked.validate_only) == (OLD, keys_pb2.REVOCATION_REASON_SUPERSEDED, False)
    assert asked.request_id == document["request_id"]
    assert NEW in gateway.keys("supersede", OLD, typed="y\n").out


def test_checking_a_replacement_changes_nothing(gateway: Gateway) -> None:
    gateway.stand_in.answer("RevokeKey", revoked())
    assert gateway.keys("supersede", OLD, "--check", "--json").document["superseded"] is False
    assert gateway.keys("supersede", OLD, "--check").code == 0
    assert all(request.validate_only for request in gateway.stand_in.requests("RevokeKey"))


@pytest.mark.parametrize(
    ("plan", "blocking"),
    [
        (rotation(holder(SH), holder(JS, holds=False, blocks=True)), [JS]),
        (rotation(waited=False), []),
        (rotation(next_kid=""), None),
    ],
    ids=["a peer", "the publication window", "no stand-by key"],
)
def test_a_key_is_not_superseded_before_everybody_holds_the_next(
    gateway: Gateway, plan: keys_pb2.Rotation, blocking: list[str] | None
) -> None:
    gateway.stand_in.answer("PlanRotation", keys_pb2.PlanRotationResponse(rotation=plan))
    ended = gateway.keys("supersede", OLD, "--yes", "--json")
    assert ended.code == 1
    assert [each["entity_id"] for each in ended.error.get("holders", ())] == (blocking or [])
    shown = gateway.keys("supersede", OLD, "--check").err
    assert all(each in shown for each in blocking or ())
    # A new name is no way round it.
    assert gateway.keys("supersede", OLD, "--yes", "--request-id", "other").code == 1
    assert gateway.stand_in.requests("RevokeKey") == []


def test_only_the_key_that_signs_is_superseded(gateway: Gateway) -> None:
    assert gateway.keys("supersede", NEW, "--yes", "--json").code == 1
    assert gateway.stand_in.requests("RevokeKey") == []


def test_a_replacement_that_was_done_can_be_asked_for_again(gateway: Gateway) -> None:
    gateway.stand_in.answer("RevokeKey", refusing(code_pb2.UNAVAILABLE, "UNAVAILABLE", "no disk"))
    name = gateway.keys("supersede", OLD, "--yes", "--json").error["request_id"]
    gateway.stand_in.answer("ListKeys", keys_pb2.ListKeysResponse(keys=[key(OLD, keys_pb2.KEY_STATE_REVOKED)]))
    gateway.stand_in.answer("RevokeKey", revoked())
    assert gateway.keys("supersede", OLD, "--yes", "--request-id", name).code == 0
    assert {request.request_id for request in gateway.stand_in.requests("RevokeKey")} == {name}


# -- a compromised key ------------------------------------------------------------------------------------------------


def revoked(**changes: Any) -> keys_pb2.RevokeKeyResponse:
    members = {
        "key": key(OLD, keys_pb2.KEY_STATE_REVOKED),
        "promoted_kid": NEW,
        "revoke_time": wire.timestamp(START),
        "accepted_count": 7,
        **changes,
    }
    return keys_pb2.RevokeKeyResponse(**members)


def acknowledged(*refusing_it: str) -> keys_pb2.ListAcknowledgementsResponse:
    return keys_pb2.ListAcknowledgementsResponse(
        holders=[holder(each, holds=False, refuses=each in refusing_it) for each in (SH, JS)]
    )


def compromise(gateway: Gateway, folder: Path, *arguments: str, typed: str | None = None) -> Ended:
    since = ["--since", "2026-11-20T09:30:00+08:00"]
    return gateway.keys("compromise", OLD, *since, "--record", folder, *arguments, typed=typed)


def test_a_compromised_key_is_revoked_and_watched_until_everybody_refuses_it(gateway: Gateway, tmp_path: Path) -> None:
    gateway.stand_in.answer("RevokeKey", revoked())
    gateway.stand_in.answer("ListAcknowledgements", acknowledged(), acknowledged(SH), acknowledged(SH, JS))
    ended = compromise(gateway, tmp_path, "--yes", "--json")
    assert ended.code == 0
    document = ended.document
    assert (document["kid"], document["promoted_kid"], document["accepted_since"]) == (OLD, NEW, 7)
    assert (document["compromised_since"], document["revoked_at"]) == ("2026-11-20T01:30:00Z", "2026-11-23T01:00:00Z")
    seconds = {each["entity_id"]: each["seconds"] for each in document["gateways"]}
    assert 0 < seconds[SH] < seconds[JS]
    asked = gateway.request("RevokeKey")
    assert (asked.kid, asked.reason) == (OLD, keys_pb2.REVOCATION_REASON_COMPROMISED)
    assert asked.request_id == document["request_id"]
    assert len(gateway.stand_in.requests("ListAcknowledgements")) == 3


def test_the_incident_is_written_down_for_programs_and_in_both_languages(gateway: Gateway, tmp_path: Path) -> None:
    gateway.stand_in.answer("RevokeKey", revoked())
    gateway.stand_in.answer("ListAcknowledgements", acknowledged(SH))
    ended = compromise(gateway, tmp_path, "--yes", "--wait", "0.1", "--json")
    assert ended.code == 3
    record, prose = (Path(file) for file in ended.document["files"])
    assert (record.parent, record.suffix, prose.suffix) == (tmp_path, ".json", ".md")
    assert record.name.startswith(f"incident-{OLD[:8]}-")
    written = json.loads(record.read_text())
    assert written == {name: value for name, value in ended.document.items() if name != "files"}
    assert written["complete"] is False
    assert {each["entity_id"]: each["seconds"] is None for each in written["gateways"]} == {SH: False, JS: True}
    text = prose.read_text()
    for expected in (OLD, NEW, "not reached", "尚未送达", "7", "Next steps", "后续工作", JS):
        assert expected in text
    assert record.stat().st_mode & 0o077 == 0


def test_a_person_sees_what_will_happen_before_it_does(gateway: Gateway, tmp_path: Path) -> None:
    gateway.stand_in.answer("RevokeKey", revoked(promoted_kid=""))
    gateway.stand_in.answer("ListAcknowledgements", acknowledged(SH, JS))
    refused = compromise(gateway, tmp_path, "--lang", "zh", typed="n\n")
    assert refused.code == 1
    assert "没有备用密钥" in refused.err
    assert [request.validate_only for request in gateway.stand_in.requests("RevokeKey")] == [True]
    assert list(tmp_path.iterdir()) == []
    ended = compromise(gateway, tmp_path, typed="y\n")
    assert ended.code == 0, ended.err
    assert [request.validate_only for request in gateway.stand_in.requests("RevokeKey")] == [True, True, False]
    assert not any(request.request_id for request in gateway.stand_in.requests("RevokeKey")[:2])


def test_the_gateway_is_to_be_kept_running_until_the_others_acknowledged(gateway: Gateway, tmp_path: Path) -> None:
    gateway.stand_in.answer("RevokeKey", revoked())
    gateway.stand_in.answer("ListAcknowledgements", acknowledged(SH, JS))
    assert "请保持本省网关运行" in compromise(gateway, tmp_path, "--yes", "--lang", "zh").err
    document = compromise(gateway, tmp_path, "--yes", "--json").document
    assert "running" in document["next_steps"][0]["en"]


def test_without_a_person_and_without_yes_nothing_is_revoked(gateway: Gateway, tmp_path: Path) -> None:
    assert compromise(gateway, tmp_path, "--json").code == 2
    assert gateway.stand_in.requests("RevokeKey") == []


def test_a_folder_that_is_not_there_is_made_for_its_owner_alone(gateway: Gateway, tmp_path: Path) -> None:
    gateway.stand_in.answer("RevokeKey", revoked())
    gateway.stand_in.answer("ListAcknowledgements", acknowledged(SH, JS))
    folder = tmp_path / "incidents" / "new"
    ended = compromise(gateway, folder, "--yes", "--json")
    assert ended.code == 0, ended.err
    assert Path(ended.document["files"][0]).parent == folder
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_keeps_nobody_from_revoking(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.stand_in.answer("RevokeKey", revoked())
    gateway.stand_in.answer("ListAcknowledgements", acknowledged(SH, JS))
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    ended = compromise(gateway, tmp_path / "file", "--yes", "--json")
    assert ended.code == 0, ended.err
    assert "current folder" in ended.err
    assert (tmp_path / ended.document["files"][0]).exists()


def test_a_person_sees_who_is_still_missing(gateway: Gateway, tmp_path: Path) -> None:
    gateway.stand_in.answer("RevokeKey", revoked())
    gateway.stand_in.answer("ListAcknowledgements", acknowledged(SH), acknowledged(SH, JS))
    assert re.search(r"s, still missing: js\b", compromise(gateway, tmp_path, "--lang", "en", typed="y\n").err)


def test_a_revocation_whose_answer_is_lost_can_be_asked_for_again(gateway: Gateway, tmp_path: Path) -> None:
    gateway.stand_in.answer("RevokeKey", refusing(code_pb2.UNAVAILABLE, "UNAVAILABLE", "no disk"))
    ended = compromise(gateway, tmp_path, "--yes", "--json")
    assert (ended.code, ended.error["reason"]) == (4, "UNAVAILABLE")
    assert f"--request-id {ended.error['request_id']}" in ended.error["fix"]


def test_one_look_that_fails_is_not_the_last(gateway: Gateway, tmp_path: Path) -> None:
    gateway.stand_in.answer("RevokeKey", revoked())
    away = refusing(code_pb2.UNAVAILABLE, "UNAVAILABLE", "for a moment")
    gateway.stand_in.answer("ListAcknowledgements", away, acknowledged(SH, JS))
    assert compromise(gateway, tmp_path, "--yes", "--json").code == 0


def test_a_record_is_kept_although_the_watching_fails(gateway: Gateway, tmp_path: Path) -> None:
    gateway.stand_in.answer("RevokeKey", revoked())
    gateway.stand_in.answer("ListAcknowledgements", refusing(code_pb2.UNAVAILABLE, "UNAVAILABLE", "gone"))
    ended = compromise(gateway, tmp_path, "--yes", "--wait", "0.2", "--json")
    assert (ended.code, ended.document["complete"], ended.document["gateways"]) == (3, False, [])
    assert Path(ended.document["files"][0]).exists()


# -- the history ------------------------------------------------------------------------------------------------------


@pytest.fixture
def config(completed: Ceremony) -> Path:
    store = SqliteStore(completed.folder / "ah" / "gateway.sqlite")
    events = [
        KeyEvent(at=START, kid=OLD, purpose=KeyPurpose.CREDENTIAL, event="active", administrator=""),
        KeyEvent(
            at=START + timedelta(days=1),
            kid=NEW,
            purpose=KeyPurpose.CREDENTIAL,
            event="staged",
            administrator="https://gateway.ah.test/administrators/admin-1",
            detail="r-1",
        ),
    ]
    store.save_keys([], events)
    store.close()
    return completed.folder / "ah" / "gateway.toml"


def test_the_history_is_read_from_the_store(config: Path) -> None:
    events = done("keys", "history", "--config", config, "--json").document["events"]
    assert [(each["kid"], each["event"], each["administrator"]) for each in events] == [
        (OLD, "active", None),
        (NEW, "staged", "https://gateway.ah.test/administrators/admin-1"),
    ]
    assert done("keys", "history", NEW[:6], "--config", config, "--json").document["events"] == events[1:]
    shown = done("keys", "history", OLD, "--config", config, "--lang", "en").out
    assert "scheduler" in shown
    assert NEW not in shown


def test_a_key_without_history_is_1(config: Path) -> None:
    assert mrg("keys", "history", "other", "--config", config).code == 1


def test_a_province_that_never_ran_has_no_history(completed: Ceremony) -> None:
    assert "mrg serve" in failed("keys", "history", "--config", completed.folder / "ah" / "gateway.toml")


# -- pseudonyms -------------------------------------------------------------------------------------------------------


@pytest.fixture
def province(completed: Ceremony) -> Path:
    return completed.folder / "ah"


@pytest.mark.parametrize(
    ("of", "name", "field"),
    [((), "pairwise", "pairwise"), (("--issuer",), "pairwise-issuer", "pairwise_issuer")],
    ids=["gateway", "issuer"],
)
def test_a_pairwise_secret_is_replaced(province: Path, of: tuple[str, ...], name: SecretName, field: str) -> None:
    config = province / "gateway.toml"
    file = secret_file(province / "keys", name, 2)
    written = config.read_text()

    plan = done("keys", "pairwise", *of, "--config", config, "--json").document
    assert (plan["version"], plan["next_version"], plan["file_exists"], file.exists()) == (1, 2, False, False)

    made = done("keys", "pairwise", *of, "--config", config, "--apply", "--json").document
    assert made == {**plan, "file_exists": True}
    secret = file.read_bytes()
    assert config.read_text() == written
    assert done("keys", "pairwise", *of, "--config", config, "--apply", "--json").document == made
    assert file.read_bytes() == secret

    # The lines that it says are what the configuration takes, in place of those under the table.
    lines = "\n".join(made["lines"])
    changed, count = re.subn(
        rf"(?<=^\[{made['table']}\]\n)version = 1\n# mapped_until.*$", lines, written, flags=re.MULTILINE
    )
    assert count == 1
    config.write_text(changed)
    options: PairwiseOptions = getattr(load_config(config), field)
    assert options.version == 2
    assert instant(options.mapped_until) == made["mapped_until"]

    assert mrg("keys", "pairwise", *of, "--config", config, "--apply").code == 1
    assert not secret_file(province / "keys", name, 3).exists()


def test_what_replacing_a_pairwise_secret_changes_is_said_in_both_languages(province: Path) -> None:
    shown = {
        lang: done("keys", "pairwise", "--config", province / "gateway.toml", "--lang", lang).out
        for lang in ("zh", "en")
    }
    assert "假名" in shown["zh"]
    assert "pseudonym" in shown["en"]
    assert not re.search("[一-鿿]", shown["en"])
    for out in shown.values():
        assert "[pairwise]\nversion = 2\nmapped_until = " in out


@pytest.mark.parametrize("window", ["0d", "23h", "1095d", "90", "999999999d"])
def test_a_window_must_be_one(province: Path, window: str) -> None:
    assert "--window" in failed("keys", "pairwise", "--config", province / "gateway.toml", "--window", window)


def test_a_pairwise_secret_that_is_missing_is_not_replaced(province: Path) -> None:
    (province / "keys" / "pairwise.secret").unlink()
    assert "backup" in failed("keys", "pairwise", "--config", province / "gateway.toml", "--apply")
