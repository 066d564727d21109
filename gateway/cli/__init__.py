"""The ``mrg`` command: put together, run, and every way of ending turned into one exit code.

An exit code is an answer that a script acts on: 1 means "no" and nothing else. So nothing that merely went wrong may
end in 1, which is what Python does by itself: a failure that was foreseen has its own code and two lines of text, a bug
has 70 and names its place. No traceback ever shows: its messages may quote what a person was registered under.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway.cli import (
    agreement,
    anchor,
    audit,
    charter,
    consents,
    dispute,
    doctor,
    explanation,
    holder,
    issuance,
    keys,
    lab,
    options,
    receipt,
    serving,
    setup,
    status,
    trust,
    verification,
)
from gateway.cli.console import ExitCode, Failure, exit_codes, report, write_line

NAME: Final = "mrg"
_DISTRIBUTION: Final = "mutual-recognition-gateway"

app = typer.Typer(
    name=NAME,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: the same in a terminal, a pipe and a bug report
    pretty_exceptions_enable=False,
    epilog=exit_codes(
        {
            ExitCode.OK: "done; a verdict: accepted",
            ExitCode.NO: "a verdict: rejected; a charter: not acceptable",
            ExitCode.CANNOT_TELL: "a verdict: indeterminate; trust data: stale or missing",
            ExitCode.NOT_ASKED: "could not ask the gateway",
            ExitCode.BUG: "a fault of this program",
            ExitCode.INTERRUPTED: "interrupted",
        }
    ),
)
app.command("init", epilog=setup.EXIT_CODES, short_help="Set up a province: keys, certificates, configuration.")(
    setup.init
)
app.command("serve", epilog=serving.EXIT_CODES, short_help="Run a province's gateway.")(serving.serve)
app.add_typer(issuance.app, name="issue")
app.add_typer(status.app, name="status")
app.command("challenge", epilog=verification.CHALLENGE_EXIT_CODES, short_help="Ask for a nonce to be signed.")(
    verification.challenge
)
app.add_typer(consents.app, name="consent")
app.command("present", epilog=holder.EXIT_CODES, short_help="Present a credential, disclosing what you choose.")(
    holder.present
)
app.command("verify", epilog=verification.VERIFY_EXIT_CODES, short_help="Ask for the verdict on a presentation.")(
    verification.verify
)
app.command(
    "explain",
    context_settings=options.ANY_NAME,
    epilog=explanation.EXIT_CODES,
    short_help="Tell how a decision came about.",
)(explanation.explain)
app.add_typer(trust.app, name="trust")
app.command("doctor", epilog=doctor.EXIT_CODES, short_help="Find what is wrong, and how to mend it.")(doctor.doctor)
app.add_typer(charter.app, name="charter")
app.add_typer(agreement.app, name="agreement")
app.add_typer(keys.app, name="keys")
app.add_typer(anchor.app, name="anchor")
app.add_typer(receipt.app, name="receipt")
app.add_typer(audit.app, name="audit")
app.add_typer(dispute.app, name="dispute")
app.add_typer(lab.app, name="lab")


def _show_version(wanted: bool) -> None:
    if wanted:
        write_line(f"{NAME} {version(_DISTRIBUTION)}")
        raise typer.Exit


@app.callback()
def _mrg(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Mutual recognition of identity credentials between provinces (身份凭证互认网关)."""


def run(arguments: Sequence[str]) -> int:
    """Run one command and give its exit code."""
    as_json = "--json" in arguments
    try:
        # Not app(...) itself: that would install an exception hook of its own.
        typer.main.get_command(app).main(list(arguments), prog_name=NAME)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else ExitCode.OK
    except Failure as failure:
        report(failure, as_json=as_json)
        return failure.code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the border: the message of a bug may quote a person's data
        report(_bug(error), as_json=as_json)
        return ExitCode.BUG
    return ExitCode.OK


def _bug(error: Exception) -> Failure:
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    return Failure(
        f"internal error: {type(error).__qualname__} in {place}",
        fix="this is a fault of the program; report it with the line above and the version (mrg --version)",
        code=ExitCode.BUG,
    )
