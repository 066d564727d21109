"""Four provinces, production code, no network: what recognition means from end to end."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest

from gateway.core.charter import add_signature, draft, parse_charter, unsigned
from gateway.core.identifiers import Province
from gateway.core.jose import generate_key, sign_compact
from gateway.core.reasons import NotPermitted, Reason, Unavailable
from gateway.core.statements import TYP
from gateway.lab.charter import COURT_FILING, HUKOU_MIGRATION, LICENCE_DISPLAY, entity_ids
from gateway.storage import LedgerEntry, StorageError
from gateway.tls import Caller
from gateway.verifier import Acceptance, Answer, Rejection, Undecided
from gateway.wire import VerifyRequest
from tests.federation import AH, JS, SH, XU_CLAIMS, XU_ID_NUMBER, ZJ, Federation, MemoryPeer

FRESH = timedelta(minutes=9)
STALE = timedelta(minutes=30)
LAPSED = timedelta(hours=2)


def accepted(answer: Answer) -> Acceptance:
    assert isinstance(answer.verdict, Acceptance), answer.verdict
    return answer.verdict


def rejected(answer: Answer) -> Reason:
    assert isinstance(answer.verdict, Rejection), answer.verdict
    return answer.verdict.reason


def undecided(answer: Answer) -> Reason:
    assert isinstance(answer.verdict, Undecided), answer.verdict
    return answer.verdict.reason


# -- recognition ------------------------------------------------------------------------------------------------------


def test_every_province_recognises_every_other(federation: Federation) -> None:
    for issuing, verifying in permutations(Province, 2):
        wallet = federation.issue(issuing)
        verdict = accepted(federation.verify(*federation.present(wallet, at=verifying), at=verifying))
        assert verdict.province == issuing
        assert verdict.issuer == entity_ids(issuing).issuer


def test_mr_xu_keeps_his_number_and_is_released_what_the_matter_may_have(federation: Federation) -> None:
    verdict = accepted(federation.verify(*federation.present(federation.issue())))
    assert verdict.attributes == XU_CLAIMS
    assert verdict.attributes["id_number"] == XU_ID_NUMBER
    assert verdict.holder_bound


def test_an_id_number_of_another_province_does_not_contradict_the_issuer(federation: Federation) -> None:
    wallet = federation.issue(SH, claims={**XU_CLAIMS, "id_number": "340104190001010016"})
    assert accepted(federation.verify(*federation.present(wallet))).province == SH


def test_a_claim_outside_the_matters_list_is_not_released(federation: Federation) -> None:
    presentation, nonce = federation.present(federation.issue(), matter=LICENCE_DISPLAY)
    verdict = accepted(federation.verify(presentation, nonce, matter=LICENCE_DISPLAY))
    assert verdict.attributes == {"name": "徐某"}


def test_the_subject_given_out_differs_by_gateway_and_is_not_the_issuers(federation: Federation) -> None:
    wallet = federation.issue()
    first = accepted(federation.verify(*federation.present(wallet)))
    again = accepted(federation.verify(*federation.present(wallet)))
    assert first.subject == again.subject
    assert first.subject not in wallet.credential


# -- once only --------------------------------------------------------------------------------------------------------


def test_a_nonce_is_good_once(federation: Federation) -> None:
    presentation, nonce = federation.present(federation.issue())
    accepted(federation.verify(presentation, nonce))
    assert rejected(federation.verify(presentation, nonce)) is Reason.REPLAYED


def test_a_nonce_is_good_once_also_for_another_persons_credential(federation: Federation) -> None:
    node = federation[AH]
    challenge = node.verifier.create_challenge(node.caller, HUKOU_MIGRATION)
    made = [
        wallet.present(audience=challenge.audience, nonce=challenge.nonce, issued_at=federation.clock.now)
        for wallet in (federation.issue(SH), federation.issue(JS))
    ]
    accepted(federation.verify(made[0], challenge.nonce))
    assert rejected(federation.verify(made[1], challenge.nonce)) is Reason.REPLAYED


def test_an_assertion_is_good_once(federation: Federation) -> None:
    assertion = federation.assertion(audience=federation[AH].service.identity)
    accepted(federation.verify(assertion, matter=LICENCE_DISPLAY))
    assert rejected(federation.verify(assertion, matter=LICENCE_DISPLAY)) is Reason.REPLAYED


@pytest.mark.parametrize("kind", ["credential", "assertion"])
def test_concurrent_calls_with_one_nonce_or_jti_are_accepted_exactly_once(federation: Federation, kind: str) -> None:
    if kind == "credential":
        presentation, nonce = federation.present(federation.issue(), matter=LICENCE_DISPLAY)
    else:
        presentation, nonce = federation.assertion(audience=federation[AH].service.identity), ""
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: federation.verify(presentation, nonce, matter=LICENCE_DISPLAY), range(32)))
    verdicts = [answer.verdict for answer in answers]
    assert sum(isinstance(verdict, Acceptance) for verdict in verdicts) == 1
    assert sum(verdict == Rejection(reason=Reason.REPLAYED) for verdict in verdicts) == 31


@pytest.mark.parametrize("people", [4, pytest.param(300, marks=pytest.mark.long)])
def test_many_people_at_once_while_trust_is_refreshed_are_each_accepted_once(
    federation: Federation, people: int
) -> None:
    shown = [
        federation.present(federation.issue(province)) for _ in range(people // 4) for province in (SH, JS, ZJ, AH)
    ]
    forged_tokens = [
        forged(federation, signer=generate_key(), issuer=entity_ids(SH).issuer) for _ in range(people // 4)
    ]
    done = threading.Event()

    def refresh() -> None:
        while not done.is_set():
            federation[AH].resolver.refresh()

    refresher = threading.Thread(target=refresh)
    refresher.start()
    try:
        with ThreadPoolExecutor(32) as pool:
            answers = list(pool.map(lambda each: (each, federation.verify(*each)), shown * 8))
            refused = list(pool.map(lambda each: federation.verify(each, matter=LICENCE_DISPLAY), forged_tokens))
    finally:
        done.set()
        refresher.join()
    for each in shown:
        verdicts = [answer.verdict for made, answer in answers if made == each]
        assert sum(isinstance(verdict, Acceptance) for verdict in verdicts) == 1
        assert sum(verdict == Rejection(reason=Reason.REPLAYED) for verdict in verdicts) == 7
    # Those who come while too many wait for the one refresh are told to ask again.
    reasons = {answer.verdict.reason for answer in refused if not isinstance(answer.verdict, Acceptance)}
    assert not any(isinstance(answer.verdict, Acceptance) for answer in refused)
    assert reasons <= {Reason.KEY_UNKNOWN, Reason.TRUST_STALE}
    assert len(federation[AH].decisions()) == len(answers) + len(refused)


def test_a_rejected_presentation_does_not_spend_the_nonce(federation: Federation) -> None:
    presentation, nonce = federation.present(federation.issue())
    broken = presentation[:-1] + ("A" if presentation[-1] != "A" else "Q")
    assert rejected(federation.verify(broken, nonce)) is Reason.KEY_BINDING_INVALID
    accepted(federation.verify(presentation, nonce))


def test_a_replay_is_refused_after_the_clock_ran_ahead_and_was_put_right(federation: Federation) -> None:
    presentation, nonce = federation.present(federation.issue())
    assert isinstance(federation.verify(presentation, nonce).verdict, Acceptance)
    federation.clock.advance(timedelta(hours=2))
    federation.verify(*federation.present(federation.issue()))  # whatever it says, the ledger looks what has lapsed
    federation.clock.advance(timedelta(hours=-2))
    answer = federation.verify(presentation, nonce)
    assert answer.verdict == Rejection(reason=Reason.REPLAYED)


def test_a_lapsed_replay_key_is_forgotten_when_the_anchors_clocks_say_so_too(federation: Federation) -> None:
    federation.verify(*federation.present(federation.issue()))
    for _ in range(2):
        federation.clock.advance(timedelta(minutes=30))
        federation.settle()
    federation.verify(*federation.present(federation.issue()))
    node = federation[AH]
    node.ledger.close()  # what it does after an answer is done
    assert len(node.log._ledger.execute("SELECT 1 FROM replays").fetchall()) == 1


def test_a_replay_is_refused_after_a_restart(federation: Federation) -> None:
    presentation, nonce = federation.present(federation.issue())
    accepted(federation.verify(presentation, nonce))
    federation.restart(AH)
    assert rejected(federation.verify(presentation, nonce)) is Reason.REPLAYED


# -- somewhere else, somebody else ------------------------------------------------------------------------------------


def test_case_84_a_presentation_made_for_one_gateway_is_refused_by_another(federation: Federation) -> None:
    presentation, nonce = federation.present(federation.issue(), at=AH)
    assert rejected(federation.verify(presentation, nonce, at=ZJ)) is Reason.AUDIENCE_MISMATCH


def test_a_nonce_of_another_matter_is_refused(federation: Federation) -> None:
    presentation, nonce = federation.present(federation.issue(), matter=LICENCE_DISPLAY)
    assert rejected(federation.verify(presentation, nonce, matter=HUKOU_MIGRATION)) is Reason.NONCE_MISMATCH


def test_a_nonce_we_never_made_is_refused(federation: Federation) -> None:
    nonce = "1795395600." + "A" * 22 + "." + "A" * 43
    presentation = federation.issue().present(
        audience=federation[AH].service.identity, nonce=nonce, issued_at=federation.clock.now
    )
    assert rejected(federation.verify(presentation, nonce)) is Reason.NONCE_MISMATCH


def test_a_lapsed_nonce_is_refused(federation: Federation) -> None:
    node = federation[AH]
    wallet = federation.issue()
    challenge = node.verifier.create_challenge(node.caller, HUKOU_MIGRATION)
    federation.clock.advance(timedelta(minutes=5))
    presentation = wallet.present(audience=challenge.audience, nonce=challenge.nonce, issued_at=federation.clock.now)
    assert rejected(federation.verify(presentation, challenge.nonce)) is Reason.NONCE_MISMATCH


def test_a_thief_without_the_holders_key_is_refused(federation: Federation) -> None:
    node = federation[AH]
    challenge = node.verifier.create_challenge(node.caller, HUKOU_MIGRATION)
    stolen = federation.issue().present(
        audience=challenge.audience, nonce=challenge.nonce, issued_at=federation.clock.now, key=generate_key()
    )
    assert rejected(federation.verify(stolen, challenge.nonce)) is Reason.KEY_BINDING_INVALID


def test_an_assertion_bound_to_a_certificate_serves_that_caller_only(federation: Federation) -> None:
    audience = federation[AH].service.identity
    mine = federation.assertion(audience=audience, certificate_sha256="A" * 43)
    other = federation.assertion(audience=audience, certificate_sha256="B" * 42 + "A")
    # It is the service's own channel: nothing is proven of the holder.
    assert not accepted(federation.verify(mine, matter=LICENCE_DISPLAY)).holder_bound
    assert rejected(federation.verify(other, matter=LICENCE_DISPLAY)) is Reason.KEY_BINDING_INVALID


def test_a_caller_that_is_not_registered_gets_no_verdict(federation: Federation) -> None:
    presentation, nonce = federation.present(federation.issue())
    node = federation[AH]
    stranger = Caller(identity=f"{node.ids.gateway}/services/stranger", certificate_sha256="A" * 43)
    for caller, matter in ((stranger, HUKOU_MIGRATION), (node.caller, COURT_FILING), (node.caller, "no-such-matter")):
        with pytest.raises(NotPermitted):
            node.verifier.verify(caller, VerifyRequest(matter=matter, presentation=presentation, nonce=nonce))


def test_a_level_below_the_matters_floor_is_refused(federation: Federation) -> None:
    wallet = federation.issue(acr="urn:yrd:loa:3")
    assert rejected(federation.verify(*federation.present(wallet))) is Reason.ASSURANCE_TOO_LOW


def forged(federation: Federation, *, signer: Any, issuer: str) -> str:
    """An assertion like Shanghai's, signed by somebody else."""
    true = federation.assertion(audience=federation[AH].service.identity)
    claims = parse_payload(true)
    claims["iss"] = issuer
    return sign_compact("identity-assertion+jwt", claims, signer)


