"""HTTP/2 in clear, as gRPC uses it: h2 plays both ends, and what explain says of the packets is compared."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import pytest
from h2.errors import ErrorCodes
from hpack import Encoder
from hyperframe.frame import ContinuationFrame, DataFrame

from pcapd.analysis.exchanges import http2
from pcapd.analysis.exchanges.frames import PREFACE
from pcapd.analysis.exchanges.log import Exchanges, Log
from pcapd.analysis.report import as_dict
from pcapd.analysis.world import Place, World
from pcapd.ctl.display.explain import explain
from tests.kit.http2 import EMPTY, OK, Fields, Talk, call, headers
from tests.kit.segments import ACK, CLIENT, FIN, RST, Packet, pcap

SECOND = 1_000_000


def grpc(status: int) -> Fields:
    return [("grpc-status", str(status))]


def report(tmp_path: Path, packets: List[Packet]) -> Dict[str, Any]:
    return as_dict(explain([pcap(tmp_path / "a.pcap", packets)]))


def said(found: Dict[str, Any]) -> List[Tuple[str, str]]:
    return [(one["kind"], one["severity"]) for one in found["findings"]]


def groups(found: Dict[str, Any]) -> List[Tuple[str, str, int, int]]:
    return [(one["method"], one["path"], one["count"], one["errors"]) for one in found["requests"]["groups"]]


@pytest.mark.parametrize("size", [25, 31, 100, 1400, 20000])
def test_interleaved_streams(tmp_path: Path, size: int) -> None:
    """Requests that are answered in another order keep their own times, however the bytes are cut into packets."""
    talk = Talk(size).open()
    slow = talk.ask(call("/shop.Cart/Slow", ("x-padding", "p" * 300)), b"\0" * 50)
    talk.client.ping(b"12345678")
    for _ in range(5):
        talk.answer(talk.ask(call()), body=b"\0" * 3000, trailers=grpc(0))
    talk.us += 2 * SECOND
    talk.answer(slow, body=b"\0" * 40000, trailers=grpc(0))
    found = report(tmp_path, talk.close())
    assert sorted(groups(found)) == [("POST", "/shop.Cart", 6, 0)]
    assert said(found) == [("http_slow", "warning")]
    assert "1 of 6 requests" in found["findings"][0]["summary"]
    first = found["requests"]["slowest"][0]
    assert 2 * SECOND < first["duration_us"] < 2 * SECOND + 100 * (90000 // size + 1000) * 2


CODES = {0: False, 1: False, 2: True, 3: False, 4: True, 5: False, 6: False, 7: False, 8: False, 9: False, 10: False,
         11: False, 12: True, 13: True, 14: True, 15: True, 16: False}  # fmt: skip


@pytest.mark.parametrize("trailers_only", [False, True])
@pytest.mark.parametrize(("code", "error"), CODES.items())
def test_grpc_statuses(tmp_path: Path, code: int, error: bool, trailers_only: bool) -> None:
    """The gRPC statuses that correspond to an HTTP status of 500 or more are errors."""
    talk = Talk().open()
    stream = talk.ask(call(), b"\0" * 10)
    if trailers_only:
        talk.answer(stream, [*OK, *grpc(code)])
    else:
        talk.answer(stream, body=b"\0" * 10, trailers=grpc(code))
    found = report(tmp_path, talk.close())
    assert said(found) == ([("http_errors", "error")] if error else [])
    assert groups(found) == [("POST", "/shop.Cart", 1, int(error))]
    assert not error or f"gRPC status {code} (" in found["findings"][0]["summary"]


def reset(
    end: str, code: ErrorCodes, wait: int, *more: Tuple[str, str], headers: bool = False
) -> List[Packet]:
    """A call that one end resets."""
    talk = Talk().open()
    stream = talk.ask(call("/a/b", *more), b"\0")
    talk.us += wait
    if headers:
        talk.server.send_headers(stream, OK)
        talk.flush()
    (talk.client if end == "client" else talk.server).reset_stream(stream, code)
    talk.flush()
    return talk.close()


def refused() -> List[Packet]:
    """The server is shutting down: it answers one call, and leaves another to the next connection."""
    talk = Talk().open()
    first, _ = talk.ask(call()), talk.ask(call())
    talk.server.close_connection(ErrorCodes.NO_ERROR, last_stream_id=first)
    goaway = talk.server.data_to_send()
    talk.raw("server", goaway)
    answer = Encoder()
    answer.header_table_size = 4096
    talk.raw("server", headers(first, answer.encode(OK), "END_STREAM"))
    return talk.close("server")


def streaming(first: int, how: str) -> List[Packet]:
    """A call whose messages arrive for ten seconds, from some time on."""
    talk = Talk().open()
    stream = talk.ask(call("/feed.Feed/Watch"), b"\0", end=how != "both ways")
    if not first:
        talk.server.send_headers(stream, OK)
        talk.flush()
    talk.us += first or SECOND
    if first:
        talk.server.send_headers(stream, OK)
    for _ in range(10):
        talk.server.send_data(stream, b"\0" * 20)
        talk.flush()
        talk.us += SECOND
    if how == "cancelled":
        talk.client.reset_stream(stream, ErrorCodes.CANCEL)
        talk.flush()
    elif how == "whole":
        talk.server.send_headers(stream, grpc(0), end_stream=True)
        talk.flush()
    return talk.close()


def silent(ends: str, *more: Tuple[str, str], end: bool = True, wait: int = 7 * SECOND) -> List[Packet]:
    """A call without any answer, until nothing, a cancel, or the end of the connection."""
    talk = Talk().open()
    talk.answer(talk.ask(call()))
    stream = talk.ask(call("/feed.Feed/Watch", *more), b"\0", end=end)
    talk.us += wait
    if ends == "cancel":
        talk.client.reset_stream(stream, ErrorCodes.CANCEL)
        talk.flush()
    if ends in ("server", "client"):
        return talk.close(ends)
    talk.answer(talk.ask(call()))
    return talk.packets if ends == "nothing" else talk.close()


DEADLINE = ("grpc-timeout", "5S")
CASES: Dict[str, Tuple[Callable[[], List[Packet]], List[Tuple[str, str]]]] = {
    "refused streams are repeated": (lambda: reset("server", ErrorCodes.REFUSED_STREAM, 100), []),
    "GOAWAY leaves later calls to another connection": (refused, []),
    "the server resets": (lambda: reset("server", ErrorCodes.INTERNAL_ERROR, 100), [("http_errors", "error")]),
    "the server resets its answer": (
        lambda: reset("server", ErrorCodes.ENHANCE_YOUR_CALM, 100, headers=True), [("http_errors", "error")],
    ),
    "the server ends early without an error": (lambda: reset("server", ErrorCodes.NO_ERROR, 100, headers=True), []),
    "the client cancels at once": (lambda: reset("client", ErrorCodes.CANCEL, 100), []),
    "the client cancels an answer": (lambda: reset("client", ErrorCodes.CANCEL, 100, headers=True), []),
    "a deadline": (lambda: reset("client", ErrorCodes.CANCEL, 5 * SECOND, DEADLINE), [("http_unanswered", "error")]),
    "a stream": (lambda: streaming(0, "whole"), []),
    "a stream that is cancelled": (lambda: streaming(0, "cancelled"), []),
    "a stream to the end of the capture": (lambda: streaming(0, "open"), []),
    "a stream both ways": (lambda: streaming(0, "both ways"), []),
    "a stream whose header block comes with a late first message": (lambda: streaming(6 * SECOND, "whole"), []),
    "such a stream both ways": (lambda: streaming(6 * SECOND, "both ways"), []),
    "such a stream that is cancelled": (lambda: streaming(6 * SECOND, "cancelled"), []),
    "a stream without an event": (lambda: silent("nothing"), [("http_unanswered", "note")]),
    "a stream without an event, and the client closes": (lambda: silent("client"), [("http_unanswered", "note")]),
    "a stream without an event is cancelled": (lambda: silent("cancel"), [("http_unanswered", "note")]),
    "a stream both ways without an event": (lambda: silent("nothing", end=False), []),
    "and the client closes": (lambda: silent("client", end=False), []),
    "no answer within the deadline": (lambda: silent("nothing", DEADLINE), [("http_unanswered", "error")]),
    "the server closes": (lambda: silent("server", wait=100), [("http_unanswered", "error")]),
    "the server closes a stream both ways": (lambda: silent("server", end=False), [("http_unanswered", "error")]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_ends_of_streams(tmp_path: Path, name: str) -> None:
    """How a stream ends decides what is said of it."""
    make, wanted = CASES[name]
    found = report(tmp_path, make())
    assert said(found) == wanted, found["findings"]


def test_header_blocks_in_parts(tmp_path: Path) -> None:
    """Padding, priorities, CONTINUATION, a pushed response and unknown frames do not disturb the table of fields."""
    talk = Talk(50)
    up, down = Encoder(), Encoder()
    ask, push = (
        up.encode(call("/a/b", ("x-own", "v" * 200))),
        down.encode([(":path", "/pushed"), ("x-own", "w")]),
    )
    talk.raw("client", PREFACE + EMPTY)
    talk.raw("server", EMPTY)
    unknown = b"\0\0\3\x42\xff\0\0\0\1abc"
    fragments = [
        headers(1, ask[:30], "MORE", "END_STREAM", "PADDED", "PRIORITY", pad_length=17, depends_on=3)
    ]
    fragments += [headers(1, part, *flags, kind=ContinuationFrame) for part, flags in
                  ((b"", ("MORE",)), (ask[30:90], ("MORE",)), (ask[90:], ()))]  # fmt: skip
    talk.raw("client", unknown + b"".join(fragments))
    talk.raw("server", b"\0\0" + bytes([6 + len(push)]) + b"\5\x0c\0\0\0\1\1\0\0\0\2" + push + b"\0")
    talk.raw("server", headers(2, down.encode(OK), "END_STREAM"))
    early = down.encode([(":status", "103"), ("link", "</a.css>")])
    talk.raw("server", headers(1, early) + headers(1, down.encode([(":status", "200"), ("x-own", "w")])))
    data = DataFrame(1, b"x" * 300, pad_length=9)
    data.flags = {"END_STREAM", "PADDED"}
    talk.raw("server", data.serialize())
    talk.raw("client", headers(3, up.encode(call("/a/c", ("x-own", "v" * 200))), "END_STREAM"))
    talk.raw("server", headers(3, down.encode([(":status", "503"), ("x-own", "w")]), "END_STREAM"))
    found = report(tmp_path, talk.close())
    assert groups(found) == [("POST", "/a", 2, 1)]
    assert said(found) == [("http_errors", "error")]


def healthy(count: int = 12, size: int = 1400) -> Talk:
    """Calls with their answers, several at a time."""
    talk = Talk(size).open()
    for number in range(count):
        pair = [
            talk.ask(call("/shop.Cart/Add", ("x-request-id", f"{number}-{one}")), b"\0" * 2000)
            for one in "ab"
        ]
        for stream in pair[::-1]:
            talk.answer(stream, body=b"\0" * 3000, trailers=grpc(0))
    return talk


def test_a_gap_is_not_blamed_on_anybody(tmp_path: Path) -> None:
    """Whichever packet the capture misses, it is only said that the capture is incomplete."""
    packets = healthy(4).close()
    followed = 0
    for number in range(len(packets)):
        found = report(tmp_path, packets[:number] + packets[number + 1 :])
        assert {kind for kind, _ in said(found)} <= {"capture_incomplete"}, number
        texts = [
            one["summary"] for one in found["findings"] if "not followed to their ends" in one["summary"]
        ]
        whole = groups(found) == [("POST", "/shop.Cart", 8, 0)]
        assert (
            len(texts) == (not whole) or number < 5
        )  # without its start, a connection is not known as HTTP/2
        followed += whole
        assert sum(count for *_, count, errors in groups(found) if not errors) <= 8
    assert followed > 8  # a gap within a body, or in the TCP handshake, does no harm


def test_a_gap_is_said(tmp_path: Path) -> None:
    """If the capture cuts a packet, either nothing is missed, or a note says that no more is decoded."""
    packets = healthy().close()
    notes = []
    for number in range(3, 15):
        path = Path(pcap(tmp_path / "a.pcap", packets))
        content, at = path.read_bytes(), 24
        for _, data in packets[:number]:
            at += 16 + len(data)
        size = len(packets[number][1])
        head = content[at : at + 8] + (size - 1).to_bytes(4, "little") + content[at + 12 : at + 16]
        path.write_bytes(content[:at] + head + content[at + 16 : at + 15 + size] + content[at + 16 + size :])
        found = as_dict(explain([str(path)]))
        if groups(found) != [("POST", "/shop.Cart", 24, 0)]:
            (note,) = found["findings"]
            notes.append((note["kind"], note["severity"], note["summary"][:59]))
    text = "1 HTTP/2 connections were not followed to their ends: packe"
    assert 0 < len(notes) < 12 and set(notes) == {("capture_incomplete", "note", text)}


@pytest.mark.parametrize("begin", [3, 4, 5, 7, 10, 30, 60])
def test_a_capture_that_starts_later(tmp_path: Path, begin: int) -> None:
    """A connection whose start was not captured has no requests and no finding."""
    packets = healthy().packets
    found = report(tmp_path, packets[begin:])
    assert groups(found) in ([], [("POST", "/shop.Cart", 24, 0)] if begin < 4 else [])
    assert [one for one in found["findings"] if one["severity"] != "note"] == []


def test_an_upgrade(tmp_path: Path) -> None:
    """HTTP/1.1 that continues as HTTP/2 (h2c) is left at its answer with 101."""
    talk = Talk()
    talk.raw("client", b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                       b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n")  # fmt: skip
    talk.raw("server", b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    talk.server.initiate_connection()
    talk.client.initiate_connection()
    talk.flush()
    talk.answer(talk.ask(call()))
    talk.ask(call())
    talk.us += 9 * SECOND
    found = report(tmp_path, talk.close())
    assert said(found) == []
    assert groups(found) == [("GET", "/a", 1, 0)]


def test_a_server_without_http2(tmp_path: Path) -> None:
    """A server that answers in HTTP/1.1 does not speak HTTP/2: its calls fail."""
    talk = Talk()
    talk.client.initiate_connection()
    talk.ask(call())
    talk.raw("server", b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    found = report(tmp_path, talk.close("server"))
    assert said(found) == [("http_errors", "error")]
    assert "got HTTP/1.1 instead of HTTP/2, such as POST /shop.Cart." in found["findings"][0]["summary"]


def test_goaway_and_a_late_frame(tmp_path: Path) -> None:
    """A server that says GOAWAY and closes, and resets what comes later, has not lost a request."""
    talk = healthy(2)
    talk.server.close_connection()
    talk.raw("server", talk.server.data_to_send())
    talk.segment("server", FIN | ACK)
    talk.raw("client", b"\0\0\4\x08\0\0\0\0\0\0\0\x10\0" + headers(9, Encoder().encode(call()), "END_STREAM"))
    talk.segment("server", RST, 1)
    assert [one for one in said(report(tmp_path, talk.packets)) if one[1] == "error"] == []


def test_a_race(tmp_path: Path) -> None:
    """Without GOAWAY, a call on its way is lost."""
    talk = healthy(2)
    talk.us += SECOND
    talk.segment("server", FIN | ACK)
    stream = talk.client.get_next_available_stream_id()
    talk.client.send_headers(stream, call(), end_stream=True)
    talk.raw("client", talk.client.data_to_send())
    talk.segment("server", RST, 1)
    assert ("keepalive_race", "error") in said(report(tmp_path, talk.packets))


def test_places(tmp_path: Path) -> None:
    """Two places see one call; the network's time is between them."""
    talk = Talk().open()
    stream = talk.ask(call(), b"\0" * 3000)
    talk.us += 2 * SECOND
    talk.answer(stream, body=b"\0" * 3000, trailers=grpc(0))
    near = talk.close()
    far = [(us + (70 if data[12:16] == CLIENT else -70), data) for us, data in near]
    found = as_dict(explain([pcap(tmp_path / "a.pcap", near), pcap(tmp_path / "b.pcap", far)]))
    assert groups(found) == [("POST", "/shop.Cart", 1, 0)]
    slowest = found["requests"]["slowest"][0]
    assert (slowest["network_us"], len(slowest["sources"])) == (140, 2)


