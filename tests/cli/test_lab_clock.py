"""mrg lab clock: going back, the provinces are told to believe it; going forward, they need not be."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from gateway.config.reader import load_config
from gateway.core.identifiers import Province
from gateway.core.memory import TrustMemory
from gateway.lab.folder import LabFolder, prepare_lab
from gateway.storage.sqlite import SqliteStore
from tests.cli.ceremony import done
from tests.federation import START
from tests.stores import file_of


@pytest.fixture
def lab(tmp_path: Path) -> LabFolder:
    """Give a lab that ran once, as far as the stores show: each has seen START attested, but one that never ran."""
    folder = prepare_lab(tmp_path / "lab")
    for province in (Province.SHANGHAI, Province.JIANGSU, Province.ZHEJIANG):
        with closing(SqliteStore(file_of(load_config(folder.config(province))))) as store:
            store.save_memory(TrustMemory(clock_floor=START))
    return folder


def floors(lab: LabFolder) -> list[datetime | None]:
    found = []
    for province in Province:
        database = file_of(load_config(lab.config(province)))
        if database.exists():
            with closing(SqliteStore(database)) as store:
                found.append(store.load_memory().clock_floor)
    return found


def test_only_a_clock_that_goes_back_resets_the_floors(lab: LabFolder) -> None:
    done("lab", "clock", "+2h", "--dir", lab.path)
    assert floors(lab) == [START] * 3
    done("lab", "clock", "-1h", "--dir", lab.path)
    assert floors(lab) == [None] * 3


def test_setting_the_clock_right_may_be_going_back_too(lab: LabFolder) -> None:
    done("lab", "clock", "-1h", "--dir", lab.path)
    for province in (Province.SHANGHAI,):
        with closing(SqliteStore(file_of(load_config(lab.config(province))))) as store:
            store.save_memory(TrustMemory(clock_floor=START))
    done("lab", "clock", "reset", "--dir", lab.path)
    assert floors(lab)[0] == START
    done("lab", "clock", "+1h", "--dir", lab.path)
    done("lab", "clock", "reset", "--dir", lab.path)
    assert floors(lab)[0] is None
