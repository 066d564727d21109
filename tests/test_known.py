"""What is remembered of credentials: a fact about bytes and a key, and never a decision.

That nothing else is remembered shows in every other test of presentations: each attempt is judged without a memory and
twice with one that all share, and all three outcomes are the same.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import cast

import pytest

from gateway.core.credential import VerifiedPresentation, verify_presentation
from gateway.core.findings import Findings
from gateway.core.jose import Algorithm, generate_key, load_pkcs8, parse_compact
from gateway.core.known import IssuerSigned
from gateway.core.reasons import Reason, Rejected
from gateway.core.status_list import StatusList
from gateway.core.trust import TrustView
from gateway.known import KnownCredentials
from tests.core.presentations import ISSUER, ISSUER_KEY, STRANGER_KEY, Attempt, Trusted, View, nonce_for

NOBODY = ("thumbprint", Algorithm.ES256)


def judged(attempt: Attempt, known: KnownCredentials, presentation: str | None = None) -> VerifiedPresentation:
    view = cast("TrustView", attempt.view)
    lists: dict[str, StatusList] = attempt.lists
    return verify_presentation(attempt.request(presentation), view, lists, attempt.now, Findings(), known=known)


def refusal(attempt: Attempt, known: KnownCredentials, presentation: str | None = None) -> Reason:
    with pytest.raises(Rejected) as caught:
        judged(attempt, known, presentation)
    return caught.value.reason


def signed() -> IssuerSigned:
    token = Attempt.credential().text().split("~")[0]
    jws = parse_compact(token, max_chars=len(token))
    return IssuerSigned(jws=jws, claims=jws.unverified_claims(), issuer=ISSUER, verified_by=NOBODY)


def test_a_credential_that_was_verified_is_known() -> None:
    known = KnownCredentials()
    attempt = Attempt.credential()
    text = attempt.text()
    first = judged(attempt, known, text)
    assert len(known) == 1
    credential = text[: text.rindex("~") + 1]
    assert judged(attempt, known, credential + attempt._proof(credential)) == first  # with another proof
    assert len(known) == 1
    found = known.find(text.split("~", maxsplit=1)[0])
    assert found is not None
    assert found.verified_by == (ISSUER_KEY.public.thumbprint, Algorithm.ES256)
    assert known.find(text.split("~", maxsplit=1)[0] + "A") is None


def test_an_assertion_is_not_kept() -> None:
    known = KnownCredentials()
    judged(Attempt.assertion(), known)
    assert len(known) == 0


def test_what_does_not_verify_is_not_kept() -> None:
    known = KnownCredentials()
    attempt = Attempt.credential()
    attempt.signer = STRANGER_KEY
    attempt.header = {"kid": ISSUER_KEY.public.kid}
    assert refusal(attempt, known) is Reason.SIGNATURE_INVALID
    assert len(known) == 0
    with pytest.raises(ValueError, match="verified"):
        known.keep("x", replace(signed(), verified_by=None))


def test_a_known_credential_is_refused_once_its_key_is_gone() -> None:
    known = KnownCredentials()
    attempt = Attempt.credential()
    text = attempt.text()
    judged(attempt, known, text)
    attempt.view.keys.clear()
    assert refusal(attempt, known, text) is Reason.KEY_UNKNOWN
    attempt.view.failure = Rejected(Reason.KEY_REVOKED, "compromised")
    assert refusal(attempt, known, text) is Reason.KEY_REVOKED


def test_another_key_under_the_same_name_is_asked_again() -> None:
    known = KnownCredentials()
    attempt = Attempt.credential()
    text = attempt.text()
    judged(attempt, known, text)
    attempt.view.keys[ISSUER, ISSUER_KEY.public.kid] = Trusted(STRANGER_KEY.public)
    assert refusal(attempt, known, text) is Reason.SIGNATURE_INVALID


def test_one_key_for_another_algorithm_is_asked_again() -> None:
    rsa = generate_key(Algorithm.PS256)
    known = KnownCredentials()
    attempt = Attempt.credential()
    attempt.view.with_terms(algorithms={Algorithm.PS256: None, Algorithm.RS256: None})
    attempt.signer = rsa
    attempt.view.keys[ISSUER, rsa.public.kid] = Trusted(rsa.public)
    text = attempt.text()
    judged(attempt, known, text)
    same = load_pkcs8(rsa.to_pkcs8()).public  # of an RSA key that names no algorithm, it is RS256
    assert (same.thumbprint, same.algorithm) == (rsa.public.thumbprint, Algorithm.RS256)
    attempt.view.keys[ISSUER, rsa.public.kid] = Trusted(same)
    assert refusal(attempt, known, text) is Reason.ALGORITHM_NOT_ALLOWED


def test_the_holder_proves_possession_each_time() -> None:
    known = KnownCredentials()
    attempt = Attempt.credential()
    judged(attempt, known)
    credential = attempt.without_binding().text()
    assert refusal(attempt, known, credential) is Reason.KEY_BINDING_MISSING
    attempt.holder = STRANGER_KEY
    assert refusal(attempt, known, credential + attempt._proof(credential)) is Reason.KEY_BINDING_INVALID
    attempt.nonce = nonce_for(service="another")
    assert refusal(attempt, known) is not None


def test_other_disclosures_of_a_known_credential_are_read_anew() -> None:
    known = KnownCredentials()
    attempt = Attempt.credential()
    attempt.matter = replace(attempt.matter, required_claims=frozenset())
    token, *disclosures, _ = attempt.without_binding().text().split("~")

    def shown(*chosen: str) -> dict[str, object]:
        text = "~".join((token, *chosen, ""))
        attempt.matter = replace(attempt.matter, key_binding=False)
        attempt.matter = replace(attempt.matter, min_assurance=replace(attempt.matter.min_assurance, federation=2))
        return dict(judged(attempt, known, text).attributes)

    assert shown(*disclosures).keys() == {"name", "id_type", "id_number", "hukou_region"}
    assert shown(disclosures[0]).keys() == {"name"}
    assert shown() == {}
    assert shown(*disclosures).keys() == {"name", "id_type", "id_number", "hukou_region"}
    stranger = Attempt.credential().disclose("salt-of-22-characters-999", "name", "somebody else")
    text = f"{token}~{stranger}~"
    assert refusal(attempt, known, text) is Reason.DISCLOSURE_INVALID


def test_the_oldest_goes_when_there_are_too_many() -> None:
    known = KnownCredentials(most=3)
    for name in "abc":
        known.keep(name, signed())
    assert known.find("a") is not None  # which makes b the one that was not asked for longest
    known.keep("d", signed())
    assert [name for name in "abcd" if known.find(name) is not None] == ["a", "c", "d"]


def test_the_oldest_goes_when_they_are_too_long() -> None:
    known = KnownCredentials(most_chars=10)
    known.keep("aaaa", signed())
    known.keep("bbbb", signed())
    known.keep("bbbb", signed())  # again: counted once
    assert len(known) == 2
    known.keep("cccc", signed())
    assert (known.find("aaaa"), len(known)) == (None, 2)
    known.keep("d" * 11, signed())
    assert len(known) == 0


def test_two_at_a_time_never_see_each_others_disclosures() -> None:
    known = KnownCredentials()
    attempt = Attempt.credential()
    attempt.matter = replace(
        attempt.matter,
        required_claims=frozenset(),
        key_binding=False,
        min_assurance=replace(attempt.matter.min_assurance, federation=2),
    )
    token, *disclosures, _ = attempt.without_binding().text().split("~")
    wrong: list[object] = []

    def show(disclosure: str, expected: str) -> None:
        request = attempt.request(f"{token}~{disclosure}~")
        view = cast("TrustView", attempt.view)
        for _ in range(300):
            found = verify_presentation(request, view, attempt.lists, attempt.now, Findings(), known=known).attributes
            if found.keys() != {expected}:
                wrong.append(found.keys())

    threads = [
        threading.Thread(target=show, args=(disclosures[place], name))
        for place, name in enumerate(("name", "id_type"))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_no_verification_that_begins_after_a_revocation_is_accepted() -> None:
    known = KnownCredentials()
    attempt = Attempt.credential()
    text = attempt.text()
    good, revoked = View(), View()
    revoked.failure = Rejected(Reason.KEY_REVOKED, "compromised")
    in_force = [good]
    done, over = threading.Semaphore(0), threading.Event()
    wrong: list[object] = []

    def present() -> None:
        while not over.is_set():
            view = in_force[0]
            try:
                request = attempt.request(text)
                verify_presentation(
                    request, cast("TrustView", view), attempt.lists, attempt.now, Findings(), known=known
                )
                if view is revoked:
                    wrong.append("accepted by the view without the key")
            except Rejected as rejection:
                if view is good or rejection.reason is not Reason.KEY_REVOKED:
                    wrong.append(rejection.reason)
            done.release()

    threads = [threading.Thread(target=present) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(40):  # revoked, and the view before put back, in the midst of it
        in_force[0] = good if number % 2 else revoked
        for _ in range(8):
            done.acquire()
    over.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(known) == 1  # and it was known all along
