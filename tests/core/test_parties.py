"""Who acts for whom: the subject and whoever acts are two, and never put together (domain.md 1.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

from gateway.core.agreement import Party, SubjectType
from gateway.core.encoding import write_json
from gateway.core.reasons import Reason
from tests.core.presentations import EPOCH, MATTER, MATTER_CODE, NOW, Attempt, Change, disclosure, hashed, salt

USCC: Final = "91350100M000100Y43"  # the published example of GB 32100
ACT: Final[Mapping[str, Any]] = {"sub": "v1.guardian", "relationship": "guardian", "scope": [MATTER_CODE, "XS-RH"]}
ACTING = replace(
    MATTER,
    parties=frozenset({Party.SELF, Party.GUARDIAN}),
    actor_required_claims=frozenset({"name"}),
    actor_released_claims=frozenset({"name"}),
)
FIRM = replace(
    MATTER,
    subject_types=frozenset({SubjectType.LEGAL}),
    parties=frozenset({Party.AGENT, Party.LEGAL_REPRESENTATIVE}),
    required_claims=frozenset({"uscc"}),
    released_claims=frozenset({"uscc", "organisation_name"}),
)


def guarded(**changes: Any) -> Attempt:
    """A credential about a child, with which a guardian presents."""
    attempt = Attempt.credential()
    attempt.matter = ACTING
    attempt.payload["act"] = {**ACT, **changes}
    hide_actor(attempt, {"name": "监护人", "id_number": "340104190001010016"})
    return attempt


def hide_actor(attempt: Attempt, attributes: Mapping[str, Any]) -> None:
    hidden = [disclosure(salt(50 + i), name, attributes[name]) for i, name in enumerate(attributes)]
    attempt.payload["act"]["claims"] = {"_sd": sorted(hashed(text) for text in hidden)}
    attempt.disclosures += hidden


def firm(**changes: Any) -> Attempt:
    attempt = Attempt.credential()
    attempt.matter = FIRM
    attempt.payload["sub_type"] = "legal"
    attempt.payload["act"] = {**ACT, "sub": "v1.agent", "relationship": "agent", **changes}
    attempt.hide({"uscc": USCC, "organisation_name": "某公司"})
    return attempt


def test_a_guardian_is_accepted_and_stands_beside_the_child() -> None:
    accepted = guarded().judge()
    assert accepted.subject == "v1.pairwise-subject"
    assert accepted.subject_type is SubjectType.NATURAL
    assert accepted.actor is not None
    assert (accepted.actor.subject, accepted.actor.relationship) == ("v1.guardian", Party.GUARDIAN)
    # The guardian's number was disclosed, and the matter may not have it; the child's it may.
    assert accepted.actor.attributes == {"name": "监护人"}
    assert accepted.attributes["name"] == "徐某"
    assert accepted.attributes["id_number"] == "310101190001010011"


@pytest.mark.parametrize(
    ("authority", "end"),
    [(3_600, 3_600), (86_399, 86_399), (86_401, 86_400), (None, 86_400)],
    ids=["hours", "a second less", "a second more", "without end"],
)
def test_an_acceptance_ends_with_the_authority_or_with_the_credential_whichever_is_first(
    authority: int | None, end: int
) -> None:
    attempt = guarded() if authority is None else guarded(exp=EPOCH + authority)
    assert attempt.judge().expires_at == NOW + timedelta(seconds=end)


def test_who_comes_alone_has_no_actor() -> None:
    attempt = Attempt.credential()
    attempt.matter = ACTING
    assert attempt.judge().actor is None


def test_an_organisation_is_accepted_with_the_person_who_acts() -> None:
    accepted = firm().judge()
    assert accepted.subject_type is SubjectType.LEGAL
    assert accepted.attributes == {"uscc": USCC, "organisation_name": "某公司"}
    assert accepted.actor is not None
    assert accepted.actor.attributes == {}


MALFORMED: Final[Mapping[str, Mapping[str, Any]]] = {
    "is the subject itself": {"sub": "v1.pairwise-subject"},
    "has no name": {"sub": None},
    "is named by an ID number": {"sub": "310101190001010011"},
    "acts in no relationship": {"relationship": None},
    "acts in one that nobody knows": {"relationship": "friend"},
    "acts as the subject": {"relationship": "self"},
    "represents a person as one does a company": {"relationship": "legal_representative"},
    "may do nothing": {"scope": []},
    "may do everything": {"scope": "*"},
    "may do what is no matter": {"scope": ["HK QY"]},
    "may do too much": {"scope": [f"M-{i}" for i in range(65)]},
    "has a previous name that is none": {"previous_sub": ""},
    "acts until nobody knows when": {"exp": "tomorrow"},
    "sends somebody else": {"act": {"sub": "v1.another"}},
    "brings something more": {"consent": True},
}


@pytest.mark.parametrize("changes", MALFORMED.values(), ids=MALFORMED.keys())
def test_an_actor_is_refused_who(changes: Mapping[str, Any]) -> None:
    attempt = guarded()
    attempt.payload["act"].update(changes)
    assert attempt.refusal() is Reason.CLAIM_INVALID


@pytest.mark.parametrize("act", [None, [], "v1.guardian", {}], ids=str)
def test_what_is_no_actor_is_refused(act: object) -> None:
    attempt = Attempt.credential()
    attempt.matter = ACTING
    attempt.payload["act"] = act
    assert attempt.refusal() is Reason.CLAIM_INVALID


@pytest.mark.parametrize("subject_type", [None, "person", "NATURAL", True, ["natural"]], ids=str)
def test_a_subject_of_no_known_type_is_refused(subject_type: object) -> None:
    attempt = Attempt.credential()
    attempt.payload["sub_type"] = subject_type
    assert attempt.refusal() is Reason.CLAIM_INVALID
    del attempt.payload["sub_type"]
    assert attempt.refusal() is Reason.CLAIM_INVALID


def test_an_organisation_without_actor_is_refused() -> None:
    attempt = firm()
    del attempt.payload["act"]
    assert attempt.refusal() is Reason.CLAIM_INVALID


@pytest.mark.parametrize("name", ["sub", "relationship", "scope"])
def test_who_acts_and_by_which_right_stands_in_clear(name: str) -> None:
    attempt = guarded()
    hidden = disclosure(salt(70), name, attempt.payload["act"].pop(name))
    attempt.payload["act"]["_sd"] = [hashed(hidden)]
    attempt.disclosures.append(hidden)
    assert attempt.refusal() is Reason.CLAIM_INVALID


def test_that_somebody_acts_stands_in_clear() -> None:
    attempt = guarded()
    hidden = disclosure(salt(70), "act", attempt.payload.pop("act"))
    attempt.payload["_sd"] = [hashed(hidden)]
    attempt.disclosures.append(hidden)
    assert attempt.refusal() is Reason.DISCLOSURE_INVALID


def test_the_actors_attributes_may_be_kept_back_and_then_miss() -> None:
    attempt = guarded()
    attempt.disclosures = [text for text in attempt.disclosures if text not in attempt.disclosures[-2:]]
    assert attempt.refusal() is Reason.REQUIRED_CLAIM_MISSING
    attempt.matter = replace(attempt.matter, actor_required_claims=frozenset())
    accepted = attempt.judge()
    assert accepted.actor is not None
    assert accepted.actor.attributes == {}


MIXED: Final[Mapping[str, tuple[Mapping[str, Any], bool]]] = {
    "a person's number in an organisation's": ({"uscc": USCC, "id_number": "310101190001010011"}, True),
    "a birth date in an organisation's": ({"uscc": USCC, "birthdate": "1900-01-01"}, True),
    "a household in an organisation's": ({"uscc": USCC, "hukou_region": "310101"}, True),
    "a credit code in a person's": ({"name": "徐某", "uscc": USCC}, False),
}


@pytest.mark.parametrize(("attributes", "is_firm"), MIXED.values(), ids=MIXED.keys())
def test_what_is_mixed_is_refused(attributes: Mapping[str, Any], is_firm: bool) -> None:
    attempt = firm() if is_firm else Attempt.credential()
    attempt.hide(attributes)
    assert attempt.refusal() is Reason.CLAIM_INVALID


def test_an_actor_with_an_organisations_code_is_refused() -> None:
    attempt = guarded()
    hide_actor(attempt, {"uscc": USCC})
    attempt.disclosures = attempt.disclosures[:5] + attempt.disclosures[-1:]
    assert attempt.refusal() is Reason.CLAIM_INVALID


def test_a_credit_code_with_a_wrong_check_character_is_refused() -> None:
    attempt = firm()
    attempt.hide({"uscc": f"{USCC[:-1]}4", "organisation_name": "某公司"})
    assert attempt.refusal() is Reason.CLAIM_INVALID


def set_matter(**changes: Any) -> Change:
    def change(attempt: Attempt) -> None:
        attempt.matter = replace(attempt.matter, **changes)

    return change


DEMANDS: Final[Mapping[str, tuple[Change, Reason]]] = {
    "not about persons": (
        set_matter(subject_types=frozenset({SubjectType.LEGAL})),
        Reason.SUBJECT_TYPE_NOT_ACCEPTED,
    ),
    "for the person alone": (set_matter(parties=frozenset({Party.SELF})), Reason.ACTOR_NOT_ACCEPTED),
    "for lawyers": (set_matter(parties=frozenset({Party.SELF, Party.LAWYER})), Reason.ACTOR_NOT_ACCEPTED),
    "another than the authority names": (set_matter(code="SF-SL"), Reason.AUTHORITY_EXCEEDED),
}


@pytest.mark.parametrize(("change", "reason"), DEMANDS.values(), ids=DEMANDS.keys())
def test_a_guardian_is_refused_where_the_matter_is(change: Change, reason: Reason) -> None:
    attempt = guarded()
    change(attempt)
    if attempt.matter.code != MATTER_CODE:
        attempt.payload["act"]["scope"] = ["XS-RH"]
        attempt.matter = replace(attempt.matter, code=MATTER_CODE)
    assert attempt.refusal() is reason


def test_who_comes_alone_is_refused_where_somebody_has_to_act() -> None:
    attempt = Attempt.credential()
    attempt.matter = replace(ACTING, parties=frozenset({Party.GUARDIAN}))
    assert attempt.refusal() is Reason.ACTOR_MISSING


def test_an_authority_ends_to_the_second() -> None:
    assert guarded(exp=EPOCH + 1).is_accepted()
    attempt = guarded(exp=EPOCH)
    assert attempt.refusal() is Reason.AUTHORITY_EXCEEDED
    attempt.now = NOW - timedelta(seconds=1)
    attempt.binding = {"iat": EPOCH - 1}
    assert attempt.is_accepted()


@pytest.mark.parametrize("relationship", [party.value for party in Party if party is not Party.SELF])
@pytest.mark.parametrize("subject_type", ["natural", "legal"])
def test_only_fitting_relationships_are_read(subject_type: str, relationship: str) -> None:
    attempt = firm(relationship=relationship) if subject_type == "legal" else guarded(relationship=relationship)
    attempt.matter = replace(attempt.matter, parties=frozenset(Party))
    fits = relationship in (
        {"agent", "lawyer"} | {{"natural": "guardian", "legal": "legal_representative"}[subject_type]}
    )
    if fits:
        assert attempt.is_accepted()
    else:
        assert attempt.refusal() is Reason.CLAIM_INVALID


def test_nothing_of_a_person_is_in_what_is_written_of_the_verdict() -> None:
    attempt = guarded(previous_sub="v0.guardian")
    text = repr(attempt.judge()) + repr(attempt.findings.to_members()) + write_json(["监护人"]).decode()[:0]
    for value in ("徐某", "监护人", "310101190001010011", "v1.guardian", "v0.guardian", "v1.pairwise-subject"):
        assert value not in text
