"""One capture on one interface, with exact counters.

The number of packets that the filter accepts must equal the number of delivered packets plus
those dropped by the kernel, exactly, for the whole capture.  libpcap alone does not achieve
this: packets that arrive between activation and ``setfilter`` are put into the ring buffer and
counted even if the filter does not accept them, and when the handle is closed, packets that are
still in the ring are lost.  So a capture has these steps:

*open*: Activate the handle.  Let libpcap compile and attach each filter, and read its program
back from the kernel.  Set an empty filter, so that libpcap itself filters nothing.  Attach a
program that drops all packets, empty the ring, and record the counters.

*start*: Attach the programs.  They first exclude pcapd's own traffic (`pcapd.capture.exclusion`),
then the traffic that the api's policy excludes; the user's filter decides about the rest.  From
then on each accepted packet is either in the ring or counted as dropped.  This is a separate
step because a ring can fill up in a quarter of a second: start a source right before it is read.

*exclude*: Exclude more connections of pcapd while the capture runs.  A second packet socket
counts the excluded packets.

*stop*: Attach the program that drops all packets.  When the last block of the ring has been read
(at most `limits.RING_LAG` later), the counters are final.

The handle has the largest snaplen, because ``next_batch`` does not report the original length of
packets.  `pcapd.records.pack` cuts them to the user's snaplen and stores their original length.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import pcapy

from pcapd.capture import exclusion, kernelfilter
from pcapd.capture.bpf import check_text, effective_filter, mirrored
from pcapd.capture.compiling import Asker, FilterCompiler
from pcapd.capture.exclusion import Connection, OwnTraffic
from pcapd.capture.interfaces import Interface, InterfaceWatch
from pcapd.capture.tally import Tally
from pcapd.errors import BadFilter, CaptureFailed, CapturePermission, NoSuchInterface, RequestError
from pcapd.limits import (
    BATCH_PACKETS,
    BLOCK_TIMEOUT_MS,
    FILTER_QUICK,
    INTERFACE_ERRORS_MAX,
    RING_LAG,
    SNAPLEN_MAX,
)
from pcapd.packet import linktypes

__all__ = ["CaptureSource", "Filter", "KernelCounters", "open_source"]

# Return codes of pcap_activate(3PCAP) with messages of our own.
_NO_SUCH_DEVICE, _PERM_DENIED, _IFACE_NOT_UP, _PROMISC_PERM_DENIED = -5, -8, -9, -11
#: Names that an interface can have, but for which libpcap opens something else: pcap-linux.c,
#: pcap-usb-linux.c, pcap-bt-linux.c, pcap-netfilter-linux.c, pcap-dbus.c.  This can have side
#: effects: an nfqueue holds packets back until its reader decides about them.
_NO_INTERFACE = re.compile(r"any|(?:usbmon|bluetooth)[-+]?[0-9]+|nflog|nfqueue|dbus-(?:system|session)")
_RENAME_HINT = "give the interface another name: ip link set dev NAME name OTHER"
_NO_CAPABILITY_HINT = "the agent needs CAP_NET_RAW, and CAP_SYS_ADMIN for other namespaces"


class KernelCounters(NamedTuple):
    """Numbers of packets since the capture was opened.

    Attributes:
        received: Packets that the filter accepted, including dropped ones.
        dropped_kernel: How many of these were dropped because the ring was full.
        dropped_interface: Packets that the interface lost before the filter.
    """

    received: int
    dropped_kernel: int
    dropped_interface: int


class Filter(NamedTuple):
    """The filters of a source.

    Attributes:
        text: The user's filter.
        own: Connections of pcapd, which are never captured.
        never: Filters; packets that match one of them are not captured.
    """

    text: str
    own: Sequence[OwnTraffic] = ()
    never: Sequence[str] = ()

    def check(self) -> None:
        """Refuse text that must not be passed to libpcap.

        Raises:
            BadFilter: A text is refused.
        """
        for text in (*self.never, self.text):
            check_text(text)

    def mirrored(self) -> Filter:
        """The same filters for the other end of a link."""
        return Filter(mirrored(self.text), self.own, [mirrored(text) for text in self.never])

    def __str__(self) -> str:
        return effective_filter(exclusion.text(self.own), self.never, self.text)


class CaptureSource:
    """An open capture on one interface.  It captures nothing before `start`.

    `open_source` makes it.  Only one thread may use it at a time.

    Attributes:
        interface: The captured interface.
        link_type: LINKTYPE number of its packets.
        filter: The effective filter, in the language of pcap-filter(7).
    """

    def __init__(  # noqa: PLR0917
        self,
        reader: pcapy.Reader,
        watch: InterfaceWatch,
        tally: Tally,
        wanted: Filter,
        program: bytes,
        snaplen: int,
    ) -> None:
        self._reader = reader
        self._watch = watch
        self._tally = tally
        self._own = wanted.own
        self._program = program
        self._excluded: tuple[Connection, ...] = ()
        self._started = False
        self._errors = 0
        self.interface: Interface = watch.interface
        self.link_type = linktypes.from_dlt(reader.datalink())
        self.filter = str(wanted)
        self.snaplen = snaplen
        self._fd: int = reader.getfd()
        self._raw = (0, 0)
        self._received = 0
        self._dropped = 0
        self._interface_drops_before = self.interface.dropped
        self._interface_drops = 0
        self._sum_up()
        self._received = self._dropped = 0  # packets from before the filter do not count

    def show_as(self, name: str, addresses: tuple[str, ...]) -> None:
        """Set the name and addresses that users see, those of the other end of the interface's link."""
        self.interface = replace(self.interface, name=name, addresses=addresses)

    def fileno(self) -> int:
        """The descriptor that is readable while the ring holds packets."""
        return self._fd

    def read(self, max_packets: int) -> tuple[bytes, bytes]:
        """Remove packets from the ring and return them, without waiting.

        Returns:
            Packet bytes and their index, the arguments of `pcapd.records.pack`; both are
            empty if the ring is empty.

        Raises:
            CaptureFailed: The interface no longer exists, or reading fails repeatedly.
        """
        try:
            batch: tuple[bytes, bytes] = self._reader.next_batch(max_packets)
        except pcapy.PcapError as error:
            # The kernel reports once that the interface went down.  libpcap then looks it up by
            # its name and fails if it was renamed, although the capture can continue.
            self._errors += 1
            if self.interface_present and self._errors <= INTERFACE_ERRORS_MAX:
                return b"", b""
            raise CaptureFailed(f"{self.interface.name}: {error}") from error
        if batch[1]:
            self._errors = 0
        return batch

    def counters(self) -> KernelCounters:
        """The kernel's counters so far."""
        self._sum_up()
        drops = self._watch.dropped()
        if drops is not None:
            self._interface_drops = max(0, drops - self._interface_drops_before)
        return KernelCounters(self._received, self._dropped, self._interface_drops)

    @property
    def interface_present(self) -> bool:
        """Whether the interface still exists."""
        return self._watch.dropped() is not None

    @property
    def taken_down(self) -> bool:
        """Whether the interface was down at the last call of `counters`.

        libpcap 1.9 reports this as an error; 1.10 does not report it.
        """
        return not self._watch.up

    def start(self) -> None:
        """Start to capture packets.  Does not block.

        Raises:
            CaptureFailed: The kernel refuses the filter.
        """
        drops = self._watch.dropped()
        if drops is not None:
            self._interface_drops_before = drops
        self._attach()
        self._started = True

    def exclude(self, connections: Sequence[Connection]) -> None:
        """Exclude these connections from now on, and count their packets.

        Args:
            connections: All excluded connections, including earlier ones.

        Raises:
            CaptureFailed: The kernel refuses the filter.
        """
        self._excluded = tuple(connections)
        if self._started:
            self._attach()

    @property
    def excluded(self) -> int:
        """Number of packets of excluded connections that the filters would have accepted."""
        return self._tally.count()

    def _attach(self) -> None:
        left_out = exclusion.except_for(self._own, self._excluded, self.link_type, self._program)
        try:
            kernelfilter.attach(self._fd, left_out)
            if self._excluded:
                self._tally.count_only(exclusion.only(self._excluded, self.link_type, self._program))
        except OSError as error:
            raise CaptureFailed(f"{self.interface.name}: the kernel refuses the filter: {error}") from error

    def stop(self) -> None:
        """Stop capturing; packets in the ring can still be read."""
        self._started = False
        kernelfilter.attach(self._fd, kernelfilter.DROP_ALL)
        self._tally.stop()

    def close(self) -> None:
        """Close the capture.  Unread packets are lost, so call `stop` and read them first."""
        self._tally.close()
        self._watch.close()
        self._reader.close()

    def _sum_up(self) -> None:
        # libpcap's counters have 32 bits and wrap.
        try:
            received, dropped, _ = self._reader.stats()
        except pcapy.PcapError:
            return  # the interface no longer exists: keep the last counters
        self._received += (received - self._raw[0]) % 2**32
        self._dropped += (dropped - self._raw[1]) % 2**32
        self._raw = (received, dropped)


