"""``mrg charter``: the ceremony by which provinces come to one charter.

Somebody drafts it from the provinces' cards (``create``). Each province looks at it (``show``, ``diff``), signs it
where its anchor key lies (``sign``, offline) and passes the file on. Everybody reads the digest to each other over the
telephone and compares it with ``verify``; that digest, and nothing else, is what a gateway is configured with.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from gateway.cli import drafting, files, options
from gateway.cli.console import (
    Cell,
    ExitCode,
    Failure,
    Lang,
    Screen,
    at_terminal,
    confirm,
    exit_codes,
    groups,
    instant,
    span,
    stdout,
    until,
    write_document,
)
from gateway.cli.drafting import payload, read_charter
from gateway.core.charter import (
    Charter,
    ThresholdResult,
    UnverifiedCharter,
    add_signature,
    count_signatures,
    parse_charter,
    require_unexpired,
    verify_pinned,
    verify_successor,
)
from gateway.core.charter_diff import Change, diff
from gateway.core.reasons import Rejected
from gateway.core.texts import Language
from gateway.keystore import KeyStore, KeyStoreError

_DONE: Final = exit_codes({ExitCode.OK: "done"})
_STYLES: Final = {"+": "green", "-": "red", "~": "yellow"}

app = typer.Typer(no_args_is_help=True, help="Draft, sign, compare and inspect the charter (章程).")
app.command("create", epilog=_DONE, short_help="Draft a charter from the provinces' cards.")(drafting.create)

_File = Annotated[Path, typer.Argument(metavar="CHARTER.json")]
_Previous = Annotated[
    Path | None, typer.Option(metavar="OLD.json", help="The charter now in force, which this one is to follow.")
]


@app.command(epilog=exit_codes({ExitCode.OK: "signed", ExitCode.NO: "not signed: the answer was no"}))
def sign(
    file: _File,
    *,
    keys: Annotated[Path, typer.Option(metavar="DIR", help="The province's key store, with its anchor's key.")],
    previous: _Previous = None,
    yes: Annotated[bool, typer.Option("--yes", help="Sign without asking.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Write the signed charter here instead of over CHARTER.json.")
    ] = None,
    as_json: options.JsonOption = False,
) -> None:
    """Sign a charter as this province's anchor. Offline: it needs the file and the key, and no network.

    On a terminal, what is about to be signed is shown first, and asked about. Where nobody can be asked, it takes
    --yes, from somebody who has read mrg charter show.
    """
    parsed = read_charter(file)
    old = None if previous is None else read_charter(previous).unverified
    if old is not None and (parsed.unverified.version, parsed.unverified.prev_sha256) != (old.version + 1, old.sha256):
        raise Failure(
            f"{file}: does not follow {previous}",
            fix="draft it with mrg charter create --previous, from the charter that is in force",
        )
    if not yes:
        if as_json or not at_terminal():
            raise Failure(
                "--yes is missing, and there is nobody to ask",
                fix=f"read what you are about to sign with mrg charter show {file}, then sign it with --yes",
            )
        _show_before_signing(parsed, old)
        if not confirm("Sign it for your province?"):
            raise Failure(
                "not signed; nothing was changed", fix="sign it once your province agrees to it", code=ExitCode.NO
            )
    document = _signed(parsed.unverified, keys, old, file)
    files.write_text(out or file, document, mode=files.PUBLIC)
    signed = parse_charter(document)
    progress = count_signatures(signed, signed.unverified)
    if as_json:
        write_document(
            {"file": str(out or file), "sha256": signed.unverified.sha256, "signatures": _progress(progress)}
        )
        return
    stdout().facts(
        [
            *_identity(signed.unverified),
            ("Signed", _counted(progress)),
            ("Next", _next_signature(progress, out or file)),
        ]
    )


@app.command(epilog=exit_codes({ExitCode.OK: "acceptable", ExitCode.NO: "not acceptable (yet): the reason is shown"}))
def verify(
    file: _File,
    *,
    sha256: Annotated[
        str | None,
        typer.Option(metavar="PIN", help="The digest that the provinces compared, base64url or hexadecimal."),
    ] = None,
    previous: _Previous = None,
    lab_clock: options.ExplicitLabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Check a charter's signatures and expiry, and show its digest for people to compare by voice.

    With --sha256, also that it is the one that was compared. With --previous, that it may follow that one, which you
    must trust already. With neither, anybody could have written it: compare the digest.
    """
    parsed = read_charter(file)
    charter = parsed.unverified
    old = None if previous is None else read_charter(previous)
    now = options.world(lab_clock).now()
    pinned = None if sha256 is None else drafting.digest(sha256, "--sha256") == charter.sha256
    problem = _problem(charter, None if old is None else old.unverified, now, pinned=pinned)
    own = count_signatures(parsed, charter)
    handover = None if old is None else count_signatures(parsed, old.unverified)
    if as_json:
        write_document(
            {
                "file": str(file),
                "version": charter.version,
                "sha256": charter.sha256,
                "pinned": pinned,
                "signatures": _progress(own),
                "previous_signatures": None if handover is None else _progress(handover),
                "expires_at": instant(charter.expires_at),
                "acceptable": problem is None,
                "problem": problem,
            }
        )
    else:
        _show_verified(stdout(), charter, own, handover, now, pinned=pinned, problem=problem)
    raise typer.Exit(ExitCode.OK if problem is None else ExitCode.NO)


