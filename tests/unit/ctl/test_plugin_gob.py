"""Go's gob and net/rpc: streams that Go itself made, and bytes that nobody honest makes."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapd.ctl.cfplugin.calls import Call, CallRefused
from pcapd.ctl.cfplugin.gob import (
    FIRST_ID,
    INT,
    MESSAGE_MAX,
    STRING,
    TYPES_MAX,
    Decoder,
    Encoder,
    Map,
    Slice,
    Struct,
)
from pcapd.errors import RemoteProtocolError

# What a Go process sent and answered; the numbers of types are its own.
REQUEST = (
    "2e7f030101075265717565737401ff80000102010d536572766963654d6574686f64010c000103536571010600000019ff80"
)
REQUEST += "0114" + b"CliRpcCmd.IsLoggedIn".hex() + "00" + "030c0000"
RESPONSE = "3aff81030101" + "08" + b"Response".hex() + "01ff820001030" + "10d" + b"ServiceMethod".hex()
RESPONSE += "010c000103" + b"Seq".hex() + "0106000105" + b"Error".hex() + "010c000000"
METADATA = """
67ffa30301010e506c7567696e4d6574616461746101ffa400010501044e616d65010c00010756657273696f6e01ffa600010e4c69627261727956657273696f6e01ffa600
010d4d696e436c6956657273696f6e01ffa6000108436f6d6d616e647301ffae00000037ffa50301010b56657273696f6e5479706501ffa600010301054d616a6f720104
0001054d696e6f7201040001054275696c6401040000001dffad0201010e5b5d6d61696e2e436f6d6d616e6401ffae0001ffa8000047ffa703010107436f6d6d616e6401
ffa800010401044e616d65010c000105416c696173010c00010848656c7054657874010c00010c557361676544657461696c7301ffaa0000002affa90301010555736167
6501ffaa00010201055573616765010c0001074f7074696f6e7301ffac00000021ffab040101116d61705b737472696e675d737472696e6701ffac00010c010c0000
31ffa40104706361700101020104010600010001010c010e0001010104706361700201680101017501 01022d6f017800 0000
"""
VERSION = Struct("VersionType", (("Major", INT), ("Minor", INT), ("Build", INT)))
USAGE = Struct("Usage", (("Usage", STRING), ("Options", Map(STRING, STRING, "map[string]string"))))
COMMAND = Struct(
    "Command", (("Name", STRING), ("Alias", STRING), ("HelpText", STRING), ("UsageDetails", USAGE))
)
PLUGIN = Struct(
    "PluginMetadata",
    (
        ("Name", STRING),
        ("Version", VERSION),
        ("LibraryVersion", VERSION),
        ("MinCliVersion", VERSION),
        ("Commands", Slice(COMMAND, "[]main.Command")),
    ),
)
VALUE: dict[str, Any] = {
    "Name": "pcap",
    "Version": {"Major": 1, "Minor": 2, "Build": 3},
    "MinCliVersion": {"Major": 6, "Minor": 7},
    "Commands": [{"Name": "pcap", "HelpText": "h", "UsageDetails": {"Usage": "u", "Options": {"-o": "x"}}}],
}


def captured(*texts: str) -> bytes:
    return bytes.fromhex("".join("".join(texts).split()))


def response(method: str, *values: str, error: str = "") -> bytes:
    """A reply as Go sends it: the head's type and value, and then the body."""
    name = f"CliRpcCmd.{method}"
    value = f"ff8201{len(name):02x}{name.encode().hex()}"
    value += f"02{len(error):02x}{error.encode().hex()}" if error else ""
    value += "00"
    return captured(RESPONSE, f"{len(value) // 2:02x}{value}", *values)


def test_a_request_is_go_s_to_the_byte() -> None:
    """A request equals Go's bytes."""
    assert Call("IsLoggedIn").request == captured(REQUEST)


def test_metadata_is_go_s_to_the_byte() -> None:
    """Metadata equals Go's bytes: type numbers, order of definitions, omitted fields."""
    assert Encoder(first_id=82).encode(PLUGIN, VALUE) == captured(METADATA)


def test_a_slice_without_a_name() -> None:
    """A slice without a type name equals Go's bytes."""
    encoded = Encoder(first_id=69).encode(Slice(STRING), ["curl", "/v3/apps"])
    expected = "0cff89020102ff8a00010c0000", "12ff8a000204", b"curl".hex(), "08", b"/v3/apps".hex()
    assert encoded == captured(*expected)


def test_types_are_defined_once() -> None:
    """A type is defined once per connection."""
    encoder = Encoder()
    encoder.encode(VERSION, {"Major": 1})
    assert encoder.encode(VERSION, {"Minor": 2}) == bytes.fromhex("05ff80020400")


def test_what_is_encoded_can_be_decoded() -> None:
    """Encoded metadata decodes to the same values."""
    (value,) = Decoder().feed(captured(METADATA))
    commands = [{**VALUE["Commands"][0], "UsageDetails": {"Usage": "u", "Options": [("-o", "x")]}}]
    assert value == {**VALUE, "LibraryVersion": {}, "Commands": commands}


