"""Link types: libpcap's numbers at run time and in files, and their names.

libpcap uses two kinds of numbers.  ``datalink()`` returns a *DLT*, which differs
between operating systems; files contain a *LINKTYPE*, which is the same
on all systems.  Most values agree.  The exceptions below are those of Linux,
from ``pcap/dlt.h`` and ``pcap-common.c`` of libpcap 1.10.
"""

from __future__ import annotations

from typing import Final, Mapping

NULL: Final = 0
ETHERNET: Final = 1
PPP: Final = 9
PPP_HDLC: Final = 50
PPP_ETHER: Final = 51
RAW: Final = 101
C_HDLC: Final = 104
LOOP: Final = 108
LINUX_SLL: Final = 113
PPP_PPPD: Final = 166
IPV4: Final = 228
IPV6: Final = 229
LINUX_SLL2: Final = 276

_LINK_TYPE_OF_DLT: Final[Mapping[int, int]] = {
    11: 100,  # DLT_ATM_RFC1483
    12: RAW,  # DLT_RAW
    15: 102,  # DLT_SLIP_BSDOS
    16: 103,  # DLT_PPP_BSDOS
    19: 106,  # DLT_ATM_CLIP
}

#: Names from https://www.tcpdump.org/linktypes.html, without LINKTYPE_.
_NAMES: Final[Mapping[int, str]] = {
    NULL: "NULL",
    ETHERNET: "ETHERNET",
    6: "IEEE802_5",
    7: "ARCNET_BSD",
    8: "SLIP",
    PPP: "PPP",
    10: "FDDI",
    PPP_HDLC: "PPP_HDLC",
    PPP_ETHER: "PPP_ETHER",
    100: "ATM_RFC1483",
    RAW: "RAW",
    102: "SLIP_BSDOS",
    103: "PPP_BSDOS",
    C_HDLC: "C_HDLC",
    105: "IEEE802_11",
    106: "ATM_CLIP",
    107: "FRELAY",
    LOOP: "LOOP",
    LINUX_SLL: "LINUX_SLL",
    119: "IEEE802_11_PRISM",
    122: "IP_OVER_FC",
    127: "IEEE802_11_RADIOTAP",
    129: "ARCNET_LINUX",
    144: "LINUX_IRDA",
    163: "IEEE802_11_AVS",
    PPP_PPPD: "PPP_PPPD",
    177: "LINUX_LAPD",
    189: "USB_LINUX",
    195: "IEEE802_15_4_WITHFCS",
    201: "BLUETOOTH_HCI_H4_WITH_PHDR",
    220: "USB_LINUX_MMAPPED",
    226: "IPNET",
    227: "CAN_SOCKETCAN",
    IPV4: "IPV4",
    IPV6: "IPV6",
    230: "IEEE802_15_4_NOFCS",
    239: "NFLOG",
    242: "IPOIB",
    247: "INFINIBAND",
    253: "NETLINK",
    254: "BLUETOOTH_LINUX_MONITOR",
    271: "VSOCK",
    LINUX_SLL2: "LINUX_SLL2",
}


def from_dlt(dlt: int) -> int:
    """Convert a DLT of libpcap on Linux to the LINKTYPE for files."""
    return _LINK_TYPE_OF_DLT.get(dlt, dlt)


def name(link_type: int) -> str:
    """The name of a LINKTYPE for messages; its number if the name is unknown."""
    return _NAMES.get(link_type, f"LINKTYPE {link_type}")
