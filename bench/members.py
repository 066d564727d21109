"""The trust view of a federation of 4, 40 and 400 members: how long it takes to build, and what it holds.

All members are issuers, each with keys and documents of its own, and each of four anchors vouches for each. Built anew
is what happens when a process starts; most refreshes find what they read before, and verify no signature twice.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from bench.figures import Figure
from gateway.core.charter import (
    ISSUER_TYPE,
    Charter,
    add_signature,
    draft,
    parse_charter,
    unsigned,
    verify_pinned,
)
from gateway.core.credential import ASSERTION_CREDENTIAL_TYPE
from gateway.core.identifiers import Province
from gateway.core.jose import SoftwareKey, generate_key, sign_compact
from gateway.core.memory import TrustMemory
from gateway.core.publication import KEY_PROOFS, configuration_claims, key_proof
from gateway.core.statements import TYP
from gateway.core.status_list import MIN_ENTRIES, STATUS_LISTS
from gateway.core.trust import TrustView, build_view
from gateway.core.votes import Reader
from gateway.core.vouching import Approval, MemberRecord, anchor_snapshot, vouch
from gateway.lab.charter import RESIDENT_ID, charter_claims, entity_ids, example_agreement

NOW: Final = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)
SIZES: Final = (4, 40, 400)
HELD_MEMBERS: Final = 400
"""Of all the views that are held together: one of four members is too small to be seen."""
ROUNDS: Final = 3
_SEQ: Final = int(NOW.timestamp())
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class IssuerKeys:
    """One issuer's."""

    federation: SoftwareKey = field(default_factory=generate_key)
    credential: SoftwareKey = field(default_factory=generate_key)
    status: SoftwareKey = field(default_factory=generate_key)


