"""Filter text: what libpcap never sees, and what is put around what it does see."""

from __future__ import annotations

import ctypes
import functools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcapd.capture.bpf import check_text, effective_filter, failing_part
from pcapd.capture.libpcap import libpcap_path
from pcapd.errors import BadFilter
from pcapd.limits import FILTER_MAX


@pytest.mark.parametrize(
    "text",
    [
        "",
        "udp",
        "tcp port 443 and host 192.0.2.1",
        "host 2001:db8::1 or net 192.0.2.0/24",
        "ether host 02:00:00:00:00:99",
        "ether src 0200.0000.0099",
        "port http or portrange 1-ftp",
        "ip proto \\icmp",
        "proto ospf",
        "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
        "icmp[icmptype] == icmp-echo",
        "(vlan 7 and not arp) or greater 100",
        "ip[0] & 0xf != 5",
        "net 10 or net 192.168",
        "src and dst port 80",
        "\ttcp\n",
        "ip proto \\tcp or \\udp",
        "tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420",
        "ip[2 : 2] - 20 > 0 && tcp[tcpflags:1] != 0",
        "icmp6[icmp6type]==icmp6-packettoobig",
        "host ::ffff:192.0.2.1 or net 2001:db8::/32",
        "ether host 2-0-0-0-0-99 or ether host 2.0.0.0.0.99",
        "length >= 100",
        "ether host abcdef000003",
    ],
)
def test_filters_that_people_write_pass(text: str) -> None:
    """Filters of pcap-filter(7) that need no name service pass."""
    check_text(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("host example.com", "example.com"),
        ("udp and host localhost", "localhost"),
        ("src db-1", "db-1"),
        ("net intranet", "intranet"),
        ("port 80 and host www", "www"),
        ("gateway router", "router"),
        ("ether host printer", "printer"),
        ("example.com", "example.com"),
        ("port 53 or (dst a.b.c)", "a.b.c"),
        ("host 1.2.3.4.example.com", "1.2.3.4.example.com"),
        # What libpcap reads as one name, although it begins like something else.
        ("host \\example.com", "\\\\example.com"),
        ("host \\192.0.2.1", "\\\\192.0.2.1"),
        ("host abcd.abcd.abcd.net", "abcd.abcd.abcd.net"),
        ("host aa-bb-cc-dd-ee-ff-net", "aa-bb-cc-dd-ee-ff-net"),
        ("host aa-bb.cc-dd-ee-ff", "aa-bb.cc-dd-ee-ff"),
        ("src e:", "e:"),
        ("src ip.", "ip."),
        ("host 192.0.2.1.", "192.0.2.1."),
        ("host icmp6-packettoobig", "icmp6-packettoobig"),
    ],
)
def test_host_names_are_refused_with_a_remedy(text: str, name: str) -> None:
    """A name that libpcap would look up never reaches it; the message shows the name and what to write."""
    with pytest.raises(BadFilter, match="write the address") as refused:
        check_text(text)
    assert f"'{name}'" in refused.value.message


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("tcp.port == 80", "tcp port 80"),
        ("ip.addr==192.0.2.1 && tcp.dstport eq 443", "host 192.0.2.1 && tcp dst port 443"),
        ("ip.src == 10.0.0.0/8", "src host 10.0.0.0/8"),
        ("http.request", "tcp port 80"),
        ('http.request.method == "GET" and ip.addr == 192.0.2.1', "tcp port 80 and host 192.0.2.1"),
        ("http", "tcp port 80"),
        ("dns", "port 53"),
        ("tcp.flags.syn == 1", ""),
    ],
)
def test_a_display_filter_is_recognised(text: str, instead: str) -> None:
    """A filter that Wireshark's other field takes is called that, with the capture filter where there is one."""
    with pytest.raises(BadFilter, match="display filter of Wireshark") as refused:
        check_text(text)
    expected = f"the capture filter is: {instead}" if instead else "see pcap-filter(7) for capture filters"
    assert refused.value.hint == expected
    if instead:
        check_text(instead)


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("tpc port 80", "tcp"),
        ("tcp prt 80", "port"),
        ("udp and grater 100", "greater"),
        ("hosts 192.0.2.1", "host"),
    ],
)
def test_a_word_that_is_not_known_is_shown_with_the_nearest(text: str, nearest: str) -> None:
    """A slip of the finger is not taken for a host's name."""
    with pytest.raises(BadFilter) as refused:
        check_text(text)
    assert f"did you mean '{nearest}'?" in refused.value.hint


