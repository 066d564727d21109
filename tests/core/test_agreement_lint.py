"""What is odd about an agreement that is acceptable: each oddity by one change, and nothing else found for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

import pytest

from gateway.core.agreement import parse_agreement
from gateway.core.agreement_lint import LONG_RETENTION, RESIGNING_INTERVAL, Remark, RemarkKind, Severity, lint
from gateway.core.credential import ASSERTION_CREDENTIAL_TYPE
from tests.core.charters import LIFETIME, START, agreement_claims

TYPE: Final = "urn:yrd:resident-id:1"
MATTER: Final = "agreement.matters[HK-QY]"
ISSUER: Final = "agreement.issuers[https://sh.example]"
Change = Callable[[dict[str, Any]], None]


def plain() -> dict[str, Any]:
    """An agreement in which nothing is odd."""
    claims = agreement_claims()
    claims["matters"][0]["questions"] = []
    del claims["terms"]["urn:yrd:loa:1"]
    return claims


def found(change: Change, granted: frozenset[str] | None = None) -> tuple[Remark, ...]:
    claims = plain()
    change(claims)
    return lint(parse_agreement(claims), now=START, until=START + LIFETIME, granted=granted)


def of_matter(**members: Any) -> Change:
    return lambda claims: claims["matters"][0].update(members)


def of_issuer(**members: Any) -> Change:
    return lambda claims: claims["issuers"][0].update(members)


def of_terms(**members: Any) -> Change:
    return lambda claims: claims["terms"].update(members)


def both(*changes: Change) -> Change:
    def change(claims: dict[str, Any]) -> None:
        for each in changes:
            each(claims)

    return change


def levels(number: int) -> dict[str, int]:
    return {"ial": number, "aal": number, "fal": number}


def sunset_after(days: float) -> list[dict[str, Any]]:
    return [{"name": "ES256", "sunset": int((START + timedelta(days=days)).timestamp())}]


def second_issuer(claims: dict[str, Any]) -> None:
    """Another, which ranks the two names the other way round."""
    first = claims["issuers"][0]
    low, high = first["equivalence"]["urn:yrd:loa:3"], first["equivalence"]["urn:yrd:loa:4"]
    equivalence = {"b": low, "a": high}
    claims["issuers"].append({**first, "entity_id": "https://js.example", "equivalence": equivalence})
    first["equivalence"] = {"a": low, "b": high}
    claims["terms"] |= {name: {"zh": f"{name} 级", "en": f"level {name}"} for name in ("a", "b")}
    del claims["terms"]["urn:yrd:loa:3"], claims["terms"]["urn:yrd:loa:4"]


ASSERTION_TERM: Final = of_terms(**{ASSERTION_CREDENTIAL_TYPE: {"zh": "断言", "en": "assertion"}})
RELEASES_NOTHING_RESTRICTED: Final = both(
    of_matter(restricted_claims=[], required_claims=[], released_claims=["hukou_region"], actor_released_claims=[]),
    lambda claims: claims["terms"].pop("name"),
)

ODD: Final[Mapping[RemarkKind, tuple[Change, Severity, str]]] = {
    RemarkKind.FLOOR_UNREACHABLE: (of_matter(min_assurance=levels(3)), Severity.ERROR, f"{MATTER}.min_assurance"),
    RemarkKind.STATUS_AGE_TOO_SHORT: (
        of_matter(max_status_age_seconds=int(RESIGNING_INTERVAL.total_seconds()) - 1),
        Severity.ERROR,
        f"{MATTER}.max_status_age_seconds",
    ),
    RemarkKind.ASSERTIONS_TO_BIND: (
        both(of_matter(credential_types=[TYPE, ASSERTION_CREDENTIAL_TYPE]), ASSERTION_TERM),
        Severity.NOTE,
        f"{MATTER}.credential_types",
    ),
    RemarkKind.RESTRICTED_UNBOUND: (of_matter(key_binding=False), Severity.WARNING, f"{MATTER}.key_binding"),
    RemarkKind.RESTRICTED_WITHOUT_STATUS: (
        of_matter(status_required=False),
        Severity.WARNING,
        f"{MATTER}.status_required",
    ),
    RemarkKind.RESTRICTED_OF_THE_UNKNOWN: (
        of_matter(min_assurance=levels(1)),
        Severity.WARNING,
        f"{MATTER}.min_assurance",
    ),
    RemarkKind.CONSENT_KEPT_LONG: (
        of_matter(
            consent={"zh": "同意书", "en": "consent"},
            legal_basis=None,
            retention_seconds=int(LONG_RETENTION.total_seconds()) + 1,
        ),
        Severity.WARNING,
        f"{MATTER}.retention_seconds",
    ),
    RemarkKind.COMPARABLE_AND_RELEASED: (
        both(of_matter(comparable_claims=["name"]), lambda claims: claims["terms"].pop("id_number")),
        Severity.NOTE,
        f"{MATTER}.comparable_claims",
    ),
    RemarkKind.ASKED_AND_RELEASED: (of_matter(questions=["household_in"]), Severity.NOTE, f"{MATTER}.questions"),
    RemarkKind.EQUIVALENCE_CONTRADICTS: (
        second_issuer,
        Severity.WARNING,
        "agreement.issuers[https://js.example].equivalence[b]",
    ),
    RemarkKind.EQUIVALENCE_DESCENDS: (
        of_issuer(
            equivalence={
                "urn:yrd:loa:3": {"ial": 3, "aal": 2, "fal": 3},
                "urn:yrd:loa:4": {"ial": 2, "aal": 2, "fal": 3},
            }
        ),
        Severity.WARNING,
        f"{ISSUER}.equivalence[urn:yrd:loa:4]",
    ),
    RemarkKind.TERM_UNUSED: (
        of_terms(phone_number={"zh": "电话", "en": "telephone"}),
        Severity.NOTE,
        "agreement.terms[phone_number]",
    ),
    RemarkKind.SAME_WORDS: (of_terms(name={"zh": "name", "en": "name"}), Severity.WARNING, "agreement.terms[name]"),
}


def test_nothing_is_odd_about_a_plain_agreement() -> None:
    assert found(lambda _claims: None) == ()


@pytest.mark.parametrize(("kind", "odd"), ODD.items(), ids=ODD)
def test_each_oddity_is_found_where_it_is(kind: RemarkKind, odd: tuple[Change, Severity, str]) -> None:
    change, severity, path = odd
    (remark,) = found(change)
    assert (remark.kind, remark.severity, remark.path) == (kind, severity, path)
    assert remark.words.zh != remark.words.en


def test_only_assertions_where_a_key_is_to_be_proved_is_an_error() -> None:
    change = both(
        of_matter(
            credential_types=[ASSERTION_CREDENTIAL_TYPE],
            min_assurance=levels(2),
            status_required=False,
        ),
        ASSERTION_TERM,
        lambda claims: claims["terms"].pop(TYPE),
    )
    (remark,) = found(change)
    assert (remark.kind, remark.severity) == (RemarkKind.ONLY_ASSERTIONS_TO_BIND, Severity.ERROR)
    # They reach no hand-over by the holder's key either.
    kinds = {each.kind for each in found(both(change, of_matter(min_assurance={"ial": 2, "aal": 2, "fal": 3})))}
    assert kinds == {RemarkKind.ONLY_ASSERTIONS_TO_BIND, RemarkKind.FLOOR_UNREACHABLE}


@pytest.mark.parametrize(
    ("algorithms", "severity"),
    [
        (sunset_after(0), Severity.ERROR),
        (sunset_after(1), Severity.WARNING),
        (sunset_after(LIFETIME.days - 1), Severity.WARNING),
        (sunset_after(LIFETIME.days), None),
        ([*sunset_after(0), {"name": "Ed25519", "sunset": None}], None),
    ],
    ids=["ended", "ends soon", "ends before the charter", "ends with it", "another is left"],
)
def test_an_issuer_whose_last_algorithm_ends_is_found(
    algorithms: list[dict[str, Any]], severity: Severity | None
) -> None:
    remarks = found(of_issuer(algorithms=algorithms))
    expected = [] if severity is None else [(RemarkKind.NO_ALGORITHM_LEFT, severity, f"{ISSUER}.algorithms")]
    assert [(remark.kind, remark.severity, remark.path) for remark in remarks] == expected


def test_a_type_that_nobody_is_granted_is_found_where_that_is_known() -> None:
    def nothing(_claims: dict[str, Any]) -> None:
        """Change nothing."""

    assert found(nothing, granted=frozenset({TYPE})) == ()
    (remark,) = found(nothing, granted=frozenset())
    assert (remark.kind, remark.severity, remark.path) == (
        RemarkKind.TYPE_NOT_GRANTED,
        Severity.WARNING,
        f"{MATTER}.credential_types",
    )


def test_what_is_not_restricted_is_released_as_one_likes() -> None:
    lax = of_matter(key_binding=False, status_required=False, min_assurance=levels(1))
    assert {each.kind for each in found(lax)} == {
        RemarkKind.RESTRICTED_UNBOUND,
        RemarkKind.RESTRICTED_WITHOUT_STATUS,
        RemarkKind.RESTRICTED_OF_THE_UNKNOWN,
    }
    assert found(both(lax, RELEASES_NOTHING_RESTRICTED)) == ()


def test_the_worst_comes_first() -> None:
    severities = [
        each.severity for each in found(both(*(ODD[kind][0] for kind in reversed(list(ODD)) if kind not in _APART)))
    ]
    assert severities == sorted(severities, key=list(Severity).index)
    assert set(severities) == set(Severity)


_APART: Final = {RemarkKind.EQUIVALENCE_CONTRADICTS, RemarkKind.COMPARABLE_AND_RELEASED}
"""These leave no place for the changes of others."""


def test_every_kind_has_its_test() -> None:
    apart = {RemarkKind.ONLY_ASSERTIONS_TO_BIND, RemarkKind.NO_ALGORITHM_LEFT, RemarkKind.TYPE_NOT_GRANTED}
    assert ODD.keys() | apart == set(RemarkKind)
