"""What is fuzzed: one function of bytes per decoder that reads what others wrote.

A target may raise nothing at all: it expects the errors that its decoder
documents and asserts what must hold beside that.  A new one is a decorated
function here and a few seeds in ``corpus/NAME/``.

The first bytes of an input often choose among variants, so that a fuzzer can
reach all of them: `_Input` takes them off.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import dataclasses
import importlib
import io
import itertools
import json
import struct
import time
import urllib.parse
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from twisted.internet.defer import fail
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.web.http import parse_qs
from zope.interface import implementer

from pcapd.agent.containers.runtime import parse_process, parse_runc_state, parse_state_file
from pcapd.agent.containers.store import is_handle, parse_store
from pcapd.agent.owntraffic import Ends, own_traffic
from pcapd.analysis import _conversations
from pcapd.analysis.exchanges.frames import PREFACE
from pcapd.analysis.exchanges.http2 import Followed, Http2
from pcapd.analysis.exchanges.streams import NEVER, Piece, Room
from pcapd.analysis.explanation import Explanation
from pcapd.analysis.report import as_dict
from pcapd.api.http.download import DownloadResource, parse_query
from pcapd.api.http.stream import StreamResource
from pcapd.api.http.web import ClientInfo, HealthResource
from pcapd.api.resolvers.cc import choose
from pcapd.api.resolvers.tokens import parse_keys
from pcapd.capture import exclusion
from pcapd.capture.bpf import check_text, effective_filter, failing_part, mirrored
from pcapd.clouds import cloudcontroller as cc
from pcapd.clouds import roles
from pcapd.clouds.directorssh import parse_accounts, parse_task
from pcapd.clouds.tokens import check_form, expiry, owner_of
from pcapd.clouds.uaa import LoginProblem, Tokens, parse_client_token, parse_tokens
from pcapd.config import certificates
from pcapd.config.document import read_document
from pcapd.config.parse import survey_agent, survey_api
from pcapd.ctl.cfplugin.calls import Call, CallRefused
from pcapd.ctl.cfplugin.gob import Decoder
from pcapd.ctl.display.decode import decode as decode_packet
from pcapd.ctl.display.explain import as_lines
from pcapd.ctl.display.text import escape
from pcapd.ctl.login.cfconfig import parse_login, with_tokens
from pcapd.ctl.ssh.capture import FarCapture, State
from pcapd.ctl.ssh.farside import MARK
from pcapd.ctl.ssh.names import parse_configuration, parse_known_hosts
from pcapd.ctl.stream.connection import refused
from pcapd.ctl.stream.session import CaptureSession
from pcapd.ctl.stream.websocket import Splitter
from pcapd.errors import (
    BadFilter,
    BadRequest,
    CaptureFailed,
    ConfigError,
    MixedLinkTypes,
    NamespaceGone,
    RecordError,
    RemoteProtocolError,
    RequestError,
    ResolverUnavailable,
    Unauthenticated,
)
from pcapd.limits import (
    CONFIG_MAX,
    CONTROL_MAX,
    EXCHANGE_BYTES,
    FLOW_DELAYS,
    FRAME_MAX,
    FRAME_TYPICAL,
    NAME_MAX,
    SNAPLEN_MAX,
)
from pcapd.merge import Source as Batches
from pcapd.merge.muxer import Muxer
from pcapd.net.httpserver import HttpSite
from pcapd.net.pages import NotFoundResource
from pcapd.packet.row import ROW_SIZE, make_row, rows_of
from pcapd.records import _busiest, _reference, _savefile
from pcapd.savefile import reader, shift
from pcapd.savefile.blocks import BadFile, FileInterface
from pcapd.savefile.cut import cut
from pcapd.savefile.form import Form
from pcapd.savefile.reader import Rows
from pcapd.savefile.stream import PcapStream
from pcapd.wire import (
    App,
    Callee,
    Caller,
    CaptureStart,
    End,
    Error,
    Frame,
    FrameDecoder,
    Hello,
    Notice,
    Packets,
    Ping,
    Pong,
    Request,
    Source,
    Stats,
    Stop,
    decode,
    encode,
)
from tests.kit.unit.transport import HttpTransport

Target = Callable[[bytes], None]

#: By their names, which are also those of the directories in ``corpus``.
TARGETS: Dict[str, Target] = {}
#: Packages with a compiled module.
COMPILED = ("records", "savefile", "merge", "analysis")
#: Targets that reach C: worth running under a sanitizer.
NATIVE = (
    "aligned",
    "analysis_conversations",
    "analysis_flows",
    "analysis_merge_rows",
    "explanation",
    "merge_batches",
    "merge_matcher",
    "records_busiest",
    "records_check",
    "records_headers",
    "records_pack",
    "records_rows",
    "records_savefile",
    "savefile_reading",
    "savefile_rows",
)

CORPUS = Path(__file__).parent / "corpus"


def target(function: Target) -> Target:
    """Register a target under its function's name."""
    TARGETS[function.__name__] = function
    return function


