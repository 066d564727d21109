"""mrg trust show: what the store holds, whatever has become of the gateway."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import set_lab_offset, system_world
from gateway.core.memory import Equivocation, Revocation, RevocationReason, TrustMemory, Withdrawal
from gateway.lab.charter import entity_ids
from tests.cli.ceremony import Ceremony, Ended, failed, mrg
from tests.federation import AH, SH, START, ZJ, Federation


class Province:
    """A province's configuration over the store of a federation in memory."""

    def __init__(self, federation: Federation, ceremony: Ceremony) -> None:
        self.federation = federation
        self.charter = ceremony.folder / "ah" / "charter.json"
        self.config = ceremony.folder / "ah" / "gateway.toml"
        self.database = federation.directory / "ah.sqlite"
        self.clock = ceremony.folder / "clock"
        self.charter.write_text(federation.charter.document)
        text = re.sub(
            r'^sha256 = ".*"', f'sha256 = "{federation.charter.sha256}"', self.config.read_text(), flags=re.MULTILINE
        )
        self.config.write_text(re.sub(r'^database = ".*?"', f'database = "{self.database}"', text, flags=re.MULTILINE))
        self.set_clock(timedelta(0))

    def set_clock(self, since_start: timedelta) -> None:
        set_lab_offset(self.clock, round((START + since_start - system_world().now()).total_seconds()))

    def show(self, *arguments: str) -> Ended:
        return mrg("trust", "show", "--config", self.config, "--lab-clock", self.clock, *arguments)

    def issuer(self, province: str) -> dict[str, Any]:
        issuers: list[dict[str, Any]] = self.show("--json").document["issuers"]
        return next(issuer for issuer in issuers if issuer["province"] == province)


@pytest.fixture
def province(federation: Federation, completed: Ceremony) -> Province:
    return Province(federation, completed)


def test_every_issuer_is_shown_with_its_keys_and_anchors(province: Province) -> None:
    shown = province.show("--json")
    assert (shown.code, shown.document["fresh"], shown.document["problems"]) == (0, True, [])
    found = province.issuer("sh")
    assert found["state"] == "fresh"
    assert len(found["vouched_for_by"]) == 4
    key = province.federation.keys[ZJ]["issuer-credential"].public
    assert [(each["kid"], each["algorithm"], each["state"]) for each in province.issuer("zj")["keys"]] == [
        (key.kid, "ES256", "fresh")
    ]


def test_every_gateway_is_shown_with_its_keys_and_anchors(province: Province) -> None:
    keys = province.federation.keys[ZJ]
    found = next(each for each in province.show("--json").document["gateways"] if each["province"] == "zj")
    assert (found["state"], len(found["vouched_for_by"])) == ("fresh", 4)
    for name, role in (("receipt_keys", "gateway-receipt"), ("audit_keys", "gateway-audit")):
        kid = keys[role].public.kid  # type: ignore[index]
        assert [(each["kid"], each["state"], len(each["anchors"])) for each in found[name]] == [(kid, "fresh", 4)]
    for expected in ("https://gateway.zj.mrg.example", "receipts", "checkpoints"):
        assert expected in province.show().out


def test_people_see_the_same(province: Province) -> None:
    shown = province.show()
    assert shown.code == 0
    for expected in ("https://issuer.zj.mrg.example", "4 of 4", "3 of 4 anchors", "fresh", "浙江省 Zhejiang"):
        assert expected in shown.out


def test_it_is_the_view_of_the_gateway_itself(province: Province) -> None:
    assert province.show("--json").document["view_id"] == province.federation[AH].resolver.view.view_id


def test_stale_trust_data_is_3_and_says_so(province: Province) -> None:
    province.set_clock(timedelta(minutes=15))
    shown = province.show()
    assert shown.code == 3
    assert "stale" in shown.out
    assert province.issuer("sh")["state"] == "stale"


def test_expired_trust_data_is_3_with_its_reasons(province: Province) -> None:
    province.set_clock(timedelta(hours=5))
    document = province.show("--json").document
    assert document["fresh"] is False
    assert province.issuer("sh") | {"keys": []} == province.issuer("sh")
    assert province.issuer("sh")["state"] == "missing"
    assert len(document["problems"]) == 4 * 8  # what each anchor says of each member
    assert "Problems" in province.show().out


def test_an_expired_charter_is_3(province: Province) -> None:
    province.set_clock(timedelta(days=200))
    document = province.show("--json").document
    assert (document["charter"]["expired"], document["fresh"]) == (True, False)


def test_looking_changes_nothing_in_the_store(province: Province) -> None:
    before = province.federation[AH].store.load_charters()
    province.show()
    assert province.federation[AH].store.load_charters() == before


# -- what is never forgotten ------------------------------------------------------------------------------------------