_RUN = st.one_of(
    st.from_regex(r"\\?[0-9a-f.:-]{1,12}", fullmatch=True),
    st.from_regex(r"([0-9a-f]{1,4}[-.:]){1,7}[0-9a-f]{0,4}", fullmatch=True),
    st.from_regex(r"[0-9a-f]{11,13}", fullmatch=True),
    st.tuples(
        st.sampled_from(
            ["tcp", "net", "ip", "192.0.2.1", "aa-bb-cc-dd-ee-ff", "a.b.c.d.e.f", "0x1f", "fe80::1"]
        ),
        st.sampled_from(["", ".", "-", "_", ":", "\\", ".net", "-net", ":1"]),
    ).map("".join),
)
_PLACE = st.sampled_from(
    [
        "",
        "host ",
        "src ",
        "net ",
        "net 192.0.2.0 mask ",
        "ether host ",
        "gateway ",
        "port 80 and not ",
        "len > 5 and ",
    ]
)


@functools.cache
def _libpcap() -> tuple[ctypes.CDLL, ctypes.c_void_p]:
    pcap = ctypes.CDLL(libpcap_path())
    pcap.pcap_open_dead.restype = ctypes.c_void_p
    pcap.pcap_geterr.restype = ctypes.c_char_p
    return pcap, ctypes.c_void_p(pcap.pcap_open_dead(1, 65535))


def libpcaps_problem(text: str) -> str:
    """Compile a filter for Ethernet; return the error, or empty.  pcapy's own reads it from a closed handle."""
    pcap, handle = _libpcap()
    program = ctypes.create_string_buffer(16)
    if pcap.pcap_compile(handle, program, text.encode(), 1, 0):
        return pcap.pcap_geterr(handle).decode(errors="replace")  # type: ignore[no-any-return]
    pcap.pcap_freecode(program)
    return ""


def test_libpcap_is_asked() -> None:
    """The problem that the test helper returns is libpcap's message, and empty for a good filter."""
    pytest.importorskip("pcapy", reason="pcapy-ng is not installed")
    assert libpcaps_problem("tcp port 80") == ""
    assert re.match("unknown ether host", libpcaps_problem("ether host printer"))


@settings(max_examples=1000)
@given(_PLACE, _RUN, st.sampled_from(["", " and ", " or (", "/", "[", "="]), st.just("") | _RUN)
def test_libpcap_looks_no_name_up(place: str, first: str, between: str, second: str) -> None:
    """A filter that passes the check makes libpcap look no name up."""
    pytest.importorskip("pcapy", reason="pcapy-ng is not installed")
    text = place + first + between + second
    try:
        check_text(text)
    except BadFilter:
        return
    assert not re.match("unknown (ether )?(host|network)", libpcaps_problem(text)), text


@pytest.mark.parametrize("text", ["udp\0", "udp\x1b", "udp\x7f", "hôst 192.0.2.1", "port ８０"])
def test_characters_that_no_filter_needs_are_refused(text: str) -> None:
    """Control characters and non-ASCII characters are refused in filters."""
    with pytest.raises(BadFilter, match="printable ASCII"):
        check_text(text)


def test_a_filter_may_have_so_many_characters_and_no_more() -> None:
    """The bound itself is allowed; the message for more tells both numbers."""
    check_text("udp".ljust(FILTER_MAX))
    with pytest.raises(BadFilter, match=f"{FILTER_MAX + 1} characters, at most {FILTER_MAX}"):
        check_text("udp".ljust(FILTER_MAX + 1))


@given(st.text(max_size=60) | st.from_regex(r"[a-z0-9 .:()\\-]{0,60}"))
def test_any_text_passes_or_is_a_bad_filter(text: str) -> None:
    """Any text passes the check or is a BadFilter."""
    try:
        check_text(text)
    except BadFilter as error:
        assert error.message


def test_what_is_left_out_stands_before_the_users_filter() -> None:
    """People see one filter: our own traffic, what the policy excludes, and the user's in parentheses."""
    assert (
        effective_filter("not (tcp)", ["port 22"], "udp or arp")
        == "not (tcp) and not (port 22) and (udp or arp)"
    )


@pytest.mark.parametrize("user", ["", "  \n"])
def test_without_anything_to_filter_there_is_no_filter(user: str) -> None:
    """An empty filter stays empty."""
    assert effective_filter("", [], user) == ""


def test_the_failing_part_is_what_follows_the_longest_good_beginning() -> None:
    """The part behind the longest good beginning is shown as the error."""
    assert failing_part("udp and port 53 bogus", {"udp", "udp and port 53"}.__contains__) == "bogus"


def test_so_many_pieces_are_words_and_closing_brackets() -> None:
    """Only words and closing brackets count as pieces, so that beginnings further back are found."""
    words = " bogus" * 60
    assert failing_part(f"udp{words}", {"udp"}.__contains__, attempts=64) == words.strip()


def test_a_filter_without_a_good_beginning_fails_as_a_whole() -> None:
    """A filter without a good beginning is shown as a whole."""
    assert failing_part(" bogus udp ", lambda _: False) == "bogus udp"


def test_a_hostile_filter_costs_bounded_compilations() -> None:
    """A hostile filter causes a bounded number of compilations, however many words it has."""
    tried: list[str] = []
    failing_part("udp " * 1000, lambda text: bool(tried.append(text)), attempts=64)
    assert len(tried) <= 64
