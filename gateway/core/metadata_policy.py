"""Metadata policy: how superiors narrow what a subordinate may say about itself (OpenID Federation 1.0 section 6.1).

Rules that live here:

* A policy is three levels: entity type, parameter, operator. Seven operators are standard; others are ignored unless a
  statement calls them critical, and then nothing of that statement may be used (sections 3.1.3 and 6.1.3.2).
* Only some operators may stand together, some of them under a condition on their values (``_COMBINATIONS``). That holds
  for each policy as published and again for every merged one.
* Policies are merged from the trust anchor downward. A merge only ever narrows, or fails: a subordinate cannot widen
  what its superior allows.
* A policy error is METADATA_POLICY_INVALID: whoever wrote the policies has to act. Metadata that a sound policy forbids
  is METADATA_POLICY_VIOLATED: the subject has to act. Either invalidates the chain.

Only the value types that the specification makes mandatory are supported: no objects, and no numbers in the set
operators. An unsupported type is an error, never skipped.

Policies and metadata come out of ``encoding.parse_json``, whose limits (2,000 members, depth 16) bound every loop
below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import reduce
from typing import Any, Final, NoReturn, TypeGuard

from gateway.core.encoding import write_json
from gateway.core.reasons import Reason, Rejected

Metadata = Mapping[str, Mapping[str, Any]]
"""Entity type to parameter to JSON value, never null (section 3.1.1)."""


class Operator(StrEnum):
    """The standard operators, in the order in which they are applied (section 6.1.3.1)."""

    VALUE = "value"
    ADD = "add"
    DEFAULT = "default"
    ONE_OF = "one_of"
    SUBSET_OF = "subset_of"
    SUPERSET_OF = "superset_of"
    ESSENTIAL = "essential"


STANDARD_OPERATORS: Final = frozenset(operator.value for operator in Operator)
_SET_OPERATORS: Final = frozenset({Operator.ADD, Operator.ONE_OF, Operator.SUBSET_OF, Operator.SUPERSET_OF})

Operators = Mapping[Operator, Any]
"""The policy for one parameter. Operands of set operators are tuples of distinct strings, others are JSON values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataPolicy:
    """A sound policy, as published by one superior or merged from several."""

    parameters: Mapping[tuple[str, str], Operators]
    """(entity type, parameter) to the operators for it. A language tag is part of the parameter's name."""


NO_POLICY: Final = MetadataPolicy(parameters={})


# -- reading ----------------------------------------------------------------------------------------------------------


def parse_policies(value: object) -> MetadataPolicy:
    """Read a ``metadata_policy`` claim: structure, value types and combinations.

    Raises:
        Rejected: METADATA_POLICY_INVALID.
    """
    parameters: dict[tuple[str, str], Operators] = {}
    for entity_type, policies in _members(value):
        for parameter, operators in _members(policies):
            parameters[entity_type, parameter] = _parse_operators(parameter, operators)
    return MetadataPolicy(parameters=parameters)


def refuse_critical_operators(value: object) -> NoReturn:
    """Say why a statement with this ``metadata_policy_crit`` claim is refused (section 3.1.3).

    It names operators beyond the standard ones that must be understood. We understand none, so the claim is either
    malformed or a demand that we cannot meet, and its mere presence refuses the statement, whether or not some policy
    uses the operator.

    Raises:
        Rejected: METADATA_POLICY_INVALID, always.
    """
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise _invalid("metadata_policy_crit is not a list of operator names")
    if not STANDARD_OPERATORS.isdisjoint(value):
        raise _invalid("metadata_policy_crit names a standard operator")
    raise _invalid("metadata_policy_crit names an operator that is not understood")


def _members(value: object) -> Sequence[tuple[str, Any]]:
    if not isinstance(value, dict):
        raise _invalid("a level of the policy is not an object")
    return tuple(value.items())


def _parse_operators(parameter: str, value: object) -> Operators:
    operators = {
        Operator(name): _parse_operator_value(Operator(name), parameter, operand)
        for name, operand in _members(value)
        if name in STANDARD_OPERATORS
    }
    if parameter == _SCOPE and Operator.ONE_OF in operators:
        raise _invalid("one_of is for a single string, scope is a list")
    return _combined(operators)


