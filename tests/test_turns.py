"""Whose turn it is: told by the order in which things happen."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway import turns
from gateway.turns import Turns
from tests.e2e.links import wait_for

NEVER = 60.0
"""Longer than any test."""


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as made:
        yield made


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "GIVE_WAY_SECONDS", NEVER)
    monkeypatch.setattr(turns, "COMPUTE_SECONDS", 0.0)


def waiting(made: Turns) -> int:
    return sum(len(each) for each in made._waiting.values())


def test_a_batch_waits_until_no_single_presentation_is_verified(pool: ThreadPoolExecutor) -> None:
    made = Turns()
    done: list[str] = []

    def batch() -> None:
        with made.bulk("a"):
            done.append("batch")

    with made.single(), made.single():
        running = pool.submit(batch)
        wait_for(lambda: made._is_taken, what="the batch waiting")
        done.append("single")
    running.result(NEVER)
    assert done == ["single", "batch"]


def test_a_batch_gives_way_between_two_of_its_presentations(pool: ThreadPoolExecutor) -> None:
    made = Turns()
    done: list[str] = []
    entered, left = threading.Event(), threading.Event()

    def single() -> None:
        with made.single():
            entered.set()
            left.wait(NEVER)
            done.append("single")

    with made.bulk("a") as turn:
        done.append("first")
        running = pool.submit(single)
        entered.wait(NEVER)
        left.set()
        turn.give_way()
        done.append("second")
    running.result(NEVER)
    assert done == ["first", "single", "second"]


def test_a_batch_goes_on_though_single_presentations_never_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "GIVE_WAY_SECONDS", 0.01)
    made = Turns()
    with made.single(), made.bulk("a") as turn:
        turn.give_way()


def test_a_turn_that_has_only_begun_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "COMPUTE_SECONDS", NEVER)
    made = Turns()
    with made.bulk("a") as turn, made.single():
        turn.give_way()  # would wait for the single one for ever


def test_one_batch_at_a_time_has_the_turn(pool: ThreadPoolExecutor) -> None:
    made, release = Turns(), threading.Event()
    inside: list[int] = []
    most: list[int] = []

    def batch() -> None:
        with made.bulk("a"):
            inside.append(1)
            most.append(len(inside))
            release.wait(NEVER)
            inside.pop()

    running = [pool.submit(batch) for _ in range(5)]
    wait_for(lambda: waiting(made) == 4, what="the others waiting")
    release.set()
    for each in running:
        each.result(NEVER)
    assert most == [1] * 5
    assert not made._is_taken


def in_order(pool: ThreadPoolExecutor, made: Turns, callers: str, done: list[str]) -> Callable[[], None]:
    """Let a batch of each caller wait, in this order; gives what waits until all had their turn."""

    def batch(caller: str) -> None:
        with made.bulk(caller):
            done.append(caller)

    running = []
    for caller in callers:
        running.append(pool.submit(batch, caller))
        wait_for(lambda: waiting(made) == len(running), what="it waiting")
    return lambda: deque((each.result(NEVER) for each in running), maxlen=0).clear()


def test_many_batches_of_one_caller_do_not_starve_anothers(pool: ThreadPoolExecutor) -> None:
    made = Turns()
    done: list[str] = []
    with made.bulk("a"):
        wait = in_order(pool, made, "aaabc", done)
    wait()
    assert "".join(done) == "abcaa"


def test_who_gives_way_to_single_presentations_keeps_the_turn(pool: ThreadPoolExecutor) -> None:
    made = Turns()
    done: list[str] = []
    with made.bulk("a") as turn:
        wait = in_order(pool, made, "b", done)
        turn.give_way()
        done.append("a")
    wait()
    assert done == ["a", "b"]


def test_who_steps_aside_stands_behind_the_others(pool: ThreadPoolExecutor) -> None:
    made = Turns()
    done: list[str] = []
    with made.bulk("a") as turn:
        wait = in_order(pool, made, "ba", done)
        with turn.aside():
            wait_for(lambda: waiting(made) < 2, what="another having the turn")
        done.append("again")
    wait()
    assert done[0] == "b"
    assert sorted(done[1:]) == ["a", "again"]


def test_who_waits_for_something_else_holds_no_turn(pool: ThreadPoolExecutor) -> None:
    made = Turns()
    done: list[str] = []

    def batch() -> None:
        with made.bulk("b"):
            done.append("other")

    with made.bulk("a") as turn:
        with turn.aside():
            pool.submit(batch).result(NEVER)
        done.append("batch")
    assert done == ["other", "batch"]


def test_a_turn_ends_with_an_error_too() -> None:
    made = Turns()
    with pytest.raises(ValueError, match="mine"), made.single():
        raise ValueError("mine")
    with pytest.raises(ValueError, match="mine"), made.bulk("a") as turn, turn.aside():
        raise ValueError("mine")
    assert (made._single, made._is_taken) == (0, False)
