"""Counts packets that a capture excludes.

A classic BPF program cannot count.  So a second packet socket has a filter that accepts just
these packets, and the kernel counts them (``PACKET_STATISTICS``, packet(7)), even if they do
not fit into the socket's buffer.  They are never read.
"""

from __future__ import annotations

import socket
import struct

from pcapd.capture import kernelfilter
from pcapd.capture.interfaces import Interface

__all__ = ["Tally"]

_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_ALL_PROTOCOLS = 0x0003  # ETH_P_ALL
_COUNTERS = struct.Struct("=II")  # struct tpacket_stats: all packets; how many of them were dropped


class Tally:
    """A counter on one interface.  It counts nothing until `count_only` is called.

    A socket belongs to the network namespace in which it was opened, so it is opened together
    with the capture, even if it is not needed later.

    Args:
        interface: An interface in the calling thread's network namespace.

    Raises:
        OSError: No descriptor is left, or CAP_NET_RAW is missing.
    """

    def __init__(self, interface: Interface) -> None:
        self._interface = interface
        self._counted = 0
        self._bound = False
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # the kernel raises it to its minimum

    def count_only(self, program: bytes) -> None:
        """From now on count the packets that a program accepts; earlier counts are kept.

        Raises:
            OSError: The kernel refuses the program, or the interface no longer exists.
        """
        kernelfilter.attach(self._socket.fileno(), program)
        if not self._bound:
            if self._interface.loopback:
                kernelfilter.ignore_outgoing(self._socket.fileno())
            self._socket.bind((self._interface.name, _ALL_PROTOCOLS))
            self._bound = True

    def count(self) -> int:
        """The number of packets counted so far."""
        if self._bound:
            # Reading the counters resets them.
            packets, _ = _COUNTERS.unpack(
                self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _COUNTERS.size)
            )
            self._counted += packets
        return self._counted

    def stop(self) -> None:
        """Count nothing more."""
        if self._bound:
            kernelfilter.attach(self._socket.fileno(), kernelfilter.DROP_ALL)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
