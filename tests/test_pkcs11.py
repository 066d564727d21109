"""Keys in a PKCS#11 token: made there, used there, never to be had. Against SoftHSM, a token made of software.

Where SoftHSM is not installed these tests are skipped, unless MRG_REQUIRE_SOFTHSM says that they must not be.
"""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast, get_args

import pkcs11
import pytest
from pkcs11 import Attribute, KeyType, MechanismFlag, ObjectClass, exceptions

from gateway.clock import system_world
from gateway.config import KeyStoreOptions, Pkcs11, SecretSource
from gateway.core.encoding import b64url_decode, b64url_encode
from gateway.core.identifiers import Province
from gateway.core.jose import Algorithm, SoftwareKey, generate_key, import_jwk, parse_compact, sign_compact, verify
from gateway.core.reasons import Reason, Unavailable
from gateway.core.sd_jwt import issue
from gateway.keystore import KeyRole, KeyStore, KeyStoreError
from gateway.keystore.file import FileKeyStore
from gateway.keystore.opening import create_key_store, open_key_store
from gateway.keystore.pkcs11 import Pkcs11KeyStore, TokenKey
from gateway.keystore.token import Token
from gateway.lab.charter import entity_ids
from gateway.provision.answers import Answers, read
from gateway.provision.province import create_province
from tests.core.presentations import ISSUER, Attempt, Trusted

WORLD = system_world()
ROLES: tuple[KeyRole, ...] = get_args(KeyRole)
LABEL, PIN, SO_PIN = "mrg-test", "4711-0815", "0815-4711"
PLACES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
)
MODULE = next((Path(place) for place in PLACES if Path(place).is_file()), None)
MISSING = MODULE is None or shutil.which("softhsm2-util") is None
REQUIRED = bool(os.environ.get("MRG_REQUIRE_SOFTHSM"))

pytestmark = pytest.mark.skipif(
    MISSING and not REQUIRED, reason="SoftHSM 2 is not installed (on Debian: apt-get install softhsm2)"
)


def module() -> Path:
    assert MODULE is not None, "MRG_REQUIRE_SOFTHSM is set, and SoftHSM 2 is not installed"
    return MODULE


class Hsm:
    """A SoftHSM of this test's own, with one token. Nothing of the system's is touched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokens = folder / "tokens"
        self.tokens.mkdir(parents=True)
        configuration = folder / "softhsm2.conf"
        configuration.write_text(f"directories.tokendir = {self.tokens}\nobjectstore.backend = file\n", "ascii")
        self.environ = {**os.environ, "SOFTHSM2_CONF": str(configuration)}
        self.keys = folder / "keys"
        self.pin = folder / "pin"
        self.pin.touch(mode=0o600)
        self.pin.write_text(f"{PIN}\n", "ascii")
        self.add_token(LABEL)

    def add_token(self, label: str) -> None:
        command = ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", SO_PIN]
        subprocess.run(command, env=self.environ, check=True, capture_output=True)

    def options(self, label: str = LABEL) -> KeyStoreOptions:
        return KeyStoreOptions(pkcs11=Pkcs11(module=module(), token=label, pin=SecretSource(file=self.pin)))

    def create(self) -> Pkcs11KeyStore:
        return cast("Pkcs11KeyStore", create_key_store(self.keys, self.options(), WORLD))

    def open(self) -> Pkcs11KeyStore:
        return cast("Pkcs11KeyStore", open_key_store(self.keys, self.options()))

    def raw(self, rw: bool = False) -> Any:
        """A session beside the store's, to look at the token and to tamper with it."""
        token = next(each for each in library().get_tokens(token_label=LABEL))
        try:
            return token.open(rw=rw, user_pin=PIN)
        except exceptions.UserAlreadyLoggedIn:
            return token.open(rw=rw)

    def run(self, program: str) -> str:
        """Run a program in a process of its own; ``store`` is the key store, opened there."""
        head = (
            "import sys; from pathlib import Path; from gateway.config import *;"
            "from gateway.keystore.opening import open_key_store;"
            "pin = SecretSource(file=Path(sys.argv[3]));"
            "options = KeyStoreOptions(pkcs11=Pkcs11(module=Path(sys.argv[2]), token=sys.argv[4], pin=pin));"
            "store = open_key_store(Path(sys.argv[1]), options)\n"
        )
        arguments = [sys.executable, "-c", head + program, str(self.keys), str(module()), str(self.pin), LABEL]
        done = subprocess.run(arguments, env=self.environ, check=True, capture_output=True, text=True)
        return done.stdout


