"""``mrg present``: the holder's side, offline. Choose what to show, to whom, in answer to which challenge.

The holder is told what each choice means: what is disclosed, what is withheld, and what stands in clear in the
credential whatever is chosen. Nothing is disclosed unless it was named, or ``--all`` was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.cli import files, options
from gateway.cli.console import (
    ExitCode,
    Failure,
    Screen,
    ask,
    at_terminal,
    exit_codes,
    printable,
    stderr,
    stdout,
    write_document,
    write_line,
)
from gateway.cli.issuance import load_holder_key
from gateway.core import sd_jwt
from gateway.core.encoding import parse_json_object
from gateway.core.jose import SoftwareKey, parse_compact
from gateway.core.key_binding import holder_key as confirmed_key
from gateway.core.reasons import Rejected

EXIT_CODES: Final = exit_codes({ExitCode.OK: "presented"})
_ATTRIBUTES: Final = ("verified_claims", "claims")
_ACTOR_ATTRIBUTES: Final = ("act", "claims")
_ACTOR: Final = "actor"
_HIDDEN: Final = frozenset({"_sd", "_sd_alg"})
_MAX_CHALLENGE_BYTES: Final = 16_384
_NO_TEXTS: Final[list[str]] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """For whom a presentation is, and which question it answers."""

    audience: str
    nonce: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What is in a credential, as its holder sees it. The issuer's signature is the verifier's business."""

    text: str
    disclosable: Mapping[str, Sequence[sd_jwt.Path]]
    """What can be chosen, by the name to choose it by; a name of several is ambiguous and chooses none of them."""
    in_clear: tuple[str, ...]
    """What every verifier sees."""
    claims: Mapping[str, Any]


