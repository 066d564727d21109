"""What ``mrg charter`` shows people before, while and after they sign.

Whatever is signed is shown whole: what was left out here would be signed unseen. A digest has two spellings. The
configuration holds it in base64url; people read it to each other in hexadecimal, which has no capitals to mishear.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from rich.text import Text

from gateway.cli.console import Cell, Lang, Screen, groups, instant, span, stdout, until, write_document
from gateway.core.charter import Charter, CharterAnchor, ThresholdResult, UnverifiedCharter
from gateway.core.charter_diff import Caution, Change, cautions, diff
from gateway.core.encoding import b64url_decode
from gateway.core.identifiers import Province
from gateway.core.texts import Language

_STYLES: Final = {"+": "green", "-": "red", "~": "yellow"}


def payload(charter: UnverifiedCharter) -> dict[str, Any]:
    """Give a charter's claims as they were written."""
    claims: dict[str, Any] = json.loads(charter.signed.decoded)
    return claims


def hexadecimal(sha256: str) -> str:
    """Spell a base64url digest in hexadecimal."""
    return b64url_decode(sha256).hex()


# -- progress ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a charter is: towards the quorum of its own anchors, and towards that of the charter before."""

    new: ThresholdResult
    old: ThresholdResult | None
    """None when the charter before was not given."""

    @property
    def met(self) -> bool:
        """Whether enough signed, as far as can be told."""
        return self.new.met and (self.old is None or self.old.met)

    @property
    def documents(self) -> dict[str, Any]:
        """For programs."""
        return {
            "signatures": _progress(self.new),
            "previous_signatures": None if self.old is None else _progress(self.old),
        }

    @property
    def facts(self) -> list[tuple[str, Cell]]:
        """For people: ``2 of 3, missing zj``, for both sides where both are known."""
        if self.old is None:
            return [("Signed", _counted(self.new))]
        return [("Old anchors", _counted(self.old)), ("New anchors", _counted(self.new))]

    def next(self, file: Path, previous: Path | None) -> str:
        """What the people who hold the file do now."""
        before = "" if previous is None else f" --previous {previous}"
        if not self.met:
            # Whose signature would help: on the side that is short of some.
            sides = [side for side in (self.old, self.new) if side is not None and not side.met]
            missing = {anchor.province for side in sides for anchor in side.missing}
            codes = " ".join(province.code for province in Province if province in missing)
            return f"pass the file to {codes}, to sign it too"
        return f"compare the digest with the other provinces: mrg charter verify {file}{before}"


def _progress(result: ThresholdResult) -> dict[str, Any]:
    return {
        "required": result.required,
        "signed": _codes(result.signed),
        "missing": _codes(result.missing),
        "met": result.met,
    }


def _codes(anchors: Iterable[CharterAnchor]) -> list[str]:
    return [anchor.province.code for anchor in anchors]


def _counted(result: ThresholdResult) -> str:
    missing = " ".join(_codes(result.missing))
    # Once there are enough, nobody is missing, though somebody may still sign.
    rest = f", {'not signed by' if result.met else 'missing'} {missing}" if missing else ""
    return f"{len(result.signed)} of {result.required}{rest}"


# -- a draft ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What ``create`` made."""

    file: Path
    charter: Charter
    previous: Path | None
    old: Charter | None
    said: Sequence[str]
    """What was changed beyond what was asked for."""


def show_draft(drafted: Draft, *, as_json: bool) -> None:
    """Show what was drafted, what it changes, what to mind about it, and what comes next."""
    charter, file = drafted.charter, drafted.file
    minded = cautions(drafted.old, charter)
    if as_json:
        write_document(
            {
                "file": str(file),
                "version": charter.version,
                "sha256": charter.sha256,
                "quorum": charter.quorum,
                "anchors": _codes(charter.anchors),
                "expires_at": instant(charter.expires_at),
                "also_changed": list(drafted.said),
                "cautions": caution_documents(minded),
            }
        )
        return
    before = "" if drafted.previous is None else f" --previous {drafted.previous}"
    screen = stdout()
    screen.facts(
        [
            ("Draft", str(file)),
            ("Charter", f"version {charter.version}, unsigned"),
            ("Digest", charter.sha256),
            ("Read aloud", groups(hexadecimal(charter.sha256))),
            ("Quorum", f"{charter.quorum} of {' '.join(_codes(charter.anchors))}"),
            ("Expires", instant(charter.expires_at) or ""),
            *(("Also changed", line) for line in drafted.said),
            ("Next", f"each province looks at it: mrg charter show {file}"),
            ("", f"and signs it: mrg charter sign {file} --keys DIR/keys{before}"),
        ]
    )
    if drafted.old is not None:
        show_changes(screen, diff(drafted.old, charter), f"What changes from version {drafted.old.version}")
    show_cautions(screen, minded)


def caution_documents(minded: Sequence[Caution]) -> list[dict[str, str]]:
    """Cautions for programs."""
    return [{"kind": each.kind.value, "subject": each.subject, "detail": each.detail} for each in minded]


def show_cautions(screen: Screen, minded: Sequence[Caution]) -> None:
    """Show what to mind; nothing when there is nothing."""
    if not minded:
        return
    screen.line()
    screen.line(Text("Mind", "bold"))
    for each in minded:
        subject = f"{each.subject}: " if each.subject else ""
        screen.line(Text(f"! {subject}{each.detail}", "yellow"))


# -- showing ----------------------------------------------------------------------------------------------------------


