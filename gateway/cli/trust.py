"""``mrg trust show``: who is recognised by which anchors, from this province's own store.

It asks nobody and changes nothing, so it works while the gateway is down, and tells why. What it shows is the view that
the gateway would build now from what it holds: the same code, the same documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import typer
from rich.text import Text

from gateway.cli import options
from gateway.cli.console import (
    Cell,
    ExitCode,
    Failure,
    Lang,
    Screen,
    away,
    exit_codes,
    instant,
    stdout,
    until,
    write_document,
)
from gateway.config import Config
from gateway.core.charter import Charter
from gateway.core.identifiers import Province
from gateway.core.reasons import Rejected
from gateway.core.texts import text
from gateway.core.trust import AnchorState, Problem, RecognisedIssuer, TrustedKey, TrustView, build_view
from gateway.resolver import load_charter
from gateway.storage import StorageError
from gateway.storage.sqlite import SqliteStore

app = typer.Typer(no_args_is_help=True, help="Look at the trust data that this province holds.")

EXIT_CODES: Final = exit_codes(
    {
        ExitCode.OK: "every issuer is recognised by fresh trust data",
        ExitCode.CANNOT_TELL: "some issuer cannot be recognised now, or only by trust data that is stale",
    }
)


class Freshness(StrEnum):
    """How good a piece of trust data is now."""

    FRESH = "fresh"
    STALE = "stale"
    """Past its freshness; still served within the grace that the charter allows, and marked."""
    EXPIRED = "expired"
    MISSING = "missing"


_STYLES: Final[Mapping[Freshness, str]] = {
    Freshness.FRESH: "green",
    Freshness.STALE: "yellow",
    Freshness.EXPIRED: "bold red",
    Freshness.MISSING: "bold red",
}


@app.command("show", epilog=EXIT_CODES)
def show(
    *,
    config: options.ConfigOption,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Show who is recognised, by which anchors, with which keys, and for how long. Offline.

    Reads the province's own database; the gateway may be running, stopped or broken.
    """
    now = options.world(lab_clock).now()
    view = load_view(options.configuration(config), now)
    fresh = now < view.charter.expires_at and all(
        _issuer_freshness(issuer, now) is Freshness.FRESH for issuer in view.issuers.values()
    )
    if as_json:
        write_document({"fresh": fresh, **_document(view, now)})
    else:
        _show(stdout(), view, now, lang)
    raise typer.Exit(ExitCode.OK if fresh else ExitCode.CANNOT_TELL)


def load_view(config: Config, now: datetime) -> TrustView:
    """Build the view from what the province's store holds.

    Raises:
        Failure: the store or the charter cannot be read.
    """
    if not config.database.is_file():
        raise Failure(f"{config.database}: there is no database yet", fix="start the gateway once: mrg serve --config")
    try:
        store = SqliteStore(config.database)
    except StorageError as error:
        raise Failure(f"{config.database}: {error}", fix="check the file and its permissions") from error
    try:
        charter = load_charter(_ReadOnly(store), config.charter.file.read_text("utf-8"), config.charter.sha256)
        return build_view(charter, store.load_documents(), now)
    except Rejected as error:
        raise Failure(
            f"{config.charter.file}: {error.detail}",
            fix="compare the file and the digest in the configuration with the other provinces: mrg charter verify",
        ) from error
    except (OSError, ValueError) as error:
        raise Failure(f"{config.charter.file}: cannot be read", fix="put the charter's file back") from error
    except StorageError as error:
        raise Failure(f"{config.database}: {error}", fix="check the file and its permissions") from error
    finally:
        store.close()


