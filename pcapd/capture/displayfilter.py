"""Recognises Wireshark's display filters (wireshark-filter(4)) that were given as capture filters.

For the usual forms, the error message shows the equivalent in pcap-filter(7).
"""

from __future__ import annotations

import re

__all__ = ["as_capture_filter", "is_display_filter"]

_VALUE = r"(?P<value>[0-9A-Fa-f.:/]+)"
#: Comparisons, each with its counterpart in a capture filter.
_COMPARISONS = tuple(
    (re.compile(rf"\b{field}\s*(?:==|=|\beq\b)\s*{_VALUE}"), counterpart)
    for field, counterpart in (
        (r"(?P<what>tcp|udp)\.port", r"\g<what> port \g<value>"),
        (r"(?P<what>tcp|udp)\.(?P<end>src|dst)port", r"\g<what> \g<end> port \g<value>"),
        (r"(?:ip|ipv6)\.addr", r"host \g<value>"),
        (r"(?:ip|ipv6)\.(?P<end>src|dst)(?:_host)?", r"\g<end> host \g<value>"),
        (r"eth\.addr", r"ether host \g<value>"),
        (r"eth\.(?P<end>src|dst)", r"ether \g<end> \g<value>"),
        (r"frame\.len", r"len = \g<value>"),
    )
)
#: After one of these words, a name is that of a host or a port, not of a field.
_NOT_AFTER = r"(?<![\w.\\-])(?<!host )(?<!src )(?<!dst )(?<!net )(?<!port )"
_REST = r"(?:\.\w+)*(?:\s*(?:==|!=|contains|matches)\s*(?:\"[^\"]*\"|\S+))?"
#: Protocols that a capture filter can select only by port.
_BY_PORT = tuple(
    (re.compile(rf"{_NOT_AFTER}{protocol}\b{_REST}"), counterpart)
    for protocol, counterpart in (
        (r"http", "tcp port 80"),
        (r"(?:http2|tls|ssl)", "tcp port 443"),
        (r"m?dns", "port 53"),
    )
)
#: A field of a display filter, such as ``tcp.flags.syn``; no word of capture filters has this form.
_FIELD = re.compile(rf"{_NOT_AFTER}(?:eth|frame|ip|ipv6|tcp|udp|icmp|icmpv6|arp|vlan)\.[a-z_]\w*(?:\.\w+)*")


def is_display_filter(text: str) -> bool:
    """Whether a text looks like a display filter."""
    return _FIELD.search(text) is not None or _by_port(text) != text


def as_capture_filter(text: str) -> str:
    """Translate the known forms to a capture filter that selects the same packets, or more."""
    for pattern, counterpart in _COMPARISONS:
        text = pattern.sub(counterpart, text)
    return _by_port(text)


def _by_port(text: str) -> str:
    for pattern, counterpart in _BY_PORT:
        text = pattern.sub(counterpart, text)
    return text
