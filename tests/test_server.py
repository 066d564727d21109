"""The gRPC edge, over real mutual TLS on loopback: what a caller can do to it, and what it gets back."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from random import Random  # noqa: TID251 - seeded: every run tries the same bytes
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from recognition.v1 import (
    federation_pb2,
    federation_pb2_grpc,
    issuance_pb2,
    issuance_pb2_grpc,
    reason_pb2,
    verification_pb2,
    verification_pb2_grpc,
)

from gateway.certificates import ChannelMaterial
from gateway.clock import system_world
from gateway.consents import Consents
from gateway.core.acknowledgement import ACKNOWLEDGEMENT_TYPE, make
from gateway.core.encoding import write_json
from gateway.core.identifiers import Province
from gateway.core.jose import generate_key, sign_compact
from gateway.core.quota import Allowance
from gateway.explainer import Explainer
from gateway.guard import CALLS_PER_DOMAIN, STREAMS_PER_DOMAIN
from gateway.lab.charter import HUKOU_MIGRATION, LICENCE_DISPLAY, RESIDENT_ID, entity_ids
from gateway.peers import GrpcPeer, PeerError, TrustOffer
from gateway.server.federation import FederationServicer
from gateway.server.issuance import IssuanceServicer
from gateway.server.listener import FREE, MAX_REQUEST_BYTES, Listener
from gateway.server.verification import ExplanationServicer, VerificationServicer
from gateway.storage import Committed, LedgerEntry
from gateway.tls import CallerReader, create_ca, issue_certificate
from tests.federation import AH, JS, SH, START, XU_ID_NUMBER, ZJ, Federation, payload

VERIFY = "/recognition.v1.VerificationService/VerifyCredential"
GET_TRUST = "/recognition.v1.FederationService/GetTrust"
WATCH_TRUST = "/recognition.v1.FederationService/WatchTrust"
ALLOWED = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}
# TLS lives in the machine's time, the federation in the test's.
WORLD = system_world()
SYSTEM = f"{entity_ids(AH).issuer}/systems/counter"


@pytest.fixture
def federation(restarted: Federation) -> Federation:
    restarted.publish()
    return restarted


@dataclass
class Edge:
    """A listener with all services of Anhui, and the means to call it."""

    listener: Listener
    ca: tuple[bytes, bytes]
    federation: Federation

    def channel(self, identity: str | Sequence[str] | None, *, ca: tuple[bytes, bytes] | None = None) -> grpc.Channel:
        if identity is None:
            credentials = grpc.ssl_channel_credentials(self.ca[0])
        else:
            certificate, key = client_certificate(ca or self.ca, str(identity))
            credentials = grpc.ssl_channel_credentials(self.ca[0], key, certificate)
        return grpc.secure_channel(f"localhost:{self.listener.port}", credentials)

    def service(self) -> grpc.Channel:
        return self.channel(self.federation[AH].service.identity)


def client_certificate(ca: tuple[bytes, bytes], identity: str) -> tuple[bytes, bytes]:
    return issue_certificate(
        *ca,
        identity_uri=identity,
        dns_names=[],
        ip_addresses=[],
        server=False,
        client=True,
        now=WORLD.now() - timedelta(minutes=1),
        lifetime=timedelta(days=1),
    )


@pytest.fixture
def edge(federation: Federation) -> Iterator[Edge]:
    with opened(federation) as made:
        yield made


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """One for all who ask what is refused, and change nothing."""
    federation = Federation(tmp_path_factory.mktemp("standing"))
    with opened(federation) as made:
        yield made
    federation.close()


@contextmanager
def opened(
    federation: Federation,
    *,
    batches: int = 0,
    streams_both_ways: int = 0,
    explaining: bool = False,
    issues: bool = True,
    allowance: Allowance = FREE,
) -> Iterator[Edge]:
    node = federation[AH]
    now = WORLD.now() - timedelta(minutes=1)
    ca = create_ca("Anhui test CA", now)
    certificate, key = issue_certificate(
        *ca,
        identity_uri=node.ids.gateway,
        dns_names=["localhost"],
        ip_addresses=[],
        server=True,
        client=True,
        now=now,
        lifetime=timedelta(days=1),
    )
    callers = CallerReader({ca[0]: (node.ids.gateway, node.ids.issuer)})
    listener = Listener(
        address="localhost:0",
        material=lambda: ChannelMaterial(certificate=certificate, private_key=key, cas=ca[0]),
        callers=callers,
        threads=8,
        max_concurrent_calls=16,
        world=WORLD,
        streams=STREAMS_PER_DOMAIN,
        batches=batches,
        allowance=allowance,
        streams_both_ways=streams_both_ways,
        open_streams=explaining,
    )
    services = {node.service.identity: node.service}
    consents = Consents(
        services=services,
        agreement=lambda: node.resolver.view.charter.agreement,
        store=node.store,
        world=federation.world,
    )
    explainer = Explainer(services=services, administrators=(), log=node.log)
    if explaining:
        listener.add_verification(ExplanationServicer(explainer, callers, WORLD))
    else:
        listener.add_verification(
            VerificationServicer(node.verifier, consents, explainer, callers, WORLD, charge=listener.charge)
        )
    if issues:
        listener.add_issuance(IssuanceServicer(node.issuer, lambda: node.register, [SYSTEM], callers, WORLD))
    own = {node.issuer.entity.entity_id: node.issuer.entity}
    listener.add_federation(FederationServicer(node.resolver, own, callers, WORLD))
    listener.set_health({"": True})
    listener.start()
    yield Edge(listener=listener, ca=ca, federation=federation)
    listener.stop(0)()


def failure(call: Callable[[], object]) -> tuple[grpc.StatusCode, list[Any]]:
    """The status a call fails with, and its details unpacked."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    status = rpc_status.from_call(error)
    details: list[Any] = []
    for packed in status.details if status is not None else ():
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
            if packed.Is(kind.DESCRIPTOR):
                message = kind()
                packed.Unpack(message)
                details.append(message)
    return caught.value.code(), details


