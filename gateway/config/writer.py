"""Writing the configuration file, with comments. What it writes for a new province is the sample there is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from gateway.config import MAX_CONCURRENT_CALLS, MAX_REFRESH_SECONDS, MAX_THREADS, Config
from gateway.core.identifiers import Province


def render_config(config: Config) -> str:
    """Write a configuration as commented TOML, which ``load_config`` reads back as the same configuration."""

    def path(value: Path) -> str:
        folder = config.file.parent
        return _toml(str(value.relative_to(folder) if value.is_relative_to(folder) else value))

    entities, listeners = config.entities, config.listeners
    sections = [
        f"""\
# Configuration of one province's process of the mutual-recognition gateway (身份凭证互认网关).
# Relative paths count from this file's folder.

province = {_toml(config.province.code)}  # {", ".join(f"{each.code} {each.name_zh}" for each in Province)}
database = {path(config.database)}  # trust documents, replay keys and audit; made when missing
keys = {path(config.keys)}  # private keys; the folder and what is in it belong to the owner alone

# Entity identifiers of the roles this process plays. The gateway's is needed.
[entities]
gateway = {_toml(entities.gateway)}
{_toml_or_comment("issuer", entities.issuer)}
{_toml_or_comment("anchor", entities.anchor)}

# The first charter. The digest (SHA-256 of its payload, base64url) is compared by people of all provinces.
[charter]
file = {path(config.charter.file)}
sha256 = {_toml(config.charter.sha256)}

# This process's certificate, on every listener and towards peers.
[tls]
certificate = {path(config.tls.certificate)}
private_key = {path(config.tls.private_key)}

# Service backends and identity systems of this province call here. Their certificates come from client_ca.
[listeners.verification]
address = {_toml(listeners.verification.address)}
client_ca = {path(listeners.verification.client_ca)}

# Other provinces call here. Accepted are the CAs of the peers below and the client_ca above.
[listeners.federation]
address = {_toml(listeners.federation.address)}

# Health, for operators: keep it on the loopback address. Reflection stays off in production.
[listeners.admin]
address = {_toml(listeners.admin.address)}
client_ca = {path(listeners.admin.client_ca)}
reflection = {str(listeners.admin.reflection).lower()}

[refresh]
interval_seconds = {config.refresh.interval_seconds}  # 1 to {MAX_REFRESH_SECONDS}

# Calls the verification listener works on at one time, 1 to {MAX_THREADS}; calls each listener takes at one time, 1 to
# {MAX_CONCURRENT_CALLS}.
[limits]
threads = {config.limits.threads}
max_concurrent_calls = {config.limits.max_concurrent_calls}
"""
    ]
    sections += _tables(
        "peers",
        "One [[peers]] per other province: its federation listener, its CA, and whom its certificate names.",
        (
            {
                "province": _toml(peer.province.code),
                "address": _toml(peer.address),
                "ca": path(peer.ca),
                "gateway": _toml(peer.gateway),
            }
            for peer in config.peers
        ),
    )
    sections += _tables(
        "relying_services",
        "One [[relying_services]] per service backend: the URI of its certificate, under entities.gateway, which is"
        "\n# also the audience of what is presented to it. Services of one sector see the same pseudonym of a person.",
        (
            {
                "identity": _toml(service.identity),
                "name": _toml(service.name),
                "sector": _toml(service.sector),
                "matters": f"[{', '.join(map(_toml, sorted(service.matters)))}]",
            }
            for service in config.relying_services
        ),
    )
    sections += _tables(
        "identity_systems",
        "One [[identity_systems]] per system that may have credentials issued: the URI of its certificate, under"
        "\n# entities.issuer.",
        ({"identity": _toml(system.identity)} for system in config.identity_systems),
    )
    sections += _tables(
        "anchor_enrolments",
        "One [[anchor_enrolments]] per member this province's anchor vouches for, with the thumbprint (RFC 7638) of its"
        "\n# first federation key, compared by people.",
        (
            {"entity_id": _toml(each.entity_id), "federation_key": _toml(each.federation_key)}
            for each in config.anchor_enrolments
        ),
    )
    return "\n".join(sections)


def _tables(name: str, comment: str, rows: Iterable[Mapping[str, str]]) -> Iterator[str]:
    yield f"# {comment}\n"
    for row in rows:
        yield f"[[{name}]]\n" + "".join(f"{key} = {value}\n" for key, value in row.items())


def _toml(text: str) -> str:
    # JSON's strings are TOML's, but for the one control character that JSON lets stand.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _toml_or_comment(name: str, text: str | None) -> str:
    return f"# {name} is not played here" if text is None else f"{name} = {_toml(text)}"
