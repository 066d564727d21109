"""``mrg trust``: who is recognised by which anchors, now and in the past, from this province's own store.

It asks nobody, so it works while the gateway is down, and tells why. What ``show`` shows is the view that the gateway
would build now from what it holds: the same code, the same documents. Looking changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from gateway.cli import lookback, options, trust_log
from gateway.cli.console import (
    Cell,
    ExitCode,
    Lang,
    Screen,
    away,
    exit_codes,
    instant,
    stdout,
    until,
    write_document,
)
from gateway.cli.lookback import look_back
from gateway.cli.store import charter_in_force, open_store
from gateway.config import Config
from gateway.core.charter import Charter
from gateway.core.identifiers import Province
from gateway.core.memory import TrustMemory
from gateway.core.texts import text
from gateway.core.trust import (
    Alarm,
    AnchorState,
    Problem,
    RecognisedGateway,
    RecognisedIssuer,
    TrustedKey,
    TrustView,
    build_view,
    is_regressed,
)

app = typer.Typer(no_args_is_help=True, help="Look at the trust data that this province holds.")

EXIT_CODES: Final = exit_codes(
    {
        ExitCode.OK: "every issuer is recognised by fresh trust data",
        ExitCode.CANNOT_TELL: (
            "some issuer cannot be recognised now, or only by stale trust data; with --as-of: nothing is known of that"
            " time"
        ),
    }
)
app.command("diff", epilog=lookback.DIFF_EXIT_CODES)(lookback.diff)
app.command("log", epilog=trust_log.EXIT_CODES)(trust_log.log)
app.command("reset-clock", epilog=lookback.RESET_EXIT_CODES)(lookback.reset_clock)


class Freshness(StrEnum):
    """How good a piece of trust data is now."""

    FRESH = "fresh"
    STALE = "stale"
    """Past its freshness; still served within the grace that the charter allows, and marked."""
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    """So many anchors took their word back, for a while or for good, that no quorum is left."""
    MISSING = "missing"


_STYLES: Final[Mapping[Freshness, str]] = {
    Freshness.FRESH: "green",
    Freshness.STALE: "yellow",
    Freshness.EXPIRED: "bold red",
    Freshness.WITHDRAWN: "bold red",
    Freshness.MISSING: "bold red",
}


@app.command("show", epilog=EXIT_CODES)
def show(
    *,
    config: options.ConfigOption,
    as_of: Annotated[
        str | None, typer.Option("--as-of", metavar="TIME", help="What the gateway trusted then (RFC 3339, or -5m).")
    ] = None,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Show who is recognised, by which anchors, with which keys, and for how long. Offline.

    Reads the province's own database; the gateway may be running, stopped or broken.
    """
    now = options.world(lab_clock).now()
    loaded = options.configuration(config)
    if as_of is not None:
        look_back(loaded, options.past_moment(as_of, "--as-of", now), now, lang, as_json=as_json)
        return
    view, memory = load_view(loaded, now)
    fresh = (
        now < view.charter.expires_at
        and not is_regressed(view.clock_floor, now)
        and all(issuer_freshness(view, issuer, now) is Freshness.FRESH for issuer in view.issuers.values())
    )
    if as_json:
        write_document({"fresh": fresh, **_document(view, memory, now)})
    else:
        _show(stdout(), view, memory, now, lang)
    raise typer.Exit(ExitCode.OK if fresh else ExitCode.CANNOT_TELL)


def load_view(config: Config, now: datetime) -> tuple[TrustView, TrustMemory]:
    """Build the view from what the province's store holds, and give that too.

    Raises:
        Failure: the store or the charter cannot be read.
    """
    with open_store(config) as stores:
        store = stores.trust
        charter = charter_in_force(config, store, now)
        memory = store.load_memory()
    return build_view(charter, memory, now), memory


# -- how fresh --------------------------------------------------------------------------------------------------------


def _key_freshness(key: TrustedKey, now: datetime) -> Freshness:
    if now < key.fresh_until:
        return Freshness.FRESH
    return Freshness.STALE if now < key.stale_until else Freshness.EXPIRED


def withdrawn_by(member: RecognisedIssuer | RecognisedGateway, now: datetime) -> list[str]:
    """Give the anchors that say, by word that is still fresh, that they vouch for a member no more."""
    return sorted(vote.anchor for vote in member.votes if vote.withdrawn and vote.expires_at > now)


def issuer_freshness(view: TrustView, issuer: RecognisedIssuer, now: datetime) -> Freshness:
    """Give the best of its keys: one good key is enough to recognise what was signed with it."""
    return _member_freshness(view, issuer, issuer.keys.values(), now)


def _gateway_freshness(view: TrustView, gateway: RecognisedGateway, now: datetime) -> Freshness:
    return _member_freshness(view, gateway, (*gateway.receipt_keys.values(), *gateway.audit_keys.values()), now)


