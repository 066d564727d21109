"""Certificates: a province's own little CA, and whom a caller's certificate names.

TLS decides whether a certificate is good for a handshake. Three questions are left, and answered here:

* Who is it? The one URI in the subject alternative name; the common name says nothing.
* May this CA say so? A listener accepts several CAs, and TLS does not care which of them signed. Each is accepted for
  the identities of its own province: a CA of Jiangsu that names a service of Anhui is a forger. A prefix ends where an
  origin or a path segment ends, so that https://gateway.ah.example does not cover https://gateway.ah.example.evil.
* Is it still valid? TLS looked when the connection was made; connections outlive certificates, and so they do the CAs
  of a listener, which may be replaced while it runs.

The CA made here serves deployments that have none: P-256, certificates for hosts and one identity, no intermediate CAs,
no revocation lists. A certificate is revoked by letting it run out, or by removing its service from the configuration.

The only module outside the core that touches ``cryptography``: no decision about a credential looks at a certificate.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.core.encoding import sha256_b64url
from gateway.core.identifiers import check_entity_id
from gateway.core.reasons import NotPermitted

CA_LIFETIME: Final = timedelta(days=3650)
BACKDATED: Final = timedelta(minutes=5)
"""Certificates begin a little earlier, for hosts whose clock is behind."""
MAX_CERTIFICATE_BYTES: Final = 16_384
MAX_CACHED_CALLERS: Final = 1_024
_MAX_COMMON_NAME: Final = 64  # X.520
_CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")
_MIN_RSA_BITS: Final = 2_048
_UNREADABLE: Final = (ValueError, x509.DuplicateExtension, x509.InvalidVersion, x509.UnsupportedGeneralNameType)


# -- issuing ----------------------------------------------------------------------------------------------------------


def create_ca(common_name: str, now: datetime, lifetime: timedelta = CA_LIFETIME) -> tuple[bytes, bytes]:
    """Make a certification authority that signs end certificates only.

    Returns:
        Its certificate and its private key (PKCS#8, not encrypted), both PEM.

    Raises:
        ValueError: the name is empty or too long.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    certificate = (
        _builder(name, name, key.public_key(), now - BACKDATED, now + lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pem(certificate, key)


def issue_certificate(
    ca_cert_pem: bytes,
    ca_key_pem: bytes,
    *,
    identity_uri: str,
    dns_names: Sequence[str],
    ip_addresses: Sequence[str],
    server: bool,
    client: bool,
    now: datetime,
    lifetime: timedelta,
) -> tuple[bytes, bytes]:
    """Make a key and a certificate for one identity. It never outlives the CA.

    Args:
        ca_cert_pem: the CA's certificate.
        ca_key_pem: its private key.
        identity_uri: an entity identifier or a path under one; the only URI in the certificate.
        dns_names: hosts it serves under; may be empty for a client.
        ip_addresses: likewise.
        server: whether it may serve TLS.
        client: whether it may call.
        now: begins a little before.
        lifetime: ends that much later.

    Returns:
        The certificate and its private key (PKCS#8, not encrypted), both PEM.

    Raises:
        ValueError: the identity is malformed, no use is given, the key is not the CA's, or the CA has expired.
    """
    check_entity_id(identity_uri)
    uses = [
        *([ExtendedKeyUsageOID.SERVER_AUTH] if server else []),
        *([ExtendedKeyUsageOID.CLIENT_AUTH] if client else []),
    ]
    if not uses:
        raise ValueError("a certificate is for a server, a client or both")
    ca = x509.load_pem_x509_certificate(ca_cert_pem)
    try:
        ca_key = serialization.load_pem_private_key(ca_key_pem, None)
    except TypeError as error:
        raise ValueError("the CA's private key is encrypted; decrypt it first") from error
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey) or ca_key.public_key() != ca.public_key():
        raise ValueError("the private key is not this CA's")
    if now >= ca.not_valid_after_utc:
        raise ValueError("the CA has expired; create a new one")
    key = ec.generate_private_key(ec.SECP256R1())
    names = [
        x509.UniformResourceIdentifier(identity_uri),
        *map(x509.DNSName, dns_names),
        *(x509.IPAddress(ipaddress.ip_address(address)) for address in ip_addresses),
    ]
    # For people who look at it. Who it is stands in the alternative name, and nowhere else.
    host = identity_uri.removeprefix("https://").partition("/")[0]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:_MAX_COMMON_NAME])])
    ends = min(now + lifetime, ca.not_valid_after_utc)
    certificate = (
        _builder(subject, ca.subject, key.public_key(), max(now - BACKDATED, ca.not_valid_before_utc), ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return _pem(certificate, key)


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, begins: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> tuple[bytes, bytes]:
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


# -- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is at the other end of a connection."""

    identity: str
    certificate_sha256: str
    """Of its DER, base64url: the ``x5t#S256`` of RFC 8705."""


Authorities = Mapping[bytes, Sequence[str]]
"""PEM of CA certificates, and the prefixes of the identities these may name."""


@dataclass(frozen=True, slots=True)
class Certified:
    """A caller whose certificate was examined."""

    caller: Caller
    domain: str
    """Whose CA vouches for it: what to count by where strangers call, because a CA can make any number of
    certificates."""
    begins: datetime
    ends: datetime


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    prefixes: tuple[str, ...]

    def may_name(self, identity: str) -> bool:
        return any(identity == prefix or identity.startswith(f"{prefix}/") for prefix in self.prefixes)


class CallerReader:
    """Reads callers' certificates on one listener. Thread-safe."""

    def __init__(self, authorities: Authorities | Callable[[], Authorities]) -> None:
        """Prepare a reader.

        Args:
            authorities: PEM of one or more CA certificates (two while a CA is being replaced), and the prefixes of the
                identities these may name: entity identifiers or origins. Or what gives them, where the CAs can change:
                it is asked at every look at a caller, so that one whose CA is gone is refused on an old connection too.

        Raises:
            ValueError: not PEM certificates of CAs, or a prefix is no entity identifier.
        """
        self._source = authorities if callable(authorities) else lambda: authorities
        self._trusted = _Trusted(self._source())

    def read(self, certificate_pem: bytes, now: datetime) -> Caller:
        """Say who is calling.

        Args:
            certificate_pem: the leaf as TLS gives it.
            now: the certificate must be valid now.

        Raises:
            NotPermitted: it names nobody, several, or somebody its issuer may not name; or it is not valid now.
        """
        return self.certified(certificate_pem, now).caller

    def domain(self, certificate_pem: bytes, now: datetime) -> str:
        """Say whose CA vouches for the caller.

        Raises:
            NotPermitted: see ``read``.
        """
        return self.certified(certificate_pem, now).domain

    def certified(self, certificate_pem: bytes, now: datetime) -> Certified:
        """Say both.

        Raises:
            NotPermitted: see ``read``.
        """
        authorities = self._source()
        trusted = self._trusted
        if authorities != trusted.authorities:
            # Two threads may get here at a time. Each judges by what it was given, and the next call puts right which
            # of the two stays.
            trusted = self._trusted = _Trusted(authorities)
        certified = trusted.examined(certificate_pem)
        if not certified.begins <= now <= certified.ends:
            raise NotPermitted("the client certificate is not valid now")
        return certified


class _Trusted:
    """One set of CAs, and the callers that were examined under it."""

    def __init__(self, authorities: Authorities) -> None:
        self.authorities = authorities
        self._each = tuple(
            _Authority(certificate, _checked_prefixes(prefixes))
            for pem, prefixes in authorities.items()
            for certificate in _load_authorities(pem)
        )
        # Connections are few and long, calls many. What is remembered holds without regard to time.
        self.examined = lru_cache(maxsize=MAX_CACHED_CALLERS)(self._examine)

    def _examine(self, certificate_pem: bytes) -> Certified:
        try:
            if len(certificate_pem) > MAX_CERTIFICATE_BYTES:
                raise NotPermitted("the client certificate is too large")
            certificate = x509.load_pem_x509_certificate(certificate_pem)
            identity = _identity(certificate)
        except _UNREADABLE as error:
            raise NotPermitted("the client certificate cannot be read") from error
        issuers = [each for each in self._each if _issued_by(certificate, each.certificate)]
        if not issuers:
            raise NotPermitted("the client certificate is not from a CA of this listener")
        # Only those that really signed count: two CAs may bear the same name.
        permitting = [each for each in issuers if each.may_name(identity)]
        if not permitting:
            raise NotPermitted("the client certificate names an identity its CA may not name")
        return Certified(
            caller=Caller(
                identity=identity,
                certificate_sha256=sha256_b64url(certificate.public_bytes(serialization.Encoding.DER)),
            ),
            domain=permitting[0].prefixes[0],
            begins=certificate.not_valid_before_utc,
            ends=min(certificate.not_valid_after_utc, max(each.certificate.not_valid_after_utc for each in permitting)),
        )


class NotOfThisKeyError(ValueError):
    """A certificate and a private key do not belong together. One of the two may be on its way."""


def check_private_key(key_pem: bytes) -> None:
    """Check that TLS takes a private key. Left to gRPC, a wrong one is only a port that cannot be opened.

    Raises:
        ValueError: it does not.
    """
    _private_key(key_pem)


def check_own_certificate(certificate_pem: bytes, key_pem: bytes, identity: str, now: datetime) -> None:
    """Check that a certificate and a key belong together, name us, and are valid now.

    Args:
        certificate_pem: ours, and after it those of intermediate CAs, if any. TLS refuses all when one is unreadable.
        key_pem: its private key.
        identity: whom it must name.
        now: when it must be valid.

    Raises:
        NotOfThisKeyError: each is good, but they are no pair.
        ValueError: they do not; the message says what is wrong.
    """
    try:
        certificate = _load_certificates(certificate_pem)[0]
    except ValueError as error:
        raise ValueError("is not a PEM certificate") from error
    key = _private_key(key_pem)
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise NotOfThisKeyError("does not belong to the private key")
    try:
        named = _identity(certificate)
    except (NotPermitted, *_UNREADABLE) as error:
        raise ValueError("does not name exactly one URI") from error
    if named != identity:
        raise ValueError("names another identity than entities.gateway")
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise ValueError("is not valid now")


def check_cas(pem: bytes) -> None:
    """Check that a file holds certificates of CAs.

    Raises:
        ValueError: it does not.
    """
    try:
        _load_authorities(pem)
    except _UNREADABLE as error:
        raise ValueError("does not hold certificates of CAs in PEM form") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFacts:
    """What people and calendars need to know of a certificate."""

    subject: str
    """The identity it names; of a CA, its name."""
    not_before: datetime
    not_after: datetime
    sha256: str
    """Of its DER, base64url."""


def certificate_facts(pem: bytes) -> Sequence[CertificateFacts]:
    """Say whose the certificates of a file are and when they end.

    Raises:
        ValueError: it holds no certificates.
    """
    return [
        CertificateFacts(
            subject=_subject(certificate),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            sha256=sha256_b64url(certificate.public_bytes(serialization.Encoding.DER)),
        )
        for certificate in _load_certificates(pem)
    ]


def _subject(certificate: x509.Certificate) -> str:
    try:
        return _identity(certificate)
    except (NotPermitted, *_UNREADABLE):
        return certificate.subject.rfc4514_string()


def _private_key(pem: bytes) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("is not an unencrypted PEM key") from error
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return key
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _MIN_RSA_BITS:
        return key
    raise ValueError("is a private key of a kind that TLS does not take; use P-256")


def _checked_prefixes(prefixes: Sequence[str]) -> tuple[str, ...]:
    for prefix in prefixes:
        check_entity_id(prefix)
        if prefix.endswith("/"):
            raise ValueError("a prefix must not end with a slash")
    return tuple(prefixes)


def _load_certificates(pem: bytes) -> list[x509.Certificate]:
    certificates = x509.load_pem_x509_certificates(pem)
    # One that is cut off is passed over here, and refused with all the others by TLS.
    if len(certificates) < pem.count(b"-----BEGIN CERTIFICATE-----"):
        raise ValueError("a certificate is cut off")
    return certificates


def _load_authorities(pem: bytes) -> list[x509.Certificate]:
    certificates = _load_certificates(pem)
    for certificate in certificates:
        try:
            is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except x509.ExtensionNotFound:
            is_ca = False
        if not is_ca:
            raise ValueError("not the certificate of a CA")
    return certificates


def _issued_by(certificate: x509.Certificate, ca: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        # Another name, another kind of key, or not its signature.
        return False
    return True


def _identity(certificate: x509.Certificate) -> str:
    """The one URI of a certificate, in the form identities are compared in."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise NotPermitted("the client certificate names no URI") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise NotPermitted("the client certificate does not name exactly one URI")
    check_entity_id(uris[0])
    return uris[0]
