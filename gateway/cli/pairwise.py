"""``mrg keys pairwise``: replacing the secret behind pseudonyms, offline.

It makes the next version's secret and says what to put into the configuration, which is the administrator's own file,
with their comments: no command rewrites it. Nothing changes before the gateway is started with those lines. A window
that is open is not cut short by another replacement: records that have not been moved could not be any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Final

import typer

from gateway.cli import options
from gateway.cli.console import ExitCode, Failure, Lang, exit_codes, instant, stdout, until, write_document
from gateway.config import MAX_MAPPING_DAYS, MAX_PAIRWISE_VERSION, Config, PairwiseOptions
from gateway.keystore import KeyStoreError, SecretName
from gateway.keystore.file import make_secret, read_secrets, secret_file

EXIT_CODES: Final = exit_codes(
    {
        ExitCode.OK: "shown; with --apply: the secret is there",
        ExitCode.NO: "not done: records are still being moved from the version before",
    }
)
_MIN_WINDOW: Final = timedelta(days=1)


def pairwise(
    *,
    config: options.ConfigOption,
    issuer: Annotated[
        bool, typer.Option("--issuer", help="Of the pseudonyms in what our issuer signs, not of those given out.")
    ] = False,
    window: Annotated[str, typer.Option(help="How long both pseudonyms are given, from 1d on.")] = "90d",
    apply: Annotated[
        bool, typer.Option("--apply", help="Make the next secret. Without it: what would change.")
    ] = False,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Replace the secret behind pseudonyms. Offline; changes nothing without --apply, and no configuration ever.

    From the restart on, every pseudonym is another one. For the length of the window the one before is given as well,
    so that records can be moved.
    """
    loaded = options.configuration(config)
    world = options.world(lab_clock)
    now = world.now()
    name: SecretName = "pairwise-issuer" if issuer else "pairwise"
    present = loaded.pairwise_issuer if issuer else loaded.pairwise
    _check_replaceable(loaded, present, now, issuer=issuer)
    following = PairwiseOptions(version=present.version + 1, mapped_until=_end(window, now))
    file = secret_file(loaded.keys, name, following.version)
    try:
        held = read_secrets(loaded.keys)
        if (name, present.version) not in held:
            place = secret_file(loaded.keys, name, present.version)
            raise Failure(f"{place}: is missing", fix="put it back from the backup, before anything replaces it")
        is_there = (name, following.version) in held
        if apply and not is_there:
            make_secret(loaded.keys, name, following.version, world)
    except KeyStoreError as error:
        raise Failure(f"{error.place}: {error.problem}", fix=error.fix) from error
    lines = [f"version = {following.version}", f"mapped_until = {instant(following.mapped_until)}"]
    if as_json:
        write_document(
            {
                "secret": name,
                "version": present.version,
                "next_version": following.version,
                "mapped_until": instant(following.mapped_until),
                "file": str(file),
                "file_exists": apply or is_there,
                "table": name.replace("-", "_"),
                "lines": lines,
            }
        )
        return
    state = ("已有", "is there") if apply or is_there else ("加 --apply 时生成", "is made with --apply")
    screen, pick = stdout(), lang.pick
    screen.facts(
        [
            (pick("秘密", "Secret"), f"{name}: {present.version} -> {following.version}"),
            (pick("文件", "File"), f"{file} ({pick(*state)})"),
            (pick("新旧并给至", "Both given until"), until(following.mapped_until or now, now)),
            *zip((pick("影响", "Impact"), "", ""), _impact(lang, issuer=issuer), strict=False),
        ]
    )
    screen.line()
    screen.line(pick(f"写入 {config} 的内容：", f"To be put into {config}:"))
    for line in (f"[{name.replace('-', '_')}]", *lines):
        screen.line(line)
    screen.line()
    screen.line(pick(*_next(is_ready=apply or is_there)))


def _check_replaceable(config: Config, present: PairwiseOptions, now: datetime, *, issuer: bool) -> None:
    if issuer and config.entities.issuer is None:
        raise Failure("this province's process plays no issuer", fix="leave --issuer out")
    if present.version >= MAX_PAIRWISE_VERSION:
        raise Failure(f"version {present.version} is the last there is", fix="report it: nobody replaces it that often")
    if present.mapped_version(now) is not None:
        raise Failure(
            f"records are still being moved from version {present.version - 1}",
            fix=f"wait until {instant(present.mapped_until)}",
            code=ExitCode.NO,
        )


def _end(window: str, now: datetime) -> datetime:
    """When a window ends that is to be at least so long: at a midnight, which is easier to tell others."""
    length = options.lifetime(window, "--window")
    if length is None or not _MIN_WINDOW <= length < timedelta(days=MAX_MAPPING_DAYS):
        raise Failure(f"--window is not from 1d to {MAX_MAPPING_DAYS - 1}d", fix="write for example 90d")
    return datetime.combine((now + length).astimezone(UTC).date() + timedelta(days=1), time(), UTC)


def _impact(lang: Lang, *, issuer: bool) -> Sequence[str]:
    pick = lang.pick
    if issuer:
        return (
            pick(
                "自重启起，本签发方新签内容中的假名全部改变，各省给出的假名随之改变。",
                "From the restart on, every pseudonym in what our issuer signs is another one, and so is what all"
                " provinces give out for it.",
            ),
            pick(
                "此前签发的凭证在失效之前仍带旧假名：窗口应长于凭证的有效期。",
                "Credentials issued before carry the old one until they lapse: let the window outlast them.",
            ),
            pick("窗口结束后，谁也无法再对应新旧假名。", "After the window nobody can tell who was who."),
        )
    return (
        pick(
            "自重启起，给各业务系统的假名全部改变；窗口之内同时给出旧假名，以便迁移记录。",
            "From the restart on, every pseudonym that relying services are given is another one; during the window the"
            " one before is given as well, so that they can move their records.",
        ),
        pick("窗口结束后，谁也无法再对应新旧假名。", "After the window nobody can tell who was who."),
    )


def _next(*, is_ready: bool) -> tuple[str, str]:
    if not is_ready:
        return "未作改动。加 --apply 生成秘密。", "Nothing was changed. With --apply the secret is made."
    zh = "写入以上内容，备份新秘密，把它复制给本省的每个进程，再重启。在此之前一切照旧。"
    en = "Put these lines in, back the secret up, give it to all processes, then restart. Until then nothing changes."
    return zh, en
