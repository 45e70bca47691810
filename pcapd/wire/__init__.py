"""The protocol between client, api and agent, as values and bytes: no I/O here.

========  ====================================================================
frames    cuts the stream
messages  what the control frames mean
requests  what START asks for
codec     writes and reads control frames
sessions  knows which side may say what, and when
progress  whether a peer still moves after STOP
========  ====================================================================

docs/wire-protocol.rst is its prose.
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
from pcapd.wire.requests import ApiTraffic, App, CaptureStart, Container, Deployment, Request
from pcapd.wire.sessions import Answers, Callee, Caller, Event, Packets, encode_message

__all__ = [
    "HEADER_SIZE",
    "Answers",
    "ApiTraffic",
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
