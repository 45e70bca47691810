"""The protocol between client, api and agent, as values and bytes, without input or output.

========  ====================================================================
frames    splits the byte stream into frames
messages  the messages in control frames
requests  the requests in START
codec     encodes and decodes control frames
sessions  which side may send which message, and when
progress  whether a peer still makes progress after STOP
========  ====================================================================

docs/wire-protocol.rst describes the protocol.
"""

from pcapd.wire.codec import decode, encode
from pcapd.wire.frames import HEADER_SIZE, Frame, FrameDecoder, FrameType, encode_frame, frame_header
from pcapd.wire.messages import (
    Counters,
    End,
    EndReason,
    Error,
    Hello,
    Limits,
    Message,
    Notice,
    NoticeType,
    Ping,
    Pong,
    Source,
    Stats,
    Stop,
)
from pcapd.wire.progress import Progress
from pcapd.wire.requests import ApiTraffic, App, Besides, CaptureStart, Container, Deployment, Request
from pcapd.wire.sessions import Answers, Callee, Caller, Event, Packets, encode_message

__all__ = [
    "HEADER_SIZE",
    "Answers",
    "ApiTraffic",
    "App",
    "Besides",
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
    "Limits",
    "Message",
    "Notice",
    "NoticeType",
    "Packets",
    "Ping",
    "Pong",
    "Progress",
    "Request",
    "Source",
    "Stats",
    "Stop",
    "decode",
    "encode",
    "encode_frame",
    "encode_message",
    "frame_header",
]
