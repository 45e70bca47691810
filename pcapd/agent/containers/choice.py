"""Chooses the requested container among those of a cell.  Pure; refuses ambiguous requests.

Cloud Controller provides the handle (API 3.192 and later), or the container's
address (3.149 and later), or neither.  The handle is used if known, otherwise the address,
otherwise the instance's index.  No other known fact may contradict the result: two instances
of one app can run on one cell, and the address may have been given to another container.

If silk cannot delete the entry of a removed container, the entry remains in the store.  If two
entries have the same address, the store does not show which one is stale, nor to which
container the packets on the address's interface belong.  So neither container is captured.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pcapd.agent.containers.store import StoredContainer, is_handle, usual
from pcapd.errors import BadRequest, CaptureFailed, TargetNotFound
from pcapd.wire import Container

__all__ = ["choose"]

#: Number of characters of an instance's GUID that form its container's handle:
#: rep, auctioncellrep/helpers.go.
_HANDLE_LENGTH = 28
_GUID_LENGTH = 36
_GONE = "it may have stopped or moved: try again"


def choose(wanted: Container, stored: Iterable[StoredContainer]) -> StoredContainer:
    """Choose the requested container.

    Raises:
        BadRequest: The handle is not valid.
        TargetNotFound: The container is not on this cell.
        CaptureFailed: More than one container matches, the known facts contradict each other,
            or another entry has the same address.
    """
    stored = tuple(stored)
    named = [container for container in stored if container.handle]
    if wanted.address is not None:
        _check_alone(usual(wanted.address), stored)
    if wanted.handle is not None:
        found = _by_handle(wanted.handle, named)
    elif wanted.address is not None:
        found = _by_address(wanted.address, named)
    else:
        found = _by_index(wanted, named)
    _check_alone(found.address, stored)
    contradictions = list(_contradictions(wanted, found))
    if contradictions:
        raise CaptureFailed(
            f"container {found.handle} is not the requested instance: {', '.join(contradictions)}",
            _GONE,
        )
    return found


def _by_handle(handle: str, stored: Sequence[StoredContainer]) -> StoredContainer:
    if not is_handle(handle):
        raise BadRequest("the container's handle has invalid characters")
    names = {handle, handle[:_HANDLE_LENGTH]} if len(handle) == _GUID_LENGTH else {handle}
    return _only(
        [container for container in stored if container.handle in names],
        f"there is no container {handle} on this cell",
    )


def _by_address(address: str, stored: Sequence[StoredContainer]) -> StoredContainer:
    address = usual(address)
    found = _only(
        [container for container in stored if container.address == address],
        f"there is no container with the address {address} on this cell",
    )
    if found.app is None:  # addresses are reused, so an address alone does not identify a container
        raise CaptureFailed(
            f"the cell's store does not show which app the container with the address {address} belongs to"
        )
    return found


def _by_index(wanted: Container, stored: Sequence[StoredContainer]) -> StoredContainer:
    instances = [
        container
        for container in stored
        if container.runs_app and container.app == wanted.app and _same_process(wanted, container)
    ]
    matches = [container for container in instances if container.index == wanted.index]
    if not matches and any(container.index is None for container in instances):
        raise CaptureFailed(
            f"the cell's store does not show which of its containers is instance {wanted.index}",
            "a newer silk records it in log_config; a newer Cloud Controller sends instance_guid",
        )
    return _only(matches, f"instance {wanted.index} of the app is not on this cell")


def _same_process(wanted: Container, container: StoredContainer) -> bool:
    return None in (wanted.process, container.process) or wanted.process == container.process


def _check_alone(address: str, stored: Iterable[StoredContainer]) -> None:
    # The message does not name the other container, which may belong to another user.
    if sum(container.address == address for container in stored) > 1:
        raise CaptureFailed(
            f"the cell's store has the address {address} for more than one container",
            "one of them is gone, and its entry was left behind: restart the instance, "
            "or ask the operator to remove that entry from the cell's store",
        )


def _only(matches: Sequence[StoredContainer], not_found: str) -> StoredContainer:
    if not matches:
        raise TargetNotFound(not_found, _GONE)
    if len(matches) > 1:
        handles = ", ".join(sorted(container.handle for container in matches))
        raise CaptureFailed(
            f"more than one container matches the request: {handles}",
            "wait until the app's deployment or move has finished",
        )
    return matches[0]


def _contradictions(wanted: Container, found: StoredContainer) -> Iterator[str]:
    if not found.runs_app:
        yield f"it runs {'a task' if found.workload is None else found.workload}, not an app"
    if found.app not in (None, wanted.app):
        yield "it belongs to another app"
    if wanted.address is not None and found.address != usual(wanted.address):
        yield f"its address is {found.address}, not {wanted.address}"
    if found.index not in (None, wanted.index):
        yield f"it is instance {found.index}, not {wanted.index}"
    if not _same_process(wanted, found):
        yield "it belongs to another process of the app"