class _Input:
    """Choices from the beginning of an input; zeros when it is used up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, size: int = 1) -> int:
        piece = self._data[self._at : self._at + size]
        self._at += size
        return int.from_bytes(piece, "little")

    def pick(self, choices: Tuple[Any, ...]) -> Any:
        return choices[self.number() % len(choices)]

    @property
    def rest(self) -> bytes:
        return self._data[self._at :]

    def chunks(self, count: int) -> List[bytes]:
        """The rest, cut into pieces whose sizes come first."""
        sizes = [self.number(2) for _ in range(count - 1)]
        rest, pieces = self.rest, []
        for size in sizes:
            pieces.append(rest[:size])
            rest = rest[size:]
        return [*pieces, rest]


# --- wire -------------------------------------------------------------------------


@target
def frames(data: bytes) -> None:
    """However a stream is cut, the same frames come out of it, and little is kept."""
    choices = _Input(data)
    pieces = choices.chunks(1 + choices.number() % 5)
    whole, broken = _decoded([b"".join(pieces)])
    parts, broken_too = _decoded(pieces)
    assert broken == broken_too
    assert parts == whole


def _decoded(pieces: List[bytes]) -> Tuple[List[Frame], bool]:
    decoder = FrameDecoder()
    found: List[Frame] = []
    try:
        for piece in pieces:
            for frame in decoder.feed(piece):
                found.append(frame._replace(payload=bytes(frame.payload)))
            assert decoder.pending <= FRAME_MAX + 8
    except RemoteProtocolError:
        return found, True
    return found, False


_MESSAGES: Tuple[type, ...] = (
    Hello,
    CaptureStart,
    Request,
    Source,
    Stats,
    Notice,
    Stop,
    End,
    Error,
    Ping,
    Pong,
)


@target
def messages(data: bytes) -> None:
    """A message that is taken can be said again, shown and logged."""
    choices = _Input(data)
    kind = choices.pick(_MESSAGES)
    payload = choices.rest
    if len(payload) > CONTROL_MAX:
        return
    try:
        message = decode(kind, payload)
    except RemoteProtocolError:
        return
    _, said = encode(message)
    assert len(said) <= CONTROL_MAX
    understood = decode(kind, said)  # not the same: words may have been cut
    assert encode(understood)[1] == said
    repr(message).encode()
    for value in vars(message).values():
        if isinstance(value, int):
            value.to_bytes(8, "little", signed=True)  # so that sums and floats of it are possible


@target
def agent_side(data: bytes) -> None:
    """What an agent hears."""
    _converse(Callee(CaptureStart), data)


@target
def api_side(data: bytes) -> None:
    """What the api hears from a client."""
    _converse(Callee(Request), data)


@target
def api_from_agent(data: bytes) -> None:
    """What the api hears from an agent; it passes on all that it took."""
    caller = Caller()
    client = Callee(Request)
    with contextlib.suppress(RemoteProtocolError):
        for event in caller.receive(data):
            message = event.message
            if isinstance(message, Hello):
                caller.hello(_HELLO)
                caller.start(_START)
            elif isinstance(message, Packets):
                _reference.check(message.records, SNAPLEN_MAX)
                client.packets(event.source, message.records)
            elif isinstance(message, Source):
                told = dataclasses.replace(
                    message, instance="i" * NAME_MAX, agent_address="2001:db8::1", clock_offset_us=-(2**62)
                )
                client.source(event.source, told)
            elif isinstance(message, Stats):
                client.stats(event.source, message)
            elif isinstance(message, Notice):
                client.notice(dataclasses.replace(message, origin="o" * NAME_MAX))
            elif isinstance(message, Error):
                client.end(message)
            elif isinstance(message, Ping):
                caller.pong(message, 1)
        caller.eof()


_HELLO = Hello(level=1, role="api", id="fuzz", version="1", time_us=1)
_START = CaptureStart(capture="c", request_id="r", instance="i")


def _converse(callee: Callee, data: bytes) -> None:
    callee.hello(_HELLO)
    with contextlib.suppress(RemoteProtocolError):
        for event in callee.receive(data):
            if isinstance(event.message, Ping):
                callee.pong(event.message, 1)
            if isinstance(event.message, CaptureStart):
                _leave_out(event.message)
        callee.eof()


def _leave_out(start: CaptureStart) -> None:
    """What an api names as its own becomes rules of bounded size, and text without surprises."""
    rules = own_traffic(Ends("192.0.2.1", 9494, "192.0.2.2"), start.api, ["192.0.2.1"], at_home=True)
    assert len(exclusion.except_for(rules, [], 1, b"")) <= 8 * 4096
    exclusion.text(rules).encode("ascii")


@target
def client_capture(data: bytes) -> None:
    """What pcapctl hears from the api: the file holds whole blocks whatever comes, and words are clean."""
    choices = _Input(data)
    form = choices.pick((Form.PCAPNG, Form.PCAP))
    muxer = Muxer(form, SNAPLEN_MAX, ordered=bool(choices.number() & 1))
    capture = CaptureSession(Request(targets=("t",)), muxer, None, 0.0)
    written: List[bytes] = []
    try:
        for number, piece in enumerate(choices.chunks(3)):
            capture.receive(piece, float(number), number)
            written += muxer.take(float(number))
            capture.to_send()
    except (RemoteProtocolError, MixedLinkTypes):
        pass
    written += muxer.statistics(1) + muxer.finish(2)
    content = b"".join(written)
    if content:
        assert cut(form, content, len(content), begins_file=True) == (len(content), 0)
    for words in [*(f"{n.origin} {n.message}" for n in capture.notices), str(capture.error), capture.reason]:
        assert escape(words).isprintable()
        escape(words).encode()
    assert capture.outcome is not None


@target
def websocket(data: bytes) -> None:
    """Bytes from an api's WebSocket: views of what came, no more than came."""
    choices = _Input(data)
    splitter = Splitter()
    given = taken = 0
    with contextlib.suppress(RemoteProtocolError):
        for piece in choices.chunks(1 + choices.number() % 4):
            found = splitter.feed(memoryview(piece))
            given += len(piece)
            taken += sum(map(len, found.data)) + sum(map(len, found.others))
            assert taken <= given