def _parse_operator_value(operator: Operator, parameter: str, value: object) -> object:
    if operator is Operator.ESSENTIAL:
        if not isinstance(value, bool):
            raise _invalid("essential is not true or false")
        return value
    if parameter == _SCOPE and isinstance(value, str):
        value = _split_scope(value)
    if operator in _SET_OPERATORS or (parameter == _SCOPE and value is not None):
        if not _is_string_array(value):
            raise _invalid(f"{operator} is not an array of strings")
        return tuple(dict.fromkeys(value))
    # value: null removes the parameter; default: null would output a null, which no operator may (section 6.1.3).
    if isinstance(value, dict) or (value is None and operator is Operator.DEFAULT):
        raise _invalid(f"{operator} has a value type that is not supported")
    return value


# -- combinations -----------------------------------------------------------------------------------------------------


def _within(part: object, whole: object) -> bool:
    """Whether both are arrays and one holds nothing that the other lacks. Null and scalars are no arrays."""
    return isinstance(part, list | tuple) and isinstance(whole, list | tuple) and all(item in whole for item in part)


def _never(_first: object, _second: object) -> bool:
    return False


# Section 6.1.3.1. A pair that is not listed may be combined whatever the values. The condition takes the operators'
# values in the order of the pair.
_COMBINATIONS: Final[Mapping[tuple[Operator, Operator], Callable[[Any, Any], bool]]] = {
    (Operator.VALUE, Operator.ADD): lambda value, add: _within(add, value),
    (Operator.VALUE, Operator.DEFAULT): lambda value, _default: value is not None,
    (Operator.VALUE, Operator.ONE_OF): lambda value, one_of: isinstance(value, str) and value in one_of,
    (Operator.VALUE, Operator.SUBSET_OF): _within,
    (Operator.VALUE, Operator.SUPERSET_OF): lambda value, superset_of: _within(superset_of, value),
    (Operator.VALUE, Operator.ESSENTIAL): lambda value, essential: value is not None or not essential,
    (Operator.ADD, Operator.ONE_OF): _never,
    (Operator.ADD, Operator.SUBSET_OF): _within,
    (Operator.ONE_OF, Operator.SUBSET_OF): _never,
    (Operator.ONE_OF, Operator.SUPERSET_OF): _never,
    (Operator.SUBSET_OF, Operator.SUPERSET_OF): lambda subset_of, superset_of: _within(superset_of, subset_of),
}


def _combined(operators: Operators) -> Operators:
    for (first, second), allowed in _COMBINATIONS.items():
        if first in operators and second in operators and not allowed(operators[first], operators[second]):
            raise _invalid(f"{first} and {second} do not go together")
    return operators


# -- merging ----------------------------------------------------------------------------------------------------------


def resolve(policies: Sequence[MetadataPolicy]) -> MetadataPolicy:
    """Merge the policies of a chain, given from the trust anchor downward (section 6.1.4.1).

    Raises:
        Rejected: METADATA_POLICY_INVALID.
    """
    return reduce(merge, policies, NO_POLICY)


def merge(superior: MetadataPolicy, subordinate: MetadataPolicy) -> MetadataPolicy:
    """Merge a subordinate's policy into that of its superiors (section 6.1.4.1).

    Raises:
        Rejected: METADATA_POLICY_INVALID when the two contradict each other.
    """
    merged = dict(superior.parameters)
    for place, operators in subordinate.parameters.items():
        merged[place] = _merge_operators(merged[place], operators) if place in merged else operators
    return MetadataPolicy(parameters=merged)


def _merge_operators(superior: Operators, subordinate: Operators) -> Operators:
    merged = dict(superior)
    for operator, operand in subordinate.items():
        merged[operator] = _MERGES[operator](merged[operator], operand) if operator in merged else operand
    return _combined(merged)


def _merge_equal(superior: object, subordinate: object) -> object:
    # Compared as written, because to Python true equals 1; and arrays in order, which can only refuse more.
    if write_json([superior]) != write_json([subordinate]):
        raise _invalid("superior and subordinate set different values")
    return superior


def _merge_union(superior: tuple[str, ...], subordinate: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*superior, *subordinate)))


