"""Metrics of an api for Prometheus: numbers, without names of users or targets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pcapd.api.known import KnownAgent, State
from pcapd.api.resolvers.base import Resolver
from pcapd.config.schema import ApiLimits, RecordingsConfig
from pcapd.limits import LISTED_MAX
from pcapd.net.metrics import DaemonMetrics

__all__ = ["Metrics"]


class Metrics(DaemonMetrics):
    """The api's metrics, in a registry of its own."""

    def __init__(self) -> None:
        super().__init__("pcapd")
        self.captures_active = self._gauge("captures_active", "Captures that run now")
        self.captures_started = self._counter("captures_started", "Captures that were started")
        self.captures_refused = self._counter(
            "captures_refused", "Requests that were refused, by cause", "code"
        )
        self.captures_ended = self._counter("captures_ended", "Captures that ended, by reason", "reason")
        self.packets = self._counter("packets", "Packets that agents delivered")
        self.bytes = self._counter("packet_bytes", "Bytes of records that agents delivered")
        self.dropped = self._counter("packets_dropped", "Packets that were lost, by place", "place")
        self.agents_failed = self._counter("agents_failed", "Targets that failed, by cause", "code")
        self.audit_failures = self._counter("audit_failures", "Times that the audit log could not be written")
        self._healthy = self._gauge(
            "resolver_healthy", "1 if a resolver finds targets, 0 if it does not", "resolver"
        )
        self._state = self._gauge(
            "state_healthy", "1 if the database that apis share works, 0 if new captures are refused"
        )
        self._holders = self._gauge("state_holders", "Processes that share the limits, this one included")
        self._make_recordings()

    def state(self, healthy: Callable[[], bool], holders: Callable[[], int]) -> None:
        """Show what api processes share.

        Args:
            healthy: Returns whether their database works.
            holders: Returns how many processes share the limits.
        """
        self._state.set_function(lambda: float(healthy()))
        self._holders.set_function(holders)

    def resolvers(self, resolvers: Iterable[Resolver]) -> None:
        """Show the health of each resolver."""
        for resolver in resolvers:
            self._healthy.labels(resolver.name).set_function(lambda one=resolver: float(one.healthy))

    def known_agents(self, agents: Sequence[KnownAgent]) -> None:
        """Show how many known agents there are, by state and version, and when their certificates expire."""
        self.registry.register(_KnownAgentsCollector(agents))

    def _make_recordings(self) -> None:
        """The metrics of recordings; an api without them has them too, without values."""
        self._running = self._gauge("recordings_active", "Recordings that run now")
        self._stored = self._gauge("recordings_bytes", "Bytes of all segments and clips of recordings")
        self._spooled = self._gauge(
            "recordings_spooled_bytes", "Bytes of segments that wait on the local disk to be stored"
        )
        self._working = self._gauge(
            "recordings_healthy", "1 if recordings can be stored, 0 if their store or their index fails"
        )
        self._working.set(1)
        self._recordings = self._gauge("recordings_kept", "Recordings in the index, by state", "state")
        self._oldest = self._gauge(
            "recordings_oldest_timestamp_seconds", "Time of the earliest packet that is kept; 0 without one"
        )
        self.segments_stored = self._counter("recording_segments_stored", "Segments that were stored")
        self.segments_failed = self._counter(
            "recording_segments_failed", "Attempts to store a segment that failed"
        )
        self.recording_drops = self._counter(
            "recording_packets_dropped", "Packets of recordings that were lost"
        )
        self.clips_opened = self._counter(
            "recording_clips_opened", "Clips that were begun, by cause", "cause"
        )
        self.clips_ended = self._counter(
            "recording_clips_ended", "Clips that were stored (done) or not (failed)", "state"
        )
        self.packets_deleted = self._counter(
            "recording_packets_deleted",
            "Packets that were stored and then deleted: by a ring, by age or by users",
        )
        self.recordings_taken = self._counter(
            "recordings_taken_over", "Recordings that this api continued after another one"
        )
        self.recordings_lost = self._counter(
            "recordings_lost", "Recordings that another api took over while they ran in this one"
        )
        self._most_recordings = self._gauge("limit_recordings_per_user", "Recordings of one user at once")
        self._most_stored = self._gauge("limit_recordings_bytes", "Bytes of all recordings")
        self.kept({}, None)

    def recordings(
        self,
        running: Callable[[], int],
        stored: Callable[[], int],
        spooled: Callable[[], int],
        troubled: Callable[[], bool],
        config: RecordingsConfig,
    ) -> None:
        """Show recordings.

        Args:
            running: Returns the number of recordings that run.
            stored: Returns the bytes of all recordings.
            spooled: Returns the bytes of segments that wait on the local disk.
            troubled: Returns whether the store or the index does not work.
            config: The limits.
        """
        self._running.set_function(running)
        self._stored.set_function(stored)
        self._spooled.set_function(spooled)
        self._working.set_function(lambda: float(not troubled()))
        self._most_recordings.set(config.per_user)
        self._most_stored.set(config.max_bytes)

    def kept(self, states: Mapping[str, int], oldest_us: int | None) -> None:
        """Show what the index has.

        Args:
            states: The number of recordings by state.
            oldest_us: Time of the earliest packet, microseconds since the epoch; None without one.
        """
        for state in ("starting", "recording", "stopped", "failed"):
            self._recordings.labels(state).set(states.get(state, 0))
        self._oldest.set((oldest_us or 0) / 1_000_000)

    def limits(self, read: Callable[[], ApiLimits]) -> None:
        """Show the limits.

        Args:
            read: Returns the present limits.
        """
        self.limit("captures", "Captures at once", lambda: read().concurrent_captures)
        self.limit("captures_per_user", "Captures of one user at once", lambda: read().per_user)
        self.limit("capture_targets", "Instances in one capture", lambda: read().max_targets)
        self.limit("capture_seconds", "Duration of one capture", lambda: read().max_duration)
        self.limit("capture_bytes", "Size of the packets of one capture", lambda: read().max_bytes)


class _KnownAgentsCollector(Collector):
    """Counts the known agents when Prometheus asks.

    Args:
        agents: All known agents.
    """

    def __init__(self, agents: Sequence[KnownAgent]) -> None:
        self._agents = agents

    def collect(self) -> Iterator[Metric]:
        """The metrics; a version's name comes from an agent, so there are at most `LISTED_MAX` of them."""
        states = Counter(agent.state for agent in self._agents)
        by_state = GaugeMetricFamily("pcapd_known_agents", "Known agents, by their state", labels=["state"])
        for state in State:
            by_state.add_metric([state.value], states[state])
        yield by_state
        versions = Counter((agent.version, agent.libpcap) for agent in self._agents if agent.version)
        by_version = GaugeMetricFamily(
            "pcapd_known_agent_versions",
            "Known agents, by the versions that they reported last",
            labels=["version", "libpcap"],
        )
        for labels, count in versions.most_common(LISTED_MAX):
            by_version.add_metric(labels, count)
        yield by_version
        ends = [agent.expires for agent in self._agents if agent.expires is not None]
        earliest = GaugeMetricFamily(
            "pcapd_known_agents_certificate_expiry_timestamp_seconds",
            "When the first certificate of a known agent expires",
        )
        if ends:
            earliest.add_metric([], min(ends))
        yield earliest
