"""Encodes and decodes the JSON payload of control frames.

Unknown keys are ignored (a newer peer may send more).  The values of known keys must have the
declared type.  A missing key without a default is an error.

Hundreds of agents may each send ten STATS messages per second, so the schema of each kind of
message is computed only once.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from enum import Enum
from functools import cache
from typing import Any, Callable, Dict, List, Tuple, Type, TypeVar, Union

from pcapd.errors import RemoteProtocolError
from pcapd.limits import CONTROL_MAX, TEXT_MAX
from pcapd.wire.frames import FrameType
from pcapd.wire.messages import (
    End,
    EndReason,
    Error,
    Hello,
    Message,
    Notice,
    NoticeType,
    Ping,
    Pong,
    Source,
    Stats,
    Stop,
)
from pcapd.wire.requests import CaptureStart, Request

__all__ = ["decode", "encode"]

_FRAME_TYPES: Dict[type, FrameType] = {
    Hello: FrameType.HELLO,
    CaptureStart: FrameType.START,
    Request: FrameType.START,
    Source: FrameType.SOURCE,
    Stats: FrameType.STATS,
    Notice: FrameType.NOTICE,
    Stop: FrameType.STOP,
    End: FrameType.END,
    Error: FrameType.ERROR,
    Ping: FrameType.PING,
    Pong: FrameType.PONG,
}

_INTEGER_MAX = 2**63 - 1

# No \uXXXX escapes: a message that the api forwards must not become longer.
_JSON = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, default=vars)

M = TypeVar("M")
Converter = Callable[[Any, str], Any]


def encode(message: Message) -> Tuple[FrameType, bytes]:
    """The frame type and JSON payload of a message.

    Texts that are too long are cut.  If the counters in END would make the frame too large,
    they are left out; each source's last STATS message contains them too.
    """
    fields = vars(message)
    if isinstance(message, (Notice, End, Error)):
        fields = {name: _cut(value) for name, value in fields.items()}
    payload = _json(fields)
    if isinstance(message, End) and len(payload) > CONTROL_MAX:
        payload = _json({**fields, "sources": []})
    return _FRAME_TYPES[type(message)], payload


def _cut(value: Any) -> Any:
    too_long = isinstance(value, str) and len(value) > TEXT_MAX
    return value[: TEXT_MAX - 1] + "…" if too_long else value


def _json(fields: Dict[str, Any]) -> bytes:
    return _JSON.encode(fields).encode(errors="replace")


def decode(kind: Type[M], payload: bytes) -> M:
    """Decode a message of the expected kind from a control frame's payload.

    Raises:
        RemoteProtocolError: The payload is not JSON, lacks a field, or has a value of the
            wrong type or out of range.
    """
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"{kind.__name__} message is not JSON") from error
    try:
        message = _build(kind, value)
    except (ValueError, TypeError, OverflowError) as error:
        raise RemoteProtocolError(f"{kind.__name__} message: {error}") from error
    return typing.cast(M, message)


def _build(kind: type, value: Any) -> Any:
    if not isinstance(value, dict):
        raise TypeError("not an object")
    fields = {}
    for name, convert, required in _schema(kind):
        if name in value:
            fields[name] = convert(value[name], name)
        elif required:
            raise ValueError(f"{name} is missing")
    return kind(**fields)


@cache
def _schema(kind: type) -> List[Tuple[str, Converter, bool]]:
    hints = typing.get_type_hints(kind)
    return [
        (field.name, _converter(hints[field.name]), field.default is dataclasses.MISSING)
        for field in dataclasses.fields(kind)
    ]


def _converter(hint: Any) -> Converter:
    """A function that converts a JSON value to a field's type; it raises `ValueError` or `TypeError`."""
    origin = typing.get_origin(hint)
    if origin is Union:  # Optional: the only union that messages use
        return _optional(_converter(typing.get_args(hint)[0]))
    if origin is tuple:
        return _tuple(_converter(typing.get_args(hint)[0]))
    if dataclasses.is_dataclass(hint):
        return lambda value, _: _build(typing.cast(type, hint), value)
    if issubclass(hint, Enum):
        return _enumeration(hint)
    return {int: _integer, float: _number}.get(hint) or _exactly(hint)


def _optional(convert: Converter) -> Converter:
    return lambda value, name: None if value is None else convert(value, name)


def _tuple(convert: Converter) -> Converter:
    def items(value: Any, name: str) -> Any:
        _check_type(value, list, name)
        return tuple(convert(item, name) for item in value)

    return items


def _exactly(kind: type) -> Converter:
    def same(value: Any, name: str) -> Any:
        _check_type(value, kind, name)
        return value

    return same


def _integer(value: Any, name: str) -> Any:
    _check_type(value, int, name)
    if not -_INTEGER_MAX <= value <= _INTEGER_MAX:
        raise ValueError(f"{name} has more than 64 bits")
    return value


def _number(value: Any, name: str) -> Any:
    if type(value) is int:
        return float(value)
    _check_type(value, float, name)
    return value


def _enumeration(kind: Type[Enum]) -> Converter:
    def member(value: Any, name: str) -> Any:
        _check_type(value, str, name)
        try:
            return kind(value)
        except ValueError:
            # A newer peer may send values that this version does not know.
            return NoticeType.UNKNOWN if kind is NoticeType else EndReason.FAILED

    return member


def _check_type(value: Any, kind: type, name: str) -> None:
    # Not isinstance, which would accept a JSON true as a number.
    if type(value) is not kind:
        raise TypeError(f"{name} is not a {kind.__name__}")
