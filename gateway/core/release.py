"""What a relying service is given of what was presented: the claims that its matter may have, and nothing else.

Rules that live here:

* A claim is released when the matter releases it, and a consent, where the matter rests on one, covers it. Everything
  else that was presented is only ever looked at to answer a question that the matter may ask.
* Attributes of the subject and of whoever acts for it are never in one place.
* What belongs to a person is no attribute of an organisation, nor the other way round: two that were merged somewhere
  are refused here.
* Identifiers whose syntax is known are checked before they are handed on, never with the value in the error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from gateway.core.agreement import Matter, SubjectType
from gateway.core.consent import Consent
from gateway.core.identifiers import IdType, ResidentId, parse_division_code, parse_resident_id, parse_uscc
from gateway.core.predicates import HOUSEHOLD_CLAIM, Predicate, answer, household_province
from gateway.core.reasons import Reason, Rejected

_OF_PERSONS: Final = frozenset(
    {
        "name",
        "id_number",
        "id_type",
        "birthdate",
        "age_equal_or_over",
        "gender",
        "ethnicity",
        "hukou_region",
        "id_valid_to",
        "phone_number",
    }
)
_OF_ORGANISATIONS: Final = frozenset({"uscc", "organisation_name"})
_FOREIGN: Final = {SubjectType.NATURAL: _OF_ORGANISATIONS, SubjectType.LEGAL: _OF_PERSONS}


@dataclass(slots=True, kw_only=True)
class Released:
    """What is given out. Kept out of ``repr``: a value that ends up in a traceback must not take a person along."""

    attributes: Mapping[str, Any] = field(repr=False)
    actor_attributes: Mapping[str, Any] = field(repr=False)
    household_province: str = field(repr=False)
    """Empty when the matter may not know it, or it was not told."""
    answers: tuple[bool, ...] = field(repr=False)
    """To the predicates, in their order."""


def stated(claims: Mapping[str, Any]) -> frozenset[str]:
    """Give the names of the claims that say something; what is empty does not.

    A parent whose children were all kept back counts as missing, not as given. No and 0 are answers.
    """
    return frozenset([name for name, value in claims.items() if value or isinstance(value, int | float)])


def check_kind(claims: Mapping[str, Any], subject_type: SubjectType) -> None:
    """Refuse what mixes a person and an organisation. Raises Rejected(CLAIM_INVALID)."""
    if not _FOREIGN[subject_type].isdisjoint(claims):
        raise Rejected(Reason.CLAIM_INVALID, "claims of a person and of an organisation are mixed")


def release(
    claims: Mapping[str, Any],
    actor_claims: Mapping[str, Any],
    *,
    matter: Matter,
    consent: Consent | None,
    predicates: Sequence[Predicate],
    now: datetime,
) -> Released:
    """Choose what is given out, and answer the questions.

    Args:
        claims: all of the subject's that were presented.
        actor_claims: all of the actor's.
        matter: what it is for.
        consent: the consent that covers the request; None: it rests on none.
        predicates: questions, each of which the matter may ask.
        now: the time.

    Raises:
        Rejected: CLAIM_INVALID, REQUIRED_CLAIM_MISSING.
    """
    covered = consent.claims if matter.consent is not None and consent is not None else None
    attributes = _allowed(claims, matter.released_claims, covered)
    actor_attributes = _allowed(actor_claims, matter.actor_released_claims, covered)
    return Released(
        attributes=attributes,
        actor_attributes=actor_attributes,
        household_province=household_province(attributes[HOUSEHOLD_CLAIM]) if HOUSEHOLD_CLAIM in attributes else "",
        answers=tuple(answer(predicate, claims, now) for predicate in predicates),
    )


def _allowed(claims: Mapping[str, Any], released: frozenset[str], covered: frozenset[str] | None) -> Mapping[str, Any]:
    if not claims:
        return {}
    allowed = released if covered is None else released & covered
    attributes = {name: value for name, value in claims.items() if name in allowed and value is not None}
    if not CHECKED.isdisjoint(attributes):
        check_attributes({**attributes, "id_type": claims.get("id_type")})
    return attributes


_IDENTIFIERS: Final[Mapping[str, Callable[[str], object]]] = {
    "id_number": parse_resident_id,
    "uscc": parse_uscc,
    HOUSEHOLD_CLAIM: parse_division_code,
}
CHECKED: Final = frozenset(_IDENTIFIERS)
"""Claims whose syntax is checked when they are released, and not before."""


def check_attributes(attributes: Mapping[str, Any]) -> None:
    """Check attributes whose syntax is known: ``id_number`` (as its ``id_type`` has it), ``uscc``, ``hukou_region``.

    Raises:
        Rejected: CLAIM_INVALID, never with the value.
    """
    for name, parse in _IDENTIFIERS.items():
        if name in attributes:
            _check_identifier(name, attributes[name], attributes.get("id_type"), parse)


def _check_identifier(name: str, value: object, id_type: object, parse: Callable[[str], object]) -> None:
    # Passport numbers have no common syntax. Without a type, the number has to be of the usual kind.
    if name == "id_number" and id_type == IdType.PASSPORT.value and isinstance(value, str):
        return
    try:
        parsed = parse(value) if isinstance(value, str) else None
    except ValueError as error:
        raise Rejected(Reason.CLAIM_INVALID, f"{name} is malformed") from error
    if parsed is None or (isinstance(parsed, ResidentId) and id_type not in (None, parsed.id_type.value)):
        raise Rejected(Reason.CLAIM_INVALID, f"{name} is not a string, or not of the type stated")
