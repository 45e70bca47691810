"""The queue of questions to one authority: a question is the look-up for one client's request.

An authority answers a few questions at a time.  The others wait in a queue in
which clients take turns, so that a client with a thousand questions does not delay a
client with one.  A waiting question is removed when its client disconnects.  A question
that is being asked counts until its requests are answered, even if its client has
disconnected, because the authority continues to work on them.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, fail
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pcapd.api.resolvers.base import Resolved
from pcapd.errors import LimitReached, RequestError, ResolverUnavailable
from pcapd.limits import (
    AUTHORITY_CALLERS,
    AUTHORITY_FULL_RETRY,
    AUTHORITY_TIMEOUT,
    AUTHORITY_WAITING,
    AUTHORITY_WAITING_EACH,
)
from pcapd.net.fetch import Conversation
from pcapd.net.turns import Queue

__all__ = ["Question", "Questions", "share_of"]


def share_of(address: str) -> str:
    """The key of a client's share: for IPv6 its /64, because one machine can use all addresses in it."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    if not isinstance(ip, IPv6Address):
        return address
    return str(ip.ipv4_mapped or ip_network((ip, 64), strict=False))


@dataclass(eq=False)
class Question:
    """One question of one client.

    Attributes:
        client: The key of the client's share (`share_of`).
        conversation: Used by `ask`; closed when the client is gone, and at the end.
        ask: Makes the coroutine that sends the requests.
        answer: Fires with the answer for the client.
    """

    client: str
    conversation: Conversation
    ask: Callable[[], Coroutine[Any, Any, Resolved]]
    answer: Deferred[Resolved] = field(default_factory=Deferred)


class Questions:
    """Asks one authority the questions of many clients.

    Args:
        reactor: The reactor.
        name: The name of the authority, for messages.
    """

    log = Logger()

    def __init__(self, reactor: IReactorTime, name: str) -> None:
        self._reactor = reactor
        self._name = name
        self._queue: Queue[Question] = Queue(AUTHORITY_CALLERS, AUTHORITY_WAITING, AUTHORITY_WAITING_EACH)
        self._serving = False

    def put(
        self, client: str, conversation: Conversation, ask: Callable[[], Coroutine[Any, Any, Resolved]]
    ) -> Deferred[Resolved]:
        """Add a question, which is asked when it is this client's turn.

        Args:
            client: The client's address.
            conversation: Used by ``ask``; it is closed at the end, or when the result is
                cancelled.
            ask: Makes the coroutine that sends the requests.

        Returns:
            Fires with the result of ``ask``.  It fails with the error of ``ask``, with
            `ResolverUnavailable` if there is no answer in time (including the time spent in
            the queue), or with `LimitReached` if too many questions wait.
        """
        question = Question(share_of(client), conversation, ask)
        question.answer = Deferred(lambda _: self._left(question))
        refused = self._queue.add(question)
        if refused is question:
            return fail(self._full())
        if refused is not None:
            refused.answer.errback(Failure(self._full()))
        answer = question.answer.addTimeout(AUTHORITY_TIMEOUT, self._reactor).addErrback(self._in_time)
        self._serve()
        return answer

    def _left(self, question: Question) -> None:
        question.conversation.close()
        self._queue.remove(question)

    def _serve(self) -> None:
        if self._serving:  # called again within the loop, by a question that was answered immediately
            return
        self._serving = True
        while (question := self._queue.take()) is not None:
            Deferred.fromCoroutine(question.ask()).addBoth(self._asked, question)
        self._serving = False

    def _asked(self, result: Any, question: Question) -> None:
        question.conversation.close()
        self._queue.give_back(question.client)
        if not question.answer.called:
            give = question.answer.errback if isinstance(result, Failure) else question.answer.callback
            give(result)
        elif isinstance(result, Failure) and not result.check(RequestError, CancelledError):
            self.log.failure("a question whose client is gone failed", result)
        self._serve()

    def _full(self) -> LimitReached:
        error = LimitReached(
            f"too many requests wait for an answer of {self._name}",
            f"try again in {AUTHORITY_FULL_RETRY} s",
        )
        error.retry_after = AUTHORITY_FULL_RETRY
        return error

    def _in_time(self, failure: Failure) -> Any:
        failure.trap(TimeoutError)
        raise ResolverUnavailable(
            f"{self._name} did not answer completely within {AUTHORITY_TIMEOUT:g} s", "try again later"
        )
