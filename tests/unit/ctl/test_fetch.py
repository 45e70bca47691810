"""One HTTP answer: its bounds in bytes and in time."""

from __future__ import annotations

import socket
import types
from typing import Any, Callable, Iterator

import pytest

from pcapd.ctl.login import fetch
from pcapd.ctl.login.fetch import Answer, Client, CloudUnreachable
from pcapd.ctl.options import Trust
from pcapd.ctl.stream import deadline
from pcapd.limits import EXCHANGE_TIMEOUT

Ask = Callable[[bytes], Answer]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    """Return what asks a server that says these bytes and closes."""
    ours, theirs = socket.socketpair()

    def served(said: bytes) -> Answer:
        theirs.sendall(said)
        theirs.shutdown(socket.SHUT_WR)
        return Client(None, Trust.GIVEN).get("https://api.x/v3")

    monkeypatch.setattr(fetch, "dial", lambda *_: ours)
    yield served
    ours.close()
    theirs.close()


def response(body: bytes, length: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (length, body)


def test_as_large_as_may_be(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer of exactly the bound is read."""
    monkeypatch.setattr(fetch, "BODY_MAX", 10)
    assert ask(response(b"x" * 10, 10)).body == b"x" * 10


@pytest.mark.parametrize("head", [response(b"", 11), b"HTTP/1.0 200 OK\r\n\r\n"], ids=["length", "none"])
def test_an_answer_without_end(ask: Ask, monkeypatch: pytest.MonkeyPatch, head: bytes) -> None:
    """An answer is left at the bound on bytes, with or without a length."""
    monkeypatch.setattr(fetch, "BODY_MAX", 10)
    with pytest.raises(CloudUnreachable, match=r"the answer of api\.x is too long"):
        ask(head + b"x" * 11)


def test_less_than_was_promised(ask: Ask) -> None:
    """An incomplete answer is none, even when what came of it can be read."""
    with pytest.raises(CloudUnreachable, match="closed the connection"):
        ask(response(b'{"resources": []}', 100))


@pytest.mark.parametrize(("seconds", "late"), [(EXCHANGE_TIMEOUT - 1, False), (EXCHANGE_TIMEOUT, True)])
def test_an_answer_that_was_cut_off(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, seconds: float, late: bool
) -> None:
    """A body without a length ends when its time is over, too, and is not taken for a whole one."""
    times: Any = iter([0.0, 0.0, 0.0])
    monkeypatch.setattr(deadline, "time", types.SimpleNamespace(monotonic=lambda: next(times, seconds)))
    if late:
        with pytest.raises(CloudUnreachable, match="did not answer within 30 s"):
            ask(b"HTTP/1.0 200 OK\r\n\r\n{}")
    else:
        assert ask(b"HTTP/1.0 200 OK\r\n\r\n{}").body == b"{}"