def info(details: Sequence[Any]) -> error_details_pb2.ErrorInfo:
    infos = [detail for detail in details if isinstance(detail, error_details_pb2.ErrorInfo)]
    assert len(infos) == 1
    assert infos[0].domain == "recognition.v1"
    return infos[0]


def verify(edge: Edge, presentation: str, nonce: str = "", matter: str = HUKOU_MIGRATION) -> Any:
    with edge.service() as channel:
        stub = verification_pb2_grpc.VerificationServiceStub(channel)
        return stub.VerifyCredential(
            verification_pb2.VerifyCredentialRequest(matter=matter, presentation=presentation, nonce=nonce), timeout=10
        )


# -- verdicts ---------------------------------------------------------------------------------------------------------


def test_an_accepted_credential_travels_whole(edge: Edge) -> None:
    with edge.service() as channel:
        stub = verification_pb2_grpc.VerificationServiceStub(channel)
        challenge = stub.CreateChallenge(verification_pb2.CreateChallengeRequest(matter=HUKOU_MIGRATION), timeout=10)
        presentation = edge.federation.issue().present(
            audience=challenge.audience, nonce=challenge.nonce, issued_at=edge.federation.clock.now
        )
        response = stub.VerifyCredential(
            verification_pb2.VerifyCredentialRequest(
                matter=HUKOU_MIGRATION, presentation=presentation, nonce=challenge.nonce, request_id="case-1"
            ),
            timeout=10,
        )
    assert response.WhichOneof("verdict") == "accepted"
    accepted = response.accepted
    assert accepted.issuing_province == "sh"
    assert dict(accepted.attributes)["id_number"] == XU_ID_NUMBER
    assert accepted.holder_bound
    assert (accepted.assurance.identity, accepted.assurance.acr) == (3, "urn:yrd:loa:4")
    assert response.trust_basis.charter_version == 1
    assert not response.trust_basis.stale
    assert [entry.request_id for entry in edge.federation[AH].decisions()] == ["case-1"]


def test_a_rejection_is_an_answer_and_carries_a_reason_and_nothing_else(edge: Edge) -> None:
    presentation, nonce = edge.federation.present(edge.federation.issue())
    verify(edge, presentation, nonce)
    response = verify(edge, presentation, nonce)
    assert response.WhichOneof("verdict") == "rejected"
    assert response.rejected == verification_pb2.Rejection(reason=reason_pb2.REASON_REPLAYED)


def test_an_indeterminate_verdict_says_when_to_ask_again(edge: Edge) -> None:
    wallet = edge.federation.issue()
    edge.federation.clock.advance(timedelta(hours=3))
    response = verify(edge, *edge.federation.present(wallet))
    assert response.WhichOneof("verdict") == "indeterminate"
    assert response.indeterminate.reason == reason_pb2.REASON_TRUST_STALE
    assert response.indeterminate.retry_after.seconds > 0


def test_an_oversize_presentation_is_a_verdict(edge: Edge) -> None:
    response = verify(edge, "A" * (64 * 1024 + 1))
    assert response.rejected.reason == reason_pb2.REASON_TOO_LARGE


# -- who calls --------------------------------------------------------------------------------------------------------


def challenge_as(edge: Edge, channel: grpc.Channel) -> Callable[[], object]:
    stub = verification_pb2_grpc.VerificationServiceStub(channel)
    return lambda: stub.CreateChallenge(verification_pb2.CreateChallengeRequest(matter=HUKOU_MIGRATION), timeout=10)


def test_without_a_client_certificate_there_is_no_call(edge: Edge) -> None:
    with edge.channel(None) as channel:
        assert failure(challenge_as(edge, channel))[0] is grpc.StatusCode.UNAVAILABLE


