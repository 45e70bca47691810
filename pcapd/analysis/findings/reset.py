"""A connection in use was reset."""

from __future__ import annotations

from typing import Final, Iterator, List, Optional

from pcapd.analysis.conversations import Conversation, Half, View
from pcapd.analysis.exchanges.log import Exchanges
from pcapd.analysis.findings.base import NOTE, WARNING, Group, Kind, Occurrence, address, is_tcp, packets
from pcapd.analysis.findings.idle import how_cut
from pcapd.analysis.findings.keepalive import lost_the_race
from pcapd.analysis.findings.where import in_order
from pcapd.analysis.world import World

__all__ = ["ResetInUse"]

#: microseconds of silence before; after a longer silence it was not in use (see `idle_cut`).
_IN_USE_US: Final = 4_000_000


def _resets(half: Half, peer: Half) -> bool:
    """Whether a reset breaks a connection, and does not just end a finished one."""
    if not half.rst_us or half.rst_idle_us >= _IN_USE_US:
        return False
    over = (
        peer.fin_us and peer.fin_us <= half.rst_us and not half.rst_unacked_own and not half.rst_unacked_peer
    )
    return not over


class ResetInUse(Kind):
    """A connection in use was reset."""

    name = "reset_in_use"
    looks = "A RST in a connection that was in use."
    means = "One end, or a device between the ends, broke the connection: a program that crashed, was killed or closed with unread data, a proxy with a timeout, or a firewall."
    remedy = "Check the log of the end that sent the reset, at this time."
    platform = ""
    display = "tcp.flags.reset == 1"

    def judge(self, conversation: Conversation, exchanges: Exchanges, world: World) -> Iterator[Occurrence]:
        if not is_tcp(conversation) or not any(
            view.client.rst_us or view.server.rst_us for view in conversation.views
        ):
            return
        views = in_order(conversation, world)
        if not any(view.server.syn_us or view.server.payload_packets for view in views):
            return
        if any(lost_the_race(view, exchanges) or how_cut(view) for view in views):
            return
        for name in ("client", "server"):
            near, far = (views, "server") if name == "client" else (views[::-1], "client")
            view = next((view for view in near if getattr(view, name).rst_us), None)
            if view is None or not _resets(getattr(view, name), getattr(view, far)):
                continue
            if name == "client" and any(
                one.server.rst_us and one.server.rst_us < view.client.rst_us for one in views
            ):
                continue  # a reply to the other end's reset
            yield self._occurrence(conversation, exchanges, world, name, view, near[0])
            return

    def _occurrence(  # noqa: PLR0917
        self,
        conversation: Conversation,
        exchanges: Exchanges,
        world: World,
        name: str,
        view: View,
        nearest: View,
    ) -> Occurrence:
        half: Half = getattr(view, name)
        waiting = _under_way(exchanges, view.place)
        busy = bool(half.rst_unacked_own or half.rst_unacked_peer or waiting)
        forged = nearest is not view
        return Occurrence(
            NOTE
            if _late_goodbye(name, view) and not waiting
            else WARNING
            if busy or forged or (name == "server" and not view.server.fin_us and _used(view))
            else NOTE,
            conversation,
            conversation.places,
            half.rst_us,
            half.rst_us,
            [(view.place, half.rst_frame)],
            {
                "end": name,
                "unacked": half.rst_unacked_own + half.rst_unacked_peer,
                "waiting": waiting or "",
                "forged": world.places[nearest.place].name if forged else "",
                "seen": world.places[view.place].name,
            },
            (name, forged),
        )

    def summary(self, group: Group, world: World) -> str:
        end = group.client if group.facts["end"] == "client" else group.server
        text = f"{address(end)} reset {packets(group.count, 'connection')} of {group.ends} that were in use"
        if group.facts["forged"]:
            text = f"{packets(group.count, 'connection')} of {group.ends} were reset with the address of {address(end)}"
            text += f" by a device between the ends: the RST was seen at {group.facts['seen']}, not at {group.facts['forged']}"
        if group.facts["waiting"]:
            text += f"; a request had no complete response yet ({group.facts['waiting']})"
        elif group.total["unacked"]:
            text += f"; {group.total['unacked']} bytes were not acknowledged"
        return text + "."


def _late_goodbye(name: str, view: View) -> bool:
    """Whether the client had closed, and only replies to later packets, such as TLS's last alert."""
    return name == "client" and bool(view.client.fin_us) and view.client.fin_us <= view.client.rst_us


def _used(view: View) -> bool:
    return bool(view.client.payload_packets)


def _under_way(exchanges: Exchanges, place: int) -> Optional[str]:
    http = exchanges.http.get(place)
    waiting: List[str] = [one.shown for one in http.waiting] if http is not None else []
    return waiting[0] if waiting else None
