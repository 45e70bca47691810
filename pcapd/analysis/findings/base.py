"""What a kind of finding is: how it is recognised, and what is said about it."""

from __future__ import annotations

import ipaddress
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, ClassVar, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from pcapd.analysis.conversations import TCP, Conversation, End

if TYPE_CHECKING:
    from pcapd.analysis.exchanges.log import Said
    from pcapd.analysis.world import World

__all__ = ["ERROR", "NOTE", "WARNING", "Group", "Kind", "Occurrence", "milliseconds", "packets", "times"]

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)
#: Frames that a finding names.
FRAMES_MAX = 10


class Sort(Enum):
    """Conversations in which something can have happened."""

    TROUBLE = auto()  #: of TCP, with anything unusual
    LOST = auto()  #: whose packets places saw or did not see
    ICMP = auto()
    HTTP = auto()
    DNS = auto()
    TLS = auto()


class Occurrence(NamedTuple):
    """One time that something happened.

    Attributes:
        severity: How bad it is.
        conversation: In which; None where it is about the capture itself.
        places: Numbers of the places that show it.
        first_us, last_us: When.
        frames: Place and number of the packets that show it.
        facts: Numbers and words for the summary.
        same: What else occurrences must share to be one finding.
        weight: How many it stands for.
    """

    severity: str
    conversation: Optional[Conversation]
    places: Tuple[int, ...]
    first_us: int
    last_us: int
    frames: Sequence[Tuple[int, int]]
    facts: Dict[str, Any]
    same: Tuple[Any, ...] = ()
    weight: int = 1


class Group:
    """Occurrences of one kind between the same ends, at the same places.

    Attributes:
        client, server: The ends; a port is None where there are several.
        protocol: Of IP.
        facts: Of the first one.
        total: Sums of the numbers of all.
        least, most: Their least and greatest ones.
    """

    def __init__(self, kind: Kind, one: Occurrence) -> None:
        conversation = one.conversation
        self.kind = kind
        nobody = End(b"", None)
        self.client = conversation.client if conversation is not None else nobody
        self.server = conversation.server if conversation is not None else nobody
        self.protocol = conversation.protocol if conversation is not None else 0
        self.places = one.places
        self.severity = one.severity
        self.count = 0
        self.conversations = 0
        self.first_us, self.last_us = one.first_us, one.last_us
        self.frames: List[Tuple[int, int]] = []
        self.facts = one.facts
        self.total: Dict[str, int] = {}
        self.least: Dict[str, int] = {}
        self.most: Dict[str, int] = {}
        self.example: Optional[Conversation] = conversation

    def add(self, one: Occurrence) -> None:
        """One more."""
        if one.conversation is not None and one.conversation.client.port != self.client.port:
            self.client = End(self.client.address, None)
        self.severity = min(self.severity, one.severity, key=SEVERITIES.index)
        self.count += one.weight
        self.conversations += 1
        self.first_us = min(self.first_us, one.first_us)
        self.last_us = max(self.last_us, one.last_us)
        self.frames += [frame for frame in one.frames if frame[1]][: FRAMES_MAX - len(self.frames)]
        for name, value in one.facts.items():
            if isinstance(value, int):
                self.total[name] = self.total.get(name, 0) + value
                self.least[name] = min(self.least.get(name, value), value)
                self.most[name] = max(self.most.get(name, value), value)

    @property
    def ends(self) -> str:
        """``client to server:port`` in words."""
        return f"{address(self.client)} to {address(self.server)}"


class Kind:
    """A kind of finding.  The texts are for `docs/findings.rst` too.

    Attributes:
        name: As in JSON.
        looks: What it looks like on the wire.
        means: What it means.
        remedy: What to do.
        platform: What Cloud Foundry has for it; empty where it has nothing.
        display: A display filter of Wireshark's that shows such packets.
        looks_at: The conversations that can have one.
    """

    name: ClassVar[str]
    looks: ClassVar[str]
    means: ClassVar[str]
    remedy: ClassVar[str]
    platform: ClassVar[str] = ""
    display: ClassVar[str] = ""
    looks_at: ClassVar[Sort] = Sort.TROUBLE

    def judge(self, conversation: Conversation, said: Said, world: World) -> Iterator[Occurrence]:
        """What of this kind happened in a conversation."""
        return iter(())

    def judge_capture(self, world: World) -> Iterator[Occurrence]:
        """What of this kind happened to the capture as a whole."""
        return iter(())

    def summary(self, group: Group, world: World) -> str:
        """One sentence with the numbers."""
        raise NotImplementedError

    def advice(self, group: Group) -> str:
        """One sentence about what to do."""
        return f"{self.remedy} {self.platform}".strip()


def address(end: End) -> str:
    """For people."""
    if not end.address:
        return ""
    text = str(ipaddress.ip_address(end.address))
    if end.port is None:
        return text
    return f"[{text}]:{end.port}" if len(end.address) == 16 else f"{text}:{end.port}"


def milliseconds(us: int) -> str:
    """A time for people."""
    return f"{us / 1000:.1f} ms" if us < 1_000_000 else f"{us / 1_000_000:.1f} s"


def times(count: int) -> str:
    """How often."""
    return "once" if count == 1 else f"{count} times"


def packets(count: int, what: str = "packet") -> str:
    """A number of things."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def is_tcp(conversation: Conversation) -> bool:
    """Whether it is one of TCP."""
    return conversation.protocol == TCP
