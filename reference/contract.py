"""The contract as ``buf`` reads it, with its comments."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

PROTO: Final = Path(__file__).resolve().parents[1] / "proto"
_PACKAGE: Final = ".recognition.v1."
_SCALARS: Final = {number: name.removeprefix("TYPE_").lower() for name, number in FieldDescriptorProto.Type.items()}
# Where things stand in a descriptor, by the numbers of its own fields (google/protobuf/descriptor.proto).
_MESSAGES, _ENUMS, _SERVICES = 4, 5, 6
_MEMBERS: Final = 2
"""Fields of a message, values of an enum, RPCs of a service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One value of an enum."""

    name: str
    number: int
    comment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a message."""

    name: str
    number: int
    type: str
    """As the contract writes it: a scalar, a name of this package, or a full name."""
    is_repeated: bool
    key: str
    """The type of the keys where it is a map; else empty."""
    choice: str
    """The name of the choice that it is one of; else empty."""
    comment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Enum:
    """A closed set of values."""

    name: str
    comment: str
    values: Sequence[Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message."""

    name: str
    comment: str
    fields: Sequence[Field]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """An RPC."""

    name: str
    comment: str
    request: str
    response: str
    streams_requests: bool
    streams_responses: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service."""

    name: str
    comment: str
    methods: Sequence[Method]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file of the contract."""

    name: str
    """With its folder, as ``import`` has it."""
    services: Sequence[Service]
    messages: Sequence[Message]
    enums: Sequence[Enum]


def read_contract() -> Sequence[File]:
    """Read all files of the contract."""
    buf = Path(sys.executable).with_name("buf")
    built = subprocess.run(  # noqa: S603 - our own tool, from the environment that runs this
        [buf, "build", PROTO, "--as-file-descriptor-set", "--output", "-"], check=True, capture_output=True
    )
    files = FileDescriptorSet.FromString(built.stdout).file
    return [_file(each) for each in files if f".{each.package}." == _PACKAGE]


def _file(file: FileDescriptorProto) -> File:
    comments = {tuple(each.path): _joined(each.leading_comments) for each in file.source_code_info.location}
    return File(
        name=file.name,
        services=[_service(each, (_SERVICES, place), comments) for place, each in enumerate(file.service)],
        messages=[_message(each, (_MESSAGES, place), comments) for place, each in enumerate(file.message_type)],
        enums=[_enum(each, (_ENUMS, place), comments) for place, each in enumerate(file.enum_type)],
    )


_Comments = Mapping[tuple[int, ...], str]


def _joined(comment: str) -> str:
    """Give a comment with one line a paragraph."""
    paragraphs = comment.strip().split("\n\n")
    return "\n\n".join(" ".join(line.strip() for line in each.splitlines()) for each in paragraphs)


def _service(service: ServiceDescriptorProto, path: tuple[int, ...], comments: _Comments) -> Service:
    return Service(
        name=service.name,
        comment=comments[path],
        methods=[
            Method(
                name=each.name,
                comment=comments[*path, _MEMBERS, place],
                request=each.input_type.removeprefix(_PACKAGE),
                response=each.output_type.removeprefix(_PACKAGE),
                streams_requests=each.client_streaming,
                streams_responses=each.server_streaming,
            )
            for place, each in enumerate(service.method)
        ],
    )


def _message(message: DescriptorProto, path: tuple[int, ...], comments: _Comments) -> Message:
    return Message(name=message.name, comment=comments[path], fields=list(_fields(message, path, comments)))


def _fields(message: DescriptorProto, path: tuple[int, ...], comments: _Comments) -> Iterator[Field]:
    maps = {each.name: each for each in message.nested_type if each.options.map_entry}
    for place, field in enumerate(message.field):
        entry = maps.get(field.type_name.rpartition(".")[2])
        is_repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
        yield Field(
            name=field.name,
            number=field.number,
            type=_type(field if entry is None else entry.field[1]),
            is_repeated=is_repeated and entry is None,
            key="" if entry is None else _type(entry.field[0]),
            choice=message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else "",
            comment=comments[*path, _MEMBERS, place],
        )


def _type(field: FieldDescriptorProto) -> str:
    return field.type_name.removeprefix(_PACKAGE).lstrip(".") if field.type_name else _SCALARS[field.type]


def _enum(enum: EnumDescriptorProto, path: tuple[int, ...], comments: _Comments) -> Enum:
    return Enum(
        name=enum.name,
        comment=comments[path],
        values=[
            Value(name=each.name, number=each.number, comment=comments[*path, _MEMBERS, place])
            for place, each in enumerate(enum.value)
        ],
    )
