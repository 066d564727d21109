"""Trust chains: OpenID Federation 1.0 sections 6.2 and 10.2, one fault at a time, and the chain printed in section 4.3.

Numbers are those of the negative cases the project keeps. Every chain here is properly signed all the way; what is
wrong with it is the one thing that its test names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from gateway.core.chain import Anchor, ResolvedChain, validate_chain, validate_chain_parsed
from gateway.core.encoding import b64url_encode, write_json
from gateway.core.jose import Algorithm, SoftwareKey, generate_key
from gateway.core.reasons import Reason, Rejected
from gateway.core.statements import PROFILE, TYP, StatementProfile, parse_statement

NOW = datetime(2026, 11, 23, 1, 0, 0, tzinfo=UTC)
IAT = int(NOW.timestamp())
# A leaf below two intermediates below an anchor; names say the place in the chain.
LEAF, LOWER, UPPER, ANCHOR = (f"https://{name}.sh.example" for name in ("leaf", "lower", "upper", "anchor"))
KEYS = {entity: generate_key() for entity in (LEAF, LOWER, UPPER, ANCHOR)}
OTHER_KEY = generate_key()
TYPE = "identity_credential_issuer"

Claims = dict[str, Any]
Change = Callable[[list[Claims]], Any]


def jwks(*keys: SoftwareKey) -> Claims:
    return {"keys": [dict(key.public.jwk) for key in keys]}


def statement(iss: str, sub: str, **claims: Any) -> Claims:
    return {"iss": iss, "sub": sub, "iat": IAT, "exp": IAT + 600, "jwks": jwks(KEYS[sub]), **claims}


def leaf(superior: str) -> Claims:
    metadata = {TYPE: {"p": ["a"]}, "federation_entity": {"organization_name": "沪"}}
    return statement(LEAF, LEAF, authority_hints=[superior], metadata=metadata)


def anchor_configuration() -> Claims:
    return statement(ANCHOR, ANCHOR, metadata={"federation_entity": {"organization_name": "anchor"}})


def direct() -> list[Claims]:
    """The chains of our own federation."""
    return [leaf(ANCHOR), statement(ANCHOR, LEAF), anchor_configuration()]


def with_intermediate() -> list[Claims]:
    return [leaf(LOWER), statement(LOWER, LEAF), statement(ANCHOR, LOWER), anchor_configuration()]


def with_two_intermediates() -> list[Claims]:
    return [leaf(LOWER), statement(LOWER, LEAF), statement(UPPER, LOWER), statement(ANCHOR, UPPER)]


def sign(claims: Mapping[str, Any], signer: SoftwareKey | None = None, **members: Any) -> str:
    key = signer or KEYS[claims["iss"]]
    header = {"alg": key.public.algorithm.value, "typ": TYP, "kid": key.public.kid, **members}
    signing_input = f"{b64url_encode(write_json(header))}.{b64url_encode(write_json(claims))}"
    return f"{signing_input}.{b64url_encode(key.sign(signing_input.encode()))}"


def configured(*keys: SoftwareKey, entity_id: str = ANCHOR) -> Anchor:
    return Anchor(entity_id=entity_id, keys={key.public.kid: key.public for key in keys or (KEYS[ANCHOR],)})


def validate(
    chain: Sequence[Claims | str],
    *,
    anchor: Anchor | None = None,
    now: datetime = NOW,
    grace: timedelta = timedelta(0),
    profile: StatementProfile = PROFILE,
) -> ResolvedChain:
    tokens = [each if isinstance(each, str) else sign(each) for each in chain]
    return validate_chain(tokens, anchor or configured(), profile, now, grace=grace)


def reason(chain: Sequence[Claims | str], **arguments: Any) -> Reason:
    with pytest.raises(Rejected) as caught:
        validate(chain, **arguments)
    return caught.value.reason


INVALID, VIOLATED = Reason.CHAIN_INVALID, Reason.CONSTRAINT_VIOLATED


# -- accepted ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [direct, with_intermediate, with_two_intermediates], ids=lambda make: make.__name__)
def test_baseline_chain_is_accepted(make: Callable[[], list[Claims]]) -> None:
    chain = validate(make())
    assert (chain.subject, chain.anchor_id) == (LEAF, ANCHOR)
    assert chain.metadata == leaf(ANCHOR)["metadata"]
    assert chain.entity_types == frozenset({TYPE, "federation_entity"})
    assert list(chain.federation_keys) == [KEYS[LEAF].public.kid]
    assert (chain.issued_at, chain.expires_at) == (NOW, NOW + timedelta(minutes=10))
    assert [(each.iss, each.sub) for each in chain.statements] == [(each["iss"], each["sub"]) for each in make()]


@pytest.mark.parametrize("make", [direct, with_intermediate], ids=lambda make: make.__name__)
def test_case_69_anchor_configuration_may_be_left_out(make: Callable[[], list[Claims]]) -> None:
    assert validate(make()[:-1]).metadata == validate(make()).metadata


def test_case_71_chain_of_the_anchor_is_its_own_configuration() -> None:
    chain = validate([anchor_configuration()])
    assert chain.subject == ANCHOR
    assert list(chain.federation_keys) == [KEYS[ANCHOR].public.kid]


def test_case_58_chain_needs_no_fetch_endpoint_once_its_statements_are_in_hand() -> None:
    chain = validate(with_intermediate())
    assert "federation_fetch_endpoint" not in chain.statements[-1].metadata["federation_entity"]


def test_parsed_statements_give_the_same_chain_as_their_tokens() -> None:
    tokens = [sign(each) for each in with_intermediate()]
    parsed = [parse_statement(token, PROFILE) for token in tokens]
    expected = validate_chain(tokens, configured(), PROFILE, NOW)
    assert validate_chain_parsed(parsed, configured(), PROFILE, NOW) == expected


def test_chain_of_several_algorithms_is_accepted() -> None:
    other = generate_key(Algorithm.ED25519)
    chain: list[Claims | str] = [*direct()]
    chain[1:] = [sign(direct()[1], other), sign(direct()[2] | {"jwks": jwks(other)}, other)]
    assert validate(chain, anchor=configured(other)).statements[1].signer.algorithm is Algorithm.ED25519


# -- who and in which order -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [f"{LEAF}/", LEAF.replace("leaf", "Leaf")], ids=["slash", "letter case"])
def test_case_35_statement_about_nearly_the_same_subject_is_rejected(other: str) -> None:
    chain = direct()
    chain[1]["sub"] = other
    assert reason(chain) is INVALID


def test_case_36_statement_about_the_subject_in_another_normalization_is_rejected() -> None:
    composed, decomposed = f"{LEAF}/caf%C3%A9", f"{LEAF}/cafe%CC%81"
    chain = direct()
    chain[0] |= {"iss": composed, "sub": composed}
    chain[1] |= {"sub": composed}
    tokens = [sign(chain[0], KEYS[LEAF]), sign(chain[1]), sign(chain[2])]
    assert validate(tokens).subject == composed
    assert reason([tokens[0], sign(chain[1] | {"sub": decomposed}), tokens[2]]) is INVALID


def misnamed_superior(chain: list[Claims]) -> None:
    chain[0]["authority_hints"] = [UPPER]


def unnamed_superior(chain: list[Claims]) -> None:
    del chain[0]["authority_hints"]


def another_intermediate(chain: list[Claims]) -> None:
    chain[2] = statement(ANCHOR, UPPER)


def subordinate_statement_first(chain: list[Claims]) -> None:
    chain[0] |= {"iss": UPPER}
    del chain[0]["authority_hints"]


def configuration_in_the_middle(chain: list[Claims]) -> None:
    chain[2:] = [statement(LOWER, LOWER), statement(ANCHOR, LOWER)]


def keep(count: int) -> Change:
    return lambda chain: chain.__delitem__(slice(count, None))


ORDER: dict[str, tuple[Change, Reason]] = {
    "case 59: superior is not in authority_hints": (misnamed_superior, INVALID),
    "case 59: there are no authority_hints": (unnamed_superior, INVALID),
    "case 60: issuer is not the subject of the next statement": (another_intermediate, INVALID),
    "case 66: reverse order": (lambda chain: chain.reverse(), INVALID),
    "case 66: shuffled": (lambda chain: chain.insert(1, chain.pop(2)), INVALID),
    "case 70: only the configuration of an entity that is no anchor": (
        lambda chain: chain.__delitem__(slice(1, 9)),
        INVALID,
    ),
    "case 72: first statement is not a configuration": (subordinate_statement_first, INVALID),
    "no statement": (lambda chain: chain.clear(), INVALID),
    "a statement is missing": (lambda chain: chain.pop(1), INVALID),
    "the anchor's statement is missing": (keep(2), INVALID),
    "five statements": (lambda chain: chain.append(anchor_configuration()), Reason.TOO_LARGE),
    "a configuration in the middle": (configuration_in_the_middle, INVALID),
}


@pytest.mark.parametrize(("change", "expected"), ORDER.values(), ids=ORDER)
def test_chain_is_rejected(change: Change, expected: Reason) -> None:
    chain = with_intermediate()
    validate(chain)
    change(chain)
    assert reason(chain) is expected


def test_case_64_chain_that_ends_in_another_anchor_is_rejected() -> None:
    elsewhere = configured(entity_id=UPPER)
    assert reason(direct(), anchor=elsewhere) is INVALID
    assert reason(direct()[:-1], anchor=elsewhere) is INVALID


def test_case_65_chain_in_which_an_entity_appears_twice_is_rejected() -> None:
    chain = with_two_intermediates()
    validate(chain)
    chain[2:] = [statement(LEAF, LOWER), statement(ANCHOR, LEAF)]
    assert reason(chain) is INVALID


def test_anchor_configuration_given_twice_is_rejected() -> None:
    assert reason([anchor_configuration(), anchor_configuration()]) is INVALID
    assert reason([*direct(), anchor_configuration()]) is INVALID


# -- signatures -------------------------------------------------------------------------------------------------------


def test_case_61_configuration_signed_by_a_key_that_the_superior_does_not_attest_is_rejected() -> None:
    chain: list[Claims | str] = [*direct()]
    both = direct()[0] | {"jwks": jwks(KEYS[LEAF], OTHER_KEY)}
    chain[0] = sign(both, KEYS[LEAF])
    validate(chain)
    chain[0] = sign(both, OTHER_KEY)
    assert reason(chain) is INVALID


def test_configuration_signed_by_an_attested_key_that_it_does_not_publish_is_rejected() -> None:
    chain: list[Claims | str] = [*direct()]
    chain[1] = sign(direct()[1] | {"jwks": jwks(KEYS[LEAF], OTHER_KEY)})
    validate(chain)
    chain[0] = sign(direct()[0], OTHER_KEY)
    assert reason(chain) is Reason.KEY_UNKNOWN


def test_case_62_statement_signed_by_a_key_that_the_anchor_does_not_attest_is_rejected() -> None:
    # Whatever the intermediate's own configuration says, it is not part of the chain.
    chain: list[Claims | str] = [*with_intermediate()]
    chain[1] = sign(with_intermediate()[1], OTHER_KEY)
    assert reason(chain) is INVALID
    chain[2] = sign(with_intermediate()[2] | {"jwks": jwks(KEYS[LOWER], OTHER_KEY)})
    validate(chain)


def test_case_63_anchor_configuration_that_is_only_consistent_in_itself_is_rejected() -> None:
    forged: list[Claims | str] = [
        direct()[0],
        sign(direct()[1], OTHER_KEY),
        sign(direct()[2] | {"jwks": jwks(OTHER_KEY)}, OTHER_KEY),
    ]
    assert reason(forged) is INVALID
    assert reason(forged[:2]) is INVALID
    assert reason(forged[2:]) is INVALID
    validate(forged, anchor=configured(OTHER_KEY))


def test_case_63_key_that_only_the_anchor_configuration_announces_signs_nothing() -> None:
    announced = sign(direct()[2] | {"jwks": jwks(KEYS[ANCHOR], OTHER_KEY)})
    chain: list[Claims | str] = [direct()[0], sign(direct()[1], OTHER_KEY), announced]
    assert reason(chain) is INVALID
    validate(chain, anchor=configured(KEYS[ANCHOR], OTHER_KEY))


def test_configured_key_that_the_anchor_has_withdrawn_signs_nothing_in_this_chain() -> None:
    chain: list[Claims | str] = [direct()[0], sign(direct()[1], OTHER_KEY), direct()[2]]
    both = configured(KEYS[ANCHOR], OTHER_KEY)
    assert reason(chain, anchor=both) is INVALID
    validate(chain[:2], anchor=both)


def test_forged_signature_is_rejected() -> None:
    stolen_kid = sign(direct()[1], OTHER_KEY, kid=KEYS[ANCHOR].public.kid)
    assert reason([direct()[0], stolen_kid, direct()[2]]) is Reason.SIGNATURE_INVALID


def test_two_keys_of_one_kid_do_not_stand_for_each_other() -> None:
    loose = StatementProfile(kid_is_thumbprint=False)
    chain: list[Claims | str] = [*direct()]
    validate(chain, profile=loose)
    namesake = {**OTHER_KEY.public.jwk, "kid": KEYS[LEAF].public.kid}
    chain[1] = sign(direct()[1] | {"jwks": {"keys": [namesake]}})
    assert reason(chain, profile=loose) is INVALID


# -- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", range(4))
def test_case_68_one_expired_statement_expires_the_chain(place: int) -> None:
    chain = with_intermediate()
    chain[place] |= {"iat": IAT - 600, "exp": IAT - 59}
    resolved = validate(chain)
    assert resolved.expires_at == NOW - timedelta(seconds=59)
    assert resolved.issued_at == NOW - timedelta(seconds=600)
    chain[place] |= {"exp": IAT - 60}
    assert reason(chain) is Reason.EXPIRED


@pytest.mark.parametrize("place", range(4))
def test_one_statement_from_the_future_invalidates_the_chain(place: int) -> None:
    chain = with_intermediate()
    chain[place]["iat"] = IAT + 60
    validate(chain)
    chain[place]["iat"] = IAT + 61
    assert reason(chain) is Reason.NOT_YET_VALID


def test_grace_tolerates_expiry_while_the_chain_tells_when_it_expired() -> None:
    chain, grace = with_intermediate(), timedelta(hours=1)
    late = NOW + timedelta(minutes=71)
    assert reason(chain, now=late, grace=grace) is Reason.EXPIRED
    just = late - timedelta(seconds=1)
    assert reason(chain, now=just) is Reason.EXPIRED
    assert validate(chain, now=just, grace=grace).expires_at == NOW + timedelta(minutes=10)


def test_grace_tolerates_nothing_but_expiry() -> None:
    chain: list[Claims | str] = [direct()[0], sign(direct()[1], OTHER_KEY), direct()[2]]
    assert reason(chain, now=NOW + timedelta(minutes=20), grace=timedelta(hours=1)) is INVALID


# -- constraints ------------------------------------------------------------------------------------------------------


def constrained(lower: Claims, upper: Claims, anchor: Claims) -> list[Claims]:
    """The chain of the worked example in section 6.2.1, from the leaf upward."""
    chain = with_two_intermediates()
    for each, constraints in zip(chain[1:], (lower, upper, anchor), strict=True):
        each["constraints"] = constraints
    return chain


def limit(length: int) -> Claims:
    return {"max_path_length": length}


@pytest.mark.parametrize(
    "constraints",
    [({}, {}, limit(2)), ({}, limit(1), limit(2)), (limit(0), {}, {}), (limit(0), limit(1), limit(2))],
    ids=["anchor 2", "anchor 2, upper 1", "lower 0", "each its own"],
)
def test_case_75_path_as_long_as_its_limits_is_accepted(constraints: tuple[Claims, Claims, Claims]) -> None:
    validate(constrained(*constraints))


@pytest.mark.parametrize(
    "constraints",
    [({}, {}, limit(1)), ({}, limit(0), limit(2)), (limit(0), limit(0), limit(0))],
    ids=["anchor 1", "anchor 2, upper 0", "all 0"],
)
def test_case_75_path_one_longer_than_a_limit_is_rejected(constraints: tuple[Claims, Claims, Claims]) -> None:
    assert reason(constrained(*constraints)) is VIOLATED


def test_our_own_chains_have_no_intermediate() -> None:
    chain = direct()
    chain[1]["constraints"] = limit(0)
    validate(chain)


def test_case_84_weaker_constraint_below_takes_nothing_from_the_stronger_above() -> None:
    assert reason(constrained(limit(5), limit(5), limit(1))) is VIOLATED
    weaker = {"naming_constraints": {"permitted": [".example"]}}
    stronger = {"naming_constraints": {"permitted": [".js.example"]}}
    validate(constrained(weaker, weaker, {}))
    assert reason(constrained(weaker, weaker, stronger)) is VIOLATED


def named(entity_id: str, **naming: Any) -> list[str]:
    """A chain about this entity, under these naming constraints."""
    chain = direct()
    chain[0] |= {"iss": entity_id, "sub": entity_id}
    chain[1] |= {"sub": entity_id, "constraints": {"naming_constraints": naming}}
    return [sign(chain[0], KEYS[LEAF]), sign(chain[1]), sign(chain[2])]


NAMES_REJECTED: dict[str, tuple[str, dict[str, Any]]] = {
    "case 76: leading dot demands another label": ("https://sh.example", {"permitted": [".sh.example"]}),
    "case 77: permitted and excluded": (
        "https://a.sh.example",
        {"permitted": [".sh.example"], "excluded": ["a.sh.example"]},
    ),
    "case 78: same ending, another domain": ("https://evilsh.example", {"permitted": [".sh.example"]}),
    "case 80: IPv4 address": ("https://192.0.2.1", {"permitted": [".sh.example"]}),
    "case 80: IPv6 address": ("https://[2001:db8::1]", {"permitted": [".sh.example"]}),
    "case 80: IPv4 address in another spelling": ("https://0x7f.1", {"permitted": [".sh.example"]}),
    "an address is no way around an exclusion": ("https://192.0.2.1", {"excluded": ["sh.example"]}),
    "no leading dot means this host only": ("https://a.sh.example", {"permitted": ["sh.example"]}),
    "nothing is permitted": ("https://a.sh.example", {"permitted": []}),
    "excluded in upper case": ("https://a.sh.example", {"excluded": [".SH.example"]}),
    "excluded with a dot at the end of the host": ("https://a.sh.example.", {"excluded": ["a.sh.example"]}),
    "the name is in the path": ("https://evil.example/.sh.example", {"permitted": [".sh.example"]}),
}
NAMES_ACCEPTED: dict[str, tuple[str, dict[str, Any]]] = {
    "case 76: one more label": ("https://a.sh.example", {"permitted": [".sh.example"]}),
    "case 77: permitted only": ("https://b.sh.example", {"permitted": [".sh.example"], "excluded": ["a.sh.example"]}),
    "case 78: several more labels": ("https://a.evil.sh.example", {"permitted": [".sh.example"]}),
    "case 79: letter case does not matter to a host": ("https://SH.example", {"permitted": ["sh.example"]}),
    "case 80: an address where nothing is constrained": ("https://192.0.2.1", {}),
    "port and path do not matter": ("https://sh.example:8443/a", {"permitted": ["sh.example"]}),
    "dot at the end of the host": ("https://sh.example.", {"permitted": ["sh.example"]}),
    "one of several": ("https://a.sh.example", {"permitted": ["js.example", ".sh.example"]}),
    "nothing is excluded": ("https://192.0.2.1", {"excluded": []}),
    "something else is excluded": ("https://a.sh.example", {"excluded": ["b.sh.example"]}),
}


@pytest.mark.parametrize(("entity_id", "naming"), NAMES_REJECTED.values(), ids=NAMES_REJECTED)
def test_name_is_rejected(entity_id: str, naming: dict[str, Any]) -> None:
    validate(named(entity_id))
    assert reason(named(entity_id, **naming)) is VIOLATED


@pytest.mark.parametrize(("entity_id", "naming"), NAMES_ACCEPTED.values(), ids=NAMES_ACCEPTED)
def test_name_is_accepted(entity_id: str, naming: dict[str, Any]) -> None:
    assert validate(named(entity_id, **naming)).subject == entity_id


@pytest.mark.parametrize("excluded", ["leaf.sh.example", "lower.sh.example"])
def test_naming_constraints_hold_for_every_entity_below(excluded: str) -> None:
    chain = with_intermediate()
    chain[2]["constraints"] = {"naming_constraints": {"excluded": ["upper.sh.example"]}}
    validate(chain)
    chain[2]["constraints"] = {"naming_constraints": {"excluded": [excluded]}}
    assert reason(chain) is VIOLATED


def test_naming_constraints_do_not_hold_for_who_sets_them() -> None:
    chain = with_intermediate()
    chain[1]["constraints"] = {"naming_constraints": {"permitted": ["leaf.sh.example"]}}
    validate(chain)


@pytest.mark.parametrize("place", [1, 2])
def test_case_81_entity_type_that_a_superior_does_not_allow_is_not_granted(place: int) -> None:
    chain = with_intermediate()
    chain[place]["constraints"] = {"allowed_entity_types": [TYPE]}
    assert validate(chain).entity_types == frozenset({TYPE, "federation_entity"})
    chain[place]["constraints"] = {"allowed_entity_types": ["recognition_gateway"]}
    assert validate(chain).entity_types == frozenset({"federation_entity"})


# -- metadata ---------------------------------------------------------------------------------------------------------


def governed(anchor: Claims, lower: Claims) -> list[Claims]:
    """Metadata policies for ``p``, which the leaf says is ["a"]."""
    chain = with_intermediate()
    chain[1]["metadata_policy"] = {TYPE: {"p": lower}}
    chain[2]["metadata_policy"] = {TYPE: {"p": anchor}}
    return chain


POLICY_ERROR, POLICY_VIOLATED = Reason.METADATA_POLICY_INVALID, Reason.METADATA_POLICY_VIOLATED

# What anchor and intermediate demand: sound together, and with one fault.
POLICIES: dict[str, tuple[tuple[Claims, Claims], tuple[Claims, Claims], Reason]] = {
    "case 85: one_of with add": (({}, {"add": ["b"]}), ({"one_of": ["a"]}, {"add": ["b"]}), POLICY_ERROR),
    "case 86: value null with essential": (
        ({"essential": False}, {"value": None}),
        ({"essential": True}, {"value": None}),
        POLICY_ERROR,
    ),
    "case 87: unequal value": (({"value": ["a"]}, {"value": ["a"]}), ({"value": ["a"]}, {"value": []}), POLICY_ERROR),
    "case 88: unequal default": (({"default": 1}, {"default": 1}), ({"default": 1}, {"default": 2}), POLICY_ERROR),
    "case 91: subset_of not above superset_of": (
        ({"subset_of": ["a"]}, {"superset_of": ["a"]}),
        ({"subset_of": ["b"]}, {"superset_of": ["a"]}),
        POLICY_ERROR,
    ),
    "case 92: add not within subset_of": (
        ({"subset_of": ["a"]}, {"add": ["a"]}),
        ({"subset_of": ["a"]}, {"add": ["b"]}),
        POLICY_ERROR,
    ),
    "superset_of not met": (({}, {"superset_of": ["a"]}), ({}, {"superset_of": ["b"]}), POLICY_VIOLATED),
}


@pytest.mark.parametrize(("sound", "faulty", "expected"), POLICIES.values(), ids=POLICIES)
def test_policy_fault_invalidates_the_chain(
    sound: tuple[Claims, Claims], faulty: tuple[Claims, Claims], expected: Reason
) -> None:
    validate(governed(*sound))
    assert reason(governed(*faulty)) is expected


def test_case_89_one_of_merged_to_nothing_invalidates_the_chain() -> None:
    chain = governed({"one_of": ["a", "b"]}, {"one_of": ["a", "c"]})
    chain[0]["metadata"][TYPE]["p"] = "a"
    validate(chain)
    chain[1]["metadata_policy"][TYPE]["p"]["one_of"] = ["c"]
    assert reason(chain) is POLICY_ERROR


def test_case_90_subset_of_merged_to_nothing_leaves_an_empty_array() -> None:
    assert validate(governed({"subset_of": ["a"]}, {"subset_of": ["b"]})).metadata[TYPE] == {"p": []}


@pytest.mark.parametrize("place", [1, 2])
def test_case_93_operator_that_any_superior_calls_critical_must_be_understood(place: int) -> None:
    chain = governed({"regexp": "^a$"}, {})
    validate(chain)
    chain[place]["metadata_policy_crit"] = ["regexp"]
    assert reason(chain) is POLICY_ERROR


def test_case_96_absent_essential_parameter_invalidates_the_chain() -> None:
    chain = governed({"essential": True}, {})
    validate(chain)
    del chain[0]["metadata"][TYPE]["p"]
    assert reason(chain) is POLICY_VIOLATED


def test_case_97_subset_of_for_a_string_invalidates_the_chain() -> None:
    chain = governed({"subset_of": ["a"]}, {})
    validate(chain)
    chain[0]["metadata"][TYPE]["p"] = "a"
    assert reason(chain) is POLICY_VIOLATED


def test_case_98_intermediate_cannot_widen_what_the_anchor_allows() -> None:
    chain = governed({"subset_of": ["a"]}, {"subset_of": ["a", "b"]})
    chain[0]["metadata"][TYPE]["p"] = ["a", "b"]
    assert validate(chain).metadata[TYPE] == {"p": ["a"]}


def test_superior_overrides_the_metadata_of_its_immediate_subordinate_only() -> None:
    chain = with_intermediate()
    chain[1]["metadata"] = {TYPE: {"p": ["b"], "q": 1}}
    chain[2]["metadata"] = {TYPE: {"p": ["c"], "r": 1}}
    assert validate(chain).metadata[TYPE] == {"p": ["b"], "q": 1}


def test_case_99_metadata_for_a_type_that_the_subject_does_not_claim_is_ignored() -> None:
    chain = direct()
    chain[1]["metadata"] = {"recognition_gateway": {"p": 1}}
    assert validate(chain).metadata == leaf(ANCHOR)["metadata"]


def test_case_100_override_that_the_policy_forbids_invalidates_the_chain() -> None:
    chain = governed({"superset_of": ["a"]}, {})
    validate(chain)
    chain[1]["metadata"] = {TYPE: {"p": ["b"]}}
    assert reason(chain) is POLICY_VIOLATED


def test_policy_for_a_type_that_was_stripped_is_not_applied() -> None:
    chain = direct()
    chain[1] |= {
        "constraints": {"allowed_entity_types": []},
        "metadata_policy": {TYPE: {"absent": {"essential": True}}},
    }
    assert validate(chain).entity_types == frozenset({"federation_entity"})


# -- published chain --------------------------------------------------------------------------------------------------

PUBLISHED = Path(__file__).parents[3] / "shared/vectors/openid-federation/trust_chain.json"
SPECIFICATION = StatementProfile(
    algorithms=frozenset({Algorithm.RS256}),
    max_lifetime=timedelta(days=4),
    clock_skew=timedelta(0),
    kid_is_thumbprint=False,
)


@pytest.mark.skipif(not PUBLISHED.exists(), reason="published vectors are not at ../shared/vectors")
def test_chain_printed_in_section_4_3_is_valid_between_its_times_only() -> None:
    published = json.loads(PUBLISHED.read_bytes())
    tokens = published["trust_chain"]
    anchor_keys = parse_statement(tokens[-1], SPECIFICATION).jwks  # published out of band, for want of another source
    anchor = Anchor(entity_id=published["trust_anchor"], keys=anchor_keys)
    start, end = (datetime.fromtimestamp(published[name], tz=UTC) for name in ("valid_from", "valid_before"))
    second = timedelta(seconds=1)

    for now in (start, end - second):
        chain = validate_chain(tokens, anchor, SPECIFICATION, now)
        assert chain.subject == "https://credential_issuer.example.org"
        assert chain.entity_types == frozenset({"openid_credential_issuer", "federation_entity"})
        assert chain.expires_at == end
    assert validate_chain(tokens[:-1], anchor, SPECIFICATION, start).metadata == chain.metadata
    assert reason(tokens, anchor=anchor, profile=SPECIFICATION, now=start - second) is Reason.NOT_YET_VALID
    assert reason(tokens, anchor=anchor, profile=SPECIFICATION, now=end) is Reason.EXPIRED
    assert reason(tokens, anchor=anchor, profile=PROFILE, now=start) is Reason.ALGORITHM_NOT_ALLOWED


# -- every order ------------------------------------------------------------------------------------------------------


def test_no_other_order_of_genuine_statements_is_a_chain() -> None:
    claims = (*with_intermediate(), *with_two_intermediates()[2:], statement(LEAF, LOWER))
    pool = [parse_statement(sign(each), PROFILE) for each in claims]
    accepted = set()
    for length in range(1, 5):
        for places in product(range(len(pool)), repeat=length):
            with suppress(Rejected):
                validate_chain_parsed([pool[place] for place in places], configured(), PROFILE, NOW)
                accepted.add(places)
    assert accepted == {(0, 1, 2, 3), (0, 1, 2), (0, 1, 4, 5), (3,)}
