"""The naive peer: what somebody would write in an afternoon instead of a gateway.

gRPC's server, PyJWT, and a dictionary of keys. It verifies signature, issuer, audience and times of an assertion. It
knows no other profile, no quorum and no status, releases everything, forgets what it saw, and keeps no record.
``python -m bench.naive ADDRESS CA CERTIFICATE KEY``; the keys, issuer and audience come first on its standard input, as
JSON, and it serves until that ends.
"""

from __future__ import annotations

import json
import sys
import uuid
from typing import Any

import grpc
import jwt
from google.protobuf.json_format import ParseDict
from recognition.v1 import reason_pb2, verification_pb2

from bench.echo import serve


class Servicer:
    """Verifies assertions."""

    def __init__(self, jwks: dict[str, Any], issuer: str, audience: str) -> None:
        self._keys = {jwk["kid"]: jwt.PyJWK(jwk) for jwk in jwks["keys"]}
        self._issuer = issuer
        self._audience = audience

    def verify(
        self, request: verification_pb2.VerifyCredentialRequest, _context: grpc.ServicerContext
    ) -> verification_pb2.VerifyCredentialResponse:
        """Verify one assertion."""
        response = verification_pb2.VerifyCredentialResponse(verification_id=uuid.uuid4().hex)
        response.verify_time.GetCurrentTime()
        try:
            key = self._keys[jwt.get_unverified_header(request.presentation)["kid"]]
            claims = jwt.decode(
                request.presentation, key, algorithms=["ES256"], audience=self._audience, issuer=self._issuer
            )
        except (jwt.InvalidTokenError, KeyError):
            response.rejected.reason = reason_pb2.REASON_SIGNATURE_INVALID
            return response
        response.accepted.subject = claims["sub"]
        response.accepted.issuer = claims["iss"]
        response.accepted.issue_time.FromSeconds(claims["iat"])
        response.accepted.expire_time.FromSeconds(claims["exp"])
        ParseDict(claims["verified_claims"]["claims"], response.accepted.attributes)
        return response


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, servicer: Servicer) -> None:
        self._handler = grpc.unary_unary_rpc_method_handler(
            servicer.verify,
            verification_pb2.VerifyCredentialRequest.FromString,
            verification_pb2.VerifyCredentialResponse.SerializeToString,
        )

    def service(self, _details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        return self._handler


if __name__ == "__main__":
    serve(_Handlers(Servicer(**json.loads(sys.stdin.readline()))))
