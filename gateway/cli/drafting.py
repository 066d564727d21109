"""``mrg charter create``: from cards and an agreement, or from the charter before, to one that nobody has signed yet.

Also what all charter commands share: reading a charter from a file, and a digest from the command line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.cli import charter_screen, files, options
from gateway.cli.amending import Changes, amend
from gateway.cli.charter_screen import Draft, payload
from gateway.cli.console import Failure, write_document
from gateway.core.charter import (
    MAX_DOCUMENT_CHARS,
    MAX_LIFETIME,
    UnverifiedCharter,
    draft,
    parse_charter,
    unsigned,
)
from gateway.core.encoding import JsonLimits, b64url_encode, parse_json_object
from gateway.core.identifiers import Province
from gateway.core.reasons import Rejected
from gateway.lab import charter as lab_charter
from gateway.provision import ProvisionError
from gateway.provision.cards import Card, charter_claims, check_apart, read_card

USUAL_LIFETIME: Final = timedelta(days=180)

_HEXADECIMAL: Final = re.compile(r"[0-9a-f]{64}")
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_LIMITS: Final = JsonLimits(max_bytes=MAX_DOCUMENT_CHARS, max_depth=8, max_members=50_000)
_NO_PATHS: Final[list[Path]] = []
_NO_TEXTS: Final[list[str]] = []
_NO_PROVINCES: Final[list[Province]] = []


# -- what all charter commands share ----------------------------------------------------------------------------------


def read_charter(file: Path) -> UnverifiedCharter:
    """Read a charter, whoever signed it.

    Raises:
        Failure: it is none; the message names the place.
    """
    try:
        return parse_charter(files.read_text(file, "charter", limit=MAX_DOCUMENT_CHARS))
    except Rejected as error:
        raise Failure(
            f"{file}: {error.detail}", fix="name a charter as mrg charter create or mrg charter sign wrote it"
        ) from error


def digest(text: str, option: str) -> str:
    """Read a digest in either spelling, spaces allowed; gives base64url.

    Raises:
        Failure: it is none.
    """
    compact = "".join(text.split())
    if _HEXADECIMAL.fullmatch(compact.lower()):
        return b64url_encode(bytes.fromhex(compact))
    if _BASE64URL.fullmatch(compact):
        return compact
    raise Failure(f"{option} is not a SHA-256 digest", fix="copy it from mrg charter verify, base64url or hexadecimal")


# -- create -----------------------------------------------------------------------------------------------------------


_Cards = Annotated[
    list[Path], typer.Option(metavar="CARD.json", help="A province's card: it takes part with all it has; repeatable.")
]
_AgreementFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The recognition agreement, JSON. Default: the previous one's.")
]
_Quorum = Annotated[
    int | None,
    typer.Option(min=1, help="How many anchors must agree. Default: the previous one's, or the least there may be."),
]
_Days = Annotated[
    int | None,
    typer.Option(min=1, max=MAX_LIFETIME.days, help=f"For how long it is good. Default: {USUAL_LIFETIME.days}."),
]
_Expires = Annotated[
    str | None, typer.Option(metavar="TIME", help="Until when it is good, in place of --days; RFC 3339 with a zone.")
]
_Previous = Annotated[
    Path | None,
    typer.Option(metavar="OLD.json", help="The charter it follows: what no option names stays as it is there."),
]
_Leaving = Annotated[
    list[Province],
    typer.Option(metavar="PROVINCE", help="A province that leaves, with its anchor, members and terms; repeatable."),
]
_AddMember = Annotated[
    list[Path],
    typer.Option(metavar="FILE", help="A member as the charter writes it, or a card without its anchor; repeatable."),
]
_RemoveMember = Annotated[
    list[str], typer.Option(metavar="ENTITY", help="A member that leaves, with the terms for it; repeatable.")
]
_AddAnchor = Annotated[
    list[Path], typer.Option(metavar="CARD.json", help="A card whose anchor, and nothing else, joins; repeatable.")
]
_RemoveAnchor = Annotated[
    list[str], typer.Option(metavar="PROVINCE", help="An anchor that leaves; its members stay; repeatable.")
]
_AddAnchorKey = Annotated[
    list[str], typer.Option(metavar="PROVINCE=FILE", help="A further key of an anchor: JWK or card; repeatable.")
]
_RemoveAnchorKey = Annotated[list[str], typer.Option(metavar="KID", help="A key that its anchor drops; repeatable.")]
_Example = Annotated[
    bool, typer.Option("--example-agreement", help="Print the lab's agreement to start from, for the cards given.")
]
_Draft = Annotated[Path, typer.Option(help="Where to write the draft.")]


def create(
    *,
    card: _Cards = _NO_PATHS,
    agreement: _AgreementFile = None,
    quorum: _Quorum = None,
    days: _Days = None,
    expires: _Expires = None,
    previous: _Previous = None,
    leaving: _Leaving = _NO_PROVINCES,
    add_member: _AddMember = _NO_PATHS,
    remove_member: _RemoveMember = _NO_TEXTS,
    add_anchor: _AddAnchor = _NO_PATHS,
    remove_anchor: _RemoveAnchor = _NO_TEXTS,
    add_anchor_key: _AddAnchorKey = _NO_TEXTS,
    remove_anchor_key: _RemoveAnchorKey = _NO_TEXTS,
    example_agreement: _Example = False,
    out: _Draft = Path("charter.json"),
    lab_clock: options.ExplicitLabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Draft a charter that nobody has signed yet, or with --previous the next version of one.

    Compare the fingerprint of every card with its province by voice before: whoever's key is in the charter is an
    anchor. To replace an anchor whose key is lost, remove and add it in one draft. An existing file is never written
    over.
    """
    cards = list(read_cards(card).values())
    if example_agreement:
        _print_example(cards)
        return
    changes = Changes(
        leaving=leaving,
        remove_member=remove_member,
        add_member=add_member,
        remove_anchor=remove_anchor,
        add_anchor=add_anchor,
        remove_anchor_key=remove_anchor_key,
        add_anchor_key=add_anchor_key,
    )
    if changes.option is not None and previous is None:
        raise Failure(f"{changes.option} needs the charter that is changed", fix="give it with --previous")
    old = None if previous is None else read_charter(previous)
    now = options.world(lab_clock).now().replace(microsecond=0)  # as charters are dated
    claims = charter_claims(
        cards,
        _agreement(agreement, old),
        quorum=quorum or 0,  # when none is given, it is counted once all anchors are known
        now=now,
        lifetime=_lifetime(days, expires, now),
        previous=None if old is None else old.unverified,
    )
    try:
        amended, said = amend(_with_the_rest(claims, old), changes)
    except ProvisionError as error:
        raise provision_failure(error) from error
    document = _document(_with_quorum(amended, old))
    if out.exists():
        raise Failure(f"{out}: exists already", fix="move it away, or name another file with --out")
    files.write_text(out, document, mode=files.PUBLIC)
    drafted = Draft(
        file=out,
        charter=parse_charter(document).unverified,
        previous=previous,
        old=None if old is None else old.unverified,
        said=said,
    )
    charter_screen.show_draft(drafted, as_json=as_json)