def identity(charter: Charter) -> list[tuple[str, Cell]]:
    """Say which charter it is, for people to compare."""
    return [
        ("Charter", f"version {charter.version}"),
        ("Digest", charter.sha256),
        ("Read aloud", groups(hexadecimal(charter.sha256))),
    ]


def show_verified(
    screen: Screen, charter: Charter, progress: Progress, now: datetime, *, pinned: bool | None, problem: str | None
) -> None:
    """Show what a check found."""
    verdict = Text("acceptable", "bold green")
    if problem is not None:
        verdict = Text(f"not acceptable: {problem}", "bold red")
    elif pinned is None and progress.old is None:
        verdict = Text("the signatures hold; compare the digest before anything rests on it", "bold yellow")
    compared = {None: "not compared; give --sha256", True: "the one given", False: "NOT the one given"}[pinned]
    screen.facts(
        [
            *identity(charter),
            ("Compared", compared),
            *progress.facts,
            ("Expires", until(charter.expires_at, now)),
            ("Result", verdict),
        ]
    )


def show_before_signing(parsed: UnverifiedCharter, old: Charter | None, now: datetime) -> None:
    """Show all that is about to be signed, what it changes, and what to mind."""
    screen, charter = stdout(), parsed.unverified
    screen.facts(identity(charter))
    show_content(screen, parsed, now, Lang.BOTH)
    if old is not None:
        show_changes(screen, diff(old, charter), f"What changes from version {old.version}")
    show_cautions(screen, cautions(old, charter))


def show_changes(screen: Screen, changes: Sequence[Change], title: str | None = None) -> None:
    """Show differences, one a line."""
    if title is not None:
        screen.line()
        screen.line(Text(title, "bold"))
    for change in changes:
        screen.line(Text(str(change), _STYLES[str(change)[0]]))
    if not changes:
        screen.line("no difference in meaning")


def show_content(screen: Screen, parsed: UnverifiedCharter, now: datetime, lang: Lang) -> None:
    """Show everything that a signature is for."""
    charter = parsed.unverified
    screen.facts(
        [
            ("Follows", charter.prev_sha256 or "none: it is the first"),
            ("Issued", instant(charter.issued_at) or ""),
            ("Expires", until(charter.expires_at, now)),
            ("Quorum", f"{charter.quorum} of {len(charter.anchors)} anchors"),
        ]
    )
    _show_parties(screen, charter, lang)
    _show_agreement(screen, payload(parsed)["agreement"], lang)


def _show_parties(screen: Screen, charter: Charter, lang: Lang) -> None:
    screen.table(
        "Anchors",
        ("Province", "Entity", "Key", "Algorithm"),
        [
            (anchor.province.code, anchor.entity_id, key.kid, key.algorithm.value)
            for anchor in charter.anchors
            for key in anchor.keys.values()
        ],
    )
    screen.table(
        "Members",
        ("Province", "Entity", "Role", "Name"),
        [
            (
                member.province.code,
                member.entity_id,
                " ".join(sorted(member.entity_types)),
                lang.pick(member.name_zh, member.name_en),
            )
            for member in charter.members
        ],
    )


def _show_agreement(screen: Screen, agreement: Mapping[str, Any], lang: Lang) -> None:
    # As written, whatever members there are: what was left out here would be signed unseen.
    _show_terms(screen, "Agreement", agreement, lang, besides={"matters", "issuers"})
    for matter in agreement["matters"]:
        _show_terms(screen, f"Matter {matter['code']}", matter, lang, besides={"code"})
    for issuer in agreement["issuers"]:
        _show_terms(screen, f"Issuer {issuer['entity_id']}", issuer, lang, besides={"entity_id"})


def _show_terms(screen: Screen, title: str, terms: Mapping[str, Any], lang: Lang, *, besides: Collection[str]) -> None:
    hidden = {*besides, *(f"name_{language.value}" for language in Language if language not in lang.languages)}
    screen.line()
    screen.line(Text(title, "bold"))
    screen.facts(fact for name, value in terms.items() if name not in hidden for fact in _term(name, value, lang))


def _term(name: str, value: Any, lang: Lang) -> Iterator[tuple[str, Cell]]:
    shown = f"  {name.removesuffix('_seconds').replace('_', ' ')}"
    if isinstance(value, Mapping) and any(isinstance(each, Mapping) for each in value.values()):
        for i, (key, entry) in enumerate(value.items()):
            yield "" if i else shown, f"{key} = {_plain(entry, lang)}"
    elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
        for i, entry in enumerate(value):
            yield "" if i else shown, _plain(entry, lang)
    elif name.endswith("_seconds"):
        yield shown, f"{value} s ({span(timedelta(seconds=value))})"
    else:
        yield shown, _plain(value, lang)


def _plain(value: Any, lang: Lang) -> str:
    match value:
        case None:
            shown = "none"
        case bool():
            shown = "yes" if value else "no"
        case list():
            shown = " ".join(_plain(each, lang) for each in value) or "none"
        case {"zh": str(zh), "en": str(en)}:
            shown = lang.pick(zh, en)
        case {"name": name, "sunset": sunset}:
            shown = str(name) if sunset is None else f"{name} until {instant(datetime.fromtimestamp(sunset, UTC))}"
        case {"name": name, "floor": floor}:
            shown = f"{_plain(name, lang)} = {_plain(floor, lang)}"
        case Mapping():
            shown = " ".join(f"{key.upper()}{_plain(entry, lang)}" for key, entry in value.items())
        case _:
            shown = str(value)
    return shown
