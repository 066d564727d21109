"""``mrg charter create``: from the provinces' cards and an agreement to a charter that nobody has signed yet.

Also what all charter commands share: reading a charter from a file, and the two spellings of its digest. The
configuration holds it in base64url; people read it to each other in hexadecimal, which has no capitals to mishear.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.cli import files, options
from gateway.cli.console import Failure, instant, stdout, write_document
from gateway.core.charter import (
    MAX_DOCUMENT_CHARS,
    MAX_LIFETIME,
    Charter,
    UnverifiedCharter,
    draft,
    parse_charter,
    unsigned,
)
from gateway.core.encoding import JsonLimits, b64url_decode, b64url_encode, parse_json_object
from gateway.core.identifiers import Province
from gateway.core.reasons import Rejected
from gateway.lab import charter as lab_charter
from gateway.provision import ProvisionError
from gateway.provision.cards import Card, charter_claims, check_apart, read_card

_HEXADECIMAL: Final = re.compile(r"[0-9a-f]{64}")
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_LIMITS: Final = JsonLimits(max_bytes=MAX_DOCUMENT_CHARS, max_depth=8, max_members=50_000)
_NO_PATHS: Final[list[Path]] = []
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


def payload(charter: UnverifiedCharter) -> dict[str, Any]:
    """Give a charter's claims as they were written."""
    claims: dict[str, Any] = json.loads(b64url_decode(charter.payload))
    return claims


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


def hexadecimal(sha256: str) -> str:
    """Spell a base64url digest in hexadecimal."""
    return b64url_decode(sha256).hex()


# -- create -----------------------------------------------------------------------------------------------------------


_Cards = Annotated[list[Path], typer.Option(metavar="CARD.json", help="A province's card; one for each.")]
_AgreementFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The recognition agreement, JSON. Default: the previous one's.")
]
_Quorum = Annotated[
    int | None,
    typer.Option(min=1, help="How many anchors must agree. Default: the previous one's, or the least there may be."),
]
_Days = Annotated[int, typer.Option(min=1, max=MAX_LIFETIME.days, help="For how long it is good.")]
_Previous = Annotated[
    Path | None,
    typer.Option(metavar="OLD.json", help="The charter it follows: provinces without a card stay as they are there."),
]
_Leaving = Annotated[
    list[Province], typer.Option(metavar="PROVINCE", help="With --previous: a province that leaves; repeatable.")
]
_Example = Annotated[
    bool, typer.Option("--example-agreement", help="Print the lab's agreement to start from, for the cards given.")
]
_Draft = Annotated[Path, typer.Option(help="Where to write the draft.")]


def create(
    *,
    card: _Cards = _NO_PATHS,
    agreement: _AgreementFile = None,
    quorum: _Quorum = None,
    days: _Days = 180,
    previous: _Previous = None,
    leaving: _Leaving = _NO_PROVINCES,
    example_agreement: _Example = False,
    out: _Draft = Path("charter.json"),
    lab_clock: options.ExplicitLabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Draft a charter that nobody has signed yet, or the next version of one.

    Compare the fingerprint of every card with its province by voice before: whoever's key is in the charter is an
    anchor. An existing file is never written over.
    """
    cards = list(read_cards(card).values())
    if example_agreement:
        _print_example(cards)
        return
    if leaving and previous is None:
        raise Failure("--leaving needs the charter that is left", fix="give it with --previous")
    old = None if previous is None else read_charter(previous)
    claims = charter_claims(
        cards,
        _agreement(agreement, old),
        quorum=quorum or 0,  # when none is given, it is counted once all anchors are known
        now=options.world(lab_clock).now(),
        lifetime=timedelta(days=days),
        previous=None if old is None else old.unverified,
    )
    document = _document(_completed(claims, old, frozenset(leaving)))
    if out.exists():
        raise Failure(f"{out}: exists already", fix="move it away, or name another file with --out")
    files.write_text(out, document, mode=files.PUBLIC)
    _show_draft(parse_charter(document).unverified, out, previous, as_json=as_json)


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


def _completed(
    claims: Mapping[str, Any], old: UnverifiedCharter | None, leaving: Collection[Province]
) -> Mapping[str, Any]:
    """Add what stays as it was in the charter before, and the quorum where none was given."""
    entries = {name: list(claims[name]) for name in ("anchors", "members")}
    if old is not None:
        # A province has one anchor, which its card replaces; of its members, a card replaces those of the same name.
        given = {entry["province"] for entry in entries["anchors"]} | {
            entry["entity_id"] for entry in entries["members"]
        }
        for name, identity in (("anchors", "province"), ("members", "entity_id")):
            entries[name] += [
                entry
                for entry in payload(old)[name]
                if entry[identity] not in given and Province(entry["province"]) not in leaving
            ]
            entries[name].sort(key=_by_province)
    if not entries["anchors"]:
        raise Failure("--card is missing", fix="give the card of each province that takes part")
    least = len(entries["anchors"]) // 2 + 1
    usual = least if old is None else max(old.unverified.quorum, least)
    return {**claims, **entries, "quorum": claims["quorum"] or usual}


def _document(claims: Mapping[str, Any]) -> str:
    try:
        return unsigned(draft(claims))
    except Rejected as error:
        raise Failure(
            f"the charter would not be acceptable: {error.detail}",
            fix="correct the agreement, or the options, and try again",
        ) from error


def _by_province(entry: Mapping[str, Any]) -> int:
    return [province.code for province in Province].index(entry["province"])


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


def _show_draft(charter: Charter, file: Path, previous: Path | None, *, as_json: bool) -> None:
    if as_json:
        write_document(
            {
                "file": str(file),
                "version": charter.version,
                "sha256": charter.sha256,
                "quorum": charter.quorum,
                "anchors": [anchor.province.code for anchor in charter.anchors],
                "expires_at": instant(charter.expires_at),
            }
        )
        return
    before = "" if previous is None else f" --previous {previous}"
    stdout().facts(
        [
            ("Draft", str(file)),
            ("Charter", f"version {charter.version}, unsigned"),
            ("Digest", charter.sha256),
            ("Quorum", f"{charter.quorum} of {' '.join(anchor.province.code for anchor in charter.anchors)}"),
            ("Expires", instant(charter.expires_at) or ""),
            ("Next", f"each province looks at it: mrg charter show {file}"),
            ("", f"and signs it: mrg charter sign {file} --keys DIR/keys{before}"),
        ]
    )
