"""Puts packets of many sources in time order; packets wait in a buffer of limited time and size.

Packets are written in the order of their timestamps, although the sources deliver them at
different speeds.  No packet waits long, and no packet is lost.

A source's *watermark* is a timestamp.  The source promises to send no more packets that are
older than it.  A packet is released when it is not newer than the lowest watermark of all
open sources.  A source without traffic still sends watermarks, so it does not delay the
others.  If a source's watermark does not advance (its agent hangs) or is too old (its clock
is wrong), packets wait until one of them has waited `hold_time` seconds or all together are
more than `hold_bytes` bytes.  Then they are released without this watermark.  A packet that
arrives after a newer packet was written is *late*.  It is not held back, and it is counted.

`hold_time` runs only while data arrives from at least one source.  If all sources are silent
at the same time, the cause is something that they share: the api (which receives from the
agents and sends to the client), the network or this process.  In this case few packets wait,
and their number does not grow.  If they were released, all older packets that arrive
afterwards would be late.  After `limits.AGENT_SILENCE_TIMEOUT`, when agents and api treat
each other as failed, `hold_time` runs again.

This module uses no reactor and no clock: time is an argument, in seconds of any monotonic clock.
"""

from __future__ import annotations

from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

from pcapd.limits import (
    AGENT_SILENCE_TIMEOUT,
    FRAME_MAX,
    HOLD_BACK_BYTES,
    HOLD_BACK_TIME,
    RING_DISORDER_US,
    TURN_MAX,
)
from pcapd.merge._choice import merge
from pcapd.merge._types import Gap, Source
from pcapd.merge.matching import PacketIds
from pcapd.records import Checked
from pcapd.running import RunningTime
from pcapd.savefile.form import Form

__all__ = ["Released", "ReorderBuffer"]

Bytes = Union[bytes, bytearray, memoryview]

#: bytes of records per merge call, approximately: larger pieces make memory allocation slow.
_PIECE = FRAME_MAX


class _Batch(NamedTuple):
    records: Bytes
    earliest_us: int
    latest_us: int
    arrived: float


class _Source:
    def __init__(self, interface: int, link_type: int, place: int) -> None:
        self.interface = interface
        self.link_type = link_type
        self.place = place
        self.gaps: List[Gap] = []
        self.watermark_us = 0
        self.open = True
        self.pending: List[_Batch] = []


class Released(NamedTuple):
    """Output bytes in time order.

    Attributes:
        packets: Number of packets in `data`, per source.
        late: How many of these packets are older than one that was written earlier, per source.
        left_out: Number of packets not written because they are copies of a packet from
            another source, per source.
        drops: Number of lost packets that the packets in `data` report (epb_dropcount), per source.
        full: Whether packets that were ready were not written because `max_packets` or
            `max_bytes` was reached.
    """

    data: bytes
    packets: Dict[int, int]
    late: Dict[int, int]
    left_out: Dict[int, int]
    drops: Dict[int, int]
    full: bool