@target
def refusal_body(data: bytes) -> None:
    """What an api answers instead of an upgrade."""
    choices = _Input(data)
    words = str(refused(choices.number(2), choices.rest))
    assert escape(words).isprintable()


# --- the api's HTTP and WebSocket ----------------------------------------------------


class _Wire(HttpTransport):
    """A client's connection in memory, as forgiving as a real one."""

    def setTcpNoDelay(self, _: bool) -> None:
        pass

    def unregisterProducer(self) -> None:
        self.producer = None


class _Front:
    """An api that refuses every capture, having read what is asked for."""

    def __init__(self) -> None:
        self.reactor: Any = Clock()
        self.clients = 0

    def accepting(self) -> None:
        pass

    def hello(self) -> Hello:
        return _HELLO

    def health(self) -> Dict[str, Any]:
        return {"healthy": True}

    def begin(self, request: Request, token: Optional[str], client: Any, sink: Any) -> Any:
        repr((request, token, client)).encode()
        return fail(Unauthenticated("no"))

    def client(self, request: Any) -> ClientInfo:
        info = ClientInfo.of(request, (ip_network("0.0.0.0/0"), ip_network("::/0")))
        repr((info, info.facts)).encode()
        return info

    def released(self, capture: Any) -> None:
        pass

    def refused(self, failure: Any, client: Any, wanted: Any = None) -> RequestError:
        failure.trap(RequestError)
        assert isinstance(failure.value, RequestError)
        return failure.value

    def joined(self, sink: Any) -> None:
        self.clients += 1

    def left(self, sink: Any) -> None:
        self.clients -= 1


@target
def api_http(data: bytes) -> None:
    """What anybody sends to the api: HTTP, and a WebSocket in it.  Twisted logs what nobody expected."""
    choices = _Input(data)
    pieces = choices.chunks(1 + choices.number() % 3)
    front = _Front()
    root = NotFoundResource()
    root.putChild(b"health", HealthResource(front.health))
    root.putChild(b"capture", DownloadResource(front))
    root.putChild(b"stream", StreamResource(front))
    site = HttpSite(root, front.reactor)
    wire = _Wire()
    problems: List[Any] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if "log_failure" in event:
            problems.append(event["log_failure"])

    globalLogPublisher.addObserver(observe)
    try:
        channel: Any = site.buildProtocol(wire.getPeer())
        channel.makeConnection(wire)
        for piece in pieces:
            if not wire.disconnecting:
                channel.dataReceived(piece)
                front.reactor.advance(0.01)
        channel.connectionLost(Failure(ConnectionDone()))
        front.reactor.advance(200)
    finally:
        globalLogPublisher.removeObserver(observe)
    assert not problems, problems[0].getTraceback()
    assert front.clients == 0
    assert not front.reactor.getDelayedCalls()


# --- C against Python ----------------------------------------------------------------


NATIVE_MODULES = {package: importlib.import_module(f"pcapd.{package}._native") for package in COMPILED}

_libc = ctypes.CDLL(None)
_libc.malloc.restype = ctypes.c_void_p
_libc.malloc.argtypes = [ctypes.c_size_t]
_libc.free.argtypes = [ctypes.c_void_p]


@contextlib.contextmanager
def _exact(data: bytes) -> Iterator[Any]:
    """The bytes in memory that ends where they end: a read past it is a read that a sanitizer sees.

    A bytes object has a zero behind it.
    """
    address = _libc.malloc(len(data))
    try:
        ctypes.memmove(address, data, len(data))
        yield memoryview((ctypes.c_ubyte * len(data)).from_address(address)).cast("B")
    finally:
        _libc.free(address)