def library() -> Any:
    return pkcs11.lib(str(module()))


def finalize() -> None:
    try:
        library().finalize()
    except exceptions.PKCS11Error:
        library().initialize()
        library().finalize()


@pytest.fixture
def hsm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hsm]:
    made = Hsm(tmp_path / "hsm")
    # SoftHSM reads it when it is initialised, in this process too.
    monkeypatch.setenv("SOFTHSM2_CONF", made.environ["SOFTHSM2_CONF"])
    finalize()
    yield made
    finalize()


@pytest.fixture
def store(hsm: Hsm) -> Pkcs11KeyStore:
    return hsm.create()


def token_of(store: Pkcs11KeyStore) -> Token:
    return store._token


def signs(store: KeyStore, role: KeyRole = "issuer-credential") -> bool:
    signer = store.sole(role)
    token = sign_compact("test+jwt", {"a": 1}, signer)
    return verify(parse_compact(token, max_chars=1000), import_jwk(dict(signer.public.jwk))) == {"a": 1}


def objects(hsm: Hsm, kind: ObjectClass, label: str, rw: bool = False) -> list[Any]:
    return list(hsm.raw(rw).get_objects({Attribute.CLASS: kind, Attribute.LABEL: label}))


# -- making and using keys --------------------------------------------------------------------------------------------


def test_every_role_gets_a_key_in_the_token_and_none_in_a_file(hsm: Hsm, store: Pkcs11KeyStore) -> None:
    assert all(signs(store, role) for role in ROLES)
    assert len({store.sole(role).public.thumbprint for role in ROLES}) == len(ROLES)
    assert not list(hsm.keys.glob("*.pem"))
    assert (store.kind, store.protection) == ("pkcs11", "token")
    assert len(store.secret("nonce")) == 32


def test_created_again_every_key_stays(hsm: Hsm, store: Pkcs11KeyStore) -> None:
    assert {role: set(hsm.create().keys(role)) for role in ROLES} == {role: set(store.keys(role)) for role in ROLES}


def test_key_pair_bears_its_role_and_its_thumbprint(hsm: Hsm, store: Pkcs11KeyStore) -> None:
    made = store.generate("issuer-status")

    for kind in (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY):
        found = {each[Attribute.ID] for each in objects(hsm, kind, "issuer-status")}
        assert found == {b64url_decode(kid) for kid in store.keys("issuer-status")}
    assert made.public.algorithm is Algorithm.ES256
    assert len(store.keys("issuer-status")) == 2


def test_private_key_can_never_leave(hsm: Hsm, store: Pkcs11KeyStore) -> None:
    (private,) = objects(hsm, ObjectClass.PRIVATE_KEY, "issuer-credential", rw=True)

    flags = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.NEVER_EXTRACTABLE: True}
    flags |= {Attribute.ALWAYS_SENSITIVE: True, Attribute.LOCAL: True, Attribute.PRIVATE: True, Attribute.TOKEN: True}
    flags |= {Attribute.DERIVE: False, Attribute.DECRYPT: False, Attribute.UNWRAP: False}
    assert {flag: private[flag] for flag in flags} == flags
    with pytest.raises(exceptions.AttributeSensitive):
        private[Attribute.VALUE]
    for flag, value in ((Attribute.EXTRACTABLE, True), (Attribute.SENSITIVE, False)):
        with pytest.raises(exceptions.AttributeReadOnly):
            private[flag] = value


def test_private_key_is_not_there_for_who_does_not_log_in(hsm: Hsm, store: Pkcs11KeyStore) -> None:
    store.close()
    session = next(iter(library().get_tokens(token_label=LABEL))).open()

    assert not list(session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY}))


def test_signature_is_raw_and_of_the_right_length(store: Pkcs11KeyStore) -> None:
    signatures = {store.sole("issuer-credential").sign(b"message") for _ in range(100)}

    assert {len(signature) for signature in signatures} == {64}
    assert len(signatures) == 100