def _merge_intersection(superior: tuple[str, ...], subordinate: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(item for item in superior if item in subordinate)


def _merge_choices(superior: tuple[str, ...], subordinate: tuple[str, ...]) -> tuple[str, ...]:
    # An empty subset_of permits the empty array; an empty one_of could never be met.
    choices = _merge_intersection(superior, subordinate)
    if not choices:
        raise _invalid("superior and subordinate leave one_of nothing to choose")
    return choices


def _merge_or(superior: bool, subordinate: bool) -> bool:  # noqa: FBT001 - operands of a policy operator
    return superior or subordinate


_MERGES: Final[Mapping[Operator, Callable[[Any, Any], object]]] = {
    Operator.VALUE: _merge_equal,
    Operator.ADD: _merge_union,
    Operator.DEFAULT: _merge_equal,
    Operator.ONE_OF: _merge_choices,
    Operator.SUBSET_OF: _merge_intersection,
    Operator.SUPERSET_OF: _merge_union,
    Operator.ESSENTIAL: _merge_or,
}


# -- applying ---------------------------------------------------------------------------------------------------------


class _Absence(Enum):
    ABSENT = "absent"


_ABSENT: Final = _Absence.ABSENT
_SCOPE: Final = "scope"
"""OAuth's list of scopes in one string (RFC 7591 section 2), which operators treat as an array (section 6.1.3.1.8)."""


def apply(policy: MetadataPolicy, metadata: Metadata) -> dict[str, dict[str, Any]]:
    """Apply a resolved policy (section 6.1.4.2). Policies for entity types that the subject lacks have no effect.

    Raises:
        Rejected: METADATA_POLICY_VIOLATED.
    """
    resolved = {entity_type: dict(parameters) for entity_type, parameters in metadata.items()}
    for (entity_type, parameter), operators in policy.parameters.items():
        if entity_type not in resolved:
            continue
        value = _apply_operators(operators, parameter, resolved[entity_type].pop(parameter, _ABSENT))
        if value is not _ABSENT:
            resolved[entity_type][parameter] = value
    return resolved


def _apply_operators(operators: Operators, parameter: str, value: object) -> object:
    is_scope = parameter == _SCOPE
    if is_scope and value is not _ABSENT:
        if not isinstance(value, str):
            raise _violated("scope is not a string")
        value = _split_scope(value)
    for operator in Operator:
        if operator in operators:
            value = _ACTIONS[operator](operators[operator], value)
    return " ".join(_string_array(value)) if is_scope and value is not _ABSENT else value


def _apply_value(operand: object, _value: object) -> object:
    return _ABSENT if operand is None else operand


def _apply_add(operand: tuple[str, ...], value: object) -> object:
    present = () if value is _ABSENT else _string_array(value)
    return [*present, *(item for item in operand if item not in present)]


def _apply_default(operand: object, value: object) -> object:
    return operand if value is _ABSENT else value


def _apply_one_of(operand: tuple[str, ...], value: object) -> object:
    if value is not _ABSENT and not (isinstance(value, str) and value in operand):
        raise _violated("a parameter is not among those of one_of")
    return value


def _apply_subset_of(operand: tuple[str, ...], value: object) -> object:
    return value if value is _ABSENT else [item for item in _string_array(value) if item in operand]


def _apply_superset_of(operand: tuple[str, ...], value: object) -> object:
    if value is not _ABSENT and not _within(operand, _string_array(value)):
        raise _violated("a parameter lacks an item of superset_of")
    return value


def _apply_essential(operand: bool, value: object) -> object:  # noqa: FBT001 - operand of a policy operator
    if operand and value is _ABSENT:
        raise _violated("an essential parameter is absent")
    return value


_ACTIONS: Final[Mapping[Operator, Callable[[Any, object], object]]] = {
    Operator.VALUE: _apply_value,
    Operator.ADD: _apply_add,
    Operator.DEFAULT: _apply_default,
    Operator.ONE_OF: _apply_one_of,
    Operator.SUBSET_OF: _apply_subset_of,
    Operator.SUPERSET_OF: _apply_superset_of,
    Operator.ESSENTIAL: _apply_essential,
}


def _split_scope(scope: str) -> list[str]:
    # Not split(): that would also split at white space that RFC 6749 section 3.3 does not make a separator.
    return [item for item in scope.split(" ") if item]


def _string_array(value: object) -> Sequence[str]:
    if not _is_string_array(value):
        raise _violated("a set operator meets a parameter that is not an array of strings")
    return value


def _is_string_array(value: object) -> TypeGuard[Sequence[str]]:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


def _invalid(detail: str) -> Rejected:
    return Rejected(Reason.METADATA_POLICY_INVALID, detail)


def _violated(detail: str) -> Rejected:
    return Rejected(Reason.METADATA_POLICY_VIOLATED, detail)
