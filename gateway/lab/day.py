"""Mr Xu's day (facts/domain.md 3.1), played over real calls between real processes.

Seven chapters: the provinces recognise each other; Mr Xu gets through; it can be proven afterwards; five more matters;
whoever cheats does not get through, each time for its own reason; what was taken back is refused; provinces go down and
no other is harmed. Every step is one question to one gateway, and what it should answer is written down before it is
asked.

Only the gateways' part of a household migration is played. Which papers are needed and how long they travel between
two police forces is not a gateway's business, and nothing here says how long a migration takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from gateway.core.identifiers import Province
from gateway.lab.agreement import COURT_FILING, HUKOU_MIGRATION, LICENCE_DISPLAY
from gateway.lab.callers import Observed
from gateway.lab.cast import COURT, HUKOU, RESIDENTS, XU, XU_IN_HEFEI, Words, identity
from gateway.lab.federation import Lab
from gateway.lab.matters import accepted, matters, statuses
from gateway.lab.proofs import proofs
from gateway.lab.refusals import refusals
from gateway.lab.stage import Case, Stage, Step, run

SH, JS, ZJ, AH = Province
_ACCEPTED: Final = Observed(verdict="accepted", attributes=None)
LATER: Final = timedelta(minutes=16)
"""Longer than a household migration lets a status list be old."""


def play(lab: Lab) -> Iterator[Step]:
    """Play the whole day, step by step. Processes are killed on the way; at the end all four are up again."""
    stage = Stage(lab)
    chapters = (
        (Words("四省市互认", "Every province recognises every other"), _recognition(stage)),
        (Words("徐先生的一天", "Mr Xu's day"), _accepted(stage)),
        (Words("事后可证", "Provable afterwards"), proofs(stage)),
        (Words("同样的网关，不同的事项", "The same gateways, other matters"), matters(stage)),
        (Words("冒用与滥用，一一拒绝", "Every way of cheating is turned away"), refusals(stage)),
        (Words("收回的不再认可", "What was taken back is refused"), statuses(stage)),
        (Words("一地故障，他处不受影响", "One province's outage harms no other"), _outage(stage)),
    )
    for title, cases in chapters:
        for case in cases:
            yield run(case, title)


def _recognition(stage: Stage) -> Sequence[Case]:
    def pair(home: Province, place: Province) -> Case:
        person = RESIDENTS[home]
        return Case(
            name=f"{home.code}-credential-in-{place.code}",
            asks=(place, HUKOU),
            title=Words(
                f"{home.name_zh}签发给{person.name_zh}的凭证",
                f"{person.name_en}'s credential, issued by {home.name_en}",
            ),
            expected=_with(person.claims),
            action=lambda: stage.present(place, stage.wallet(home)),
        )

    return tuple(pair(home, place) for home in Province for place in Province if home is not place)


def _accepted(stage: Stage) -> Sequence[Case]:
    name_only = {"name": XU.claims["name"]}
    return (
        Case(
            name="xu-household-migration",
            asks=(AH, HUKOU),
            title=Words(
                "徐某办理跨省户口网上迁移：上海签发，合肥核验",
                "Mr Xu's household migration: Shanghai issued, Hefei verifies",
            ),
            expected=accepted(XU.claims, level=4, household="sh"),
            action=lambda: stage.present(AH, stage.wallet(SH)),
        ),
        Case(
            name="xu-shows-name-only",
            asks=(AH, HUKOU),
            title=Words("徐某亮证：只出示姓名", "Mr Xu shows a licence and discloses his name only"),
            expected=_with(name_only),
            action=lambda: stage.present(
                AH, stage.wallet(SH), LICENCE_DISPLAY, withhold=frozenset(XU.claims) - name_only.keys()
            ),
        ),
        Case(
            name="xu-counter-gets-name-only",
            asks=(AH, HUKOU),
            title=Words(
                "出示全部信息，本事项也只放行姓名", "he discloses everything; the matter is given his name only"
            ),
            expected=_with(name_only),
            action=lambda: stage.present(AH, stage.wallet(SH), LICENCE_DISPLAY),
        ),
        Case(
            name="xu-resident-of-anhui",
            asks=(SH, HUKOU),
            title=Words(
                "迁入后由安徽签发：号码仍以31开头，户籍地为合肥，上海认可",
                "after the move Anhui issues: number still 31…, household in Hefei, accepted in Shanghai",
            ),
            expected=accepted(XU_IN_HEFEI.claims, level=4, household="ah"),
            action=lambda: stage.present(SH, stage.issue(AH, XU_IN_HEFEI)),
        ),
        Case(
            name="single-sign-on",
            asks=(JS, COURT),
            title=Words(
                "钱某凭浙江单点登录的一次性断言，在江苏法院跨域立案",
                "Mr Qian files with a Jiangsu court by a Zhejiang assertion",
            ),
            expected=_with({name: RESIDENTS[ZJ].claims[name] for name in ("name", "id_type", "id_number")}),
            action=lambda: stage.service(JS, COURT).verify(COURT_FILING, stage.assertion(ZJ, identity(JS, COURT))),
        ),
    )


def _outage(stage: Stage) -> Sequence[Case]:
    def issuer_down() -> Observed:
        wallet = stage.wallet(SH)
        stage.lab.kill(SH)
        return stage.present(AH, wallet)

    def restarted_alone() -> Observed:
        stage.lab.kill(JS)
        stage.lab.kill(ZJ)
        stage.lab.restart(AH)
        return stage.present(AH, stage.wallet(SH))

    def later(matter: str) -> Observed:
        # With one anchor left, nobody attests the time that the clock shows: it can be put back.
        with stage.lab.clock_moved(LATER):
            return stage.present(AH, stage.wallet(SH), matter)

    def all_back() -> Observed:
        stage.lab.start()
        return stage.present(JS, stage.issue(SH))

    return (
        Case(
            name="issuer-down",
            asks=(AH, HUKOU),
            title=Words("强行终止上海的进程，合肥照常核验", "Shanghai's process is killed; Hefei verifies as before"),
            expected=_ACCEPTED,
            action=issuer_down,
        ),
        Case(
            name="restarted-alone",
            asks=(AH, HUKOU),
            title=Words(
                "其余三地全部停机，安徽重启后照常核验",
                "all others down, Anhui restarted: it verifies from what it stored",
            ),
            expected=_ACCEPTED,
            action=restarted_alone,
        ),
        Case(
            name="status-too-old",
            asks=(AH, HUKOU),
            title=Words(
                "十六分钟后：状态列表对户口迁移而言过旧，不能判断，也不拒绝",
                "16 minutes later: the status list is too old for a migration; undecided, and not refused",
            ),
            expected=Observed(verdict="indeterminate", reason="STATUS_UNAVAILABLE"),
            action=lambda: later(HUKOU_MIGRATION),
        ),
        Case(
            name="status-old-enough-for-a-licence",
            asks=(AH, HUKOU),
            title=Words("对亮证而言仍够用", "it is young enough for showing a licence"),
            expected=_ACCEPTED,
            action=lambda: later(LICENCE_DISPLAY),
        ),
        Case(
            name="all-back",
            asks=(JS, HUKOU),
            title=Words("全部恢复：上海签发，江苏核验", "all are back: Shanghai issues, Jiangsu verifies"),
            expected=_ACCEPTED,
            action=all_back,
        ),
    )


def _with(attributes: Mapping[str, Any]) -> Observed:
    """Accepted, with exactly these attributes released."""
    return Observed(verdict="accepted", attributes=attributes)