class ReorderBuffer:
    """Keeps batches until their packets can be written in time order.

    Args:
        form: The form of the output.
        hold_time: The longest wait of a packet in seconds.
        hold_bytes: The largest size of the waiting batches in bytes.
        ordered: If false, packets do not wait: they are released in the order of arrival.
        packet_ids: Object that assigns packet numbers; None for no numbers.
    """

    def __init__(
        self,
        form: Form,
        hold_time: float = HOLD_BACK_TIME,
        hold_bytes: int = HOLD_BACK_BYTES,
        *,
        ordered: bool = True,
        packet_ids: Optional[PacketIds] = None,
    ) -> None:
        self._form = form
        self._ordered = ordered
        self._packet_ids = packet_ids
        self._hold_time = hold_time
        self._hold_bytes = hold_bytes
        self._sources: Dict[int, _Source] = {}
        self._pending_bytes = 0
        self._last_us = 0
        self._time = RunningTime(TURN_MAX)
        self._ran = 0.0  # value of `_time` at the last call of `_advance`
        self._heard = False  # whether any source has sent something since that call
        self._silence = 0.0  # seconds for which all sources have been silent, by `_time`
        self._now = 0.0  # seconds of waiting time so far, see `_advance`
        self._expecting = False
        self._patient = True

    @property
    def pending(self) -> int:
        """The number of waiting bytes."""
        return self._pending_bytes

    def bound(self, hold_bytes: int) -> None:
        """Set the limit of waiting bytes."""
        self._hold_bytes = hold_bytes

    def expect(self, more: bool) -> None:
        """Set whether more sources will open soon, whose packets may be as old as those that wait now.

        If so, nothing is released until these sources are open or a packet has waited
        `hold_time`.  After such a timeout, the buffer does not wait for new sources again.
        """
        self._expecting = more and self._patient

    def open(
        self, number: int, interface: int, link_type: int = -1, place: int = 0, hold_time: float = 0.0
    ) -> None:
        """Add a source.

        Args:
            number: The source's id, as for the other methods.
            interface: Number of the source's interface in the file.
            link_type: LINKTYPE of the source's packets; -1 if unknown.
            place: Number under which the packet matcher knows this interface.
            hold_time: Longest wait in seconds that this source needs, if it is more than the
                buffer's own.
        """
        self._heard = True
        self._hold_time = max(self._hold_time, hold_time)
        self._sources[number] = _Source(interface, link_type, place)

    def add(self, number: int, records: Bytes, checked: Checked, now: float) -> None:
        """Add a received batch that `check` has accepted."""
        source = self._sources[number]
        self._heard = True
        self._advance(now)
        source.pending.append(_Batch(records, checked.earliest_us, checked.latest_us, self._now))
        self._pending_bytes += len(records)
        self.watermark(number, checked.latest_us - RING_DISORDER_US)

    def watermark(self, number: int, captured_up_to_us: int) -> None:
        """Raise a source's watermark (microseconds since the epoch): no older packets will follow."""
        self._heard = True
        source = self._sources[number]
        source.watermark_us = max(source.watermark_us, captured_up_to_us)

    def lost(self, number: int, gap: Gap) -> None:
        """Record that a source lost packets; its next packet after the gap will carry their number."""
        self._sources[number].gaps.append(gap)

    def close(self, number: int) -> None:
        """Close a source that sends no more packets; its waiting packets are still written."""
        self._sources[number].open = False

    def release(self, now: float, max_packets: int, max_bytes: int) -> Iterator[Released]:
        """Release the packets that are in order, in pieces.

        Args:
            now: Seconds of the same clock as for `add`.
            max_packets: Packets that may still be written.
            max_bytes: Bytes of output that may still be written.
        """
        self._advance(now)
        return self._release(self._bound(), max_packets, max_bytes)

    def flush(self, max_packets: int, max_bytes: int) -> Iterator[Released]:
        """Release everything, because nothing will follow."""
        return self._release(self._latest(), max_packets, max_bytes)

    # --- the time up to which packets may be released ------------------------

    def _advance(self, now: float) -> None:
        """Advance the waiting time, except while this process was paused or all sources were silent."""
        ran = self._time.at(now)
        step, self._ran = ran - self._ran, ran
        self._silence = 0.0 if self._heard else self._silence + step
        self._heard = False
        if not TURN_MAX <= self._silence <= AGENT_SILENCE_TIMEOUT:
            self._now += step

    def _bound(self) -> int:
        """The timestamp, in microseconds, up to which packets may be released now."""
        if not self._ordered:
            return self._latest()
        open_sources = [source.watermark_us for source in self._sources.values() if source.open]
        bound = min(open_sources) if open_sources else self._latest()
        if self._expecting:
            bound = 0
        expired = [
            batch.latest_us
            for batch in self._batches()
            if self._now - batch.arrived >= self._hold_time and batch.latest_us > bound
        ]
        if expired:
            bound = max(expired)
            self._expecting = self._patient = False
        if self._pending_bytes > self._hold_bytes:
            bound = max(bound, self._middle())
        return bound

    def _middle(self) -> int:
        """A bound that releases about half of the waiting batches, the older ones."""
        times = sorted(batch.latest_us for batch in self._batches())
        return times[len(times) // 2]

    def _latest(self) -> int:
        return max((batch.latest_us for batch in self._batches()), default=0)

    def _batches(self) -> Iterator[_Batch]:
        for source in self._sources.values():
            yield from source.pending

    # --- releasing ---------------------------------------------------------

    def _release(self, bound: int, max_packets: int, max_bytes: int) -> Iterator[Released]:
        for step in self._steps(bound):
            ready = self._take_ready(step)
            if not ready:
                continue
            released = self._merge(ready, step, max_packets, max_bytes)
            yield released
            max_packets -= sum(released.packets.values())
            max_bytes -= len(released.data)
            if released.full:
                return

    def _steps(self, bound: int) -> List[int]:
        """Split the time up to the bound into steps, so that each merge handles about `_PIECE` bytes."""
        steps = []
        size = 0
        for latest_us, length in sorted((batch.latest_us, len(batch.records)) for batch in self._batches()):
            size += length
            if size >= _PIECE and latest_us < bound:
                steps.append(latest_us)
                size = 0
        return [*steps, bound]

    def _take_ready(self, bound: int) -> List[Tuple[int, List[_Batch]]]:
        """Remove and return the batches that contain packets up to the bound."""
        ready = []
        for number, source in self._sources.items():
            taken = [batch for batch in source.pending if batch.earliest_us <= bound]
            if taken:
                source.pending = [batch for batch in source.pending if batch.earliest_us > bound]
                ready.append((number, taken))
        return ready

    def _merge(
        self, ready: List[Tuple[int, List[_Batch]]], bound: int, max_packets: int, max_bytes: int
    ) -> Released:
        ids = self._packet_ids
        merged = merge(
            [self._as_source(number, batches) for number, batches in ready],
            bound,
            self._last_us,
            self._form,
            max_packets,
            max_bytes,
            ids.matcher if ids is not None else None,
            ids is not None and ids.dedupe,
        )
        if self._ordered:  # without ordering, no packet counts as late
            self._last_us = merged.last_us
        for (number, batches), rest in zip(ready, merged.rests):
            self._pending_bytes += len(rest) - sum(len(batch.records) for batch in batches)
            if rest:
                self._put_back(number, batches, rest, bound, merged.full)
        numbers = [number for number, _ in ready]
        return Released(
            merged.data,
            dict(zip(numbers, merged.packets)),
            dict(zip(numbers, merged.late)),
            dict(zip(numbers, merged.left_out)),
            {number: self._reported_drops(number, n) for number, n in zip(numbers, merged.reported)},
            merged.full,
        )

    def _as_source(self, number: int, batches: List[_Batch]) -> Source:
        source = self._sources[number]
        records = [batch.records for batch in batches]
        return Source(source.interface, records, source.gaps, source.link_type, source.place)

    def _reported_drops(self, number: int, count: int) -> int:
        """Remove the first gaps of a source, which were just reported; return how many packets they lost."""
        gaps = self._sources[number].gaps
        reported = sum(drops for _, drops in gaps[:count])
        del gaps[:count]
        return reported

    def _put_back(self, number: int, batches: List[_Batch], rest: bytes, bound: int, full: bool) -> None:
        earliest = min(batch.earliest_us for batch in batches) if full else bound + 1
        self._sources[number].pending.insert(
            0,
            _Batch(rest, earliest, max(batch.latest_us for batch in batches), batches[-1].arrived),
        )