def _member_freshness(
    view: TrustView, member: RecognisedIssuer | RecognisedGateway, keys: Iterable[TrustedKey], now: datetime
) -> Freshness:
    charter, states = view.charter, {_key_freshness(key, now) for key in keys}
    if not states and len(charter.anchors) - len(withdrawn_by(member, now)) < charter.quorum:
        return Freshness.WITHDRAWN
    return next((state for state in Freshness if state in states), Freshness.MISSING)


def _anchor_freshness(anchor: AnchorState, charter: Charter, now: datetime) -> Freshness:
    if anchor.expires_at is None:
        return Freshness.MISSING
    if now < anchor.expires_at:
        return Freshness.FRESH
    return Freshness.STALE if now < anchor.expires_at + charter.agreement.stale_grace else Freshness.EXPIRED


# -- the document -----------------------------------------------------------------------------------------------------


def _document(view: TrustView, memory: TrustMemory, now: datetime) -> dict[str, Any]:
    charter, confirmed_at = view.charter, view.confirmed_at
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
        "issuers": [_issuer_document(view, issuer, now) for issuer in view.issuers.values()],
        "gateways": [_gateway_document(view, gateway, now) for gateway in view.gateways.values()],
        "revoked_keys": [
            {
                "entity_id": member,
                "kid": kid,
                "reason": each.reason.value,
                "revoked_at": instant(each.revoked_at),
                "compromised_since": instant(each.compromised_since),
            }
            for (member, kid), each in sorted(memory.revocations.items())
        ],
        "withdrawals": [
            {
                "anchor": anchor,
                "signer": signer,
                "entity_id": member,
                "revoked_at": instant(each.revoked_at),
                "reason": each.reason,
                "counts": _counts(view, anchor, signer),
            }
            for (anchor, signer, member), each in sorted(memory.withdrawals.items())
        ],
        "alarms": _problem_documents(view.alarms),
        "problems": _problem_documents(view.problems),
        "clock": {
            "floor": instant(view.clock_floor),
            "regressed": is_regressed(view.clock_floor, now),
        },
    }


def _counts(view: TrustView, anchor: str, signer: str) -> bool:
    """Whether the charter still lists the key that signed an anchor's withdrawal."""
    listed = view.charter.anchor(anchor)
    return listed is not None and any(key.thumbprint == signer for key in listed.keys.values())


def _problem_documents(problems: Sequence[Problem | Alarm]) -> list[dict[str, str]]:
    return [
        {"issuer": each.issuer, "subject": each.subject, "reason": each.reason.value, "detail": each.detail}
        for each in problems
    ]


def _issuer_document(view: TrustView, issuer: RecognisedIssuer, now: datetime) -> dict[str, Any]:
    return {
        "entity_id": issuer.entity_id,
        "province": issuer.province,
        "name_zh": issuer.name_zh,
        "name_en": issuer.name_en,
        "state": issuer_freshness(view, issuer, now).value,
        "credential_types": sorted(issuer.credential_types),
        **_vouching(issuer),
        "keys": _key_documents(issuer.keys, now),
        "status_keys": _key_documents(issuer.status_keys, now),
    }


def _gateway_document(view: TrustView, gateway: RecognisedGateway, now: datetime) -> dict[str, Any]:
    return {
        "entity_id": gateway.entity_id,
        "province": gateway.province,
        "state": _gateway_freshness(view, gateway, now).value,
        **_vouching(gateway),
        "receipt_keys": _key_documents(gateway.receipt_keys, now),
        "audit_keys": _key_documents(gateway.audit_keys, now),
    }


def _vouching(member: RecognisedIssuer | RecognisedGateway) -> dict[str, list[str]]:
    return {
        "vouched_for_by": sorted(vote.anchor for vote in member.votes if not vote.withdrawn),
        "withdrawn_by": sorted(vote.anchor for vote in member.votes if vote.withdrawn),
    }


def _key_documents(keys: Mapping[str, TrustedKey], now: datetime) -> list[dict[str, Any]]:
    return [_key_document(kid, key, now) for kid, key in sorted(keys.items())]


def _key_document(kid: str, key: TrustedKey, now: datetime) -> dict[str, Any]:
    return {
        "kid": kid,
        "algorithm": key.key.algorithm.value,
        "anchors": list(key.anchors),
        "state": _key_freshness(key, now).value,
        "fresh_until": instant(key.fresh_until),
        "stale_until": instant(key.stale_until),
        "signed_before": instant(key.signed_before),
    }


# -- for people -------------------------------------------------------------------------------------------------------


