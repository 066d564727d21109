"""The Java client's check of evidence finds what the Python client's does, on whatever either is given.

Both are written apart, and neither shares code with the gateway; ``test_client_evidence`` holds the Python one against
the gateway's own. One Java process answers all questions.
"""

from __future__ import annotations

import json
import random  # noqa: TID251 - seeded: every run asks the same
import re
import struct
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
from recognition import _jose, evidence
from recognition.evidence import Flaw, NotProven, Proven, Signed

from gateway.core.charter import unsigned
from gateway.core.encoding import b64url_decode, b64url_encode, sha256_b64url, write_json
from gateway.core.jose import Algorithm, generate_key
from gateway.core.publication import AUDIT_JWKS, RECEIPT_JWKS
from tests import test_client_evidence as python
from tests.clients import tools
from tests.core.papers import ANCHORS, GATEWAY, HOUR, MINUTE, NOW, SECOND, SHANGHAI, compromised, superseded
from tests.core.tokens import mutated, seeded
from tests.federation import Federation
from tests.test_client_evidence import AT, OTHER_HASH, OTHERS, THIEF, TWO, Case, Claims

CLIENT = tools.CLIENTS / "java" / "src"
PACKAGE = Path("java", "example", "recognition", "evidence")
SECONDS = 300


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile what checks evidence, by itself: it must need nothing but Java."""
    tools.need("javac", "java")
    folder = tmp_path_factory.mktemp("classes")
    sources = [*(CLIENT / "main" / PACKAGE).glob("*.java"), CLIENT / "test" / PACKAGE / "Agreement.java"]
    options = ["-Xlint:all", "-Werror", "--release", "17", "-encoding", "UTF-8", "-d", str(folder)]
    run = subprocess.run(
        ["javac", *options, *map(str, sources)], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert run.returncode == 0, run.stderr
    return folder


def java(classes: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["java", "-cp", str(classes), f"example.recognition.evidence.{program}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=SECONDS, check=False)


# -- what is asked ----------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Question:
    """A bundle, and how it is to be checked."""

    name: str
    bundle: bytes
    charter: str
    pin: str | None = None
    witnesses: int = 1
    now: datetime | None = AT


@dataclass
class Questions:
    """All of them; ``add`` takes one."""

    all: list[Question] = field(default_factory=list)

    def add(self, name: str, case: Case, **options: Any) -> None:
        self.raw(name, case.raw(), case.papers.charter.document, **options)

    def raw(self, name: str, bundle: bytes, charter: str, **options: Any) -> None:
        self.all.append(Question(name=name, bundle=bundle, charter=charter, **options))


def updated(claims: Claims, **others: Any) -> None:
    claims.update(others)


def changed(change: Callable[[Case], object], **parts: Any) -> Case:
    case = Case(**parts)
    change(case)
    return case


def whose_keys_count(questions: Questions) -> None:
    for name, by_anchors in {**python.BY_ANCHORS, **python.PERMITTED}.items():
        for count in (1, 2):
            case = Case()
            by_anchors(case, ANCHORS[:count])
            questions.add(f"{count} anchors: {name}", case)
    case, long = Case(), "a." * 4_000 + "a"
    python.constrained(case, ANCHORS, {python.NAMES: {"permitted": [long, ".mrg.example"]}})
    questions.add("permits a long name as well", case)
    for name, change in {**python.BY_ITSELF, **python.UNSEEN}.items():
        questions.add(name, changed(change))
    for name, share in python.SHARED.items():
        case = changed(share, about_issuers=True)
        python.renewed(case, GATEWAY, OTHERS[0], SHANGHAI)
        questions.add(f"shared with {name}", case)
    for name, (revocation, _) in python.REVOCATIONS.items():
        for purpose in (RECEIPT_JWKS, AUDIT_JWKS):
            case = Case()
            python.revoke(case, case.key(GATEWAY, purpose).public.kid, revocation)
            questions.add(f"{purpose}: {name}", case)
    case = Case()
    python.revoke(case, case.papers.federation_keys[GATEWAY].public.kid, compromised())
    questions.add("a revoked federation key", case)
    case = Case(head=lambda claims: claims.update(iat=python.seconds(AT + 2 * MINUTE)))
    python.revoke(case, case.key(GATEWAY, AUDIT_JWKS).public.kid, superseded(AT + MINUTE))
    questions.add("a head signed after its key was superseded", case, now=AT + HOUR)
    audit = Case().key(GATEWAY, AUDIT_JWKS)
    for name, key in (("a thief", THIEF), ("heads", audit)):
        questions.add(f"a receipt by the key of {name}", Case(receipt_key=key))
        questions.add(f"a head by the key of {name}", Case(head_key=key))


def what_gateways_say(questions: Questions) -> None:
    for name, (change, _) in python.SAID.items():
        questions.add(f"receipt {name}", Case(receipt=change))
    for name, (change, _) in python.HEADS.items():
        questions.add(f"head {name}", Case(head=change))
    for name, (said, _) in python.SAID_IN_THE_LOG.items():
        questions.add(f"entry: {name}", Case(said=said))
    for name, edit in python.ENTRIES.items():
        questions.add(f"entry {name}", Case(entry=edit))
    for name, change in {**python.SHAPES, **python.PROOFS}.items():
        questions.add(f"file {name}", Case(file=change))
    for needed in (1, 2, 3):
        for seen in range(4):
            cosigners = [(gateway, None) for gateway in OTHERS[:seen]]
            questions.add(f"{needed} of {seen} witnesses", Case(cosigners=cosigners), witnesses=needed)


def dates(questions: Questions) -> None:
    for ahead in (59, 60, 61):
        late = python.seconds(AT) + ahead
        for now in (AT, None):
            questions.add(f"{ahead} s after {now}", Case(receipt=partial(updated, iat=late)), now=now)
    for after in (-SECOND, timedelta(0), SECOND, MINUTE, 2 * MINUTE):
        case = Case()
        case.at = NOW + 10 * MINUTE + python.grace(case) + after
        questions.add(f"{after} after its grace", case, now=case.at)
    for end in (0, 1):
        case = Case()
        case.papers.charter = case.papers.make_charter(partial(updated, exp=python.seconds(AT) + end))
        questions.add(f"a charter that ends {end} s later", case)


def charters(questions: Questions) -> None:
    honest = Case()
    pinned = honest.papers.charter
    for name, pin in (("right", pinned.sha256), ("another", OTHER_HASH), ("empty", "")):
        questions.add(f"{name} pin", honest, pin=pin)
    for count in (2, 3):
        file = json.loads(pinned.document)
        file["signatures"] = [*file["signatures"][:count], *file["signatures"][:count]]
        questions.raw(f"signed by {count}", honest.raw(), json.dumps(file))
    other = honest.papers.make_charter(lambda claims: claims.update(exp=claims["exp"] - 1))
    questions.raw("another history", honest.raw(), other.document)
    for name, (old, new, change, _) in python.UNFOLLOWED.items():
        case = Case()
        python.under(case, python.successor(case, old, new, change))
        questions.add(f"charter: {name}", case)
    for name, change in python.BAD_CHARTERS.items():
        under_charter(questions, f"charter {name}", change)
    case = Case()
    document = python.successor(case, ANCHORS[:3], ANCHORS[1:])
    python.under(case, document)
    questions.add("followed charters", case, pin=pinned.sha256)
    questions.raw("an older verdict", case.raw(), document)
    case.charters = [document]
    questions.add("only what follows", case)


def under_charter(questions: Questions, name: str, change: Callable[[Claims], object]) -> None:
    """Ask about a bundle under a charter that says something else, and is signed by all anchors."""
    case = Case()
    claims = json.loads(b64url_decode(json.loads(case.papers.charter.document)["payload"]))
    change(claims)
    document = unsigned(write_json(claims))
    for key in case.papers.anchor_keys.values():
        document = python.signed_raw(document, key)
    digest = sha256_b64url(write_json(claims))
    case.said, case.receipt = {"charter_sha256": digest}, partial(updated, charter_sha256=digest)
    case.charters = [document]
    questions.raw(name, case.raw(), document)


P256 = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
"""A point of the curve: the one that everything is reckoned from."""


def jwk(kty: str, crv: str, *coordinates: bytes, **others: Any) -> Claims:
    """Make a key, good or not, with the right name."""
    members = {"crv": crv, "kty": kty, **dict(zip("xy", map(b64url_encode, coordinates), strict=False))}
    return {**members, "kid": _jose._thumbprint(**members), **others}


def big(number: int, size: int = 32) -> bytes:
    return number.to_bytes(size, "big")


EDWARDS = [big(number, 32)[::-1] for number in (2**255 - 19 + 3, 2**255 - 1, 2, 7, 2**255 - 20, 3, 4)]
"""Too large, no points, of small order, and others."""
KEYS: Mapping[str, Claims] = {
    "a good one": jwk("EC", "P-256", *map(big, P256)),
    "beside the curve": jwk("EC", "P-256", big(P256[0]), big(P256[1] + 1)),
    "zero": jwk("EC", "P-256", bytes(32), bytes(32)),
    "over the prime": jwk("EC", "P-256", b"\xff" * 32, big(P256[1])),
    "too short": jwk("EC", "P-256", big(P256[0])[1:], big(P256[1])),
    "too long": jwk("EC", "P-256", b"\0" + big(P256[0]), big(P256[1])),
    "of another curve": jwk("EC", "P-384", *map(big, P256)),
    "of a curve that is none of ours": jwk("EC", "P-521", *map(big, P256)),
    "of half a point": jwk("EC", "P-256", big(P256[0])),
    "of another kind": jwk("RSA", "P-256", *map(big, P256)),
    "for its algorithm": jwk("EC", "P-256", *map(big, P256), alg="ES256"),
    "for another algorithm": jwk("EC", "P-256", *map(big, P256), alg="ES384"),
    "for signatures": jwk("EC", "P-256", *map(big, P256), use="sig"),
    "for secrets": jwk("EC", "P-256", *map(big, P256), use="enc"),
    "for nothing": jwk("EC", "P-256", *map(big, P256), use=None),
    "with its private half": jwk("EC", "P-256", *map(big, P256), d="AAAA"),
    "of another name": jwk("EC", "P-256", *map(big, P256), kid=OTHER_HASH),
    **{f"Edwards {number}": jwk("OKP", "Ed25519", x) for number, x in enumerate(EDWARDS)},
    "Edwards with y": jwk("OKP", "Ed25519", EDWARDS[-1], y="AAAA"),
    "Edwards by its old name": jwk("OKP", "Ed25519", EDWARDS[-1], alg="EdDSA"),
    "of the other Edwards curve": jwk("OKP", "Ed448", EDWARDS[-1]),
}


def keys(questions: Questions) -> None:
    """A key beside that of the receipt: if it is none, the whole set is none."""
    for name, key in KEYS.items():

        def listed(claims: Claims, key: Claims = key) -> None:
            claims["metadata"]["recognition_gateway"][RECEIPT_JWKS]["keys"].append(key)

        case = Case()
        python.own_configuration(case, (), change=listed)
        python.say(case, ANCHORS, listed)
        questions.add(f"key {name}", case)


ORDERS = {
    Algorithm.ES256: (32, 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551),
    Algorithm.ES384: (
        48,
        0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
    ),
    Algorithm.ED25519: (32, 2**252 + 27742317777372353535851937790883648493),
}


def signatures(questions: Questions) -> None:
    """Keys of each algorithm, and signatures that a careless program takes."""
    for algorithm in ORDERS:
        case = Case()
        for name in (RECEIPT_JWKS, AUDIT_JWKS):
            case.papers.gateway_keys[GATEWAY][name] = [generate_key(algorithm)]
        case.papers.federation_keys[GATEWAY] = generate_key(algorithm)
        python.renewed(case, GATEWAY)
        file = json.loads(case.raw())
        for place in ("receipt", "checkpoint"):
            signed, _, signature = file[place].rpartition(".")
            for name, raw in doubtful(algorithm, b64url_decode(signature)).items():
                bundle = write_json({**file, place: f"{signed}.{b64url_encode(raw)}"})
                questions.raw(f"{algorithm} {place}: {name}", bundle, case.papers.charter.document)


def doubtful(algorithm: Algorithm, signature: bytes) -> Mapping[str, bytes]:
    size, order = ORDERS[algorithm]
    end: Literal["little", "big"] = "little" if algorithm is Algorithm.ED25519 else "big"
    first, second = signature[:size], signature[size:]
    number = int.from_bytes(second, end)
    return {
        "right": signature,
        "zeros": bytes(2 * size),
        "ones": b"\xff" * 2 * size,
        "short": signature[:-1],
        "long": signature + b"\0",
        "empty": b"",
        "of the order": order.to_bytes(size, end) * 2,
        "of one": (1).to_bytes(size, end) * 2,
        "turned": first + (order - number).to_bytes(size, end),
        "raised": first + ((order + number) % 256**size).to_bytes(size, end),
        "swapped": second + first,
    }


def by_chance(questions: Questions) -> None:
    """A good bundle with bytes changed in it, or in a document in it, which is signed again."""
    rng, case = seeded(17), Case()
    raw, document = case.raw(), case.papers.charter.document
    for number in range(50):
        questions.raw(f"bytes {number}", mutated(raw, rng), document)
        questions.raw(f"bytes of the charter {number}", raw, mutated(document.encode(), rng).decode("utf-8", "ignore"))
        file = json.loads(raw)
        damage(file, rng)
        questions.raw(f"members of the file {number}", write_json(file), document)
    file = json.loads(raw)
    signers = {
        **{key.public.kid: key for key in case.papers.anchor_keys.values()},
        **{key.public.kid: key for key in case.papers.federation_keys.values()},
        **{key.public.kid: key for own in case.papers.gateway_keys.values() for (key,) in own.values()},
    }
    for number in range(100):
        place = rng.choice(["receipt", "checkpoint", "cosignatures", "statements"])
        several = list(file[place]) if isinstance(file[place], list) else [file[place]]
        index = rng.randrange(len(several))
        several[index] = python.resigned(several[index], partial(mutated, rng=rng), signers)
        bundle = {**file, place: several if isinstance(file[place], list) else several[0]}
        questions.raw(f"bytes in {place} {number}", write_json(bundle), document)


def by_member(questions: Questions) -> None:
    """Members of documents changed before they are signed, by as many as it takes to matter."""
    change = partial(damage, rng=seeded(1707))

    def numbered(claims: Claims) -> None:
        change(claims)
        claims.setdefault("seq", 0)  # snapshots are made by it

    makers: Mapping[str, Callable[[Case], object]] = {
        "receipt": lambda case: setattr(case, "receipt", change),
        "head": lambda case: setattr(case, "head", change),
        "cosignature": lambda case: setattr(case, "cosignature", change),
        "statements": lambda case: python.say(case, TWO, numbered),
        "snapshots": lambda case: case.papers.seal(*TWO, change=change),
        "configuration": lambda case: python.own_configuration(case, (), change=change),
        "entry": lambda case: setattr(case, "entry", python.edited(change)),
        "revocation": lambda case: python.revoke(
            case, case.key(GATEWAY, RECEIPT_JWKS).public.kid, superseded(AT + SECOND), change=change
        ),
    }
    for number in range(15):
        for name, make in makers.items():
            questions.add(f"members of the {name} {number}", changed(make))
        under_charter(questions, f"members of the charter {number}", change)


def damage(value: Any, rng: random.Random) -> None:
    """Change one thing somewhere in a JSON value: take it away, put another in its place, or add something."""
    places = [(value, key) for key in (value if isinstance(value, dict) else range(len(value)))]
    for container, key in places:  # grows
        inner = container[key]
        if isinstance(inner, dict | list):
            places += [(inner, each) for each in (inner if isinstance(inner, dict) else range(len(inner)))]
    container, key = rng.choice(places)
    old = container[key]
    match rng.randrange(6):
        case 0:
            del container[key]
        case 1 if isinstance(old, int):
            container[key] = old + rng.choice([-1, 1, 3_600, 2**40])
        case 2 if isinstance(container, dict):
            container[rng.choice(["crit", "aud", "jwks", "metadata", "reason", "x", "\U0001f600", "\uff5e"])] = old
        case 3 if isinstance(container, dict):
            other = rng.choice(list(container))
            container[key], container[other] = container[other], old
        case _:
            container[key] = rng.choice(
                [None, True, 0, 1, -1, 1.5, 1e-7, 2**53 - 1, "", "a", "é\u2028\x7f\x01", [], {}, [old], {"a": old}]
            )


def handed_out(questions: Questions, federation: Federation) -> None:
    """What gateways hand out."""
    federation.publish()
    document, now = federation.charter.document, federation.clock.now
    verifications = [python.accepted(federation), federation.verify("not.a.credential~").verification_id]
    early = [python.handed_out(federation, each) for each in verifications]
    federation.witness()
    late = [python.handed_out(federation, each) for each in verifications]
    for number, bundle in enumerate([*early, *late]):
        for witnesses in (1, 3):
            name = f"handed out {number} for {witnesses}"
            questions.raw(name, bundle, document, pin=federation.charter.sha256, witnesses=witnesses, now=now)


# -- what is answered -------------------------------------------------------------------------------------------------


def answer(question: Question) -> str:
    """Say what the Python client finds, as the Java program says it."""
    try:
        found = evidence.check(
            question.bundle, question.charter, question.pin, witnesses=question.witnesses, now=question.now
        )
    except NotProven as refusal:
        return f"NotProven\t{refusal.reason.value}"
    receipt = found.receipt
    said: list[object] = [
        *(receipt.gateway, receipt.province, receipt.service, receipt.verification_id),
        *(python.seconds(receipt.verified_at), python.seconds(receipt.issued_at)),
        *(receipt.matter, receipt.verdict.value, receipt.reason or "-", receipt.charter_version),
        *(receipt.charter_sha256, receipt.view_id, receipt.log, receipt.position),
        ",".join(found.witnesses),
    ]
    if isinstance(found, Proven):
        said += [found.log_size, python.seconds(found.logged_at)]
    else:
        said.append("true" if found.in_log else "false")
    return "\t".join(map(str, [type(found).__name__, *said]))


def test_java_finds_what_python_finds(classes: Path, tmp_path: Path, restarted: Federation) -> None:
    questions = Questions()
    for make in (whose_keys_count, what_gateways_say, dates, charters, keys, signatures, by_chance, by_member):
        make(questions)
    handed_out(questions, restarted)
    lines = []
    for number, question in enumerate(questions.all):
        (tmp_path / f"{number}.bundle").write_bytes(question.bundle)
        (tmp_path / f"{number}.charter").write_text(question.charter, encoding="utf-8", newline="")
        now = "-" if question.now is None else python.seconds(question.now)
        pin = "-" if question.pin is None else question.pin
        lines.append(f"check\t{number}.bundle\t{number}.charter\t{pin}\t{question.witnesses}\t{now}\n")
    (tmp_path / "questions").write_text("".join(lines))
    run = java(classes, "Agreement", str(tmp_path / "questions"))
    assert run.returncode == 0, run.stderr
    expected = [answer(question) for question in questions.all]
    answers = zip(questions.all, expected, run.stdout.splitlines(), strict=True)
    assert [(question.name, python_s, java_s) for question, python_s, java_s in answers if python_s != java_s] == []
    kinds = Counter(each.split("\t")[0] for each in expected)
    assert min(kinds[each.__name__] for each in (Proven, Signed, NotProven)) >= 10  # else little was compared
    assert {each.split("\t")[1] for each in expected if each.startswith("NotProven")} == {flaw.value for flaw in Flaw}


# -- the parts --------------------------------------------------------------------------------------------------------


WORDS = [
    *(b"{", b"}", b"[", b"]", b",", b":", b'"a"', b'"b"', b'"\\u0061"', b'"\\ud83d\\ude00"', b'"\\ud83d"', b"null"),
    *(b"true", b"1", b"-0", b"-0.0", b"0.0", b"01", b"1.", b"1e5", b"1E-5", b"1e999", b"-1e-999", b"NaN", b"Infinity"),
    *(b"9007199254740991", b"9007199254740992", b"-9007199254740991", b" ", b"\t", b"\x0b", b"\xc2\xa0", b'"\x01"'),
    *(b'"\xff"', b'"\\x"', b'"\xf0\x9f\x98\x80\xef\xbf\xbf"', b'"123456789"', b"\xef\xbb\xbf", b'"\\u00e9\\/\\f"'),
]
NAMES = [b'"a"', b'"b"', b'"\xef\xbf\xbf"', b'"\xf0\x9f\x98\x80"', b'"\\u0061"', b'""']


def json_texts() -> Iterator[bytes]:
    rng = seeded(8259)
    for _ in range(1_500):
        for number in (struct.unpack("<d", rng.randbytes(8))[0], round(rng.uniform(-1e6, 1e6), rng.randrange(9))):
            yield f'{{"a":{number!r}}}'.encode()
    for power in range(-1_074, 1_024):
        yield f'{{"a":{2.0**power!r}}}'.encode()
    for _ in range(3_000):
        yield b"{" + b"".join(rng.choice(WORDS) for _ in range(rng.randrange(7))) + b"}"
        yield b"{" + b" , ".join(b"%s :%s" % (name, rng.choice(WORDS)) for name in rng.sample(NAMES, 3)) + b"}"
    yield from (b"", b"{}", b"[]", b"{}{}", b"[" * 5_000, b'{"a":' * 5_000, b'{"a":[[1]]}', b'{"a":[[[1]]]}')
    yield b'{"a":0.%s1}' % (b"0" * 150)


def encoded_texts() -> Iterator[str]:
    rng = seeded(4648)
    for alphabet in ("AQgwEIMz09-_", "AQgwEIMz09-_=+/ \n\u00e9"):
        for _ in range(1_000):
            yield "".join(rng.choice(alphabet) for _ in range(rng.randrange(9)))


def as_python_reads_it(raw: bytes) -> str:
    try:
        value = _jose.parse_json(raw, _jose.Limits(200, 3, 12, 8))
    except _jose.Unreadable:
        return "-"
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def test_java_reads_json_and_base64url_as_python_does(classes: Path, tmp_path: Path) -> None:
    texts, encoded = list(json_texts()), list(encoded_texts())
    lines = [*(f"json\t{each.hex()}\n" for each in texts), *(f"base64url\t{each.encode().hex()}\n" for each in encoded)]
    (tmp_path / "questions").write_text("".join(lines))
    run = java(classes, "Agreement", str(tmp_path / "questions"))
    assert run.returncode == 0, run.stderr
    expected = [*map(as_python_reads_it, texts), *map(as_python_decodes_it, encoded)]
    answers = zip(lines, expected, run.stdout.split("\n")[:-1], strict=True)
    assert [each for each in answers if each[1] != each[2]] == []
    assert expected.count("-") < len(expected) * 3 // 4


def as_python_decodes_it(text: str) -> str:
    try:
        return _jose.decode(text).hex()
    except _jose.Unreadable:
        return "-"


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({}, 0, "PROVEN: the verdict was rejected (CREDENTIAL_REVOKED)"),
        ({"cosigners": ()}, 2, "SIGNED ONLY: the verdict was rejected (CREDENTIAL_REVOKED)"),
        ({"receipt_key": THIEF}, 1, "NOT PROVEN"),
    ],
)
def test_the_command_says_what_came_of_it(
    classes: Path, tmp_path: Path, change: Mapping[str, Any], code: int, words: str
) -> None:
    case = Case(**change)
    bundle, charter = tmp_path / "bundle.json", tmp_path / "charter.json"
    bundle.write_bytes(case.raw())
    charter.write_text(case.papers.charter.document, encoding="utf-8")
    options = ["--witnesses", "2", "--now", f"{AT:%FT%TZ}"]
    run = java(classes, "Check", str(bundle), str(charter), case.papers.charter.sha256, *options)
    assert (run.returncode, run.stdout.startswith(words), run.stderr) == (code, True, ""), run.stdout


def test_the_command_checks_nothing_that_it_was_not_asked(classes: Path, tmp_path: Path) -> None:
    for arguments in ([], ["a", "b"], ["a", "b", "c", "--witnesses", "4"], ["a", "b", "c", "--now", "soon"]):
        run = java(classes, "Check", *arguments)
        assert (run.returncode, run.stdout) == (3, "")
    run = java(classes, "Check", str(tmp_path / "missing"), str(tmp_path / "missing"), OTHER_HASH)
    assert (run.returncode, run.stdout) == (3, "")


# -- the README -------------------------------------------------------------------------------------------------------

PROGRAM = """
import example.recognition.evidence.*;
import java.nio.file.*;
import java.time.Instant;

class Readme {
  public static void main(String[] args) throws Exception {
    var bundle = Files.readAllBytes(Path.of(args[0]));
    var charter = Files.readString(Path.of(args[1]));
    var charterSha256 = args[2];
    %s
  }
}
"""


def test_the_example_in_the_readme_runs(classes: Path, tmp_path: Path) -> None:
    readme = (CLIENT.parent / "README.md").read_text("utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    (example,) = [block for block in blocks if "Evidence.check(" in block]
    case = Case()
    (tmp_path / "bundle.json").write_bytes(case.raw())
    (tmp_path / "charter.json").write_text(case.papers.charter.document, encoding="utf-8")
    (tmp_path / "Readme.java").write_text(PROGRAM % example.replace("Instant.now()", f'Instant.parse("{AT:%FT%TZ}")'))
    arguments = ["Readme.java", "bundle.json", "charter.json", case.papers.charter.sha256]
    command = ["java", "-cp", str(classes), *arguments]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (run.returncode, run.stdout) == (0, f"proven: REJECTED, seen by [{', '.join(OTHERS)}]\n"), run.stderr
