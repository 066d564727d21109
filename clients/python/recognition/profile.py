"""How a service reaches its gateway: an address, and files with certificates, which may be replaced at any time."""

from __future__ import annotations

import ssl
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

LOOK_SECONDS: Final = 1.0
"""The files are looked at when a call begins, and no more often than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Where the gateway is, whom to believe that it is it, and who we are. Certificates and key are PEM files."""

    address: str
    """host:port; the name must be in the gateway's certificate."""
    ca: Path
    """The certificates of the CA that the gateway's certificate is from."""
    certificate: Path
    """This service's certificate, which names it to the gateway; with intermediate ones, if there are any."""
    private_key: Path
    """The certificate's key, not encrypted."""

    @classmethod
    def read(cls, file: Path | str) -> Self:
        """Read a profile that provisioning wrote: TOML, with paths relative to it.

        Raises:
            OSError: it cannot be read.
            ValueError: it is no such file.
        """
        file = Path(file)
        try:
            content = tomllib.loads(file.read_text("utf-8"))
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
        values = {name: content.get(name) for name in ("address", "ca", "certificate", "private_key")}
        for name, value in values.items():
            if not isinstance(value, str) or not value:
                raise ValueError(f"{file}: {name} is missing, empty, or not a string")
        return cls(
            address=str(values["address"]),
            ca=file.parent / str(values["ca"]),
            certificate=file.parent / str(values["certificate"]),
            private_key=file.parent / str(values["private_key"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What the files hold."""

    ca: bytes
    certificate: bytes
    private_key: bytes = field(repr=False)


class Files:
    """The files of a profile, as they are now. Not thread-safe."""

    def __init__(self, profile: Profile) -> None:
        """Read them.

        Raises:
            OSError: one cannot be read.
            ValueError: they do not fit together.
        """
        self._profile = profile
        self._stamp, self.material = self._read()
        self.look_at = 0.0
        """When they are to be looked at next, by the clock of ``have_changed``."""

    def have_changed(self, now: float) -> bool:
        """Look whether there are others by now, which are ``material`` then.

        Files that do not fit together, as while they are being replaced one by one, are left alone until they do.

        Args:
            now: seconds of a clock that only goes forward.
        """
        if now < self.look_at:
            return False
        self.look_at = now + LOOK_SECONDS
        try:
            if self._stamps() == self._stamp:
                return False
            stamp, material = self._read()
        except (OSError, ValueError):
            return False
        changed = material != self.material
        self._stamp, self.material = stamp, material
        return changed

    def _read(self) -> tuple[object, Material]:
        profile, stamp = self._profile, self._stamps()
        material = Material(
            ca=profile.ca.read_bytes(),
            certificate=profile.certificate.read_bytes(),
            private_key=profile.private_key.read_bytes(),
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            # Nothing is done with the context. It knows whether the key is the certificate's, without more software;
            # an encrypted key would have it ask a terminal for the password.
            context.load_cert_chain(profile.certificate, profile.private_key, password="")
        except ssl.SSLError as error:
            raise ValueError(f"{profile.certificate} and {profile.private_key} do not fit together") from error
        try:
            context.load_verify_locations(profile.ca)
        except ssl.SSLError as error:
            raise ValueError(f"{profile.ca} holds no certificates") from error
        if self._stamps() != stamp:
            raise ValueError("the files were replaced while they were read")
        return stamp, material

    def _stamps(self) -> object:
        profile = self._profile
        found = [file.stat() for file in (profile.ca, profile.certificate, profile.private_key)]
        return [(each.st_mtime_ns, each.st_size, each.st_ino) for each in found]