def test_a_certificate_of_a_foreign_ca_makes_no_call(edge: Edge) -> None:
    foreign = create_ca("Foreign CA", WORLD.now() - timedelta(minutes=1))
    with edge.channel(edge.federation[AH].service.identity, ca=foreign) as channel:
        assert failure(challenge_as(edge, channel))[0] is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    "identity",
    [
        f"{entity_ids(AH).gateway}/services/stranger",
        f"{entity_ids(SH).gateway}/services/counter",
        f"{entity_ids(AH).gateway}.evil.example/services/counter",
        SYSTEM,
    ],
)
def test_a_caller_that_is_not_registered_is_not_permitted(standing: Edge, identity: str) -> None:
    with standing.channel(identity) as channel:
        code, details = failure(challenge_as(standing, channel))
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert info(details).reason == "NOT_PERMITTED"


def test_a_relying_service_does_not_issue(edge: Edge) -> None:
    with edge.service() as channel:
        stub = issuance_pb2_grpc.IssuanceServiceStub(channel)
        code, _ = failure(lambda: stub.IssueAssertion(issuance_pb2.IssueAssertionRequest(), timeout=10))
    assert code is grpc.StatusCode.PERMISSION_DENIED


# -- case 110: what is not a request ----------------------------------------------------------------------------------


def raw_call(edge: Edge, body: bytes) -> Callable[[], object]:
    def call() -> object:
        with edge.service() as channel:
            method = channel.unary_unary(VERIFY, request_serializer=bytes, response_deserializer=bytes)
            return method(body, timeout=10)

    return call


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"\x12\x04\xff\xfe\xed\xa0", grpc.StatusCode.INVALID_ARGUMENT),
        (b"\xff\xff\xff\xff", grpc.StatusCode.INVALID_ARGUMENT),
        (b"", grpc.StatusCode.INVALID_ARGUMENT),
        (b"\x12\xff\xff\xff\x7f", grpc.StatusCode.INVALID_ARGUMENT),
        (b"\x12\x85\x80\x80\x02" + b"A" * (4 * 1024 * 1024 + 5), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (b"\x12" + b"\x80\x80\x10" + b"A" * MAX_REQUEST_BYTES, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
    ids=["not UTF-8", "not a message", "empty", "length beyond the end", "4 MiB and more", "over our limit"],
)
def test_case_110_a_malformed_message_is_the_callers_error(standing: Edge, body: bytes, code: grpc.StatusCode) -> None:
    assert failure(raw_call(standing, body))[0] is code


def test_random_bytes_never_cause_an_internal_error(edge: Edge) -> None:
    source = Random(20261123)  # noqa: S311 - guards nothing
    with edge.service() as channel:
        method = channel.unary_unary(VERIFY, request_serializer=bytes, response_deserializer=bytes)
        for _ in range(300):
            body = source.randbytes(source.randrange(1, 200))
            with pytest.raises(grpc.RpcError) as caught:
                method(body, timeout=10)
            assert caught.value.code() in ALLOWED


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"matter": ""}, "matter"),
        ({"matter": "x" * 65}, "matter"),
        ({"presentation": ""}, "presentation"),
        ({"nonce": "with space"}, "nonce"),
        ({"nonce": "n" * 201}, "nonce"),
        ({"request_id": "徐"}, "request_id"),
        ({"request_id": "r" * 65}, "request_id"),
        ({"request_id": XU_ID_NUMBER}, "request_id"),
        ({"request_id": f"case-{XU_ID_NUMBER}-1"}, "request_id"),
        ({"request_id": f"{XU_ID_NUMBER[:6]}-{XU_ID_NUMBER[6:14]}-{XU_ID_NUMBER[14:]}"}, "request_id"),
        ({"request_id": "31010119000101002x"}, "request_id"),
        ({"consent_id": "c" * 21}, "consent_id"),
        ({"predicates": [{}]}, "predicates[0]"),
        ({"predicates": [{"age_at_least": 18}] * 9}, "predicates"),
        ({"predicates": [{"age_at_least": 0}]}, "predicates[0].age_at_least"),
        ({"predicates": [{"age_at_least": 151}]}, "predicates[0].age_at_least"),
        ({"predicates": [{"household_in": {}}]}, "predicates[0].household_in.provinces"),
        ({"predicates": [{"household_in": {"provinces": ["gd"]}}]}, "predicates[0].household_in.provinces"),
        ({"predicates": [{"claim_matches": {"claim": "na me", "value": "x"}}]}, "predicates[0].claim_matches.claim"),
        ({"predicates": [{"claim_matches": {"claim": "name", "value": ""}}]}, "predicates[0].claim_matches.value"),
    ],
)
def test_a_field_out_of_form_is_named(standing: Edge, change: dict[str, Any], field: str) -> None:
    fields: dict[str, Any] = {"matter": HUKOU_MIGRATION, "presentation": "x", **change}
    with standing.service() as channel:
        stub = verification_pb2_grpc.VerificationServiceStub(channel)
        code, details = failure(
            lambda: stub.VerifyCredential(verification_pb2.VerifyCredentialRequest(**fields), timeout=10)
        )
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert info(details).reason == "INVALID_REQUEST"
    requests = [detail for detail in details if isinstance(detail, error_details_pb2.BadRequest)]
    assert [violation.field for request in requests for violation in request.field_violations] == [field]