def remember(province: Province, **members: Any) -> None:
    province.federation[AH].store.save_memory(TrustMemory(**members))


def test_revoked_keys_and_withdrawals_are_shown(province: Province) -> None:
    issuer, anchor = entity_ids(ZJ).issuer, entity_ids(SH).anchor
    revocation = Revocation(revoked_at=START, reason=RevocationReason.COMPROMISED, compromised_since=START)
    remember(
        province,
        revocations={(issuer, "stolen"): revocation},
        withdrawals={(anchor, "old key", issuer): Withdrawal(revoked_at=START, reason="closed")},
    )
    document = province.show("--json").document
    assert document["revoked_keys"] == [
        {
            "entity_id": issuer,
            "kid": "stolen",
            "reason": "compromised",
            "revoked_at": "2026-11-23T01:00:00Z",
            "compromised_since": "2026-11-23T01:00:00Z",
        }
    ]
    assert document["withdrawals"] == [
        {
            "anchor": anchor,
            "signer": "old key",
            "entity_id": issuer,
            "revoked_at": "2026-11-23T01:00:00Z",
            "reason": "closed",
            "counts": False,
        }
    ]
    shown = province.show().out
    for expected in ("stolen", "compromised", "closed"):
        assert expected in shown


def test_an_issuer_that_too_many_anchors_withdrew_is_said_to_be_withdrawn(province: Province) -> None:
    issuer = entity_ids(ZJ).issuer
    charter = province.federation.charter
    for count, state in ((1, "fresh"), (2, "withdrawn")):
        anchors = charter.anchors[:count]
        remember(
            province,
            withdrawals={
                (anchor.entity_id, key.thumbprint, issuer): Withdrawal(revoked_at=START, reason="closed")
                for anchor in anchors
                for key in anchor.keys.values()
            },
        )
        found = province.issuer("zj")
        assert (found["state"], found["withdrawn_by"]) == (state, sorted(anchor.entity_id for anchor in anchors))
        shown = province.show().out
        assert "Issuers that an anchor withdrew or suspended" in shown
        assert ("everything of it is rejected" in shown) == (state == "withdrawn")


def test_an_anchor_that_equivocated_is_an_alarm(province: Province) -> None:
    anchor = province.federation.charter.anchors[0]
    (key,) = anchor.keys.values()
    remember(province, equivocations={(anchor.entity_id, key.thumbprint): Equivocation(one="a", other="b")})
    document = province.show("--json").document
    assert [(alarm["issuer"], alarm["reason"]) for alarm in document["alarms"]] == [(anchor.entity_id, "EQUIVOCATION")]
    assert "Alarms" in province.show().out


def test_a_clock_behind_the_floor_is_3_until_people_say_it_is_right(province: Province) -> None:
    store = province.federation[AH].store
    assert province.show("--json").document["clock"]["regressed"] is False
    remember(province, clock_floor=START + timedelta(days=1))
    shown = province.show("--json")
    assert (shown.code, shown.document["fresh"]) == (3, False)
    assert shown.document["clock"] == {"floor": "2026-11-24T01:00:00Z", "regressed": True}
    reset: list[str | Path] = ["trust", "reset-clock", "--config", province.config, "--lab-clock", province.clock]
    assert mrg(*reset).code == 2
    assert mrg(*reset, typed="n\n").code == 1
    assert store.load_memory().clock_floor is not None
    assert mrg(*reset, typed="y\n").code == 0
    assert store.load_memory().clock_floor is None
    assert mrg(*reset, "--yes", "--json").document["reset"] is False


# -- looking back -----------------------------------------------------------------------------------------------------

EARLIER = {"charter": 1, "issuers": {"https://i.test": {"keys": {"k1": ["a", "b"]}, "status_keys": {}}}}
LATER = {"charter": 2, "issuers": {"https://i.test": {"keys": {"k1": ["a"], "k2": ["a"]}, "status_keys": {}}}}


@pytest.fixture
def past(province: Province) -> Province:
    """Two views, a day and half a day before the federation's own."""
    for days, summary in ((1.0, EARLIER), (0.5, LATER)):
        issuers = {"https://i.test": {**summary["issuers"]["https://i.test"], "revoked": {}, "withdrawn": []}}  # type: ignore[index]
        text = json.dumps({**summary, "issuers": issuers})
        province.federation[AH].store.save_view(START - timedelta(days=days), text)
    return province


def test_what_was_trusted_then_is_shown(past: Province) -> None:
    shown = past.show("--as-of", "2026-11-22T08:00:00Z", "--json")
    assert (shown.code, shown.document["since"]) == (0, "2026-11-22T01:00:00Z")
    assert shown.document["summary"]["issuers"]["https://i.test"]["keys"] == {"k1": ["a", "b"]}
    assert "https://i.test" in past.show("--as-of", "2026-11-22T08:00:00Z").out
    assert past.show("--as-of", "2026-11-22T14:00:00Z", "--json").document["summary"]["charter"] == 2


