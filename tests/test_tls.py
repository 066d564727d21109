"""Who a certificate names, and whether its CA may say so. With real certificates, and one real handshake."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.clock import system_world
from gateway.core.encoding import sha256_b64url
from gateway.core.reasons import NotPermitted
from gateway.tls import CA_LIFETIME, MAX_CERTIFICATE_BYTES, CallerReader, create_ca, issue_certificate

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
DAY = timedelta(days=1)
ANHUI = "https://gateway.ah.example"
JIANGSU = "https://gateway.js.example"
SERVICE = f"{ANHUI}/services/shushan-household"


@dataclass(frozen=True, slots=True)
class Ca:
    certificate: bytes
    key: bytes

    def issue(self, identity: str = SERVICE, **changes: Any) -> bytes:
        arguments: dict[str, Any] = {
            "dns_names": [],
            "ip_addresses": [],
            "server": False,
            "client": True,
            "now": NOW,
            "lifetime": DAY,
        }
        return issue_certificate(self.certificate, self.key, identity_uri=identity, **(arguments | changes))[0]

    def sign(self, *extensions: x509.ExtensionType, subject: str = "anybody") -> bytes:
        """Sign what the product itself would never issue."""
        own = x509.load_pem_x509_certificate(self.certificate)
        key = serialization.load_pem_private_key(self.key, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(own.subject)
            .public_key(ec.generate_private_key(ec.SECP256R1()).public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW)
            .not_valid_after(NOW + DAY)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def make_ca(name: str) -> Ca:
    return Ca(*create_ca(name, NOW))


def uris(*names: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name) for name in names])


ANHUI_CA = make_ca("Anhui services")
JIANGSU_CA = make_ca("Jiangsu services")
STRANGER_CA = make_ca("Anhui services")  # the name is anybody's to choose


@pytest.fixture
def reader() -> CallerReader:
    return CallerReader({ANHUI_CA.certificate: (ANHUI,), JIANGSU_CA.certificate: (JIANGSU,)})


# -- issuing ----------------------------------------------------------------------------------------------------------


def test_ca_may_sign_end_certificates_only() -> None:
    certificate = x509.load_pem_x509_certificate(ANHUI_CA.certificate)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)

    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert not usage.value.digital_signature
    assert certificate.not_valid_after_utc == NOW + CA_LIFETIME
    certificate.verify_directly_issued_by(certificate)


def test_certificate_says_what_it_is_for() -> None:
    certificate = x509.load_pem_x509_certificate(
        ANHUI_CA.issue(dns_names=["localhost"], ip_addresses=["127.0.0.1", "::1"], server=True)
    )
    extensions = certificate.extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [SERVICE]
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    assert not extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    authority = x509.load_pem_x509_certificate(ANHUI_CA.certificate).extensions
    assert (
        extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        == authority.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    )
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)


@pytest.mark.parametrize(
    ("server", "client", "uses"),
    [
        (True, False, [ExtendedKeyUsageOID.SERVER_AUTH]),
        (False, True, [ExtendedKeyUsageOID.CLIENT_AUTH]),
        (True, True, [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
    ],
)
def test_certificate_is_for_the_uses_asked_for(server: bool, client: bool, uses: Sequence[object]) -> None:
    certificate = x509.load_pem_x509_certificate(ANHUI_CA.issue(server=server, client=client))

    assert list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == uses


def test_two_certificates_have_different_keys_and_serial_numbers() -> None:
    first, second = (x509.load_pem_x509_certificate(ANHUI_CA.issue()) for _ in range(2))

    assert first.serial_number != second.serial_number
    assert first.public_key() != second.public_key()


def test_certificate_never_outlives_its_ca() -> None:
    certificate = x509.load_pem_x509_certificate(ANHUI_CA.issue(now=NOW + CA_LIFETIME - DAY, lifetime=2 * DAY))

    assert certificate.not_valid_after_utc == NOW + CA_LIFETIME


def test_certificate_is_valid_for_the_lifetime_asked_for() -> None:
    certificate = x509.load_pem_x509_certificate(ANHUI_CA.issue(lifetime=DAY))

    assert certificate.not_valid_before_utc <= NOW
    assert certificate.not_valid_after_utc == NOW + DAY


def test_long_identity_is_issued_and_read(reader: CallerReader) -> None:
    identity = f"https://{'.'.join(['gateway-of-the-province'] * 4)}.example/services/x"
    wide = CallerReader({ANHUI_CA.certificate: (identity,)})

    assert wide.read(ANHUI_CA.issue(identity), NOW).identity == identity


@pytest.mark.parametrize(
    "changes",
    [
        {"identity": "http://gateway.ah.example"},
        {"identity": "https://GATEWAY.ah.example"},
        {"client": False},
        {"now": NOW + CA_LIFETIME},
        {"ip_addresses": ["localhost"]},
    ],
)
def test_certificate_nobody_could_use_is_not_issued(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - what matters is that none is issued
        ANHUI_CA.issue(**changes)


def test_key_of_another_ca_is_refused() -> None:
    with pytest.raises(ValueError, match="not this CA"):
        Ca(ANHUI_CA.certificate, JIANGSU_CA.key).issue()


def test_encrypted_key_is_refused() -> None:
    key = serialization.load_pem_private_key(ANHUI_CA.key, None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"correct horse"),
    )

    with pytest.raises(ValueError, match="encrypted"):
        Ca(ANHUI_CA.certificate, encrypted).issue()


# -- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ca", "identity"), [(ANHUI_CA, ANHUI), (ANHUI_CA, SERVICE), (JIANGSU_CA, f"{JIANGSU}/services/x")]
)
def test_caller_is_whom_its_certificate_names(reader: CallerReader, ca: Ca, identity: str) -> None:
    certificate = ca.issue(identity)
    der = x509.load_pem_x509_certificate(certificate).public_bytes(serialization.Encoding.DER)

    caller = reader.read(certificate, NOW)

    assert caller.identity == identity
    assert caller.certificate_sha256 == sha256_b64url(der)


FORGERIES = {
    "a service of another province": (JIANGSU_CA, SERVICE),
    "another province's gateway": (JIANGSU_CA, ANHUI),
    "a host that only begins alike": (ANHUI_CA, "https://gateway.ah.example.evil.example/services/x"),
    "a host that only ends alike": (ANHUI_CA, "https://evil.gateway.ah.example/services/x"),
    "another port of the host": (ANHUI_CA, "https://gateway.ah.example:8443/services/x"),
    "nobody known, by a CA nobody knows": (STRANGER_CA, SERVICE),
}


@pytest.mark.parametrize(("ca", "identity"), FORGERIES.values(), ids=FORGERIES.keys())
def test_ca_cannot_name_anybody_outside_its_namespace(reader: CallerReader, ca: Ca, identity: str) -> None:
    with pytest.raises(NotPermitted):
        reader.read(ca.issue(identity), NOW)


@pytest.mark.parametrize(
    ("prefix", "identity", "permitted"),
    [
        (f"{ANHUI}/services", f"{ANHUI}/services/x", True),
        (f"{ANHUI}/services", f"{ANHUI}/services", True),
        (f"{ANHUI}/services", f"{ANHUI}/services-of-evil/x", False),
        (f"{ANHUI}/services", ANHUI, False),
    ],
)
def test_prefix_ends_where_a_path_segment_ends(prefix: str, identity: str, permitted: bool) -> None:
    reader = CallerReader({ANHUI_CA.certificate: (prefix,)})
    certificate = ANHUI_CA.issue(identity)

    if permitted:
        assert reader.read(certificate, NOW).identity == identity
    else:
        with pytest.raises(NotPermitted):
            reader.read(certificate, NOW)


def test_ca_of_the_same_name_does_not_borrow_the_namespace() -> None:
    reader = CallerReader({ANHUI_CA.certificate: (ANHUI,), STRANGER_CA.certificate: (JIANGSU,)})

    with pytest.raises(NotPermitted):
        reader.read(STRANGER_CA.issue(SERVICE), NOW)


def test_two_cas_in_one_file_are_both_accepted_while_one_replaces_the_other() -> None:
    successor = make_ca("Anhui services, from 2027")
    reader = CallerReader({ANHUI_CA.certificate + successor.certificate: (ANHUI,)})

    assert reader.read(ANHUI_CA.issue(), NOW).identity == SERVICE
    assert reader.read(successor.issue(), NOW).identity == SERVICE


DNS_NAME = x509.SubjectAlternativeName([x509.DNSName("gateway.ah.example")])
NAMELESS = {
    "no alternative name": (),
    "a host only": (DNS_NAME,),
    "two URIs": (uris(SERVICE, f"{ANHUI}/services/other"),),
    "the same URI twice": (uris(SERVICE, SERVICE),),
    "no https URI": (uris("spiffe://gateway.ah.example/services/x"),),
    "dot segments": (uris(f"{ANHUI}/services/../x"),),
    "a URI in capitals": (uris(SERVICE.upper()),),
    "a fragment": (uris(f"{SERVICE}#x"),),
}


@pytest.mark.parametrize("extensions", NAMELESS.values(), ids=NAMELESS.keys())
def test_certificate_must_name_exactly_one_identity(
    reader: CallerReader, extensions: Sequence[x509.ExtensionType]
) -> None:
    with pytest.raises(NotPermitted):
        reader.read(ANHUI_CA.sign(*extensions, subject=SERVICE), NOW)


def test_certificate_that_differs_only_in_naming_one_identity_is_read(reader: CallerReader) -> None:
    assert reader.read(ANHUI_CA.sign(uris(SERVICE)), NOW).identity == SERVICE


@pytest.mark.parametrize("garbage", [b"", b"no certificate", ANHUI_CA.key, b"x" * (MAX_CERTIFICATE_BYTES + 1)])
def test_what_is_no_certificate_names_nobody(reader: CallerReader, garbage: bytes) -> None:
    with pytest.raises(NotPermitted):
        reader.read(garbage, NOW)


def test_tampered_certificate_names_nobody(reader: CallerReader) -> None:
    other = f"{ANHUI}/services/shushan-householf"
    der = x509.load_pem_x509_certificate(ANHUI_CA.issue()).public_bytes(serialization.Encoding.DER)
    tampered = x509.load_der_x509_certificate(der.replace(SERVICE.encode(), other.encode()))

    with pytest.raises(NotPermitted):
        reader.read(tampered.public_bytes(serialization.Encoding.PEM), NOW)


@pytest.mark.parametrize("offset", [-DAY, DAY + timedelta(seconds=1), 365 * DAY])
def test_certificate_is_refused_outside_its_time_also_on_an_old_connection(
    reader: CallerReader, offset: timedelta
) -> None:
    certificate = ANHUI_CA.issue(lifetime=DAY)
    assert reader.read(certificate, NOW).identity == SERVICE

    with pytest.raises(NotPermitted):
        reader.read(certificate, NOW + offset)


def test_certificate_is_refused_once_its_ca_has_expired(reader: CallerReader) -> None:
    own = x509.load_pem_x509_certificate(ANHUI_CA.certificate)
    key = serialization.load_pem_private_key(ANHUI_CA.key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    outliving = (
        x509.CertificateBuilder()
        .subject_name(own.subject)
        .issuer_name(own.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + 2 * CA_LIFETIME)
        .add_extension(uris(SERVICE), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    assert reader.read(outliving, NOW + CA_LIFETIME).identity == SERVICE

    with pytest.raises(NotPermitted):
        reader.read(outliving, NOW + CA_LIFETIME + DAY)


def test_certificate_is_examined_once_while_it_is_remembered(
    reader: CallerReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = ANHUI_CA.issue()
    first = reader.read(certificate, NOW)
    monkeypatch.setattr(x509, "load_pem_x509_certificate", None)

    assert reader.read(certificate, NOW) is first


@pytest.mark.parametrize(
    ("pem", "prefix"),
    [
        (b"", ANHUI),
        (b"no certificate", ANHUI),
        (ANHUI_CA.issue(), ANHUI),
        (ANHUI_CA.sign(), ANHUI),
        (ANHUI_CA.certificate, f"{ANHUI}/"),
        (ANHUI_CA.certificate, "gateway.ah.example"),
        (ANHUI_CA.certificate, ""),
    ],
)
def test_reader_is_not_made_from_what_is_no_ca_or_no_prefix(pem: bytes, prefix: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the library's own message will do
        CallerReader({pem: (prefix,)})


# -- a handshake ------------------------------------------------------------------------------------------------------


class _WhoAmI(grpc.GenericRpcHandler):
    def __init__(self, reader: CallerReader) -> None:
        self._reader = reader

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._answer)

    def _answer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        peer: Any = context.auth_context()  # the stubs say bytes where lists of bytes are
        (certificate,) = peer["x509_pem_cert"]
        return self._reader.read(certificate, system_world().now()).identity.encode("ascii")


@pytest.mark.parametrize(("client", "answered"), [(True, True), (False, False)])
def test_grpc_accepts_the_certificates_for_their_uses_alone(client: bool, answered: bool) -> None:
    now = system_world().now()  # a handshake is judged by the machine's clock
    ca, ca_key = create_ca("Anhui services", now)

    def issue(identity: str, *, server: bool, client: bool) -> tuple[bytes, bytes]:
        return issue_certificate(
            ca,
            ca_key,
            identity_uri=identity,
            dns_names=[],
            ip_addresses=["127.0.0.1"],
            server=server,
            client=client,
            now=now,
            lifetime=DAY,
        )

    certificate, key = issue(ANHUI, server=True, client=False)
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers([_WhoAmI(CallerReader({ca: (ANHUI,)}))])
    port = server.add_secure_port(
        "127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)], ca, require_client_auth=True)
    )
    server.start()
    certificate, key = issue(SERVICE, server=not client, client=client)
    with grpc.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(ca, key, certificate)) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test/WhoAmI")
        if answered:
            assert call(b"", timeout=10) == SERVICE.encode("ascii")
        else:
            with pytest.raises(grpc.RpcError) as raised:
                call(b"", timeout=10)
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    server.stop(None).wait()
