"""mrg trust show: what the store holds, whatever has become of the gateway."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import set_lab_offset, system_world
from tests.cli.ceremony import Ceremony, Ended, failed, mrg
from tests.federation import AH, START, ZJ, Federation


class Province:
    """A province's configuration over the store of a federation in memory."""

    def __init__(self, federation: Federation, ceremony: Ceremony) -> None:
        ceremony.complete(["ah"])
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
def province(federation: Federation, ceremony: Ceremony) -> Province:
    return Province(federation, ceremony)


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
    assert len(document["problems"]) == 16
    assert "Problems" in province.show().out


def test_an_expired_charter_is_3(province: Province) -> None:
    province.set_clock(timedelta(days=200))
    document = province.show("--json").document
    assert (document["charter"]["expired"], document["fresh"]) == (True, False)


def test_looking_changes_nothing_in_the_store(province: Province) -> None:
    before = province.federation[AH].store.load_charters()
    province.show()
    assert province.federation[AH].store.load_charters() == before


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_a_province_that_never_ran_has_no_database(ceremony: Ceremony) -> None:
    ceremony.complete(["ah"])
    config = ceremony.folder / "ah" / "gateway.toml"
    assert "mrg serve" in failed("trust", "show", "--config", config)
    assert not (ceremony.folder / "ah" / "gateway.sqlite").exists()


def test_a_database_that_is_none_is_named(ceremony: Ceremony) -> None:
    ceremony.complete(["ah"])
    (ceremony.folder / "ah" / "gateway.sqlite").write_text("not a database, but long enough to be taken for one" * 50)
    assert "gateway.sqlite" in failed("trust", "show", "--config", ceremony.folder / "ah" / "gateway.toml")


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
