"""Metadata policy: the published vectors, the numbered cases, and the promise that a merge only tightens."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gateway.core.metadata_policy import (
    NO_POLICY,
    MetadataPolicy,
    Operator,
    apply,
    merge,
    parse_policies,
    refuse_critical_operators,
    resolve,
)
from gateway.core.reasons import Reason, Rejected

VECTORS = Path(__file__).parents[3] / "shared/vectors/metadata-policy/metadata-policy-test-vectors-2025-02-13.json"
TYPE = "openid_relying_party"
REASONS = {"invalid_policy": Reason.METADATA_POLICY_INVALID, "invalid_metadata": Reason.METADATA_POLICY_VIOLATED}


def unordered(value: Any) -> Any:
    """Arrays are sets to metadata policy; objects stay as they are."""
    if isinstance(value, Mapping):
        return {str(name): unordered(item) for name, item in value.items()}
    return frozenset(value) if isinstance(value, list | tuple) else value


def policy(*levels: Mapping[str, Any]) -> MetadataPolicy:
    """Resolve policies for one entity type, given from the anchor downward."""
    return resolve([parse_policies({TYPE: level}) for level in levels])


def outcome(levels: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any]) -> Any:
    """The resolved metadata, or the reason there is none."""
    try:
        return unordered(apply(policy(*levels), {TYPE: metadata})[TYPE])
    except Rejected as rejection:
        return rejection.reason


def reason_of_policy(*levels: Mapping[str, Any]) -> Reason:
    with pytest.raises(Rejected) as caught:
        policy(*levels)
    return caught.value.reason


# -- published vectors ------------------------------------------------------------------------------------------------


@cache
def vectors() -> dict[str, list[dict[str, Any]]]:
    grouped = defaultdict(list)
    for vector in json.loads(VECTORS.read_bytes()) if VECTORS.exists() else []:
        grouped[", ".join(vector["combination"])].append(vector)
    return dict(grouped)


needs_vectors = pytest.mark.skipif(not VECTORS.exists(), reason="published vectors are not at ../shared/vectors")


@needs_vectors
@pytest.mark.parametrize("combination", vectors())
def test_published_vectors_of_combination(combination: str) -> None:
    for vector in vectors()[combination]:
        expected = REASONS[vector["error"]] if "error" in vector else unordered(vector["resolved"])
        assert (vector["n"], expected) == (vector["n"], outcome([vector["TA"], vector["INT"]], vector["metadata"]))


@needs_vectors
def test_published_vectors_merge_to_the_published_policies() -> None:
    for vector in (vector for group in vectors().values() for vector in group if "merged" in vector):
        merged = policy(vector["TA"], vector["INT"]).parameters
        assert unordered(vector["merged"]) == {parameter: unordered(merged[_, parameter]) for _, parameter in merged}


@needs_vectors
def test_published_vectors_are_all_there() -> None:
    assert sum(len(group) for group in vectors().values()) == 2019


# -- examples of the specification ------------------------------------------------------------------------------------


def test_example_of_section_6_1_5_resolves_as_printed() -> None:
    anchor = {
        "grant_types": {
            "default": ["authorization_code"],
            "subset_of": ["authorization_code", "refresh_token"],
            "superset_of": ["authorization_code"],
        },
        "token_endpoint_auth_method": {"one_of": ["private_key_jwt", "self_signed_tls_client_auth"], "essential": True},
        "token_endpoint_auth_signing_alg": {"one_of": ["PS256", "ES256"]},
        "subject_type": {"value": "pairwise"},
        "contacts": {"add": ["helpdesk@federation.example.org"]},
    }
    intermediate = {
        "grant_types": {"subset_of": ["authorization_code"]},
        "token_endpoint_auth_method": {"one_of": ["self_signed_tls_client_auth"]},
        "contacts": {"add": ["helpdesk@org.example.org"]},
    }
    metadata = {
        "redirect_uris": ["https://rp.example.org/callback"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "self_signed_tls_client_auth",
        "contacts": ["rp_admins@rp.example.org"],
        "sector_identifier_uri": "https://org.example.org/sector-ids.json",
        "policy_uri": "https://org.example.org/policy.html",
    }
    expected = {
        **metadata,
        "grant_types": ["authorization_code"],
        "subject_type": "pairwise",
        "contacts": [
            "rp_admins@rp.example.org",
            "helpdesk@federation.example.org",
            "helpdesk@org.example.org",
        ],
    }
    assert unordered(expected) == outcome([anchor, intermediate], metadata)


@pytest.mark.parametrize("essential", [True, False])
@pytest.mark.parametrize(("given_values", "left"), [(["a", "e"], ["a"]), (["d", "e"], [])])
def test_subset_of_intersects_whether_essential_or_not(
    essential: bool, given_values: list[str], left: list[str]
) -> None:
    level = {"p": {"essential": essential, "subset_of": ["a", "b", "c"]}}
    assert {"p": frozenset(left)} == outcome([level], {"p": given_values})


def test_subset_of_lets_a_voluntary_parameter_be_absent() -> None:
    level = {"p": {"essential": False, "subset_of": ["a", "b", "c"]}}
    assert outcome([level], {}) == {}


# -- numbered cases ---------------------------------------------------------------------------------------------------

INVALID, VIOLATED = Reason.METADATA_POLICY_INVALID, Reason.METADATA_POLICY_VIOLATED

# Levels from the anchor downward that stand together; and the one operator that breaks them.
BROKEN: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]], Reason]] = {
    "case 85: one_of with add in one policy": ([{"add": ["a"]}], [{"add": ["a"], "one_of": ["a"]}], INVALID),
    "case 85: one_of with add after a merge": ([{"one_of": ["a"]}, {}], [{"one_of": ["a"]}, {"add": ["a"]}], INVALID),
    "case 86: value null with essential true": ([{"value": None}], [{"value": None, "essential": True}], INVALID),
    "case 86: value null with essential true after a merge": (
        [{"essential": False}, {"value": None}],
        [{"essential": True}, {"value": None}],
        INVALID,
    ),
    "case 87: merge of unequal value": ([{"value": "a"}, {"value": "a"}], [{"value": "a"}, {"value": "b"}], INVALID),
    "case 87: merge of value true and value 1": (
        [{"value": 1}, {"value": 1}],
        [{"value": 1}, {"value": True}],
        INVALID,
    ),
    "value is not among those of one_of": (
        [{"value": "a", "one_of": ["a"]}],
        [{"value": "b", "one_of": ["a"]}],
        INVALID,
    ),
    "case 88: merge of unequal default": (
        [{"default": ["a"]}, {"default": ["a"]}],
        [{"default": ["a"]}, {"default": ["b"]}],
        INVALID,
    ),
    "case 89: merge of one_of to the empty set": (
        [{"one_of": ["a", "b"]}, {"one_of": ["b", "c"]}],
        [{"one_of": ["a"]}, {"one_of": ["b", "c"]}],
        INVALID,
    ),
    "case 91: merged subset_of is not a superset of merged superset_of": (
        [{"subset_of": ["a", "b"]}, {"superset_of": ["a"]}],
        [{"subset_of": ["a", "b"]}, {"superset_of": ["a", "c"]}],
        INVALID,
    ),
    "case 92: merged add is not within merged subset_of": (
        [{"subset_of": ["a", "b"]}, {"add": ["a"]}],
        [{"subset_of": ["a", "b"]}, {"add": ["c"]}],
        INVALID,
    ),
}


@pytest.mark.parametrize(("sound", "broken", "reason"), BROKEN.values(), ids=BROKEN)
def test_policies_that_contradict_each_other_are_refused(
    sound: list[dict[str, Any]], broken: list[dict[str, Any]], reason: Reason
) -> None:
    policy(*({"p": operators} for operators in sound))
    assert reason is reason_of_policy(*({"p": operators} for operators in broken))


def test_case_90_merge_of_subset_of_to_the_empty_set_leaves_the_empty_array() -> None:
    levels = [{"p": {"subset_of": ["a"]}}, {"p": {"subset_of": ["b"]}}]
    assert {"p": frozenset()} == outcome(levels, {"p": ["a", "b"]})


def test_case_93_unknown_operator_is_ignored() -> None:
    assert outcome([{"p": {"regexp": "^b$"}}], {"p": "a"}) == {"p": "a"}


CRITICAL = {
    "case 93: unknown operator named critical": ["regexp"],
    "case 94: standard operator named critical": ["subset_of"],
    "case 95: nothing named critical": [],
    "critical operators are not strings": [1],
    "critical operators are not a list": "regexp",
}


@pytest.mark.parametrize("value", CRITICAL.values(), ids=CRITICAL)
def test_critical_operators_are_refused(value: Any) -> None:
    with pytest.raises(Rejected) as caught:
        refuse_critical_operators(value)
    assert INVALID is caught.value.reason


# One policy; metadata that it accepts and metadata that it does not.
VIOLATIONS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "case 96: essential parameter is absent": ({"p": {"essential": True}}, {"p": False}, {}),
    "case 97: subset_of meets a string": ({"p": {"subset_of": ["a"]}}, {"p": ["a"]}, {"p": "a"}),
    "add meets a string": ({"p": {"add": ["a"]}}, {"p": ["a"]}, {"p": "a"}),
    "superset_of meets a string": ({"p": {"superset_of": ["a"]}}, {"p": ["a"]}, {"p": "a"}),
    "superset_of lacks an item": ({"p": {"superset_of": ["a", "b"]}}, {"p": ["a", "b"]}, {"p": ["a"]}),
    "one_of meets an array": ({"p": {"one_of": ["a"]}}, {"p": "a"}, {"p": ["a"]}),
    "one_of does not list the value": ({"p": {"one_of": ["a"]}}, {"p": "a"}, {"p": "b"}),
    "subset_of meets numbers": ({"p": {"subset_of": ["1"]}}, {"p": ["1"]}, {"p": [1]}),
    "scope is an array": ({"scope": {"subset_of": ["a"]}}, {"scope": "a"}, {"scope": ["a"]}),
}


@pytest.mark.parametrize(("level", "accepted", "refused"), VIOLATIONS.values(), ids=VIOLATIONS)
def test_metadata_that_the_policy_forbids_is_refused(
    level: dict[str, Any], accepted: dict[str, Any], refused: dict[str, Any]
) -> None:
    assert unordered(accepted) == outcome([level], accepted)
    assert VIOLATED is outcome([level], refused)


def test_subordinate_cannot_make_an_essential_parameter_voluntary() -> None:
    assert outcome([{"p": {"essential": False}}, {"p": {"essential": False}}], {}) == {}
    assert outcome([{"p": {"essential": True}}, {"p": {"essential": False}}], {}) is VIOLATED
    assert outcome([{"p": {"essential": False}}, {"p": {"essential": True}}], {}) is VIOLATED


def test_case_98_intermediate_cannot_widen_subset_of() -> None:
    levels = [{"p": {"subset_of": ["a", "b"]}}, {"p": {"subset_of": ["b", "c"]}}]
    assert {"p": frozenset({"b"})} == outcome(levels, {"p": ["a", "b", "c"]})


def test_case_100_value_that_a_superior_supplied_is_held_against_the_policy() -> None:
    # The override happens before the policy (chain), so the policy sees it as any other value.
    assert VIOLATED is outcome([{"p": {"one_of": ["a"]}}], {"p": "b"})


# -- structure --------------------------------------------------------------------------------------------------------

MALFORMED: dict[str, Any] = {
    "policy is not an object": [],
    "policy of an entity type is not an object": {TYPE: "a"},
    "policy of a parameter is not an object": {TYPE: {"p": ["a"]}},
    "essential is not a boolean": {TYPE: {"p": {"essential": 1}}},
    "add is not an array": {TYPE: {"p": {"add": "a"}}},
    "one_of holds numbers": {TYPE: {"p": {"one_of": [1]}}},
    "subset_of is null": {TYPE: {"p": {"subset_of": None}}},
    "value is an object": {TYPE: {"p": {"value": {}}}},
    "default is null": {TYPE: {"p": {"default": None}}},
    "one_of for scope": {TYPE: {"scope": {"one_of": ["a"]}}},
    "default for scope is a number": {TYPE: {"scope": {"default": 1}}},
}


@pytest.mark.parametrize("value", MALFORMED.values(), ids=MALFORMED)
def test_malformed_policy_is_refused(value: Any) -> None:
    with pytest.raises(Rejected) as caught:
        parse_policies(value)
    assert INVALID is caught.value.reason


def test_policy_for_an_entity_type_that_the_subject_lacks_has_no_effect() -> None:
    essential = parse_policies({"another_type": {"p": {"essential": True}}})
    assert apply(essential, {TYPE: {}}) == {TYPE: {}}


def test_language_tag_is_part_of_the_parameter_name() -> None:
    assert outcome([{"name#zh": {"value": "甲"}}], {"name#zh": "乙", "name": "b"}) == {"name#zh": "甲", "name": "b"}


def test_value_null_removes_the_parameter() -> None:
    assert outcome([{"p": {"value": None}}], {"p": "a"}) == {}


def test_empty_add_initialises_and_so_suppresses_the_default() -> None:
    assert {"p": frozenset()} == outcome([{"p": {"add": [], "default": ["a"]}}], {})


def test_add_does_not_add_twice() -> None:
    assert apply(policy({"p": {"add": ["a", "b", "b"]}}), {TYPE: {"p": ["a"]}}) == {TYPE: {"p": ["a", "b"]}}


@pytest.mark.parametrize("operand", ["b c", ["b", "c"]], ids=["a string", "an array"])
def test_scope_is_treated_as_an_array_and_joined_again(operand: Any) -> None:
    narrowing = policy({"scope": {"subset_of": operand, "default": "b"}})
    assert apply(narrowing, {TYPE: {"scope": "a b  c"}}) == {TYPE: {"scope": "b c"}}
    assert apply(narrowing, {TYPE: {}}) == {TYPE: {"scope": "b"}}


def test_scope_can_be_removed() -> None:
    assert apply(policy({"scope": {"value": None}}), {TYPE: {"scope": "a"}}) == {TYPE: {}}


def test_metadata_given_is_left_as_it_was() -> None:
    metadata = {TYPE: {"p": ["a", "b"]}}
    apply(policy({"p": {"subset_of": ["a"]}}), metadata)
    assert metadata == {TYPE: {"p": ["a", "b"]}}


# -- properties -------------------------------------------------------------------------------------------------------

names = st.sampled_from(["p", "q", "scope"])
strings = st.lists(st.sampled_from("abc"), max_size=3)
operands: dict[Operator, st.SearchStrategy[Any]] = {
    Operator.VALUE: st.one_of(st.none(), st.booleans(), st.sampled_from("abc"), strings),
    Operator.DEFAULT: st.one_of(st.booleans(), st.sampled_from("abc"), strings),
    Operator.ESSENTIAL: st.booleans(),
} | dict.fromkeys((Operator.ADD, Operator.ONE_OF, Operator.SUBSET_OF, Operator.SUPERSET_OF), strings)
operators = st.fixed_dictionaries({}, optional={each.value: operands[each] for each in Operator})
levels = st.dictionaries(names, operators, max_size=2)
parameters = st.dictionaries(names, st.one_of(st.sampled_from("abc"), st.booleans(), strings), max_size=3)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*Operator, "p", "scope", TYPE, "other"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(levels, levels, parameters)
def test_whatever_a_merged_policy_lets_through_every_superior_lets_through_unchanged(
    superior: dict[str, Any], subordinate: dict[str, Any], metadata: dict[str, Any]
) -> None:
    merged = outcome([superior, subordinate], metadata)
    assume(not isinstance(merged, Reason))
    resolved = apply(policy(superior, subordinate), {TYPE: metadata})[TYPE]
    assert merged == outcome([superior], resolved)
    assert merged == outcome([subordinate], resolved)


@settings(deadline=None)
@given(levels, levels)
def test_a_merge_narrows_each_operator_or_leaves_it(superior: dict[str, Any], subordinate: dict[str, Any]) -> None:
    try:
        above, merged = policy(superior), policy(superior, subordinate)
    except Rejected:
        return
    for place, before in above.parameters.items():
        after = merged.parameters[place]
        for operator, operand in before.items():
            match operator:
                case Operator.VALUE | Operator.DEFAULT:
                    assert operand == after[operator]
                case Operator.ONE_OF | Operator.SUBSET_OF:
                    assert set(after[operator]) <= set(operand)
                case Operator.ADD | Operator.SUPERSET_OF:
                    assert set(after[operator]) >= set(operand)
                case Operator.ESSENTIAL:
                    assert after[operator] or not operand


@settings(deadline=None)
@given(levels)
def test_a_policy_merged_with_itself_or_with_none_stays_the_same(level: dict[str, Any]) -> None:
    # The specification refuses a merge that leaves one_of empty, even where it was empty before.
    assume(all(operands.get("one_of") != [] for operands in level.values()))
    try:
        one = policy(level)
    except Rejected:
        return
    assert one == merge(one, one) == merge(NO_POLICY, one) == merge(one, NO_POLICY)


@settings(deadline=None)
@given(json_values, json_values, parameters)
def test_nothing_but_rejected_is_ever_raised(first: Any, second: Any, metadata: dict[str, Any]) -> None:
    with suppress(Rejected):
        apply(resolve([parse_policies(first), parse_policies(second)]), {TYPE: metadata})
