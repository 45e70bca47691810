"""Go's encoding/gob, as far as the cf CLI's RPC needs it (https://pkg.go.dev/encoding/gob).

A stream consists of messages: a length, a type id, and either the definition of a type
(its id is negative) or a value.  Values are decoded to bool, int, float, bytes, str,
lists, dicts by field name (structs) and lists of pairs (maps); values that only Go can
read become bytes.  Structs lack the fields that are zero.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple, Union

from pcapd.errors import RemoteProtocolError

__all__ = ["BOOL", "INT", "STRING", "UINT", "Decoder", "Encoder", "Kind", "Map", "Slice", "Struct"]

#: Bytes of a message: a token takes a few KB, everything else less.
MESSAGE_MAX = 64 * 1024
#: Types that one stream may define.
TYPES_MAX = 256
#: Depth of nested values.
DEPTH_MAX = 32
#: First id of the types that a stream defines itself.
FIRST_ID = 64


@dataclass(frozen=True)
class Basic:
    """A predefined type."""

    id: int


BOOL, INT, UINT, STRING = Basic(1), Basic(2), Basic(3), Basic(6)


@dataclass(frozen=True)
class Struct:
    """A struct; values are mappings by field name, which may lack fields."""

    name: str
    fields: Tuple[Tuple[str, Kind], ...]


@dataclass(frozen=True)
class Slice:
    """A list; `name` is empty unless the type has a name in Go."""

    elem: Kind
    name: str = ""


@dataclass(frozen=True)
class Map:
    """A mapping; sent in the order of its keys."""

    key: Kind
    elem: Kind
    name: str = ""


Kind = Union[Basic, Struct, Slice, Map]


# --- out ------------------------------------------------------------------------


def _uint(value: int) -> bytes:
    if value < 128:
        return bytes((value,))
    data = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return bytes((256 - len(data),)) + data


def _int(value: int) -> bytes:
    return _uint(value << 1 if value >= 0 else (~value << 1) | 1)


def _string(value: str) -> bytes:
    data = value.encode()
    return _uint(len(data)) + data


class Encoder:
    """One direction of a connection: each type is defined before its first value.

    Args:
        first_id: The id of the first type; in Go it depends on the process's history.
    """

    def __init__(self, first_id: int = FIRST_ID) -> None:
        self._ids: Dict[Kind, int] = {}
        self._next = first_id
        self._defined: Dict[Kind, bool] = {}

    def encode(self, kind: Kind, value: Any) -> bytes:
        """The value, preceded by the type definitions that the reader lacks."""
        parts = [_message(definition) for definition in self._definitions(kind)]
        mark = b"" if isinstance(kind, Struct) else b"\0"
        parts.append(_message(_int(self._id(kind)) + mark + self._value(kind, value)))
        return b"".join(parts)

    def _id(self, kind: Kind) -> int:
        if isinstance(kind, Basic):
            return kind.id
        if kind not in self._ids:
            # In Go's order, so that our streams can be compared with Go's.
            if isinstance(kind, Struct):
                self._take_id(kind)
                for _, field in kind.fields:
                    self._id(field)
            else:
                if isinstance(kind, Map):
                    self._id(kind.key)
                self._id(kind.elem)
                self._take_id(kind)
        return self._ids[kind]

    def _take_id(self, kind: Kind) -> None:
        self._ids[kind] = self._next
        self._next += 1

    def _definitions(self, kind: Kind) -> Iterator[bytes]:
        if isinstance(kind, Basic) or kind in self._defined:
            return
        self._defined[kind] = True
        number = self._id(kind)
        name = b"\x01" + _string(kind.name) + b"\x01" if kind.name else b"\x02"
        common = b"\x01" + name + _int(number) + b"\0"
        yield _int(-number) + self._wire_type(kind, common)
        inner: List[Kind] = []
        if isinstance(kind, Struct):
            inner = [field for _, field in kind.fields]
        else:
            inner = [kind.key, kind.elem] if isinstance(kind, Map) else [kind.elem]
        for each in inner:
            yield from self._definitions(each)

    def _wire_type(self, kind: Kind, common: bytes) -> bytes:
        if isinstance(kind, Struct):
            fields = [
                b"\x01" + _string(name) + b"\x01" + _int(self._id(of)) + b"\0" for name, of in kind.fields
            ]
            return b"\x03" + common + b"\x01" + _uint(len(fields)) + b"".join(fields) + b"\0\0"
        if isinstance(kind, Map):
            types = b"\x01" + _int(self._id(kind.key)) + b"\x01" + _int(self._id(kind.elem))
            return b"\x04" + common + types + b"\0\0"
        assert isinstance(kind, Slice)
        return b"\x02" + common + b"\x01" + _int(self._id(kind.elem)) + b"\0\0"

    def _value(self, kind: Kind, value: Any) -> bytes:
        if isinstance(kind, Struct):
            return self._struct(kind, value)
        if isinstance(kind, Slice):
            return _uint(len(value)) + b"".join(self._value(kind.elem, each) for each in value)
        if isinstance(kind, Map):
            pairs = [self._value(kind.key, key) + self._value(kind.elem, value[key]) for key in sorted(value)]
            return _uint(len(pairs)) + b"".join(pairs)
        if kind == STRING:
            return _string(value)
        return _int(value) if kind == INT else _uint(int(value))

    def _struct(self, kind: Struct, value: Mapping[str, Any]) -> bytes:
        parts, delta = [], 1
        for name, field in kind.fields:
            given = value.get(name)
            if isinstance(field, Struct):
                given = given or {}  # Go sends these even if they are zero
            elif not given:
                delta += 1
                continue
            parts.append(_uint(delta) + self._value(field, given))
            delta = 1
        return b"".join(parts) + b"\0"


def _message(payload: bytes) -> bytes:
    return _uint(len(payload)) + payload


# --- in -------------------------------------------------------------------------


class _Wire(NamedTuple):
    """A type defined by the other side: which of wireType's fields, and its parts."""

    form: int
    types: Tuple[int, ...] = ()
    names: Tuple[str, ...] = ()


