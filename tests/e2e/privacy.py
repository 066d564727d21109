"""A person who comes to every counter there is, and everything that can be heard of them afterwards.

Their data goes into every field of every request that takes any, well-formed and not, for every answer that can be
brought about. What came back, but for what was meant for the caller, is kept to be searched.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from recognition.v1 import (
    federation_pb2,
    issuance_pb2,
    issuance_pb2_grpc,
    reason_pb2,
    verification_pb2,
    verification_pb2_grpc,
)

from gateway import wire
from gateway.core.credential import CREDENTIAL_TYPE
from gateway.core.encoding import b64url_decode, b64url_encode, parse_json, parse_json_object, write_json
from gateway.core.identifiers import Province
from gateway.core.jose import Signer, SoftwareKey, generate_key
from gateway.core.key_binding import make_key_binding
from gateway.core.sd_jwt import HashAlgorithm, digest, select_disclosures
from gateway.lab.agreement import (
    COURT_FILING,
    HUKOU_CERTIFICATE,
    HUKOU_MIGRATION,
    LICENCE_DISPLAY,
    NEWBORN_REGISTRATION,
    RESIDENT_ID,
)
from gateway.lab.cast import COURT, HUKOU, IDENTITY, identity
from gateway.lab.charter import entity_ids
from tests.e2e.canaries import Canaries
from tests.e2e.lab import RealFederation
from tests.e2e.links import wait_for

SH, _, _, AH = Province
CALL_SECONDS: Final = 10.0
ID_NUMBER: Final = "310101190007137777"  # synthetic: birth year 1900
OTHER_ID_NUMBER: Final = "340104190007137798"
NAME: Final = "金丝雀姓名"
UNKNOWN_REFERENCE: Final = "CanaryReference-000000"
_REASON_PREFIX: Final = "REASON_"


@dataclass(slots=True)
class Heard:
    """What came back, by what was asked."""

    outputs: list[tuple[str, bytes]] = field(default_factory=list)
    reasons: set[str] = field(default_factory=set)
    codes: set[str] = field(default_factory=set)

    def note(self, what: str, content: bytes | str) -> None:
        self.outputs.append((what, content.encode() if isinstance(content, str) else content))

    def ask(self, method: Callable[..., Any], request: Message, what: str = "", **call: Any) -> Any:
        """Call; give the answer, or None where there was an error, all of which is kept."""
        what = what or type(request).__name__
        try:
            return method(request, timeout=CALL_SECONDS, wait_for_ready=True, **call)
        except grpc.RpcError as error:
            self._keep(what, error)
            return None

    def _keep(self, what: str, error: Exception) -> None:
        assert isinstance(error, grpc.Call)
        self.codes.add(error.code().name)
        self.note(what, error.details() or "")
        self.note(what, repr(error))
        for key, value in error.trailing_metadata() or ():
            self.note(f"{what}: {key}", value)


@dataclass(frozen=True, slots=True)
class Wallet:
    """A credential and its holder's key."""

    key: SoftwareKey
    credential: str
    credential_id: str