def present(
    credential: Annotated[Path, typer.Argument(metavar="CREDENTIAL", help="File with the credential; - for stdin.")],
    *,
    holder_key: Annotated[Path, typer.Option(help="The holder's private key (PKCS#8 PEM).")],
    disclose: Annotated[
        list[str],
        typer.Option(metavar="NAME", help="Attribute to disclose; actor.NAME: of whoever acts; repeatable."),
    ] = _NO_TEXTS,
    everything: Annotated[bool, typer.Option("--all", help="Disclose every attribute.")] = False,
    nothing: Annotated[
        bool, typer.Option("--none", help="Disclose no attribute: the credential's validity alone.")
    ] = False,
    audience: Annotated[str | None, typer.Option(help="Whom it is for: the audience of the challenge.")] = None,
    nonce: Annotated[str | None, typer.Option(help="The nonce of the challenge.")] = None,
    challenge: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What mrg challenge --json wrote, instead of the two; - for stdin."),
    ] = None,
    out: options.OutOption = None,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Present a credential: choose what to disclose, and prove possession of the holder's key.

    Offline: nothing is asked of anybody. On a terminal, what to disclose is asked when no option says it. Without
    --out, the presentation alone goes to standard output; it is good once, for minutes, for this audience.
    """
    transaction = _challenge(audience, nonce, challenge)
    contents = read_contents(files.read_text(credential, "credential", limit=sd_jwt.MAX_PRESENTATION_CHARS))
    key = load_holder_key(holder_key)
    _check_key(contents, key, holder_key)
    chosen = _choose(contents, disclose, everything=everything, nothing=nothing)
    presentation = sd_jwt.present(
        contents.text,
        lambda path: path in chosen,
        signer=key,
        audience=transaction.audience,
        nonce=transaction.nonce,
        issued_at=options.world(lab_clock).now(),
    )
    if out is not None:
        files.write_text(out, presentation, mode=files.PRIVATE)
    _hand_over(contents, presentation, transaction, out, as_json=as_json)


def _hand_over(
    contents: Contents, presentation: str, transaction: Challenge, out: Path | None, *, as_json: bool
) -> None:
    # Read back from what will be sent: a claim comes with those that it stands inside.
    shown = frozenset(_disclosable(sd_jwt.split(presentation).sd_jwt))
    disclosed = [name for name, paths in contents.disclosable.items() if not shown.isdisjoint(paths)]
    withheld = [name for name in contents.disclosable if name not in disclosed]
    if as_json:
        write_document(
            {
                "presentation": presentation,
                "audience": transaction.audience,
                "nonce": transaction.nonce,
                "disclosed": disclosed,
                "withheld": withheld,
                "in_clear": list(contents.in_clear),
                "file": None if out is None else str(out),
            }
        )
        return
    if out is None:
        write_line(presentation)
    screen = stdout() if out is not None else stderr()
    screen.facts(
        [
            *([("File", str(out))] if out is not None else []),
            ("For", transaction.audience),
            ("Disclosed", " ".join(disclosed) or "nothing"),
            ("Withheld", " ".join(withheld) or "nothing"),
            ("Always in clear", " ".join(contents.in_clear)),
        ]
    )


# -- reading ----------------------------------------------------------------------------------------------------------


def read_contents(credential: str) -> Contents:
    """Look into a credential.

    Raises:
        Failure: it is no SD-JWT, or a presentation already.
    """
    try:
        parts = sd_jwt.split(credential)
        paths = _disclosable(credential)
        payload = parse_compact(parts.issuer_jwt, max_chars=sd_jwt.MAX_ISSUER_JWT_CHARS).unverified_claims()
        claims = sd_jwt.process(payload, parts.disclosures, sd_jwt.hash_algorithm(payload))
    except Rejected as error:
        raise Failure(
            f"the credential cannot be read: {error.detail}",
            fix="name the file that mrg issue credential --out wrote; an assertion is sent to mrg verify as it is",
        ) from error
    return Contents(
        text=credential,
        disclosable=_names(paths),
        in_clear=tuple(printable(name) for name in payload if name not in _HIDDEN),
        claims=claims,
    )


def _disclosable(credential: str) -> Sequence[sd_jwt.Path]:
    paths: list[sd_jwt.Path] = []

    def keep_none(path: sd_jwt.Path) -> bool:
        paths.append(path)  # asked about every Disclosure
        return False

    sd_jwt.select_disclosures(credential, keep_none)
    return paths


def _names(paths: Sequence[sd_jwt.Path]) -> dict[str, list[sd_jwt.Path]]:
    """Name each path: the subject's attributes and the actor's from there on, whatever else from the root."""
    names: dict[str, list[sd_jwt.Path]] = {}
    others: list[sd_jwt.Path] = []
    for path in paths:
        if path[: len(_ATTRIBUTES)] == _ATTRIBUTES:
            names.setdefault(_dotted(path[len(_ATTRIBUTES) :]), []).append(path)
        elif path[: len(_ACTOR_ATTRIBUTES)] == _ACTOR_ATTRIBUTES:
            names.setdefault(_dotted((_ACTOR, *path[len(_ACTOR_ATTRIBUTES) :])), []).append(path)
        else:
            others.append(path)
    attributes = frozenset(names)
    for path in others:
        name = _dotted(path)
        names.setdefault(f".{name}" if name in attributes else name, []).append(path)
    return names


def _dotted(path: sd_jwt.Path) -> str:
    return ".".join(map(str, path))


def _challenge(audience: str | None, nonce: str | None, file: Path | None) -> Challenge:
    if file is not None:
        if audience is not None or nonce is not None:
            raise Failure("--challenge says audience and nonce already", fix="leave --audience and --nonce out")
        audience, nonce = read_challenge(file)
    for name, value in (("--audience", audience), ("--nonce", nonce)):
        if not value:
            raise Failure(f"{name} is missing", fix=f"give --challenge with what mrg challenge --json wrote, or {name}")
    return Challenge(audience=audience or "", nonce=nonce or "")


def read_challenge(file: Path) -> tuple[str, str]:
    """Read (audience, nonce) from what ``mrg challenge --json`` wrote.

    Raises:
        Failure: it is not that.
    """
    try:
        found = parse_json_object(files.read_text(file, "challenge", limit=_MAX_CHALLENGE_BYTES).encode("utf-8"))
    except Rejected:
        found = {}
    audience, nonce = found.get("audience"), found.get("nonce")
    if not isinstance(audience, str) or not isinstance(nonce, str):
        raise Failure(f"{file}: is not a challenge", fix="name what mrg challenge --json wrote")
    return audience, nonce


def _check_key(contents: Contents, key: SoftwareKey, file: Path) -> None:
    try:
        bound = confirmed_key(contents.claims.get("cnf"))
    except Rejected as error:
        raise Failure(
            "the credential is bound to no holder key, so it cannot be presented", fix="have it issued anew"
        ) from error
    if bound.thumbprint != key.public.thumbprint:
        raise Failure(
            f"{file}: is not the key that the credential is bound to",
            fix="name the key that was given to mrg issue credential --holder-key",
        )


# -- choosing ---------------------------------------------------------------------------------------------------------


def _choose(contents: Contents, names: Sequence[str], *, everything: bool, nothing: bool) -> frozenset[sd_jwt.Path]:
    if sum((bool(names), everything, nothing)) > 1:
        raise Failure("--disclose, --all and --none exclude each other", fix="give one of them")
    if not names and not everything and not nothing:
        if not at_terminal():
            raise Failure("--disclose is missing", fix=f"give {_offer(contents)}, --all or --none")
        names, everything = _ask(contents, stderr())
    if everything:
        return frozenset(path for paths in contents.disclosable.values() for path in paths)
    return frozenset(_meant(contents, name) for name in names)


def _meant(contents: Contents, name: str) -> sd_jwt.Path:
    paths = contents.disclosable.get(name, ())
    if not paths:
        raise Failure("--disclose names an attribute that is not in the credential", fix=f"choose {_offer(contents)}")
    if len(paths) > 1:
        raise Failure(
            f"--disclose {name} is ambiguous: the credential has {len(paths)} attributes of that name",
            fix=f"choose {_offer(contents)}, or all of them with --all",
        )
    return paths[0]


def _offer(contents: Contents) -> str:
    clear = [name for name, paths in contents.disclosable.items() if len(paths) == 1]
    return " or ".join(f"--disclose {name}" for name in clear) or "--none"


def _ask(contents: Contents, screen: Screen) -> tuple[Sequence[str], bool]:
    """Ask the holder. On their own terminal, and there alone, they see the values."""
    names = list(contents.disclosable)
    rows = [
        (str(i), name, " / ".join(_value(contents.claims, path) for path in contents.disclosable[name]))
        for i, name in enumerate(names, 1)
    ]
    screen.table("What this credential can disclose", ("", "Attribute", "Value"), rows)
    answer = ask("Disclose which? Numbers or names, all, or none", default="none")
    if answer in {"all", "none"}:
        return (), answer == "all"
    numbers = {str(i): name for i, name in enumerate(names, 1)}
    return [numbers.get(word, word) for word in answer.replace(",", " ").split()], False


def _value(claims: Any, path: sd_jwt.Path) -> str:
    for step in path:
        try:
            claims = claims[step]
        except (KeyError, IndexError, TypeError):  # an element whose neighbours were withheld before
            return ""
    return claims if isinstance(claims, str) else json.dumps(claims, ensure_ascii=False)
