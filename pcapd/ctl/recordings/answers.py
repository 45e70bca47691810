"""One answer with packets, piece by piece: ``GET /v1/recordings/ID/capture`` (RFC 9110, section 14)."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import time
from dataclasses import dataclass
from typing import Callable, Iterator, List, Optional, Tuple

import pcapd
from pcapd.ctl.options import Access
from pcapd.ctl.stream.connection import address_of, dial
from pcapd.ctl.stream.deadline import Deadline
from pcapd.ctl.stream.health import no_api, refusal_of
from pcapd.errors import PcapdError, request_error
from pcapd.limits import EXCHANGE_TIMEOUT, FETCH_GATHERED, FETCH_SILENCE

__all__ = ["Answer", "AnswerCut", "asked"]

_OK, _PARTIAL, _UNSATISFIABLE = 200, 206, 416
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18})")
_ERROR_MAX = 64 * 1024
#: Bytes of one read.  Python allocates as many before it knows how many there are.
_READ = 64 * 1024
#: Seconds for which reads are gathered, so that what arrives slowly is seen nevertheless.
_PATIENCE = 0.1


class AnswerCut(PcapdError):
    """The answer ended before its end."""


@dataclass(frozen=True)
class Answer:
    """The answer.

    Attributes:
        start: Offset of its first byte in the file; None if nothing is left of the file behind the offset.
        size: Bytes of the file, at the time of the answer.
        tag: The entity tag.
        pieces: Reads its bytes; raises `AnswerCut`.
    """

    start: Optional[int]
    size: int
    tag: str
    pieces: Callable[[], Iterator[bytes]]


@contextlib.contextmanager
def asked(access: Access, page: str, start: int, tag: str) -> Iterator[Answer]:
    """Ask for the packets from an offset on; the connection is closed afterwards.

    Args:
        page: The path with its query.
        start: The offset; 0 for the whole file.
        tag: The entity tag of the answer to which the offset belongs.

    Raises:
        ApiUnreachable: There was no answer, or the server is not an api.
        AnswerCut: The connection was closed before the answer.
        RequestError: The api refused the request.
    """
    _, host, port, path = address_of(access.api, secret=bool(access.token))
    headers = {"Accept": "application/x-pcapng", "User-Agent": f"pcapctl/{pcapd.__version__}"}
    if access.token:
        headers["Authorization"] = f"bearer {access.token}"
    if start and tag:
        headers.update({"Range": f"bytes={start}-", "If-Range": tag})
    connection = http.client.HTTPConnection(host, port)
    deadline = Deadline(EXCHANGE_TIMEOUT)
    connection.sock = dial(access, deadline)
    try:
        # The store may need a while until the first byte.
        connection.sock.settimeout(FETCH_SILENCE)
        try:
            connection.request("GET", f"{path}{page}", headers=headers)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise AnswerCut(f"{host} port {port} closed the connection") from error
        yield _answer(access, response)
    finally:
        connection.close()


def _answer(access: Access, response: http.client.HTTPResponse) -> Answer:
    tag = response.getheader("ETag") or ""
    if response.status == _UNSATISFIABLE:
        return Answer(None, 0, tag, lambda: iter(()))
    place = _CONTENT_RANGE.fullmatch(response.getheader("Content-Range") or "")
    if response.status == _PARTIAL and place is not None:
        return Answer(int(place[1]), int(place[2]), tag, lambda: _pieces(response))
    if response.status == _OK and response.length is not None:
        return Answer(0, response.length, tag, lambda: _pieces(response))
    try:
        body = json.loads(response.read(_ERROR_MAX))
    except (OSError, http.client.HTTPException, ValueError, RecursionError):
        body = None
    refusal = refusal_of(body) if isinstance(body, dict) else None
    if refusal is None and response.status >= 500:
        # A router in front of an api that is being restarted.
        refusal = request_error("draining", f"the router answered with HTTP status {response.status}")
    raise refusal or no_api(access)


def _pieces(response: http.client.HTTPResponse) -> Iterator[bytes]:
    left = response.length or 0
    while left:
        piece, problem = _gathered(response, left)
        if piece:
            left -= len(piece)
            yield piece
        if problem is not None:
            raise problem


def _gathered(response: http.client.HTTPResponse, left: int) -> Tuple[bytes, Optional[AnswerCut]]:
    """Several reads as one piece, and why there are no more: a read from TLS returns at most 16 KiB."""
    parts: List[bytes] = []
    size, began = 0, time.monotonic()
    while size < min(left, FETCH_GATHERED) and time.monotonic() - began < _PATIENCE:
        try:
            part = response.read1(min(_READ, left - size))
        except (OSError, http.client.HTTPException) as error:
            cut = AnswerCut("the connection was lost")
            cut.__cause__ = error
            return b"".join(parts), cut
        if not part:
            return b"".join(parts), AnswerCut("the connection was closed")
        parts.append(part)
        size += len(part)
    return b"".join(parts), None
