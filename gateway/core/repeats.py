"""When a question is one that was decided before, asked again because its answer was lost.

A decision is recorded before it is answered. Where the answer does not arrive, whoever asked cannot tell, asks again,
and would hear that the presentation is used up: a wrong "no" to a person who did nothing wrong. So who asks the same
again is given the decision that stands. Rules that live here:

* The question and its answer are the same to the letter, and so is the entry. A digest of a keyed reference of both
  (``References.request``) and of the entry is remembered with what was used up. The log alone could not tell: it holds
  no values. Nor is a log that was edited relied on: who has the database and not the key cannot make the digest.
* It is asked soon. A client that asks again does so within seconds.
* The question is decided anew, by everything that holds now, and would be accepted. What would be logged of that is
  what was logged, but for what hangs on when and where it was decided.

Whatever cannot be read, found or compared is no repeat.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Final

from gateway.core.encoding import sha256_b64url
from gateway.core.entries import SealedEntry, blinded, read, read_verification
from gateway.core.reasons import Rejected

REPEAT_WITHIN: Final = timedelta(minutes=1)
"""Between the two decisions, by the clocks of the processes that made them; either may be ahead."""


def remembered(request: str, entry: bytes) -> str:
    """Say what is remembered of a decision, for whoever may ask again; empty: nobody may.

    Args:
        request: the keyed reference of question and answer; empty: the caller gave the question no name.
        entry: what was logged, as it is in the store.
    """
    return sha256_b64url(f"{request} {sha256_b64url(entry)}".encode()) if request else ""


def is_repeat(request: str, again: SealedEntry, held: str, first: bytes) -> bool:
    """Whether an acceptance is the one that was logged before, once more.

    Args:
        request: the keyed reference of question and answer.
        again: what would be logged now.
        held: what is remembered of the decision that used up the replay key.
        first: what was logged of it, as it is in the store.
    """
    if not request or remembered(request, first) != held:
        return False
    try:
        was, now = read_verification(read(first)), read_verification(read(again.raw))
    except Rejected:
        return False
    if was.verdict != "accepted" or abs(now.decided_at - was.decided_at) > REPEAT_WITHIN:
        return False
    return was == replace(
        now,
        verification_id=was.verification_id,
        decided_at=was.decided_at,
        duration=was.duration,
        # Hashed with the id of the entry that they stand in.
        person=blinded(again.index.person, was.verification_id),
        actor=blinded(again.index.actor, was.verification_id),
        # Anchors confirm and lists are signed every few minutes, and another host of a service may ask again. The
        # charter is not among these: what another one allows is another decision.
        view_id=was.view_id,
        findings=was.findings,
        caller_certificate=was.caller_certificate,
    )
