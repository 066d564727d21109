"""What can be proven afterwards, and told to the person: by anybody who has the file, without asking a gateway."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from gateway.config.reader import load_config
from gateway.core.charter import Charter, verify_pinned
from gateway.core.encoding import b64url_decode, b64url_encode
from gateway.core.identifiers import Province
from gateway.core.reasons import Rejected
from gateway.core.receipt import check_bundle, read_bundle, read_logged, view_of
from gateway.lab.callers import Observed
from gateway.lab.cast import HUKOU, IDENTITY, RESIDENTS, Words
from gateway.lab.stage import Case, Stage

SH, AH = Province.SHANGHAI, Province.ANHUI
SEEN_SECONDS: Final = 20.0
"""How long it may take until all others have seen the log. It is a matter of seconds."""
POLL_SECONDS: Final = 0.25


def proofs(stage: Stage) -> Sequence[Case]:
    """Prove a verification of Mr Xu's, try to prove another verdict, and tell him who asked."""
    verified: dict[str, Observed] = {}

    def verification() -> Observed:
        if "xu" not in verified:
            verified["xu"] = stage.present(AH, stage.wallet(SH))
        return verified["xu"]

    return (
        Case(
            name="evidence-is-proven-offline",
            asks=(AH, HUKOU),
            title=Words(
                "凭证据文件离线证明这次核验：回执、日志位置、三省见证",
                "the file proves it offline: receipt, place in the log, three provinces as witnesses",
            ),
            expected=Observed(verdict="accepted", told={"witnesses": len(Province) - 1}),
            action=lambda: _proven(stage, verification(), dict),
        ),
        Case(
            name="evidence-of-another-verdict",
            asks=(AH, HUKOU),
            title=Words("篡改证据中的日志条目：不成立", "somebody edits the entry in the file: it proves nothing"),
            expected=Observed(verdict="rejected", reason="LOG_ENTRY_INVALID"),
            action=lambda: _proven(stage, verification(), _edit_entry),
        ),
        Case(
            name="who-verified-me",
            asks=(SH, IDENTITY),
            title=Words(
                "徐某向上海查询：谁在何处为何事核验过他",
                "Mr Xu asks Shanghai who verified him: where, for which matter, when",
            ),
            expected=Observed(verdict="accepted", told={"named": True, "unreachable": ()}),
            action=lambda: _told(stage, verification()),
        ),
    )


def _proven(stage: Stage, verification: Observed, change: Callable[[dict[str, Any]], object]) -> Observed:
    document = json.loads(_evidence(stage, str(verification.told["verification_id"])))
    change(document)
    evidence = read_bundle(json.dumps(document).encode())
    now = stage.lab.now()
    try:
        check = check_bundle(
            evidence, _charter(stage), lambda charter, at: view_of(evidence, charter, at), read_logged, now
        )
    except Rejected as rejection:
        return Observed(verdict="rejected", reason=rejection.reason.value)
    if not check.in_log:
        return Observed(verdict="indeterminate", reason=check.problems[0].reason.value if check.problems else "")
    return Observed(verdict=check.receipt.verdict.value, told={"witnesses": len(check.witnesses)})


def _evidence(stage: Stage, verification_id: str) -> str:
    """Fetch the evidence, as soon as all other provinces have seen the log, or the time for it is up."""
    deadline = time.monotonic() + SEEN_SECONDS
    while True:
        answer = stage.service(AH).evidence(verification_id)
        if answer.witnesses >= len(Province) - 1 or time.monotonic() > deadline:
            return answer.evidence
        time.sleep(POLL_SECONDS)


def _edit_entry(document: dict[str, Any]) -> None:
    document["entry"] = b64url_encode(b64url_decode(document["entry"]).replace(b'"accepted"', b'"rejected"'))


def _charter(stage: Stage) -> Charter:
    config = load_config(stage.lab.folder.config(AH))
    return verify_pinned(config.charter.file.read_text("utf-8"), config.charter.sha256)


def _told(stage: Stage, verification: Observed) -> Observed:
    answer = stage.identity(SH).disclosures(RESIDENTS[SH])
    named: Mapping[str, str] = {each.verification_id: each.province for each in answer.disclosures}
    return Observed(
        verdict="accepted",
        told={
            "named": named.get(str(verification.told["verification_id"])) == AH.code,
            "unreachable": tuple(answer.unreachable_provinces),
        },
    )