def test_a_caller_that_opens_calls_and_sends_nothing_does_not_keep_others_out(edge: Edge) -> None:
    never = threading.Event()

    def silence() -> Iterator[bytes]:
        never.wait(60)
        yield from ()

    strangers = [edge.channel(f"{entity_ids(AH).gateway}/services/stranger-{number}") for number in range(7)]
    with edge.service() as channel:
        calls = [  # threads: 8, calls at one time: 16
            stranger.stream_unary(VERIFY, request_serializer=bytes, response_deserializer=bytes).future(silence())
            for stranger in strangers * 2
        ]
        stub = verification_pb2_grpc.VerificationServiceStub(channel)
        for _ in range(20):
            stub.CreateChallenge(verification_pb2.CreateChallengeRequest(matter=HUKOU_MIGRATION), timeout=20)
        codes = {call.code() for call in calls}
        never.set()
    for stranger in strangers:
        stranger.close()
    assert codes == {grpc.StatusCode.CANCELLED}


@pytest.fixture
def shared(federation: Federation) -> Iterator[dict[Province, Callable[[], grpc.Channel]]]:
    """Anhui's federation listener, as two other provinces call it."""
    now = WORLD.now() - timedelta(minutes=1)
    cas = {province: create_ca(f"{province} test CA", now) for province in (AH, SH, ZJ)}
    certificate, key = issue_certificate(
        *cas[AH],
        identity_uri=entity_ids(AH).gateway,
        dns_names=["localhost"],
        ip_addresses=[],
        server=True,
        client=True,
        now=now,
        lifetime=timedelta(days=1),
    )
    callers = CallerReader({ca[0]: (entity_ids(province).gateway,) for province, ca in cas.items()})
    together = b"".join(ca[0] for ca in cas.values())
    listener = Listener(
        address="localhost:0",
        material=lambda: ChannelMaterial(certificate=certificate, private_key=key, cas=together),
        callers=callers,
        threads=CALLS_PER_DOMAIN * len(cas) + 2,
        max_concurrent_calls=16,
        world=WORLD,
        calls_per_domain=CALLS_PER_DOMAIN,
        streams=STREAMS_PER_DOMAIN * len(cas),
    )
    listener.add_federation(FederationServicer(federation[AH].resolver, {}, callers, WORLD))
    listener.start()

    def connect(province: Province) -> grpc.Channel:
        made, private_key = client_certificate(cas[province], entity_ids(province).gateway)
        credentials = grpc.ssl_channel_credentials(cas[AH][0], private_key, made)
        return grpc.secure_channel(f"localhost:{listener.port}", credentials)

    yield {province: partial(connect, province) for province in cas}
    listener.stop(0)()


def test_a_province_that_opens_calls_and_sends_nothing_locks_no_other_out(
    shared: dict[Province, Callable[[], grpc.Channel]],
) -> None:
    never = threading.Event()
    opened: deque[Any] = deque()
    codes: Counter[grpc.StatusCode] = Counter()

    def silence() -> Iterator[bytes]:
        never.wait(60)
        yield from ()

    with shared[ZJ]() as hostile, shared[SH]() as honest:
        get_trust = hostile.stream_unary(GET_TRUST, request_serializer=bytes, response_deserializer=bytes)
        watch_trust = hostile.stream_stream(WATCH_TRUST, request_serializer=bytes, response_deserializer=bytes)
        stub = federation_pb2_grpc.FederationServiceStub(honest)
        for _ in range(20):  # more than there are threads, and more than are taken at one time; always anew
            opened.extend(get_trust.future(silence()) for _ in range(64))
            opened.extend(watch_trust(silence()) for _ in range(8))
            assert stub.GetTrust(federation_pb2.GetTrustRequest(), timeout=20).state.statements
        never.set()
        codes.update(call.code() for call in opened)
    assert codes[grpc.StatusCode.RESOURCE_EXHAUSTED] > len(opened) / 2


def test_honest_parallel_calls_of_one_caller_are_all_served(edge: Edge) -> None:
    with edge.service() as channel, ThreadPoolExecutor(8) as pool:
        stub = verification_pb2_grpc.VerificationServiceStub(channel)
        request = verification_pb2.CreateChallengeRequest(matter=HUKOU_MIGRATION)
        nonces = {answer.nonce for answer in pool.map(lambda _: stub.CreateChallenge(request, timeout=20), range(400))}
    assert len(nonces) == 400


def test_a_caller_whose_ca_may_not_name_it_is_refused_before_it_can_wait(edge: Edge) -> None:
    never = threading.Event()
    with edge.channel(f"{entity_ids(SH).gateway}/services/counter") as channel:
        call = channel.stream_unary(VERIFY, request_serializer=bytes, response_deserializer=bytes).future(
            iter(lambda: never.wait(60) and b"", b"")
        )
        assert call.code() is grpc.StatusCode.PERMISSION_DENIED
        never.set()


