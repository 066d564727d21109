"""``mrg lab``: the whole federation on one machine, for people who want to see it work or to try something against it.

``up`` plays Mr Xu's day and keeps serving; ``demo`` plays it and leaves. Both end every process they started, whatever
ends them. The other commands look at a lab, or set its clock, while it runs.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Annotated, Any, Final, Self

import typer
from rich.text import Text

from gateway.cli import options
from gateway.cli.console import (
    Cell,
    ExitCode,
    Failure,
    Lang,
    exit_codes,
    instant,
    stderr,
    stdout,
    write_document,
)
from gateway.cli.lab_screen import mark, progress, show_next, shown, written
from gateway.core.identifiers import Province
from gateway.keystore import KeyRole
from gateway.keystore.file import FileKeyStore
from gateway.lab.callers import connect, read_profile
from gateway.lab.cast import COURT, HUKOU
from gateway.lab.charter import RESIDENT_ID, entity_ids
from gateway.lab.day import play
from gateway.lab.federation import Lab, is_serving
from gateway.lab.folder import DEFAULT, LabError, LabFolder, find_lab, prepare_lab, running_pid
from gateway.lab.stage import Step
from gateway.server.listener import FEDERATION_SERVICE

app = typer.Typer(no_args_is_help=True, help="Four provinces on this machine, to see and to try (实验环境).")

_PLAYED: Final = exit_codes(
    {
        ExitCode.OK: "every verdict was the expected one",
        ExitCode.NO: "some verdict was not",
        ExitCode.NOT_ASKED: "the lab could not be started",
        ExitCode.INTERRUPTED: "interrupted before the day was over",
    }
)
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_WATCH_SECONDS: Final = 1.0
_SHIFT: Final = re.compile(r"(?P<sign>[+-])(?P<number>[0-9]{1,9})(?P<unit>[smhd]?)")
_UNIT_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}

_Dir = Annotated[Path, typer.Option("--dir", help="The lab's folder.")]


@app.command(epilog=_PLAYED)
def up(
    *,
    directory: _Dir = DEFAULT,
    fresh: Annotated[bool, typer.Option("--fresh", help="Make the lab anew: other keys, an empty store.")] = False,
    lang: options.LangOption = Lang.BOTH,
) -> None:
    """Start the four provinces, play Mr Xu's day, and keep serving until Ctrl-C.

    The lab's keys and stores stay in its folder, and it can be started again.
    """
    with _Ending() as ending, _running(directory, lang, ending, fresh=fresh) as lab:
        steps = shown(_day(lab, ending), lang)
        show_next(lab.folder, lang)
        _serve(lab, lang, ending)
    raise typer.Exit(_outcome(steps))


@app.command(epilog=_PLAYED)
def demo(
    *,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Folder to make the lab in and keep. Default: one that is deleted.")
    ] = None,
    lang: options.LangOption = Lang.BOTH,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object a line for each step.")] = False,
) -> None:
    """Start the four provinces, play Mr Xu's day, and leave."""
    folder = directory if directory is not None else Path(tempfile.mkdtemp(prefix="mrg-lab-"))
    keep = True
    try:
        with _Ending() as ending, _running(folder, lang, ending) as lab:
            day = _day(lab, ending)
            steps = [written(step) for step in day] if as_json else shown(day, lang)
        keep = not all(step.met for step in steps)
    except KeyboardInterrupt:
        keep = False
        raise
    finally:
        if directory is None and keep:
            stderr().line(f"{lang.pick('保留以供查看', 'Kept for you to look at')}: {folder}")
        elif directory is None:
            shutil.rmtree(folder)
    raise typer.Exit(_outcome(steps))


@app.command(
    context_settings={"ignore_unknown_options": True},  # -300 is no option
    epilog=exit_codes({ExitCode.OK: "done"}),
)
def clock(
    change: Annotated[
        str, typer.Argument(metavar="[+2h|-300|reset]", help="Move the clock by s, m, h or d, or put it right.")
    ] = "",
    *,
    directory: _Dir = DEFAULT,
    as_json: options.JsonOption = False,
) -> None:
    """Show the lab's clock, or set it for all its processes at once. TLS goes by the machine's clock all the same.

    A province does not believe a clock that goes back behind what it has seen attested. The lab's are told to, as by
    mrg trust reset-clock.
    """
    folder = _find(directory)
    with _lab_errors():
        if change:
            before, after = folder.offset, _shifted(change, folder.offset)
            folder.set_offset(after)
            if after < before:
                folder.forget_clock_floors()
        offset, now = folder.offset, instant(folder.world().now())
    if as_json:
        write_document({"offset_seconds": offset, "now": now})
        return
    facts: list[tuple[str, Cell]] = [("Lab time", now or ""), ("Offset", f"{offset:+d} s from this machine's clock")]
    if change:
        facts.append(("Next", "the provinces renew their documents within seconds; mrg lab status shows when"))
    stdout().facts(facts)