@pytest.mark.parametrize("contents", [False, True])
def test_contents(tmp_path: Path, contents: bool) -> None:
    """Only if contents are wanted, findings name the host, the whole path and the message of a failed call."""
    talk = Talk().open()
    for code in (5, 14):
        said_ = [*grpc(code), ("grpc-message", f"secret {code}")]
        talk.answer(talk.ask(call("/shop.Cart/Add?token=7")), body=b"1", trailers=said_)
    found = as_dict(explain([pcap(tmp_path / "a.pcap", talk.close())], contents=contents))
    (finding,) = found["findings"]
    shown = "POST app/shop.Cart/Add?token=7 (secret 14)." if contents else "POST /shop.Cart."
    assert finding["summary"].endswith(f" got gRPC status 14 (UNAVAILABLE), such as {shown}")
    assert "secret 5" not in str(found)


def test_both_sides_of_a_proxy() -> None:
    """A call at eth0 and the one that the proxy makes of it at lo are tied by their identifiers, in any protocol."""
    world, wait = World(), 2 * SECOND
    world.places += [Place(0, "web/0:eth0", 0, ()), Place(1, "web/0:lo", 0, ())]
    target = Log(world)
    own = ("x-request-id", "AbC-1")
    outer = PREFACE + EMPTY + headers(1, Encoder().encode(call("/shop.Cart/Add", own)), "END_STREAM")
    answer = EMPTY + headers(1, Encoder().encode([*OK, *grpc(0)]), "END_STREAM")
    inner = b"POST /shop.Cart/Add HTTP/1.1\r\nX-Request-Id: AbC-1\r\n\r\n"
    sent = [
        (1, 0, 0, outer, 0),
        (2, 1, 0, inner, 1000),
        (2, 1, 1, b"HTTP/1.1 204 N\r\n\r\n", wait),
        (1, 0, 1, answer, wait + 500),
    ]
    for serial, place, side, content, us in sent:
        target.payload(serial, 6, place, side, us, 1, 0, 100, len(content), content)
    target.close(2, b"")
    requests = target.close(1, b"").requests
    assert requests is not None
    (slow,) = requests.slow
    assert (slow.wait_us, slow.app_us, slow.envoy_us) == (wait + 500, wait - 1000, 1500)


