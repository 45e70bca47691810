"""An explanation as one JSON object, in the format of docs/explain.rst."""

from __future__ import annotations

import ipaddress
from typing import Any, Dict, List, Optional

from pcapd.analysis.conversations import Conversation, End
from pcapd.analysis.exchanges.requests import ShownRequest
from pcapd.analysis.explanation import Explanation, Worst
from pcapd.analysis.findings.base import Group
from pcapd.analysis.world import Place

__all__ = ["as_dict", "display_filter"]

VERSION = 1
_PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}


def as_dict(explanation: Explanation) -> Dict[str, Any]:
    """The JSON object."""
    first_us, last_us = explanation.times
    return {
        "version": VERSION,
        "files": explanation.files,
        "packets": explanation.packets,
        "first_us": first_us,
        "last_us": last_us,
        "sources": [_source(place) for place in explanation.world.places],
        "findings": [_finding(explanation, group) for group in explanation.groups],
        "conversations": [_conversation(explanation, one) for one in explanation.worst],
        "requests": {
            "groups": [
                {
                    "instance": instance,
                    "method": method,
                    "path": path,
                    "count": sample.count,
                    "errors": sample.errors,
                    **dict(zip(("p50_us", "p95_us", "p99_us"), sample.percentiles((0.5, 0.95, 0.99)))),
                }
                for (instance, method, path), sample in explanation.requests.items()
            ],
            "slowest": [_request(explanation, *pair) for pair in explanation.slowest],
        },
    }


def _source(place: Place) -> Dict[str, Any]:
    offset: Optional[int] = None
    error: Optional[int] = None
    if place.clock is not None:
        offset, error = place.first_us - place.clock.corrected(place.first_us), round(place.clock.error_us)
    elif place.known_offset is not None:
        offset, error = place.known_offset
    return {
        "name": place.name,
        "instance": place.instance,
        "file": place.file,
        "packets": place.packets,
        "dropped": place.lost_in_all if place.dropped is not None or place.losses else None,
        "clock_offset_us": offset,
        "clock_error_us": error,
    }


def _finding(explanation: Explanation, group: Group) -> Dict[str, Any]:
    world = explanation.world
    return {
        "kind": group.kind.name,
        "severity": group.severity,
        "client": _end(group.client),
        "server": _end(group.server),
        "sources": world.names(group.places),
        "count": group.count,
        "first_us": group.first_us,
        "last_us": group.last_us,
        "frames": [{"file": world.places[place].file, "number": number} for place, number in group.frames],
        "display_filter": display_filter(group),
        "summary": explanation.summary(group),
        "advice": group.kind.advice(group),
    }


def _end(end: End) -> Optional[Dict[str, Any]]:
    return {"address": str(ipaddress.ip_address(end.address)), "port": end.port} if end.address else None


def display_filter(group: Group) -> str:
    """A Wireshark display filter for the conversations of a finding."""
    if not group.client.address:
        return group.kind.display
    field = "ip.addr" if len(group.client.address) == 4 else "ipv6.addr"
    parts = [f"{field} == {ipaddress.ip_address(end.address)}" for end in (group.client, group.server)]
    protocol = {6: "tcp", 17: "udp"}.get(group.protocol)
    if protocol is not None:
        ports = [end.port for end in (group.client, group.server) if end.port is not None]
        parts += [f"{protocol}.port == {port}" for port in ports]
    return " && ".join(parts)


def _conversation(explanation: Explanation, one: Worst) -> Dict[str, Any]:
    conversation = one.conversation
    return {
        **_ends(conversation),
        "protocol": _PROTOCOLS.get(conversation.protocol, f"protocol {conversation.protocol}"),
        "sources": explanation.world.names(conversation.places),
        "packets": one.packets,
        "bytes": one.bytes,
        "retransmissions": one.retransmissions,
        "lost_between": one.lost,
        "rtt_us": one.rtt_us,
    }


def _ends(conversation: Conversation) -> Dict[str, Any]:
    return {"client": _end(conversation.client), "server": _end(conversation.server)}


def _request(explanation: Explanation, conversation: Conversation, bad: ShownRequest) -> Dict[str, Any]:
    sources: List[str] = explanation.world.names(bad.places)
    return {
        **_ends(conversation),
        "sources": sources,
        "method": bad.method,
        "path": bad.shown.partition(" ")[2],
        "status": bad.status,
        "first_us": bad.first_us,
        "duration_us": bad.duration_us,
        "network_us": bad.network_us,
        "envoy_us": bad.envoy_us,
        "app_us": bad.app_us,
    }