def parse_payload(token: str) -> dict[str, Any]:
    from gateway.core.jose import parse_compact  # noqa: PLC0415

    return parse_compact(token, max_chars=65_536).unverified_claims()


def test_case_49_a_key_of_one_province_does_not_sign_for_another(federation: Federation) -> None:
    token = forged(federation, signer=federation.keys[JS]["issuer-credential"], issuer=entity_ids(SH).issuer)
    assert rejected(federation.verify(token, matter=LICENCE_DISPLAY)) is Reason.KEY_UNKNOWN


def test_case_23_a_key_of_another_purpose_does_not_sign_credentials(federation: Federation) -> None:
    token = forged(federation, signer=federation.keys[SH]["issuer-federation"], issuer=entity_ids(SH).issuer)
    assert rejected(federation.verify(token, matter=LICENCE_DISPLAY)) is Reason.KEY_UNKNOWN


def test_an_anchors_key_does_not_sign_credentials(federation: Federation) -> None:
    token = forged(federation, signer=federation.keys[SH]["anchor-federation"], issuer=entity_ids(SH).issuer)
    assert rejected(federation.verify(token, matter=LICENCE_DISPLAY)) is Reason.KEY_UNKNOWN


def test_an_issuer_of_nobodys_choosing_is_unknown(federation: Federation) -> None:
    token = forged(federation, signer=generate_key(), issuer="https://issuer.gd.mrg.example")
    assert rejected(federation.verify(token, matter=LICENCE_DISPLAY)) is Reason.ISSUER_UNKNOWN


