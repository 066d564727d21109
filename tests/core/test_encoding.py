"""Names that people type."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.encoding import b64url_decode, new_name


@given(st.binary(min_size=1, max_size=32))
def test_a_name_begins_with_no_dash_and_loses_one_bit(random: bytes) -> None:
    name = new_name(random)
    assert not name.startswith("-")
    assert b64url_decode(name) in (random, bytes([random[0] ^ 0x80]) + random[1:])
