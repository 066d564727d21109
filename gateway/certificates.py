"""The certificates of a running process: read anew when an administrator replaces them, one consistent set at a time.

Rules that live here:

* What is in force is one value, and listeners, readers of callers and channels all take from it. A caller that TLS let
  in under a CA is judged by that set or a later one, never by an earlier one; a CA that was taken out of its file lets
  nobody pass any more, on old connections either.
* Only good content comes into force: the same checks as at the start. What fails them changes nothing, the last good
  content goes on, and one warning names the file and the problem, once for each content. It is looked at again and
  again, because a certificate that is not valid yet will be.
* Certificate and key are replaced one after the other, whoever does it. A pair that does not match is not wrong but on
  its way; only when it stays like that for ``HALF_REPLACED_SECONDS`` is it a warning. Likewise a file is not read
  while it is being written: it must have stood still for ``SETTLED_SECONDS``.
* No certificate in the files of two provinces, as the configuration demands at the start: such a CA could name the
  services of both.

Files are told apart by what ``stat`` says, because that is cheap enough for every call; links are followed. Whoever
uses a set brings it up to date, at most every ``CHECK_SECONDS``, and the process does so in the background too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

from gateway.config import Config
from gateway.core.encoding import sha256_b64url
from gateway.logs import get_logger
from gateway.tls import (
    Authorities,
    NotOfThisKeyError,
    certificate_facts,
    check_cas,
    check_own_certificate,
    check_private_key,
)

CHECK_SECONDS: Final = 1.0
SETTLED_SECONDS: Final = 0.2
"""Longer than a file's times are coarse: whatever is written after a file was read shows in its times."""
HALF_REPLACED_SECONDS: Final = 60.0
MAX_FILE_BYTES: Final = 262_144

_log = get_logger("certificates")


class UnfitFileError(ValueError):
    """A file does not hold what it should."""

    def __init__(self, file: Path, problem: str) -> None:
        super().__init__(problem)
        self.file = file


class _HalfReplacedError(UnfitFileError):
    """Certificate and key are both good and do not match."""


class _BeingReplacedError(UnfitFileError):
    """Somebody writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelMaterial:
    """What one end of a channel needs: whom it says to be, and whose certificates it accepts from the other end."""

    certificate: bytes
    private_key: bytes = field(repr=False)
    cas: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _InForce:
    """One set, never changed: a new one takes its place."""

    certificate: bytes
    private_key: bytes = field(repr=False)
    cas: Mapping[Path, bytes]


class CertificateFiles:
    """Gives what is in force, and follows the files. Thread-safe."""

    def __init__(
        self, config: Config, now: Callable[[], datetime], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Read all files.

        Args:
            config: names the files, and who we are.
            now: certificates must be valid now.
            monotonic: measures how long files stand still.

        Raises:
            UnfitFileError: a file does not hold what it should.
            OSError: a file cannot be read.
        """
        self._now = now
        self._monotonic = monotonic
        self._identity = config.entities.gateway
        self._own = _Watched((config.tls.certificate, config.tls.private_key), self._check_own)
        listeners = config.listeners
        ours = {listeners.verification.client_ca, listeners.admin.client_ca}
        self._provinces: dict[Path, str] = {
            **dict.fromkeys(ours, config.province.code),
            **{peer.ca: peer.province.code for peer in config.peers},
        }
        self._cas: dict[Path, _Watched] = {}
        for file in self._provinces:
            self._cas[file] = _Watched((file,), partial(self._check_ca, file))
        self._looking = threading.Lock()
        self._next_look = monotonic() + CHECK_SECONDS
        self._in_force = self._collect()

    def material(self, cas: Sequence[Path]) -> ChannelMaterial:
        """Give what one end of a channel needs.

        Args:
            cas: which files' CAs the other end's certificate may come from.
        """
        in_force = self._current()
        return ChannelMaterial(
            certificate=in_force.certificate,
            private_key=in_force.private_key,
            cas=b"\n".join(in_force.cas[file] for file in cas),
        )

    def authorities(self, prefixes: Mapping[Path, Sequence[str]]) -> Authorities:
        """Give the CAs of some files, each with whom it may name.

        Args:
            prefixes: by file.
        """
        cas = self._current().cas
        return {cas[file]: names for file, names in prefixes.items()}

    def refresh(self) -> None:
        """Look whether anything changed, if it is time to."""
        self._current()

    def _current(self) -> _InForce:
        # Whoever comes while another looks goes on with what is in force.
        if self._monotonic() >= self._next_look and self._looking.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._looking.release()
        return self._in_force

    def _look(self) -> None:
        at = self._monotonic()
        watched = (self._own, *self._cas.values())
        adopted = [each for each in watched if each.look(at)]
        if adopted:
            self._in_force = self._collect()
        unsettled = any(each.is_unsettled for each in watched)
        self._next_look = at + (SETTLED_SECONDS if unsettled else CHECK_SECONDS)

    def _collect(self) -> _InForce:
        certificate, private_key = self._own.contents
        cas = {file: watched.contents[0] for file, watched in self._cas.items()}
        return _InForce(certificate=certificate, private_key=private_key, cas=cas)

    def _check_own(self, found: Sequence[_Found]) -> None:
        certificate, key = found
        _check_own(certificate, key, self._identity, self._now())

    def _check_ca(self, file: Path, found: Sequence[_Found]) -> None:
        (ca,) = found
        _check_ca(ca)
        # Not at the start: one peer that let its CA run out must not keep us from serving the others.
        if file in self._cas and not _any_valid(ca, self._now()):
            raise UnfitFileError(file, "holds no certificate that is valid now")
        held = {each.sha256 for each in certificate_facts(ca.content)}
        for other, watched in self._cas.items():
            if self._provinces[other] == self._provinces[file]:
                continue
            if not held.isdisjoint(each.sha256 for each in certificate_facts(watched.contents[0])):
                raise UnfitFileError(file, f"holds a certificate that {other} holds too")


