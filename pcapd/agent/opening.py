"""Opens capture sources without blocking the reactor.

Opening blocks (looking up a container, `setns`, activation, attaching the filter), and
a thread that entered a network namespace stays there.  So each START gets a thread of
its own, which ends when its sources are open.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

from pcapd.agent.containers.cellside import CONTAINER_INTERFACE, cell_interface, check_interfaces
from pcapd.agent.containers.lookup import StoreWatch, find_container
from pcapd.agent.containers.namespace import Gone, mount_gone, open_container
from pcapd.agent.containers.store import StoredContainer
from pcapd.agent.owntraffic import Ends, own_traffic
from pcapd.capture.compiling import FilterCompiler
from pcapd.capture.interfaces import Links, addresses_here, way_to
from pcapd.capture.namespaces import enter, is_ours, open_namespace
from pcapd.capture.source import CaptureSource, Filter, open_source
from pcapd.config.schema import AgentConfig, ContainersConfig
from pcapd.errors import CaptureFailed, NamespaceGone, NoSuchInterface, RequestError, TargetNotFound
from pcapd.limits import ADDRESSES_MAX, INTERFACES_MAX
from pcapd.net.addresses import machine_addresses
from pcapd.packet import linktypes
from pcapd.records import HEADER_LINK_TYPES
from pcapd.wire import CaptureStart, Container, Source

__all__ = ["ANY", "Opened", "Opening", "close_sources", "describe", "open_capture"]

#: In place of an interface's name: all interfaces that are up.
ANY = "any"

T = TypeVar("T")


class Opened(NamedTuple):
    """Open sources.

    Attributes:
        gone: Returns why their namespace or container is gone; None while it exists.
        container: The handle of the container to which they belong.
        links: Lists interfaces; None if none will be opened later.
    """

    sources: list[CaptureSource]
    gone: Gone
    container: str | None = None
    links: Links | None = None


@dataclass
class Opening:
    """A capture that is being opened.  A `pcapd.capture.compiling.Asker`.

    Attributes:
        start: The request.
        ends: The connection on which it came.
        config: Locates containers, and sets how to capture.
        compiler: Compiles the filters of all captures of the agent.
        namespace: Path of the network namespace that the request names.
        names: Interfaces to open instead of those of the request.
        gone: Whether the api has left meanwhile; set by another thread.
    """

    start: CaptureStart
    ends: Ends
    config: AgentConfig
    compiler: FilterCompiler
    namespace: str | None = None
    names: tuple[str, ...] = ()
    gone: bool = False

    @property
    def user(self) -> str:
        """The user; an older api does not send one, so each of its captures counts as a user."""
        return self.start.user or self.start.capture


def open_capture(opening: Opening) -> Opened:
    """Open the interfaces of this machine, namespace or container that a START names.  Blocks.

    Raises:
        RequestError: One of them cannot be opened.
    """
    start, config = opening.start, opening.config
    if opening.gone:
        raise CaptureFailed("the capture was given up before it was opened")
    if start.container is None:
        path = opening.namespace
        gone = _never_gone if path is None else _enter_path(path)
        return _open_here(opening, gone, config.capture.default_device)
    if config.containers is None:
        raise TargetNotFound(
            f"agent {config.id} is not configured to capture containers",
            "its configuration needs a containers section",
        )
    if config.containers.access == "host-veth":
        return _from_cell(opening, config.containers, start.container)
    return _from_inside(opening, config.containers, start.container)


# --- this machine, and its named namespaces ------------------------------------


def _never_gone() -> None:
    return None


def _enter_path(path: str) -> Gone:
    fd = open_namespace(path)
    try:
        status = os.fstat(fd)
        enter(fd)
    finally:
        os.close(fd)
    return partial(mount_gone, path, (status.st_dev, status.st_ino))


# --- containers --------------------------------------------------------------------


def _from_inside(opening: Opening, config: ContainersConfig, wanted: Container) -> Opened:
    found = find_container(config, wanted)
    fd, gone = open_container(config, found.handle)
    try:
        enter(fd)
    finally:
        os.close(fd)
    if found.address not in addresses_here():
        raise CaptureFailed(
            f"container {found.handle} does not have the address {found.address}",
            "it may be starting: try again",
        )
    # Not default_device, which is the machine's: in a container CNI gives the name.
    return _open_here(opening, gone, CONTAINER_INTERFACE, found.handle)


def _from_cell(opening: Opening, config: ContainersConfig, wanted: Container) -> Opened:
    check_interfaces([name for name in opening.start.interfaces if name != ANY])
    found = find_container(config, wanted)
    try:
        (source,) = _open_all((_wire_of(found),), opening, mirror=True)
    except NoSuchInterface:  # not its message, which lists the interfaces of other containers
        raise NamespaceGone(f"container {found.handle} is gone", "try again") from None
    try:
        # The wire is found by the address, and that can have become another container's meanwhile.
        if _wire_index(found) != source.interface.index or find_container(config, wanted) != found:
            raise NamespaceGone(f"container {found.handle} is being replaced", "try again")
    except BaseException:
        source.close()
        raise
    source.show_as(CONTAINER_INTERFACE, (f"{found.address}/32",))
    # When the container goes, its wire does, and the source says so itself.
    return Opened([source], StoreWatch(config, wanted, found), found.handle)


def _wire_of(container: StoredContainer) -> str:
    name = cell_interface(container.address)
    if _wire_index(container) is None:
        raise NamespaceGone(
            f"container {container.handle} has no interface {name} on this cell",
            "it may be starting or gone: try again; without silk the agent needs access: namespace",
        )
    return name


def _wire_index(container: StoredContainer) -> int | None:
    """Index of the cell's end of a container's wire, if packets to the container go there."""
    try:
        index = socket.if_nametoindex(cell_interface(container.address))
        return index if way_to(container.address) == index else None
    except OSError:
        return None


# --- sources -------------------------------------------------------------------------


def _open_here(opening: Opening, gone: Gone, default: str, container: str | None = None) -> Opened:
    """Open the interfaces that are asked for in the calling thread's network namespace.

    Args:
        default: Where none is asked for.
        container: As in `Opened`.
    """
    asked = opening.start.interfaces or (default,)
    every = ANY in asked
    # A container that gets another interface is another container, unless all are wanted.
    links = Links() if every or container is None else None
    try:
        names = opening.names or asked
        if links is not None and ANY in names:
            names = tuple(dict.fromkeys((*(name for name in names if name != ANY), *links.up().values())))
        if not names:
            raise NoSuchInterface("no interface is up")
        return Opened(_open_all(names[:INTERFACES_MAX], opening, lenient=every), gone, container, links)
    except BaseException:
        if links is not None:
            links.close()
        raise


def _open_all(
    names: Sequence[str], opening: Opening, *, mirror: bool = False, lenient: bool = False
) -> list[CaptureSource]:
    """Open sources.

    Args:
        mirror: See `open_source`.
        lenient: Do without those that cannot be opened, unless none can.
    """
    start = opening.start
    own = own_traffic(opening.ends, start.api, machine_addresses(), at_home=_at_home())
    wanted = Filter(start.filter, own, start.exclude_filters)
    sources: list[CaptureSource] = []
    refusal: RequestError | None = None
    try:
        for name in names:
            try:
                sources.append(_open_one(name, wanted, opening, mirror=mirror))
            except (CaptureFailed, NoSuchInterface) as error:
                if not lenient:
                    raise
                refusal = refusal or error
        if refusal is not None and not sources:
            raise refusal
    except BaseException:
        for source in sources:
            source.close()
        raise
    return sources


def _open_one(name: str, wanted: Filter, opening: Opening, *, mirror: bool) -> CaptureSource:
    config = opening.config.capture
    source = open_source(
        name,
        wanted,
        snaplen=opening.start.snaplen,
        ring_bytes=config.ring_bytes,
        promiscuous=config.promiscuous,
        compiler=opening.compiler,
        asker=opening,
        mirror=mirror,
    )
    try:
        _check_headers(opening.start, source)
    except BaseException:
        source.close()
        raise
    return source


def _at_home() -> bool:
    """Whether the calling thread is in the network namespace that the process is in."""
    fd = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return is_ours(fd)
    finally:
        os.close(fd)


def _check_headers(start: CaptureStart, source: CaptureSource) -> None:
    if start.headers_only and source.link_type not in HEADER_LINK_TYPES:
        raise CaptureFailed(
            f"packets of {source.interface.name} cannot be cut after their headers: "
            f"the headers of link type {linktypes.name(source.link_type)} are not supported",
            "capture another interface",
        )


def describe(source: CaptureSource, start: CaptureStart, agent: str) -> Source:
    """The SOURCE message for an open source.

    Args:
        source: The source.
        start: The request.
        agent: The agent's id.
    """
    return Source(
        instance=start.instance,
        interface=source.interface.name,
        link_type=source.link_type,
        snaplen=source.snaplen,
        filter=source.filter,
        addresses=source.interface.addresses[:ADDRESSES_MAX],
        agent=agent,
        headers_only=start.headers_only,
        exclude_filters=len(start.exclude_filters),
        excludes_api=start.api is not None,
    )


def close_sources(sources: Iterable[CaptureSource]) -> None:
    """Close sources.  Blocks: the kernel takes some 20 ms to remove a ring."""
    for source in sources:
        source.close()
