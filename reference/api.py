"""``docs/api/``: a page for each service, and an index in two languages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from gateway.core.texts import Language
from reference.calls import ADDRESSES, BEFORE, CALLS, Call, Caller
from reference.contract import Enum, Field, File, Message, Method, Service
from reference.markdown import in_cell, wrapped

_TRY: Final = ".lab/try"
_MAX_ON_ONE_LINE: Final = 100
_VARIABLE: Final = re.compile(r'"\$[A-Z_]+"')
_WELL_KNOWN: Final = "google.protobuf."
_LISTENERS: Final = ("verification", "federation", "admin")


def page_of(service: str) -> str:
    """Give the name of a service's page."""
    return f"{service.removesuffix('Service').lower()}.md"


def write_pages(contract: Sequence[File]) -> Mapping[str, str]:
    """Write all pages, by their names in ``docs/api``."""
    homes = {
        name: page_of(file.services[0].name) if file.services else "../reasons.md"
        for file in contract
        for name in (*(each.name for each in file.messages), *(each.name for each in file.enums))
    }
    pages = {
        page_of(service.name): "\n".join(_page(file, service, homes)) + "\n"
        for file in contract
        for service in file.services
    }
    services = [service for file in contract for service in file.services]
    return {
        "README.md": write_index(services, Language.EN),
        "README.zh-CN.md": write_index(services, Language.ZH),
        **pages,
    }


# -- a service --------------------------------------------------------------------------------------------------------


def _page(file: File, service: Service, homes: Mapping[str, str]) -> Iterator[str]:
    calls = CALLS[service.name]
    yield f"# {service.name}\n"
    yield "[API](README.md) · [中文目录](README.zh-CN.md) · [Reasons](../reasons.md) · [README](../../README.md)\n"
    yield from _paragraphs(service.comment)
    yield wrapped(
        f"Contract: [`proto/{file.name}`](../../proto/{file.name}). What every call has in common, errors, JSON and"
        " where to get `grpcurl`, is in the [index](README.md). This page is written by `make docs`.\n"
    )
    yield ""
    for method in service.methods:
        yield f"- [`{method.name}`](#{method.name.lower()})"
    yield "\nBefore the first line, in the repository's folder, with the lab running (`make run`):\n"
    yield "```sh"
    yield from _before(service)
    yield "```\n"
    for method in service.methods:
        yield from _method(file, service, method, calls[method.name])
    here = page_of(service.name)
    yield "## Messages\n"
    for message in file.messages:
        yield from _message(message, here, homes)
    if file.enums:
        yield "## Enums\n"
        for enum in file.enums:
            yield from _enum(enum)


def _before(service: Service) -> Iterator[str]:
    yield 'export PATH="$PWD/.venv/bin:$PATH"'
    yield "export MRG_LAB_CLOCK=.lab/clock"
    yield f"mkdir -p {_TRY}"
    used = dict.fromkeys(_calling(CALLS[service.name][method.name]).address for method in service.methods)
    for variable in used:
        yield f"{variable}=$({ADDRESSES[variable]})"
    yield from BEFORE.get(service.name, ())


def _calling(call: Call) -> Caller:
    return call.calls or call.callers[0]


def _method(file: File, service: Service, method: Method, call: Call) -> Iterator[str]:
    yield f"## {method.name}\n"
    yield from _paragraphs(method.comment)
    asks, answers = (
        f"{'a stream of ' if streams else ''}[`{name}`](#{name.lower()})"
        for name, streams in ((method.request, method.streams_requests), (method.response, method.streams_responses))
    )
    yield wrapped(f"- **Request:** {asks}; **answer:** {answers}.", "  ")
    who = "; ".join(f"{caller.who.en}, on the *{caller.listener}* listener" for caller in call.callers)
    yield wrapped(f"- **Who may call:** {who}. Everybody else: `PERMISSION_DENIED`.", "  ")
    errors = "; ".join(f"`{code}`: {when}" for code, when in call.errors.items())
    if errors:
        yield wrapped(f"- **Errors**, besides [those of every call](README.md#errors): {errors}.", "  ")
    else:
        yield "- **Errors:** [those of every call](README.md#errors)."
    yield ""
    yield "```sh"
    yield from call.before
    yield from _grpcurl(file, service, method, call)
    yield from call.after
    yield "```\n"
    if call.ends or call.note:
        ends = f"The lab answers `{call.ends}`." if call.ends else ""
        yield wrapped(f"{ends} {call.note}".strip())
        yield ""