class _ReadOnly:
    """The store without its writing half: looking must work on a full disk, and must not change what is looked at."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def load_documents(self) -> Mapping[tuple[str, str], str]:
        return self._store.load_documents()

    def save_documents(self, documents: Mapping[tuple[str, str], str]) -> None:
        pass

    def load_charters(self) -> Mapping[int, str]:
        return self._store.load_charters()

    def save_charter(self, version: int, document: str) -> None:
        pass


# -- how fresh --------------------------------------------------------------------------------------------------------


def _key_freshness(key: TrustedKey, now: datetime) -> Freshness:
    if now < key.fresh_until:
        return Freshness.FRESH
    return Freshness.STALE if now < key.stale_until else Freshness.EXPIRED


def _issuer_freshness(issuer: RecognisedIssuer, now: datetime) -> Freshness:
    """The best of its keys: one good key is enough to recognise what was signed with it."""
    states = {_key_freshness(key, now) for key in issuer.keys.values()}
    return next((state for state in Freshness if state in states), Freshness.MISSING)


def _anchor_freshness(anchor: AnchorState, charter: Charter, now: datetime) -> Freshness:
    if anchor.expires_at is None:
        return Freshness.MISSING
    if now < anchor.expires_at:
        return Freshness.FRESH
    return Freshness.STALE if now < anchor.expires_at + charter.agreement.stale_grace else Freshness.EXPIRED


# -- the document -----------------------------------------------------------------------------------------------------


def _document(view: TrustView, now: datetime) -> dict[str, Any]:
    charter, confirmed_at = view.charter, view.confirmed_at()
    return {
        "now": instant(now),
        "view_id": view.view_id,
        "confirmed_at": instant(confirmed_at),
        "age_seconds": None if confirmed_at is None else int((now - confirmed_at).total_seconds()),
        "charter": {
            "version": charter.version,
            "sha256": charter.sha256,
            "quorum": charter.quorum,
            "anchors": len(charter.anchors),
            "expires_at": instant(charter.expires_at),
            "expired": now >= charter.expires_at,
        },
        "anchors": [
            {
                "entity_id": anchor.entity_id,
                "province": anchor.province,
                "state": _anchor_freshness(anchor, charter, now).value,
                "issued_at": instant(anchor.issued_at),
                "expires_at": instant(anchor.expires_at),
            }
            for anchor in view.anchors
        ],
        "issuers": [_issuer_document(issuer, now) for issuer in view.issuers.values()],
        "problems": [
            {"issuer": each.issuer, "subject": each.subject, "reason": each.reason.value, "detail": each.detail}
            for each in view.problems
        ],
    }


def _issuer_document(issuer: RecognisedIssuer, now: datetime) -> dict[str, Any]:
    return {
        "entity_id": issuer.entity_id,
        "province": issuer.province,
        "name_zh": issuer.name_zh,
        "name_en": issuer.name_en,
        "state": _issuer_freshness(issuer, now).value,
        "credential_types": sorted(issuer.credential_types),
        "vouched_for_by": sorted(vote.anchor for vote in issuer.votes),
        "keys": [
            {
                "kid": kid,
                "algorithm": key.key.algorithm.value,
                "anchors": list(key.anchors),
                "state": _key_freshness(key, now).value,
                "fresh_until": instant(key.fresh_until),
                "stale_until": instant(key.stale_until),
            }
            for kid, key in sorted(issuer.keys.items())
        ],
    }


# -- for people -------------------------------------------------------------------------------------------------------


def _show(screen: Screen, view: TrustView, now: datetime, lang: Lang) -> None:
    charter, confirmed_at = view.charter, view.confirmed_at()
    screen.facts(
        [
            ("Charter", f"version {charter.version}, expires {until(charter.expires_at, now)}"),
            ("Quorum", f"{charter.quorum} of {len(charter.anchors)} anchors"),
            ("View", view.view_id),
            ("Confirmed", "never by a quorum" if confirmed_at is None else away(confirmed_at, now)),
        ]
    )
    screen.table(
        "Anchors",
        ("Province", "Anchor", "State", "Until"),
        [
            (
                anchor.province,
                anchor.entity_id,
                _styled(_anchor_freshness(anchor, charter, now)),
                "-" if anchor.expires_at is None else until(anchor.expires_at, now),
            )
            for anchor in view.anchors
        ],
    )
    screen.table(
        "Issuers",
        ("Province", "Issuer", "State", "Anchors", "Key", "Algorithm", "Fresh", "Usable"),
        [row for issuer in view.issuers.values() for row in _rows(issuer, charter, now, lang)],
    )
    _show_problems(screen, view.problems, lang)


def _rows(issuer: RecognisedIssuer, charter: Charter, now: datetime, lang: Lang) -> Iterator[tuple[Cell, ...]]:
    province = Province(issuer.province)
    name = f"{province.code} {lang.pick(province.name_zh, province.name_en)}"
    total = len(charter.anchors)
    if not issuer.keys:
        vouching = f"{len(issuer.votes)} of {total}"
        yield name, issuer.entity_id, _styled(Freshness.MISSING), vouching, "-", "-", "-", "-"
    for kid, key in sorted(issuer.keys.items()):
        yield (
            name,
            issuer.entity_id,
            _styled(_key_freshness(key, now)),
            f"{len(key.anchors)} of {total}",
            kid,
            key.key.algorithm.value,
            away(key.fresh_until, now),
            away(key.stale_until, now),
        )


def _show_problems(screen: Screen, problems: tuple[Problem, ...], lang: Lang) -> None:
    screen.table(
        "Problems: chains and documents that do not count",
        ("Said by", "About", "Reason", "Detail", "Meaning"),
        [
            (
                each.issuer,
                each.subject,
                Text(each.reason.value, "yellow"),
                each.detail,
                " ".join(text(each.reason, language).what for language in lang.languages),
            )
            for each in problems
        ],
        whole={"Reason"},
    )


def _styled(state: Freshness) -> Text:
    return Text(state.value, _STYLES[state])