#: Fields of wireType.
_ARRAY, _SLICE, _STRUCT, _MAP, _GOB_ENCODER, _BINARY, _TEXT = range(7)

_COMMON_TYPE = 18
_FIELD_LIST = 22
_WIRE_TYPE = 16
#: The types of definitions (encoding/gob/type.go).
_BOOTSTRAP = {
    _WIRE_TYPE: _Wire(
        _STRUCT,
        (17, 19, 20, 23, 40, 40, 40),
        ("ArrayT", "SliceT", "StructT", "MapT", "GobEncoderT", "BinaryMarshalerT", "TextMarshalerT"),
    ),
    17: _Wire(_STRUCT, (_COMMON_TYPE, 2, 2), ("CommonType", "Elem", "Len")),
    _COMMON_TYPE: _Wire(_STRUCT, (6, 2), ("Name", "Id")),
    19: _Wire(_STRUCT, (_COMMON_TYPE, 2), ("CommonType", "Elem")),
    20: _Wire(_STRUCT, (_COMMON_TYPE, _FIELD_LIST), ("CommonType", "Field")),
    21: _Wire(_STRUCT, (6, 2), ("Name", "Id")),
    _FIELD_LIST: _Wire(_SLICE, (21,)),
    23: _Wire(_STRUCT, (_COMMON_TYPE, 2, 2), ("CommonType", "Key", "Elem")),
    40: _Wire(_STRUCT, (_COMMON_TYPE,), ("CommonType",)),
}