def _grpcurl(file: File, service: Service, method: Method, call: Call) -> Iterator[str]:
    caller = _calling(call)
    yield f"grpcurl -import-path proto -proto {file.name}{''.join(f' {each}' for each in call.options)} \\"
    yield f"  -cacert {caller.ca} -cert {caller.certificate}.pem -key {caller.certificate}.key \\"
    *lines, last = _body(call.body)
    yield from (f"  -d '{last}' \\",) if not lines else (f"  -d '{lines[0]}", *lines[1:], f"{last}' \\")
    kept = f" | tee {_TRY}/{call.kept}" if call.kept else ""
    yield f'  "${caller.address}" recognition.v1.{service.name}/{method.name}{kept}'


def _body(body: Mapping[str, Any]) -> Sequence[str]:
    """Write the JSON of a body for a single-quoted word of a shell, with variables outside the quotes."""
    on_one_line = json.dumps(body, ensure_ascii=False)
    text = on_one_line if len(on_one_line) <= _MAX_ON_ONE_LINE else json.dumps(body, ensure_ascii=False, indent=2)
    return _VARIABLE.sub(lambda found: f"\"'{found[0]}'\"", text).splitlines()


# -- messages and enums -----------------------------------------------------------------------------------------------


def _message(message: Message, here: str, homes: Mapping[str, str]) -> Iterator[str]:
    yield f"### {message.name}\n"
    yield from _paragraphs(message.comment)
    if not message.fields:
        yield "No fields.\n"
        return
    yield "| field | type | number | meaning |"
    yield "|---|---|---|---|"
    for field in message.fields:
        one_of = f" *One of `{field.choice}`.*" if field.choice else ""
        meaning = f"{in_cell(field.comment)}{one_of}"
        yield f"| `{field.name}` | {_type(field, here, homes)} | {field.number} | {meaning} |"
    yield ""


def _type(field: Field, here: str, homes: Mapping[str, str]) -> str:
    name = field.type
    if name in homes:
        page = "" if homes[name] == here else homes[name]
        fragment = "" if page == "../reasons.md" else f"#{name.lower()}"
        shown = f"[{name}]({page}{fragment})"
    else:
        shown = name.removeprefix(_WELL_KNOWN)
    if field.key:
        return f"map of {field.key} to {shown}"
    return f"repeated {shown}" if field.is_repeated else shown


def _enum(enum: Enum) -> Iterator[str]:
    yield f"### {enum.name}\n"
    yield from _paragraphs(enum.comment)
    yield "| value | number | meaning |"
    yield "|---|---|---|"
    for value in enum.values:
        yield f"| `{value.name}` | {value.number} | {in_cell(value.comment)} |"
    yield ""


def _paragraphs(comment: str) -> Iterator[str]:
    for paragraph in comment.split("\n\n"):
        yield wrapped(paragraph)
        yield ""


# -- the index --------------------------------------------------------------------------------------------------------


