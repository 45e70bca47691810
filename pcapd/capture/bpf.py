"""Checks BPF filter text, and combines filters.

Filters are passed to libpcap's compiler as text, never as bytecode (CVE-2026-0799).  The
compiler looks up host *names* in the DNS.  This would block, and a user could make the agent
look up any name.  So filters with host names are refused before they are passed to libpcap.
The grammar is pcap-filter(7).
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable

from pcapd.capture import displayfilter
from pcapd.errors import BadFilter
from pcapd.limits import FILTER_MAX

__all__ = ["check_text", "effective_filter", "failing_part", "mirrored"]

_KEYWORDS = frozenset(
    # protocols
    "ether fddi tr wlan ppp slip link ip ip6 arp rarp sctp tcp udp icmp icmp6 igmp igrp pim vrrp carp "
    "atalk aarp decnet lat sca moprc mopdl iso esis es-is isis is-is l1 l2 iih lsp snp csnp psnp clnp "
    "stp ipx netbeui ah esp radio vlan mpls pppoed pppoes geneve lane llc metac bcc oam oamf4 "
    "oamf4ec oamf4sc sc ilmic vpi vci connectmsg metaconnect sio opc dpc sls hsio hopc hdpc hsls "
    "fisu lssu lsu msu hfisu hlssu hmsu "
    # directions and address kinds
    "src dst host net mask port portrange proto protochain gateway broadcast multicast less greater "
    "inbound outbound ra ta addr1 addr2 addr3 addr4 address1 address2 address3 address4 "
    # logic and arithmetic
    "and or not len length byte "
    # named offsets and values
    "tcpflags tcp-fin tcp-syn tcp-rst tcp-push tcp-ack tcp-urg tcp-ece tcp-cwr icmptype icmpcode "
    "icmp-echoreply icmp-unreach icmp-sourcequench icmp-redirect icmp-echo icmp-routeradvert "
    "icmp-routersolicit icmp-timxceed icmp-paramprob icmp-tstamp icmp-tstampreply icmp-ireq "
    "icmp-ireqreply icmp-maskreq icmp-maskreply icmp6type icmp6code icmp6-echo icmp6-echoreply "
    "icmp6-multicastlistenerquery icmp6-multicastlistenerreportv1 icmp6-multicastlistenerdone "
    "icmp6-routersolicit icmp6-routeradvert icmp6-neighborsolicit icmp6-neighboradvert icmp6-redirect "
    "icmp6-routerrenum icmp6-nodeinformationquery icmp6-nodeinformationresponse "
    "icmp6-ineighbordiscoverysolicit icmp6-ineighbordiscoveryadvert icmp6-multicastlistenerreportv2 "
    "icmp6-homeagentdiscoveryrequest icmp6-homeagentdiscoveryreply icmp6-mobileprefixsolicit "
    "icmp6-mobileprefixadvert icmp6-certpathsolicit icmp6-certpathadvert "
    "icmp6-multicastrouteradvert icmp6-multicastroutersolicit icmp6-multicastrouterterm "
    # 802.11 and pf
    "type subtype direction dir ifname on rnr rulenum reason rset ruleset srnr subrulenum action".split()
)
#: After these, a word is the name of a number (service, protocol, frame type), not of a host.
_NAMED_VALUES = frozenset(
    "port portrange proto protochain type subtype direction dir ifname on reason rset ruleset action "
    "llc".split()
)
#: These begin a new primitive; its values are hosts until one of _NAMED_VALUES follows.
_RESET = _KEYWORDS - _NAMED_VALUES - frozenset(("and", "or", "not"))

_MIRRORED = {"inbound": "outbound", "outbound": "inbound"}
#: These words refer to one end of a link and have no counterpart at the other end.
_ONE_SIDED = frozenset("ifname on dir direction".split())

#: Names of values that libpcap 1.10 does not know; it would look them up as hosts.  They are
#: accepted only where a number is expected.
_RECENT = frozenset(
    "icmp6-destinationunreach icmp6-packettoobig icmp6-timeexceeded icmp6-parameterproblem".split()
)

#: After these words, a host or a network is expected.
_NAMES_HOSTS = frozenset("host src dst net gateway mask".split())
#: Least similarity (0 to 1) of a suggested word, and the greatest length of a word that gets one.
_ALIKE, _WORD_MAX = 0.6, 32

#: The tokens of a filter.  A run must not be shorter than the token that libpcap's scanner finds at
#: the same position: ``abcd.abcd.abcd.net`` is one token, not an address and the keyword ``net``.
_TOKEN = re.compile(r"(?P<run>[\w.:$\\][-\w.:$\\]*)|(?P<other>\s+|.)", re.ASCII | re.DOTALL)
_NUMBER = r"(?:0[xX][0-9A-Fa-f]+|[0-9]+)"
_ADDRESS = re.compile(
    rf"""
      {_NUMBER}(?:\.[0-9]+){{0,3}}               # a number; an IPv4 address or the beginning of one
    | (?:{_NUMBER}|tcpflags|icmp6?(?:type|code))?:(?:{_NUMBER})?    # which bytes: [0:4]
    | \$[0-9A-Fa-f]{{1,2}}                       # ARCNET
    | [0-9A-Fa-f]{{1,2}}([-.:])[0-9A-Fa-f]{{1,2}}(?:\1[0-9A-Fa-f]{{1,2}}){{4}}
    | (?:[0-9A-Fa-f]{{4}}\.){{2}}[0-9A-Fa-f]{{4}}
    | [0-9A-Fa-f]{{12}}                          # a MAC address without separators
    """,
    re.VERBOSE,
)
#: The name of a service or protocol; after a backslash if it is also a keyword.
_NAME = re.compile(r"\\?[A-Za-z0-9](?:[-\w.]*[\w.])?", re.ASCII)


def check_text(text: str) -> None:
    """Refuse filter text that must not be passed to libpcap.

    Raises:
        BadFilter: The text is too long, is not printable ASCII, or has a host name instead of an address.
    """
    if len(text) > FILTER_MAX:
        raise BadFilter(f"the filter has {len(text)} characters, at most {FILTER_MAX} are allowed")
    if any(not " " <= character <= "~" and character not in "\t\n" for character in text):
        raise BadFilter("the filter has characters that are not printable ASCII")
    unknown = _unknown(text)
    if unknown is not None:
        raise _refused(text, *unknown)


def _unknown(text: str) -> tuple[str, str] | None:
    """The first word that is neither a known word nor an address, and the token before it; or None."""
    names_values = False
    before = ""
    for match in _TOKEN.finditer(text):
        run = match["run"]
        if run is None:
            before = match[0].strip() or before
            continue
        if run in _RESET:
            names_values = False
        elif run in _NAMED_VALUES:
            names_values = True
        elif not (
            run in _KEYWORDS
            or _is_address(run)
            or (names_values and _NAME.fullmatch(run))
            or (run in _RECENT and before in ("=", "<", ">"))
        ):
            return run, before
        before = run
    return None


def _refused(text: str, run: str, before: str) -> BadFilter:
    """The error for a filter with a word that is neither a known word nor an address.

    Args:
        run: The word.
        before: The token before it.
    """
    if displayfilter.is_display_filter(text):
        instead = displayfilter.as_capture_filter(text)
        if _unknown(instead) is not None:
            instead = ""
        hint = f"the capture filter is: {instead}" if instead else "see pcap-filter(7) for capture filters"
        return BadFilter(f"the filter has {run!r}: that is a display filter of Wireshark", hint)
    nearest = difflib.get_close_matches(run[: _WORD_MAX + 1], sorted(_KEYWORDS), 1, _ALIKE)
    if nearest and len(run) <= _WORD_MAX and before not in _NAMES_HOSTS:
        hint = f"did you mean {nearest[0]!r}? a host is written as its address, for example host 192.0.2.1"
        return BadFilter(f"the filter has {run!r}, which is not a known word", hint)
    return BadFilter(
        f"the filter has {run!r} where an address is expected",
        "host names are not looked up: write the address, for example host 192.0.2.1",
    )


def _is_address(run: str) -> bool:
    """Whether libpcap reads the text as a number or address, without a look-up."""
    if _ADDRESS.fullmatch(run):
        return True
    try:
        ipaddress.IPv6Address(run)
    except ValueError:
        return False
    return True


def mirrored(text: str) -> str:
    """The filter that selects the same packets at the other end of a link.

    Packets and their addresses are the same at both ends.  Only the direction differs: packets
    that are outbound at one end are inbound at the other end.

    Raises:
        BadFilter: The filter has a word without a counterpart at the other end.
    """
    parts = []
    for match in _TOKEN.finditer(text):
        if match["run"] in _ONE_SIDED:
            raise BadFilter(
                f"{match['run']!r} in a filter does not work from outside the container",
                "use inbound or outbound",
            )
        parts.append(_MIRRORED.get(match[0], match[0]))
    return "".join(parts)


def effective_filter(own: str, never: Iterable[str], user: str) -> str:
    """All filters of a capture as one text, to show to users; each part is compiled alone.

    Args:
        own: Excludes pcapd's own traffic; may be empty.
        never: Filters; packets that match one of them are not captured.
        user: The user's filter; may be empty.
    """
    parts = [own] if own else []
    parts += [f"not ({text})" for text in never]
    if user.strip():
        parts.append(f"({user})")
    return " and ".join(parts)


def failing_part(text: str, compiles: Callable[[str], bool], attempts: int = 64) -> str:
    """Find where a filter stops being valid, which libpcap does not report.

    Args:
        text: A filter that does not compile.
        compiles: Function that returns whether a piece of filter text compiles.
        attempts: Number of pieces to try; it limits the time for a hostile filter.

    Returns:
        The text after the longest beginning that compiles, or all of it.
    """
    ends = [match.end() for match in _TOKEN.finditer(text) if match["other"] is None or match["other"] == ")"]
    for end in reversed(ends[-attempts - 1 : -1]):
        if compiles(text[:end]):
            return text[end:].strip()
    return text.strip()
