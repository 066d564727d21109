"""The real federation for tests of clients in any language, with its strings in the tests' hands.

Four provinces run as four processes. What a test needs beside its gateway is asked for over HTTP on the loopback
address, in JSON, because every language speaks that: presentations, good ones and bad ones; that the gateway is killed,
held up, started again; that it cannot decide; new certificates for a client. ``python -m tests.clients.stage`` writes
one line, ``{"control": URL}``, once all is up, and ends with its standard input. Clients are Anhui's:

* ``hukou``: the household counter; credentials with key binding;
* ``court``: the court's window; assertions, as many as wanted;
* ``small``: a window that may bring two calls a second, to be overloaded.

===================  =================================================================================================
GET /profiles        files of the client profiles, by name
GET /matters         the matter of each profile
GET /kinds           every kind of bad presentation, and the reason that each is refused for
GET /holder          a credential and its holder's private key (JWK)
GET /caller          ``?verification_id=``: with which certificate and request id it was asked for, from the log
GET /entries         ``?request_id=``: ids of the verifications that were recorded under it, in their order
GET /evidence-charter  the charter that evidence is checked by, and its digest
POST /present        ``nonce``, ``audience``, perhaps ``kind``: a presentation, and the reason it will be refused for
POST /presentations  ``challenges``: as many good presentations
POST /assertions     ``audience``, ``count``: as many good assertions
POST /kill /start    end the gateway as a power cut would; start it, and wait until it serves
POST /pause /resume  stop its process where it is; let it go on
POST /indeterminate  ``on``: whether it lacks what it needs to decide
POST /certificate    ``profile``: give the client another certificate and key; answers the certificate's digest
===================  =================================================================================================
"""

from __future__ import annotations

import base64
import json
import os
import signal
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from recognition.v1 import issuance_pb2, verification_pb2

from gateway.config import MAX_RATE
from gateway.config.reader import load_config
from gateway.config.writer import render_config
from gateway.core.credential import ASSERTION_TYPE
from gateway.core.encoding import b64url_encode, sha256_b64url
from gateway.core.entries import read
from gateway.core.jose import generate_key, parse_compact, sign_compact
from gateway.core.key_binding import make_key_binding
from gateway.core.sd_jwt import HashAlgorithm, digest
from gateway.lab.callers import Wallet, read_profile
from gateway.lab.cast import COURT, HUKOU, MARKET, RESIDENTS, XU
from gateway.lab.charter import COURT_FILING, ENTERPRISE_CHANGE, HUKOU_MIGRATION, entity_ids
from gateway.lab.refusals import other_name, other_signature, signed_anew
from gateway.lab.stage import Stage
from gateway.tls import issue_certificate
from tests.e2e.lab import AH, JS, SH, ZJ, RealFederation

MAX_BODY: Final = 16 * 1024 * 1024
MAX_ASSERTIONS: Final = 50_000
SMALL_RATE: Final = 2
TOO_OLD: Final = timedelta(minutes=16)
"""A household counter trusts a status list for a quarter of an hour."""
PROFILES: Final = {
    "hukou": (HUKOU, HUKOU_MIGRATION),
    "court": (COURT, COURT_FILING),
    "small": (MARKET, ENTERPRISE_CHANGE),
}
"""Roles in Anhui, and a matter of each."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a holder answers."""

    nonce: str
    audience: str


class Federation(RealFederation):
    """A lab in which Anhui's callers have the quotas that tests of clients need."""

    def _configure(self, **options: Any) -> None:
        super()._configure(**options)
        config = load_config(self.folder.config(AH))
        services = [
            replace(each, rate=SMALL_RATE if each.identity.endswith(f"/{MARKET}") else MAX_RATE)
            for each in config.relying_services
        ]
        config.file.write_text(render_config(replace(config, relying_services=tuple(services))), "utf-8")


