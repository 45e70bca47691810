"""Opens capture sources without blocking the reactor.

Some steps block: the lookup of a container, `setns`, the activation of the source and the
attachment of the filter.  A thread that has entered a network namespace does not leave it.
So each START message (a request for a capture) is handled on its own thread, which ends when
the sources are open.
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

#: Used instead of an interface's name, this means all interfaces that are up.
ANY = "any"

T = TypeVar("T")


class Opened(NamedTuple):
    """Open sources.

    Attributes:
        gone: Function that returns why the namespace or container of the sources no longer
            exists; it returns None while that exists.
        container: The handle of the container to which the sources belong, or None.
        links: Lists the interfaces that may be opened later; None if none will be.
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
        ends: Addresses of the connection on which the request was received.
        config: The agent's configuration.
        compiler: Compiles the filters of all captures of the agent.
        namespace: Path of the network namespace that the request names; None for the machine's.
        names: Interfaces to open instead of those of the request; empty for the request's own.
        gone: Set to true by the reactor's thread if the capture ends before the sources are open.
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
        """The user.  Older apis do not send one; then the capture's id is used instead."""
        return self.start.user or self.start.capture


def open_capture(opening: Opening) -> Opened:
    """Open the interfaces that a START names, on this machine, in a namespace or in a container.  Blocks.

    Raises:
        RequestError: An interface cannot be opened.
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
    # The configured default_device is an interface of the machine.  In a container, CNI sets the name.
    return _open_here(opening, gone, CONTAINER_INTERFACE, found.handle)


def _from_cell(opening: Opening, config: ContainersConfig, wanted: Container) -> Opened:
    check_interfaces([name for name in opening.start.interfaces if name != ANY])
    found = find_container(config, wanted)
    try:
        (source,) = _open_all((_wire_of(found),), opening, mirror=True)
    except NoSuchInterface:  # its message would list the interfaces of other containers
        raise NamespaceGone(f"container {found.handle} is gone", "try again") from None
    try:
        # The interface was found by the container's address.  Before it was open, another container
        # may have received this address.
        if _wire_index(found) != source.interface.index or find_container(config, wanted) != found:
            raise NamespaceGone(f"container {found.handle} is being replaced", "try again")
    except BaseException:
        source.close()
        raise
    source.show_as(CONTAINER_INTERFACE, (f"{found.address}/32",))
    # If the container is removed, its interface is removed too, and reading the source fails.
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
    """Index of the cell's end of a container's veth pair, if the route to the container uses it."""
    try:
        index = socket.if_nametoindex(cell_interface(container.address))
        return index if way_to(container.address) == index else None
    except OSError:
        return None


# --- sources -------------------------------------------------------------------------


def _open_here(opening: Opening, gone: Gone, default: str, container: str | None = None) -> Opened:
    """Open the requested interfaces in the calling thread's network namespace.

    Args:
        opening: The capture.
        gone: See `Opened`.
        default: The interface to open if the request names none.
        container: See `Opened`.
    """
    asked = opening.start.interfaces or (default,)
    every = ANY in asked
    # A container does not get new interfaces, unless it is replaced.  So they are followed only for ANY.
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
        lenient: Whether to skip interfaces that cannot be opened, if at least one can be.
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
    """Whether the calling thread is in the network namespace of the process."""
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
    """Close sources.  Blocks: the kernel takes about 20 ms to remove a ring."""
    for source in sources:
        source.close()
