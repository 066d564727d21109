"""``mrg charter install``: how a charter that people signed and carried by hand comes into a running federation.

The first charter is in the configuration. Every later one is taken into the store of one gateway here, after the same
checks that a gateway makes of what a peer offers. That gateway looks into its store before it asks its peers, and the
others follow from it; so it may run meanwhile, and one province installing is enough.

Several versions may be given at once, for a gateway that was away for long. All steps are checked before the first is
written. Versions on the way may have expired; the last must not have, or its successor is being held back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway.cli import files, options
from gateway.cli.charter_screen import identity
from gateway.cli.console import ExitCode, Failure, exit_codes, stdout, until, write_document
from gateway.cli.drafting import read_charter
from gateway.cli.store import open_store
from gateway.config import Config
from gateway.core.changes import charter_entry
from gateway.core.charter import (
    Charter,
    merge_signatures,
    parse_charter,
    require_unexpired,
    verify_chain,
    verify_pinned,
    verify_successor,
)
from gateway.core.entries import seal
from gateway.core.reasons import Rejected
from gateway.storage import TrustStore
from gateway.storage.opening import exists

EXIT_CODES: Final = exit_codes(
    {ExitCode.OK: "installed, or held already", ExitCode.NO: "not acceptable: nothing was installed"}
)


def install(
    charters: Annotated[list[Path], typer.Argument(metavar="CHARTER.json...")],
    *,
    config: options.ConfigOption,
    lab_clock: options.ExplicitLabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Take a charter, or several in a row, into this province's gateway. It may be running.

    Each must follow the one before it, signed by the quorum of the old anchors and of the new ones. The gateway takes
    it up at its next round, the other provinces' gateways from this one. The configuration goes on naming the first
    charter.
    """
    now = options.world(lab_clock).now()
    loaded = options.configuration(config)
    offered = _by_version(charters)
    with open_store(loaded) as stores:
        store = stores.trust
        current = _walked(loaded, store)
        _check_held(offered, {**store.load_charters(), current.version: current.document})
        steps = _steps(current, offered, now)
        for step in steps:  # at most as many as files were given
            store.save_charter(step.version, step.document, [seal(charter_entry(step, "installed", now))])
        # The running gateway may have followed a peer meanwhile, and what is written first stays.
        _check_held({step.version: step for step in steps}, store.load_charters())
    last = steps[-1] if steps else current
    absent = _absent(loaded, last)
    if as_json:
        write_document(
            {
                "installed": [step.version for step in steps],
                "version": last.version,
                "sha256": last.sha256,
                "not_in_it": absent,
            }
        )
        return
    versions = " ".join(str(step.version) for step in steps)
    stdout().facts(
        [
            *identity(last),
            ("Expires", until(last.expires_at, now)),
            ("Installed", f"version {versions}" if steps else "nothing: it is held already"),
            *(("Mind", f"{entity_id} of this province has no part in it") for entity_id in absent),
            ("Next", f"see the gateways follow it: mrg trust show --config {config}"),
        ]
    )


def export(
    *,
    config: options.ConfigOption,
    out: Annotated[Path, typer.Option(help="Where to write it.")] = Path("charter.json"),
    as_json: options.JsonOption = False,
) -> None:
    """Write the newest charter that this province holds to a file: what the next one is drafted from.

    Its gateway may have followed it from a peer, so that there is no file of it yet. An existing file is never written
    over.
    """
    newest = held(options.configuration(config))
    if out.exists():
        raise Failure(f"{out}: exists already", fix="move it away, or name another file with --out")
    files.write_text(out, newest.document, mode=files.PUBLIC)
    if as_json:
        write_document({"file": str(out), "version": newest.version, "sha256": newest.sha256})
        return
    stdout().facts([("File", str(out)), *identity(newest)])


def held(config: Config) -> Charter:
    """Give the newest charter that a province holds: in its store, or before its first start in its configuration.

    Raises:
        Failure: the store or the charter cannot be read.
    """
    if not exists(config):
        return _pinned(config)
    with open_store(config) as stores:
        return _walked(config, stores.trust)


def _walked(config: Config, store: TrustStore) -> Charter:
    pinned = _pinned(config)
    later = [document for version, document in store.load_charters().items() if version > pinned.version]
    try:
        return verify_chain(pinned, later)
    except Rejected as error:
        raise Failure(
            f"{config.database}: holds charters that do not follow each other ({error.detail})",
            fix="put the database back from the backup, or ask another province for theirs: mrg charter export",
        ) from error


def _pinned(config: Config) -> Charter:
    file = config.charter.file
    try:
        return verify_pinned(file.read_text("utf-8"), config.charter.sha256)
    except Rejected as error:
        raise Failure(
            f"{file}: {error.detail}",
            fix="compare the file and the digest in the configuration with the other provinces: mrg charter verify",
        ) from error
    except (OSError, ValueError) as error:
        raise Failure(f"{file}: cannot be read", fix="put the charter's file back") from error


# -- what is offered --------------------------------------------------------------------------------------------------


def _by_version(charters: Sequence[Path]) -> Mapping[int, Charter]:
    """Read the files, oldest version first; copies of one charter are put together."""
    offered: dict[int, Charter] = {}
    for file in charters:
        charter = read_charter(file).unverified
        other = offered.get(charter.version)
        if other is not None:
            try:
                document = merge_signatures([other.document, charter.document])
            except Rejected as error:
                raise _two_charters(charter.version) from error
            charter = parse_charter(document).unverified
        offered[charter.version] = charter
    return dict(sorted(offered.items()))


def _check_held(offered: Mapping[int, Charter], documents: Mapping[int, str]) -> None:
    for version, charter in offered.items():
        if version in documents and parse_charter(documents[version]).unverified.sha256 != charter.sha256:
            raise _two_charters(version)


def _two_charters(version: int) -> Failure:
    return Failure(
        f"there are two different charters of version {version}",
        fix="nothing was installed; call the other provinces, compare digests, and find out who signed both",
        code=ExitCode.NO,
    )


def _steps(start: Charter, offered: Mapping[int, Charter], now: datetime) -> Sequence[Charter]:
    """Check every step from the charter held to the last one offered."""
    steps: list[Charter] = []
    for version, charter in offered.items():
        current = steps[-1] if steps else start
        if version <= current.version:
            continue
        if version > current.version + 1:
            raise Failure(
                f"version {version} does not follow version {current.version} directly",
                fix=f"give version {current.version + 1} too; another province has it: mrg charter export",
                code=ExitCode.NO,
            )
        try:
            steps.append(verify_successor(current, charter.document))
        except Rejected as error:
            raise Failure(
                f"version {version}: {error.detail}",
                fix="see who has to sign it: mrg charter verify CHARTER.json --previous OLD.json",
                code=ExitCode.NO,
            ) from error
    if steps:
        try:
            require_unexpired(steps[-1], now)
        except Rejected as error:
            raise Failure(error.detail, fix="give its successors as well, in one command", code=ExitCode.NO) from error
    return steps


def _absent(config: Config, charter: Charter) -> list[str]:
    """Entities that this province's process plays and the charter does not name."""
    named = {member.entity_id for member in charter.members} | {anchor.entity_id for anchor in charter.anchors}
    own = (config.entities.gateway, config.entities.issuer, config.entities.anchor)
    return [entity_id for entity_id in own if entity_id is not None and entity_id not in named]
