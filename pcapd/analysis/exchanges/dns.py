"""DNS (RFC 1035, RFC 7766): which question got which answer."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, List, NamedTuple, Optional, Tuple

from pcapd.analysis.exchanges.streams import NEVER, Piece, Room, Stream
from pcapd.packet.dns import Message, read_message

__all__ = ["Dns", "Question"]

#: Questions of a conversation that wait for their answers; the oldest ones are given up.
_WAITING_MAX: Final = 256
#: bytes; the most that a message over TCP can have.
_MESSAGE_MAX: Final = 65535


class Question(NamedTuple):
    """A question, and its answer.

    Attributes:
        number: Id of the message.
        kind, name: What it asks for.
        asked_us: When it was asked first, and last.
        asked: How often.
        frame: The first packet with it.
        answered_us: None without an answer.
        code: Why the answer has nothing; empty when all is well.
        answers: How many the answer has.
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
        done: Questions that were answered; whoever reads them empties it.
        waiting: Questions without an answer, by id and name.
    """

    def __init__(self, room: Room) -> None:
        self.room = room
        self.done: List[Question] = []
        self.waiting: OrderedDict[Tuple[int, str, str], Question] = OrderedDict()

    def datagram(self, piece: Piece) -> int:
        """One message over UDP; returns whether more are wanted, as a `Stream` does."""
        message = read_message(piece.content)
        if message is None:
            return NEVER
        self.message(message, piece.us, piece.frame)
        return 0

    def message(self, message: Message, us: int, frame: int) -> None:
        """A question or an answer."""
        for kind, name in message.questions[:1]:
            key = message.number, kind, name.lower()
            asked = self.waiting.get(key)
            if message.response:
                if asked is not None:
                    del self.waiting[key]
                    self.done.append(
                        asked._replace(answered_us=us, code=message.code, answers=message.answer_count)
                    )
            elif asked is not None:
                self.waiting[key] = asked._replace(asked_us=(asked.asked_us[0], us), asked=asked.asked + 1)
            else:
                self.waiting[key] = Question(message.number, kind, name, (us, us), 1, frame)
                if len(self.waiting) > _WAITING_MAX:
                    self.waiting.popitem(last=False)

    def stream(self) -> Stream:
        """One direction over TCP."""
        return _Messages(self)


class _Messages(Stream):
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
