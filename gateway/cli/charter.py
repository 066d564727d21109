"""``mrg charter``: the ceremony by which provinces come to one charter, and to the next one.

Somebody drafts it (``create``), from the provinces' cards or from the charter before. Each province looks at it
(``show``, ``diff``), signs it where its anchor key lies (``sign``, offline) and passes the file on, or all sign copies
at once and somebody puts them together (``merge``). Everybody reads the digest to each other over the telephone and
compares it with ``verify``; that digest, and nothing else, is what a gateway is configured with. A later charter needs
no configuration: one province takes it in (``install``), the others follow.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway.cli import drafting, files, installing, options
from gateway.cli.anchor_keys import (
    ConfigOption,
    KeyOption,
    KeysOption,
    PassphraseOption,
    anchor_signers,
    sign_with_all,
)
from gateway.cli.charter_screen import (
    Progress,
    caution_documents,
    identity,
    payload,
    show_before_signing,
    show_cautions,
    show_changes,
    show_content,
    show_verified,
)
from gateway.cli.console import (
    ExitCode,
    Failure,
    Lang,
    at_terminal,
    confirm,
    exit_codes,
    groups,
    instant,
    stderr,
    stdout,
    write_document,
)
from gateway.cli.drafting import read_charter
from gateway.core.charter import (
    Charter,
    UnverifiedCharter,
    count_signatures,
    merge_signatures,
    parse_charter,
    require_unexpired,
    verify_pinned,
    verify_successor,
)
from gateway.core.charter_diff import cautions, diff
from gateway.core.encoding import write_json
from gateway.core.reasons import Rejected

_OLD: Final = Path("OLD.json")
_DONE: Final = exit_codes({ExitCode.OK: "done"})

app = typer.Typer(no_args_is_help=True, help="Draft, sign, compare, inspect and install the charter (章程).")
app.command(
    "create", epilog=_DONE, short_help="Draft a charter from the provinces' cards, or the next version of one."
)(drafting.create)

_File = Annotated[Path, typer.Argument(metavar="CHARTER.json")]
_Files = Annotated[list[Path], typer.Argument(metavar="CHARTER.json...")]
_Previous = Annotated[
    Path | None, typer.Option(metavar="OLD.json", help="The charter now in force, which this one is to follow.")
]


@app.command(epilog=exit_codes({ExitCode.OK: "signed", ExitCode.NO: "not signed: the answer was no"}))
def sign(
    file: _File,
    *,
    keys: KeysOption = None,
    key: KeyOption = None,
    config: ConfigOption = None,
    passphrase_file: PassphraseOption = None,
    previous: _Previous = None,
    yes: Annotated[bool, typer.Option("--yes", help="Sign without asking.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Write the signed charter here instead of over CHARTER.json.")
    ] = None,
    as_json: options.JsonOption = False,
) -> None:
    """Sign a charter as this province's anchor. Offline: it needs the file and the key, and no network.

    While an anchor changes keys it signs with each that either charter lists. With --config, the charter now in force
    is read from the province's own database unless --previous names another. On a terminal, what is about to be signed
    is shown first, and asked about. Where nobody can be asked, it takes --yes, from somebody who has read mrg charter
    show.
    """
    parsed = read_charter(file)
    old = _held_before(parsed.unverified, config) if previous is None and config is not None else _before(previous)
    _check_follows(parsed.unverified, old, file, previous)
    with anchor_signers(keys, key, config, passphrase_file) as signers:
        if not yes:
            _ask(parsed, old, file, as_json=as_json)
        document, kids = sign_with_all(parsed, signers, old)
    target = out or file
    files.write_text(target, document, mode=files.PUBLIC)
    signed = parse_charter(document)
    progress = _progress(signed, old)
    if as_json:
        write_document(
            {
                "file": str(target),
                "sha256": signed.unverified.sha256,
                "kids": list(kids),
                **progress.documents,
            }
        )
        return
    stdout().facts(
        [
            *identity(signed.unverified),
            *(("Signed with" if not i else "", kid) for i, kid in enumerate(kids)),
            *progress.facts,
            ("Next", progress.next(target, previous or (None if old is None else _OLD))),
            *(
                [("", f"{_OLD} is what this writes: mrg charter export --config {config} --out {_OLD}")]
                if progress.met and previous is None and old is not None
                else []
            ),
        ]
    )


@app.command(epilog=_DONE)
def merge(
    charters: _Files,
    *,
    out: Annotated[Path, typer.Option(help="Where to write the one charter that has all the signatures.")],
    previous: _Previous = None,
    as_json: options.JsonOption = False,
) -> None:
    """Put copies of one charter together that several provinces signed in parallel.

    Copies of different charters are refused: compare the digests to find out whose draft is another.
    """
    copies = [read_charter(file) for file in charters]
    for file, copy in zip(charters, copies, strict=True):
        if copy.unverified.sha256 != copies[0].unverified.sha256:
            raise Failure(
                f"{file}: is not a copy of {charters[0]}: its digest is {copy.unverified.sha256},"
                f" not {copies[0].unverified.sha256}",
                fix="find out which of them the provinces agreed on, and have that one signed again",
            )
    old = _before(previous)
    _check_follows(copies[0].unverified, old, charters[0], previous)
    if out.exists() and read_charter(out).unverified.sha256 != copies[0].unverified.sha256:
        raise Failure(f"{out}: exists already, and is another charter", fix="name another file with --out")
    try:
        document = merge_signatures([copy.unverified.document for copy in copies])
    except Rejected as error:
        raise Failure(error.detail, fix="leave copies out that add nothing") from error
    files.write_text(out, document, mode=files.PUBLIC)
    merged = parse_charter(document)
    progress = _progress(merged, old)
    if as_json:
        write_document({"file": str(out), "sha256": merged.unverified.sha256, **progress.documents})
        return
    stdout().facts([*identity(merged.unverified), *progress.facts, ("Next", progress.next(out, previous))])


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
    must trust already; who signed is then counted for the old anchors and for the new ones. With neither, anybody could
    have written it: compare the digest.
    """
    parsed = read_charter(file)
    charter = parsed.unverified
    old = _before(previous)
    now = options.world(lab_clock).now()
    pinned = None if sha256 is None else drafting.digest(sha256, "--sha256") == charter.sha256
    problem = _problem(charter, old, now, pinned=pinned)
    progress = _progress(parsed, old)
    minded = cautions(old, charter)
    if as_json:
        write_document(
            {
                "file": str(file),
                "version": charter.version,
                "sha256": charter.sha256,
                "pinned": pinned,
                **progress.documents,
                "expires_at": instant(charter.expires_at),
                "acceptable": problem is None,
                "problem": problem,
                "cautions": caution_documents(minded),
            }
        )
    else:
        show_verified(stdout(), charter, progress, now, pinned=pinned, problem=problem)
        show_cautions(stdout(), minded)
    raise typer.Exit(ExitCode.OK if problem is None else ExitCode.NO)