class Person:
    """Somebody whose data is unmistakable, and whoever acts for them."""

    def __init__(self, federation: RealFederation, canaries: Canaries) -> None:
        plant = canaries.plant
        self._federation = federation
        self._canaries = canaries
        self.heard = Heard()
        self.accepted: list[verification_pb2.Acceptance] = []
        self.claims = {
            "name": plant("name", NAME),
            "id_type": "resident_id",
            "id_number": plant("ID number", ID_NUMBER),
            "hukou_region": "310101",
            "birthdate": plant("birth date", "1900-07-13"),
            "address": plant("address", "金丝雀路七百七十七弄某号"),
            "phone_number": plant("phone number", "+8619907137777"),
            "ethnicity": plant("ethnicity", "金丝雀民族"),
            "id_valid_to": plant("end of the document", "2077-07-13"),
        }
        self.local_subject = plant("local subject", "register-canary-000777")
        self._actor = issuance_pb2.IssuedActor(
            local_subject=plant("actor's local subject", "register-canary-lawyer-0778"),
            relationship="lawyer",
            scope=[COURT_FILING],
            claims=wire.struct({"name": plant("actor's name", "金丝雀律师")}),
        )
        self.other_id_number = plant("compared ID number", OTHER_ID_NUMBER)
        identity_system = federation.client(SH, IDENTITY)
        self.issuance = issuance_pb2_grpc.IssuanceServiceStub(identity_system)

    # -- what the identity system does ---------------------------------------------------------------------------------

    def authentication(self, acr: str = "urn:yrd:loa:4") -> issuance_pb2.Authentication:
        now = wire.timestamp(self._federation.now)
        return issuance_pb2.Authentication(acr=acr, amr=["face", "hwk"], authentication_time=now)

    def request(self, key: SoftwareKey, **changes: Any) -> issuance_pb2.IssueCredentialRequest:
        """A request for a credential, as it should be but for the changes."""
        members = {
            "local_subject": self.local_subject,
            "credential_type": RESIDENT_ID,
            "claims": wire.struct(self.claims),
            "holder_jwk": write_json(key.public.jwk).decode(),
            "authentication": self.authentication(),
            **changes,
        }
        return issuance_pb2.IssueCredentialRequest(**members)

    def issue(self, **changes: Any) -> Wallet:
        """Have a credential issued, and look for all that tells it from others from now on."""
        key = generate_key()
        issued = self.issuance.IssueCredential(self.request(key, **changes), timeout=CALL_SECONDS)
        wallet = Wallet(key, issued.credential, issued.credential_id)
        plant = self._canaries.plant
        for part in ("x", "y"):
            plant(f"holder's key, {part}", str(key.public.jwk[part]))
        plant("holder's key, thumbprint", key.public.thumbprint)
        self._plant_token("credential", wallet.credential)
        for disclosure in filter(None, wallet.credential.split("~")[1:]):
            plant("disclosure", disclosure)
            plant("salt", parse_json(b64url_decode(disclosure))[0])
        return wallet

    def assertion(self, **changes: Any) -> str:
        """Have an assertion issued for the court's window in Anhui."""
        members = {
            "local_subject": self.local_subject,
            "audience": identity(AH, COURT),
            "claims": wire.struct(self.claims),
            "authentication": self.authentication("urn:yrd:loa:3"),
            "actor": self._actor,
            **changes,
        }
        request = issuance_pb2.IssueAssertionRequest(**members)
        token: str = self.issuance.IssueAssertion(request, timeout=CALL_SECONDS).assertion
        self._plant_token("assertion", token)
        self._canaries.plant("jti", _payload(token)["jti"])
        return token

    def _plant_token(self, what: str, token: str) -> None:
        header, payload, signature = token.partition("~")[0].split(".")
        self._canaries.plant(f"{what}, its claims", payload)
        self._canaries.plant(f"{what}, its signature", signature)
        self._canaries.plant(f"{what}, its start", f"{header}.{payload[:8]}")
        claims = _payload(token)
        self._canaries.plant(f"{what}, sub", claims["sub"])
        if "act" in claims:
            self._canaries.plant(f"{what}, act.sub", claims["act"]["sub"])

    # -- what a window does --------------------------------------------------------------------------------------------

    def window(self, name: str = HUKOU) -> verification_pb2_grpc.VerificationServiceStub:
        return verification_pb2_grpc.VerificationServiceStub(self._federation.client(AH, name))

    def challenge(self, matter: str = HUKOU_MIGRATION, at: str = HUKOU) -> verification_pb2.CreateChallengeResponse:
        request = verification_pb2.CreateChallengeRequest(matter=matter)
        made = self.window(at).CreateChallenge(request, timeout=CALL_SECONDS)
        self._canaries.plant("nonce", made.nonce)
        return made

    def bind(
        self,
        wallet: Wallet,
        challenge: verification_pb2.CreateChallengeResponse,
        *,
        sd_jwt: str | None = None,
        key: SoftwareKey | None = None,
        nonce: str = "",
        audience: str = "",
    ) -> str:
        """Prove possession over what is presented."""
        text = wallet.credential if sd_jwt is None else sd_jwt
        proof = make_key_binding(
            digest(text, HashAlgorithm.SHA_256),
            signer=key or wallet.key,
            audience=audience or challenge.audience,
            nonce=nonce or challenge.nonce,
            issued_at=self._federation.now,
        )
        self._canaries.plant("holder's proof", proof.rpartition(".")[2])
        return text + proof

    def verify(
        self, presentation: str, nonce: str = "", *, matter: str = HUKOU_MIGRATION, at: str = HUKOU, **members: Any
    ) -> verification_pb2.VerifyCredentialResponse:
        """Ask for the verdict. What an acceptance hands over is for the caller; all else is kept."""
        request = verification_pb2.VerifyCredentialRequest(
            matter=matter, presentation=presentation, nonce=nonce, **members
        )
        answer: verification_pb2.VerifyCredentialResponse = self.window(at).VerifyCredential(
            request, timeout=CALL_SECONDS
        )
        kept = verification_pb2.VerifyCredentialResponse()
        kept.CopyFrom(answer)
        if answer.WhichOneof("verdict") == "accepted":
            self.accepted.append(answer.accepted)
            self._canaries.plant("subject given out", answer.accepted.subject)
            if answer.accepted.HasField("actor"):
                self._canaries.plant("actor given out", answer.accepted.actor.subject)
            kept.accepted.ClearField("subject")
            kept.accepted.ClearField("attributes")
            kept.accepted.ClearField("actor")
        else:
            self.heard.reasons.add(reason_of(answer))
        self.heard.note(f"verdict for {matter}", kept.SerializeToString())
        explained = self.window(at).ExplainVerification(
            verification_pb2.ExplainVerificationRequest(verification_id=answer.verification_id), timeout=CALL_SECONDS
        )
        self.heard.note(f"explanation for {matter}", explained.SerializeToString())
        return answer

    def show(self, wallet: Wallet, matter: str = HUKOU_MIGRATION, **members: Any) -> str:
        """Come to the household counter; gives the verdict."""
        made = self.challenge(matter)
        return reason_of(self.verify(self.bind(wallet, made), made.nonce, matter=matter, **members))

    # -- all of it -----------------------------------------------------------------------------------------------------

    def come(self) -> None:
        """Bring about every answer."""
        wallet = self.issue()
        self._be_accepted(wallet)
        self._be_rejected(wallet)
        self._forge(wallet)
        self._change_status()
        self._ask_badly(wallet)
        self._have_issued_badly()
        self._ask_others()

    def _be_accepted(self, wallet: Wallet) -> None:
        for matter in (HUKOU_MIGRATION, HUKOU_CERTIFICATE, LICENCE_DISPLAY):
            assert self.show(wallet, matter, request_id="request-1") == "ACCEPTED"
        token = self.assertion()
        assert reason_of(self.verify(token, matter=COURT_FILING, at=COURT)) == "ACCEPTED"
        assert reason_of(self.verify(token, matter=COURT_FILING, at=COURT)) == "REPLAYED"
        consent = self.window().RecordConsent(
            verification_pb2.RecordConsentRequest(
                matter=NEWBORN_REGISTRATION,
                claims=["name", "id_type", "id_number", "ethnicity"],
                lifetime=wire.duration(timedelta(days=1)),
            ),
            timeout=CALL_SECONDS,
        )
        matches = verification_pb2.ClaimMatch(claim="ethnicity", value=self.claims["ethnicity"])
        questions = [verification_pb2.Predicate(claim_matches=matches)]
        asked = {"consent_id": consent.consent_id, "predicates": questions}
        assert self.show(wallet, NEWBORN_REGISTRATION, **asked) == "ACCEPTED"
        another = self.issue(local_subject=self._canaries.plant("another's local subject", "register-canary-000779"))
        assert self.show(another, NEWBORN_REGISTRATION, **asked) == "CONSENT_INVALID"
        withdrawal = verification_pb2.WithdrawConsentRequest(consent_id=consent.consent_id)
        self.window().WithdrawConsent(withdrawal, timeout=CALL_SECONDS)
        assert self.show(wallet, NEWBORN_REGISTRATION, **asked) == "CONSENT_WITHDRAWN"
        compared = verification_pb2.ClaimMatch(claim="id_number", value=self.other_id_number)
        assert (
            self.show(wallet, HUKOU_CERTIFICATE, predicates=[verification_pb2.Predicate(claim_matches=compared)])
            == "ACCEPTED"
        )

    def _be_rejected(self, wallet: Wallet) -> None:
        made = self.challenge()
        presentation = self.bind(wallet, made)
        for verdict in ("ACCEPTED", "REPLAYED"):
            assert reason_of(self.verify(presentation, made.nonce)) == verdict
        assert self.show(self.issue(authentication=self.authentication("urn:yrd:loa:2"))) == "ASSURANCE_TOO_LOW"
        withheld = select_disclosures(wallet.credential, lambda path: path[-1] != "hukou_region")
        made = self.challenge()
        assert reason_of(self.verify(self.bind(wallet, made, sd_jwt=withheld), made.nonce)) == "REQUIRED_CLAIM_MISSING"
        made = self.challenge()
        stolen = self.bind(wallet, made, key=generate_key())
        assert reason_of(self.verify(stolen, made.nonce)) == "KEY_BINDING_INVALID"
        assert reason_of(self.verify(wallet.credential, made.nonce)) == "KEY_BINDING_MISSING"
        foreign = self._canaries.plant("audience", "https://canary.audience.example/services/x")
        assert reason_of(self.verify(self.bind(wallet, made, audience=foreign), made.nonce)) == "AUDIENCE_MISMATCH"
        nonce = self._canaries.plant("made-up nonce", "canary-nonce-of-nobody-at-all")
        assert reason_of(self.verify(self.bind(wallet, made, nonce=nonce), nonce)) == "NONCE_MISMATCH"

    def _forge(self, wallet: Wallet) -> None:
        issuer_jwt, tilde, disclosures = wallet.credential.partition("~")
        claims = _payload(issuer_jwt)
        plant = self._canaries.plant

        def shown(sd_jwt: str) -> str:
            made = self.challenge()
            return reason_of(self.verify(self.bind(wallet, made, sd_jwt=sd_jwt), made.nonce))

        def signed(claims: Mapping[str, Any], signer: Signer, **header: Any) -> str:
            members = {"alg": "ES256", "typ": CREDENTIAL_TYPE, "kid": signer.public.kid, **header}
            return f"{_sign(members, claims, signer)}{tilde}{disclosures}"

        ours, theirs = generate_key(), self._federation.lab.signer(SH, "issuer-credential")
        unknown_kid = plant("made-up kid", "canary-kid-canary-kid-canary-kid")
        assert shown(signed(claims, ours, kid=unknown_kid)) == "KEY_UNKNOWN"
        assert shown(signed(claims, ours, kid=plant("ID number as kid", "340104190007137771"))) == "KEY_UNKNOWN"
        nowhere = plant("made-up issuer", "https://canary.issuer.example")
        assert shown(signed({**claims, "iss": nowhere}, ours)) == "ISSUER_UNKNOWN"
        named = plant("issuer named after a person", "https://canary.example/310101190007137785")
        assert shown(signed({**claims, "iss": named}, ours)) == "ISSUER_UNKNOWN"
        assert shown(signed(claims, ours, kid=theirs.public.kid)) == "SIGNATURE_INVALID"
        assert shown(signed(claims, ours, typ=plant("made-up typ", "canary-typ-of-nobody+jwt"))) != "ACCEPTED"
        shown(signed(claims, ours, alg=plant("made-up alg", "CANARY-ALG-256")))
        shown(signed(claims, ours, crit=[plant("made-up crit", "canary-critical")]))
        # By the issuer's own key: what an issuer that is out of its mind could say.
        for name, value in (
            ("vct", "urn:canary:credential:1"),
            ("acr", "urn:canary:level:nowhere"),
            ("sub", NAME),
            ("sub", ID_NUMBER),
            ("sub_type", "canary-subject-type"),
            ("status", {"status_list": {"idx": 1, "uri": "https://canary.status.example/list"}}),
            ("status", "canary-status-of-a-person"),
            ("exp", "canary-exp-of-a-person"),
            ("cnf", {"canary-confirmation": ID_NUMBER}),
            ("amr", ["canary-method-of-a-person"]),
            ("verified_claims", {"verification": {"trust_framework": "canary-framework"}, "claims": {}}),
            ("_sd_alg", "canary-hash-algorithm"),
            ("canary_extra_claim", "canary-extra-claim-value"),
        ):
            if isinstance(value, str) and value not in (NAME, ID_NUMBER):
                plant(f"made-up {name}", value)
            shown(signed({**claims, name: value}, theirs))
        tampered = b64url_encode(write_json(["c2FsdHNhbHRzYWx0c2FsdA", "name", plant("tampered name", "金丝雀假名字")]))
        assert shown(f"{wallet.credential}{tampered}~") == "DISCLOSURE_INVALID"
        for malformed in (
            plant("no token at all", "canary-no-token-at-all"),
            f"{NAME}.{ID_NUMBER}.{NAME}",
            f"{issuer_jwt}.{ID_NUMBER}",
            f"{wallet.credential}{NAME}~",
            b64url_encode(write_json({"name": NAME})),
            json.dumps(self.claims),
            f"{issuer_jwt[:-4]}{NAME}",
            ID_NUMBER * 10_000,
        ):
            assert reason_of(self.verify(malformed)) != "ACCEPTED"

    def _change_status(self) -> None:
        wallet = self.issue()
        targets = [issuance_pb2.CredentialTarget(credential_id=wallet.credential_id)]
        request = issuance_pb2.SetCredentialStatusRequest(
            targets=targets, status=issuance_pb2.CREDENTIAL_STATUS_SUSPENDED
        )
        self.heard.note("status", self.issuance.SetCredentialStatus(request, timeout=CALL_SECONDS).SerializeToString())
        wait_for(lambda: self.show(wallet) == "CREDENTIAL_SUSPENDED", within=10, what="the suspension")
        whose = issuance_pb2.CredentialTarget(local_subject=self.local_subject)
        found = self.issuance.GetCredentialStatus(
            issuance_pb2.GetCredentialStatusRequest(target=whose), timeout=CALL_SECONDS
        )
        assert found.credentials
        self.heard.note("status", found.SerializeToString())
        request = issuance_pb2.SetCredentialStatusRequest(
            targets=[whose], status=issuance_pb2.CREDENTIAL_STATUS_REVOKED
        )
        self.heard.note("status", self.issuance.SetCredentialStatus(request, timeout=CALL_SECONDS).SerializeToString())
        wait_for(lambda: self.show(wallet) == "CREDENTIAL_REVOKED", within=10, what="the revocation")

    def _ask_badly_for_many(self, requests: Sequence[verification_pb2.VerifyCredentialRequest]) -> None:
        window = self.window()
        batch = verification_pb2.BatchVerifyCredentialsRequest(items=requests)
        answer = window.BatchVerifyCredentials(batch, timeout=CALL_SECONDS)
        assert [each.WhichOneof("result") for each in answer.results] == ["error"] * len(requests)
        self.heard.note("a batch", answer.SerializeToString())
        items = [verification_pb2.StreamItem(item_id=str(number), request=each) for number, each in enumerate(requests)]
        for last in (ID_NUMBER, NAME):  # which ends the stream
            sent = [*items, verification_pb2.StreamItem(item_id=last, request=requests[0])]
            call = window.StreamVerifyCredentials(
                iter([verification_pb2.StreamVerifyCredentialsRequest(items=sent)]), timeout=CALL_SECONDS
            )
            answers = next(call)
            assert [each.WhichOneof("result") for each in answers.results] == ["error"] * len(requests)
            self.heard.note("a stream", answers.SerializeToString())
            assert self._is_ended(call)

    def _ask_badly(self, wallet: Wallet) -> None:
        window = self.window()
        presentation = wallet.credential
        good = {"matter": HUKOU_MIGRATION, "presentation": presentation, "nonce": "n"}
        number = verification_pb2.ClaimMatch

        def predicate(**members: Any) -> Mapping[str, Any]:
            return {"predicates": [verification_pb2.Predicate(**members)]}

        all_bad: tuple[Mapping[str, Any], ...] = (
            {"matter": NAME},
            {"matter": ID_NUMBER},
            {"presentation": ""},
            {"nonce": NAME},
            {"nonce": ID_NUMBER * 20},
            {"request_id": ID_NUMBER},
            {"request_id": f"request.{ID_NUMBER}.1"},
            {"request_id": NAME},
            {"consent_id": ID_NUMBER},
            {"consent_id": NAME},
            predicate(claim_matches=number(claim=NAME, value=NAME)),
            predicate(claim_matches=number(claim="id_number", value=ID_NUMBER * 1_000)),
            predicate(claim_matches=number(claim="id_number", value="")),
            predicate(household_in=verification_pb2.HouseholdIn(provinces=[NAME])),
            predicate(age_at_least=10_000),
            predicate(),
        )
        requests = [verification_pb2.VerifyCredentialRequest(**{**good, **bad}) for bad in all_bad]
        for request in requests:
            assert self._refused(window.VerifyCredential, request), request
        self._ask_badly_for_many(requests)
        # Well-formed, and not permitted.
        assert self._refused(
            window.VerifyCredential,
            verification_pb2.VerifyCredentialRequest(
                **{**good, **predicate(claim_matches=number(claim="name", value=NAME))}
            ),
        )
        for matter in (NAME, ID_NUMBER, "CANARY-MATTER"):
            assert self._refused(window.CreateChallenge, verification_pb2.CreateChallengeRequest(matter=matter))
        for reference in (ID_NUMBER, NAME, self._canaries.plant("made-up reference", UNKNOWN_REFERENCE)):
            assert self._refused(
                window.ExplainVerification, verification_pb2.ExplainVerificationRequest(verification_id=reference)
            )
            assert self._refused(window.WithdrawConsent, verification_pb2.WithdrawConsentRequest(consent_id=reference))
        day = wire.duration(timedelta(days=1))
        for consent in (
            {"matter": NAME},
            {"claims": [NAME]},
            {"claims": [ID_NUMBER]},
            {"claims": ["canary_claim_name"]},
        ):
            members: dict[str, Any] = {"matter": NEWBORN_REGISTRATION, "claims": ["name"], "lifetime": day, **consent}
            assert self._refused(window.RecordConsent, verification_pb2.RecordConsentRequest(**members))
        self._canaries.plant("made-up claim", "canary_claim_name")

    def _have_issued_badly(self) -> None:
        key = generate_key()
        claims = self.claims
        private = {**key.public.jwk, "d": self._canaries.plant("private key", b64url_encode(b"canary" * 5 + b"77"))}
        for bad in (
            {"local_subject": ""},
            {"local_subject": self.local_subject * 100},
            {"credential_type": NAME},
            {"claims": wire.struct({**claims, "_sd": [ID_NUMBER]})},
            {"claims": wire.struct({**claims, "id_number": f"{ID_NUMBER[:-1]}X"})},
            {"claims": wire.struct({**claims, "hukou_region": NAME})},
            {"claims": wire.struct({**claims, "id_type": NAME})},
            {"claims": wire.struct({f"{NAME}{i}": ID_NUMBER for i in range(100)})},
            {"claims": wire.struct({"name": NAME * 20_000})},
            {"holder_jwk": NAME},
            {"holder_jwk": json.dumps({"kty": NAME})},
            {"holder_jwk": json.dumps(private)},
            {"holder_jwk": json.dumps({**key.public.jwk, "x": ID_NUMBER})},
            {"authentication": self.authentication(NAME)},
            {"authentication": self.authentication("urn:canary:level:nowhere")},
            {"authentication": issuance_pb2.Authentication(acr="urn:yrd:loa:4", amr=[NAME])},
            {"authentication": issuance_pb2.Authentication(acr="urn:yrd:loa:4", amr=["face"])},
            {"lifetime": wire.duration(timedelta(days=100_000))},
            {"actor": self._acting(local_subject="")},
            {"actor": self._acting(local_subject=self.local_subject)},
            {"actor": self._acting(relationship=NAME)},
            {"actor": self._acting(scope=[NAME])},
            {"actor": self._acting(claims=wire.struct({NAME: ID_NUMBER, "id_number": NAME}))},
            {"subject_type": verification_pb2.SUBJECT_TYPE_LEGAL},
        ):
            assert self._refused(self.issuance.IssueCredential, self.request(key, **bad)), bad
        for audience in (NAME, f"https://{NAME}.example", f"https://canary.example/{ID_NUMBER}/"):
            request = issuance_pb2.IssueAssertionRequest(
                local_subject=self.local_subject,
                audience=audience,
                claims=wire.struct(claims),
                authentication=self.authentication(),
                confirmation_certificate_sha256=NAME,
            )
            assert self._refused(self.issuance.IssueAssertion, request)
        for target in (
            issuance_pb2.CredentialTarget(credential_id=ID_NUMBER),
            issuance_pb2.CredentialTarget(credential_id=NAME),
            issuance_pb2.CredentialTarget(local_subject=self.local_subject * 100),
            issuance_pb2.CredentialTarget(),
        ):
            changed = issuance_pb2.SetCredentialStatusRequest(
                targets=[target], status=issuance_pb2.CREDENTIAL_STATUS_REVOKED
            )
            assert self._refused(self.issuance.SetCredentialStatus, changed)
            asked = issuance_pb2.GetCredentialStatusRequest(target=target)
            assert self._refused(self.issuance.GetCredentialStatus, asked)
        # Nobody of that name: an answer, and no error.
        nobody = issuance_pb2.CredentialTarget(local_subject=ID_NUMBER)
        unknown = issuance_pb2.SetCredentialStatusRequest(
            targets=[nobody], status=issuance_pb2.CREDENTIAL_STATUS_REVOKED
        )
        answer = self.issuance.SetCredentialStatus(unknown, timeout=CALL_SECONDS)
        self.heard.note("status of nobody", answer.SerializeToString())
        # By somebody who may not.
        not_theirs = issuance_pb2_grpc.IssuanceServiceStub(self._federation.client(AH, HUKOU))
        assert self._refused(not_theirs.IssueCredential, self.request(key))

    def _acting(self, **changes: Any) -> issuance_pb2.IssuedActor:
        members = {
            "local_subject": self._actor.local_subject,
            "relationship": "lawyer",
            "scope": [COURT_FILING],
            "claims": self._actor.claims,
            **changes,
        }
        return issuance_pb2.IssuedActor(**members)

    def _ask_others(self) -> None:
        """Go to listeners that have nothing to do with persons; and say what is no message at all."""
        federation = self._federation.federation(AH)
        for text in (NAME, f"https://canary.example/{ID_NUMBER}"):
            self._refused(
                federation.GetEntityConfiguration, federation_pb2.GetEntityConfigurationRequest(entity_id=text)
            )
            self._refused(
                federation.GetSubordinateStatement,
                federation_pb2.GetSubordinateStatementRequest(issuer=text, subject=text),
            )
            self._refused(federation.GetStatusList, federation_pb2.GetStatusListRequest(uri=text))
            self._refused(federation.AcknowledgeTrust, federation_pb2.AcknowledgeTrustRequest(acknowledgement=text))
        channel = self._federation.client(AH, HUKOU)
        service = "/recognition.v1.VerificationService"
        for method in (f"{service}/VerifyCredential", f"{service}/{b64url_encode(ID_NUMBER.encode())}"):
            raw = channel.unary_unary(method, request_serializer=lambda text: text, response_deserializer=bytes)
            self._refused(raw, f"\xff\xff{NAME}{ID_NUMBER}".encode())  # type: ignore[arg-type]
        health: Any = health_pb2_grpc.HealthStub(channel)  # its stubs have no types
        for name in ("", ID_NUMBER, entity_ids(SH).issuer):
            answer = self.heard.ask(health.Check, health_pb2.HealthCheckRequest(service=name))
            if answer is not None:
                self.heard.note("health", answer.SerializeToString())
        trust = self._federation.trust(AH)
        self.heard.note("trust", trust.SerializeToString())
        with_metadata = verification_pb2.CreateChallengeRequest(matter="CANARY")
        metadata = (("canary", ID_NUMBER), ("canary-bin", NAME.encode()))
        assert self._refused(self.window().CreateChallenge, with_metadata, metadata=metadata)

    def _is_ended(self, call: Any) -> bool:
        return self.heard.ask(lambda _request, **_call: next(call), verification_pb2.StreamItem()) is None

    def _refused(self, method: Callable[..., Any], request: Message, **call: Any) -> bool:
        return self.heard.ask(method, request, **call) is None


def reason_of(answer: verification_pb2.VerifyCredentialResponse) -> str:
    """Give the reason of a verdict; ``ACCEPTED`` where there is none."""
    match answer.WhichOneof("verdict"):
        case "accepted":
            return "ACCEPTED"
        case "rejected":
            return reason_pb2.Reason.Name(answer.rejected.reason).removeprefix(_REASON_PREFIX)
        case _:
            return reason_pb2.Reason.Name(answer.indeterminate.reason).removeprefix(_REASON_PREFIX)


def _payload(token: str) -> dict[str, Any]:
    return parse_json_object(b64url_decode(token.partition("~")[0].split(".")[1]))


def _sign(header: Mapping[str, Any], claims: Mapping[str, Any], signer: Signer) -> str:
    signed = f"{b64url_encode(write_json(header))}.{b64url_encode(write_json(claims))}"
    return f"{signed}.{b64url_encode(signer.sign(signed.encode()))}"


def tables(database: Path) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    """Give the rows of every table of a store."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as opened:
        names = [name for (name,) in opened.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        for name in names:
            assert re.fullmatch(r"\w+", name)
            yield name, list(opened.execute(f"SELECT * FROM {name}"))