# -- peers that are down, slow to change, or hostile ------------------------------------------------------------------


def silence(federation: Federation, at: Province, others: Sequence[Province] = tuple(Province)) -> list[MemoryPeer]:
    peers = [peer for province, peer in federation[at].peers.items() if province in others]
    for peer in peers:
        peer.down = True
    return peers


@pytest.mark.parametrize(
    ("later", "outcome"), [(FRESH, "accepted"), (STALE, "accepted, stale"), (LAPSED, "indeterminate")]
)
def test_cut_off_from_all_peers_the_gateway_verifies_until_its_documents_are_too_old(
    federation: Federation, later: timedelta, outcome: str
) -> None:
    wallet = federation.issue()
    silence(federation, AH)
    federation.clock.advance(later)
    federation[AH].resolver.refresh()
    answer = federation.verify(*federation.present(wallet))
    if outcome == "indeterminate":
        assert undecided(answer) is Reason.TRUST_STALE
    else:
        accepted(answer)
        assert answer.basis.stale is outcome.endswith("stale")


def test_a_gateway_restarts_from_its_own_file_with_every_peer_down(federation: Federation) -> None:
    wallet = federation.issue()
    federation.restart(AH)
    silence(federation, AH)
    federation[AH].resolver.refresh()
    accepted(federation.verify(*federation.present(wallet)))