def test_credential_that_a_token_signed_is_accepted(store: Pkcs11KeyStore) -> None:
    """A whole presentation, judged as any other."""
    signer = store.sole("issuer-credential")
    attempt = Attempt.credential()
    assert attempt.is_accepted()

    attempt.signer = cast("SoftwareKey", signer)
    assert attempt.refusal() is Reason.KEY_UNKNOWN
    attempt.view.keys[ISSUER, signer.public.kid] = Trusted(signer.public)
    assert attempt.is_accepted()


def test_sd_jwt_is_issued_with_a_token(store: Pkcs11KeyStore) -> None:
    signer = store.sole("issuer-credential")
    salts = iter(["salt-of-22-characters-1"])
    text = issue({"iss": ISSUER, "name": "x"}, [("name",)], salts=salts, signer=signer, typ="dc+sd-jwt")

    assert verify(parse_compact(text.split("~")[0], max_chars=10_000), signer.public)["iss"] == ISSUER


@pytest.mark.parametrize("mechanism", [pkcs11.Mechanism.ECDSA, pkcs11.Mechanism.ECDSA_SHA256])
def test_token_is_given_the_digest_unless_it_insists_on_the_message(
    store: Pkcs11KeyStore, monkeypatch: pytest.MonkeyPatch, mechanism: pkcs11.Mechanism
) -> None:
    given: list[tuple[bytes, pkcs11.Mechanism]] = []

    class Noting:
        def sign(self, data: bytes, mechanism: pkcs11.Mechanism) -> bytes:
            given.append((data, mechanism))
            return b"s" * 64

    key = cast("TokenKey", store.sole("issuer-credential"))
    opened = token_of(store)._opened
    assert opened is not None
    opened.mechanisms = frozenset({mechanism})
    opened.found[key.public.kid] = Noting()

    assert key.sign(b"what is in a credential") == b"s" * 64
    ((data, used),) = given
    assert used is mechanism
    assert (data == b"what is in a credential") is (mechanism is pkcs11.Mechanism.ECDSA_SHA256)


@pytest.mark.parametrize("algorithm", sorted(set(Algorithm) - {Algorithm.ES256}))
def test_key_for_another_algorithm_is_not_made(store: Pkcs11KeyStore, algorithm: Algorithm) -> None:
    with pytest.raises(KeyStoreError):
        store.generate("issuer-credential", algorithm)

    assert len(store.keys("issuer-credential")) == 1


def test_sole_and_named_keys(store: Pkcs11KeyStore) -> None:
    first = store.sole("issuer-credential").public.kid
    second = store.generate("issuer-credential").public.kid

    assert store.signer("issuer-credential", second).public.kid == second
    with pytest.raises(KeyStoreError):
        store.sole("issuer-credential")
    with pytest.raises(KeyStoreError):
        store.signer("issuer-status", first)


def test_key_files_still_sign_beside_a_token_so_that_a_province_can_move_to_one(hsm: Hsm) -> None:
    before = FileKeyStore.create(hsm.keys, WORLD)

    moved = hsm.create()
    made = moved.generate("issuer-credential")

    assert signs(moved, "anchor-federation")
    assert set(moved.keys("issuer-credential")) == {*before.keys("issuer-credential"), made.public.kid}
    assert moved.protection == "none"
    assert len(list(hsm.keys.glob("*.pem"))) == len(ROLES)


def test_province_is_made_with_its_keys_in_a_token(hsm: Hsm, tmp_path: Path) -> None:
    ids = entity_ids(Province.ANHUI)
    decided = Answers(
        province=Province.ANHUI,
        gateway=ids.gateway,
        issuer=ids.issuer,
        anchor=ids.anchor,
        verification_address="127.0.0.1:7441",
        federation_address="127.0.0.1:7442",
        admin_address="127.0.0.1:7443",
        reached_at="127.0.0.1",
        dns_names=(),
        ip_addresses=("127.0.0.1",),
        services=(),
        systems=(),
        key_store=hsm.options(),
    )
    card = create_province(tmp_path / "ah", decided, WORLD)

    assert create_province(tmp_path / "ah", read(tmp_path / "ah"), WORLD).claims == card.claims
    keys = open_key_store(tmp_path / "ah" / "keys", decided.key_store)
    assert keys.sole("anchor-federation").public.kid == card.anchor_key.kid
    assert not list((tmp_path / "ah" / "keys").glob("*.pem"))


# -- threads and processes --------------------------------------------------------------------------------------------


