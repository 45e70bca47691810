"""The requests of a conversation, from the views of all places: failures, times, and where time was spent."""

from __future__ import annotations

import heapq
from array import array
from collections import deque
from typing import TYPE_CHECKING, Callable, Deque, Dict, Final, List, NamedTuple, Optional, Sequence, Tuple

from pcapd.analysis.exchanges.request import Request
from pcapd.limits import WORST_CONVERSATIONS

if TYPE_CHECKING:
    from pcapd.analysis.world import Place, World

__all__ = ["SLOW_US", "AllRequests", "LoopbackRequests", "RequestTotals", "Sample", "ShownRequest"]

#: microseconds until the first byte of a response; beyond this, users notice the delay (Nielsen 1993).
SLOW_US: Final = 1_000_000
#: Number of requests of a conversation for the report.
_SHOWN: Final = 3
#: Number of times kept for a group; beyond it, a sample.
_SAMPLE: Final = 2000
#: Number of groups (instance, method and path); further paths become one group.
_GROUPS_MAX: Final = 1000
#: Number of requests behind a proxy that are remembered until the request in front of it is answered.
_INNER_MAX: Final = 4096
#: The device of requests behind the proxy of a container.
_LOOPBACK: Final = "lo"

#: Instance, method and path.
Group = Tuple[Optional[str], str, str]


class ShownRequest(NamedTuple):
    """A request for the report.

    Attributes:
        status, method, path, router_error, error, shown, said: See
            `pcapd.analysis.exchanges.request.Request`.
        place: The place nearest to the server.
        frame: The request's packet there.
        first_us: When it was sent.
        duration_us: From its first byte to the last byte of the response, nearest to the client.
        wait_us: From its last byte to the first byte of the response, nearest to the client.
        places: All places that saw it.
        network_us: The part of the wait between the places; None if there is only one.
        envoy_us, app_us: The parts of the proxy and the application, if the capture
            contains both sides of the proxy.
    """

    status: Optional[int]
    method: str
    path: str
    router_error: str
    error: str
    place: int
    frame: int
    first_us: int
    duration_us: int
    wait_us: int
    places: Tuple[int, ...]
    network_us: Optional[int]
    envoy_us: Optional[int]
    app_us: Optional[int]
    shown: str
    said: str

    @property
    def outcome(self) -> str:
        """What failed; else the status, or an empty text without one."""
        return self.error or str(self.status or "")


class Sample:
    """A bounded sample of times: first all, then every second one, and so on."""

    __slots__ = ("_kept", "_stride", "count", "errors")

    def __init__(self) -> None:
        self.count = self.errors = 0
        self._kept = array("q")
        self._stride = 1

    def add(self, us: int) -> None:
        """Add a time."""
        if self.count % self._stride == 0:
            if len(self._kept) == _SAMPLE:
                self._kept = self._kept[::2]
                self._stride *= 2
            if self.count % self._stride == 0:
                self._kept.append(us)
        self.count += 1

    def percentiles(self, parts: Sequence[float]) -> List[int]:
        """The percentiles of the sample; zeros if it is empty."""
        ordered = sorted(self._kept)
        return [ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0 for part in parts]


class LoopbackRequests:
    """Requests that instances received from their proxy over the loopback interface."""

    def __init__(self) -> None:
        self._by_id: Dict[Tuple[Optional[str], bytes], int] = {}
        self._recent: Dict[Optional[str], Deque[Tuple[int, int, str, str]]] = {}

    def add(self, instance: Optional[str], request: Request, wait_us: int) -> None:
        """Add a request."""
        for own in request.ids:
            if len(self._by_id) >= _INNER_MAX:
                self._by_id.pop(next(iter(self._by_id)))
            self._by_id[instance, own] = wait_us
        recent = self._recent.setdefault(instance, deque(maxlen=_INNER_MAX))
        assert request.answered is not None
        recent.append((request.sent.first_us, request.answered.first_us, request.method, request.path))

    def wait(self, instance: Optional[str], request: Request) -> Optional[int]:
        """The time of the application for a request of its proxy; None if unknown."""
        for own in request.ids:
            if (instance, own) in self._by_id:
                return self._by_id[instance, own]
        if request.answered is None:
            return None
        for first, last, method, path in reversed(self._recent.get(instance, ())):
            within = request.sent.first_us <= first and last <= request.answered.first_us
            if within and (method, path) == (request.method, request.path):
                return last - first
        return None