@app.command(epilog=_DONE)
def show(
    file: _File,
    *,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Show what a charter says, whoever signed it."""
    parsed = read_charter(file)
    progress = count_signatures(parsed, parsed.unverified)
    if as_json:
        write_document(
            {"sha256": parsed.unverified.sha256, "signatures": _progress(progress), "payload": payload(parsed)}
        )
        return
    screen = stdout()
    screen.facts([*_identity(parsed.unverified), ("Signed", _counted(progress))])
    _show_content(screen, parsed, options.world(lab_clock).now(), lang)


@app.command("diff", epilog=exit_codes({ExitCode.OK: "done, whether they differ or not"}))
def compare(
    old: Annotated[Path, typer.Argument(metavar="OLD.json")],
    new: Annotated[Path, typer.Argument(metavar="NEW.json")],
    *,
    as_json: options.JsonOption = False,
) -> None:
    """Show what changes from one charter to another: meaning, not text."""
    before, after = read_charter(old).unverified, read_charter(new).unverified
    changes = diff(before, after)
    if as_json:
        listed = [{"path": each.path, "before": each.before, "after": each.after} for each in changes]
        write_document({"old": before.sha256, "new": after.sha256, "changes": listed})
        return
    _show_changes(stdout(), changes)


def _signed(charter: Charter, keys: Path, old: Charter | None, file: Path) -> str:
    if (keys / "keys").is_dir():  # the province's folder was given, which is what mrg init takes
        keys = keys / "keys"
    try:
        return add_signature(charter.document, KeyStore.open(keys).signer("anchor-federation"), previous=old)
    except KeyStoreError as error:
        raise Failure(str(error), fix="give the folder of this province's keys with --keys") from error
    except Rejected as error:
        raise Failure(
            f"{file}: {error.detail}", fix="sign with the anchor's key that the charter names; see mrg charter show"
        ) from error


# -- judging ----------------------------------------------------------------------------------------------------------


def _problem(charter: Charter, old: Charter | None, now: datetime, *, pinned: bool | None) -> str | None:
    """Give the first reason for which a gateway would not accept this charter."""
    if pinned is False:
        return "the digest is not the one given: this is another charter"
    try:
        if old is not None:
            verify_successor(old, charter.document)
        else:
            verify_pinned(charter.document, charter.sha256)
        require_unexpired(charter, now)
    except Rejected as error:
        return error.detail
    return None


def _progress(result: ThresholdResult) -> dict[str, Any]:
    return {
        "required": result.required,
        "signed": [anchor.province.code for anchor in result.signed],
        "missing": [anchor.province.code for anchor in result.missing],
        "met": result.met,
    }


# -- showing ----------------------------------------------------------------------------------------------------------


def _identity(charter: Charter) -> list[tuple[str, Cell]]:
    return [("Charter", f"version {charter.version}"), ("Digest", charter.sha256)]


def _counted(result: ThresholdResult) -> str:
    missing = " ".join(anchor.province.code for anchor in result.missing)
    count = len(result.signed)
    # Once there are enough, nobody is missing, though somebody may still sign.
    rest = f"; {'not signed by' if result.met else 'missing'} {missing}" if missing else ""
    return f"{count} {'signature' if count == 1 else 'signatures'}, {result.required} needed{rest}"


def _next_signature(progress: ThresholdResult, file: Path) -> str:
    if not progress.met:
        return f"pass the file to {' '.join(anchor.province.code for anchor in progress.missing)}, to sign it too"
    return f"compare the digest with the other provinces: mrg charter verify {file}"


def _show_verified(
    screen: Screen,
    charter: Charter,
    own: ThresholdResult,
    handover: ThresholdResult | None,
    now: datetime,
    *,
    pinned: bool | None,
    problem: str | None,
) -> None:
    verdict = Text("acceptable", "bold green")
    if problem is not None:
        verdict = Text(f"not acceptable: {problem}", "bold red")
    elif pinned is None and handover is None:
        verdict = Text("the signatures hold; compare the digest before anything rests on it", "bold yellow")
    compared = {None: "not compared; give --sha256", True: "the one given", False: "NOT the one given"}[pinned]
    screen.facts(
        [
            *_identity(charter),
            ("Read aloud", groups(drafting.hexadecimal(charter.sha256))),
            ("Compared", compared),
            ("Signed", _counted(own)),
            *([("Handed over", _counted(handover))] if handover is not None else []),
            ("Expires", until(charter.expires_at, now)),
            ("Result", verdict),
        ]
    )


def _show_before_signing(parsed: UnverifiedCharter, old: Charter | None) -> None:
    screen, charter = stdout(), parsed.unverified
    screen.facts([*_identity(charter), ("Read aloud", groups(drafting.hexadecimal(charter.sha256)))])
    _show_content(screen, parsed, options.world(None).now(), Lang.BOTH)
    if old is not None:
        screen.line()
        screen.line(f"What changes from version {old.version}")
        _show_changes(screen, diff(old, charter))


def _show_changes(screen: Screen, changes: tuple[Change, ...]) -> None:
    for change in changes:
        screen.line(Text(str(change), _STYLES[str(change)[0]]))
    if not changes:
        screen.line("no difference in meaning")


def _show_content(screen: Screen, parsed: UnverifiedCharter, now: datetime, lang: Lang) -> None:
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
    screen.facts(fact for name, value in terms.items() if name not in hidden for fact in _term(name, value))


def _term(name: str, value: Any) -> Iterator[tuple[str, Cell]]:
    shown = f"  {name.removesuffix('_seconds').replace('_', ' ')}"
    if isinstance(value, Mapping) and any(isinstance(each, Mapping) for each in value.values()):
        for i, (key, entry) in enumerate(value.items()):
            yield "" if i else shown, f"{key} = {_plain(entry)}"
    elif name.endswith("_seconds"):
        yield shown, f"{value} s ({span(timedelta(seconds=value))})"
    else:
        yield shown, _plain(value)


def _plain(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case list():
            return " ".join(map(_plain, value)) or "none"
        case Mapping():
            return " ".join(f"{key.upper()}{_plain(entry)}" for key, entry in value.items())
        case _:
            return str(value)
