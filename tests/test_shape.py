"""Counting what a message holds before it is decoded: never less than the decoder finds, and nothing honest refused."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from recognition.v1 import verification_pb2

from gateway.guard import BATCH_BOUNDS, MAX_ITEM_FIELDS, STREAM_BOUNDS
from gateway.shape import is_within
from gateway.wire import MAX_BATCH_ITEMS, MAX_STREAM_ITEMS

Batch = verification_pb2.BatchVerifyCredentialsRequest
Request = verification_pb2.VerifyCredentialRequest
Item = verification_pb2.StreamItem
Messages = verification_pb2.StreamVerifyCredentialsRequest

FULL = Request(
    matter="HK-QY",
    presentation="a.b.c~" + "d~" * 100,
    nonce="n" * 90,
    request_id="r" * 64,
    consent_id="c" * 22,
    predicates=[
        verification_pb2.Predicate(household_in=verification_pb2.HouseholdIn(provinces=["sh", "js", "zj", "ah"]))
    ]
    * 8,
    terminal="t" * 64,
    want_receipt=True,
)


def test_as_much_as_there_may_be_is_within_the_bounds() -> None:
    assert is_within(Batch(items=[FULL] * MAX_BATCH_ITEMS).SerializeToString(), BATCH_BOUNDS)
    items = [Item(item_id=str(number), request=FULL) for number in range(MAX_STREAM_ITEMS)]
    assert is_within(Messages(items=items).SerializeToString(), STREAM_BOUNDS)


@pytest.mark.parametrize(
    ("raw", "bounds"),
    [
        (b"\x0a\x00" * (BATCH_BOUNDS[0] + 1), BATCH_BOUNDS),
        (b"\x0a\x00" * (STREAM_BOUNDS[0] + 1), STREAM_BOUNDS),
        (
            Batch(
                items=[Request(predicates=[verification_pb2.Predicate()] * (MAX_ITEM_FIELDS + 1))]
            ).SerializeToString(),
            BATCH_BOUNDS,
        ),
        (
            Messages(
                items=[Item(request=Request(predicates=[verification_pb2.Predicate()] * (MAX_ITEM_FIELDS + 1)))]
            ).SerializeToString(),
            STREAM_BOUNDS,
        ),
        (b"\x98\x06\x00" * (BATCH_BOUNDS[0] + 1), BATCH_BOUNDS),  # unknown fields take memory too
    ],
    ids=["empty items", "empty items of a stream", "empty questions", "empty questions of a stream", "unknown fields"],
)
def test_more_is_not(raw: bytes, bounds: tuple[int, ...]) -> None:
    assert not is_within(raw, bounds)


@given(st.lists(st.binary(max_size=6), max_size=12).map(b"".join))
def test_what_the_decoder_takes_has_no_more_than_was_counted(raw: bytes) -> None:
    bounds = (4, 3)
    try:
        message = Batch.FromString(raw)
    except DecodeError:
        return
    if is_within(raw, bounds):
        assert len(message.items) <= bounds[0]
        assert all(len(item.predicates) <= bounds[1] for item in message.items)


@given(st.binary(max_size=200))
def test_no_bytes_are_too_much_for_it(raw: bytes) -> None:
    assert is_within(raw, (1_000, 1_000, 1_000)) in (True, False)