def measure(
    say: Callable[[str], None],
    sizes: Sequence[int] = SIZES,
    rounds: int = ROUNDS,
    held_members: int = HELD_MEMBERS,
) -> list[Figure]:
    """Measure federations of these sizes."""
    figures = []
    for size in sizes:
        say(f"vouching for {size} members")
        anchors = {province: generate_key() for province in Province}
        issuers = [f"https://issuer.{number}.mrg.example" for number in range(size)]
        charter = signed_charter(anchors, issuers)
        memory = documents_of(charter, anchors, {issuer: IssuerKeys() for issuer in issuers})
        say(f"building the trust view of {size} members")
        anew, again = _build_ms(charter, memory, rounds)
        figures += [
            Figure(metric=f"trust_view_build_ms_{size}", value=anew, unit="ms"),
            Figure(metric=f"trust_view_rebuild_ms_{size}", value=again, unit="ms"),
            Figure(
                metric=f"trust_view_memory_kb_{size}",
                value=_memory_kb(charter, memory, max(1, held_members // size)),
                unit="kB",
            ),
        ]
    return figures


def _build_ms(charter: Charter, memory: TrustMemory, rounds: int) -> tuple[float, float]:
    """Give how long it takes anew, and with a reader that has read all before."""
    reader, took = Reader(), []
    for kept in [*[None] * rounds, reader, *[reader] * rounds]:
        began = time.perf_counter()
        view = build_view(charter, memory, NOW, kept)
        took.append((time.perf_counter() - began) * 1_000)
        assert all(issuer.keys for issuer in view.issuers.values()), "a member is not recognised"
    return statistics.median(took[:rounds]), statistics.median(took[rounds + 1 :])


# -- what is held -----------------------------------------------------------------------------------------------------


def _memory_kb(charter: Charter, memory: TrustMemory, views: int) -> float:
    """In a process that does nothing else, by what the operating system says it has."""
    with tempfile.TemporaryDirectory(prefix="mrg-bench-") as folder:
        file = Path(folder) / "documents.json"
        documents = [[*place, document] for place, document in memory.documents.items()]
        file.write_text(json.dumps({"charter": charter.document, "documents": documents}), "utf-8")
        command = [sys.executable, "-m", "bench.members", str(file), str(views)]
        held = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - ourselves
    return float(held.stdout)


def _hold(file: Path, count: int) -> float:
    """Build so many views, each of documents of its own, and give what each holds, in kilobytes."""

    def build() -> tuple[TrustMemory, TrustView]:
        content = json.loads(file.read_text("utf-8"))
        charter = verify_pinned(content["charter"], parse_charter(content["charter"]).unverified.sha256)
        memory = TrustMemory(documents={(one, other): text for one, other, text in content["documents"]})
        return memory, build_view(charter, memory, NOW)

    # One beforehand, and kept: what building leaves behind in the allocator is left behind only once.
    first = build()
    before = _resident()
    held = [build() for _ in range(count)]
    growth = _resident() - before
    del first, held
    return growth / count / 1_000


def _resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * _PAGE_BYTES


# -- a federation -----------------------------------------------------------------------------------------------------


def signed_charter(anchors: Mapping[Province, SoftwareKey], issuers: Sequence[str] = ()) -> Charter:
    """Write the lab's charter, with these members instead of its own if there are any, and have all anchors sign it."""
    claims = charter_claims({province: key.public for province, key in anchors.items()}, NOW)
    if issuers:
        one = claims["members"][0]
        claims["members"] = [{**one, "entity_id": issuer} for issuer in issuers]
        claims["agreement"] = example_agreement(issuers)
    document = unsigned(draft(claims))
    for key in anchors.values():
        document = add_signature(document, key)
    return verify_pinned(document, parse_charter(document).unverified.sha256)


def documents_of(
    charter: Charter, anchors: Mapping[Province, SoftwareKey], members: Mapping[str, IssuerKeys]
) -> TrustMemory:
    """Publish the configurations of these issuers, and have each anchor vouch for all of them."""
    hints = [anchor.entity_id for anchor in charter.anchors]
    configurations = {issuer: _configuration(issuer, keys, hints) for issuer, keys in members.items()}
    documents = {(issuer, issuer): configuration for issuer, configuration in configurations.items()}
    for province, key in anchors.items():
        anchor_id = entity_ids(province).anchor
        records, statements = {}, {}
        for issuer, configuration in configurations.items():
            vouching = vouch(
                anchor_id=anchor_id,
                charter=charter,
                configuration=configuration,
                record=MemberRecord(federation_keys=frozenset({members[issuer].federation.public.thumbprint})),
                taken_keys=frozenset(),
                seq=_SEQ,
                approve=Approval.AUTO,
                now=NOW,
            )
            assert vouching.claims is not None
            records[issuer] = vouching.record
            statements[issuer] = documents[anchor_id, issuer] = sign_compact(TYP, vouching.claims, key)
        own = configuration_claims(
            entity_id=anchor_id,
            federation_keys=[key.public],
            metadata={"federation_entity": {}},
            authority_hints=(),
            lifetime=timedelta(minutes=10),
            now=NOW,
            seq=_SEQ,
            extra={"snapshot": anchor_snapshot(records, statements, NOW)},
        )
        documents[anchor_id, anchor_id] = sign_compact(TYP, own, key)
    return TrustMemory(documents=documents)


def _configuration(issuer: str, keys: IssuerKeys, authority_hints: Sequence[str]) -> str:
    metadata = {
        ISSUER_TYPE: {
            "credential_types": [RESIDENT_ID, ASSERTION_CREDENTIAL_TYPE],
            "jwks": {"keys": [dict(keys.credential.public.jwk)]},
            "status_jwks": {"keys": [dict(keys.status.public.jwk)]},
            STATUS_LISTS: [{"uri": status_list_of(issuer), "size": MIN_ENTRIES}],
            KEY_PROOFS: {key.public.kid: key_proof(issuer, key) for key in (keys.credential, keys.status)},
        }
    }
    claims = configuration_claims(
        entity_id=issuer,
        federation_keys=[keys.federation.public],
        metadata=metadata,
        authority_hints=authority_hints,
        lifetime=timedelta(hours=1),
        now=NOW,
        seq=_SEQ,
    )
    return sign_compact(TYP, claims, keys.federation)


def status_list_of(issuer: str) -> str:
    """Give the address of an issuer's one status list."""
    return f"{issuer}/status/bench"


if __name__ == "__main__":
    sys.stdout.write(f"{_hold(Path(sys.argv[1]), int(sys.argv[2]))}\n")
