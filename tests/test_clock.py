"""The machine's clock, and the lab's."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.clock import MAX_LAB_OFFSET, lab_world, set_lab_offset, system_world

TOLERANCE = timedelta(seconds=30)
TEN_YEARS = int(MAX_LAB_OFFSET.total_seconds())


@pytest.fixture
def offset_file(tmp_path: Path) -> Path:
    file = tmp_path / "clock"
    set_lab_offset(file, 0)
    return file


def is_off_by(moment: datetime, offset: timedelta) -> bool:
    return abs(moment - (datetime.now(UTC) + offset)) < TOLERANCE


def test_system_clock_is_aware_and_utc() -> None:
    now = system_world().now()

    assert now.utcoffset() == timedelta(0)
    assert is_off_by(now, timedelta(0))


def test_random_bytes_have_the_length_asked_for_and_differ() -> None:
    world = system_world()

    assert len(world.random_bytes(32)) == 32
    assert world.random_bytes(32) != world.random_bytes(32)


@pytest.mark.parametrize("seconds", [0, 3600, -3600, TEN_YEARS, -TEN_YEARS])
def test_lab_clock_is_moved_by_the_offset(offset_file: Path, seconds: int) -> None:
    set_lab_offset(offset_file, seconds)

    assert is_off_by(lab_world(offset_file).now(), timedelta(seconds=seconds))


def test_lab_clock_follows_the_file_while_it_runs(offset_file: Path) -> None:
    world = lab_world(offset_file)

    set_lab_offset(offset_file, 86_400)

    assert world.now().utcoffset() == timedelta(0)
    assert is_off_by(world.now(), timedelta(days=1))


@pytest.mark.parametrize(
    "content", [b"", b"soon\n", b"1.5\n", b"1_000\n", b"12 34\n", "١٢".encode(), b"999999999\n", b"\xff"]
)
def test_lab_clock_does_not_start_on_a_garbled_file(offset_file: Path, content: bytes) -> None:
    offset_file.write_bytes(content)

    with pytest.raises(ValueError, match=str(offset_file)):
        lab_world(offset_file)


def test_lab_clock_does_not_start_without_its_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="clock"):
        lab_world(tmp_path / "clock")


@pytest.mark.parametrize("content", [None, b"", b"soon\n"])
def test_lab_clock_keeps_the_last_good_offset(offset_file: Path, content: bytes | None) -> None:
    world = lab_world(offset_file)
    set_lab_offset(offset_file, 86_400)
    world.now()

    if content is None:
        offset_file.unlink()
    else:
        offset_file.write_bytes(content)

    assert is_off_by(world.now(), timedelta(days=1))


def test_lab_clock_takes_up_the_file_again(offset_file: Path) -> None:
    world = lab_world(offset_file)
    offset_file.write_bytes(b"soon\n")
    world.now()

    set_lab_offset(offset_file, 3600)

    assert is_off_by(world.now(), timedelta(hours=1))


def test_offset_over_ten_years_is_refused_and_nothing_is_written(offset_file: Path) -> None:
    with pytest.raises(ValueError, match="ten years"):
        set_lab_offset(offset_file, TEN_YEARS + 1)

    assert offset_file.read_text() == "0\n"
    assert list(offset_file.parent.iterdir()) == [offset_file]


def test_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    occupied = tmp_path / "clock"
    (occupied / "inside").mkdir(parents=True)

    with pytest.raises(OSError, match="clock"):
        set_lab_offset(occupied, 1)

    assert list(tmp_path.iterdir()) == [occupied]