# -- one file, or a pair ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What tells one state of a file from another without reading it."""

    device: int
    inode: int
    size: int
    mode: int
    modified: int
    changed: int


@dataclass(frozen=True, slots=True)
class _Found:
    file: Path
    stamp: _Stamp
    content: bytes


class _Watched:
    """Files that are good or bad together, and their last good contents."""

    def __init__(self, files: tuple[Path, ...], check: Callable[[Sequence[_Found]], None]) -> None:
        self._files = files
        self._check = check
        found = [_read(file) for file in files]
        check(found)
        self.contents = tuple(each.content for each in found)
        self._stamps: tuple[_Stamp | None, ...] = tuple(each.stamp for each in found)
        """Of the contents; what differs from it is new."""
        self._seen = self._stamps
        self._since = 0.0
        self._told: tuple[str, str] | None = None
        self.is_unsettled = False

    def look(self, at: float) -> bool:
        """Take over what is new and good. Says whether the contents are others than before."""
        stamps = tuple(_stamp(file) for file in self._files)
        self.is_unsettled = False
        if stamps == self._stamps:
            self._seen = stamps
            return False
        if stamps != self._seen:
            self._seen, self._since = stamps, at
        if at - self._since < SETTLED_SECONDS:
            self.is_unsettled = True
            return False
        return self._take_over(at)

    def _take_over(self, at: float) -> bool:
        found: list[_Found] = []
        try:
            found.extend(map(_read, self._files))
            self._check(found)
        except UnfitFileError as error:
            on_its_way = isinstance(error, _HalfReplacedError) and at - self._since < HALF_REPLACED_SECONDS
            if not on_its_way and not isinstance(error, _BeingReplacedError):
                self._tell(found, error.file, str(error))
            return False
        except Exception as error:  # noqa: BLE001 - whatever is in a file, no call may fail of it
            file = self._files[min(len(found), len(self._files) - 1)]
            self._tell(found, file, f"cannot be read ({type(error).__name__})")
            return False
        before = self.contents
        self.contents = tuple(each.content for each in found)
        self._stamps = tuple(each.stamp for each in found)
        self._told = None
        if self.contents == before:
            return False
        for each in certificate_facts(self.contents[0]):
            _log.info(
                "certificate_adopted",
                file=self._files[0],
                certificate_sha256=each.sha256,
                expires_at=each.not_after,
            )
        return True

    def _tell(self, found: Sequence[_Found], file: Path, problem: str) -> None:
        told = (sha256_b64url(b"".join(sha256_b64url(each.content).encode() for each in found)), problem)
        if told != self._told:
            self._told = told
            _log.warning("certificate_refused", file=file, detail=f"{problem}; what was in force stays")


