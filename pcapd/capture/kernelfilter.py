"""Operations on libpcap's packet socket that libpcap lacks, such as replacing its filter.

libpcap compiles and attaches filters, but exact counting needs two more operations: to accept
no packets until those that arrived before the filter was attached have been removed from the
ring, and to stop accepting packets without losing those in the ring.  Each is one
``setsockopt`` on libpcap's own socket.  socket(7), packet(7).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Iterator

from pcapd.errors import BadFilter

__all__ = ["DROP_ALL", "attach", "attached", "bound_to", "ignore_outgoing", "program"]

_SO_ATTACH_FILTER = 26  # SO_GET_FILTER has the same number
_SOL_PACKET = 263
_PACKET_IGNORE_OUTGOING = 23
_INSTRUCTION = struct.Struct("=HBBI")
_MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS
_PACKET_ADDRESS = struct.Struct("=HHiHBB8s")  # struct sockaddr_ll

#: A program that accepts no packets: ``ret #0``.
DROP_ALL = _INSTRUCTION.pack(0x06, 0, 0, 0)

_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def _borrowed(fd: int) -> Iterator[socket.socket]:
    # The descriptor belongs to libpcap, so the socket object, which closes its own, has a duplicate.
    with socket.socket(fileno=os.dup(fd)) as packet_socket:
        yield packet_socket


def bound_to(fd: int) -> int | None:
    """Index of the interface of a packet socket, 0 for all; None for other descriptors."""
    buffer = ctypes.create_string_buffer(_PACKET_ADDRESS.size)
    length = ctypes.c_uint32(_PACKET_ADDRESS.size)
    if _libc.getsockname(fd, buffer, ctypes.byref(length)):
        return None
    family, _, index, *_ = _PACKET_ADDRESS.unpack(buffer.raw)
    return int(index) if family == socket.AF_PACKET else None


def program(fd: int) -> bytes:
    """The classic BPF program that is attached to a socket; b"" if there is none.

    Raises:
        OSError: The kernel refuses the request.
    """
    buffer = ctypes.create_string_buffer(_MAX_INSTRUCTIONS * _INSTRUCTION.size)
    count = ctypes.c_uint32(_MAX_INSTRUCTIONS)  # in and out: number of instructions, not bytes
    if _libc.getsockopt(fd, socket.SOL_SOCKET, _SO_ATTACH_FILTER, buffer, ctypes.byref(count)):
        raise OSError(ctypes.get_errno(), "SO_GET_FILTER")
    return buffer.raw[: count.value * _INSTRUCTION.size]


def attached(fd: int) -> bytes:
    """The program that libpcap has attached to its socket.

    Raises:
        BadFilter: No program is attached: libpcap would filter in user space, without counting drops.
    """
    found = program(fd)
    if not found:
        raise BadFilter("the filter is too complex for the kernel", "write a shorter one")
    return found


def attach(fd: int, instructions: bytes) -> None:
    """Replace a socket's filter; from now on the socket receives only packets that the filter accepts.

    Raises:
        OSError: The kernel refuses the program.
    """
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    count = len(instructions) // _INSTRUCTION.size
    with _borrowed(fd) as packet_socket:
        packet_socket.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", count, ctypes.addressof(buffer))
        )


def ignore_outgoing(fd: int) -> None:
    """Do not receive packets that this host sends (Linux 4.20).

    On the loopback interface the kernel captures and counts every packet twice, and libpcap
    discards the outgoing copy.  Then the number of received packets would differ from that of
    delivered and dropped packets.
    """
    with _borrowed(fd) as packet_socket:
        packet_socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