_REFERENCES = {package: importlib.import_module(f"pcapd.{package}._reference") for package in COMPILED}
_REFERENCES["analysis"] = SimpleNamespace(  # type: ignore[assignment]
    **vars(_REFERENCES["analysis"]), ConversationTable=_conversations.ConversationTable
)
_REFERENCES["records"] = SimpleNamespace(  # type: ignore[assignment]
    **{**vars(_reference), "busiest": _busiest.busiest, "from_savefile": _savefile.from_savefile}
)


def _both(package: str, pieces: Tuple[bytes, ...], call: Callable[[Any, Tuple[Any, ...]], Any]) -> Any:
    """The result of both implementations, which must be the same; None for an error."""
    outcomes = []
    for module in (_REFERENCES[package], NATIVE_MODULES[package]):
        with contextlib.ExitStack() as stack:
            buffers = tuple(stack.enter_context(_exact(piece)) for piece in pieces)
            try:
                outcomes.append(call(module, buffers))
            except (RecordError, ValueError) as error:
                outcomes.append((type(error), str(error)))
    assert outcomes[0] == outcomes[1]
    return outcomes[1]


_EDGES = (0, 1, 16, 40, 300, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1)
_LINK_TYPES = (1, 101, 113, 228, 229, 276, 9, 0, 51, 104)


@target
def records_check(data: bytes) -> None:
    """Walking a peer's batch."""
    choices = _Input(data)
    most = choices.pick((SNAPLEN_MAX, 0, 64, 2**31 - 1))
    _both("records", (choices.rest,), lambda records, pieces: records.check(pieces[0], most))


@target
def records_rows(data: bytes) -> None:
    """What is known of a peer's packets."""
    choices = _Input(data)
    link_type, interface = choices.pick(_LINK_TYPES), choices.pick(_EDGES)
    _both("records", (choices.rest,), lambda records, pieces: records.rows(pieces[0], link_type, interface))


@target
def records_pack(data: bytes) -> None:
    """Batches out of what libpcap gave; its index is not believed either."""
    choices = _Input(data)
    snaplen, limit = choices.pick(_EDGES), choices.pick(_EDGES)
    index, packets = choices.chunks(2)
    headers_of = choices.pick((-1, 1, 101, 113, 228, 229, 276, 9))
    result = _both(
        "records", (packets, index), lambda records, pieces: records.pack(*pieces, snaplen, limit, headers_of)
    )
    if isinstance(result, list):
        for batch in result:
            struct.unpack_from("<4I", batch)


@target
def records_busiest(data: bytes) -> None:
    """Counting connections; packets and their index are a stranger's."""
    choices = _Input(data)
    link_type = choices.pick((1, 101, 113, 228, 229, 276, 9))
    index, packets = choices.chunks(2)
    _both("records", (packets, index), lambda records, pieces: records.busiest(*pieces, link_type))


@target
def records_headers(data: bytes) -> None:
    """Where one packet's headers end; its bytes are a stranger's."""
    choices = _Input(data)
    headers_of = choices.pick((1, 101, 113, 228, 229, 276))
    index = struct.pack("=4I", 1, 2, 0, len(choices.rest))
    _both(
        "records",
        (choices.rest, index),
        lambda records, pieces: records.pack(*pieces, 2**18, 2**18, headers_of),
    )


@target
def records_savefile(data: bytes) -> None:
    """A part of a savefile that another machine wrote; what comes out is a batch that the api accepts."""
    choices = _Input(data)
    form, max_captured = choices.number(), choices.pick((SNAPLEN_MAX, 64, 0, 2**31 - 1))
    limit, headers_of = choices.pick(_EDGES), choices.pick((-1, 1, 101, 113, 228, 229, 276, 9))

    def convert(records: Any, pieces: Tuple[Any, ...]) -> Any:
        return records.from_savefile(
            pieces[0],
            big_endian=bool(form & 1),
            nanoseconds=bool(form & 2),
            max_captured=max_captured,
            limit=limit,
            headers_of=headers_of,
        )

    result = _both("records", (choices.rest,), convert)
    if hasattr(result, "batch") and result.batch:
        assert _reference.check(result.batch, max_captured) == result.checked
        assert len(result.batch) <= max(limit, 16 + max_captured)