def _stamp(file: Path) -> _Stamp | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return _Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mode, status.st_mtime_ns, status.st_ctime_ns)


def _read(file: Path) -> _Found:
    """Read a file, with the stamp it had before: whoever writes meanwhile gives it another."""
    stamp = _stamp(file)
    with file.open("rb") as opened:
        content = opened.read(MAX_FILE_BYTES + 1)
    if stamp is None or stamp != _stamp(file):
        raise _BeingReplacedError(file, "is being replaced")
    if len(content) > MAX_FILE_BYTES:
        raise UnfitFileError(file, "is too large")
    return _Found(file, stamp, content)


# -- what must hold ---------------------------------------------------------------------------------------------------


def _check_own(certificate: _Found, key: _Found, identity: str, now: datetime) -> None:
    if key.stamp.mode & 0o077:
        raise UnfitFileError(key.file, f"can be read by others than its owner: chmod 600 {key.file}")
    try:
        check_private_key(key.content)
    except ValueError as error:
        raise UnfitFileError(key.file, str(error)) from error
    try:
        check_own_certificate(certificate.content, key.content, identity, now)
    except NotOfThisKeyError as error:
        raise _HalfReplacedError(certificate.file, str(error)) from error
    except ValueError as error:
        raise UnfitFileError(certificate.file, str(error)) from error


def _check_ca(ca: _Found) -> None:
    try:
        check_cas(ca.content)
    except ValueError as error:
        raise UnfitFileError(ca.file, str(error)) from error


def _any_valid(ca: _Found, now: datetime) -> bool:
    return any(each.not_before <= now <= each.not_after for each in certificate_facts(ca.content))


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong with a file, and which key of the configuration names it."""

    key: str
    file: Path
    detail: str


def problems(config: Config, now: datetime) -> Iterator[Problem]:
    """Find what is wrong with the files as they are now. gRPC would only say that a port could not be opened."""
    tls = config.tls
    found: dict[Path, _Found] = {}
    for file, key in {tls.certificate: "tls.certificate", tls.private_key: "tls.private_key", **_cas(config)}.items():
        try:
            found[file] = _read(file)
            if key.endswith("ca"):
                _check_ca(found[file])
        except (UnfitFileError, OSError) as error:
            yield Problem(key=key, file=file, detail=str(error))
    certificate, private_key = found.get(tls.certificate), found.get(tls.private_key)
    if certificate is None or private_key is None:
        return
    try:
        _check_own(certificate, private_key, config.entities.gateway, now)
    except UnfitFileError as error:
        key = "tls.certificate" if error.file == tls.certificate else "tls.private_key"
        yield Problem(key=key, file=error.file, detail=str(error))


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """When a certificate ends."""

    key: str
    """Which key of the configuration names the file; the first, where several do."""
    file: Path
    subject: str
    """The identity it names; of a CA, its name."""
    not_after: datetime


def expiries(config: Config) -> Sequence[Expiry]:
    """Say when each certificate ends that a file of the configuration holds now, the first to end first.

    A file that cannot be read has none; ``problems`` tells of it.
    """
    found: list[Expiry] = []
    for file, key in {config.tls.certificate: "tls.certificate", **_cas(config)}.items():
        try:
            facts = certificate_facts(_read(file).content)
        except (ValueError, OSError):
            continue
        found += [Expiry(key=key, file=file, subject=each.subject, not_after=each.not_after) for each in facts]
    return sorted(found, key=lambda each: each.not_after)


def _cas(config: Config) -> dict[Path, str]:
    """The files of CAs, each with the first key that names it."""
    named = [
        ("listeners.verification.client_ca", config.listeners.verification.client_ca),
        ("listeners.admin.client_ca", config.listeners.admin.client_ca),
        *((f"peers[{number}].ca", peer.ca) for number, peer in enumerate(config.peers)),
    ]
    return {file: key for key, file in reversed(named)}
