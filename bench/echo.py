"""The bare echo: gRPC's own server with nothing behind it.

What a call costs before anything is done in it. ``python -m bench.echo ADDRESS CA CERTIFICATE KEY`` serves until its
standard input ends.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import grpc

THREADS: Final = 32


def serve(handlers: grpc.GenericRpcHandler) -> None:
    """Serve calls over mutual TLS, as the arguments say, on as many threads as a gateway has; say when it is ready."""
    address, ca, certificate, key = sys.argv[1:]
    credentials = grpc.ssl_server_credentials(
        [(Path(key).read_bytes(), Path(certificate).read_bytes())], Path(ca).read_bytes(), require_client_auth=True
    )
    server = grpc.server(ThreadPoolExecutor(THREADS))
    server.add_generic_rpc_handlers((handlers,))
    server.add_secure_port(address, credentials)
    server.start()
    print("ready", flush=True)
    sys.stdin.read()
    server.stop(0).wait()


class _Echo(grpc.GenericRpcHandler):
    def service(self, _details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        return grpc.unary_unary_rpc_method_handler(lambda request, _context: request)


if __name__ == "__main__":
    serve(_Echo())