@target
def merge_batches(data: bytes) -> None:
    """Writing several sources' batches in time order; what is left can be merged again."""
    choices = _Input(data)
    form, packets, size = choices.number() % 2, choices.pick(_EDGES), choices.pick(_EDGES)
    until, last = choices.number(7), choices.number(7)
    chunks = tuple(choices.chunks(1 + choices.number() % 6))
    # Of the number of chunks too, so that saved inputs stay what they are.
    dedupe, numbered = bool(last & 1), bool(until & 1)

    def merge(module: Any, pieces: Tuple[Any, ...]) -> Any:
        gaps = [(last, packets), (until // 2, size)]
        sources = [Batches(place, pieces[place::3], gaps[: 2 - place], 1, place) for place in range(3)]
        matcher = module.Matcher(1, 2_000_000, 3) if numbered else None
        merged = module.merge(sources, until, last, form, packets, size, matcher, dedupe)
        return merged, matcher.forgotten if matcher is not None else 0

    result = _both("merge", chunks, merge)
    if hasattr(result[0], "rests"):
        _both("merge", tuple(result[0].rests), merge)


def _whole_rows(data: bytes) -> bytes:
    """Rows, whatever is in them; the last one with zeros where nothing is left."""
    return data + bytes(-len(data) % ROW_SIZE)


@target
def merge_matcher(data: bytes) -> None:
    """Numbering packets; rows are made by us, but of what strangers sent."""
    choices = _Input(data)
    window, room = choices.pick((0, 1, 1000, 2**40)), choices.pick((1, 2, 3, 100))
    parts = tuple(map(_whole_rows, choices.chunks(1 + choices.number() % 3)))

    def see(module: Any, pieces: Tuple[Any, ...]) -> Any:
        matcher = module.Matcher(1, window, room)
        return [matcher.number(piece) for piece in pieces], matcher.forgotten

    _both("merge", parts, see)


@target
def analysis_flows(data: bytes) -> None:
    """Counting flows and the time between two places, with little room for either."""
    choices = _Input(data)
    most = [choices.pick((1, 2, 5, 100)) for _ in range(4)]
    window = choices.pick((0, 1000, 2**40))
    parts = tuple(map(_whole_rows, choices.chunks(1 + choices.number() % 3)))

    def count(module: Any, pieces: Tuple[Any, ...]) -> Any:
        table = module.FlowTable(*most[:2], min(most[2], FLOW_DELAYS), most[3], window)
        for piece in pieces:
            table.add(piece)
        return table.flows(), table.packets, table.others, table.beyond, table.forgotten

    _both("analysis", parts, count)


@target
def analysis_merge_rows(data: bytes) -> None:
    """Several files' rows by time, each row once."""
    choices = _Input(data)
    parts = tuple(choices.chunks(1 + choices.number() % 5))
    result = _both("analysis", parts, lambda analysis, pieces: analysis.merge_rows(pieces))
    assert len(result[0]) == sum(result[1])


def _sightings(choices: _Input, places: int) -> Tuple[bytes, bytes]:
    """Rows of packets, each seen at some places, and what they refer to."""
    rows, content, us = [], b"", 1_000_000
    for piece in choices.chunks(1 + choices.number() % 12):
        us += 1 << choices.number() % 24
        number = choices.number() % 8 or len(content)
        for place in range(1 + choices.number() % places):
            own = us + (choices.number() << 10)
            rows.append(make_row(101, piece, own, len(piece), place, len(content), number, len(piece) % 2))
        content += piece
    return b"".join(rows), content


@target
def analysis_conversations(data: bytes) -> None:
    """Conversations of anybody, at up to three places, with little room."""
    choices = _Input(data)
    most, waiting = choices.pick((1, 2, 5, 100)), choices.pick((1, 3, 100))
    window, idle = choices.pick((0, 5_000, 2**31 - 1)), choices.pick((1, 4_000, 2**40))
    wanted = choices.pick((-1, 0, 7, 2**40))
    rows = _sightings(choices, 3)

    def follow(module: Any, pieces: Tuple[Any, ...]) -> Any:
        told: List[Any] = []
        table = module.ConversationTable(
            most, waiting, window, idle,
            lambda *facts: told.append(facts),
            lambda *payload: told.append(payload) or wanted,
            lambda *lost: told.append(lost),
        )  # fmt: skip
        for file in (0, 0, 0):
            table.open_place(file)
        table.add(pieces[0], [pieces[1]])
        table.close()
        counts = table.packets, table.others, table.beyond, table.evicted, table.forgotten
        return told, table.places(), table.clocks(), counts

    _both("analysis", rows, follow)


# --- files ---------------------------------------------------------------------------


@target
def savefile_rows(data: bytes) -> None:
    """Packet blocks of a file that anybody wrote."""
    choices = _Input(data)
    big_endian = bool(choices.number() & 1)
    link_type, ticks = choices.pick(_LINK_TYPES), choices.pick((1_000_000, 1_000_000_000, 1, 2**70, 1024))
    offset, snaplen = choices.pick((0, 1, -(2**63), 2**62)), choices.pick((0, 64, 2**32 - 1))
    interfaces = [FileInterface("", link_type, ticks, offset, (), snaplen), FileInterface("", 101)]
    packed = importlib.import_module("pcapd.savefile._reference").packed_interfaces(interfaces, (7, 8))

    def rows(savefile: Any, pieces: Tuple[Any, ...]) -> Any:
        return savefile.packet_rows(pieces[0], 0, big_endian, pieces[1])

    _both("savefile", (choices.rest, packed), rows)


@target
def savefile_own(data: bytes) -> None:
    """Blocks of a recording that a server sends, which need not be an api."""
    choices = _Input(data)
    most, until = choices.pick((0, 1, 3, 4096)), choices.pick((0, 1, 2**40, 2**63 - 1))
    _both("savefile", (choices.rest,), lambda savefile, pieces: savefile.survey(pieces[0], most))
    _both("savefile", (choices.rest,), lambda savefile, pieces: savefile.between(pieces[0], 1, until))


@target
def savefile_reading(data: bytes) -> None:
    """A whole file that anybody wrote: both ways to read it find the same packets, and lines of them are clean."""
    packets = _packets(data)
    rows: List[Tuple[int, int, int]] = []
    with contextlib.suppress(BadFile):
        for part in reader.read_rows(io.BytesIO(data), lambda _: 0):
            rows += [(row.us, row.captured, row.original) for row in rows_of(part.rows)]
    assert rows == [(packet.us, len(packet.data), packet.length) for packet in packets]
    for packet in packets:
        assert escape(" ".join(decode_packet(packet.interface.link_type, packet.data))).isprintable()


def _packets(data: bytes) -> List[reader.FilePacket]:
    found: List[reader.FilePacket] = []
    with contextlib.suppress(BadFile):
        found.extend(reader.read_file(io.BytesIO(data)))
    return found


@target
def savefile_stream(data: bytes) -> None:
    """However a stream of another machine is cut, the same packets or errors come out of it, and little is kept."""
    choices = _Input(data)
    headers_only, limit = bool(choices.number() & 1), choices.pick((FRAME_TYPICAL, 0, 64))
    pieces = choices.chunks(1 + choices.number() % 5)
    found = [
        _streamed(cut, PcapStream(limit=limit, headers_only=headers_only))
        for cut in ([b"".join(pieces)], pieces)
    ]
    assert found[0] == found[1]


def _streamed(pieces: List[bytes], stream: PcapStream) -> Tuple[Any, ...]:
    batches: List[bytes] = []
    problem, left = "", 0
    try:
        for piece in pieces:
            for made in stream.feed(piece):
                batches.append(made.batch)
            left = stream.finish()
            assert left < 16 + SNAPLEN_MAX
    except BadFile as error:
        problem, left = str(error), 0
        assert escape(problem).isprintable()
    return b"".join(batches), stream.header, stream.packets, stream.position, problem, left


@target
def savefile_cut(data: bytes) -> None:
    """Wherever the writing of our own blocks stopped, the cut is at the end of a block before it."""
    choices = _Input(data)
    form, stopped = choices.pick((Form.PCAPNG, Form.PCAP)), choices.number(2)
    muxer = Muxer(form, SNAPLEN_MAX, ordered=False)
    names = choices.chunks(2)
    name = names[0].decode("utf-8", "replace")
    muxer.source(1, _source(name), 1)
    with contextlib.suppress(RecordError):
        muxer.packets(1, names[1], 0.0)
    content = b"".join(muxer.take(0.0) + muxer.finish(1))
    found = cut(form, content, stopped, begins_file=True)
    assert 0 <= found.kept <= min(stopped, len(content))
    assert cut(form, content[: found.kept], found.kept, begins_file=True) == (found.kept, 0)


def _source(name: str) -> Source:
    printable = "".join(character for character in name if character.isprintable())[:NAME_MAX] or "i"
    return Source(printable, "eth0", 1, SNAPLEN_MAX, name, ("192.0.2.1/24",))


# --- HTTP, filters -------------------------------------------------------------------


@target
def capture_query(data: bytes) -> None:
    """The query of GET /capture."""
    try:
        request, count, _ = parse_query(parse_qs(data, keep_blank_values=True))
    except BadRequest as error:
        json.dumps(str(error)).encode()
        return
    assert count > 0
    encode(request)
    _check_filter(request.filter)


@target
def filters(data: bytes) -> None:
    """Filter text: what passes is plain ASCII, and nothing of it is lost on the way."""
    _check_filter(data.decode("utf-8", "surrogateescape"))


def _check_filter(text: str) -> None:
    try:
        check_text(text)
    except BadFilter as error:
        str(error)
        return
    text.encode("ascii")
    asked: List[str] = []

    def refuse(part: str) -> bool:
        asked.append(part)
        return False

    failing_part(text, refuse)
    assert len(asked) <= 64
    with contextlib.suppress(BadFilter):
        there = mirrored(text)
        assert mirrored(there) == text
    effective_filter("", [], text).encode("ascii")


# --- configuration ---------------------------------------------------------------------


@target
def configuration(data: bytes) -> None:
    """A configuration file of either role."""
    if len(data) > CONFIG_MAX:
        return
    values, problems = read_document(data)
    assert values is not None or problems
    for survey in (survey_agent, survey_api):
        if values is not None:
            with contextlib.suppress(ConfigError):
                survey(values, "host", Path("/nowhere")).result("file")


@target
def pem(data: bytes) -> None:
    """Certificates and keys that a configuration names."""
    for read in (certificates.read_certificate, certificates.read_private_key):
        with contextlib.suppress(ValueError):
            read(data)


# --- containers ------------------------------------------------------------------------


@target
def container_store(data: bytes) -> None:
    """The cell's container store, which another program writes."""
    with contextlib.suppress(ValueError):
        for container in parse_store(data):
            assert not container.handle or is_handle(container.handle)
            assert isinstance(container.runs_app, bool)


@target
def container_state(data: bytes) -> None:
    """What runc and /proc say."""
    with contextlib.suppress(CaptureFailed, NamespaceGone):
        assert parse_runc_state(data, "handle") > 0
    with contextlib.suppress(CaptureFailed):
        assert parse_state_file(data, "handle").pid > 0
    with contextlib.suppress(ValueError):
        parse_process(data)


# --- pcapctl ssh -----------------------------------------------------------------------------


@target
def far_side(data: bytes) -> None:
    """What a host over ssh prints: the session accepts all that is made of it, and little is kept."""
    choices = _Input(data)
    request = Request(targets=("t",), headers_only=bool(choices.number() & 1))
    capture, said = FarCapture("host", choices.pick(("", "eth0")), request, 0.0), Callee(Request)
    muxer = Muxer(Form.PCAPNG, SNAPLEN_MAX, ordered=True)
    session = CaptureSession(request, muxer, None, 0.0)
    session.receive(said.hello(_HELLO), 0.0, 0)
    said.receive(session.to_send())
    for number, piece in enumerate(choices.chunks(12)):
        now = float(number)
        if capture.asks:
            capture.ask("1", number)
        if capture.state is State.READY:
            capture.go(now)
        if number == 10:
            capture.stop(now)
        printed = piece[1:].replace(b"@", MARK.encode())
        out = piece[:1] == b"o"
        items = capture.stdout(memoryview(printed), now) if out else capture.stderr(printed, now, number)
        _hear(session, said, items, now)
        capture.tick(now)
        assert len(capture.to_send) < 100 and len(capture.heartbeat) < 100
    _hear(session, said, capture.exited(0), 12.0)
    assert cut(
        Form.PCAPNG, content := b"".join(muxer.take(12.0) + muxer.finish(13)), len(content), begins_file=True
    )


def _hear(session: CaptureSession, said: Callee[Request], items: Any, now: float) -> None:
    """Have a session receive what became of a host's output."""
    for item in items:
        if isinstance(item, Source):
            session.receive(said.source(1, item), now, 1)
        elif isinstance(item, Stats):
            session.receive(said.stats(1, item), now, 1)
        elif isinstance(item, Notice):
            assert escape(item.message).isprintable()
            session.receive(said.notice(item), now, 1)
        else:
            session.receive(b"".join(map(bytes, said.packets(1, item.batch))), now, 1)


@target
def ssh_files(data: bytes) -> None:
    """Files of ssh: names need no quoting."""
    text = data.decode(errors="replace")
    for name in [*parse_configuration(text).names, *parse_known_hosts(text)]:
        assert name.isascii() and not set(name) & set(" *?!;$`'\"\\|&<>(){}[]#~/@,:") and name[0] != "-"


# --- authorities ---------------------------------------------------------------------------

_GUID = "6b1c8c9e-0000-4000-8000-000000000001"

#: Parsers of an authority's answers, which may raise `ResolverUnavailable` and nothing else.
ANSWERS: Tuple[Callable[[bytes], Any], ...] = (
    cc.parse_root,
    lambda body: cc.parse_app(body, _GUID),
    lambda body: cc.parse_permission(body, "read_sensitive_data"),
    lambda body: cc.parse_processes(body, "api.example.com"),
    cc.parse_stats,
    parse_keys,
    parse_task,
    parse_accounts,
    parse_client_token,
    roles.parse_space,
    lambda body: roles.has_role(body, roles.RoleQuestion("user", "space", _GUID, ("space_developer",))),
    lambda body: roles.next_page(body, "api.example.com"),
)


@target
def authority_answers(data: bytes) -> None:
    """Answers of Cloud Controller and UAA, and what follows from them."""
    choices = _Input(data)
    parse = choices.pick(ANSWERS)
    try:
        result = parse(choices.rest)
    except ResolverUnavailable as error:
        assert escape(str(error)).isprintable()
        return
    repr(result).encode()  # it is logged and shown
    if parse is cc.parse_stats:
        app = cc.CfApp(_GUID, "app")
        wanted = App(_GUID, indices=(0, 7))
        _, notices = choose(app, wanted, [(cc.Process(_GUID, "2026"), result)], 9494, 10**15)
        for notice in notices:
            encode(notice)
        str(cc.none_running(app, wanted, notices))


@target
def tokens(data: bytes) -> None:
    """A caller's token, and UAA's answer to pcapctl."""
    token = data.decode("utf-8", "replace")
    for text in (token, f"e30.{base64.urlsafe_b64encode(data).decode().rstrip('=')}.x"):
        with contextlib.suppress(Unauthenticated):
            owner = owner_of(check_form(text, time.time(), leeway=1e12), "cloud_foundry")
            text.encode("ascii")
            assert owner.identity.isascii() and f"{owner.user}{owner.origin}".isprintable()
        ends: Optional[float] = expiry(text)
        assert ends is None or isinstance(ends, float)
    found = parse_tokens(data)
    if found is not None:
        f"{found.scheme} {found.access}".encode("ascii")


@target
def cf_login(data: bytes) -> None:
    """The cf CLI's own configuration; new tokens are all that ever changes in it."""
    text = data.decode("utf-8", "replace")
    try:
        login = parse_login(text)
        renewed = with_tokens(text, Tokens("new-access", "new-refresh", "bearer"))
    except LoginProblem as error:
        str(error).encode()
        return
    urllib.parse.quote(login.target)
    assert parse_login(renewed).target == login.target


# --- what explain reads ------------------------------------------------------------------------


@target
def explanation(data: bytes) -> None:
    """Packets of anybody at three places, as rows."""
    choices = _Input(data)
    found = Explanation(["a", "b"], contents=bool(data[:1] > b"\x7f"))
    places = [found.place(file, FileInterface(f"p{number}", 101)) for number, file in enumerate((0, 0, 1))]
    rows, content = _sightings(choices, len(places))
    found.read([iter([Rows(rows, content)]), iter([])])
    found.finish()
    json.dumps(as_dict(found))
    assert all(line.isprintable() for line in as_lines(found, everything=True))


@target
def aligned(data: bytes) -> None:
    """A file of anybody is explained, and copied with the clocks that this came to."""
    found = Explanation(["a"])
    with contextlib.suppress(BadFile):
        found.read([reader.read_rows(io.BytesIO(data), lambda own: found.place(0, own), found.statistics)])
        found.finish()
        world = found.world
        clocks = [
            shift.Clock(lambda us, place=place: us - world.aligned(place.number, us), "moved")  # type: ignore[misc]
            for place in world.places
        ]
        if not any(place.deduped for place in world.places):
            for block in shift.shifted(lambda: io.BytesIO(data), clocks):
                assert len(block) % 4 == 0


@target
def http2(data: bytes) -> None:
    """However both directions of an HTTP/2 connection are cut into packets, the same requests come out."""
    choices = _Input(data)
    cuts = [1 + choices.number() for _ in range(1 + choices.number() % 6)]
    middle = choices.number(2)
    sent = PREFACE + choices.rest[:middle], choices.rest[middle:]
    whole, kept = _requests(sent, [max(1, *map(len, sent))])
    parts, kept_too = _requests(sent, cuts)
    assert parts == whole
    assert max(kept, kept_too) <= 2 * FRAME_MAX + 1000 * len(data)


def _requests(sent: Tuple[bytes, bytes], sizes: List[int]) -> Tuple[Any, int]:
    """What becomes of the requests, and the memory of the connection."""
    followed = Followed(EXCHANGE_BYTES)
    talk = Http2(Room(EXCHANGE_BYTES), followed)
    for content, first in zip(sent, (PREFACE, b"")):
        stream, offset, wanted = talk.stream(first), 0, 0
        for size in itertools.cycle(sizes):
            part = content[offset : offset + size]
            if not part or wanted == NEVER:
                break
            if offset + len(part) > wanted:
                wanted = stream.take(Piece(offset, 1, offset, offset, len(part), part))
            offset += len(part)
        assert wanted == NEVER or wanted >= len(content)
    kept = EXCHANGE_BYTES - followed.left
    talk.ended()
    assert followed.left == EXCHANGE_BYTES
    seen = [
        [
            (one.seq, one.method, one.path, one.ids, one.status, one.error, one.ended, one.whole)
            for one in some
        ]
        for some in (talk.done, talk.waiting, talk.unanswered)
    ]
    return (seen, followed.lost), kept


# --- the cf CLI's RPC ------------------------------------------------------------------------


@target
def gob(data: bytes) -> None:
    """Bytes of the cf CLI, or of whoever listens where it should."""
    choices = _Input(data)
    decoder, call = Decoder(), Call("AccessToken")
    pieces = choices.chunks(1 + choices.number() % 3)
    with contextlib.suppress(RemoteProtocolError):
        for piece in pieces:
            decoder.feed(piece)
    with contextlib.suppress(RemoteProtocolError, CallRefused):
        for piece in pieces:
            if call.receive(piece):
                repr(call.reply)