def test_one_dead_peer_takes_nothing_from_the_others(federation: Federation) -> None:
    silence(federation, AH, [ZJ])
    federation.clock.advance(timedelta(minutes=40))
    for province in (SH, JS, ZJ):
        federation[province].resolver.publish_own()
    federation.settle()
    federation.clock.advance(timedelta(minutes=8))
    answer = federation.verify(*federation.present(federation.issue(SH)))
    accepted(answer)
    assert not answer.basis.stale


def test_a_peer_that_hands_out_garbage_changes_nothing(federation: Federation) -> None:
    wallet = federation.issue()
    before = federation[AH].resolver.view.view_id
    peer = federation[AH].peers[SH]
    shanghai = entity_ids(SH)
    for place in ((shanghai.issuer, shanghai.issuer), (shanghai.anchor, shanghai.anchor)):
        peer.overrides[place] = "garbage"
    federation[AH].resolver.refresh()
    assert federation[AH].resolver.view.view_id == before
    accepted(federation.verify(*federation.present(wallet)))


def test_a_peer_cannot_speak_for_an_entity_of_another_province(federation: Federation) -> None:
    peer = federation[AH].peers[JS]
    thief = generate_key()
    claims = parse_payload(federation[SH].resolver.document(entity_ids(SH).issuer, entity_ids(SH).issuer) or "")
    claims["jwks"] = {"keys": [dict(thief.public.jwk)]}
    claims["metadata"]["identity_credential_issuer"]["jwks"] = {"keys": [dict(generate_key().public.jwk)]}
    peer.overrides[entity_ids(JS).issuer, entity_ids(JS).issuer] = sign_compact(TYP, claims, thief)
    wallet = federation.issue()
    federation[AH].resolver.refresh()
    accepted(federation.verify(*federation.present(wallet)))


def rotate_credential_key(federation: Federation, province: Province) -> None:
    """Give a province's issuer a new credential key, and let the province and all anchors but Anhui's hear of it."""
    federation.clock.advance(timedelta(minutes=1))
    federation.activate(province, federation.new_key(province))
    for _ in range(2):
        for node in federation.nodes.values():
            if node.province is not AH:
                node.resolver.refresh()


def test_a_key_published_since_the_last_refresh_is_found_by_one_forced_refresh(federation: Federation) -> None:
    rotate_credential_key(federation, SH)
    wallet = federation.issue()
    accepted(federation.verify(*federation.present(wallet)))


def test_a_new_key_after_a_restart_in_the_same_second_is_attested(federation: Federation) -> None:
    federation.activate(SH, federation.new_key(SH))
    federation.restart(SH)
    federation.settle()
    accepted(federation.verify(*federation.present(federation.issue())))


