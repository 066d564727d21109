"""What the services for administrators share: who may call them, lists in pages, and stores that fail.

An administrator is who their certificate says they are, and may do what the configuration of this gateway says. Nothing
in a message names one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar

import grpc

from gateway.clock import World
from gateway.config import Administrator, Role
from gateway.core.encoding import b64url_decode, b64url_encode
from gateway.core.reasons import InvalidRequest, NotPermitted, Rejected, Unavailable
from gateway.guard import caller_of
from gateway.keystore import KeyStoreError
from gateway.leading import ALONE, Leading
from gateway.storage import StorageError
from gateway.tls import CallerReader

PAGE: Final = 100
MAX_PAGE: Final = 1_000
_MAX_TOKEN_CHARS: Final = 1_024

Item = TypeVar("Item")


class Administration:
    """Tells administrators from other callers."""

    def __init__(
        self,
        administrators: Sequence[Administrator],
        callers: CallerReader,
        world: World,
        *,
        leading: Leading = ALONE,
    ) -> None:
        self._roles = {each.identity: each.roles for each in administrators}
        self._callers = callers
        self._world = world
        self._leading = leading

    def administrator(self, context: grpc.ServicerContext, role: Role) -> str:
        """Say which administrator calls.

        Raises:
            NotPermitted: the caller is none, or has another role.
            Unavailable: another process leads, which knows how things stand.
        """
        identity = caller_of(context, self._callers, self._world).identity
        if role not in self._roles.get(identity, ()):
            raise NotPermitted(f"caller is not a registered administrator of the role {role}")
        self._leading.require()
        return identity


@contextmanager
def stores_available() -> Iterator[None]:
    """Turn what a store could not do into an answer: nothing was done, and asking again is safe."""
    try:
        yield
    except StorageError as error:
        raise Unavailable("the change cannot be written down; nothing was done") from error
    except KeyStoreError as error:
        raise Unavailable(f"the key store cannot do it: {error.problem}; {error.fix}") from error


def page(items: Sequence[Item], size: int, token: str, name: Callable[[Item], str]) -> tuple[Sequence[Item], str]:
    """Cut a page out of a list: those after the one that the token names, and the token to go on with.

    Raises:
        InvalidRequest: no such page.
    """
    if size < 0:
        raise InvalidRequest("page_size", "must not be negative")
    begin = 0
    if token:
        last = _read_token(token)
        places = [number for number, item in enumerate(items) if name(item) == last]
        if not places:
            raise InvalidRequest("page_token", "is of a list that has changed; start again")
        begin = places[0] + 1
    end = begin + min(size or PAGE, MAX_PAGE)
    further = b64url_encode(name(items[end - 1]).encode("utf-8")) if end < len(items) else ""
    return items[begin:end], further


def _read_token(token: str) -> str:
    if len(token) > _MAX_TOKEN_CHARS:
        raise InvalidRequest("page_token", "is not one from an answer")
    try:
        return b64url_decode(token).decode("utf-8")
    except (Rejected, UnicodeDecodeError) as error:
        raise InvalidRequest("page_token", "is not one from an answer") from error
