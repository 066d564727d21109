"""Counting: per key, per anchor, per issuer, and never from what a document says about itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.core.charter import (
    GATEWAY_TYPE,
    ISSUER_TYPE,
    Charter,
    add_signature,
    draft,
    parse_charter,
    unsigned,
    verify_pinned,
)
from gateway.core.identifiers import Province
from gateway.core.jose import Algorithm, SoftwareKey, generate_key, parse_compact, sign_compact
from gateway.core.publication import KEY_PROOFS, Attested, configuration_claims, key_proof, vouch
from gateway.core.reasons import Indeterminate, Reason, Rejected
from gateway.core.statements import TYP
from gateway.core.trust import Documents, TrustView, admit, build_view
from gateway.lab.charter import RESIDENT_ID, charter_claims, entity_ids

NOW = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)
SH, JS, ZJ, AH = Province
ANCHORS = [entity_ids(province).anchor for province in Province]
SHANGHAI = entity_ids(SH).issuer
JIANGSU = entity_ids(JS).issuer
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


class Papers:
    """The documents of a small federation, made by hand so that each can be made wrong."""

    def __init__(self) -> None:
        self.anchor_keys = {entity_ids(p).anchor: generate_key() for p in Province}
        self.federation_keys = {entity_ids(p).issuer: generate_key() for p in Province}
        self.credential_keys = {entity_ids(p).issuer: [generate_key()] for p in Province}
        claims = charter_claims({p: self.anchor_keys[entity_ids(p).anchor].public for p in Province}, NOW)
        document = unsigned(draft(claims))
        for key in self.anchor_keys.values():
            document = add_signature(document, key)
        self.charter: Charter = verify_pinned(document, parse_charter(document).unverified.sha256)
        self.documents: dict[tuple[str, str], str] = {}
        for anchor in ANCHORS:
            self.documents[anchor, anchor] = self.anchor_configuration(anchor)
        for issuer in self.federation_keys:
            self.documents[issuer, issuer] = self.configuration(issuer)
            for anchor in ANCHORS:
                self.documents[anchor, issuer] = self.statement(anchor, issuer)

    def anchor_configuration(
        self, anchor: str, *, key: SoftwareKey | None = None, at: datetime = NOW, lifetime: timedelta = 10 * MINUTE
    ) -> str:
        signer = key or self.anchor_keys[anchor]
        claims = configuration_claims(
            entity_id=anchor,
            federation_key=signer.public,
            metadata={"federation_entity": {}},
            authority_hints=(),
            lifetime=lifetime,
            now=at,
        )
        return sign_compact(TYP, claims, signer)

    def configuration(
        self,
        issuer: str,
        *,
        keys: Sequence[SoftwareKey] | None = None,
        signer: SoftwareKey | None = None,
        at: datetime = NOW,
        hints: Sequence[str] = ANCHORS,
        prover: str | None = None,
    ) -> str:
        signing = signer or self.federation_keys[issuer]
        claims = configuration_claims(
            entity_id=issuer,
            federation_key=signing.public,
            metadata={ISSUER_TYPE: self.metadata(keys or self.credential_keys[issuer], prover or issuer)},
            authority_hints=hints,
            lifetime=HOUR,
            now=at,
        )
        return sign_compact(TYP, claims, signing)

    def metadata(self, keys: Sequence[SoftwareKey], prover: str = "") -> dict[str, Any]:
        return {
            "credential_types": [RESIDENT_ID],
            "jwks": {"keys": [dict(key.public.jwk) for key in keys]},
            KEY_PROOFS: {key.public.kid: key_proof(prover, key) for key in keys},
        }

    def statement(
        self,
        anchor: str,
        issuer: str,
        *,
        keys: Sequence[SoftwareKey] | None = None,
        signer: SoftwareKey | None = None,
        at: datetime = NOW,
        change: Callable[[dict[str, Any]], None] = lambda _claims: None,
    ) -> str:
        claims: dict[str, Any] = {
            "iss": anchor,
            "sub": issuer,
            "iat": int(at.timestamp()),
            "exp": int((at + HOUR).timestamp()),
            "jwks": {"keys": [dict(self.federation_keys[issuer].public.jwk)]},
            "metadata": {ISSUER_TYPE: {"jwks": self.metadata(keys or self.credential_keys[issuer])["jwks"]}},
            "constraints": {"max_path_length": 0},
        }
        change(claims)
        return sign_compact(TYP, claims, signer or self.anchor_keys[anchor])

    def view(self, now: datetime = NOW) -> TrustView:
        return build_view(self.charter, self.documents, now)

    def attest(self, issuer: str, keys: Sequence[SoftwareKey], anchors: Sequence[str]) -> None:
        """Publish keys, and have these anchors pin them."""
        self.documents[issuer, issuer] = self.configuration(issuer, keys=keys)
        for anchor in anchors:
            self.documents[anchor, issuer] = self.statement(anchor, issuer, keys=keys)


@pytest.fixture
def papers() -> Papers:
    return Papers()


def reason_of(action: Callable[[], object]) -> Reason:
    try:
        action()
    except (Rejected, Indeterminate) as refusal:
        return refusal.reason
    return pytest.fail("nothing was refused")


def test_a_key_that_all_anchors_attest_is_usable(papers: Papers) -> None:
    key = papers.credential_keys[SHANGHAI][0].public
    trusted = papers.view().credential_key(SHANGHAI, key.kid, NOW)
    assert trusted.key.thumbprint == key.thumbprint
    assert set(trusted.anchors) == set(ANCHORS)
    assert papers.view().issuer(SHANGHAI).credential_types == {RESIDENT_ID}
    assert papers.view().problems == ()


@pytest.mark.parametrize(("anchors", "usable"), [(2, False), (3, True), (4, True)])
def test_case_118_a_key_needs_a_quorum_of_distinct_anchors(papers: Papers, anchors: int, usable: bool) -> None:
    fresh = generate_key()
    papers.attest(SHANGHAI, [*papers.credential_keys[SHANGHAI], fresh], ANCHORS[:anchors])
    view = papers.view()
    if usable:
        assert len(view.credential_key(SHANGHAI, fresh.public.kid, NOW).anchors) == anchors
    else:
        assert reason_of(lambda: view.credential_key(SHANGHAI, fresh.public.kid, NOW)) is Reason.KEY_UNKNOWN


def test_the_old_key_stays_usable_while_a_new_one_gathers_its_quorum(papers: Papers) -> None:
    old, fresh = papers.credential_keys[SHANGHAI][0], generate_key()
    papers.attest(SHANGHAI, [old, fresh], ANCHORS[:2])
    assert papers.view().credential_key(SHANGHAI, old.public.kid, NOW).key.kid == old.public.kid


def test_a_key_listed_only_by_its_issuer_is_not_trusted(papers: Papers) -> None:
    fresh = generate_key()
    papers.attest(SHANGHAI, [*papers.credential_keys[SHANGHAI], fresh], [])
    assert reason_of(lambda: papers.view().credential_key(SHANGHAI, fresh.public.kid, NOW)) is Reason.KEY_UNKNOWN


def test_a_key_of_one_issuer_never_vouches_for_another(papers: Papers) -> None:
    key = papers.credential_keys[JIANGSU][0].public
    view = papers.view()
    assert view.credential_key(JIANGSU, key.kid, NOW).key.kid == key.kid
    assert reason_of(lambda: view.credential_key(SHANGHAI, key.kid, NOW)) is Reason.KEY_UNKNOWN


def test_an_issuer_outside_the_charter_is_unknown(papers: Papers) -> None:
    key = papers.credential_keys[SHANGHAI][0].public
    assert (
        reason_of(lambda: papers.view().credential_key("https://issuer.gd.mrg.example", key.kid, NOW))
        is Reason.ISSUER_UNKNOWN
    )


def test_case_63_anchor_keys_never_come_from_a_fetched_document(papers: Papers) -> None:
    thief = generate_key()
    for anchor in ANCHORS:
        papers.documents[anchor, anchor] = papers.anchor_configuration(anchor, key=thief)
        papers.documents[anchor, SHANGHAI] = papers.statement(anchor, SHANGHAI, signer=thief)
    view = papers.view()
    key = papers.credential_keys[SHANGHAI][0].public
    assert view.issuer(SHANGHAI).keys == {}
    assert reason_of(lambda: view.credential_key(SHANGHAI, key.kid, NOW)) is Reason.TRUST_STALE


def test_case_119_one_anchor_under_several_names_of_place_has_one_vote(papers: Papers) -> None:
    fresh = generate_key()
    keys = [*papers.credential_keys[SHANGHAI], fresh]
    papers.attest(SHANGHAI, keys, ANCHORS[:2])
    # The same anchor's word once more, under another anchor's place.
    papers.documents[ANCHORS[2], SHANGHAI] = papers.statement(ANCHORS[0], SHANGHAI, keys=keys)
    papers.documents[ANCHORS[3], SHANGHAI] = papers.statement(ANCHORS[1], SHANGHAI, keys=keys)
    view = papers.view()
    assert fresh.public.kid not in view.issuer(SHANGHAI).keys
    assert len(view.issuer(SHANGHAI).votes) == 2


def test_case_35_a_key_that_two_issuers_register_serves_neither(papers: Papers) -> None:
    shared = papers.credential_keys[SHANGHAI][0]
    papers.attest(JIANGSU, [*papers.credential_keys[JIANGSU], shared], ANCHORS)
    view = papers.view()
    assert shared.public.kid not in view.issuer(SHANGHAI).keys
    assert shared.public.kid not in view.issuer(JIANGSU).keys
    assert papers.credential_keys[JIANGSU][0].public.kid in view.issuer(JIANGSU).keys


def test_a_federation_key_signs_no_credentials(papers: Papers) -> None:
    federation = papers.federation_keys[SHANGHAI]
    papers.attest(SHANGHAI, [*papers.credential_keys[SHANGHAI], federation], ANCHORS)
    assert federation.public.kid not in papers.view().issuer(SHANGHAI).keys


def test_one_broken_chain_costs_one_vote_and_is_reported(papers: Papers) -> None:
    papers.documents[ANCHORS[0], SHANGHAI] = papers.statement(
        ANCHORS[0], SHANGHAI, change=lambda claims: claims["constraints"].update(max_path_length=-1)
    )
    view = papers.view()
    assert len(view.issuer(SHANGHAI).votes) == 3
    kid = papers.credential_keys[SHANGHAI][0].public.kid
    assert view.credential_key(SHANGHAI, kid, NOW).key.kid == kid
    assert any(problem.issuer == ANCHORS[0] for problem in view.problems)


def test_case_81_a_type_the_anchors_do_not_allow_grants_nothing(papers: Papers) -> None:
    def only_gateway(claims: dict[str, Any]) -> None:
        claims["constraints"]["allowed_entity_types"] = [GATEWAY_TYPE]

    for anchor in ANCHORS:
        papers.documents[anchor, SHANGHAI] = papers.statement(anchor, SHANGHAI, change=only_gateway)
    view = papers.view()
    key = papers.credential_keys[SHANGHAI][0].public
    assert view.issuer(SHANGHAI).credential_types == frozenset()
    assert reason_of(lambda: view.credential_key(SHANGHAI, key.kid, NOW)) is Reason.KEY_UNKNOWN


# -- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("later", "outcome"),
    [
        (10 * MINUTE - timedelta(seconds=1), "fresh"),
        (10 * MINUTE, "stale"),
        (10 * MINUTE + HOUR - timedelta(seconds=1), "stale"),
        (10 * MINUTE + HOUR, "indeterminate"),
    ],
)
def test_case_129_fresh_then_stale_then_indeterminate_never_unknown(
    papers: Papers, later: timedelta, outcome: str
) -> None:
    view, at = papers.view(), NOW + later
    kid = papers.credential_keys[SHANGHAI][0].public.kid
    if outcome == "indeterminate":
        assert reason_of(lambda: view.credential_key(SHANGHAI, kid, at)) is Reason.TRUST_STALE
    else:
        assert (at < view.credential_key(SHANGHAI, kid, at).fresh_until) is (outcome == "fresh")


def test_a_view_rebuilt_in_the_grace_still_holds_the_keys(papers: Papers) -> None:
    at = NOW + 30 * MINUTE
    kid = papers.credential_keys[SHANGHAI][0].public.kid
    trusted = papers.view(at).credential_key(SHANGHAI, kid, at)
    assert trusted.fresh_until == NOW + 10 * MINUTE


def test_freshness_is_that_of_the_quorum_not_of_the_luckiest_anchor(papers: Papers) -> None:
    later = NOW + 5 * MINUTE
    for anchor in ANCHORS[:2]:
        papers.documents[anchor, anchor] = papers.anchor_configuration(anchor, at=later)
    kid = papers.credential_keys[SHANGHAI][0].public.kid
    assert papers.view(later).credential_key(SHANGHAI, kid, later).fresh_until == NOW + 10 * MINUTE


def test_an_unknown_kid_is_indeterminate_while_silent_anchors_could_make_its_quorum(papers: Papers) -> None:
    stranger = generate_key().public.kid
    for anchor in ANCHORS[:3]:
        del papers.documents[anchor, anchor]
    assert reason_of(lambda: papers.view().credential_key(SHANGHAI, stranger, NOW)) is Reason.TRUST_STALE


def test_an_unknown_kid_is_unknown_when_enough_fresh_anchors_do_not_attest_it(papers: Papers) -> None:
    stranger = generate_key().public.kid
    for anchor in ANCHORS[:2]:
        del papers.documents[anchor, anchor]
    assert reason_of(lambda: papers.view().credential_key(SHANGHAI, stranger, NOW)) is Reason.KEY_UNKNOWN


def test_case_53_an_expired_charter_decides_nothing(papers: Papers) -> None:
    view, at = papers.view(), papers.charter.expires_at
    kid = papers.credential_keys[SHANGHAI][0].public.kid
    assert reason_of(lambda: view.credential_key(SHANGHAI, kid, at)) is Reason.TRUST_STALE


# -- admission --------------------------------------------------------------------------------------------------------


def place_of(token: str) -> tuple[str, str]:
    """Where an honest peer would have been asked for it."""
    try:
        claims = parse_compact(token, max_chars=100_000).unverified_claims()
    except Rejected:
        return SHANGHAI, SHANGHAI
    return claims["iss"], claims["sub"]


def offer(
    papers: Papers, token: str, now: datetime = NOW, place: tuple[str, str] | None = None
) -> tuple[Documents, list[Reason]]:
    admission = admit(papers.charter, papers.documents, {place or place_of(token): token}, now)
    return admission.documents, [problem.reason for problem in admission.refused]


def test_a_newer_statement_of_an_anchor_replaces_the_older(papers: Papers) -> None:
    newer = papers.statement(ANCHORS[0], SHANGHAI, at=NOW + MINUTE)
    documents, refused = offer(papers, newer, now=NOW + MINUTE)
    assert documents[ANCHORS[0], SHANGHAI] == newer
    assert refused == []


def test_an_older_statement_does_not_replace_a_newer(papers: Papers) -> None:
    older = papers.statement(ANCHORS[0], SHANGHAI, at=NOW - MINUTE)
    documents, refused = offer(papers, older)
    assert documents == papers.documents
    assert refused == [Reason.STATEMENT_INVALID]


def test_a_statement_taken_in_while_the_clock_ran_ahead_does_not_keep_out_the_true_one(papers: Papers) -> None:
    papers.documents[ANCHORS[0], SHANGHAI] = papers.statement(ANCHORS[0], SHANGHAI, at=NOW + HOUR)
    true = papers.statement(ANCHORS[0], SHANGHAI, at=NOW)
    documents, refused = offer(papers, true)
    assert documents[ANCHORS[0], SHANGHAI] == true
    assert refused == []


def test_a_self_made_configuration_does_not_displace_the_attested_one(papers: Papers) -> None:
    forged = papers.configuration(SHANGHAI, signer=generate_key(), at=NOW + MINUTE)
    documents, refused = offer(papers, forged, now=NOW + MINUTE)
    assert documents == papers.documents
    assert refused == [Reason.CHAIN_INVALID]


def test_the_true_configuration_displaces_a_self_made_one_that_came_first(papers: Papers) -> None:
    papers.documents[SHANGHAI, SHANGHAI] = papers.configuration(SHANGHAI, signer=generate_key())
    true = papers.configuration(SHANGHAI)
    documents, refused = offer(papers, true)
    assert documents[SHANGHAI, SHANGHAI] == true
    assert refused == []


@pytest.mark.parametrize(
    ("offered", "reason"),
    [
        ("not a statement", Reason.MALFORMED),
        ("stranger", Reason.ISSUER_UNKNOWN),
        ("stranger vouched for", Reason.ISSUER_UNKNOWN),
        ("member vouching", Reason.ISSUER_UNKNOWN),
        ("anchor under a stranger's key", Reason.KEY_UNKNOWN),
        ("expired", Reason.EXPIRED),
    ],
)
def test_what_is_not_an_anchors_or_a_members_word_is_refused(papers: Papers, offered: str, reason: Reason) -> None:
    stranger = generate_key()

    def as_stranger(claims: dict[str, Any]) -> None:
        claims["sub"] = "https://issuer.gd.mrg.example"

    def by_member(claims: dict[str, Any]) -> None:
        claims["iss"] = JIANGSU

    tokens: Mapping[str, Callable[[], str]] = {
        "not a statement": lambda: "garbage",
        "stranger": lambda: sign_compact(
            TYP,
            configuration_claims(
                entity_id="https://issuer.gd.mrg.example",
                federation_key=stranger.public,
                metadata={},
                authority_hints=ANCHORS,
                lifetime=HOUR,
                now=NOW,
            ),
            stranger,
        ),
        "stranger vouched for": lambda: papers.statement(ANCHORS[0], SHANGHAI, change=as_stranger),
        "member vouching": lambda: papers.statement(
            ANCHORS[0], SHANGHAI, change=by_member, signer=papers.federation_keys[JIANGSU]
        ),
        "anchor under a stranger's key": lambda: papers.anchor_configuration(ANCHORS[0], key=stranger),
        "expired": lambda: papers.statement(ANCHORS[0], SHANGHAI, at=NOW - 2 * HOUR),
    }
    documents, refused = offer(papers, tokens[offered]())
    assert documents == papers.documents
    assert refused == [reason]


# -- vouching ---------------------------------------------------------------------------------------------------------


def attested(papers: Papers, issuer: str = SHANGHAI) -> Attested:
    return Attested(
        federation_keys=frozenset({papers.federation_keys[issuer].public.thumbprint}), credential_keys=frozenset()
    )


def vouched(papers: Papers, configuration: str, *, taken: frozenset[str] = frozenset()) -> Mapping[str, Any]:
    return vouch(
        anchor_id=ANCHORS[0],
        charter=papers.charter,
        configuration=configuration,
        attested=attested(papers),
        taken_keys=taken,
        now=NOW,
    ).claims


def test_an_anchor_pins_the_keys_and_narrows_what_the_member_may_be(papers: Papers) -> None:
    claims = vouched(papers, papers.configuration(SHANGHAI))
    assert claims["metadata"][ISSUER_TYPE]["jwks"]["keys"][0]["kid"] == papers.credential_keys[SHANGHAI][0].public.kid
    assert claims["constraints"] == {
        "max_path_length": 0,
        "naming_constraints": {"permitted": ["issuer.sh.mrg.example"]},
        "allowed_entity_types": [ISSUER_TYPE],
    }
    papers.documents[ANCHORS[0], SHANGHAI] = sign_compact(TYP, claims, papers.anchor_keys[ANCHORS[0]])
    assert len(papers.view().issuer(SHANGHAI).votes) == 4


def test_an_anchor_does_not_vouch_for_a_configuration_signed_by_a_key_it_never_attested(papers: Papers) -> None:
    forged = papers.configuration(SHANGHAI, signer=generate_key())
    assert reason_of(lambda: vouched(papers, forged)) is Reason.KEY_UNKNOWN


def test_an_anchor_does_not_vouch_for_a_key_that_belongs_to_another_member(papers: Papers) -> None:
    foreign = papers.credential_keys[JIANGSU][0]
    configuration = papers.configuration(SHANGHAI, keys=[foreign])
    taken = frozenset({foreign.public.thumbprint})
    assert reason_of(lambda: vouched(papers, configuration, taken=taken)) is Reason.KEY_NOT_ACCEPTABLE


def test_an_anchor_does_not_vouch_for_a_federation_key_as_credential_key(papers: Papers) -> None:
    configuration = papers.configuration(SHANGHAI, keys=[papers.federation_keys[SHANGHAI]])
    assert reason_of(lambda: vouched(papers, configuration)) is Reason.KEY_NOT_ACCEPTABLE


def test_an_anchor_does_not_vouch_where_it_is_not_asked_to(papers: Papers) -> None:
    configuration = papers.configuration(SHANGHAI, hints=ANCHORS[1:])
    assert reason_of(lambda: vouched(papers, configuration)) is Reason.CHAIN_INVALID


def test_an_anchor_does_not_vouch_for_a_stranger(papers: Papers) -> None:
    key = generate_key()
    claims = configuration_claims(
        entity_id="https://issuer.gd.mrg.example",
        federation_key=key.public,
        metadata={},
        authority_hints=ANCHORS,
        lifetime=HOUR,
        now=NOW,
    )
    assert reason_of(lambda: vouched(papers, sign_compact(TYP, claims, key))) is Reason.ISSUER_UNKNOWN


def test_an_anchor_does_not_vouch_for_a_key_whose_possession_is_not_proven(papers: Papers) -> None:
    for prover in ("", JIANGSU):
        configuration = papers.configuration(SHANGHAI, prover=prover or "nobody")
        assert reason_of(lambda each=configuration: vouched(papers, each)) is Reason.KEY_NOT_ACCEPTABLE  # type: ignore[misc]


def test_an_anchor_does_not_go_back_to_an_older_configuration(papers: Papers) -> None:
    newer, older = NOW, NOW - MINUTE
    key = papers.federation_keys[SHANGHAI].public.thumbprint
    memory = Attested(
        federation_keys=frozenset({key}), credential_keys=frozenset(), issued_at=newer, digest="of that one"
    )

    def again(at: datetime, now: datetime = NOW) -> object:
        return vouch(
            anchor_id=ANCHORS[0],
            charter=papers.charter,
            configuration=papers.configuration(SHANGHAI, at=at),
            attested=memory,
            taken_keys=frozenset(),
            now=now,
        )

    assert reason_of(lambda: again(older)) is Reason.STATEMENT_INVALID
    assert reason_of(lambda: again(newer)) is Reason.STATEMENT_INVALID  # another one of the same time
    assert again(newer + timedelta(seconds=1)) is not None
    # Our clock ran ahead when the newer one came, and was set right since.
    assert again(NOW - HOUR / 2, now=NOW - HOUR / 2) is not None


# -- one member against another ---------------------------------------------------------------------------------------


def test_a_member_that_lists_anothers_keys_as_its_own_takes_nothing_from_it(papers: Papers) -> None:
    stolen = papers.credential_keys[SHANGHAI][0].public
    for place in ((JIANGSU, JIANGSU), (ANCHORS[1], ANCHORS[1])):
        claims = parse_compact(papers.documents[place], max_chars=100_000).unverified_claims()
        claims["jwks"]["keys"].append(dict(stolen.jwk))
        signer = papers.federation_keys.get(place[0]) or papers.anchor_keys[place[0]]
        papers.documents[place] = sign_compact(TYP, claims, signer)
    for anchor in ANCHORS:
        claims = parse_compact(papers.documents[anchor, JIANGSU], max_chars=100_000).unverified_claims()
        claims["jwks"]["keys"].append(dict(stolen.jwk))
        papers.documents[anchor, JIANGSU] = sign_compact(TYP, claims, papers.anchor_keys[anchor])
    assert papers.view().credential_key(SHANGHAI, stolen.kid, NOW).key.kid == stolen.kid


def test_keys_that_the_anchors_did_not_pin_are_nobodys(papers: Papers) -> None:
    def without_pin(claims: dict[str, Any]) -> None:
        del claims["metadata"]

    for anchor in ANCHORS:
        papers.documents[anchor, SHANGHAI] = papers.statement(anchor, SHANGHAI, change=without_pin)
    view = papers.view()
    kid = papers.credential_keys[SHANGHAI][0].public.kid
    assert len(view.issuer(SHANGHAI).votes) == 4
    assert reason_of(lambda: view.credential_key(SHANGHAI, kid, NOW)) is Reason.KEY_UNKNOWN


def test_a_key_its_issuer_withdrew_is_gone_although_anchors_still_pin_it(papers: Papers) -> None:
    old, fresh = papers.credential_keys[SHANGHAI][0], generate_key()
    papers.attest(SHANGHAI, [old, fresh], ANCHORS)
    papers.documents[SHANGHAI, SHANGHAI] = papers.configuration(SHANGHAI, keys=[fresh], at=NOW + MINUTE)
    view = papers.view()
    assert reason_of(lambda: view.credential_key(SHANGHAI, old.public.kid, NOW)) is Reason.KEY_UNKNOWN
    assert view.credential_key(SHANGHAI, fresh.public.kid, NOW).key.kid == fresh.public.kid


def test_a_type_that_too_few_fresh_anchors_speak_of_is_indeterminate(papers: Papers) -> None:
    def grants_nothing(claims: dict[str, Any]) -> None:
        claims["metadata_policy"] = {ISSUER_TYPE: {"credential_types": {"subset_of": []}}}

    papers.documents[ANCHORS[0], SHANGHAI] = papers.statement(ANCHORS[0], SHANGHAI, change=grants_nothing)
    del papers.documents[ANCHORS[1], ANCHORS[1]]
    view = papers.view()
    assert reason_of(lambda: view.check_authority(SHANGHAI, RESIDENT_ID, NOW)) is Reason.TRUST_STALE
    papers.documents[ANCHORS[2], SHANGHAI] = papers.statement(ANCHORS[2], SHANGHAI, change=grants_nothing)
    assert reason_of(lambda: papers.view().check_authority(SHANGHAI, RESIDENT_ID, NOW)) is Reason.ISSUER_NOT_AUTHORISED


def test_a_document_that_was_not_asked_for_is_refused(papers: Papers) -> None:
    newer = papers.configuration(SHANGHAI, at=NOW + MINUTE)
    documents, refused = offer(papers, newer, NOW + MINUTE, place=(JIANGSU, JIANGSU))
    assert documents == papers.documents
    assert refused == [Reason.STATEMENT_INVALID]


@pytest.mark.parametrize("later", [MINUTE, HOUR + 30 * MINUTE], ids=["in time", "past expiry, within the grace"])
def test_a_self_made_configuration_never_displaces_an_attested_one(papers: Papers, later: timedelta) -> None:
    at = NOW + later
    for anchor in ANCHORS:
        papers.documents[anchor, anchor] = papers.anchor_configuration(anchor, at=at)
    forged = papers.configuration(SHANGHAI, signer=generate_key(), at=at + MINUTE)
    documents, refused = offer(papers, forged, at)
    assert documents == papers.documents
    assert refused == [Reason.CHAIN_INVALID]


def test_an_older_configuration_of_the_member_does_not_come_back(papers: Papers) -> None:
    papers.documents[SHANGHAI, SHANGHAI] = papers.configuration(SHANGHAI, at=NOW + MINUTE, hints=ANCHORS[:3])
    older = papers.configuration(SHANGHAI, at=NOW)
    documents, refused = offer(papers, older, NOW + MINUTE)
    assert documents == papers.documents
    assert refused == [Reason.STATEMENT_INVALID]


def test_an_anchor_does_not_choose_the_algorithm_of_a_key(papers: Papers) -> None:
    key = generate_key(Algorithm.RS256)
    papers.attest(SHANGHAI, [key], ANCHORS)
    assert papers.view().credential_key(SHANGHAI, key.public.kid, NOW).key.algorithm is Algorithm.RS256

    def as_pss(claims: dict[str, Any]) -> None:
        claims["metadata"][ISSUER_TYPE]["jwks"]["keys"][0]["alg"] = "PS256"

    papers.documents[ANCHORS[0], SHANGHAI] = papers.statement(ANCHORS[0], SHANGHAI, keys=[key], change=as_pss)
    trusted = papers.view().credential_key(SHANGHAI, key.public.kid, NOW)
    assert trusted.key.algorithm is Algorithm.RS256
    assert len(trusted.anchors) == 3