class AllRequests:
    """What the requests of all conversations come to.

    Attributes:
        inner: Requests behind the proxy of a container.
        groups: Times by instance, method and path; `inner_groups` has those over the loopback interface.
    """

    def __init__(self) -> None:
        self.inner = LoopbackRequests()
        self.groups: Dict[Group, Sample] = {}
        self.inner_groups: Dict[Group, Sample] = {}
        self._longest: List[int] = []  # a heap

    def count(self, place: Place, request: Request, duration_us: int, *, error: bool) -> None:
        """Count a request with a response."""
        groups = self.inner_groups if place.device == _LOOPBACK else self.groups
        key = place.instance, request.method, request.path
        group = groups.get(key)
        if group is None:
            if len(groups) >= _GROUPS_MAX:
                key = None, "", "/…"
            group = groups.setdefault(key, Sample())
        group.add(duration_us)
        group.errors += error

    def is_long(self, duration_us: int) -> bool:
        """Whether a request is among the longest so far, which the report shows."""
        if len(self._longest) < WORST_CONVERSATIONS:
            heapq.heappush(self._longest, duration_us)
            return True
        if duration_us <= self._longest[0]:
            return False
        heapq.heapreplace(self._longest, duration_us)
        return True


class RequestTotals:
    """The requests of a conversation.

    Attributes:
        count: Number of requests with a response.
        failed: By status of 500 or more, or what failed instead: number, first and last time.
        bad: Some failed requests.
        slow: The slowest of the slow requests; `slow_count` counts all.
        slowest: Requests that were among the longest of all so far, slow or not.
    """

    __slots__ = ("bad", "count", "failed", "slow", "slow_count", "slow_first_us", "slow_last_us", "slowest")

    def __init__(self) -> None:
        self.count = self.slow_count = 0
        self.slow_first_us = self.slow_last_us = 0
        self.failed: Dict[str, Tuple[int, int, int]] = {}
        # Most conversations have none of these.
        self.bad: Sequence[ShownRequest] = ()
        self.slow: Sequence[ShownRequest] = ()
        self.slowest: Sequence[ShownRequest] = ()

    def add(self, at: Dict[int, Request], world: World, everything: AllRequests) -> None:
        """Add a request with a response, from the views of the places."""
        near = far = next(iter(at))
        if len(at) > 1:
            near = min(at, key=lambda place: (at[place].wait_us, place))
            far = max(at, key=lambda place: (at[place].wait_us, -place))
        request, outer = at[near], at[far]
        place = world.places[near]
        loopback = place.device == _LOOPBACK
        if loopback:
            everything.inner.add(place.instance, request, request.wait_us)
        duration, wait = outer.duration_us, outer.wait_us
        error = bool(request.error) or (request.status is not None and request.status >= 500)
        self.count += 1
        everything.count(place, request, duration, error=error)
        slow = wait >= SLOW_US
        longest = everything.is_long(duration)
        if not (error or slow or longest):
            return
        app = None if loopback else everything.inner.wait(place.instance, request)
        bad = ShownRequest(
            request.status, request.method, request.path, request.router_error, request.error, near,
            request.sent.frame,
            outer.sent.first_us, duration, wait, tuple(sorted(at)),
            wait - request.wait_us if len(at) > 1 else None,
            max(0, request.wait_us - app) if app is not None else None, app, request.shown, request.said,
        )  # fmt: skip
        if error:
            self._note_error(bad)
        if slow:
            self.slow_first_us = self.slow_first_us if self.slow_count else bad.first_us
            self.slow_last_us = bad.first_us + bad.duration_us
            self.slow_count += 1
            self.slow = _kept(self.slow, bad, lambda one: one.wait_us)
        if longest:
            self.slowest = _kept(self.slowest, bad, lambda one: one.duration_us)

    def _note_error(self, bad: ShownRequest) -> None:
        count, first, _ = self.failed.get(bad.outcome, (0, bad.first_us, 0))
        self.failed[bad.outcome] = count + 1, first, bad.first_us
        if len(self.bad) < _SHOWN:
            self.bad = (*self.bad, bad)


def _kept(
    best: Sequence[ShownRequest], one: ShownRequest, of: Callable[[ShownRequest], int]
) -> Sequence[ShownRequest]:
    return sorted((*best, one), key=of, reverse=True)[:_SHOWN]
