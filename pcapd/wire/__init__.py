"""The protocol between client, api and agent, as values and bytes: no I/O here.

``frames`` cuts the stream, ``messages`` says what the control frames mean, ``codec``
writes and reads them, and ``sessions`` knows who may say what when.  docs/wire-protocol.rst is its prose.
"""

from pcapd.wire.codec import decode, encode
from pcapd.wire.frames import HEADER_SIZE, Frame, FrameDecoder, FrameType, encode_frame, frame_header
from pcapd.wire.messages import (
    App,
    CaptureStart,
    Container,
    Counters,
    Deployment,
    End,
    EndReason,
    Error,
    Hello,
    Message,
    Notice,
    NoticeType,
    Ping,
    Pong,
    Request,
    Source,
    Stats,
    Stop,
    Stream,
)
from pcapd.wire.sessions import Answers, Callee, Caller, Event, Packets, encode_message

__all__ = [
    "HEADER_SIZE",
    "Answers",
    "App",
    "Callee",
    "Caller",
    "CaptureStart",
    "Container",
    "Counters",
    "Deployment",
    "End",
    "EndReason",
    "Error",
    "Event",
    "Frame",
    "FrameDecoder",
    "FrameType",
    "Hello",
    "Message",
    "Notice",
    "NoticeType",
    "Packets",
    "Ping",
    "Pong",
    "Request",
    "Source",
    "Stats",
    "Stop",
    "Stream",
    "decode",
    "encode",
    "encode_frame",
    "encode_message",
    "frame_header",
]