def test_eight_threads_sign_at_once(store: Pkcs11KeyStore) -> None:
    signer = store.sole("issuer-credential")
    tokens: list[str] = []
    failures: list[Exception] = []

    def sign_many(number: int) -> None:
        try:
            tokens.extend(sign_compact("test+jwt", {"n": number, "i": i}, signer) for i in range(50))
        except Exception as error:  # noqa: BLE001 - told below
            failures.append(error)

    threads = [threading.Thread(target=sign_many, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not failures
    claims = [verify(parse_compact(token, max_chars=1000), signer.public) for token in tokens]
    assert {(each["n"], each["i"]) for each in claims} == {(n, i) for n in range(8) for i in range(50)}


def test_threads_generate_and_sign_at_once(hsm: Hsm, store: Pkcs11KeyStore) -> None:
    signer = store.sole("issuer-credential")
    threads = [threading.Thread(target=store.generate, args=("issuer-status",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    signatures = [signer.sign(b"message") for _ in range(50)]
    for thread in threads:
        thread.join()

    assert len(signatures) == 50
    assert len(store.keys("issuer-status")) == 5
    assert set(hsm.open().keys("issuer-status")) == set(store.keys("issuer-status"))


def test_keys_are_there_after_a_restart(hsm: Hsm, store: Pkcs11KeyStore) -> None:
    store.generate("issuer-credential")
    kids = set(store.keys("issuer-credential"))

    told = hsm.run("print(*store.keys('issuer-credential'))")
    assert set(told.split()) == kids
    signature = hsm.run("from gateway.core.jose import *; print(sign_compact('t', {}, store.sole('issuer-status')))")
    assert verify(parse_compact(signature.strip(), max_chars=1000), store.sole("issuer-status").public) == {}


# -- when it goes away ------------------------------------------------------------------------------------------------


def test_lost_session_is_opened_again(store: Pkcs11KeyStore) -> None:
    assert signs(store)
    before = token_of(store)._opened
    assert before is not None
    before.session.close()

    assert signs(store)
    assert token_of(store)._opened is not before


def test_library_that_somebody_finalised_is_initialised_again(store: Pkcs11KeyStore) -> None:
    assert signs(store)
    library().finalize()

    assert signs(store)


def test_closed_store_signs_again_when_asked(store: Pkcs11KeyStore) -> None:
    store.close()

    assert signs(store)


def test_two_stores_of_one_process_do_not_disturb_each_other(hsm: Hsm, store: Pkcs11KeyStore) -> None:
    other = hsm.open()
    assert signs(store)
    other.close()  # logs the whole process out

    assert signs(store)
    assert signs(other)


def test_token_that_is_gone_makes_signing_unavailable_and_comes_back(
    hsm: Hsm, store: Pkcs11KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = hsm.tokens.rename(hsm.folder / "away")
    hsm.tokens.mkdir()
    finalize()

    with pytest.raises(Unavailable):
        signs(store)
    with pytest.raises(KeyStoreError):
        store.generate("issuer-credential")

    hsm.tokens.rmdir()
    away.rename(hsm.tokens)
    with pytest.raises(Unavailable):  # not looked for again so soon
        signs(store)
    monkeypatch.setattr("gateway.keystore.token.PAUSE_SECONDS", 0)
    assert signs(store)
    assert len(store.keys("issuer-credential")) == 1


def test_token_of_the_same_label_with_other_keys_does_not_sign_for_the_lost_one(
    hsm: Hsm, store: Pkcs11KeyStore
) -> None:
    hsm.tokens.rename(hsm.folder / "away")
    hsm.tokens.mkdir()
    hsm.add_token(LABEL)
    finalize()

    with pytest.raises(Unavailable):
        signs(store)


def test_token_that_does_not_answer_is_not_waited_for(store: Pkcs11KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.keystore.token.BUSY_SECONDS", 0.01)
    entered, leave = threading.Event(), threading.Event()

    def hang(_opened: object) -> None:
        entered.set()
        leave.wait(30)

    thread = threading.Thread(target=token_of(store).use, args=(hang,))
    thread.start()
    assert entered.wait(30)
    try:
        with pytest.raises(Unavailable):
            signs(store)
    finally:
        leave.set()
        thread.join()
    assert signs(store)


# -- what is not opened -----------------------------------------------------------------------------------------------


def test_wrong_pin_is_told_and_tried_once(hsm: Hsm, store: Pkcs11KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.close()
    token = Token(module(), LABEL, b"1234-5678")
    logins = 0
    log_in = Token._log_in

    def counted(self: Token) -> Any:
        nonlocal logins
        logins += 1
        return log_in(self)

    monkeypatch.setattr(Token, "_log_in", counted)
    files = FileKeyStore.open(hsm.keys)
    for _ in range(3):
        with pytest.raises(KeyStoreError) as raised:
            Pkcs11KeyStore.open(files, token)
        assert "1234-5678" not in str(raised.value)

    assert logins == 1
    assert signs(hsm.open())


def test_pin_that_was_changed_meanwhile_is_not_tried_over_and_over(hsm: Hsm, store: Pkcs11KeyStore) -> None:
    hsm.raw(rw=True).set_pin(PIN, "0000-1111")
    store.close()

    for _ in range(5):
        with pytest.raises(Unavailable):
            signs(store)

    (token,) = library().get_tokens(token_label=LABEL)
    assert not token.flags & pkcs11.TokenFlag.USER_PIN_LOCKED
    assert token_of(store)._refused


@pytest.mark.parametrize("label", ["another", LABEL.upper(), LABEL[:-1]])
def test_missing_token_is_told(hsm: Hsm, store: Pkcs11KeyStore, label: str) -> None:
    with pytest.raises(KeyStoreError) as raised:
        open_key_store(hsm.keys, hsm.options(label))

    assert label in str(raised.value.place)


def test_label_of_two_tokens_is_told(hsm: Hsm, store: Pkcs11KeyStore) -> None:
    hsm.add_token(LABEL)
    finalize()

    with pytest.raises(KeyStoreError):
        hsm.open()


@pytest.mark.parametrize("content", [None, b"", b"no library"])
def test_module_that_is_no_library_is_told(hsm: Hsm, tmp_path: Path, content: bytes | None) -> None:
    FileKeyStore.create(hsm.keys, WORLD, keys=False)
    file = tmp_path / "module.so"
    if content is not None:
        file.write_bytes(content)
    options = KeyStoreOptions(pkcs11=Pkcs11(module=file, token=LABEL, pin=SecretSource(file=hsm.pin)))

    with pytest.raises(KeyStoreError) as raised:
        open_key_store(hsm.keys, options)

    assert raised.value.place == file


def test_pin_that_others_can_read_is_refused(hsm: Hsm, store: Pkcs11KeyStore) -> None:
    hsm.pin.chmod(0o644)

    with pytest.raises(KeyStoreError) as raised:
        hsm.open()

    assert raised.value.place == hsm.pin


def test_binding_that_is_not_installed_is_told(hsm: Hsm, monkeypatch: pytest.MonkeyPatch) -> None:
    FileKeyStore.create(hsm.keys, WORLD, keys=False)
    for name in ("gateway.keystore.pkcs11", "gateway.keystore.token"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pkcs11", None)

    with pytest.raises(KeyStoreError) as raised:
        hsm.open()

    assert "python-pkcs11" in str(raised.value)


# -- keys that are not what they should be ----------------------------------------------------------------------------

P256, P384 = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06052b81040022")
ROLE: KeyRole = "issuer-status"


def pair(hsm: Hsm, curve: bytes = P256, **private: Any) -> tuple[Any, Any]:
    """A key pair as somebody else might make one, with the role's label; finished by ``name``."""
    parameters = hsm.raw(rw=True).create_domain_parameters(KeyType.EC, {Attribute.EC_PARAMS: curve}, local=True)
    template = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.DERIVE: False}
    template |= {Attribute[name]: value for name, value in private.items()}
    capabilities = MechanismFlag.SIGN | MechanismFlag.VERIFY
    public_half, private_half = parameters.generate_keypair(
        store=True, label=ROLE, capabilities=capabilities, private_template=template
    )
    return public_half, private_half


def name(pair: tuple[Any, Any], identifier: bytes | None = None) -> None:
    point = pair[0][Attribute.EC_POINT][3:]
    jwk = {"kty": "EC", "crv": "P-256", "x": b64url_encode(point[:32]), "y": b64url_encode(point[32:])}
    for half in pair:
        half[Attribute.ID] = b64url_decode(import_jwk(jwk).thumbprint) if identifier is None else identifier


def test_key_that_was_made_by_hand_in_the_same_way_is_used(hsm: Hsm, store: Pkcs11KeyStore) -> None:
    name(pair(hsm))

    assert len(hsm.open().keys(ROLE)) == 2


def extractable(hsm: Hsm) -> None:
    name(pair(hsm, EXTRACTABLE=True))


def not_sensitive(hsm: Hsm) -> None:
    name(pair(hsm, SENSITIVE=False))


def not_for_signing(hsm: Hsm) -> None:
    name(pair(hsm, SIGN=False))


def without_identifier(hsm: Hsm) -> None:
    name(pair(hsm), b"")


def with_another_identifier(hsm: Hsm) -> None:
    name(pair(hsm), b"\1" * 32)


def on_another_curve(hsm: Hsm) -> None:
    name(pair(hsm, P384), b"\1" * 32)


def without_its_public_half(hsm: Hsm) -> None:
    made = pair(hsm)
    name(made)
    made[0].destroy()


def with_two_public_halves(hsm: Hsm) -> None:
    made = pair(hsm)
    name(made)
    second = pair(hsm)
    second[1].destroy()
    second[0][Attribute.ID] = made[0][Attribute.ID]


def with_the_public_half_of_another(hsm: Hsm) -> None:
    """What it signs does not verify: the identifier is the other key's thumbprint, as it has to be."""
    first, second = pair(hsm), pair(hsm)
    name(second)
    first[1][Attribute.ID] = second[1][Attribute.ID]
    first[0].destroy()
    second[1].destroy()


def imported(hsm: Hsm) -> None:
    key = generate_key()
    d = key._object.private_numbers().private_value.to_bytes(32, "big")  # type: ignore[union-attr]
    point = b64url_decode(key.public.jwk["x"]) + b64url_decode(key.public.jwk["y"])
    common = {Attribute.KEY_TYPE: KeyType.EC, Attribute.TOKEN: True, Attribute.LABEL: ROLE, Attribute.EC_PARAMS: P256}
    common[Attribute.ID] = b64url_decode(key.public.thumbprint)
    session = hsm.raw(rw=True)
    private = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.VALUE: d, Attribute.SENSITIVE: True}
    session.create_object({**common, **private, Attribute.EXTRACTABLE: False, Attribute.SIGN: True})
    public = {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.EC_POINT: b"\x04\x41\x04" + point}
    session.create_object({**common, **public, Attribute.VERIFY: True})


@pytest.mark.parametrize(
    "wrong",
    [
        extractable,
        not_sensitive,
        not_for_signing,
        without_identifier,
        with_another_identifier,
        on_another_curve,
        without_its_public_half,
        with_two_public_halves,
        with_the_public_half_of_another,
        imported,
    ],
)
def test_key_that_is_not_what_it_should_be_is_refused(
    hsm: Hsm, store: Pkcs11KeyStore, wrong: Callable[[Hsm], None]
) -> None:
    wrong(hsm)

    with pytest.raises(KeyStoreError):
        hsm.open()


def test_unfinished_key_and_the_keys_of_others_are_left_alone(hsm: Hsm, store: Pkcs11KeyStore) -> None:
    for label in (f"{ROLE}.unfinished", "somebody-else"):
        for half in pair(hsm, EXTRACTABLE=True):
            half[Attribute.LABEL] = label

    assert set(hsm.open().keys(ROLE)) == set(store.keys(ROLE))


def test_process_that_dies_while_a_key_is_named_leaves_no_key(
    hsm: Hsm, store: Pkcs11KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gateway.keystore.pkcs11._public", die)
    with pytest.raises(KeyboardInterrupt):
        store.generate(ROLE)
    monkeypatch.undo()
    monkeypatch.setenv("SOFTHSM2_CONF", hsm.environ["SOFTHSM2_CONF"])

    assert len(store.keys(ROLE)) == 1
    assert set(hsm.open().keys(ROLE)) == set(store.keys(ROLE))
    store.generate(ROLE)
    assert len(hsm.open().keys(ROLE)) == 2


def test_one_key_for_two_roles_is_refused(hsm: Hsm, store: Pkcs11KeyStore) -> None:
    for kind in (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY):
        for half in objects(hsm, kind, "issuer-credential", rw=True):
            half.copy({Attribute.LABEL: ROLE})

    with pytest.raises(KeyStoreError):
        hsm.open()