def test_calls_that_hold_a_thread_are_not_served_where_strangers_call(edge: Edge) -> None:
    with edge.service() as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        code, _ = failure(lambda: next(stub.Watch(health_pb2.HealthCheckRequest(), timeout=10)))
    assert code is grpc.StatusCode.UNIMPLEMENTED


# -- issuance ---------------------------------------------------------------------------------------------------------


def issue_request(**changes: Any) -> issuance_pb2.IssueCredentialRequest:
    request = issuance_pb2.IssueCredentialRequest(
        local_subject="person-1",
        credential_type=RESIDENT_ID,
        holder_jwk=write_json(generate_key().public.jwk).decode(),
    )
    request.claims.update({"name": "徐某", "id_type": "resident_id", "id_number": XU_ID_NUMBER})
    request.authentication.acr = "urn:yrd:loa:4"
    request.authentication.amr.append("face")
    request.authentication.authentication_time.FromDatetime(START)
    for name, value in changes.items():
        target: Any = request
        *path, last = name.split("__")
        for part in path:
            target = getattr(target, part)
        if isinstance(value, dict):
            getattr(target, last).update(value)
        else:
            setattr(target, last, value)
    return request


def test_a_credential_issued_over_the_wire_is_recognised(edge: Edge) -> None:
    with edge.channel(SYSTEM) as channel:
        response = issuance_pb2_grpc.IssuanceServiceStub(channel).IssueCredential(issue_request(), timeout=10)
    assert response.credential.endswith("~")
    assert response.credential.count("~") == 4


@pytest.mark.parametrize(
    "change",
    [
        {"local_subject": ""},
        {"credential_type": "urn:yrd:credential:none:1"},
        {"holder_jwk": "{}"},
        {"holder_jwk": "not json"},
        {"authentication__acr": "urn:yrd:loa:9"},
        {"claims": {"id_number": "310101190001010012"}},
        {"claims": {"_sd": ["x"]}},
        {"claims": {"income": float("nan")}},
        {"claims": {"household": [{"income": float("inf")}]}},
        {"claims": {"income": 2**53}},
        {"authentication__authentication_time__seconds": -1},
        {"lifetime__seconds": 401 * 86_400},
        {"lifetime__seconds": -1},
        {"authentication__assurance__identity": 9},
    ],
    ids=str,
)
def test_what_would_not_be_recognised_is_not_issued(standing: Edge, change: dict[str, Any]) -> None:
    with standing.channel(SYSTEM) as channel:
        stub = issuance_pb2_grpc.IssuanceServiceStub(channel)
        code, details = failure(lambda: stub.IssueCredential(issue_request(**change), timeout=10))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert info(details).reason == "INVALID_REQUEST"


# -- federation documents ---------------------------------------------------------------------------------------------


def test_documents_are_relayed_as_signed(edge: Edge) -> None:
    shanghai = entity_ids(SH)
    with edge.service() as channel:
        stub = federation_pb2_grpc.FederationServiceStub(channel)
        charter = stub.GetCharter(federation_pb2.GetCharterRequest(), timeout=10).charter
        configuration = stub.GetEntityConfiguration(
            federation_pb2.GetEntityConfigurationRequest(entity_id=shanghai.issuer), timeout=10
        ).statement
        statement = stub.GetSubordinateStatement(
            federation_pb2.GetSubordinateStatementRequest(issuer=shanghai.anchor, subject=shanghai.issuer), timeout=10
        ).statement
    resolver = edge.federation[AH].resolver
    assert charter == edge.federation.document
    assert configuration == resolver.document(shanghai.issuer, shanghai.issuer)
    assert statement == resolver.document(shanghai.anchor, shanghai.issuer)


def test_historical_keys_are_signed_by_the_entity(edge: Edge) -> None:
    with edge.service() as channel:
        stub = federation_pb2_grpc.FederationServiceStub(channel)
        request = federation_pb2.GetHistoricalKeysRequest(entity_id=entity_ids(AH).issuer)
        token = stub.GetHistoricalKeys(request, timeout=10).key_set
    from gateway.core.jose import parse_compact, verify  # noqa: PLC0415

    jws = parse_compact(token, max_chars=65_536)
    claims = verify(jws, edge.federation.keys[AH]["issuer-federation"].public)
    assert jws.header.typ == "jwk-set+jwt"
    assert (claims["iss"], claims["keys"]) == (entity_ids(AH).issuer, [])


def test_past_keys_are_signed_once_however_often_they_are_asked_for(edge: Edge) -> None:
    federation = edge.federation
    with edge.service() as channel:
        stub = federation_pb2_grpc.FederationServiceStub(channel)
        request = federation_pb2.GetHistoricalKeysRequest(entity_id=entity_ids(AH).issuer)

        def ask() -> str:
            return stub.GetHistoricalKeys(request, timeout=10).key_set

        first = ask()
        assert ask() == first
        retired = federation.keys[AH]["issuer-credential"].public.kid
        federation.revoke(AH, retired)
        changed = ask()
        assert [key["kid"] for key in payload(changed)["keys"]] == [retired]


