"""How much of a processor the thin client costs beside the generated stub alone.

    python benchmark.py --profile court.toml --stage http://127.0.0.1:PORT --calls 2000

Both verify identity assertions, one after another, in alternating rounds in one process over connections of their own,
with the same TLS, the same settings of the channel (retries, keepalive) and the same deadline. Both read of the answer
what any service reads: the verdict, the verification's id, the subject, and which attributes there are. Only the thin
client makes request ids. Prints JSON lines. The assertions come from the stage of the tests (``python -m
tests.clients.stage``).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import grpc

from recognition import _rules
from recognition.client import Accepted, Profile, RecognitionClient, VerifyRequest
from recognition.v1 import verification_pb2, verification_pb2_grpc

ROUNDS: Final = 40
SECONDS: Final = 10.0


def control(stage: str, path: str, **body: Any) -> Any:
    """Ask something of the stage."""
    request = urllib.request.Request(  # noqa: S310 - the stage's address, which is ours
        stage + path, json.dumps(body).encode() if body else None, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - as above
        return json.load(answer)


class Measured:
    """The calls of one kind, and what they took."""

    def __init__(self, what: str, call: Callable[[str], object]) -> None:
        self.what = what
        self._call = call
        self._calls = 0
        self._seconds = self._processor = 0.0

    def run(self, assertions: Sequence[str]) -> None:
        """Make one call for each assertion."""
        began, processor = time.perf_counter(), time.process_time()
        for each in assertions:
            self._call(each)
        self._seconds += time.perf_counter() - began
        self._processor += time.process_time() - processor
        self._calls += len(assertions)

    def line(self) -> str:
        """Say what was measured."""
        found = {
            "client": "python",
            "what": self.what,
            "calls_per_s": round(self._calls / self._seconds, 1),
            "client_cpu_us_per_call": round(self._processor / self._calls * 1e6, 1),
        }
        return json.dumps(found)


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--profile", type=Path, required=True)
    parser.add_argument("--stage", required=True)
    parser.add_argument("--calls", type=int, default=2_000)
    options = parser.parse_args()
    profile = Profile.read(options.profile)
    matter = control(options.stage, "/matters")["court"]
    credentials = grpc.ssl_channel_credentials(
        profile.ca.read_bytes(), profile.private_key.read_bytes(), profile.certificate.read_bytes()
    )
    settings = _rules.channel_options()
    with RecognitionClient(profile) as client, grpc.secure_channel(profile.address, credentials, settings) as channel:
        stub = verification_pb2_grpc.VerificationServiceStub(channel)

        def thin(assertion: str) -> object:
            decision = client.verify(VerifyRequest(matter=matter, presentation=assertion))
            match decision.verdict:
                case Accepted() as accepted:
                    return decision.verification_id, accepted.subject, list(accepted.attributes)
                case other:
                    raise ValueError(f"not accepted: {other}")

        def bare(assertion: str) -> object:
            request = verification_pb2.VerifyCredentialRequest(matter=matter, presentation=assertion)
            answer = stub.VerifyCredential(request, timeout=SECONDS)
            if answer.WhichOneof("verdict") != "accepted":
                raise ValueError(f"not accepted: {answer.rejected.reason}")
            accepted = answer.accepted
            return answer.verification_id, accepted.subject, list(accepted.attributes.fields)

        audience = client.challenge(matter).audience
        kinds = [Measured("thin", thin), Measured("bare", bare)]
        share = max(1, options.calls // ROUNDS)
        for number in range(-1, ROUNDS):
            for kind in kinds[:: 1 if number % 2 else -1]:
                assertions = control(options.stage, "/assertions", audience=audience, count=share)["assertions"]
                if number < 0:  # connections are made, and code is loaded
                    (thin if kind.what == "thin" else bare)(assertions[0])
                else:
                    kind.run(assertions)
    print(*(kind.line() for kind in kinds), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