def test_a_flood_of_unknown_kids_costs_the_peers_one_round(federation: Federation) -> None:
    tokens = [forged(federation, signer=generate_key(), issuer=entity_ids(SH).issuer) for _ in range(20)]
    peer = federation[AH].peers[SH]
    before = peer.asked
    rounds = [rejected(federation.verify(token, matter=LICENCE_DISPLAY)) for token in tokens]
    first_round = peer.asked - before
    federation.verify(tokens[0], matter=LICENCE_DISPLAY)
    assert set(rounds) == {Reason.KEY_UNKNOWN}
    assert 0 < first_round < 20
    assert peer.asked - before == first_round


def test_an_unknown_issuer_causes_no_fetch(federation: Federation) -> None:
    token = forged(federation, signer=generate_key(), issuer="https://issuer.gd.mrg.example")
    before = sum(peer.asked for peer in federation[AH].peers.values())
    federation.verify(token, matter=LICENCE_DISPLAY)
    assert sum(peer.asked for peer in federation[AH].peers.values()) == before


def next_charter(federation: Federation, signers: Sequence[Province], **changes: Any) -> str:
    claims = {
        **federation.claims,
        "version": 2,
        "prev_sha256": federation.charter.sha256,
        **changes,
    }
    document = unsigned(draft(claims))
    for province in signers:
        document = add_signature(document, federation.keys[province]["anchor-federation"])
    return document


def without_zhejiang(federation: Federation) -> dict[str, Any]:
    gone = entity_ids(ZJ).issuer
    agreement = dict(federation.claims["agreement"])
    agreement["issuers"] = [each for each in agreement["issuers"] if each["entity_id"] != gone]
    return {
        "members": [each for each in federation.claims["members"] if each["entity_id"] != gone],
        "agreement": agreement,
    }


@pytest.mark.parametrize(("signers", "followed"), [((SH, JS, AH), True), ((SH, JS), False)])
def test_case_52_a_member_the_charter_no_longer_names_is_unknown(
    federation: Federation, signers: Sequence[Province], followed: bool
) -> None:
    wallet = federation.issue(ZJ)
    document = next_charter(federation, signers, **without_zhejiang(federation))
    federation[AH].peers[SH].charters[2] = document
    federation[AH].resolver.refresh()
    answer = federation.verify(*federation.present(wallet))
    if followed:
        assert rejected(answer) is Reason.ISSUER_UNKNOWN
        assert answer.basis.charter_version == parse_charter(document).unverified.version == 2
    else:
        accepted(answer)
        assert answer.basis.charter_version == 1


def test_a_followed_charter_survives_a_restart(federation: Federation) -> None:
    document = next_charter(federation, (SH, JS, AH))
    federation[AH].peers[SH].charters[2] = document
    federation[AH].resolver.refresh()
    assert federation[AH].resolver.view.charter.version == 2
    federation.restart(AH)
    assert federation[AH].resolver.view.charter.version == 2
    assert federation[AH].resolver.charter_document(1) == federation.document


# -- the ledger -------------------------------------------------------------------------------------------------------


def test_every_decision_is_recorded_once_with_its_reason(federation: Federation) -> None:
    presentation, nonce = federation.present(federation.issue())
    answers = [federation.verify(presentation, nonce), federation.verify(presentation, nonce)]
    entries = federation[AH].decisions()
    assert [entry.verification_id for entry in entries] == [answer.verification_id for answer in answers]
    assert [(entry.verdict, entry.reason) for entry in entries] == [("accepted", ""), ("rejected", "REPLAYED")]
    assert entries[0].issuer == entity_ids(SH).issuer
    assert entries[0].kid == federation.keys[SH]["issuer-credential"].public.kid


def test_what_cannot_be_recorded_is_not_answered(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    presentation, nonce = federation.present(federation.issue())

    def full(_group: Sequence[LedgerEntry]) -> Sequence[bool]:
        raise StorageError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(federation[AH].log, "commit", full)
        with pytest.raises(Unavailable):
            federation.verify(presentation, nonce)
    accepted(federation.verify(presentation, nonce))


def test_nothing_about_the_person_reaches_the_disk_of_the_verifying_province(federation: Federation) -> None:
    presentation, nonce = federation.present(federation.issue())
    assertion = federation.assertion(audience=federation[AH].service.identity)
    subject = accepted(federation.verify(presentation, nonce)).subject
    accepted(federation.verify(assertion, matter=LICENCE_DISPLAY))
    written = b"".join(path.read_bytes() for path in federation.directory.glob("ah.sqlite*"))
    canaries = [
        "徐某",
        XU_ID_NUMBER,
        nonce,
        subject,
        presentation[:200],
        assertion[-80:],
        parse_payload(assertion)["jti"],
    ]
    assert entity_ids(SH).issuer.encode() in written
    assert [canary for canary in canaries if canary.encode() in written] == []
