"""A key is compromised: how long until nobody accepts what it signed.

At each gateway somebody shows a credential signed by the key over and over, many times a second, from before the
command until the gateway refuses it. The clock is the machine's, and runs from the administrator's command.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import grpc
from recognition.v1 import keys_pb2

from gateway.core.identifiers import Province
from tests.e2e.lab import RealFederation, header_of
from tests.e2e.links import wait_for
from tests.e2e.load import Authority, Visitor, verdict_of
from tests.e2e.rotation import CREDENTIAL, Administrator

KEY_REVOKED: Final = "KEY_REVOKED"
GIVE_UP_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 0.02
"""Between two answers of one gateway: fine enough to measure by, and no load that what is measured has to fight."""
AFTERWARDS: Final = 5
"""How often each gateway is asked again once it refused: it must not change its mind."""


@dataclass(slots=True)
class _Watch:
    """One gateway, asked over and over."""

    refused_at: float | None = None
    others: list[str] = field(default_factory=list)
    """Answers that were neither accepted nor refused for this reason."""
    relapses: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Compromise:
    """What came of one."""

    kid: str
    promoted: str
    seconds: Mapping[Province, float]
    """From the command until each gateway refused."""
    strange: Mapping[Province, list[str]]

    @property
    def last(self) -> float:
        return max(self.seconds.values())


class Compromiser:
    """Compromises the active credential key of a province, again and again: the stand-by key takes over each time."""

    def __init__(self, federation: RealFederation, province: Province, gateways: Iterable[Province] = Province) -> None:
        self._admin = Administrator(federation, province)
        self._authority = Authority(federation, province)
        self._visitors = {gateway: Visitor(federation, gateway) for gateway in gateways}
        self._province = province
        self._federation = federation

    def standby(self) -> str:
        """The published key that would take over; empty while there is none."""
        keys = self._admin.list(CREDENTIAL, past=False)
        return next((kid for kid, key in keys.items() if key.state == keys_pb2.KEY_STATE_PUBLISHED), "")

    def prepare(self) -> str:
        """Wait until a stand-by key is there and everybody holds it; give it."""
        wait_for(lambda: (kid := self.standby()) and self._admin.all_hold(kid), what="a stand-by key held by all")
        wait_for(self._federation.agree, what="everybody holding the same documents")
        return self.standby()

    def run(self, within: float = GIVE_UP_SECONDS) -> Compromise:
        """Do it once, and measure."""
        credential = self._authority.credential().credential
        kid = header_of(credential.partition("~")[0])["kid"]
        stop, seen = threading.Event(), {gateway: _Watch() for gateway in self._visitors}
        threads = [
            threading.Thread(target=_ask, args=(visitor, credential, seen[gateway], stop), daemon=True)
            for gateway, visitor in self._visitors.items()
        ]
        for thread in threads:
            thread.start()
        try:
            began = time.monotonic()
            answer = self._admin.revoke(kid, f"compromise-{kid}", since=self._federation.now)
            wait_for(
                lambda: all(watch.refused_at is not None for watch in seen.values()),
                within=within,
                every=0.005,
                what=f"everybody refusing {kid[:6]}",
            )
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        return Compromise(
            kid=kid,
            promoted=answer.promoted_kid,
            seconds={gateway: (watch.refused_at or began) - began for gateway, watch in seen.items()},
            strange={
                gateway: [*watch.others, *["accepted again"] * watch.relapses]
                for gateway, watch in seen.items()
                if watch.others or watch.relapses
            },
        )


def _ask(visitor: Visitor, credential: str, watch: _Watch, stop: threading.Event) -> None:
    left, pause = AFTERWARDS, threading.Event()
    while left and not (stop.is_set() and watch.refused_at is None):
        try:
            verdict, reason, _ = verdict_of(visitor.show_licence(credential))
        except grpc.RpcError as error:
            verdict, reason = "error", str(error)[:120]
        if (verdict, reason) == ("rejected", KEY_REVOKED):
            watch.refused_at = watch.refused_at or time.monotonic()
            left -= 1
        elif verdict == "accepted":
            watch.relapses += watch.refused_at is not None
        else:
            watch.others.append(f"{verdict} {reason}")
        pause.wait(PAUSE_SECONDS)