def open_source(
    name: str,
    wanted: Filter,
    *,
    snaplen: int,
    ring_bytes: int,
    promiscuous: bool,
    compiler: FilterCompiler,
    asker: Asker,
    mirror: bool = False,
) -> CaptureSource:
    """Open a capture in the calling thread's network namespace.  Blocks for about 50 ms.

    Args:
        name: An existing interface: never ``any``, a path or a URL.
        wanted: The filters.
        snaplen: Bytes of each packet to keep.
        ring_bytes: Size of the kernel's ring.
        promiscuous: Whether to capture packets for other machines too.
        compiler: Compiles the filters.
        asker: The requester of the filters.
        mirror: Whether directions in the filter (inbound, outbound) refer to the other end of the
            interface's link; the source's `filter` stays as the user wrote it.

    Raises:
        BadFilter, CapturePermission, CaptureFailed
        NoSuchInterface: The interface does not exist, or was removed during the call.
    """
    wanted.check()
    compiled = _compiled_mirrored if mirror else _compiled
    with contextlib.ExitStack() as undo:
        watch = InterfaceWatch(name)
        undo.callback(watch.close)
        undo.enter_context(_there(watch))
        reader = _activated(name, ring_bytes, promiscuous)
        undo.callback(reader.close)
        _check_opened(reader, watch)
        tally = Tally(watch.interface)
        undo.callback(tally.close)
        program = compiled(reader, name, wanted, compiler, asker)
        _close_and_empty(reader, loopback=watch.interface.loopback)
        source = CaptureSource(reader, watch, tally, wanted, program, snaplen)
        undo.pop_all()
    return source