_INDEX: Final = {
    Language.EN: """\
# API

[中文](README.zh-CN.md) · [README](../../README.md) · [Verdicts](../verdicts.md) · [Reasons](../reasons.md) ·
[Clients](../../clients/README.md)

The contract is [`proto/recognition/v1`](../../proto/recognition/v1); a page for each of its services says what each RPC
does, who may call it, what its messages hold, and has a line to try it with. These pages are written by
`make docs` from the contract's own comments; they are changed there.

## Who calls what

A process has three listeners: *verification*, *federation* and *admin*. All speak gRPC over mutual TLS; the one URI in
the caller's certificate says who calls, and `gateway.toml` what that caller may do.
""",
    Language.ZH: """\
# API

[English](README.md) · [README](../../README.zh-CN.md) · [核验判定](../verdicts.zh-CN.md) ·
[原因](../reasons.zh-CN.md) · [客户端](../../clients/README.zh-CN.md)

契约在 [`proto/recognition/v1`](../../proto/recognition/v1)；每个服务一页（英文），说明各 RPC 做什么、谁可以调用、
消息里有什么，并附一行可以直接试的命令。这些页由 `make docs` 根据契约自己的注释写成；要改，请改那里。

## 谁调用什么

一个进程有三个监听端口：*verification*、*federation* 和 *admin*，都是双向 TLS 上的 gRPC。
调用者证书中唯一的 URI 说明是谁，`gateway.toml` 规定它可以做什么。
""",
}
_PURPOSES: Final = {
    "VerificationService": ("核验凭证：供业务系统", "Verify credentials: for service backends"),
    "IssuanceService": ("签发凭证：供本省身份认证系统", "Issue credentials: for the province's identity systems"),
    "FederationService": ("已签名的信任文件：供各省网关", "Signed trust documents: for gateways"),
    "KeyService": ("本省的签名密钥：供管理员", "The province's signing keys: for administrators"),
    "AnchorService": ("信任锚的成员：供管理员", "The members of a trust anchor: for its administrators"),
    "AuditService": (
        "判定日志、凭据与异议：供审计人员、业务系统和各省网关",
        "The log, evidence and disputes: for auditors, services and gateways",
    ),
}
_REST: Final = {
    Language.EN: """\
## Try it

`grpcurl` is a command-line client for gRPC, a single program; its project is `github.com/fullstorydev/grpcurl`. Many
systems have it as a package; with Go installed:

```sh
go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3
```

The lines on the pages are for the lab (`make run`), in the repository's folder. They are to be run from the top of a
page to its end, since some use what those before them gave. The gateway does not describe itself (reflection is off),
so each line names the contract: `-import-path` and `-proto`. Against a real gateway, change address, CA, certificate
and key; they stand in the client profile that `mrg init` wrote. And give the request on standard input, with `-d @`:
what stands in a command is seen by every user of the machine, and kept in the shell's history.

## JSON

How messages look in `grpcurl`, and in JSON by any protobuf library:

| type | in JSON |
|---|---|
| `int64` | a string, as whole numbers of that size are not safe everywhere: `"1"`; a number is taken too |
| `bytes` | base64 |
| `Timestamp` | `"2026-01-02T03:04:05Z"` |
| `Duration` | seconds: `"90s"` |
| `Struct` | an object |
| an enum | the name of its value |

Field names may be written as in the contract; answers have them in camel case. The details of an error are shown
undecoded, since the contract does not import them; the code and the message are not.

## Errors

An error says that a question was not answered; it is never a verdict, and evidence of nothing. Those that the gateway's
own code makes carry a `google.rpc.ErrorInfo` of the domain `recognition.v1`. Any call may meet the first six; the pages
name the rest where they apply.

| code | `ErrorInfo` reason | when | what to do |
|---|---|---|---|
| `INVALID_ARGUMENT` | `INVALID_REQUEST` | the request is malformed; `BadRequest` names the field | mend the program |
| `PERMISSION_DENIED` | `NOT_PERMITTED` | the caller is not registered for it, here | have the registration changed |
| `RESOURCE_EXHAUSTED` | `OVERLOADED` | no room | wait as long as `RetryInfo` says |
| | `CALLER_RATE_EXCEEDED` | this caller asks too often | likewise |
| | `CALLER_CONCURRENCY_EXCEEDED` | it has too many calls open | likewise |
| | `DEADLINE_TOO_SHORT` | it would be answered too late | likewise; set a longer deadline |
| `UNAVAILABLE` | `UNAVAILABLE` | it cannot be recorded or signed now, or is not reached | see below |
| `DEADLINE_EXCEEDED` | | no time was left | see below; set a longer deadline |
| `INTERNAL` | `INTERNAL` | a bug; the message has a reference to the log | tell the gateway's administrator |
| `NOT_FOUND` | `NOT_HELD` | it is not held here, or not for this caller | never a proof that it does not exist |
| `FAILED_PRECONDITION` | `WRONG_STATE` | not as things stand; `PreconditionFailure` says why | change that first |
| `ABORTED` | `CONFLICT` | decided upon an earlier state | look again, decide again |

After `UNAVAILABLE` and `DEADLINE_EXCEEDED` it is open whether the call was carried out. What only reads may be asked
again. A verification may be, [as it was](../verdicts.md#when-an-answer-is-lost). Calls that issue, record a consent or
open a dispute would do so twice: look first whether it was done.
""",
    Language.ZH: """\
## 试一试

`grpcurl` 是 gRPC 的命令行客户端，只有一个程序；其项目是 `github.com/fullstorydev/grpcurl`。
许多系统有现成的软件包；装有 Go 的：

```sh
go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3
```

各页中的命令针对实验环境（`make run`），在本仓库的文件夹中运行；请从一页的开头依次运行到末尾，
后面的会用到前面得到的内容。网关不描述自己（反射默认关闭），所以每行都用 `-import-path` 和 `-proto` 指明契约。
用于真实网关时，更换地址、CA、证书和私钥；它们写在 `mrg init` 生成的客户端配置中。请求要从标准输入给出（`-d @`）：
写在命令里的内容，这台机器上的每个用户都看得到，还会留在命令历史中。

## JSON

消息在 `grpcurl` 中、以及在任何 protobuf 库的 JSON 中的写法：

| 类型 | JSON |
|---|---|
| `int64` | 字符串，因为这么大的整数并非处处安全：`"1"`；也接受数字 |
| `bytes` | base64 |
| `Timestamp` | `"2026-01-02T03:04:05Z"` |
| `Duration` | 秒数：`"90s"` |
| `Struct` | 对象 |
| 枚举 | 取值的名称 |

字段名可照契约书写；答复中的字段名是驼峰式。错误的细节未经解码显示，因为契约没有导入它们；代码和信息照常显示。

## 错误

错误表示问题没有得到回答；它从不是判定，也不证明任何事情。由网关自己的代码产生的错误带有域为 `recognition.v1` 的
`google.rpc.ErrorInfo`。前六种在任何调用中都可能遇到；其余的由各页指明。

| 代码 | `ErrorInfo` 原因 | 何时 | 怎么办 |
|---|---|---|---|
| `INVALID_ARGUMENT` | `INVALID_REQUEST` | 请求格式有误；`BadRequest` 指出字段 | 修改程序 |
| `PERMISSION_DENIED` | `NOT_PERMITTED` | 调用者没有在此登记这项权限 | 请管理员变更登记 |
| `RESOURCE_EXHAUSTED` | `OVERLOADED` | 没有余量 | 按 `RetryInfo` 等待后再问 |
| | `CALLER_RATE_EXCEEDED` | 该调用者问得过于频繁 | 同上 |
| | `CALLER_CONCURRENCY_EXCEEDED` | 它同时进行的调用过多 | 同上 |
| | `DEADLINE_TOO_SHORT` | 来不及在期限内答复 | 同上；并放宽期限 |
| `UNAVAILABLE` | `UNAVAILABLE` | 目前无法记录或签名，或联系不上 | 见下文 |
| `DEADLINE_EXCEEDED` | | 没有剩余时间 | 见下文；并放宽期限 |
| `INTERNAL` | `INTERNAL` | 程序缺陷；信息中有日志编号 | 告知网关管理员 |
| `NOT_FOUND` | `NOT_HELD` | 此处没有，或不供该调用者查看 | 从不证明它不存在 |
| `FAILED_PRECONDITION` | `WRONG_STATE` | 就目前情形不行；`PreconditionFailure` 说明原因 | 先改变情形 |
| `ABORTED` | `CONFLICT` | 依据的是先前的状态 | 重新查看，重新决定 |

`UNAVAILABLE` 和 `DEADLINE_EXCEEDED` 之后，调用是否已经执行并不确定。只读的可以再问；核验可以
[原样再问](../verdicts.zh-CN.md#答复丢失时)。签发、登记同意、提出异议的调用再来一次就会做两遍：请先查看是否已经办成。
""",
}


def write_index(services: Sequence[Service], language: Language) -> str:
    """Write the index in one language."""
    ordered = sorted(services, key=lambda each: list(CALLS).index(each.name))
    listed = ("\n".join(_listed(service, language)) for service in ordered)
    return "\n".join((_INDEX[language], *listed, _REST[language]))


def _listed(service: Service, language: Language) -> Iterator[str]:
    is_english = language is Language.EN
    page = page_of(service.name)
    zh, en = _PURPOSES[service.name]
    yield f"### {service.name}\n"
    yield f"[{en}]({page}).\n" if is_english else f"[{zh}]({page})。\n"
    yield "| RPC | what it does | who may call |" if is_english else "| RPC | 做什么 | 谁可以调用 |"
    yield "|---|---|---|"
    for method in service.methods:
        call = CALLS[service.name][method.name]
        what = method.comment.split(". ")[0].split("\n")[0].rstrip(".") if is_english else call.zh
        who = "; ".join(f"{each.who.en} (*{each.listener}*)" for each in call.callers)
        if not is_english:
            who = "；".join(f"{each.who.zh}（*{each.listener}*）" for each in call.callers)
        yield f"| [`{method.name}`]({page}#{method.name.lower()}) | {in_cell(what)} | {who} |"
    yield ""
