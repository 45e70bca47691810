"""From the cell's side a container is found by its wire; that can change hands while a capture is opened."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Iterable, Iterator, Optional

import pytest

from pcapd.agent import opening
from pcapd.agent.containers.store import StoredContainer
from pcapd.agent.opening import Opened, Opening, open_capture
from pcapd.agent.owntraffic import Ends
from pcapd.capture.compiling import FilterCompiler
from pcapd.capture.interfaces import Interface
from pcapd.config.schema import AgentConfig, AgentListenConfig, ContainersConfig, ServerTLS
from pcapd.errors import CaptureFailed, NamespaceGone, NoSuchInterface, TargetNotFound
from pcapd.wire import Container
from tests.kit.unit.agent import START, Source

FOUND = StoredContainer("a-handle", "10.255.93.7", "an-app", "app", 0)
WIRE = 7
FROM_CELL = ContainersConfig(access="host-veth")


class Cell:
    """What opening finds on a cell, from one look to the next; the last answer is for ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store: Iterator[StoredContainer] = repeat(FOUND)
        self.wires: Iterator[int] = repeat(WIRE)
        self.ways: Iterator[Optional[int]] = repeat(WIRE)
        self.sources: list[Source] = []
        self.shown: list[tuple[str, tuple[str, ...]]] = []
        self.link_type = 1
        monkeypatch.setattr(opening, "find_container", lambda *_: next(self.store))
        monkeypatch.setattr(socket, "if_nametoindex", lambda _: next(self.wires))
        monkeypatch.setattr(opening, "way_to", lambda _: next(self.ways))
        monkeypatch.setattr(opening, "open_source", self._open)

    def _open(self, name: str, *_: Any, **__: Any) -> Source:
        source: Any = Source(name, "", 96)
        source.link_type = self.link_type
        source.interface = Interface(WIRE, name, True, False, 0, ())
        source.show_as = lambda *shown: self.shown.append(shown)
        self.sources.append(source)
        return source  # type: ignore[no-any-return]

    def open(self, containers: Optional[ContainersConfig] = FROM_CELL, **start: Any) -> Opened:
        tls = ServerTLS(Path("c"), Path("k"), Path("ca"), ())
        config = AgentConfig(id="agent/0", listen=AgentListenConfig(tls=tls), containers=containers)
        container = Container("an-app", 0, handle=FOUND.handle)
        request = replace(START, **{"interfaces": (), "container": container, **start})
        return open_capture(Opening(request, Ends("192.0.2.1", 9494, "192.0.2.2"), config, FilterCompiler()))


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Cell:
    return Cell(monkeypatch)


def then(*answers: Any) -> Iterable[Any]:
    return chain(answers, repeat(answers[-1]))


def test_a_wire_is_shown_as_the_containers_interface(cell: Cell) -> None:
    """A wire is shown as the container's eth0 with the container's address."""
    opened = cell.open()
    assert opened.container == FOUND.handle and cell.shown == [("eth0", (f"{FOUND.address}/32",))]
    assert "close" not in cell.sources[0].calls


@pytest.mark.parametrize(
    "changes",
    [
        {"store": then(FOUND, replace(FOUND, handle="another"))},
        {"store": then(FOUND, replace(FOUND, address="10.255.93.8"))},
        {"wires": then(WIRE, 8), "ways": then(WIRE, 8)},
        {"ways": then(WIRE, 2)},
    ],
    ids=["other container", "other address", "other wire", "other way"],
)
def test_a_wire_that_changed_hands_is_not_captured(cell: Cell, changes: dict[str, Any]) -> None:
    """A wire that changed hands between the look and the open socket is closed, and nothing is shown."""
    vars(cell).update(changes)
    with pytest.raises(NamespaceGone, match="is being replaced"):
        cell.open()
    assert cell.sources[0].calls == ["close"] and cell.shown == []


@pytest.mark.parametrize("way", [None, 2])
def test_an_address_that_is_not_behind_the_wire(cell: Cell, way: Optional[int]) -> None:
    """The machine would send packets for it elsewhere: what is on that wire is not the container's."""
    cell.ways = repeat(way)
    with pytest.raises(NamespaceGone, match="has no interface"):
        cell.open()
    assert cell.sources == []


def test_an_agent_without_containers(cell: Cell) -> None:
    """An agent without containers refuses requests for apps, and names the missing section."""
    with pytest.raises(TargetNotFound, match="not configured to capture containers") as refused:
        cell.open(None)
    assert "containers section" in refused.value.hint and cell.sources == []


def test_the_cells_side_shows_no_other_interface(cell: Cell) -> None:
    """A request for lo beside eth0 from the cell's side is refused as a whole."""
    with pytest.raises(NoSuchInterface, match="lo of a container"):
        cell.open(interfaces=("eth0", "lo"))
    assert cell.sources == []


def test_headers_of_unknown_packets(cell: Cell) -> None:
    """A source of an unknown link type is refused to users who may see only headers."""
    cell.link_type = 999
    cell.open()
    with pytest.raises(CaptureFailed, match="cannot be cut after their headers"):
        cell.open(headers_only=True)
    assert [source.calls for source in cell.sources] == [[], ["close"]]


@pytest.mark.parametrize("here", [{FOUND.address, "127.0.0.1"}, {"10.255.93.8", "127.0.0.1"}])
def test_a_namespace_that_is_not_the_containers(
    cell: Cell, monkeypatch: pytest.MonkeyPatch, here: set[str]
) -> None:
    """A namespace that lacks the container's address is not captured."""
    entered: list[int] = []
    monkeypatch.setattr(
        opening, "open_container", lambda *_: (os.open("/dev/null", os.O_RDONLY), lambda: None)
    )
    monkeypatch.setattr(opening, "enter", entered.append)
    monkeypatch.setattr(opening, "addresses_here", lambda: frozenset(here))
    if FOUND.address in here:
        assert cell.open(ContainersConfig()).container == FOUND.handle
    else:
        with pytest.raises(CaptureFailed, match=f"does not have the address {FOUND.address}"):
            cell.open(ContainersConfig())
        assert cell.sources == []
    (descriptor,) = entered
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