@contextlib.contextmanager
def _there(watch: InterfaceWatch) -> Iterator[None]:
    """Raise `NoSuchInterface` instead of any other error, if the interface no longer exists."""
    name = watch.interface.name
    try:
        yield
    except (pcapy.PcapError, OSError, RequestError) as error:
        if watch.dropped() is None:
            raise NoSuchInterface(f"interface {name!r} went away while it was opened", "try again") from error
        if isinstance(error, RequestError):
            raise
        raise CaptureFailed(f"interface {name!r} cannot be opened: {error}") from error


def _check_opened(reader: pcapy.Reader, watch: InterfaceWatch) -> None:
    """Refuse a handle that is not bound to the interface that was looked up."""
    if kernelfilter.bound_to(reader.getfd()) != watch.interface.index:
        raise CaptureFailed(
            f"libpcap opens something other than the interface {watch.interface.name!r}", _RENAME_HINT
        )


def _activated(name: str, ring_bytes: int, promiscuous: bool) -> pcapy.Reader:
    if _NO_INTERFACE.fullmatch(name):
        raise CaptureFailed(f"libpcap does not accept {name!r} as the name of an interface", _RENAME_HINT)
    reader = pcapy.create(name)
    reader.set_snaplen(SNAPLEN_MAX)
    reader.set_promisc(int(promiscuous))
    reader.set_timeout(BLOCK_TIMEOUT_MS)
    reader.set_buffer_size(ring_bytes)
    code = reader.activate()
    if code >= 0:  # positive codes are warnings, such as no promiscuous mode
        reader.setnonblock(1)
        return reader
    reader.close()
    if code in (_PERM_DENIED, _PROMISC_PERM_DENIED):
        raise CapturePermission(f"not allowed to capture on {name}", _NO_CAPABILITY_HINT)
    if code == _NO_SUCH_DEVICE:
        raise NoSuchInterface(f"there is no interface {name!r} that can be captured")
    if code == _IFACE_NOT_UP:
        raise CaptureFailed(f"interface {name} is down")
    raise CaptureFailed(f"libpcap cannot open {name} (error {code})")


def _compiled(
    reader: pcapy.Reader, name: str, wanted: Filter, compiler: FilterCompiler, asker: Asker
) -> bytes:
    """Compile the policy's and the user's filters to one program.

    Each text is compiled alone, so that no text can change the meaning of another one by
    parentheses, or by ``vlan`` or ``mpls``, which shift the offsets of all later tests.
    """
    programs = [compiler.compile(reader, name, text, asker) for text in (*wanted.never, wanted.text)]
    together = effective_filter("", wanted.never, wanted.text)
    if wanted.never and len(together) <= FILTER_QUICK:
        compiler.compile(reader, name, together, asker)  # BadFilter if no packet can match
    return exclusion.chain(programs[:-1], programs[-1])


def _compiled_mirrored(
    reader: pcapy.Reader, name: str, wanted: Filter, compiler: FilterCompiler, asker: Asker
) -> bytes:
    """Like `_compiled`, for the other end of the link; errors quote the filter as the user wrote it."""
    try:
        return _compiled(reader, name, wanted.mirrored(), compiler, asker)
    except BadFilter:
        _compiled(reader, name, wanted, compiler, asker)
        raise


def _close_and_empty(reader: pcapy.Reader, *, loopback: bool) -> None:
    """Accept no packets until `start`, and discard packets that are already in the ring."""
    reader.setfilter("")  # so that libpcap itself filters nothing
    kernelfilter.attach(reader.getfd(), kernelfilter.DROP_ALL)
    if loopback:
        kernelfilter.ignore_outgoing(reader.getfd())
    _empty(reader)


def _empty(reader: pcapy.Reader) -> None:
    """Discard packets that were put into the ring before the filter was attached."""
    deadline = time.monotonic() + RING_LAG
    while reader.next_batch(BATCH_PACKETS)[1] or time.monotonic() < deadline:
        time.sleep(RING_LAG / 10)