class _Reader:
    """Reads one message; each item takes at least one byte."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise RemoteProtocolError("gob: a value is longer than its message")
        self._at += size
        return self._data[self._at - size : self._at]

    def uint(self) -> int:
        first = self.take(1)[0]
        if first < 128:
            return first
        size = 256 - first
        if size > 8:
            raise RemoteProtocolError("gob: a number of more than 64 bits")
        return int.from_bytes(self.take(size), "big")

    def signed(self) -> int:
        value = self.uint()
        return ~(value >> 1) if value & 1 else value >> 1

    def sized(self) -> bytes:
        return self.take(self.uint())

    def string(self) -> str:
        return self.sized().decode(errors="replace")

    def real(self) -> float:
        value: float = struct.unpack("<d", self.uint().to_bytes(8, "big"))[0]
        return value

    def count(self) -> int:
        count = self.uint()
        if count > self.left:
            raise RemoteProtocolError("gob: more elements than bytes")
        return count


_BASIC: Mapping[int, Callable[[_Reader], Any]] = {
    1: lambda reader: reader.uint() != 0,
    2: _Reader.signed,
    3: _Reader.uint,
    4: _Reader.real,
    5: _Reader.sized,
    6: _Reader.string,
    7: lambda reader: complex(reader.real(), reader.real()),
}
_INTERFACE = 8


class Decoder:
    """The receiving direction: decodes values from a stream with bounded memory."""

    def __init__(self) -> None:
        self._types: Dict[int, _Wire] = dict(_BOOTSTRAP)
        self._buffer = b""

    def feed(self, data: bytes) -> List[Any]:
        """The values of the messages that are complete now.

        Raises:
            RemoteProtocolError: The data is not gob, or exceeds a limit.
        """
        self._buffer += data
        values: List[Any] = []
        while (message := self._message()) is not None:
            reader = _Reader(message)
            number = reader.signed()
            if number < 0:
                self._define(-number, reader)
            else:
                values.append(self._top(number, reader))
            if reader.left:
                raise RemoteProtocolError("gob: a message is longer than its value")
        return values

    def _message(self) -> Optional[bytes]:
        if not self._buffer:
            return None
        first = self._buffer[0]
        head = 1 if first < 128 else 1 + 256 - first
        if head > 9:
            raise RemoteProtocolError("gob: a number of more than 64 bits")
        if len(self._buffer) < head:
            return None
        size = _Reader(self._buffer[:head]).uint()
        if size > MESSAGE_MAX:
            raise RemoteProtocolError(f"gob: a message of {size} bytes")
        if len(self._buffer) < head + size:
            return None
        message, self._buffer = self._buffer[head : head + size], self._buffer[head + size :]
        return message

    def _define(self, number: int, reader: _Reader) -> None:
        if number < FIRST_ID or number in self._types or len(self._types) >= TYPES_MAX:
            raise RemoteProtocolError(f"gob: type {number} must not be defined")
        definition = self._struct(_BOOTSTRAP[_WIRE_TYPE], reader, 0)
        if len(definition) != 1:
            raise RemoteProtocolError("gob: a definition must define exactly one type")
        ((name, inner),) = definition.items()
        form = _BOOTSTRAP[_WIRE_TYPE].names.index(name)
        if form == _STRUCT:
            fields = inner.get("Field", [])
            names = tuple(field.get("Name", "") for field in fields)
            self._types[number] = _Wire(form, tuple(field.get("Id", 0) for field in fields), names)
        else:
            parts = [inner[part] for part in ("Key", "Elem") if part in inner]
            wanted = {_ARRAY: 1, _SLICE: 1, _MAP: 2}.get(form, 0)
            if len(parts) != wanted:
                raise RemoteProtocolError("gob: a definition lacks a type")
            self._types[number] = _Wire(form, tuple(parts))

    def _top(self, number: int, reader: _Reader) -> Any:
        wire = self._types.get(number)
        if (wire is None or wire.form != _STRUCT) and reader.uint() != 0:
            raise RemoteProtocolError("gob: a value without its mark")
        return self._value(number, reader, 0)

    def _value(self, number: int, reader: _Reader, depth: int) -> Any:
        if depth > DEPTH_MAX:
            raise RemoteProtocolError("gob: values are nested too deeply")
        read = _BASIC.get(number)
        if read is not None:
            return read(reader)
        if number == _INTERFACE:
            return self._interface(reader)
        wire = self._types.get(number)
        if wire is None:
            raise RemoteProtocolError(f"gob: type {number} is not defined")
        if wire.form == _STRUCT:
            return self._struct(wire, reader, depth)
        if wire.form in (_ARRAY, _SLICE):
            return [self._value(wire.types[0], reader, depth + 1) for _ in range(reader.count())]
        if wire.form == _MAP:
            key, elem = wire.types
            return [
                (self._value(key, reader, depth + 1), self._value(elem, reader, depth + 1))
                for _ in range(reader.count())
            ]
        return reader.sized()  # a type with its own encoding

    def _struct(self, wire: _Wire, reader: _Reader, depth: int) -> Dict[str, Any]:
        value: Dict[str, Any] = {}
        index = -1
        while delta := reader.uint():
            index += delta
            if index >= len(wire.types):
                raise RemoteProtocolError("gob: a field that the struct does not have")
            value[wire.names[index]] = self._value(wire.types[index], reader, depth + 1)
        return value

    def _interface(self, reader: _Reader) -> Optional[bytes]:
        """Bytes of a value whose type only Go knows; None for nil."""
        if not reader.sized():
            return None
        reader.signed()
        return reader.sized()
