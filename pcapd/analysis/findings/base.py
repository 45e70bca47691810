"""The base class of the kinds of findings: detection and texts."""

from __future__ import annotations

import ipaddress
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, ClassVar, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from pcapd.analysis.conversations import TCP, Conversation, End

if TYPE_CHECKING:
    from pcapd.analysis.exchanges.log import Exchanges
    from pcapd.analysis.world import World

__all__ = ["ERROR", "NOTE", "WARNING", "Group", "Kind", "Occurrence", "milliseconds", "packets", "times"]

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)
#: Number of frames that a finding names.
FRAMES_MAX = 10


class Sort(Enum):
    """Classes of conversations that can have findings."""

    TROUBLE = auto()  #: TCP, with anything unusual
    LOST = auto()  #: packets were seen at some places and not at others
    ICMP = auto()
    HTTP = auto()
    DNS = auto()
    TLS = auto()


class Occurrence(NamedTuple):
    """One occurrence of a problem.

    Attributes:
        severity: The severity.
        conversation: The conversation; None if it concerns the capture itself.
        places: Numbers of the places that show it.
        first_us, last_us: The time of its start and its end.
        frames: Place and number of the packets that show it.
        facts: Numbers and texts for the summary.
        same: Further values that occurrences must share to become one finding.
        weight: The number of events that it stands for.
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
        protocol: The IP protocol.
        facts: The facts of the first occurrence.
        total: Sums of the numeric facts.
        least, most: Minima and maxima of the numeric facts.
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
        """Add an occurrence."""
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
        """``client to server:port``."""
        return f"{address(self.client)} to {address(self.server)}"


class Kind:
    """A kind of finding.  The texts are also used in `docs/findings.rst`.

    Attributes:
        name: The name in JSON.
        looks: How it looks on the wire.
        means: What it means.
        remedy: What to do.
        platform: What is specific to Cloud Foundry; may be empty.
        display: A display filter of Wireshark for such packets.
        looks_at: The conversations that can have such findings.
        needs_the_end: Whether it concerns what did not come: a conversation that was evaluated
            early, because the table was full, does not show that.
    """

    name: ClassVar[str]
    looks: ClassVar[str]
    means: ClassVar[str]
    remedy: ClassVar[str]
    platform: ClassVar[str] = ""
    display: ClassVar[str] = ""
    looks_at: ClassVar[Sort] = Sort.TROUBLE
    needs_the_end: ClassVar[bool] = False

    def judge(self, conversation: Conversation, exchanges: Exchanges, world: World) -> Iterator[Occurrence]:
        """The occurrences of this kind in a conversation."""
        return iter(())

    def judge_capture(self, world: World) -> Iterator[Occurrence]:
        """The occurrences of this kind that concern the capture as a whole."""
        return iter(())

    def summary(self, group: Group, world: World) -> str:
        """One sentence with the numbers."""
        raise NotImplementedError

    def advice(self, group: Group) -> str:
        """One sentence with the remedy."""
        return f"{self.remedy} {self.platform}".strip()


def address(end: End) -> str:
    """An address and port as text."""
    if not end.address:
        return ""
    text = str(ipaddress.ip_address(end.address))
    if end.port is None:
        return text
    return f"[{text}]:{end.port}" if len(end.address) == 16 else f"{text}:{end.port}"


def milliseconds(us: int) -> str:
    """A duration as text."""
    return f"{us / 1000:.1f} ms" if us < 1_000_000 else f"{us / 1_000_000:.1f} s"


def times(count: int) -> str:
    """A number of times, as text."""
    return "once" if count == 1 else f"{count} times"


def packets(count: int, what: str = "packet") -> str:
    """A number of things, as text."""
    several = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{count} {what if count == 1 else several}"


def is_tcp(conversation: Conversation) -> bool:
    """Whether the conversation is TCP."""
    return conversation.protocol == TCP
