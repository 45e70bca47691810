"""DNS (RFC 1035, RFC 7766): matches queries and responses."""

from __future__ import annotations

from typing import Dict, Final, List, NamedTuple, Optional, Tuple

from pcapd.analysis.exchanges.streams import NEVER, Piece, Room, Stream
from pcapd.packet.dns import Message, read_message

__all__ = ["SLOW_US", "Dns", "Question"]

#: Limit of queries of a conversation that wait for their responses; beyond it the oldest are dropped.
_WAITING_MAX: Final = 256
#: Limit of answered queries of a conversation that are kept: a resolver may use one port for all its queries.
_DONE_MAX: Final = 2000
#: microseconds; a resolver that queries several servers takes less than half a second.
SLOW_US: Final = 500_000
#: bytes; the largest message over TCP.
_MESSAGE_MAX: Final = 65535


class Question(NamedTuple):
    """A query and its response.

    Attributes:
        number: Id of the message.
        kind, name: The record type and the name.
        asked_us: Times of the first and the last query.
        asked: Number of queries.
        frame: The first packet of the query.
        answered_us: Time of the response, or None.
        code: The error code of the response; empty on success.
        answers: Number of answers in the response.
    """

    number: int
    kind: str
    name: str
    asked_us: Tuple[int, int]
    asked: int
    frame: int
    answered_us: Optional[int] = None
    code: str = ""
    answers: int = 0


class Dns:
    """The messages of a conversation at one place.

    Args:
        room: See `Stream`.

    Attributes:
        done: Queries with a response: those that failed or were slow, and of the others one for each name.
        waiting: Queries without a response, by id and name.
    """

    __slots__ = ("_bad", "_good", "room", "waiting")

    def __init__(self, room: Room) -> None:
        self.room = room
        self._bad: List[Question] = []
        self._good: Dict[Tuple[str, str], Question] = {}
        self.waiting: Dict[Tuple[int, str, str], Question] = {}

    @property
    def done(self) -> List[Question]:
        """See `Dns`."""
        return [*self._bad, *self._good.values()]

    def datagram(self, piece: Piece) -> int:
        """Process a message over UDP; returns whether more are wanted, like a `Stream`."""
        message = read_message(piece.content)
        if message is None:
            return NEVER
        self.message(message, piece.us, piece.frame)
        return 0

    def message(self, message: Message, us: int, frame: int) -> None:
        """Process a query or a response."""
        for kind, name in message.questions[:1]:
            key = message.number, kind, name.lower()
            asked = self.waiting.get(key)
            if message.response:
                if asked is not None:
                    del self.waiting[key]
                    self._answered(
                        asked._replace(answered_us=us, code=message.code, answers=message.answer_count)
                    )
            elif asked is not None:
                self.waiting[key] = asked._replace(asked_us=(asked.asked_us[0], us), asked=asked.asked + 1)
            else:
                self.waiting[key] = Question(message.number, kind, name, (us, us), 1, frame)
                if len(self.waiting) > _WAITING_MAX:
                    del self.waiting[next(iter(self.waiting))]

    def _answered(self, question: Question) -> None:
        assert question.answered_us is not None
        if question.code or question.answered_us - question.asked_us[0] >= SLOW_US:
            if len(self._bad) < _DONE_MAX:
                self._bad.append(question)
        elif len(self._good) < _DONE_MAX:
            self._good[question.kind, question.name.lower()] = question

    def stream(self) -> Stream:
        """The reader for one direction over TCP."""
        return _Messages(self)


class _Messages(Stream):
    __slots__ = ("_dns", "_rest")

    def __init__(self, dns: Dns) -> None:
        super().__init__(dns.room)
        self._dns = dns
        self._rest = b""

    def read(self, piece: Piece, begin: int) -> int:
        if len(piece.content) < piece.length:
            return NEVER
        data = self._rest + piece.content[begin:]
        while len(data) >= 2:
            size = data[0] << 8 | data[1]
            if len(data) < 2 + size:
                break
            message = read_message(data[2 : 2 + size])
            if message is None:
                return NEVER
            self._dns.message(message, piece.us, piece.frame)
            data = data[2 + size :]
        self._rest = data
        return piece.offset + piece.length if len(data) <= _MESSAGE_MAX + 2 else NEVER

    def missed(self, offset: int) -> int:
        self._rest = b""
        return NEVER