def test_an_old_charter_is_given_without_reading_all(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    store = edge.federation[AH].store
    store.save_charter(7, "seven")
    monkeypatch.setattr(store, "load_charters", None)
    with edge.service() as channel:
        stub = federation_pb2_grpc.FederationServiceStub(channel)
        assert stub.GetCharter(federation_pb2.GetCharterRequest(version=7), timeout=10).charter == "seven"
        code, _ = failure(lambda: stub.GetCharter(federation_pb2.GetCharterRequest(version=8), timeout=10))
    assert code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("entity", ["https://issuer.gd.mrg.example", entity_ids(SH).gateway + "/other"])
def test_case_114_what_is_not_held_is_not_found_and_says_no_more(standing: Edge, entity: str) -> None:
    with standing.service() as channel:
        stub = federation_pb2_grpc.FederationServiceStub(channel)
        code, details = failure(
            lambda: stub.GetEntityConfiguration(
                federation_pb2.GetEntityConfigurationRequest(entity_id=entity), timeout=10
            )
        )
    assert code is grpc.StatusCode.NOT_FOUND
    assert info(details).reason == "NOT_HELD"


def test_case_117_nobody_makes_a_subordinate_statement_about_itself(edge: Edge) -> None:
    anchor = entity_ids(SH).anchor
    with edge.service() as channel:
        stub = federation_pb2_grpc.FederationServiceStub(channel)
        request = federation_pb2.GetSubordinateStatementRequest(issuer=anchor, subject=anchor)
        code, _ = failure(lambda: stub.GetSubordinateStatement(request, timeout=10))
    assert code is grpc.StatusCode.INVALID_ARGUMENT


# -- streams of trust documents ---------------------------------------------------------------------------------------


def watch(channel: grpc.Channel) -> Any:
    stub: Any = federation_pb2_grpc.FederationServiceStub(channel)
    return stub.WatchTrust(federation_pb2.WatchTrustRequest())


def ended(call: Any, codes: set[grpc.StatusCode]) -> bool:
    """Read a stream to its end, and say whether it ended as expected."""
    with pytest.raises(grpc.RpcError) as caught:
        for _ in call:
            pass
    return caught.value.code() in codes


def wait_for_streams(edge: Edge, count: int) -> None:
    streams: Any = edge.listener._guard._streams
    deadline = time.monotonic() + 20
    while len(streams._open) != count:
        assert time.monotonic() < deadline, "streams were not given back in time"
        threading.Event().wait(0.01)


def test_a_watcher_gets_everything_at_once_and_again_when_something_changes(edge: Edge) -> None:
    resolver = edge.federation[AH].resolver
    with edge.service() as channel:
        call = watch(channel)
        first = next(call).state
        assert list(first.statements) == list(resolver.state().statements)
        assert first.charter_version == 1
        assert first.refresh_hint.seconds == 60
        kid = edge.federation.new_key(AH)
        second = next(call).state
        assert kid in str([payload(token) for token in second.statements])
        edge.federation.revoke(AH, kid)
        states = iter(lambda: next(call).state, None)
        assert list(next(state for state in states if state.events).events) == list(resolver.state().events)
        call.cancel()
    wait_for_streams(edge, 0)


def test_asked_once_the_same_comes(edge: Edge) -> None:
    with edge.service() as channel:
        stub = federation_pb2_grpc.FederationServiceStub(channel)
        state = stub.GetTrust(federation_pb2.GetTrustRequest(), timeout=10).state
    assert list(state.statements) == list(edge.federation[AH].resolver.state().statements)


def test_many_watchers_share_one_encoding(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[TrustOffer] = []
    encode = FederationServicer._state

    def counted(self: FederationServicer, state: TrustOffer) -> federation_pb2.TrustState:
        made.append(state)
        return encode(self, state)

    monkeypatch.setattr(FederationServicer, "_state", counted)
    monkeypatch.setattr("gateway.server.federation.ENCODED_AGE", timedelta(hours=1))
    with edge.service() as channel:
        calls = [watch(channel) for _ in range(STREAMS_PER_DOMAIN)]
        assert len({next(call).SerializeToString() for call in calls}) == 1
        for call in calls:
            call.cancel()
    assert len(made) == 1


def test_one_stream_too_many_ends_the_callers_own_oldest(edge: Edge) -> None:
    with edge.service() as channel:
        calls = []
        for _ in range(STREAMS_PER_DOMAIN):  # one after the other, so that it is known which is the oldest
            calls.append(watch(channel))
            next(calls[-1])
        assert ended(watch(channel), {grpc.StatusCode.RESOURCE_EXHAUSTED})
        assert ended(calls[0], {grpc.StatusCode.CANCELLED})
        wait_for_streams(edge, STREAMS_PER_DOMAIN - 1)
        again = watch(channel)
        assert next(again).state.statements
        for call in (*calls, again):
            call.cancel()


def test_streams_take_no_thread_from_other_calls(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    with edge.service() as channel, ThreadPoolExecutor(8) as pool:
        calls = [watch(channel) for _ in range(STREAMS_PER_DOMAIN)]
        for call in calls:
            next(call)
        barrier = threading.Barrier(8)
        verifier = edge.federation[AH].verifier
        make_challenge = verifier.create_challenge

        def together(*arguments: Any) -> Any:
            barrier.wait(20)  # passes only when eight calls run at one time
            return make_challenge(*arguments)

        monkeypatch.setattr(verifier, "create_challenge", together)
        stub = verification_pb2_grpc.VerificationServiceStub(channel)
        request = verification_pb2.CreateChallengeRequest(matter=HUKOU_MIGRATION)
        assert len(list(pool.map(lambda _: stub.CreateChallenge(request, timeout=30), range(8)))) == 8
        for call in calls:
            call.cancel()


def test_a_stream_whose_request_never_comes_is_ended(edge: Edge) -> None:
    never = threading.Event()
    with edge.service() as channel:
        method = channel.stream_stream(
            "/recognition.v1.FederationService/WatchTrust", request_serializer=bytes, response_deserializer=bytes
        )
        assert ended(method(iter(lambda: never.wait(60) and b"", b"")), {grpc.StatusCode.CANCELLED})
        never.set()
    wait_for_streams(edge, 0)


def test_a_reader_that_stops_reading_is_cut_off(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.streams.UNREAD_SECONDS", 0.2)
    state = federation_pb2.TrustState(statements=["A" * 1_000_000] * 32)
    big = federation_pb2.WatchTrustResponse(state=state).SerializeToString()
    monkeypatch.setattr(FederationServicer, "_encode", lambda *_arguments: big)
    with edge.service() as channel:
        call = watch(channel)
        wait_for_streams(edge, 1)
        wait_for_streams(edge, 0)
        assert ended(call, {grpc.StatusCode.CANCELLED, grpc.StatusCode.RESOURCE_EXHAUSTED})


def test_a_caller_that_leaves_gives_its_thread_back(edge: Edge) -> None:
    for _ in range(3 * STREAMS_PER_DOMAIN):
        with edge.service() as channel:
            call = watch(channel)
            next(call)
        wait_for_streams(edge, 0)


def test_draining_ends_streams_at_once(edge: Edge) -> None:
    with edge.service() as channel:
        call = watch(channel)
        next(call)
        began = time.monotonic()
        edge.listener.stop(60)()
        assert time.monotonic() - began < 30
        assert ended(call, {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE})


def test_what_is_held_is_handed_out_before_the_start_is_over_and_nothing_new_is_signed(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = edge.federation[AH].resolver
    monkeypatch.setattr(resolver, "_ready", False)
    with edge.service() as channel:
        stub = federation_pb2_grpc.FederationServiceStub(channel)
        # Peers that start together hear from each other what each holds.
        state = stub.GetTrust(federation_pb2.GetTrustRequest(), timeout=10).state
        assert list(state.statements) == list(resolver.state().statements)
        call = watch(channel)
        assert list(next(call).state.statements) == list(resolver.state().statements)
        call.cancel()
        request = federation_pb2.GetHistoricalKeysRequest(entity_id=entity_ids(AH).issuer)
        code, _ = failure(lambda: stub.GetHistoricalKeys(request, timeout=10))
        assert code is grpc.StatusCode.UNAVAILABLE


# -- a peer over the wire ---------------------------------------------------------------------------------------------


@pytest.fixture
def peer(edge: Edge) -> Iterator[GrpcPeer]:
    """Anhui as another gateway sees it."""
    certificate, key = client_certificate(edge.ca, edge.federation[AH].ids.gateway)
    made = GrpcPeer(
        province=AH,
        gateway=entity_ids(AH).gateway,
        address=f"localhost:{edge.listener.port}",
        material=lambda: ChannelMaterial(certificate=certificate, private_key=key, cas=edge.ca[0]),
    )
    yield made
    made.close()


def test_a_peer_gives_what_it_holds_as_it_is(edge: Edge, peer: GrpcPeer) -> None:
    resolver = edge.federation[AH].resolver
    assert peer.charter(0) == edge.federation.document
    assert peer.trust() == resolver.state()
    stream = peer.watch()
    assert next(stream) == resolver.state()
    kid = edge.federation.new_key(AH)
    assert kid in str([payload(token) for token in next(stream).statements])
    stream.cancel()
    with pytest.raises(PeerError):
        next(stream)


def test_what_a_peer_has_not_is_told_from_a_peer_that_is_not_there(edge: Edge, peer: GrpcPeer) -> None:
    with pytest.raises(PeerError) as caught:
        peer.charter(7)
    assert caught.value.reachable
    edge.listener.stop(0)()
    with pytest.raises(PeerError) as caught:
        peer.trust()
    assert not caught.value.reachable


def test_an_acknowledgement_is_taken_over_the_wire_and_a_forged_one_is_not(edge: Edge, peer: GrpcPeer) -> None:
    federation, gateway = edge.federation, entity_ids(SH).gateway
    claims = make(federation[SH].resolver.view, gateway, federation.clock.now + timedelta(seconds=1))
    peer.acknowledge(sign_compact(ACKNOWLEDGEMENT_TYPE, claims, federation.keys[SH]["gateway-federation"]))
    word, _ = federation[AH].resolver.acknowledgements()[gateway]
    assert int(word.issued_at.timestamp()) == claims["iat"]
    with pytest.raises(PeerError) as caught:
        peer.acknowledge(sign_compact(ACKNOWLEDGEMENT_TYPE, claims, federation.keys[JS]["gateway-federation"]))
    assert caught.value.reachable


# -- case 112: nothing leaks ------------------------------------------------------------------------------------------


def test_case_112_a_bug_shows_a_reference_and_no_value(
    edge: Edge, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    presentation, nonce = edge.federation.present(edge.federation.issue())

    def broken(*_arguments: object, **_named: object) -> None:
        raise RuntimeError(f"canary 徐某 {XU_ID_NUMBER} {presentation}")

    monkeypatch.setattr(edge.federation[AH].verifier, "verify", broken)
    with pytest.raises(grpc.RpcError) as caught:
        verify(edge, presentation, nonce)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    out, err = capfd.readouterr()
    shown = f"{caught.value.details()} {caught.value.trailing_metadata()} {out} {err}"
    assert "RuntimeError" in err
    assert [canary for canary in ("canary", "徐某", XU_ID_NUMBER, presentation[:60]) if canary in shown] == []


def test_case_112_rejections_write_nothing_of_the_presentation_to_the_log(
    edge: Edge, capfd: pytest.CaptureFixture[str]
) -> None:
    presentation, nonce = edge.federation.present(edge.federation.issue())
    head, *disclosures, proof = presentation.split("~")
    broken = [
        presentation[:-4] + "AAAA",
        "~".join([head, *disclosures[1:], proof]),
        "~".join([head, *disclosures, ""]),
        "~".join([head, *disclosures, disclosures[0], proof]),
        head,
        head[:-4] + "AAAA~",
        presentation.replace("~", " ~", 1),
    ]
    for each in broken:
        response = verify(edge, each, nonce)
        assert response.WhichOneof("verdict") == "rejected"
        assert response.rejected.reason != reason_pb2.REASON_UNSPECIFIED
        assert response.ByteSize() < 300
    out, err = capfd.readouterr()
    pieces = [nonce, XU_ID_NUMBER, "徐某", *(part[:40] for part in (head, *disclosures, proof) if part)]
    assert [piece for piece in pieces if piece in out + err] == []


# -- life of a server -------------------------------------------------------------------------------------------------


def test_health_answers_and_draining_says_not_serving(edge: Edge) -> None:
    with edge.service() as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        serving = health_pb2.HealthCheckResponse
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status == serving.SERVING
        edge.listener.set_health({"": False})
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status == serving.NOT_SERVING


def test_a_taken_address_is_an_error_at_once(edge: Edge) -> None:
    certificate, key = client_certificate(edge.ca, edge.federation[AH].ids.gateway)
    with pytest.raises(OSError, match="listen"):
        Listener(
            address=f"localhost:{edge.listener.port}",
            material=lambda: ChannelMaterial(certificate=certificate, private_key=key, cas=edge.ca[0]),
            callers=CallerReader({edge.ca[0]: (edge.federation[AH].ids.gateway,)}),
            threads=1,
            max_concurrent_calls=1,
            world=WORLD,
        )


def test_an_assertion_may_be_shown_at_the_gateway_it_names(edge: Edge) -> None:
    assertion = edge.federation.assertion(audience=edge.federation[AH].ids.gateway)
    assert verify(edge, assertion, matter=LICENCE_DISPLAY).WhichOneof("verdict") == "accepted"


def test_draining_lets_a_running_call_end_and_refuses_new_ones(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    presentation, nonce = edge.federation.present(edge.federation.issue())
    store = edge.federation[AH].log
    commit = store.commit
    running, release = threading.Event(), threading.Event()

    def slow(group: Sequence[LedgerEntry]) -> Sequence[Committed]:
        running.set()
        release.wait(60)
        return commit(group)

    monkeypatch.setattr(store, "commit", slow)
    with edge.service() as channel, edge.service() as late:
        stub: Any = verification_pb2_grpc.VerificationServiceStub(channel)
        late_stub = verification_pb2_grpc.VerificationServiceStub(late)
        late_stub.CreateChallenge(verification_pb2.CreateChallengeRequest(matter=HUKOU_MIGRATION), timeout=10)
        request = verification_pb2.VerifyCredentialRequest(
            matter=HUKOU_MIGRATION, presentation=presentation, nonce=nonce
        )
        call = stub.VerifyCredential.future(request, timeout=60)
        assert running.wait(60)
        wait = edge.listener.stop(60)
        code, _ = failure(challenge_as(edge, late))
        release.set()
        assert call.result().WhichOneof("verdict") == "accepted"
        wait()
    assert code is grpc.StatusCode.UNAVAILABLE