@app.command(epilog=_DONE)
def show(
    file: _File,
    *,
    agreement: Annotated[
        bool, typer.Option("--agreement", help="Print the agreement alone, as JSON: to be edited for the next charter.")
    ] = False,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Show what a charter says, whoever signed it."""
    parsed = read_charter(file)
    progress = _progress(parsed, None)
    if agreement:
        write_document(payload(parsed)["agreement"])
        return
    if as_json:
        signatures = progress.documents["signatures"]
        write_document({"sha256": parsed.unverified.sha256, "signatures": signatures, "payload": payload(parsed)})
        return
    screen = stdout()
    screen.facts([*identity(parsed.unverified), *progress.facts])
    show_content(screen, parsed, options.world(lab_clock).now(), lang)


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
    show_changes(stdout(), changes)


@app.command("key", epilog=_DONE)
def public_key(
    *,
    keys: KeysOption = None,
    key: KeyOption = None,
    config: ConfigOption = None,
    passphrase_file: PassphraseOption = None,
    kid: Annotated[
        list[str] | None, typer.Option(metavar="KID", help="Only this one of several keys; repeatable.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where to write the public keys, as a JWK Set.")],
    as_json: options.JsonOption = False,
) -> None:
    """Write the public half of this anchor's keys, for mrg charter create --add-anchor-key.

    Read the thumbprints to whoever drafts the charter: the file alone proves nothing.
    """
    with anchor_signers(keys, key, config, passphrase_file) as signers:
        public = {name: signer.public for name, signer in signers.items() if kid is None or name in kid}
    for name in set(kid or ()) - public.keys():
        raise Failure(f"--kid {name}: the anchor has no such key", fix=f"give one of {' '.join(sorted(signers))}")
    files.write_text(
        out, write_json({"keys": [dict(each.jwk) for each in public.values()]}).decode("utf-8"), mode=files.PUBLIC
    )
    if as_json:
        write_document({"file": str(out), "kids": list(public)})
        return
    stdout().facts([("File", str(out)), *(("Thumbprint", groups(name)) for name in public)])


app.command(
    "export", epilog=_DONE, short_help="Write the charter that this province holds to a file, to draft the next from."
)(installing.export)
app.command("install", epilog=installing.EXIT_CODES, short_help="Take a signed charter into this province's gateway.")(
    installing.install
)


# -- before signing ---------------------------------------------------------------------------------------------------


def _before(previous: Path | None) -> Charter | None:
    return None if previous is None else read_charter(previous).unverified


def _held_before(charter: Charter, config: Path) -> Charter | None:
    """Give the charter that the configured gateway holds, unless it is the very one: that may be signed late."""
    held = installing.held(options.configuration(config))
    return None if held.sha256 == charter.sha256 else held


def _check_follows(charter: Charter, old: Charter | None, file: Path, previous: Path | None) -> None:
    if old is None or (charter.version, charter.prev_sha256) == (old.version + 1, old.sha256):
        return
    name = previous or f"version {old.version}, which this province holds"
    raise Failure(
        f"{file}: does not follow {name}",
        fix="draft it with mrg charter create --previous, from the charter that is in force",
    )


def _ask(parsed: UnverifiedCharter, old: Charter | None, file: Path, *, as_json: bool) -> None:
    if as_json or not at_terminal():
        raise Failure(
            "--yes is missing, and there is nobody to ask",
            fix=f"read what you are about to sign with mrg charter show {file}, then sign it with --yes",
        )
    show_before_signing(parsed, old, options.world(None).now())
    if parsed.unverified.version > 1 and old is None:
        stderr().line("What it changes is not shown: give the charter now in force with --previous.")
    if not confirm("Sign it for your province?"):
        raise Failure(
            "not signed; nothing was changed", fix="sign it once your province agrees to it", code=ExitCode.NO
        )


# -- judging ----------------------------------------------------------------------------------------------------------


def _progress(parsed: UnverifiedCharter, old: Charter | None) -> Progress:
    return Progress(
        new=count_signatures(parsed, parsed.unverified), old=None if old is None else count_signatures(parsed, old)
    )


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
