"""A TLS handshake failed."""

from __future__ import annotations

from typing import Iterator, Optional, Tuple

from pcapd.analysis.conversations import Conversation, View
from pcapd.analysis.exchanges.log import Exchanges
from pcapd.analysis.exchanges.tls import SEALED_ALERT, Tls
from pcapd.analysis.findings.base import ERROR, Group, Kind, Occurrence, Sort, address, is_tcp, packets
from pcapd.analysis.findings.where import in_order
from pcapd.analysis.world import World

__all__ = ["TlsFailed"]


def _failure(tls: Tls, view: View, client_side: int) -> Optional[Tuple[str, str, int, int]]:
    """The end that made the handshake fail, how, when, and the packet."""
    client, server = view.client, view.server
    if tls.alert is not None:
        side, name, us, frame = tls.alert
        return ("client" if side == client_side else "server"), f"alert {name}", us, frame
    if tls.client is None or (tls.data == [True, True] and tls.first_data[client_side] != SEALED_ALERT):
        return None
    if tls.data[client_side] and tls.first_data[client_side] == SEALED_ALERT:
        return (
            "client",
            "an encrypted alert: the client did not accept the server's handshake",
            client.payload_us,
            client.last_frame,
        )
    closings = [
        (us, name, frame)
        for us, name, frame in (
            (client.fin_us, "client", client.fin_frame), (client.rst_us, "client", client.rst_frame),
            (server.fin_us, "server", server.fin_frame), (server.rst_us, "server", server.rst_frame),
        )
        if us
    ]  # fmt: skip
    if not closings or all(tls.encrypted):
        return None
    us, name, frame = min(closings)
    return name, "closed during the handshake", us, frame


class TlsFailed(Kind):
    """A TLS handshake failed."""

    name = "tls_failed"
    looks = "An alert during the handshake, or the connection is closed before the handshake is complete."
    means = "One end does not accept the certificate, the name, the versions or the ciphers of the other."
    remedy = "Check the name of the alert: it is the reason given by the end that sent it."
    platform = (
        "Apps behind gorouter and Envoy that require client certificates must trust the instance identity CA."
    )
    display = "tls.alert_message"
    looks_at = Sort.TLS

    def judge(self, conversation: Conversation, exchanges: Exchanges, world: World) -> Iterator[Occurrence]:
        if not is_tcp(conversation) or not exchanges.tls:
            return
        for view in in_order(conversation, world):
            tls = exchanges.tls.get(view.place)
            failure = _failure(tls, view, conversation.client_side) if tls is not None else None
            if tls is None or failure is None:
                continue
            end, how, us, frame = failure
            yield Occurrence(
                ERROR,
                conversation,
                conversation.places,
                tls.hello_us or us,
                us,
                [(view.place, frame)],
                {
                    "end": end,
                    "how": how,
                    "name": tls.server_name,
                    "version": tls.version,
                    "until": _until(tls),
                },
                (end, how),
            )
            return

    def summary(self, group: Group, world: World) -> str:
        facts = group.facts
        text = f"{packets(group.count, 'TLS handshake')} of {group.ends} failed: {facts['how']}, by the {facts['end']}"
        text += f" ({address(group.client if facts['end'] == 'client' else group.server)})"
        text += f", for the name {facts['name'][:100]!r}" if facts["name"] else ", without a server name"
        text += f"; {facts['version']} was chosen" if facts["version"] else ""
        return text + (f"; the server's certificate expires at {facts['until']}." if facts["until"] else ".")


def _until(tls: Tls) -> str:
    end = tls.validity[1] if tls.validity is not None else ""
    return f"{end[:4]}-{end[4:6]}-{end[6:8]}" if end else ""
