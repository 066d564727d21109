"""Who may have how much of a listener, and whose turn it is."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.core.quota import (
    MAX_IDLE_CALLERS,
    MAX_RETRY_SECONDS,
    MIN_RETRY_SECONDS,
    Allowance,
    Bucket,
    Quotas,
    Refused,
    Shortage,
)

LONG = 60.0


def quotas(
    *, rate: float = 1e6, concurrency: int = 1_000, places: int = 100, threads: int = 1, **special: Allowance
) -> Quotas[Any]:
    default = Allowance(rate=rate, concurrency=concurrency)
    return Quotas(default=default, allowances=special, places=places, threads=threads)


def why(refused: Refused | None) -> Shortage | None:
    return None if refused is None else refused.why


def busy(made: Quotas[Any], *, interval: float, service: float, waiting: int) -> None:
    """One call is worked on and so many wait, all of one caller; this is how long calls took."""
    made.pace.interval, made.pace.service = interval, service
    for number in range(waiting + 1):
        assert made.arrive("busy", 0.0, LONG) is None
        made.wait("busy", number)
        if number == 0:
            made.take(0.0)


# -- the rate ---------------------------------------------------------------------------------------------------------


def test_a_bucket_gives_a_seconds_worth_at_once_and_then_its_rate() -> None:
    bucket = Bucket(10, now=0.0)
    assert [bucket.take(1, 0.0) for _ in range(10)] == [0.0] * 10
    assert bucket.take(1, 0.0) == pytest.approx(0.1)
    assert bucket.take(1, 0.1) == 0.0
    assert bucket.take(1, 0.1) > 0


def test_more_than_a_bucket_holds_is_paid_off_afterwards() -> None:
    bucket = Bucket(10, now=0.0)
    assert bucket.take(30, 0.0) == 0.0
    assert bucket.take(1, 0.0) == pytest.approx(2.1)
    assert bucket.take(1, 2.1) == 0.0


def test_the_rate_is_each_callers_own() -> None:
    made = quotas(rate=1)
    assert made.arrive("one", 0.0, LONG) is None
    assert why(made.arrive("one", 0.0, LONG)) is Shortage.RATE
    assert made.arrive("other", 0.0, LONG) is None
    assert made.arrive("one", 1.0, LONG) is None


def test_an_allowance_of_its_own_counts_instead() -> None:
    made = quotas(rate=1, concurrency=1, special=Allowance(rate=2, concurrency=2))
    assert made.arrive("special", 0.0, LONG) is None
    assert made.arrive("special", 0.0, LONG) is None
    assert why(made.arrive("special", 1.0, LONG)) is Shortage.CONCURRENCY


def test_a_batch_counts_its_items() -> None:
    made = quotas(rate=10)
    assert made.arrive("one", 0.0, LONG) is None
    assert made.charge("one", 9, 0.0) is None
    refused = made.charge("one", 5, 0.0)
    assert refused is not None
    assert refused.why is Shortage.RATE
    assert refused.retry_after == pytest.approx(0.5)
    assert made.charge("one", 5, 0.5) is None


def test_nothing_is_charged_for_what_is_refused() -> None:
    made = quotas(rate=10, concurrency=1)
    assert made.arrive("one", 0.0, LONG) is None
    for _ in range(20):
        assert why(made.arrive("one", 0.0, LONG)) is Shortage.CONCURRENCY
    assert made.charge("one", 9, 0.0) is None


def test_going_away_and_coming_back_fills_no_bucket() -> None:
    made = quotas(rate=1)
    assert made.arrive("one", 0.0, LONG) is None
    made.leave("one", taken=False)
    assert why(made.arrive("one", 0.0, LONG)) is Shortage.RATE


def test_callers_without_calls_are_remembered_up_to_a_bound() -> None:
    made = quotas()
    for number in range(2 * MAX_IDLE_CALLERS):
        assert made.arrive(f"caller-{number}", 0.0, LONG) is None
        made.leave(f"caller-{number}", taken=False)
    assert made.remembered == MAX_IDLE_CALLERS


# -- calls open -------------------------------------------------------------------------------------------------------


def test_a_caller_may_have_so_many_calls_open_and_again_when_one_ends() -> None:
    made = quotas(concurrency=2)
    assert [why(made.arrive("one", 0.0, LONG)) for _ in range(3)] == [None, None, Shortage.CONCURRENCY]
    made.leave("one", taken=False)
    assert made.arrive("one", 0.0, LONG) is None


def test_however_many_are_greedy_there_is_room_for_one_more_caller() -> None:
    made = quotas(places=64)
    for greedy in range(5):
        while made.arrive(f"greedy-{greedy}", 0.0, LONG) is None:
            pass
    assert made.arrive("modest", 0.0, LONG) is None


# -- time -------------------------------------------------------------------------------------------------------------


def test_a_call_that_would_not_be_answered_in_time_is_refused_and_one_that_would_is_not() -> None:
    made = quotas()
    busy(made, interval=0.01, service=0.05, waiting=9)  # ten intervals until it is taken, and what it takes itself
    assert made.arrive("busy", 0.0, 0.16) is None
    refused = made.arrive("busy", 0.0, 0.14)
    assert refused is not None
    assert refused.why is Shortage.DEADLINE
    assert refused.retry_after == pytest.approx(0.15)


def test_who_has_nothing_waiting_waits_for_one_of_each_other_only() -> None:
    made = quotas()
    busy(made, interval=0.01, service=0.0, waiting=9)
    assert made.arrive("other", 0.0, 0.03) is None


def test_nobody_is_refused_for_lack_of_time_while_nobody_waits() -> None:
    made = quotas()
    made.pace.interval = made.pace.service = 1_000.0
    assert made.arrive("one", 0.0, 0.001) is None


def test_what_is_measured_is_how_long_calls_take_and_how_often_one_is_taken() -> None:
    made = quotas(threads=2, places=1_000)
    for number in range(100):
        assert made.arrive("one", 0.0, LONG) is None
        made.wait("one", number)
    for number in range(95):
        made.take(number * 0.25)
        made.leave("one", taken=True, service=0.5)
    assert made.pace.interval == pytest.approx(0.25, rel=0.05)
    assert made.pace.service == pytest.approx(0.5, rel=0.05)


def test_a_pause_without_calls_is_no_interval() -> None:
    made = quotas()
    for at in range(0, 1_000, 100):
        assert made.arrive("one", float(at), LONG) is None
        made.wait("one", at)
        made.take(float(at))
        made.leave("one", taken=True, service=0.5)
    assert made.pace.interval == 0.0


# -- turns ------------------------------------------------------------------------------------------------------------


def test_callers_take_turns_and_each_ones_calls_keep_their_order() -> None:
    made = quotas()
    for name, count in (("greedy", 5), ("modest", 2)):
        for number in range(count):
            assert made.arrive(name, 0.0, LONG) is None
            made.wait(name, f"{name}-{number}")
    taken = [made.take(0.0) for _ in range(8)]
    assert taken == [
        *("greedy-0", "modest-0", "greedy-1", "modest-1", "greedy-2", "greedy-3", "greedy-4"),
        None,
    ]


# -- whatever happens -------------------------------------------------------------------------------------------------

NAMES = ("a", "b", "c")


class Whatever(RuleBasedStateMachine):
    """The bounds hold in every order of events, and what was let in is taken once, each caller's in its order."""

    @initialize(places=st.integers(1, 8), concurrency=st.integers(1, 4), rate=st.floats(0.5, 50))
    def begin(self, places: int, concurrency: int, rate: float) -> None:
        self.bounds = (places, concurrency, rate)
        self.quotas = quotas(rate=rate, concurrency=concurrency, places=places, threads=2)
        self.now = 0.0
        self.coming: Counter[str] = Counter()
        self.waiting: dict[str, list[int]] = {name: [] for name in NAMES}
        self.running: list[str] = []
        self.counted: Counter[str] = Counter()
        self.number = 0

    @rule(seconds=st.floats(0, 2))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(name=st.sampled_from(NAMES), remaining=st.floats(0, 2))
    def arrive(self, name: str, remaining: float) -> None:
        refused = self.quotas.arrive(name, self.now, remaining)
        if refused is None:
            self.coming[name] += 1
            self.counted[name] += 1
        else:
            assert MIN_RETRY_SECONDS <= refused.retry_after <= MAX_RETRY_SECONDS

    @rule(name=st.sampled_from(NAMES))
    def wait(self, name: str) -> None:
        if self.coming[name]:
            self.coming[name] -= 1
            self.number += 1
            self.waiting[name].append(self.number)
            self.quotas.wait(name, (name, self.number))

    @rule(name=st.sampled_from(NAMES))
    def give_up(self, name: str) -> None:
        if self.coming[name]:
            self.coming[name] -= 1
            self.quotas.leave(name, taken=False)

    @rule()
    def take(self) -> None:
        call = self.quotas.take(self.now)
        if call is None:
            assert not any(self.waiting.values())
        else:
            name, number = call
            assert self.waiting[name].pop(0) == number
            self.running.append(name)

    @rule(service=st.floats(0, 2))
    def finish(self, service: float) -> None:
        if self.running:
            self.quotas.leave(self.running.pop(), taken=True, service=service)

    @rule(name=st.sampled_from(NAMES), count=st.integers(1, 3))
    def charge(self, name: str, count: int) -> None:
        if self.quotas.charge(name, count, self.now) is None:
            self.counted[name] += count

    @invariant()
    def bounds_hold(self) -> None:
        places, concurrency, rate = self.bounds
        calls = [self.coming[name] + len(self.waiting[name]) + self.running.count(name) for name in NAMES]
        assert max(calls) <= concurrency
        assert sum(calls) <= places
        assert self.quotas.waiting == sum(map(len, self.waiting.values()))
        # A second's worth at the start, what has come since, and what one charge took below empty.
        assert all(count <= rate * (1 + self.now) + 3 for count in self.counted.values())


TestWhatever = Whatever.TestCase