def _print_example(cards: Sequence[Card]) -> None:
    issuers = [card.issuer for card in cards] or [lab_charter.entity_ids(province).issuer for province in Province]
    write_document(lab_charter.example_agreement(issuers))


def read_cards(paths: Sequence[Path]) -> dict[Path, Card]:
    """Read cards, and refuse those that claim the same thing.

    Raises:
        Failure: one cannot be read or is none, or two claim the same.
    """
    try:
        cards = {path: read_card(path) for path in paths}
        check_apart(cards)
    except ProvisionError as error:
        raise provision_failure(error) from error
    return cards


def provision_failure(error: ProvisionError) -> Failure:
    """Put what provisioning found wrong into the two lines of a failure."""
    place = ": ".join(part for part in (str(error.file), error.key) if part)
    return Failure(f"{place}: {error.problem}", fix=error.fix)


def _lifetime(days: int | None, expires: str | None, now: datetime) -> timedelta:
    if expires is None:
        return USUAL_LIFETIME if days is None else timedelta(days=days)
    if days is not None:
        raise Failure("--days and --expires say the same thing twice", fix="give one of them")
    lifetime = options.moment(expires, "--expires", now) - now
    if not timedelta(0) < lifetime <= MAX_LIFETIME:
        raise Failure(
            f"--expires is not within {MAX_LIFETIME.days} days from now", fix="give a moment in the future, but nearer"
        )
    return lifetime


def _with_the_rest(claims: Mapping[str, Any], old: UnverifiedCharter | None) -> Mapping[str, Any]:
    """Add what stays as it was in the charter before."""
    if old is None:
        if not claims["anchors"]:
            raise Failure("--card is missing", fix="give the card of each province that takes part")
        return claims
    # A province has one anchor, which its card replaces; of its members, a card replaces those of the same name.
    given = {entry["province"] for entry in claims["anchors"]} | {entry["entity_id"] for entry in claims["members"]}
    entries = {
        name: [*claims[name], *(entry for entry in payload(old)[name] if entry[identity] not in given)]
        for name, identity in (("anchors", "province"), ("members", "entity_id"))
    }
    return {**claims, **entries}


def _with_quorum(claims: Mapping[str, Any], old: UnverifiedCharter | None) -> Mapping[str, Any]:
    """Put in the quorum where none was given: what it was, within what it may be."""
    anchors = len(claims["anchors"])
    least = anchors // 2 + 1
    given: int = claims["quorum"]
    if given and not least <= given <= anchors:
        raise Failure(
            f"--quorum {given}: of {anchors} anchors it must be more than half and no more than all",
            fix=f"give {least}" + (f" to {anchors}" if anchors > least else ""),
        )
    usual = least if old is None else min(max(old.unverified.quorum, least), anchors)
    return {**claims, "quorum": given or usual}


def _document(claims: Mapping[str, Any]) -> str:
    try:
        return unsigned(draft(claims))
    except Rejected as error:
        raise Failure(
            f"the charter would not be acceptable: {error.detail}",
            fix="correct the agreement, or the options, and try again",
        ) from error


def _agreement(file: Path | None, old: UnverifiedCharter | None) -> Mapping[str, Any]:
    if file is None:
        if old is None:
            raise Failure(
                "--agreement is missing",
                fix="write one, starting from mrg charter create --example-agreement --card ... > agreement.json",
            )
        agreement: Mapping[str, Any] = payload(old)["agreement"]
        return agreement
    try:
        return parse_json_object(files.read_text(file, "agreement", limit=MAX_DOCUMENT_CHARS).encode("utf-8"), _LIMITS)
    except Rejected as error:
        raise Failure(f"{file}: {error.detail}", fix="correct the JSON of the agreement") from error
