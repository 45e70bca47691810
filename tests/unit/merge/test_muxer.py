"""A capture's events become a file: exact limits, honest accounts, whole blocks."""

from __future__ import annotations

import io
import ipaddress
import struct
from dataclasses import replace
from typing import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapd.errors import MixedLinkTypes, RecordError
from pcapd.merge.account import Account
from pcapd.merge.muxer import UNLIMITED, Muxer
from pcapd.merge.split import Split
from pcapd.savefile.form import Form
from pcapd.savefile.reader import read_file
from pcapd.wire import Source, Stats

ETHERNET, COOKED = 1, 113
NOW_US = 1_700_000_000_000_000
SOURCE = Source(
    "web-0", "eth0", ETHERNET, 262144, "not port 1", ("192.0.2.1/24",), "agent/0", "127.0.0.1", -1500
)
SECTION, INTERFACE, NAMES, STATISTICS, PACKET = 0x0A0D0D0A, 1, 4, 5, 6
CLASSIC_HEADER = 24


times = st.lists(st.integers(0, 5000), min_size=1, max_size=5)


def record(us: int, payload: bytes = b"12345678") -> bytes:
    return struct.pack("<4I", us // 10**6, us % 10**6, len(payload), len(payload)) + payload


def blocks(file: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and body of each pcapng block; both lengths of a block must agree."""
    while file:
        kind, size = struct.unpack_from("<II", file)
        assert struct.unpack_from("<I", file, size - 4) == (size,)
        yield kind, file[8 : size - 4]
        file = file[size:]


def kinds(file: bytes) -> list[int]:
    return [kind for kind, _ in blocks(file)]


def classic_packets(file: bytes) -> list[bytes]:
    """The records of a classic file."""
    found, at = [], CLASSIC_HEADER
    while at < len(file):
        end = at + 16 + struct.unpack_from("<I", file, at + 8)[0]
        found.append(file[at:end])
        at = end
    return found


def filled(assembly: Muxer, times: list[int], size: int = 2) -> bytes:
    """Let one source deliver packets, and return the whole file with its end."""
    assembly.source(1, SOURCE, NOW_US)
    out = b""
    for at in range(0, len(times), size):
        assembly.packets(1, b"".join(map(record, times[at : at + size])), 0.0)
        out += b"".join(assembly.take(0.0))
    return out + b"".join(assembly.finish(10))


@pytest.mark.parametrize("ordered", [True, False])
def test_a_pcapng_file_has_its_blocks_in_order(ordered: bool) -> None:
    """Section, then interface and names of each source, packets, and statistics at the end."""
    assembly = Muxer(Form.PCAPNG, 262144, ordered=ordered)
    file = filled(assembly, [1_000_000, 2_000_000])
    assert kinds(file) == [SECTION, INTERFACE, NAMES, PACKET, PACKET, STATISTICS]
    assert b"web-0:eth0" in file and b"not port 1" in file
    assert b"agent agent/0 at 127.0.0.1, clock offset -1.500 ms" in file


@pytest.mark.parametrize("stream", [Muxer, Split])
def test_times_by_the_clock_of_the_api(stream: type[Muxer] | type[Split]) -> None:
    """With align, packets and watermarks of a source are corrected by its clock offset, and the file states it."""
    muxer = stream(Form.PCAPNG, 262144, align=True)
    muxer.source(1, replace(SOURCE, clock_error_us=250), NOW_US)
    muxer.packets(1, record(1_000_000), 0.0)
    muxer.stats(1, Stats(1, 0, 0, 1, 1_000_000))  # which is 1,001,500 by the api's clock
    file = b"".join(piece.data for piece in muxer.take_pieces(0.0))
    assert [packet.us for packet in read_file(io.BytesIO(file))] == [1_001_500]
    assert b"corrected clock error -1.500 \xc2\xb1 0.250 ms" in file


def test_addresses_that_every_machine_has_name_nobody() -> None:
    """An instance's name stands for the addresses that are its own, not for loopback or link-local ones."""
    everybodys = ("127.0.0.1/8", "::1/128", "169.254.1.1/16", "fe80::1/64")
    assembly = Muxer(Form.PCAPNG, 96)
    assembly.source(1, replace(SOURCE, addresses=(*everybodys, "192.0.2.1/24", "2001:db8::1/64")), NOW_US)
    (names,) = (body for kind, body in blocks(b"".join(assembly.finish(1))) if kind == NAMES)
    own = [ipaddress.ip_address(text).packed + b"web-0\0" for text in ("192.0.2.1", "2001:db8::1")]
    assert [names.count(record) for record in own] == [1, 1]
    assert names.count(b"web-0") == 2


@pytest.mark.parametrize("ordered", [True, False])
def test_a_classic_file_has_a_header_and_records(ordered: bool) -> None:
    """A classic file begins with one header and has nothing but records behind it."""
    file = filled(Muxer(Form.PCAP, 96, ordered=ordered), [1_000_000, 2_000_000])
    assert struct.unpack_from("<IHH8xII", file) == (0xA1B2C3D4, 2, 4, 96, ETHERNET)
    assert classic_packets(file) == [record(1_000_000), record(2_000_000)]


def test_a_file_without_packets_is_complete() -> None:
    """A capture that saw nothing still says where it looked."""
    assert kinds(filled(Muxer(Form.PCAPNG, 96), [])) == [SECTION, INTERFACE, NAMES, STATISTICS]


def test_mixed_link_types_are_refused_for_pcap() -> None:
    """Mixed link types are refused for pcap, naming both sources and pcapng as the remedy."""
    assembly = Muxer(Form.PCAP, 96)
    assembly.source(1, SOURCE, NOW_US)
    with pytest.raises(MixedLinkTypes, match=r"web-0:tun0 .* web-0:eth0 .*\(use pcapng"):
        assembly.source(2, replace(SOURCE, interface="tun0", link_type=COOKED), NOW_US)


def test_mixed_link_types_are_welcome_in_pcapng() -> None:
    """Each interface block has its own link type."""
    assembly = Muxer(Form.PCAPNG, 96)
    assembly.source(1, SOURCE, NOW_US)
    assembly.source(2, replace(SOURCE, interface="tun0", link_type=COOKED), NOW_US)
    file = b"".join(assembly.finish(1))
    types = [struct.unpack_from("<H", body)[0] for kind, body in blocks(file) if kind == INTERFACE]
    assert types == [ETHERNET, COOKED]


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_a_limit_of_packets_is_exact(form: Form, ordered: bool, limit: int) -> None:
    """A file with a limit has exactly so many packets, also when they come in pairs."""
    assembly = Muxer(form, 96, ordered=ordered, max_packets=limit)
    file = filled(assembly, list(range(1_000_000, 1_000_006)))
    found = classic_packets(file) if form is Form.PCAP else [k for k in kinds(file) if k == PACKET]
    assert len(found) == limit == assembly.accounts[1].written
    assert assembly.full


@given(ordered=st.booleans(), count=st.integers(0, 6), limit=st.integers(1, 260))
def test_a_limit_of_bytes_is_exact(ordered: bool, count: int, limit: int) -> None:
    """A file has as many whole packets as fit, and is never longer than its limit, its header aside."""
    assembly = Muxer(Form.PCAP, 96, ordered=ordered, max_bytes=limit)
    file = filled(assembly, list(range(1_000_000, 1_000_000 + count)))
    fitting = max(0, limit - CLASSIC_HEADER) // len(record(0))
    assert len(file) == CLASSIC_HEADER + min(count, fitting) * len(record(0))
    assert assembly.full == (count > fitting)


def test_statistics_during_the_capture_count_as_bytes_of_the_file() -> None:
    """Statistics blocks count for the limit of bytes, the closing ones do not."""
    limit = 2000
    assembly = Muxer(Form.PCAPNG, 96, ordered=False, max_bytes=limit)
    assembly.source(1, SOURCE, NOW_US)
    size = 0
    for us in range(1_000_000, 1_000_100):
        assembly.packets(1, record(us), 0.0)
        size += sum(map(len, assembly.take(0.0))) + (
            0 if assembly.full else sum(map(len, assembly.statistics(us)))
        )
    assert assembly.full
    assert size <= limit


def test_nothing_is_written_after_the_limit() -> None:
    """Packets that come after the limit are not written."""
    assembly = Muxer(Form.PCAP, 96, max_packets=1)
    filled(assembly, [1_000_000])
    assembly.packets(1, record(2_000_000), 0.0)
    assert assembly.take(9.0) == [] and assembly.finish(10) == []


def test_records_that_lie_are_refused() -> None:
    """A batch is checked before anything of it is written or counted."""
    assembly = Muxer(Form.PCAP, 96)
    assembly.source(1, SOURCE, NOW_US)
    with pytest.raises(RecordError):
        assembly.packets(1, record(1_000_000)[:-1], 0.0)
    assert assembly.accounts[1].received == 0


def test_a_packet_longer_than_its_source_announced_is_refused() -> None:
    """No packet may be longer than the snaplen in its source's description."""
    assembly = Muxer(Form.PCAP, 96)
    assembly.source(1, replace(SOURCE, snaplen=7), NOW_US)
    with pytest.raises(RecordError):
        assembly.packets(1, record(1_000_000, b"12345678"), 0.0)


def test_what_was_lost_in_transit_is_known_at_the_end() -> None:
    """The difference between what the agent delivered and what came shows, once its count is final."""
    assembly = Muxer(Form.PCAPNG, 96)
    assembly.source(1, SOURCE, NOW_US)
    assembly.packets(1, record(1_000_000), 0.0)
    account = assembly.accounts[1]
    assembly.stats(1, Stats(5, 2, 0, 3, 7))
    assert account.lost_in_transit is None
    assembly.stats(1, Stats(5, 2, 0, 3, 7, final=True))
    assert account.lost_in_transit == 2


def test_what_a_lost_agent_lost_is_unknown() -> None:
    """Counters that are only the last known claim nothing, and the file says so."""
    assembly = Muxer(Form.PCAPNG, 96)
    assembly.source(1, SOURCE, NOW_US)
    assembly.packets(1, record(1_000_000), 0.0)
    assembly.stats(1, Stats(1, 0, 0, 1, 7, final=True, exact=False))
    assert assembly.accounts[1].lost_in_transit is None
    assert b"the agent was lost" in b"".join(assembly.finish(NOW_US))


def test_the_closing_statistics_tell_what_was_received_dropped_and_written() -> None:
    """Counters of the agent and of the file stand in the last block of each source."""
    assembly = Muxer(Form.PCAPNG, 96)
    assembly.source(1, SOURCE, NOW_US)
    assembly.stats(
        1, Stats(received=51, dropped_kernel=7, dropped_interface=13, delivered=44, captured_up_to_us=9)
    )
    *_, (kind, body) = blocks(b"".join(assembly.finish(10)))
    assert kind == STATISTICS
    numbers = {struct.unpack_from("<Q", body, at)[0] for at in range(0, len(body) - 7, 4)}
    assert {51, 7, 13} <= numbers


def test_the_closing_statistics_say_what_they_have_no_counter_for() -> None:
    """The comment of the closing statistics has losses in agent, api and client, duplicates, and unknown numbers."""
    account = Account(SOURCE, 0, NOW_US)
    assert account.remarks == ""
    account.stats = Stats(20, 0, 0, 11, 9, final=True, dropped_agent=9)
    account.received, account.written, account.unwritten, account.duplicates = 10, 5, 3, 2
    assert account.remarks == (
        "9 lost by the agent; 1 lost by the api; 3 lost by the client; 2 left out as duplicates"
    )
    account.stats = Stats(20, 0, 0, 10, 9, final=True, exact=False)
    account.unwritten, account.duplicates, account.unwanted = 0, 0, 5
    assert account.remarks == (
        "the agent was lost: at least this was received and dropped; unknown lost by the agent; "
        "unknown lost by the api; 5 came after the limit"
    )


def test_a_limit_is_told_in_the_closing_statistics() -> None:
    """Packets that came after it were not lost, and who has only the file can see that."""
    assembly = Muxer(Form.PCAPNG, 96, max_packets=3)
    assembly.source(1, SOURCE, NOW_US)
    assembly.packets(1, b"".join(map(record, range(5))), 0.0)
    assembly.packets(1, record(5), 0.0)
    assembly.stats(1, Stats(6, 0, 0, 6, 9, final=True, forwarded=6))
    file = b"".join(assembly.finish(10))
    assert b"3 came after the limit" in file and b"lost by" not in file
    assert (assembly.accounts[1].written, assembly.accounts[1].unwanted) == (3, 3)


@pytest.mark.parametrize("known", [True, False])
def test_what_a_lost_connection_leaves_unknown(known: bool) -> None:
    """After a lost connection the losses in agent and api are unknown, except those that the api reported."""
    account = Account(SOURCE, 0, NOW_US)
    account.received = account.written = 6
    account.stats = Stats(20, 4, 1, 8, 9, final=known, exact=False, forwarded=7)
    account.settle(full=False)
    assert account.drops == (1, 4, None, 1 if known else None, 0)
    assert account.known == (1, 4, 1, 1, 0)
    assert not account.exact


def test_an_end_without_a_last_word_leaves_the_agent_unknown() -> None:
    """An agent's losses become unknown when nothing more of it comes without final counters."""
    account = Account(SOURCE, 0, NOW_US)
    account.received = account.written = 10
    account.stats = Stats(20, 0, 0, 10, 9)
    assert account.exact
    assert account.drops.agent == 0
    account.settle(full=False)
    assert not account.exact
    assert account.drops.agent is None


@pytest.mark.parametrize("full", [True, False])
def test_what_is_held_back_at_the_end_has_its_reason(full: bool) -> None:
    """Packets held back after a limit are no losses; after another end they are the client's."""
    account = Account(SOURCE, 0, NOW_US)
    account.stats = Stats(10, 0, 0, 10, 9, final=True)
    account.received, account.written = 10, 7
    account.settle(full=full)
    assert (account.unwanted, account.unwritten) == ((3, 0) if full else (0, 3))
    assert account.stats.received == account.written + account.unwanted + sum(account.known)


def test_live_losses_are_those_of_the_last_counters() -> None:
    """Packets that came since do not hide what was missing."""
    account = Account(SOURCE, 0, NOW_US)
    account.received = 8
    account.stats = Stats(10, 0, 0, 10, 9)
    account.received = 12
    assert account.drops.api == 2


def drop_counts(file: bytes) -> list[tuple[int, int]]:
    """Time and epb_dropcount (0 where there is none) of each packet."""
    found = []
    for kind, body in blocks(file):
        if kind == PACKET:
            captured = struct.unpack_from("<I", body, 12)[0]
            options = body[20 + (captured + 3 & ~3) :]
            assert options[:4] in (b"", struct.pack("<HH", 4, 8))
            lost = struct.unpack_from("<Q", options, 4)[0] if options else 0
            found.append((struct.unpack_from("<I", body, 8)[0], lost))
    return found


@pytest.mark.parametrize("ordered", [True, False])
def test_drops_stand_at_the_next_packet(ordered: bool) -> None:
    """Drops of kernel and interface are at the next packet, each once, and the rest without a packet is known."""
    assembly = Muxer(Form.PCAPNG, 96, ordered=ordered)
    assembly.source(1, SOURCE, NOW_US)
    out = b""
    for time, kernel, interface in ((1, 0, 0), (5000, 3, 0), (9000, 3, 4), (20_000, 5, 5)):
        assembly.stats(1, Stats(9, kernel, interface, 0, time - 1, at_us=time - 1))
        assembly.packets(1, record(time) + record(time + 1), 0.0)
        out += b"".join(assembly.take(0.0))
    assembly.stats(1, Stats(9, 6, 5, 0, 30_000, final=True, at_us=30_000))
    out += b"".join(assembly.finish(10))
    counted = [(1, 0), (2, 0), (5000, 3), (5001, 0), (9000, 4), (9001, 0), (20_000, 3), (20_001, 0)]
    assert drop_counts(out) == counted
    assert assembly.accounts[1].lost_after_last == 1


@pytest.mark.parametrize("ordered", [True, False])
def test_packets_that_were_in_the_ring_before_the_drop_do_not_tell_it(ordered: bool) -> None:
    """Drops after a counter reading are not at packets of earlier times, whenever these arrive."""
    assembly = Muxer(Form.PCAPNG, 96, ordered=ordered)
    assembly.source(1, SOURCE, NOW_US)
    assembly.stats(1, Stats(9, 0, 0, 0, 0, at_us=100))
    assembly.stats(1, Stats(9, 2, 0, 0, 0, at_us=200))
    assembly.stats(1, Stats(9, 9, 0, 0, 0, at_us=300))
    out = b""
    for times in ((50, 99, 100), (101, 150), (201, 400)):
        assembly.packets(1, b"".join(map(record, times)), 0.0)
        out += b"".join(assembly.take(0.0))
    out += b"".join(assembly.finish(10))
    assert drop_counts(out) == [(50, 0), (99, 0), (100, 0), (101, 2), (150, 0), (201, 7), (400, 0)]


def test_a_clock_that_nobody_tells() -> None:
    """An agent that does not say when it read its counters: the next packet tells."""
    assembly = Muxer(Form.PCAPNG, 96)
    assembly.source(1, SOURCE, NOW_US)
    assembly.stats(1, Stats(9, 2, 0, 0, 0))
    assembly.packets(1, record(0) + record(1), 0.0)
    assert drop_counts(b"".join(assembly.finish(10))) == [(0, 2), (1, 0)]


def test_a_classic_file_tells_no_drops() -> None:
    """A classic file has no place for drops, which do not pile up."""
    assembly = Muxer(Form.PCAP, 96)
    assembly.source(1, SOURCE, NOW_US)
    for dropped in range(9):
        assembly.stats(1, Stats(9, dropped, 0, 0, 0))
    assert assembly.accounts[1].lost_after_last == 0
    assembly.packets(1, record(0), 0.0)
    assert classic_packets(b"".join(assembly.finish(10))) == [record(0)]


def test_a_final_count_releases_what_waits_for_a_source() -> None:
    """A source that has sent its final counters is not waited for."""
    assembly = Muxer(Form.PCAP, 96)
    assembly.source(1, SOURCE, NOW_US)
    assembly.source(2, replace(SOURCE, instance="web-1"), NOW_US)
    assembly.packets(1, record(5_000_000), 0.0)
    assembly.stats(1, Stats(1, 0, 0, 1, 6_000_000))
    assert len(classic_packets(b"".join(assembly.take(0.0)))) == 0 and assembly.waiting
    assembly.stats(2, Stats(0, 0, 0, 0, 0, final=True))
    assert b"".join(assembly.take(0.0)) == record(5_000_000)
    assert not assembly.waiting


def test_a_late_packet_is_in_the_file_and_in_the_account() -> None:
    """A packet behind a newer one is in the file, and counted as late."""
    assembly = Muxer(Form.PCAP, 96)
    assembly.source(1, SOURCE, NOW_US)
    assembly.source(2, replace(SOURCE, instance="web-1"), NOW_US)
    assembly.packets(1, record(5_000_000), 0.0)
    for now in (0.5, 1.0):
        assembly.stats(1, Stats(0, 0, 0, 0, 0))
        taken = assembly.take(now)
    assert taken != []
    assembly.packets(2, record(4_000_000), 2.0)
    file = b"".join(assembly.finish(10))
    assert file == record(4_000_000)
    assert (assembly.accounts[2].written, assembly.accounts[2].late, assembly.accounts[1].late) == (1, 1, 0)


def test_unordered_packets_are_written_as_they_come() -> None:
    """Without order nothing is held back, and nothing is late."""
    assembly = Muxer(Form.PCAP, 96, ordered=False)
    assembly.source(1, SOURCE, NOW_US)
    assembly.source(2, replace(SOURCE, instance="web-1"), NOW_US)
    assembly.take(0.0)
    assembly.packets(1, record(5_000_000), 0.0)
    assembly.packets(2, record(4_000_000), 0.0)
    assert b"".join(assembly.take(0.0)) == record(5_000_000) + record(4_000_000)
    assert not assembly.waiting


@given(st.sampled_from(Form), st.lists(st.tuples(st.integers(1, 3), times), max_size=8))
def test_every_packet_is_in_the_file_once(form: Form, batches: list[tuple[int, list[int]]]) -> None:
    """Packets of any order and source are in the file once, and the accounts add up."""
    assembly = Muxer(form, 96, max_packets=UNLIMITED)
    for number in (1, 2, 3):
        assembly.source(number, replace(SOURCE, instance=f"web-{number}"), NOW_US)
    file, sent = b"", []
    for at, (number, times) in enumerate(batches):
        payloads = [struct.pack("<II", at, position) for position in range(len(times))]
        sent += payloads
        assembly.packets(number, b"".join(map(record, times, payloads)), at / 2)
        file += b"".join(assembly.take(at / 2))
    file += b"".join(assembly.finish(10))
    if form is Form.PCAP:
        found = [packet[16:] for packet in classic_packets(file)]
    else:
        found = [body[20:28] for kind, body in blocks(file) if kind == PACKET]
    assert sorted(found) == sorted(sent)
    accounts = assembly.accounts.values()
    assert sum(account.written for account in accounts) == len(sent)
    assert all(account.written == account.received for account in accounts)


def test_the_first_source_waits_for_the_instances_that_are_awaited() -> None:
    """The first source waits for the instances that the api announces, if it announces any."""
    for awaited, waits in ((2, True), (0, False), (None, False)):
        assembly = Muxer(Form.PCAP, 262144)
        assembly.source(1, replace(SOURCE, awaited=awaited), NOW_US)
        assembly.packets(1, record(1_000_000), 0.0)
        assembly.stats(1, Stats(1, 0, 0, 1, 2_000_000))
        assert (len(classic_packets(b"".join(assembly.take(0.0)))) == 0) is waits
        assembly.await_instances(0)
        assembly.packets(1, record(1_500_000), 0.0)
        rest = b"".join(assembly.take(0.0))
        assert rest.endswith(record(1_500_000)) and rest.startswith(record(1_000_000)) is waits
