"""Writing the configuration file, with comments. What it writes for a new province is the sample there is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC
from pathlib import Path

from gateway.config import (
    MAX_CONCURRENT_CALLS,
    MAX_PAIRWISE_VERSION,
    MAX_RATE,
    MAX_REFRESH_SECONDS,
    MAX_RETENTION_DAYS,
    MAX_ROTATION_DAYS,
    MAX_THREADS,
    Config,
    KeyStoreOptions,
    PairwiseOptions,
    Role,
    SecretSource,
)
from gateway.core.identifiers import Province
from gateway.core.vouching import Approval


def render_config(config: Config) -> str:
    """Write a configuration as commented TOML, which ``load_config`` reads back as the same configuration."""

    def path(value: Path) -> str:
        folder = config.file.parent
        return _toml(str(value.relative_to(folder) if value.is_relative_to(folder) else value))

    entities, listeners = config.entities, config.listeners
    database = path(config.database) if isinstance(config.database, Path) else _toml(config.database.url)
    sections = [
        f"""\
# Configuration of one province's process of the mutual-recognition gateway (身份凭证互认网关).
# Relative paths count from this file's folder.

province = {_toml(config.province.code)}  # {", ".join(f"{each.code} {each.name_zh}" for each in Province)}
# Trust documents, replay keys and the log: a SQLite file, made when missing; or, for several processes on one database,
# postgresql://user@host/name. No password stands here: PGPASSFILE, or ?passfile=, names a file for its owner alone.
database = {database}
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

# Administrators' calls and health, for operators: keep it on the loopback address. Reflection stays off in production.
[listeners.admin]
address = {_toml(listeners.admin.address)}
client_ca = {path(listeners.admin.client_ca)}
reflection = {str(listeners.admin.reflection).lower()}

# How this province's anchor takes to new keys of a member under a signature it attested: {" or ".join(Approval)}.
[anchor]
approve = {_toml(config.anchor.approve)}

# After how many days a key's successor is made and, once everybody holds it, takes over: 0 to {MAX_ROTATION_DAYS}.
# 0: only when an administrator says so. standby keeps the next key published, for the day that the present one leaks.
[rotation]
credential_days = {config.rotation.credential_days}
status_days = {config.rotation.status_days}
federation_days = {config.rotation.federation_days}
standby = {str(config.rotation.standby).lower()}

# Keys are files in the folder above, encrypted where passphrase_file (a file for its owner alone), passphrase_env (a
# variable) or passphrase_credential (of systemd) says where the passphrase is. Or they are made in a PKCS#11 token,
# which they never leave: [key_store.pkcs11], with module (the library's path), token (its label), and pin_file, pin_env
# or pin_credential.
[key_store]
{_key_store(config.key_store, path)}
# Which version of the secret behind the pseudonyms that relying services are given, 1 to {MAX_PAIRWISE_VERSION}; and
# mapped_until, a moment up to which those of the version before are given beside them. To replace the secret:
# mrg keys pairwise, which says what to put here.
[pairwise]
{_pairwise(config.pairwise)}
# Likewise, of the pseudonyms in what our issuer signs: mrg keys pairwise --issuer.
[pairwise_issuer]
{_pairwise(config.pairwise_issuer)}
# For how many days entries of the log are kept: rejections and the like (security), what was disclosed about people
# and disputes (disclosure). The law's floors are what stands here by default: nothing less is taken. At most
# {MAX_RETENTION_DAYS}. Changes of trust are kept for ever, and so are all hashes: proofs hold when entries are gone.
[retention]
security_days = {config.retention.security_days}
disclosure_days = {config.retention.disclosure_days}

[refresh]
interval_seconds = {config.refresh.interval_seconds}  # 1 to {MAX_REFRESH_SECONDS}

# threads: calls that the verification listener works on at one time, 1 to {MAX_THREADS}.
# max_concurrent_calls: calls that each listener takes at one time, 1 to {MAX_CONCURRENT_CALLS}.
# caller_rate: calls, and presentations in batches, that one caller may bring a second, 1 to {MAX_RATE}.
# caller_concurrency: calls that one caller may have open, 1 to {MAX_CONCURRENT_CALLS}.
# All count for one process.
[limits]
threads = {config.limits.threads}
max_concurrent_calls = {config.limits.max_concurrent_calls}
caller_rate = {config.limits.caller_rate}
caller_concurrency = {config.limits.caller_concurrency}
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
        "\n# also the audience of what is presented to it. Services of one sector see the same pseudonym of a person."
        "\n# explain lets the service have its own decisions explained step by step. rate and concurrency, where they"
        "\n# stand, hold for it in place of caller_rate and caller_concurrency above.",
        (
            {
                "identity": _toml(service.identity),
                "name": _toml(service.name),
                "sector": _toml(service.sector),
                "matters": f"[{', '.join(map(_toml, sorted(service.matters)))}]",
                "explain": str(service.explain).lower(),
            }
            | ({} if service.rate is None else {"rate": str(service.rate)})
            | ({} if service.concurrency is None else {"concurrency": str(service.concurrency)})
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
        "administrators",
        "One [[administrators]] per person who may change keys or members on the admin listener, or have decisions"
        "\n# explained: the URI of their certificate, under entities.gateway, and their roles:"
        f"\n# {', '.join(map(_toml, Role))}.",
        (
            {"identity": _toml(each.identity), "roles": f"[{', '.join(map(_toml, sorted(each.roles)))}]"}
            for each in config.administrators
        ),
    )
    sections += _tables(
        "auditors",
        "One [[auditors]] per person who may read the whole log on the admin listener, and change nothing: the URI of"
        "\n# their certificate, under entities.gateway. No administrator can be one.",
        ({"identity": _toml(each.identity)} for each in config.auditors),
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


def _key_store(options: KeyStoreOptions, path: Callable[[Path], str]) -> str:
    lines = _secret("passphrase", options.passphrase, path)
    if options.pkcs11 is not None:
        lines += "\n[key_store.pkcs11]\n"
        lines += f"module = {path(options.pkcs11.module)}\ntoken = {_toml(options.pkcs11.token)}\n"
        lines += _secret("pin", options.pkcs11.pin, path)
    return lines


def _pairwise(options: PairwiseOptions) -> str:
    until = options.mapped_until
    # A moment of TOML is one of RFC 3339, without quotes.
    mapped = "# mapped_until: none" if until is None else f"mapped_until = {until.astimezone(UTC).isoformat()}"
    return f"version = {options.version}\n{mapped}\n"


def _secret(name: str, source: SecretSource | None, path: Callable[[Path], str]) -> str:
    if source is None:
        return f"# {name}: none\n"
    if source.file is not None:
        return f"{name}_file = {path(source.file)}\n"
    if source.env is not None:
        return f"{name}_env = {_toml(source.env)}\n"
    return f"{name}_credential = {_toml(source.credential or '')}\n"


def _tables(name: str, comment: str, rows: Iterable[Mapping[str, str]]) -> Iterator[str]:
    yield f"# {comment}\n"
    for row in rows:
        yield f"[[{name}]]\n" + "".join(f"{key} = {value}\n" for key, value in row.items())


def _toml(text: str) -> str:
    # JSON's strings are TOML's, but for the one control character that JSON lets stand.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _toml_or_comment(name: str, text: str | None) -> str:
    return f"# {name} is not played here" if text is None else f"{name} = {_toml(text)}"