def _show(screen: Screen, view: TrustView, memory: TrustMemory, now: datetime, lang: Lang) -> None:
    charter, confirmed_at = view.charter, view.confirmed_at
    screen.facts(
        [
            ("Charter", f"version {charter.version}, expires {until(charter.expires_at, now)}"),
            ("Quorum", f"{charter.quorum} of {len(charter.anchors)} anchors"),
            ("View", view.view_id),
            ("Confirmed", "never by a quorum" if confirmed_at is None else away(confirmed_at, now)),
            ("Clock floor", _clock(view, now)),
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
        ("Province", "Issuer", "State", "Anchors", "Signs", "Key", "Algorithm", "Fresh", "Usable"),
        [row for issuer in view.issuers.values() for row in _issuer_rows(view, issuer, now, lang)],
    )
    screen.table(
        "Gateways",
        ("Province", "Gateway", "State", "Anchors", "Signs", "Key", "Algorithm", "Fresh", "Usable"),
        [row for gateway in view.gateways.values() for row in _gateway_rows(view, gateway, now, lang)],
    )
    screen.table(
        "Issuers that an anchor withdrew or suspended",
        ("Issuer", "By", "Effect"),
        [
            (
                issuer.entity_id,
                " ".join(withdrawn_by(issuer, now)),
                Text("withdrawn: everything of it is rejected", "bold red")
                if issuer_freshness(view, issuer, now) is Freshness.WITHDRAWN
                else "none while a quorum of the others vouches for it",
            )
            for issuer in view.issuers.values()
            if withdrawn_by(issuer, now)
        ],
    )
    screen.table(
        "Revoked keys: refused for good",
        ("Member", "Key", "Reason", "Revoked", "Possibly known to others since"),
        [
            (
                member,
                kid,
                Text(each.reason.value, "bold red"),
                away(each.revoked_at, now),
                instant(each.compromised_since) or "-",
            )
            for (member, kid), each in sorted(memory.revocations.items())
        ],
    )
    screen.table(
        "Withdrawn: an anchor vouches for a member no more",
        ("Anchor", "Member", "Since", "Reason", "Counts"),
        [
            (
                anchor,
                member,
                away(each.revoked_at, now),
                each.reason,
                "yes" if _counts(view, anchor, signer) else "no: its key was replaced",
            )
            for (anchor, signer, member), each in sorted(memory.withdrawals.items())
        ],
    )
    _show_problems(screen, "Alarms: somebody has to look at these", view.alarms, lang)
    _show_problems(screen, "Problems: chains and documents that do not count", view.problems, lang)


def _clock(view: TrustView, now: datetime) -> Cell:
    if view.clock_floor is None:
        return "-"
    if is_regressed(view.clock_floor, now):
        return Text(
            f"{until(view.clock_floor, now)}: our clock is behind it; mrg trust reset-clock says more", "bold red"
        )
    return until(view.clock_floor, now)


def _issuer_rows(view: TrustView, issuer: RecognisedIssuer, now: datetime, lang: Lang) -> Iterator[tuple[Cell, ...]]:
    if not issuer.keys:
        yield _keyless_row(view, issuer, issuer_freshness(view, issuer, now), lang)
    yield from _key_rows(view, issuer, "credentials", issuer.keys, now, lang)
    yield from _key_rows(view, issuer, "status lists", issuer.status_keys, now, lang)


def _gateway_rows(view: TrustView, gateway: RecognisedGateway, now: datetime, lang: Lang) -> Iterator[tuple[Cell, ...]]:
    if not gateway.receipt_keys and not gateway.audit_keys:
        yield _keyless_row(view, gateway, _gateway_freshness(view, gateway, now), lang)
    yield from _key_rows(view, gateway, "receipts", gateway.receipt_keys, now, lang)
    yield from _key_rows(view, gateway, "checkpoints", gateway.audit_keys, now, lang)


def _keyless_row(
    view: TrustView, member: RecognisedIssuer | RecognisedGateway, state: Freshness, lang: Lang
) -> tuple[Cell, ...]:
    vouching = f"{sum(not vote.withdrawn for vote in member.votes)} of {len(view.charter.anchors)}"
    return _province(member, lang), member.entity_id, _styled(state), vouching, "-", "-", "-", "-", "-"


def _key_rows(
    view: TrustView,
    member: RecognisedIssuer | RecognisedGateway,
    signs: str,
    keys: Mapping[str, TrustedKey],
    now: datetime,
    lang: Lang,
) -> Iterator[tuple[Cell, ...]]:
    for kid, key in sorted(keys.items()):
        yield (
            _province(member, lang),
            member.entity_id,
            _styled(_key_freshness(key, now)),
            f"{len(key.anchors)} of {len(view.charter.anchors)}",
            signs,
            kid,
            key.key.algorithm.value,
            away(key.fresh_until, now),
            away(key.stale_until, now),
        )


def _province(member: RecognisedIssuer | RecognisedGateway, lang: Lang) -> str:
    province = Province(member.province)
    return f"{province.code} {lang.pick(province.name_zh, province.name_en)}"


def _show_problems(screen: Screen, title: str, problems: Sequence[Problem | Alarm], lang: Lang) -> None:
    screen.table(
        title,
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
