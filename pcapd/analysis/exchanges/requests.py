"""The requests of a conversation as all places saw them: how many failed, which were slow, and where."""

from __future__ import annotations

from array import array
from collections import deque
from typing import TYPE_CHECKING, Callable, Deque, Dict, Final, List, NamedTuple, Optional, Sequence, Tuple

from pcapd.analysis.exchanges.http import Request

if TYPE_CHECKING:
    from pcapd.analysis.world import World

__all__ = ["SLOW_US", "LoopbackRequests", "RequestTotals", "Sample", "ShownRequest"]

#: microseconds until the first byte of an answer; people notice less, and wait for no more (Nielsen 1993).
SLOW_US: Final = 1_000_000
#: Requests of a conversation that are shown.
_SHOWN: Final = 10
#: Times of a group that are kept; of more, a sample.
_SAMPLE: Final = 2000
#: Methods and paths of a conversation; more become one group.
_GROUPS_MAX: Final = 50
#: Requests behind a proxy that are remembered until the one before it is answered.
_INNER_MAX: Final = 4096
#: Addresses of a loopback interface: behind the proxy of its container.
_LOOPBACK: Final = "lo"


class ShownRequest(NamedTuple):
    """A request that is shown.

    Attributes:
        status, method, path, router_error: See `pcapd.analysis.exchanges.http.Request`.
        place: The place nearest to the server, and the request's packet there.
        frame: Likewise.
        first_us: When it was sent.
        duration_us: From its first byte to the last one of its answer, nearest to the client.
        wait_us: From its last byte to the first one of its answer, there too.
        places: All that saw it.
        network_us: What of that was spent between the places; None where there is one.
        envoy_us, app_us: What of it the proxy and the application took, where the
            capture shows both sides of the proxy.
    """

    status: Optional[int]
    method: str
    path: str
    router_error: str
    place: int
    frame: int
    first_us: int
    duration_us: int
    wait_us: int
    places: Tuple[int, ...]
    network_us: Optional[int]
    envoy_us: Optional[int]
    app_us: Optional[int]


class Sample:
    """Times of very many things: all of the first ones, then every second one, and so on."""

    def __init__(self) -> None:
        self.count = self.errors = 0
        self._kept = array("q")
        self._stride = 1

    def add(self, us: int) -> None:
        """One more."""
        if self.count % self._stride == 0:
            if len(self._kept) == _SAMPLE:
                self._kept = self._kept[::2]
                self._stride *= 2
            if self.count % self._stride == 0:
                self._kept.append(us)
        self.count += 1

    def join(self, other: Sample) -> None:
        """Those of another one."""
        count = self.count + other.count
        for us in other._kept:
            self.add(us)
        self.count = count
        self.errors += other.errors

    def percentiles(self, parts: Sequence[float]) -> List[int]:
        """Of what is kept; zeros without any."""
        ordered = sorted(self._kept)
        return [ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0 for part in parts]


class LoopbackRequests:
    """Requests that instances got over their loopback interface, from the proxy before them."""

    def __init__(self) -> None:
        self._by_id: Dict[Tuple[Optional[str], bytes], int] = {}
        self._recent: Dict[Optional[str], Deque[Tuple[int, int, str, str]]] = {}

    def add(self, instance: Optional[str], request: Request, wait_us: int) -> None:
        """One of them."""
        for own in request.ids:
            if len(self._by_id) >= _INNER_MAX:
                self._by_id.pop(next(iter(self._by_id)))
            self._by_id[instance, own] = wait_us
        recent = self._recent.setdefault(instance, deque(maxlen=_INNER_MAX))
        assert request.answered is not None
        recent.append((request.sent.first_us, request.answered.first_us, request.method, request.path))

    def wait(self, instance: Optional[str], request: Request) -> Optional[int]:
        """How long the application took for a request that its proxy got; None when nobody saw."""
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


class RequestTotals:
    """The requests of a conversation.

    Attributes:
        count: All that were answered.
        failed: By status of 500 or more: how many, the first, the last.
        bad: Some of these.
        slow: The slowest of those that were slow; `slow_count` of all, from when to when.
        slowest: The longest ones, slow or not.
        groups: Times by place, method and path.
    """

    def __init__(self) -> None:
        self.count = self.slow_count = 0
        self.slow_first_us = self.slow_last_us = 0
        self.failed: Dict[int, Tuple[int, int, int]] = {}
        self.bad: List[ShownRequest] = []
        self.slow: List[ShownRequest] = []
        self.slowest: List[ShownRequest] = []
        self.groups: Dict[Tuple[int, str, str], Sample] = {}

    def add(self, at: Dict[int, Request], world: World, inner: LoopbackRequests) -> None:
        """A request that was answered, as the places saw it."""
        near = far = next(iter(at))
        if len(at) > 1:
            near = min(at, key=lambda place: (at[place].wait_us, place))
            far = max(at, key=lambda place: (at[place].wait_us, -place))
        request, outer = at[near], at[far]
        place = world.places[near]
        loopback = place.device == _LOOPBACK
        if loopback:
            inner.add(place.instance, request, request.wait_us)
        duration, wait = outer.duration_us, outer.wait_us
        self._count(near, request, duration)
        error, slow = request.status is not None and request.status >= 500, wait >= SLOW_US
        longest = len(self.slowest) < _SHOWN or duration > self.slowest[-1].duration_us
        if not (error or slow or longest):
            return
        app = None if loopback else inner.wait(place.instance, request)
        bad = ShownRequest(
            request.status, request.method, request.path, request.router_error, near, request.sent.frame,
            outer.sent.first_us, duration, wait, tuple(sorted(at)),
            wait - request.wait_us if len(at) > 1 else None,
            max(0, request.wait_us - app) if app is not None else None, app,
        )  # fmt: skip
        if error:
            self._note_error(bad)
        if slow:
            self.slow_first_us = self.slow_first_us if self.slow_count else bad.first_us
            self.slow_last_us = bad.first_us + bad.duration_us
            self.slow_count += 1
            _keep(self.slow, bad, lambda one: one.wait_us)
        if longest:
            _keep(self.slowest, bad, lambda one: one.duration_us)

    def _count(self, place: int, request: Request, duration_us: int) -> None:
        self.count += 1
        key = place, request.method, request.path
        group = self.groups.get(key)
        if group is None:
            if len(self.groups) >= _GROUPS_MAX:
                key = place, request.method, "/…"
            group = self.groups.setdefault(key, Sample())
        group.add(duration_us)
        group.errors += request.status is not None and request.status >= 500

    def _note_error(self, bad: ShownRequest) -> None:
        assert bad.status is not None
        count, first, _ = self.failed.get(bad.status, (0, bad.first_us, 0))
        self.failed[bad.status] = count + 1, first, bad.first_us
        if len(self.bad) < _SHOWN:
            self.bad.append(bad)


def _keep(best: List[ShownRequest], one: ShownRequest, of: Callable[[ShownRequest], int]) -> None:
    best.append(one)
    best.sort(key=of, reverse=True)
    del best[_SHOWN:]