def test_of_a_time_before_the_first_view_nothing_is_known(past: Province) -> None:
    shown = past.show("--as-of", "2026-11-20T00:00:00Z", "--json")
    assert (shown.code, shown.out) == (3, "")
    assert "2026-11-22T01:00:00Z" in shown.error["fix"]
    assert past.show("--as-of", "yesterday").code == 2


def test_what_will_be_trusted_is_not_known(past: Province) -> None:
    ahead = past.show("--as-of", "2026-11-24T00:00:00Z", "--json")
    assert ahead.code == 2
    assert "future" in ahead.error["message"]
    diff: list[str | Path] = ["trust", "diff", "--config", past.config, "--lab-clock", past.clock]
    assert mrg(*diff, "--from", "2026-11-22T08:00:00Z", "--to", "2026-11-24T00:00:00Z").code == 2


def test_a_time_may_be_counted_back_from_now(past: Province) -> None:
    assert past.show("--as-of", "-13h", "--json").document["since"] == "2026-11-22T01:00:00Z"
    diff: list[str | Path] = ["trust", "diff", "--config", past.config, "--lab-clock", past.clock]
    assert "k2" in mrg(*diff, "--from", "-13h", "--to", "-11h").out
    assert mrg(*diff, "--from", "-13").code == 2
    assert mrg(*diff, "--from", "-999999999d").code == 2


def test_what_changed_between_two_times_is_shown(past: Province) -> None:
    diff: list[str | Path] = ["trust", "diff", "--config", past.config, "--lab-clock", past.clock]
    times = ["--from", "2026-11-22T08:00:00Z", "--to", "2026-11-22T14:00:00Z"]
    document = mrg(*diff, *times, "--json").document
    assert document["from"] == {"at": "2026-11-22T08:00:00Z", "since": "2026-11-22T01:00:00Z"}
    assert [(each["subject"], each["name"], each["before"], each["after"]) for each in document["changes"]] == [
        ("charter", "version", "1", "2"),
        ("keys", "k1", "a b", "a"),
        ("keys", "k2", None, "a"),
    ]
    assert "k2" in mrg(*diff, *times).out
    assert "Nothing changed" in mrg(*diff, "--from", times[1], "--to", times[1]).out
    assert mrg(*diff, "--from", times[3], "--to", times[1]).code == 2
    assert mrg(*diff, "--from", "2026-11-20T00:00:00Z").code == 3


# -- what changed -----------------------------------------------------------------------------------------------------


def test_changes_of_trust_are_shown_from_the_log(province: Province) -> None:
    log: list[str | Path] = ["trust", "log", "--config", province.config, "--lab-clock", province.clock]
    ended = mrg(*log, "--json")
    assert ended.code == 0
    changes = ended.document["changes"]
    assert {each["change"] for each in changes} >= {"charter", "key"}
    positions = [each["position"] for each in changes]
    assert positions == sorted(positions, reverse=True)
    assert mrg(*log, "--limit", "1", "--json").document["changes"] == changes[:1]
    assert "章程 charter" in mrg(*log).out


def test_a_change_of_trust_that_was_edited_is_a_no(province: Province) -> None:
    with closing(sqlite3.connect(province.database)) as db, db:
        db.execute("UPDATE entries SET service = 'x' WHERE kind = 'trust'")
    log: list[str | Path] = ["trust", "log", "--config", province.config, "--json"]
    ended = mrg(*log)
    assert (ended.code, ended.document["changes"][0]["contradictions"]) == (1, ["service"])


def test_changes_of_trust_come_from_one_place(province: Province) -> None:
    assert "--config" in failed("trust", "log")


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_a_province_that_never_ran_has_no_database(completed: Ceremony) -> None:
    config = completed.folder / "ah" / "gateway.toml"
    assert "mrg serve" in failed("trust", "show", "--config", config)
    assert not (completed.folder / "ah" / "gateway.sqlite").exists()


def test_a_database_that_is_none_is_named(completed: Ceremony) -> None:
    (completed.folder / "ah" / "gateway.sqlite").write_text("not a database, but long enough to be taken for one" * 50)
    assert "gateway.sqlite" in failed("trust", "show", "--config", completed.folder / "ah" / "gateway.toml")


def test_a_configuration_at_fault_is_named(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text("province = 1")
    assert "gateway.toml" in failed("trust", "show", "--config", tmp_path / "gateway.toml")


def test_another_charter_than_the_pinned_one_is_named(province: Province) -> None:
    province.config.write_text(
        re.sub(r'^sha256 = ".*"', f'sha256 = "{"A" * 43}"', province.config.read_text(), flags=re.MULTILINE)
    )
    ended = province.show()
    assert ended.code == 2
    assert "charter.json" in ended.err