@pytest.mark.parametrize(
    ("method", "body", "reply"),
    [
        ("IsLoggedIn", ("03020001",), True),
        ("AccessToken", ("0d0c000a", b"bearer abc".hex()), "bearer abc"),
        (
            "GetCurrentSpace",
            (
                "24ff85030101055370616365 01ff86000101010b",
                b"SpaceFields".hex(),
                "01ff88000000",
                "2bff870301010b",
                b"SpaceFields".hex(),
                "01ff880001020104",
                b"Guid".hex(),
                "010c000104",
                b"Name".hex(),
                "010c000000",
                "0eff8601010273670103646576 0000",
            ),
            {"SpaceFields": {"Guid": "sg", "Name": "dev"}},
        ),
    ],
)
def test_replies_of_go(method: str, body: tuple[str, ...], reply: Any) -> None:
    """Go's replies are decoded, whole and a byte at a time."""
    data = response(method, *body)
    call = Call(method)
    assert call.receive(data)
    assert call.reply == reply
    slowly = Call(method)
    assert [slowly.receive(data[at : at + 1]) for at in range(len(data))] == [False] * (len(data) - 1) + [
        True
    ]
    assert slowly.reply == reply


def test_an_error_of_go_is_refused_without_its_words() -> None:
    """A Go error refuses the call without repeating its text."""
    data = response("UserEmail", "0aff83030102ff84000000", "03ff8400", error="nope")
    with pytest.raises(CallRefused) as caught:
        Call("UserEmail").receive(data)
    assert "nope" not in str(caught.value)


def test_a_reply_with_more_behind_it() -> None:
    """A reply with further values is refused."""
    with pytest.raises(RemoteProtocolError, match="more than a reply"):
        Call("IsLoggedIn").receive(response("IsLoggedIn", "03020001", "03020001"))


def test_a_reply_to_another_call() -> None:
    """A reply with another sequence number than 0 is refused."""
    name = b"CliRpcCmd.IsLoggedIn"
    value = f"ff8201{len(name):02x}{name.hex()}010100"
    with pytest.raises(RemoteProtocolError, match="reply is not to"):
        Call("IsLoggedIn").receive(captured(RESPONSE, f"{len(value) // 2:02x}{value}", "03020001"))


def test_a_reply_without_a_head() -> None:
    """A value without a reply's head is refused."""
    with pytest.raises(RemoteProtocolError, match="reply is not to"):
        Call("IsLoggedIn").receive(Encoder().encode(STRING, "yes"))


def test_a_length_that_comes_in_pieces() -> None:
    """A message in single bytes decodes to the same value."""
    data = Encoder().encode(STRING, "x" * 300)
    decoder = Decoder()
    assert [value for at in range(len(data)) for value in decoder.feed(data[at : at + 1])] == ["x" * 300]


def test_so_many_types_and_no_more() -> None:
    """A stream that goes on defining types fills no memory."""
    decoder = Decoder()
    with pytest.raises(RemoteProtocolError, match="must not be defined"):
        for number in range(TYPES_MAX):
            decoder.feed(Encoder(first_id=FIRST_ID + number).encode(Slice(STRING), []))


def test_values_of_types_that_only_go_knows() -> None:
    """Interface values are passed over: nil is None, and others stay bytes."""
    data = "0cff81020102ff8200011000 00", "0dff82000200 03", b"int".hex(), "04020006"
    assert Decoder().feed(captured(*data)) == [[None, b"\0\6"]]


def test_a_reply_to_something_else() -> None:
    """A reply to another method is refused."""
    with pytest.raises(RemoteProtocolError, match="reply is not to"):
        Call("AccessToken").receive(response("IsLoggedIn", "03020001"))


@pytest.mark.parametrize("value", [0, 1, 2, -64, 64, -65, 127, 128, 256, -(2**63), 2**63 - 1])
def test_numbers(value: int) -> None:
    """Integers of any size decode to themselves."""
    assert Decoder().feed(Encoder().encode(INT, value)) == [value]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("f7" + "ff" * 9, "more than 64 bits"),
        ("f7", "more than 64 bits"),
        ("0c0400f7" + "01" * 9, "more than 64 bits"),
        ("0cff89020102ff8a00010c0000" * 2, "must not be defined"),
        ("0aff89020102ff8a000000", "lacks a type"),
        ("03ff8900", "exactly one type"),
        ("fd" + f"{MESSAGE_MAX + 1:06x}", "a message of"),
        ("03040102", "without its mark"),
        ("040c0010 61", "longer than its message"),
        ("05 0c00016161", "longer than its value"),
        ("04ff90 0001", "is not defined"),
        ("0b 03 03 0101016101 04 00 00 00", "must not be defined"),
        ("0cff81 030101016101ff820000", "longer than its message"),
        # a list of itself, deeper and deeper
        ("0dff81020102ff820001ff820000" + "28ff8200" + "01" * 37, "too deep"),
        # more elements than bytes
        ("0cff81020102ff8200010c0000" + "08ff8200fcffffffff", "more elements than bytes"),
    ],
)
def test_hostile_bytes_are_refused(data: str, words: str) -> None:
    """Hostile bytes are refused with the reason."""
    with pytest.raises(RemoteProtocolError, match=words):
        Decoder().feed(captured(data))


@given(st.binary(max_size=200), st.integers(0, 400), st.integers(1, 255))
def test_any_bytes_are_values_or_refused(junk: bytes, at: int, change: int) -> None:
    """Random or changed bytes raise only what is documented."""
    spoiled = bytearray(captured(METADATA))
    spoiled[at % len(spoiled)] ^= change
    for data in (junk, bytes(spoiled), captured(RESPONSE) + junk):
        with contextlib.suppress(RemoteProtocolError):
            Decoder().feed(data)