class Controls:
    """What tests can do."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation
        self._lab = federation.lab
        self._folder = federation.folder
        self._stage = Stage(federation.lab)
        self._cannot_decide = False
        self._revoked = cache(self._revoke)
        self._weak = cache(lambda: self._stage.issue(SH, XU, acr="urn:yrd:loa:2"))
        self._pattern = cache(self._issue_assertion)

    # -- to look at ----------------------------------------------------------------------------------------------------

    def profiles(self) -> Mapping[str, str]:
        return {name: str(self._folder.profile(AH, role)) for name, (role, _) in PROFILES.items()}

    def matters(self) -> Mapping[str, str]:
        return {name: matter for name, (_, matter) in PROFILES.items()}

    def kinds(self) -> list[Mapping[str, str]]:
        return [{"kind": kind, "reason": reason} for kind, (reason, _) in self._kinds().items()]

    def holder(self) -> Mapping[str, Any]:
        wallet = self._stage.wallet(SH)
        private = load_pem_private_key(wallet.key.to_pkcs8(), None)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        secret = private.private_numbers().private_value.to_bytes(32, "big")
        public = {name: wallet.key.public.jwk[name] for name in ("kty", "crv", "x", "y")}
        return {"credential": wallet.credential, "holder_key": {**public, "d": b64url_encode(secret)}}

    def caller(self, verification_id: str) -> Mapping[str, str]:
        (raw,) = self._log("entry_id = ?", verification_id)
        body = read(raw).body
        return {"certificate_sha256": body["caller_certificate"], "request_id": body.get("request_id", "")}

    def entries(self, request_id: str) -> list[str]:
        found = map(read, self._log("kind = 'verification'"))
        return [each.entry_id for each in found if each.body.get("request_id") == request_id]

    def evidence_charter(self) -> Mapping[str, str]:
        charter = load_config(self._folder.config(AH)).charter
        return {"charter": str(charter.file), "sha256": charter.sha256}

    def _log(self, condition: str, *values: str) -> list[bytes]:
        database = load_config(self._folder.config(AH)).database
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
            rows = db.execute(f"SELECT entry FROM entries WHERE {condition} ORDER BY number", values)
            return [bytes(row[0]) for row in rows]

    # -- presentations -------------------------------------------------------------------------------------------------

    def present(self, nonce: str, audience: str, kind: str = "") -> Mapping[str, str]:
        challenge = Challenge(nonce, audience)
        if not kind:
            return {"presentation": self._bound(challenge), "reason": ""}
        reason, make = self._kinds()[kind]
        return {"presentation": make(challenge), "reason": reason}

    def presentations(self, challenges: list[Mapping[str, str]]) -> Mapping[str, list[str]]:
        return {"presentations": [self._bound(Challenge(**each)) for each in challenges]}

    def assertions(self, audience: str, count: int) -> Mapping[str, list[str]]:
        assert 0 < count <= MAX_ASSERTIONS
        signer = self._lab.signer(ZJ, "issuer-credential")
        now = int(self._lab.now().timestamp())
        claims = {**self._pattern(), "aud": audience, "iat": now, "auth_time": now, "exp": now + 300}
        names = (b64url_encode(self._folder.world().random_bytes(16)) for _ in range(count))
        return {"assertions": [sign_compact(ASSERTION_TYPE, {**claims, "jti": name}, signer) for name in names]}

    def _issue_assertion(self) -> Mapping[str, Any]:
        audience = f"{entity_ids(AH).gateway}/services/{COURT}"
        token = self._stage.identity(ZJ).assertion(RESIDENTS[ZJ], audience)
        return parse_compact(token, max_chars=len(token)).unverified_claims()

    def _bound(self, challenge: Challenge, wallet: Wallet | None = None, sd_jwt: str = "", **options: Any) -> str:
        wallet = wallet or self._stage.wallet(SH)
        answered = verification_pb2.CreateChallengeResponse(nonce=challenge.nonce, audience=challenge.audience)
        return wallet.bind(sd_jwt or wallet.credential, answered, **options)

    def _kinds(self) -> Mapping[str, tuple[str, Callable[[Challenge], str]]]:
        wallet = self._stage.wallet(SH)
        whole = wallet.credential
        forged = partial(signed_anew, whole)

        def withheld(challenge: Challenge) -> str:
            answered = verification_pb2.CreateChallengeResponse(nonce=challenge.nonce, audience=challenge.audience)
            return wallet.present(answered, withhold=frozenset({"hukou_region"}))

        def replayed(challenge: Challenge) -> str:
            presentation = self._bound(challenge)
            first = self._stage.service(AH).verify(HUKOU_MIGRATION, presentation, challenge.nonce)
            assert first.verdict == "accepted", first
            return presentation

        def of_yesterday(challenge: Challenge) -> str:
            return whole + make_key_binding(
                digest(whole, HashAlgorithm.SHA_256),
                signer=wallet.key,
                audience=challenge.audience,
                nonce=challenge.nonce,
                issued_at=self._lab.now() - timedelta(days=1),
            )

        return {
            "unreadable": ("MALFORMED", lambda challenge: f"not~a~credential~{challenge.nonce}"),
            "tampered-signature": ("SIGNATURE_INVALID", partial(self._bound, sd_jwt=other_signature(whole))),
            "tampered-disclosure": ("DISCLOSURE_INVALID", partial(self._bound, sd_jwt=other_name(whole))),
            "key-binding-stripped": ("KEY_BINDING_MISSING", lambda _: whole),
            "stolen-credential": ("KEY_BINDING_INVALID", lambda each: self._bound(each, key=generate_key())),
            "bound-yesterday": ("KEY_BINDING_INVALID", of_yesterday),
            "made-for-another": (
                "AUDIENCE_MISMATCH",
                lambda each: self._bound(Challenge(each.nonce, f"{entity_ids(ZJ).gateway}/services/{HUKOU}")),
            ),
            "answers-another-challenge": (
                "NONCE_MISMATCH",
                lambda each: self._bound(
                    Challenge(self._stage.service(AH).challenge(HUKOU_MIGRATION).nonce, each.audience)
                ),
            ),
            "replayed": ("REPLAYED", replayed),
            "claim-withheld": ("REQUIRED_CLAIM_MISSING", withheld),
            "assurance-too-low": ("ASSURANCE_TOO_LOW", lambda each: self._bound(each, self._weak())),
            "revoked": ("CREDENTIAL_REVOKED", lambda each: self._bound(each, self._revoked())),
            "forged-by-a-province": (
                "KEY_UNKNOWN",
                lambda each: self._bound(
                    each, sd_jwt=forged(entity_ids(SH).issuer, self._lab.signer(JS, "issuer-credential"))
                ),
            ),
            "self-made-issuer": (
                "ISSUER_UNKNOWN",
                lambda each: self._bound(each, sd_jwt=forged("https://issuer.nowhere.example", generate_key())),
            ),
        }

    def _revoke(self) -> Wallet:
        wallet = self._stage.issue(SH)
        self._stage.set_status(SH, wallet, issuance_pb2.CREDENTIAL_STATUS_REVOKED)
        assert self._stage.present_until(AH, wallet, "CREDENTIAL_REVOKED").reason == "CREDENTIAL_REVOKED"
        return wallet

    # -- to disturb ----------------------------------------------------------------------------------------------------

    def kill(self) -> None:
        self._lab.kill(AH)

    def start(self) -> None:
        self._federation.start([AH])

    def pause(self) -> None:
        os.kill(self._lab.pids[AH], signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self._lab.pids[AH], signal.SIGCONT)

    def indeterminate(self, *, on: bool) -> None:
        """Let the status lists grow older than a counter trusts them, with all who could give newer ones away."""
        if on == self._cannot_decide:
            return
        self._stage.wallet(SH)
        if on:
            for province in (SH, JS, ZJ):
                self._lab.kill(province)
            self._folder.set_offset(self._folder.offset + round(TOO_OLD.total_seconds()))
        else:
            # With one anchor left nobody attested the time that was shown: it can be put back.
            self._folder.set_offset(self._folder.offset - round(TOO_OLD.total_seconds()))
            self._federation.start()
        self._cannot_decide = on

    def certificate(self, profile: str) -> Mapping[str, str]:
        """Put another certificate and its key in the place of a client's, each in one step."""
        role, _ = PROFILES[profile]
        files = read_profile(self._folder.profile(AH, role))
        tls = self._folder.province(AH) / "tls"
        made = issue_certificate(
            (tls / "ca.pem").read_bytes(),
            (tls / "ca.key").read_bytes(),
            identity_uri=f"{entity_ids(AH).gateway}/services/{role}",
            dns_names=(),
            ip_addresses=(),
            server=False,
            client=True,
            now=self._lab.now(),
            lifetime=timedelta(days=30),
        )
        for file, content in zip((files.certificate, files.private_key), made, strict=True):
            draft = file.with_suffix(".new")
            draft.write_bytes(content)
            draft.chmod(0o600)
            draft.replace(file)
        encoded = "".join(made[0].decode("ascii").splitlines()[1:-1])
        return {"sha256": sha256_b64url(base64.b64decode(encoded))}


class Handler(BaseHTTPRequestHandler):
    """Answers requests, one after another."""

    controls: Controls
    lock = threading.Lock()

    def do_GET(self) -> None:
        self._answer(dict(parse_qsl(urlsplit(self.path).query)))

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        assert length <= MAX_BODY
        self._answer(json.loads(self.rfile.read(length) or b"{}"))

    def _answer(self, options: dict[str, Any]) -> None:
        name = urlsplit(self.path).path.strip("/").replace("-", "_")
        try:
            with self.lock:
                answer, status = getattr(self.controls, "" if name.startswith("_") else name)(**options) or {}, 200
        except Exception as error:  # noqa: BLE001 - whoever asked is told
            answer, status = {"error": f"{type(error).__name__}: {error}"}, 500
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@contextmanager
def stage(folder: Path) -> Iterator[str]:
    """Bring a federation up; gives where its controls are."""
    with Federation(folder) as federation:
        federation.settle()
        handler = type("_Handler", (Handler,), {"controls": Controls(federation)})
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            server.daemon_threads = True
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}"
            finally:
                server.shutdown()
                thread.join()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="mrg-stage-") as folder, stage(Path(folder) / "lab") as control:
        sys.stdout.write(json.dumps({"control": control}) + "\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