@app.command(
    epilog=exit_codes({ExitCode.OK: "every province recognises every issuer", ExitCode.CANNOT_TELL: "not now"})
)
def status(*, directory: _Dir = DEFAULT, as_json: options.JsonOption = False) -> None:
    """Show which provinces run, and which issuers each of them recognises."""
    folder = _find(directory)
    pid = running_pid(folder.path)
    provinces = {province: _recognised(folder, province) if pid is not None else None for province in Province}
    complete = all(found is not None and all(found.values()) for found in provinces.values())
    if as_json:
        states = {
            province.code: {"answers": found is not None, "recognises": found or {}}
            for province, found in provinces.items()
        }
        write_document(
            {"directory": str(folder.path), "pid": pid, "offset_seconds": folder.offset, "provinces": states}
        )
    else:
        screen = stdout()
        screen.facts(
            [
                ("Lab", str(folder.path)),
                ("Process", "not running; start it with mrg lab up" if pid is None else str(pid)),
                ("Clock", f"{folder.offset:+d} s from this machine's"),
            ]
        )
        screen.table(
            "Provinces",
            ("Province", "Verification listener", *(f"recognises {each.code}" for each in Province)),
            [
                (
                    f"{province.code} {province.name_zh} {province.name_en}",
                    Text("down", "red") if found is None else read_profile(folder.profile(province, HUKOU)).address,
                    *(mark(met=(found or {}).get(each.code, False)) for each in Province),
                )
                for province, found in provinces.items()
            ],
        )
    raise typer.Exit(ExitCode.OK if complete else ExitCode.CANNOT_TELL)


@app.command(epilog=exit_codes({ExitCode.OK: "done"}))
def keys(
    *, directory: _Dir = DEFAULT, lang: options.LangOption = Lang.BOTH, as_json: options.JsonOption = False
) -> None:
    """Show where the lab's private keys are and what each is for, so that other software can play a part in the lab."""
    folder = _find(directory)
    found = [key for province in Province for role in _ROLES for key in _keys(folder, province, role)]
    if as_json:
        write_document({"directory": str(folder.path), "clock": str(folder.clock), "keys": found})
        return
    screen = stdout()
    screen.table(
        lang.pick("私钥", "Private keys"),
        (lang.pick("实体", "Entity"), lang.pick("用途", "Signs"), lang.pick("文件", "File"), "kid"),
        [(key["entity"], lang.pick(*_ROLES[key["role"]]), key["file"], key["kid"]) for key in found],
    )
    issuer = next(key["file"] for key in found if (key["province"], key["role"]) == ("sh", "issuer-credential"))
    for line in (
        "",
        lang.pick(
            "每个文件都是未加密的 PKCS#8 PEM，P-256 密钥，算法 ES256；kid 是 RFC 7638 指纹。",
            "Each file is PKCS#8 PEM, not encrypted: a P-256 key for ES256. Its kid is the RFC 7638 thumbprint.",
        ),
        f"  openssl pkey -in {issuer} -noout -text",
        lang.pick(
            f"凭证：typ dc+sd-jwt，vct {RESIDENT_ID}；断言：typ identity-assertion+jwt。照 mrg issue 的输出仿制即可。",
            f"Credentials: typ dc+sd-jwt, vct {RESIDENT_ID}. Assertions: typ identity-assertion+jwt. See what mrg issue"
            " writes for the claims.",
        ),
        lang.pick(
            "客户端证书在各省的 clients/ 中，CA 在 tls/ca.pem；实验时钟文件：",
            "Client certificates are in each province's clients/, its CA in tls/ca.pem. The lab's clock:",
        )
        + f" {folder.clock}",
    ):
        screen.line(line)


# -- playing ----------------------------------------------------------------------------------------------------------


class _Ending:
    """Remembers a signal that asks for the end until the lab is at a point where it can stop in good order.

    An exception out of a signal handler could strike anywhere: while a process is being made, or in a callback of a
    library that swallows it. So the first signal is only noted. A second one ends this process at once; the provinces
    notice and follow.
    """

    def __init__(self) -> None:
        # May be put to from a signal handler, unlike an Event, whose lock the interrupted thread may hold.
        self._asked: SimpleQueue[int] = SimpleQueue()

    def __enter__(self) -> Self:
        # What is ignored stays so: nohup means it.
        wanted = [each for each in _ENDING if signal.getsignal(each) is not signal.SIG_IGN]
        self._before = {each: signal.signal(each, self._note) for each in wanted}
        return self

    def __exit__(self, *_: object) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def check(self) -> None:
        """Raise KeyboardInterrupt when the end was asked for."""
        if not self._asked.empty():
            raise KeyboardInterrupt

    def is_asked(self, seconds: float) -> bool:
        """Wait that long for the end to be asked for."""
        with suppress(Empty):
            self._asked.get(timeout=seconds)
            return True
        return False

    def _note(self, number: int, _frame: object) -> None:
        if not self._asked.empty():
            os._exit(ExitCode.INTERRUPTED)
        self._asked.put(number)