# --- limits ---------------------------------------------------------------------------


def log() -> Log:
    """The log of one place."""
    world = World()
    world.places.append(Place(0, "eth0", 0, ()))
    return Log(world)


def feed(target: Log, up: bytes, down: bytes = b"", serial: int = 1) -> Exchanges:
    """Give whole directions to a log, and close the conversation."""
    for side, content in ((0, up), (1, down)):
        for at in range(0, len(content), 1400):
            part = content[at : at + 1400]
            target.payload(serial, 6, 0, side, 1000 + at, 1, at, 100 + at, len(part), part)
    return target._exchanges[serial]


BOMBS = {
    "a large field, many times": headers(1, b"\x40\x01a\x7f\xe9\x1d" + b"b" * 3900 + b"\xbe" * 10000),
    "an endless header block": headers(1, b"\x82", "MORE") + headers(1, b"\x86" * 16000, "MORE", kind=ContinuationFrame) * 5,
    "a table without end": headers(1, b"\x3f\xe1\xff\xff\xff\x07"),
    "a number without end": headers(1, b"\xff" + b"\xff" * 16000),
    "a long number": headers(1, b"\xff" + b"\x80" * 16000 + b"\1"),
    "an unknown entry": headers(1, b"\xff\1"),
    "a frame within a header block": headers(1, b"\x82", "MORE") + EMPTY,
    "another stream's header block": headers(1, b"\x82", "MORE") + headers(3, b"\x84", kind=ContinuationFrame),
    "more padding than content": b"\0\0\2\1\x0c\0\0\0\1\x09\x82",
    "a header block of no stream": headers(1, b"\x82")[:5] + bytes(4) + b"\x82",
    "a very large frame": b"\xff\xff\xff\1\4\0\0\0\1" + bytes(70000),
    "no frame first": b"",
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_invalid_bytes_end_the_reading(name: str) -> None:
    """What is not valid or too large ends the reading of the connection, with its requests."""
    target, valid = log(), headers(1, Encoder().encode(call()), "END_STREAM")
    talk = feed(target, PREFACE + (EMPTY if BOMBS[name] else b"") + valid + BOMBS[name] + valid, EMPTY).http[
        0
    ]
    assert (talk.waiting, talk.done, target.http2_lost) == ([], [], 1)


def test_many_calls_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of too many calls at a time, the first ones are followed."""
    monkeypatch.setattr(http2, "_STREAMS_MAX", 10)
    up, down, target = Encoder(), Encoder(), log()
    asked = b"".join(headers(stream, up.encode(call()), "END_STREAM") for stream in range(1, 61, 2))
    talk = feed(target, PREFACE + EMPTY + asked).http[0]
    assert len(talk.waiting) == 10
    answers = b"".join(headers(stream, down.encode(OK), "END_STREAM") for stream in range(59, 0, -2))
    exchanges = feed(target, b"", EMPTY + answers)
    assert (talk.waiting, target.http2_lost) == ([], 0)
    assert exchanges.requests is not None and exchanges.requests.count == 10


def test_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the memory, the connections that were not used for the longest time are given up."""
    target = log()
    target._followed = http2.Followed(64 * 1024)
    valid = PREFACE + EMPTY + headers(1, Encoder().encode(call()), "END_STREAM")
    exchanges = [feed(target, valid, EMPTY, serial) for serial in range(20)]
    left = [bool(one.http[0].waiting) for one in exchanges]
    assert left == sorted(left) and 3 <= sum(left) <= 7 and target.http2_lost == 20 - sum(left)
    for serial in range(20):
        target.close(serial, b"")
    assert not target._followed._sizes and target._followed.left == 64 * 1024


def test_bodies_are_skipped() -> None:
    """Nobody looks at the packets within a body, only at the one with its last byte."""
    target, part = log(), bytes(1000)
    data = (10_000_000).to_bytes(3, "big") + b"\0\1\0\0\0\1"
    begin = PREFACE + EMPTY + headers(1, Encoder().encode(call())) + data
    wanted = target.payload(1, 6, 0, 0, 5, 1, 0, 100, len(begin) + 1000, begin + part)
    assert wanted == len(begin) + 10_000_000 - 1
    assert target.payload(1, 6, 0, 0, 9000, 2, wanted - 999, 100, 1000, part) == wanted + 1
    (request,) = target._exchanges[1].http[0].waiting
    assert (request.ended, request.sent.first_us, request.sent.last_us) == (True, 5, 9000)


@pytest.mark.parametrize("seed", range(20))
def test_any_bytes(tmp_path: Path, seed: int) -> None:
    """Damaged bytes raise no exception, and requests that nobody sent are not found."""
    draw = random.Random(seed)
    talk = healthy(3, 300)
    packets = []
    for us, data in talk.packets:
        changed = bytearray(data)
        if len(data) > 40 and draw.random() < 0.2:
            changed[draw.randrange(40, len(data))] = draw.randrange(256)
        packets.append((us, bytes(changed)))
    found = report(tmp_path, packets)
    assert sum(count for *_, count, _ in groups(found)) <= 6
