"""Setting up a province: keys, certificates, its card for the others, and at last its configuration.

Two steps, because between them people talk to each other:

1. ``province.create_province`` makes what a province can make alone: its keys, its CA and certificates, a client
   profile for each service backend, identity system and administrator, and its card (``cards``). Cards travel by mail,
   their fingerprints are read out over the telephone.
2. The provinces sign the charter. ``province.complete_province`` then holds charter and cards against each other and
   writes the configuration, after which ``mrg serve`` runs.

Both can be run again at any time. They add what is missing and never replace a key or a certificate: to renew one, its
two files are removed first. The folder of a province:

    keys/                       private keys and secrets (keystore)
    tls/ca.pem, ca.key          its CA; server.pem, server.key: its own certificate; peers/: the other provinces' CAs
    clients/<name>.pem, .key    certificate of a client, and .toml: how it reaches the gateway
    province.json               the answers that it was made from
    card.json                   for the other provinces
    charter.json, gateway.toml  what ``mrg serve`` needs; gateway.sqlite is made then
"""

from __future__ import annotations

from pathlib import Path


class ProvisionError(ValueError):
    """A province cannot be set up like this. ``str`` is one line: file, key, problem, mend."""

    def __init__(self, file: Path, problem: str, fix: str, *, key: str = "") -> None:
        """Say what is wrong with which file, and how to mend it."""
        super().__init__(": ".join(part for part in (str(file), key, f"{problem}; {fix}") if part))
        self.file = file
        self.key = key
        self.problem = problem
        self.fix = fix