@contextmanager
def _running(directory: Path, lang: Lang, ending: _Ending, *, fresh: bool = False) -> Iterator[Lab]:
    """Give a lab that runs, and end its processes afterwards."""
    with _lab_errors(), progress(lang, "准备四省市的密钥、证书和章程", "Making keys, certificates and the charter"):
        lab = Lab(prepare_lab(directory, fresh=fresh), ending.check)
    with lab, _lab_errors(ExitCode.NOT_ASKED):
        with progress(lang, "启动四个网关，等待彼此认可", "Starting four gateways, until each recognises every issuer"):
            lab.start()
        yield lab
        # Shown only when all went well; what is raised goes to whoever called.
        with progress(lang, "停止", "Stopping"):
            lab.stop()


def _day(lab: Lab, ending: _Ending) -> Iterator[Step]:
    for step in play(lab):
        yield step
        ending.check()


@contextmanager
def _lab_errors(code: ExitCode = ExitCode.USAGE) -> Iterator[None]:
    try:
        yield
    except LabError as error:
        raise Failure(error.problem, fix=error.fix, code=code) from error


def _outcome(steps: Sequence[Step]) -> ExitCode:
    return ExitCode.OK if steps and all(step.met for step in steps) else ExitCode.NO


# -- serving ----------------------------------------------------------------------------------------------------------


def _serve(lab: Lab, lang: Lang, ending: _Ending) -> None:
    """Wait for the end, and tell when a province ended by itself."""
    stdout().line()
    stdout().line(lang.pick("四个网关正在运行，按 Ctrl-C 停止。", "Four gateways are serving. Ctrl-C stops them."))
    running = set(lab.pids)
    while not ending.is_asked(_WATCH_SECONDS):
        for province in running - set(lab.pids):
            words = lang.pick("已退出，见", "has ended; see")
            stderr().line(Text(f"{province.code} {words} {lab.folder.log(province)}", "bold red"))
        running &= set(lab.pids)


# -- looking ----------------------------------------------------------------------------------------------------------

_ROLES: Final[dict[KeyRole, tuple[str, str]]] = {
    "issuer-credential": ("凭证与断言", "credentials and assertions"),
    "issuer-status": ("状态列表", "status lists"),
    "issuer-federation": ("签发机构的实体声明", "the issuer's entity configuration"),
    "anchor-federation": ("章程与下级声明", "the charter and subordinate statements"),
    "gateway-federation": ("网关的实体声明", "the gateway's entity configuration"),
    "gateway-receipt": ("核验回执", "verification receipts"),
    "gateway-audit": ("审计检查点", "audit checkpoints"),
}


def _find(directory: Path) -> LabFolder:
    with _lab_errors():
        return find_lab(directory)


def _shifted(change: str, offset: int) -> int:
    if change == "reset":
        return 0
    match = _SHIFT.fullmatch(change)
    if match is None:
        raise Failure("that is no change of a clock", fix="write for example +2h, -300, +30m or reset")
    return offset + int(match["sign"] + match["number"]) * _UNIT_SECONDS[match["unit"]]


def _recognised(folder: LabFolder, province: Province) -> dict[str, bool] | None:
    """Ask a province which issuers it recognises; None when it does not answer."""
    channel = connect(read_profile(folder.profile(province, COURT)))
    try:
        if not is_serving(channel, FEDERATION_SERVICE):
            return None
        return {each.code: is_serving(channel, entity_ids(each).issuer) for each in Province}
    finally:
        channel.close()


def _keys(folder: LabFolder, province: Province, role: KeyRole) -> list[dict[str, Any]]:
    """The keys of a role, oldest first: the one that signs, as long as nothing was rotated, and then the next."""
    ids = entity_ids(province)
    found = [
        (folder.keys(province) / f"{role}.{kid}.pem", signer.public)
        for kid, signer in FileKeyStore.open(folder.keys(province)).keys(role).items()
    ]
    return [
        {
            "province": province.code,
            "entity": {"anchor": ids.anchor, "issuer": ids.issuer, "gateway": ids.gateway}[role.partition("-")[0]],
            "role": role,
            "file": str(file),
            "format": "PKCS#8 PEM",
            "algorithm": public.algorithm.value,
            "kid": public.kid,
            "jwk": dict(public.jwk),
        }
        for file, public in sorted(found, key=lambda each: each[0].stat().st_mtime_ns)
    ]
